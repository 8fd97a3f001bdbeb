//! Idempotency keys: which requests this journal has accepted, so that a retry is answered and stored once.
//!
//! Owns: the keys in memory, who holds one while its request is under way, how long they are kept and how many.
//! Upholds I12. Does not own: keys on disk: a batch's own frame (`batch`), and once its segment is retired the key log
//! (`key_log`).
//!
//! ```text
//! claim ──> append ──> accepted (in the batch's frame) ──> settled (in the key log, before the retire frame)
//!   └─ dropped: the request was refused, and the key is free again
//! ```
//!
//! Source: draft-ietf-httpapi-idempotency-key-header-07.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::SharedClock;
use crate::journal::batch::Batch;
use crate::journal::control::{KeyEntry, KeyRecord, Settled};
use crate::limits::{KEY_AGE_MAX, KEYS_IN_RECORD_MAX};
use crate::metrics::Metrics;
use crate::schema::Days;

/// What a key stands for: SHA-256 of the body, its format, its table and its partition date.
pub type KeyDigest = [u8; 32];

/// A key in memory: the first half of its SHA-256. A key is a text of any length that a client chose; two of them with
/// the same half are as unlikely as two equal segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyName([u8; 16]);

impl KeyName {
    /// The name of a key.
    pub fn of(key: &str) -> Self {
        let hash = Sha256::digest(key);
        Self(hash.first_chunk().copied().expect("a SHA-256 has 32 bytes"))
    }

    /// As 32 hex digits.
    pub fn to_hex(self) -> String {
        super::hex(&self.0)
    }

    /// From 32 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        super::bytes_of_hex(text).map(Self)
    }
}

/// A batch that was accepted with a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedBatch {
    /// What the key stands for.
    pub digest: KeyDigest,
    /// Its table.
    pub table: Arc<str>,
    /// Its records.
    pub rows: u32,
    /// Records of them that were seen not to fit when it was accepted.
    pub misfits: u32,
    /// The days under which they lie.
    pub days: Days,
    /// When it was received. Unit: microseconds since 1970.
    pub received_micros: i64,
    /// Its sequence.
    pub sequence: u64,
    /// The segment that it is part of.
    pub segment: u64,
    /// The epoch in which that segment was begun.
    pub epoch: u64,
    /// What the segment became, once it is in the lake.
    pub settled: Option<Arc<Settled>>,
}

impl KeyedBatch {
    /// What is known of a batch that is in the journal, with its key's name; none if it has no key.
    pub fn of(batch: &Batch, sequence: u64, segment: u64, epoch: u64) -> Option<(KeyName, Self)> {
        let (key, digest) = batch.key.as_ref()?;
        let keyed = Self {
            digest: *digest,
            table: batch.table.as_str().into(),
            rows: batch.rows,
            misfits: batch.misfits,
            days: batch.days(),
            received_micros: batch.received_micros,
            sequence,
            segment,
            epoch,
            settled: None,
        };
        Some((KeyName::of(key), keyed))
    }
}

/// What claiming a key finds.
#[derive(Debug)]
pub enum Claimed {
    /// The key is new, and the caller's until the claim is settled or dropped.
    New(KeyClaim),
    /// The same request was accepted before.
    Replay(KeyedBatch),
}

/// Why a key cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A request with the key is under way.
    #[error("a request with this Idempotency-Key is under way; send it again when that one is answered")]
    InFlight,
    /// The key was used for something else.
    #[error("this Idempotency-Key was used with another body, table or partition date; use a key once")]
    Reused,
}

/// The keys of a journal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    inner: Arc<Mutex<Inner>>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    /// Most keys that are remembered.
    keys_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<KeyName, State>,
    /// Accepted keys with the moment from which their age counts, oldest first.
    ages: VecDeque<(Duration, KeyName)>,
    /// Keys of segments that are not retired, oldest first.
    by_segment: HashMap<u64, VecDeque<KeyName>>,
}

#[derive(Debug)]
enum State {
    /// Its request is under way.
    Claimed(KeyDigest),
    /// Its batch is in the journal, or in the lake.
    Accepted(Box<KeyedBatch>),
}

/// That a request has its key for itself. Dropped before it was accepted, it frees the key.
#[derive(Debug)]
pub struct KeyClaim {
    keys: Keys,
    name: KeyName,
    is_accepted: bool,
}

impl Keys {
    /// No keys, and room for so many.
    pub fn new(clock: SharedClock, metrics: Arc<Metrics>, keys_max: usize) -> Self {
        Self { inner: Arc::default(), clock, metrics, keys_max }
    }

    /// Claims a key for a request.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn claim(&self, key: &str, digest: KeyDigest) -> Result<Claimed, KeyError> {
        let name = KeyName::of(key);
        let mut inner = self.inner();
        self.forget_old(&mut inner);
        match inner.known.get(&name) {
            None => {
                inner.known.insert(name, State::Claimed(digest));
                Ok(Claimed::New(KeyClaim { keys: self.clone(), name, is_accepted: false }))
            }
            Some(State::Accepted(batch)) if batch.digest == digest => Ok(Claimed::Replay((**batch).clone())),
            Some(State::Claimed(claimed)) if *claimed == digest => Err(KeyError::InFlight),
            Some(State::Claimed(_) | State::Accepted(_)) => Err(KeyError::Reused),
        }
    }

    /// Takes in a key that was found on disk. A later one replaces an earlier one. Its age counts from now: a wall clock
    /// that was wrong for a day forgets no key early.
    pub fn remember(&self, name: KeyName, batch: KeyedBatch) {
        self.insert(&mut self.inner(), name, batch);
    }

    /// The segment is about to be retired; answers what the key log has to keep of it.
    pub fn settle(&self, segment: u64, settled: &Arc<Settled>) -> Vec<KeyRecord> {
        let mut inner = self.inner();
        let mut names = Vec::from(inner.by_segment.remove(&segment).unwrap_or_default());
        // A key that was forgotten meanwhile may have come back with a batch of another segment.
        names.retain(|name| match inner.known.get_mut(name) {
            Some(State::Accepted(batch)) if batch.segment == segment => {
                batch.settled = Some(Arc::clone(settled));
                true
            }
            Some(State::Accepted(_) | State::Claimed(_)) | None => false,
        });
        records_of(&inner, &names)
    }

    /// Everything that the key log has to keep.
    pub fn records(&self) -> Vec<KeyRecord> {
        let inner = self.inner();
        let mut by_segment: BTreeMap<u64, Vec<KeyName>> = BTreeMap::new();
        for (_, name) in &inner.ages {
            if let Some(State::Accepted(batch)) = inner.known.get(name)
                && batch.settled.is_some()
            {
                by_segment.entry(batch.segment).or_default().push(*name);
            }
        }
        by_segment.values().flat_map(|names| records_of(&inner, names)).collect()
    }

    /// Forgets the oldest quarter of the keys whose batches are in the lake: where there are more than can be kept. Answers
    /// how many.
    pub fn forget_oldest(&self) -> usize {
        let mut guard = self.inner();
        let Inner { known, ages, .. } = &mut *guard;
        let is_settled = |state: Option<&State>| match state {
            Some(State::Accepted(batch)) => batch.settled.is_some(),
            Some(State::Claimed(_)) | None => false,
        };
        let settled = ages.iter().filter(|(_, name)| is_settled(known.get(name))).count();
        let mut left = settled.div_ceil(4);
        ages.retain(|(_, name)| {
            let goes = left > 0 && is_settled(known.get(name));
            if goes {
                known.remove(name);
                left -= 1;
            }
            !goes
        });
        let forgotten = settled.div_ceil(4);
        self.metrics.keys_evicted.inc_by(forgotten as u64);
        forgotten
    }

    /// Forgets the keys of records that cannot be kept: a retry of one is taken for a new request. Answers how many.
    pub fn forget(&self, records: &[KeyRecord]) -> usize {
        let mut inner = self.inner();
        let mut names = HashSet::new();
        for record in records {
            let of_record = record.keys.iter().filter_map(|entry| KeyName::from_hex(&entry.key));
            // One that was pushed out since may be that of another request by now.
            names.extend(of_record.filter(|name| match inner.known.get(name) {
                Some(State::Accepted(batch)) => batch.segment == record.segment,
                Some(State::Claimed(_)) | None => false,
            }));
        }
        inner.known.retain(|name, _| !names.contains(name));
        inner.ages.retain(|(_, name)| !names.contains(name));
        self.metrics.keys_evicted.inc_by(names.len() as u64);
        names.len()
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.inner().known.len()
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&self, inner: &mut Inner, name: KeyName, batch: KeyedBatch) {
        if batch.settled.is_none() {
            inner.by_segment.entry(batch.segment).or_default().push_back(name);
        }
        // A crash between the key log and the retire frame leaves a key in both: it has one age.
        if let Some(State::Accepted(_)) = inner.known.insert(name, State::Accepted(Box::new(batch))) {
            return;
        }
        inner.ages.push_back((self.clock.monotonic(), name));
        while inner.ages.len() > self.keys_max {
            inner.forget_oldest();
            self.metrics.keys_evicted.inc();
        }
    }

    fn forget_old(&self, inner: &mut Inner) {
        let now = self.clock.monotonic();
        while inner.ages.front().is_some_and(|(since, _)| now.saturating_sub(*since) > KEY_AGE_MAX) {
            inner.forget_oldest();
        }
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Forgets the key that is known longest.
    fn forget_oldest(&mut self) {
        let Some((_, name)) = self.ages.pop_front() else { return };
        let Some(State::Accepted(batch)) = self.known.remove(&name) else { return };
        // Both are in the order in which keys were accepted, so that it is the first of its segment.
        if let Entry::Occupied(mut of_segment) = self.by_segment.entry(batch.segment) {
            if of_segment.get().front() == Some(&name) {
                of_segment.get_mut().pop_front();
            }
            if of_segment.get().is_empty() {
                of_segment.remove();
            }
        }
    }
}

/// What the key log keeps of keys of one segment.
fn records_of(inner: &Inner, names: &[KeyName]) -> Vec<KeyRecord> {
    let batches = names.iter().filter_map(|name| match inner.known.get(name) {
        Some(State::Accepted(batch)) => Some((*name, &**batch)),
        Some(State::Claimed(_)) | None => None,
    });
    let batches: Vec<_> = batches.collect();
    batches.chunks(KEYS_IN_RECORD_MAX).filter_map(record_of).collect()
}

/// One record, with as much of what the segment became as answers to its keys need.
fn record_of(batches: &[(KeyName, &KeyedBatch)]) -> Option<KeyRecord> {
    let (_, first) = batches.first()?;
    let Settled { files, quarantined_by_batch } = &**first.settled.as_ref()?;
    let quarantined = |(_, batch): &(KeyName, &KeyedBatch)| {
        quarantined_by_batch.get(&batch.sequence).map(|count| (batch.sequence, *count))
    };
    Some(KeyRecord {
        epoch: first.epoch,
        segment: first.segment,
        table: first.table.to_string(),
        settled: Settled {
            files: files.clone(),
            quarantined_by_batch: batches.iter().filter_map(quarantined).collect(),
        },
        keys: batches.iter().map(|(name, batch)| KeyEntry::of(*name, batch)).collect(),
    })
}

impl KeyClaim {
    /// The claim's batch survives a power cut.
    pub fn accepted(mut self, batch: KeyedBatch) {
        self.is_accepted = true;
        let keys = self.keys.clone();
        keys.insert(&mut keys.inner(), self.name, batch);
    }
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        if !self.is_accepted {
            self.keys.inner().known.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests;
