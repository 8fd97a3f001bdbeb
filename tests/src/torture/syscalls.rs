//! A kill at every system call that changes a disk, and at every answer: `strace` lets the N-th one never happen.
//!
//! Owns: a scenario with three flushes, run once for each N of a call until it ends without a kill; then the lake is
//! judged as one. Does not own: what a kill must not do (see `oracle`).
//!
//! strace counts the calls of each thread by itself: the thread that comes to its N-th one first is where the process
//! ends. So the calls of the journal's thread and those of the encoder's, which are few, are met by their files.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;
use xtask::servers::Sidecar;

use crate::calls::{flush, health, wait_until_delivered};
use crate::lake::Lake;
use crate::ledger::{Ledger, Request, Shape, record};
use crate::oracle::judge;
use crate::site::{Site, temporary_folder};
use crate::strace::under_strace;
use crate::torture::Judgement;

/// Nothing is flushed that is not asked for.
const CONFIG: &str = "flush: {maxAge: 1h}\n";

/// The record that stands in a journal before the scenario.
const LEFT_SEQUENCE: u64 = 1_000;

/// More calls of one kind than the scenario has: a bound for a loop that would not end.
const KILLS_MAX: u32 = 500;

/// Whose calls count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of every thread on anything.
    Everything,
    /// Those on the journal's files.
    Journal,
    /// Those on the files that the encoder makes, and on their folder.
    Encoder,
}

/// A system call at which the sidecar is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Whose.
    pub scope: Scope,
    /// Whether the journal was left by a kill, with acknowledged records and a torn tail; else it is new.
    pub after_kill: bool,
}

impl Call {
    const fn new(name: &'static str, scope: Scope, after_kill: bool) -> Self {
        Self { name, scope, after_kill }
    }
}

/// Every call that changes a disk, and the one by which an answer leaves.
pub const CALLS: [Call; 12] = [
    Call::new("fdatasync", Scope::Everything, false),
    Call::new("write", Scope::Journal, false),
    Call::new("fsync", Scope::Everything, false),
    Call::new("rename", Scope::Everything, false),
    Call::new("renameat2", Scope::Everything, false),
    Call::new("unlink", Scope::Everything, false),
    Call::new("pwrite64", Scope::Everything, false),
    Call::new("writev", Scope::Everything, false),
    Call::new("ftruncate", Scope::Everything, true),
    Call::new("fdatasync", Scope::Everything, true),
    Call::new("fsync", Scope::Encoder, true),
    Call::new("write", Scope::Encoder, true),
];

/// How often the sidecar was killed at a call.
pub type Kills = Vec<(Call, u32)>;

/// Kills the scenario at every place of each of these calls, and judges.
///
/// # Panics
/// When strace is missing, or the sidecar does not come back.
pub fn kill_at_each(calls: &[Call]) -> (Kills, Judgement) {
    let folder = temporary_folder();
    let lake_folder = folder.path().join("lake");
    fs::create_dir(&lake_folder).expect("a folder can be made");
    let lake = Lake::directory(&lake_folder);
    let ledger = Ledger::at(&folder.path().join("ledger"));
    let (mut producer, mut kills) = (0, Kills::new());
    for call in calls {
        let mut count = 0;
        while count < KILLS_MAX {
            producer += 1;
            if !is_killed(*call, count + 1, producer, &lake, &ledger) {
                break;
            }
            count += 1;
        }
        assert!(count < KILLS_MAX, "{call:?} goes on for ever");
        kills.push((*call, count));
    }
    (kills, judge(&ledger, &lake))
}

/// Runs the scenario once with a kill at the `number`-th call; answers whether there was one. Everything that was
/// acknowledged is delivered when this returns.
fn is_killed(call: Call, number: u32, producer: u64, lake: &Lake, ledger: &Ledger) -> bool {
    let mut site = Site::on(lake).with_config(CONFIG);
    let plain = site.options.clone();
    let journal = if call.after_kill { leave_by_a_kill(&site, producer, ledger) } else { String::new() };
    site.options.binary = wrapper(&site, call, number, &journal);
    // What is written to the log is no change of what is kept.
    site.options.environment.push(("LAKEINGEST_LOG".to_owned(), OsString::from("error")));
    let sidecar = site.spawn();
    if is_up(&sidecar) {
        three_flushes(&sidecar, producer, ledger);
    }
    let status = sidecar.stop().expect("it ends");
    drop(sidecar);
    if status.code() == Some(0) {
        return false;
    }
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{call:?} {number}: {status}: {}", site.log());
    site.options = plain;
    let sidecar = site.start();
    for request in requests(producer).into_iter().filter(|request| request.key.is_some()) {
        let was_sent = ledger.entries().contains_key(&crate::ledger::key_of(&request.records[0]));
        if was_sent {
            let answer = ledger.attempt(&sidecar, &request).expect("the sidecar answers");
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
    }
    // What a retry has brought is not old enough to be flushed by itself.
    flush(&sidecar);
    wait_until_delivered(&sidecar);
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", site.log());
    true
}

/// Leaves a journal with an acknowledged record and a torn tail; answers its id.
fn leave_by_a_kill(site: &Site, producer: u64, ledger: &Ledger) -> String {
    let sidecar = site.start();
    ledger.stream(&sidecar, "events", record(producer, LEFT_SEQUENCE));
    let id = health(&sidecar)["journal"]["id"].as_str().expect("a journal has an id").to_owned();
    sidecar.kill().expect("it can be killed");
    let log = site.options.journal.join("0000000000000001.log");
    let mut log = fs::OpenOptions::new().append(true).open(log).expect("the journal has a first file");
    log.write_all(b"LKFR\x02").expect("it can be written");
    id
}

/// Waits until the sidecar answers; false if it ended before.
fn is_up(sidecar: &Sidecar) -> bool {
    xtask::wait::until("the sidecar to be ready or killed", || {
        if sidecar.server().exit_status()?.is_some() {
            return Ok(xtask::wait::Look::Ready(false));
        }
        Ok(match sidecar.get_health("/readyz") {
            Ok(answer) if answer.status == 200 => xtask::wait::Look::Ready(true),
            Ok(answer) => xtask::wait::Look::NotYet(answer.text()),
            Err(error) => xtask::wait::Look::NotYet(format!("{error:#}")),
        })
    })
    .expect("it gets up or ends")
}

/// Three times a record, a batch with a key, and a flush. Ends at the first request that is not answered.
fn three_flushes(sidecar: &Sidecar, producer: u64, ledger: &Ledger) {
    for pair in requests(producer).chunks(2) {
        for request in pair {
            let Ok(answer) = ledger.attempt(sidecar, request) else { return };
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
        if sidecar.post("/flush?wait=60", Some("application/json"), json!({}).to_string()).is_err() {
            return;
        }
    }
}

fn requests(producer: u64) -> Vec<Request> {
    let request = |index: u64| {
        let is_keyed = index % 2 == 1;
        let sequences = index * 2..index * 2 + if is_keyed { 2 } else { 1 };
        Request {
            path: "/ingest/stream",
            table: "events".to_owned(),
            shape: Shape::Records,
            records: sequences.map(|sequence| record(producer, sequence)).collect(),
            key: is_keyed.then(|| format!("order-{producer}-{index}")),
            rejects: false,
        }
    };
    (0..6).map(request).collect()
}

/// The sidecar, with a kill at a call.
fn wrapper(site: &Site, call: Call, number: u32, journal: &str) -> PathBuf {
    let fault = format!("signal=KILL:when={number}");
    under_strace(site, call.name, &fault, &files_of(call.scope, journal))
}

/// The files whose calls count, below the journal's folder; none: every file.
fn files_of(scope: Scope, journal: &str) -> Vec<String> {
    match scope {
        Scope::Everything => Vec::new(),
        Scope::Journal => {
            let names = ["0000000000000001.tmp", "0000000000000001.log", "keys/0000000000000001.log"];
            names.map(str::to_owned).to_vec()
        }
        Scope::Encoder => {
            let folder = format!("scratch/{journal}/encoded");
            let files = (1..=4).map(|segment| format!("{folder}/{segment}-0.parquet"));
            files.chain([folder.clone()]).collect()
        }
    }
}
