//! What was sent and what was promised, kept outside of the process under test.
//!
//! Owns: the fate of each record by the answers alone, and the file that keeps it: what is attempted is on the disk
//! before its first byte leaves, so that the judgement survives the end of who sends as well.
//! Does not own: what became of it (see `oracle`).
//!
//! The file has a line of JSON for each event: `{"attempted": {"table", "key", "records"}}` and
//! `{"answered": {"fate", "records"}}`, where an answer names records by `[producer, sequence]`. A line that breaks off
//! at the end is no event: nothing of what it would have told has left.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};

use crate::columns;

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

impl Fate {
    const ALL: [Self; 3] = [Self::Unknown, Self::Acknowledged, Self::Refused];

    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Acknowledged => "acknowledged",
            Self::Refused => "refused",
        }
    }
}

/// A record that was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its table.
    pub table: String,
    /// What was sent.
    pub record: Value,
    /// What was promised.
    pub fate: Fate,
    /// The idempotency key that it was sent with, each time.
    pub key: Option<String>,
    /// Whether an attempt before the latest was never answered for certain: then a refusal of the latest proves nothing.
    pub is_doubtful: bool,
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
    /// An Arrow stream of what [`columns::flat`] leaves of the records, the table in the query.
    Arrow,
    /// The same as a Parquet file.
    Parquet,
}

/// A request, as often as it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it goes, without a query.
    pub path: &'static str,
    /// The table.
    pub table: String,
    /// How the records are written.
    pub shape: Shape,
    /// The records.
    pub records: Vec<Value>,
    /// Its idempotency key.
    pub key: Option<String>,
    /// Whether all of its records are to be refused where one of them does not fit.
    pub rejects: bool,
}

impl Request {
    /// Sends it; the answer, or none that is whole.
    fn send(&self, sidecar: &Sidecar) -> Result<Response> {
        let Self { path, table, shape, records, key, rejects } = self;
        let json_type = "application/json";
        let mut query = if *rejects { vec!["on_invalid=reject".to_owned()] } else { Vec::new() };
        if !matches!(shape, Shape::Record | Shape::Records) {
            query.push(format!("table_name={table}"));
        }
        let (content_type, body) = match shape {
            Shape::Record => (json_type, json!({"table_name": table, "record": records[0]}).to_string().into_bytes()),
            Shape::Records => (json_type, json!({"table_name": table, "records": records}).to_string().into_bytes()),
            Shape::Lines => {
                let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
                ("application/x-ndjson", lines.into_bytes())
            }
            Shape::Arrow => ("application/vnd.apache.arrow.stream", columns::arrow_stream(records)),
            Shape::Parquet => ("application/vnd.apache.parquet", columns::parquet(records)),
        };
        let mut headers = vec![("content-type", content_type)];
        headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
        let path = if query.is_empty() { (*path).to_owned() } else { format!("{path}?{}", query.join("&")) };
        sidecar.request("POST", &path, &headers, Some(&body))
    }
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<Key, Entry>>,
    /// None: it is as mortal as the test.
    file: Option<Mutex<File>>,
    /// Whether the machine under test is without power.
    is_dark: AtomicBool,
}

impl Ledger {
    /// A ledger in a file; what an earlier process has noted there is part of it.
    pub fn at(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole_bytes = text.rfind('\n').map_or(0, |end| end + 1);
        let mut entries = BTreeMap::new();
        for line in text[..whole_bytes].lines() {
            let event: Value = serde_json::from_str(line).expect("a whole line of a ledger is JSON");
            take_event(&mut entries, &event);
        }
        let file = OpenOptions::new().create(true).append(true).open(path).expect("the ledger can be opened");
        file.set_len(whole_bytes as u64).expect("the ledger can be cut");
        file.sync_all().expect("the ledger can be synced");
        Self { entries: Mutex::new(entries), file: Some(Mutex::new(file)), is_dark: AtomicBool::new(false) }
    }

    /// All that several ledgers hold, of which no two have a record in common.
    pub fn merged(ledgers: impl IntoIterator<Item = Self>) -> Self {
        let merged = Self::default();
        for ledger in ledgers {
            let entries = std::mem::take(&mut *ledger.entries());
            let (before, more) = (merged.entries().len(), entries.len());
            merged.entries().extend(entries);
            assert_eq!(merged.entries().len(), before + more, "a record is in one ledger");
        }
        merged
    }

    /// Sends records to `path` (without a query) and notes what is promised of them.
    ///
    /// # Errors
    /// When no whole answer came; their fate is then unknown.
    pub fn send(
        &self,
        sidecar: &Sidecar,
        path: &'static str,
        table: &str,
        shape: Shape,
        records: &[Value],
    ) -> Result<Response> {
        let request =
            Request { path, table: table.to_owned(), shape, records: records.to_vec(), key: None, rejects: false };
        self.attempt(sidecar, &request)
    }

    /// Sends a request and notes what is promised of its records. One with a key can be sent again.
    ///
    /// # Errors
    /// When no whole answer came; the fate of its records is then unknown.
    pub fn attempt(&self, sidecar: &Sidecar, request: &Request) -> Result<Response> {
        let Request { table, key, records, .. } = request;
        // Noted before the first byte leaves: what is stored and not in here was invented.
        self.note(&json!({"attempted": {"table": table, "key": key, "records": records}}));
        let answer = request.send(sidecar)?;
        ensure!(!self.is_dark.load(Ordering::SeqCst), "the answer came from a machine without power");
        let keys: Vec<Key> = records.iter().map(key_of).collect();
        self.note(&json!({"answered": {"fate": fate_of(&answer).name(), "records": keys}}));
        Ok(answer)
    }

    /// From now on answers count as none, or as answers again. Set before a power cut that leaves the process alive: a
    /// machine without power answers nobody, and on a file system that is shut down a sync can succeed that has saved
    /// nothing.
    pub fn set_dark(&self, is_dark: bool) {
        self.is_dark.store(is_dark, Ordering::SeqCst);
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

    /// Takes in an event; with a file it is on the disk when this returns.
    fn note(&self, event: &Value) {
        if let Some(file) = &self.file {
            let synced = {
                let mut file = file.lock().expect("no holder of this lock panics");
                file.write_all(format!("{event}\n").as_bytes()).expect("the ledger can be written");
                // Outside of the lock, so that one sync serves who writes meanwhile.
                file.try_clone().expect("the ledger's file can be shared")
            };
            synced.sync_data().expect("the ledger can be synced");
        }
        take_event(&mut self.entries(), event);
    }
}

fn take_event(entries: &mut BTreeMap<Key, Entry>, event: &Value) {
    if let Value::Object(attempted) = &event["attempted"] {
        let key = attempted["key"].as_str();
        let table = attempted["table"].as_str().expect("an attempt names its table");
        for record in attempted["records"].as_array().expect("an attempt has records") {
            take_attempt(entries, table, key, record);
        }
    } else {
        let answered = &event["answered"];
        let fate = Fate::ALL.into_iter().find(|fate| answered["fate"] == fate.name()).expect("an answer has a fate");
        for key in answered["records"].as_array().expect("an answer has records") {
            let number = |at: usize| key[at].as_u64().expect("a record is named by two numbers");
            let entry = entries.get_mut(&(number(0), number(1))).expect("what is answered was attempted");
            entry.fate = match (entry.fate, fate) {
                (Fate::Acknowledged, _) | (_, Fate::Acknowledged) => Fate::Acknowledged,
                (_, Fate::Refused) if !entry.is_doubtful => Fate::Refused,
                (_, Fate::Refused | Fate::Unknown) => Fate::Unknown,
            };
        }
    }
}

fn take_attempt(entries: &mut BTreeMap<Key, Entry>, table: &str, key: Option<&str>, record: &Value) {
    let entry = Entry {
        table: table.to_owned(),
        record: record.clone(),
        fate: Fate::Unknown,
        key: key.map(str::to_owned),
        is_doubtful: false,
    };
    let Some(earlier) = entries.get_mut(&key_of(record)) else {
        entries.insert(key_of(record), entry);
        return;
    };
    let is_retry = key.is_some() && earlier.key == entry.key && earlier.record == *record && earlier.table == table;
    assert!(is_retry, "a record is sent once, but for retries with its key: {record}");
    match earlier.fate {
        Fate::Acknowledged => {}
        Fate::Unknown => earlier.is_doubtful = true,
        Fate::Refused => earlier.fate = Fate::Unknown,
    }
}

/// A record with a value of each type, each of which follows from its key. Some have a column, and a field of a struct,
/// that the others have not.
pub fn record(producer: u64, sequence: u64) -> Value {
    let mut record = json!({
        "producer": producer,
        "sequence": sequence,
        "text": format!("{producer}/{sequence} \"Zürich\" \\ \u{1f30a}\n"),
        "amount": f64::from(u32::try_from(sequence % 1_000_003).expect("the remainder fits")) * 0.25 - 7.5,
        "even": sequence.is_multiple_of(2),
        "nested": {"list": [sequence, "x"], "none": null, "inner": {"n": sequence, "words": ["a", null, "\u{e9}"]}},
        "points": [[0.5, sequence], []],
        "due": format!("20{:02}-02-28", sequence % 100),
        "moment": format!(
            "2026-01-{:02}T{:02}:05:30.{:05}1Z", FIRST_DAY + sequence % DAYS, sequence % 24, sequence % 100_000
        ),
    });
    if sequence.is_multiple_of(3) {
        record["sometimes"] = json!(-i64::try_from(sequence).expect("sequences are small"));
        record["nested"]["inner"]["later"] = json!([{"at": record["moment"], "on": record["due"]}]);
    }
    record
}

/// Day in January 2026 of a record's `moment`; the days of all of them are [`DAYS`].
const FIRST_DAY: u64 = 8;

/// How many days the moments lie on.
const DAYS: u64 = 3;

/// The `moment` of a record. Unit: microseconds since 1970.
pub fn moment_us(sequence: u64) -> i64 {
    /// 2026-01-08T00:05:30Z.
    const FIRST_SECONDS: u64 = 1_767_830_730;
    let seconds = FIRST_SECONDS + sequence % DAYS * 86_400 + sequence % 24 * 3_600;
    i64::try_from(seconds * 1_000_000 + sequence % 100_000 * 10 + 1).expect("it is in this century")
}

/// Makes a record one that fits no table.
pub fn spoil(record: &mut Value) {
    record["no column"] = json!(1);
}

/// Whether a record was spoilt: it belongs in a quarantine and nowhere else.
pub fn is_spoilt(record: &Value) -> bool {
    record.get("no column").is_some()
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
