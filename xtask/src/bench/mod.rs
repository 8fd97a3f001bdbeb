//! `cargo xtask bench`: what the sidecar costs and gives on this machine, each figure against one of the machine's own.
//!
//! Owns: what is measured, in which order, and against what. Figures of two runs or two machines are not comparable;
//! their ratios are meant to be.
//! Does not own: limits; nothing here passes or fails by a figure, but a lost row fails the run.

mod admission;
mod events;
mod machine;
mod replay;
mod sketch;
mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::json;

use crate::commands::{command, run_with_input};
use crate::flights::{Flights, YEAR_DAYS, YEAR_ROWS};
use crate::load::{self, Body, Limit, Load, Progress, Sending};
use crate::numbers::{Latencies, float, grouped, mebibytes, per_second};
use crate::readers::{duckdb_rows, duckdb_source, run_program};
use crate::servers::{S3Access, Sidecar, SidecarOptions, Weed, WeedOptions};
use crate::stopwatch::Stopwatch;
use crate::wait::{self, Look};
use crate::{test_run, tools, workspace};

const DUCKDB_LOAD: &str = include_str!("duckdb_load.py");

/// Length of the small append: about what one record's frame has. Unit: bytes.
const SMALL_APPEND_BYTES: usize = 256;

/// Small appends that are timed.
const SMALL_APPENDS: usize = 500;

/// Appends as long as a request of many records that are timed.
const LARGE_APPENDS: usize = 100;

/// Starts that are timed.
const STARTS: usize = 5;

/// How long single records are sent.
const SINGLE_TIME: Duration = Duration::from_secs(4);

/// Records of a request of many.
const BATCH_ROWS: usize = 1_000;

/// Requests of many records: a million records in all.
const BATCHES: usize = 1_000;

/// Different bodies, which are sent in turn.
const DIFFERENT_BODIES: usize = 100;

/// Requests under way at once, where the name of a figure does not say otherwise.
const CONNECTIONS: usize = 8;

/// Requests of the backfill under way at once.
const BACKFILL_CONNECTIONS: usize = 4;

/// What is measured.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Measure this part alone
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

/// A part of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Starts with an empty journal
    Start,
    /// Real flights, one and many in a request
    Flights,
    /// Made events, in requests of each size and format
    Events,
    /// A start with a full journal
    Replay,
    /// Creation of pods, on a cluster; it is measured only when it is asked for
    Admission,
}

/// Runs the bench.
///
/// # Errors
/// When something cannot be set up or built, a request is not acknowledged, or the lake does not hold what was sent.
pub fn run(options: &BenchOptions) -> Result<()> {
    tools::libduckdb()?;
    tools::readers()?;
    tools::sketch()?;
    tools::weed()?;
    let flights = Flights::read(&tools::flights()?)?;
    // Before the build, which would be seen in it.
    let machine = machine::describe()?;
    test_run::build_sidecar()?;

    // On the volume of the checkout: a temporary folder is often memory, which keeps nothing and costs nothing.
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(workspace::target());
    let folder = folder.context("failed to make a folder")?;
    println!("{machine}\n");
    table::header();
    if options.only == Some(Part::Admission) {
        return admission::run(folder.path());
    }
    let bench = Bench::prepare(folder.path(), &flights)?;
    let is_wanted = |part: Part| options.only.is_none_or(|only| only == part);
    if is_wanted(Part::Start) {
        bench.starts()?;
    }
    if is_wanted(Part::Flights) {
        let directory = bench.directory()?;
        bench.s3(&directory)?;
    }
    if is_wanted(Part::Events) {
        bench.events()?;
    }
    if is_wanted(Part::Replay) {
        bench.replay()?;
    }
    bench.disturbance()?;
    println!("\nEvery acknowledged row was counted in the lake.");
    Ok(())
}

/// What all measurements stand on.
struct Bench<'a> {
    folder: &'a Path,
    flights: &'a Flights,
    single_bodies: Vec<Vec<u8>>,
    batch_bodies: Vec<Vec<u8>>,
    small_append: Latencies,
    large_append: Latencies,
    alone: DuckdbAlone,
}

/// DuckDB loading the year's CSV, without anything else.
#[derive(Deserialize)]
struct DuckdbAlone {
    rows: u64,
    wall_seconds: f64,
    cpu_seconds: f64,
}

impl DuckdbAlone {
    fn cpu_seconds_per_million(&self) -> f64 {
        per_million(self.cpu_seconds, self.rows)
    }
}

/// What a million records in requests of many came to.
struct Batches {
    load: Load,
    /// From the first request until every record was in the lake.
    cpu_seconds_per_million: f64,
}

impl<'a> Bench<'a> {
    fn prepare(folder: &'a Path, flights: &'a Flights) -> Result<Self> {
        let single_bodies = flights.stream_bodies("single", 1, DIFFERENT_BODIES)?;
        let batch_bodies = flights.stream_bodies("batches", BATCH_ROWS, DIFFERENT_BODIES)?;
        let batch_bytes = batch_bodies.first().context("failed to make a request of flights")?.len();

        table::section(&format!("this machine alone ({})", machine::file_system(folder)?));
        let small_append = machine::append_and_sync(folder, SMALL_APPEND_BYTES, SMALL_APPENDS)?;
        table::figure("append of 256 bytes and fdatasync [sync]", &table::latencies(&small_append));
        let large_append = machine::append_and_sync(folder, batch_bytes, LARGE_APPENDS)?;
        let ratio = large_append.ms(50) / small_append.ms(50);
        let name = format!("append of {} KiB and fdatasync [large sync]", batch_bytes / 1024);
        table::compared(&name, &table::latencies(&large_append), ratio, "sync");

        let output = folder.join("alone");
        let alone: DuckdbAlone =
            run_program(DUCKDB_LOAD, &json!({"csv": tools::flights()?, "folder": output})).context("failed to load")?;
        ensure!(alone.rows == YEAR_ROWS, "failed to load the year with DuckDB: {} rows", alone.rows);
        table::figure(
            "flights from CSV by DuckDB, 1 thread [DuckDB]",
            &format!("{} rows/s", per_second(alone.rows, alone.wall_seconds)),
        );
        table::figure("  its processor time", &format!("{:.2} s per million rows", alone.cpu_seconds_per_million()));
        Ok(Self { folder, flights, single_bodies, batch_bodies, small_append, large_append, alone })
    }

    /// From nothing to the first acknowledgement, each time with an empty journal.
    fn starts(&self) -> Result<()> {
        table::section("start");
        let version = || {
            let stopwatch = Stopwatch::start();
            let mut version = command(workspace::sidecar_binary())?;
            version.arg("--version");
            run_with_input(version, &[])?;
            Ok(stopwatch.elapsed())
        };
        let versions = Latencies::new((0..STARTS).map(|_| version()).collect::<Result<_>>()?);
        table::figure("lakeingest-sidecar --version [process]", &format!("p50 {:.0} ms", versions.ms(50)));
        let start = |index: usize| {
            let options = self.options(&format!("start-{index}"))?;
            let stopwatch = Stopwatch::start();
            let sidecar = Sidecar::spawn(options)?;
            self.first_acknowledgement(&sidecar)?;
            let elapsed = stopwatch.elapsed();
            sidecar.kill()?;
            Ok(elapsed)
        };
        let starts = Latencies::new((0..STARTS).map(start).collect::<Result<_>>()?);
        let figure = format!("p50 {:.0} ms", starts.ms(50));
        table::compared("until the first record is acknowledged", &figure, starts.ms(50) / versions.ms(50), "process");
        Ok(())
    }

    /// Sends a record until it is acknowledged.
    fn first_acknowledgement(&self, sidecar: &Sidecar) -> Result<()> {
        wait::until("the first acknowledgement", || {
            sidecar.server().ensure_running()?;
            let answer = sidecar.post("/ingest/stream", Some("application/json"), &self.single_bodies[0]);
            Ok(match answer {
                Ok(answer) if answer.status == 202 => Look::Ready(()),
                Ok(answer) => Look::NotYet(answer.text()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
    }

    /// Everything with a folder as the lake.
    fn directory(&self) -> Result<Batches> {
        let options = self.options("folder")?;
        let lake = options.lake.clone().context("the bench names its lake")?;
        let sidecar = Sidecar::start(options)?;
        let idle_bytes = sidecar.server().rss_bytes()?;

        table::section("single records to /ingest/stream, a folder as the lake");
        let mut singles = 0;
        for connections in [1, CONNECTIONS] {
            singles += self.singles(&sidecar, connections)?;
        }
        table::section("a record to /ingest, in the lake when it is acknowledged");
        singles += self.single_to_the_lake(&sidecar)?;
        let batches = self.batches(&sidecar, "a folder as the lake", None)?;
        self.backfill(&sidecar)?;

        table::section("memory of the sidecar");
        table::figure("after its start [idle]", &mebibytes(idle_bytes));
        let peak_bytes = sidecar.server().peak_rss_bytes()?;
        table::compared(
            "at its peak, in all of the above",
            &mebibytes(peak_bytes),
            float(peak_bytes) / float(idle_bytes),
            "idle",
        );

        for (table_name, rows) in [("single", singles), ("batches", batches.load.rows), ("flights", YEAR_ROWS)] {
            ensure_counted(&lake, table_name, rows, None)?;
        }
        stop(&sidecar)?;
        Ok(batches)
    }

    /// The requests of many records again, with S3 as the lake.
    fn s3(&self, directory: &Batches) -> Result<()> {
        let weed = Weed::start(WeedOptions::new(self.folder.join("s3-server")))?;
        let lake = format!("s3://{}", weed.access().bucket);
        let options =
            SidecarOptions { lake: Some(lake.clone()), environment: weed.environment(), ..self.options("s3")? };
        let sidecar = Sidecar::start(options)?;
        let batches = self.batches(&sidecar, "S3 as the lake (SeaweedFS, here)", Some(directory))?;
        ensure_counted(&lake, "batches", batches.load.rows, Some(weed.access()))?;
        stop(&sidecar)?;
        weed.server().stop()?;
        Ok(())
    }

    /// The first measurement once more: far from 1, something else was at work on this machine.
    fn disturbance(&self) -> Result<()> {
        table::section("this machine alone, again");
        let small_append = machine::append_and_sync(self.folder, SMALL_APPEND_BYTES, SMALL_APPENDS)?;
        let ratio = small_append.ms(50) / self.small_append.ms(50);
        table::compared("append of 256 bytes and fdatasync", &table::latencies(&small_append), ratio, "sync");
        Ok(())
    }

    fn singles(&self, sidecar: &Sidecar, connections: usize) -> Result<u64> {
        let sending = Sending::new("/ingest/stream", connections, Limit::Time(SINGLE_TIME), 202);
        let load = self.send_singles(sidecar, sending)?;
        let name = if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") };
        table::figure(&name, &format!("{} records/s", load.rows_per_second()));
        let ratio = load.latencies.ms(50) / self.small_append.ms(50);
        table::compared("  time of a request", &table::latencies(&load.latencies), ratio, "sync");
        if connections == 1 {
            return Ok(load.rows);
        }
        let peak = float(load.rows) / load.seconds;
        let half = self.send_singles(sidecar, Sending { per_second: Some(peak / 2.0), ..sending })?;
        let ratio = half.latencies.ms(99) / self.small_append.ms(99);
        let name = format!("  at {} records/s, by the clock", half.rows_per_second());
        table::compared(&name, &table::latencies(&half.latencies), ratio, "sync's p99");
        Ok(load.rows + half.rows)
    }

    fn single_to_the_lake(&self, sidecar: &Sidecar) -> Result<u64> {
        let sending = Sending::new("/ingest", 1, Limit::Requests(DIFFERENT_BODIES), 200);
        let load = self.send_singles(sidecar, sending)?;
        let ratio = load.latencies.ms(50) / self.small_append.ms(50);
        table::compared("1 connection, time of a request", &table::latencies(&load.latencies), ratio, "sync");
        Ok(load.rows)
    }

    fn send_singles(&self, sidecar: &Sidecar, sending: Sending<'_>) -> Result<Load> {
        load::send(sidecar.port(), sending, &Progress::hidden(), |index| {
            Ok(Body { rows: 1, bytes: self.single_bodies[index % self.single_bodies.len()].as_slice().into() })
        })
    }

    fn batches(&self, sidecar: &Sidecar, lake: &str, directory: Option<&Batches>) -> Result<Batches> {
        table::section(&format!("{BATCH_ROWS} records a request to /ingest/stream, {CONNECTIONS} connections, {lake}"));
        let limit = Limit::Requests(BATCHES);
        let sending = Sending::new("/ingest/stream", CONNECTIONS, limit, 202);
        let (cpu_seconds_before, stopwatch) = (sidecar.server().cpu_seconds()?, Stopwatch::start());
        let load = load::send(sidecar.port(), sending, &Progress::hidden(), |index| {
            let body = &self.batch_bodies[index % self.batch_bodies.len()];
            Ok(Body { rows: BATCH_ROWS as u64, bytes: body.as_slice().into() })
        })?;
        load::flush(sidecar)?;
        let seconds_to_lake = stopwatch.seconds();
        let cpu_seconds = sidecar.server().cpu_seconds()? - cpu_seconds_before;
        let batches = Batches { cpu_seconds_per_million: per_million(cpu_seconds, load.rows), load };

        let rate = format!("{} records/s", batches.load.rows_per_second());
        match directory {
            Some(directory) => {
                let ratio = directory.load.seconds / batches.load.seconds;
                table::compared("until all is acknowledged", &rate, ratio, "folder");
            }
            None => table::figure("until all is acknowledged [folder]", &rate),
        }
        let rate = per_second(batches.load.rows, seconds_to_lake);
        let ratio = float(batches.load.rows) / seconds_to_lake * self.alone.wall_seconds / float(self.alone.rows);
        table::compared("until all is in the lake", &format!("{rate} records/s"), ratio, "DuckDB");
        let ratio = batches.load.latencies.ms(50) / self.large_append.ms(50);
        table::compared("time of a request", &table::latencies(&batches.load.latencies), ratio, "large sync");
        self.processor_time(batches.cpu_seconds_per_million);
        Ok(batches)
    }

    fn backfill(&self, sidecar: &Sidecar) -> Result<()> {
        table::section(&format!("backfill to /ingest, a day a request, {BACKFILL_CONNECTIONS} connections"));
        let limit = Limit::Requests(YEAR_DAYS);
        let sending = Sending::new("/ingest", BACKFILL_CONNECTIONS, limit, 200);
        let cpu_seconds_before = sidecar.server().cpu_seconds()?;
        let load = load::send(sidecar.port(), sending, &Progress::hidden(), |index| {
            let day = &self.flights.days[index];
            Ok(Body { rows: day.rows.len() as u64, bytes: self.flights.backfill_body(day)?.into() })
        })?;
        let cpu_seconds = sidecar.server().cpu_seconds()? - cpu_seconds_before;
        let figure = format!("{} rows/s", load.rows_per_second());
        let name = format!("{} rows until all are in the lake", grouped(load.rows));
        table::compared(&name, &figure, self.alone.wall_seconds / load.seconds, "DuckDB");
        self.processor_time(per_million(cpu_seconds, load.rows));
        Ok(())
    }

    fn processor_time(&self, cpu_seconds_per_million: f64) {
        let ratio = cpu_seconds_per_million / self.alone.cpu_seconds_per_million();
        let figure = format!("{cpu_seconds_per_million:.2} s per million rows");
        table::compared("processor time of the sidecar", &figure, ratio, "DuckDB");
    }

    /// What DuckDB alone takes for so many rows.
    fn alone_seconds(&self, rows: u64) -> f64 {
        self.alone.wall_seconds / float(self.alone.rows) * float(rows)
    }

    /// A sidecar with a journal and a lake of its own.
    fn options(&self, name: &str) -> Result<SidecarOptions> {
        let folder = self.folder.join(name);
        let lake = folder.join("lake");
        std::fs::create_dir_all(&lake).with_context(|| format!("failed to make {}", lake.display()))?;
        Ok(SidecarOptions::new(lake.display().to_string(), folder.join("journal")))
    }
}

fn stop(sidecar: &Sidecar) -> Result<()> {
    let status = sidecar.stop()?;
    ensure!(status.success(), "failed to stop the sidecar: {status}; its log: {}", sidecar.server().log_tail());
    Ok(())
}

/// Figures of a run that lost a row are worth nothing.
fn ensure_counted(lake: &str, table_name: &str, rows: u64, access: Option<&S3Access>) -> Result<()> {
    ensure_counted_below(lake, &format!("data/{table_name}"), rows, access)
}

/// As [`ensure_counted`], for a folder of a bucket.
fn ensure_counted_in(weed: &Weed, folder: &str, rows: u64) -> Result<()> {
    ensure_counted_below(&format!("s3://{}", weed.access().bucket), folder, rows, Some(weed.access()))
}

fn ensure_counted_below(lake: &str, folder: &str, rows: u64, access: Option<&S3Access>) -> Result<()> {
    let source = duckdb_source(lake, &format!("{folder}/**/*.parquet"));
    let counted = duckdb_rows(&format!("SELECT count(*) FROM {source}"), access)?.rows;
    ensure!(counted == [[json!(rows)]], "failed to find {rows} rows in {folder}: a reader counts {counted:?}");
    Ok(())
}

fn per_million(seconds: f64, rows: u64) -> f64 {
    seconds / float(rows) * 1e6
}
