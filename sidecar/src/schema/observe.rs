//! What a batch of records says about its table: new columns, columns with values, records that do not fit.
//!
//! Owns: inference of new columns, the verdict on each record when a body is accepted.
//! Does not own: the rules (`verdict`), whether records that do not fit are refused or stored aside (`intake`), whether
//! the registry takes the new columns.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::NaiveDate;
use lakeingest_crds::Inference;

use super::schema::Schema;
use super::types::{Column, ColumnType};
use super::verdict::{Fault, Rules, Unknown};
use crate::decode::{
    DecodeError, NodeKind, Scanned, Value, Violation, Violations, integer_is_exact_in_f64, kind_of_number, parse_date,
    parse_integer, parse_timestamp,
};
use crate::limits::{ASIDE_BYTES_MAX, CELLS_MAX, COLUMNS_MAX};

/// What a batch says about its table. Records that do not fit say nothing of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Columns that the known schema lacks, each with a value other than null in a record that fits,
    /// in the order of their first values.
    pub added: Vec<Column>,

    /// For each column of the known schema whether a record that fits has a value other than null in it.
    pub present: Vec<bool>,

    /// Records of the batch.
    pub rows: usize,

    /// Records that do not fit: for each the first field that does not.
    pub misfits: Violations,
}

impl Observation {
    /// Values that the batch has as columns, null where a record has none: records times columns with a value.
    fn cells(&self) -> usize {
        let present = self.present.iter().filter(|is_present| **is_present).count();
        self.rows * (present + self.added.len())
    }

    /// As [`Self::present`], over the known schema with [`Self::added`] behind it: an added column has a value.
    pub fn present_with_added(&self) -> Vec<bool> {
        let mut present = self.present.clone();
        present.resize(self.present.len() + self.added.len(), true);
        present
    }
}

/// Checks every field of a batch against what is known of its table, and infers what is not.
///
/// # Errors
/// `Illegal` when the batch has too many records for its columns, or too many that do not fit for its header.
pub fn observe(
    scanned: &Scanned<'_>,
    known: &Schema,
    partition_date: NaiveDate,
    inference: &Inference,
) -> Result<Observation, DecodeError> {
    let mut observer = Observer {
        rules: Rules::new(known, partition_date),
        present: vec![false; known.len()],
        new: NewColumns::default(),
        changes: Vec::new(),
    };
    let (mut misfits, mut aside_bytes) = (Violations::default(), 0);
    for index in 0..scanned.record_count() {
        observer.changes.clear();
        if let Err((name, fault)) = observer.record(scanned.record(index)) {
            observer.undo();
            aside_bytes += scanned.text_added(index);
            if aside_bytes > ASIDE_BYTES_MAX {
                return Err(DecodeError::Illegal(Violation::new("", "too-much-aside", too_much_aside()).into()));
            }
            misfits.push_with(|| {
                Violation::new(scanned.pointer(index, &name), fault.code(), fault.to_string()).of_record(index)
            });
        }
    }
    let added = observer.new.into_columns(inference);
    let observation = Observation { added, present: observer.present, rows: scanned.record_count(), misfits };
    if observation.cells() > CELLS_MAX {
        let violation = Violation::new("", "too-many-cells", too_many_cells(&observation));
        return Err(DecodeError::Illegal(violation.into()));
    }
    Ok(observation)
}

fn too_much_aside() -> String {
    format!(
        "the records that do not fit would take {ASIDE_BYTES_MAX} bytes more in quarantine than they have here, since each \
         is kept with the header's names; send fewer in one request, or mend them"
    )
}

fn too_many_cells(observation: &Observation) -> String {
    let Observation { rows, .. } = observation;
    let columns = observation.cells() / rows;
    format!(
        "{rows} records times {columns} columns that have a value in them are more than {CELLS_MAX}; send fewer records \
         in one request"
    )
}

struct Observer<'s> {
    rules: Rules<'s>,
    present: Vec<bool>,
    new: NewColumns<'s>,

    /// What the record that is looked at has changed, in order. Nothing, for nearly every record but the first.
    changes: Vec<Change>,
}

/// What a record changes in what is known of its batch.
enum Change {
    /// A known column has its first value.
    Present(usize),
    /// A new column has another kind of value; these are the kinds that it had.
    Kinds(usize, ValueKinds),
    /// There is one more new column.
    Name,
}

impl<'s> Observer<'s> {
    /// Takes in one record, up to the first field that does not fit.
    fn record(&mut self, record: Value<'s>) -> Result<(), (Cow<'s, str>, Fault)> {
        let known = self.rules.schema();
        let mut next_known = 0;
        let mut next_new = 0;
        for (name, value) in record.members() {
            match known.position_near(&name, next_known) {
                Some(position) => {
                    next_known = position + 1;
                    self.known_column(position, value).map_err(|fault| (name, fault))?;
                }
                None => match self.new.position_near(&name, next_new) {
                    Some(position) => {
                        next_new = position + 1;
                        self.new_value(position, value);
                    }
                    None => {
                        self.unknown_name(name.clone(), value).map_err(|fault| (name, fault))?;
                        next_new = self.new.columns.len();
                    }
                },
            }
        }
        Ok(())
    }

    #[inline]
    fn known_column(&mut self, position: usize, value: Value<'_>) -> Result<(), Fault> {
        if value.is_null() {
            return Ok(());
        }
        self.rules.column(position, value)?;
        if !self.present[position] {
            self.present[position] = true;
            self.changes.push(Change::Present(position));
        }
        Ok(())
    }

    #[inline]
    fn new_value(&mut self, position: usize, value: Value<'_>) {
        let kinds = &mut self.new.columns[position].1;
        let with_value = kinds.with(value);
        if with_value != *kinds {
            self.changes.push(Change::Kinds(position, *kinds));
            *kinds = with_value;
        }
    }

    /// A name that is neither a known column nor one that this batch has shown before.
    fn unknown_name(&mut self, name: Cow<'s, str>, value: Value<'_>) -> Result<(), Fault> {
        if self.rules.unknown(&name, value)? == Unknown::Nothing {
            return Ok(());
        }
        if let Some(twin) = self.new.name_of_any_case(&name) {
            return Err(Fault::Case { column: twin.to_owned() });
        }
        if self.rules.schema().len() + self.new.columns.len() >= COLUMNS_MAX {
            return Err(Fault::TooManyColumns);
        }
        self.changes.push(Change::Name);
        self.new.add_name(name, ValueKinds::default().with(value));
        Ok(())
    }

    /// Takes back what a record has changed: it does not fit, and must not make a column that no record has.
    fn undo(&mut self) {
        while let Some(change) = self.changes.pop() {
            match change {
                Change::Present(position) => self.present[position] = false,
                Change::Kinds(position, kinds) => self.new.columns[position].1 = kinds,
                Change::Name => self.new.drop_last(),
            }
        }
    }
}

/// The names that a batch has and the known schema has not, in the order of their first appearance.
#[derive(Default)]
struct NewColumns<'s> {
    columns: Vec<(Cow<'s, str>, ValueKinds)>,
    positions: HashMap<Cow<'s, str>, usize>,
    positions_in_lower_case: HashMap<String, usize>,
}

impl<'s> NewColumns<'s> {
    #[inline]
    fn position_near(&self, name: &str, hint: usize) -> Option<usize> {
        match self.columns.get(hint) {
            Some((expected, _)) if expected == name => Some(hint),
            Some(_) | None => self.positions.get(name).copied(),
        }
    }

    fn name_of_any_case(&self, name: &str) -> Option<&str> {
        let position = self.positions_in_lower_case.get(&name.to_ascii_lowercase())?;
        Some(&self.columns[*position].0)
    }

    fn add_name(&mut self, name: Cow<'s, str>, kinds: ValueKinds) {
        let position = self.columns.len();
        self.positions_in_lower_case.insert(name.to_ascii_lowercase(), position);
        self.positions.insert(name.clone(), position);
        self.columns.push((name, kinds));
    }

    fn drop_last(&mut self) {
        if let Some((name, _)) = self.columns.pop() {
            self.positions_in_lower_case.remove(&name.to_ascii_lowercase());
            self.positions.remove(&name);
        }
    }

    /// The columns, each with the type that holds all of its values.
    fn into_columns(self, inference: &Inference) -> Vec<Column> {
        let columns = self.columns.into_iter();
        columns.filter_map(|(name, kinds)| Some(Column::new(name, kinds.joined(inference)?))).collect()
    }
}

/// The set of the kinds of values that a new column has in a batch; its join does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ValueKinds(u16);

impl ValueKinds {
    const INTEGER: u16 = 1;
    const INTEGER_INEXACT_IN_F64: u16 = 2;
    const DOUBLE: u16 = 4;
    const BOOLEAN: u16 = 8;
    const STRING: u16 = 16;
    const CONTAINER: u16 = 32;
    const DATE: u16 = 64;
    const TIMESTAMP: u16 = 128;
    /// They are fields of CSV, whose form is not their type: a column of numbers and texts is text.
    const CELL: u16 = 256;

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
            NodeKind::Object | NodeKind::Array => Self::CONTAINER,
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

    /// The type that holds all of them; `None` when there are none.
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
