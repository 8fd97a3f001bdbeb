//! The load of the demo: many requests, four at a time, with the progress shown.
//!
//! Owns: the threads that send, what counts as an acknowledgement, the time it took.
//! Does not own: what is sent (see `flights`).

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::interrupt;
use crate::servers::{Response, Sidecar};
use crate::stopwatch::Stopwatch;

/// Requests under way at once.
const CONCURRENCY: usize = 4;

/// What a load came to.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) rows: u64,
    pub(super) seconds: f64,
    /// One for each request, from the shortest to the longest.
    pub(super) latencies: Vec<Duration>,
}

impl Load {
    pub(super) fn rows_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate to be read by people")]
        let rows = self.rows as f64;
        rows / self.seconds
    }

    /// The latency that `percent` of the requests did not exceed. Unit: milliseconds.
    pub(super) fn latency_ms(&self, percent: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * percent / 100).copied().unwrap_or_default().as_secs_f64() * 1_000.0
    }
}

/// The part of an acknowledgement that the demo looks at.
#[derive(Deserialize)]
struct Acknowledgement {
    rows: Option<u64>,
    quarantined: Option<u64>,
}

/// Sends `count` bodies to `path`; `body` gives each with its number of rows.
///
/// # Errors
/// When a request is not acknowledged with all its rows, or on Ctrl-C.
pub(super) fn send_all(
    sidecar: &Sidecar,
    path: &str,
    count: usize,
    total_rows: u64,
    body: impl Fn(usize) -> Result<(u64, Vec<u8>)> + Sync,
) -> Result<Load> {
    let next = AtomicUsize::new(0);
    let latencies = Mutex::new(Vec::with_capacity(count));
    let progress = Progress::start(total_rows);
    let stopwatch = Stopwatch::start();
    let work = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            interrupt::check()?;
            let (rows, body) = body(index)?;
            let request = Stopwatch::start();
            let answer = sidecar.post(path, Some("application/json"), body)?;
            let latency = request.elapsed();
            ensure_acknowledged(&answer, rows)?;
            latencies.lock().expect("no holder of this lock panics").push(latency);
            progress.add(rows);
        }
    };
    let outcome: Result<()> = std::thread::scope(|scope| {
        let stopping_work = || {
            let outcome = work();
            if outcome.is_err() {
                // The others have no reason to go on.
                next.store(count, Ordering::Relaxed);
            }
            outcome
        };
        let workers: Vec<_> = (0..CONCURRENCY).map(|_| scope.spawn(stopping_work)).collect();
        let outcomes = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
        // Every worker is waited for before the first error is told.
        outcomes.collect::<Vec<_>>().into_iter().collect()
    });
    let seconds = stopwatch.seconds();
    progress.finish();
    outcome?;
    let mut latencies = latencies.into_inner().expect("no holder of this lock panics");
    latencies.sort_unstable();
    Ok(Load { rows: total_rows, seconds, latencies })
}

fn ensure_acknowledged(answer: &Response, rows: u64) -> Result<()> {
    if !matches!(answer.status, 200 | 202) {
        bail!("failed to have {rows} rows taken: status {}: {}", answer.status, answer.text());
    }
    let acknowledgement: Acknowledgement = answer.json()?;
    if acknowledgement.rows.is_some_and(|taken| taken != rows) || acknowledgement.quarantined.unwrap_or(0) != 0 {
        bail!("failed to have all {rows} rows taken: {}", answer.text());
    }
    Ok(())
}

/// A bar on a terminal; a line for every tenth elsewhere.
struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    fn start(total_rows: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(total_rows) } else { ProgressBar::hidden() };
        bar.set_length(total_rows);
        bar.set_style(
            ProgressStyle::with_template("  {bar:40} {human_pos} of {human_len} rows, {per_sec:.0}, {eta} left")
                .expect("the template is constant and valid"),
        );
        Self { bar, is_terminal }
    }

    fn add(&self, rows: u64) {
        let before = self.bar.position();
        self.bar.inc(rows);
        let total = self.bar.length().unwrap_or(1).max(1);
        let (tenth_before, tenth) = (before * 10 / total, (before + rows) * 10 / total);
        if !self.is_terminal && tenth > tenth_before {
            eprintln!("  {} of {total} rows", before + rows);
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
        assert!(ensure_acknowledged(&answer(200, r#"{"rows": 3, "quarantined": 0}"#), 3).is_ok());
        assert!(ensure_acknowledged(&answer(202, r#"{"buffered_rows": 9}"#), 1).is_ok());
        assert!(ensure_acknowledged(&answer(200, r#"{"rows": 2, "quarantined": 0}"#), 3).is_err());
        assert!(ensure_acknowledged(&answer(200, r#"{"rows": 3, "quarantined": 1}"#), 3).is_err());
        assert!(ensure_acknowledged(&answer(503, "{}"), 3).is_err());
    }

    #[test]
    fn percentiles_are_taken_from_the_sorted_latencies() {
        let latencies = (1..=101).map(Duration::from_millis).collect();
        let load = Load { rows: 101, seconds: 2.0, latencies };
        assert!((load.latency_ms(50) - 51.0).abs() < 1e-9);
        assert!((load.latency_ms(99) - 100.0).abs() < 1e-9);
        assert!((load.rows_per_second() - 50.5).abs() < 1e-9);
    }
}
