//! Events about LakeIngests.
//!
//! Owns: their shape, and that several replicas that see the same thing write it once. Does not own: what happens.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt};
use tracing::warn;

use crate::clock::SharedClock;
use crate::index::Found;
use crate::names::MANAGER;

/// Longest note of an Event. Source: `Event.note`, events.k8s.io/v1: less than 1 kB.
const NOTE_BYTES_MAX: usize = 1_000;

/// What writes Events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    /// The pod that writes.
    pub pod: String,
    /// Time.
    pub clock: SharedClock,
}

/// Something that a user may want to know.
#[derive(Clone, Debug)]
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
    /// Writes an Event about a LakeIngest, unless another replica has. One that cannot be written is no reason to fail.
    pub async fn publish(&self, client: &Client, about: &Found, happening: Happening) {
        let event = self.event(about, &happening);
        let events: Api<Event> = Api::namespaced(client.clone(), &about.namespace().unwrap_or_default());
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => {}
            // Another replica was faster.
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => {}
            Err(error) => warn!(error = %crate::error_chain(&error), "failed to publish an event"),
        }
    }

    fn event(&self, about: &Found, happening: &Happening) -> Event {
        let now = self.clock.now();
        let micros = now.timestamp_micros();
        let now = k8s_openapi::jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                name: Some(name_of(about, happening)),
                namespace: about.namespace(),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(cut(&happening.note)),
            reason: Some(happening.reason.to_owned()),
            regarding: Some(about.object_ref(&())),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.pod.clone()),
            type_: Some(if happening.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

/// The same name for the same thing, so that the API server takes it once.
fn name_of(about: &Found, happening: &Happening) -> String {
    let mut hasher = DefaultHasher::new();
    (about.uid(), happening.reason, &happening.key).hash(&mut hasher);
    format!("{}.{:016x}", about.name_any(), hasher.finish())
}

fn cut(note: &str) -> String {
    let end = note.char_indices().map(|(at, character)| at + character.len_utf8());
    note[..end.take_while(|end| *end <= NOTE_BYTES_MAX).last().unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use serde_json::json;

    use super::*;
    use crate::fixtures::{ManualClock, ingest};

    fn happening(key: &str) -> Happening {
        Happening { is_warning: true, reason: "Configured", note: "é".repeat(2_000), key: key.to_owned() }
    }

    #[test]
    fn replicas_give_the_same_thing_the_same_name_and_another_thing_another() {
        let about: Found = DeserializeGuard(Ok(ingest("events", json!({}))));
        let event = |pod: &str, key: &str| {
            let events = Events { pod: pod.to_owned(), clock: ManualClock::at("2026-01-08T10:05:30Z") };
            events.event(&about, &happening(key)).metadata.name
        };
        assert_eq!(event("a", "1"), event("b", "1"));
        assert_ne!(event("a", "1"), event("a", "2"));
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(cut(&happening("").note).len(), NOTE_BYTES_MAX);
        assert_eq!(cut("short"), "short");
    }
}
