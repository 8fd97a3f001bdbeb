//! Data that people have made, as it is: names that are no columns, years of their own, numbers among texts.

use std::collections::BTreeMap;
use std::fs;

use lakeingest_tests::calls::{flush, table_status};
use lakeingest_tests::ledger::{Ledger, Shape};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::tools;

/// Records of a set that are read back; of a longer one these are enough.
const RECORDS_MAX: usize = 20_000;

/// Every file that is a list of records, by the name that its table gets.
fn sets() -> BTreeMap<String, Vec<Value>> {
    let folder = tools::vega_datasets().expect("it is installed");
    let mut sets = BTreeMap::new();
    for entry in fs::read_dir(&folder).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let Ok(Value::Array(mut records)) = serde_json::from_str(&text) else { continue };
        if !records.is_empty() && records.iter().all(Value::is_object) {
            let name = path.file_stem().expect("a file has a name").to_string_lossy();
            records.truncate(RECORDS_MAX);
            sets.insert(name.to_lowercase().replace('-', "_"), records);
        }
    }
    sets
}

/// Each record is in its table or, whole and with its reason, in its quarantine; the oracle compares every value.
#[test]
fn what_people_have_made_is_stored_as_it_is_or_set_aside_with_a_reason() {
    let site = Site::local();
    let sidecar = site.start();
    let (ledger, sets) = (Ledger::default(), sets());
    assert!(sets.len() > 30, "{:?}", sets.keys());
    for (producer, (table, records)) in (0_u64..).zip(&sets) {
        let keyed = (0_u64..).zip(records).map(|(sequence, record)| {
            let mut record = record.clone();
            record["producer"] = json!(producer);
            record["sequence"] = json!(sequence);
            record
        });
        for records in keyed.collect::<Vec<_>>().chunks(1_000) {
            let answer = ledger.send(&sidecar, "/ingest/stream", table, Shape::Lines, records);
            let answer = answer.expect("the sidecar answers");
            assert_eq!(answer.status, 202, "{table}: {}", answer.text());
        }
    }
    flush(&sidecar);
    let tally = verify(&ledger, site.lake());
    let sent: usize = sets.values().map(Vec::len).sum();
    assert_eq!(tally.acknowledged, sent);

    let quarantined = |table: &str| table_status(&sidecar, table)["quarantined_rows"].clone();
    for table in ["anscombe", "burtin", "flare_dependencies", "flights_10k", "us_state_capitals"] {
        assert_eq!(quarantined(table), 0, "{table}");
    }
    // Its year is not the one under which its rows lie.
    assert_eq!(quarantined("barley"), 120);
    assert_eq!(site.lake().quarantine("barley")[0]["code"], "partition-column-mismatch");
    // "US Gross" is no name that every reader could ask for.
    assert_eq!(site.lake().quarantine("movies")[0]["code"], "column-name");
}
