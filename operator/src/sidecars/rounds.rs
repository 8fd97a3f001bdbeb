//! Whom to ask when.
//!
//! Owns: rounds over all sidecars, their pace, and that only the leader asks. Does not own: a question (`ask`).
//!
//! A round takes [`ASK_PERIOD`], or longer where there are more pods than may be asked in that time: the number of questions
//! in a second has a bound, whatever the number of pods.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tokio::task::JoinSet;
use tracing::debug;

use super::Sidecars;
use super::ask::ask;
use crate::clock::SharedClock;
use crate::index::{Index, SidecarPod};
use crate::leader::Leadership;
use crate::limits::{ASK_PERIOD, ASKS_AT_ONCE_MAX, ASKS_PER_SECOND_MAX, FIRST_ASKS_PER_SECOND};
use crate::metrics::Metrics;

/// What asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Which pods there are.
    pub index: Index,
    /// Whether this replica asks.
    pub leadership: Leadership,
    /// What is said.
    pub sidecars: Sidecars,
    /// Time.
    pub clock: SharedClock,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl Asker {
    /// Asks round after round while this replica leads, for ever.
    pub async fn run(self) {
        loop {
            self.leadership.begins().await;
            self.index.synced().await;
            self.leadership.during(self.rounds()).await;
            self.sidecars.forget();
            self.metrics.sidecars_unreachable.set(0);
        }
    }

    async fn rounds(&self) {
        loop {
            let started = self.clock.monotonic();
            let pods = shuffled(self.index.sidecars());
            let pace = pace(pods.len());
            let mut asks = JoinSet::new();
            for pod in pods.clone() {
                tokio::time::sleep(pace).await;
                while asks.len() >= ASKS_AT_ONCE_MAX {
                    asks.join_next().await;
                }
                asks.spawn(self.clone().ask(pod));
            }
            while asks.join_next().await.is_some() {}
            let ingests = self.index.lake_ingests().state();
            self.sidecars.finish_round(&pods, ingests.iter().map(|found| ObjectRef::from_obj(&**found)));
            self.metrics.sidecars_unreachable.set(i64::try_from(self.sidecars.unreachable()).unwrap_or(i64::MAX));
            let took = self.clock.monotonic().saturating_sub(started);
            tokio::time::sleep(ASK_PERIOD.saturating_sub(took)).await;
        }
    }

    async fn ask(self, pod: SidecarPod) {
        let outcome = match pod.address {
            Some(address) => ask(address).await.map_err(|error| crate::error_chain(&error)),
            None => Err("the pod has no address".to_owned()),
        };
        self.metrics.asked(if outcome.is_ok() { "answered" } else { "unanswered" });
        if let Err(error) = &outcome {
            debug!(namespace = %pod.namespace, pod = %pod.name, error, "a sidecar does not say how it is");
        }
        self.sidecars.note(&pod, outcome.ok(), self.clock.now());
    }
}

/// The time between two questions: a few pods are asked at once after another, many over the whole round, very many over
/// longer than that.
fn pace(pods: usize) -> Duration {
    let pods = u32::try_from(pods).unwrap_or(u32::MAX).max(1);
    let (quickest, slowest) =
        (Duration::from_secs(1) / ASKS_PER_SECOND_MAX, Duration::from_secs(1) / FIRST_ASKS_PER_SECOND);
    (ASK_PERIOD / pods).clamp(quickest, slowest)
}

/// In another order each time, so that pods of one owner, which have names beside one another, are not asked together.
fn shuffled(pods: Vec<SidecarPod>) -> Vec<SidecarPod> {
    // A map of the standard library has an order by chance.
    let by_uid: HashMap<String, SidecarPod> = pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
    by_uid.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i12_however_many_pods_there_are_the_questions_of_a_second_have_a_bound() {
        for pods in [0, 1, 10, 100, 1_000, 100_000, usize::MAX] {
            let pace = pace(pods);
            assert!(pace >= Duration::from_secs(1) / ASKS_PER_SECOND_MAX, "{pods}: {pace:?}");
            assert!(pods > 100 || pace * u32::try_from(pods).unwrap_or(0) <= ASK_PERIOD, "{pods}: {pace:?}");
        }
    }
}
