//! What is known of namespaces without asking: by which label they ask for sidecars in their pods.
//!
//! Owns: the watch of their metadata, what is kept of it, the lookup. Does not own: what is done with it.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use crate::names::INJECT;

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
    /// The label [`INJECT`] of each that has it.
    labels: BTreeMap<String, String>,
    /// As much of a list as has arrived; it takes the place of what is known once it is whole.
    arriving: BTreeMap<String, String>,
}

/// A namespace as it is watched: its metadata alone.
type NamespaceMeta = PartialObjectMeta<Namespace>;

impl Namespaces {
    /// Nothing is known until what comes with it is polled, which ends when the watch does.
    pub fn watch(client: &Client) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (teller, known) = watch::channel(Known::default());
        let all = Api::<NamespaceMeta>::all(client.clone());
        // All of them: a label that goes is an event too.
        let events = watcher(all, watcher::Config::default().page_size(PAGE_OBJECTS)).default_backoff();
        let follow = async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                // One that failed is tried again by the watch itself.
                if let Ok(event) = event {
                    teller.send_if_modified(|known| known.take_in(event));
                }
            }
        };
        (Self { known }, follow)
    }

    /// What was asked for once: nothing changes it further.
    pub fn of(labels: BTreeMap<String, String>) -> Self {
        let (_, known) = watch::channel(Known { is_filled: true, labels, arriving: BTreeMap::new() });
        Self { known }
    }

    /// Nothing is known until what comes with it tells the label of a namespace.
    #[cfg(test)]
    pub(crate) fn for_test() -> (Self, impl FnMut(&str, &str)) {
        let (teller, known) = watch::channel(Known::default());
        let tell = move |namespace: &str, label: &str| {
            teller.send_modify(|known| drop(known.labels.insert(namespace.to_owned(), label.to_owned())));
        };
        (Self { known }, tell)
    }

    /// The label [`INJECT`] of a namespace.
    pub fn label(&self, namespace: &str) -> Option<String> {
        self.known.borrow().labels.get(namespace).cloned()
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
                let is_new = !self.is_filled || arrived != self.labels;
                (self.is_filled, self.labels) = (true, arrived);
                is_new
            }
            watcher::Event::Apply(namespace) => set(&mut self.labels, &namespace),
            watcher::Event::Delete(namespace) => self.labels.remove(&namespace.name_any()).is_some(),
        }
    }
}

/// Keeps the label of a namespace as it is now; whether it was otherwise.
fn set(labels: &mut BTreeMap<String, String>, namespace: &NamespaceMeta) -> bool {
    match namespace.labels().get(INJECT) {
        Some(label) => labels.insert(namespace.name_any(), label.clone()).as_ref() != Some(label),
        None => labels.remove(&namespace.name_any()).is_some(),
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
            known.labels.get("team-a").cloned()
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
}
