//! The promise, under `kill -9`: what was acknowledged is in the lake exactly once.
//!
//! Several producers send at full speed and write down every answer outside of the process under test.
//! It is killed at random, started again on the same journal, lake and ports, many times; then it drains, and
//! independent readers count.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use lakeingest_tests::calls::wait_until_delivered;
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Fate, Ledger, Shape, record};
use lakeingest_tests::oracle::{Tally, verify};
use lakeingest_tests::site::{Site, temporary_folder};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::json;
use xtask::servers::{Sidecar, Weed, WeedOptions};

const PRODUCERS: u64 = 4;

/// Requests of a producer in one life of the sidecar, so that the lake stays small enough to be read whole.
const REQUESTS_MAX: u32 = 150;

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

/// What the producers share.
struct Producers {
    ledger: Ledger,
    /// The next sequence of each producer.
    sequences: Vec<AtomicU64>,
}

impl Producers {
    fn new() -> Self {
        Self { ledger: Ledger::default(), sequences: (0..PRODUCERS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Sends until the sidecar is gone. Anything but an acknowledgement or a refusal that was asked for is told.
    fn produce(&self, sidecar: &Sidecar, producer: u64, mut random: StdRng, surprises: &SyncSender<String>) {
        for _ in 0..REQUESTS_MAX {
            let (path, shape, rows) = match random.random_range(0..20) {
                0 => ("/ingest", Shape::Records, 5),
                1 => ("/ingest", Shape::Lines, 3),
                2..=5 => ("/ingest/stream", Shape::Records, 8),
                6 => ("/ingest/stream", Shape::Lines, 4),
                _ => ("/ingest/stream", Shape::Record, 1),
            };
            let table = ["events", "orders", "clicks"][random.random_range(0..3)];
            let counter = &self.sequences[usize::try_from(producer).expect("producers are few")];
            let first = counter.fetch_add(rows, Ordering::Relaxed);
            let mut records: Vec<_> = (first..first + rows).map(|sequence| record(producer, sequence)).collect();
            let is_bad = random.random_range(0..25) == 0;
            if is_bad {
                // Illegal whatever the process knows of the table.
                records[0]["no column"] = json!(1);
            }
            let Ok(answer) = self.ledger.send(sidecar, path, table, shape, &records) else { return };
            let expected = if is_bad { 422..=422 } else { 200..=202 };
            if !expected.contains(&answer.status) {
                // The receiver is gone once the first surprise was told.
                let _ = surprises.try_send(format!("{path} {shape:?}: {} {}", answer.status, answer.text()));
            }
        }
    }
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
    let (tell, surprises) = sync_channel(1);
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (sidecar, tell, random) = (&sidecar, &tell, StdRng::from_rng(random));
            scope.spawn(move || producers.produce(sidecar, producer, random, tell));
        }
        let surprise = surprises.recv_timeout(life);
        // Also when there was a surprise: else the producers would go on.
        let status = sidecar.kill().expect("it can be killed");
        assert_eq!(surprise, Err(RecvTimeoutError::Timeout));
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it ended by itself: {}", sidecar.server().log_tail());
    });
}

/// Lives and dies, drains at last, and counts.
fn crash_and_count(site: &Site, plan: &Plan) -> Tally {
    let seed = std::env::var("LAKEINGEST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("seed {seed}; the same choices again, if not the same moments: LAKEINGEST_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let producers = Producers::new();
    for _ in 0..plan.rounds {
        live_and_die(site, &producers, plan, &mut random);
    }
    let sidecar = site.start();
    wait_until_delivered(&sidecar);
    let status = sidecar.stop().expect("it ends in time");
    assert_eq!(status.code(), Some(0), "{}", sidecar.server().log_tail());
    let ledger = &producers.ledger;
    let tally = verify(ledger, site.lake());
    println!("{} records sent: {tally:?}", ledger.entries().len());
    assert_eq!(tally.acknowledged, ledger.count(Fate::Acknowledged));
    assert_eq!(tally.refused, ledger.count(Fate::Refused));
    assert_eq!(tally.quarantined, 0);
    tally
}

#[test]
fn kill_minus_nine_at_random_a_hundred_times_loses_and_doubles_nothing() {
    let site = Site::local().with_config(CONFIG);
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
    let site = Site::on(&Lake::bucket(weed.access())).with_config(CONFIG);
    let tally = crash_and_count(&site, &Plan { rounds: 10, life_ms_max: 800 });
    assert!(tally.acknowledged > 100, "{tally:?}");
    assert!(site.log().contains("recovered segment"), "no life left anything behind");
}
