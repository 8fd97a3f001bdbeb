//! `cargo xtask demo --cluster`: one object, one annotation, and the same curl in a pod.
//!
//! Owns: the steps, as a platform engineer and then an application's developer would take them.
//! Does not own: the cluster, the chart and the manifests, which are those of the documentation.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{FIRST_BODY, heading, report};
use crate::cluster::{Cluster, ClusterChoice, Held, NAMESPACE, install};
use crate::commands::display;
use crate::examples;
use crate::numbers::mebibytes;
use crate::readers::{chdb_rows, clickhouse_source, duckdb_rows, duckdb_source};
use crate::servers::{S3Access, Weed, WeedOptions};
use crate::stopwatch::Stopwatch;
use crate::{interrupt, test_run, tools, wait};

/// The namespace of the examples.
const TEAM: &str = "team-a";

/// The files of the table, below the bucket.
const GLOB: &str = "data/events/**/*.parquet";

/// Pods that are admitted, and not created, to measure the webhook.
const ADMISSIONS: usize = 200;

/// Runs the demo.
///
/// # Errors
/// When this machine cannot have a cluster, something does not build or start, or the lake does not hold what was sent.
pub(super) fn run(choice: &ClusterChoice, keep: bool) -> Result<()> {
    let stopwatch = Stopwatch::start();
    heading("Setting up");
    tools::libduckdb()?;
    tools::readers()?;
    tools::weed()?;
    tools::helm()?;
    heading("Building the operator and the sidecar");
    test_run::build_release()?;
    heading("Starting a Kubernetes of one node, and an S3 server");
    let held = Held::up(choice)?;
    let cluster = held.cluster();
    make_room(cluster)?;
    let folder = tempfile::Builder::new().prefix("lakeingest-demo-").tempdir().context("failed to make a folder")?;
    let weed = Weed::start(WeedOptions { address: cluster.host_address(), ..WeedOptions::new(folder.path()) })?;
    println!("  S3: {} (SeaweedFS), bucket {}", weed.access().endpoint, weed.access().bucket);
    heading("Installing the operator: images onto the node, then the chart");
    install(cluster)?;

    heading("The platform engineer: a namespace, a Secret, a LakeIngest");
    for manifest in [
        examples::manifest("01-namespace.yaml")?,
        examples::manifest("02-secret.yaml")?,
        examples::lake_ingest(&weed.access().endpoint)?,
    ] {
        print!("{}", indented(&cluster.apply(&manifest)?));
    }
    cluster.run(["--namespace", TEAM, "wait", "--for=condition=Ready", "lakeingest/events", "--timeout=30s"])?;

    heading("The application's developer: a Deployment with one annotation");
    let since_applied = Stopwatch::start();
    print!("{}", indented(&cluster.apply(&examples::manifest("04-application.yaml")?)?));
    cluster.run(["--namespace", TEAM, "rollout", "status", "deployment/shop", "--timeout=60s"])?;
    println!("  the pod is ready after {:.1} s", since_applied.seconds());
    let answer = curl_in_pod(cluster)?;
    println!(
        "  {answer}\n  {:.1} s after `kubectl apply` of the pod its first record is in S3",
        since_applied.seconds()
    );

    heading("The lake");
    let file = answer["files"][0].as_str().context("failed to find the file in the answer")?;
    println!("  {file}");
    read(weed.access())?;
    heading("What Kubernetes says");
    show(cluster, &["get", "lakeingest"])?;
    show(cluster, &["get", "pods"])?;
    heading("What it costs");
    costs(cluster)?;

    println!("\nThe demo ran well, in {:.0} s.", stopwatch.seconds());
    if keep {
        held.keep()?;
        println!("\nEverything still runs. export KUBECONFIG={}", cluster.kubeconfig().display());
        println!("Ctrl-C stops the S3 server; the cluster stays until: cargo xtask cluster down");
        while !interrupt::requested() {
            weed.server().ensure_running()?;
            wait::pause();
        }
    } else {
        // The pods' sidecars deliver before their S3 server goes.
        cluster.run(["delete", "namespace", TEAM])?;
    }
    Ok(())
}

/// What an earlier demo has left goes; a namespace on somebody's own cluster is theirs.
fn make_room(cluster: &Cluster) -> Result<()> {
    if !cluster.is_here() {
        let found = cluster.run(["get", "namespace", TEAM, "--ignore-not-found", "--output=name"])?;
        ensure!(found.trim().is_empty(), "the cluster has a namespace {TEAM}, which the demo needs for itself");
    }
    cluster.run(["delete", "namespace", TEAM, "--ignore-not-found"])?;
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// The documentation's curl, in the application's container.
fn curl_in_pod(cluster: &Cluster) -> Result<Value> {
    let arguments = ["--namespace", TEAM, "exec", "deployment/shop", "--container", "app", "--"];
    let curl = ["curl", "--silent", "-X", "POST", "http://localhost:8001/ingest", "-d", FIRST_BODY];
    let command = [arguments.as_slice(), curl.as_slice()].concat();
    println!("  $ {}", display(&cluster.kubectl(command.iter().copied())?));
    let answer = cluster.run(command)?;
    let answer: Value =
        serde_json::from_str(&answer).with_context(|| format!("failed to read the answer: {answer}"))?;
    ensure!(answer["status"] == "ok" && answer["rows"] == 1, "failed to have the record taken: {answer}");
    Ok(answer)
}

/// Both engines read the row that was sent.
fn read(access: &S3Access) -> Result<()> {
    let columns = "user_id, action, amount";
    let duckdb_from = duckdb_source(&format!("s3://{}", access.bucket), GLOB);
    let duckdb = duckdb_rows(&format!("SELECT {columns} FROM {duckdb_from}"), Some(access))?;
    println!("\n  DuckDB, {duckdb_from}:\n{}", report::table(&duckdb));
    let clickhouse = chdb_rows(&format!("SELECT {columns} FROM {}", clickhouse_source(access, GLOB)))?;
    println!("  ClickHouse, s3('{}/{}/{GLOB}', …):\n{}", access.endpoint, access.bucket, report::table(&clickhouse));
    for rows in [&duckdb, &clickhouse] {
        ensure!(
            rows.rows.len() == 1 && rows.rows[0][..3] == [json!(123), json!("purchase"), json!(99.99)],
            "failed to find the one record that was sent: {rows:?}"
        );
    }
    Ok(())
}

fn show(cluster: &Cluster, what: &[&str]) -> Result<()> {
    let arguments = [&["--namespace", TEAM], what].concat();
    println!("  $ kubectl {}", arguments.join(" "));
    print!("{}", indented(&cluster.run(arguments)?));
    Ok(())
}

/// Memory of the operators, and the time of the webhook over many admissions.
fn costs(cluster: &Cluster) -> Result<()> {
    if cluster.is_here() {
        for (program, bytes) in cluster.memory_bytes()? {
            if program.starts_with("lakeingest-") {
                println!("  {program} holds {}", mebibytes(bytes));
            }
        }
    } else {
        println!("  NOT MEASURED: the memory of the operators and sidecars, which are not on this machine");
    }
    let pod = |index: usize| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("measured-{index}"), "namespace": TEAM, "annotations": {"lakeingest.io/inject": "events"}},
            "spec": {
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "app", "image": "lakeingest/demo-app:1",
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        })
    };
    let pods: Vec<Value> = (0..ADMISSIONS).map(pod).collect();
    let pods = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
    cluster.run_with_input(["create", "--dry-run=server", "--filename", "-"], &pods)?;
    let buckets = admission_buckets(cluster)?;
    let total = buckets.last().map_or(0, |(_, count)| *count);
    ensure!(total >= ADMISSIONS as u64, "failed to find {ADMISSIONS} admissions in the operators' metrics");
    let quantile = |percent: u64| {
        let found = buckets.iter().find(|(_, count)| count * 100 >= total * percent);
        found.map_or(f64::INFINITY, |(bound, _)| *bound * 1_000.0)
    };
    println!(
        "  the webhook decided over {total} pods; half of them within {:.1} ms, 99 % within {:.1} ms",
        quantile(50),
        quantile(99)
    );
    Ok(())
}

/// The histogram of the webhook's time over all operators: upper bounds in seconds, counts up to them.
fn admission_buckets(cluster: &Cluster) -> Result<Vec<(f64, u64)>> {
    let names =
        cluster.run(["--namespace", NAMESPACE, "get", "pods", "--output=jsonpath={.items[*].metadata.name}"])?;
    let mut buckets: BTreeMap<u64, (f64, u64)> = BTreeMap::new();
    for name in names.split_whitespace() {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics");
        let metrics = cluster.run(["get", "--raw", &path])?;
        for line in metrics.lines() {
            let Some(rest) = line.strip_prefix("lakeingest_operator_admission_duration_seconds_bucket{le=\"") else {
                continue;
            };
            let (bound, count) = rest.split_once("\"} ").context("failed to read a bucket of the histogram")?;
            let bound: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
            // Bounds are positive: their bits are in their order.
            buckets.entry(bound.to_bits()).or_insert((bound, 0)).1 += count.parse::<u64>()?;
        }
    }
    Ok(buckets.into_values().collect())
}
