//! Events as an application sends them: what a million of them costs, by how many are in a request.
//!
//! Owns: the events, the requests of them, the comparison with what loads the same events from a file.
//! Does not own: the servers.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;

use super::sketch::Sketch;
use super::{Bench, DuckdbAlone, ensure_counted_in, per_million, stop, table};
use crate::load::{self, Body, Limit, Load, Progress, Sending};
use crate::numbers::{grouped, mebibytes, per_second};
use crate::process::Server;
use crate::readers::run_program;
use crate::servers::{S3Access, Sidecar, SidecarOptions, Weed, WeedOptions};
use crate::stopwatch::Stopwatch;

const DUCKDB_EVENTS: &str = include_str!("duckdb_events.py");

const ARROW_EVENTS: &str = include_str!("arrow_events.py");

/// Events that DuckDB loads.
const EVENTS: u64 = 1_000_000;

/// Days over which they are spread.
const DAYS: [&str; 3] = ["2026-01-08", "2026-01-09", "2026-01-10"];

const KINDS: [&str; 3] = ["view", "click", "order"];

/// What is sent; single events are fewer, since they take as long.
const SENDINGS: [Events; 3] = [(1_000, EVENTS, 8), (100, EVENTS / 2, 8), (1, EVENTS / 10, 256)];

/// Appends event `number` as JSON. Its values follow from its number; about 160 bytes, like what a web page reports.
fn append_event(text: &mut String, number: u64) {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 17;
    let (user, page, kind) = (mixed % 50_000, mixed % 997, KINDS[place(mixed, KINDS.len())]);
    let (day, second) = (DAYS[day_of(number)], mixed % 86_400);
    let time = (second / 3_600, second / 60 % 60, second % 60, mixed % 1_000);
    // A third has no amount, and of the others some say so.
    let amount = match mixed % 6 {
        0 | 1 => String::new(),
        2 => r#""amount":null,"#.to_owned(),
        _ => format!(r#""amount":{}.{:02},"#, mixed % 500, mixed % 100),
    };
    let written = write!(
        text,
        r#"{{"id":{number},"user":"u{user}","type":"{kind}","timestamp":"{day}T{:02}:{:02}:{:02}.{:03}Z","url":"/p/{page}",{amount}"properties":{{"os":"linux","v":{}}},"tags":["a","b{}"]}}"#,
        time.0,
        time.1,
        time.2,
        time.3,
        mixed % 40,
        mixed % 7,
    );
    written.expect("a text takes what is written");
}

/// The place in [`DAYS`] of an event: a thousand that follow one another are of one day.
fn day_of(number: u64) -> usize {
    place(number / 1_000, DAYS.len())
}

/// A place among so many.
fn place(number: u64, count: usize) -> usize {
    usize::try_from(number).unwrap_or_default() % count
}

/// The body of a request with `count` events from `first` on, which are of one day.
pub(super) fn body_of(table_name: &str, first: u64, count: u64) -> Vec<u8> {
    let date = DAYS[day_of(first)];
    let mut text = format!(r#"{{"table_name":"{table_name}","partition_date":"{date}","records":["#);
    for number in first..first + count {
        if number > first {
            text.push(',');
        }
        append_event(&mut text, number);
    }
    text.push_str("]}");
    text.into_bytes()
}

impl Bench<'_> {
    /// Events on S3: DuckDB from a file, then the sidecar with more and fewer of them in a request.
    pub(super) fn events(&self) -> Result<()> {
        let folder = self.folder.join("events");
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let weed = Weed::start(WeedOptions::new(folder.join("s3-server")))?;
        table::section("events of about 160 bytes, three days, S3 as the lake (SeaweedFS, here)");
        let alone = duckdb_alone(&events_file(&folder), weed.access())?;
        for sending in SENDINGS {
            let (rows, _, connections) = sending;
            let words = if rows == 1 { "event" } else { "events" };
            table::section(&format!(" {} {words} a request, {connections} connections", grouped(rows)));
            self.sketch(&weed, &alone, &folder, sending)?;
            self.sidecar(&weed, &alone, sending)?;
        }
        self.columns(&weed, &alone, &folder)?;
        weed.server().stop()?;
        Ok(())
    }

    /// The same events as Arrow streams.
    fn columns(&self, weed: &Weed, alone: &DuckdbAlone, folder: &Path) -> Result<()> {
        const ROWS: u64 = 1_000;
        let streams = folder.join("streams");
        std::fs::create_dir_all(&streams).with_context(|| format!("failed to make {}", streams.display()))?;
        let question = json!({"events": events_file(folder), "folder": streams, "rows": ROWS});
        let written: Streams = run_program(ARROW_EVENTS, &question).context("failed to write the events as streams")?;
        ensure!(written.streams * ROWS == EVENTS, "{} streams were written", written.streams);
        table::section(&format!(" {} events a request as an Arrow stream, 8 connections", grouped(ROWS)));
        let sidecar = self.sidecar_on(weed, "columns")?;
        let limit = Limit::Requests(usize::try_from(written.streams).context("a machine's word counts them")?);
        let sending = Sending {
            content_type: "application/vnd.apache.arrow.stream",
            ..Sending::new("/ingest/stream?table_name=columns", 8, limit, 202)
        };
        let body = |index: usize| {
            let path = streams.join(index.to_string());
            let bytes = std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            Ok(Body { rows: ROWS, bytes: bytes.into() })
        };
        let flush = || load::flush(&sidecar).map(drop);
        let measured = measured(sidecar.port(), sidecar.server(), sending, body, flush)?;
        self.print("the sidecar", &measured, alone);
        ensure_counted_in(weed, "data/columns", measured.load.rows)?;
        stop(&sidecar)
    }

    /// What acknowledges without keeping anything.
    fn sketch(&self, weed: &Weed, alone: &DuckdbAlone, folder: &Path, sending: Events) -> Result<()> {
        let table_name = format!("sketch_{}", sending.0);
        let sketch = Sketch::start(weed, folder)?;
        let measured = send(sketch.port(), sketch.server(), &table_name, sending, || sketch.flush())?;
        self.print("the sketch, which keeps nothing", &measured, alone);
        ensure_counted_in(weed, &format!("sketch/{table_name}"), measured.load.rows)?;
        sketch.server().kill()?;
        Ok(())
    }

    fn sidecar(&self, weed: &Weed, alone: &DuckdbAlone, sending: Events) -> Result<()> {
        let table_name = format!("events_{}", sending.0);
        let sidecar = self.sidecar_on(weed, &table_name)?;
        let measured =
            send(sidecar.port(), sidecar.server(), &table_name, sending, || load::flush(&sidecar).map(drop))?;
        self.print("the sidecar", &measured, alone);
        ensure_counted_in(weed, &format!("data/{table_name}"), measured.load.rows)?;
        stop(&sidecar)
    }

    /// A sidecar with a bucket as its lake.
    fn sidecar_on(&self, weed: &Weed, name: &str) -> Result<Sidecar> {
        let lake = format!("s3://{}", weed.access().bucket);
        Sidecar::start(SidecarOptions { lake: Some(lake), environment: weed.environment(), ..self.options(name)? })
    }

    fn print(&self, name: &str, measured: &Measured, alone: &DuckdbAlone) {
        let Measured { load, seconds, cpu_seconds_per_million, peak_bytes } = measured;
        table::figure(name, &format!("{} events/s", per_second(load.rows, *seconds)));
        let ratio = load.latencies.ms(50) / self.small_append.ms(50);
        table::compared("  time of a request", &table::latencies(&load.latencies), ratio, "sync");
        let figure = format!("{cpu_seconds_per_million:.2} s per million events");
        let ratio = cpu_seconds_per_million / alone.cpu_seconds_per_million();
        table::compared("  processor time", &figure, ratio, "DuckDB");
        table::figure("  memory, at its peak", &mebibytes(*peak_bytes));
    }
}

/// Events of a request, how many are sent in all, and requests under way at once.
type Events = (u64, u64, usize);

/// The events, an object a line.
fn events_file(folder: &Path) -> PathBuf {
    folder.join("events.ndjson")
}

/// What was written for the sidecar to read.
#[derive(Deserialize)]
struct Streams {
    streams: u64,
}

/// What sending came to.
struct Measured {
    load: Load,
    /// Until everything was in the lake.
    seconds: f64,
    cpu_seconds_per_million: f64,
    peak_bytes: u64,
}

/// Sends events and waits until they are in the lake.
fn send(
    port: u16,
    server: &Server,
    table_name: &str,
    (rows, total, connections): Events,
    flush: impl FnOnce() -> Result<()>,
) -> Result<Measured> {
    let requests = usize::try_from(total / rows).context("a machine's word counts the requests")?;
    let limit = Limit::Requests(requests);
    let sending = Sending::new("/ingest/stream", connections, limit, 202);
    let body = |index: usize| {
        let first = u64::try_from(index).unwrap_or_default() * rows;
        Ok(Body { rows, bytes: body_of(table_name, first, rows).into() })
    };
    measured(port, server, sending, body, flush)
}

/// Sends bodies and waits until they are in the lake.
fn measured<'a>(
    port: u16,
    server: &Server,
    sending: Sending<'_>,
    body: impl Fn(usize) -> Result<Body<'a>> + Sync,
    flush: impl FnOnce() -> Result<()>,
) -> Result<Measured> {
    let (cpu_seconds_before, stopwatch) = (server.cpu_seconds()?, Stopwatch::start());
    let load = load::send(port, sending, &Progress::hidden(), body)?;
    flush()?;
    let seconds = stopwatch.seconds();
    let cpu_seconds_per_million = per_million(server.cpu_seconds()? - cpu_seconds_before, load.rows);
    Ok(Measured { load, seconds, cpu_seconds_per_million, peak_bytes: server.peak_rss_bytes()? })
}

/// The events in a file, loaded by DuckDB.
fn duckdb_alone(file: &Path, access: &S3Access) -> Result<DuckdbAlone> {
    let failed = || format!("failed to write {}", file.display());
    let mut output = BufWriter::new(File::create(file).with_context(failed)?);
    let mut line = String::new();
    for number in 0..EVENTS {
        line.clear();
        append_event(&mut line, number);
        line.push('\n');
        output.write_all(line.as_bytes()).with_context(failed)?;
    }
    output.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(failed)?;
    let endpoint = access.endpoint.trim_start_matches("http://");
    let question = json!({
        "events": file,
        "target": format!("s3://{}/alone", access.bucket),
        "s3": {
            "access_key": access.access_key,
            "secret_key": access.secret_key,
            "region": access.region,
            "endpoint": endpoint,
        },
    });
    let alone: DuckdbAlone = run_program(DUCKDB_EVENTS, &question).context("failed to load the events")?;
    ensure!(alone.rows == EVENTS, "failed to load the events with DuckDB: {} rows", alone.rows);
    let rate = format!("{} events/s", per_second(alone.rows, alone.wall_seconds));
    table::figure("from a file by DuckDB, 1 thread [DuckDB]", &rate);
    table::figure("  its processor time", &format!("{:.2} s per million events", alone.cpu_seconds_per_million()));
    Ok(alone)
}
