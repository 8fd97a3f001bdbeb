//! The promise, under power cuts: what was acknowledged survives the loss of everything that was not synced.
//!
//! These tests mount a file system, for which they must be root; `cargo xtask test` names and counts them where it is not.

use std::fs::{self, File};

use lakeingest_tests::calls::{flush, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, Request, Shape, record};
use lakeingest_tests::oracle::{Fault, Tally, Violations, judge};
use lakeingest_tests::site::Site;
use lakeingest_tests::torture::power_cuts::PowerCuts;
use lakeingest_tests::torture::{control, seed};
use lakeingest_tests::volume::Volume;

#[test]
fn i1_two_hundred_power_cuts_at_random_lose_and_double_nothing() {
    let tally = PowerCuts { cuts: 200, seed: seed() }.run().unwrap_or_else(|violations| panic!("{violations}"));
    println!("{tally:?}");
    // The test proves nothing unless it has cut what it says that it cuts.
    assert!(tally.acknowledged > 1_000, "{tally:?}");
    assert!(tally.unknown_stored + tally.unknown_absent > 0, "{tally:?}");
}

/// The journal's power is cut after twenty answers.
fn twenty_answers_and_a_cut(bug: Option<&str>) -> Result<Tally, Violations> {
    let mut volume = Volume::make();
    let mut site = Site::local().with_config("flush: {maxAge: 1h}\n").seeded(bug);
    site.options.journal = volume.path().join("journal");
    let ledger = Ledger::default();
    let sidecar = site.start();
    for sequence in 0..20 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    volume.cut();
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    volume.come_back();
    wait_until_delivered(&site.start());
    judge(&ledger, site.lake())
}

#[test]
fn to_acknowledge_before_the_sync_is_caught() {
    control("acknowledge-before-sync", Fault::Lost, twenty_answers_and_a_cut);
}

/// A process is killed in the middle of a sync, so that its frame is in the machine's memory alone; the next one answers a
/// retry by what it has read there, and then the power is cut.
fn a_retry_after_a_kill_and_a_cut(bug: Option<&str>) -> Result<Tally, Violations> {
    let mut volume = Volume::make();
    // The first process never syncs, as if it had been killed each time before it was done.
    let mut site = Site::local().with_config("flush: {maxAge: 1h}\n").seeded(Some("acknowledge-before-sync"));
    site.options.journal = volume.path().join("journal");
    let ledger = Ledger::default();
    let request = Request {
        path: "/ingest/stream",
        table: "events".to_owned(),
        shape: Shape::Record,
        records: vec![record(1, 0)],
        key: Some("order-1".to_owned()),
        rejects: false,
    };
    let sidecar = site.start();
    ledger.set_dark(true);
    ledger.attempt(&sidecar, &request).expect_err("its answer does not count");
    ledger.set_dark(false);
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    site.options.environment.retain(|(name, _)| name != "LAKEINGEST_SEEDED_BUG");
    let site = site.seeded(bug);
    let sidecar = site.start();
    let answer = ledger.attempt(&sidecar, &request).expect("it answers");
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (202, Some("true")), "{}", answer.text());
    volume.cut();
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    volume.come_back();
    flush(&site.start());
    judge(&ledger, site.lake())
}

#[test]
fn to_answer_for_what_was_read_and_not_synced_is_caught() {
    control("read-unsynced", Fault::Lost, a_retry_after_a_kill_and_a_cut);
}

/// The lake's power is cut after an answer that says that the records are in it.
fn in_the_lake_and_a_cut(bug: Option<&str>) -> Result<Tally, Violations> {
    let mut volume = Volume::make();
    let folder = volume.path().join("lake");
    fs::create_dir(&folder).expect("a folder can be made");
    File::open(volume.path()).and_then(|root| root.sync_all()).expect("it can be synced");
    let site = Site::on(&Lake::directory(&folder)).seeded(bug);
    let ledger = Ledger::default();
    let sidecar = site.start();
    let records: Vec<_> = (0..5).map(|sequence| record(1, sequence)).collect();
    let answer = ledger.send(&sidecar, "/ingest", "events", Shape::Records, &records).expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    volume.cut();
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    volume.come_back();
    judge(&ledger, site.lake())
}

#[test]
fn not_to_sync_directories_is_caught() {
    control("no-directory-sync", Fault::File, in_the_lake_and_a_cut);
}
