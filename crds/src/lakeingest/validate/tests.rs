//! Specifications that are refused, each with the words that help.

use serde_json::{Value, json};

use super::*;

fn images() -> ImagePolicy {
    ImagePolicy {
        default_image: "lakeingest/sidecar:1".to_owned(),
        allowed_repositories: vec!["lakeingest/sidecar".to_owned()],
    }
}

fn spec(extra: Value) -> LakeIngestSpec {
    let mut spec = json!({"storage": {"bucket": "lake-data"}});
    merge(&mut spec, extra);
    serde_json::from_value(spec).expect("the test's specification has the right shape")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn violations_of(extra: Value) -> Vec<String> {
    match validate_spec("events", &spec(extra), &images()) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(ToString::to_string).collect(),
    }
}

/// Goal: exactly one violation, of this field, with these words.
fn rejects_with(field: &str, words: &str, extra: Value) {
    let found = violations_of(extra);
    assert_eq!(found.len(), 1, "{field}: {found:?}");
    assert!(found[0].starts_with(&format!("{field}: ")) && found[0].contains(words), "{field}: {found:?}");
}

#[test]
fn a_bucket_is_all_that_is_needed() {
    let validated = validate_spec("events", &spec(json!({})), &images()).expect("the rest has defaults");
    assert_eq!(validated.image, "lakeingest/sidecar:1");
    assert_eq!(validated.secret_name, None);
    assert_eq!(validated.config.credentials, sidecar_config::CredentialsSource::Environment);
    assert_eq!(validated.config.storage.prefix, "data");
    assert_eq!(validated.resources.requests.memory.as_deref(), Some("256Mi"));
    assert_eq!(validated.resources.limits.cpu, None);
}

#[test]
fn what_is_inferred_of_new_columns_is_told_to_the_sidecar() {
    let inferred = |extra| validate_spec("events", &spec(extra), &images()).expect("it is legal").config.inference;
    assert!(inferred(json!({})).timestamps && inferred(json!({})).nested);
    assert!(!inferred(json!({"inference": {"nested": false}})).nested);
    assert!(!inferred(json!({"inference": {"timestamps": false}})).timestamps);
}

#[test]
fn a_secret_makes_the_sidecar_read_files() {
    let spec = spec(json!({"storage": {"credentials": {"secretRef": {"name": "lake-s3"}}}}));
    let validated = validate_spec("events", &spec, &images()).expect("it is legal");
    assert_eq!(validated.secret_name.as_deref(), Some("lake-s3"));
    assert_eq!(validated.config.credentials, sidecar_config::CredentialsSource::Files);
}

#[test]
fn what_is_said_of_s3_reaches_the_sidecar_and_authorities_lie_beside_its_configuration() {
    let s3 = json!({
        "endpoint": "https://minio.storage:9000",
        "addressing": "virtualHost",
        "encryption": {"mode": "aws:kms", "kmsKeyId": "arn:aws:kms:us-east-1:111122223333:key/1234abcd"},
        "caBundle": {"configMapKeyRef": {"name": "authorities", "key": "ca.crt"}},
    });
    let validated = validate_spec("events", &spec(json!({"storage": {"s3": s3}})), &images()).expect("it is legal");
    let config = &validated.config.storage.s3;
    assert_eq!(config.addressing, Some(Addressing::VirtualHost));
    let encryption = config.encryption.as_ref().expect("it was said");
    assert_eq!(encryption.mode.header(), "aws:kms");
    assert_eq!(config.ca_file.as_deref(), Some("/etc/lakeingest/config/ca.crt"));
    let bundle = validated.ca_bundle.expect("it was named");
    assert_eq!((bundle.name.as_str(), bundle.key.as_str()), ("authorities", "ca.crt"));
}

#[test]
fn each_value_that_cannot_be_used_is_named_with_what_is_allowed() {
    rejects_with("spec.storage.bucket", "lower-case", json!({"storage": {"bucket": "Lake_Data"}}));
    rejects_with("spec.storage.prefix", "joined by '/'", json!({"storage": {"prefix": "_hidden"}}));
    rejects_with("spec.storage.region", "us-east-1", json!({"storage": {"region": "Somewhere Else"}}));
    rejects_with(
        "spec.storage.s3.endpoint",
        "without credentials",
        json!({"storage": {"s3": {"endpoint": "https://key:secret@host"}}}),
    );
    rejects_with(
        "spec.storage.s3.endpoint",
        "without a path",
        json!({"storage": {"s3": {"endpoint": "https://host/bucket"}}}),
    );
    rejects_with("spec.storage.s3", "allowInsecure", json!({"storage": {"s3": {"endpoint": "http://host:9000"}}}));
    rejects_with(
        "spec.storage.s3",
        "needs an endpoint that is a name",
        json!({"storage": {"s3": {"endpoint": "https://10.0.0.7:9000", "addressing": "virtualHost"}}}),
    );
    rejects_with(
        "spec.storage.s3.encryption",
        "mode: aws:kms",
        json!({"storage": {"s3": {"encryption": {"mode": "AES256", "kmsKeyId": "alias/lake"}}}}),
    );
    rejects_with(
        "spec.storage.s3.encryption.kmsKeyId",
        "without blanks",
        json!({"storage": {"s3": {"encryption": {"mode": "aws:kms", "kmsKeyId": "the key"}}}}),
    );
    rejects_with(
        "spec.storage.s3.caBundle.configMapKeyRef.key",
        "ConfigMap",
        json!({"storage": {"s3": {"caBundle": {"configMapKeyRef": {"name": "authorities", "key": "../ca.crt"}}}}}),
    );
    rejects_with(
        "spec.storage.credentials.secretRef.name",
        "lower-case",
        json!({"storage": {"credentials": {"secretRef": {"name": "Lake/S3"}}}}),
    );
    rejects_with("spec.flush.maxRows", "1 to 10000000", json!({"flush": {"maxRows": 0}}));
    rejects_with("spec.flush.maxAge", "1s to 1h", json!({"flush": {"maxAge": "2h"}}));
    rejects_with("spec.flush.maxBytes", "64Ki to 1Gi", json!({"flush": {"maxBytes": "1Ki"}}));
    rejects_with("spec.buffer.sizeLimit", "twice flush.maxBytes", json!({"buffer": {"sizeLimit": "128Mi"}}));
    rejects_with("spec.buffer.scratchSizeLimit", "64Mi to 1Ti", json!({"buffer": {"scratchSizeLimit": "1Mi"}}));
    rejects_with("spec.sidecar.healthPort", "another port", json!({"sidecar": {"healthPort": 8001}}));
    rejects_with("spec.sidecar.port", "no privilege", json!({"sidecar": {"port": 80}}));
    rejects_with("spec.sidecar.image", "lakeingest/sidecar", json!({"sidecar": {"image": "evil/sidecar:1"}}));
    for image in [
        "lakeingest/sidecar:v 1",
        "lakeingest/sidecar:",
        "lakeingest/sidecar@sha256:zz",
        "lakeingest/sidecar@sha256:ab",
        "lakeingest/sidecar:1@",
    ] {
        rejects_with("spec.sidecar.image", "repository:tag", json!({"sidecar": {"image": image}}));
    }
    rejects_with(
        "spec.sidecar.resources.requests.cpu",
        "thousandths",
        json!({"sidecar": {"resources": {"requests": {"cpu": "half"}}}}),
    );
    rejects_with(
        "spec.sidecar.resources.limits.memory",
        "64Mi to 1Ti",
        json!({"sidecar": {"resources": {"limits": {"memory": "1Mi"}}}}),
    );
    rejects_with(
        "spec.sidecar.resources.limits.memory",
        "at least 256Mi",
        json!({"sidecar": {"resources": {"limits": {"memory": "128Mi"}, "requests": {"memory": "64Mi"}}}}),
    );
    rejects_with(
        "spec.sidecar.resources.requests.cpu",
        "at most the limit",
        json!({"sidecar": {"resources": {"requests": {"cpu": "1.5"}, "limits": {"cpu": "1499m"}}}}),
    );
    rejects_with("spec.drain.gracePeriodSeconds", "1 to 3600", json!({"drain": {"gracePeriodSeconds": 0}}));
}

#[test]
fn every_violation_is_reported_at_once() {
    let found = violations_of(json!({"storage": {"bucket": "B", "prefix": "_"}, "flush": {"maxRows": 0}}));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_name_must_be_fit_to_be_a_label_and_an_annotation() {
    for name in ["true", "false", "Events", "1events", "events-", "a.b", "", &"e".repeat(41)] {
        let error = validate_spec(name, &spec(json!({})), &images()).expect_err("it is no name");
        assert!(error.to_string().starts_with("metadata.name: "), "{name}: {error}");
    }
    assert!(validate_spec(&"e".repeat(40), &spec(json!({})), &images()).is_ok());
}

#[test]
fn an_image_is_allowed_by_its_repository_whatever_its_tag_or_digest() {
    let policy = ImagePolicy {
        default_image: "mirror:5000/team/sidecar@sha256:00".to_owned(),
        allowed_repositories: vec!["lakeingest/sidecar".to_owned(), "registry:5000/sidecar".to_owned()],
    };
    for image in [
        "lakeingest/sidecar",
        "lakeingest/sidecar:2",
        "registry:5000/sidecar:1@sha256:ab",
        "mirror:5000/team/sidecar@sha256:00",
    ] {
        assert!(policy.allows(image), "{image} was refused");
    }
    for image in
        ["lakeingest/sidecar2:1", "evil/lakeingest/sidecar", "registry:5000/other", "mirror:5000/team/sidecar:1"]
    {
        assert!(!policy.allows(image), "{image} was allowed");
    }
}

#[test]
fn a_lower_limit_lowers_the_default_of_its_request() {
    let spec = spec(json!({"sidecar": {"resources": {"limits": {"cpu": "20m"}}}}));
    let resources = validate_spec("events", &spec, &images()).expect("it is legal").resources;
    assert_eq!(resources.requests.cpu.as_deref(), Some("20m"));
}

#[test]
fn a_higher_request_raises_the_default_of_its_limit() {
    let spec = spec(json!({"sidecar": {"resources": {"requests": {"memory": "1Gi"}}}}));
    let resources = validate_spec("events", &spec, &images()).expect("it is legal").resources;
    assert_eq!(resources.limits.memory.as_deref(), Some("1Gi"));
}

#[test]
fn an_endpoint_is_a_host_and_perhaps_a_port() {
    for endpoint in
        ["https://s3.example", "http://10.0.0.1:9000", "https://h:65535/", "https://[::1]:9000", "https://[fd00::1]"]
    {
        assert!(is_endpoint(endpoint), "{endpoint}");
    }
    for endpoint in [
        "https://",
        "https://:9000",
        "https://h:",
        "https://h:0",
        "https://h:99999",
        "https://h:65536",
        "http://a:b:c",
        "https://h:+1",
        "https://-h",
        "https://h.",
        "https://[]",
        "https://[::1",
        "https://[g::1]:1",
        "https://h/x",
        "https://k:s@h",
        "ftp://h",
        "h:9000",
    ] {
        assert!(!is_endpoint(endpoint), "{endpoint}");
    }
}

#[test]
fn keys_come_from_a_secret_or_are_lent_to_an_identity() {
    let of = |credentials: Value| json!({"storage": {"credentials": credentials}});
    let identity = |more: Value| {
        let mut identity = json!({"aws": {"roleArn": "arn:aws:iam::123456789012:role/lake"}});
        merge(&mut identity, more);
        of(json!({"workloadIdentity": identity}))
    };
    let validated = validate_spec("events", &spec(identity(json!({}))), &images()).expect("it is legal");
    let found = validated.workload_identity.expect("there is one");
    assert_eq!((found.audience.as_str(), &found.service_account_name), ("sts.amazonaws.com", &None));
    assert_eq!(validated.secret_name, None);
    assert_eq!(validated.config.credentials, sidecar_config::CredentialsSource::Environment);
    rejects_with("spec.storage.credentials", "either secretRef or workloadIdentity", of(json!({})));
    let both = json!({"secretRef": {"name": "keys"}, "workloadIdentity": {"aws": {"roleArn": "arn:x"}}});
    rejects_with("spec.storage.credentials", "either secretRef or workloadIdentity", of(both));
    let at = |field: &str| format!("spec.storage.credentials.workloadIdentity.{field}");
    for role in ["", "arn:", "role/lake", "arn:aws:iam::1:role/a b"] {
        rejects_with(&at("aws.roleArn"), "must be an ARN", identity(json!({"aws": {"roleArn": role}})));
    }
    for audience in ["", "a b"] {
        rejects_with(&at("audience"), "without spaces", identity(json!({"audience": audience})));
    }
    rejects_with(&at("serviceAccountName"), "", identity(json!({"serviceAccountName": "Shop"})));
}

/// A condition has no room for thousands of them.
#[test]
fn a_text_names_the_first_violations_and_counts_the_others() {
    let text = |count: usize| {
        let one = |number: usize| Violation { field: format!("spec.f{number}").into(), detail: "no".to_owned() };
        Violations((1..=count).map(one).collect()).to_string()
    };
    assert_eq!(text(2), "spec.f1: no; spec.f2: no");
    assert!(text(20).ends_with("; spec.f20: no"));
    assert!(text(500).ends_with("; spec.f20: no; and 480 more"), "{}", text(500));
}
