//! The judgement of the whole: a sidecar with a known bug is caught, and the same one without it passes.
//!
//! Each scenario runs twice with the program that can have a bug: first without one. The two bugs that need a power cut
//! are in `power_cuts.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lakeingest_tests::calls::{flush, wait_for_health, wait_for_reason, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Fate, Ledger, Request, Shape, record};
use lakeingest_tests::oracle::{Fault, judge, judge_rows};
use lakeingest_tests::proxy::{Fault as NetworkFault, Head, Proxy};
use lakeingest_tests::site::{Site, temporary_folder};
use lakeingest_tests::torture::pinned::Pinned;
use lakeingest_tests::torture::{Judgement, control};
use xtask::servers::{Sidecar, Weed, WeedOptions};
use xtask::workspace;

/// Nothing is flushed that is not asked for.
const QUIET: &str = "flush: {maxAge: 1h}\n";

/// A place, and a sidecar there that has acknowledged ten records and was killed.
fn killed_with_ten(bug: Option<&str>) -> (Site, Ledger) {
    let site = Site::local().with_config(QUIET).seeded(bug);
    let sidecar = site.start();
    let ledger = Ledger::default();
    for sequence in 0..10 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    sidecar.kill().expect("it can be killed");
    (site, ledger)
}

/// Another place with a copy of the journal and the same lake.
fn copy_of(site: &Site, bug: Option<&str>) -> Site {
    let copy = Site::on(site.lake()).with_config(QUIET).seeded(bug);
    let mut cp = Command::new("cp");
    let status = cp.arg("-r").arg(&site.options.journal).arg(&copy.options.journal).status().expect("cp is there");
    assert!(status.success());
    copy
}

/// The folder of the descriptions of a lake's only table.
fn descriptions(site: &Site) -> PathBuf {
    site.lake_folder().join("data/_lakeingest/files/events")
}

/// Delivers what the journal holds, whatever `/health` thinks of its disk.
fn deliver_all(site: &Site) {
    let sidecar = site.start();
    wait_for_health(&sidecar, "an empty backlog", |health| (health["backlog"]["rows"] == 0).then_some(()));
}

#[test]
fn to_retire_before_the_files_were_looked_at_is_caught() {
    control("retire-before-verify", Fault::Lost, |bug| {
        let site = Site::local().with_config(QUIET).seeded(bug);
        let sidecar = site.start();
        let ledger = Ledger::default();
        // The columns are registered, so that the next delivery is planned without the lake.
        let records: Vec<_> = (0..4).map(|sequence| record(1, sequence)).collect();
        ledger.send(&sidecar, "/ingest", "events", Shape::Records, &records).expect("the lake is there");
        site.take_lake_away();
        for sequence in 10..20 {
            ledger.stream(&sidecar, "events", record(1, sequence));
        }
        sidecar.post("/flush?wait=0", None, "").expect("it answers");
        wait_for_reason(&sidecar, "BucketMissing");
        sidecar.kill().expect("it can be killed");
        drop(sidecar);
        site.bring_lake_back();
        deliver_all(&site);
        judge(&ledger, site.lake())
    });
}

/// Two processes hold the same segment, and the first one ends between a file and its description.
#[test]
fn a_key_that_is_made_with_the_clock_is_caught() {
    control("key-from-clock", Fault::Doubled, |bug| {
        let (site, ledger) = killed_with_ten(bug);
        deliver_all(&copy_of(&site, bug));
        fs::remove_dir_all(descriptions(&site)).expect("it is there");
        deliver_all(&site);
        judge(&ledger, site.lake())
    });
}

/// A delivery to a bucket whose answer to the first put of a data file is a fault.
fn delivered_through(fault: NetworkFault, bug: Option<&str>) -> Judgement {
    let folder = temporary_folder();
    let weed = Weed::start(WeedOptions::new(folder.path())).expect("the S3 server starts");
    let proxy = Proxy::start(weed.access());
    let site = Site::on(&Lake::bucket(&proxy.access(weed.access()))).with_config(QUIET).seeded(bug);
    let sidecar = site.start();
    let ledger = Ledger::default();
    for sequence in 0..10 {
        ledger.stream(&sidecar, "events", record(1, sequence));
    }
    proxy.next(1, fault, Head::puts_data);
    flush(&sidecar);
    drop(sidecar);
    assert!(proxy.seen().iter().any(Head::puts_data), "no file was put");
    judge(&ledger, &Lake::bucket(weed.access()))
}

#[test]
fn to_believe_a_conflict_is_caught() {
    control("drop-on-exists", Fault::Lost, |bug| {
        delivered_through(NetworkFault::Answer(409, "ConditionalRequestConflict"), bug)
    });
}

#[test]
fn to_believe_a_put_is_caught() {
    control("trust-put", Fault::Lost, |bug| delivered_through(NetworkFault::Swallow, bug));
}

/// Changes one letter of a record in the journal. Whether the record is stored is open then; what is stored is not.
fn damage_record(site: &Site, ledger: &Ledger, sequence: u64) {
    let path = site.options.journal.join("0000000000000001.log");
    let mut bytes = fs::read(&path).expect("the journal has a first file");
    let text = format!("1/{sequence} \\\"Z");
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the record is there");
    bytes[at + text.len() - 1] = b'Y';
    fs::write(&path, bytes).expect("it can be written");
    ledger.entries().get_mut(&(1, sequence)).expect("it was sent").fate = Fate::Unknown;
}

#[test]
fn not_to_look_at_checksums_is_caught() {
    control("skip-checksum", Fault::Changed, |bug| {
        let (site, ledger) = killed_with_ten(bug);
        damage_record(&site, &ledger, 4);
        deliver_all(&site);
        judge(&ledger, site.lake())
    });
}

#[test]
fn to_take_damage_for_the_end_is_caught() {
    control("damage-ends-the-log", Fault::Lost, |bug| {
        let (site, ledger) = killed_with_ten(bug);
        damage_record(&site, &ledger, 4);
        deliver_all(&site);
        judge(&ledger, site.lake())
    });
}

/// Sends a request with a key to a first sidecar, which is killed, and again to the next one.
fn retried(path: &'static str, bug: Option<&str>) -> Judgement {
    let site = Site::local().with_config(QUIET).seeded(bug);
    let ledger = Ledger::default();
    let request = Request {
        path,
        table: "events".to_owned(),
        shape: Shape::Records,
        records: (0..3).map(|sequence| record(1, sequence)).collect(),
        key: Some("order-1".to_owned()),
        rejects: false,
    };
    let send = |sidecar: &Sidecar| {
        let answer = ledger.attempt(sidecar, &request).expect("it answers");
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
    };
    let sidecar = site.start();
    send(&sidecar);
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    let sidecar = site.start();
    send(&sidecar);
    flush(&sidecar);
    judge(&ledger, site.lake())
}

#[test]
fn to_forget_keys_on_replay_is_caught() {
    control("forget-keys-on-replay", Fault::Doubled, |bug| retried("/ingest/stream", bug));
}

#[test]
fn not_to_keep_the_keys_of_what_is_retired_is_caught() {
    control("no-key-log", Fault::Doubled, |bug| retried("/ingest", bug));
}

/// Two processes hold the same plan. One has lost the encoded bytes, and ends between the file and its description.
#[test]
fn to_encode_again_without_the_plan_is_caught() {
    control("encode-again-without-plan", Fault::Doubled, |bug| {
        let site = Site::local().with_config(QUIET).seeded(bug);
        let sidecar = site.start();
        let ledger = Ledger::default();
        let records: Vec<_> = (0..4).map(|sequence| record(1, sequence)).collect();
        ledger.send(&sidecar, "/ingest", "events", Shape::Records, &records).expect("the lake is there");
        site.take_lake_away();
        for sequence in 10..20 {
            ledger.stream(&sidecar, "events", record(1, sequence));
        }
        sidecar.post("/flush?wait=0", None, "").expect("it answers");
        wait_for_reason(&sidecar, "BucketMissing");
        sidecar.kill().expect("it can be killed");
        drop(sidecar);
        site.bring_lake_back();
        let copy = copy_of(&site, bug);
        fs::remove_dir_all(copy.options.journal.join("scratch")).expect("it is there");
        wait_until_delivered(&copy.start());
        let ours: Vec<_> = fs::read_dir(descriptions(&site)).expect("it is there").flatten().collect();
        let second = ours.iter().find(|entry| entry.file_name().to_string_lossy().ends_with("-2-0.json"));
        fs::remove_file(second.expect("the second segment is described").path()).expect("it is there");
        wait_until_delivered(&site.start());
        judge(&ledger, site.lake())
    });
}

/// Two processes hold the same segment. What the first one delivered is merged into another file before the second looks.
#[test]
fn to_put_a_file_without_a_look_for_its_description_is_caught() {
    control("upload-without-look", Fault::Doubled, |bug| {
        let (site, ledger) = killed_with_ten(bug);
        deliver_all(&copy_of(&site, bug));
        let file = site.lake_folder().join(&site.lake().files("events")[0]);
        fs::rename(&file, file.with_file_name("merged.parquet")).expect("it can be renamed");
        deliver_all(&site);
        judge_rows(&ledger, site.lake())
    });
}

#[test]
fn each_bug_has_its_control() {
    let root = workspace::root();
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is there");
    let seeded = read("sidecar/src/seeded.rs");
    let controls = read("tests/tests/negative_controls.rs") + &read("tests/tests/power_cuts.rs");
    let names = seeded.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","));
    // No bugs of ours: see `poison.rs`.
    let names: Vec<&str> =
        names.filter(|name| !["poison-record", "deadly-record", "panicking-record"].contains(name)).collect();
    assert_eq!(names.len(), 14);
    for name in names {
        assert!(controls.contains(&format!("control(\"{name}\"")), "{name} has no control");
    }
}

#[test]
fn to_lose_what_waits_where_a_file_is_written_anew_is_caught() {
    control("anew-without-batches", Fault::Lost, |bug| Pinned { lives: 2, seed: 1 }.run(Site::local().seeded(bug)));
}
