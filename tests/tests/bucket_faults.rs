//! Every class of error that a bucket can give, seen through a proxy that makes it in front of a real server: streams are
//! acknowledged, `/health` says what is wrong and since when, a metric counts and the log tells, nothing is dropped, and
//! once it is over everything is in the lake exactly once, with no upload left half done.

use std::time::Duration;

use lakeingest_tests::calls::{
    flush, health, ingest, metric, reasons, stream, wait_for_health, wait_for_reason, wait_until_delivered,
};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, record};
use lakeingest_tests::on_both_kinds;
use lakeingest_tests::oracle::{Tally, verify};
use lakeingest_tests::proxy::{Fault, Head, Proxy};
use lakeingest_tests::site::Site;
use lakeingest_tests::store::{Kind, Place, Store};
use serde_json::{Value, json};
use xtask::servers::Sidecar;

on_both_kinds! {
    slow_down,
    an_internal_error,
    too_many_requests,
    a_reset,
    a_body_that_is_cut,
    an_error_in_a_success,
    a_put_that_is_swallowed,
    keys_that_may_not,
    a_token_that_has_expired,
    another_region,
    a_bucket_that_is_gone,
    an_answer_that_is_lost,
    a_conflict,
    answers_that_trickle,
    an_endpoint_that_replaces_objects,
    an_endpoint_that_refuses_the_condition,
    an_etag_that_says_nothing,
    a_server_that_keeps_no_checksum,
    encryption_is_asked_for_with_every_object,
}

/// A server, a proxy in front of it, and a sidecar that knows the proxy alone.
struct Scene {
    // In the order in which they end.
    sidecar: Sidecar,
    ledger: Ledger,
    site: Site,
    proxy: Proxy,
    store: Store,
    _place: Place,
}

impl Scene {
    /// A scene in which everything is well.
    fn new(kind: Kind) -> Self {
        Self::with(kind, "", |_| {})
    }

    /// A scene with more in its configuration, and with faults that are there before the sidecar is.
    fn with(kind: Kind, config: &str, prepare: impl FnOnce(&Proxy)) -> Self {
        let place = Place::new(kind);
        let store = place.start();
        let proxy = Proxy::start(store.access());
        prepare(&proxy);
        // The lake is read past the proxy.
        let mut site = Site::on(&Lake::bucket(store.access())).with_config(&format!("flush: {{maxAge: 1s}}\n{config}"));
        site.options.environment = proxy.access(store.access()).environment();
        let sidecar = site.start();
        Self { sidecar, ledger: Ledger::default(), site, proxy, store, _place: place }
    }

    /// Streams 20 records, each of which must be acknowledged.
    fn stream(&self, producer: u64) {
        for sequence in 0..20 {
            self.ledger.stream(&self.sidecar, "events", record(producer, sequence));
        }
    }

    /// Waits until everything is delivered, and judges the lake.
    fn judge(&self) -> Tally {
        wait_until_delivered(&self.sidecar);
        self.judge_lake()
    }

    fn judge_lake(&self) -> Tally {
        let tally = verify(&self.ledger, self.site.lake());
        assert_eq!(tally.acknowledged, self.ledger.entries().len(), "everything was acknowledged");
        let uploads = self.store.access().get("?uploads=").expect("the server answers");
        assert!(!uploads.contains("<Upload>"), "{uploads}");
        tally
    }

    /// Goal: under this fault, streams are acknowledged and the reason is told everywhere; after it all is well. Method:
    /// one file is delivered before, so that the fault meets a sidecar that has made contact.
    fn suffers(kind: Kind, fault: Fault, matches: fn(&Head) -> bool, reason: &str) -> String {
        let scene = Self::new(kind);
        ingest(&scene.sidecar, "others", &[json!({"n": 1})]);
        scene.proxy.always(fault, matches);
        scene.stream(1);
        let message = wait_for_reason(&scene.sidecar, reason);
        let since = since(&scene.sidecar, reason);
        // The next attempt fails too: it is the same trouble since the same time.
        let failures = format!("lakeingest_sidecar_delivery_failures_total{{reason=\"{reason}\"}}");
        let first = metric(&scene.sidecar, &failures);
        wait_for_health(&scene.sidecar, "another failure", |_| {
            (metric(&scene.sidecar, &failures) > first).then_some(())
        });
        assert!(first >= 1.0);
        assert_eq!(self::since(&scene.sidecar, reason), since);
        scene.stream(2);
        let health = health(&scene.sidecar);
        assert_eq!((&health["status"], &health["backlog"]["rows"]), (&json!("degraded"), &json!(40)), "{health}");
        for path in ["/livez", "/readyz"] {
            assert_eq!(scene.sidecar.get_health(path).expect("it answers").status, 200, "{path}");
        }
        let log = scene.site.log();
        let told = log.lines().filter(|line| line.contains("degraded") && line.contains(reason)).count();
        assert_eq!(told, 1, "it is logged once: {log}");

        scene.proxy.heal();
        assert_eq!(scene.judge().acknowledged, 40);
        assert_eq!(reasons(&scene.sidecar), Vec::<String>::new());
        let log = scene.site.log();
        assert!(log.lines().any(|line| line.contains("recovered") && line.contains(reason)), "{log}");
        assert_eq!(scene.sidecar.stop().expect("it ends").code(), Some(0));
        message
    }
}

/// Since when `/health` tells a reason.
fn since(sidecar: &Sidecar, name: &str) -> Value {
    let health = health(sidecar);
    let reasons = health["reasons"].as_array().expect("reasons is an array");
    let reason = reasons.iter().find(|reason| reason["name"] == name).expect("it is told");
    assert!(reason["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{reason}");
    reason["since"].clone()
}

fn all(_: &Head) -> bool {
    true
}

fn slow_down(kind: Kind) {
    let message = Scene::suffers(kind, Fault::Answer(503, "SlowDown"), Head::puts_data, "StorageUnreachable");
    assert!(message.contains("503 Service Unavailable (SlowDown)"), "{message}");
}

fn an_internal_error(kind: Kind) {
    let message = Scene::suffers(kind, Fault::Answer(500, "InternalError"), Head::puts_data, "StorageUnreachable");
    assert!(message.contains("500 Internal Server Error (InternalError)"), "{message}");
}

fn too_many_requests(kind: Kind) {
    let message = Scene::suffers(kind, Fault::Answer(429, "TooManyRequests"), Head::puts_data, "StorageUnreachable");
    assert!(message.contains("429"), "{message}");
}

fn a_reset(kind: Kind) {
    Scene::suffers(kind, Fault::Reset, Head::puts_data, "StorageUnreachable");
}

fn a_body_that_is_cut(kind: Kind) {
    Scene::suffers(kind, Fault::CutBody(1_000), Head::puts_data, "StorageUnreachable");
}

fn an_error_in_a_success(kind: Kind) {
    let message = Scene::suffers(kind, Fault::ErrorInSuccess, Head::puts_data, "StorageUnreachable");
    assert!(message.contains("200 OK (InternalError)"), "{message}");
}

fn a_put_that_is_swallowed(kind: Kind) {
    let message = Scene::suffers(kind, Fault::Swallow, Head::puts_data, "ObjectUnverified");
    assert!(message.contains("the put succeeded and the object is not there"), "{message}");
}

fn keys_that_may_not(kind: Kind) {
    let message = Scene::suffers(kind, Fault::Answer(403, "AccessDenied"), all, "CredentialsInvalid");
    assert!(message.contains("403 Forbidden"), "{message}");
}

fn a_token_that_has_expired(kind: Kind) {
    let message = Scene::suffers(kind, Fault::Answer(400, "ExpiredToken"), all, "CredentialsInvalid");
    assert!(message.contains("400 Bad Request (ExpiredToken)"), "{message}");
}

fn another_region(kind: Kind) {
    let message = Scene::suffers(kind, Fault::Redirect("eu-west-3"), all, "WrongRegion");
    assert!(message.contains("the bucket is in region eu-west-3; set storage.region to it"), "{message}");
}

fn a_bucket_that_is_gone(kind: Kind) {
    Scene::suffers(kind, Fault::Answer(404, "NoSuchBucket"), all, "BucketMissing");
}

/// Goal: what the server has done and could not say is found, and neither done twice nor taken for a stranger's.
fn an_answer_that_is_lost(kind: Kind) {
    let scene = Scene::new(kind);
    ingest(&scene.sidecar, "others", &[json!({"n": 1})]);
    let puts = |head: &Head| head.method == "PUT";
    scene.proxy.next(1, Fault::LoseAnswer, Head::puts_data);
    scene.stream(1);
    assert_eq!(scene.judge().acknowledged, 20);
    let puts_of_last = || {
        let data: Vec<Head> = scene.proxy.seen().into_iter().filter(Head::puts_data).collect();
        data.iter().filter(|head| head.target == data[data.len() - 1].target).count()
    };
    assert_eq!(puts_of_last(), 1, "it was looked for");
    // The look is lost too: it is put again, refused, and looked at.
    let looks = |head: &Head| head.method == "HEAD" && head.target.contains("/data/events/");
    scene.proxy.next(2, Fault::LoseAnswer, Head::puts_data);
    scene.proxy.next(1, Fault::LoseAnswer, looks);
    scene.stream(3);
    assert_eq!(scene.judge().acknowledged, 40);
    assert_eq!(puts_of_last(), 2);
    // The same of every small object: a schema, a description.
    scene.proxy.next(3, Fault::LoseAnswer, puts);
    for sequence in 0..20 {
        scene.ledger.stream(&scene.sidecar, "orders", record(2, sequence));
    }
    assert_eq!(scene.judge().acknowledged, 60);
}

/// Goal: a conflict says that somebody else is at the key, not that the object is there.
fn a_conflict(kind: Kind) {
    let message =
        Scene::suffers(kind, Fault::Answer(409, "ConditionalRequestConflict"), Head::puts_data, "ObjectUnverified");
    assert!(message.contains("another writer is at the key"), "{message}");
}

/// Goal: an answer that comes slowly is an answer.
fn answers_that_trickle(kind: Kind) {
    let is_data = |head: &Head| head.target.ends_with(".parquet");
    let scene = Scene::with(kind, "", |proxy| proxy.always(Fault::Trickle(Duration::from_micros(100)), is_data));
    scene.stream(1);
    assert_eq!(scene.judge().acknowledged, 20);
}

/// Goal: the condition is ignored, and records flow all the same, each file once. Method: the proxy takes it out.
fn an_endpoint_that_replaces_objects(kind: Kind) {
    replaces(kind, Fault::Strip(&["if-none-match"]));
}

/// Goal: the same for a server that refuses what it does not know.
fn an_endpoint_that_refuses_the_condition(kind: Kind) {
    replaces(kind, Fault::Answer(501, "NotImplemented"));
}

fn replaces(kind: Kind, fault: Fault) {
    let has_condition = |head: &Head| head.header("if-none-match").is_some();
    // In the end the prefix is a stranger's: the sidecar that is stopped then need not wait for it.
    let config = "drain: {gracePeriodSeconds: 1}\n";
    let scene = Scene::with(kind, config, |proxy| proxy.always(fault, has_condition));
    scene.stream(1);
    let message = wait_for_reason(&scene.sidecar, "ConditionalPutUnsupported");
    assert!(message.contains("If-None-Match"), "{message}");
    let delivered = |health: &Value| (health["backlog"]["rows"] == 0).then_some(());
    wait_for_health(&scene.sidecar, "an empty backlog", delivered);
    // The answer to the next file's put is lost: it is found, and nothing is put over it.
    scene.proxy.next(1, Fault::LoseAnswer, |head| head.puts_data() && head.header("if-none-match").is_none());
    scene.stream(2);
    wait_for_health(&scene.sidecar, "an empty backlog", delivered);
    assert_eq!(scene.judge_lake().acknowledged, 40);
    assert_eq!(reasons(&scene.sidecar), ["ConditionalPutUnsupported"], "it stays told");
    let puts: Vec<String> = scene.proxy.seen().into_iter().filter(Head::puts_data).map(|head| head.target).collect();
    let mut keys = puts.clone();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), puts.len(), "no file was put twice: {puts:?}");

    // A stranger who takes the prefix is noticed, though its owner had made contact before.
    let stranger = json!({"formatVersion": 1, "name": "stranger", "createdAt": "2026-01-08T10:05:30Z"});
    put_object(&scene, "data/_lakeingest/owner.json", &stranger);
    stream(&scene.sidecar, "events", &record(3, 0));
    wait_for_reason(&scene.sidecar, "PrefixInUse");
}

/// Puts an object over whatever is there, past the proxy.
fn put_object(scene: &Scene, key: &str, content: &Value) {
    let file = scene.site.folder().join("object");
    std::fs::write(&file, content.to_string()).expect("the file can be written");
    scene.store.access().put_object(key, &file).expect("the object can be put");
}

/// Goal: an ETag is nothing that is believed: under encryption it is no checksum of the bytes.
fn an_etag_that_says_nothing(kind: Kind) {
    let scene = Scene::with(kind, "", |proxy| proxy.always(Fault::Say("etag", "\"opaque\""), all));
    scene.stream(1);
    assert_eq!(scene.judge().acknowledged, 20);
    assert!(!scene.site.log().contains("degraded"), "{}", scene.site.log());
}

/// Goal: a store that keeps neither checksum nor metadata is looked into.
fn a_server_that_keeps_no_checksum(kind: Kind) {
    let hidden = Fault::Hide(&["x-amz-checksum-sha256", "x-amz-meta-"]);
    let scene = Scene::with(kind, "", |proxy| proxy.always(hidden, all));
    scene.stream(1);
    assert_eq!(scene.judge().acknowledged, 20);
    let log = scene.site.log();
    assert!(log.contains("accepted an object by what it says of itself") && !log.contains("degraded"), "{log}");
}

/// Goal: data files and small objects alike ask for the encryption that was set. Method: the servers have no key service,
/// so the proxy takes the headers out, and the signature that covered them is made anew.
fn encryption_is_asked_for_with_every_object(kind: Kind) {
    const HEADERS: [&str; 2] = ["x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"];
    let config = "storage: {s3: {encryption: {mode: 'aws:kms', kmsKeyId: 'arn:aws:kms:us-east-1:1:key/4711'}}}\n";
    let scene = Scene::with(kind, config, |proxy| proxy.always(Fault::Strip(&HEADERS), all));
    scene.stream(1);
    flush(&scene.sidecar);
    assert_eq!(scene.judge().acknowledged, 20);
    let puts: Vec<Head> = scene.proxy.seen().into_iter().filter(|head| head.method == "PUT").collect();
    assert!(puts.iter().any(Head::puts_data) && puts.iter().any(|head| head.target.ends_with(".json")));
    for head in &puts {
        assert_eq!(head.header(HEADERS[0]), Some("aws:kms"), "{head:?}");
        assert_eq!(head.header(HEADERS[1]), Some("arn:aws:kms:us-east-1:1:key/4711"), "{head:?}");
        let signed = head.header("authorization").expect("it is signed");
        assert!(HEADERS.iter().all(|name| signed.contains(name)), "{signed}");
    }
}
