//! The encoder's tables: rows on their way from batches to files.
//!
//! Owns: when a table takes no more rows and another is begun. Upholds I3 (where that is depends on the segment alone, not on
//! what its table has become since) and I12. Does not own: what a row is (`load`), files (`copy`).
//!
//! The database reads vectors of 2,048 rows and writes row groups, and holds each in memory as a whole, more than once. Its
//! bound on a row group's bytes needs several threads or the order of arrival given up. So where rows are long a table
//! takes as many as keep both within [`ROW_GROUP_BYTES_MAX`], and the rest goes to the next table, which becomes files of
//! its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use arrow_select::concat::concat_batches;
use chrono::NaiveDate;
use duckdb::{Appender, Connection};

use crate::decode::arrow_field;
use crate::encode::EncodeJob;
use crate::encode::digest::RowDigest;
use crate::encode::error::EncodeError;
use crate::encode::session::quoted_name;
use crate::limits::{ROW_GROUP_BYTES, ROW_GROUP_BYTES_MAX, ROW_GROUP_ROWS_MAX};
use crate::schema::leaf_count;

/// Rows that the database is handed at once: its own vector.
pub(super) const APPEND_ROWS: usize = 2_048;

/// The same as a count.
const VECTOR_ROWS: u64 = APPEND_ROWS as u64;

/// What is gathered for that at the most: rows can be long, and short batches of a wide table have many arrays. Unit: bytes.
const GATHERED_BYTES_MAX: usize = 8 << 20;

/// Rows that a row group is reckoned to have at the most when a segment is split: by its own bodies and the columns that
/// have a value in it. Those of the table may make row groups shorter ([`row_group_rows`]), and not longer.
pub(super) fn split_rows(job: &EncodeJob) -> u64 {
    rows_of_width(job, leaf_count(&job.contents.observed))
}

/// Rows of a row group: as many as make [`ROW_GROUP_BYTES`], by the segment's own bodies and what every column costs
/// whether it has a value or not. A multiple of the database's vector.
pub(super) fn row_group_rows(job: &EncodeJob) -> u64 {
    rows_of_width(job, job.registered.schema.leaf_count()).min(split_rows(job))
}

fn rows_of_width(job: &EncodeJob, columns: usize) -> u64 {
    let body_bytes = job.contents.body_bytes / job.contents.rows.max(1);
    let row_bytes = body_bytes + 16 * (1 + columns as u64);
    let vectors = ROW_GROUP_BYTES / row_bytes.max(1) / VECTOR_ROWS;
    (vectors * VECTOR_ROWS).clamp(VECTOR_ROWS, ROW_GROUP_ROWS_MAX)
}

/// What the elements of lists take, whether they have a value or not: fields that a struct lacks are nulls. Unit: bytes.
fn bytes_in_lists(array: &ArrayRef) -> u64 {
    const VALUE_BYTES: u64 = 8;
    match array.data_type() {
        DataType::List(element) => {
            let elements = array.as_list::<i32>().values();
            VALUE_BYTES * elements.len() as u64 * leaves(element.data_type()) + bytes_in_lists(elements)
        }
        DataType::Map(entry, _) => {
            let entries = array.as_map().entries();
            let inside: u64 = entries.columns().iter().map(bytes_in_lists).sum();
            VALUE_BYTES * entries.len() as u64 * leaves(entry.data_type()) + inside
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes_in_lists).sum(),
        _ => 0,
    }
}

/// Columns that a file has for a type.
fn leaves(data_type: &DataType) -> u64 {
    match data_type {
        DataType::List(inner) | DataType::Map(inner, _) => leaves(inner.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        _ => 1,
    }
}

/// Some rows of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// How many.
    pub(super) count: u64,
    /// Their digest.
    pub(super) digest: RowDigest,
    /// What they weigh: the length of what is digested of them, and what their lists take. Unit: bytes.
    pub(super) bytes: u64,
}

impl Rows {
    /// Rows of one partition; see [`RowDigest::add`].
    pub(super) fn of(partition_days: i32, field_ids: &[i32], columns: &[ArrayRef]) -> Self {
        let mut rows = Self { count: columns.first().map_or(0, |column| column.len() as u64), ..Self::default() };
        rows.bytes = rows.digest.add(partition_days, field_ids, columns);
        rows.bytes += columns.iter().map(bytes_in_lists).sum::<u64>();
        rows
    }

    /// Rows in which no column has a value.
    pub(super) fn without_columns(partition_days: i32, count: usize) -> Self {
        let mut rows = Self { count: count as u64, ..Self::default() };
        rows.bytes = rows.digest.add_empty(partition_days, count);
        rows
    }

    fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.digest.merge(more.digest);
        self.bytes += more.bytes;
    }
}

/// A table of the database.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name.
    pub(super) name: String,
    /// The rows of each of its files, by the date of their partition.
    pub(super) files: BTreeMap<NaiveDate, Rows>,
}

/// A table that rows are appended to, and after it the next.
pub(super) struct Tables<'a> {
    connection: &'a Connection,
    name: &'static str,
    /// The columns, as CREATE TABLE takes them.
    columns: String,
    /// Tables that were made.
    count: usize,
    open: Table,
    fill: Fill,
    appender: TableAppender<'a>,
}

impl<'a> Tables<'a> {
    /// Makes the first table. Each is called `name` and its number. A row group is reckoned with so many rows.
    pub(super) fn create(
        connection: &'a Connection,
        name: &'static str,
        columns: String,
        row_group_rows: u64,
    ) -> Result<Self, EncodeError> {
        let (open, appender) = create_table(connection, name, 0, &columns)?;
        Ok(Self { connection, name, columns, count: 1, open, fill: Fill::new(row_group_rows), appender })
    }

    /// Appends rows that lie under one date, at most [`APPEND_ROWS`]. Answers the table in front of theirs when that is full.
    pub(super) fn append(
        &mut self,
        date: NaiveDate,
        rows: &Rows,
        columns: Vec<ArrayRef>,
    ) -> Result<Option<Table>, EncodeError> {
        let full = if self.fill.has_room(date, rows) { None } else { Some(self.begin_another()?) };
        self.fill.add(date, rows);
        self.open.files.entry(date).or_default().add(rows);
        self.appender.append(columns)?;
        Ok(full)
    }

    fn begin_another(&mut self) -> Result<Table, EncodeError> {
        self.appender.finish()?;
        let (open, appender) = create_table(self.connection, self.name, self.count, &self.columns)?;
        (self.count, self.fill, self.appender) = (self.count + 1, Fill::new(self.fill.row_group_rows), appender);
        Ok(std::mem::replace(&mut self.open, open))
    }

    /// Hands everything over, and answers the last table.
    pub(super) fn finish(mut self) -> Result<Table, EncodeError> {
        self.appender.finish()?;
        Ok(self.open)
    }
}

fn create_table<'a>(
    connection: &'a Connection,
    name: &str,
    number: usize,
    columns: &str,
) -> Result<(Table, TableAppender<'a>), EncodeError> {
    let name = format!("{name}{number}");
    let statement = format!("CREATE OR REPLACE TEMP TABLE {} ({columns})", quoted_name(&name));
    connection.execute_batch(&statement).map_err(EncodeError::Load)?;
    let appender = TableAppender::open(connection, &name)?;
    Ok((Table { name, files: BTreeMap::new() }, appender))
}

/// What a table holds that the database will have in memory at one time. It writes a row group when it has read a vector
/// and has enough rows of the file then, however many more these are.
#[derive(Debug)]
struct Fill {
    row_group_rows: u64,
    /// The vector that is being filled.
    vector: Stretch,
    /// The row group of each file that is being filled.
    row_groups: BTreeMap<NaiveDate, Stretch>,
}

/// Rows in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    rows: u64,
    bytes: u64,
}

impl Stretch {
    fn has_room(&self, bytes: u64, bytes_max: u64) -> bool {
        self.rows == 0 || self.bytes + bytes <= bytes_max
    }

    fn add(&mut self, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes += bytes;
    }
}

impl Fill {
    fn new(row_group_rows: u64) -> Self {
        Self { row_group_rows, vector: Stretch::default(), row_groups: BTreeMap::new() }
    }

    /// How many of `rows` come into the vector that is being filled, and what they weigh, as if each weighed the same.
    fn share(&self, rows: &Rows) -> (u64, u64) {
        let count = rows.count.min(VECTOR_ROWS - self.vector.rows);
        (count, rows.bytes * count / rows.count.max(1))
    }

    /// Whether `rows` can be taken in. What is empty takes any.
    fn has_room(&self, date: NaiveDate, rows: &Rows) -> bool {
        let (count, bytes) = self.share(rows);
        let row_group = self.row_groups.get(&date).copied().unwrap_or_default();
        // What lies behind the vector is in the same row group if that is not written by then.
        let is_written = row_group.rows + count >= self.row_group_rows;
        let in_row_group = if is_written { bytes } else { rows.bytes };
        self.vector.has_room(bytes, ROW_GROUP_BYTES_MAX) && row_group.has_room(in_row_group, self.row_group_bytes_max())
    }

    /// What a row group may weigh. Where it has more than a vector it can be written shorter than it is reckoned here, with
    /// the end of one that is reckoned and the start of the next.
    fn row_group_bytes_max(&self) -> u64 {
        if self.row_group_rows == VECTOR_ROWS { ROW_GROUP_BYTES_MAX } else { ROW_GROUP_BYTES_MAX / 2 }
    }

    fn add(&mut self, date: NaiveDate, rows: &Rows) {
        let (count, bytes) = self.share(rows);
        self.vector.add(count, bytes);
        self.row_groups.entry(date).or_default().add(count, bytes);
        if self.vector.rows == VECTOR_ROWS {
            self.vector = Stretch::default();
            self.row_groups.retain(|_, row_group| row_group.rows < self.row_group_rows);
            let rest = Rows { count: rows.count - count, bytes: rows.bytes - bytes, ..*rows };
            if rest.count > 0 {
                self.add(date, &rest);
            }
        }
    }
}

/// Rows on their way to a table. Those of small batches are put together first: the database takes
/// [`APPEND_ROWS`] at the price of one.
struct TableAppender<'a> {
    appender: Appender<'a>,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    /// Unit: bytes.
    gathered_bytes: usize,
}

impl<'a> TableAppender<'a> {
    fn open(connection: &'a Connection, table: &str) -> Result<Self, EncodeError> {
        let appender = connection.appender(table).map_err(EncodeError::Load)?;
        Ok(Self { appender, gathered: Vec::new(), gathered_rows: 0, gathered_bytes: 0 })
    }

    fn append(&mut self, columns: Vec<ArrayRef>) -> Result<(), EncodeError> {
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(place, column)| arrow_field(&place.to_string(), column.data_type().clone()))
            .collect();
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).map_err(EncodeError::Arrow)?;
        self.gathered_rows += batch.num_rows();
        self.gathered_bytes += batch.get_array_memory_size();
        self.gathered.push(batch);
        let is_enough = self.gathered_rows >= APPEND_ROWS || self.gathered_bytes >= GATHERED_BYTES_MAX;
        if is_enough { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), EncodeError> {
        let Some(first) = self.gathered.first() else { return Ok(()) };
        let batch = concat_batches(&first.schema(), &self.gathered).map_err(EncodeError::Arrow)?;
        self.gathered.clear();
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        self.appender.append_record_batch(batch).map_err(EncodeError::Load)
    }

    fn finish(&mut self) -> Result<(), EncodeError> {
        self.hand_over()?;
        self.appender.flush().map_err(EncodeError::Load)
    }
}

#[cfg(test)]
mod tests;
