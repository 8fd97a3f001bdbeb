//! Pods that ask for a sidecar and have none.
//!
//! Owns: which of the cluster's other pods are kept, and which LakeIngest one of them means.
//! Does not own: why it has none: it is older than the operator, said `on-error: allow`, or came by a way that no webhook sees.
//!
//! Of these pods nothing is kept but metadata, and of those that do not ask nothing at all.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};

use super::pods::{controller_of, reference_of_pod};
use crate::events::reference_of;
use crate::names::{INJECT, INJECTED_BY};

/// What is known of a pod that has no sidecar.
pub type PodMeta = PartialObjectMeta<Pod>;

/// A pod that asks and has no sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct MissingPod {
    /// Its name.
    pub name: String,
    /// What has made it, or itself, as something that an Event is about.
    pub owner: ObjectReference,
}

impl MissingPod {
    pub(super) fn of(pod: &PodMeta) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let owner = controller_of(pod.owner_references()).map(|owner| reference_of(owner, &namespace));
        let itself = || reference_of_pod(&namespace, &pod.name_any(), pod.uid().as_deref());
        Self { name: pod.name_any(), owner: owner.unwrap_or_else(itself) }
    }
}

/// Which pods are watched: those that run, or are about to, without a sidecar.
pub(super) fn watched(config: watcher::Config) -> watcher::Config {
    let has_no_sidecar = format!("!{INJECTED_BY}");
    config.labels(&has_no_sidecar).fields("status.phase!=Succeeded,status.phase!=Failed")
}

/// What a pod asks for: a name, or `true`.
pub(super) fn asked(pod: &PodMeta) -> Option<&str> {
    let asked = pod.annotations().get(INJECT)?.as_str();
    (asked != "false" && !asked.is_empty()).then_some(asked)
}

/// Lets pods that ask pass. One that asks no more goes.
pub(super) fn only_asking(event: Event<PodMeta>) -> Option<Event<PodMeta>> {
    match event {
        Event::Apply(pod) if asked(&pod).is_none() => Some(Event::Delete(pod)),
        Event::InitApply(pod) if asked(&pod).is_none() => None,
        event => Some(event),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(annotation: Option<&str>) -> PodMeta {
        let annotations = annotation.map(|value| json!({INJECT: value}));
        let metadata = json!({"name": "shop", "namespace": "team-a", "annotations": annotations});
        PodMeta {
            metadata: serde_json::from_value(metadata).expect("the test's metadata has the right shape"),
            types: None,
            _phantom: std::marker::PhantomData,
        }
    }

    #[test]
    fn only_a_pod_that_asks_is_kept() {
        for (annotation, is_kept) in
            [(Some("events"), true), (Some("true"), true), (Some("false"), false), (Some(""), false), (None, false)]
        {
            let listed = only_asking(Event::InitApply(pod(annotation)));
            assert_eq!(listed.is_some(), is_kept, "{annotation:?}");
            let changed = only_asking(Event::Apply(pod(annotation)));
            assert_eq!(matches!(changed, Some(Event::Apply(_))), is_kept, "{annotation:?}");
            assert_eq!(matches!(changed, Some(Event::Delete(_))), !is_kept, "{annotation:?}");
        }
    }
}
