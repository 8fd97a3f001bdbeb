//! Who leads, decided by what the Lease says and by how long it has said so.
//!
//! Owns: the one decision after each look at the Lease, and until when its holder may act. Pure: time is given.
//! Does not own: the API server, waiting.
//!
//! The times in a Lease are those of its holder's wall clock, which may be wrong, so nobody reads them: who waits counts by
//! a clock of its own from when it saw the Lease change, and who holds it counts from before it asked for the renewal. The
//! holder stops some seconds before anybody else may begin.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use crate::limits::{LEADER_ACTS, LEASE_DURATION, LEASE_DURATION_MAX};

/// What is to be done about the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// There is none: it is made, and is ours.
    Create(Lease),
    /// It is free, or ours already: it is replaced at the version that was seen.
    Replace(Lease),
    /// It is another's.
    Wait,
}

/// One replica's part in the election.
#[derive(Debug)]
pub(super) struct Election {
    /// Who this process is: no other has the same, not even an earlier one of this pod.
    identity: String,
    /// What the Lease said when it last changed, and when that was seen.
    seen: Option<(LeaseSpec, Duration)>,
    /// Until when we may act; none while we do not lead.
    acts_until: Option<Duration>,
}

impl Election {
    /// Nobody leads yet, as far as this replica knows.
    pub(super) fn new(identity: String) -> Self {
        Self { identity, seen: None, acts_until: None }
    }

    /// Until when we may act, by the monotonic clock; none while we do not lead.
    pub(super) fn acts_until(&self) -> Option<Duration> {
        self.acts_until
    }

    /// Decides after a look at the Lease `name`. `now` is the monotonic time at which the answer was there, `stamp` the wall
    /// clock, which is written for people.
    pub(super) fn decide(&mut self, name: &str, found: Option<&Lease>, now: Duration, stamp: Timestamp) -> Step {
        let Some(found) = found else {
            self.lose();
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            return Step::Create(Lease { metadata, spec: Some(self.taken(None, stamp)) });
        };
        let spec = found.spec.clone().unwrap_or_default();
        let is_ours = spec.holder_identity.as_deref() == Some(&self.identity);
        if !is_ours {
            self.lose();
            if !self.has_run_out(&spec, now) {
                return Step::Wait;
            }
        }
        let spec = match is_ours {
            true => LeaseSpec { renew_time: Some(MicroTime(stamp)), ..spec },
            false => self.taken(Some(&spec), stamp),
        };
        Step::Replace(Lease { spec: Some(spec), metadata: found.metadata.clone() })
    }

    /// The API server took what [`Self::decide`] asked for; the request was sent at `asked`.
    pub(super) fn won(&mut self, asked: Duration) {
        self.acts_until = Some(asked.saturating_add(LEADER_ACTS));
    }

    /// Another has the Lease, or it is given back.
    pub(super) fn lose(&mut self) {
        self.acts_until = None;
    }

    /// The Lease given back, for the others to have it at once; none if it is not ours.
    pub(super) fn released(&self, found: &Lease) -> Option<Lease> {
        let spec = found.spec.clone()?;
        let is_ours = spec.holder_identity.as_deref() == Some(&self.identity);
        let spec = LeaseSpec { holder_identity: None, ..spec };
        is_ours.then(|| Lease { spec: Some(spec), metadata: found.metadata.clone() })
    }

    /// Whether the Lease is nobody's, or has not changed for as long as it is good for.
    fn has_run_out(&mut self, spec: &LeaseSpec, now: Duration) -> bool {
        if spec.holder_identity.as_deref().unwrap_or_default().is_empty() {
            return true;
        }
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        now.saturating_sub(since) >= good_for(spec)
    }

    /// What the Lease says once it is ours.
    fn taken(&self, before: Option<&LeaseSpec>, stamp: Timestamp) -> LeaseSpec {
        let terms = before.and_then(|before| before.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(stamp)),
            renew_time: Some(MicroTime(stamp)),
            lease_transitions: Some(terms.map_or(0, |terms| terms.saturating_add(1))),
            ..LeaseSpec::default()
        }
    }
}

/// How long a Lease is good for without a change: what its holder has written, if that is longer than ours, which an operator
/// of another version may have.
fn good_for(spec: &LeaseSpec) -> Duration {
    let written = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let written = written.map_or(LEASE_DURATION, Duration::from_secs);
    written.clamp(LEASE_DURATION, LEASE_DURATION_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn step(election: &mut Election, found: Option<&Lease>, now: Duration) -> Step {
        election.decide("leader", found, now, Timestamp::UNIX_EPOCH)
    }

    /// The Lease that an election writes.
    fn written(step: Step) -> Lease {
        match step {
            Step::Create(lease) | Step::Replace(lease) => lease,
            Step::Wait => panic!("the test expects it to be free"),
        }
    }

    fn of(identity: &str) -> (Election, Lease) {
        let mut election = Election::new(identity.to_owned());
        let lease = written(step(&mut election, None, Duration::ZERO));
        election.won(Duration::ZERO);
        (election, lease)
    }

    /// A Lease that was renewed: another stamp.
    fn renewed(lease: &Lease, seconds: i64) -> Lease {
        let stamp = Timestamp::from_second(seconds).expect("it is a time");
        let spec = lease.spec.clone().unwrap_or_default();
        Lease { spec: Some(LeaseSpec { renew_time: Some(MicroTime(stamp)), ..spec }), metadata: lease.metadata.clone() }
    }

    /// Goal: two never act at once. Method: the holder renews for the last time at 100 s and then hangs; the other one sees that
    /// renewal as early as it can, at once.
    #[test]
    fn the_holder_stops_before_another_may_begin() {
        let (mut first, lease) = of("first");
        let lease = renewed(&lease, 100);
        first.won(100 * SECOND);
        let mut second = Election::new("second".to_owned());
        assert_eq!(step(&mut second, Some(&lease), 100 * SECOND), Step::Wait);
        let stops = first.acts_until().expect("it leads");
        assert_eq!(step(&mut second, Some(&lease), stops), Step::Wait);
        assert_eq!(step(&mut second, Some(&lease), stops + 4 * SECOND), Step::Wait);
        let taken = written(step(&mut second, Some(&lease), 100 * SECOND + LEASE_DURATION));
        let spec = taken.spec.clone().unwrap_or_default();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("second"), Some(1)));
        // The first one comes back and finds it.
        assert_eq!(step(&mut first, Some(&taken), 200 * SECOND), Step::Wait);
        assert_eq!(first.acts_until(), None);
    }

    /// However wrong the clocks are that the stamps come from.
    #[test]
    fn each_renewal_begins_the_wait_anew() {
        let (_, lease) = of("first");
        let mut second = Election::new("second".to_owned());
        for round in 0..10 {
            let lease = renewed(&lease, -1_000 * i64::from(round));
            assert_eq!(step(&mut second, Some(&lease), round * 15 * SECOND), Step::Wait);
        }
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let (first, lease) = of("first");
        let mut second = Election::new("second".to_owned());
        assert_eq!(second.released(&lease), None, "it is not the second one's to give");
        assert_eq!(step(&mut second, Some(&lease), Duration::ZERO), Step::Wait);
        let free = first.released(&lease).expect("it is the first one's");
        assert!(matches!(step(&mut second, Some(&free), Duration::ZERO), Step::Replace(_)));
    }

    #[test]
    fn its_holder_renews_it_and_keeps_what_else_it_says() {
        let (mut first, lease) = of("first");
        let again = written(step(&mut first, Some(&lease), 4 * SECOND));
        first.won(4 * SECOND);
        assert_eq!(first.acts_until(), Some(4 * SECOND + LEADER_ACTS));
        let before = lease.spec.unwrap_or_default();
        let after = again.spec.unwrap_or_default();
        assert_eq!((after.acquire_time, after.lease_transitions), (before.acquire_time, before.lease_transitions));
    }

    /// What somebody writes into the Lease by hand keeps nobody waiting for ever.
    #[test]
    fn a_lease_is_good_for_a_bounded_time() {
        for (seconds, expected) in [
            (None, LEASE_DURATION),
            (Some(-1), LEASE_DURATION),
            (Some(30), 30 * SECOND),
            (Some(9_999), LEASE_DURATION_MAX),
        ] {
            let spec = LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() };
            assert_eq!(good_for(&spec), expected, "{seconds:?}");
        }
    }
}
