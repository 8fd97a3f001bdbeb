//! The promise, under `kill -9`: what was acknowledged is in the lake exactly once.
//!
//! Several producers send at full speed and write down every answer outside of the process under test.
//! It is killed at random, started again on the same journal, lake and ports, many times; then it drains, and
//! independent readers count.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use lakeingest_tests::calls::{body, post, stream, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Fate, Ledger, record};
use lakeingest_tests::oracle::{Tally, verify};
use lakeingest_tests::producers::{DECLARATIONS, Load, Producers};
use lakeingest_tests::site::{Site, temporary_folder, wait_for_end};
use lakeingest_tests::torture::seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::json;
use xtask::servers::{Weed, WeedOptions};

const PRODUCERS: u64 = 4;

const LOAD: Load = Load { requests_max: 150, may_be_refused: false };

/// Deliveries happen all the time, so that they are cut as often as requests are.
const CONFIG: &str = "flush: {maxRows: 300, maxAge: 1s}\n";

/// One in so many lives ends before the sidecar is ready.
const EARLY_KILL_ONE_IN: u32 = 8;

/// How a crash test goes.
struct Plan {
    rounds: u32,
    /// Longest life after readiness. Unit: milliseconds.
    life_ms_max: u64,
}

/// One life: from the start to a kill at random, under load.
fn live_and_die(site: &Site, producers: &Producers, plan: &Plan, random: &mut StdRng) {
    if random.random_range(0..EARLY_KILL_ONE_IN) == 0 {
        // While it recovers, or before it has begun to.
        let sidecar = site.spawn();
        let (_alive, nobody) = sync_channel::<String>(1);
        let outcome = nobody.recv_timeout(Duration::from_millis(random.random_range(0..=80)));
        assert_eq!(outcome, Err(RecvTimeoutError::Timeout));
        let status = sidecar.kill().expect("it can be killed");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it ended by itself: {}", site.log());
    }
    let sidecar = site.start();
    let life = Duration::from_millis(random.random_range(0..=plan.life_ms_max));
    producers.live(&sidecar, LOAD, random, life, || {
        let status = sidecar.kill().expect("it can be killed");
        let is_killed = status.signal() == Some(Signal::KILL.as_raw());
        assert!(is_killed, "it ended by itself: {}", sidecar.server().log_tail());
    });
}

/// Lives and dies, drains at last, and counts.
fn crash_and_count(site: &Site, plan: &Plan) -> Tally {
    let mut random = StdRng::seed_from_u64(seed());
    let ledger_file = site.folder().join("ledger");
    let producers = Producers::new(0, PRODUCERS, &ledger_file);
    for _ in 0..plan.rounds {
        live_and_die(site, &producers, plan, &mut random);
    }
    let sidecar = site.start();
    producers.settle(&sidecar);
    wait_until_delivered(&sidecar);
    let status = sidecar.stop().expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{}", sidecar.server().log_tail());
    drop(producers);
    // By what is on the disk: the judgement needs nobody who has sent.
    let ledger = &Ledger::at(&ledger_file);
    let tally = verify(ledger, site.lake());
    println!("{} records sent: {tally:?}", ledger.entries().len());
    assert_eq!(tally.acknowledged, ledger.count(Fate::Acknowledged));
    assert_eq!(tally.refused, ledger.count(Fate::Refused));
    assert!(tally.quarantined > 0 && tally.quarantined == tally.spoilt, "{tally:?}");
    tally
}

#[test]
fn kill_minus_nine_at_random_a_hundred_times_loses_and_doubles_nothing() {
    let site = Site::local().with_config(&format!("{CONFIG}{DECLARATIONS}"));
    let tally = crash_and_count(&site, &Plan { rounds: 100, life_ms_max: 300 });
    // The test proves nothing unless it has cut what it says that it cuts.
    assert!(tally.acknowledged > 1_000, "{tally:?}");
    assert!(tally.unknown_stored + tally.unknown_absent > 0, "{tally:?}");
    assert!(tally.refused > 0, "{tally:?}");
    assert!(site.log().contains("recovered segment"), "no life left anything behind");
}

#[test]
fn kill_minus_nine_at_random_loses_and_doubles_nothing_in_a_bucket() {
    let folder = temporary_folder();
    let weed = Weed::start(WeedOptions::new(folder.path())).expect("the S3 server starts");
    let site = Site::on(&Lake::bucket(weed.access())).with_config(&format!("{CONFIG}{DECLARATIONS}"));
    let tally = crash_and_count(&site, &Plan { rounds: 10, life_ms_max: 800 });
    assert!(tally.acknowledged > 100, "{tally:?}");
    assert!(site.log().contains("recovered segment"), "no life left anything behind");
}

/// What was acknowledged is gone with the journal, and nobody could have kept it; what counts is that nothing more is
/// acknowledged, and that it is said.
#[test]
fn a_journal_that_was_taken_away_is_noticed_with_the_next_request_and_without_one() {
    for is_replaced in [false, true] {
        let site = Site::local().with_config("flush: {maxAge: 1h}\n");
        let sidecar = site.start();
        stream(&sidecar, "events", &record(1, 0));
        fs::rename(&site.options.journal, site.folder().join("away")).expect("it can be renamed");
        if is_replaced {
            // The names are there, and the files are others.
            fs::create_dir(&site.options.journal).expect("a folder can be made");
            fs::write(site.options.journal.join("0000000000000001.log"), "").expect("a file can be written");
            let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "events", "record": record(1, 1)}));
            assert_eq!((answer.status, &body(&answer)["outcome"]), (503, &json!("unknown")), "{}", answer.text());
            assert!(site.log().contains("somebody has removed or replaced it"), "{}", site.log());
        }
        assert_eq!(wait_for_end(&sidecar).code(), Some(70), "{}", site.log());
        assert!(site.log().contains("taken away") || is_replaced, "{}", site.log());
    }
}
