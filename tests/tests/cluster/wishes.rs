//! Pods that want something otherwise than their LakeIngest has it, on a real cluster.

use lakeingest_tests::team::Team;
use serde_json::{Value, json};

/// Sends one record from a container of a pod to where it was told that the sidecar is.
fn send(team: &Team, pod: &str, sequence: u64) {
    let record = format!(r#"{{"table_name": "events", "record": {{"sequence": {sequence}}}}}"#);
    let script = format!("curl --silent --show-error --fail $LAKE_INGEST_URL/ingest/stream --data-binary '{record}'");
    team.kubectl(&["exec", pod, "--container", "app", "--", "sh", "-c", &script]);
}

#[test]
fn a_pod_that_has_port_8001_itself_reaches_its_sidecar_at_another() {
    let team = Team::new("ports");
    team.lake_ingest("events", &json!({}));
    let mut annotations = json!({"lakeingest.io/inject": "events"});
    let pod = |annotations: &Value| {
        let mut pod = team.pod("shop", annotations);
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8001}, {"containerPort": 8002}]);
        pod
    };
    let (done, _, words) = team.try_apply(&pod(&annotations));
    assert!(!done && words.contains("lakeingest.io/port"), "{words}");
    annotations["lakeingest.io/port"] = json!("9001");
    annotations["lakeingest.io/health-port"] = json!("9002");
    annotations["lakeingest.io/resources"] = json!(r#"{"limits": {"memory": "640Mi"}}"#);
    team.apply(&pod(&annotations));
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    send(&team, "shop", 1);
    let sidecar = team.get("pod/shop")["spec"]["initContainers"][0].clone();
    assert_eq!(sidecar["resources"]["limits"]["memory"], "640Mi");
    let health = ["exec", "shop", "--container", "app", "--", "curl", "--silent", "http://localhost:9002/health"];
    assert!(team.kubectl(&health).contains("\"status\""));
    team.kubectl(&["delete", "pod", "shop", "--timeout=60s"]);
    assert_eq!(team.stored(), [1]);
}

#[test]
fn a_template_that_brings_the_container_itself_is_completed() {
    let team = Team::new("own-container");
    team.lake_ingest("events", &json!({}));
    let mut spec = team.pod("shop", &json!({}))["spec"].clone();
    spec["initContainers"] = json!([{
        "name": "lakeingest", "image": "auto", "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "LAKEINGEST_LOG", "value": "debug"}],
    }]);
    spec["volumes"] = json!([{"name": "lakeingest-journal", "emptyDir": {"sizeLimit": "3Gi"}}]);
    let metadata = json!({"labels": {"app": "shop"}, "annotations": {"lakeingest.io/inject": "events"}});
    team.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {"metadata": metadata, "spec": spec},
        },
    }));
    team.kubectl(&["rollout", "status", "deployment/shop", "--timeout=60s"]);
    send(&team, "deployment/shop", 2);
    let pod = team.get("pods")["items"][0].clone();
    let sidecar = &pod["spec"]["initContainers"][0];
    assert!(sidecar["image"].as_str().is_some_and(|image| image.contains("sidecar")), "{sidecar}");
    let variables = sidecar["env"].as_array().expect("it has variables");
    for (name, value) in [("LAKEINGEST_LOG", "debug"), ("LAKEINGEST_JOURNAL_SIZE_LIMIT", "3Gi")] {
        assert!(variables.contains(&json!({"name": name, "value": value})), "{variables:?}");
    }
    team.kubectl(&["delete", "deployment", "shop", "--cascade=foreground", "--timeout=60s"]);
    assert_eq!(team.stored(), [2]);
}

#[test]
fn i10_a_wish_that_cannot_be_keeps_the_pod_from_starting() {
    let team = Team::new("wishes");
    team.lake_ingest("events", &json!({}));
    for (annotation, value, words) in [
        ("lakeingest.io/port", "80", "annotation lakeingest.io/port: is \"80\"; must be 1024 to 65535"),
        ("lakeingest.io/resources", "{\"limits\": {\"memory\": \"1Mi\"}}", "resources.limits.memory"),
        ("lakeingest.io/containers", "ap", "the pod has no container \"ap\"; it has app"),
    ] {
        let pod = team.pod("shop", &json!({"lakeingest.io/inject": "events", annotation: value}));
        let (done, _, said) = team.try_apply(&pod);
        assert!(!done && said.contains(words), "{said}");
    }
}
