//! Time, injected.
//!
//! Owns: the only calls to the system's clocks. Does not own: what is decided by them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// Where time comes from. Wall-clock time decides over certificates, whose validity is written in it; monotonic time
/// measures durations.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock, UTC.
    fn now(&self) -> DateTime<Utc>;

    /// Time since the clock was made; never goes back.
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
