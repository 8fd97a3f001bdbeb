//! Waiting for something that another process does: look often, give up late, and say what was seen last.
//!
//! Owns: the one time limit and the one pause of this crate.
//! Does not own: what is looked at.

use std::time::Duration;

use anyhow::Result;

use crate::interrupt;
use crate::stopwatch::Stopwatch;

/// How long anything may take to become true.
/// A server starts in about a second; the rest is for a machine on which two builds run beside it.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two looks: short against what is waited for, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(5);

/// The error of a wait that ran out of time.
#[derive(Debug)]
pub struct TimedOut {
    what: String,
    limit: Duration,
    last_seen: String,
}

impl std::fmt::Display for TimedOut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, limit, last_seen } = self;
        write!(formatter, "failed to see {what} within {} s; last seen: {last_seen}", limit.as_secs())
    }
}

impl std::error::Error for TimedOut {}

/// What one look found.
#[derive(Debug)]
pub enum Look<T> {
    /// It is so.
    Ready(T),
    /// Not yet; the text says what was seen instead and is shown when time runs out.
    NotYet(String),
}

/// Looks until it is so, for at most [`TIMEOUT`].
///
/// # Errors
/// When time runs out ([`TimedOut`]), when `look` fails (it can never become so), or on Ctrl-C.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
    until_within(TIMEOUT, what, look)
}

/// As [`until`], for what has a time limit of its own.
///
/// # Errors
/// As [`until`].
pub fn until_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
    let stopwatch = Stopwatch::start();
    loop {
        interrupt::check()?;
        match look()? {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(last_seen) if stopwatch.elapsed() >= limit => {
                return Err(TimedOut { what: what.to_owned(), limit, last_seen }.into());
            }
            Look::NotYet(_) => pause(),
        }
    }
}

/// Lets a moment pass between two looks.
#[expect(clippy::disallowed_methods, reason = "the one pause of this crate, always inside a bounded loop")]
pub(crate) fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn a_look_that_becomes_ready_gives_its_value() {
        let mut looks = 0;
        let value = until("a third look", || {
            looks += 1;
            Ok(if looks == 3 { Look::Ready(looks) } else { Look::NotYet(format!("look {looks}")) })
        });
        assert_eq!(value.expect("the third look is ready"), 3);
    }

    #[test]
    fn running_out_of_time_tells_what_was_last_seen() {
        let outcome: Result<()> = until_within(Duration::ZERO, "the moon", || Ok(Look::NotYet("clouds".to_owned())));
        let message = outcome.expect_err("it is never ready").to_string();
        assert!(message.contains("the moon") && message.contains("clouds"), "{message}");
    }

    #[test]
    fn a_look_that_fails_ends_the_wait_at_once() {
        let stopwatch = Stopwatch::start();
        let outcome: Result<()> = until("a dead server", || bail!("it has exited"));
        assert_eq!(outcome.expect_err("the look fails").to_string(), "it has exited");
        assert!(stopwatch.elapsed() < TIMEOUT / 2);
    }
}
