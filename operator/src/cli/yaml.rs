//! YAML that every reader of Kubernetes manifests reads as the same values.
//!
//! Owns: writing a value. A text is written without quotes only where no version of YAML takes it for something else:
//! `kubectl` reads YAML 1.1, for which `yes` is a boolean, `0644` is a number in octal digits and `1_000` a thousand, and
//! `serde_yaml` writes these as plain texts. Does not own: reading.
//!
//! Source: YAML 1.2.2; the tags of YAML 1.1 at <https://yaml.org/type/>.

use std::fmt::Write;

use serde_yaml::{Mapping, Value};

/// Words that some version of YAML takes for a boolean or a null, in lower case.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Fields of a pod that are modes of files: `0644` without quotes is a number there for `kubectl`, and a text for
/// `serde_yaml`. Nothing else of a pod is written in octal digits.
const MODES: [&str; 2] = ["defaultMode", "mode"];

/// A value as a document, which ends with a line end.
pub(super) fn text_of(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Mapping(mapping) if !mapping.is_empty() => write_mapping(&mut text, mapping, 0, 0),
        Value::Sequence(items) if !items.is_empty() => write_sequence(&mut text, items, 0, 0),
        other => write_leaf(&mut text, other, 0),
    }
    text
}

/// Writes the fields; the first one stands where the text ends, `first` spaces in.
fn write_mapping(text: &mut String, mapping: &Mapping, indent: usize, first: usize) {
    let mut spaces = first;
    for (key, value) in mapping {
        text.extend(std::iter::repeat_n(' ', spaces));
        spaces = indent;
        write_scalar(text, key);
        text.push(':');
        match value {
            Value::Mapping(mapping) if !mapping.is_empty() => {
                text.push('\n');
                write_mapping(text, mapping, indent + 2, indent + 2);
            }
            Value::Sequence(items) if !items.is_empty() => {
                text.push('\n');
                write_sequence(text, items, indent, indent);
            }
            Value::String(octal) if is_mode(key, octal) => {
                let _ = writeln!(text, " {octal}");
            }
            leaf => {
                text.push(' ');
                write_leaf(text, leaf, indent + 2);
            }
        }
    }
}

fn write_sequence(text: &mut String, items: &[Value], indent: usize, first: usize) {
    let mut spaces = first;
    for item in items {
        text.extend(std::iter::repeat_n(' ', spaces));
        spaces = indent;
        text.push_str("- ");
        match item {
            Value::Mapping(mapping) if !mapping.is_empty() => write_mapping(text, mapping, indent + 2, 0),
            Value::Sequence(items) if !items.is_empty() => write_sequence(text, items, indent + 2, 0),
            leaf => write_leaf(text, leaf, indent + 2),
        }
    }
}

/// Writes what has no fields and no items, and the end of its line. The lines of a text stand `indent` spaces in.
fn write_leaf(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(lines) if is_block(lines) => {
            text.push_str(if lines.ends_with('\n') { "|\n" } else { "|-\n" });
            for line in lines.lines() {
                if !line.is_empty() {
                    text.extend(std::iter::repeat_n(' ', indent.max(2)));
                    text.push_str(line);
                }
                text.push('\n');
            }
        }
        value => {
            write_scalar(text, value);
            text.push('\n');
        }
    }
}

fn write_scalar(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::String(value) if is_plain(value) => text.push_str(value),
        Value::String(value) if is_single_quoted(value) => {
            let _ = write!(text, "'{}'", value.replace('\'', "''"));
        }
        Value::String(value) => write_double_quoted(text, value),
        Value::Sequence(_) => text.push_str("[]"),
        Value::Mapping(_) => text.push_str("{}"),
        Value::Tagged(tagged) => write_scalar(text, &tagged.value),
    }
}

fn write_double_quoted(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        let _ = match character {
            '"' | '\\' => write!(text, "\\{character}"),
            '\n' => write!(text, "\\n"),
            '\t' => write!(text, "\\t"),
            '\r' => write!(text, "\\r"),
            character if is_printable(character) => write!(text, "{character}"),
            character => write!(text, "\\U{:08x}", u32::from(character)),
        };
    }
    text.push('"');
}

fn is_mode(key: &Value, value: &str) -> bool {
    let is_octal = value.len() > 1 && value.starts_with('0') && value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    is_octal && key.as_str().is_some_and(|key| MODES.contains(&key))
}

/// Whether a text means itself without quotes, in every version of YAML.
fn is_plain(value: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b" _-./:=@+,()$".contains(&byte);
    let Some(first) = value.bytes().next() else { return false };
    // An option of a command line: one or two dashes and a letter.
    let option = value.strip_prefix("--").or_else(|| value.strip_prefix('-')).unwrap_or_default();
    let begins = [first, option.bytes().next().unwrap_or_default()].iter().any(u8::is_ascii_alphabetic)
        || matches!(first, b'/' | b'_')
        || is_quantity(value);
    begins
        && value.bytes().all(is_inner)
        && !value.contains(": ")
        && !value.ends_with([':', ' '])
        && !WORDS.contains(&value.to_ascii_lowercase().as_str())
}

/// Whether a text is a number with a unit, such as `50m`, `512Mi` and `10s`. `1e` and `0x` are beginnings of numbers.
fn is_quantity(value: &str) -> bool {
    let unit = value.trim_start_matches(|character: char| character.is_ascii_digit());
    unit.len() < value.len() && ["m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "s", "h", "d"].contains(&unit)
}

fn is_single_quoted(value: &str) -> bool {
    value.contains(['"', '\\']) && value.chars().all(is_printable)
}

/// Whether a text can stand as lines of its own: what `|` would fold, cut or take for the indentation is quoted instead.
fn is_block(value: &str) -> bool {
    value.trim_end_matches('\n').contains('\n')
        && !value.starts_with([' ', '\t', '\n'])
        && !value.ends_with("\n\n")
        && value.chars().all(|character| is_printable(character) || matches!(character, '\n' | '\t'))
        // Lines of blanks alone are read in more than one way.
        && value.lines().all(|line| line.is_empty() || !line.trim().is_empty())
}

/// Printable, and no line end of any version of YAML.
fn is_printable(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::pods::anything;

    fn check(text: &str) {
        let value: Value = serde_yaml::from_str(text).expect("the test's text is YAML");
        assert_eq!(text_of(&value), text);
    }

    #[test]
    fn fields_keep_their_order_and_lists_stand_under_their_name() {
        check("b: 1\na:\n- x: 1\n  z: {}\n- - nested\n  - list\n- []\nc:\n  d: null\n  e: 0.5\n");
    }

    #[test]
    fn what_some_version_of_yaml_takes_for_something_else_is_quoted() {
        for text in [
            "yes",
            "On",
            "n",
            "True",
            "null",
            "~",
            "0123",
            "0o17",
            "0x1F",
            "0b1",
            "1e3",
            "1_000",
            "12:30",
            ".5",
            "-1",
            "+1",
            "2026-01-08",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "a:",
            "*a",
            "&a",
            "!a",
            "@a",
            "- a",
            "{a",
            "#",
            "<<",
            "=",
            "1",
            "8001",
        ] {
            let written = text_of(&Value::from(text));
            assert!(written.starts_with(['"', '\'']), "{text:?} is written as {written}");
        }
        check(
            "a: 512Mi\nb: 50m\nc: shop:1\nd: http://localhost:8001\ne: lakeingest.io/v1alpha1\nf: '{\"a\":1}'\ng: \"30\"\n",
        );
    }

    #[test]
    fn texts_of_several_lines_are_blocks() {
        check("a: |\n  first\n    second\n\n  third\nb: |-\n  no\n  end\nc: \"two\\n\\n\"\nd:\n- |\n  x\n  y\n");
    }

    /// `kubectl` reads octal digits without quotes as a number, and the API server wants one here.
    #[test]
    fn modes_of_files_stay_numbers_in_octal_digits() {
        check("volumes:\n- defaultMode: 0644\n  name: \"0644\"\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(value in anything(), text in any::<String>(), lines in "[a \n\t#:'\"-]{0,12}") {
            let value = serde_json::json!({"any": value, "text": text, "lines": lines, text: [[lines]]});
            let value = serde_yaml::to_value(value).expect("JSON is YAML");
            let written = text_of(&value);
            let read: Value = serde_yaml::from_str(&written).expect("it is YAML");
            prop_assert_eq!(read, value, "{}", written);
        }
    }
}
