//! What the values of a batch show of the types of what is new in it: columns, and fields of structs.
//!
//! Owns: the kinds of values that were seen, the type that holds all of them, taking back what a record has shown.
//! Does not own: which record fits (`observe`, `verdict`).
//!
//! A value can be of a column whose type stands; then it shows nothing but new fields of the structs in it. Or it is of a
//! column that is new, as is everything in it then.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use lakeingest_crds::Inference;
use lakeingest_crds::names::is_column_name;

use super::fault::{Fault, Flaw};
use super::fields::Fields;
use super::schema::Schema;
use super::types::{Column, ColumnType};
use crate::decode::{
    NodeKind, Value, integer_is_exact_in_f64, kind_of_number, parse_date, parse_integer, parse_timestamp,
};
use crate::limits::{COLUMNS_MAX, INFERRED_FIELDS_MAX, TYPE_DEPTH_MAX};

/// What a record changes in what is known of its batch, so that it can be taken back. A path names places from the outside
/// in, a column's first.
#[derive(Debug)]
pub(super) enum Change {
    /// What is new at this path has another kind of value; these are the kinds that it had.
    Kinds(Vec<usize>, ValueKinds),
    /// There is one more new name in what is at this path.
    Name(Vec<usize>),
}

/// What one record changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    log: Vec<Change>,
    /// Where the value is that is looked at.
    path: Vec<usize>,
    /// Names of the schema and, of what is new, those that must have room in it: columns, and fields of structs that stand.
    names: usize,
    /// Whether none can come to the schema.
    is_closed: bool,
}

impl Changes {
    /// Beside a schema.
    pub(super) fn beside(known: &Schema) -> Self {
        Self { names: known.field_count(), is_closed: known.constraints().closed, ..Self::default() }
    }

    /// What follows is of another record.
    pub(super) fn begin_record(&mut self) {
        self.log.clear();
    }

    /// What follows is in the column at this place.
    #[inline]
    pub(super) fn at_column(&mut self, place: usize) {
        self.path.clear();
        self.path.push(place);
    }

    /// Names for which there is room beside those that are counted.
    pub(super) fn room(&self) -> usize {
        COLUMNS_MAX.saturating_sub(self.names)
    }

    /// Counts a name that must have room.
    pub(super) fn count_name(&mut self) -> Result<(), Fault> {
        if self.is_closed {
            return Err(Fault::Closed);
        }
        if self.room() == 0 {
            return Err(Fault::TooManyColumns);
        }
        self.names += 1;
        Ok(())
    }

    /// Notes a new column.
    pub(super) fn note_column(&mut self) {
        self.log.push(Change::Name(Vec::new()));
    }

    /// The last change of the record, which is taken back.
    pub(super) fn pop(&mut self) -> Option<Change> {
        self.log.pop()
    }

    /// Takes back the count of a name.
    pub(super) fn uncount_name(&mut self) {
        self.names -= 1;
    }

    #[cold]
    fn note_kinds(&mut self, kinds: ValueKinds) {
        self.log.push(Change::Kinds(self.path.clone(), kinds));
    }

    #[cold]
    fn note_name(&mut self) {
        self.log.push(Change::Name(self.path.clone()));
    }

    /// Looks at something that is at `place` of where it looks now.
    fn inside<T>(&mut self, place: usize, look: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(place);
        let outcome = look(self);
        self.path.pop();
        outcome
    }
}

/// What is known of a column or a field.
#[derive(Clone, Debug)]
pub(super) enum Shape<'s> {
    /// A type that stands, and that nothing comes to: one without a structure, or a list.
    Standing(ColumnType),
    /// A struct that stands, and what is new in it.
    StandingStruct(Box<Names<'s>>),
    /// It is new.
    New(NewShape<'s>),
}

impl<'s> Shape<'s> {
    /// What is known of a column of this type.
    pub(super) fn of(column_type: &ColumnType) -> Self {
        match column_type {
            ColumnType::Struct(fields) => {
                let mut names = Names::default();
                for Column { name, column_type } in fields.columns() {
                    names.add(Cow::Owned(name.clone()), Self::of(column_type));
                }
                Self::StandingStruct(Box::new(names))
            }
            other => Self::Standing(other.clone()),
        }
    }

    /// Takes in a value.
    ///
    /// # Errors
    /// It does not fit; what it has changed until then is in `changes`.
    pub(super) fn add(&mut self, value: Value<'s>, changes: &mut Changes) -> Result<(), Flaw> {
        match (self, value.kind()) {
            (_, NodeKind::Null) => Ok(()),
            (Self::New(shape), _) => {
                shape.add(value, changes);
                Ok(())
            }
            (Self::Standing(column_type), _) if column_type.fits(value) => Ok(()),
            (Self::Standing(column_type), _) => Err(Flaw::of_value(column_type, value)),
            (Self::StandingStruct(names), NodeKind::Object) => {
                let mut next = 0;
                value.members().try_for_each(|(name, member)| names.add_member(name, member, &mut next, changes))
            }
            (Self::StandingStruct(_), kind) => {
                Err(Flaw::here(Fault::Type { column: ColumnType::Struct(Arc::default()), value: kind }))
            }
        }
    }

    /// The type of all values; none when there are none. What is new has a structure where there is room for its names.
    pub(super) fn into_type(self, inference: &Inference, room: &mut usize) -> Option<ColumnType> {
        match self {
            Self::Standing(column_type) => Some(column_type),
            Self::StandingStruct(names) => struct_of(names.into_columns(inference, room)),
            Self::New(shape) => {
                let column_type = shape.into_type(inference)?;
                let names = column_type.field_count();
                if names > *room {
                    return Some(ColumnType::Json);
                }
                *room -= names;
                Some(column_type)
            }
        }
    }

    /// Sets the kinds of what is new at a path.
    pub(super) fn set_kinds(&mut self, path: &[usize], kinds: ValueKinds) {
        match (self, path) {
            (Self::New(shape), _) => shape.set_kinds(path, kinds),
            (Self::StandingStruct(names), [place, inner @ ..]) => names.columns[*place].1.set_kinds(inner, kinds),
            _ => {}
        }
    }

    /// Takes back the last name of what is at a path; whether it was one that is counted.
    pub(super) fn drop_name(&mut self, path: &[usize]) -> bool {
        match (self, path) {
            (Self::New(shape), _) => {
                shape.drop_name(path);
                false
            }
            (Self::StandingStruct(names), []) => {
                names.drop_last();
                true
            }
            (Self::StandingStruct(names), [place, inner @ ..]) => names.columns[*place].1.drop_name(inner),
            _ => false,
        }
    }
}

/// Fields as a type, in which their names were seen to be legal and free; none when there are none.
fn struct_of(columns: Vec<Column>) -> Option<ColumnType> {
    let fields = Fields::new(columns).expect("names are legal and looked up in any case before they are added");
    (!fields.columns().is_empty()).then(|| ColumnType::Struct(Arc::new(fields)))
}

/// What is known of something that is new.
#[derive(Clone, Debug, Default)]
pub(super) struct NewShape<'s> {
    kinds: ValueKinds,
    /// The names in its objects.
    names: Option<Box<Names<'s>>>,
}

impl<'s> NewShape<'s> {
    /// Takes in a value.
    #[inline]
    pub(super) fn add(&mut self, value: Value<'s>, changes: &mut Changes) {
        self.set(self.kinds.with(value), changes);
        // Once it is no object alone, it is json, whatever is inside.
        if self.kinds == ValueKinds::OBJECTS {
            self.add_members(value, changes);
        }
    }

    #[inline]
    fn set(&mut self, kinds: ValueKinds, changes: &mut Changes) {
        if kinds != self.kinds {
            changes.note_kinds(self.kinds);
            self.kinds = kinds;
        }
    }

    fn add_members(&mut self, object: Value<'s>, changes: &mut Changes) {
        let is_deepest = changes.path.len() > TYPE_DEPTH_MAX;
        let mut next = 0;
        for (name, value) in object.members() {
            let names = self.names.get_or_insert_default();
            let place = names.position_near(&name, next).or_else(|| {
                let can_be_added = !value.is_null() && names.columns.len() < INFERRED_FIELDS_MAX;
                (can_be_added && names.is_free(&name)).then(|| {
                    changes.note_name();
                    names.add(name.clone(), Shape::New(NewShape::default()))
                })
            });
            match place {
                Some(place) if !is_deepest => {
                    next = place + 1;
                    if let Shape::New(shape) = &mut names.columns[place].1 {
                        changes.inside(place, |changes| shape.add(value, changes));
                    }
                }
                None if value.is_null() && is_column_name(&name) => {}
                _ => return self.set(ValueKinds(self.kinds.0 | ValueKinds::UNSHAPED), changes),
            }
        }
    }

    /// The type that holds all values; none when there are none.
    fn into_type(self, inference: &Inference) -> Option<ColumnType> {
        if self.kinds != ValueKinds::OBJECTS {
            return self.kinds.joined(inference);
        }
        let names = self.names.filter(|_| inference.nested).unwrap_or_default();
        // What is inside of something new is counted with it. Objects without a value in any of their names are no struct.
        let mut room = COLUMNS_MAX;
        Some(struct_of(names.into_columns(inference, &mut room)).unwrap_or(ColumnType::Json))
    }

    fn set_kinds(&mut self, path: &[usize], kinds: ValueKinds) {
        match (path, self.names.as_mut()) {
            ([], _) => self.kinds = kinds,
            ([place, inner @ ..], Some(names)) => names.columns[*place].1.set_kinds(inner, kinds),
            (_, None) => {}
        }
    }

    fn drop_name(&mut self, path: &[usize]) {
        match (path, self.names.as_mut()) {
            ([], Some(names)) => names.drop_last(),
            ([place, inner @ ..], Some(names)) => drop(names.columns[*place].1.drop_name(inner)),
            (_, None) => {}
        }
    }
}

/// Names beside each other, in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub(super) struct Names<'s> {
    pub(super) columns: Vec<(Cow<'s, str>, Shape<'s>)>,
    positions: HashMap<Cow<'s, str>, usize>,
    positions_in_lower_case: HashMap<String, usize>,
}

impl<'s> Names<'s> {
    /// The place of this name; `hint` is looked at first.
    #[inline]
    pub(super) fn position_near(&self, name: &str, hint: usize) -> Option<usize> {
        match self.columns.get(hint) {
            Some((expected, _)) if expected == name => Some(hint),
            Some(_) | None => self.positions.get(name).copied(),
        }
    }

    /// The name that differs from this one at most in its case.
    pub(super) fn of_any_case(&self, name: &str) -> Option<&str> {
        let position = self.positions_in_lower_case.get(&name.to_ascii_lowercase())?;
        Some(&self.columns[*position].0)
    }

    /// Whether a name can come in.
    fn is_free(&self, name: &str) -> bool {
        is_column_name(name) && self.of_any_case(name).is_none()
    }

    /// Adds a name that is free; its place.
    pub(super) fn add(&mut self, name: Cow<'s, str>, shape: Shape<'s>) -> usize {
        let position = self.columns.len();
        self.positions_in_lower_case.insert(name.to_ascii_lowercase(), position);
        self.positions.insert(name.clone(), position);
        self.columns.push((name, shape));
        position
    }

    /// Takes the last name back.
    pub(super) fn drop_last(&mut self) {
        if let Some((name, _)) = self.columns.pop() {
            self.positions_in_lower_case.remove(&name.to_ascii_lowercase());
            self.positions.remove(&name);
        }
    }

    /// Takes in a member of a struct that stands.
    fn add_member(
        &mut self,
        name: Cow<'s, str>,
        value: Value<'s>,
        next: &mut usize,
        changes: &mut Changes,
    ) -> Result<(), Flaw> {
        let place = match self.position_near(&name, *next) {
            Some(place) => place,
            None if !is_column_name(&name) => return Err(Flaw::of(&name, Fault::Name { bytes: name.len() })),
            None if value.is_null() => return Ok(()),
            None => {
                if let Some(twin) = self.of_any_case(&name) {
                    return Err(Flaw::of(&name, Fault::Case { column: twin.to_owned() }));
                }
                changes.count_name().map_err(|fault| Flaw::of(&name, fault))?;
                changes.note_name();
                self.add(name.clone(), Shape::New(NewShape::default()))
            }
        };
        *next = place + 1;
        let shape = &mut self.columns[place].1;
        changes.inside(place, |changes| shape.add(value, changes)).map_err(|flaw| flaw.within(&name))
    }

    /// The names that have a value, each with the type that holds all of its values.
    pub(super) fn into_columns(self, inference: &Inference, room: &mut usize) -> Vec<Column> {
        let columns = self.columns.into_iter();
        columns.filter_map(|(name, shape)| Some(Column::new(name, shape.into_type(inference, room)?))).collect()
    }
}

/// The set of the kinds of values that something new has in a batch; its join does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ValueKinds(u16);

impl ValueKinds {
    const INTEGER: u16 = 1;
    const INTEGER_INEXACT_IN_F64: u16 = 2;
    const DOUBLE: u16 = 4;
    const BOOLEAN: u16 = 8;
    const STRING: u16 = 16;
    const OBJECT: u16 = 32;
    const DATE: u16 = 64;
    const TIMESTAMP: u16 = 128;
    /// They are fields of CSV, whose form is not their type: a column of numbers and texts is text.
    const CELL: u16 = 256;
    /// Kept as text: see decision 0014.
    const ARRAY: u16 = 512;
    /// Objects that are no struct.
    const UNSHAPED: u16 = 1_024;

    /// Objects alone, each of which can be a struct.
    const OBJECTS: Self = Self(Self::OBJECT);

    /// These and the kind of `value`.
    #[inline]
    fn with(self, value: Value<'_>) -> Self {
        if value.is_cell() {
            return Self(self.0 | Self::CELL | Self::kind_of_cell(&value.string().unwrap_or_default()));
        }
        let kind = match value.kind() {
            NodeKind::Null => 0,
            NodeKind::Integer if integer_is_exact_in_f64(parse_integer(value.raw())) => Self::INTEGER,
            NodeKind::Integer => Self::INTEGER_INEXACT_IN_F64,
            NodeKind::Double => Self::DOUBLE,
            NodeKind::True | NodeKind::False => Self::BOOLEAN,
            NodeKind::String | NodeKind::EscapedString | NodeKind::Cell | NodeKind::EscapedCell => {
                value.string().map_or(Self::STRING, |text| Self::kind_of_text(&text))
            }
            NodeKind::Object => Self::OBJECT,
            NodeKind::Array => Self::ARRAY,
        };
        Self(self.0 | kind)
    }

    fn kind_of_text(text: &str) -> u16 {
        match text {
            _ if parse_timestamp(text).is_some() => Self::TIMESTAMP,
            _ if parse_date(text).is_some() => Self::DATE,
            _ => Self::STRING,
        }
    }

    fn kind_of_cell(text: &str) -> u16 {
        match (text, kind_of_number(text)) {
            ("true" | "false", _) => Self::BOOLEAN,
            (_, Some(NodeKind::Integer)) if integer_is_exact_in_f64(parse_integer(text)) => Self::INTEGER,
            (_, Some(NodeKind::Integer)) => Self::INTEGER_INEXACT_IN_F64,
            (_, Some(_)) => Self::DOUBLE,
            (_, None) => Self::kind_of_text(text),
        }
    }

    /// The type without a structure that holds all of them; `None` when there are none.
    fn joined(self, inference: &Inference) -> Option<ColumnType> {
        let kinds = self.0 & !Self::CELL;
        let is_subset_of = |of: u16| kinds & !of == 0;
        match kinds {
            0 => None,
            Self::BOOLEAN => Some(ColumnType::Boolean),
            Self::DATE if inference.timestamps => Some(ColumnType::Date),
            Self::TIMESTAMP if inference.timestamps => Some(ColumnType::Timestamp),
            _ if is_subset_of(Self::STRING | Self::DATE | Self::TIMESTAMP) => Some(ColumnType::Varchar),
            _ if is_subset_of(Self::INTEGER | Self::INTEGER_INEXACT_IN_F64) => Some(ColumnType::Bigint),
            _ if is_subset_of(Self::INTEGER | Self::DOUBLE) => Some(ColumnType::Double),
            _ if self.0 & Self::CELL != 0 => Some(ColumnType::Varchar),
            _ => Some(ColumnType::Json),
        }
    }
}

#[cfg(test)]
mod tests;
