//! Pods that ask for a sidecar and have none.
//!
//! Owns: which of the cluster's other pods are kept, and which LakeIngest one of them means.
//! Does not own: why it has none: it is older than the operator, said `on-error: allow`, or came by a way that no webhook sees; pods
//! that have the label of a sidecar and none (`pods`).
//!
//! Of these pods nothing is kept but metadata, and of those that do not ask nothing at all.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};

use super::pods::{controller_of, reference_of_pod};
use crate::events::reference_of;
use crate::names::{INJECT, INJECTED_BY, ON_ERROR, STATUS};

/// What is known of a pod that has no sidecar.
pub type PodMeta = PartialObjectMeta<Pod>;

/// What makes another pod in place of one that was evicted, at no loss of work. A Job counts an eviction as a failure.
const REPLACING: [&str; 4] = ["ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"];

/// A pod that asks and has no sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct MissingPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was made, by the API server's clock. Unit: seconds since 1970.
    pub created: i64,
    /// The name of the LakeIngest that it asks for.
    pub ingest: String,
    /// What has made it, or itself, as something that an Event is about.
    pub owner: ObjectReference,
    /// Whether another pod comes in its place, and it has not said that it would rather run without a sidecar.
    pub may_be_evicted: bool,
}

impl MissingPod {
    pub(super) fn of(pod: &impl ResourceExt, ingest: &str) -> Self {
        let (namespace, name, uid) =
            (pod.namespace().unwrap_or_default(), pod.name_any(), pod.uid().unwrap_or_default());
        let owner = controller_of(pod.owner_references()).map(|owner| reference_of(owner, &namespace));
        let is_replaced =
            owner.as_ref().is_some_and(|owner| REPLACING.iter().any(|kind| owner.kind.as_deref() == Some(kind)));
        let is_let_pass = pod.annotations().get(ON_ERROR).is_some_and(|on_error| on_error == "allow");
        let owner = owner.unwrap_or_else(|| reference_of_pod(&namespace, &name, Some(&uid)));
        let may_be_evicted = is_replaced && !is_let_pass && pod.meta().deletion_timestamp.is_none();
        let created = pod.creation_timestamp().map_or(0, |created| created.0.as_second());
        Self { namespace, name, uid, created, ingest: ingest.to_owned(), owner, may_be_evicted }
    }
}

/// Which pods are watched: those that run, or are about to, without a sidecar.
pub(super) fn watched(config: watcher::Config) -> watcher::Config {
    let has_no_sidecar = format!("!{INJECTED_BY}");
    config.labels(&has_no_sidecar).fields("status.phase!=Succeeded,status.phase!=Failed")
}

/// What a pod asks for: a name, or `true`. As the webhook reads it.
pub(super) fn asked(pod: &impl ResourceExt) -> Option<&str> {
    let asked = pod.annotations().get(INJECT)?.trim();
    (asked != "false" && !asked.is_empty()).then_some(asked)
}

/// Whether a pod without the label asks and has no sidecar. One whose label somebody has taken away has it all the same, and says
/// so by what was written beside the label.
fn is_without(pod: &PodMeta) -> bool {
    asked(pod).is_some() && !pod.annotations().contains_key(STATUS)
}

/// Lets pods that ask pass. One that asks no more goes.
pub(super) fn only_asking(event: Event<PodMeta>) -> Option<Event<PodMeta>> {
    match event {
        Event::Apply(pod) if !is_without(&pod) => Some(Event::Delete(pod)),
        Event::InitApply(pod) if !is_without(&pod) => None,
        event => Some(event),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(annotation: Option<&str>) -> PodMeta {
        annotated(annotation.map(|value| json!({INJECT: value})))
    }

    fn annotated(annotations: Option<serde_json::Value>) -> PodMeta {
        let metadata = json!({"name": "shop", "namespace": "team-a", "annotations": annotations});
        PodMeta {
            metadata: serde_json::from_value(metadata).expect("the test's metadata has the right shape"),
            types: None,
            _phantom: std::marker::PhantomData,
        }
    }

    #[test]
    fn a_pod_may_be_evicted_where_another_comes_and_it_did_not_say_otherwise() {
        let may_be = |kind: Option<&str>, on_error: Option<&str>, ends: Option<&str>| {
            let mut asking = pod(Some("events"));
            asking.metadata.owner_references = kind.map(|kind| {
                let owner =
                    json!([{"apiVersion": "v1", "kind": kind, "name": "shop", "uid": "u1", "controller": true}]);
                serde_json::from_value(owner).expect("it is one")
            });
            let ends = ends.map(|at| serde_json::from_value(json!(at)).expect("it is a time"));
            asking.metadata.deletion_timestamp = ends;
            asking.annotations_mut().extend(on_error.map(|says| (ON_ERROR.to_owned(), says.to_owned())));
            MissingPod::of(&asking, "events").may_be_evicted
        };
        for kind in REPLACING {
            assert!(may_be(Some(kind), None, None), "{kind}");
            assert!(may_be(Some(kind), Some("refuse"), None), "{kind}");
            assert!(!may_be(Some(kind), Some("allow"), None), "{kind}");
            assert!(!may_be(Some(kind), None, Some("2026-01-08T10:05:30Z")), "{kind}");
        }
        assert!(!may_be(Some("Job"), None, None));
        assert!(!may_be(None, None, None));
    }

    #[test]
    fn only_a_pod_that_asks_is_kept() {
        for (annotation, is_kept) in
            [(Some("events"), true), (Some(" true "), true), (Some(" false"), false), (Some(" "), false), (None, false)]
        {
            let listed = only_asking(Event::InitApply(pod(annotation)));
            assert_eq!(listed.is_some(), is_kept, "{annotation:?}");
            let changed = only_asking(Event::Apply(pod(annotation)));
            assert_eq!(matches!(changed, Some(Event::Apply(_))), is_kept, "{annotation:?}");
            assert_eq!(matches!(changed, Some(Event::Delete(_))), !is_kept, "{annotation:?}");
        }
    }

    /// Whoever takes the label of a pod away has not taken its sidecar away.
    #[test]
    fn a_pod_that_was_injected_is_not_without_its_sidecar() {
        let pod = || annotated(Some(json!({INJECT: "events", STATUS: "{}"})));
        assert!(only_asking(Event::InitApply(pod())).is_none());
        assert!(matches!(only_asking(Event::Apply(pod())), Some(Event::Delete(_))));
    }
}
