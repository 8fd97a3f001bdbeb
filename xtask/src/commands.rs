//! Commands that run to their end while a person waits: builds, installs, queries.
//!
//! Owns: showing what runs and for how long, ending it on Ctrl-C, showing its last words when it fails.
//! Does not own: servers, which run beside us (see `process`).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal, PipeReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt::{self, Interrupted};
use crate::prerequisites;
use crate::stopwatch::Stopwatch;
use crate::wait;

/// Lines of a failed command's output that its error repeats.
const LAST_WORDS_LINES: usize = 30;

/// Width of the part of an output line that the spinner repeats.
const SPINNER_LINE_CHARACTERS: usize = 70;

/// A command that ends when this process ends, however that ends.
///
/// `setpriv` sets the parent-death signal and then becomes the program, so the process id is the program's own.
///
/// # Errors
/// When the program or `setpriv` is missing.
pub fn command(program: impl AsRef<Path>) -> Result<Command> {
    bound_to_parent(program.as_ref().as_os_str(), "TERM")
}

/// As [`command`], with the signal that the program gets when this process is gone.
pub(crate) fn bound_to_parent(program: &OsStr, death_signal: &str) -> Result<Command> {
    prerequisites::require(Path::new("setpriv"))?;
    prerequisites::require(Path::new(program))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", death_signal, "--"]).arg(program);
    forget_our_own_cargo(&mut command);
    Ok(command)
}

/// Takes away what `cargo run` has set for us.
///
/// Build scripts look at these variables: with them a build from here and a build by hand would each time undo the
/// other's work, from `ring` to the sidecar.
fn forget_our_own_cargo(command: &mut Command) {
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_of_package = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        // Set by `.cargo/config.toml`, which the next cargo reads as well; another value is the user's own.
        let is_of_configuration = match &*text {
            "DUCKDB_LIB_DIR" => Path::new(&value) == crate::workspace::libduckdb_link(),
            "DUCKDB_NO_PKG_CONFIG" => value == "1",
            _ => false,
        };
        if is_of_package || is_of_configuration {
            command.env_remove(name);
        }
    }
}

/// `cargo` in the root of the workspace, of the toolchain that runs us.
///
/// # Errors
/// When cargo is missing.
pub fn cargo() -> Result<Command> {
    let mut cargo = command("cargo")?;
    cargo.current_dir(crate::workspace::root());
    Ok(cargo)
}

/// The command line as a person would type it.
pub fn display(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // The wrapper is ours and of no use to a reader.
    let shown = match words.iter().position(|word| word == "--") {
        Some(end) if words[0] == "setpriv" => &words[end + 1..],
        _ => &words[..],
    };
    shown.iter().map(|word| quoted(&abridged(word))).collect::<Vec<_>>().join(" ")
}

/// A word of many lines, such as a program, by its first line.
fn abridged(word: &str) -> String {
    match word.trim_end().split_once('\n') {
        Some((first, _)) => format!("{first} ..."),
        None => word.to_owned(),
    }
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "-_=./:,@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command whose own output is worth seeing, such as a build.
///
/// # Errors
/// When it cannot be started, fails, or is interrupted.
pub fn run_shown(mut command: Command) -> Result<()> {
    let status = run_for_status(&mut command)?;
    if !status.success() {
        bail!("failed to run `{}`: {status}", display(&command));
    }
    Ok(())
}

/// As [`run_shown`], with the exit status as the answer.
///
/// # Errors
/// When it cannot be started or is interrupted.
pub fn run_for_status(command: &mut Command) -> Result<ExitStatus> {
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("failed to start `{}`", display(command)))?;
    attend(&mut child)
}

/// Runs a command behind one line that says what is being done and for how long; gives its whole output.
///
/// # Errors
/// When it cannot be started, fails (the error repeats its last lines), or is interrupted.
pub fn run_quiet(label: &str, mut command: Command) -> Result<String> {
    let line = display(&command);
    let (reader, writer) = std::io::pipe().context("failed to make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("failed to make a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("failed to start `{line}`"))?;
    // The command holds ends of the pipe: without this the reader below would never see its end.
    drop(command);

    let stopwatch = Stopwatch::start();
    let spinner = spinner(label);
    let output = Arc::new(Mutex::new(String::new()));
    let collector = std::thread::spawn({
        let (output, spinner) = (Arc::clone(&output), spinner.clone());
        move || collect(reader, &output, &spinner)
    });
    let status = attend(&mut child);
    spinner.finish_and_clear();
    let status = status?;
    collector.join().expect("the collector only reads lines and does not panic");
    let output = std::mem::take(&mut *output.lock().expect("no holder of this lock panics"));
    if !status.success() {
        bail!("failed to run `{line}`: {status}\n{}", last_lines(&output, LAST_WORDS_LINES));
    }
    eprintln!("  {label}: done in {:.1} s", stopwatch.seconds());
    Ok(output)
}

/// Runs a command with `input` on its standard input; gives its standard output.
///
/// # Errors
/// When it cannot be started, fails (the error repeats the end of its standard error), or is interrupted.
pub fn run_with_input(mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
    let line = display(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start `{line}`"))?;
    let mut stdin = child.stdin.take().expect("standard input was asked for as a pipe");
    let written = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("failed to wait for `{line}`"))?;
    // The terminal's Ctrl-C reaches the command too: that is no failure of its own.
    interrupt::check()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run `{line}`: {}\n{}", output.status, last_lines(&errors, LAST_WORDS_LINES));
    }
    written.with_context(|| format!("failed to write to `{line}`"))?;
    Ok(output.stdout)
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Waits for the end of a child; on Ctrl-C ends it first.
fn attend(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("failed to wait for a command")? {
            // A command that Ctrl-C reached first is not a failure of its own.
            interrupt::check()?;
            return Ok(status);
        }
        if interrupt::requested() {
            end(child)?;
            return Err(Interrupted.into());
        }
        wait::pause();
    }
}

/// Asks a child to end, and ends it when it does not within a while.
fn end(child: &mut Child) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    // It has not been waited for, so its id cannot have become another's.
    let asked = kill_process(Pid::from_child(child), Signal::TERM);
    let stopwatch = Stopwatch::start();
    while asked.is_ok() && stopwatch.elapsed() < PATIENCE {
        if child.try_wait().context("failed to wait for a command")?.is_some() {
            return Ok(());
        }
        wait::pause();
    }
    child.kill().context("failed to kill a command")?;
    child.wait().context("failed to wait for a command")?;
    Ok(())
}

fn collect(reader: PipeReader, output: &Mutex<String>, spinner: &ProgressBar) {
    let mut lines = BufReader::new(reader);
    let mut bytes = Vec::new();
    while matches!(lines.read_until(b'\n', &mut bytes), Ok(length) if length > 0) {
        let line = String::from_utf8_lossy(&bytes);
        let shown: String = line.trim().chars().take(SPINNER_LINE_CHARACTERS).collect();
        spinner.set_message(shown);
        output.lock().expect("no holder of this lock panics").push_str(&line);
        bytes.clear();
    }
}

/// A line that moves on a terminal; one plain line elsewhere.
fn spinner(label: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("  {label} ...");
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_prefix(label.to_owned());
    spinner.set_style(
        ProgressStyle::with_template("  {spinner} {prefix} {elapsed}  {msg}")
            .expect("the template is constant and valid"),
    );
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_repeats_its_last_words() {
        let mut shell = command("sh").expect("sh is there");
        shell.args(["-c", "echo first; echo why it failed >&2; exit 3"]);
        let message = run_quiet("failing", shell).expect_err("it exits 3").to_string();
        assert!(message.contains("why it failed") && message.contains("exit status: 3"), "{message}");
    }

    #[test]
    fn input_reaches_the_command_and_its_output_comes_back() {
        let output = run_with_input(command("cat").expect("cat is there"), b"through").expect("cat works");
        assert_eq!(output, b"through");
    }

    #[test]
    fn a_command_line_is_shown_without_the_wrapper_and_can_be_pasted() {
        let mut shell = command("sh").expect("sh is there");
        shell.args(["-c", "echo it's"]);
        assert_eq!(display(&shell), r"sh -c 'echo it'\''s'");
    }

    #[test]
    fn a_program_on_a_command_line_is_shown_by_its_first_line() {
        let mut shell = command("sh").expect("sh is there");
        shell.args(["-c", "echo one\necho two\n", "last"]);
        assert_eq!(display(&shell), "sh -c 'echo one ...' last");
    }

    #[test]
    fn a_command_does_not_inherit_what_cargo_says_of_this_crate() {
        let mut environment = command("env").expect("env is there");
        // Cargo sets it for every test that it runs.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        environment.arg("--null");
        let output = run_with_input(environment, &[]).expect("env works");
        let names = String::from_utf8_lossy(&output);
        assert!(!names.contains("CARGO_PKG_") && !names.contains("CARGO_MANIFEST_"), "{names}");
    }
}
