//! Time, injected.
//!
//! Owns: the only calls to the system's clocks. Does not own: what is decided by them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

/// Where time comes from. Wall-clock time names files and dates rows; monotonic time measures waits, so that a
/// jump of the wall clock makes no flush early or late for ever.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock, UTC.
    fn now(&self) -> DateTime<Utc>;

    /// Time since an arbitrary moment before the process's first call; never goes back.
    fn monotonic(&self) -> Duration;
}

/// A clock that is shared.
pub type SharedClock = Arc<dyn Clock>;

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this module is where the clocks are read")]
    pub fn shared() -> SharedClock {
        Arc::new(Self { start: std::time::Instant::now() })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this module is where the clocks are read")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The UTC day of an instant given in microseconds since 1970. An instant outside of what a date can express
/// falls on 1970-01-01.
pub fn day_of_micros(micros: i64) -> NaiveDate {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH).date_naive()
}

/// A clock that stands still until it is moved, for tests.
#[cfg(test)]
#[derive(Debug)]
pub struct ManualClock {
    now: std::sync::Mutex<DateTime<Utc>>,
}

#[cfg(test)]
impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self { now: std::sync::Mutex::new(now) })
    }

    /// Moves both times.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().expect("no test panics while it holds the clock") += by;
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().expect("no test panics while it holds the clock")
    }

    fn monotonic(&self) -> Duration {
        let since_epoch = self.now() - DateTime::UNIX_EPOCH;
        since_epoch.to_std().unwrap_or_default()
    }
}
