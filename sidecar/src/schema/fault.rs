//! Why a field of a record does not fit its table, and where it is.
//!
//! Owns: the reasons, their codes and their words, which tell types and names and never a value. Does not own: which record has
//! one (`verdict`, `shape`).

use std::fmt;

use lakeingest_crds::names::TAKEN_COLUMN_NAME;

use super::types::ColumnType;
use super::verdict::{Unknown, unknown_field};
use crate::decode::{NodeKind, Value, pointer_segment};
use crate::limits::{COLUMNS_MAX, RECORD_CELLS_MAX};

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
    /// The value is none that a column could have, whatever its type.
    NoValue,
    /// The name is not `[A-Za-z_][A-Za-z0-9_]{0,127}`, or is taken.
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
        /// Year, month or day of the record's partition.
        expected: i64,
        /// What the value is.
        value: NodeKind,
    },
    /// The table has as many columns as a table can have.
    TooManyColumns,
    /// The table takes no columns, and no fields of its structs, but those that it has.
    Closed,
    /// The name is no field of a struct in a list or a map: those are declared with it.
    InList,
    /// The record has no value in a column that must have one.
    Missing,
    /// The lists of the record have too many elements.
    TooManyElements,
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
            Self::Type { .. } | Self::Registered { .. } | Self::NoValue => "type-mismatch",
            Self::Name { .. } => "column-name",
            Self::Case { .. } => "column-case",
            Self::Partition { .. } => "partition-column-mismatch",
            Self::TooManyColumns => "too-many-columns",
            Self::NotRegistered | Self::Closed | Self::InList => "column-unknown",
            Self::Missing => "value-missing",
            Self::TooManyElements => "too-many-elements",
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
            Self::Type { column: column @ ColumnType::Decimal { .. }, value }
                if value.is_text() || matches!(value, NodeKind::Integer | NodeKind::Double) =>
            {
                let value = if value.is_text() { "a string" } else { "a number" };
                write!(formatter, "column is {column}, value is {value} that it cannot hold exactly")
            }
            Self::Type { column: ColumnType::Uuid, value } if value.is_text() => {
                write!(formatter, "column is uuid, value is a string that is none, written with its dashes")
            }
            Self::Type { column: ColumnType::Binary, value } if value.is_text() => {
                write!(formatter, "column is binary, value is a string that is no base64 with its padding")
            }
            Self::Type { column, value } => {
                write!(formatter, "column is {}, value is {}", column.family(), value.in_words())
            }
            Self::Name { bytes } => write!(
                formatter,
                "a column name is [A-Za-z_][A-Za-z0-9_]*, has at most 128 bytes and is not {TAKEN_COLUMN_NAME}; this one has \
                 {bytes} bytes and cannot be one"
            ),
            Self::Case { column } => write!(formatter, "the name differs from column {column} in its case alone"),
            Self::Partition { expected, value } => write!(
                formatter,
                "the column is the partition's, for this record {expected}; the value is {} that is not equal to it",
                value.in_words()
            ),
            Self::Registered { table: ColumnType::Double, accepted: ColumnType::Bigint } => {
                write!(formatter, "the table's column is double, which cannot hold this integer exactly")
            }
            Self::Registered { table, accepted } => {
                let (table, accepted) = (table.family(), accepted.family());
                write!(formatter, "the table's column is {table}, the value was accepted as {accepted}")
            }
            Self::NoValue => write!(
                formatter,
                "the value is none that a column holds: no finite number, out of range, finer than microseconds, or a text \
                 with a NUL"
            ),
            Self::NotRegistered => write!(formatter, "the table has no such column"),
            Self::Closed => write!(formatter, "the table takes no columns and no fields but those that it has"),
            Self::InList => {
                write!(formatter, "the structs of a list or a map have the fields that they were declared with")
            }
            Self::Missing => write!(formatter, "the column is not nullable, and the record has no value in it"),
            Self::TooManyElements => write!(
                formatter,
                "the lists and maps of a record have at most {RECORD_CELLS_MAX} elements, each counted as often as its structs have \
                 fields without a structure"
            ),
            Self::TooManyColumns => {
                write!(formatter, "a table has at most {COLUMNS_MAX} columns, fields of structs included")
            }
        }
    }
}

/// A field that does not fit: where it is in its record, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// A JSON pointer within the record, without the slash in front; empty for the value that was looked at itself. Of a
    /// name that can be no column's it has the length.
    pub field: String,
    /// Why it does not fit.
    pub fault: Fault,
}

impl Flaw {
    /// The value that is looked at is at fault.
    pub fn here(fault: Fault) -> Self {
        Self { field: String::new(), fault }
    }

    /// The field of this name is at fault.
    #[cold]
    pub fn of(name: &str, fault: Fault) -> Self {
        Self::here(fault).within(name)
    }

    /// The same, seen from what the value is in, where it has this name.
    #[cold]
    #[must_use]
    pub fn within(self, name: &str) -> Self {
        let (name, inner) = (pointer_segment(name), self.field);
        let field = if inner.is_empty() { name.into_owned() } else { format!("{name}/{inner}") };
        Self { field, ..self }
    }

    /// The same, seen from the list that the value is in, at this place.
    #[must_use]
    pub(super) fn at(self, place: usize) -> Self {
        let inner = self.field;
        let field = if inner.is_empty() { place.to_string() } else { format!("{place}/{inner}") };
        Self { field, ..self }
    }

    /// The first place at which a value does not fit a type that nothing can come to.
    #[cold]
    pub(super) fn of_value(column_type: &ColumnType, value: Value<'_>) -> Self {
        match (column_type, value.kind()) {
            (ColumnType::List(element), NodeKind::Array) => {
                if let Some((place, value)) = value.elements().enumerate().find(|(_, value)| !element.fits(*value)) {
                    return Self::of_value(element, value).at(place);
                }
            }
            (ColumnType::Map(inner), NodeKind::Object) => {
                if let Some((name, member)) = value.members().find(|(_, member)| !inner.fits(*member)) {
                    return Self::of_value(inner, member).within(&name);
                }
            }
            (ColumnType::Struct(fields), NodeKind::Object) => {
                for (name, member) in value.members() {
                    match fields.position(&name).map(|position| &fields.columns()[position].column_type) {
                        Some(field) if field.fits(member) => {}
                        Some(field) => return Self::of_value(field, member).within(&name),
                        None => match unknown_field(fields, &name, member) {
                            Ok(Unknown::Nothing) => {}
                            Ok(Unknown::Column) => return Self::of(&name, Fault::InList),
                            Err(fault) => return Self::of(&name, fault),
                        },
                    }
                }
            }
            _ => {}
        }
        Self::here(Fault::Type { column: column_type.clone(), value: value.kind() })
    }

    /// A value that fits `accepted` and not `table`, which was registered instead.
    pub fn registered(table: &ColumnType, accepted: &ColumnType, value: Value<'_>) -> Self {
        match (table, accepted) {
            (ColumnType::Struct(fields), ColumnType::Struct(others)) => {
                for (name, member) in value.members().filter(|(_, member)| !member.is_null()) {
                    let other = others.position(&name).map(|position| &others.columns()[position].column_type);
                    match (fields.position(&name).map(|position| &fields.columns()[position].column_type), other) {
                        (Some(field), _) if field.fits(member) => {}
                        (Some(field), Some(other)) => return Self::registered(field, other, member).within(&name),
                        _ => return Self::of(&name, Fault::NotRegistered),
                    }
                }
            }
            (ColumnType::Map(inner), ColumnType::Map(other)) => {
                if let Some((name, value)) = value.members().find(|(_, value)| !inner.fits(*value)) {
                    return Self::registered(inner, other, value).within(&name);
                }
            }
            (ColumnType::List(element), ColumnType::List(other)) => {
                if let Some((place, value)) = value.elements().enumerate().find(|(_, value)| !element.fits(*value)) {
                    return Self::registered(element, other, value).at(place);
                }
            }
            _ => {}
        }
        Self::here(Fault::Registered { table: table.clone(), accepted: accepted.clone() })
    }
}
