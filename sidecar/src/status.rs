//! What is wrong, since when, and what has become of each table.
//!
//! Owns: the facts behind `/health`, `/tables` and `/readyz`. Does not own: their shape on the wire (`http`).

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::limits::REASONS_MAX;

/// Why the sidecar is degraded.
pub mod reasons {
    pub use lakeingest_crds::health_reasons::*;

    /// Those that keep no record from the lake.
    pub(super) const NOT_OF_THE_LAKE: [&str; 9] = [
        CONDITIONAL_PUT_UNSUPPORTED,
        SCHEMA_CONFLICT,
        JOURNAL_DAMAGED,
        JOURNAL_FULL,
        JOURNAL_STALLED,
        POD_ENDING,
        UNKNOWN_CONFIGURATION,
        CONFIGURATION_INVALID,
        RESTART_NEEDED,
    ];
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Its stable name.
    pub name: &'static str,
    /// What it is about: a table, a segment; empty for the whole sidecar.
    pub scope: String,
    /// What is wrong, in words.
    pub message: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What has become of a table since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStatus {
    /// Rows in files of the table.
    pub published_rows: u64,
    /// Files of the table.
    pub published_files: u64,
    /// Length of these files. Unit: bytes.
    pub published_bytes: u64,
    /// Those of them that have less than [`crate::limits::SMALL_FILE_BYTES`].
    pub small_files: u64,
    /// Records in its quarantine.
    pub quarantined_rows: u64,
    /// The newest failure of a delivery; none once a later one succeeds.
    pub last_error: Option<String>,
}

/// The facts.
#[derive(Debug)]
pub struct Status {
    clock: SharedClock,
    draining: AtomicBool,
    /// Becomes true when nobody may wait for the lake any more.
    answers_due: watch::Sender<bool>,
    reasons: Mutex<BTreeMap<(&'static str, String), Reason>>,
    tables: Mutex<HashMap<String, TableStatus>>,
}

impl Status {
    /// Nothing is wrong.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            draining: AtomicBool::new(false),
            answers_due: watch::channel(false).0,
            reasons: Mutex::new(BTreeMap::new()),
            tables: Mutex::new(HashMap::new()),
        }
    }

    /// Something is wrong with the whole sidecar. It is logged when it is new.
    pub fn set(&self, name: &'static str, message: String) {
        self.set_for(name, "", message);
    }

    /// Something is wrong with a table or a segment. It is logged when it is new.
    pub fn set_for(&self, name: &'static str, scope: &str, message: String) {
        let now = self.clock.now();
        let mut reasons = locked(&self.reasons);
        let is_full = reasons.len() >= REASONS_MAX;
        match reasons.get_mut(&(name, scope.to_owned())) {
            Some(reason) => reason.message = message,
            None => {
                warn!(reason = name, scope, error = message, "degraded");
                if !is_full {
                    let scope = scope.to_owned();
                    reasons.insert((name, scope.clone()), Reason { name, scope, message, since: now });
                }
            }
        }
    }

    /// Some things are well again with the whole sidecar. It is logged if they were not.
    pub fn clear(&self, names: &[&'static str]) {
        self.clear_for(names, "");
    }

    /// Some things are well again with a table. It is logged if they were not.
    pub fn clear_for(&self, names: &[&'static str], scope: &str) {
        let mut reasons = locked(&self.reasons);
        if reasons.is_empty() {
            return;
        }
        for name in names {
            if let Some(reason) = reasons.remove(&(*name, scope.to_owned())) {
                let seconds = (self.clock.now() - reason.since).num_seconds();
                info!(reason = name, scope, seconds, "recovered");
            }
        }
    }

    /// Whether something is wrong for this reason, with whatever.
    pub fn has(&self, name: &'static str) -> bool {
        locked(&self.reasons).values().any(|reason| reason.name == name)
    }

    /// Whether nothing is known that keeps records from the lake.
    pub fn is_lake_well(&self) -> bool {
        let is_about_it = |name: &str| !reasons::NOT_OF_THE_LAKE.contains(&name);
        !locked(&self.reasons).keys().any(|(name, _)| is_about_it(name))
    }

    /// What is wrong.
    pub fn reasons(&self) -> Vec<Reason> {
        locked(&self.reasons).values().cloned().collect()
    }

    /// The process is about to end and takes no more records.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whoever waits for the lake is to be answered now, with what is true now: the process ends.
    pub fn end_waits(&self) {
        self.answers_due.send_replace(true);
    }

    /// Ends when whoever waits for the lake is to be answered.
    pub async fn waits_ended(&self) {
        let mut due = self.answers_due.subscribe();
        // The other end lives as long as this.
        let _ = due.wait_for(|due| *due).await;
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Changes what has become of a table.
    pub fn update_table(&self, table: &str, change: impl FnOnce(&mut TableStatus)) {
        change(locked(&self.tables).entry(table.to_owned()).or_default());
    }

    /// What has become of each table.
    pub fn tables(&self) -> HashMap<String, TableStatus> {
        locked(&self.tables).clone()
    }
}

/// No call under these locks leaves them half changed, so a panic elsewhere does not spoil them.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_reason_keeps_its_beginning_until_it_is_cleared() {
        let clock = ManualClock::at(DateTime::UNIX_EPOCH);
        let status = Status::new(clock.clone());
        status.set(reasons::PREFIX_IN_USE, "first".to_owned());
        clock.advance(std::time::Duration::from_secs(5));
        status.set(reasons::PREFIX_IN_USE, "second".to_owned());
        let seen = status.reasons();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].message.as_str(), seen[0].since), ("second", DateTime::UNIX_EPOCH));
        status.clear(&[reasons::PREFIX_IN_USE]);
        assert_eq!(status.reasons(), []);
    }

    #[test]
    fn one_table_that_is_well_clears_no_other() {
        let status = Status::new(ManualClock::at(DateTime::UNIX_EPOCH));
        status.set_for(reasons::ENCODE_FAILED, "a", "x".to_owned());
        status.set_for(reasons::ENCODE_FAILED, "b", "x".to_owned());
        status.clear_for(&[reasons::ENCODE_FAILED], "b");
        let scopes: Vec<String> = status.reasons().into_iter().map(|reason| reason.scope).collect();
        assert_eq!(scopes, ["a"]);
    }
}
