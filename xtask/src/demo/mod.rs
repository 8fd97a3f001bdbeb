//! `cargo xtask demo`: the main job on real data, from one curl to a query over the lake.
//!
//! Owns: the steps, in the order in which a newcomer would take them, and the checks on what comes out.
//! Does not own: the sidecar's behaviour; a demo that does not give the right rows fails.

mod cluster;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::cache::Cache;
use crate::cluster::ClusterChoice;
use crate::commands::{command, display, run_with_input};
use crate::demo::report::LakeFile;
use crate::flights::{Flights, YEAR_DAYS, YEAR_ROWS};
use crate::load::{self, Body, Limit, Progress, Sending};
use crate::numbers::{counted, grouped};
use crate::readers::{Rows, chdb_rows, clickhouse_source, duckdb_rows, duckdb_source};
use crate::servers::{S3Access, Sidecar, SidecarOptions, Weed, WeedOptions};
use crate::stopwatch::Stopwatch;
use crate::wait;
use crate::{interrupt, ports, prerequisites, test_run, tools};

/// The port that applications know.
const PORT: u16 = 8001;

/// The port of health and metrics.
const HEALTH_PORT: u16 = 8002;

/// The first request of everybody's first day, as the documentation has it.
const FIRST_BODY: &str =
    r#"{"table_name": "events", "records": [{"user_id": 123, "action": "purchase", "amount": 99.99}]}"#;

/// Requests under way at once.
const CONNECTIONS: usize = 4;

/// Records that are streamed one by one.
const STREAMED_RECORDS: usize = 5_000;

/// The files of the table `flights`, below the lake.
const FLIGHTS_GLOB: &str = "data/flights/**/*.parquet";

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct DemoOptions {
    /// Use an S3 server, started for the demo, instead of a folder
    #[arg(long)]
    s3: bool,
    /// The same job in a pod: on a Kubernetes of one node, with the operator and an S3 server
    #[arg(long, conflicts_with = "s3")]
    cluster: bool,
    #[command(flatten)]
    choice: ClusterChoice,
    /// Leave everything running at the end, until Ctrl-C, and keep the folder
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
///
/// # Errors
/// When something cannot be set up or built, a request is not acknowledged, or the lake does not hold what was sent.
pub fn run(options: &DemoOptions) -> Result<()> {
    if options.cluster {
        return cluster::run(&options.choice, options.keep);
    }
    ensure!(!options.choice.is_given(), "failed to use the cluster that was given: --kubeconfig goes with --cluster");
    let stopwatch = Stopwatch::start();
    heading("Setting up");
    tools::libduckdb()?;
    tools::readers()?;
    let flights_csv = tools::flights()?;
    if options.s3 {
        tools::weed()?;
    }
    println!("  libduckdb, readers and data are in {}", Cache::open()?.root().display());
    heading("Building the sidecar");
    test_run::build_sidecar()?;

    heading("Starting the sidecar");
    let stage = Stage::start(options)?;
    heading("One request by hand");
    first_request(&stage)?;
    heading("A backfill: the flights of 2013, a request for each day, four at a time");
    let flights = Flights::read(&flights_csv)?;
    backfill(&stage, &flights)?;
    heading(&format!("A stream: {} departures, one by one", grouped(STREAMED_RECORDS as u64)));
    stream(&stage, &flights)?;
    heading("Flush: all that was acknowledged goes to the lake now");
    flush(&stage)?;

    heading("The lake");
    print!("{}", report::tree(&stage.files()?));
    heading("What an analyst sees");
    query(&stage)?;
    stage.check_counts()?;
    println!("\nThe demo ran well, in {:.0} s.", stopwatch.seconds());
    stage.end(options.keep)
}

fn heading(text: &str) {
    println!("\n=== {text}");
}

/// What runs during the demo. Fields are dropped in this order: the folder goes last.
struct Stage {
    sidecar: Sidecar,
    weed: Option<Weed>,
    /// A folder or `s3://bucket`.
    lake: String,
    folder: TempDir,
}

impl Stage {
    fn start(options: &DemoOptions) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("lakeingest-demo-").tempdir().context("failed to make a folder")?;
        let weed = if options.s3 { Some(Weed::start(WeedOptions::new(folder.path().join("s3")))?) } else { None };
        let lake = match &weed {
            Some(weed) => format!("s3://{}", weed.access().bucket),
            None => folder.path().join("lake").display().to_string(),
        };
        if weed.is_none() {
            std::fs::create_dir_all(&lake).with_context(|| format!("failed to make {lake}"))?;
        }
        let sidecar = Sidecar::start(SidecarOptions {
            port: free_or_other(PORT),
            health_port: free_or_other(HEALTH_PORT),
            environment: weed.as_ref().map(Weed::environment).unwrap_or_default(),
            ..SidecarOptions::new(lake.clone(), folder.path().join("journal"))
        })?;
        println!("  lake:    {lake}");
        if let Some(weed) = &weed {
            println!("  S3:      {} (SeaweedFS)", weed.access().endpoint);
        }
        println!("  journal: {}", folder.path().join("journal").display());
        println!("  API:     {}", sidecar.url());
        println!("  health:  {}", sidecar.health_url("/health"));
        Ok(Self { sidecar, weed, lake, folder })
    }

    fn access(&self) -> Option<&S3Access> {
        self.weed.as_ref().map(Weed::access)
    }

    /// Every Parquet file of the lake, as a reader finds them.
    fn files(&self) -> Result<Vec<LakeFile>> {
        let sql = format!("SELECT filename, size FROM read_blob('{}/data/**/*.parquet')", self.lake);
        let file = |row: &Vec<serde_json::Value>| {
            let name = row[0].as_str().context("failed to read a file's name")?;
            let key = name.strip_prefix(&self.lake).unwrap_or(name).trim_start_matches('/');
            Ok(LakeFile { key: key.to_owned(), bytes: row[1].as_u64().context("failed to read a file's size")? })
        };
        duckdb_rows(&sql, self.access())?.rows.iter().map(file).collect()
    }

    /// Fails when a table does not hold exactly what was acknowledged.
    fn check_counts(&self) -> Result<()> {
        for (table, expected) in [("flights", YEAR_ROWS), ("departures", STREAMED_RECORDS as u64), ("events", 1)] {
            let source = duckdb_source(&self.lake, &format!("data/{table}/**/*.parquet"));
            let count = duckdb_rows(&format!("SELECT count(*) FROM {source}"), self.access())?.rows;
            ensure!(
                count == [[serde_json::json!(expected)]],
                "failed to find {expected} rows in {table}: a reader counts {count:?}"
            );
            println!("  {table}: {}, as many as were acknowledged", counted(expected, "row"));
        }
        Ok(())
    }

    /// Stops everything in order: the sidecar delivers before its S3 server goes.
    fn end(self, keep: bool) -> Result<()> {
        if keep {
            println!("\nEverything still runs: {}. Ctrl-C stops it.", self.sidecar.url());
            while !interrupt::requested() {
                self.sidecar.server().ensure_running()?;
                wait::pause();
            }
        }
        let status = self.sidecar.stop()?;
        ensure!(
            status.success(),
            "failed to stop the sidecar: {status}; its log: {}",
            self.sidecar.server().log_tail()
        );
        if let Some(weed) = &self.weed {
            weed.server().stop()?;
        }
        if keep {
            let folder: PathBuf = self.folder.keep();
            println!("Stopped. The folder is kept: {}", folder.display());
        } else {
            println!("Stopped; nothing is left behind. With --keep it goes on running and the folder stays.");
        }
        Ok(())
    }
}

/// The port that people expect; none, which means any, when it is taken.
fn free_or_other(port: u16) -> Option<u16> {
    if ports::is_free(port) {
        return Some(port);
    }
    println!("  port {port} is taken (see: ss -ltnp 'sport = :{port}'); the demo uses a free one instead");
    None
}

fn first_request(stage: &Stage) -> Result<()> {
    let url = format!("http://localhost:{}/ingest", stage.sidecar.port());
    let answer = if prerequisites::find("curl").is_some() {
        let mut curl = command("curl")?;
        curl.args(["-X", "POST", &url, "-d", FIRST_BODY]).env("NO_PROXY", "localhost");
        println!("  $ {}", display(&curl));
        String::from_utf8_lossy(&run_with_input(curl, &[])?).into_owned()
    } else {
        println!("  POST {url} (there is no curl on this machine)\n  {FIRST_BODY}");
        stage.sidecar.post("/ingest", None, FIRST_BODY)?.text()
    };
    println!("  {answer}");
    let parsed: serde_json::Value =
        serde_json::from_str(&answer).with_context(|| format!("failed to read the answer: {answer}"))?;
    ensure!(parsed["status"] == "ok" && parsed["rows"] == 1, "failed to have the first record taken");
    Ok(())
}

fn backfill(stage: &Stage, flights: &Flights) -> Result<()> {
    ensure!(
        flights.rows() == YEAR_ROWS && flights.days.len() == YEAR_DAYS,
        "failed to read the year's flights: {} rows of {} days",
        flights.rows(),
        flights.days.len()
    );
    let cpu_seconds_before = stage.sidecar.server().cpu_seconds()?;
    let sending = Sending::new("/ingest", CONNECTIONS, Limit::Requests(YEAR_DAYS), 200);
    let load = load::send(stage.sidecar.port(), sending, &Progress::start(YEAR_ROWS), |index| {
        let day = &flights.days[index];
        Ok(Body { rows: day.rows.len() as u64, bytes: flights.backfill_body(day)?.into() })
    })?;
    println!(
        "  {} rows in {:.1} s: {} per second, each in the lake when its request was answered",
        grouped(load.rows),
        load.seconds,
        load.rows_per_second()
    );
    println!(
        "  a request took {:.0} ms (median); the sidecar used {:.1} s of processor time and holds {} MiB",
        load.latencies.ms(50),
        stage.sidecar.server().cpu_seconds()? - cpu_seconds_before,
        stage.sidecar.server().rss_bytes()? / (1024 * 1024)
    );
    Ok(())
}

fn stream(stage: &Stage, flights: &Flights) -> Result<()> {
    let bodies = flights.departure_bodies(STREAMED_RECORDS);
    let limit = Limit::Requests(bodies.len());
    let sending = Sending::new("/ingest/stream", CONNECTIONS, limit, 202);
    let load = load::send(stage.sidecar.port(), sending, &Progress::start(bodies.len() as u64), |index| {
        Ok(Body { rows: 1, bytes: bodies[index].as_slice().into() })
    })?;
    println!(
        "  {} records in {:.1} s: {} per second, each on the disk when its request was answered ({:.1} ms median, \
         {:.1} ms p99)",
        grouped(load.rows),
        load.seconds,
        load.rows_per_second(),
        load.latencies.ms(50),
        load.latencies.ms(99)
    );
    Ok(())
}

fn flush(stage: &Stage) -> Result<()> {
    let stopwatch = Stopwatch::start();
    let files = load::flush(&stage.sidecar)?;
    println!("  {} written, in {:.1} s", counted(files as u64, "file"), stopwatch.seconds());
    Ok(())
}

fn query(stage: &Stage) -> Result<()> {
    let source = duckdb_source(&stage.lake, FLIGHTS_GLOB);
    let sql = format!(
        "SELECT carrier, month, count(*) AS flights, round(avg(dep_delay), 1) AS average_delay_minutes\n  \
         FROM {source}\n  \
         WHERE year = 2013 GROUP BY carrier, month HAVING count(*) > 1000\n  \
         ORDER BY average_delay_minutes DESC, carrier, month LIMIT 10"
    );
    println!("  Which carrier was late, and when? DuckDB:\n\n  {sql}\n");
    let stopwatch = Stopwatch::start();
    let rows = duckdb_rows(&sql, stage.access())?;
    println!("{}\n  ({:.1} s, with the start of Python)\n", report::table(&rows), stopwatch.seconds());
    if let Some(access) = stage.access() {
        compare_readers(stage, access)?;
    }
    Ok(())
}

/// DuckDB and ClickHouse must see the same flights; whole numbers alone, so that equal means equal.
fn compare_readers(stage: &Stage, access: &S3Access) -> Result<()> {
    let sql = |source: &str| {
        format!(
            "SELECT carrier, month, count(*) AS flights, sum(dep_delay) AS delay_minutes, sum(distance) AS miles \
             FROM {source} GROUP BY carrier, month ORDER BY carrier, month"
        )
    };
    let duckdb: Rows = duckdb_rows(&sql(&duckdb_source(&stage.lake, FLIGHTS_GLOB)), Some(access))?;
    let clickhouse: Rows = chdb_rows(&sql(&clickhouse_source(access, FLIGHTS_GLOB)))?;
    ensure!(
        duckdb == clickhouse,
        "failed to see the same in both readers:\nDuckDB:\n{}\nClickHouse:\n{}",
        report::table(&duckdb),
        report::table(&clickhouse)
    );
    println!(
        "  DuckDB and ClickHouse give the same {} rows for flights, delays and miles by carrier and month.",
        duckdb.rows.len()
    );
    Ok(())
}
