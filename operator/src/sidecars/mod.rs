//! How the sidecars are, as they say themselves.
//!
//! Owns: asking each one from time to time while this replica leads, and what each has said last.
//! Does not own: what follows from it (`controller`), which pods there are (`index`).
//!
//! ```text
//! index: pods that are ready ──> rounds ──> ask: GET /health ──> Sidecars ──> summary ──> controller: status
//!                                                                    └── changed ──────────^
//! ```

mod ask;
mod health;
mod rounds;
mod summary;

pub use health::Health;
pub use rounds::Asker;
pub use summary::{Said, Summary};

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::Stream;
use kube::runtime::reflector::ObjectRef;

use crate::index::{Found, SidecarPod};
use crate::limits::{ASK_MISSES_MAX, OLDEST_SECONDS_MAX, TELL_PERIOD};

/// How far two looks at the same oldest row may differ, since ages are told in whole seconds and answers take their time.
const OLDEST_SLACK: TimeDelta = TimeDelta::seconds(3);

/// What a sidecar has said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// What it said; none if it has never answered, or does not any more.
    pub health: Option<Health>,
    /// When its oldest row that is not in the lake was received.
    pub oldest: Option<DateTime<Utc>>,
    /// Questions without an answer since.
    misses: u32,
}

impl Pulse {
    /// Whether it does not answer; once is no time.
    pub fn is_unreachable(&self) -> bool {
        self.misses >= ASK_MISSES_MAX
    }

    /// What follows from an answer.
    fn answered(&mut self, health: Health, now: DateTime<Utc>) {
        // A stranger's pod can say anything.
        let seconds = u32::try_from(health.backlog.oldest_seconds).unwrap_or(u32::MAX).min(OLDEST_SECONDS_MAX);
        let age = TimeDelta::seconds(seconds.into());
        let oldest = (health.backlog.rows > 0).then(|| now.checked_sub_signed(age)).flatten();
        self.oldest = match (self.oldest, oldest) {
            (Some(before), Some(now)) if (now - before).abs() <= OLDEST_SLACK => Some(before),
            (_, oldest) => oldest,
        };
        self.health = Some(health);
        self.misses = 0;
    }

    fn missed(&mut self) {
        self.misses = self.misses.saturating_add(1);
        if self.is_unreachable() {
            (self.health, self.oldest) = (None, None);
        }
    }

    /// Whether the two say the same, but for how much waits.
    fn is_like(&self, other: &Self) -> bool {
        let told = |pulse: &Self| {
            let health = pulse.health.clone().map(|health| Health { backlog: health::Backlog::default(), ..health });
            (health, pulse.is_unreachable())
        };
        told(self) == told(other)
    }
}

#[derive(Debug, Default)]
struct Known {
    /// By the uid of the pod.
    pulses: HashMap<String, Pulse>,
    /// Whether each sidecar was asked once since this replica leads.
    has_looked: bool,
    /// LakeIngests of whose sidecars there is something new to say.
    changed: HashSet<ObjectRef<Found>>,
}

/// What the sidecars have said. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sidecars {
    known: Arc<Mutex<Known>>,
}

impl Sidecars {
    /// What these pods say together of a LakeIngest of this generation, whose sidecars should have this image; none until
    /// each sidecar of the cluster was asked.
    pub fn summary(&self, pods: &[SidecarPod], generation: Option<i64>, image: Option<&str>) -> Option<Summary> {
        let known = self.known();
        known.has_looked.then(|| Summary::of(pods, |uid| known.pulses.get(uid), generation, image))
    }

    /// What those of these pods say that are not well.
    pub fn unwell(&self, pods: &[SidecarPod]) -> Vec<(SidecarPod, Health)> {
        let known = self.known();
        let health_of = |pod: &SidecarPod| known.pulses.get(&pod.uid)?.health.clone();
        let unwell = pods.iter().filter_map(|pod| Some((pod.clone(), health_of(pod)?)));
        unwell.filter(|(_, health)| !health.reasons.is_empty()).collect()
    }

    /// LakeIngests of whose sidecars there is something new to say, gathered for a moment: many pods of one change together.
    pub fn changes(&self) -> impl Stream<Item = ObjectRef<Found>> + Send + 'static {
        futures::stream::unfold((self.clone(), Vec::new()), |(sidecars, mut pending)| async move {
            loop {
                if let Some(next) = pending.pop() {
                    return Some((next, (sidecars, pending)));
                }
                tokio::time::sleep(TELL_PERIOD).await;
                pending = sidecars.known().changed.drain().collect();
            }
        })
    }

    /// Notes an answer, or that there was none.
    fn note(&self, pod: &SidecarPod, health: Option<Health>, now: DateTime<Utc>) {
        let mut known = self.known();
        let pulse = known.pulses.entry(pod.uid.clone()).or_default();
        let before = pulse.clone();
        match health {
            Some(health) => pulse.answered(health, now),
            None => pulse.missed(),
        }
        if !pulse.is_like(&before) {
            known.changed.insert(pod.ingest.clone());
        }
    }

    /// A round is over: what was said by pods that are gone is forgotten, and how old the backlogs are is said. After the first
    /// one there is something to say of each of `ingests`, also of those that have no sidecar.
    fn finish_round(&self, asked: &[SidecarPod], ingests: impl IntoIterator<Item = ObjectRef<Found>>) {
        let mut known = self.known();
        let uids: HashSet<&str> = asked.iter().map(|pod| pod.uid.as_str()).collect();
        known.pulses.retain(|uid, _| uids.contains(uid.as_str()));
        let has_backlog = |pod: &&SidecarPod| known.pulses.get(&pod.uid).is_some_and(|pulse| pulse.oldest.is_some());
        let news: Vec<_> = asked.iter().filter(has_backlog).map(|pod| pod.ingest.clone()).collect();
        known.changed.extend(news);
        if !std::mem::replace(&mut known.has_looked, true) {
            known.changed.extend(ingests);
        }
    }

    /// How many do not answer.
    fn unreachable(&self) -> usize {
        self.known().pulses.values().filter(|pulse| pulse.is_unreachable()).count()
    }

    /// Another replica leads.
    fn forget(&self) {
        *self.known() = Known::default();
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What sidecars that answer this say together, or that do not answer, of generation 3; for tests. Their backlogs are seen at
/// 2026-01-08T10:05:30Z.
#[cfg(test)]
pub(crate) fn summary_of(told: &[(SidecarPod, Option<serde_json::Value>)]) -> Summary {
    let (sidecars, now) = (Sidecars::default(), "2026-01-08T10:05:30Z".parse().expect("it is a time"));
    for (pod, health) in told {
        let health = health.as_ref().map(|health| Health::parse(health.to_string().as_bytes()).expect("it is one"));
        for _ in 0..ASK_MISSES_MAX {
            sidecars.note(pod, health.clone(), now);
        }
    }
    let pods: Vec<_> = told.iter().map(|(pod, _)| pod.clone()).collect();
    sidecars.finish_round(&pods, []);
    sidecars.summary(&pods, Some(3), None).expect("each was asked")
}

#[cfg(test)]
mod tests;
