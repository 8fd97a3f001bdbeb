//! What the lake keeps about a data file, beside it.
//!
//! Owns: the object's shape, putting it create-only, finding it. Upholds I2: a segment is retired once each of its
//! files has one. Does not own: the file.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::journal::control::{FileRole, Plan, PlannedFile};
use crate::limits::DESCRIPTIONS_MAX;
use crate::publish::PublishError;
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::key::{Prefix, SegmentName};
use crate::publish::store::{Found, PutOutcome, Store};

/// Statistics of a column of a file, as the encoder gave them. Of a list or a struct each value inside is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnStatistics {
    /// The column; of what is inside of one the names from the outside in, with dots: `items.element.price`.
    pub name: String,
    /// Its field id in the file.
    pub field_id: i32,
    /// Its type's name.
    #[serde(rename = "type")]
    pub column_type: String,
    /// How often it is null.
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

/// The sequences in their journal of a segment's first and last batch. In between are those of batches of other tables too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchNumbers {
    /// That of the first.
    pub first: u64,
    /// That of the last.
    pub last: u64,
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
    /// Rows of its segment, over all of the segment's files; 0 where an earlier build has described it.
    #[serde(default)]
    pub segment_rows: u64,
    /// The numbers of its segment's batches; absent where an earlier build has described it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchNumbers>,
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
    /// The description of a planned file as it was found in the lake.
    pub fn of(
        planned: &PlannedFile,
        found: &Found,
        table: &str,
        segment: &SegmentName,
        plan: &Plan,
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
            segment_rows: plan.seal.rows,
            batches: Some(BatchNumbers { first: plan.seal.first_sequence, last: plan.seal.last_sequence }),
            size_bytes: found.size_bytes,
            sha256: found.sha256.clone().unwrap_or_else(|| planned.sha256.clone()),
            row_digest: planned.row_digest.clone(),
            schema_version: plan.schema_version,
            columns,
            sealed_at: plan.seal.sealed_at,
        }
    }

    /// The day of its folder; none if it is no date.
    pub fn partition_date(&self) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(self.year, self.month, self.day)
    }

    /// Whether its segment can have a batch of this number; none if that is not known.
    pub fn can_have(&self, sequence: u64) -> Option<bool> {
        self.batches.map(|batches| (batches.first..=batches.last).contains(&sequence))
    }

    /// Whether it describes the file that was planned: the same rows under the same key.
    fn is_of(&self, planned: &PlannedFile) -> bool {
        self.key == planned.key && self.rows == planned.rows && self.row_digest == planned.row_digest
    }
}

/// Puts a description, and looks at the one that is already there.
///
/// # Errors
/// Nobody knows whether it is there, or another file is described there (`KeyConflict`).
pub async fn describe(
    store: &Store,
    prefix: &Prefix,
    segment: &SegmentName,
    planned: &PlannedFile,
    description: &Description,
) -> Result<(), PublishError> {
    let key = prefix.description(&description.table, segment, description.part);
    let content = serde_json::to_vec_pretty(description).expect("a description is plain data");
    if store.put(&key, content.into()).await? == PutOutcome::Created
        || is_described(store, prefix, &description.table, segment, planned).await?
    {
        return Ok(());
    }
    let detail = "another writer is at the key".to_owned();
    Err(StoreError { kind: StoreErrorKind::Unverified, action: "describe", key, detail }.into())
}

/// The descriptions of a segment's files, by part; none if the segment is not in the lake, or not yet.
///
/// # Errors
/// The lake did not say, or what is there is no description.
pub async fn descriptions_of(
    store: &Store,
    prefix: &Prefix,
    table: &str,
    segment: &SegmentName,
) -> Result<Vec<Description>, StoreError> {
    let mut found = Vec::new();
    for part in 0..DESCRIPTIONS_MAX {
        let key = prefix.description(table, segment, part);
        let Some(content) = store.get(&key).await? else { break };
        let description = serde_json::from_slice(&content).map_err(|error| StoreError {
            kind: StoreErrorKind::Unexpected,
            action: "read",
            key,
            detail: error.to_string(),
        })?;
        found.push(description);
    }
    Ok(found)
}

/// Whether a file of a segment is described: then it is in the lake, or was and may have been compacted since, and
/// must not be put again.
///
/// # Errors
/// The lake did not say, or another file is described in its place: a segment of the same name, from a copy of the
/// journal, is in the lake with other rows (`KeyConflict`).
pub async fn is_described(
    store: &Store,
    prefix: &Prefix,
    table: &str,
    segment: &SegmentName,
    planned: &PlannedFile,
) -> Result<bool, PublishError> {
    let key = prefix.description(table, segment, planned.part);
    let Some(content) = store.get(&key).await? else { return Ok(false) };
    match serde_json::from_slice::<Description>(&content) {
        Ok(found) if found.is_of(planned) => Ok(true),
        Ok(_) | Err(_) => Err(PublishError::KeyConflict { key }),
    }
}
