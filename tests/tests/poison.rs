//! Records that pass every check and on which the encoder fails all the same.

use lakeingest_tests::calls::{flush, metric, reasons};
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::Site;
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
