//! From scanned records to the rows of a table, as Arrow columns.
//!
//! Owns: the physical form of each column type in memory, which records become rows of the table.
//! Does not own: whether a record fitted when it was accepted (`schema::verdict`), where those go that do not (`encode`).
//!
//! | column type | Arrow type |
//! |---|---|
//! | bigint | Int64 |
//! | double | Float64 |
//! | boolean | Boolean |
//! | varchar | Utf8, escapes resolved |
//! | date | Date32 |
//! | timestamp | Timestamp, microseconds, UTC |
//! | json | Utf8, the value's text exactly as received |
//!
//! Two schemas meet here: the one that was known when the body was accepted, by which its records are judged once more,
//! and the table's own, in whose types the values are stored. Another writer may have registered a column with another
//! type first, and that type stands for ever; a value that fits it is stored as what it is, and one that does not is a
//! misfit of its record.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, BooleanArray};
use arrow_schema::ArrowError;
use arrow_select::filter::filter;

use super::envelope::Scanned;
use super::error::{DecodeError, Violation};
use super::instant::{parse_date, parse_timestamp};
use super::number::{parse_double, parse_integer};
use super::tape::{NodeKind, Value};
use crate::limits::COLUMNS_MAX;
use crate::schema::{ColumnType, Fault, Misfit, Rules, Schema, Unknown};

/// Some records of a body as rows of a table.
#[derive(Clone, Debug)]
pub struct DecodedRows {
    /// One array for each column that was asked for, with the rows of `kept` only.
    pub columns: Vec<ArrayRef>,

    /// Numbers of the records that fit, ascending.
    pub kept: Vec<u32>,

    /// The records that do not fit, ascending, each once: together with `kept` they are all that were looked at.
    pub misfits: Vec<Misfit>,
}

impl DecodedRows {
    /// Keeps of the rows that fit those for which `stays` holds; the others are in neither list then.
    ///
    /// # Errors
    /// None for the types that a column can have.
    pub fn retain(&mut self, stays: impl FnMut(u32) -> bool) -> Result<(), ArrowError> {
        let stays: Vec<bool> = self.kept.iter().copied().map(stays).collect();
        if stays.contains(&false) {
            let mut flags = stays.iter();
            self.kept.retain(|_| flags.next().is_some_and(|stays| *stays));
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
    let (mut misfits, mut flags) = (Vec::new(), vec![true; range.len()]);
    let first = range.start;
    for index in range {
        match decoder.record(index - first, scanned.record(index)) {
            Ok(()) => {}
            Err(Unfit::Field(name, fault)) => {
                flags[index - first] = false;
                misfits.push(Misfit::new(number_of(index), &name, &fault));
            }
            Err(Unfit::NoColumn(name)) => return Err(no_column(scanned, index, &name)),
        }
    }
    let columns: Vec<ArrayRef> = decoder.builders.into_iter().map(|builder| builder.finish(flags.len())).collect();
    let kept = (first..).zip(&flags).filter(|(_, fits)| **fits).map(|(index, _)| number_of(index)).collect();
    let columns = match misfits.is_empty() {
        true => columns,
        false => only(&columns, flags).expect("a filter takes every type that a column can have"),
    };
    Ok(DecodedRows { columns, kept, misfits })
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("a body is counted in u32 and a record takes at least two bytes")
}

#[cold]
fn no_column(scanned: &Scanned<'_>, index: usize, name: &str) -> DecodeError {
    let detail = "the record has a value in a column that the body was said to have none in";
    let violation = Violation::new(scanned.pointer(index, name), "column-unknown", detail).of_record(index);
    DecodeError::Illegal(violation.into())
}

/// Why a record is not taken.
enum Unfit<'s> {
    /// This field of it does not fit.
    Field(Cow<'s, str>, Fault),
    /// All fields fit, and for this one there is no column.
    NoColumn(Cow<'s, str>),
}

/// Where the values of a column go that was known when the body was accepted.
#[derive(Clone, Copy)]
enum Place {
    /// To this builder.
    Builder(usize),
    /// The table has no such column: another writer has filled it up, or has one of this name in another case.
    NotRegistered,
    /// Nowhere: no record that fits has a value in it.
    Nowhere,
}

struct Decoder<'t> {
    rules: Rules<'t>,
    /// One for each column of the schema of `rules`.
    places: Vec<Place>,
    /// One for each column that was asked for.
    builders: Vec<ColumnBuilder>,
}

impl<'t> Decoder<'t> {
    fn new(target: &Target<'t>, rows: usize) -> Self {
        let Target { rules, present, registered, wanted } = target;
        let known = rules.schema();
        assert_eq!(present.len(), known.len(), "there is one present flag for each column of the schema");
        let place = |name: &str| match registered.position(name) {
            Some(position) => wanted.binary_search(&position).map_or(Place::Nowhere, Place::Builder),
            None => Place::NotRegistered,
        };
        let columns = known.columns().iter().zip(*present);
        let places = columns.map(|(column, is_present)| if *is_present { place(&column.name) } else { Place::Nowhere });
        let builders = wanted.iter().map(|position| registered.columns()[*position].column_type);
        Self {
            rules: *rules,
            places: places.collect(),
            builders: builders.map(|column_type| ColumnBuilder::new(column_type, rows)).collect(),
        }
    }

    /// Appends the values of a record, up to the first field that does not fit.
    #[inline]
    fn record<'s>(&mut self, row: usize, record: Value<'s>) -> Result<(), Unfit<'s>> {
        let schema = self.rules.schema();
        let mut next_position = 0;
        let mut homeless = Homeless::default();
        for (name, value) in record.members() {
            let Some(position) = schema.position_near(&name, next_position) else {
                match self.rules.unknown(&name, value) {
                    Ok(Unknown::Nothing) => {}
                    Ok(Unknown::Column) => homeless.add_new(name, schema.len())?,
                    Err(fault) => return Err(Unfit::Field(name, fault)),
                }
                continue;
            };
            next_position = position + 1;
            if value.is_null() {
                continue;
            }
            match self.known(row, position, value) {
                Ok(true) => {}
                Ok(false) => homeless.name = homeless.name.or(Some(name)),
                Err(fault) => return Err(Unfit::Field(name, fault)),
            }
        }
        homeless.name.map_or(Ok(()), |name| Err(Unfit::NoColumn(name)))
    }

    /// Appends the value of a column that was known; false if it has no place.
    #[inline]
    fn known(&mut self, row: usize, position: usize, value: Value<'_>) -> Result<bool, Fault> {
        let accepted = self.rules.schema().columns()[position].column_type;
        let place = self.places[position];
        if let Place::Builder(place) = place
            && self.builders[place].column_type() == accepted
            && self.builders[place].append(row, value)
        {
            return Ok(true);
        }
        // By the rules of then first, so that the records which did not fit then are those that do not fit now.
        self.rules.column(position, value)?;
        match place {
            Place::Builder(place) if self.builders[place].append(row, value) => Ok(true),
            Place::Builder(place) => Err(Fault::Registered { table: self.builders[place].column_type(), accepted }),
            Place::NotRegistered => Err(Fault::NotRegistered),
            Place::Nowhere => Ok(false),
        }
    }
}

/// Values of a record that have no column. A record that does not fit can have some: it brings no column to its table.
#[derive(Default)]
struct Homeless<'s> {
    /// The first of them.
    name: Option<Cow<'s, str>>,
    /// The names that are no column of the table, in lower case.
    new: HashMap<String, Cow<'s, str>>,
}

impl<'s> Homeless<'s> {
    /// Notes a name beside a table of so many columns.
    fn add_new(&mut self, name: Cow<'s, str>, columns: usize) -> Result<(), Unfit<'s>> {
        if columns + self.new.len() >= COLUMNS_MAX {
            return Err(Unfit::Field(name, Fault::TooManyColumns));
        }
        self.name.get_or_insert_with(|| name.clone());
        match self.new.insert(name.to_ascii_lowercase(), name.clone()) {
            Some(twin) => Err(Unfit::Field(name, Fault::Case { column: twin.into_owned() })),
            None => Ok(()),
        }
    }
}

/// A column that grows; rows without a value are filled in when the next value comes.
enum ColumnBuilder {
    Bigint(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Varchar(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Json(StringBuilder),
}

/// A guess at the length of a text, for the first allocation. Unit: bytes.
const TEXT_BYTES_GUESS: usize = 16;

/// The same call for the builder of every type.
macro_rules! each_builder {
    ($builder:expr, $name:ident => $call:expr) => {
        match $builder {
            ColumnBuilder::Bigint($name) => $call,
            ColumnBuilder::Double($name) => $call,
            ColumnBuilder::Boolean($name) => $call,
            ColumnBuilder::Varchar($name) | ColumnBuilder::Json($name) => $call,
            ColumnBuilder::Date($name) => $call,
            ColumnBuilder::Timestamp($name) => $call,
        }
    };
}

impl ColumnBuilder {
    fn new(column_type: ColumnType, rows: usize) -> Self {
        let texts = || StringBuilder::with_capacity(rows, rows * TEXT_BYTES_GUESS);
        match column_type {
            ColumnType::Bigint => Self::Bigint(Int64Builder::with_capacity(rows)),
            ColumnType::Double => Self::Double(Float64Builder::with_capacity(rows)),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Varchar => Self::Varchar(texts()),
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            ColumnType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
            ColumnType::Json => Self::Json(texts()),
        }
    }

    fn column_type(&self) -> ColumnType {
        match self {
            Self::Bigint(_) => ColumnType::Bigint,
            Self::Double(_) => ColumnType::Double,
            Self::Boolean(_) => ColumnType::Boolean,
            Self::Varchar(_) => ColumnType::Varchar,
            Self::Date(_) => ColumnType::Date,
            Self::Timestamp(_) => ColumnType::Timestamp,
            Self::Json(_) => ColumnType::Json,
        }
    }

    /// Sets the value of `row`, which is behind every row that was set before; false when it does not fit. It fits where
    /// [`ColumnType::fits`] says so.
    #[inline]
    fn append(&mut self, row: usize, value: Value<'_>) -> bool {
        self.fill_to(row);
        if value.is_cell() {
            return value.string().is_some_and(|text| self.append_cell(&text, value));
        }
        match (self, value.kind()) {
            (Self::Bigint(builder), NodeKind::Integer) => builder.append_value(parse_integer(value.raw())),
            (Self::Double(builder), NodeKind::Double) => builder.append_value(parse_double(value.raw())),
            (Self::Double(builder), NodeKind::Integer) if ColumnType::Double.fits(value) => {
                builder.append_value(parse_integer(value.raw()) as f64);
            }
            (Self::Boolean(builder), NodeKind::True) => builder.append_value(true),
            (Self::Boolean(builder), NodeKind::False) => builder.append_value(false),
            (Self::Json(texts), _) => texts.append_value(value.raw()),
            (Self::Varchar(texts), _) => match value.string() {
                Some(text) => texts.append_value(text),
                None => return false,
            },
            (Self::Date(builder), _) => match value.string().and_then(|text| parse_date(&text)) {
                Some(days) => builder.append_value(days),
                None => return false,
            },
            (Self::Timestamp(builder), _) => match value.string().and_then(|text| parse_timestamp(&text)) {
                Some(micros) => builder.append_value(micros),
                None => return false,
            },
            (Self::Bigint(_) | Self::Double(_) | Self::Boolean(_), _) => return false,
        }
        true
    }

    /// As [`Self::append`], for a field of CSV.
    fn append_cell(&mut self, text: &str, value: Value<'_>) -> bool {
        if !self.column_type().fits(value) {
            return false;
        }
        match self {
            Self::Bigint(builder) => builder.append_value(parse_integer(text)),
            Self::Double(builder) => builder.append_value(parse_double(text)),
            Self::Boolean(builder) => builder.append_value(text == "true"),
            Self::Varchar(texts) => texts.append_value(text),
            Self::Json(texts) => texts.append_value(value.json()),
            Self::Date(builder) => builder.append_option(parse_date(text)),
            Self::Timestamp(builder) => builder.append_option(parse_timestamp(text)),
        }
        true
    }

    /// Nulls up to `row`, exclusive.
    #[inline]
    fn fill_to(&mut self, row: usize) {
        use arrow_array::builder::ArrayBuilder as _;
        each_builder!(self, builder => if builder.len() < row {
            builder.append_nulls(row - builder.len());
        });
    }

    fn finish(mut self, rows: usize) -> ArrayRef {
        self.fill_to(rows);
        each_builder!(&mut self, builder => Arc::new(builder.finish()) as ArrayRef)
    }
}

#[cfg(test)]
mod tests;
