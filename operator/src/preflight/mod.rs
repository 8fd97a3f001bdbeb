//! Whether a lake can be used, before any pod of its LakeIngest is there to tell.
//!
//! Owns: a short Job in the LakeIngest's namespace that tries the lake as a sidecar would reach it, when it is made and made
//! anew, and what came of it last. Only the leader does it, and only where the chart lets it.
//! Does not own: the trial itself (the sidecar's verb `preflight`), what is said of it (`controller`). Nothing waits for it: pods
//! are injected as if there were none. No Secret is read: the kubelet mounts it.
//!
//! ```text
//! LakeIngest ──> wanted: what to try, or why not ──> job (pure)
//!                   │                                  │
//!                   └──> decide (pure) <── attempt ── Pod of the Job: waits, runs, has a verdict
//!                          └──> trials: create, look, delete ──> Preflights ──> controller: status
//! ```

mod attempt;
mod decide;
mod job;
mod trials;
mod wanted;

pub use attempt::reason_of;
pub use trials::Trials;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use lakeingest_crds::lakeingest::Preflight;

use crate::index::Found;
use crate::limits::TELL_PERIOD;

/// What is known of a lake by trying it.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Nobody tries it, for this reason.
    Untried(String),
    /// It is being tried for the first time, or is about to be.
    Pending,
    /// It was tried as it is specified now.
    Tried(Preflight),
}

#[derive(Debug, Default)]
struct Known {
    standings: HashMap<ObjectRef<Found>, Standing>,
    /// LakeIngests of whose lake there is something new to say.
    changed: HashSet<ObjectRef<Found>>,
}

/// What is known of each lake by trying it, in the replica that leads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Preflights {
    known: Arc<Mutex<Known>>,
}

impl Preflights {
    /// What is known of the lake of a LakeIngest; none until it was looked at since this replica leads.
    pub fn of(&self, ingest: &ObjectRef<Found>) -> Option<Standing> {
        self.known().standings.get(ingest).cloned()
    }

    /// LakeIngests of whose lake there is something new to say.
    pub fn changes(&self) -> impl Stream<Item = ObjectRef<Found>> + Send + 'static {
        futures::stream::unfold((self.clone(), Vec::new()), |(preflights, mut pending)| async move {
            loop {
                if let Some(next) = pending.pop() {
                    return Some((next, (preflights, pending)));
                }
                tokio::time::sleep(TELL_PERIOD).await;
                pending = preflights.known().changed.drain().collect();
            }
        })
    }

    /// Notes what is known now.
    fn note(&self, ingest: ObjectRef<Found>, standing: Standing) {
        let mut known = self.known();
        if known.standings.get(&ingest) != Some(&standing) {
            known.standings.insert(ingest.clone(), standing);
            known.changed.insert(ingest);
        }
    }

    /// Forgets all LakeIngests but these.
    fn keep(&self, these: &HashSet<ObjectRef<Found>>) {
        self.known().standings.retain(|ingest, _| these.contains(ingest));
    }

    /// Another replica leads.
    fn forget(&self) {
        *self.known() = Known::default();
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
