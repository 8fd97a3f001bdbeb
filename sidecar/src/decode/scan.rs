//! The strict JSON scanner: one pass over the bytes, no recursion, a flat tape as its result.
//!
//! Owns: the grammar of RFC 8259 and what is refused beyond it, namely duplicate keys, lone surrogates, NUL,
//! numbers out of range, and whatever is too deep or too much.
//! Does not own: UTF-8 (checked before), the envelope and what a record is (`envelope`).
//!
//! A fault of the format ends the scan.
//! A well-formed but illegal value is noted, and the scan goes on to find the others.

mod report;

use std::borrow::Cow;
use std::collections::HashSet;

use super::error::{DecodeError, Violation, Violations};
use super::escape::{EscapeFault, next_special, read_escape, unescape};
use super::number::{NumberScan, scan_number};
use super::tape::{Node, NodeKind, OPEN, Value};
use crate::limits;

/// Bounds of one body; past one of them the body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Nesting: containers around a value, the envelope's own included.
    pub depth_max: usize,

    /// Text of one record. Unit: bytes.
    pub record_bytes_max: usize,

    /// Records of one body.
    pub records_max: usize,

    /// Keys of one object.
    pub keys_max: usize,

    /// Keys and values of one body together; each takes 16 bytes of memory while the body is read. Of a body of columns its
    /// values, those in lists included; each takes as many once its column has its form.
    pub values_max: usize,

    /// What the values of a body of columns have, each counted as often as it is there. Unit: bytes.
    pub column_bytes_max: usize,
}

impl ScanLimits {
    /// The bounds of a new body, unless they are set otherwise.
    pub const DEFAULT: Self = Self {
        depth_max: limits::DEPTH_MAX,
        record_bytes_max: limits::RECORD_BYTES_MAX,
        records_max: limits::RECORDS_MAX,
        // A record may name every column and the three of the partition.
        keys_max: limits::COLUMNS_MAX + 3,
        values_max: limits::VALUES_MAX,
        column_bytes_max: limits::DECODED_BYTES_MAX,
    };

    /// For a body that was accepted before: its bounds then may have been wider than today's.
    pub const ACCEPTED: Self = Self {
        depth_max: usize::MAX,
        record_bytes_max: usize::MAX,
        records_max: usize::MAX,
        keys_max: usize::MAX,
        values_max: usize::MAX,
        column_bytes_max: usize::MAX,
    };
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A body as one JSON document; the root is node 0.
pub(super) fn scan_document(text: &str, limits: &ScanLimits) -> Result<Vec<Node>, DecodeError> {
    let mut scanner = Scanner::<false>::new(text, limits);
    match scanner.document() {
        Ok(()) => scanner.illegal.into_result(scanner.nodes),
        Err(stop) => Err(scanner.refusal(*stop)),
    }
}

/// A body as lines of JSON, with the root node of each line that is not blank.
pub(super) fn scan_lines(text: &str, limits: &ScanLimits) -> Result<(Vec<Node>, Vec<u32>), DecodeError> {
    let mut scanner = Scanner::<true>::new(text, limits);
    match scanner.lines() {
        Ok(roots) => scanner.illegal.into_result((scanner.nodes, roots)),
        Err(stop) => Err(scanner.refusal(*stop)),
    }
}

/// Why a scan cannot go on. Boxed on its way, to keep the results of the hot path one word.
enum Stop {
    Malformed(Violation),
    Illegal(Violation),
}

type Step<T> = Result<T, Box<Stop>>;

/// An object or an array whose end has not been reached.
struct Container<'a> {
    node: u32,
    is_object: bool,

    /// Keys so far.
    keys: usize,

    /// Node of the key that the object before this one, at the same depth, had at this position.
    /// Records mostly have the same keys in the same order, and keys that were distinct there are distinct here.
    /// `OPEN` once a key has differed.
    expected_key: u32,

    /// Just behind the last key of the object before.
    expected_end: u32,

    /// Every key so far, once there are too many of them to compare with each.
    seen: Option<HashSet<Cow<'a, str>>>,
}

/// Keys of an object up to which a new one is compared with each; beyond that they are hashed.
const COMPARED_KEYS_MAX: usize = 16;

/// `LINES`: a line feed ends a document instead of being white space.
struct Scanner<'a, const LINES: bool> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    open: Vec<Container<'a>>,

    /// The last closed object of each depth; `None` for a depth that had none.
    closed: Vec<Option<u32>>,

    /// Lines that have been read to their end, blank ones not counted.
    lines_read: usize,

    illegal: Violations,
    limits: &'a ScanLimits,
}

/// `at` as it stands in a node.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a body of more than u32::MAX bytes is refused before the scan")]
fn narrow(at: usize) -> u32 {
    debug_assert!(u32::try_from(at).is_ok());
    at as u32
}

impl<'a, const LINES: bool> Scanner<'a, LINES> {
    fn new(text: &'a str, limits: &'a ScanLimits) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            // Event records have about one node for each ten bytes.
            nodes: Vec::with_capacity(text.len() / 10),
            open: Vec::new(),
            closed: Vec::new(),
            lines_read: 0,
            illegal: Violations::default(),
            limits,
        }
    }

    fn document(&mut self) -> Step<()> {
        self.value()?;
        self.skip_space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.expected("the end of the body")) }
    }

    fn lines(&mut self) -> Step<Vec<u32>> {
        let mut roots = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None => return Ok(roots),
                Some(b'\n') => self.at += 1,
                Some(_) => {
                    if roots.len() >= self.limits.records_max {
                        return Err(Box::new(Stop::Illegal(too_many_records(self.limits.records_max))));
                    }
                    roots.push(narrow(self.nodes.len()));
                    self.value()?;
                    self.skip_space();
                    if !matches!(self.peek(), None | Some(b'\n')) {
                        return Err(self.expected("the end of the line"));
                    }
                    self.lines_read += 1;
                }
            }
        }
    }

    /// Scans one value with all that is in it.
    fn value(&mut self) -> Step<()> {
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b'{') => {
                    self.open(NodeKind::Object)?;
                    self.skip_space();
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                    self.close();
                }
                Some(b'[') => {
                    self.open(NodeKind::Array)?;
                    self.skip_space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                    self.close();
                }
                Some(b't') => self.literal("true", NodeKind::True)?,
                Some(b'f') => self.literal("false", NodeKind::False)?,
                Some(b'n') => self.literal("null", NodeKind::Null)?,
                _ => return Err(self.expected("a value")),
            }
            if self.finish()? {
                return Ok(());
            }
        }
    }

    /// Closes what ends behind a value, up to where the next value is due.
    /// True when the outermost value is complete.
    #[inline]
    fn finish(&mut self) -> Step<bool> {
        loop {
            let Some(container) = self.open.last() else { return Ok(true) };
            let is_object = container.is_object;
            self.skip_space();
            match (self.peek(), is_object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.skip_space();
                    self.key()?;
                    return Ok(false);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                (_, true) => return Err(self.expected("',' or '}'")),
                (_, false) => return Err(self.expected("',' or ']'")),
            }
        }
    }

    fn open(&mut self, kind: NodeKind) -> Step<()> {
        let depth = self.open.len();
        if depth >= self.limits.depth_max {
            let detail = format!("more than {} levels at byte {}", self.limits.depth_max, self.at);
            return Err(self.malformed("too-deep", detail));
        }
        let node = narrow(self.nodes.len());
        self.push(kind, self.at, self.at)?;
        self.at += 1;
        if self.closed.len() == depth {
            self.closed.push(None);
        }
        let is_object = kind == NodeKind::Object;
        let (expected_key, expected_end) = match self.closed[depth] {
            Some(before) if is_object => (before + 1, self.nodes[before as usize].next),
            Some(_) | None => (OPEN, OPEN),
        };
        self.open.push(Container { node, is_object, keys: 0, expected_key, expected_end, seen: None });
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        let container = self.open.pop().expect("a bracket is only closed while one is open");
        let next = narrow(self.nodes.len());
        let node = &mut self.nodes[container.node as usize];
        node.end = narrow(self.at);
        node.next = next;
        if container.is_object {
            self.closed[self.open.len()] = Some(container.node);
        }
    }

    /// Scans a key and the colon behind it.
    #[inline]
    fn key(&mut self) -> Step<()> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key"));
        }
        self.string()?;
        self.check_unique()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.expected("':'"));
        }
        self.at += 1;
        Ok(())
    }

    /// Checks the key that was pushed last against those before it in its object.
    #[inline]
    fn check_unique(&mut self) -> Step<()> {
        let key = self.nodes[self.nodes.len() - 1];
        let container = self.open.last_mut().expect("a key is only read while an object is open");
        container.keys += 1;
        if container.expected_key < container.expected_end {
            let expected = self.nodes[container.expected_key as usize];
            if self.bytes[expected.start as usize..expected.end as usize]
                == self.bytes[key.start as usize..key.end as usize]
            {
                container.expected_key = self.nodes[container.expected_key as usize + 1].next;
                return Ok(());
            }
        }
        container.expected_key = OPEN;
        container.expected_end = OPEN;
        self.check_unique_among_all()
    }

    fn check_unique_among_all(&mut self) -> Step<()> {
        let key = self.nodes.len() - 1;
        let name = self.name(key);
        let mut container = self.open.pop().expect("a key is only read while an object is open");
        let is_new = if container.keys <= COMPARED_KEYS_MAX {
            self.keys_before(container.node, key).all(|earlier| self.name(earlier) != name)
        } else {
            container
                .seen
                .get_or_insert_with(|| {
                    self.keys_before(container.node, key).map(|earlier| self.name(earlier)).collect()
                })
                .insert(name)
        };
        let has_too_many = container.keys == self.limits.keys_max.saturating_add(1);
        self.open.push(container);
        if !is_new {
            let detail = format!("the key at byte {} was in this object before", self.nodes[key].start);
            return Err(self.malformed("duplicate-key", detail));
        }
        if has_too_many {
            let detail = format!("more than {} keys in one object", self.limits.keys_max);
            self.note_illegal("too-many-keys", detail);
        }
        Ok(())
    }

    /// Nodes of the keys of the open `object` before `key`, which is its last.
    fn keys_before(&self, object: u32, key: usize) -> impl Iterator<Item = usize> {
        let before_key = move |node: usize| (node < key).then_some(node);
        let following = move |earlier: &usize| before_key(self.nodes[earlier + 1].next as usize);
        std::iter::successors(before_key(object as usize + 1), following)
    }

    /// The text of a key.
    fn name(&self, key: usize) -> Cow<'a, str> {
        let Node { start, end, kind, .. } = self.nodes[key];
        let content = &self.text[start as usize..end as usize];
        if kind == NodeKind::String { Cow::Borrowed(content) } else { unescape(content) }
    }

    #[inline]
    fn string(&mut self) -> Step<()> {
        let start = self.at + 1;
        let mut kind = NodeKind::String;
        let mut end = next_special(self.bytes, start);
        loop {
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    kind = NodeKind::EscapedString;
                    end = next_special(self.bytes, self.escape(end)?);
                }
                Some(_) => {
                    self.at = end;
                    let detail = format!("control character in a string at byte {end}");
                    return Err(self.malformed("syntax", detail));
                }
                None => {
                    self.at = end;
                    return Err(self.expected("the end of a string"));
                }
            }
        }
        self.push(kind, start, end)?;
        self.at = end + 1;
        Ok(())
    }

    /// Offset behind the escape at `at`.
    fn escape(&mut self, at: usize) -> Step<usize> {
        match read_escape(self.bytes, at) {
            Ok(escape) => {
                if escape.character == '\0' {
                    self.note_illegal("nul-in-string", format!("escaped NUL at byte {at}"));
                }
                Ok(escape.end)
            }
            Err(EscapeFault::Unknown) => Err(self.malformed("syntax", format!("unknown escape at byte {at}"))),
            Err(EscapeFault::LoneSurrogate) => {
                let detail = format!("half of a surrogate pair at byte {at}");
                Err(self.malformed("lone-surrogate", detail))
            }
        }
    }

    #[inline]
    fn number(&mut self) -> Step<()> {
        let start = self.at;
        let (kind, end) = match scan_number(self.text, start) {
            NumberScan::Number { kind, end } => (kind, end),
            NumberScan::OutOfRange { end } => {
                let detail = format!("the number at byte {start} is neither a 64-bit integer nor a finite double");
                self.note_illegal("number-range", detail);
                (NodeKind::Double, end)
            }
            NumberScan::DigitMissing { at } => {
                self.at = at;
                return Err(self.expected("a digit"));
            }
        };
        self.push(kind, start, end)?;
        self.at = end;
        Ok(())
    }

    fn literal(&mut self, word: &str, kind: NodeKind) -> Step<()> {
        let end = self.at + word.len();
        if self.bytes.get(self.at..end) != Some(word.as_bytes()) {
            return Err(self.expected("a value"));
        }
        self.push(kind, self.at, end)?;
        self.at = end;
        Ok(())
    }

    #[inline]
    fn push(&mut self, kind: NodeKind, start: usize, end: usize) -> Step<()> {
        let index = self.nodes.len();
        if index >= self.limits.values_max {
            return Err(self.too_many_values());
        }
        let next = if matches!(kind, NodeKind::Object | NodeKind::Array) { OPEN } else { narrow(index + 1) };
        self.nodes.push(Node { start: narrow(start), end: narrow(end), next, kind });
        Ok(())
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') || (LINES && byte == b'\n') {
                return;
            }
            self.at += 1;
        }
    }
}

/// The refusal of a body with too many records.
pub(super) fn too_many_records(records_max: usize) -> Violation {
    Violation::new("", "too-many-records", format!("more than {records_max} records in one body"))
}

/// The root of a scanned text as a value.
pub(super) fn root<'s>(text: &'s str, nodes: &'s [Node], index: u32) -> Value<'s> {
    Value::new(text, nodes, index as usize)
}

#[cfg(test)]
mod tests;
