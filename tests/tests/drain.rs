//! The end of a pod: everything into the lake, or as log files beside it, or counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lakeingest_tests::calls::{health, wait_for_health, wait_for_reason, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::proxy::{Fault, Proxy};
use lakeingest_tests::site::{Site, sidecar_program, temporary_folder, wait_for_end};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use xtask::servers::{Sidecar, Weed, WeedOptions};
use xtask::wait::{self, Look};
use xtask::workspace;

/// Nothing is due before the end.
const QUIET: &str = "flush: {maxAge: 1h}\n";

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
        let variable = "LAKEINGEST_TERMINATION_GRACE_PERIOD_SECONDS".to_owned();
        site.options.environment.push((variable, grace.to_string().into()));
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

fn term(sidecar: &Sidecar) {
    sidecar.server().signal(Signal::TERM).expect("it can be signalled");
}

/// Sends `count` records to two tables.
fn fill(ledger: &Ledger, sidecar: &Sidecar, producer: u64, count: u64) {
    for (table, producer) in [("events", producer), ("orders", producer + 1)] {
        let records: Vec<Value> = (0..count).map(|sequence| record(producer, sequence)).collect();
        let answer = ledger.send(sidecar, "/ingest/stream", table, Shape::Records, &records);
        assert_eq!(answer.expect("the sidecar answers").status, 202);
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
    wait_for_health(&sidecar, "the first contact", |health| (health["reasons"] == serde_json::json!([])).then_some(()));
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

/// A pod whose lake is a directory, with a grace period of so many seconds.
fn local_pod(lake: Option<&Lake>, grace: u64, yaml: &str) -> Site {
    let mut site = lake.map_or_else(Site::local, Site::on).with_config(yaml);
    let variable = "LAKEINGEST_TERMINATION_GRACE_PERIOD_SECONDS".to_owned();
    site.options.environment.push((variable, grace.to_string().into()));
    site
}

/// A table that nothing gets into while this is there: a file is where its folder should be.
struct Blocked(Vec<PathBuf>);

impl Blocked {
    fn tables(site: &Site) -> Self {
        let data = site.lake_folder().join("data");
        fs::create_dir_all(&data).expect("a folder can be made");
        let files: Vec<_> = ["events", "orders"].map(|table| data.join(table)).into();
        files.iter().for_each(|file| fs::write(file, "").expect("a file can be written"));
        Self(files)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.iter().for_each(|file| fs::remove_file(file).expect("it is there"));
    }
}

/// Ends a pod whose tables are blocked: its log files go to the lake.
fn end_in_log_files(site: &Site, sidecar: &Sidecar) {
    term(sidecar);
    assert_eq!(wait_for_end(sidecar).code(), Some(0), "{}", site.log());
    assert!(site.log().contains("ended with rows in log files in the lake"), "{}", site.log());
}

/// Runs a rescue and answers its exit code and its words.
fn rescue_into(site: &Site) -> (Option<i32>, String) {
    rescue_with(sidecar_program(), &[], site)
}

/// As [`rescue_into`], by this program with these arguments.
fn rescue_with(mut program: Command, arguments: &[&str], site: &Site) -> (Option<i32>, String) {
    let work = site.folder().join("rescue");
    fs::create_dir_all(&work).expect("a folder can be made");
    program.args(["rescue", "--lake", site.lake().location(), "--work"]).arg(&work).args(arguments);
    let output = program.output().expect("the program is there");
    let left: Vec<_> = fs::read_dir(work.join("lakeingest-rescue")).expect("it was made").flatten().collect();
    assert_eq!(left.len(), 1, "only the lock stays: {left:?}");
    (output.status.code(), words(&output))
}

fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp is there");
    assert!(status.success());
}

/// The log files that pods have put, in the order of their numbers.
fn log_objects(site: &Site) -> Vec<PathBuf> {
    let objects = site.lake().objects().into_iter().filter(|key| key.ends_with(".log"));
    objects.map(|key| site.lake_folder().join(key)).collect()
}

/// Files of the same number were once taken for a shorter and a longer form of one file, and the records of one of them
/// stayed where they were without a word.
#[test]
fn two_copies_of_a_journal_that_end_in_log_files_are_both_delivered() {
    let original = local_pod(None, 5, QUIET);
    let copy = local_pod(Some(original.lake()), 5, QUIET);
    let ledger = Ledger::default();
    let sidecar = original.start();
    fill(&ledger, &sidecar, 1, 50);
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    copy_folder(&original.options.journal, &copy.options.journal);
    let blocked = Blocked::tables(&original);
    for (site, producer, count) in [(&original, 3, 20), (&copy, 5, 60)] {
        let sidecar = site.start();
        fill(&ledger, &sidecar, producer, count);
        end_in_log_files(site, &sidecar);
    }
    drop(blocked);
    for _ in 0..2 {
        let (code, words) = rescue_into(&original);
        assert_eq!(code, Some(0), "{words}");
        assert_eq!(verify(&ledger, original.lake()).acknowledged, 260);
    }
}

/// A part of a segment was once delivered under the name of the whole, and the whole could not follow.
#[test]
fn what_has_not_arrived_whole_is_left_and_counted_until_it_has() {
    let site = local_pod(None, 5, "flush: {maxAge: 1h, maxRows: 3000}\nbuffer: {sizeLimit: 32Mi}\n");
    let ledger = Ledger::default();
    let sidecar = site.start();
    let blocked = Blocked::tables(&site);
    for producer in 1..20 {
        let records: Vec<Value> = (0..2_000).map(|sequence| record(producer, sequence)).collect();
        let answer = ledger.send(&sidecar, "/ingest/stream", "events", Shape::Records, &records);
        assert_eq!(answer.expect("the sidecar answers").status, 202);
    }
    end_in_log_files(&site, &sidecar);
    drop(blocked);
    let logs = log_objects(&site);
    assert!(logs.len() > 1, "a small volume has small files: {logs:?}");
    let whole = fs::read(&logs[0]).expect("it can be read");
    let rows = || site.lake().files("events").len().min(1) * site.lake().table("events").len();

    fs::remove_file(&logs[0]).expect("it can be removed");
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("rows are of segments that are not whole, and were left out"), "{words}");
    let without_the_first = rows();
    assert!((1..38_000).contains(&without_the_first), "{without_the_first} rows");

    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    fs::write(&logs[0], changed).expect("it can be written");
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("a log file in the lake is not what was put there"), "{words}");
    let without_a_bit = rows();
    assert!((without_the_first + 1..38_000).contains(&without_a_bit), "{without_a_bit} rows");

    fs::write(&logs[0], whole).expect("it can be written");
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 38_000);
}

/// A journal of which nothing can be read does not keep the others from their tables.
#[test]
fn a_journal_that_cannot_be_read_delays_no_other() {
    let site = local_pod(None, 5, QUIET);
    let ledger = Ledger::default();
    let blocked = Blocked::tables(&site);
    let sidecar = site.start();
    fill(&ledger, &sidecar, 1, 10);
    end_in_log_files(&site, &sidecar);
    drop(blocked);
    let manifests = site.lake_folder().join("data/_lakeingest/rescue/manifests");
    fs::write(manifests.join("0-0.json"), "{").expect("a file can be written");
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("failed to read a manifest of log files"), "{words}");
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 20);
}

/// Goal: rows that nobody can deliver are not called rescued, and are not lost with their pod either. Method: a copy of a
/// journal whose open segment went on in the original.
#[test]
fn a_segment_that_cannot_be_delivered_is_told_and_leaves_its_pod_as_log_files() {
    let original = Site::local().with_config(QUIET);
    let copy = local_pod(Some(original.lake()), 5, QUIET);
    let ledger = Ledger::default();
    let sidecar = original.start();
    fill(&ledger, &sidecar, 1, 10);
    copy_folder(&original.options.journal, &copy.options.journal);
    fill(&ledger, &sidecar, 3, 10);
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", original.log());
    drop(sidecar);

    let sidecar = copy.start();
    wait_for_reason(&sidecar, "KeyConflict");
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(75), "{}", copy.log());
    assert!(copy.log().contains("ended with rows that cannot be delivered"), "{}", copy.log());
    assert!(!log_objects(&copy).is_empty(), "{}", copy.log());
    let (code, words) = rescue_into(&copy);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("failed to deliver all of a journal's log files"), "{words}");
    assert_eq!(verify(&ledger, original.lake()).acknowledged, 40);
}

/// What stands in a record on which the encoder fails: `seeded::POISON` of the sidecar.
const POISON: &str = "poison-4711";

/// Sends records to two tables, of which one is such a record.
fn fill_with_poison(ledger: &Ledger, sidecar: &Sidecar) {
    fill(ledger, sidecar, 1, 10);
    let mut poison = record(9, 0);
    poison["text"] = POISON.into();
    ledger.stream(sidecar, "events", poison);
}

/// The process that had it cannot say whether it has died over it, and each rescue would.
#[test]
fn i3_a_record_that_kills_is_found_by_a_rescue_and_the_rest_is_delivered() {
    let site = local_pod(None, 10, QUIET).seeded(Some("panicking-record"));
    let ledger = Ledger::default();
    let sidecar = site.start();
    fill_with_poison(&ledger, &sidecar);
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(70), "{}", site.log());
    let mut program = Command::new(workspace::seeded_sidecar_binary());
    program.env("LAKEINGEST_SEEDED_BUG", "deadly-record");
    let (code, words) = rescue_with(program, &[], &site);
    assert_eq!(code, Some(0), "{words}");
    let tally = verify(&ledger, site.lake());
    assert_eq!((tally.acknowledged, tally.quarantined), (21, 1));
}

/// There is no next start in a pod that ends, so what a part that fails cannot do is done by those that work.
#[test]
fn where_the_encoder_fails_at_the_end_of_a_pod_its_log_files_leave() {
    let site = local_pod(None, 10, QUIET).seeded(Some("panicking-record"));
    let ledger = Ledger::default();
    let sidecar = site.start();
    fill_with_poison(&ledger, &sidecar);
    term(&sidecar);
    assert_eq!(wait_for_end(&sidecar).code(), Some(70), "{}", site.log());
    assert!(site.log().contains("nothing is in the journal alone rescued_rows="), "{}", site.log());
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 21);
}

#[test]
fn a_table_that_takes_nothing_keeps_a_rescue_for_a_while_and_delays_no_other() {
    let site = local_pod(None, 5, QUIET);
    let ledger = Ledger::default();
    let blocked = Blocked::tables(&site);
    let sidecar = site.start();
    fill(&ledger, &sidecar, 1, 10);
    end_in_log_files(&site, &sidecar);
    drop(blocked);
    // An object of the registry that no build has written.
    let schema = site.lake_folder().join("data/_lakeingest/schemas/events/1.json");
    let whole = fs::read(&schema).expect("the table was registered");
    fs::write(&schema, "{").expect("it can be written");
    let (code, words) = rescue_with(sidecar_program(), &["--patience", "2s"], &site);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("left=10"), "{words}");
    assert_eq!((site.lake().table("events").len(), site.lake().table("orders").len()), (0, 10));
    fs::write(&schema, whole).expect("it can be written");
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 20);
}

/// Log files of a pod that came back and delivered everything were once taken for a part of something lost, for ever.
#[test]
fn a_part_of_what_was_delivered_after_all_is_not_missing() {
    let site = local_pod(None, 5, "flush: {maxAge: 1h, maxRows: 3000}\nbuffer: {sizeLimit: 32Mi}\n");
    let ledger = Ledger::default();
    let sidecar = site.start();
    let blocked = Blocked::tables(&site);
    for producer in 1..20 {
        let records: Vec<Value> = (0..2_000).map(|sequence| record(producer, sequence)).collect();
        let answer = ledger.send(&sidecar, "/ingest/stream", "events", Shape::Records, &records);
        assert_eq!(answer.expect("the sidecar answers").status, 202);
    }
    end_in_log_files(&site, &sidecar);
    drop((blocked, sidecar));
    // As if it had been cut off after its first log file.
    let manifests = site.lake_folder().join("data/_lakeingest/rescue/manifests");
    let mut found: Vec<PathBuf> =
        fs::read_dir(manifests).expect("it was made").map(|entry| entry.expect("it can be read").path()).collect();
    found.sort_by_key(|path| fs::metadata(path).expect("it is there").len());
    assert!(found.len() > 1, "a manifest for each file: {found:?}");
    found[1..].iter().for_each(|path| fs::remove_file(path).expect("it is there"));
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("rows are of segments that are not whole, and were left out"), "{words}");

    let sidecar = site.start();
    wait_until_delivered(&sidecar);
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", site.log());
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("a segment that is not whole here is in the lake"), "{words}");
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 38_000);
    let (code, words) = rescue_into(&site);
    assert!(code == Some(0) && words.contains("journals=0"), "{words}");
}

#[test]
fn a_rescue_of_nothing_says_so() {
    let site = Site::local();
    drop(site.start());
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("journals=0"), "{words}");
}
