//! The encoder's tables: rows on their way from batches to files.
//!
//! Owns: when a table takes no more rows and another is begun. Upholds I3 (where that is depends on the segment's rows and
//! their schema alone) and I12. Does not own: what a row is (`load`), files (`copy`).
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

use crate::encode::EncodeJob;
use crate::encode::digest::RowDigest;
use crate::encode::error::EncodeError;
use crate::encode::session::quoted_name;
use crate::limits::{ROW_GROUP_BYTES, ROW_GROUP_BYTES_MAX, ROW_GROUP_ROWS_MAX};

/// Rows that the database is handed at once: its own vector.
pub(super) const APPEND_ROWS: usize = 2_048;

/// The same as a count.
const VECTOR_ROWS: u64 = APPEND_ROWS as u64;

/// What is gathered for that at the most: rows can be long, and short batches of a wide table have many arrays. Unit: bytes.
const GATHERED_BYTES_MAX: usize = 8 << 20;

/// Rows of a row group: as many as make [`ROW_GROUP_BYTES`], by the segment's own bodies and what every column costs
/// whether it has a value or not. A multiple of the database's vector.
pub(super) fn row_group_rows(job: &EncodeJob) -> u64 {
    let body_bytes = job.contents.body_bytes / job.contents.rows.max(1);
    let row_bytes = body_bytes + 16 * (1 + job.registered.schema.len() as u64);
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
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes_in_lists).sum(),
        _ => 0,
    }
}

/// Columns that a file has for a type.
fn leaves(data_type: &DataType) -> u64 {
    match data_type {
        DataType::List(element) => leaves(element.data_type()),
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

/// A table that rows are appended to, and those in front of it that are full.
pub(super) struct Tables<'a> {
    connection: &'a Connection,
    name: &'static str,
    /// The columns, as CREATE TABLE takes them.
    columns: String,
    row_group_rows: u64,
    full: Vec<Table>,
    open: Table,
    fill: Fill,
    appender: TableAppender<'a>,
}

impl<'a> Tables<'a> {
    /// Makes the first table. Each is called `name` and its number.
    pub(super) fn create(
        connection: &'a Connection,
        name: &'static str,
        columns: String,
        row_group_rows: u64,
    ) -> Result<Self, EncodeError> {
        let (open, appender) = create_table(connection, name, 0, &columns)?;
        let fill = Fill::default();
        Ok(Self { connection, name, columns, row_group_rows, full: Vec::new(), open, fill, appender })
    }

    /// Appends rows that lie under one date, at most [`APPEND_ROWS`].
    pub(super) fn append(&mut self, date: NaiveDate, rows: &Rows, columns: Vec<ArrayRef>) -> Result<(), EncodeError> {
        if !self.fill.has_room(date, rows, self.row_group_rows) {
            let (open, appender) = create_table(self.connection, self.name, self.full.len() + 1, &self.columns)?;
            self.full.push(std::mem::replace(&mut self.open, open));
            self.fill = Fill::default();
            std::mem::replace(&mut self.appender, appender).finish()?;
        }
        self.fill.add(date, rows, self.row_group_rows);
        self.open.files.entry(date).or_default().add(rows);
        self.appender.append(columns)
    }

    /// Hands everything over, and answers the tables that have rows.
    pub(super) fn finish(mut self) -> Result<Vec<Table>, EncodeError> {
        self.appender.finish()?;
        self.full.push(self.open);
        self.full.retain(|table| !table.files.is_empty());
        Ok(self.full)
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

/// Takes tables away.
pub(super) fn drop_tables(connection: &Connection, tables: &[Table]) -> Result<(), EncodeError> {
    let statements = tables.iter().map(|table| format!("DROP TABLE {};", quoted_name(&table.name)));
    connection.execute_batch(&statements.collect::<String>()).map_err(EncodeError::Load)
}

/// What a table holds that the database will have in memory at one time.
#[derive(Debug, Default)]
struct Fill {
    /// The vector that is being filled.
    vector: Stretch,
    /// The row group of each file that is being filled.
    row_groups: BTreeMap<NaiveDate, Stretch>,
}

impl Fill {
    /// Whether `rows` can be taken in. What is empty takes any.
    fn has_room(&self, date: NaiveDate, rows: &Rows, row_group_rows: u64) -> bool {
        let row_group = self.row_groups.get(&date);
        self.vector.has_room(rows, VECTOR_ROWS) && row_group.is_none_or(|group| group.has_room(rows, row_group_rows))
    }

    fn add(&mut self, date: NaiveDate, rows: &Rows, row_group_rows: u64) {
        self.vector.add(rows, VECTOR_ROWS);
        self.row_groups.entry(date).or_default().add(rows, row_group_rows);
    }
}

/// A stretch of rows in a table: it begins anew when it has so many of them.
#[derive(Debug, Default)]
struct Stretch {
    rows: u64,
    bytes: u64,
}

impl Stretch {
    fn has_room(&self, rows: &Rows, span: u64) -> bool {
        let here = rows.count.min(span - self.rows);
        self.bytes == 0 || self.bytes + share(rows, here) <= ROW_GROUP_BYTES_MAX
    }

    fn add(&mut self, rows: &Rows, span: u64) {
        let after = self.rows + rows.count;
        let fresh = after % span;
        self.bytes = if after < span { self.bytes + rows.bytes } else { share(rows, fresh) };
        self.rows = fresh;
    }
}

/// What `count` of `rows` weigh, as if each weighed the same. Unit: bytes.
fn share(rows: &Rows, count: u64) -> u64 {
    rows.bytes * count / rows.count.max(1)
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
            .map(|(place, column)| Field::new(place.to_string(), column.data_type().clone(), true))
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
