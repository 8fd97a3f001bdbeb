//! The end of a pod: everything into the lake, or as log files beside it, or counted.

use std::fs;
use std::process::Output;

use lakeingest_tests::calls::{health, post, wait_for_health, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::pod::{QUIET, fill, give_grace, local_pod, term};
use lakeingest_tests::proxy::{Fault, Proxy};
use lakeingest_tests::site::{Site, sidecar_program, temporary_folder, wait_for_end};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::servers::{Sidecar, Weed, WeedOptions};
use xtask::wait::{self, Look};

/// A bucket, a network to it that fails when it is told to, and a pod.
struct Pod {
    proxy: Proxy,
    site: Site,
    /// The bucket without the network in between.
    lake: Lake,
    _weed: Weed,
    /// Behind the server, which does not end without it.
    _folder: TempDir,
}

impl Pod {
    /// A pod with this whole grace period. Unit: seconds.
    fn new(grace: u64, yaml: &str) -> Self {
        let folder = temporary_folder();
        let weed = Weed::start(WeedOptions::new(folder.path())).expect("the S3 server starts");
        let proxy = Proxy::start(weed.access());
        let mut site = Site::on(&Lake::bucket(&proxy.access(weed.access()))).in_pod(yaml);
        site.put_keys(&weed.access().access_key, &weed.access().secret_key);
        give_grace(&mut site, grace);
        Self { proxy, site, lake: Lake::bucket(weed.access()), _weed: weed, _folder: folder }
    }

    /// As `preStop` does.
    fn announce(&self, sidecar: &Sidecar) {
        let answer = sidecar.post("/drain", None, "").expect("the sidecar answers");
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// No file gets into the lake in time: one body byte a second.
    fn slow_files(&self) {
        self.proxy.always(Fault::Throttle(1), |head| head.puts_data());
    }

    fn rescue(&self) -> Output {
        let config = self.site.options.config.as_ref().expect("a pod has a configuration");
        let credentials = self.site.options.credentials.as_ref().expect("a pod has keys");
        let work = self.site.folder().join("rescue");
        fs::create_dir_all(&work).expect("the folder can be made");
        let mut program = sidecar_program();
        program.env_clear().arg("rescue").arg("--config").arg(config).arg("--credentials").arg(credentials);
        program.arg("--work").arg(work).output().expect("the program is there")
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_pod_with_two_five_or_thirty_seconds_loses_nothing() {
    for (grace, is_announced) in [(2, true), (5, true), (30, false)] {
        let pod = Pod::new(grace, QUIET);
        let sidecar = pod.site.start();
        let ledger = Ledger::default();
        fill(&ledger, &sidecar, 1, 200);
        if is_announced {
            pod.announce(&sidecar);
        }
        term(&sidecar);
        match wait_for_end(&sidecar).code() {
            // Where the machine was too slow for its tables, the log files are there.
            Some(0) => drop(pod.rescue()),
            Some(75) if grace == 2 => wait_until_delivered(&pod.site.start()),
            code => panic!("{grace} s: {code:?}\n{}", pod.site.log()),
        }
        assert_eq!(verify(&ledger, &pod.lake).acknowledged, 400, "{grace} s");
    }
}

#[test]
fn what_cannot_be_encoded_in_time_leaves_as_it_is_and_is_delivered_once_however_often() {
    let pod = Pod::new(5, QUIET);
    let sidecar = pod.site.start();
    let ledger = Ledger::default();
    fill(&ledger, &sidecar, 1, 500);
    wait_for_health(&sidecar, "the first contact", |health| (health["reasons"] == json!([])).then_some(()));
    pod.slow_files();
    pod.announce(&sidecar);
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(0), "{}", pod.site.log());
    assert!(pod.site.log().contains("ended with rows in log files in the lake"), "{}", pod.site.log());
    assert!(pod.site.log().contains("rescued_rows=1000"), "{}", pod.site.log());
    let logs = pod.lake.objects().into_iter().filter(|key| key.contains("_lakeingest/rescue/"));
    assert!(logs.count() >= 1);
    pod.proxy.heal();

    for _ in 0..2 {
        let output = pod.rescue();
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        assert_eq!(verify(&ledger, &pod.lake).acknowledged, 1_000);
    }
    // The volume comes back after all.
    let sidecar = pod.site.start();
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&ledger, &pod.lake).acknowledged, 1_000);
}

#[test]
fn who_comes_back_before_the_rescue_delivers_and_the_rescue_finds_it_done() {
    let pod = Pod::new(5, QUIET);
    let sidecar = pod.site.start();
    let ledger = Ledger::default();
    fill(&ledger, &sidecar, 1, 100);
    pod.slow_files();
    pod.announce(&sidecar);
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(0), "{}", pod.site.log());
    // Again, and with more than the first time.
    pod.proxy.heal();
    let sidecar = pod.site.start();
    wait_until_delivered(&sidecar);
    pod.slow_files();
    fill(&ledger, &sidecar, 3, 100);
    pod.announce(&sidecar);
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(0), "{}", pod.site.log());
    pod.proxy.heal();

    let output = pod.rescue();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert_eq!(verify(&ledger, &pod.lake).acknowledged, 400);
}

#[test]
fn with_the_lake_away_what_is_left_is_counted_and_the_next_start_delivers_it() {
    let pod = Pod::new(5, QUIET);
    let sidecar = pod.site.start();
    let ledger = Ledger::default();
    fill(&ledger, &sidecar, 1, 100);
    pod.proxy.go_down();
    pod.announce(&sidecar);
    term(&sidecar);
    // Once told is enough.
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(75), "{}", pod.site.log());
    assert!(pod.site.log().contains("ended with rows in the journal"), "{}", pod.site.log());
    assert!(pod.site.log().contains("rows=200"), "{}", pod.site.log());
    pod.proxy.heal();
    let sidecar = pod.site.start();
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&ledger, &pod.lake).acknowledged, 200);
}

#[test]
fn who_is_told_to_end_while_the_journal_is_read_drains_it() {
    let pod = Pod::new(30, QUIET);
    let sidecar = pod.site.start();
    let ledger = Ledger::default();
    fill(&ledger, &sidecar, 1, 2_000);
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    let sidecar = pod.site.spawn();
    wait::until("the journal to be read", || {
        let log = pod.site.log();
        Ok(if log.contains("recovered segment") { Look::Ready(()) } else { Look::NotYet(log) })
    })
    .expect("it is read");
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(0), "{}", pod.site.log());
    assert_eq!(verify(&ledger, &pod.lake).acknowledged, 4_000);
}

/// Its records are journaled, and the client was once cut off without an answer.
#[test]
fn who_waits_for_a_lake_that_is_away_is_answered_before_the_process_ends() {
    let site = Site::local().with_config("drain: {gracePeriodSeconds: 1}\n");
    let (ledger, sidecar) = (Ledger::default(), site.start());
    ledger.send(&sidecar, "/ingest", "events", Shape::Record, &[record(1, 0)]).expect("the lake is there");
    site.take_lake_away();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ledger.send(&sidecar, "/ingest", "events", Shape::Record, &[record(1, 1)]));
        wait_for_health(&sidecar, "the record", |health| (health["backlog"]["rows"] == 1).then_some(()));
        term(&sidecar);
        let answer = waiting.join().expect("the thread does not panic").expect("it is answered");
        assert_eq!(answer.status, 202, "{}", answer.text());
    });
    assert_eq!(wait_for_end(&sidecar).code(), Some(75), "{}", site.log());
    drop(sidecar);
    site.bring_lake_back();
    wait_until_delivered(&site.start());
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 2);
}

#[test]
fn health_says_what_a_drain_would_take() {
    let site = Site::local().with_config(QUIET);
    let sidecar = site.start();
    assert_eq!(health(&sidecar)["backlog"]["drain_seconds"], 0.0);
    fill(&Ledger::default(), &sidecar, 1, 10);
    let seconds = health(&sidecar)["backlog"]["drain_seconds"].as_f64().expect("it is a number");
    assert!(seconds > 0.0, "two segments take their time");
}

/// Goal: log files that leave early end no delivery. Method: more bytes than it is known how fast they are delivered, and a
/// table that takes nothing until the log files are in the lake.
#[test]
fn what_left_as_log_files_early_still_gets_into_its_tables() {
    let site = local_pod(None, 14, QUIET);
    let blocked = site.lake_folder().join("data/orders");
    fs::create_dir_all(site.lake_folder().join("data")).expect("a folder can be made");
    fs::write(&blocked, "").expect("a file can be written");
    let sidecar = site.start();
    let ledger = Ledger::default();
    fill(&ledger, &sidecar, 1, 10);
    // Each of these bodies has seven megabytes.
    let long: Vec<Value> = (0..7).map(|number| json!({"number": number, "text": "x".repeat(1_000_000)})).collect();
    for _ in 0..13 {
        let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "long", "records": long}));
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    term(&sidecar);
    wait::until("the log files to be in the lake", || {
        let log = site.log();
        Ok(if log.contains("the log files are in the lake") { Look::Ready(()) } else { Look::NotYet(log) })
    })
    .expect("they get there");
    fs::remove_file(&blocked).expect("it is there");
    assert_eq!(wait_for_end(&sidecar).code(), Some(0), "{}", site.log());
    assert!(site.log().contains("drained"), "{}", site.log());
    assert_eq!(site.lake().table("long").len(), 91);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 20);
}
