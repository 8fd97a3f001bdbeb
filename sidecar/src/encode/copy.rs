//! The encoder's tables into Parquet files.
//!
//! Owns: the COPY statement, the order of rows, field ids, the file's own words about itself, its digest.
//! Does not own: where the file goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use chrono::Datelike;
use duckdb::Connection;
use duckdb::types::Value;
use sha2::{Digest, Sha256};

use crate::encode::EncodeJob;
use crate::encode::error::EncodeError;
use crate::encode::load::{DAY_COLUMN, Loaded, MAIN_TABLE, QUARANTINE_COLUMNS, QUARANTINE_TABLE, sql_type};
use crate::encode::session::{Scratch, quoted, quoted_name};
use crate::journal::batch::days_since_1970;
use crate::journal::control::{FileRole, PlannedFile};
use crate::journal::hex;
use crate::lake::description::ColumnStatistics;
use crate::limits::{ROW_GROUP_BYTES, ROW_GROUP_ROWS_MAX};
use crate::schema::registry::{DAY_FIELD_ID, MONTH_FIELD_ID, YEAR_FIELD_ID};

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

/// A column of a file: its name, its SQL expression, its type's name, its field id.
struct FileColumn {
    name: String,
    expression: String,
    type_name: &'static str,
    field_id: i32,
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
}

/// Writes one file for each partition, and one for what does not fit.
pub(super) fn write_files(
    connection: &Connection,
    scratch: &Scratch,
    job: &EncodeJob,
    loaded: &Loaded,
) -> Result<Vec<EncodedFile>, EncodeError> {
    let mut specs: Vec<FileSpec> = Vec::new();
    for (part, (date, (rows, digest))) in (0..).zip(&loaded.partitions) {
        specs.push(FileSpec {
            role: FileRole::Main,
            part,
            partition_date: *date,
            rows: *rows,
            row_digest: digest.to_string(),
            columns: main_columns(job, &loaded.columns, *date),
            from: format!("{} WHERE {} = {}", quoted_name(MAIN_TABLE), quoted_name(DAY_COLUMN), days_since_1970(*date)),
        });
    }
    if loaded.quarantined_rows > 0 {
        let sealed_on = job.seal.sealed_at.date_naive();
        specs.push(FileSpec {
            role: FileRole::Quarantine,
            part: u32::try_from(specs.len()).expect("a segment has fewer partitions than rows"),
            partition_date: sealed_on,
            rows: loaded.quarantined_rows,
            row_digest: loaded.quarantine_digest.to_string(),
            columns: quarantine_columns(sealed_on),
            from: quoted_name(QUARANTINE_TABLE),
        });
    }
    let files = specs.iter().map(|spec| write_file(connection, scratch, job, spec)).collect::<Result<Vec<_>, _>>()?;
    let folder = scratch.encoded();
    crate::journal::directory::fsync_directory(&folder)
        .map_err(|source| EncodeError::File { path: folder.clone(), source })?;
    Ok(files)
}

/// Every column of the table, in every file; those that were not loaded are null.
fn main_columns(job: &EncodeJob, loaded: &[usize], date: chrono::NaiveDate) -> Vec<FileColumn> {
    let registered = &job.registered;
    let columns = registered.schema.columns().iter().zip(&registered.field_ids).enumerate();
    let own = columns.map(|(place, (column, field_id))| FileColumn {
        name: column.name.clone(),
        expression: match loaded.contains(&place) {
            true => quoted_name(&column.name),
            false => format!("NULL::{}", sql_type(column.column_type)),
        },
        type_name: sql_type(column.column_type),
        field_id: *field_id,
    });
    own.chain(partition_columns(date)).collect()
}

fn quarantine_columns(date: chrono::NaiveDate) -> Vec<FileColumn> {
    let own = QUARANTINE_COLUMNS.iter().map(|(name, sql, field_id)| FileColumn {
        name: (*name).to_owned(),
        expression: quoted_name(name),
        type_name: sql,
        field_id: *field_id,
    });
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
    parts.into_iter().map(|(name, value, field_id)| FileColumn {
        name: name.to_owned(),
        expression: format!("{value}::INTEGER"),
        type_name: "INTEGER",
        field_id,
    })
}

fn write_file(
    connection: &Connection,
    scratch: &Scratch,
    job: &EncodeJob,
    spec: &FileSpec,
) -> Result<EncodedFile, EncodeError> {
    let path = scratch.encoded_file(job.contents.number, spec.part);
    let statement = copy_statement(&path, job, spec);
    let (rows, columns) = connection
        .query_row(&statement, [], |row| Ok((row.get::<_, u64>(1)?, row.get::<_, Value>(4)?)))
        .map_err(|source| EncodeError::Copy { path: path.clone(), source })?;
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

/// There is no ORDER BY: the tables were filled in the order of arrival by one thread, and one thread reads them with
/// `preserve_insertion_order`, so that order is total already, and sorting would hold the segment in memory once more.
fn copy_statement(path: &Path, job: &EncodeJob, spec: &FileSpec) -> String {
    let joined = |texts: Vec<String>| texts.join(", ");
    let columns = spec.columns.iter();
    let select = columns.clone().map(|column| format!("{} AS {}", column.expression, quoted_name(&column.name)));
    let field_ids = columns.map(|column| format!("{}: {}", quoted(&column.name), column.field_id));
    let words = file_words(&job.segment.to_string(), spec.part, spec.rows, &spec.row_digest);
    let words = words.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value)));
    format!(
        "COPY (SELECT {} FROM {}) TO {} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {}, FIELD_IDS {{{}}}, KV_METADATA {{{}}}, RETURN_STATS)",
        joined(select.collect()),
        spec.from,
        quoted(&path.to_string_lossy()),
        row_group_rows(job),
        joined(field_ids.collect()),
        joined(words.collect()),
    )
}

/// Rows of a row group: as many as make [`ROW_GROUP_BYTES`], by the segment's own bodies and what every column costs
/// whether it has a value or not. A multiple of the database's vector.
fn row_group_rows(job: &EncodeJob) -> u64 {
    let body_bytes = job.contents.body_bytes / job.contents.rows.max(1);
    let row_bytes = body_bytes + 16 * (1 + job.registered.schema.len() as u64);
    let vectors = ROW_GROUP_BYTES / row_bytes.max(1) / VECTOR_ROWS;
    (vectors * VECTOR_ROWS).clamp(VECTOR_ROWS, ROW_GROUP_ROWS_MAX)
}

/// Rows of the database's vectors.
const VECTOR_ROWS: u64 = 2_048;

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
    let empty = Vec::new();
    let columns = match returned {
        Value::Map(columns) => columns.iter().collect::<Vec<_>>(),
        _ => empty,
    };
    let of_column = |name: &str, statistic: &str| -> Option<String> {
        let (_, statistics) = columns.iter().find(|(key, _)| text_of(key).as_deref() == Some(&quoted_name(name)))?;
        let Value::Map(statistics) = statistics else { return None };
        let (_, value) = statistics.iter().find(|(key, _)| text_of(key).as_deref() == Some(statistic))?;
        text_of(value)
    };
    let bound = |text: &String| text.len() <= STATISTIC_BYTES_MAX;
    let described = spec.columns.iter().map(|column| ColumnStatistics {
        name: column.name.clone(),
        field_id: column.field_id,
        column_type: column.type_name.to_owned(),
        null_count: of_column(&column.name, "null_count").and_then(|count| count.parse().ok()),
        size_bytes: of_column(&column.name, "column_size_bytes").and_then(|bytes| bytes.parse().ok()),
        min: of_column(&column.name, "min").filter(bound),
        max: of_column(&column.name, "max").filter(bound),
    });
    described.collect()
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
