//! What is wrong with a body: violations, each with its place, its stable code and words.
//!
//! Owns: the list that a client reads, its bound, and the two kinds of refusal.
//! Does not own: the HTTP status and the problem document (`http`).
//!
//! No violation ever carries a value of the payload.
//! A field's name is shown only when it is a legal identifier; of any other name the length is told.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use crate::schema::is_column_name;

/// Most violations that one refusal lists; the rest is only counted.
/// Twenty show the pattern of a broken batch and keep the answer below 8 KiB.
pub const VIOLATIONS_MAX: usize = 20;

/// One reason why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Violation {
    /// Number of the record in the body, from 0; absent when the fault is not within a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,

    /// JSON pointer (RFC 6901): from the root of a JSON envelope, or from the root of an NDJSON record.
    pub pointer: String,

    /// Stable kebab-case code; clients may match on it.
    pub code: &'static str,

    /// Words for a person: byte offsets and types, never a value of the payload.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { index: None, pointer: pointer.into(), code, detail: detail.into() }
    }

    pub(crate) fn of_record(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at \"{}\"", self.code, self.pointer)?;
        match self.index {
            Some(index) => write!(formatter, " of record {index}"),
            None => Ok(()),
        }
    }
}

/// Violations in the order in which they were found: the first [`VIOLATIONS_MAX`] listed, all counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    listed: Vec<Violation>,
    total: usize,
}

impl Violations {
    /// Counts one violation, and describes it only when there is still room to list it.
    pub(crate) fn push_with(&mut self, describe: impl FnOnce() -> Violation) {
        self.total += 1;
        if self.listed.len() < VIOLATIONS_MAX {
            self.listed.push(describe());
        }
    }

    pub(crate) fn push(&mut self, violation: Violation) {
        self.push_with(|| violation);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many were found, the unlisted ones included.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Those that are listed.
    pub(crate) fn into_listed(self) -> Vec<Violation> {
        self.listed
    }

    /// `value` when there is no violation, else the refusal.
    pub(crate) fn into_result<T>(self, value: T) -> Result<T, DecodeError> {
        if self.is_empty() { Ok(value) } else { Err(DecodeError::Illegal(self)) }
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self { listed: vec![violation], total: 1 }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.listed.first(), self.total) {
            (Some(first), 1) => write!(formatter, "{first}"),
            (Some(first), total) => write!(formatter, "{first} and {} more", total - 1),
            (None, _) => write!(formatter, "no violation"),
        }
    }
}

/// Which side of the format a refusal is on; the HTTP layer maps it to a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The bytes are not the declared format: syntax, UTF-8, duplicate key, depth, lone surrogate.
    Malformed,

    /// Compressed, and longer than a body may be.
    TooLong,

    /// Well-formed, but illegal: a name, a date, a type, a range, a bound.
    Illegal,
}

/// Why a body is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not the declared format; the first fault ends the reading.
    #[error("failed to read the body as its declared format: {0}")]
    Malformed(Violations),

    /// The body becomes too long when it is decompressed.
    #[error("failed to decompress the body: {0}")]
    TooLong(Violations),

    /// The body is well-formed, but breaks rules of names, types, dates or bounds.
    #[error("failed to accept the records of the body: {0}")]
    Illegal(Violations),
}

impl DecodeError {
    /// Which side of the format the refusal is on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_) => Kind::Malformed,
            Self::TooLong(_) => Kind::TooLong,
            Self::Illegal(_) => Kind::Illegal,
        }
    }

    /// What was found, in order; at least 1 and at most [`VIOLATIONS_MAX`].
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::Malformed(violations) | Self::TooLong(violations) | Self::Illegal(violations) => &violations.listed,
        }
    }

    /// How many violations were found, the unlisted ones included.
    pub fn total(&self) -> usize {
        match self {
            Self::Malformed(violations) | Self::TooLong(violations) | Self::Illegal(violations) => violations.total,
        }
    }
}

/// A field's name as one segment of a JSON pointer.
/// A legal identifier needs no RFC 6901 escape; any other name may be payload, so only its length is told.
pub(crate) fn pointer_segment(name: &str) -> Cow<'_, str> {
    if is_column_name(name) { Cow::Borrowed(name) } else { Cow::Owned(format!("({} bytes)", name.len())) }
}
