//! A bucket that is away for long: records are acknowledged all the while, memory stays flat, a clean stop in the middle
//! loses nothing, and what has waited goes to the lake oldest first.

use lakeingest_tests::calls::{health, ingest, reasons, wait_for_health, wait_for_reason, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::on_both_kinds;
use lakeingest_tests::oracle::verify;
use lakeingest_tests::proxy::{Fault, Head, Proxy};
use lakeingest_tests::site::Site;
use lakeingest_tests::store::{Kind, Place};
use serde_json::json;
use xtask::servers::{S3Access, Sidecar};

on_both_kinds! {
    an_outage_with_a_clean_stop_in_the_middle_loses_nothing_and_goes_oldest_first,
    keys_that_are_replaced_on_the_way_count_at_once,
}

/// Requests of each part of the outage; each seals a segment.
const SEGMENTS: u64 = 60;

/// Records of a request.
const RECORDS: u64 = 200;

/// What the sidecar's memory may grow by in the outage. Unit: bytes. What waits is on the disk: a quarter of what it
/// takes when it is at work.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Streams requests that seal a segment each; every one must be acknowledged.
fn stream_segments(ledger: &Ledger, sidecar: &Sidecar, producer: u64) {
    for segment in 0..SEGMENTS {
        let records: Vec<_> = (0..RECORDS).map(|number| record(producer, segment * RECORDS + number)).collect();
        let answer = ledger.send(sidecar, "/ingest/stream", "events", Shape::Lines, &records);
        let answer = answer.expect("the sidecar answers");
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

/// Number of the segment of a data file: `data_<time>_<journal>-<epoch>-<segment>-<part>.parquet`.
fn segment_of(head: &Head) -> u64 {
    let number = head.target.rsplit('-').nth(1).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("a file's name has its segment: {}", head.target))
}

fn an_outage_with_a_clean_stop_in_the_middle_loses_nothing_and_goes_oldest_first(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let proxy = Proxy::start(store.access());
    // A drain of a second: the stop in the outage cannot deliver, and need not wait to know it.
    let config = format!("flush: {{maxRows: {RECORDS}, maxAge: 1h}}\ndrain: {{gracePeriodSeconds: 1}}\n");
    let mut site = Site::on(&Lake::bucket(store.access())).with_config(&config);
    site.options.environment = proxy.access(store.access()).environment();
    let (ledger, sidecar) = (Ledger::default(), site.start());
    ingest(&sidecar, "others", &[json!({"n": 1})]);

    proxy.go_down();
    stream_segments(&ledger, &sidecar, 1);
    wait_for_reason(&sidecar, "StorageUnreachable");
    let before = sidecar.server().rss_bytes().expect("it runs");
    stream_segments(&ledger, &sidecar, 2);
    let after = sidecar.server().rss_bytes().expect("it runs");
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes became {after}");
    assert_eq!(health(&sidecar)["backlog"]["rows"], json!(2 * SEGMENTS * RECORDS));
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(75), "the rest is in the journal");
    drop(sidecar);

    // The next process finds it all, with the lake still away, and takes more.
    let sidecar = site.start();
    wait_for_reason(&sidecar, "StorageUnreachable");
    stream_segments(&ledger, &sidecar, 3);
    assert_eq!(health(&sidecar)["backlog"]["rows"], json!(3 * SEGMENTS * RECORDS));
    let seen_before = proxy.seen().len();
    proxy.heal();
    wait_for_health(&sidecar, "an empty backlog", |health| (health["backlog"]["rows"] == 0).then_some(()));
    wait_until_delivered(&sidecar);
    assert_eq!(reasons(&sidecar), Vec::<String>::new());

    let order: Vec<u64> = proxy.seen()[seen_before..].iter().filter(|head| head.puts_data()).map(segment_of).collect();
    // Four are on their way at one time, so a file may be overtaken by the three that were started with it, and the oldest by
    // the one that is tried beside it while the lake is away.
    let is_oldest_first = order.iter().enumerate().all(|(place, number)| {
        let overtaken = order[..place].iter().filter(|earlier| *earlier > number).count();
        overtaken <= 4
    });
    assert!(is_oldest_first && order.len() >= 100, "{order:?}");
    let acknowledged = usize::try_from(3 * SEGMENTS * RECORDS).expect("it is a small number");
    assert_eq!(verify(&ledger, site.lake()).acknowledged, acknowledged);
    let uploads = store.access().get("?uploads=").expect("the server answers");
    assert!(!uploads.contains("<Upload>"), "{uploads}");
}

/// Goal: keys that stop being good in the middle of the work are told, and the new ones count without a restart. Method:
/// the proxy refuses whatever is signed with the old key, and the files are replaced as the kubelet does it.
fn keys_that_are_replaced_on_the_way_count_at_once(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let proxy = Proxy::start(store.access());
    let direct = store.access().clone();
    let old = S3Access { access_key: "oldkey".to_owned(), ..direct.clone() };
    // The server knows one key: what is signed with the old one is signed anew, until it is refused.
    let is_old = |head: &Head| head.header("authorization").is_some_and(|signed| signed.contains("Credential=oldkey/"));
    proxy.always(Fault::Strip(&["x-nothing"]), is_old);
    let site = Site::on(&Lake::bucket(&proxy.access(&old))).in_pod("flush: {maxAge: 1s}\n");
    site.put_keys(&old.access_key, &old.secret_key);
    let (ledger, sidecar) = (Ledger::default(), site.start());
    for sequence in 0..10 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    wait_until_delivered(&sidecar);

    proxy.heal();
    proxy.always(Fault::Answer(403, "InvalidAccessKeyId"), is_old);
    for sequence in 0..10 {
        ledger.stream(&sidecar, "events", record(2, sequence));
    }
    let message = wait_for_reason(&sidecar, "CredentialsInvalid");
    assert!(message.contains("InvalidAccessKeyId") && !message.contains(&old.secret_key), "{message}");
    for sequence in 0..10 {
        ledger.stream(&sidecar, "events", record(3, sequence));
    }
    site.put_keys(&direct.access_key, &direct.secret_key);
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&ledger, &Lake::bucket(&direct)).acknowledged, 30);
}
