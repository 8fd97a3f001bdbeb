//! The scanned form of a body: a flat tape of nodes, and the cursor that reads it.
//!
//! Owns: the nodes, how to walk and to skip them.
//! Does not own: how they are made (`scan`), what they mean (`envelope`, `columns`, `schema`).
//!
//! Shape: nodes in the order of the text.
//! An object is followed by its members, each a key and then its value with all that is in it.
//! `next` is the index just behind a node and all that is in it, so that a subtree is skipped in one step.

use std::borrow::Cow;

use super::escape::unescape;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Members follow: key, value, key, value.
    Object,
    /// Elements follow.
    Array,
    /// A string without an escape: its content is its text.
    String,
    /// A string with at least one escape.
    EscapedString,
    /// A number without fraction and exponent that fits an `i64`.
    Integer,
    /// Any other number; finite as an `f64`.
    Double,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`, and an empty field of CSV
    Null,
    /// A field of CSV: its text is its value, as its column's type has it.
    Cell,
    /// A field of CSV in which quotes are doubled.
    EscapedCell,
}

impl NodeKind {
    /// Whether it has a text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::String | Self::EscapedString | Self::Cell | Self::EscapedCell)
    }

    /// The kind in words, as a violation tells it.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String | Self::EscapedString => "a string",
            Self::Integer => "an integer",
            Self::Double => "a double",
            Self::True | Self::False => "a boolean",
            Self::Null => "null",
            Self::Cell | Self::EscapedCell => "a text",
        }
    }
}

/// Stands in `next` of a container that is not closed yet; no node's successor is the first node.
pub(super) const OPEN: u32 = 0;

/// One node: 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Offset of the first byte; of a string, the one behind the quote.
    pub(super) start: u32,
    /// Offset just behind the last byte; of a string, the one of the closing quote.
    pub(super) end: u32,
    /// Index of the node just behind this one and all that is in it.
    pub(super) next: u32,
    pub(super) kind: NodeKind,
}

/// One value of a scanned body: a cheap cursor into text and tape.
#[derive(Clone, Copy, Debug)]
pub struct Value<'s> {
    text: &'s str,
    nodes: &'s [Node],
    index: usize,
}

impl<'s> Value<'s> {
    #[inline]
    pub(super) fn new(text: &'s str, nodes: &'s [Node], index: usize) -> Self {
        Self { text, nodes, index }
    }

    #[inline]
    fn node(self) -> Node {
        self.nodes[self.index]
    }

    /// Where it is on the tape.
    pub(super) fn index(self) -> u32 {
        u32::try_from(self.index).expect("a tape has no more nodes than its text has bytes, which u32 counts")
    }

    /// What it is.
    #[inline]
    pub fn kind(self) -> NodeKind {
        self.node().kind
    }

    /// Whether it is `null`.
    #[inline]
    pub fn is_null(self) -> bool {
        self.kind() == NodeKind::Null
    }

    /// Its text exactly as received, quotes included.
    #[inline]
    pub fn raw(self) -> &'s str {
        let node = self.node();
        let quote = usize::from(matches!(node.kind, NodeKind::String | NodeKind::EscapedString));
        &self.text[node.start as usize - quote..node.end as usize + quote]
    }

    /// Whether it is a field of CSV, which has no type of its own.
    #[inline]
    pub fn is_cell(self) -> bool {
        matches!(self.kind(), NodeKind::Cell | NodeKind::EscapedCell)
    }

    /// As JSON: its text exactly as received; a field of CSV as a string, an empty one as null.
    pub fn json(self) -> Cow<'s, str> {
        match self.kind() {
            NodeKind::Cell | NodeKind::EscapedCell => {
                Cow::Owned(serde_json::Value::String(self.string().unwrap_or_default().into_owned()).to_string())
            }
            NodeKind::Null => Cow::Borrowed("null"),
            _ => Cow::Borrowed(self.raw()),
        }
    }

    /// The text of a string or of a field of CSV with its escapes resolved; `None` when it is neither.
    #[inline]
    pub fn string(self) -> Option<Cow<'s, str>> {
        let node = self.node();
        let content = || &self.text[node.start as usize..node.end as usize];
        match node.kind {
            NodeKind::String | NodeKind::Cell => Some(Cow::Borrowed(content())),
            NodeKind::EscapedString => Some(unescape(content())),
            NodeKind::EscapedCell => Some(Cow::Owned(content().replace("\"\"", "\""))),
            NodeKind::Object
            | NodeKind::Array
            | NodeKind::Integer
            | NodeKind::Double
            | NodeKind::True
            | NodeKind::False
            | NodeKind::Null => None,
        }
    }

    /// The members of an object in the order of the text; none when it is no object.
    #[inline]
    pub fn members(self) -> Members<'s> {
        let node = self.node();
        let end = if node.kind == NodeKind::Object { node.next as usize } else { 0 };
        Members { text: self.text, nodes: self.nodes, index: self.index + 1, end }
    }

    /// The elements of an array in order; none when it is no array.
    #[inline]
    pub fn elements(self) -> Elements<'s> {
        let node = self.node();
        let end = if node.kind == NodeKind::Array { node.next as usize } else { 0 };
        Elements { text: self.text, nodes: self.nodes, index: self.index + 1, end }
    }
}

/// Iterator over the members of an object: name with its escapes resolved, value.
#[derive(Clone, Debug)]
pub struct Members<'s> {
    text: &'s str,
    nodes: &'s [Node],
    index: usize,
    end: usize,
}

impl<'s> Iterator for Members<'s> {
    type Item = (Cow<'s, str>, Value<'s>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.end {
            return None;
        }
        let key = self.nodes[self.index];
        let content = &self.text[key.start as usize..key.end as usize];
        let name = if key.kind == NodeKind::String { Cow::Borrowed(content) } else { unescape(content) };
        let value = Value::new(self.text, self.nodes, self.index + 1);
        self.index = self.nodes[self.index + 1].next as usize;
        Some((name, value))
    }
}

/// Iterator over the elements of an array.
#[derive(Clone, Debug)]
pub struct Elements<'s> {
    text: &'s str,
    nodes: &'s [Node],
    index: usize,
    end: usize,
}

impl<'s> Iterator for Elements<'s> {
    type Item = Value<'s>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.end {
            return None;
        }
        let value = Value::new(self.text, self.nodes, self.index);
        self.index = value.node().next as usize;
        Some(value)
    }
}
