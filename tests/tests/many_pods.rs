//! Many pods, one lake: ten sidecars write the same tables at once; some are killed, one loses the bucket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakeingest_tests::calls::wait_until_delivered;
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::Ledger;
use lakeingest_tests::oracle::verify;
use lakeingest_tests::producers::{DECLARATIONS, Load, Producers, TABLES};
use lakeingest_tests::proxy::Proxy;
use lakeingest_tests::site::{Site, temporary_folder};
use lakeingest_tests::torture::seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use xtask::servers::{Weed, WeedOptions};

const PODS: u64 = 10;

/// The first of them are killed and started again.
const KILLED: u64 = 4;

/// The last of them is cut off from the bucket in its second life.
const CUT_OFF: u64 = PODS - 1;

const LIVES: u32 = 3;

const CONFIG: &str = "flush: {maxRows: 200, maxAge: 1s}\n";

const LOAD: Load = Load { requests_max: 40, may_be_refused: true };

/// A pod: a place for its sidecar, and its application.
struct Pod {
    number: u64,
    site: Site,
    application: Producers,
}

impl Pod {
    /// All its lives. What it has accepted is in the lake when this returns.
    fn live(&self, proxy: &Proxy, mut random: StdRng) {
        for life in 0..LIVES {
            let sidecar = self.site.start();
            let is_cut_off = self.number == CUT_OFF && life == 1;
            if is_cut_off {
                proxy.go_down();
            }
            let time = Duration::from_millis(random.random_range(200..=1_500));
            self.application.live(&sidecar, LOAD, &mut random, time, || {
                if self.number < KILLED {
                    sidecar.kill().expect("it can be killed");
                }
                if is_cut_off {
                    proxy.heal();
                }
            });
            if self.number >= KILLED {
                // What has waited for the bucket is delivered by the same process.
                wait_until_delivered(&sidecar);
                assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", self.site.log());
            }
        }
        let sidecar = self.site.start();
        self.application.settle(&sidecar);
        wait_until_delivered(&sidecar);
        assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", self.site.log());
    }
}

/// What every object of the lake holds and when it was written, by its key.
fn objects(lake: &Lake) -> BTreeMap<String, (String, String)> {
    let location = lake.location();
    let found = lake.query(&format!(
        "SELECT filename, md5(content), CAST(last_modified AS VARCHAR) FROM read_blob('{location}/data/**')"
    ));
    let text = |value: &serde_json::Value| value.as_str().expect("each of these is text").to_owned();
    found.rows.iter().map(|row| (text(&row[0]), (text(&row[1]), text(&row[2])))).collect()
}

/// Looks at all objects again and again until `has_ended`; answers how many were there at the end.
///
/// # Panics
/// When one of them has changed or is gone.
fn watch(lake: &Lake, has_ended: &AtomicBool) -> usize {
    let mut known = BTreeMap::new();
    loop {
        let is_last = has_ended.load(Ordering::Acquire);
        let now = if known.is_empty() && lake.objects().is_empty() { BTreeMap::new() } else { objects(lake) };
        for (key, before) in &known {
            assert_eq!(now.get(key), Some(before), "{key} was written again or removed");
        }
        known = now;
        if is_last {
            return known.len();
        }
    }
}

#[test]
fn ten_sidecars_on_three_tables_lose_double_and_overwrite_nothing() {
    let mut random = StdRng::seed_from_u64(seed());
    let folder = temporary_folder();
    let weed = Weed::start(WeedOptions::new(folder.path())).expect("the S3 server starts");
    let proxy = Proxy::start(weed.access());
    let lake = Lake::bucket(weed.access());
    let behind_proxy = Lake::bucket(&proxy.access(weed.access()));
    let ledger_file = |number: u64| folder.path().join(format!("ledger-{number}"));
    let pods: Vec<Pod> = (0..PODS)
        .map(|number| Pod {
            number,
            site: Site::on(if number == CUT_OFF { &behind_proxy } else { &lake })
                .with_config(&format!("{CONFIG}{DECLARATIONS}")),
            application: Producers::new(number, 1, &ledger_file(number)),
        })
        .collect();
    let has_ended = AtomicBool::new(false);
    let objects = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&lake, &has_ended));
        let living: Vec<_> = pods
            .iter()
            .map(|pod| {
                let (proxy, random) = (&proxy, StdRng::from_rng(&mut random));
                scope.spawn(move || pod.live(proxy, random))
            })
            .collect();
        let outcomes: Vec<_> = living.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        has_ended.store(true, Ordering::Release);
        assert!(outcomes.iter().all(Result::is_ok), "a pod has failed");
        watching.join().expect("no object was written again")
    });
    drop(pods);
    let ledger = Ledger::merged((0..PODS).map(|number| Ledger::at(&ledger_file(number))));
    let tally = verify(&ledger, &lake);
    println!("{objects} objects, each written once: {tally:?}");
    assert!(tally.acknowledged > 500 && tally.quarantined == tally.spoilt, "{tally:?}");
    for table in TABLES {
        let writers = lake.query(&format!(
            "SELECT count(DISTINCT producer) FROM read_parquet('{}/data/{table}/**/*.parquet')",
            lake.location()
        ));
        assert_eq!(writers.rows[0][0], PODS, "each pod has written to {table}");
    }
}
