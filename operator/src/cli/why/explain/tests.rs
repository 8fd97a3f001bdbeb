//! Pods in every state that `why` tells of.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use lakeingest_crds::lakeingest::{LakeIngest, LakeIngestStatus};
use serde_json::json;

use super::*;
use crate::admit::Waits;
use crate::controller::{build, validate};
use crate::fixtures::{ingest, names, pod, validated};
use crate::index::{ConfigMapMeta, Index};
use crate::namespaces::{Facts as NamespaceFacts, Namespaces};

fn admission(ingests: Vec<LakeIngest>) -> Admission {
    let rendered = ingests.iter().filter_map(|ingest| Some(build(&validate(ingest, &names()).ok()?, None).config_map));
    let config_map = |metadata: ObjectMeta| ConfigMapMeta { metadata, types: None, _phantom: std::marker::PhantomData };
    let config_maps = rendered.map(|rendered| config_map(rendered.metadata)).collect();
    let index = Index::of(ingests.into_iter().map(|ingest| DeserializeGuard(Ok(ingest))).collect(), config_maps);
    let namespaces = Namespaces::of(Default::default());
    Admission { index, namespaces, names: Arc::new(names()), waits: Waits::none() }
}

/// LakeIngest `events`, which is ready.
fn events() -> LakeIngest {
    let mut ingest = ingest("events", json!({}));
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Configured", "message": "pods can be injected",
        "lastTransitionTime": "2026-01-08T10:05:31Z",
    });
    let status: LakeIngestStatus = serde_json::from_value(json!({"conditions": [condition]})).expect("it is a status");
    ingest.status = Some(status);
    ingest
}

fn facts(object: Value) -> Facts {
    Facts {
        object,
        owners: Vec::new(),
        namespace: "team-a".to_owned(),
        is_excluded: false,
        has_webhook: Some(true),
        admission: admission(vec![events()]),
        notes: Vec::new(),
    }
}

fn named(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod();
    pod["metadata"] = json!({
        "name": "shop", "namespace": "team-a", "creationTimestamp": "2026-01-08T11:00:00Z",
        "annotations": {"lakeingest.io/inject": "events"},
    });
    change(&mut pod);
    pod
}

/// A pod that was injected, with its sidecar in this state.
fn with_sidecar(state: Value) -> Value {
    let mut pod = crate::inject::inject(&named(|_| {}), &validated()).expect("it can be injected").pod;
    let mut status = json!({"name": "lakeingest", "restartCount": 0, "ready": true});
    for (field, value) in state.as_object().into_iter().flatten() {
        status[field] = value.clone();
    }
    pod["status"] = json!({"phase": "Running", "initContainerStatuses": [status]});
    pod
}

fn running() -> Value {
    with_sidecar(json!({"state": {"running": {"startedAt": "2026-01-08T11:00:01Z"}}}))
}

/// Explains the facts; all of these words must be there.
fn check(facts: &Facts, words: &[&str]) {
    let told = explain(facts).to_string();
    for part in words {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
}

#[test]
fn a_pod_that_is_well_has_nothing_to_do() {
    check(
        &facts(running()),
        &[
            "Pod team-a/shop has its sidecar, as it would be injected today.",
            "lakeingest.io/inject: events",
            "lakeingest/sidecar:1, from LakeIngest events, generation 3",
            "running since 2026-01-08T11:00:01Z, ready, 0 restarts",
            "Next: nothing has to be done.",
        ],
    );
}

#[test]
fn a_pod_that_does_not_ask_is_told_how_to() {
    let silent = || named(|pod| pod["metadata"]["annotations"] = Value::Null);
    check(&facts(silent()), &["does not ask for one", "lakeingest.io/inject: events"]);
    let mut none = facts(silent());
    none.admission = admission(Vec::new());
    check(&none, &["create a LakeIngest in namespace team-a"]);
    let declined = named(|pod| pod["metadata"]["annotations"][INJECT] = json!("false"));
    check(&facts(declined), &["does not ask for one", "Next: nothing"]);
}

#[test]
fn a_pod_for_which_its_namespace_asks_is_told_so() {
    let of = |label: &str, annotations: Value| {
        let mut facts = facts(named(|pod| pod["metadata"]["annotations"] = annotations));
        facts.admission.namespaces = Namespaces::of(
            [("team-a".to_owned(), NamespaceFacts { label: Some(label.to_owned()), assigns_users: false })].into(),
        );
        facts
    };
    let asks = "asks by its label lakeingest.io/inject: ";
    check(&of("events", Value::Null), &[asks, "something was otherwise", "the annotation or the label came after"]);
    let impossible = ["since nobody but their namespace asks", "there is no LakeIngest \"evnets\""];
    check(&of("evnets", Value::Null), &impossible);
    check(&of("evnets", json!({INJECT: "false"})), &["the pod's own annotation wins", "does not ask for one"]);
    check(&of("false", Value::Null), &["does not ask for one"]);
}

#[test]
fn an_annotation_in_the_wrong_place_is_found() {
    let mut facts = facts(named(|pod| pod["metadata"]["annotations"] = Value::Null));
    facts.owners = vec![
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "shop-1", "annotations": {INJECT: "events"}}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "annotations": {INJECT: "events"}}}),
    ];
    check(&facts, &["stands on Deployment team-a/shop itself", "spec.template.metadata.annotations"]);
}

#[test]
fn a_pod_that_asked_and_has_none_is_told_what_is_in_the_way() {
    check(
        &facts(named(|pod| pod["metadata"]["annotations"][INJECT] = json!("evnets"))),
        &[
            "asks for a sidecar and has none",
            "such pods are refused",
            "there is no LakeIngest \"evnets\"",
            "there is events",
        ],
    );
    let let_pass = named(|pod| pod["metadata"]["annotations"] = json!({INJECT: "evnets", ON_ERROR: "allow"}));
    check(&facts(let_pass), &["lakeingest.io/on-error: allow", "run without one"]);
    let host = named(|pod| pod["spec"]["hostNetwork"] = json!(true));
    check(&facts(host), &["take hostNetwork away"]);
    let windows = named(|pod| pod["spec"]["os"] = json!({"name": "windows"}));
    check(&facts(windows), &["runs on Linux alone"]);
    check(&Facts { is_excluded: true, ..facts(named(|_| {})) }, &["leaves their namespace alone", "another namespace"]);
    check(
        &Facts { has_webhook: Some(false), ..facts(named(|_| {})) },
        &["there is no webhook configuration", "helm upgrade"],
    );
}

#[test]
fn a_pod_that_came_too_early_is_to_be_made_anew() {
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"}});
    let later = facts(named(|_| {}));
    check(&Facts { owners: vec![owner], ..later }, &["something was otherwise", "rollout restart deployment/shop"]);
    let early = named(|pod| pod["metadata"]["creationTimestamp"] = json!("2026-01-08T09:00:00Z"));
    check(&facts(early), &["the LakeIngest is younger than the pod"]);
}

#[test]
fn what_has_changed_since_is_named() {
    let mut newer = events();
    newer.metadata.generation = Some(4);
    newer.spec.sidecar.image = Some("lakeingest/sidecar:2".to_owned());
    let changed = Facts { admission: admission(vec![newer]), ..facts(running()) };
    check(
        &changed,
        &[
            "would be injected otherwise today",
            "generation 4, the pod is of generation 3",
            "the image is lakeingest/sidecar:2 now, was lakeingest/sidecar:1",
            "made anew",
        ],
    );
    let mut again = events();
    again.metadata.uid = Some("another".to_owned());
    check(&Facts { admission: admission(vec![again]), ..facts(running()) }, &["deleted and made again"]);
    check(&Facts { admission: admission(Vec::new()), ..facts(running()) }, &["there is no LakeIngest \"events\""]);
}

#[test]
fn each_state_of_the_container_says_what_to_do() {
    for (state, words) in [
        (json!({"ready": false, "state": {"waiting": {"reason": "ImagePullBackOff"}}}), "imagePullSecrets"),
        (json!({"ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}), "--previous"),
        (json!({"ready": false, "state": {"running": {"startedAt": "x"}}}), "it opens its journal"),
        (json!({"state": {"terminated": {"exitCode": 75, "reason": "Error"}}}), "ended with 75"),
        (
            json!({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
            "limits.memory",
        ),
    ] {
        check(&facts(with_sidecar(state)), &[words]);
    }
    let mut fresh = running();
    fresh["status"] = json!({"phase": "Pending"});
    check(&facts(fresh), &["not started yet; the pod is Pending"]);
}

#[test]
fn a_deployment_tells_of_its_pods_and_of_those_that_cannot_be_made() {
    let deployment = |annotation: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
            "spec": {"template": {"metadata": {"annotations": {INJECT: annotation}}, "spec": {"containers": [{"name": "app"}]}}},
            "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "admission webhook denied"}]},
        })
    };
    let told = explain_workload(&facts(deployment("events")), &[running(), named(|_| {})]).to_string();
    for part in ["its pods get a sidecar", "admission webhook denied", "shop: sidecar running", "shop: no sidecar"] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    let told = explain_workload(&facts(deployment("evnets")), &[]).to_string();
    assert!(told.contains("they are refused") && told.contains("evnets"), "{told}");
}
