//! CSV with a header (RFC 4180), onto the same tape as JSON: a row is an object whose names are the header's.
//!
//! Owns: the grammar. Fields are parted by commas, rows by LF or CRLF; blank lines are skipped, the last row may lack its
//! end. A field in quotes may hold commas, line ends and, doubled, quotes. Every row has as many fields as the header.
//! An empty field is null; an empty field in quotes is an empty text. Whether a field is a number, a date or a text is
//! its column's matter (`schema`): quotes say nothing of it.
//! Does not own: the rules of names and types.

use std::collections::HashSet;

use super::error::{DecodeError, Violation, Violations, pointer_segment};
use super::scan::{ScanLimits, too_many_records};
use super::tape::{Node, NodeKind};
use crate::schema::is_column_name;

/// The nodes of a body and the object of each row.
pub(super) fn scan_csv(text: &str, limits: &ScanLimits) -> Result<(Vec<Node>, Vec<u32>), DecodeError> {
    if let Some(at) = text.bytes().position(|byte| byte == 0) {
        let detail = format!("the body has NUL at byte {at}, which no column takes");
        return Err(DecodeError::Illegal(Violation::new("", "nul-in-string", detail).into()));
    }
    let mut reader = Reader { text, at: 0 };
    let header = reader.header(limits)?;
    let (mut nodes, mut records) = (Vec::new(), Vec::new());
    while reader.skip_blank_lines() {
        if records.len() >= limits.records_max {
            return Err(DecodeError::Illegal(too_many_records(limits.records_max).into()));
        }
        if nodes.len() + 1 + 2 * header.len() > limits.values_max {
            let detail = format!("more than {} keys and values in one body", limits.values_max);
            return Err(DecodeError::Illegal(Violation::new("", "too-many-values", detail).into()));
        }
        let record = records.len();
        records.push(place(nodes.len()));
        reader.row(&header, &mut nodes).map_err(|fault| fault.of_record(record))?;
    }
    Ok((nodes, records))
}

/// Why a body is not CSV.
struct Fault {
    code: &'static str,
    detail: String,
}

impl Fault {
    fn of_record(self, record: usize) -> DecodeError {
        DecodeError::Malformed(Violation::new("", self.code, self.detail).of_record(record).into())
    }

    fn of_header(self) -> DecodeError {
        DecodeError::Malformed(Violation::new("", self.code, self.detail).into())
    }
}

fn syntax(detail: String) -> Fault {
    Fault { code: "syntax", detail }
}

fn place(index: usize) -> u32 {
    u32::try_from(index).expect("a body has at most two nodes a byte, and is far shorter than half of what u32 counts")
}

/// What ends a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Field,
    Row,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    /// The nodes of the header's names.
    fn header(&mut self, limits: &ScanLimits) -> Result<Vec<Node>, DecodeError> {
        let mut names = Vec::new();
        let mut violations = Violations::default();
        let mut seen = HashSet::new();
        if !self.skip_blank_lines() {
            return Err(syntax("the body has no header; its first line names the columns".to_owned()).of_header());
        }
        loop {
            let (node, end) = self.field().map_err(Fault::of_header)?;
            if names.len() >= limits.keys_max {
                let detail = format!("the header has more than {} names", limits.keys_max);
                return Err(DecodeError::Illegal(Violation::new("", "too-many-keys", detail).into()));
            }
            let name = &self.text[node.start as usize..node.end as usize];
            if !is_column_name(name) {
                let number = names.len() + 1;
                violations.push_with(|| {
                    let detail = format!(
                        "a column name is [A-Za-z_][A-Za-z0-9_] and has at most 128 bytes; name {number} of the header is \
                         not"
                    );
                    Violation::new(format!("/{}", pointer_segment(name)), "column-name", detail)
                });
            } else if !seen.insert(name) {
                let fault = Fault { code: "duplicate-key", detail: format!("the header has {name} twice") };
                return Err(fault.of_header());
            }
            names.push(Node { kind: NodeKind::String, ..node });
            if end == End::Row {
                break;
            }
        }
        violations.into_result(names)
    }

    /// Whether there is another row; stands at its first byte then.
    fn skip_blank_lines(&mut self) -> bool {
        let rest = self.text.as_bytes();
        while let Some(byte) = rest.get(self.at) {
            match byte {
                b'\n' => self.at += 1,
                b'\r' if rest.get(self.at + 1) == Some(&b'\n') => self.at += 2,
                _ => return true,
            }
        }
        false
    }

    fn row(&mut self, header: &[Node], nodes: &mut Vec<Node>) -> Result<(), Fault> {
        let (object, start) = (nodes.len(), self.at);
        nodes.push(Node { start: place(start), end: 0, next: 0, kind: NodeKind::Object });
        let mut fields = 0;
        loop {
            let (field, end) = self.field()?;
            if let Some(name) = header.get(fields) {
                nodes.push(Node { next: place(nodes.len() + 1), ..*name });
                nodes.push(Node { next: place(nodes.len() + 1), ..field });
                nodes[object].end = field.end;
            }
            fields += 1;
            if end == End::Row {
                break;
            }
        }
        if fields != header.len() {
            let detail = format!("a row has {fields} fields, the header has {}", header.len());
            return Err(Fault { code: "field-count", detail });
        }
        nodes[object].next = place(nodes.len());
        Ok(())
    }

    /// A field, and what ends it, behind which the reader stands then.
    fn field(&mut self) -> Result<(Node, End), Fault> {
        let node = if self.text.as_bytes().get(self.at) == Some(&b'"') { self.quoted()? } else { self.bare()? };
        let rest = &self.text.as_bytes()[self.at..];
        let (length, end) = match rest {
            [] => (0, End::Row),
            [b',', ..] => (1, End::Field),
            [b'\n', ..] => (1, End::Row),
            [b'\r', b'\n', ..] => (2, End::Row),
            [_, ..] => {
                let detail =
                    format!("expected a comma or the end of the row at byte {}, behind a quoted field", self.at);
                return Err(syntax(detail));
            }
        };
        self.at += length;
        Ok((node, end))
    }

    fn bare(&mut self) -> Result<Node, Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        loop {
            match bytes.get(self.at) {
                None | Some(b',' | b'\n') => break,
                Some(b'\r') if bytes.get(self.at + 1) == Some(&b'\n') => break,
                Some(b'\r') => {
                    let detail =
                        format!("a carriage return without a line feed at byte {}, outside of quotes", self.at);
                    return Err(syntax(detail));
                }
                Some(b'"') => {
                    let detail =
                        format!("a quote within a field at byte {}; such a field begins with a quote", self.at);
                    return Err(syntax(detail));
                }
                Some(_) => self.at += 1,
            }
        }
        let kind = if start == self.at { NodeKind::Null } else { NodeKind::Cell };
        Ok(Node { start: place(start), end: place(self.at), next: 0, kind })
    }

    fn quoted(&mut self) -> Result<Node, Fault> {
        let bytes = self.text.as_bytes();
        let open = self.at;
        let mut kind = NodeKind::Cell;
        self.at += 1;
        loop {
            match (bytes.get(self.at), bytes.get(self.at + 1)) {
                (None, _) => return Err(syntax(format!("the quote at byte {open} is never closed"))),
                (Some(b'"'), Some(b'"')) => {
                    kind = NodeKind::EscapedCell;
                    self.at += 2;
                }
                (Some(b'"'), _) => break,
                (Some(_), _) => self.at += 1,
            }
        }
        let node = Node { start: place(open + 1), end: place(self.at), next: 0, kind };
        self.at += 1;
        Ok(node)
    }
}

#[cfg(test)]
mod tests;
