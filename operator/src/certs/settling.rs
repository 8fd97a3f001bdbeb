//! Which authority signs.
//!
//! Owns: since when the live configuration has had each of them, and what follows. Does not own: looking at it (`keeper`).

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::authorities::Authorities;
use super::authority::Authority;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// By the wall clock, in which validity is written.
    pub(super) wall: DateTime<Utc>,
    /// By the clock that nobody sets, by which is waited.
    pub(super) monotonic: Duration,
}

/// Since when each authority is in the live configuration, by its certificate.
#[derive(Debug, Default)]
pub(super) struct Settling {
    since: HashMap<Vec<u8>, Since>,
    has_looked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    /// It was there when this process looked first, and is so old that it was there for long.
    Always,
    /// This process saw it come.
    Then(Duration),
}

impl Settling {
    /// The live configuration was looked at. `is_there` says of each authority whether every entry has it.
    pub(super) fn saw(
        &mut self,
        authorities: &Authorities,
        is_there: impl Fn(&Authority) -> bool,
        now: Moment,
        settle: TimeDelta,
    ) {
        let there = authorities.iter().filter(|one| is_there(one)).map(|one| {
            let certificate = one.certificate().to_vec();
            let is_old = !self.has_looked && now.wall - one.validity().made() >= settle * 2;
            let since = match (self.since.get(&certificate), is_old) {
                (Some(since), _) => *since,
                (None, true) => Since::Always,
                (None, false) => Since::Then(now.monotonic),
            };
            (certificate, since)
        });
        self.since = there.collect();
        self.has_looked = true;
    }

    /// There is no configuration.
    pub(super) fn saw_none(&mut self) {
        self.since.clear();
    }

    /// The authority that signs: the newest that every API server must have heard of; else the one that signs already; else
    /// the oldest. None if none is valid.
    pub(super) fn signer<'a>(
        &self,
        authorities: &'a Authorities,
        signs_already: impl Fn(&Authority) -> bool,
        now: Moment,
        settle: TimeDelta,
    ) -> Option<&'a Authority> {
        let valid = || authorities.valid(now.wall).map(|one| &**one);
        let has_settled = |one: &&Authority| {
            let certificate: &[u8] = one.certificate();
            match self.since.get(certificate) {
                None => false,
                Some(Since::Always) => true,
                Some(Since::Then(then)) => now.monotonic.saturating_sub(*then) >= settle.to_std().unwrap_or_default(),
            }
        };
        valid().rev().find(has_settled).or_else(|| valid().find(|one| signs_already(one))).or_else(|| valid().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: TimeDelta = TimeDelta::seconds(2);

    fn at(seconds: i64) -> Moment {
        Moment {
            wall: DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds),
            monotonic: Duration::from_secs(u64::try_from(seconds).expect("the test's time is positive")),
        }
    }

    /// Authorities that were made at these seconds.
    fn made(seconds: &[i64]) -> Authorities {
        seconds.iter().map(|&seconds| Authority::for_test(at(seconds).wall)).collect::<Vec<_>>().into()
    }

    /// When the one that signs was made.
    fn signer(settling: &Settling, all: &Authorities, already: i64, now: i64) -> Option<i64> {
        let made = |one: &Authority| (one.validity().made() - at(0).wall).num_seconds();
        settling.signer(all, |one| made(one) == already, at(now), SETTLE).map(made)
    }

    #[test]
    fn a_new_authority_signs_only_after_it_was_in_the_live_configuration_for_a_while() {
        let all = made(&[0, 100]);
        let mut settling = Settling::default();
        settling.saw(&all, |one| one.validity().made() == at(0).wall, at(100), SETTLE);
        assert_eq!(signer(&settling, &all, 0, 1_000), Some(0), "it is not there at all");
        settling.saw(&all, |_| true, at(1_000), SETTLE);
        assert_eq!(signer(&settling, &all, 0, 1_001), Some(0));
        settling.saw(&all, |_| true, at(1_001), SETTLE);
        assert_eq!(signer(&settling, &all, 0, 1_002), Some(100));
    }

    #[test]
    fn one_that_is_taken_out_of_the_configuration_waits_again_and_who_signs_goes_on() {
        let all = made(&[0, 100]);
        let mut settling = Settling::default();
        settling.saw(&all, |_| true, at(100), SETTLE);
        settling.saw(&all, |_| false, at(101), SETTLE);
        settling.saw(&all, |_| true, at(102), SETTLE);
        assert_eq!(signer(&settling, &all, 0, 103), Some(0));
        assert_eq!(signer(&settling, &all, 100, 103), Some(100), "what is served is not taken back");
        assert_eq!(signer(&settling, &all, 0, 104), Some(100));
    }

    /// A process that starts has not seen it come.
    #[test]
    fn one_that_is_old_and_there_at_the_first_look_signs_at_once() {
        let all = made(&[0, 100]);
        let mut settling = Settling::default();
        assert_eq!(signer(&settling, &all, -1, 103), Some(0), "nothing is known: the one that has been there longest");
        settling.saw(&all, |_| true, at(103), SETTLE);
        assert_eq!(signer(&settling, &all, -1, 103), Some(0), "it is too young");
        let mut settling = Settling::default();
        settling.saw(&all, |_| true, at(104), SETTLE);
        assert_eq!(signer(&settling, &all, -1, 104), Some(100));
    }

    #[test]
    fn what_is_not_valid_signs_nothing() {
        let all = made(&[0]);
        let settling = Settling::default();
        assert_eq!(signer(&settling, &all, 0, 366 * 24 * 3_600), None);
    }
}
