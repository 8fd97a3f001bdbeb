//! How fast segments get into the lake, as measured.
//!
//! Owns: the two rates and what follows from them. Pure but for the one cell that holds them.
//! Does not own: what is done about it (`run`), who is told (`http`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::DELIVERIES_MAX;

/// Weight of the newest measurement: the last ten or so count.
const WEIGHT: f64 = 0.2;

/// A segment from here on measures the rate, a smaller one the time that every segment takes. Unit: bytes.
const LARGE_SEGMENT_BYTES: u64 = 1 << 20;

/// An upload from here on measures the network. Unit: bytes.
const LARGE_UPLOAD_BYTES: u64 = 64 << 10;

/// The pace of deliveries. What it begins with is slow for a lake that is near: a promise that is kept early does no harm.
#[derive(Debug)]
pub struct Pace {
    inner: Mutex<Rates>,
}

#[derive(Clone, Copy, Debug)]
struct Rates {
    /// What every segment takes, however small, beside the others that are under way. Unit: seconds.
    segment_seconds: f64,
    /// Bodies that become files in the lake. Unit: bytes a second.
    delivery: f64,
    /// Bytes that leave. Unit: bytes a second.
    upload: f64,
}

impl Default for Pace {
    fn default() -> Self {
        let slow = Rates { segment_seconds: 0.1, delivery: 8e6, upload: 8e6 };
        Self { inner: Mutex::new(slow) }
    }
}

impl Pace {
    /// A segment with bodies of so many bytes was delivered in this time.
    pub fn delivered(&self, body_bytes: u64, took: Duration) {
        let mut rates = self.inner();
        let seconds = took.as_secs_f64();
        if body_bytes < LARGE_SEGMENT_BYTES {
            blend(&mut rates.segment_seconds, seconds);
        } else {
            let moving = (seconds - rates.segment_seconds).max(seconds / 2.0);
            blend_rate(&mut rates.delivery, body_bytes, moving);
        }
    }

    /// An object of so many bytes was sent and looked at in this time.
    pub fn sent(&self, bytes: u64, took: Duration) {
        if bytes >= LARGE_UPLOAD_BYTES {
            blend_rate(&mut self.inner().upload, bytes, took.as_secs_f64());
        }
    }

    /// How long so many segments with bodies of so many bytes will take. [`DELIVERIES_MAX`] segments are under way at a time;
    /// their bodies go through the one encoder one after another.
    pub fn time_to_deliver(&self, segments: usize, body_bytes: u64) -> Duration {
        let rates = *self.inner();
        // No journal has so many segments or bytes that their number is not exact here.
        let turns = segments.div_ceil(DELIVERIES_MAX) as f64;
        Duration::from_secs_f64(turns * rates.segment_seconds + body_bytes as f64 / rates.delivery)
    }

    /// How long it will take to send so many bytes.
    pub fn time_to_send(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.inner().upload)
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn inner(&self) -> MutexGuard<'_, Rates> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn blend(known: &mut f64, newest: f64) {
    *known += WEIGHT * (newest - *known);
}

fn blend_rate(known: &mut f64, bytes: u64, seconds: f64) {
    /// Where a clock shows no time at all.
    const SECONDS_MIN: f64 = 1e-4;
    blend(known, bytes as f64 / seconds.max(SECONDS_MIN));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::EXIT_MARGIN;

    #[test]
    fn it_goes_by_what_was_measured() {
        let pace = Pace::default();
        let before = pace.time_to_deliver(0, 100 << 20);
        for _ in 0..50 {
            pace.delivered(64 << 20, Duration::from_secs(1));
            pace.delivered(100, Duration::from_millis(50));
            pace.sent(10 << 20, Duration::from_secs(10));
            pace.sent(10, Duration::from_secs(100));
        }
        let close_to = |found: Duration, seconds: f64| (found.as_secs_f64() / seconds - 1.0).abs() < 0.1;
        assert!(close_to(pace.time_to_deliver(0, 640 << 20), 9.5), "{:?}", pace.time_to_deliver(0, 640 << 20));
        assert!(close_to(pace.time_to_deliver(100, 0), 1.25), "{:?}", pace.time_to_deliver(100, 0));
        assert!(close_to(pace.time_to_deliver(1, 0), 0.05), "{:?}", pace.time_to_deliver(1, 0));
        assert!(close_to(pace.time_to_send(20 << 20), 20.0), "{:?}", pace.time_to_send(20 << 20));
        assert!(before > pace.time_to_deliver(0, 100 << 20));
    }

    /// Encoding was once given up for what takes three seconds.
    #[test]
    fn hundreds_of_small_tables_have_time_in_a_pod_before_anything_was_measured() {
        let in_pod = Duration::from_secs(30) - EXIT_MARGIN;
        assert!(Pace::default().time_to_deliver(300, 300 << 10) < in_pod / 2);
    }

    #[test]
    fn nothing_takes_no_time_and_a_clock_that_stands_breaks_nothing() {
        let pace = Pace::default();
        pace.delivered(2 << 20, Duration::ZERO);
        pace.sent(2 << 20, Duration::ZERO);
        assert_eq!(pace.time_to_deliver(0, 0), Duration::ZERO);
        assert!(pace.time_to_send(1 << 30) < Duration::from_secs(60));
    }
}
