//! The encoder's tables into Parquet files.
//!
//! Owns: the COPY statement, the order of rows, field ids, the file's own words about itself, its digest.
//! Does not own: where the file goes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;

use chrono::Datelike;
use duckdb::Connection;
use duckdb::types::Value;
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::encode::EncodeJob;
use crate::encode::error::EncodeError;
use crate::encode::load::{DAY_COLUMN, QUARANTINE_COLUMNS, sql_type};
use crate::encode::session::{Scratch, quoted, quoted_name};
use crate::encode::tables::{Table, row_group_rows};
use crate::journal::batch::days_since_1970;
use crate::journal::control::{FileRole, PlannedFile};
use crate::journal::hex;
use crate::lake::description::ColumnStatistics;
use crate::schema::field_ids::{DAY_FIELD_ID, FieldId, MAP_KEY, MONTH_FIELD_ID, YEAR_FIELD_ID};
use crate::schema::{Column, ColumnType};

/// A file that lies on the scratch volume, synced.
#[derive(Clone, Debug)]
pub struct EncodedFile {
    /// What it is and where it goes.
    pub planned: PlannedFile,
    /// Statistics of its columns.
    pub columns: Vec<ColumnStatistics>,
}

/// Longest minimum or maximum that a description repeats. Unit: bytes.
const STATISTIC_BYTES_MAX: usize = 128;

/// A column of a file: its name, its SQL expression, its type, its field ids.
struct FileColumn {
    name: String,
    expression: String,
    column_type: FileType,
    field_id: FieldId,
}

/// The type of a column of a file.
enum FileType {
    /// A type of SQL without a structure.
    Sql(&'static str),
    /// A table's own.
    Own(ColumnType),
}

/// A column of a file as Parquet has it: a value without a structure.
struct Leaf {
    /// The names from the outside in.
    path: Vec<String>,
    field_id: i32,
    sql: Cow<'static, str>,
}

impl FileColumn {
    /// What Parquet has for it.
    fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        match &self.column_type {
            FileType::Sql(sql) => {
                let (path, field_id) = (vec![self.name.clone()], self.field_id.id);
                leaves.push(Leaf { path, field_id, sql: (*sql).into() });
            }
            FileType::Own(column_type) => add_leaves(&mut leaves, &[], &self.name, column_type, &self.field_id),
        }
        leaves
    }

    /// Its field ids, as COPY takes them.
    fn field_ids(&self) -> String {
        match &self.column_type {
            FileType::Sql(_) => format!("{}: {}", quoted(&self.name), self.field_id.id),
            FileType::Own(column_type) => field_ids_of(&self.name, column_type, &self.field_id),
        }
    }

    /// A column that is not a table's own.
    fn plain(name: &str, expression: String, sql: &'static str, id: i32) -> Self {
        let field_id = FieldId { id, inside: Vec::new() };
        Self { name: name.to_owned(), expression, column_type: FileType::Sql(sql), field_id }
    }
}

/// Name of a list's element in a file.
const ELEMENT: &str = "element";

/// Names of a map's key and value in a file.
const ENTRY: [&str; 2] = ["key", "value"];

/// What is right inside of a type: names, types and field ids.
fn inside<'t>(column_type: &'t ColumnType, field_id: &'t FieldId) -> Vec<(&'t str, &'t ColumnType, &'t FieldId)> {
    match column_type {
        ColumnType::Struct(fields) => {
            let fields = fields.columns().iter().zip(&field_id.inside);
            fields.map(|(Column { name, column_type }, id)| (name.as_str(), column_type, id)).collect()
        }
        ColumnType::List(element) => field_id.inside.iter().map(|id| (ELEMENT, &**element, id)).collect(),
        ColumnType::Map(value) => {
            let entry = ENTRY.into_iter().zip([&MAP_KEY, &**value]).zip(&field_id.inside);
            entry.map(|((name, column_type), id)| (name, column_type, id)).collect()
        }
        _ => Vec::new(),
    }
}

fn add_leaves(leaves: &mut Vec<Leaf>, path: &[String], name: &str, column_type: &ColumnType, field_id: &FieldId) {
    let path = [path, &[name.to_owned()]].concat();
    if column_type.is_nested() {
        for (name, column_type, field_id) in inside(column_type, field_id) {
            add_leaves(leaves, &path, name, column_type, field_id);
        }
    } else {
        leaves.push(Leaf { path, field_id: field_id.id, sql: sql_type(column_type) });
    }
}

fn field_ids_of(name: &str, column_type: &ColumnType, field_id: &FieldId) -> String {
    let (name, id) = (quoted(name), field_id.id);
    if !column_type.is_nested() {
        return format!("{name}: {id}");
    }
    let inside = inside(column_type, field_id).into_iter();
    let inside = inside.map(|(name, column_type, field_id)| field_ids_of(name, column_type, field_id));
    format!("{name}: {{__duckdb_field_id: {id}, {}}}", inside.collect::<Vec<_>>().join(", "))
}

/// A file that is about to be written.
struct FileSpec {
    role: FileRole,
    part: u32,
    partition_date: chrono::NaiveDate,
    rows: u64,
    row_digest: String,
    columns: Vec<FileColumn>,
    from: String,
    /// What its rows are ordered by, as ORDER BY takes it; none: as they came.
    order: Option<String>,
}

/// Writes the files of a segment, one table after another, and numbers them.
pub(super) struct FileWriter<'a> {
    connection: &'a Connection,
    scratch: &'a Scratch,
    job: &'a EncodeJob,
    /// Places in the registered schema of the columns that are loaded.
    columns: Vec<usize>,
    files: Vec<EncodedFile>,
}

impl<'a> FileWriter<'a> {
    /// Of the columns of the table these, by their place, have a value.
    pub(super) fn new(
        connection: &'a Connection,
        scratch: &'a Scratch,
        job: &'a EncodeJob,
        columns: Vec<usize>,
    ) -> Self {
        Self { connection, scratch, job, columns, files: Vec::new() }
    }

    /// Writes the files of a table, one for each partition, and takes the table away.
    pub(super) fn write(&mut self, role: FileRole, table: &Table) -> Result<(), EncodeError> {
        let name = quoted_name(&table.name);
        for (date, rows) in &table.files {
            let (columns, from, order) = match role {
                FileRole::Main => {
                    let from = format!("{name} WHERE {} = {}", quoted_name(DAY_COLUMN), days_since_1970(*date));
                    (main_columns(self.job, &self.columns, *date), from, order_of(self.job, &self.columns))
                }
                FileRole::Quarantine => (quarantine_columns(*date), name.clone(), None),
            };
            let spec = FileSpec {
                role,
                part: u32::try_from(self.files.len()).expect("a segment has fewer files than rows"),
                partition_date: *date,
                rows: rows.count,
                row_digest: rows.digest.to_string(),
                columns,
                from,
                order,
            };
            self.files.push(write_file(self.connection, self.scratch, self.job, &spec)?);
        }
        self.connection.execute_batch(&format!("DROP TABLE {name}")).map_err(EncodeError::Load)
    }

    /// The files, which would survive a power cut.
    pub(super) fn finish(self) -> Result<Vec<EncodedFile>, EncodeError> {
        let folder = self.scratch.encoded();
        crate::journal::directory::fsync_directory(&folder)
            .map_err(|source| EncodeError::File { path: folder.clone(), source })?;
        Ok(self.files)
    }
}

/// What the rows of a main file are ordered by. The number of the row comes last, so that the order is total: the same segment
/// gives the same bytes.
fn order_of(job: &EncodeJob, loaded: &[usize]) -> Option<String> {
    let columns = job.registered.schema.columns();
    let is_one = |name: &&String| {
        let mut places = loaded.iter().map(|place| &columns[*place]);
        places.any(|column| column.name == **name && column.column_type.is_orderable())
    };
    let names = job.order_by.iter().filter(is_one).map(|name| format!("{} ASC NULLS LAST", quoted_name(name)));
    let names: Vec<String> = names.collect();
    if names.is_empty() { None } else { Some(format!("{}, rowid", names.join(", "))) }
}

/// Every column of the table, in every file; those that were not loaded are null.
fn main_columns(job: &EncodeJob, loaded: &[usize], date: chrono::NaiveDate) -> Vec<FileColumn> {
    let registered = &job.registered;
    let columns = registered.schema.columns().iter().zip(&registered.field_ids).enumerate();
    let own = columns.map(|(place, (column, field_id))| FileColumn {
        name: column.name.clone(),
        expression: match loaded.contains(&place) {
            true => quoted_name(&column.name),
            false => format!("NULL::{}", sql_type(&column.column_type)),
        },
        column_type: FileType::Own(column.column_type.clone()),
        field_id: field_id.clone(),
    });
    own.chain(partition_columns(date)).collect()
}

fn quarantine_columns(date: chrono::NaiveDate) -> Vec<FileColumn> {
    let own = QUARANTINE_COLUMNS
        .iter()
        .map(|(name, sql, field_id)| FileColumn::plain(name, quoted_name(name), sql, *field_id));
    own.chain(partition_columns(date)).collect()
}

/// The partition's columns, in the file as in its path: a table's format wants every column in the file, and every
/// reader accepts both while they agree.
fn partition_columns(date: chrono::NaiveDate) -> impl Iterator<Item = FileColumn> {
    let parts = [
        ("year", i64::from(date.year()), YEAR_FIELD_ID),
        ("month", i64::from(date.month()), MONTH_FIELD_ID),
        ("day", i64::from(date.day()), DAY_FIELD_ID),
    ];
    let column = |(name, value, field_id)| FileColumn::plain(name, format!("{value}::INTEGER"), "INTEGER", field_id);
    parts.into_iter().map(column)
}

fn write_file(
    connection: &Connection,
    scratch: &Scratch,
    job: &EncodeJob,
    spec: &FileSpec,
) -> Result<EncodedFile, EncodeError> {
    let path = scratch.encoded_file(job.contents.number, spec.part);
    let copy = |order: Option<&str>| {
        let statement = copy_statement(&path, job, spec, order);
        let copied = connection.query_row(&statement, [], |row| Ok((row.get::<_, u64>(1)?, row.get::<_, Value>(4)?)));
        copied.map_err(|source| EncodeError::Copy { path: path.clone(), source })
    };
    // Long rows need more to be ordered than to be written. The order helps who reads; the rows must arrive.
    let (rows, columns) = match copy(spec.order.as_deref()) {
        Err(error) if spec.order.is_some() => {
            warn!(
                error = %crate::error_chain(&error),
                table = job.contents.table,
                "failed to order the rows of a file; it is written in the order in which they came"
            );
            copy(None)?
        }
        copied => copied?,
    };
    if rows != spec.rows {
        return Err(EncodeError::RowCount { segment: job.contents.number, expected: spec.rows, found: rows });
    }
    let (size_bytes, sha256) =
        sync_and_digest(&path).map_err(|source| EncodeError::File { path: path.clone(), source })?;
    let (table, sealed_at) = (&job.contents.table, job.seal.sealed_at);
    let key = job.prefix.data_file(spec.role, table, spec.partition_date, sealed_at, &job.segment, spec.part);
    let planned = PlannedFile {
        key,
        part: spec.part,
        role: spec.role,
        partition_date: spec.partition_date,
        rows,
        size_bytes,
        sha256,
        row_digest: spec.row_digest.clone(),
    };
    Ok(EncodedFile { planned, columns: statistics(spec, &columns) })
}

/// Without an order of the table's own there is no ORDER BY: the tables were filled in the order of arrival by one thread, and
/// one thread reads them with `preserve_insertion_order`, so that order is total already.
fn copy_statement(path: &Path, job: &EncodeJob, spec: &FileSpec, order: Option<&str>) -> String {
    let joined = |texts: Vec<String>| texts.join(", ");
    let columns = spec.columns.iter();
    let select = columns.clone().map(|column| format!("{} AS {}", column.expression, quoted_name(&column.name)));
    let field_ids = columns.map(FileColumn::field_ids);
    let words = file_words(&job.segment.to_string(), spec.part, spec.rows, &spec.row_digest);
    let words = words.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value)));
    format!(
        "COPY (SELECT {} FROM {}{}) TO {} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {}, FIELD_IDS {{{}}}, KV_METADATA {{{}}}{}, RETURN_STATS)",
        joined(select.collect()),
        spec.from,
        order.map_or_else(String::new, |order| format!(" ORDER BY {order}")),
        quoted(&path.to_string_lossy()),
        row_group_rows(job),
        joined(field_ids.collect()),
        joined(words.collect()),
        dictionaries(job),
    )
}

/// What the writer may hold of each column's texts: it keeps a dictionary of them for each, of a mebibyte, until a row group is
/// written. Of many columns these would be more memory than the database has.
fn dictionaries(job: &EncodeJob) -> &'static str {
    match job.registered.schema.leaf_count() > WIDE_COLUMNS {
        true => ", STRING_DICTIONARY_PAGE_SIZE_LIMIT 65536",
        false => "",
    }
}

/// Columns above which dictionaries are short.
const WIDE_COLUMNS: usize = 64;

/// What a file says of itself, in its footer.
fn file_words(segment: &str, part: u32, rows: u64, row_digest: &str) -> [(&'static str, String); 4] {
    [
        ("lakeingest.segment", segment.to_owned()),
        ("lakeingest.part", part.to_string()),
        ("lakeingest.rows", rows.to_string()),
        ("lakeingest.row_digest", row_digest.to_owned()),
    ]
}

/// Whether the Parquet file at `path` says that it is `planned` of `segment`. A file that cannot be read does not.
pub(super) fn says_it_is(connection: &Connection, path: &Path, planned: &PlannedFile, segment: &str) -> bool {
    let statement = format!("SELECT key, value FROM parquet_kv_metadata({})", quoted(&path.to_string_lossy()));
    let read = || -> duckdb::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut statement = connection.prepare(&statement)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    let Ok(found) = read() else { return false };
    file_words(segment, planned.part, planned.rows, &planned.row_digest)
        .iter()
        .all(|(key, value)| found.get(key.as_bytes()).is_some_and(|found| found == value.as_bytes()))
}

/// Waits until the file would survive a power cut, and reads it back.
fn sync_and_digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    let mut hasher = Sha256::new();
    let size_bytes = io::copy(&mut file, &mut hasher)?;
    Ok((size_bytes, hex(&hasher.finalize())))
}

/// The statistics that COPY returned: a map of maps, names and values as text, names in quotes.
fn statistics(spec: &FileSpec, returned: &Value) -> Vec<ColumnStatistics> {
    let columns: HashMap<String, &Value> = match returned {
        Value::Map(columns) => columns.iter().filter_map(|(name, of_it)| Some((text_of(name)?, of_it))).collect(),
        _ => HashMap::new(),
    };
    let of_column = |path: &str, statistic: &str| -> Option<String> {
        let Value::Map(statistics) = columns.get(path)? else { return None };
        let (_, value) = statistics.iter().find(|(key, _)| text_of(key).as_deref() == Some(statistic))?;
        text_of(value)
    };
    let bound = |text: &String| text.len() <= STATISTIC_BYTES_MAX;
    let described = spec.columns.iter().flat_map(FileColumn::leaves).map(|Leaf { path, field_id, sql }| {
        let quoted_path = path.iter().map(|name| quoted_name(name)).collect::<Vec<_>>().join(".");
        let statistic = |name: &str| of_column(&quoted_path, name);
        ColumnStatistics {
            name: path.join("."),
            field_id,
            column_type: sql.into_owned(),
            null_count: statistic("null_count").and_then(|count| count.parse().ok()),
            size_bytes: statistic("column_size_bytes").and_then(|bytes| bytes.parse().ok()),
            min: statistic("min").filter(bound),
            max: statistic("max").filter(bound),
        }
    });
    described.collect()
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
