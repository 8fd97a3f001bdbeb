//! From scanned records to Arrow columns.
//!
//! Owns: the physical form of each column type in memory.
//! Does not own: which records fit (`schema::verdict`), which rows a table takes (`schema::fit`).
//!
//! | column type | Arrow type |
//! |---|---|
//! | bigint | Int64 |
//! | double | Float64 |
//! | boolean | Boolean |
//! | varchar | Utf8, escapes resolved |
//! | json | Utf8, the value's text exactly as received |

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};

use super::envelope::Scanned;
use super::error::{DecodeError, Violation};
use super::number::{parse_double, parse_integer};
use super::tape::{NodeKind, Value};
use crate::limits::COLUMNS_MAX;
use crate::schema::{Column, ColumnType, Fault, Misfit, Rules, Unknown};

/// One column of a batch.
#[derive(Clone, Debug)]
pub struct DecodedColumn {
    /// Its name.
    pub name: String,

    /// Its type in the schema that the batch was decoded with.
    pub column_type: ColumnType,

    /// Its values, one for each row of the batch.
    pub array: ArrayRef,
}

/// Some records of a body as columns.
#[derive(Clone, Debug)]
pub struct DecodedBatch {
    /// Their number.
    pub rows: usize,

    /// The columns that were asked for, in the schema's order.
    pub columns: Vec<DecodedColumn>,

    /// The records that do not fit, in order: what `columns` has in their rows means nothing.
    pub misfits: Vec<Misfit>,
}

/// Decodes of the records in `range` the columns for which `present` is true; missing and null values become null.
/// Keys of the partition are skipped: their values are the partition's own.
///
/// # Errors
/// `Illegal` when a record fits and has a value in a column that was not asked for.
/// No body of which [`crate::schema::observe()`] has told the columns under the same schema gives one.
///
/// # Panics
/// When `present` is not as long as the schema, or `range` ends behind the last record.
pub fn decode_columns(
    scanned: &Scanned<'_>,
    rules: Rules<'_>,
    present: &[bool],
    range: Range<usize>,
) -> Result<DecodedBatch, DecodeError> {
    let schema = rules.schema();
    assert_eq!(present.len(), schema.len(), "there is one present flag for each column of the schema");
    let rows = range.len();
    let builder =
        |(column, is_present): (&Column, &bool)| is_present.then(|| ColumnBuilder::new(column.column_type, rows));
    let mut decoder = Decoder { rules, builders: schema.columns().iter().zip(present).map(builder).collect() };
    let mut misfits = Vec::new();
    for (row, index) in range.enumerate() {
        match decoder.record(row, scanned.record(index)) {
            Ok(()) => {}
            Err(Unfit::Field(name, fault)) => {
                let row = u32::try_from(row).expect("a body is counted in u32 and a row takes at least two bytes");
                misfits.push(Misfit::new(row, &name, &fault));
            }
            Err(Unfit::NoColumn(name)) => return Err(no_column(scanned, index, &name)),
        }
    }
    let columns = schema.columns().iter().zip(decoder.builders).filter_map(|(column, builder)| {
        let array = builder?.finish(rows);
        Some(DecodedColumn { name: column.name.clone(), column_type: column.column_type, array })
    });
    Ok(DecodedBatch { rows, columns: columns.collect(), misfits })
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

struct Decoder<'r> {
    rules: Rules<'r>,
    /// One for each column that was asked for.
    builders: Vec<Option<ColumnBuilder>>,
}

impl Decoder<'_> {
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
            let is_appended = self.builders[position].as_mut().is_some_and(|builder| builder.append(row, value));
            if !is_appended {
                match self.rules.column(position, value) {
                    Ok(()) => homeless.name = homeless.name.or(Some(name)),
                    Err(fault) => return Err(Unfit::Field(name, fault)),
                }
            }
        }
        homeless.name.map_or(Ok(()), |name| Err(Unfit::NoColumn(name)))
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
    Json(StringBuilder),
}

/// A guess at the length of a text, for the first allocation. Unit: bytes.
const TEXT_BYTES_GUESS: usize = 16;

impl ColumnBuilder {
    fn new(column_type: ColumnType, rows: usize) -> Self {
        let texts = || StringBuilder::with_capacity(rows, rows * TEXT_BYTES_GUESS);
        match column_type {
            ColumnType::Bigint => Self::Bigint(Int64Builder::with_capacity(rows)),
            ColumnType::Double => Self::Double(Float64Builder::with_capacity(rows)),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Varchar => Self::Varchar(texts()),
            ColumnType::Json => Self::Json(texts()),
        }
    }

    /// Sets the value of `row`, which is behind every row that was set before; false when it does not fit.
    #[inline]
    fn append(&mut self, row: usize, value: Value<'_>) -> bool {
        self.fill_to(row);
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
            (Self::Bigint(_) | Self::Double(_) | Self::Boolean(_), _) => return false,
        }
        true
    }

    /// Nulls up to `row`, exclusive.
    #[inline]
    fn fill_to(&mut self, row: usize) {
        use arrow_array::builder::ArrayBuilder as _;
        match self {
            Self::Bigint(builder) if builder.len() < row => builder.append_nulls(row - builder.len()),
            Self::Double(builder) if builder.len() < row => builder.append_nulls(row - builder.len()),
            Self::Boolean(builder) if builder.len() < row => builder.append_nulls(row - builder.len()),
            Self::Varchar(texts) | Self::Json(texts) if texts.len() < row => {
                texts.append_nulls(row - texts.len());
            }
            Self::Bigint(_) | Self::Double(_) | Self::Boolean(_) | Self::Varchar(_) | Self::Json(_) => {}
        }
    }

    fn finish(mut self, rows: usize) -> ArrayRef {
        self.fill_to(rows);
        match self {
            Self::Bigint(mut builder) => Arc::new(builder.finish()),
            Self::Double(mut builder) => Arc::new(builder.finish()),
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Varchar(mut texts) | Self::Json(mut texts) => Arc::new(texts.finish()),
        }
    }
}

#[cfg(test)]
mod tests;
