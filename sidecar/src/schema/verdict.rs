//! Whether a field of a record fits its table.
//!
//! Owns: the rules of names and types, and their words. They are asked twice of every record, when its body is accepted
//! (`observe`) and when it is decoded for the lake (`decode::columns`), and name the same records both times.
//! Does not own: what becomes of a record with a field that does not fit.

use std::fmt;

use chrono::{Datelike, NaiveDate};

use super::schema::{PARTITION_COLUMNS, Schema, is_column_name};
use super::types::ColumnType;
use crate::decode::{NodeKind, Value, parse_integer, pointer_segment};
use crate::limits::COLUMNS_MAX;

/// Why a field does not fit. Its words tell types and names, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The value has another type than its column.
    Type {
        /// The column's.
        column: ColumnType,
        /// The value's.
        value: NodeKind,
    },
    /// The name is not `[A-Za-z_][A-Za-z0-9_]{0,127}`.
    Name {
        /// Its length.
        bytes: usize,
    },
    /// The name differs from a column's in its case alone, which readers of the lake cannot tell.
    Case {
        /// The column.
        column: String,
    },
    /// The value is not the partition's, which its column stands for.
    Partition {
        /// Year, month or day of the partition.
        expected: i64,
        /// What the value is.
        value: NodeKind,
    },
    /// The table has as many columns as a table can have.
    TooManyColumns,
    /// It was accepted, and another writer has registered the column with another type.
    Registered {
        /// The type that stands.
        table: ColumnType,
        /// The type with which the value was accepted.
        accepted: ColumnType,
    },
    /// It was accepted, and others have filled the table with columns, or have one of the name in another case.
    NotRegistered,
}

impl Fault {
    /// Stable kebab-case code; clients may match on it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Type { .. } | Self::Registered { .. } => "type-mismatch",
            Self::Name { .. } => "column-name",
            Self::Case { .. } => "column-case",
            Self::Partition { .. } => "partition-column-mismatch",
            Self::TooManyColumns => "too-many-columns",
            Self::NotRegistered => "column-unknown",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { column: ColumnType::Double, value: NodeKind::Integer } => {
                write!(formatter, "column is double, value is an integer that a double cannot hold exactly")
            }
            Self::Type { column: ColumnType::Date, value } if value.is_text() => {
                write!(formatter, "column is date, value is a string that is no date written YYYY-MM-DD")
            }
            Self::Type { column: ColumnType::Timestamp, value } if value.is_text() => write!(
                formatter,
                "column is timestamp, value is a string that is no RFC 3339 timestamp of at most microseconds, for example \
                 2026-01-08T10:05:30.123456Z"
            ),
            Self::Type { column, value } => write!(formatter, "column is {column}, value is {}", value.in_words()),
            Self::Name { bytes } => write!(
                formatter,
                "a column name is [A-Za-z_][A-Za-z0-9_] and has at most 128 bytes; this one of {bytes} bytes is not"
            ),
            Self::Case { column } => write!(formatter, "the name differs from column {column} in its case alone"),
            Self::Partition { expected, value } => write!(
                formatter,
                "the column is the partition's, for this batch {expected}; the value is {} that is not equal to it",
                value.in_words()
            ),
            Self::Registered { table: ColumnType::Double, accepted: ColumnType::Bigint } => {
                write!(formatter, "the table's column is double, which cannot hold this integer exactly")
            }
            Self::Registered { table, accepted } => {
                write!(formatter, "the table's column is {table}, the value was accepted as {accepted}")
            }
            Self::NotRegistered => write!(formatter, "the table has no such column"),
            Self::TooManyColumns => write!(formatter, "a table has at most {COLUMNS_MAX} columns"),
        }
    }
}

/// What a field is whose name is no column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It says nothing: null, or what the partition says anyway.
    Nothing,
    /// A value that the table has no column for yet.
    Column,
}

/// The rules of one table and one partition.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'s> {
    schema: &'s Schema,
    /// Year, month and day of the partition, as [`PARTITION_COLUMNS`].
    partition: [i64; 3],
}

impl<'s> Rules<'s> {
    /// The rules of a table for records of one day.
    pub fn new(schema: &'s Schema, date: NaiveDate) -> Self {
        Self { schema, partition: [i64::from(date.year()), i64::from(date.month()), i64::from(date.day())] }
    }

    /// The table's columns.
    pub fn schema(&self) -> &'s Schema {
        self.schema
    }

    /// Whether a value fits the column at `position`; null fits every one.
    ///
    /// # Errors
    /// It does not.
    #[inline]
    pub fn column(&self, position: usize, value: Value<'_>) -> Result<(), Fault> {
        let column = self.schema.columns()[position].column_type;
        if column.fits(value) { Ok(()) } else { Err(Fault::Type { column, value: value.kind() }) }
    }

    /// What a field is whose name is no column's. A null under a legal name is nothing, whatever the name is like.
    ///
    /// # Errors
    /// The name cannot be a column's, or is the partition's and the value is not.
    pub fn unknown(&self, name: &str, value: Value<'_>) -> Result<Unknown, Fault> {
        if !is_column_name(name) {
            return Err(Fault::Name { bytes: name.len() });
        }
        if value.is_null() {
            return Ok(Unknown::Nothing);
        }
        if let Some(place) = PARTITION_COLUMNS.iter().position(|column| column.eq_ignore_ascii_case(name)) {
            let (column, expected) = (PARTITION_COLUMNS[place], self.partition[place]);
            return match value.kind() {
                _ if name != column => Err(Fault::Case { column: column.to_owned() }),
                NodeKind::Integer if parse_integer(value.raw()) == expected => Ok(Unknown::Nothing),
                NodeKind::Cell if value.string().is_some_and(|text| text == expected.to_string()) => {
                    Ok(Unknown::Nothing)
                }
                kind => Err(Fault::Partition { expected, value: kind }),
            };
        }
        match self.schema.column_of_any_case(name) {
            Some(twin) => Err(Fault::Case { column: twin.name.clone() }),
            None => Ok(Unknown::Column),
        }
    }
}

/// A record that does not fit, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Row number among the rows that were looked at.
    pub row: u32,

    /// The first field that does not fit, empty when it is none of them; of a name that can be no column's, its length.
    pub column: String,

    /// Stable kebab-case code.
    pub code: &'static str,

    /// Words for a person, without the value.
    pub detail: String,
}

impl Misfit {
    /// A record whose field `name` is at fault.
    pub fn new(row: u32, name: &str, fault: &Fault) -> Self {
        Self { row, column: pointer_segment(name).into_owned(), code: fault.code(), detail: fault.to_string() }
    }
}
