//! Pods that want something otherwise than their LakeIngest has it, and pods that want what cannot be.

use serde_json::{Value, json};

use super::super::{Injection, inject};
use super::*;
use crate::fixtures::{pod, validated};
use crate::names::{HEALTH_PORT, URL_VARIABLE};

fn wanting(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod();
    change(&mut pod);
    pod
}

/// A pod with these annotations more.
fn annotated(annotations: &Value) -> Value {
    wanting(|pod| {
        for (name, value) in annotations.as_object().into_iter().flatten() {
            pod["metadata"]["annotations"][name] = value.clone();
        }
    })
}

/// The pod with its sidecar; a second run must add nothing.
fn injected(pod: &Value) -> Value {
    let Injection { pod, .. } = inject(pod, &validated()).expect("it can be injected");
    let again = inject(&pod, &validated()).expect("it can be injected again");
    assert_eq!(again.patch, Vec::<Value>::new(), "{pod}");
    pod
}

fn refusal(pod: &Value) -> String {
    inject(pod, &validated()).expect_err("it cannot work").to_string()
}

fn sidecar(pod: &Value) -> &Value {
    items(&pod["spec"]["initContainers"]).find(|container| container["name"] == CONTAINER).expect("it is injected")
}

fn variable(container: &Value, name: &str) -> Value {
    items(&container["env"]).find(|found| found["name"] == name).map_or(Value::Null, |found| found["value"].clone())
}

#[test]
fn a_pod_has_ports_of_its_own() {
    let mut pod = annotated(&json!({"lakeingest.io/port": "9001", "lakeingest.io/health-port": " 9002 "}));
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8001}, {"containerPort": 8002}]);
    let pod = injected(&pod);
    assert_eq!(variable(&pod["spec"]["containers"][0], URL_VARIABLE), "http://localhost:9001");
    assert_eq!(variable(sidecar(&pod), "LAKEINGEST_PORT"), "9001");
    assert_eq!(variable(sidecar(&pod), "LAKEINGEST_HEALTH_PORT"), "9002");
    assert_eq!(sidecar(&pod)["ports"][0]["containerPort"], 9002);
    assert_eq!(sidecar(&pod)["ports"][0]["name"], HEALTH_PORT);
}

#[test]
fn a_pods_resources_are_laid_over_value_by_value() {
    let resources = |text: &str| {
        let pod = injected(&annotated(&json!({"lakeingest.io/resources": text})));
        sidecar(&pod)["resources"].clone()
    };
    let memory = resources(r#"{"limits": {"memory": "2Gi"}}"#);
    assert_eq!((&memory["limits"]["memory"], &memory["requests"]["memory"]), (&json!("2Gi"), &json!("256Mi")));
    assert_eq!((&memory["requests"]["cpu"], &memory["limits"]["cpu"]), (&json!("50m"), &Value::Null));
    assert!(memory["requests"]["ephemeral-storage"].is_string());
    let raised = resources(r#"{"requests": {"cpu": "1", "memory": "1Gi"}}"#);
    assert_eq!((&raised["requests"]["cpu"], &raised["limits"]["memory"]), (&json!("1"), &json!("1Gi")));
}

/// The API server reads a number as an amount too, and a pod on its way to it may have one.
#[test]
fn a_pod_that_says_an_amount_twice_says_the_same() {
    let both = |annotation: &str, memory: Value| {
        let mut pod = annotated(&json!({"lakeingest.io/resources": annotation}));
        let resources = json!({"requests": {"cpu": 1}, "limits": {"memory": memory}});
        pod["spec"]["initContainers"] = json!([{"name": "lakeingest", "resources": resources}]);
        pod
    };
    let pod = injected(&both(r#"{"requests": {"cpu": "1000m"}, "limits": {"memory": "1Gi"}}"#, json!("1024Mi")));
    assert_eq!(sidecar(&pod)["resources"]["limits"]["memory"], "1024Mi");
    assert_eq!(sidecar(&pod)["resources"]["requests"]["cpu"], 1);
    let said = refusal(&both(r#"{"limits": {"memory": "1Gi"}}"#, json!("300Mi")));
    assert!(
        said.contains("limits.memory is 1Gi, and 300Mi in container \"lakeingest\" of the pod; say it once"),
        "{said}"
    );
}

#[test]
fn the_containers_that_are_named_are_told_and_no_others() {
    let mut pod = annotated(&json!({"lakeingest.io/containers": "second, seed"}));
    pod["spec"]["containers"] = json!([{"name": "first"}, {"name": "second"}]);
    pod["spec"]["initContainers"] = json!([{"name": "seed"}, {"name": "other"}]);
    let pod = injected(&pod);
    let is_told = |container: &Value| !variable(container, URL_VARIABLE).is_null();
    let told: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(&pod["spec"][list]))
        .filter(|container| is_told(container))
        .map(|container| &container["name"])
        .collect();
    assert_eq!(told, ["second", "seed"]);
}

#[test]
fn a_container_that_the_pod_brings_itself_is_completed() {
    let own = json!({
        "name": "lakeingest", "image": "auto", "imagePullPolicy": "Never", "args": [], "restartPolicy": "",
        "resources": {"requests": {"memory": "1Gi"}},
        "env": [{"name": "LAKEINGEST_LOG", "value": "debug"}],
        "volumeMounts": [{"name": "more", "mountPath": "/more"}],
        "securityContext": {"runAsUser": 1000, "capabilities": {"add": ["NET_BIND_SERVICE"]}},
        "terminationMessagePolicy": "File",
    });
    for image in [json!("auto"), json!(null), json!("lakeingest/sidecar:1")] {
        let pod = injected(&wanting(|pod| {
            pod["spec"]["initContainers"] = json!([{"name": "migrate"}, own]);
            pod["spec"]["initContainers"][1]["image"] = image;
        }));
        let found = sidecar(&pod);
        assert_eq!(pod["spec"]["initContainers"][1], *found, "it stays where it is");
        for (field, value) in [
            ("image", json!("lakeingest/sidecar:1")),
            ("args", json!(["serve"])),
            ("restartPolicy", json!("Always")),
            ("imagePullPolicy", json!("Never")),
            ("terminationMessagePolicy", json!("File")),
        ] {
            assert_eq!(found[field], value, "{field}");
        }
        assert_eq!(variable(found, "LAKEINGEST_LOG"), "debug");
        assert_eq!(variable(found, "LAKEINGEST_PORT"), "8001");
        let paths: Vec<&str> = items(&found["volumeMounts"]).filter_map(|mount| mount["mountPath"].as_str()).collect();
        assert!(paths.contains(&"/more") && paths.contains(&"/var/lib/lakeingest/journal"), "{paths:?}");
        let context = &found["securityContext"];
        assert_eq!((&context["runAsUser"], &context["runAsNonRoot"]), (&json!(1000), &json!(true)));
        assert_eq!(context["capabilities"], json!({"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}));
        let resources = &found["resources"];
        assert_eq!((&resources["requests"]["memory"], &resources["limits"]["memory"]), (&json!("1Gi"), &json!("1Gi")));
        assert!(resources["requests"]["ephemeral-storage"].is_string() && found["startupProbe"].is_object());
    }
}

/// The API server has an image without a tag pulled each time, so the one that stands for ours: that is nobody's wish.
#[test]
fn the_image_of_a_container_that_the_pod_brings_itself_is_pulled_as_ours_is() {
    let policy_of = |image: &str, policy: &str| {
        let own = json!([{"name": "lakeingest", "image": image, "imagePullPolicy": policy}]);
        let pod = injected(&wanting(|pod| pod["spec"]["initContainers"] = own.clone()));
        sidecar(&pod)["imagePullPolicy"].clone()
    };
    assert_eq!(policy_of("auto", "Always"), "IfNotPresent");
    assert_eq!(policy_of("auto", "Never"), "Never");
    assert_eq!(policy_of("lakeingest/sidecar:1", "Always"), "Always", "it has our image, so it means it");
    for (image, policy) in [
        ("lakeingest/sidecar:0.1.0", "IfNotPresent"),
        ("registry:5000/sidecar@sha256:00", "IfNotPresent"),
        ("registry:5000/sidecar", "Always"),
        ("sidecar:latest", "Always"),
    ] {
        assert_eq!(super::super::pull_policy(image), policy, "{image}");
    }
}

/// The API server has mounted the token into the pod's own fragment before the webhook is asked.
#[test]
fn the_pods_token_is_kept_from_a_container_that_the_pod_brings_itself() {
    let token = json!({"name": "kube-api-access-x", "mountPath": TOKEN_PATH, "readOnly": true});
    let pod = injected(&wanting(|pod| {
        pod["spec"]["initContainers"] = json!([{"name": "lakeingest", "image": "auto", "volumeMounts": [token]}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([token]);
    }));
    let at_place = |container: &Value| -> Vec<Value> {
        items(&container["volumeMounts"]).filter(|mount| mount["mountPath"] == TOKEN_PATH).cloned().collect()
    };
    assert_eq!(at_place(&pod["spec"]["containers"][0]), std::slice::from_ref(&token));
    let empty = json!({"name": SCRATCH_VOLUME, "mountPath": TOKEN_PATH, "subPath": "no-token", "readOnly": true});
    assert_eq!(at_place(sidecar(&pod)), [empty]);
}

#[test]
fn volumes_of_another_size_are_the_pods() {
    let pod = injected(&wanting(|pod| {
        pod["spec"]["volumes"] = json!([
            {"name": "lakeingest-journal", "emptyDir": {"sizeLimit": "8192Mi"}},
            {"name": "lakeingest-scratch", "emptyDir": {"sizeLimit": "1Gi", "medium": ""}},
        ]);
    }));
    assert_eq!(variable(sidecar(&pod), "LAKEINGEST_JOURNAL_SIZE_LIMIT"), "8Gi");
    let requested = sidecar(&pod)["resources"]["requests"]["ephemeral-storage"].as_str().map(str::to_owned);
    let requested: Quantity = requested.expect("it is requested").parse().expect("it is a quantity");
    assert_eq!(requested.bytes(), (8 << 30) + (1 << 30) + (50 << 20));
    assert_eq!(items(&pod["spec"]["volumes"]).filter(|volume| volume["name"] == JOURNAL_VOLUME).count(), 1);
}

#[test]
fn i10_a_wish_that_cannot_be_is_refused_with_its_place() {
    let of_annotation = |name: &str, value: Value, words: &str| {
        let said = refusal(&annotated(&json!({name: value})));
        assert!(said.starts_with(&format!("annotation {name}")) && said.contains(words), "{said}");
    };
    for port in ["", "80", "0", "65536", "+9000", "9001 9002", "http"] {
        of_annotation("lakeingest.io/port", json!(port), "must be 1024 to 65535");
    }
    of_annotation("lakeingest.io/port", json!(9001), "must be a text");
    of_annotation("lakeingest.io/port", json!("8002"), "are both 8002");
    for (resources, words) in [
        ("", "write JSON"),
        ("512Mi", "write JSON"),
        ("[]", "must be an object"),
        (r#"{"requests": ["1", "1Gi"]}"#, "must be an object"),
        (r#"{"requests": {"memory": "1Ti", "gpu": "1"}}"#, "requests.gpu is not known"),
        (r#"{"limit": {}}"#, "limit is not known"),
        (r#"{"limits": {"ephemeral-storage": "1Gi"}}"#, "is not known"),
        (r#"{"limits": {"memory": "64Mi"}}"#, "resources.limits.memory"),
        (r#"{"requests": {"cpu": "half"}}"#, "resources.requests.cpu"),
        (r#"{"requests": {"cpu": true}}"#, "expected a string"),
    ] {
        of_annotation("lakeingest.io/resources", json!(resources), words);
    }
    for containers in ["", "other", "app,", "lakeingest"] {
        of_annotation("lakeingest.io/containers", json!(containers), "it has app");
    }
    let mut early = annotated(&json!({"lakeingest.io/containers": "istio-proxy"}));
    early["spec"]["initContainers"] = json!([{"name": "istio-proxy", "restartPolicy": "Always"}]);
    let said = refusal(&early);
    assert!(said.contains("\"istio-proxy\" starts before the sidecar"), "{said}");
}

#[test]
fn i10_a_container_or_a_volume_that_would_undo_the_sidecar_is_refused() {
    let own = |field: &str, value: Value| {
        refusal(&wanting(|pod| pod["spec"]["initContainers"] = json!([{"name": "lakeingest", field: value}])))
    };
    for (field, value, words) in [
        ("image", json!("busybox"), "must be \"auto\""),
        ("restartPolicy", json!("OnFailure"), "must be Always"),
        ("startupProbe", json!({"httpGet": {"port": 1}}), "is the sidecar's own"),
        ("ports", json!([{"containerPort": 1}]), "is the sidecar's own"),
        ("envFrom", json!([{}]), "is the sidecar's own"),
        ("env", json!([{"name": "LAKEINGEST_PORT", "value": "1"}]), "\"LAKEINGEST_PORT\" is the sidecar's own"),
        ("volumeMounts", json!([{"name": "x", "mountPath": "/var/lib/lakeingest/journal"}]), "lakeingest/journal"),
        ("resources", json!({"limits": {"memory": "1Mi"}}), "resources.limits.memory"),
        ("args", json!(["other"]), "without command and args"),
        ("command", json!(["sh"]), "without command and args"),
    ] {
        let said = own(field, value);
        assert!(said.contains(words), "{field}: {said}");
    }
    let volume = |source: Value| {
        let volume = json!({"name": "lakeingest-journal", "emptyDir": source});
        refusal(&wanting(|pod| pod["spec"]["volumes"] = json!([volume])))
    };
    assert!(volume(json!({"sizeLimit": "64Mi"})).contains("twice flush.maxBytes"));
    assert!(volume(json!({"sizeLimit": "1Mi"})).contains("must be 32Mi to 1Ti"));
    assert!(volume(json!({})).contains("an emptyDir with a sizeLimit"));
    assert!(volume(json!({"sizeLimit": "4Gi", "medium": "Memory"})).contains("on the node's disk"));
}
