//! What is kept and counted of a pod.

use serde_json::json;

use super::*;

fn pod(phase: &str, sidecar: serde_json::Value) -> Pod {
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "shop", "namespace": "team-a", "labels": {INJECTED_BY: "events"}},
        "spec": {"containers": [{"name": "app"}], "initContainers": [{"name": CONTAINER}]},
        "status": {"phase": phase, "podIP": "10.0.0.1", "initContainerStatuses": [sidecar]},
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
    assert!(pod.spec.is_none() && pod.status.is_some_and(|status| status.pod_ip.is_none()));
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
