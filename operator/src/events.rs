//! Events about LakeIngests, and about what makes the pods that use them.
//!
//! Owns: their shape, that several replicas that see the same thing write it once; how many are written: `budget`.
//! Does not own: what happens.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.

mod budget;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{Api, PostParams};
use tracing::{debug, warn};

use crate::clock::SharedClock;
use crate::metrics::Metrics;
use crate::names::MANAGER;
use budget::Budgets;

/// Longest note of an Event. Source: `Event.note`, events.k8s.io/v1: less than 1 kB.
const NOTE_BYTES_MAX: usize = 1_000;

/// What writes Events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    /// The pod that writes.
    pod: String,
    clock: SharedClock,
    budgets: Arc<Mutex<Budgets>>,
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
        let budgets = Budgets::at(clock.monotonic());
        Self { pod: pod.to_owned(), clock, budgets: Arc::new(Mutex::new(budgets)), metrics }
    }

    /// Writes an Event, unless another replica has. Gives whether it needs not be written again. One that cannot be written is
    /// no reason to fail; one that is too much is counted.
    pub async fn publish(&self, client: &Client, about: &ObjectReference, happening: Happening) -> bool {
        let namespace = about.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        if !self.may_write(namespace, &happening) {
            self.metrics.events_dropped.inc();
            debug!(reason = happening.reason, "an event is one too many");
            return false;
        }
        let event = self.event(about, &happening);
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => true,
            // Another replica was faster.
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => true,
            // There is nobody left to tell.
            Err(kube::Error::Api(answer)) if answer.code == 404 => true,
            Err(error) if crate::is_of_ending_namespace(&error) => true,
            Err(error) => {
                warn!(error = %crate::error_chain(&error), "failed to publish an event");
                false
            }
        }
    }

    fn may_write(&self, namespace: &str, happening: &Happening) -> bool {
        let now = self.clock.monotonic();
        let is_of_rows = ABOUT_ROWS.contains(&happening.reason);
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).take(namespace, is_of_rows, now)
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

/// Reason of the Event for rows that were in the journal alone.
pub const ROWS_LEFT_BEHIND: &str = "RowsLeftBehind";

/// Reason of the Event for rows that are in log files in the lake.
pub const ROWS_IN_LOG_FILES: &str = "RowsInLogFiles";

/// Reasons for which there is room when everything else has used up its own: nothing else says it for as long.
const ABOUT_ROWS: [&str; 2] = [ROWS_LEFT_BEHIND, ROWS_IN_LOG_FILES];

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

/// Longest part of an Event's name that is the object's. Derivation: a name has 253 characters at most, of which the rest needs 17.
const OBJECT_NAME_CHARACTERS_MAX: usize = 200;

/// The same name for the same thing, so that the API server takes it once.
fn name_of(about: &ObjectReference, happening: &Happening) -> String {
    let mut hasher = DefaultHasher::new();
    (&about.uid, happening.reason, &happening.key).hash(&mut hasher);
    let object: String =
        about.name.as_deref().unwrap_or("lakeingest").chars().take(OBJECT_NAME_CHARACTERS_MAX).collect();
    // What is before a dot ends as a name does.
    format!("{}.{:016x}", object.trim_end_matches(['.', '-']), hasher.finish())
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

    /// The API server would refuse it, at each try.
    #[test]
    fn the_name_of_an_event_is_one_however_long_that_of_its_object_is() {
        let name = |object: &str| {
            let about = ObjectReference { name: Some(object.to_owned()), ..ObjectReference::default() };
            name_of(&about, &happening("1"))
        };
        assert!(name(&"a".repeat(253)).len() <= 253);
        let cut_at_a_dash = name(&format!("{}-{}", "a".repeat(199), "b".repeat(50)));
        assert!(cut_at_a_dash.starts_with(&format!("{}.", "a".repeat(199))), "{cut_at_a_dash}");
        assert!(name("shop-5d4f").starts_with("shop-5d4f."));
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
}
