//! `cargo xtask test`: every test that there is, on what would be shipped.
//!
//! Owns: what is set up and built before, and the order.
//! Does not own: how tests are grouped and timed (`.config/nextest.toml`).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cluster::{ClusterChoice, Held, install};
use crate::commands::{cargo, command, run_shown, run_with_input};
use crate::numbers::counted;
use crate::{check, tools, workspace};

/// The tests that need a cluster, by nextest's id of their program.
const ON_CLUSTER: [&str; 2] = ["lakeingest-tests::cluster", "lakeingest-tests::policies"];

/// The tests that need a cluster whose node is this machine.
const ON_NODE: &str = "lakeingest-tests::node";

/// The tests that cut the power of a file system, for which they must be root.
const ON_VOLUME: &str = "lakeingest-tests::power_cuts";

/// The tests that end a process at a system call.
const ON_STRACE: &str = "lakeingest-tests::syscalls";

/// The tests with a wall clock that jumps.
const ON_FAKETIME: &str = "lakeingest-tests::clock_jumps";

/// nextest's expression for every test.
const EVERY_TEST: &str = "all()";

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct TestOptions {
    /// Run only the tests whose name holds one of these words
    filter: Vec<String>,
    /// Run only the tests that this expression of nextest's selects, for example 'binary(cluster)'
    #[arg(short = 'E', long, value_name = "EXPRESSION", default_value = EVERY_TEST)]
    filterset: String,
    #[command(flatten)]
    choice: ClusterChoice,
}

/// Sets up, builds everything that the tests start, and runs the tests. A cluster is there for those that need one.
///
/// # Errors
/// When something cannot be set up or built, or a test fails.
pub fn run(options: &TestOptions) -> Result<()> {
    eprintln!("Setting up what the tests need ...");
    tools::libduckdb()?;
    let nextest = tools::nextest()?;
    // Here, where a person sees the progress, and not inside the first test that needs them.
    tools::weed()?;
    tools::minio()?;
    tools::readers()?;
    tools::flights()?;
    tools::schemathesis()?;
    tools::vega_datasets()?;
    let (strace, faketime) = (tools::strace(), tools::faketime());

    eprintln!("Building everything ...");
    build_everything()?;
    build_seeded_sidecar()?;

    // Before the others, so that the closing line of the run tells of the bulk of the tests.
    if options.filter.is_empty() && options.filterset == EVERY_TEST && has_doctests()? {
        let mut doctests = cargo()?;
        doctests.args(["test", "--release", "--locked", "--workspace", "--doc"]);
        run_shown(doctests)?;
    }
    let selected = selected(&nextest, options)?;
    let held = hold_cluster(options, &selected)?;
    let mut expression = options.filterset.clone();
    let mut left_out: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut leave_out = |program: &str, reason: &'static str| {
        left_out.push((reason, of_program(&selected, program)));
        expression = format!("({expression}) - binary_id({program})");
    };
    if held.as_ref().is_some_and(|held| !held.cluster().is_here()) {
        leave_out(ON_NODE, "on a cluster that was given, whose node is not this machine");
    }
    if !can_cut_power() {
        leave_out(ON_VOLUME, "without root and loop devices, which cutting the power of a file system needs");
    }
    for (tool, program, reason) in
        [(&strace, ON_STRACE, "without strace"), (&faketime, ON_FAKETIME, "without libfaketime")]
    {
        if let Err(error) = tool {
            eprintln!("{error:#}");
            leave_out(program, reason);
        }
    }
    let mut tests = nextest_verb(&nextest, "run", options, &expression)?;
    tests.envs(held.iter().flat_map(|held| held.cluster().environment()));
    let outcome = run_shown(tests);
    for (reason, names) in left_out.iter().filter(|(_, names)| !names.is_empty()) {
        eprintln!("NOT RUN {reason}: {}", listed(names));
    }
    outcome
}

/// One of nextest's verbs over the tests that were chosen.
fn nextest_verb(nextest: &Path, verb: &str, options: &TestOptions, expression: &str) -> Result<Command> {
    let mut tests = command(nextest)?;
    tests.current_dir(workspace::root());
    tests.args(["nextest", verb, "--release", "--locked", "--workspace", "--filterset", expression]);
    tests.args(&options.filter);
    Ok(tests)
}

/// The tests that were chosen, each as its program's id and its name.
fn selected(nextest: &Path, options: &TestOptions) -> Result<Vec<(String, String)>> {
    let mut list = nextest_verb(nextest, "list", options, &options.filterset)?;
    list.args(["--message-format", "oneline", "--cargo-quiet"]);
    let output = run_with_input(list, &[])?;
    let pair = |line: &str| line.split_once(' ').map(|(program, name)| (program.to_owned(), name.to_owned()));
    Ok(String::from_utf8_lossy(&output).lines().filter_map(pair).collect())
}

fn of_program<'a>(selected: &'a [(String, String)], program: &str) -> Vec<&'a str> {
    selected.iter().filter(|(found, _)| found == program).map(|(_, name)| name.as_str()).collect()
}

/// Whether this user may mount a file system from a file.
fn can_cut_power() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").try_exists().unwrap_or(false)
}

/// How many tests, and which.
fn listed(names: &[&str]) -> String {
    let list: String = names.iter().map(|name| format!("\n  {name}")).collect();
    format!("{}{list}", counted(names.len() as u64, "test"))
}

/// A cluster with the operator, if one of the tests needs it.
fn hold_cluster(options: &TestOptions, selected: &[(String, String)]) -> Result<Option<Held>> {
    let needing: usize = ON_CLUSTER.iter().chain([&ON_NODE]).map(|program| of_program(selected, program).len()).sum();
    if needing == 0 {
        return Ok(None);
    }
    eprintln!("Starting a cluster for {} ...", counted(needing as u64, "test"));
    tools::helm()?;
    let held = Held::up(&options.choice)?;
    install(held.cluster())?;
    Ok(Some(held))
}

/// Runs the test of certificates that are replaced, with so many of them, on a cluster of its own.
///
/// # Errors
/// When something cannot be set up or built, or the test fails.
pub fn rotate(rotations: u32) -> Result<()> {
    torture_on_cluster("i10_certificates_are_replaced", "LAKEINGEST_TEST_ROTATIONS", rotations)
}

/// Runs the test of an operator that is killed at its writes, with so many kills, on a cluster of its own.
///
/// # Errors
/// When something cannot be set up or built, or the test fails.
pub fn kill_operators(kills: u32) -> Result<()> {
    torture_on_cluster("an_operator_that_is_killed", "LAKEINGEST_TEST_OPERATOR_KILLS", kills)
}

fn torture_on_cluster(test: &str, variable: &str, number: u32) -> Result<()> {
    tools::libduckdb()?;
    let nextest = tools::nextest()?;
    build_everything()?;
    let options = TestOptions {
        filter: vec![test.to_owned()],
        filterset: format!("binary_id({})", ON_CLUSTER[0]),
        choice: ClusterChoice::default(),
    };
    let held = hold_cluster(&options, &selected(&nextest, &options)?)?;
    let mut test = nextest_verb(&nextest, "run", &options, &options.filterset)?;
    test.args(["--profile", "torture", "--success-output", "final"]);
    test.env(variable, number.to_string());
    test.envs(held.iter().flat_map(|held| held.cluster().environment()));
    run_shown(test)
}

/// Builds every program and every test in one go: cargo gives the crates that they share one set of features then, so
/// that the sidecar which the tests start is built from what they are built from, once.
fn build_everything() -> Result<()> {
    let mut build = cargo()?;
    build.args(["build", "--release", "--locked", "--workspace", "--bins", "--tests"]);
    run_shown(build)
}

/// Builds the sidecar that can have a known bug, beside the one that has none. The same features of everything else, so
/// that only the sidecar's own crate is compiled a second time.
///
/// # Errors
/// When it does not build.
pub fn build_seeded_sidecar() -> Result<()> {
    let mut build = cargo()?;
    build.args(["build", "--release", "--locked", "--workspace", "--bin", "lakeingest-sidecar-seeded"]);
    build.args(["--features", "lakeingest-sidecar/seeded-bugs"]);
    run_shown(build)
}

/// Builds the programs that are released, with cargo's own progress.
///
/// # Errors
/// When one does not build.
pub fn build_release() -> Result<()> {
    let mut build = cargo()?;
    // As the tests have them: the same features, so that each is built once.
    build.args(["build", "--release", "--locked", "--workspace", "--bins"]);
    run_shown(build)
}

/// Builds the sidecar's binary alone, with cargo's own progress.
///
/// # Errors
/// When it does not build.
pub fn build_sidecar() -> Result<()> {
    let mut build = cargo()?;
    // Of the workspace: the same features as in every other build, so that nothing is built twice.
    build.args(["build", "--release", "--locked", "--workspace", "--bin", "lakeingest-sidecar"]);
    run_shown(build)
}

/// Whether any doc comment holds code that rustdoc would run.
fn has_doctests() -> Result<bool> {
    for file in check::sources::rust_files(workspace::root())? {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        if has_doctest(&text) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A fence opens a doctest unless it says that it holds something else.
fn has_doctest(text: &str) -> bool {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        let Some(comment) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        let Some(language) = comment.trim().strip_prefix("```") else { continue };
        if !inside && ["", "rust", "no_run", "should_panic"].contains(&language.trim()) {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_of_text_is_no_doctest_and_neither_is_its_end() {
        assert!(!has_doctest("//! ```text\n//! a picture\n//! ```\n"));
        assert!(has_doctest("/// ```\n/// assert!(true);\n/// ```\n"));
    }
}
