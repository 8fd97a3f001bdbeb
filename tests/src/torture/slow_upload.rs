//! A slow upload: records come in while each object takes its time on its way to the bucket.
//!
//! Owns: the load, and what the sidecar's memory was meanwhile. Does not own: a bucket that is away (see `soak`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::json;
use xtask::servers::{Sidecar, Weed, WeedOptions};
use xtask::stopwatch::Stopwatch;

use crate::calls::{flush, wait_until_delivered};
use crate::lake::Lake;
use crate::proxy::{Fault, Head, Proxy};
use crate::site::{Site, temporary_folder};

/// Events of a request.
const REQUEST_EVENTS: u64 = 1_000;

/// Connections that send.
const SENDERS: u64 = 4;

/// What an upload gets of the way to the bucket, of which there are four at a time. Unit: bytes a second.
const UPLOAD_BYTES_PER_SECOND: u64 = 1 << 20;

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Parts of a run, each with a peak of its own.
const PARTS: usize = 10;

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct SlowUpload {
    /// Events that are sent, of about 160 bytes.
    pub events: u64,
    /// Sent by the clock; none: as fast as they are taken.
    pub events_per_second: Option<u64>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The most memory of the sidecar in each tenth of the run. Unit: bytes.
    pub peaks: [u64; PARTS],
    /// Events that were acknowledged, each of which is in the lake once.
    pub acknowledged: u64,
    /// Events that were refused since there was no room, none of which is in the lake.
    pub refused: u64,
    /// Files that were put.
    pub files: usize,
}

impl SlowUpload {
    /// Sends, looks, waits until everything is in the lake, and counts there.
    ///
    /// # Panics
    /// When a request is neither acknowledged nor refused, or the lake holds something else than what was acknowledged.
    pub fn run(self) -> Seen {
        let folder = temporary_folder();
        let weed = Weed::start(WeedOptions::new(folder.path())).expect("the S3 server starts");
        let proxy = Proxy::start(weed.access());
        proxy.always(Fault::Throttle(UPLOAD_BYTES_PER_SECOND), Head::puts_data);
        let mut site =
            Site::on(&Lake::bucket(weed.access())).with_config("flush: {maxBytes: 128Mi, maxRows: 10000000}\n");
        site.options.environment = proxy.access(weed.access()).environment();
        let sidecar = site.start();
        let totals = Totals::default();
        let peaks = std::thread::scope(|scope| {
            let (done, is_done) = sync_channel::<()>(1);
            for sender in 0..SENDERS {
                let (done, totals, sidecar) = (done.clone(), &totals, &sidecar);
                scope.spawn(move || {
                    self.send(sender, sidecar, totals);
                    drop(done);
                });
            }
            drop(done);
            self.look(&sidecar, &totals, &is_done)
        });
        proxy.heal();
        flush(&sidecar);
        wait_until_delivered(&sidecar);
        let files = site.lake().files("events").len();
        let location = site.lake().location();
        let found = site.lake().query(&format!(
            "SELECT count(*), count(DISTINCT id), sum(id)::VARCHAR FROM read_parquet('{location}/data/events/**/*.parquet')"
        ));
        let acknowledged = totals.acknowledged.into_inner();
        let sum = totals.acknowledged_ids.into_inner().to_string();
        assert_eq!(found.rows, [[json!(acknowledged), json!(acknowledged), json!(sum)]], "{}", site.log());
        Seen { peaks, acknowledged, refused: totals.refused.into_inner(), files }
    }

    /// Sends every request that is this sender's.
    fn send(self, sender: u64, sidecar: &Sidecar, totals: &Totals) {
        let clock = Stopwatch::start();
        let (_nobody, never) = sync_channel::<()>(1);
        for first in (0..self.events).step_by(usize::try_from(REQUEST_EVENTS).expect("it is small")) {
            if first / REQUEST_EVENTS % SENDERS != sender {
                continue;
            }
            if totals.has_failed.load(Ordering::Relaxed) {
                return;
            }
            let due = self.events_per_second.map_or(Duration::ZERO, |rate| Duration::from_millis(first * 1_000 / rate));
            // Nobody sends anything: this waits until the request is due.
            let _ = never.recv_timeout(due.saturating_sub(clock.elapsed()));
            let ids = first..self.events.min(first + REQUEST_EVENTS);
            let lines: String = ids.clone().map(event).collect();
            let headers = [("content-type", "application/x-ndjson")];
            let answer = sidecar.request("POST", "/ingest/stream?table_name=events", &headers, Some(lines.as_bytes()));
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            let count = ids.end - ids.start;
            totals.sent.fetch_add(count, Ordering::Relaxed);
            match status {
                202 => {
                    totals.acknowledged.fetch_add(count, Ordering::Relaxed);
                    totals.acknowledged_ids.fetch_add(ids.sum(), Ordering::Relaxed);
                }
                429 | 503 => {
                    totals.refused.fetch_add(count, Ordering::Relaxed);
                }
                _ => {
                    totals.has_failed.store(true, Ordering::Relaxed);
                    panic!("{status}: {}", sidecar.server().log_tail());
                }
            }
        }
    }

    /// Looks at the memory until every sender is done.
    fn look(self, sidecar: &Sidecar, totals: &Totals, is_done: &Receiver<()>) -> [u64; PARTS] {
        let mut peaks = [0; PARTS];
        while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let sent = totals.sent.load(Ordering::Relaxed);
            let part = usize::try_from(sent * PARTS as u64 / (self.events + 1)).expect("it is small");
            let Ok(bytes) = sidecar.server().rss_bytes() else { break };
            peaks[part] = peaks[part].max(bytes);
        }
        peaks
    }
}

/// What became of the events.
#[derive(Debug, Default)]
struct Totals {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    acknowledged_ids: AtomicU64,
    refused: AtomicU64,
    has_failed: AtomicBool,
}

fn event(id: u64) -> String {
    let (user, kind) =
        (id.wrapping_mul(2_654_435_761) % 100_000, ["view", "click", "cart", "order"][(id % 4) as usize]);
    format!(
        r#"{{"id":{id},"user":"u{user}","type":"{kind}","url":"/shop/{}/item/{}","amount":{}.{:02},"props":{{"plan":"pro","n":{}}},"tags":["a","t{}"]}}"#,
        user % 97,
        id.wrapping_mul(40_503) % 1_000_003,
        user % 500,
        id % 100,
        id % 1_000,
        user % 30,
    ) + "\n"
}
