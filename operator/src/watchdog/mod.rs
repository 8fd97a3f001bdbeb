//! Pods that ask and run without their sidecar are replaced, one after the other, where a platform engineer wants that.
//!
//! Owns: evicting them, and telling their owners. Does not own: which pods those are (`index`), or what becomes of those that
//! come in their place (`admit`).
//!
//! By the Eviction API, so that a PodDisruptionBudget is heard; never by deleting.
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>.

mod choice;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, EvictParams, Preconditions};
use kube::{Client, ResourceExt};
use lakeingest_crds::lakeingest::reasons;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::events::{Events, Happening};
use crate::index::{Index, MissingPod, has_sidecar};
use crate::leader::Leadership;
use crate::limits::{WATCHDOG_PERIOD_MAX, WATCHDOG_PERIOD_MIN};
use crate::metrics::Metrics;
use choice::{Choice, Next};

/// What evicts them.
#[derive(Debug)]
pub struct Watchdog {
    /// How long a pod is left alone, and all of its owner after each eviction.
    pub patience: Duration,
    /// Which pods there are.
    pub index: Index,
    /// Whether this replica evicts.
    pub leadership: Leadership,
    /// Whether a pod that comes now gets a sidecar, as far as this replica knows.
    pub is_trusted: watch::Receiver<bool>,
    /// Where it is told.
    pub events: Events,
    /// What measures the patience.
    pub clock: SharedClock,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

/// What came of trying to evict a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Evicted,
    /// Its disruption budget has no room.
    Refused,
    /// It is gone, another of its name is there, or it has a sidecar and not the marks of one.
    Gone,
    Failed,
}

impl Watchdog {
    /// Looks from time to time while this replica leads, for ever.
    pub async fn run(mut self, client: Client) {
        loop {
            self.leadership.begins().await;
            self.index.synced().await;
            // Until then pods that ask are refused, and one that was evicted would not come back.
            let _ = self.is_trusted.wait_for(|trusted| *trusted).await;
            self.leadership.during(self.looks(&client)).await;
        }
    }

    async fn looks(&self, client: &Client) {
        let mut choice = Choice::default();
        let period = (self.patience / 10).clamp(WATCHDOG_PERIOD_MIN, WATCHDOG_PERIOD_MAX);
        loop {
            if *self.is_trusted.borrow() {
                self.look(client, &mut choice).await;
            }
            tokio::time::sleep(period).await;
        }
    }

    /// Evicts one pod at most.
    async fn look(&self, client: &Client, choice: &mut Choice) {
        let missing = self.index.missing_that_could_have_one();
        let now = self.clock.monotonic();
        match choice.next(&missing, now, self.patience) {
            Next::Evict(pod) => {
                let outcome = evict(client, pod).await;
                self.metrics.evicted(outcome.name());
                choice.tried(pod, now, self.clock.now().timestamp(), outcome == Outcome::Evicted);
                if outcome == Outcome::Evicted {
                    self.events.publish(client, &pod.owner, evicted(pod)).await;
                }
            }
            Next::GiveUp(pod) => {
                warn!(namespace = %pod.namespace, pod = %pod.name, "a pod came back without its sidecar; its like are left alone for long");
                if self.events.publish(client, &pod.owner, given_up(pod)).await {
                    choice.given_up(pod);
                }
            }
            Next::Wait => {}
        }
    }
}

/// Asks the API server to evict a pod, if it is still the one that was seen, without a sidecar.
async fn evict(client: &Client, pod: &MissingPod) -> Outcome {
    let (namespace, name) = (&pod.namespace, &pod.name);
    let same = Preconditions { uid: Some(pod.uid.clone()), ..Preconditions::default() };
    let options = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    let params = EvictParams { delete_options: Some(options), ..EvictParams::default() };
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    match pods.get_opt(name).await {
        // Its marks are its owner's to change; what it runs is not.
        Ok(Some(found)) if found.uid().as_ref() == Some(&pod.uid) && !has_sidecar(&found) => {}
        Ok(_) => return Outcome::Gone,
        Err(error) => return failed(pod, &error),
    }
    match pods.evict(name, &params).await {
        Ok(_) => {
            info!(%namespace, pod = %name, lake_ingest = %pod.ingest, "evicted a pod that ran without its sidecar");
            Outcome::Evicted
        }
        Err(kube::Error::Api(answer)) if answer.code == TOO_MANY_REQUESTS => {
            info!(%namespace, pod = %name, reason = %answer.message, "a pod that runs without its sidecar cannot be evicted now");
            Outcome::Refused
        }
        Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Outcome::Gone,
        Err(error) => failed(pod, &error),
    }
}

fn failed(pod: &MissingPod, error: &kube::Error) -> Outcome {
    let error = crate::error_chain(error);
    warn!(namespace = %pod.namespace, pod = %pod.name, error, "failed to evict a pod that runs without its sidecar");
    Outcome::Failed
}

/// What the Eviction API answers where a PodDisruptionBudget has no room.
const TOO_MANY_REQUESTS: u16 = 429;

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

fn evicted(pod: &MissingPod) -> Happening {
    let (name, ingest) = (&pod.name, &pod.ingest);
    let note = format!(
        "evicted pod {name}: it asks for LakeIngest {ingest} and ran without its sidecar; another pod comes in its place"
    );
    Happening { is_warning: false, reason: reasons::POD_EVICTED, note, key: pod.uid.clone() }
}

fn given_up(pod: &MissingPod) -> Happening {
    let (name, ingest) = (&pod.name, &pod.ingest);
    let note = format!(
        "pod {name} came in place of one that was evicted, asks for LakeIngest {ingest} and has no sidecar either: its like are left \
         alone for long; kubectl lakeingest why {name} says why it has none"
    );
    Happening { is_warning: true, reason: reasons::EVICTION_IN_VAIN, note, key: pod.uid.clone() }
}
