//! The promise, at every system call that changes a disk: a process that ends there loses and doubles nothing, and one whose
//! disk fails there says so and acknowledges nothing that is not durable.
//!
//! `cargo xtask torture --syscalls` runs the kills for all calls, one after the other.

use std::sync::atomic::{AtomicBool, Ordering};

use lakeingest_tests::calls::{body, health, metric, wait_for_health, wait_for_reason, wait_until_delivered};
use lakeingest_tests::ledger::{Ledger, Request, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::{Site, wait_for_end};
use lakeingest_tests::strace::under_strace;
use lakeingest_tests::torture::syscalls::{CALLS, Call, Scope, kill_at_each};
use serde_json::json;
use xtask::servers::{Response, Sidecar};

/// Nothing is flushed that is not asked for.
const QUIET: &str = "flush: {maxAge: 1h}\n";

/// Kills at each place of the calls that are wanted; each call must have some.
fn check(is_wanted: impl Fn(&Call) -> bool) {
    let calls: Vec<Call> = CALLS.into_iter().filter(is_wanted).collect();
    let (kills, judgement) = kill_at_each(&calls);
    let tally = judgement.unwrap_or_else(|violations| panic!("{violations}"));
    let shown: String = kills.iter().map(|(call, count)| format!("\n  {count:>3} {call:?}")).collect();
    println!("{tally:?} after kills:{shown}");
    // The encoder writes with another call today.
    let has_some = |(call, count): &(Call, u32)| *count > 0 || call.name == "pwrite64";
    assert!(kills.iter().all(has_some), "{shown}");
}

#[test]
fn a_kill_at_every_sync_and_every_write_of_the_journal_loses_and_doubles_nothing() {
    check(|call| call.scope != Scope::Encoder && !call.after_kill && ["fdatasync", "write"].contains(&call.name));
}

#[test]
fn a_kill_at_every_sync_of_a_file_or_folder_loses_and_doubles_nothing() {
    check(|call| call.scope == Scope::Everything && call.name == "fsync");
}

#[test]
fn a_kill_at_every_rename_removal_and_answer_loses_and_doubles_nothing() {
    check(|call| ["rename", "renameat2", "unlink", "writev", "pwrite64"].contains(&call.name));
}

#[test]
fn a_kill_while_an_earlier_one_is_mended_loses_and_doubles_nothing() {
    check(|call| call.after_kill);
}

/// A journal's first log file.
const LOG: &str = "0000000000000001.log";

/// A request of one record with a key of its own.
fn request(sequence: u64) -> Request {
    Request {
        path: "/ingest/stream",
        table: "events".to_owned(),
        shape: Shape::Records,
        records: vec![record(1, sequence)],
        key: Some(format!("order-{sequence}")),
        rejects: false,
    }
}

/// Sends requests until one is not acknowledged; answers that answer and how many were sent.
fn send_until_it_fails(ledger: &Ledger, sidecar: &Sidecar) -> (Response, u64) {
    for sequence in 0..20 {
        let answer = ledger.attempt(sidecar, &request(sequence)).expect("it is answered before the process ends");
        if answer.status != 202 {
            return (answer, sequence + 1);
        }
    }
    panic!("the disk does not fail")
}

/// A disk that fails at the journal's third write or sync, each time in another way, and for good.
#[test]
fn i1_a_failing_disk_is_an_unknown_outcome_and_the_end_of_the_process_and_retries_store_once() {
    for (call, error, words) in [
        ("fdatasync", "EIO", "Input/output error"),
        ("fdatasync", "ENOSPC", "No space left on device"),
        ("write", "EROFS", "Read-only file system"),
    ] {
        let mut site = Site::local().with_config(QUIET);
        let plain = site.options.clone();
        site.options.binary = under_strace(&site, call, &format!("error={error}:when=3+"), &[LOG.to_owned()]);
        let (ledger, sidecar) = (Ledger::default(), site.start());
        let (answer, sent) = send_until_it_fails(&ledger, &sidecar);
        assert_eq!((answer.status, &body(&answer)["outcome"]), (503, &json!("unknown")), "{}", answer.text());
        assert_eq!(sent, 3, "{call} {error}");
        assert_eq!(wait_for_end(&sidecar).code(), Some(70), "{}", site.log());
        assert!(site.log().contains(words) && site.log().contains(LOG), "{}", site.log());
        drop(sidecar);

        site.options = plain;
        let sidecar = site.start();
        for sequence in 0..sent {
            assert_eq!(ledger.attempt(&sidecar, &request(sequence)).expect("it answers").status, 202);
        }
        assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", site.log());
        assert_eq!(verify(&ledger, site.lake()).acknowledged, 3, "{call} {error}");
    }
}

#[test]
fn a_disk_that_hangs_is_shown_and_nothing_is_acknowledged_meanwhile() {
    let mut site = Site::local().with_config(QUIET);
    // Longer than a disk may take before it counts as stalled, and shorter than a request waits.
    site.options.binary = under_strace(&site, "fdatasync", "delay_enter=9000000:when=2", &[LOG.to_owned()]);
    let (ledger, sidecar) = (Ledger::default(), site.start());
    ledger.stream(&sidecar, "events", record(1, 0));
    let is_answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ledger.stream(&sidecar, "events", record(1, 1));
            is_answered.store(true, Ordering::SeqCst);
        });
        let message = wait_for_reason(&sidecar, "JournalStalled");
        assert!(message.contains("write or sync"), "{message}");
        assert!(!is_answered.load(Ordering::SeqCst), "it was answered before it was durable");
    });
    wait_for_health(&sidecar, "a disk that is well", |health| (health["reasons"] == json!([])).then_some(()));
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", site.log());
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 2);
}

#[test]
fn a_volume_that_is_read_only_refuses_the_start_with_its_own_words() {
    let mut site = Site::local();
    site.options.binary = under_strace(&site, "openat", "error=EROFS", &["lock".to_owned()]);
    let sidecar = site.spawn();
    assert_eq!(wait_for_end(&sidecar).code(), Some(1), "{}", site.log());
    let log = site.log();
    assert!(log.contains("failed to open the journal's directory") && log.contains("Read-only file system"), "{log}");
}

#[test]
fn a_full_scratch_volume_is_told_and_delays_what_it_holds() {
    let mut site = Site::local().with_config(QUIET);
    let (ledger, sidecar) = (Ledger::default(), site.start());
    // One record alone, so that nothing else could be blamed.
    ledger.stream(&sidecar, "events", record(1, 0));
    let id = health(&sidecar)["journal"]["id"].as_str().expect("a journal has an id").to_owned();
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    let files: Vec<String> = (1..=4).map(|segment| format!("scratch/{id}/encoded/{segment}-0.parquet")).collect();
    site.options.binary = under_strace(&site, "write", "error=ENOSPC:when=1..4", &files);
    let sidecar = site.start();
    let message = wait_for_reason(&sidecar, "ScratchFailed");
    assert!(message.contains("No space left on device") && message.contains("buffer.scratchSizeLimit"), "{message}");
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 1);
    assert_eq!(metric(&sidecar, "lakeingest_sidecar_quarantined_rows_total"), 0.0);
}
