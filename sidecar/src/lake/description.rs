//! What the lake keeps about a data file, beside it.
//!
//! Owns: the object's shape, putting it create-only, finding it. Upholds I2: a segment is retired once each of its
//! files has one. Does not own: the file.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use crate::journal::control::{FileRole, PlannedFile};
use crate::publish::error::StoreError;
use crate::publish::key::{Prefix, SegmentName};
use crate::publish::store::Store;

/// Statistics of a column of a file, as the encoder gave them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnStatistics {
    /// The column.
    pub name: String,
    /// Its field id in the file.
    pub field_id: i32,
    /// Its type's name.
    #[serde(rename = "type")]
    pub column_type: String,
    /// Rows in which it is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_count: Option<u64>,
    /// Length of it in the file. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Its smallest value, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Its largest value, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// The description of a data file: `<prefix>/_lakeingest/files/<table>/<segment>-<part>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// The version of this shape, 1.
    pub format_version: u32,
    /// Key of the file.
    pub key: String,
    /// Its table.
    pub table: String,
    /// Whether it holds rows of the table or of its quarantine.
    pub role: FileRole,
    /// The segment that it was made from.
    pub segment: String,
    /// Its place among the segment's files.
    pub part: u32,
    /// The partition's year.
    pub year: i32,
    /// The partition's month.
    pub month: u32,
    /// The partition's day.
    pub day: u32,
    /// Rows in it.
    pub rows: u64,
    /// Its length. Unit: bytes.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
    /// Digest of its rows whatever their order.
    pub row_digest: String,
    /// Version of the table's schema that it has.
    pub schema_version: u32,
    /// Its columns; empty when the file was not encoded by the process that described it.
    pub columns: Vec<ColumnStatistics>,
    /// When the segment was sealed.
    pub sealed_at: DateTime<Utc>,
}

impl Description {
    /// The description of a planned file.
    pub fn of(
        planned: &PlannedFile,
        table: &str,
        segment: &SegmentName,
        schema_version: u32,
        sealed_at: DateTime<Utc>,
        columns: Vec<ColumnStatistics>,
    ) -> Self {
        Self {
            format_version: 1,
            key: planned.key.clone(),
            table: table.to_owned(),
            role: planned.role,
            segment: segment.to_string(),
            part: planned.part,
            year: planned.partition_date.year(),
            month: planned.partition_date.month(),
            day: planned.partition_date.day(),
            rows: planned.rows,
            size_bytes: planned.size_bytes,
            sha256: planned.sha256.clone(),
            row_digest: planned.row_digest.clone(),
            schema_version,
            columns,
            sealed_at,
        }
    }
}

/// Puts a description. One that is already there is of the same segment and part, since its key is, and stays.
///
/// # Errors
/// Nobody knows whether it is there.
pub async fn describe(
    store: &Store,
    prefix: &Prefix,
    segment: &SegmentName,
    description: &Description,
) -> Result<(), StoreError> {
    let key = prefix.description(&description.table, segment, description.part);
    let content = serde_json::to_vec_pretty(description).expect("a description is plain data");
    store.put(&key, content.into()).await.map(|_| ())
}

/// Whether a file of a segment is described: then it is in the lake, or was and may have been compacted since, and
/// must not be put again.
///
/// # Errors
/// The lake did not say.
pub async fn is_described(
    store: &Store,
    prefix: &Prefix,
    table: &str,
    segment: &SegmentName,
    part: u32,
) -> Result<bool, StoreError> {
    store.head(&prefix.description(table, segment, part)).await.map(|found| found.is_some())
}
