//! Log messages are constant, in lower case and without a full stop, so that they can be searched for.
//!
//! Owns: finding the messages of tracing's macros in the sources.
//! Does not own: what is logged at which level.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::check::sources::rust_files;
use crate::workspace;

const MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// Looks at every message of the crates that log.
pub(super) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for file in rust_files(&workspace::root().join("sidecar/src"))? {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        for (line, message) in messages(&text) {
            if let Some(fault) = fault(message) {
                wrong.push(format!("{}:{line}: \"{message}\" {fault}", workspace::shown(&file)));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("log messages:\n    {}", wrong.join("\n    "));
    }
    Ok(())
}

fn fault(message: &str) -> Option<&'static str> {
    let first_word = message.split_whitespace().next().unwrap_or_default();
    // A word that is all capitals is a name: DuckDB's COPY, a variable of the environment.
    if first_word.starts_with(char::is_uppercase) && first_word.contains(char::is_lowercase) {
        Some("begins with a capital")
    } else if message.ends_with('.') {
        Some("ends with a full stop")
    } else if message.contains('{') {
        Some("is not constant: put the data into fields")
    } else {
        None
    }
}

/// The message of each call with the number of the line on which the call begins.
fn messages(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for name in MACROS {
        for (start, _) in text.match_indices(name) {
            let own = !text[..start].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            if let Some(message) = message(&text[start + name.len()..]).filter(|_| own) {
                found.push((text[..start].matches('\n').count() + 1, message));
            }
        }
    }
    found
}

/// The first string that is an argument of its own, in the text that follows the call's bracket.
fn message(arguments: &str) -> Option<&str> {
    let mut depth = 0_u32;
    // The last character that is not blank: a string that is the value of a field follows `=`, `:`, `%` or `?`.
    let mut before = ',';
    let mut rest = arguments;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '"' => {
                let end = closing_quote(rest)?;
                if depth == 0 && before == ',' {
                    return Some(&rest[..end]);
                }
                rest = &rest[end + 1..];
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if !character.is_whitespace() {
            before = character;
        }
    }
    None
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(index),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_behind_fields_and_over_lines() {
        let text =
            "fn main() {\n    info!(rows, kind = \"a Kind.\", path = %name(\"A\"),\n        \"sealed segment\");\n}";
        assert_eq!(messages(text), [(2, "sealed segment")]);
    }

    #[test]
    fn a_call_without_a_message_and_another_macro_give_none() {
        assert!(messages("info!(rows);").is_empty());
        assert!(messages("my_info!(\"Capital\");").is_empty());
    }

    #[test]
    fn capitals_full_stops_and_data_in_the_text_are_faults() {
        for message in ["Sealed", "sealed.", "sealed {rows} rows"] {
            assert!(fault(message).is_some(), "{message}");
        }
        for message in ["sealed segment", "LAKEINGEST_LOG cannot be used"] {
            assert!(fault(message).is_none(), "{message}");
        }
    }
}
