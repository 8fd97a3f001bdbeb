//! What pods have left as log files: delivered once however often, counted until it is whole, whatever stands in its way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lakeingest_tests::calls::{wait_for_reason, wait_until_delivered};
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::pod::{QUIET, fill, local_pod, term};
use lakeingest_tests::site::{Site, sidecar_program, wait_for_end};
use serde_json::Value;
use xtask::servers::Sidecar;
use xtask::workspace;

/// A table that nothing gets into while this is there: a file is where its folder should be.
struct Blocked(Vec<PathBuf>);

impl Blocked {
    fn tables(site: &Site) -> Self {
        let tables = ["events", "orders"];
        tables.iter().for_each(|table| site.deny(table));
        Self(tables.map(|table| site.lake_folder().join("data").join(table)).into())
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
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
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

/// Small files, since the volume is small, and segments that end in the middle of one.
const MANY_FILES: &str = "flush: {maxAge: 1h, maxRows: 3000}\nbuffer: {sizeLimit: 32Mi}\n";

/// Sends 38,000 records, which fill several log files.
fn fill_files(ledger: &Ledger, sidecar: &Sidecar) {
    for producer in 1..20 {
        let records: Vec<Value> = (0..2_000).map(|sequence| record(producer, sequence)).collect();
        let answer = ledger.send(sidecar, "/ingest/stream", "events", Shape::Records, &records);
        assert_eq!(answer.expect("the sidecar answers").status, 202);
    }
}

/// The log files of a pod in which most files have only what waits.
#[test]
fn log_files_that_were_written_anew_are_delivered_as_any() {
    let site = local_pod(None, 5, "flush: {maxAge: 1h}\nbuffer: {sizeLimit: 32Mi}\n");
    let (ledger, padding) = (Ledger::default(), "x".repeat(1_000_000));
    let sidecar = site.start();
    let blocked = Blocked::tables(&site);
    for sequence in 0..30 {
        ledger.stream(&sidecar, "events", record(1, sequence));
        let mut long = record(2, sequence);
        long["padding"] = padding.as_str().into();
        let answer = ledger.send(&sidecar, "/ingest", "others", Shape::Records, &[long]);
        assert_eq!(answer.expect("the sidecar answers").status, 200);
    }
    assert!(site.log().contains("wrote a log file anew"), "{}", site.log());
    end_in_log_files(&site, &sidecar);
    drop(blocked);
    let (code, words) = rescue_into(&site);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 60);
}

/// A part of a segment was once delivered under the name of the whole, and the whole could not follow.
#[test]
fn what_has_not_arrived_whole_is_left_and_counted_until_it_has() {
    let site = local_pod(None, 5, MANY_FILES);
    let ledger = Ledger::default();
    let sidecar = site.start();
    let blocked = Blocked::tables(&site);
    fill_files(&ledger, &sidecar);
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

    // In the records of the first segment: a plan, which can lie anywhere behind them, is made again.
    let mut changed = whole.clone();
    changed[whole.len() / 4] ^= 1;
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
    let site = local_pod(None, 5, MANY_FILES);
    let ledger = Ledger::default();
    let sidecar = site.start();
    let blocked = Blocked::tables(&site);
    fill_files(&ledger, &sidecar);
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
