//! Records that pass every check and on which the encoder fails all the same.

use std::os::unix::process::ExitStatusExt;

use lakeingest_tests::calls::{flush, metric, reasons, wait_until_delivered};
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::{Site, wait_for_end};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What stands in such a record: `seeded::POISON` of the sidecar.
const POISON: &str = "poison-4711";

#[test]
fn i3_a_record_that_the_encoder_fails_on_goes_to_quarantine_and_the_rest_flows() {
    let site = Site::local().with_config("flush: {maxAge: 1h}\n").seeded(Some("poison-record"));
    let sidecar = site.start();
    let ledger = Ledger::default();
    let mut records: Vec<Value> = (0..1_000).map(|sequence| record(1, sequence)).collect();
    for place in [0, 407, 999] {
        records[place]["text"] = json!(format!("{POISON} at {place}"));
    }
    let sent = ledger.send(&sidecar, "/ingest/stream", "events", Shape::Records, &records);
    assert_eq!(sent.expect("the sidecar answers").status, 202);
    ledger.stream(&sidecar, "orders", record(2, 0));
    flush(&sidecar);
    let tally = verify(&ledger, site.lake());
    assert_eq!((tally.acknowledged, tally.quarantined), (1_001, 3));
    let quarantine = site.lake().quarantine("events");
    assert!(quarantine.iter().all(|row| row["code"] == "encode-failed"), "{quarantine:?}");
    assert_eq!(metric(&sidecar, "lakeingest_sidecar_quarantined_rows_total"), 3.0);
    assert_eq!(reasons(&sidecar), Vec::<String>::new());
    assert!(site.log().contains("records that the encoder fails on go to quarantine"), "{}", site.log());
    assert!(!site.log().contains(POISON), "I13");
}

/// A crash of the encoder takes the whole process with it, and would at each start: nothing would be delivered any more.
#[test]
fn i3_a_record_of_which_the_process_dies_twice_goes_to_quarantine_and_the_rest_flows() {
    let site = Site::local().with_config("flush: {maxAge: 1h}\n").seeded(Some("deadly-record"));
    let ledger = Ledger::default();
    let sidecar = site.start();
    let mut records: Vec<Value> = (0..200).map(|sequence| record(1, sequence)).collect();
    for place in [7, 150] {
        records[place]["text"] = json!(format!("{POISON} at {place}"));
    }
    let sent = ledger.send(&sidecar, "/ingest/stream", "events", Shape::Records, &records);
    assert_eq!(sent.expect("the sidecar answers").status, 202);
    ledger.stream(&sidecar, "orders", record(2, 0));
    sidecar.post("/flush?wait=60", None, "").expect_err("it dies");
    assert_eq!(wait_for_end(&sidecar).signal(), Some(Signal::ABORT.as_raw()), "{}", site.log());
    drop(sidecar);
    let again = site.spawn();
    assert_eq!(wait_for_end(&again).signal(), Some(Signal::ABORT.as_raw()), "{}", site.log());
    drop(again);

    let sidecar = site.start();
    wait_until_delivered(&sidecar);
    let tally = verify(&ledger, site.lake());
    assert_eq!((tally.acknowledged, tally.quarantined), (201, 2));
    assert!(site.log().contains("trying it in a process of its own"), "{}", site.log());
    assert!(!site.log().contains(POISON), "I13");
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", site.log());
}
