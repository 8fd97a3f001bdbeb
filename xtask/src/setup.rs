//! `cargo xtask setup`: everything that the other verbs need, at once.
//!
//! Owns: the order, and telling what is where.
//! Does not own: the single installs (see `tools`); each verb also installs what it needs itself.

use std::path::PathBuf;

use anyhow::Result;

use crate::stopwatch::Stopwatch;
use crate::tools;
use crate::versions::KUBERNETES;

/// Installs one thing and tells where it is.
type Install = fn() -> Result<PathBuf>;

/// What is installed, by name.
const TOOLS: [(&str, Install); 15] = [
    ("libduckdb", tools::libduckdb),
    ("cargo-nextest", tools::nextest),
    ("cargo-deny", tools::cargo_deny),
    ("S3 server", tools::weed),
    ("another S3 server", tools::minio),
    ("readers", tools::readers),
    ("flights", tools::flights),
    ("sets of records", tools::vega_datasets),
    ("sketch", tools::sketch),
    ("fuzzer of endpoints", tools::schemathesis),
    ("Kubernetes", || tools::kubernetes(&KUBERNETES[0])),
    ("etcd", tools::etcd),
    ("helm", tools::helm),
    ("helm-unittest", tools::helm_unittest),
    ("kubeconform", tools::kubeconform),
];

/// Installs whatever is missing.
///
/// # Errors
/// When a program that must be there already is missing, or a download fails.
pub fn run() -> Result<()> {
    let stopwatch = Stopwatch::start();
    for (index, (name, install)) in TOOLS.iter().enumerate() {
        eprintln!("[{}/{}] {name}", index + 1, TOOLS.len());
        eprintln!("  {}", install()?.display());
    }
    if let Err(error) = tools::container_runtime() {
        // Everything but the cluster works without it.
        eprintln!("warning: {error:#}");
    }
    eprintln!("Everything is set up ({:.1} s).", stopwatch.seconds());
    Ok(())
}
