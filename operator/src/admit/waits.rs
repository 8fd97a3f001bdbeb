//! Pods that wait for something that may be there in a moment.
//!
//! Owns: how long they wait, how many do at once, and what is not waited for again. Upholds I12: whoever creates pods that ask
//! in vain keeps nobody else's from being decided over. Does not own: what is waited for.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{SharedClock, SystemClock};
use crate::limits::{IN_VAIN_TIME, PODS_WAITING_IN_NAMESPACE_MAX, PODS_WAITING_MAX, WAITS_REMEMBERED_MAX};

/// Who waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waits {
    time: Duration,
    clock: SharedClock,
    hasher: RandomState,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// How many wait, by their namespace.
    waiting: HashMap<String, usize>,
    /// What was waited for in vain, and when that was. By a hash, so that no name of a stranger is kept.
    in_vain: HashMap<u64, Duration>,
    /// The same, the oldest first.
    order: VecDeque<u64>,
}

impl Waits {
    /// Each waits this long at most.
    pub fn new(time: Duration, clock: SharedClock) -> Self {
        Self { time, clock, hasher: RandomState::new(), known: Arc::default() }
    }

    /// Nobody waits.
    pub fn none() -> Self {
        Self::new(Duration::ZERO, SystemClock::shared())
    }

    /// How long a pod waits.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// Begins to wait for what is missing in a namespace; none if too many wait, or have waited for the same in vain.
    pub(super) fn begin(&self, namespace: &str, missing: &impl Hash) -> Option<Waiting> {
        let missing = self.hasher.hash_one((namespace, missing));
        let mut known = self.known();
        let was_in_vain = known.in_vain.get(&missing);
        if was_in_vain.is_some_and(|at| self.clock.monotonic().saturating_sub(*at) < IN_VAIN_TIME) {
            return None;
        }
        let of_all: usize = known.waiting.values().sum();
        let of_namespace = known.waiting.get(namespace).copied().unwrap_or_default();
        if of_namespace >= PODS_WAITING_IN_NAMESPACE_MAX || of_all >= PODS_WAITING_MAX {
            return None;
        }
        known.waiting.insert(namespace.to_owned(), of_namespace + 1);
        Some(Waiting { waits: self.clone(), namespace: namespace.to_owned() })
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pod that waits, for as long as this is held.
#[derive(Debug)]
pub(super) struct Waiting {
    waits: Waits,
    namespace: String,
}

impl Waiting {
    /// The wait is over, and this is still missing.
    pub(super) fn was_in_vain(self, missing: &impl Hash) {
        let missing = self.waits.hasher.hash_one((self.namespace.as_str(), missing));
        let mut known = self.waits.known();
        if known.in_vain.insert(missing, self.waits.clock.monotonic()).is_none() {
            known.order.push_back(missing);
        }
        if known.order.len() > WAITS_REMEMBERED_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.in_vain.remove(&oldest);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut known = self.waits.known();
        match known.waiting.get_mut(&self.namespace) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(known.waiting.remove(&self.namespace)),
        }
    }
}

#[cfg(test)]
impl Waits {
    /// The same, but each waits this long.
    pub(super) fn waiting_for(&self, time: Duration) -> Self {
        Self { time, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::ManualClock;

    fn waits() -> (Waits, Arc<ManualClock>) {
        let clock = ManualClock::at("2026-01-08T10:05:30Z");
        (Waits::new(Duration::from_secs(60), clock.clone()), clock)
    }

    #[test]
    fn i12_the_pods_of_a_namespace_that_wait_have_a_bound_and_all_have_one() {
        let (waits, _clock) = waits();
        let of = |namespace: &str| -> Vec<_> { std::iter::from_fn(|| waits.begin(namespace, &"x")).collect() };
        let held: Vec<_> = (0..50).map(|number| of(&format!("team-{number}"))).collect();
        assert_eq!(held[0].len(), PODS_WAITING_IN_NAMESPACE_MAX);
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), PODS_WAITING_MAX);
        drop(held);
        assert!(waits.known().waiting.is_empty());
    }

    #[test]
    fn what_was_waited_for_in_vain_is_not_waited_for_again_for_a_while() {
        let (waits, clock) = waits();
        waits.begin("team-a", &"x").expect("nobody waits").was_in_vain(&"x");
        assert!(waits.begin("team-a", &"x").is_none());
        assert!(waits.begin("team-a", &"y").is_some() && waits.begin("team-b", &"x").is_some());
        clock.advance(IN_VAIN_TIME);
        assert!(waits.begin("team-a", &"x").is_some());
        for number in 0..=WAITS_REMEMBERED_MAX {
            waits.begin("team-a", &number).expect("it is another").was_in_vain(&number);
        }
        let known = waits.known();
        assert_eq!((known.in_vain.len(), known.order.len()), (WAITS_REMEMBERED_MAX, WAITS_REMEMBERED_MAX));
    }
}
