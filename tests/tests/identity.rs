//! Which journal is which: one process at a time, and a copy that does not double what it holds.

use std::path::Path;
use std::process::Command;

use lakeingest_tests::calls::{flush, health, wait_for_reason, wait_until_delivered};
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::{Site, wait_for_end};
use serde_json::json;

/// Copies a folder as `cp -r` does.
fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp is there");
    assert!(status.success());
}

#[test]
fn a_copied_journal_delivers_its_tail_once() {
    let original = Site::local();
    let copy = Site::on(original.lake());
    let sidecar = original.start();
    let ledger = Ledger::default();
    for sequence in 0..40 {
        ledger.stream(&sidecar, ["events", "orders"][usize::from(sequence % 2 == 0)], record(1, sequence));
    }
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    copy_folder(&original.options.journal, &copy.options.journal);

    // Both at once: the same tail, and records of their own in the same tables.
    let (one, two) = (original.start(), copy.start());
    assert_eq!(health(&one)["journal"]["id"], health(&two)["journal"]["id"]);
    for sequence in 0..20 {
        ledger.stream(&one, "events", record(2, sequence));
        ledger.stream(&two, "events", record(3, sequence));
    }
    flush(&one);
    flush(&two);
    for sequence in 20..40 {
        ledger.stream(&one, "events", record(2, sequence));
        ledger.stream(&two, "events", record(3, sequence));
    }
    assert_eq!(one.stop().expect("it ends").code(), Some(0));
    assert_eq!(two.stop().expect("it ends").code(), Some(0));
    assert_eq!(verify(&ledger, original.lake()).acknowledged, 120);
}

#[test]
fn i3_a_copy_of_a_journal_with_a_plan_keeps_to_the_plan() {
    let original = Site::local();
    let copy = Site::on(original.lake());
    let sidecar = original.start();
    let ledger = Ledger::default();
    // The columns are registered, so that the next delivery is planned without the lake.
    let records: Vec<_> = (0..4).map(|sequence| record(1, sequence)).collect();
    ledger.send(&sidecar, "/ingest", "events", Shape::Records, &records).expect("the lake is there");
    original.take_lake_away();
    for sequence in 10..30 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    let answer = sidecar.post("/flush?wait=0", None, "").expect("it answers");
    assert_eq!(answer.status, 202, "{}", answer.text());
    wait_for_reason(&sidecar, "BucketMissing");
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    copy_folder(&original.options.journal, &copy.options.journal);
    // Without the encoded bytes, which the copy has to make again from the plan.
    std::fs::remove_dir_all(copy.options.journal.join("scratch")).expect("the scratch folder is in the journal's");
    original.bring_lake_back();

    let two = copy.start();
    assert!(copy.log().contains(r#"state="planned""#), "{}", copy.log());
    wait_until_delivered(&two);
    assert!(copy.log().contains("encoding a segment again from its plan"), "{}", copy.log());
    // As if the copy had died between the file and its description: the original meets the file alone.
    let mut descriptions = original.lake().objects();
    descriptions.retain(|key| key.starts_with("data/_lakeingest/files/") && key.ends_with("-2-0.json"));
    assert_eq!(descriptions.len(), 1);
    for key in descriptions {
        std::fs::remove_file(original.lake_folder().join(key)).expect("it is there");
    }
    let one = original.start();
    wait_until_delivered(&one);
    assert_eq!(verify(&ledger, original.lake()).acknowledged, 24);
    assert_eq!(original.lake().files("events").len(), 2);
}

#[test]
fn a_second_process_on_one_journal_refuses_with_words() {
    let site = Site::local();
    let sidecar = site.start();
    let mut options = Site::on(site.lake());
    options.options.journal = site.options.journal.clone();
    let second = options.spawn();
    let status = wait_for_end(&second);
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    assert!(options.log().contains("another process uses it"), "{}", options.log());
    // The first one is not disturbed.
    let ledger = Ledger::default();
    ledger.stream(&sidecar, "events", record(1, 1));
    flush(&sidecar);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 1);
}

#[test]
fn a_journal_that_is_moved_goes_on_as_it_was() {
    let first = Site::local();
    let second = Site::on(first.lake());
    let sidecar = first.start();
    let ledger = Ledger::default();
    for sequence in 0..10 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    std::fs::rename(&first.options.journal, &second.options.journal).expect("it can be renamed");
    let sidecar = second.start();
    ledger.stream(&sidecar, "events", record(1, 10));
    flush(&sidecar);
    assert_eq!(health(&sidecar)["backlog"]["rows"], json!(0));
    assert_eq!(verify(&ledger, first.lake()).acknowledged, 11);
}
