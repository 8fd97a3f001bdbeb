//! The payloads of the frames that are not batches: JSON, since they are few, grow fields with time and are read
//! by people when something is wrong.
//!
//! Owns: their shape. Does not own: when they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::journal::keys::{KeyName, KeyedBatch};
use crate::schema::{Days, Fingerprint, Schema};

/// Why a segment was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SealReason {
    /// `flush.maxRows` was reached.
    Rows,
    /// `flush.maxBytes` was reached.
    Bytes,
    /// Rows times columns reached what the encoder takes at once.
    Cells,
    /// Its rows lie under as many days as one segment may have.
    Partitions,
    /// Its batches have as many schemas as one segment may have: each of them has brought new columns.
    Schemas,
    /// The journal is half full, and the segment keeps its oldest log file from being removed.
    Journal,
    /// `flush.maxAge` was reached.
    Age,
    /// The UTC day changed.
    Day,
    /// `/flush`, or an `/ingest` that waits for the lake.
    Request,
    /// The process ends.
    Drain,
    /// The process before this one ended without sealing.
    Recovery,
}

impl SealReason {
    /// The name that metrics and logs show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Cells => "cells",
            Self::Partitions => "partitions",
            Self::Schemas => "schemas",
            Self::Journal => "journal",
            Self::Age => "age",
            Self::Day => "day",
            Self::Request => "request",
            Self::Drain => "drain",
            Self::Recovery => "recovery",
        }
    }
}

/// The end of a segment: the frames of `table` from the first to the last sequence that carry its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The table.
    pub table: String,
    /// Sequence of the segment's first batch.
    pub first_sequence: u64,
    /// Sequence of the segment's last batch.
    pub last_sequence: u64,
    /// Records in the segment.
    pub rows: u64,
    /// When it was sealed, to the second: the time in the names of its files.
    pub sealed_at: DateTime<Utc>,
    /// Why.
    pub reason: SealReason,
}

/// Whether a file is the table's or its quarantine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileRole {
    /// Rows of the table.
    Main,
    /// Records that did not fit the table, with the reason.
    Quarantine,
}

/// A file of a segment, fixed before its first byte leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// The key of the object in the lake.
    pub key: String,
    /// Its place among the segment's files, from 0.
    pub part: u32,
    /// What it holds.
    pub role: FileRole,
    /// The day of its folder.
    pub partition_date: NaiveDate,
    /// Rows in it.
    pub rows: u64,
    /// Its length. Unit: bytes.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
    /// Digest of its rows whatever their order: `encode::digest`.
    pub row_digest: String,
}

/// A file that is in the lake, as far as an answer tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledFile {
    /// The key of the object in the lake.
    pub key: String,
    /// What it holds.
    pub role: FileRole,
    /// The day of its folder.
    pub partition_date: NaiveDate,
    /// Rows in it.
    pub rows: u64,
}

/// What a segment became, as far as answers tell of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its files.
    pub files: Vec<SettledFile>,
    /// Records of each batch that went to quarantine, by the batch's sequence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined_by_batch: BTreeMap<u64, u64>,
}

impl Settled {
    /// Records of a batch that went to quarantine.
    pub fn quarantined_of(&self, sequence: u64) -> u64 {
        self.quarantined_by_batch.get(&sequence).copied().unwrap_or(0)
    }
}

/// The keys of a retired segment, with what became of it: an entry of the key log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The epoch in which the segment was begun.
    pub epoch: u64,
    /// The segment's number.
    pub segment: u64,
    /// Its table.
    pub table: String,
    /// What it became.
    pub settled: Settled,
    /// The keys of its batches.
    pub keys: Vec<KeyEntry>,
}

/// An idempotency key whose batch is in the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The first half of the key's SHA-256, hex.
    pub key: String,
    /// What the key stands for: SHA-256, hex.
    pub digest: String,
    /// Sequence of its batch.
    pub sequence: u64,
    /// Records of its batch.
    pub rows: u32,
    /// The day under which they lie, or the first of several.
    pub partition_date: NaiveDate,
    /// The last of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_date: Option<NaiveDate>,
    /// When the batch was received. Unit: microseconds since 1970.
    pub received_micros: i64,
}

impl KeyEntry {
    /// The entry of a key.
    pub fn of(name: KeyName, batch: &KeyedBatch) -> Self {
        Self {
            key: name.to_hex(),
            digest: super::hex(&batch.digest),
            sequence: batch.sequence,
            rows: batch.rows,
            partition_date: batch.days.first,
            last_date: Some(batch.days.last).filter(|last| *last != batch.days.first),
            received_micros: batch.received_micros,
        }
    }
}

impl KeyRecord {
    /// The keys that it holds; one that cannot be read is left out.
    pub fn into_batches(self) -> Vec<(KeyName, KeyedBatch)> {
        let Self { epoch, segment, table, settled, keys } = self;
        let (table, settled): (Arc<str>, _) = (table.into(), Arc::new(settled));
        let batch = |entry: KeyEntry| {
            let batch = KeyedBatch {
                digest: super::bytes_of_hex(&entry.digest)?,
                table: Arc::clone(&table),
                rows: entry.rows,
                misfits: settled.quarantined_of(entry.sequence).try_into().unwrap_or(entry.rows),
                days: Days { first: entry.partition_date, last: entry.last_date.unwrap_or(entry.partition_date) },
                received_micros: entry.received_micros,
                sequence: entry.sequence,
                segment,
                epoch,
                settled: Some(Arc::clone(&settled)),
            };
            Some((KeyName::from_hex(&entry.key)?, batch))
        };
        keys.into_iter().filter_map(batch).collect()
    }
}

/// A record that goes to quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedRow {
    /// Its batch.
    pub sequence: u64,
    /// Its place in the batch, from 0.
    pub index: u32,
    /// The field that did not fit.
    pub field: String,
    /// The stable code of the reason.
    pub code: String,
}

/// What a segment becomes in the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seal, so that a plan can be followed without it.
    pub seal: Seal,
    /// Version of the table's schema in the bucket that the files have.
    pub schema_version: u32,
    /// Its files, by part.
    pub files: Vec<PlannedFile>,
    /// The records that are in its quarantine file, at most [`PLAN_QUARANTINED_ROWS_MAX`] of them, and none whose field
    /// is longer than [`PLAN_FIELD_BYTES_MAX`].
    pub quarantined: Vec<QuarantinedRow>,
    /// How many records are in its quarantine file.
    pub quarantined_rows: u64,
    /// The records among them that the encoder fails on, each by its batch's sequence and its place in the batch: no schema
    /// tells which they are. Absent in a plan of an earlier build.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub poison: BTreeSet<(u64, u32)>,
    /// Records of each batch in its quarantine file, by the batch's sequence. Absent in a plan of an earlier build.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined_by_batch: BTreeMap<u64, u64>,
}

impl Plan {
    /// What answers tell of the segment once it is in the lake.
    pub fn settled(&self) -> Settled {
        let file = |file: &PlannedFile| SettledFile {
            key: file.key.clone(),
            role: file.role,
            partition_date: file.partition_date,
            rows: file.rows,
        };
        Settled {
            files: self.files.iter().map(file).collect(),
            quarantined_by_batch: self.quarantined_by_batch.clone(),
        }
    }
}

/// Quarantined records that a plan lists one by one. The verdict on each is a pure function of the segment and the
/// schema version; the list is for people and for [`Plan`]'s check on replay.
pub const PLAN_QUARANTINED_ROWS_MAX: usize = 10_000;

/// Longest field that a plan lists a record with: as long as a column's name. What is deep inside of structs is counted, and
/// named in the quarantine file. Unit: bytes.
pub const PLAN_FIELD_BYTES_MAX: usize = lakeingest_crds::names::COLUMN_NAME_BYTES_MAX;

/// A table's schema, under its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFrame {
    /// The schema.
    pub schema: Schema,
}

impl SchemaFrame {
    /// The payload: the 32 bytes of the fingerprint, then the canonical JSON that it is the SHA-256 of.
    pub fn encode(schema: &Schema) -> Vec<u8> {
        [schema.fingerprint().as_bytes().as_slice(), &schema.canonical_json()].concat()
    }

    /// Reads a payload; none if the fingerprint is not that of the schema.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (fingerprint, json) = payload.split_first_chunk::<32>()?;
        let schema = Schema::from_canonical_json(json).ok()?;
        (schema.fingerprint() == Fingerprint::from_bytes(*fingerprint)).then_some(Self { schema })
    }
}
