//! Manifests as they lie in files: documents of YAML, or JSON.
//!
//! Owns: reading them and splitting them, each with its own text, so that what is not changed comes out byte for byte.
//! Does not own: what is in them (`objects`).

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use crate::limits::MANIFEST_BYTES_MAX;

use super::yaml;

/// The name of standard input on the command line.
const STDIN: &str = "-";

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// It was not read.
    #[error("failed to read {place}")]
    Read {
        /// The file.
        place: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too long.
    #[error("{place} is longer than {MANIFEST_BYTES_MAX} bytes, the most that is read of a file")]
    TooLong {
        /// The file.
        place: String,
    },
    /// It is no text.
    #[error("{place} is not UTF-8")]
    NoText {
        /// The file.
        place: String,
    },
    /// A document is no YAML that Kubernetes takes.
    #[error("{place}: {reason}")]
    Syntax {
        /// The file.
        place: String,
        /// What is wrong, with its line.
        reason: String,
    },
    /// Standard input was asked for twice.
    #[error("-f - is standard input, which can be read once")]
    StdinTwice,
}

/// A document of a file.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// The file, for messages.
    pub(super) place: String,
    /// The line that separates it from what stands before it, if there is one.
    separator: Option<String>,
    /// Its text without the separator, as it came.
    text: String,
    /// What it says; null for one of comments alone.
    pub(super) value: Value,
}

impl Document {
    /// Takes another value, with the text that says it. Comments before the first field stay.
    pub(super) fn replace(&mut self, value: Value) {
        let is_comment = |line: &&str| line.starts_with('#') || line.trim().is_empty();
        let comments: String = self.text.split_inclusive('\n').take_while(is_comment).collect();
        self.text = format!("{comments}{}", yaml::text_of(&value));
        self.value = value;
    }

    /// What it says as JSON.
    ///
    /// # Errors
    /// It says something that JSON has no words for.
    pub(super) fn json(&self) -> Result<serde_json::Value, DocumentError> {
        serde_json::to_value(&self.value).map_err(|error| syntax(&self.place, &error))
    }
}

/// The documents as one stream.
pub(super) fn joined(documents: &[Document]) -> String {
    let mut joined = String::new();
    for (index, Document { separator, text, .. }) in documents.iter().enumerate() {
        if !joined.is_empty() && !joined.ends_with('\n') {
            joined.push('\n');
        }
        match separator {
            Some(separator) => joined.push_str(separator),
            None if index > 0 => joined.push_str("---\n"),
            None => {}
        }
        joined.push_str(text);
    }
    joined
}

/// Reads the documents of these files, `-` being standard input.
///
/// # Errors
/// See [`DocumentError`].
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Document>, DocumentError> {
    let is_stdin = |file: &&PathBuf| file.as_path() == Path::new(STDIN);
    if files.iter().filter(is_stdin).count() > 1 {
        return Err(DocumentError::StdinTwice);
    }
    let mut documents = Vec::new();
    for file in files {
        let (place, text) = if is_stdin(&file) {
            let place = "standard input".to_owned();
            let text = read_bounded(&place, std::io::stdin().lock())?;
            (place, text)
        } else {
            let place = file.display().to_string();
            let opened = std::fs::File::open(file);
            let opened = opened.map_err(|source| DocumentError::Read { place: place.clone(), source })?;
            let text = read_bounded(&place, opened)?;
            (place, text)
        };
        documents.extend(split(&place, &text)?);
    }
    Ok(documents)
}

fn read_bounded(place: &str, from: impl Read) -> Result<String, DocumentError> {
    let place = || place.to_owned();
    let mut bytes = Vec::new();
    let read = from.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| DocumentError::Read { place: place(), source })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MANIFEST_BYTES_MAX {
        return Err(DocumentError::TooLong { place: place() });
    }
    String::from_utf8(bytes).map_err(|_| DocumentError::NoText { place: place() })
}

/// Splits a text into its documents.
///
/// # Errors
/// See [`DocumentError`].
pub(super) fn split(place: &str, text: &str) -> Result<Vec<Document>, DocumentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        // Where it is no JSON it may still be YAML.
        if let Ok(documents) = split_json(place, text) {
            return Ok(documents);
        }
    }
    let mut documents = Vec::new();
    let (mut separator, mut own, mut lines_before) = (None, String::new(), 0);
    let mut end = |separator: &mut Option<String>, own: &mut String, lines_before: usize| {
        let (separator, text) = (separator.take(), std::mem::take(own));
        let value = parse(place, &text, lines_before)?;
        documents.push(Document { place: place.to_owned(), separator, text, value });
        Ok::<_, DocumentError>(())
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let Some(rest) = after_separator(line) else {
            own.push_str(line);
            continue;
        };
        if separator.is_some() || !own.is_empty() {
            end(&mut separator, &mut own, lines_before)?;
        }
        // What stands behind the separator on its line is the document's.
        separator = Some(if rest.is_empty() { line.to_owned() } else { "---\n".to_owned() });
        own.push_str(rest);
        lines_before = number + usize::from(rest.is_empty());
    }
    if separator.is_some() || !own.is_empty() {
        end(&mut separator, &mut own, lines_before)?;
    }
    Ok(documents)
}

/// The rest of a line that begins with a separator; empty if nothing but a comment stands there. A document itself has no
/// such line: what is in a block is indented.
fn after_separator(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---")?;
    let is_separator = rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']);
    let rest = rest.trim_start_matches([' ', '\t']);
    let is_nothing = rest.trim().is_empty() || rest.starts_with('#');
    is_separator.then_some(if is_nothing { "" } else { rest })
}

fn parse(place: &str, text: &str, lines_before: usize) -> Result<Value, DocumentError> {
    // The lines before it, so that an error names the line of the file.
    let placed = format!("{}{text}", "\n".repeat(lines_before));
    let mut value: Value = serde_yaml::from_str(&placed).map_err(|error| syntax(place, &error))?;
    value.apply_merge().map_err(|error| syntax(place, &error))?;
    Ok(value)
}

/// One JSON object, or several behind each other. They come out as YAML.
fn split_json(place: &str, text: &str) -> Result<Vec<Document>, serde_json::Error> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let document = |value: Value| {
        let (place, text) = (place.to_owned(), yaml::text_of(&value));
        Document { place, separator: None, text, value }
    };
    values.map(|value| value.map(document)).collect()
}

fn syntax(place: &str, error: &dyn std::error::Error) -> DocumentError {
    DocumentError::Syntax { place: place.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Document> {
        split("test.yaml", text).expect("the test's text is YAML")
    }

    #[test]
    fn what_is_not_changed_comes_out_byte_for_byte() {
        for (text, documents) in [
            ("", 0),
            ("a: 1", 1),
            ("# only a comment\n", 1),
            ("---\na: 1\n---\n---\nb: |\n  ---\n  text\n...\n", 3),
            ("a: 1\n--- # why\nb: 'yes'   # kept\n", 2),
            ("a: 1\r\n---\r\nb: 2\r\n", 2),
        ] {
            let found = read(text);
            assert_eq!((joined(&found).as_str(), found.len()), (text, documents), "{text:?}");
        }
    }

    #[test]
    fn a_document_may_begin_on_the_line_of_its_separator() {
        assert_eq!(joined(&read("--- {a: 1}\n--- \nb: 2")), "---\n{a: 1}\n--- \nb: 2");
    }

    #[test]
    fn files_without_a_separator_are_separated() {
        assert_eq!(joined(&[read("a: 1"), read("b: 2\n")].concat()), "a: 1\n---\nb: 2\n");
    }

    #[test]
    fn json_becomes_yaml_in_the_order_of_its_fields() {
        assert_eq!(joined(&read("{\n\t\"b\": [1],\n\t\"a\": \"x\"\n}{\"c\": null}")), "b:\n- 1\na: x\n---\nc: null\n");
        assert_eq!(joined(&read("{a: 1}\n")), "{a: 1}\n", "YAML that begins as JSON does");
    }

    #[test]
    fn merges_are_done_and_comments_before_the_first_field_stay() {
        let mut document = read("# why\n\nbase: &base {a: 1}\nmore:\n  <<: *base\n  b: 2\n").remove(0);
        document.replace(document.value.clone());
        assert_eq!(joined(&[document]), "# why\n\nbase:\n  a: 1\nmore:\n  b: 2\n  a: 1\n");
    }

    #[test]
    fn an_error_names_the_file_and_its_line() {
        let error = split("shop.yaml", "a: 1\n---\nb: 1\nb: 2\n").expect_err("a field stands twice").to_string();
        assert!(error.starts_with("shop.yaml: ") && error.contains("line 3"), "{error}");
    }
}
