//! `cargo xtask check`: everything that must hold besides the tests, each step named, timed, and run to the end.
//!
//! Owns: the list of steps, each with the command that mends it.
//! Does not own: the tests (see `test_run`).

mod chart;
mod log_messages;
mod manifests;
mod registry;
pub mod sources;
mod walls;

use anyhow::{Result, bail};

use crate::commands::{cargo, run_shown};
use crate::interrupt::{self, Interrupted};
use crate::stopwatch::Stopwatch;
use crate::tools;

/// What became of a step that did not fail.
enum Outcome {
    Holds,
    /// It could not be looked at here, for this reason; that is said and is no failure.
    NotChecked(&'static str),
}

/// One thing that must hold.
struct Step {
    name: &'static str,
    /// What to do when it does not hold.
    remedy: &'static str,
    run: fn() -> Result<Outcome>,
}

const STEPS: [Step; 11] = [
    Step { name: "format", remedy: "cargo fmt", run: || holds(format()) },
    Step {
        name: "module headers",
        remedy: "begin each file with `//! <one sentence>`",
        run: || holds(sources::check_headers()),
    },
    Step {
        name: "log messages",
        remedy: "write them constant, in lower case, without a full stop",
        run: || holds(log_messages::check()),
    },
    Step {
        name: "walls between the crates",
        remedy: "take the dependency out of the crate's Cargo.toml",
        run: || holds(walls::check()),
    },
    Step {
        name: "licences and sources",
        remedy: "change the dependency, or deny.toml with the reason",
        run: || holds(registry::check_crates()),
    },
    Step { name: "advisories", remedy: "cargo update --package <crate>", run: registry::check_advisories },
    Step { name: "chart", remedy: "mend what is named above, in charts/lakeingest", run: || holds(chart::check()) },
    Step {
        name: "the chart's templates",
        remedy: "mend the template, or its test in charts/lakeingest/tests",
        run: || holds(chart::check_templates()),
    },
    Step { name: "manifests", remedy: "mend the manifest that is named above", run: || holds(manifests::check()) },
    Step {
        name: "lints",
        remedy: "cargo clippy --release --workspace --all-targets --fix, then by hand",
        run: || holds(lints()),
    },
    Step { name: "docs", remedy: "mend the doc comments that are named above", run: || holds(docs()) },
];

/// Runs every step.
///
/// # Errors
/// When one of them fails, after all have run.
pub fn run() -> Result<()> {
    tools::libduckdb()?;
    let (mut failed, mut not_checked) = (Vec::new(), Vec::new());
    for (index, step) in STEPS.iter().enumerate() {
        eprintln!("[{}/{}] {} ...", index + 1, STEPS.len(), step.name);
        let stopwatch = Stopwatch::start();
        let outcome = (step.run)();
        interrupt::check()?;
        match outcome {
            Ok(Outcome::Holds) => eprintln!("  holds ({:.1} s)", stopwatch.seconds()),
            Ok(Outcome::NotChecked(reason)) => {
                eprintln!("  NOT CHECKED: {reason}");
                not_checked.push(step.name);
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                eprintln!("  FAILED ({:.1} s): {error:#}\n  to mend it: {}", stopwatch.seconds(), step.remedy);
                failed.push(step.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed checks: {}", failed.join(", "));
    }
    eprintln!("{} of {} checks hold.", STEPS.len() - not_checked.len(), STEPS.len());
    if !not_checked.is_empty() {
        eprintln!("Not checked: {}.", not_checked.join(", "));
    }
    Ok(())
}

fn holds(checked: Result<()>) -> Result<Outcome> {
    checked.map(|()| Outcome::Holds)
}

fn format() -> Result<()> {
    let mut fmt = cargo()?;
    fmt.args(["fmt", "--all", "--check"]);
    run_shown(fmt)
}

fn lints() -> Result<()> {
    let mut clippy = cargo()?;
    clippy.args(["clippy", "--release", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    run_shown(clippy)
}

fn docs() -> Result<()> {
    let mut doc = cargo()?;
    doc.env("RUSTDOCFLAGS", "-Dwarnings");
    doc.args(["doc", "--release", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    run_shown(doc)
}
