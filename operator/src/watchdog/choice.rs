//! Which pod is evicted next, if any.
//!
//! Owns: how long a pod is left alone, how often its owner, and when it is given up. Does not own: evicting.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::index::MissingPod;
use crate::limits::{CLOCKS_APART_SECONDS_MAX, WATCHDOG_GIVEN_UP_PARTS};

/// What has made a pod, by its uid.
type Owner = String;

/// A pod, by its uid.
type Pod = String;

/// What is remembered while one replica leads.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// When each pod was first seen without its sidecar, by the monotonic clock.
    seen: HashMap<Pod, Duration>,
    /// What was last tried with each owner's pods.
    tried: HashMap<Owner, Tried>,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    /// By the monotonic clock.
    at: Duration,
    /// By the wall clock. Unit: seconds since 1970.
    moment: i64,
    /// Whether a pod was evicted, or could not be.
    is_evicted: bool,
    /// Whether its owner's pods have been given up.
    is_given_up: bool,
}

/// What is to be done now.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'a> {
    /// To evict this pod.
    Evict(&'a MissingPod),
    /// To say that this pod came without its sidecar too, in place of one that was evicted, and that its owner's are left alone.
    GiveUp(&'a MissingPod),
    /// Nothing.
    Wait,
}

impl Choice {
    /// What is to be done about these pods at a moment of the monotonic clock. Each is left alone for `patience` first; so are
    /// all of an owner after one of them was tried.
    pub(super) fn next<'a>(&mut self, missing: &'a [MissingPod], now: Duration, patience: Duration) -> Next<'a> {
        let mut owners: BTreeMap<&str, Vec<&MissingPod>> = BTreeMap::new();
        for pod in missing.iter().filter(|pod| pod.may_be_evicted) {
            owners.entry(uid_of_owner(pod)).or_default().push(pod);
        }
        self.seen.retain(|uid, _| missing.iter().any(|pod| pod.uid == *uid));
        self.tried.retain(|owner, _| owners.contains_key(owner.as_str()));
        for pod in missing {
            self.seen.entry(pod.uid.clone()).or_insert(now);
        }
        if let Some(pod) = owners.iter().find_map(|(owner, pods)| self.in_vain(owner, pods)) {
            return Next::GiveUp(pod);
        }
        let due = owners.iter().filter(|(owner, _)| self.may_be_tried(owner, now, patience)).flat_map(|(_, pods)| pods);
        let due = due.filter(|pod| now.saturating_sub(self.since(pod)) >= patience);
        due.min_by_key(|pod| (self.since(pod), &pod.uid)).map_or(Next::Wait, |pod| Next::Evict(pod))
    }

    /// A pod was evicted, or could not be, at this moment of both clocks.
    pub(super) fn tried(&mut self, pod: &MissingPod, now: Duration, moment: i64, is_evicted: bool) {
        self.tried.insert(uid_of_owner(pod).to_owned(), Tried { at: now, moment, is_evicted, is_given_up: false });
    }

    /// Its owner's pods are left alone for [`WATCHDOG_GIVEN_UP_PARTS`] times as long, or until none of them is without a sidecar.
    pub(super) fn given_up(&mut self, pod: &MissingPod) {
        if let Some(tried) = self.tried.get_mut(uid_of_owner(pod)) {
            tried.is_given_up = true;
        }
    }

    fn since(&self, pod: &MissingPod) -> Duration {
        self.seen.get(&pod.uid).copied().unwrap_or_default()
    }

    fn may_be_tried(&self, owner: &str, now: Duration, patience: Duration) -> bool {
        let pause = |tried: &Tried| if tried.is_given_up { patience * WATCHDOG_GIVEN_UP_PARTS } else { patience };
        self.tried.get(owner).is_none_or(|tried| now.saturating_sub(tried.at) >= pause(tried))
    }

    /// A pod that was made after one of its owner's was evicted, if nobody knows of it yet; not one that ran before and asks since.
    fn in_vain<'a>(&self, owner: &str, pods: &[&'a MissingPod]) -> Option<&'a MissingPod> {
        let tried = self.tried.get(owner).filter(|tried| tried.is_evicted && !tried.is_given_up)?;
        let made_from = tried.moment - CLOCKS_APART_SECONDS_MAX;
        pods.iter().find(|pod| self.since(pod) > tried.at && pod.created >= made_from).copied()
    }
}

fn uid_of_owner(pod: &MissingPod) -> &str {
    pod.owner.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::missing_pod as pod;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A moment of the wall clock.
    const NOON: i64 = 1_767_873_600;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_pod_is_left_alone_first_and_its_like_after_it() {
        let (mut choice, pods) = (Choice::default(), [pod("a", "u1"), pod("b", "u1"), pod("c", "u2")]);
        assert_eq!(choice.next(&pods, at(0), PATIENCE), Next::Wait);
        assert_eq!(choice.next(&pods, at(59), PATIENCE), Next::Wait);
        assert_eq!(choice.next(&pods, at(60), PATIENCE), Next::Evict(&pods[0]));
        choice.tried(&pods[0], at(60), NOON, true);
        assert_eq!(choice.next(&pods[1..], at(61), PATIENCE), Next::Evict(&pods[2]), "another owner's");
        choice.tried(&pods[2], at(61), NOON, true);
        assert_eq!(choice.next(&pods[1..2], at(119), PATIENCE), Next::Wait);
        assert_eq!(choice.next(&pods[1..2], at(120), PATIENCE), Next::Evict(&pods[1]));
    }

    #[test]
    fn one_that_could_not_be_evicted_is_tried_again_later() {
        let (mut choice, pods) = (Choice::default(), [pod("a", "u1")]);
        choice.next(&pods, at(0), PATIENCE);
        choice.tried(&pods[0], at(60), NOON, false);
        let more = [pods[0].clone(), pod("b", "u1")];
        assert_eq!(choice.next(&more, at(90), PATIENCE), Next::Wait, "nothing was evicted, so nothing was in vain");
        assert_eq!(choice.next(&more, at(120), PATIENCE), Next::Evict(&more[0]));
    }

    #[test]
    fn owners_whose_pods_come_back_without_are_given_up_for_long_or_until_all_is_well() {
        let (mut choice, first, mut second) = (Choice::default(), [pod("a", "u1"), pod("b", "u1")], pod("c", "u1"));
        // The clocks are not quite one.
        second.created = NOON - 1;
        choice.next(&first, at(0), PATIENCE);
        choice.tried(&first[0], at(60), NOON, true);
        let after = [first[1].clone(), second];
        assert_eq!(choice.next(&after, at(61), PATIENCE), Next::GiveUp(&after[1]));
        // Words that were not taken are said again.
        assert_eq!(choice.next(&after, at(62), PATIENCE), Next::GiveUp(&after[1]));
        choice.given_up(&after[1]);
        assert_eq!(choice.next(&after, at(779), PATIENCE), Next::Wait);
        assert_eq!(choice.next(&after, at(780), PATIENCE), Next::Evict(&after[0]), "somebody may have mended it");
        assert_eq!(choice.next(&[], at(781), PATIENCE), Next::Wait);
        choice.next(&after, at(782), PATIENCE);
        assert_eq!(choice.next(&after, at(842), PATIENCE), Next::Evict(&after[0]), "it was well in between");
    }

    #[test]
    fn a_pod_that_ran_before_and_asks_since_was_no_replacement() {
        let (mut choice, pods) = (Choice::default(), [pod("a", "u1"), pod("b", "u1")]);
        choice.next(&pods[..1], at(0), PATIENCE);
        choice.tried(&pods[0], at(60), NOON, true);
        assert_eq!(choice.next(&pods[1..], at(70), PATIENCE), Next::Wait);
        assert_eq!(choice.next(&pods[1..], at(130), PATIENCE), Next::Evict(&pods[1]));
    }

    #[test]
    fn a_pod_that_nothing_brings_back_or_that_said_so_stays() {
        let (mut choice, mut alone) = (Choice::default(), pod("a", "a"));
        alone.may_be_evicted = false;
        choice.next(&[alone.clone()], at(0), PATIENCE);
        assert_eq!(choice.next(&[alone], at(1_000), PATIENCE), Next::Wait);
    }
}
