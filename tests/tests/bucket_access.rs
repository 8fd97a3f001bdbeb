//! How a bucket is reached: by TLS and authorities of one's own, by host name, and with keys that are lent for a time.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lakeingest_tests::calls::{stream, wait_for_reason, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, record};
use lakeingest_tests::on_both_kinds;
use lakeingest_tests::oracle::verify;
use lakeingest_tests::proxy::{Fault, Head, Proxy};
use lakeingest_tests::site::Site;
use lakeingest_tests::store::{Kind, Place, Store};
use lakeingest_tests::stub::{Stub, answer, forward};
use xtask::servers::Sidecar;

on_both_kinds! {
    an_authority_that_is_not_trusted_is_told_and_one_that_comes_late_is_found,
    a_bucket_in_the_hosts_name,
    keys_by_a_web_identity_are_exchanged_again_when_they_have_expired,
    keys_of_a_container,
    keys_of_an_instance,
}

/// A server behind a proxy, and a place for a sidecar that is not started yet.
struct Scene {
    site: Site,
    proxy: Arc<Proxy>,
    store: Store,
    _place: Place,
}

impl Scene {
    fn new(place: Place, config: &str) -> Self {
        let store = place.start();
        let proxy = Arc::new(Proxy::start(store.access()));
        let mut site = Site::on(&Lake::bucket(store.access())).with_config(&format!("flush: {{maxAge: 1s}}\n{config}"));
        site.options.environment = proxy.access(store.access()).environment();
        Self { site, proxy, store, _place: place }
    }

    /// Sets variables of the sidecar, and takes out those of the keys.
    fn without_keys(&mut self, variables: &[(&str, &str)]) {
        let environment = &mut self.site.options.environment;
        environment.retain(|(name, _)| !name.contains("KEY"));
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    }

    fn deliver(&self, ledger: &Ledger, sidecar: &Sidecar, producer: u64) {
        for sequence in 0..5 {
            ledger.stream(sidecar, "events", record(producer, sequence));
        }
        wait_until_delivered(sidecar);
        assert_eq!(verify(ledger, self.site.lake()).acknowledged, ledger.entries().len());
    }
}

/// Goal: nothing is sent to a server that is not trusted, not even without TLS; its authority counts once it is named.
fn an_authority_that_is_not_trusted_is_told_and_one_that_comes_late_is_found(kind: Kind) {
    let folder = lakeingest_tests::site::temporary_folder();
    let authorities = folder.path().join("ca.crt");
    let config = format!("storage: {{s3: {{caFile: {}}}}}\n", authorities.display());
    let mut scene = Scene::new(Place::new(kind), &config);
    let upstream = scene.proxy.url();
    let front = Stub::tls(move |_, request| forward(&upstream, request));
    let stranger = Stub::tls(|_, _| answer(500, ""));
    let access = xtask::servers::S3Access { endpoint: front.url(), ..scene.store.access().clone() };
    scene.site.options.environment = access.environment();

    let (ledger, sidecar) = (Ledger::default(), scene.site.start());
    stream(&sidecar, "others", &record(9, 0));
    let message = wait_for_reason(&sidecar, "StorageUnreachable");
    assert!(message.contains("ca.crt cannot be read"), "{message}");
    fs::write(&authorities, &stranger.certificate).expect("the file can be written");
    lakeingest_tests::calls::wait_for_health(&sidecar, "words about TLS", |health| {
        let message = health["reasons"][0]["message"].as_str()?;
        (message.contains("TLS failed") && message.contains("invalid peer certificate") && message.contains("caBundle"))
            .then_some(())
    });
    assert_eq!(scene.proxy.seen().len(), 0, "nothing has come through");
    fs::write(&authorities, &front.certificate).expect("the file can be written");
    wait_until_delivered(&sidecar);
    for sequence in 0..5 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    wait_until_delivered(&sidecar);
    assert_eq!(scene.site.lake().table("events").len(), 5);
}

/// Method: the sidecar takes the proxy for a forward proxy, so that no name has to be known to the machine.
fn a_bucket_in_the_hosts_name(kind: Kind) {
    let place = Place::new(kind).with_domain("s3.lake.test");
    let config =
        "storage: {s3: {endpoint: 'http://s3.lake.test:9000', allowInsecure: true, addressing: virtualHost}}\n";
    let mut scene = Scene::new(place, config);
    scene.site.options.environment.push(("HTTP_PROXY".to_owned(), scene.proxy.url().into()));
    scene.site.options.environment.push(("http_proxy".to_owned(), scene.proxy.url().into()));
    let (ledger, sidecar) = (Ledger::default(), scene.site.start());
    scene.deliver(&ledger, &sidecar, 1);
    let seen = scene.proxy.seen();
    assert!(seen.iter().any(Head::puts_data));
    for head in &seen {
        assert_eq!(head.header("host"), Some("lake-data.s3.lake.test:9000"), "{head:?}");
        assert!(!head.target.contains("/lake-data/"), "{head:?}");
    }
}

/// Who lends keys, each time with another token; the proxy believes the newest.
fn lender(scene: &Scene) -> Arc<AtomicU64> {
    // The server knows keys without a token alone: the proxy looks at it and takes it out.
    scene.proxy.always(Fault::Strip(&["x-amz-security-token"]), has_token);
    Arc::new(AtomicU64::new(0))
}

fn has_token(head: &Head) -> bool {
    head.header("x-amz-security-token").is_some()
}

/// Keys as a container and an instance get them, good for a year.
fn lent(scene_keys: &(String, String), count: &AtomicU64) -> Vec<u8> {
    let number = count.fetch_add(1, Ordering::Relaxed) + 1;
    let (key, secret) = scene_keys;
    answer(
        200,
        &format!(
            "{{\"AccessKeyId\": \"{key}\", \"SecretAccessKey\": \"{secret}\", \"Token\": \"token-{number}\", \
             \"Expiration\": \"2099-01-01T00:00:00Z\"}}"
        ),
    )
}

fn keys(scene: &Scene) -> (String, String) {
    let access = scene.store.access();
    (access.access_key.clone(), access.secret_key.clone())
}

/// Goal: a token is exchanged for keys over TLS, and again when the bucket says that they have expired, whatever their
/// lifetime was said to be.
fn keys_by_a_web_identity_are_exchanged_again_when_they_have_expired(kind: Kind) {
    let folder = lakeingest_tests::site::temporary_folder();
    let (authorities, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
    fs::write(&token, "the-web-token").expect("the file can be written");
    let mut scene = Scene::new(Place::new(kind), &format!("storage: {{s3: {{caFile: {}}}}}\n", authorities.display()));
    let (count, keys) = (lender(&scene), keys(&scene));
    let exchange = Stub::tls({
        let count = Arc::clone(&count);
        move |head, _| {
            if !head.target.contains("WebIdentityToken=the-web-token") {
                return answer(400, "");
            }
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            let (key, secret) = &keys;
            let document = format!(
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                 <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken>token-{number}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
                 </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            );
            answer(200, &document)
        }
    });
    fs::write(&authorities, &exchange.certificate).expect("the file can be written");
    scene.without_keys(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token.display().to_string()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/lake"),
        ("AWS_ENDPOINT_URL_STS", &exchange.url()),
    ]);
    let (ledger, sidecar) = (Ledger::default(), scene.site.start());
    scene.deliver(&ledger, &sidecar, 1);
    assert_eq!(count.load(Ordering::Relaxed), 1, "keys are kept while they are good");

    let is_first = |head: &Head| head.header("x-amz-security-token") == Some("token-1");
    scene.proxy.heal();
    scene.proxy.always(Fault::Answer(400, "ExpiredToken"), is_first);
    scene.proxy.always(Fault::Strip(&["x-amz-security-token"]), has_token);
    scene.deliver(&ledger, &sidecar, 2);
    assert_eq!(count.load(Ordering::Relaxed), 2, "and lent again once");
    // I13: no secret of all these is told.
    let log = scene.site.log();
    assert!(!log.contains("the-web-token") && !log.contains("token-1") && !log.contains("lakesecret"), "{log}");
}

fn keys_of_a_container(kind: Kind) {
    let folder = lakeingest_tests::site::temporary_folder();
    let token = folder.path().join("token");
    fs::write(&token, "the-container-token").expect("the file can be written");
    let mut scene = Scene::new(Place::new(kind), "");
    let (count, keys) = (lender(&scene), keys(&scene));
    let source = Stub::plain(move |head, _| match head.header("authorization") {
        Some("the-container-token") => lent(&keys, &count),
        _ => answer(401, ""),
    });
    scene.without_keys(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/keys", source.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token.display().to_string()),
    ]);
    let (ledger, sidecar) = (Ledger::default(), scene.site.start());
    scene.deliver(&ledger, &sidecar, 1);
    assert!(scene.proxy.seen().iter().all(|head| head.header("x-amz-security-token") == Some("token-1")));
}

fn keys_of_an_instance(kind: Kind) {
    let mut scene = Scene::new(Place::new(kind), "");
    let (count, keys) = (lender(&scene), keys(&scene));
    let source = Stub::plain(move |head, _| match (head.method.as_str(), head.target.as_str()) {
        ("PUT", "/latest/api/token") => answer(200, "the-instance-token"),
        _ if head.header("x-aws-ec2-metadata-token") != Some("the-instance-token") => answer(401, ""),
        ("GET", "/latest/meta-data/iam/security-credentials/") => answer(200, "the-role"),
        ("GET", "/latest/meta-data/iam/security-credentials/the-role") => lent(&keys, &count),
        _ => answer(404, ""),
    });
    scene.without_keys(&[("AWS_METADATA_ENDPOINT", &source.url())]);
    let (ledger, sidecar) = (Ledger::default(), scene.site.start());
    scene.deliver(&ledger, &sidecar, 1);
}
