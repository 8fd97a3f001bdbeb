//! The judgement itself is judged: a lake that is wrong must not pass.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lakeingest_tests::calls::{flush, post};
use lakeingest_tests::ledger::{Entry, Fate, Ledger, Request, Shape, record, spoil};
use lakeingest_tests::oracle::{Fault, judge, verify};
use lakeingest_tests::producers::{BY_MOMENT, COMPUTED, DECLARATIONS};
use lakeingest_tests::site::Site;
use serde_json::json;

/// A lake with five acknowledged records and one that was refused.
fn honest() -> (Site, Ledger) {
    let site = Site::local();
    let sidecar = site.start();
    let ledger = Ledger::default();
    for sequence in 0..5 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    let mut bad = record(1, 5);
    spoil(&mut bad);
    let request = Request {
        path: "/ingest",
        table: "events".to_owned(),
        shape: Shape::Record,
        records: vec![bad],
        key: None,
        rejects: true,
    };
    let refused = ledger.attempt(&sidecar, &request).expect("it answers");
    assert_eq!(refused.status, 422);
    flush(&sidecar);
    drop(sidecar);
    (site, ledger)
}

/// The words with which the judgement fails.
fn verdict(site: &Site, ledger: &Ledger) -> String {
    let outcome = catch_unwind(AssertUnwindSafe(|| verify(ledger, site.lake())));
    let panic = outcome.expect_err("the lake is wrong and has passed");
    panic.downcast_ref::<String>().cloned().expect("it fails with words")
}

#[test]
fn an_honest_lake_passes() {
    let (site, ledger) = honest();
    let tally = verify(&ledger, site.lake());
    assert_eq!((tally.acknowledged, tally.refused, tally.unknown_absent), (5, 1, 0));
}

#[test]
fn what_is_lost_changed_invented_or_refused_and_stored_is_found() {
    let (site, ledger) = honest();
    let set = |sequence: u64, change: fn(&mut Entry)| {
        change(ledger.entries().get_mut(&(1, sequence)).expect("it was sent"));
    };
    set(5, |refused| refused.fate = Fate::Acknowledged);
    assert!(verdict(&site, &ledger).contains("stored 0 times"));
    set(5, |refused| refused.fate = Fate::Refused);
    set(0, |stored| stored.fate = Fate::Refused);
    assert!(verdict(&site, &ledger).contains("Refused, stored 1 times"));
    set(0, |stored| stored.fate = Fate::Unknown);
    assert_eq!(verify(&ledger, site.lake()).unknown_stored, 1);
    set(0, |stored| stored.record["amount"] = json!(0.0));
    assert!(verdict(&site, &ledger).contains("sent"));
    ledger.entries().remove(&(1, 0));
    assert!(verdict(&site, &ledger).contains("was never sent"));
}

#[test]
fn a_record_that_fits_no_table_is_looked_for_in_the_quarantine_alone() {
    let site = Site::local();
    let sidecar = site.start();
    let ledger = Ledger::default();
    let mut bad = record(1, 0);
    spoil(&mut bad);
    ledger.stream(&sidecar, "events", bad);
    ledger.stream(&sidecar, "events", record(1, 1));
    flush(&sidecar);
    let tally = verify(&ledger, site.lake());
    assert_eq!((tally.acknowledged, tally.quarantined, tally.spoilt), (2, 1, 1));
    spoil(&mut ledger.entries().get_mut(&(1, 1)).expect("it was sent").record);
    assert!(verdict(&site, &ledger).contains("fits no table and is in events"));
}

#[test]
fn a_row_that_is_computed_otherwise_or_lies_under_another_day_is_found() {
    for (table, was, is) in [(COMPUTED, "* 1000000", "* 1000001"), (BY_MOMENT, "  partition: {by: moment}\n", "")] {
        for (is_honest, declarations) in [(true, DECLARATIONS.to_owned()), (false, DECLARATIONS.replace(was, is))] {
            assert_eq!(is_honest, declarations == DECLARATIONS);
            let site = Site::local().with_config(&declarations);
            let sidecar = site.start();
            let ledger = Ledger::default();
            (0..3).for_each(|sequence| ledger.stream(&sidecar, table, record(1, sequence)));
            flush(&sidecar);
            match is_honest {
                true => assert_eq!(verify(&ledger, site.lake()).acknowledged, 3),
                false => assert!(verdict(&site, &ledger).contains("3 violations of 3 records"), "{table}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_there_twice_or_not_described_is_found() {
    let (site, ledger) = honest();
    let file = site.lake_folder().join(&site.lake().files("events")[0]);
    fs::copy(&file, file.with_file_name("copy.parquet")).expect("it can be copied");
    let words = verdict(&site, &ledger);
    assert!(words.contains("stored 2 times") && words.contains("violations"), "{words}");
    fs::remove_file(file.with_file_name("copy.parquet")).expect("it is there");

    let descriptions = site.lake_folder().join("data/_lakeingest/files/events");
    fs::remove_dir_all(&descriptions).expect("it is there");
    fs::create_dir_all(&descriptions).expect("it can be made");
    let sidecar = site.start();
    let answer = post(&sidecar, "/ingest", &json!({"table_name": "others", "record": {"producer": 9, "sequence": 9}}));
    assert_eq!(answer.status, 200);
    assert!(verdict(&site, &ledger).contains("is not described"));
}

#[test]
fn what_is_unknown_may_be_stored_once_and_not_twice() {
    let (site, ledger) = honest();
    for entry in ledger.entries().values_mut() {
        entry.fate = Fate::Unknown;
    }
    assert_eq!(judge(&ledger, site.lake()).expect("each is there once or not").unknown_stored, 5);
    let file = site.lake_folder().join(&site.lake().files("events")[0]);
    fs::copy(&file, file.with_file_name("copy.parquet")).expect("it can be copied");
    let violations = judge(&ledger, site.lake()).expect_err("each is there twice");
    assert_eq!((violations.count(Fault::Doubled), violations.count(Fault::File)), (5, 1), "{violations}");
}

/// The ledger is read again from the disk, as after the end of whoever has sent.
#[test]
fn a_ledger_outlives_who_has_written_it() {
    let site = Site::local();
    let path = site.folder().join("ledger");
    let sidecar = site.start();
    let request = |sequence, key: Option<&str>| Request {
        path: "/ingest/stream",
        table: "events".to_owned(),
        shape: Shape::Record,
        records: vec![record(1, sequence)],
        key: key.map(str::to_owned),
        rejects: false,
    };
    let ledger = Ledger::at(&path);
    ledger.attempt(&sidecar, &request(0, None)).expect("it answers");
    ledger.attempt(&sidecar, &request(1, Some("order-1"))).expect("it answers");
    flush(&sidecar);
    sidecar.kill().expect("it can be killed");
    // Nobody answers: these may be stored or not, and the first is sent again.
    ledger.attempt(&sidecar, &request(2, Some("order-2"))).expect_err("it is gone");
    ledger.attempt(&sidecar, &request(3, None)).expect_err("it is gone");
    drop((ledger, sidecar));
    let torn = r#"{"attempted": {"table": "eve"#;
    let mut file = fs::OpenOptions::new().append(true).open(&path).expect("it is there");
    file.write_all(torn.as_bytes()).expect("it can be written");

    let ledger = Ledger::at(&path);
    let fates: Vec<Fate> = ledger.entries().values().map(|entry| entry.fate).collect();
    assert_eq!(fates, [Fate::Acknowledged, Fate::Acknowledged, Fate::Unknown, Fate::Unknown]);
    let sidecar = site.start();
    for _ in 0..2 {
        let answer = ledger.attempt(&sidecar, &request(2, Some("order-2"))).expect("it answers");
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    flush(&sidecar);
    drop((ledger, sidecar));
    let tally = verify(&Ledger::at(&path), site.lake());
    assert_eq!((tally.acknowledged, tally.unknown_absent), (3, 1));
}
