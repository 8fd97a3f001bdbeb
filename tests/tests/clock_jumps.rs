//! A wall clock that jumps by a day, under a process that runs and between two of them: no key, no order and no flush
//! depends on it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use lakeingest_tests::calls::wait_until_delivered;
use lakeingest_tests::ledger::{Ledger, Request, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::Site;
use xtask::servers::Sidecar;
use xtask::tools;

/// A sidecar whose wall clock can be set.
struct Clocked {
    site: Site,
    ledger: Ledger,
}

impl Clocked {
    fn new() -> Self {
        let mut site = Site::local().with_config("flush: {maxAge: 1s}\n");
        let library = tools::faketime().expect("libfaketime is there or can be installed");
        let file = site.folder().join("clock");
        site.options.environment.extend([
            ("LD_PRELOAD".to_owned(), library.into_os_string()),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), file.into_os_string()),
            ("FAKETIME_NO_CACHE".to_owned(), OsString::from("1")),
            // As the kernel's own: it does not jump.
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), OsString::from("1")),
        ]);
        let clocked = Self { site, ledger: Ledger::default() };
        clocked.jump_to("+0");
        clocked
    }

    /// Moves the wall clock away from the machine's, at once.
    fn jump_to(&self, offset: &str) {
        let (file, fresh) = (self.site.folder().join("clock"), self.site.folder().join("clock-fresh"));
        fs::write(&fresh, offset).expect("a file can be written");
        fs::rename(fresh, file).expect("it can be renamed");
    }

    /// Days under which records lie: each goes to the day on which it was received.
    fn days(&self) -> usize {
        let files = self.site.lake().files("events");
        let folders = files.iter().filter_map(|file| file.rsplit_once('/').map(|(folder, _)| folder.to_owned()));
        folders.collect::<BTreeSet<_>>().len()
    }

    /// Sends three records with a key, which is one request however often it is sent.
    fn send(&self, sidecar: &Sidecar, number: u64) {
        let request = Request {
            path: "/ingest/stream",
            table: "events".to_owned(),
            shape: Shape::Records,
            records: (0..3).map(|sequence| record(number, sequence)).collect(),
            key: Some(format!("order-{number}")),
            rejects: false,
        };
        let answer = self.ledger.attempt(sidecar, &request).expect("the sidecar answers");
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

#[test]
fn a_day_forward_and_back_changes_no_key_and_delays_no_flush() {
    let clocked = Clocked::new();
    let sidecar = clocked.site.start();
    for (number, offset) in ["+0", "+1d", "-1d", "+0", "-1d", "+1d"].into_iter().enumerate() {
        clocked.jump_to(offset);
        for earlier in 0..=number as u64 {
            clocked.send(&sidecar, earlier);
        }
        wait_until_delivered(&sidecar);
    }
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0), "{}", clocked.site.log());
    assert_eq!(verify(&clocked.ledger, clocked.site.lake()).acknowledged, 18);
    assert_eq!(clocked.days(), 3, "the clock did jump");
}

#[test]
fn a_start_on_another_day_knows_the_keys_and_delivers_what_it_finds() {
    let clocked = Clocked::new();
    for (number, offset) in ["+0", "+1d", "-1d"].into_iter().enumerate() {
        clocked.jump_to(offset);
        let sidecar = clocked.site.start();
        for earlier in 0..=number as u64 {
            clocked.send(&sidecar, earlier);
        }
        sidecar.kill().expect("it can be killed");
    }
    let sidecar = clocked.site.start();
    for earlier in 0..3 {
        clocked.send(&sidecar, earlier);
    }
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&clocked.ledger, clocked.site.lake()).acknowledged, 9);
    assert_eq!(clocked.days(), 3, "the clock did jump");
}
