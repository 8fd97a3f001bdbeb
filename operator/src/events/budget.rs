//! How many Events are written.
//!
//! Owns: what a namespace may write, what all of them together may, and what is kept back for Events about rows. Upholds I12: one
//! namespace does not use up what the others need. Does not own: what becomes of an Event that is one too many.

use std::collections::HashMap;
use std::time::Duration;

use crate::limits::{
    EVENT_NAMESPACES_MAX, EVENTS, EVENTS_OF_NAMESPACE, EVENTS_OF_NAMESPACE_ROWS, EVENTS_RESERVE, Pace,
};

/// What may still be written.
#[derive(Debug)]
pub(super) struct Budgets {
    /// Of everything but rows.
    whole: Budget,
    /// Of rows, beside the whole.
    reserve: Budget,
    /// Of each namespace that has written of late.
    namespaces: HashMap<String, OfNamespace>,
}

/// What a namespace may still write.
#[derive(Debug)]
struct OfNamespace {
    everything: Budget,
    rows: Budget,
}

impl OfNamespace {
    fn at(now: Duration) -> Self {
        Self { everything: Budget::full(EVENTS_OF_NAMESPACE, now), rows: Budget::full(EVENTS_OF_NAMESPACE_ROWS, now) }
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.everything.is_full(now) && self.rows.is_full(now)
    }
}

impl Budgets {
    /// Full ones.
    pub(super) fn at(now: Duration) -> Self {
        let (whole, reserve) = (Budget::full(EVENTS, now), Budget::full(EVENTS_RESERVE, now));
        Self { whole, reserve, namespaces: HashMap::new() }
    }

    /// Whether one more may be written in this namespace; notes it if so.
    pub(super) fn take(&mut self, namespace: &str, is_of_rows: bool, now: Duration) -> bool {
        if self.namespaces.len() >= EVENT_NAMESPACES_MAX && !self.namespaces.contains_key(namespace) {
            // One that is full is as good as none.
            self.namespaces.retain(|_, of| !of.is_full(now));
            if self.namespaces.len() >= EVENT_NAMESPACES_MAX {
                return false;
            }
        }
        let of = self.namespaces.entry(namespace.to_owned()).or_insert_with(|| OfNamespace::at(now));
        match is_of_rows {
            true => Budget::take_of_both(&mut of.rows, &mut self.reserve, now),
            false => Budget::take_of_both(&mut of.everything, &mut self.whole, now),
        }
    }
}

/// So many at once, and so many in a minute.
#[derive(Debug)]
struct Budget {
    pace: Pace,
    left: u32,
    /// When it was filled up last, by the monotonic clock.
    since: Duration,
}

impl Budget {
    fn full(pace: Pace, now: Duration) -> Self {
        Self { pace, left: pace.at_once, since: now }
    }

    /// Takes one of each, or none of either.
    fn take_of_both(one: &mut Self, other: &mut Self, now: Duration) -> bool {
        one.fill_up(now);
        other.fill_up(now);
        let have_some = one.left > 0 && other.left > 0;
        if have_some {
            one.left -= 1;
            other.left -= 1;
        }
        have_some
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.fill_up(now);
        self.left == self.pace.at_once
    }

    fn fill_up(&mut self, now: Duration) {
        let each = Duration::from_secs(60) / self.pace.per_minute;
        let more = now.saturating_sub(self.since).as_nanos() / each.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if more > 0 {
            self.since = self.since.saturating_add(each.saturating_mul(more)).min(now);
            self.left = self.left.saturating_add(more).min(self.pace.at_once);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many tries may be written.
    fn written(budgets: &mut Budgets, namespace: &str, is_of_rows: bool, tries: u32, second: u64) -> u32 {
        let now = Duration::from_secs(second);
        (0..tries).map(|_| u32::from(budgets.take(namespace, is_of_rows, now))).sum()
    }

    #[test]
    fn i12_events_of_a_minute_have_a_bound() {
        let mut budgets = Budgets::at(Duration::ZERO);
        let mut of_all = |second: u64| -> u32 {
            (0..50).map(|number| written(&mut budgets, &number.to_string(), false, 20, second)).sum()
        };
        assert_eq!(of_all(0), EVENTS.at_once);
        assert_eq!(of_all(0), 0);
        let in_a_minute: u32 = (1..=60).map(&mut of_all).sum();
        assert_eq!(in_a_minute, EVENTS.per_minute);
        assert_eq!(of_all(100_000), EVENTS.at_once);
    }

    #[test]
    fn a_namespace_does_not_use_up_what_is_anothers() {
        let mut budgets = Budgets::at(Duration::ZERO);
        assert_eq!(written(&mut budgets, "team-b", false, 1_000, 0), EVENTS_OF_NAMESPACE.at_once);
        assert_eq!(written(&mut budgets, "team-a", false, 5, 0), 5);
        let in_a_minute: u32 = (1..=60).map(|second| written(&mut budgets, "team-b", false, 100, second)).sum();
        assert_eq!(in_a_minute, EVENTS_OF_NAMESPACE.per_minute);
    }

    #[test]
    fn there_is_room_for_rows_when_everything_else_is_used_up() {
        let mut budgets = Budgets::at(Duration::ZERO);
        for number in 0..100 {
            written(&mut budgets, &number.to_string(), false, 100, 0);
        }
        assert_eq!(written(&mut budgets, "0", false, 1, 0), 0);
        assert_eq!(written(&mut budgets, "0", true, 100, 0), EVENTS_OF_NAMESPACE_ROWS.at_once);
        assert_eq!(written(&mut budgets, "1", true, 1, 0), 1);
    }

    #[test]
    fn namespaces_that_have_written_nothing_of_late_are_forgotten() {
        let mut budgets = Budgets::at(Duration::ZERO);
        for number in 0..3 * EVENT_NAMESPACES_MAX {
            // Far enough apart for each to be full again.
            let now = Duration::from_secs(600) * u32::try_from(number).unwrap_or(u32::MAX);
            assert!(budgets.take(&number.to_string(), false, now));
        }
        assert!(budgets.namespaces.len() <= EVENT_NAMESPACES_MAX, "{}", budgets.namespaces.len());
    }
}
