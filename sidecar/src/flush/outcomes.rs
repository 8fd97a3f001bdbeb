//! What became of segments, for those who wait for them.
//!
//! Owns: the newest outcomes and the waiting callers. Does not own: deliveries.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::journal::control::Settled;
use crate::limits::OUTCOMES_MAX;

/// The outcomes of segments.
#[derive(Debug, Default)]
pub struct Outcomes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    finished: BTreeMap<u64, Arc<Settled>>,
    waiting: HashMap<u64, Vec<oneshot::Sender<Arc<Settled>>>>,
}

impl Outcomes {
    /// Tells everybody who waits for a segment, and whoever asks soon.
    pub fn finish(&self, segment: u64, outcome: Settled) {
        let outcome = Arc::new(outcome);
        let mut inner = self.inner();
        for waiting in inner.waiting.remove(&segment).unwrap_or_default() {
            // Whoever waited may have reached its deadline.
            let _ = waiting.send(Arc::clone(&outcome));
        }
        inner.finished.insert(segment, outcome);
        while inner.finished.len() > OUTCOMES_MAX {
            inner.finished.pop_first();
        }
    }

    /// What a segment became, if it is remembered.
    pub fn of(&self, segment: u64) -> Option<Arc<Settled>> {
        self.inner().finished.get(&segment).cloned()
    }

    /// Answers when the segment is in the lake: at once if it is already.
    pub fn wait(&self, segment: u64) -> oneshot::Receiver<Arc<Settled>> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner();
        match inner.finished.get(&segment) {
            Some(outcome) => drop(sender.send(Arc::clone(outcome))),
            None => {
                // Those who reached their deadline make room for the next.
                let waiting = inner.waiting.entry(segment).or_default();
                waiting.retain(|waiting| !waiting.is_closed());
                waiting.push(sender);
            }
        }
        receiver
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_ask_before_and_after_are_told_the_same() {
        let outcomes = Outcomes::default();
        let before = outcomes.wait(7);
        let outcome = Settled { quarantined_by_batch: BTreeMap::from([(3, 1)]), ..Settled::default() };
        outcomes.finish(7, outcome.clone());
        assert_eq!(*before.await.expect("it was told"), outcome);
        assert_eq!(*outcomes.wait(7).await.expect("it is remembered"), outcome);
    }

    #[test]
    fn only_the_newest_outcomes_are_kept() {
        let outcomes = Outcomes::default();
        for segment in 0..OUTCOMES_MAX as u64 + 5 {
            outcomes.finish(segment, Settled::default());
        }
        let inner = outcomes.inner();
        assert_eq!(inner.finished.len(), OUTCOMES_MAX);
        assert_eq!(inner.finished.keys().next(), Some(&5));
    }
}
