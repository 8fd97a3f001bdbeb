//! The judgement: every promise of the ledger against all that independent readers find in the lake.
//!
//! Owns: what "exactly once" means here. Does not own: how records got there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::lake::{Lake, Row};
use crate::ledger::{Entry, Fate, Key, Ledger, is_spoilt, key_of};
use crate::producers::{BY_MOMENT, COMPUTED, computed};

/// Violations that a failed judgement lists.
const LISTED_MAX: usize = 10;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that were promised and are stored.
    pub acknowledged: usize,
    /// Records of unknown fate that are stored.
    pub unknown_stored: usize,
    /// Records of unknown fate that are not stored.
    pub unknown_absent: usize,
    /// Records that were refused, none of which is stored.
    pub refused: usize,
    /// Stored records that are in a quarantine.
    pub quarantined: usize,
    /// Those of them that fit no table whatever another writer has done.
    pub spoilt: usize,
}

/// How a promise can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An acknowledged record is not stored.
    Lost,
    /// A record is stored more than once.
    Doubled,
    /// A record is stored with other values than were sent.
    Changed,
    /// A record is stored that was never sent.
    Invented,
    /// A record is stored that was refused.
    Refused,
    /// A file and its description do not agree.
    File,
}

/// The promises that are broken: at least one.
#[derive(Debug)]
pub struct Violations {
    found: Vec<(Fault, String)>,
    sent: usize,
}

impl Violations {
    /// How many promises are broken in this way.
    pub fn count(&self, fault: Fault) -> usize {
        self.found.iter().filter(|(found, _)| *found == fault).count()
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} violations of {} records:", self.found.len(), self.sent)?;
        let mut shown = self.found.iter().take(LISTED_MAX);
        shown.try_for_each(|(fault, words)| write!(formatter, "\n  {fault:?}: {words}"))
    }
}

/// Reads the whole lake. Holds when every acknowledged record is there exactly once, no refused one is, one of unknown
/// fate at most once, nothing else is, every value is what was sent, and every file is described as it is.
///
/// # Errors
/// When it does not hold, with what was found.
pub fn judge(ledger: &Ledger, lake: &Lake) -> Result<Tally, Violations> {
    let (tally, mut found) = compare(ledger, lake);
    found.extend(undescribed(lake).into_iter().map(|words| (Fault::File, words)));
    settled(ledger, tally, found)
}

/// As [`judge`], by the rows alone: for a lake in which files were merged since.
///
/// # Errors
/// As for [`judge`].
pub fn judge_rows(ledger: &Ledger, lake: &Lake) -> Result<Tally, Violations> {
    let (tally, found) = compare(ledger, lake);
    settled(ledger, tally, found)
}

/// As [`judge`], for a test in which it must hold.
///
/// # Panics
/// When it does not hold, with what was found.
pub fn verify(ledger: &Ledger, lake: &Lake) -> Tally {
    judge(ledger, lake).unwrap_or_else(|violations| panic!("{violations}"))
}

fn settled(ledger: &Ledger, tally: Tally, found: Vec<(Fault, String)>) -> Result<Tally, Violations> {
    if found.is_empty() { Ok(tally) } else { Err(Violations { found, sent: ledger.entries().len() }) }
}

/// Every row of the lake against the ledger.
fn compare(ledger: &Ledger, lake: &Lake) -> (Tally, Vec<(Fault, String)>) {
    let entries = ledger.entries();
    let mut tables: Vec<&str> = entries.values().map(|entry| entry.table.as_str()).collect();
    tables.sort_unstable();
    tables.dedup();
    let (mut tally, mut found) = (Tally::default(), Vec::new());
    let mut copies: BTreeMap<Key, usize> = BTreeMap::new();
    for table in tables {
        for row in lake.table(table) {
            let key = key_of(&Value::Object(row.clone().into_iter().collect()));
            *copies.entry(key).or_default() += 1;
            match entries.get(&key) {
                Some(entry) if entry.table == table && is_spoilt(&entry.record) => {
                    found.push((Fault::Changed, format!("{key:?} fits no table and is in {table}")));
                }
                Some(entry) if entry.table == table => {
                    found.extend(difference(entry, key, row).map(|words| (Fault::Changed, words)));
                }
                _ => found.push((Fault::Invented, format!("{key:?} of {table} was never sent"))),
            }
        }
        for row in lake.quarantine(table) {
            tally.quarantined += 1;
            let record = row["record"].as_str().and_then(|text| serde_json::from_str(text).ok());
            let record: Value = record.unwrap_or_else(|| panic!("a quarantined record is JSON: {row:?}"));
            tally.spoilt += usize::from(is_spoilt(&record));
            let key = key_of(&record);
            *copies.entry(key).or_default() += 1;
            if !entries.get(&key).is_some_and(|entry| entry.table == table && entry.record == record) {
                found.push((Fault::Changed, format!("{key:?} in the quarantine of {table} was not sent so")));
            }
        }
    }
    for (key, entry) in &*entries {
        let count = copies.get(key).copied().unwrap_or(0);
        let fault = match (entry.fate, count) {
            (Fate::Acknowledged, 1) => {
                tally.acknowledged += 1;
                continue;
            }
            (Fate::Unknown, 1) => {
                tally.unknown_stored += 1;
                continue;
            }
            (Fate::Unknown, 0) => {
                tally.unknown_absent += 1;
                continue;
            }
            (Fate::Refused, 0) => {
                tally.refused += 1;
                continue;
            }
            (Fate::Acknowledged, 0) => Fault::Lost,
            (Fate::Refused, _) => Fault::Refused,
            (Fate::Acknowledged | Fate::Unknown, _) => Fault::Doubled,
        };
        found.push((fault, format!("{key:?} of {}: {:?}, stored {count} times", entry.table, entry.fate)));
    }
    (tally, found)
}

/// What is different between a record and its row: its values, those that its table computes, its day where it has its own.
fn difference(entry: &Entry, key: Key, mut row: Row) -> Option<String> {
    let record = entry.record.as_object().expect("a record is an object");
    let day =
        ["year", "month", "day"].map(|name| row.remove(name).as_ref().and_then(Value::as_u64).unwrap_or_default());
    let is_computed = entry.table != COMPUTED || row.remove("computed") == Some(json!(computed(key)));
    let [year, month, day] = day;
    let date = format!("{year:04}-{month:02}-{day:02}");
    let has_its_day =
        entry.table != BY_MOMENT || record["moment"].as_str().is_some_and(|moment| moment.starts_with(&date));
    let stored = row.into_iter().collect();
    if is_computed && has_its_day && same_fields(record, &stored) {
        return None;
    }
    Some(format!("sent {} and stored {stored:?} under {date} (computed as it should be: {is_computed})", entry.record))
}

/// Whether the stored fields are the sent ones: what was not sent is null.
fn same_fields(sent: &Map<String, Value>, stored: &Map<String, Value>) -> bool {
    let all_there = sent.iter().all(|(name, sent)| sent.is_null() || stored.contains_key(name));
    all_there && stored.iter().all(|(name, stored)| same(sent.get(name).unwrap_or(&Value::Null), stored))
}

/// Whether a stored value is the sent one: a column of JSON holds the text of what was sent.
fn same(sent: &Value, stored: &Value) -> bool {
    match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => same_fields(sent, stored),
        (Value::Array(sent), Value::Array(stored)) => {
            sent.len() == stored.len() && sent.iter().zip(stored).all(|(sent, stored)| same(sent, stored))
        }
        (Value::Object(_) | Value::Array(_), Value::String(text)) => {
            let sent_text = sent.to_string();
            *text == sent_text
        }
        (Value::Number(sent), Value::Number(stored)) => match (sent.as_i64(), stored.as_i64()) {
            (Some(sent), Some(stored)) => sent == stored,
            _ => sent.as_f64() == stored.as_f64(),
        },
        (Value::String(sent), Value::String(stored)) => sent == stored || is_instant(sent, stored),
        _ => sent == stored,
    }
}

/// Whether a timestamp as `ledger::record` has it is stored as the reader tells one.
fn is_instant(sent: &str, stored: &str) -> bool {
    sent.split_once('T').and_then(|(date, time)| Some(format!("{date} {}+00", time.strip_suffix('Z')?))).as_deref()
        == Some(stored)
}

/// What is wrong between the data files and their descriptions.
fn undescribed(lake: &Lake) -> Vec<String> {
    let objects = lake.objects();
    let is_file = |key: &&String| key.ends_with(".parquet");
    if !objects.iter().any(|key| is_file(&key)) {
        return Vec::new();
    }
    let location = lake.location();
    let has_descriptions = objects.iter().any(|key| key.starts_with("data/_lakeingest/files/"));
    let described = has_descriptions.then(|| {
        lake.query(&format!(
            "SELECT key, rows FROM read_json('{location}/data/_lakeingest/files/*/*.json', \
             columns = {{key: 'VARCHAR', rows: 'BIGINT'}})"
        ))
    });
    let found =
        lake.query(&format!("SELECT file_name, num_rows FROM parquet_file_metadata('{location}/data/**/*.parquet')"));
    let mut violations = Vec::new();
    let mut rows_by_key: BTreeMap<String, &Value> = BTreeMap::new();
    for row in described.iter().flat_map(|described| &described.rows) {
        let key = row[0].as_str().expect("a description names its file").to_owned();
        if rows_by_key.insert(key.clone(), &row[1]).is_some() {
            violations.push(format!("{key} is described twice"));
        }
    }
    let mut files = 0;
    for row in &found.rows {
        files += 1;
        let path = row[0].as_str().expect("a file has a name");
        let key = path.strip_prefix(location).unwrap_or(path).trim_start_matches('/');
        match rows_by_key.remove(key) {
            Some(rows) if *rows == row[1] => {}
            Some(rows) => violations.push(format!("{key} has {} rows and is described with {rows}", row[1])),
            None => violations.push(format!("{key} is not described")),
        }
    }
    violations.extend(rows_by_key.keys().map(|key| format!("{key} is described and not there")));
    assert_eq!(files, objects.iter().filter(is_file).count(), "every file can be opened");
    violations
}
