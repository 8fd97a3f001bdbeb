//! Load on the sidecar: many requests on several connections, each acknowledged in full or the load has failed.
//!
//! Owns: the threads that send, what counts as an acknowledgement, the time it took, the progress that is shown.
//! Does not own: what is sent (see `flights`).

mod connection;

use std::borrow::Cow;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Deserialize;

use connection::Connection;

use crate::interrupt;
use crate::numbers::{Latencies, counted, float, grouped, per_second};
use crate::servers::{Response, Sidecar};
use crate::stopwatch::Stopwatch;
use crate::wait::Look;

/// Threads that send: more of them would take the processors from the sidecar.
const THREADS_MAX: usize = 8;

/// What is sent, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending<'a> {
    pub(crate) path: &'a str,
    /// Each with one request at a time. Above [`THREADS_MAX`] a thread has several of them.
    pub(crate) connections: usize,
    pub(crate) limit: Limit,
    /// What acknowledges: 200 in the lake, 202 in the journal.
    pub(crate) status: u16,
    /// What the bodies are.
    pub(crate) content_type: &'a str,
    /// Requests a second, sent by the clock, whatever the answers take; each is timed from when it was due. None: as soon as a
    /// connection is free. For as many connections as there are threads.
    pub(crate) per_second: Option<f64>,
}

impl<'a> Sending<'a> {
    /// JSON, as fast as it is taken.
    pub(crate) fn new(path: &'a str, connections: usize, limit: Limit, status: u16) -> Self {
        Self { path, connections, limit, status, content_type: JSON, per_second: None }
    }

    /// When a request is due, from the start on.
    fn due_at(&self, index: usize) -> Option<Duration> {
        let requests = u64::try_from(index).ok()?;
        Some(Duration::from_secs_f64(float(requests) / self.per_second?))
    }
}

/// The content type of most of what is sent.
pub(crate) const JSON: &str = "application/json";

/// When a load is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// After this many requests.
    Requests(usize),
    /// When this has passed; requests under way are waited for.
    Time(Duration),
}

/// One request's body.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    pub(crate) rows: u64,
    pub(crate) bytes: Cow<'a, [u8]>,
}

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Load {
    /// All acknowledged.
    pub(crate) rows: u64,
    pub(crate) seconds: f64,
    /// One for each request.
    pub(crate) latencies: Latencies,
}

impl Load {
    /// With a comma between its thousands.
    pub(crate) fn rows_per_second(&self) -> String {
        per_second(self.rows, self.seconds)
    }
}

/// The part of an acknowledgement that is looked at.
#[derive(Deserialize)]
struct Acknowledgement {
    rows: u64,
    quarantined: u64,
}

/// Lets time pass until a request is due.
#[expect(clippy::disallowed_methods, reason = "what is sent by the clock waits for the clock")]
fn pause(time: Duration) {
    if !time.is_zero() {
        std::thread::sleep(time);
    }
}

/// Sends to a port of this machine until the limit is reached; `body` makes each request's body from its number, counted from 0.
///
/// # Errors
/// When a request is not acknowledged with all its rows, or on Ctrl-C.
pub(crate) fn send<'a>(
    port: u16,
    sending: Sending<'_>,
    progress: &Progress,
    body: impl Fn(usize) -> Result<Body<'a>> + Sync,
) -> Result<Load> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let stopwatch = Stopwatch::start();
    let is_over = |index: usize| match sending.limit {
        Limit::Requests(count) => index >= count,
        Limit::Time(limit) => stopwatch.elapsed() >= limit,
    };
    let threads = sending.connections.min(THREADS_MAX);
    let work = |thread: usize| -> Result<(u64, Vec<Duration>)> {
        let own = (thread..sending.connections).step_by(threads);
        let mut connections = own.map(|_| Connection::open(port, &sending)).collect::<Result<Vec<_>>>()?;
        let (mut acknowledged_rows, mut latencies) = (0, Vec::new());
        loop {
            interrupt::check()?;
            let mut under_way = Vec::with_capacity(connections.len());
            for connection in &mut connections {
                let index = next.fetch_add(1, Ordering::Relaxed);
                // Once one has failed, the others have no reason to go on.
                if is_over(index) || failed.load(Ordering::Relaxed) {
                    break;
                }
                let Body { rows, bytes } = body(index)?;
                let due = sending.due_at(index).unwrap_or_else(|| stopwatch.elapsed());
                pause(due.saturating_sub(stopwatch.elapsed()));
                connection.send(&bytes)?;
                under_way.push((rows, due));
            }
            if under_way.is_empty() {
                return Ok((acknowledged_rows, latencies));
            }
            for (connection, (rows, due)) in connections.iter_mut().zip(under_way) {
                let answer = connection.receive()?;
                latencies.push(stopwatch.elapsed().saturating_sub(due));
                ensure_acknowledged(&answer, sending.status, rows)?;
                acknowledged_rows += rows;
                progress.add(rows);
            }
        }
    };
    let work = &|thread| work(thread).inspect_err(|_| failed.store(true, Ordering::Relaxed));
    let outcomes: Vec<Result<(u64, Vec<Duration>)>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let seconds = stopwatch.seconds();
    progress.finish();
    let (mut rows, mut latencies) = (0, Vec::new());
    for outcome in outcomes {
        let (acknowledged_rows, of_worker) = outcome?;
        rows += acknowledged_rows;
        latencies.extend(of_worker);
    }
    Ok(Load { rows, seconds, latencies: Latencies::new(latencies) })
}

/// Has everything that was acknowledged brought into the lake, and waits for it.
/// Gives the number of files that this made.
///
/// # Errors
/// When it is not there in time, or the sidecar ends.
pub(crate) fn flush(sidecar: &Sidecar) -> Result<usize> {
    let answer = sidecar.server().wait_until("the flush to be complete", || {
        let answer = sidecar.post("/flush", Some("application/json"), "{}")?;
        Ok(if answer.status == 200 { Look::Ready(answer) } else { Look::NotYet(answer.text()) })
    })?;
    let flushed: serde_json::Value = answer.json()?;
    Ok(flushed["files"].as_array().map_or(0, Vec::len))
}

fn ensure_acknowledged(answer: &Response, status: u16, rows: u64) -> Result<()> {
    if answer.status != status {
        bail!("failed to have {} taken: status {}: {}", counted(rows, "row"), answer.status, answer.text());
    }
    let acknowledgement: Acknowledgement = answer.json()?;
    if acknowledgement.rows != rows || acknowledgement.quarantined != 0 {
        bail!("failed to have all of {} taken: {}", counted(rows, "row"), answer.text());
    }
    Ok(())
}

/// A bar on a terminal; a line for every quarter elsewhere.
pub(crate) struct Progress {
    bar: ProgressBar,
    rows: AtomicU64,
    total_rows: u64,
    tells_quarters: bool,
}

impl Progress {
    /// Shows how far `total_rows` are.
    pub(crate) fn start(total_rows: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(total_rows) } else { ProgressBar::hidden() };
        let rate = |state: &ProgressState, text: &mut dyn Write| {
            // The bar has no use for an error of its own text.
            let _ = text.write_str(&per_second(state.pos(), state.elapsed().as_secs_f64().max(0.001)));
        };
        bar.set_style(
            ProgressStyle::with_template("  {bar:24} {human_pos} of {human_len}, {rate} per second, {eta} left")
                .expect("the template is constant and valid")
                .with_key("rate", rate),
        );
        Self { bar, rows: AtomicU64::new(0), total_rows, tells_quarters: !is_terminal }
    }

    /// Shows nothing.
    pub(crate) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), rows: AtomicU64::new(0), total_rows: 1, tells_quarters: false }
    }

    fn add(&self, rows: u64) {
        let before = self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bar.inc(rows);
        let quarter = |rows: u64| rows * 4 / self.total_rows;
        if self.tells_quarters && quarter(before + rows) > quarter(before) {
            eprintln!("  {} of {}", grouped(before + rows), counted(self.total_rows, "row"));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Response {
        Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn only_an_answer_for_all_rows_is_an_acknowledgement() {
        let whole = r#"{"rows": 3, "quarantined": 0}"#;
        assert!(ensure_acknowledged(&answer(200, whole), 200, 3).is_ok());
        assert!(ensure_acknowledged(&answer(202, whole), 200, 3).is_err(), "not in the lake yet");
        assert!(ensure_acknowledged(&answer(200, r#"{"rows": 2, "quarantined": 0}"#), 200, 3).is_err());
        assert!(ensure_acknowledged(&answer(200, r#"{"rows": 3, "quarantined": 1}"#), 200, 3).is_err());
        assert!(ensure_acknowledged(&answer(503, "{}"), 200, 3).is_err());
    }
}
