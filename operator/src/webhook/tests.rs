//! Reviews over the router and over TLS, well-formed and not.

use std::time::Duration;

use axum::http::Request;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::clock::SystemClock;
use crate::limits::{POD_TREE_BYTES_MAX, REVIEW_BYTES_MAX};

fn review(change: impl FnOnce(&mut Value)) -> Value {
    let mut review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "namespace": "team-a", "operation": "CREATE", "dryRun": true,
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {"kind": "Pod", "spec": {"newField": 1}},
        },
    });
    change(&mut review);
    review
}

/// Posts a body to a webhook that decides so; gives the status and the body.
async fn post(body: Vec<u8>, decide: fn(PodReview) -> Decision) -> (StatusCode, String) {
    post_to("/inject", body, decide).await
}

async fn post_to(path: &str, body: Vec<u8>, decide: fn(PodReview) -> Decision) -> (StatusCode, String) {
    let webhook = Webhook {
        decide: Arc::new(move |review| Box::pin(async move { decide(review) })),
        clock: SystemClock::shared(),
        metrics: Arc::new(Metrics::default()),
    };
    let request = Request::post(path).body(Body::from(body)).expect("the request is one");
    let answer = router(webhook).oneshot(request).await.expect("a router answers");
    let status = answer.status();
    let bytes = answer.into_body().collect().await.expect("the answer has a body").to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

async fn answer_to(review: Value, decide: fn(PodReview) -> Decision) -> Value {
    let (status, body) = post(review.to_string().into_bytes(), decide).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("the answer is JSON");
    assert_eq!(answer["response"]["uid"], "u-1");
    answer["response"].clone()
}

fn unchanged(_: PodReview) -> Decision {
    Decision::Unchanged { warnings: Vec::new() }
}

#[tokio::test]
async fn the_pod_reaches_the_decision_as_it_came() {
    let answer = answer_to(review(|_| {}), |review| {
        assert_eq!((review.namespace.as_str(), review.dry_run), ("team-a", true));
        let pod = review.pod.whole().now_or_never().expect("it is small").expect("it is a pod");
        assert_eq!(*pod.json(), json!({"kind": "Pod", "spec": {"newField": 1}}));
        Decision::Unchanged { warnings: vec!["w".repeat(300)] }
    })
    .await;
    assert_eq!(answer["allowed"], true);
    assert!(answer.get("patch").is_none());
    assert_eq!(answer["warnings"][0].as_str().map(str::len), Some(256));
}

#[tokio::test]
async fn the_path_tells_whether_the_namespace_has_a_label() {
    for (path, words) in [("/inject", "own"), ("/inject-by-namespace", "label")] {
        let decide = |review: PodReview| Decision::Refused {
            message: if review.is_sent_for_label { "label" } else { "own" }.to_owned(),
        };
        let (status, answer) = post_to(path, review(|_| {}).to_string().into_bytes(), decide).await;
        assert!(status == StatusCode::OK && answer.contains(&format!("\"message\":\"{words}\"")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_patch_is_sent_as_base64() {
    let answer = answer_to(review(|_| {}), |_| Decision::Patched {
        patch: vec![json!({"op": "add", "path": "/a", "value": 1})],
        warnings: Vec::new(),
    })
    .await;
    assert_eq!(answer["patchType"], "JSONPatch");
    let patch = BASE64_STANDARD.decode(answer["patch"].as_str().expect("it is a text")).expect("it is base64");
    assert_eq!(
        serde_json::from_slice::<Value>(&patch).expect("it is JSON"),
        json!([{"op": "add", "path": "/a", "value": 1}])
    );
}

#[tokio::test]
async fn a_refusal_carries_its_words() {
    let answer = answer_to(review(|_| {}), |_| Decision::Refused { message: "no such LakeIngest".to_owned() }).await;
    assert_eq!(answer["allowed"], false);
    assert_eq!(
        answer["status"],
        json!({"code": 403, "reason": "Forbidden", "status": "Failure", "message": "no such LakeIngest"})
    );
}

#[tokio::test]
async fn what_the_webhook_never_asked_for_is_refused_in_words() {
    let changes: [fn(&mut Value); 4] = [
        |review| review["request"]["operation"] = json!("UPDATE"),
        |review| review["request"]["resource"]["resource"] = json!("deployments"),
        |review| review["request"]["subResource"] = json!("ephemeralcontainers"),
        |review| review["request"]["object"] = Value::Null,
    ];
    for change in changes {
        let answer = answer_to(review(change), unchanged).await;
        assert_eq!(answer["allowed"], false);
        assert!(
            answer["status"]["message"].as_str().is_some_and(|words| words.contains("upgrade the chart")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn what_is_no_review_is_a_bad_request() {
    let old = review(|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1")).to_string();
    for body in [Vec::new(), b"{".to_vec(), b"{}".to_vec(), b"\xff".to_vec(), old.into_bytes()] {
        let (status, words) = post(body, unchanged).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(words.contains("AdmissionReview"), "{words}");
    }
}

#[tokio::test]
async fn a_review_may_have_the_longest_length_and_not_a_byte_more() {
    for (length, expected) in
        [(REVIEW_BYTES_MAX, StatusCode::OK), (REVIEW_BYTES_MAX + 1, StatusCode::PAYLOAD_TOO_LARGE)]
    {
        let mut body = review(|_| {}).to_string().into_bytes();
        body.resize(length, b' ');
        assert_eq!(post(body, unchanged).await.0, expected);
    }
}

/// What the process has had in memory at most since this was last called. Unit: bytes. Each test has a process of its own.
fn peak_since_last() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells the peak");
    let kib: usize = peak.trim().trim_end_matches(" kB").parse().expect("it is a number");
    // Source: proc_pid_clear_refs(5).
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
    kib << 10
}

/// Goal: nobody ends an operator by one request, with or without a pod that asks.
/// Method: bodies of many small values, one that is refused and the largest that is not; each is read and copied.
#[tokio::test]
async fn i12_no_review_takes_more_memory_than_it_may() {
    let read_and_copied = |review: PodReview| match review.pod.whole().now_or_never().expect("no other is read") {
        Ok(pod) => Decision::Refused {
            message: format!("{} items", pod.json().clone()["spec"].as_array().map_or(0, Vec::len)),
        },
        Err(unread) => Decision::Refused { message: unread.to_string() },
    };
    for (item, count, words) in [
        (r#"{"":0}"#, 390_000, "too many fields"),
        (r#"{"":0}"#, 37_000, "37000 items"),
        ("[0]", 700_000, "too many fields"),
        (r#"{"name":"a"}"#, 200_000, "too many fields"),
        ("0", 180_000, "180000 items"),
    ] {
        let body = review(|review| review["request"]["object"] = json!({"spec": []})).to_string();
        let body = body.replace("[]", &format!("[{}]", vec![item; count].join(",")));
        peak_since_last();
        let before = peak_since_last();
        let (status, answer) = post(body.into_bytes(), read_and_copied).await;
        let taken = peak_since_last().saturating_sub(before);
        assert!(status == StatusCode::OK && answer.contains(words), "{item}: {answer}");
        assert!(taken < 2 * POD_TREE_BYTES_MAX + 4 * REVIEW_BYTES_MAX, "{item} took {taken} bytes");
    }
}

#[tokio::test]
async fn a_panic_refuses_one_pod_and_no_other() {
    let answer = answer_to(review(|_| {}), |_| panic!("a fault")).await;
    assert_eq!(answer["allowed"], false);
    assert!(answer["status"]["message"].as_str().is_some_and(|words| words.contains("its log says more")));
}

/// Goal: a client that trusts the bundle alone, as the API server does, gets an answer over TLS.
#[tokio::test]
async fn a_client_that_trusts_the_bundle_is_answered_over_tls() {
    use crate::certs::{Authority, LeafKeeper};
    let clock = SystemClock::shared();
    let authority = Authority::for_test(clock.now());
    let bundle = authority.certificate_pem().to_owned();
    let leaf = LeafKeeper::new(&authority, "webhook", "lakeingest", clock.now(), chrono::TimeDelta::days(7));
    let leaf = Arc::new(leaf.expect("a leaf can be made"));
    let webhook = Webhook {
        decide: Arc::new(|_| Box::pin(async { Decision::Refused { message: "over TLS".to_owned() } })),
        clock,
        metrics: Arc::new(Metrics::default()),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
    let address = listener.local_addr().expect("it listens");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let tls = tls(leaf).expect("the provider has suites");
    let server = tokio::spawn(crate::server::serve(listener, Some(tls), router(webhook), stopped));

    let answer = over_tls(&bundle, address, "webhook.lakeingest.svc", &review(|_| {}).to_string()).await;
    assert!(answer.expect("it answers").contains("over TLS"));
    let stranger = Authority::for_test(SystemClock::shared().now());
    assert!(over_tls(stranger.certificate_pem(), address, "webhook.lakeingest.svc", "{}").await.is_err());
    assert!(over_tls(&bundle, address, "elsewhere.lakeingest.svc", "{}").await.is_err());
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(30), server).await.expect("it ends").expect("it does not panic");
}

async fn over_tls(bundle: &str, address: std::net::SocketAddr, name: &str, body: &str) -> std::io::Result<String> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(bundle.as_bytes()).expect("a bundle is PEM")).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("it is a name");
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let head = format!(
        "POST /inject HTTP/1.1\r\nhost: webhook\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
