//! The names of objects in the lake: a pure function of what a segment is.
//!
//! Owns: every key below the prefix. Upholds I3: no clock and no random number is read here.
//! Does not own: what is stored under a key.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::journal::control::FileRole;
use crate::rescue::manifest::LogFile;
use crate::schema::Days;
use crate::seeded::{self, Bug};

/// The folder of the lake that a sidecar writes to, without slashes at its ends, already checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

/// Which segment of which journal: the part of a file's name that no other segment has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentName {
    /// The journal's id, 32 hex digits.
    pub journal: String,
    /// The epoch in which the segment was begun.
    pub epoch: u64,
    /// The segment's number.
    pub number: u64,
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{:016x}-{}", self.journal, self.epoch, self.number)
    }
}

/// Which accepted request: everything that is needed to find it again, in the journal or in the lake.
///
/// Shape: `<table>-<days, YYYYMMDD or YYYYMMDD_YYYYMMDD>-<journal, 32 hex>-<epoch, 16 hex>-<segment>-<sequence>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchId {
    /// The table.
    pub table: String,
    /// The days under which its records lie.
    pub days: Days,
    /// The segment that it is part of.
    pub segment: SegmentName,
    /// Its sequence in the journal.
    pub sequence: u64,
}

impl std::fmt::Display for BatchId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, days, segment, sequence } = self;
        write!(formatter, "{table}-{days}-{segment}-{sequence}")
    }
}

impl BatchId {
    /// Reads an id; none if it is not one. No name of a table holds a `-`.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('-').collect();
        let &[table, days, journal, epoch, number, sequence] = parts.as_slice() else { return None };
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(journal, 32) || !is_hex(epoch, 16) || crate::decode::check_table_name(table).is_err() {
            return None;
        }
        let segment = SegmentName {
            journal: journal.to_owned(),
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            number: number.parse().ok()?,
        };
        let days = Days::parse(days)?;
        let id = Self { table: table.to_owned(), days, segment, sequence: sequence.parse().ok()? };
        // A number has one way to be written.
        (id.to_string() == text).then_some(id)
    }
}

impl Prefix {
    /// A prefix; none if it is not one (see `lakeingest_crds::sidecar_config::is_prefix`).
    pub fn new(prefix: &str) -> Option<Self> {
        lakeingest_crds::sidecar_config::is_prefix(prefix).then(|| Self(prefix.to_owned()))
    }

    /// The prefix as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Key of a data file: `<prefix>/<table>/year=2025/month=1/day=8/data_HHMMSS_<segment>-<part>.parquet`, and below
    /// `<prefix>/_quarantine/` for what did not fit. Month and day have no leading zero, as the engines' own
    /// partitioned writers have it: with `month=01` a plain glob types the column as text.
    pub fn data_file(
        &self,
        role: FileRole,
        table: &str,
        partition_date: NaiveDate,
        sealed_at: DateTime<Utc>,
        segment: &SegmentName,
        part: u32,
    ) -> String {
        let folder = match role {
            FileRole::Main => "",
            FileRole::Quarantine => "_quarantine/",
        };
        format!(
            "{}/{folder}{table}/year={}/month={}/day={}/data_{}_{segment}-{part}.parquet",
            self.0,
            partition_date.year(),
            partition_date.month(),
            partition_date.day(),
            match seeded::is(Bug::KeyFromClock) {
                false => sealed_at.format("%H%M%S").to_string(),
                true => format!("{:016x}", rand::random::<u64>()),
            },
        )
    }

    /// Key of the object that says whose the prefix is.
    pub fn owner(&self) -> String {
        format!("{}/_lakeingest/owner.json", self.0)
    }

    /// Key of the object that says who took the prefix over, `place` counted from 1; 0: who had it first.
    pub fn owner_after(&self, place: u32) -> String {
        match place {
            0 => self.owner(),
            _ => format!("{}/_lakeingest/owner-{}.json", self.0, place + 1),
        }
    }

    /// Key of an object of a trial, whose name no other trial has.
    pub fn trial(&self, name: &str) -> String {
        format!("{}/_lakeingest/preflight/{name}", self.0)
    }

    /// Key of version `version` of a table's schema.
    pub fn schema(&self, table: &str, version: u32) -> String {
        format!("{}{version}.json", self.schemas(table))
    }

    /// What the keys of all versions of a table's schema begin with.
    pub fn schemas(&self, table: &str) -> String {
        format!("{}{table}/", self.all_schemas())
    }

    /// What the keys of all schemas begin with.
    pub fn all_schemas(&self) -> String {
        format!("{}/_lakeingest/schemas/", self.0)
    }

    /// Key of a file's description.
    pub fn description(&self, table: &str, segment: &SegmentName, part: u32) -> String {
        format!("{}/_lakeingest/files/{table}/{segment}-{part}.json", self.0)
    }

    /// Key of a log file of a journal whose pod went.
    pub fn rescue_log(&self, journal: &str, file: &LogFile) -> String {
        format!("{}/_lakeingest/rescue/{journal}/{:016x}-{}.log", self.0, file.number, file.sha256)
    }

    /// The folder of the manifests that name such log files.
    pub fn rescue_manifests(&self) -> String {
        format!("{}/_lakeingest/rescue/manifests/", self.0)
    }

    /// Key of a manifest.
    pub fn rescue_manifest(&self, name: &str) -> String {
        format!("{}{name}.json", self.rescue_manifests())
    }

    /// The folder in which an endpoint's promises are tried.
    pub fn probe(&self) -> String {
        format!("{}/_lakeingest/probe", self.0)
    }

    /// The folder for files that are not whole yet, in a lake that is a directory.
    pub fn unfinished(&self) -> String {
        format!("{}/_lakeingest/unfinished", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant I3: the key of a file is fixed by its segment alone.
    #[test]
    fn i3_a_key_is_made_of_the_segment_and_nothing_else() {
        let segment = SegmentName { journal: "0123456789abcdef0123456789abcdef".to_owned(), epoch: 0xfe, number: 12 };
        let date = NaiveDate::from_ymd_opt(2025, 1, 8).expect("the date exists");
        let sealed_at = DateTime::from_timestamp(1_736_330_730, 0).expect("the time exists");
        let prefix = Prefix::new("data").expect("the default prefix is one");
        assert_eq!(
            prefix.data_file(FileRole::Main, "events", date, sealed_at, &segment, 0),
            "data/events/year=2025/month=1/day=8/data_100530_0123456789abcdef0123456789abcdef-00000000000000fe-12-0.parquet"
        );
        assert_eq!(
            prefix.data_file(FileRole::Quarantine, "events", date, sealed_at, &segment, 3),
            "data/_quarantine/events/year=2025/month=1/day=8/data_100530_0123456789abcdef0123456789abcdef-00000000000000fe-12-3.parquet"
        );
    }

    #[test]
    fn a_batchs_id_is_read_as_it_was_written_and_nothing_else_is_one() {
        let id = BatchId {
            table: "events".to_owned(),
            days: NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists").into(),
            segment: SegmentName { journal: "0f".repeat(16), epoch: 0xfe, number: 12 },
            sequence: 345,
        };
        let text = id.to_string();
        assert_eq!(text, format!("events-20260108-{}-00000000000000fe-12-345", "0f".repeat(16)));
        assert_eq!(BatchId::parse(&text), Some(id));
        for wrong in [
            "",
            "events",
            &text.replace("0f0f", "zz0f"),
            &text.replace("events", "../x"),
            &format!("{text}-1"),
            &text.replace("-12-", "-+12-"),
            &text.replace("-345", "-0345"),
        ] {
            assert_eq!(BatchId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_prefix_that_leaves_the_bucket_is_none() {
        assert_eq!(Prefix::new("../other"), None);
    }
}
