//! A journal that is nearly full at the start, as after a long absence of S3 and the end of a node.
//!
//! Owns: how it is filled, what is measured then. Does not own: what is sent (`events`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};
use serde_json::Value;

use super::events::body_of;
use super::{Bench, ensure_counted_in, stop, table};
use crate::load::{self, Body, Limit, Progress, Sending};
use crate::numbers::{float, grouped, mebibytes};
use crate::servers::{Sidecar, SidecarOptions, Weed, WeedOptions};
use crate::stopwatch::Stopwatch;
use crate::wait::{self, Look};

/// The share of its volume that a journal takes by default, 80 % of 2 GiB, and a twentieth less. Unit: bytes.
const JOURNAL_BYTES: u64 = 1_632_000_000;

/// Events of a request.
const ROWS: u64 = 1_000;

/// How long the lake may take to hold it all.
const PATIENCE: Duration = Duration::from_secs(300);

impl Bench<'_> {
    /// From the start with a full journal to the first acknowledgement, and until the lake has it all.
    pub(super) fn replay(&self) -> Result<()> {
        let folder = self.folder.join("replay");
        let weed = Weed::start(WeedOptions::new(folder.join("s3-server")))?;
        let options = SidecarOptions {
            lake: Some(format!("s3://{}", weed.access().bucket)),
            environment: weed.environment(),
            ..self.options("replay")?
        };
        let sidecar = Sidecar::start(options.clone())?;
        let s3_port = weed.s3_port();
        weed.server().kill()?;
        drop(weed);

        let one = body_of("replay", 0, ROWS).len() as u64;
        let requests = usize::try_from(JOURNAL_BYTES / one).context("a machine's word counts the requests")?;
        let limit = Limit::Requests(requests);
        let sending = Sending::new("/ingest/stream", 8, limit, 202);
        let load = load::send(sidecar.port(), sending, &Progress::hidden(), |index| {
            let first = u64::try_from(index).unwrap_or_default() * ROWS;
            Ok(Body { rows: ROWS, bytes: body_of("replay", first, ROWS).into() })
        })?;
        sidecar.kill()?;
        let files = files_below(&options.journal)?;
        let bytes = files.iter().map(|(_, bytes)| bytes).sum::<u64>();
        table::section(&format!("start with a journal of {}, kill -9 before, S3 as the lake", mebibytes(bytes)));

        forget(&files)?;
        let stopwatch = Stopwatch::start();
        for (path, _) in &files {
            let mut file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
            std::io::copy(&mut file, &mut std::io::sink()).context("failed to read the journal")?;
        }
        let read_seconds = stopwatch.seconds();
        table::figure("reading its files, of which memory has none [read]", &rate(bytes, read_seconds));

        let weed = Weed::start(WeedOptions { s3_port: Some(s3_port), ..WeedOptions::new(folder.join("s3-server")) })?;
        forget(&files)?;
        let stopwatch = Stopwatch::start();
        let sidecar = Sidecar::spawn(options)?;
        self.first_acknowledgement(&sidecar)?;
        let first_seconds = stopwatch.seconds();
        let figure = format!("{first_seconds:.2} s, {}", rate(bytes, first_seconds));
        table::compared("until the first record is acknowledged", &figure, first_seconds / read_seconds, "read");
        table::figure("  memory then", &mebibytes(sidecar.server().rss_bytes()?));

        wait::until_within(PATIENCE, "an empty journal", || {
            sidecar.server().ensure_running()?;
            let health: Value = serde_json::from_slice(&sidecar.get_health("/health")?.body)?;
            let rows = health["backlog"]["rows"].as_u64();
            Ok(if rows == Some(0) { Look::Ready(()) } else { Look::NotYet(format!("{rows:?} rows wait")) })
        })?;
        let seconds = stopwatch.seconds();
        let name = format!("until {} rows are in the lake", grouped(load.rows));
        table::compared(&name, &rate(bytes, seconds), self.alone_seconds(load.rows) / seconds, "DuckDB");
        table::figure("  memory at its peak", &mebibytes(sidecar.server().peak_rss_bytes()?));
        ensure_counted_in(&weed, "data/replay", load.rows)?;
        ensure_counted_in(&weed, "data/single", 1)?;
        stop(&sidecar)?;
        weed.server().stop()?;
        Ok(())
    }
}

fn rate(bytes: u64, seconds: f64) -> String {
    format!("{:.0} MB/s", float(bytes) / seconds / 1e6)
}

/// Every file below a folder, with its length.
fn files_below(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => files.extend(files_below(&entry.path())?),
            false => files.push((entry.path(), entry.metadata()?.len())),
        }
    }
    Ok(files)
}

/// Has the system forget what it has of files in memory: a node that comes back has nothing of them.
fn forget(files: &[(PathBuf, u64)]) -> Result<()> {
    for (path, _) in files {
        let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
        file.sync_all().context("failed to sync a file")?;
        fadvise(&file, 0, None, Advice::DontNeed).context("failed to let the system forget a file")?;
    }
    Ok(())
}
