//! From the journal to the lake.
//!
//! Owns: when a segment is sealed, and its way from there. Does not own: formats, how a step is done.
//!
//! ```text
//! journal's view, requests ──> tracker (decides) ──> worker (seals, orders) ──> deliver (plan, publish, describe, retire)
//!                                                                                  ├──> outcomes (callers that wait)
//!                                                                                  └──> pace (what it takes)
//! ```

pub mod deliver;
pub mod outcomes;
pub mod pace;
pub mod tracker;
pub mod worker;

use std::time::Duration;

use crate::limits::{RETRY_FIRST, RETRY_MAX};

/// The wait before attempt `attempt + 2`: doubled each time up to `RETRY_MAX`, and a random part of it, so that pods
/// that failed together do not come back together.
pub fn backoff(attempt: u32) -> Duration {
    let longest = RETRY_FIRST.saturating_mul(1 << attempt.min(16)).min(RETRY_MAX);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}
