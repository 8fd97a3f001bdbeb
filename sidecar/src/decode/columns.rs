//! From scanned records to the rows of a table, as Arrow columns.
//!
//! Owns: which records become rows of the table, the column that each value goes to.
//! Does not own: the physical form of a value (`builder`), whether a record fitted when it was accepted (`schema::verdict`), where those go that do not (`encode`).
//!
//! | column type | Arrow type |
//! |---|---|
//! | bigint | Int64 |
//! | double | Float64 |
//! | boolean | Boolean |
//! | varchar | Utf8, escapes resolved |
//! | date | Date32 |
//! | timestamp | Timestamp, microseconds, UTC |
//! | decimal | Decimal128 |
//! | uuid | FixedSizeBinary of 16 bytes, with the extension's name `arrow.uuid` |
//! | binary | Binary |
//! | json | Utf8, the value's text exactly as received |
//! | list | List |
//! | map | Map, its keys Utf8 |
//! | struct | Struct |
//!
//! Two schemas meet here: the one that was known when the body was accepted, by which its records are judged once more,
//! and the table's own, in whose types the values are stored. Another writer may have registered a column with another
//! type first, and that type stands for ever; a value that fits it is stored as what it is, and one that does not is a
//! misfit of its record.

mod as_they_are;
mod builder;

use std::ops::Range;

use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_schema::ArrowError;
use arrow_select::concat::concat;
use arrow_select::filter::filter;
use chrono::NaiveDate;

use super::envelope::Scanned;
use super::error::{DecodeError, Violation};
use super::tape::Value;
use crate::schema::{
    Column, ColumnType, Fault, Flaw, Misfit, Rules, Schema, Unknown, Unplaced, check_cells, list_cells,
};
pub(crate) use as_they_are::{days_of_column, rows_as_they_are};
use builder::ColumnBuilder;
pub(crate) use builder::arrow_field;

/// Some records of a body as rows of a table.
#[derive(Clone, Debug)]
pub struct DecodedRows {
    /// One array for each column that was asked for, with the rows of `kept` only.
    pub columns: Vec<ArrayRef>,

    /// Numbers of the records that fit, ascending.
    pub kept: Vec<u32>,

    /// The day of each record of `kept`, where each has its own.
    pub days: Option<Vec<NaiveDate>>,

    /// The records that do not fit, ascending, each once: together with `kept` they are all that were looked at.
    pub misfits: Vec<Misfit>,
}

impl DecodedRows {
    /// Counts records from `first` on instead of from 0.
    pub(super) fn move_to(&mut self, first: usize) {
        let first = number_of(first);
        self.kept.iter_mut().for_each(|row| *row += first);
        self.misfits.iter_mut().for_each(|misfit| misfit.row += first);
    }

    /// Records that were decoded in parts, which follow each other, as if at once.
    pub(super) fn together(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.swap_remove(0);
        }
        let width = parts.first().map_or(0, |part| part.columns.len());
        let column = |place: usize| {
            let arrays: Vec<&dyn Array> = parts.iter().map(|part| part.columns[place].as_ref()).collect();
            concat(&arrays).expect("arrays of one type can stand behind each other")
        };
        let columns = (0..width).map(column).collect();
        let days = parts.iter().map(|part| part.days.clone()).collect::<Option<Vec<_>>>();
        Self {
            columns,
            days: days.map(|days| days.concat()),
            kept: parts.iter().flat_map(|part| part.kept.iter().copied()).collect(),
            misfits: parts.into_iter().flat_map(|part| part.misfits).collect(),
        }
    }

    /// Keeps of the rows that fit those for which `stays` holds; the others are in neither list then.
    ///
    /// # Errors
    /// None for the types that a column can have.
    pub fn retain(&mut self, stays: impl FnMut(u32) -> bool) -> Result<(), ArrowError> {
        let stays: Vec<bool> = self.kept.iter().copied().map(stays).collect();
        if stays.contains(&false) {
            let mut flags = stays.iter();
            self.kept.retain(|_| flags.next().is_some_and(|stays| *stays));
            if let Some(days) = &mut self.days {
                let mut flags = stays.iter();
                days.retain(|_| flags.next().is_some_and(|stays| *stays));
            }
            self.columns = only(&self.columns, stays)?;
        }
        Ok(())
    }
}

/// The rows of each column whose flag is set.
fn only(columns: &[ArrayRef], flags: Vec<bool>) -> Result<Vec<ArrayRef>, ArrowError> {
    let flags = BooleanArray::from(flags);
    columns.iter().map(|column| filter(column, &flags)).collect()
}

/// What is made of records.
#[derive(Clone, Copy, Debug)]
pub struct Target<'s> {
    /// The rules under which they were accepted.
    pub rules: Rules<'s>,

    /// For each column of the schema of `rules` whether a record that fits has a value in it.
    pub present: &'s [bool],

    /// The table's schema.
    pub registered: &'s Schema,

    /// The columns of `registered` that are asked for, by position, ascending: at least those that are present.
    pub wanted: &'s [usize],
}

/// Decodes the records in `range`; missing and null values become null. Keys of the partition are skipped: their values are
/// the partition's own.
///
/// # Errors
/// `Illegal` when a record fits and has a value in a column that has no place.
/// No body of which [`crate::schema::observe()`] has told the columns under the same schema gives one.
///
/// # Panics
/// When `present` is not as long as its schema, or `range` ends behind the last record.
pub fn decode_rows(
    scanned: &Scanned<'_>,
    target: &Target<'_>,
    range: Range<usize>,
) -> Result<DecodedRows, DecodeError> {
    let mut decoder = Decoder::new(target, range.len());
    let mut days = target.rules.days_differ().then(|| Vec::with_capacity(range.len()));
    let (mut misfits, mut flags) = (Vec::new(), vec![true; range.len()]);
    let first = range.start;
    for index in range {
        let judged = match scanned.stray(index) {
            Some(name) => Err(Unfit::Flaw(Flaw::of(name, Fault::NoValue))),
            None => decoder.record(index - first, scanned.record(index)),
        };
        match judged {
            Ok(()) => {
                if let Some(days) = &mut days {
                    days.push(decoder.rules.date());
                }
            }
            Err(Unfit::Flaw(flaw)) => {
                flags[index - first] = false;
                misfits.push(Misfit::new(number_of(index), flaw));
            }
            Err(Unfit::NoColumn(field)) => return Err(no_column(scanned, index, &field)),
        }
    }
    let columns: Vec<ArrayRef> = decoder.builders.into_iter().map(|builder| builder.finish(flags.len())).collect();
    let kept = (first..).zip(&flags).filter(|(_, fits)| **fits).map(|(index, _)| number_of(index)).collect();
    let columns = match misfits.is_empty() {
        true => columns,
        false => only(&columns, flags).expect("a filter takes every type that a column can have"),
    };
    Ok(DecodedRows { columns, kept, days, misfits })
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("a body is counted in u32 and a record takes at least two bytes")
}

#[cold]
fn no_column(scanned: &Scanned<'_>, index: usize, field: &str) -> DecodeError {
    let detail = "the record has a value in a column that the body was said to have none in";
    let violation = Violation::new(scanned.pointer(index, field), "column-unknown", detail).of_record(index);
    DecodeError::Illegal(violation.into())
}

/// Why a record is not taken.
enum Unfit {
    /// A field of it does not fit.
    Flaw(Flaw),
    /// All fields fit, and for this one there is no column.
    NoColumn(String),
}

/// Where the values of a column go that was known when the body was accepted.
#[derive(Clone, Copy)]
enum Place {
    /// To this builder, whose type is the one that was known.
    Same(usize),
    /// To this builder, whose type is another: another writer was first, or a struct has more fields.
    Other(usize),
    /// The table has no such column: another writer has filled it up, or has one of this name in another case.
    NotRegistered,
    /// Nowhere: no record that fits has a value in it.
    Nowhere,
}

struct Decoder<'t> {
    rules: Rules<'t>,
    /// One for each column of the schema of `rules`.
    places: Vec<Place>,
    /// The types of the columns that were asked for.
    types: Vec<&'t ColumnType>,
    /// One for each of them.
    builders: Vec<ColumnBuilder>,
}

impl<'t> Decoder<'t> {
    fn new(target: &Target<'t>, rows: usize) -> Self {
        let Target { rules, present, registered, wanted } = target;
        let known = rules.schema();
        assert_eq!(present.len(), known.len(), "there is one present flag for each column of the schema");
        let place = |column: &Column| match registered.position(&column.name) {
            Some(position) => wanted.binary_search(&position).map_or(Place::Nowhere, |place| {
                let is_same = registered.columns()[position].column_type == column.column_type;
                if is_same { Place::Same(place) } else { Place::Other(place) }
            }),
            None => Place::NotRegistered,
        };
        let columns = known.columns().iter().zip(*present);
        let places = columns.map(|(column, is_present)| if *is_present { place(column) } else { Place::Nowhere });
        let types: Vec<_> = wanted.iter().map(|position| &registered.columns()[*position].column_type).collect();
        let builders = types.iter().map(|column_type| ColumnBuilder::new(column_type, rows)).collect();
        Self { rules: *rules, places: places.collect(), types, builders }
    }

    /// Appends the values of a record, up to the first field that does not fit.
    #[inline]
    fn record(&mut self, row: usize, record: Value<'_>) -> Result<(), Unfit> {
        self.rules.go_to(record);
        let schema = self.rules.schema();
        let mut next_position = 0;
        let (mut required, mut cells) = (0, 0);
        let mut unplaced = Unplaced::default();
        for (name, value) in record.members() {
            let Some(position) = schema.position_near(&name, next_position) else {
                match self.rules.unknown(&name, value) {
                    Ok(Unknown::Nothing) => {}
                    Ok(Unknown::Column) => unplaced.add_new("", &name, schema.field_count()).map_err(Unfit::Flaw)?,
                    Err(fault) => return Err(Unfit::Flaw(Flaw::of(&name, fault))),
                }
                continue;
            };
            next_position = position + 1;
            if value.is_null() {
                continue;
            }
            required += usize::from(schema.is_required(position));
            cells += self.rules.list_cells(position, value);
            let within = check_cells(cells);
            if let Place::Same(place) = self.places[position]
                && within.is_ok()
                && self.builders[place].append(row, value)
            {
                continue;
            }
            self.judged(row, position, value, within, &mut unplaced).map_err(|flaw| Unfit::Flaw(flaw.within(&name)))?;
        }
        self.rules.all_required(required, record).map_err(Unfit::Flaw)?;
        unplaced.first().map_or(Ok(()), |field| Err(Unfit::NoColumn(field)))
    }

    /// Appends a value that does not simply go to its column; `within` says whether its record has too many elements.
    #[cold]
    fn judged(
        &mut self,
        row: usize,
        position: usize,
        value: Value<'_>,
        within: Result<(), Flaw>,
        unplaced: &mut Unplaced,
    ) -> Result<(), Flaw> {
        // By the rules of then first, so that the records which did not fit then are those that do not fit now.
        let has_room = self.rules.column(position, value, unplaced)?;
        within?;
        let Column { name, column_type: accepted } = &self.rules.schema().columns()[position];
        match self.places[position] {
            Place::Other(place) if has_room => {
                // It may have been accepted as text and become a list.
                check_cells(list_cells(self.types[place], value))?;
                match self.builders[place].append(row, value) {
                    true => Ok(()),
                    false => Err(Flaw::registered(self.types[place], accepted, value)),
                }
            }
            Place::NotRegistered => Err(Flaw::here(Fault::NotRegistered)),
            Place::Nowhere => {
                unplaced.note(name);
                Ok(())
            }
            // A value that fits the type of then is appended before it comes here: it has a field that has no place.
            Place::Same(_) | Place::Other(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
