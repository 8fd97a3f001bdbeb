//! Whether a field of a record fits its table.
//!
//! Owns: the rules of names and types. They are asked twice of every record, when its body is accepted
//! (`observe`) and when it is decoded for the lake (`decode::columns`), and name the same records both times.
//! Does not own: the words for it (`fault`), what becomes of a record with a field that does not fit.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use chrono::{Datelike, NaiveDate};
use lakeingest_crds::names::{PARTITION_COLUMNS, is_column_name};

use super::fault::{Fault, Flaw};
use super::fields::Fields;
use super::partition::{DayRule, RecordDay};
use super::schema::Schema;
use super::types::ColumnType;
use crate::decode::{NodeKind, Value, parse_integer};
use crate::limits::{COLUMNS_MAX, RECORD_CELLS_MAX};

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
