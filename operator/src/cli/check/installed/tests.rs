//! Charts that are whole, and with a part missing or old.

use k8s_openapi::ByteString;
use serde_json::json;

use super::super::super::cluster::arguments_of;
use super::super::finding::lines;
use super::*;
use crate::certs::Authority;
use crate::clock::Clock;
use crate::entries::ENTRIES;
use crate::fixtures::ManualClock;

fn now() -> DateTime<Utc> {
    ManualClock::at("2026-01-08T10:05:30Z").now()
}

/// An installation whose authority was made at this time, with this failure policy and these numbers of pods.
fn installation(made: DateTime<Utc>, policy: &str, wanted: i32, ready: i32) -> Installation {
    let bundle = ByteString(Authority::for_test(made).certificate_pem().as_bytes().to_vec());
    let entry = |(name, path): (&str, &str)| {
        let service = json!({"name": "webhook", "namespace": "lakeingest", "path": path});
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": policy,
            "clientConfig": {"caBundle": bundle, "service": service},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "matchConditions": [{"name": "asks", "expression": "true"}],
        })
    };
    let webhook = json!({"metadata": {"name": "lakeingest"}, "webhooks": ENTRIES.map(entry)});
    let deployment = json!({
        "metadata": {"name": "lakeingest-operator", "labels": {"app.kubernetes.io/version": env!("CARGO_PKG_VERSION")}},
        "spec": {"replicas": wanted, "selector": {}, "template": {}},
        "status": {"readyReplicas": ready},
    });
    Installation {
        webhook: serde_json::from_value(webhook).ok(),
        namespace: Some("lakeingest".to_owned()),
        deployment: serde_json::from_value(deployment).ok(),
        arguments: None,
    }
}

fn check(finding: Finding, begins: &str, words: &str) {
    let line = lines(&[finding]);
    assert!(line.starts_with(begins) && line.contains(words), "{line}");
}

#[test]
fn the_authority_in_the_webhook_configuration_has_to_be_good() {
    let of = |made, policy| webhook(&installation(made, policy, 2, 2), now());
    check(of(now(), "Fail"), "ok", "good until 2027-01-08");
    check(of(now(), "Ignore"), "warn", "failurePolicy");
    check(of(now() - TimeDelta::days(340), "Fail"), "warn", "logs deployment/lakeingest-operator");
    check(of(now() - TimeDelta::days(366), "Fail"), "FAIL", "has ended on");
    let mut half = installation(now(), "Fail", 2, 2);
    half.webhook.iter_mut().flat_map(|webhook| &mut webhook.webhooks).for_each(|entries| entries.truncate(1));
    check(webhook(&half, now()), "FAIL", "has no entry inject-by-namespace.lakeingest.io");
    let mut without = installation(now(), "Fail", 2, 2);
    let entries = without.webhook.iter_mut().flat_map(|webhook| webhook.webhooks.iter_mut().flatten());
    entries.for_each(|entry| entry.client_config.ca_bundle = None);
    check(webhook(&without, now()), "FAIL", "no usable caBundle");
    check(webhook(&Installation::default(), now()), "FAIL", "helm upgrade");
    let containers = json!([{"name": "operator", "args": ["run", "--sidecar-image=a", "--injection=policy"]}]);
    let deployment = json!({"spec": {"selector": {}, "template": {"spec": {"containers": containers}}}});
    let deployment = serde_json::from_value(deployment).expect("it is a Deployment");
    let by_policy = Installation { arguments: arguments_of(&deployment, "lakeingest"), ..Installation::default() };
    check(webhook(&by_policy, now()), "ok", "the API server injects by the policy");
}

#[test]
fn the_operator_has_to_be_there_ready_and_of_our_version() {
    let of = |wanted, ready| operator(&installation(now(), "Fail", wanted, ready));
    check(of(2, 2), "ok", "2 of 2 pods");
    check(of(2, 1), "warn", "1 of 2 pods");
    check(of(2, 0), "FAIL", "none of 2 pods");
    check(of(0, 0), "FAIL", "--replicas 2");
    let mut old = installation(now(), "Fail", 2, 2);
    let labels = old.deployment.iter_mut().flat_map(|deployment| deployment.labels_mut().values_mut());
    labels.for_each(|value| "0.0.9".clone_into(value));
    check(operator(&old), "warn", "of version 0.0.9");
    check(operator(&Installation::default()), "FAIL", "there is no operator");
}

#[test]
fn somebody_has_to_be_behind_the_service() {
    let slice = |ready: Value| -> EndpointSlice {
        let endpoints = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]);
        serde_json::from_value(json!({"addressType": "IPv4", "endpoints": endpoints})).expect("it is a slice")
    };
    check(service("lakeingest", "webhook", Some(&[slice(json!(true)), slice(json!(null))])), "ok", "2 endpoints");
    check(service("lakeingest", "webhook", Some(&[slice(json!(false))])), "FAIL", "nobody is behind");
    check(service("lakeingest", "webhook", None), "FAIL", "there is no Service");
}

#[test]
fn the_definition_has_to_be_that_of_this_program() {
    check(definition(None), "FAIL", "there is no CustomResourceDefinition");
    let mut found = schema::definition();
    check(definition(Some(&found)), "ok", "v1alpha1");
    let mut older = serde_json::to_value(&found).expect("it is JSON");
    let of_spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = older.pointer_mut(of_spec).and_then(Value::as_object_mut).expect("it has fields");
    fields.remove("flush").expect("there is such a field");
    let older = serde_json::from_value(older).expect("it is a definition");
    check(definition(Some(&older)), "warn", "not that of this program");
    found.spec.versions.iter_mut().for_each(|version| version.served = false);
    check(definition(Some(&found)), "FAIL", "does not serve");
    found.status = serde_json::from_value(json!({
        "conditions": [{"type": "Established", "status": "False", "reason": "x", "message": "names conflict"}],
    }))
    .ok();
    check(definition(Some(&found)), "FAIL", "names conflict");
}
