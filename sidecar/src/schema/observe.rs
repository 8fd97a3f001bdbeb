//! What a batch of records says about its table: new columns, columns with values, records that do not fit.
//!
//! Owns: inference of new columns, the verdict on each field when a body is accepted.
//! Does not own: whether the registry takes the new columns, what becomes of rows that it does not.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{Datelike, NaiveDate};

use super::schema::{PARTITION_COLUMNS, Schema, is_column_name};
use super::types::{Column, ColumnType};
use crate::decode::{
    DecodeError, NodeKind, Scanned, Value, Violation, Violations, integer_is_exact_in_f64, parse_integer,
};
use crate::limits::{CELLS_MAX, COLUMNS_MAX};

/// What a batch says about its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Columns that the known schema lacks, each with a value other than null in this batch,
    /// in the order of their first appearance.
    pub added: Vec<Column>,

    /// For each column of the known schema whether the batch has a value other than null in it.
    pub present: Vec<bool>,

    /// Records of the batch.
    pub rows: usize,
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
/// `Illegal` when a field does not fit: at most one violation a record is given.
pub fn observe(scanned: &Scanned<'_>, known: &Schema, partition_date: NaiveDate) -> Result<Observation, DecodeError> {
    let mut observer = Observer {
        known,
        partition: [
            i64::from(partition_date.year()),
            i64::from(partition_date.month()),
            i64::from(partition_date.day()),
        ],
        present: vec![false; known.len()],
        new: NewColumns::default(),
    };
    let mut violations = Violations::default();
    for index in 0..scanned.record_count() {
        if let Err((name, fault)) = observer.record(scanned.record(index)) {
            let is_last = fault.ends_the_batch;
            violations
                .push_with(|| Violation::new(scanned.pointer(index, &name), fault.code, fault.detail).of_record(index));
            if is_last {
                break;
            }
        }
    }
    let added = observer.new.into_columns();
    if violations.is_empty() && known.len() + added.len() > COLUMNS_MAX {
        violations.push_with(|| Violation::new("", "too-many-columns", too_many_columns()));
    }
    let observation = Observation { added, present: observer.present, rows: scanned.record_count() };
    if violations.is_empty() && observation.cells() > CELLS_MAX {
        violations.push_with(|| Violation::new("", "too-many-cells", too_many_cells(&observation)));
    }
    violations.into_result(observation)
}

fn too_many_cells(observation: &Observation) -> String {
    let Observation { rows, .. } = observation;
    let columns = observation.cells() / rows;
    format!(
        "{rows} records times {columns} columns that have a value in them are more than {CELLS_MAX}; send fewer records \
         in one request"
    )
}

fn too_many_columns() -> String {
    format!("a table has at most {COLUMNS_MAX} columns")
}

/// Why a field does not fit.
struct Fault {
    code: &'static str,
    detail: String,
    ends_the_batch: bool,
}

impl Fault {
    fn new(code: &'static str, detail: String) -> Self {
        Self { code, detail, ends_the_batch: false }
    }
}

struct Observer<'s> {
    known: &'s Schema,

    /// Year, month and day of the partition, as [`PARTITION_COLUMNS`].
    partition: [i64; 3],

    present: Vec<bool>,
    new: NewColumns<'s>,
}

impl<'s> Observer<'s> {
    /// Takes in one record, up to the first field that does not fit.
    fn record(&mut self, record: Value<'s>) -> Result<(), (Cow<'s, str>, Fault)> {
        let mut next_known = 0;
        let mut next_new = 0;
        for (name, value) in record.members() {
            match self.known.position_near(&name, next_known) {
                Some(position) => {
                    next_known = position + 1;
                    self.known_column(position, value).map_err(|fault| (name, fault))?;
                }
                None => match self.new.position_near(&name, next_new) {
                    Some(position) => {
                        next_new = position + 1;
                        self.new.add_value(position, value);
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
        let column_type = self.known.columns()[position].column_type;
        if !column_type.fits(value) {
            return Err(type_mismatch(column_type, value));
        }
        self.present[position] = true;
        Ok(())
    }

    /// A name that is neither a known column nor one that this batch has shown before.
    fn unknown_name(&mut self, name: Cow<'s, str>, value: Value<'_>) -> Result<(), Fault> {
        if !is_column_name(&name) {
            let detail = format!(
                "a column name is [A-Za-z_][A-Za-z0-9_] and has at most 128 bytes; this one of {} bytes is not",
                name.len()
            );
            return Err(Fault::new("column-name", detail));
        }
        let partition_column = PARTITION_COLUMNS.iter().position(|column| column.eq_ignore_ascii_case(&name));
        if let Some(position) = partition_column {
            return self.partition_column(position, &name, value);
        }
        let twin = self.known.column_of_any_case(&name).map(|column| column.name.as_str());
        if let Some(twin) = twin.or_else(|| self.new.name_of_any_case(&name)) {
            return Err(Fault::new("column-case", format!("{name} differs from column {twin} in its case alone")));
        }
        if self.new.columns.len() >= COLUMNS_MAX {
            return Err(Fault { code: "too-many-columns", detail: too_many_columns(), ends_the_batch: true });
        }
        self.new.add_name(name, value);
        Ok(())
    }

    fn partition_column(&self, position: usize, name: &str, value: Value<'_>) -> Result<(), Fault> {
        let column = PARTITION_COLUMNS[position];
        if name != column {
            return Err(Fault::new("column-case", format!("{name} differs from column {column} in its case alone")));
        }
        match value.kind() {
            NodeKind::Null => Ok(()),
            NodeKind::Integer if parse_integer(value.raw()) == self.partition[position] => Ok(()),
            kind => {
                let detail = format!(
                    "{name} is the partition's, for this batch {}; the value is {} that is not equal to it",
                    self.partition[position],
                    kind.in_words()
                );
                Err(Fault::new("partition-column-mismatch", detail))
            }
        }
    }
}

fn type_mismatch(column_type: ColumnType, value: Value<'_>) -> Fault {
    let kind = value.kind();
    let detail = match (column_type, kind) {
        (ColumnType::Double, NodeKind::Integer) => {
            "column is double, value is an integer that a double cannot hold exactly".to_owned()
        }
        _ => format!("column is {column_type}, value is {}", kind.in_words()),
    };
    Fault::new("type-mismatch", detail)
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

    fn add_name(&mut self, name: Cow<'s, str>, value: Value<'_>) {
        let position = self.columns.len();
        self.positions_in_lower_case.insert(name.to_ascii_lowercase(), position);
        self.positions.insert(name.clone(), position);
        self.columns.push((name, ValueKinds::default()));
        self.add_value(position, value);
    }

    #[inline]
    fn add_value(&mut self, position: usize, value: Value<'_>) {
        self.columns[position].1.add(value);
    }

    /// The columns that have a value other than null.
    fn into_columns(self) -> Vec<Column> {
        let columns = self.columns.into_iter();
        columns.filter_map(|(name, kinds)| Some(Column::new(name, kinds.joined()?))).collect()
    }
}

/// The set of the kinds of values that a new column has in a batch; its join does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ValueKinds(u8);

impl ValueKinds {
    const INTEGER: u8 = 1;
    const INTEGER_INEXACT_IN_F64: u8 = 2;
    const DOUBLE: u8 = 4;
    const BOOLEAN: u8 = 8;
    const STRING: u8 = 16;
    const CONTAINER: u8 = 32;

    #[inline]
    fn add(&mut self, value: Value<'_>) {
        self.0 |= match value.kind() {
            NodeKind::Null => 0,
            NodeKind::Integer if integer_is_exact_in_f64(parse_integer(value.raw())) => Self::INTEGER,
            NodeKind::Integer => Self::INTEGER_INEXACT_IN_F64,
            NodeKind::Double => Self::DOUBLE,
            NodeKind::True | NodeKind::False => Self::BOOLEAN,
            NodeKind::String | NodeKind::EscapedString => Self::STRING,
            NodeKind::Object | NodeKind::Array => Self::CONTAINER,
        };
    }

    /// The type that holds all of them; `None` when there are none.
    fn joined(self) -> Option<ColumnType> {
        let is_subset_of = |kinds: u8| self.0 & !kinds == 0;
        match self.0 {
            0 => None,
            Self::BOOLEAN => Some(ColumnType::Boolean),
            Self::STRING => Some(ColumnType::Varchar),
            _ if is_subset_of(Self::INTEGER | Self::INTEGER_INEXACT_IN_F64) => Some(ColumnType::Bigint),
            _ if is_subset_of(Self::INTEGER | Self::DOUBLE) => Some(ColumnType::Double),
            _ => Some(ColumnType::Json),
        }
    }
}

#[cfg(test)]
mod tests;
