//! Events about LakeIngests, and about what makes the pods that use them.
//!
//! Owns: their shape, that several replicas that see the same thing write it once, and how many are written.
//! Does not own: what happens.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{Api, PostParams};
use tracing::{debug, warn};

use crate::clock::SharedClock;
use crate::limits::{EVENTS_AT_ONCE_MAX, EVENTS_PER_MINUTE_MAX};
use crate::metrics::Metrics;
use crate::names::MANAGER;

/// Longest note of an Event. Source: `Event.note`, events.k8s.io/v1: less than 1 kB.
const NOTE_BYTES_MAX: usize = 1_000;

/// What writes Events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    /// The pod that writes.
    pod: String,
    clock: SharedClock,
    budget: Arc<Mutex<Budget>>,
    metrics: Arc<Metrics>,
}

/// Something that a user may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Whether it wants a look.
    pub is_warning: bool,
    /// What it is, in one word.
    pub reason: &'static str,
    /// What it is, for a person.
    pub note: String,
    /// What tells it from another of the same reason; the same for every replica that sees it.
    pub key: String,
}

impl Events {
    /// What writes Events as this pod.
    pub fn new(pod: &str, clock: SharedClock, metrics: Arc<Metrics>) -> Self {
        let budget = Budget { left: EVENTS_AT_ONCE_MAX, since: clock.monotonic() };
        Self { pod: pod.to_owned(), clock, budget: Arc::new(Mutex::new(budget)), metrics }
    }

    /// Writes an Event, unless another replica has. Gives whether it needs not be written again. One that cannot be written is
    /// no reason to fail; one that is too much is counted.
    pub async fn publish(&self, client: &Client, about: &ObjectReference, happening: Happening) -> bool {
        if !self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(self.clock.monotonic()) {
            self.metrics.events_dropped.inc();
            debug!(reason = happening.reason, "an event is one too many");
            return false;
        }
        let event = self.event(about, &happening);
        let events: Api<Event> =
            Api::namespaced(client.clone(), about.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE));
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => true,
            // Another replica was faster.
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => true,
            Err(error) => {
                warn!(error = %crate::error_chain(&error), "failed to publish an event");
                false
            }
        }
    }

    fn event(&self, about: &ObjectReference, happening: &Happening) -> Event {
        let now = self.clock.now();
        let micros = now.timestamp_micros();
        let now = k8s_openapi::jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                name: Some(name_of(about, happening)),
                namespace: Some(about.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(cut(&happening.note)),
            reason: Some(happening.reason.to_owned()),
            regarding: Some(about.clone()),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.pod.clone()),
            type_: Some(if happening.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

/// Where Events about objects without a namespace are.
const DEFAULT_NAMESPACE: &str = "default";

/// What has made a pod, as something that an Event is about.
pub fn reference_of(owner: &OwnerReference, namespace: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(owner.api_version.clone()),
        kind: Some(owner.kind.clone()),
        name: Some(owner.name.clone()),
        namespace: Some(namespace.to_owned()),
        uid: Some(owner.uid.clone()),
        ..ObjectReference::default()
    }
}

/// How many Events may still be written: so many at once, and so many in a minute.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// When it was filled up last, by the monotonic clock.
    since: Duration,
}

impl Budget {
    fn take(&mut self, now: Duration) -> bool {
        let each = Duration::from_secs(60) / EVENTS_PER_MINUTE_MAX;
        let more = now.saturating_sub(self.since).as_nanos() / each.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if more > 0 {
            self.since = self.since.saturating_add(each.saturating_mul(more)).min(now);
            self.left = self.left.saturating_add(more).min(EVENTS_AT_ONCE_MAX);
        }
        let has_some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_some
    }
}

/// The same name for the same thing, so that the API server takes it once.
fn name_of(about: &ObjectReference, happening: &Happening) -> String {
    let mut hasher = DefaultHasher::new();
    (&about.uid, happening.reason, &happening.key).hash(&mut hasher);
    format!("{}.{:016x}", about.name.as_deref().unwrap_or("lakeingest"), hasher.finish())
}

fn cut(note: &str) -> String {
    let end = note.char_indices().map(|(at, character)| at + character.len_utf8());
    note[..end.take_while(|end| *end <= NOTE_BYTES_MAX).last().unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use kube::Resource;
    use serde_json::json;

    use super::*;
    use crate::fixtures::{ManualClock, ingest};

    fn happening(key: &str) -> Happening {
        Happening { is_warning: true, reason: "Configured", note: "é".repeat(2_000), key: key.to_owned() }
    }

    fn events_of(pod: &str) -> Events {
        Events::new(pod, ManualClock::at("2026-01-08T10:05:30Z"), Arc::new(Metrics::default()))
    }

    #[test]
    fn replicas_give_the_same_thing_the_same_name_and_another_thing_another() {
        let about = ingest("events", json!({})).object_ref(&());
        let name = |pod: &str, key: &str| events_of(pod).event(&about, &happening(key)).metadata.name;
        assert_eq!(name("a", "1"), name("b", "1"));
        assert_ne!(name("a", "1"), name("a", "2"));
    }

    #[test]
    fn an_event_is_about_what_has_made_a_pod_in_the_pods_namespace() {
        let owner = OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: "shop-5d4f".to_owned(),
            uid: "u7".to_owned(),
            ..OwnerReference::default()
        };
        let event = events_of("a").event(&reference_of(&owner, "team-a"), &happening("1"));
        assert_eq!(event.metadata.namespace.as_deref(), Some("team-a"));
        let regarding = event.regarding.expect("it is about something");
        assert_eq!((regarding.kind.as_deref(), regarding.uid.as_deref()), (Some("ReplicaSet"), Some("u7")));
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(cut(&happening("").note).len(), NOTE_BYTES_MAX);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn i12_events_of_a_minute_have_a_bound() {
        let mut budget = Budget { left: EVENTS_AT_ONCE_MAX, since: Duration::ZERO };
        let mut written = |second: u64| (0..1_000).filter(|_| budget.take(Duration::from_secs(second))).count();
        assert_eq!(written(0), usize::try_from(EVENTS_AT_ONCE_MAX).unwrap_or(0));
        assert_eq!(written(0), 0);
        let in_a_minute: usize = (1..=60).map(&mut written).sum();
        assert_eq!(in_a_minute, usize::try_from(EVENTS_PER_MINUTE_MAX).unwrap_or(0));
        assert_eq!(written(100_000), usize::try_from(EVENTS_AT_ONCE_MAX).unwrap_or(0));
    }
}
