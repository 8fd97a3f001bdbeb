//! What is known of namespaces without asking: by which label they ask for sidecars in their pods, and whether they give each
//! pod a user of its own.
//!
//! Owns: the watch of their metadata, what is kept of it, the lookup. Does not own: what is done with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use crate::again::Again;
use crate::index::watch_failed;
use crate::metrics::Metrics;
use crate::names::{INJECT, UID_RANGE};

/// Namespaces of one page of a list. Derivation: their metadata has at most 256 KiB of annotations.
const PAGE_OBJECTS: u32 = 50;

/// What is known of namespaces. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Namespaces {
    known: watch::Receiver<Known>,
}

/// What has been seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether all of them have been seen once.
    is_filled: bool,
    /// Those of which there is something to know.
    namespaces: BTreeMap<String, Facts>,
    /// As much of a list as has arrived; it takes the place of what is known once it is whole.
    arriving: BTreeMap<String, Facts>,
}

/// What is known of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its label [`INJECT`].
    pub label: Option<String>,
    /// Whether it gives each pod a user of its own, and admits no other.
    pub assigns_users: bool,
}

impl Facts {
    /// What the metadata of a namespace says.
    pub fn of(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Self {
        Self { label: labels.get(INJECT).cloned(), assigns_users: annotations.contains_key(UID_RANGE) }
    }
}

/// A namespace as it is watched: its metadata alone.
type NamespaceMeta = PartialObjectMeta<Namespace>;

impl Namespaces {
    /// Nothing is known until what comes with it is polled, which ends when the watch does.
    pub fn watch(client: &Client, metrics: &Arc<Metrics>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (teller, known) = watch::channel(Known::default());
        let all = Api::<NamespaceMeta>::all(client.clone());
        // All of them: a label that goes is an event too.
        let events = watcher(all, watcher::Config::default().page_size(PAGE_OBJECTS)).backoff(Again::default());
        let metrics = Arc::clone(metrics);
        let follow = async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => drop(teller.send_if_modified(|known| known.take_in(event))),
                    Err(error) => watch_failed(&metrics, "Namespace", &error),
                }
            }
        };
        (Self { known }, follow)
    }

    /// What was asked for once: nothing changes it further.
    pub fn of(namespaces: BTreeMap<String, Facts>) -> Self {
        let (_, known) = watch::channel(Known { is_filled: true, namespaces, arriving: BTreeMap::new() });
        Self { known }
    }

    /// Nothing is known until what comes with it tells the label of a namespace.
    #[cfg(test)]
    pub(crate) fn for_test() -> (Self, impl FnMut(&str, &str)) {
        let (teller, known) = watch::channel(Known::default());
        let tell = move |namespace: &str, label: &str| {
            let facts = Facts { label: Some(label.to_owned()), assigns_users: false };
            teller.send_modify(|known| drop(known.namespaces.insert(namespace.to_owned(), facts)));
        };
        (Self { known }, tell)
    }

    /// The label [`INJECT`] of a namespace.
    pub fn label(&self, namespace: &str) -> Option<String> {
        self.known.borrow().namespaces.get(namespace)?.label.clone()
    }

    /// Whether a namespace gives each pod a user of its own.
    pub fn assigns_users(&self, namespace: &str) -> bool {
        self.known.borrow().namespaces.get(namespace).is_some_and(|facts| facts.assigns_users)
    }

    /// Changes after each change of what is known.
    pub fn changes(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }

    /// Comes back when all of them have been seen once.
    pub async fn synced(&self) {
        // The watch ends with the process; who waits ends before.
        let _ = self.known.clone().wait_for(|known| known.is_filled).await;
    }
}

impl Known {
    /// Takes in what the watch has seen; whether anything is otherwise than before.
    fn take_in(&mut self, event: watcher::Event<NamespaceMeta>) -> bool {
        match event {
            watcher::Event::Init => {
                self.arriving.clear();
                false
            }
            watcher::Event::InitApply(namespace) => {
                set(&mut self.arriving, &namespace);
                false
            }
            // What went while nobody watched is not in the list.
            watcher::Event::InitDone => {
                let arrived = std::mem::take(&mut self.arriving);
                let is_new = !self.is_filled || arrived != self.namespaces;
                (self.is_filled, self.namespaces) = (true, arrived);
                is_new
            }
            watcher::Event::Apply(namespace) => set(&mut self.namespaces, &namespace),
            watcher::Event::Delete(namespace) => self.namespaces.remove(&namespace.name_any()).is_some(),
        }
    }
}

/// Keeps what a namespace says now; whether it was otherwise.
fn set(known: &mut BTreeMap<String, Facts>, namespace: &NamespaceMeta) -> bool {
    let facts = Facts::of(namespace.labels(), namespace.annotations());
    match facts == Facts::default() {
        true => known.remove(&namespace.name_any()).is_some(),
        false => known.insert(namespace.name_any(), facts.clone()) != Some(facts),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(name: &str, label: Option<&str>) -> NamespaceMeta {
        let labels = label.map(|label| json!({INJECT: label}));
        let metadata = serde_json::from_value(json!({"name": name, "labels": labels})).expect("it is metadata");
        NamespaceMeta { metadata, types: None, _phantom: std::marker::PhantomData }
    }

    #[test]
    fn a_label_is_known_while_it_is_there() {
        let mut known = Known::default();
        let mut label = |event, is_new: bool| {
            assert_eq!(known.take_in(event), is_new);
            known.namespaces.get("team-a").and_then(|facts| facts.label.clone())
        };
        let with = |label| namespace("team-a", label);
        assert_eq!(label(watcher::Event::Init, false), None);
        assert_eq!(label(watcher::Event::InitApply(with(Some("events"))), false), None, "the list is not whole yet");
        assert_eq!(label(watcher::Event::InitDone, true), Some("events".to_owned()));
        assert_eq!(label(watcher::Event::Apply(with(Some("events"))), false), Some("events".to_owned()));
        assert_eq!(label(watcher::Event::Apply(with(Some("orders"))), true), Some("orders".to_owned()));
        assert_eq!(label(watcher::Event::Apply(with(None)), true), None);
        assert_eq!(label(watcher::Event::Apply(with(Some("true"))), true), Some("true".to_owned()));
        assert_eq!(label(watcher::Event::Delete(with(Some("true"))), true), None);
        assert_eq!(label(watcher::Event::Apply(with(Some("true"))), true), Some("true".to_owned()));
        assert_eq!(label(watcher::Event::Init, false), Some("true".to_owned()), "known until the new list is whole");
        assert_eq!(label(watcher::Event::InitDone, true), None, "it went while nobody watched");
    }

    #[test]
    fn a_namespace_that_gives_users_is_known_without_a_label() {
        let mut known = Known::default();
        let mut open = namespace("team-a", None);
        open.metadata.annotations = Some([(UID_RANGE.to_owned(), "1000680000/10000".to_owned())].into());
        assert!(known.take_in(watcher::Event::Apply(open)));
        assert_eq!(known.namespaces.get("team-a"), Some(&Facts { label: None, assigns_users: true }));
        assert!(known.take_in(watcher::Event::Apply(namespace("team-a", None))), "nothing is known of it any more");
        assert!(known.namespaces.is_empty());
    }
}
