//! Whether a field of a record fits its table.
//!
//! Owns: the rules of names and types, and their words. They are asked twice of every record, when its body is accepted
//! (`observe`) and when it is decoded for the lake (`decode::columns`), and name the same records both times.
//! Does not own: what becomes of a record with a field that does not fit.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use chrono::{Datelike, NaiveDate};
use lakeingest_crds::names::{PARTITION_COLUMNS, TAKEN_COLUMN_NAME, is_column_name};

use super::fields::Fields;
use super::partition::{DayRule, RecordDay};
use super::schema::Schema;
use super::types::ColumnType;
use crate::decode::{NodeKind, Value, parse_integer, pointer_segment};
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
            Self::Type { .. } | Self::Registered { .. } => "type-mismatch",
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

/// What a field is whose name is no column of the table, or no field of its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It says nothing: null, or what the partition says anyway.
    Nothing,
    /// A value that there is no column or field for yet.
    Column,
}

/// What a field of this name is where these fields are known and it is none of them.
///
/// # Errors
/// The name cannot be a field's here.
pub(super) fn unknown_field(fields: &Fields, name: &str, value: Value<'_>) -> Result<Unknown, Fault> {
    if !is_column_name(name) {
        return Err(Fault::Name { bytes: name.len() });
    }
    if value.is_null() {
        return Ok(Unknown::Nothing);
    }
    match fields.of_any_case(name) {
        Some(twin) => Err(Fault::Case { column: twin.name.clone() }),
        None => Ok(Unknown::Column),
    }
}

/// Values of a record that its table has no place for. A record that does not fit can have some: it brings no column and no
/// field to its table.
#[derive(Debug, Default)]
pub struct Unplaced {
    /// The first of them.
    first: Option<String>,
    /// The names that are no column of the table and no field of a column, in lower case, with where they are.
    new: HashMap<String, String>,
}

impl Unplaced {
    /// The first of them, if there is one.
    pub fn first(self) -> Option<String> {
        self.first
    }

    /// Notes a field that has no place here, although the table may have a column for it.
    pub fn note(&mut self, field: &str) {
        self.first.get_or_insert_with(|| field.to_owned());
    }

    /// Notes a name beside a table of so many names; `within` are the names of what it is in, each with a slash.
    ///
    /// # Errors
    /// The table is full with those that were noted, or one of them differs in its case alone.
    pub fn add_new(&mut self, within: &str, name: &str, names: usize) -> Result<(), Flaw> {
        let key = format!("{within}{}", name.to_ascii_lowercase());
        match self.new.get(&key) {
            Some(known) if known == name => Ok(()),
            Some(twin) => Err(Flaw::of(name, Fault::Case { column: twin.clone() })),
            None if names + self.new.len() >= COLUMNS_MAX => Err(Flaw::of(name, Fault::TooManyColumns)),
            None => {
                self.note(&format!("{within}{name}"));
                self.new.insert(key, name.to_owned());
                Ok(())
            }
        }
    }
}

/// What a value is in: the names from the outside in, each with a slash behind it.
struct Within<'w> {
    outer: Option<&'w Within<'w>>,
    name: &'w str,
}

impl fmt::Display for Within<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outer.map_or(Ok(()), |outer| fmt::Display::fmt(outer, formatter))?;
        write!(formatter, "{}/", self.name)
    }
}

/// The rules of one table for the records of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'s> {
    schema: &'s Schema,
    day: RecordDay<'s>,
}

impl<'s> Rules<'s> {
    /// The rules of a table for records that lie under these days.
    pub fn new(schema: &'s Schema, days: impl Into<DayRule>) -> Self {
        Self { schema, day: RecordDay::new(schema, days.into()) }
    }

    /// Goes on to a record, before any of its fields is looked at.
    #[inline]
    pub fn go_to(&mut self, record: Value<'_>) {
        self.day.go_to(record);
    }

    /// The column that tells the day of a record; none where all lie under one day.
    pub fn day_column(&self) -> Option<&'s str> {
        self.day.column()
    }

    /// Whether the records of a batch can lie under several days.
    pub fn days_differ(&self) -> bool {
        self.day_column().is_some()
    }

    /// Under which days they lie.
    pub fn day_rule(&self) -> DayRule {
        self.day.rule
    }

    /// The day under which the record that was gone to last lies; before the first, the day of those without one of their own.
    #[inline]
    pub fn date(&self) -> NaiveDate {
        self.day.date
    }

    /// The table's columns.
    pub fn schema(&self) -> &'s Schema {
        self.schema
    }

    /// Whether the column at `position` has room for all of a value that fits it; null fits every one. What its structs
    /// have no field for is noted.
    ///
    /// # Errors
    /// It does not fit, as seen from the value.
    pub fn column(&self, position: usize, value: Value<'_>, unplaced: &mut Unplaced) -> Result<bool, Flaw> {
        let column = &self.schema.columns()[position];
        let has_room = column.column_type.fits(value);
        if !has_room {
            self.judge(&column.column_type, value, &Within { outer: None, name: &column.name }, unplaced)?;
        }
        Ok(has_room)
    }

    /// What the lists in a value of the column at `position` are stored as. Unit: values.
    #[inline]
    pub fn list_cells(&self, position: usize, value: Value<'_>) -> usize {
        match self.schema.has_list(position) {
            true => list_cells(&self.schema.columns()[position].column_type, value),
            false => 0,
        }
    }

    /// Checks that a record has a value in each column that must have one; in `found` of them it has.
    ///
    /// # Errors
    /// It lacks one.
    #[inline]
    pub fn all_required(&self, found: usize, record: Value<'_>) -> Result<(), Flaw> {
        if found == self.schema.required_count() { Ok(()) } else { Err(lacking(self.schema, record)) }
    }

    /// As [`Self::column`], for a value that does not simply fit.
    #[cold]
    fn judge(
        &self,
        column_type: &ColumnType,
        value: Value<'_>,
        within: &Within<'_>,
        unplaced: &mut Unplaced,
    ) -> Result<(), Flaw> {
        if column_type.fits(value) {
            return Ok(());
        }
        match (column_type, value.kind()) {
            (ColumnType::Struct(fields), NodeKind::Object) => value.members().try_for_each(|(name, member)| {
                if let Some(position) = fields.position(&name) {
                    let judged = self.judge(
                        &fields.columns()[position].column_type,
                        member,
                        &Within { outer: Some(within), name: &name },
                        unplaced,
                    );
                    return judged.map_err(|flaw| flaw.within(&name));
                }
                match unknown_field(fields, &name, member).map_err(|fault| Flaw::of(&name, fault))? {
                    Unknown::Nothing => Ok(()),
                    Unknown::Column if self.schema.constraints().closed => Err(Flaw::of(&name, Fault::Closed)),
                    Unknown::Column => unplaced.add_new(&within.to_string(), &name, self.schema.field_count()),
                }
            }),
            (column_type, _) => Err(Flaw::of_value(column_type, value)),
        }
    }

    /// What a field is whose name is no column's. A null under a legal name is nothing, whatever the name is like.
    ///
    /// # Errors
    /// The name cannot be a column's, or is the partition's and the value is not.
    pub fn unknown(&self, name: &str, value: Value<'_>) -> Result<Unknown, Fault> {
        let place = PARTITION_COLUMNS.iter().position(|column| column.eq_ignore_ascii_case(name));
        let Some(place) = place.filter(|_| !value.is_null()) else {
            return match unknown_field(self.schema.fields(), name, value)? {
                Unknown::Column if self.schema.constraints().closed => Err(Fault::Closed),
                unknown => Ok(unknown),
            };
        };
        let date = self.date();
        let parts = [i64::from(date.year()), i64::from(date.month()), i64::from(date.day())];
        let (column, expected) = (PARTITION_COLUMNS[place], parts[place]);
        match value.kind() {
            _ if name != column => Err(Fault::Case { column: column.to_owned() }),
            NodeKind::Integer if parse_integer(value.raw()) == expected => Ok(Unknown::Nothing),
            NodeKind::Cell if value.string().is_some_and(|text| text == expected.to_string()) => Ok(Unknown::Nothing),
            kind => Err(Fault::Partition { expected, value: kind }),
        }
    }
}

/// The flaw of a record that lacks a value in a column that must have one.
#[cold]
fn lacking(schema: &Schema, record: Value<'_>) -> Flaw {
    let is_there = |wanted: &str| record.members().any(|(name, value)| *name == *wanted && !value.is_null());
    let mut required = schema.constraints().required.iter().filter(|name| schema.position(name).is_some());
    let name = required.find(|name| !is_there(name));
    name.map_or_else(|| Flaw::here(Fault::Missing), |name| Flaw::of(name, Fault::Missing))
}

/// Checks that the lists of a record are not stored as more values than they may be.
///
/// # Errors
/// They are, with the value that was looked at last.
#[inline]
pub(crate) fn check_cells(cells: usize) -> Result<(), Flaw> {
    if cells <= RECORD_CELLS_MAX { Ok(()) } else { Err(Flaw::here(Fault::TooManyElements)) }
}

/// Values that the lists in a value are stored as: for each element as many as a file has columns for it.
pub(crate) fn list_cells(column_type: &ColumnType, value: Value<'_>) -> usize {
    match (column_type, value.kind()) {
        (ColumnType::List(element), NodeKind::Array) => {
            let leaves = element.leaf_count();
            value.elements().map(|value| leaves + list_cells(element, value)).sum()
        }
        (ColumnType::Map(inner), NodeKind::Object) => {
            let leaves = column_type.leaf_count();
            value.members().map(|(_, value)| leaves + list_cells(inner, value)).sum()
        }
        (ColumnType::Struct(fields), NodeKind::Object) if column_type.has_list() => {
            let of_member = |(name, member): (Cow<'_, str>, Value<'_>)| {
                let field = fields.position(&name).map(|position| &fields.columns()[position].column_type);
                field.map_or(0, |field| list_cells(field, member))
            };
            value.members().map(of_member).sum()
        }
        _ => 0,
    }
}

/// A record that does not fit, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Row number among the rows that were looked at.
    pub row: u32,

    /// The first field that does not fit, empty when it is none of them: see [`Flaw::field`].
    pub column: String,

    /// Stable kebab-case code.
    pub code: &'static str,

    /// Words for a person, without the value.
    pub detail: String,
}

impl Misfit {
    /// A record with this flaw.
    pub fn new(row: u32, flaw: Flaw) -> Self {
        Self { row, column: flaw.field, code: flaw.fault.code(), detail: flaw.fault.to_string() }
    }
}
