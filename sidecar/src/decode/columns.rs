//! From scanned records to Arrow columns.
//!
//! Owns: the physical form of each column type in memory.
//! Does not own: which rows a table takes (`schema::fit`).
//!
//! | column type | Arrow type |
//! |---|---|
//! | bigint | Int64 |
//! | double | Float64 |
//! | boolean | Boolean |
//! | varchar | Utf8, escapes resolved |
//! | json | Utf8, the value's text exactly as received |

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};

use super::envelope::Scanned;
use super::error::{DecodeError, Violation};
use super::number::{parse_double, parse_integer};
use super::tape::{NodeKind, Value};
use crate::schema::{ColumnType, PARTITION_COLUMNS, Schema};

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

/// The records of a body as columns.
#[derive(Clone, Debug)]
pub struct DecodedBatch {
    /// Records of the body, in their order there.
    pub rows: usize,

    /// The columns that were asked for, in the schema's order.
    pub columns: Vec<DecodedColumn>,
}

/// Decodes the columns of `schema` for which `present` is true; missing and null values become null.
/// Keys of the partition are skipped: their values are the partition's own.
///
/// # Errors
/// `Illegal` when a value other than null does not fit its column or has none that was asked for.
/// No body that [`crate::schema::observe()`] has accepted under the same schema gives one.
///
/// # Panics
/// When `present` is not as long as the schema.
pub fn decode_columns(scanned: &Scanned<'_>, schema: &Schema, present: &[bool]) -> Result<DecodedBatch, DecodeError> {
    assert_eq!(present.len(), schema.len(), "there is one present flag for each column of the schema");
    let rows = scanned.record_count();
    let mut builders: Vec<Option<ColumnBuilder>> = schema
        .columns()
        .iter()
        .zip(present)
        .map(|(column, is_present)| is_present.then(|| ColumnBuilder::new(column.column_type, rows)))
        .collect();
    for row in 0..rows {
        let mut next_position = 0;
        for (name, value) in scanned.record(row).members() {
            let position = schema.position_near(&name, next_position);
            next_position = position.map_or(next_position, |position| position + 1);
            if value.is_null() {
                continue;
            }
            match position.and_then(|position| builders[position].as_mut()) {
                Some(builder) => {
                    builder.append(row, value).map_err(|code| unfit(scanned, row, &name, code))?;
                }
                None if PARTITION_COLUMNS.contains(&&*name) => {}
                None => return Err(unfit(scanned, row, &name, "column-unknown")),
            }
        }
    }
    let columns = schema.columns().iter().zip(builders).filter_map(|(column, builder)| {
        let array = builder?.finish(rows);
        Some(DecodedColumn { name: column.name.clone(), column_type: column.column_type, array })
    });
    Ok(DecodedBatch { rows, columns: columns.collect() })
}

#[cold]
fn unfit(scanned: &Scanned<'_>, row: usize, name: &str, code: &'static str) -> DecodeError {
    let detail = "the value does not fit the schema that the body is decoded with";
    let violation = Violation::new(scanned.pointer(row, name), code, detail).of_record(row);
    DecodeError::Illegal(violation.into())
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

    /// Sets the value of `row`, which is behind every row that was set before; the error is a violation's code.
    #[inline]
    fn append(&mut self, row: usize, value: Value<'_>) -> Result<(), &'static str> {
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
                None => return Err("type-mismatch"),
            },
            (Self::Bigint(_) | Self::Double(_) | Self::Boolean(_), _) => return Err("type-mismatch"),
        }
        Ok(())
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
