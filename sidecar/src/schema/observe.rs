//! What a batch of records says about its table: new columns, columns with values, records that do not fit.
//!
//! Owns: the verdict on each record when a body is accepted.
//! Does not own: the rules (`verdict`), the types of what is new (`shape`), whether records that do not fit are refused or
//! stored aside (`intake`), whether the registry takes the new columns.

mod columnar;

use std::borrow::Cow;
use std::collections::BTreeSet;

use chrono::NaiveDate;
use lakeingest_crds::Inference;

use super::fault::{Fault, Flaw};
use super::partition::DayRule;
use super::schema::Schema;
use super::types::Column;
use super::verdict::{Rules, Unknown, check_cells};
use crate::decode::{DecodeError, Scanned, Value, Violation, Violations};
use crate::limits::{ASIDE_BYTES_MAX, BATCH_PARTITIONS_MAX, CELLS_MAX};
use crate::schema::shape::{Change, Changes, Names, NewShape, Shape};

pub use columnar::observe_columns;
pub(crate) use columnar::{places_of, with_columns_of};

/// What a batch says about its table. Records that do not fit say nothing of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The known schema, grown by what records that fit have more: each new column and each new field of a struct with a
    /// value other than null, behind the others, in the order of their first values.
    pub schema: Schema,

    /// For each column of `schema` whether a record that fits has a value other than null in it.
    pub present: Vec<bool>,

    /// Records of the batch.
    pub rows: usize,

    /// Records that do not fit: for each the first field that does not.
    pub misfits: Violations,

    /// Those of them that have a field which their table has no column for and takes none.
    pub strangers: Violations,

    /// The days under which the records that fit lie, where each has its own.
    pub days: Option<BTreeSet<NaiveDate>>,
}

impl Observation {
    /// Values that the batch has as columns, null where a record has none: records times columns of files with a value.
    fn cells(&self) -> usize {
        let columns = self.schema.columns().iter().zip(&self.present);
        let present = columns.filter(|(_, is_present)| **is_present);
        self.rows * present.map(|(column, _)| column.column_type.leaf_count()).sum::<usize>()
    }
}

/// Checks every field of a batch against what is known of its table, and infers what is not.
///
/// # Errors
/// `Illegal` when the batch has too many records for its columns, or too many that do not fit for its header, or lies under
/// too many days.
pub fn observe(
    scanned: &Scanned<'_>,
    known: &Schema,
    days: impl Into<DayRule>,
    inference: &Inference,
) -> Result<Observation, DecodeError> {
    let mut observer = Observer::new(Rules::new(known, days));
    let (mut misfits, mut strangers, mut aside_bytes) = (Violations::default(), Violations::default(), 0);
    for index in 0..scanned.record_count() {
        observer.begin_record(scanned.record(index));
        let judged = match scanned.stray(index) {
            Some(name) => Err(Flaw::of(name, Fault::NoValue)),
            None => observer.record(scanned.record(index)),
        };
        if let Err(Flaw { field, fault }) = judged {
            observer.undo();
            aside_bytes += scanned.text_added(index);
            if aside_bytes > ASIDE_BYTES_MAX {
                return Err(DecodeError::Illegal(Violation::new("", "too-much-aside", too_much_aside()).into()));
            }
            let violation = |field: &str, fault: &Fault| {
                Violation::new(scanned.pointer(index, field), fault.code(), fault.to_string()).of_record(index)
            };
            misfits.push_with(|| violation(&field, &fault));
            if known.constraints().closed
                && let Some(stranger) = stranger(&observer.rules, scanned.record(index), Flaw { field, fault })
            {
                strangers.push_with(|| violation(&stranger.field, &stranger.fault));
            }
        } else if !observer.note_day() {
            return Err(DecodeError::Illegal(
                Violation::new("", "too-many-days", too_many_days()).of_record(index).into(),
            ));
        }
    }
    let days = observer.days.take();
    let (schema, present) = observer.finish(inference);
    let observation = Observation { schema, present, rows: scanned.record_count(), misfits, strangers, days };
    if observation.cells() > CELLS_MAX {
        let violation = Violation::new("", "too-many-cells", too_many_cells(&observation));
        return Err(DecodeError::Illegal(violation.into()));
    }
    Ok(observation)
}

/// The flaw of a record that has a field which its table has no column for; `first` is the first flaw that it has.
fn stranger(rules: &Rules<'_>, record: Value<'_>, first: Flaw) -> Option<Flaw> {
    let is_of_one =
        |fault: &Fault| matches!(fault, Fault::Closed | Fault::InList | Fault::Name { .. } | Fault::Case { .. });
    if is_of_one(&first.fault) {
        return Some(first);
    }
    record.members().find_map(|(name, value)| match rules.schema().position(&name) {
        Some(_) => None,
        None => rules.unknown(&name, value).err().filter(is_of_one).map(|fault| Flaw::of(&name, fault)),
    })
}

fn too_much_aside() -> String {
    format!(
        "the records that do not fit would take {ASIDE_BYTES_MAX} bytes more in quarantine than they have here, since each \
         is kept with the header's names; send fewer in one request, or mend them"
    )
}

fn too_many_days() -> String {
    format!(
        "the records lie under more than {BATCH_PARTITIONS_MAX} days by the column that their table goes by; send those of \
         fewer days in one request"
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

    /// For each known column whether a record that fits has a value in it.
    present: Vec<bool>,

    /// What records have more than a known column's type, by its position.
    grown: Vec<Option<Shape<'s>>>,

    /// The names that are no known columns. Their places follow those of the known ones.
    new: Names<'s>,

    /// Known columns of which the record that is looked at has the first value.
    first_seen: Vec<usize>,

    /// What else it has changed. Nothing, for nearly every record but the first.
    changes: Changes,

    /// The days of records that fit, where each has its own.
    days: Option<BTreeSet<NaiveDate>>,
}

impl<'s> Observer<'s> {
    fn new(rules: Rules<'s>) -> Self {
        let known = rules.schema();
        Self {
            days: rules.days_differ().then(BTreeSet::new),
            rules,
            present: vec![false; known.len()],
            grown: Vec::new(),
            new: Names::default(),
            first_seen: Vec::new(),
            changes: Changes::beside(known),
        }
    }

    fn begin_record(&mut self, record: Value<'s>) {
        self.rules.go_to(record);
        self.first_seen.clear();
        self.changes.begin_record();
    }

    /// Notes the day of a record that fits; false if it is one too many.
    #[inline]
    fn note_day(&mut self) -> bool {
        let date = self.rules.date();
        self.days.as_mut().is_none_or(|days| {
            days.insert(date);
            days.len() <= BATCH_PARTITIONS_MAX
        })
    }

    /// Takes in one record, up to the first field that does not fit.
    fn record(&mut self, record: Value<'s>) -> Result<(), Flaw> {
        let known = self.rules.schema();
        let mut next_known = 0;
        let mut next_new = 0;
        let (mut required, mut cells) = (0, 0);
        for (name, value) in record.members() {
            if let Some(position) = known.position_near(&name, next_known) {
                next_known = position + 1;
                required += usize::from(known.is_required(position) && !value.is_null());
                self.known_column(position, value).map_err(|flaw| flaw.within(&name))?;
                cells += self.rules.list_cells(position, value);
                check_cells(cells).map_err(|flaw| flaw.within(&name))?;
                continue;
            }
            let position = match self.new.position_near(&name, next_new) {
                Some(position) => position,
                None => match self.unknown_name(name.clone(), value).map_err(|fault| Flaw::of(&name, fault))? {
                    Some(position) => position,
                    None => continue,
                },
            };
            next_new = position + 1;
            self.new_value(position, value);
        }
        self.rules.all_required(required, record)
    }

    #[inline]
    fn known_column(&mut self, position: usize, value: Value<'s>) -> Result<(), Flaw> {
        if value.is_null() {
            return Ok(());
        }
        let column_type = &self.rules.schema().columns()[position].column_type;
        if !column_type.fits(value) {
            self.grow(position, value)?;
        }
        if !self.present[position] {
            self.present[position] = true;
            self.first_seen.push(position);
        }
        Ok(())
    }

    /// Takes in a value of a known column that does not simply fit: its structs may have new fields.
    fn grow(&mut self, position: usize, value: Value<'s>) -> Result<(), Flaw> {
        let column_type = &self.rules.schema().columns()[position].column_type;
        if !column_type.is_nested() {
            return Err(Flaw::here(Fault::Type { column: column_type.clone(), value: value.kind() }));
        }
        self.grown.resize(self.present.len(), None);
        self.changes.at_column(position);
        self.grown[position].get_or_insert_with(|| Shape::of(column_type)).add(value, &mut self.changes)
    }

    #[inline]
    fn new_value(&mut self, position: usize, value: Value<'s>) {
        self.changes.at_column(self.present.len() + position);
        if let Shape::New(shape) = &mut self.new.columns[position].1 {
            shape.add(value, &mut self.changes);
        }
    }

    /// A name that is neither a known column nor one that this batch has shown before; its place if it is a column's.
    fn unknown_name(&mut self, name: Cow<'s, str>, value: Value<'_>) -> Result<Option<usize>, Fault> {
        if self.rules.unknown(&name, value)? == Unknown::Nothing {
            return Ok(None);
        }
        if let Some(twin) = self.new.of_any_case(&name) {
            return Err(Fault::Case { column: twin.to_owned() });
        }
        self.changes.count_name()?;
        self.changes.note_column();
        Ok(Some(self.new.add(name, Shape::New(NewShape::default()))))
    }

    /// Takes back what a record has changed: it does not fit, and must not make a column that no record has.
    fn undo(&mut self) {
        for position in self.first_seen.drain(..) {
            self.present[position] = false;
        }
        while let Some(change) = self.changes.pop() {
            match change {
                Change::Kinds(path, kinds) => {
                    if let [place, inner @ ..] = path.as_slice()
                        && let Some(shape) = self.shape_at(*place)
                    {
                        shape.set_kinds(inner, kinds);
                    }
                }
                Change::Name(path) => {
                    let is_counted = match path.as_slice() {
                        [place, inner @ ..] => self.shape_at(*place).is_some_and(|shape| shape.drop_name(inner)),
                        [] => {
                            self.new.drop_last();
                            true
                        }
                    };
                    if is_counted {
                        self.changes.uncount_name();
                    }
                }
            }
        }
    }

    /// What is known of the column at a place.
    fn shape_at(&mut self, place: usize) -> Option<&mut Shape<'s>> {
        match place.checked_sub(self.present.len()) {
            Some(place) => self.new.columns.get_mut(place).map(|(_, shape)| shape),
            None => self.grown.get_mut(place)?.as_mut(),
        }
    }

    /// The schema with what is new, and which of its columns have a value.
    fn finish(self, inference: &Inference) -> (Schema, Vec<bool>) {
        let known = self.rules.schema();
        let mut room = self.changes.room();
        let grown = known.columns().iter().zip(self.grown).filter_map(|(column, shape)| {
            Some(Column::new(column.name.clone(), shape?.into_type(inference, &mut room)?))
        });
        let mut others: Vec<Column> = grown.collect();
        others.extend(self.new.into_columns(inference, &mut room));
        let schema = known.merged(&others);
        let mut present = self.present;
        present.resize(schema.len(), true);
        (schema, present)
    }
}

#[cfg(test)]
mod tests;
