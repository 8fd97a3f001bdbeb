//! The types that a column can have.
//!
//! Owns: their names and which JSON value fits which type.
//! Does not own: how a type is stored in a file (`encode`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decode::{
    NodeKind, Value, integer_is_exact_in_f64, kind_of_number, parse_date, parse_integer, parse_timestamp,
};

/// The one physical type of a column, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// 64-bit signed integers.
    Bigint,

    /// IEEE 754 doubles, always finite; takes integers that are exact in them.
    Double,

    /// `true` and `false`.
    Boolean,

    /// UTF-8 text without NUL.
    Varchar,

    /// Days of the years 1 to 9999, sent as `YYYY-MM-DD`.
    Date,

    /// Instants of the years 1 to 9999 in UTC, to the microsecond; sent as RFC 3339, the offset is taken off.
    Timestamp,

    /// The text of any JSON value but null, exactly as received.
    Json,
}

impl ColumnType {
    /// The stable name, as in the canonical schema.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bigint => "bigint",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Varchar => "varchar",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
        }
    }

    /// Whether a column of this type can hold the value without loss; null fits every type.
    #[inline]
    pub fn fits(self, value: Value<'_>) -> bool {
        if value.is_cell() {
            return value.string().is_some_and(|text| self.fits_cell(&text));
        }
        match (self, value.kind()) {
            (_, NodeKind::Null) | (Self::Json, _) => true,
            (Self::Bigint, kind) => kind == NodeKind::Integer,
            (Self::Double, NodeKind::Integer) => integer_is_exact_in_f64(parse_integer(value.raw())),
            (Self::Double, kind) => kind == NodeKind::Double,
            (Self::Boolean, kind) => matches!(kind, NodeKind::True | NodeKind::False),
            (Self::Varchar, kind) => matches!(kind, NodeKind::String | NodeKind::EscapedString),
            (Self::Date, _) => value.string().is_some_and(|text| parse_date(&text).is_some()),
            (Self::Timestamp, _) => value.string().is_some_and(|text| parse_timestamp(&text).is_some()),
        }
    }
}

impl ColumnType {
    /// As [`Self::fits`], for a field of CSV: its text has to be what JSON has without quotes, or within them.
    fn fits_cell(self, text: &str) -> bool {
        match self {
            Self::Bigint => kind_of_number(text) == Some(NodeKind::Integer),
            Self::Double => match kind_of_number(text) {
                Some(NodeKind::Integer) => integer_is_exact_in_f64(parse_integer(text)),
                kind => kind == Some(NodeKind::Double),
            },
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Varchar | Self::Json => true,
            Self::Date => parse_date(text).is_some(),
            Self::Timestamp => parse_timestamp(text).is_some(),
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// `[A-Za-z_][A-Za-z0-9_]{0,127}`, unique in its table whatever the case.
    pub name: String,

    /// What it holds.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

impl Column {
    /// A column; its name is checked when it enters a [`super::Schema`].
    pub fn new(name: impl Into<String>, column_type: ColumnType) -> Self {
        Self { name: name.into(), column_type }
    }
}
