//! `cargo xtask fuzz`: the fuzz targets, which every test run feeds for some seconds, for as long as a person wants.
//!
//! Owns: the options. Does not own: the targets and their corpus (`sidecar/src/fuzz.rs`, `sidecar/fuzz`).

use anyhow::Result;

use crate::commands::{command, run_shown};
use crate::{tools, workspace};

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Clone, clap::Args)]
pub struct FuzzOptions {
    /// Feed each target so many changed inputs
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub iterations: u64,
    /// Make the changes of an earlier run again
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Feed these targets alone: bodies, columns, frames, logs, keys, sql, types
    pub targets: Vec<String>,
}

/// Builds the targets and feeds them. An input that breaks one is printed, with where to keep it.
///
/// # Errors
/// When one does not build, or breaks.
pub fn run(options: &FuzzOptions) -> Result<()> {
    tools::libduckdb()?;
    let mut tests = command(tools::nextest()?)?;
    tests.current_dir(workspace::root());
    tests.args(["nextest", "run", "--release", "--locked", "--workspace", "--profile", "fuzz", "--no-capture"]);
    let wanted: Vec<String> = options.targets.iter().map(|target| format!("test(fuzz_{target})")).collect();
    let wanted = if wanted.is_empty() { "test(fuzz_)".to_owned() } else { wanted.join(" | ") };
    tests.args(["--filterset", &format!("package(lakeingest-sidecar) & ({wanted})")]);
    tests.env("LAKEINGEST_FUZZ_ITERATIONS", options.iterations.to_string());
    tests.envs(options.seed.map(|seed| ("LAKEINGEST_TEST_SEED", seed.to_string())));
    run_shown(tests)
}
