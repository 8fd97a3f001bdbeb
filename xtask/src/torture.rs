//! `cargo xtask torture`: what the tests do to the sidecar and to the operator for a minute, for as long as a person wants.
//!
//! Owns: the options, and building what is run. Does not own: the tortures (`tests/src/torture`).

use anyhow::Result;

use crate::commands::{command, run_shown};
use crate::{test_run, tools, workspace};

/// Options of `cargo xtask torture`.
#[derive(Debug, Clone, clap::Args)]
pub struct TortureOptions {
    /// Cut the power of the journal's file system so many times (needs root and loop devices)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub cuts: u32,
    /// Kill, end, cut the power and take the lake away at random for so long
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub minutes: u32,
    /// Compare so many generated records of every type, value by value, with what DuckDB and pyarrow read
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub values: u64,
    /// Send 50,000 events a second for so long, over slow uploads, and look at the memory
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub slow_minutes: u32,
    /// Kill at every system call that changes a disk (needs strace)
    #[arg(long)]
    pub syscalls: bool,
    /// Replace so many certificates of three operators on a cluster, while pods are created (a minute for a hundred)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rotations: u32,
    /// Kill so many operators at their writes to the API server, one at each further write (a minute for ten)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub operator_kills: u32,
    /// Make the choices of an earlier run again
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
}

/// Sets up, builds and tortures; without an option, one minute of faults at random.
///
/// # Errors
/// When something cannot be set up or built, or a promise was broken.
pub fn run(options: &TortureOptions) -> Result<()> {
    if options.rotations > 0 {
        test_run::rotate(options.rotations)?;
    }
    if options.operator_kills > 0 {
        test_run::kill_operators(options.operator_kills)?;
    }
    tools::libduckdb()?;
    tools::readers()?;
    if options.syscalls {
        tools::strace()?;
    }
    test_run::build_release()?;
    let TortureOptions { cuts, minutes, values, slow_minutes, rotations, operator_kills, syscalls, seed: _ } = *options;
    let is_default = cuts == 0 && minutes == 0 && values == 0 && slow_minutes == 0 && !syscalls;
    if is_default && (rotations > 0 || operator_kills > 0) {
        return Ok(());
    }
    let minutes = if is_default { 1 } else { minutes };
    let mut torture = command(workspace::target().join("release/lakeingest-torture"))?;
    torture.arg(format!("--cuts={cuts}"));
    torture.arg(format!("--minutes={minutes}"));
    torture.arg(format!("--values={values}"));
    torture.arg(format!("--slow-minutes={slow_minutes}"));
    if options.syscalls {
        torture.arg("--syscalls");
    }
    torture.args(options.seed.map(|seed| format!("--seed={seed}")));
    run_shown(torture)
}
