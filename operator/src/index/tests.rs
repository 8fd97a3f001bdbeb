//! What is kept and counted of a pod.

use serde_json::json;

use super::pods::{has_ended, has_started, prune};
use super::*;
use crate::fixtures::ingest;
use crate::names::{CONTAINER, HEALTH_PORT, INJECT};

fn pod(phase: &str, sidecar: serde_json::Value) -> Pod {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "shop", "namespace": "team-a", "uid": "u1", "labels": {INJECTED_BY: "events"}},
        "spec": {"containers": [{"name": "app"}], "initContainers": [{
            "name": CONTAINER, "image": "lakeingest/sidecar:1", "env": [{"name": "POD_NAME"}],
            "ports": [{"name": HEALTH_PORT, "containerPort": 8002}],
        }]},
        "status": {"phase": phase, "podIP": "10.0.0.1", "hostIP": "10.0.0.9", "initContainerStatuses": [sidecar]},
    }))
    .expect("the test's pod has the right shape");
    prune(&mut pod);
    pod
}

fn sidecar(name: &str, ready: bool, started: bool) -> serde_json::Value {
    json!({"name": name, "ready": ready, "started": started, "image": "i", "imageID": "i", "restartCount": 0})
}

#[test]
fn what_is_counted_survives_the_pruning_and_nothing_else_does() {
    let pod = pod("Running", sidecar(CONTAINER, true, true));
    assert!(has_started(&pod) && !has_ended(&pod));
    assert_eq!(ingest_of(&pod), Some(ObjectRef::new("events").within("team-a")));
    let kept = SidecarPod::of(&pod).expect("it has a sidecar");
    assert_eq!(kept.address, Some("10.0.0.1:8002".parse().expect("it is an address")));
    assert_eq!((kept.image.as_str(), kept.is_ready), ("lakeingest/sidecar:1", true));
    let kept = serde_json::to_string(&pod).expect("a pod is plain data");
    assert!(!kept.contains("app") && !kept.contains("POD_NAME") && !kept.contains("10.0.0.9"), "{kept}");
}

#[test]
fn only_a_sidecar_that_has_started_counts_as_ready() {
    for (status, expected) in [
        (sidecar(CONTAINER, true, true), true),
        (sidecar(CONTAINER, false, true), false),
        (sidecar(CONTAINER, true, false), false),
        (sidecar("another", true, true), false),
    ] {
        assert_eq!(has_started(&pod("Running", status.clone())), expected, "{status}");
    }
}

#[test]
fn a_pod_that_has_ended_is_not_counted() {
    for (phase, expected) in [("Succeeded", true), ("Failed", true), ("Running", false), ("Pending", false)] {
        assert_eq!(has_ended(&pod(phase, sidecar(CONTAINER, true, true))), expected, "{phase}");
    }
}

#[test]
fn a_pod_that_has_the_label_and_no_sidecar_is_nobodys() {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "shop", "namespace": "team-a", "labels": {INJECTED_BY: "events"}},
        "spec": {"containers": [{"name": "app"}]},
    }))
    .expect("the test's pod has the right shape");
    prune(&mut pod);
    assert_eq!(ingest_of(&pod), None);
}

/// By `on-error: allow` it was let pass, and whoever made it gave it the label.
#[test]
fn a_pod_that_asks_is_missing_although_it_has_the_label() {
    let (mut filler, index) = Filler::empty();
    filler.lake_ingest(ingest("events", json!({})));
    let mut labelled = |phase: &str, asked: Option<&str>| {
        let annotations = asked.map(|asked| json!({INJECT: asked}));
        let pod = json!({
            "metadata": {"name": "shop", "namespace": "team-a", "labels": {INJECTED_BY: "events"}, "annotations": annotations},
            "spec": {"containers": [{"name": "app"}]}, "status": {"phase": phase},
        });
        filler.pod(serde_json::from_value(pod).expect("the test's pod has the right shape"));
        (index.missing("team-a", "events").len(), index.pods("team-a", "events").len())
    };
    assert_eq!(labelled("Running", Some("events")), (1, 0));
    assert_eq!(labelled("Succeeded", Some("events")), (0, 0));
    assert_eq!(labelled("Running", Some("other")), (0, 0));
    assert_eq!(labelled("Running", None), (0, 0));
}

#[test]
fn a_pod_that_asks_and_has_none_is_missing_from_the_lake_ingest_that_it_means() {
    let (mut filler, index) = Filler::empty();
    let mut asks = |name: &str, namespace: &str, asked: &str| {
        let metadata = json!({"name": name, "namespace": namespace, "annotations": {INJECT: asked}});
        filler.asking(serde_json::from_value(metadata).expect("the test's metadata has the right shape"));
    };
    asks("b", "team-a", "events");
    asks("a", "team-a", "true");
    asks("c", "team-b", "events");
    asks("d", "team-a", "other");
    filler.lake_ingest(ingest("events", json!({})));
    let missing = || index.missing("team-a", "events").into_iter().map(|pod| pod.name).collect::<Vec<_>>();
    assert_eq!(missing(), ["a", "b"]);
    // With two of them nobody can tell which one `true` means.
    filler.lake_ingest(ingest("orders", json!({})));
    assert_eq!(missing(), ["b"]);
}

#[test]
fn sidecars_are_asked_once_they_have_started_and_while_their_lake_ingest_is_there() {
    let (mut filler, index) = Filler::empty();
    filler.pod(pod("Running", sidecar(CONTAINER, true, true)));
    assert_eq!((index.sidecars().len(), index.orphans().len()), (0, 1));
    filler.lake_ingest(ingest("events", json!({})));
    assert_eq!((index.sidecars().len(), index.orphans().len()), (1, 0));
    filler.pod(pod("Running", sidecar(CONTAINER, false, true)));
    assert_eq!((index.sidecars().len(), index.pods("team-a", "events").len()), (0, 1));
    filler.pod(pod("Succeeded", sidecar(CONTAINER, false, false)));
    assert_eq!(index.pods("team-a", "events"), []);
}
