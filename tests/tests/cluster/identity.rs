//! Keys that are lent to the identity of a pod, on a real cluster: the kubelet makes the token, a stand-in takes it.

use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lakeingest_tests::stub::{Stub, answer};
use lakeingest_tests::team::Team;
use serde_json::{Value, json};

/// How long the sidecar may take to ask for keys.
const EXCHANGE_WAIT: Duration = Duration::from_secs(60);

/// Requests of the sidecar that are kept.
const REQUESTS_MAX: usize = 8;

/// What a token says of itself.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a token has three parts");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).expect("it is base64")).expect("it is JSON")
}

/// A parameter of a request.
fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Goal: the token of the pod's service account, for the audience of the LakeIngest, is what the provider is asked with.
/// Method: the pod itself says where the provider is, in its own fragment of the container.
#[test]
fn a_pods_token_is_exchanged_for_keys_of_the_role() {
    let team = Team::new("identity");
    let (tell, asked) = mpsc::sync_channel(REQUESTS_MAX);
    let host = team.cluster.host_address();
    let provider = Stub::tls_at(&host.to_string(), move |head, _| {
        // The first ones are enough, and a test that has ended hears nothing more.
        let _ = tell.try_send(head.target.clone());
        answer(403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
    });
    team.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authorities"},
        "data": {"ca.crt": provider.certificate},
    }));
    team.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shop"}}));
    let role = "arn:aws:iam::123456789012:role/lake";
    let identity = json!({"serviceAccountName": "shop", "audience": "lake.example", "aws": {"roleArn": role}});
    let authorities = json!({"configMapKeyRef": {"name": "authorities", "key": "ca.crt"}});
    let spec = json!({
        "storage": {"s3": {"caBundle": authorities}}, "flush": {"maxAge": "1s"}, "drain": {"gracePeriodSeconds": 1},
    });
    let mut object = team.lake_ingest_object("events", &spec);
    object["spec"]["storage"]["credentials"] = json!({"workloadIdentity": identity});
    team.apply(&object);
    team.kubectl(&["wait", "--for=condition=Ready", "lakeingest/events", "--timeout=60s"]);
    let mut pod = team.pod("shop", &json!({"lakeingest.io/inject": "events"}));
    let (done, _, words) = team.try_apply(&pod);
    assert!(!done && words.contains("serviceAccountName: shop"), "{words}");
    pod["spec"]["serviceAccountName"] = json!("shop");
    let provider_url = json!([{"name": "AWS_ENDPOINT_URL_STS", "value": provider.url()}]);
    pod["spec"]["initContainers"] = json!([{"name": "lakeingest", "image": "auto", "env": provider_url}]);
    team.apply(&pod);
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    team.stream("shop", 0, 10);

    let target = asked.recv_timeout(EXCHANGE_WAIT).expect("the sidecar asks for keys");
    assert_eq!(parameter(&target, "Action"), Some("AssumeRoleWithWebIdentity"), "{target}");
    let arn = parameter(&target, "RoleArn").expect("it names the role").replace("%3A", ":").replace("%2F", "/");
    assert_eq!(arn, role);
    let claims = claims(parameter(&target, "WebIdentityToken").expect("it has the token"));
    assert_eq!(claims["aud"], json!(["lake.example"]));
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:shop", team.namespace));
    assert_eq!(claims["kubernetes.io"]["pod"]["name"], "shop");

    // Who is lent nothing keeps what it is given, and says so; the token is in no log (I13).
    team.wait_for_reason("shop", "CredentialsInvalid");
    assert_eq!(team.health("shop")["backlog"]["rows"], 10);
    let log = team.kubectl(&["logs", "shop", "--container", "lakeingest"]);
    assert!(
        !log.contains("WebIdentityToken") && !log.contains(parameter(&target, "WebIdentityToken").unwrap_or("?")),
        "{log}"
    );
}

#[test]
fn keys_have_one_source() {
    let team = Team::new("sources");
    let role = json!({"aws": {"roleArn": "arn:aws:iam::123456789012:role/lake"}});
    for (credentials, words) in [
        (json!({"secretRef": {"name": "keys"}, "workloadIdentity": role}), "either secretRef or workloadIdentity"),
        (json!({}), "either secretRef or workloadIdentity"),
        (json!({"workloadIdentity": {"aws": {"roleArn": "lake"}}}), "must be an ARN"),
    ] {
        let mut object = team.lake_ingest_object("events", &json!({}));
        object["spec"]["storage"]["credentials"] = credentials;
        let (done, _, said) = team.try_apply(&object);
        assert!(!done && said.contains(words), "{said}");
    }
}
