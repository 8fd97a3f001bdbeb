//! Classes of pods before and after the injection.

use super::super::{inject, items};
use super::*;
use crate::controller::ValidatedIngest;
use crate::fixtures::{pod, validated};
use crate::names::CONTAINER;

/// A pod whose containers have these resources.
fn with(resources: &[Value]) -> Value {
    let mut pod = pod();
    let named = |(index, resources): (usize, &Value)| json!({"name": format!("c{index}"), "resources": resources});
    pod["spec"]["containers"] = resources.iter().enumerate().map(named).collect();
    pod
}

/// The pod with its sidecar; a second run must add nothing.
fn injected_from(pod: &Value, ingest: &ValidatedIngest) -> Value {
    let injected = inject(pod, ingest).expect("it can be injected").pod;
    assert_eq!(inject(&injected, ingest).expect("it can be injected again").patch, Vec::<Value>::new());
    injected
}

fn sidecar_of(pod: &Value) -> Value {
    items(&pod["spec"]["initContainers"]).find(|one| one["name"] == CONTAINER).expect("it is injected").clone()
}

/// The class of a pod, by the rule of the kubelet for containers that say everything.
/// Source: `ComputePodQOS`, k8s.io/component-helpers.
fn is_guaranteed_pod(pod: &Value) -> bool {
    items(&pod["spec"]["containers"]).chain(items(&pod["spec"]["initContainers"])).all(is_guaranteed)
}

#[test]
fn a_guaranteed_pod_stays_one() {
    let sure = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}});
    let implied = json!({"limits": {"cpu": 2, "memory": "2G"}});
    let pod = injected_from(&with(&[sure, implied]), &validated());
    assert!(is_guaranteed_pod(&pod), "{pod}");
    let resources = &sidecar_of(&pod)["resources"];
    assert_eq!((&resources["limits"]["cpu"], &resources["limits"]["memory"]), (&json!("250m"), &json!("512Mi")));
    assert_eq!(resources["limits"].get("ephemeral-storage"), None);
}

#[test]
fn a_burstable_pod_reserves_no_more_than_before() {
    let limited = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m", "memory": "1Gi"}});
    let with_limit =
        sidecar_of(&injected_from(&with(std::slice::from_ref(&limited)), &validated()))["resources"].clone();
    assert_eq!((&with_limit["requests"]["cpu"], &with_limit["limits"]["cpu"]), (&json!("50m"), &json!("250m")));
    let without = sidecar_of(&injected_from(&with(&[limited, json!({})]), &validated()))["resources"].clone();
    assert_eq!((&without["requests"]["cpu"], &without["limits"]["cpu"]), (&json!("50m"), &Value::Null));
}

#[test]
fn what_a_pod_as_a_whole_may_take_is_raised_once() {
    let whole = |resources: Value| {
        let mut pod = pod();
        pod["spec"]["resources"] = resources;
        injected_from(&pod, &validated())
    };
    let burstable = whole(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}));
    assert_eq!(
        burstable["spec"]["resources"],
        json!({"requests": {"cpu": "1050m", "memory": "1280Mi"}, "limits": {"cpu": "2050m", "memory": "2560Mi"}})
    );
    let original = burstable["metadata"]["annotations"][ORIGINAL_RESOURCES].as_str().expect("it is kept");
    assert!(original.contains("\"1Gi\""), "{original}");
    let sure = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    let resources = whole(sure)["spec"]["resources"].clone();
    assert_eq!(resources["requests"], resources["limits"], "of the class Guaranteed, as before");
    // The API server takes a limit for the request where nobody says one.
    let some = whole(json!({"limits": {"memory": "1Gi", "hugepages-2Mi": "4Mi"}}));
    let with_ours = json!({"requests": {"memory": "1536Mi"}, "limits": {"memory": "1536Mi", "hugepages-2Mi": "4Mi"}});
    assert_eq!(some["spec"]["resources"], with_ours);
    // And the containers' requests where they say some: with the sidecar's it is their sum again.
    let mut said = pod();
    said["spec"]["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    said["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "100Mi"}});
    let said = injected_from(&said, &validated())["spec"]["resources"].clone();
    assert_eq!(said, json!({"requests": {"cpu": "1050m"}, "limits": {"cpu": "1050m", "memory": "1536Mi"}}));
    let mut wrong = pod();
    wrong["spec"]["resources"] = json!({"limits": {"cpu": "many"}});
    let words = inject(&wrong, &validated()).expect_err("it is no amount").to_string();
    assert!(words.contains("spec.resources.limits.cpu"), "{words}");
}

#[test]
fn where_the_namespace_gives_users_the_sidecar_names_none() {
    let ingest = validated().with_assigned_users(true);
    let context = sidecar_of(&injected_from(&pod(), &ingest))["securityContext"].clone();
    assert_eq!(
        (&context["runAsNonRoot"], context.get("runAsUser"), context.get("runAsGroup")),
        (&json!(true), None, None)
    );
}

#[test]
fn pull_secrets_are_added_to_the_pods_own() {
    let mut ingest = validated();
    ingest.spec.image_pull_secrets = vec!["own".to_owned(), "registry".to_owned()];
    let mut pod = pod();
    pod["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
    assert_eq!(
        injected_from(&pod, &ingest)["spec"]["imagePullSecrets"],
        json!([{"name": "own"}, {"name": "registry"}])
    );
}
