//! What a pod counts on, version 1 of it: configuration and keys in files, the verbs of the probe and of `preStop`,
//! an end that is announced, a restart of the container in the same pod.

use lakeingest_tests::calls::{health, reasons, stream, wait_for_health, wait_for_reason, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::{Site, sidecar_program, temporary_folder};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::servers::{S3Access, Sidecar, Weed, WeedOptions};

/// A real bucket in a folder that outlives it, and a pod's place beside it, without keys yet.
fn pod(yaml: &str) -> (TempDir, Weed, Site) {
    let folder = temporary_folder();
    let weed = Weed::start(WeedOptions::new(folder.path())).expect("the S3 server starts");
    let site = Site::on(&Lake::bucket(weed.access())).in_pod(yaml);
    (folder, weed, site)
}

fn put_right_keys(site: &Site, access: &S3Access) {
    site.put_keys(&access.access_key, &access.secret_key);
}

fn stream_many(ledger: &Ledger, sidecar: &Sidecar, producer: u64, count: u64) {
    for sequence in 0..count {
        ledger.stream(sidecar, "events", record(producer, sequence));
    }
}

/// Runs a verb of the sidecar's program with the sidecar's own configuration; gives its code and its words.
fn verb(name: &str, site: &Site, port: u16) -> (Option<i32>, String) {
    let config = site.options.config.as_ref().expect("a pod has a configuration");
    let output = sidecar_program()
        .args([name, "--config"])
        .arg(config)
        .args(["--port", &port.to_string()])
        .env_clear()
        .output()
        .expect("the program is there");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn keys_that_come_late_are_waited_for_and_keys_that_change_are_read_again() {
    let (_folder, weed, site) = pod("flush: {maxAge: 1s}\n");
    let sidecar = site.start();
    let ledger = Ledger::default();
    stream_many(&ledger, &sidecar, 1, 10);
    let message = wait_for_reason(&sidecar, "CredentialsMissing");
    assert!(message.contains("accessKeyId is missing"), "{message}");
    site.put_keys("lakekey", "a-wrong-secret-4711");
    wait_for_reason(&sidecar, "CredentialsInvalid");
    assert!(!reasons(&sidecar).contains(&"CredentialsMissing".to_owned()), "they are there");

    put_right_keys(&site, weed.access());
    wait_until_delivered(&sidecar);
    site.put_keys("lakekey", "a-wrong-secret-4711");
    stream_many(&ledger, &sidecar, 2, 10);
    wait_for_reason(&sidecar, "CredentialsInvalid");
    put_right_keys(&site, weed.access());
    wait_until_delivered(&sidecar);

    assert_eq!(verify(&ledger, site.lake()).acknowledged, 20);
    let log = site.log();
    assert!(!log.contains("a-wrong-secret-4711") && !log.contains(&weed.access().secret_key), "I13");
}

#[test]
fn a_pod_is_seen_in_health_with_its_configuration_and_its_owner() {
    let (_folder, _weed, site) = pod("");
    let sidecar = site.start();
    let health = health(&sidecar);
    assert_eq!(health["generation"], 4);
    assert!(
        health["owner"].as_str().is_some_and(|owner| owner.contains("team-a") && owner.contains("events")),
        "{health}"
    );
    assert_eq!(
        health["pod"],
        json!({"name": "shop-1", "namespace": "team-a", "uid": "8d4c", "node": "node-7"}),
        "{health}"
    );
}

#[test]
fn an_announced_end_brings_everything_to_the_lake_before_sigterm() {
    let (_folder, weed, site) = pod("flush: {maxAge: 1h}\n");
    put_right_keys(&site, weed.access());
    let sidecar = site.start();
    let ledger = Ledger::default();
    stream_many(&ledger, &sidecar, 1, 10);
    assert_eq!(health(&sidecar)["backlog"]["rows"], 10, "nothing is due for an hour");

    assert_eq!(verb("drain", &site, sidecar.port()), (Some(0), String::new()));
    wait_for_health(&sidecar, "an empty backlog", |health| (health["backlog"]["rows"] == 0).then_some(()));
    assert_eq!(reasons(&sidecar), ["PodEnding"]);
    // The application writes until its own end.
    stream_many(&ledger, &sidecar, 2, 10);
    wait_for_health(&sidecar, "an empty backlog", |health| (health["backlog"]["rows"] == 0).then_some(()));
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 20);
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0));
}

#[test]
fn i10_an_announced_end_that_does_not_come_is_forgotten_after_the_grace_period() {
    let (_folder, weed, mut site) = pod("flush: {maxAge: 1h}\n");
    put_right_keys(&site, weed.access());
    site.options.environment.push(("LAKEINGEST_TERMINATION_GRACE_PERIOD_SECONDS".to_owned(), "1".into()));
    let sidecar = site.start();
    assert_eq!(verb("drain", &site, sidecar.port()).0, Some(0));
    wait_for_health(&sidecar, "ordinary work", |health| (health["status"] == "ok").then_some(()));
    stream(&sidecar, "events", &record(1, 0));
    assert!(site.log().contains("was announced and did not come; flushing as before"), "{}", site.log());
}

#[test]
fn the_verbs_of_probe_and_hook_say_in_words_that_nobody_is_there() {
    let (_folder, _weed, site) = pod("");
    let port = site.options.health_port.expect("a site has its ports");
    let (code, words) = verb("started", &site, port);
    assert_eq!(code, Some(1));
    assert!(words.contains(&format!("127.0.0.1:{port}")), "{words}");
    // A hook that fails only delays the end of the pod.
    let (code, words) = verb("drain", &site, port);
    assert_eq!(code, Some(0));
    assert!(words.contains(&format!("127.0.0.1:{port}")), "{words}");

    let sidecar = site.start();
    assert_eq!(verb("started", &site, sidecar.health_port()), (Some(0), String::new()));
}

#[test]
fn i1_a_container_that_is_killed_delivers_after_its_restart_what_it_acknowledged_once() {
    let (_folder, weed, site) = pod("flush: {maxAge: 1h}\n");
    put_right_keys(&site, weed.access());
    let sidecar = site.start();
    let ledger = Ledger::default();
    stream_many(&ledger, &sidecar, 1, 50);
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    let sidecar = site.start();
    stream_many(&ledger, &sidecar, 2, 50);
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0));
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 100);
}

#[test]
fn a_newer_field_is_warned_about_and_a_newer_format_is_refused() {
    let (_folder, weed, site) = pod("flush: {maxAge: 1h, maxFiles: 3}\n");
    put_right_keys(&site, weed.access());
    let sidecar = site.start();
    assert!(site.log().contains("flush.maxFiles"), "{}", site.log());
    drop(sidecar);

    let config = site.options.config.as_ref().expect("a pod has a configuration");
    let newer =
        std::fs::read_to_string(config).expect("it can be read").replace("formatVersion: 1", "formatVersion: 2");
    std::fs::write(config, newer).expect("it can be written");
    let sidecar = site.spawn();
    let status = lakeingest_tests::site::wait_for_end(&sidecar);
    assert_eq!(status.code(), Some(2), "{}", site.log());
    assert!(site.log().contains("formatVersion: is 2; this sidecar reads version 1"), "{}", site.log());
}

#[test]
fn the_pods_port_shows_no_payload_and_takes_none() {
    let (_folder, weed, site) = pod("flush: {maxAge: 1h}\n");
    put_right_keys(&site, weed.access());
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"word": "payload-4711"}));
    for path in ["/health", "/tables", "/metrics", "/livez", "/readyz"] {
        let answer = sidecar.get_health(path).expect("it answers");
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("payload-4711") && !answer.text().contains("lakesecret"), "{path}");
    }
    for path in ["/ingest", "/ingest/stream", "/flush", "/drain"] {
        let answer = sidecar.get_health(path).expect("it answers");
        assert_eq!(answer.status, 404, "{path}");
    }
    let rows: Value = health(&sidecar)["backlog"]["rows"].clone();
    assert_eq!(rows, 1);
}
