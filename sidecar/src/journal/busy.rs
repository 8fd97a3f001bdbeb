//! Since when the journal's thread is at a group commit: a disk that hangs in `fdatasync` says nothing by itself.
//!
//! Owns: the one moment. Does not own: what is made of it (`run`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Stands for a thread that waits for work.
const IDLE: u64 = u64::MAX;

/// When the group commit that is under way began.
#[derive(Debug)]
pub(super) struct Busy {
    since_micros: AtomicU64,
}

impl Default for Busy {
    fn default() -> Self {
        Self { since_micros: AtomicU64::new(IDLE) }
    }
}

impl Busy {
    /// A group commit begins, by the monotonic clock.
    pub(super) fn begin(&self, now: Duration) {
        self.since_micros.store(u64::try_from(now.as_micros()).unwrap_or(IDLE), Ordering::Release);
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.since_micros.store(IDLE, Ordering::Release);
    }

    /// How long the one that is under way has taken by `now`; none if there is none.
    pub(super) fn for_how_long(&self, now: Duration) -> Option<Duration> {
        match self.since_micros.load(Ordering::Acquire) {
            IDLE => None,
            since => Some(now.saturating_sub(Duration::from_micros(since))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_beginning_to_the_end_of_a_commit() {
        let busy = Busy::default();
        let at = Duration::from_secs;
        assert_eq!(busy.for_how_long(at(1)), None);
        busy.begin(at(2));
        assert_eq!(busy.for_how_long(at(7)), Some(at(5)));
        busy.end();
        assert_eq!(busy.for_how_long(at(8)), None);
    }
}
