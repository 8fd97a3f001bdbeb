//! A Parquet file.
//!
//! Owns: its rows as batches, once all that it claims is known to be within bounds. Does not own: what its footer says
//! (`footer`), its pages (`pages`), what the batches may hold (`super`).
//!
//! The library takes a file's word for how much there is: how deep its schema is, how long a page becomes, how many values a
//! dictionary has. So the file is walked first, without a value being made, and its pages are expanded here, each to exactly the
//! length that was counted. Texts and bytes are read as views of their pages, since a dictionary can stand for more than a
//! machine has.
//!
//! Source: <https://parquet.apache.org/docs/file-format/>.

mod expand;
mod footer;
mod pages;
mod thrift;

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema};
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::Source;
use crate::decode::error::DecodeError;
use crate::decode::scan::ScanLimits;
use pages::Pages;

/// The rows of a file.
pub(super) fn read_batches(body: &[u8], limits: &ScanLimits) -> Result<Vec<RecordBatch>, DecodeError> {
    let file = File { bytes: Bytes::copy_from_slice(body), metadata: footer::read(body, limits)? };
    let rows = pages::check(&file, limits)?;
    let descriptor = file.metadata.file_metadata().schema_descr();
    // What a writer says of its own types is not asked: they are read in the form that their columns have.
    let own = parquet_to_arrow_schema(descriptor, None).map_err(|error| of_reader(&error))?;
    let views: Fields = own.fields().iter().map(as_views).collect();
    let levels = parquet_to_arrow_field_levels(descriptor, ProjectionMask::all(), Some(&views));
    let levels = levels.map_err(|error| of_reader(&error))?;
    let reader = ParquetRecordBatchReader::try_new_with_row_groups(&levels, &file, rows.max(1), None)
        .map_err(|error| of_reader(&error))?;
    if *reader.schema().fields() != views {
        return Err(Source::Parquet.malformed("its schema has a structure that is none of its format"));
    }
    let mut batches = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| Source::Parquet.malformed(own_words(&error)))?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    match batches.iter().map(RecordBatch::num_rows).sum::<usize>() {
        found if found == rows => Ok(batches),
        found => Err(Source::Parquet.malformed(&format!("its footer says {rows} rows, its pages have {found}"))),
    }
}

/// A column whose texts and bytes are views.
fn as_views(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(element) => DataType::List(as_views(element)),
        DataType::LargeList(element) => DataType::LargeList(as_views(element)),
        DataType::Map(entries, sorted) => DataType::Map(as_views(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(as_views).collect()),
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

fn of_reader(error: &ParquetError) -> DecodeError {
    Source::Parquet.malformed(own_words(error))
}

/// What is wrong with a file, in words of ours: those of the library can hold what is in the file.
fn own_words(error: &impl ToString) -> &'static str {
    let said = error.to_string();
    let own = pages::FAULTS.iter().find(|fault| said.contains(**fault));
    own.copied().unwrap_or("its schema, or the values of a page, are not what its footer says")
}

/// A file in memory, whose pages are read by `pages`.
struct File {
    bytes: Bytes,
    metadata: ParquetMetaData,
}

impl RowGroups for File {
    fn num_rows(&self) -> usize {
        let rows = self.metadata.row_groups().iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0));
        rows.fold(0, usize::saturating_add)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        let chunks = self.metadata.row_groups().iter().map(|group| Pages::of(&self.bytes, group.column(column)));
        let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(Chunks(chunks.into_iter())))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The parts of a column in the row groups, one after the other.
struct Chunks(std::vec::IntoIter<Pages>);

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|pages| Ok(Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for Chunks {}

#[cfg(test)]
mod tests;
