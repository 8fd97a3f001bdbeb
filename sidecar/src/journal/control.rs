//! The payloads of the frames that are not batches: JSON, since they are few, grow fields with time and are read
//! by people when something is wrong.
//!
//! Owns: their shape. Does not own: when they are written.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::schema::{Fingerprint, Schema};

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
    /// The records that are in its quarantine file, at most [`PLAN_QUARANTINED_ROWS_MAX`] of them.
    pub quarantined: Vec<QuarantinedRow>,
    /// How many records are in its quarantine file.
    pub quarantined_rows: u64,
}

/// Quarantined records that a plan lists one by one. The verdict on each is a pure function of the segment and the
/// schema version; the list is for people and for [`Plan`]'s check on replay.
pub const PLAN_QUARANTINED_ROWS_MAX: usize = 10_000;

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
