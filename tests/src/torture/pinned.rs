//! A table that cannot be delivered, while others send many times what the journal may take: killed, or without power, in the
//! middle of it.
//!
//! Owns: who sends what, when it ends. The lake is told not to take the one table until the last life.
//! Does not own: a fault as such (see `volume`, `site`).

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use xtask::servers::Sidecar;

use crate::calls::wait_for_health;
use crate::ledger::{Ledger, Shape, record};
use crate::oracle::judge;
use crate::site::Site;
use crate::torture::Judgement;
use crate::volume::{self, Volume};

/// The smallest journal: it takes 25.6 MiB, in files of 3.2 MiB.
const CONFIG: &str = "flush: {maxAge: 1h}\nbuffer: {sizeLimit: 32Mi}\n";

/// The table that waits.
const WAITS: &str = "waits";

/// What makes a record long. Unit: bytes.
const PADDING: usize = 25_000;

/// Records of a request, a megabyte.
const RECORDS: u64 = 40;

/// Requests of the first life, which fills the journal up to half of its bound, and of each other.
const REQUESTS: (u64, u64) = (30, 20);

/// Longest life but the first. Unit: milliseconds.
const LIFE_MS_MAX: u64 = 1_500;

/// A run of it.
#[derive(Clone, Copy, Debug)]
pub struct Pinned {
    /// How many lives.
    pub lives: u32,
    /// The seed of all that is chosen.
    pub seed: u64,
}

impl Pinned {
    /// Lives at a site whose lake is a directory, dies, lets the table go, drains and judges. The power is cut only where
    /// that can be done: see [`volume::can_be_made`].
    ///
    /// # Panics
    /// When anybody is refused for want of room, when the sidecar does not come back, or does not drain.
    pub fn run(self, site: Site) -> Judgement {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut volume = volume::can_be_made().then(Volume::make);
        let mut site = site.with_config(CONFIG);
        if let Some(volume) = &volume {
            site.options.journal = volume.path().join("journal");
        }
        site.deny(WAITS);
        let (ledger, mut sequence) = (Ledger::default(), 0);
        for life in 0..self.lives {
            let sidecar = site.start();
            let (requests, length) = match life {
                0 => (REQUESTS.0, None),
                _ => (REQUESTS.1, Some(Duration::from_millis(random.random_range(0..=LIFE_MS_MAX)))),
            };
            let has_power = volume.is_none() || random.random_range(0..2) == 0;
            let (tell, told) = sync_channel(1);
            std::thread::scope(|scope| {
                let (ledger, sidecar, sequence) = (&ledger, &sidecar, &mut sequence);
                scope.spawn(move || send(sidecar, ledger, sequence, requests, &tell));
                let surprise = match length {
                    Some(length) => told.recv_timeout(length),
                    None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                if let Some(volume) = volume.as_mut().filter(|_| !has_power) {
                    ledger.set_dark(true);
                    volume.cut();
                }
                // It may have seen that its disk fails, and ended.
                let _ = sidecar.kill();
                assert!(surprise.is_err(), "{surprise:?}");
            });
            drop(sidecar);
            if let Some(volume) = volume.as_ref().filter(|_| !has_power) {
                volume.come_back();
                ledger.set_dark(false);
            }
        }
        site.allow(WAITS);
        let sidecar = site.start();
        let is_whole = wait_for_health(&sidecar, "an empty backlog", |health| {
            let mut reasons = health["reasons"].as_array().into_iter().flatten();
            // A segment of which batches are gone is never delivered: the oracle says which they are.
            let is_broken = reasons.any(|reason| reason["name"] == "EncodeFailed");
            (is_broken || health["backlog"]["rows"] == 0).then_some(!is_broken)
        });
        let status = if is_whole { sidecar.stop() } else { sidecar.kill() }.expect("it ends in time");
        assert!(!is_whole || status.code() == Some(0), "{}", site.log());
        let anew = site.log().matches("wrote a log file anew").count();
        assert!(anew >= 3, "{anew} files were written anew: {}", site.log());
        judge(&ledger, site.lake()).inspect_err(|_| site.keep())
    }
}

/// Sends until the sidecar is gone: long records that reach the lake at once, and now and then one that does not. Tells of
/// a refusal that is not for the end of the sidecar.
fn send(sidecar: &Sidecar, ledger: &Ledger, sequence: &mut u64, requests: u64, tell: &SyncSender<String>) {
    for request in 0..requests {
        let count = if request % 4 == 0 { 1 } else { RECORDS };
        let records: Vec<Value> = (*sequence..*sequence + count).map(|sequence| long(sequence, count)).collect();
        *sequence += count;
        let answer = match count {
            1 => ledger.send(sidecar, "/ingest/stream", WAITS, Shape::Records, &records),
            _ => ledger.send(sidecar, "/ingest", "events", Shape::Records, &records),
        };
        let Ok(answer) = answer else { return };
        let is_for_room = ["journal-full", "too-fast"].iter().any(|kind| answer.text().contains(kind));
        if is_for_room || !matches!(answer.status, 200 | 202 | 503) {
            // The receiver is gone once the first surprise was told.
            let _ = tell.try_send(format!("{} {}", answer.status, answer.text()));
        }
    }
}

fn long(sequence: u64, count: u64) -> Value {
    let mut record = record(1, sequence);
    if count > 1 {
        record["padding"] = "x".repeat(PADDING).into();
    }
    record
}
