//! Bodies that come as columns: Arrow's IPC stream, a Parquet file.
//!
//! Owns: one batch of a body within bounds, whatever is in it; its columns as a table has them; each record as the JSON object
//! that it stands for. Does not own: how a body is written (`stream`, `parquet`), its types (`types`), the physical form of a
//! column (`normal`), the text of a record (`render`), which record fits (`schema`), where its values go (`columns`).
//!
//! A body of columns means the records that its rows are as JSON, with the types of its columns for those that are new. Where
//! every value has the type of its column the arrays go to the lake as they are; else the records are judged, and stored, by
//! way of their texts, as if they had come so.

mod measure;
mod normal;
mod parquet;
mod quiet;
mod render;
mod stream;
mod types;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, Field, Schema as ArrowSchema};
use arrow_select::concat::concat_batches;

use super::error::{DecodeError, Violation, pointer_segment};
use super::scan::ScanLimits;
use crate::limits::COLUMNS_MAX;
use crate::schema::{Column, ColumnType, leaf_count};
use normal::Normal;
use quiet::without_panic;
use render::Text;

/// A body of columns, of which every byte has been checked; it has at least one record.
#[derive(Debug)]
pub struct Columnar {
    rows: usize,
    /// The columns with a value, as a table would have them.
    columns: Vec<Column>,
    /// The values of each.
    values: Vec<Normal>,
    /// What all records weigh. Unit: bytes.
    bytes: usize,
    /// What the values of a record weigh that have a structure, on average. Unit: bytes.
    nested_bytes: usize,
    /// More than the text of any record has. Unit: bytes.
    text_bytes_max: usize,
    /// Values that the lists of all records are stored as.
    list_cells: usize,
}

impl Columnar {
    /// Number of records; at least 1.
    pub fn record_count(&self) -> usize {
        self.rows
    }

    /// The columns that have a value in a record. Their names may be ones that no table can have.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The values of the column at `position`, if each of them is of its type.
    pub fn array(&self, position: usize) -> Option<&ArrayRef> {
        let values = &self.values[position];
        values.is_whole().then_some(&values.array)
    }

    /// What all records weigh. Unit: bytes.
    pub fn all_bytes(&self) -> usize {
        self.bytes
    }

    /// What the record at `index` weighs. Unit: bytes.
    pub fn record_bytes(&self, index: usize) -> usize {
        self.nested_bytes + self.values.iter().map(|values| values.bytes_of(index)).sum::<usize>()
    }

    /// More than the text of any record has. Unit: bytes.
    pub fn record_text_bytes_max(&self) -> usize {
        self.text_bytes_max
    }

    /// Values that the lists of all records are stored as.
    pub fn all_list_cells(&self) -> usize {
        self.list_cells
    }

    /// Values that the lists of the record at `index` are stored as.
    pub fn list_cells(&self, index: usize) -> usize {
        cells_of(&self.columns, &self.values, index..index + 1)
    }

    /// The record at `index` as a JSON object; what is null is not there.
    pub fn record_text(&self, index: usize) -> Cow<'_, str> {
        Cow::Owned(self.render(index, usize::MAX).unwrap_or_default())
    }

    /// The first records in `range` as lines of JSON: at least one, and no more once these have `bytes_max`.
    ///
    /// # Errors
    /// A record has more than `record_bytes_max`: its index.
    pub fn lines(&self, range: Range<usize>, bytes_max: usize, record_bytes_max: usize) -> Result<Lines, usize> {
        let mut lines = Lines { text: String::new(), range: range.start..range.start, strays: Vec::new() };
        for index in range {
            if lines.text.len() >= bytes_max {
                break;
            }
            lines.text.push_str(&self.render(index, record_bytes_max).ok_or(index)?);
            lines.text.push('\n');
            let mut columns = self.columns.iter().zip(&self.values);
            if let Some((column, _)) = columns.find(|(_, values)| values.is_stray(index)) {
                lines.strays.push((lines.range.len(), column.name.clone()));
            }
            lines.range.end = index + 1;
        }
        Ok(lines)
    }

    /// None if it has more than `bytes_max`.
    fn render(&self, index: usize, bytes_max: usize) -> Option<String> {
        let mut text = Text::new(bytes_max);
        text.push('{');
        let mut is_first = true;
        for (column, values) in self.columns.iter().zip(&self.values) {
            if values.has_value(index) {
                if !std::mem::take(&mut is_first) {
                    text.push(',');
                }
                render::name(&column.name, &mut text);
                values.render(&column.column_type, index, &mut text);
            }
        }
        text.push('}');
        text.finish()
    }
}

/// Records of a body of columns as lines of JSON.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// The lines.
    pub text: String,
    /// Which records they are.
    pub range: Range<usize>,
    /// Those, counted from the first line, with a value that is none of its column's type, which is shown as a text: and the
    /// column. Another column could take the text.
    pub strays: Vec<(usize, String)>,
}

/// What a body of columns is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Arrow's IPC stream.
    Stream,
    /// A Parquet file.
    Parquet,
}

impl Source {
    /// Reads a body.
    ///
    /// # Errors
    /// `Malformed` when the bytes are none, `Illegal` when a column has a type that no table can have, or there is too much of
    /// something, `TooLong` when it becomes too long.
    pub(super) fn read(self, body: &[u8], limits: &ScanLimits) -> Result<Columnar, DecodeError> {
        // The readers check much of what they read and take the rest for true: types that there are none of, buffers that are
        // elsewhere. Then they panic.
        let read = without_panic(|| {
            let batches = match self {
                Self::Stream => stream::read_batches(body, limits)?,
                Self::Parquet => parquet::read_batches(body, limits)?,
            };
            let (batch, types) = self.together(batches, limits)?;
            columnar_of(&batch, types)
        });
        read.unwrap_or_else(|| Err(self.malformed("its types or its values are not what it says")))
    }

    /// All batches as one, with the types of its columns.
    fn together(
        self,
        batches: Vec<RecordBatch>,
        limits: &ScanLimits,
    ) -> Result<(RecordBatch, Vec<Option<ColumnType>>), DecodeError> {
        let Some(first) = batches.first() else {
            return Err(illegal(Violation::new("", "no-records", "the body has no records")));
        };
        let types = types_of(&first.schema())?;
        // Before anything is put together: what refers to one value many times becomes as long as it says.
        let sum = |of: &dyn Fn(&ArrayRef) -> usize| {
            batches.iter().flat_map(RecordBatch::columns).map(of).fold(0, usize::saturating_add)
        };
        if sum(&|column| measure::values(column)) > limits.values_max {
            return Err(too_many_values(limits));
        }
        if sum(&|column| measure::expanded_bytes(column)) > limits.column_bytes_max {
            return Err(too_many_bytes(limits));
        }
        let batch = match batches.as_slice() {
            [batch] => batch.clone(),
            batches => concat_batches(&first.schema(), batches).map_err(|error| self.malformed(words_of(&error)))?,
        };
        Ok((batch, types))
    }

    fn malformed(self, detail: &str) -> DecodeError {
        let (name, code) = match self {
            Self::Stream => ("Arrow IPC stream", "arrow-stream"),
            Self::Parquet => ("Parquet file that can be read", "parquet-file"),
        };
        let detail = format!("the body is no {name}: {detail}");
        DecodeError::Malformed(Violation::new("", code, detail).into())
    }
}

/// The columns that a table has for those of a batch.
///
/// # Errors
/// `Illegal` when no table can have one, `Malformed` when one is there twice.
pub(crate) fn columns_of(schema: &ArrowSchema) -> Result<Vec<Column>, DecodeError> {
    let columns = schema.fields().iter().zip(types_of(schema)?);
    Ok(columns.map(|(field, of_type)| Column::new(field.name(), of_type.unwrap_or(ColumnType::Json))).collect())
}

impl Columnar {
    /// The rows of a batch as a body of columns; there is at least one.
    ///
    /// # Errors
    /// As [`columns_of`].
    pub(crate) fn of(batch: &RecordBatch) -> Result<Self, DecodeError> {
        columnar_of(batch, types_of(&batch.schema())?)
    }

    /// What a batch takes once each value stands for itself. Unit: bytes.
    pub(crate) fn bytes_of(batch: &RecordBatch) -> usize {
        batch.columns().iter().map(|column| measure::expanded_bytes(column)).fold(0, usize::saturating_add)
    }
}

fn too_many_values(limits: &ScanLimits) -> DecodeError {
    let detail = format!("more than {} values in one body", limits.values_max);
    illegal(Violation::new("", "too-many-values", detail))
}

fn too_many_bytes(limits: &ScanLimits) -> DecodeError {
    let bytes_max = limits.column_bytes_max;
    let detail = format!("the columns have more than {bytes_max} bytes; send fewer records in one request");
    DecodeError::TooLong(Violation::new("", "body-too-large", detail).into())
}

fn too_many_columns(columns: usize) -> DecodeError {
    let detail = format!("the body has {columns} columns; a table has at most {COLUMNS_MAX}");
    illegal(Violation::new("", "too-many-columns", detail))
}

/// The types of columns; none of one that can hold nothing but nulls.
fn types_of(schema: &ArrowSchema) -> Result<Vec<Option<ColumnType>>, DecodeError> {
    if schema.fields().len() > COLUMNS_MAX {
        return Err(too_many_columns(schema.fields().len()));
    }
    let mut names: HashSet<String> = HashSet::new();
    let type_of = |field: &Arc<Field>| {
        if !names.insert(field.name().clone()) {
            let violation = Violation::new(pointer_to(field), "duplicate-key", "the column is there twice");
            return Err(DecodeError::Malformed(violation.into()));
        }
        types::type_of(field, 0).map_err(|refusal| {
            let detail = format!("no table can have a column of this type: {refusal}");
            illegal(Violation::new(pointer_to(field), "column-type", detail))
        })
    };
    schema.fields().iter().map(type_of).collect()
}

fn pointer_to(field: &Field) -> String {
    format!("/{}", pointer_segment(field.name()))
}

/// The columns of a batch as a table has them.
fn columnar_of(batch: &RecordBatch, types: Vec<Option<ColumnType>>) -> Result<Columnar, DecodeError> {
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for ((field, array), own_type) in batch.schema().fields().iter().zip(batch.columns()).zip(types) {
        let Some(own_type) = own_type else { continue };
        let normal = Normal::of(array, &own_type).map_err(|error| {
            DecodeError::Malformed(Violation::new(pointer_to(field), "column-values", words_of(&error)).into())
        })?;
        if (0..batch.num_rows()).any(|index| normal.has_value(index)) {
            columns.push(Column::new(field.name().clone(), own_type));
            values.push(normal);
        }
    }
    if leaf_count(&columns) > COLUMNS_MAX {
        let detail = format!("the body has more than {COLUMNS_MAX} columns, fields of structs included");
        return Err(illegal(Violation::new("", "too-many-columns", detail)));
    }
    let rows = batch.num_rows();
    let bytes = values.iter().map(|values| measure::expanded_bytes(&values.array)).sum();
    let nested = columns.iter().zip(&values).filter(|(column, _)| column.column_type.is_nested());
    let nested_bytes = nested.map(|(_, values)| measure::expanded_bytes(&values.array)).sum::<usize>() / rows;
    let text = |(column, values): (&Column, &Normal)| {
        column.name.len() + measure::text_bytes_max(&column.column_type, &values.array)
    };
    let text_bytes_max = columns.iter().zip(&values).map(text).fold(0, usize::saturating_add);
    let list_cells = cells_of(&columns, &values, 0..rows);
    Ok(Columnar { rows, columns, values, bytes, nested_bytes, text_bytes_max, list_cells })
}

fn cells_of(columns: &[Column], values: &[Normal], rows: Range<usize>) -> usize {
    let lists = columns.iter().zip(values).filter(|(column, _)| column.column_type.has_list());
    lists.map(|(column, values)| measure::list_cells(&column.column_type, &values.array, rows.clone())).sum()
}

/// What kind of fault a reader has found. What it says of it can hold names, keys and values of what was sent.
fn words_of(error: &ArrowError) -> &'static str {
    match error {
        ArrowError::ParseError(_) | ArrowError::IpcError(_) | ArrowError::IoError(_, _) => {
            "a message of it is none, or is not whole"
        }
        ArrowError::SchemaError(_) => "its schema is none",
        _ => "its values or buffers are not what its schema says",
    }
}

fn illegal(violation: Violation) -> DecodeError {
    DecodeError::Illegal(violation.into())
}

#[cfg(test)]
mod tests;
