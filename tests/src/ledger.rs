//! What was sent and what was promised, kept outside of the process under test.
//!
//! Owns: the fate of each record by the answers alone. Does not own: what became of it (see `oracle`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};

/// Which record: the fields `producer` and `sequence` that each of them has.
pub type Key = (u64, u64);

/// What the answers promise of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent, and not answered or answered with `unknown`: stored once or not at all.
    Unknown,
    /// Stored exactly once.
    Acknowledged,
    /// Not stored.
    Refused,
}

/// A record that was sent.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its table.
    pub table: String,
    /// What was sent.
    pub record: Value,
    /// What was promised.
    pub fate: Fate,
}

/// How records are written into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"table_name", "record"}`.
    Record,
    /// `{"table_name", "records"}`.
    Records,
    /// NDJSON, the table in the query.
    Lines,
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<Key, Entry>>,
}

impl Ledger {
    /// Sends records to `path` (without a query) and notes what is promised of them.
    ///
    /// # Errors
    /// When no whole answer came; their fate is then unknown.
    pub fn send(
        &self,
        sidecar: &Sidecar,
        path: &str,
        table: &str,
        shape: Shape,
        records: &[Value],
    ) -> Result<Response> {
        // Noted before the first byte leaves: what is stored and not in here was invented.
        for record in records {
            let entry = Entry { table: table.to_owned(), record: record.clone(), fate: Fate::Unknown };
            assert!(self.entries().insert(key_of(record), entry).is_none(), "a record is sent once: {record}");
        }
        let answer = match shape {
            Shape::Record => {
                let body = json!({"table_name": table, "record": records[0]}).to_string();
                sidecar.post(path, Some("application/json"), body)?
            }
            Shape::Records => {
                let body = json!({"table_name": table, "records": records}).to_string();
                sidecar.post(path, Some("application/json"), body)?
            }
            Shape::Lines => {
                let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
                sidecar.post(&format!("{path}?table_name={table}"), Some("application/x-ndjson"), lines)?
            }
        };
        let fate = fate_of(&answer);
        let mut entries = self.entries();
        for record in records {
            entries.get_mut(&key_of(record)).expect("it was noted above").fate = fate;
        }
        Ok(answer)
    }

    /// As [`Self::send`] of one record to `/ingest/stream`, which must be acknowledged.
    pub fn stream(&self, sidecar: &Sidecar, table: &str, record: Value) {
        let answer = self.send(sidecar, "/ingest/stream", table, Shape::Record, &[record]);
        let answer = answer.expect("the sidecar answers");
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// Everything that was sent, so far.
    pub fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().expect("no holder of this lock panics")
    }

    /// How many records have this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.entries().values().filter(|entry| entry.fate == fate).count()
    }
}

/// A record with a value of each type, each of which follows from its key.
pub fn record(producer: u64, sequence: u64) -> Value {
    let mut record = json!({
        "producer": producer,
        "sequence": sequence,
        "text": format!("{producer}/{sequence} \"Zürich\" \\ \u{1f30a}\n"),
        "amount": f64::from(u32::try_from(sequence % 1_000_003).expect("the remainder fits")) * 0.25 - 7.5,
        "even": sequence.is_multiple_of(2),
        "nested": {"list": [sequence, "x"], "none": null},
    });
    if sequence.is_multiple_of(3) {
        record["sometimes"] = json!(-i64::try_from(sequence).expect("sequences are small"));
    }
    record
}

/// The key of a record.
///
/// # Panics
/// When it lacks `producer` or `sequence`.
pub fn key_of(record: &Value) -> Key {
    let number = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("a record has a {name}: {record}"));
    (number("producer"), number("sequence"))
}

fn fate_of(answer: &Response) -> Fate {
    if matches!(answer.status, 200 | 202) {
        return Fate::Acknowledged;
    }
    let problem: Value = answer.json().expect("an error is a problem document");
    match problem["outcome"].as_str() {
        Some("refused") => Fate::Refused,
        Some("unknown") => Fate::Unknown,
        _ => panic!("an error says its outcome: {problem}"),
    }
}
