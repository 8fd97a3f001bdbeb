//! The cluster's servers as processes that outlive the command that starts them.
//!
//! Owns: starting one detached, and noticing that one has ended. Does not own: which ones, and their end (see `host`).

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::commands::last_lines;
use crate::prerequisites;
use crate::wait::{self, Look};

use super::state;

/// Lines of a log that an error repeats.
const LOG_TAIL_LINES: usize = 15;

/// The servers that were started so far.
#[derive(Debug, Default)]
pub(super) struct Servers {
    started: Vec<(&'static str, Child)>,
}

impl Servers {
    /// Starts a server in a session of its own, its output in a log of its own.
    pub(super) fn start(&mut self, name: &'static str, program: &Path, arguments: &[OsString]) -> Result<()> {
        prerequisites::require(Path::new("setsid"))?;
        let path = log_of(name);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("failed to open {}", path.display()))?;
        let child = Command::new("setsid")
            .arg(program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        self.started.push((name, child));
        Ok(())
    }

    /// As [`wait::until`]; a server that ends is noticed at once, with the end of its log.
    pub(super) fn wait_until(&mut self, what: &str, mut look: impl FnMut() -> Result<Look<()>>) -> Result<()> {
        wait::until(what, || {
            self.ensure_running()?;
            look()
        })
    }

    fn ensure_running(&mut self) -> Result<()> {
        for (name, child) in &mut self.started {
            if let Some(status) = child.try_wait().with_context(|| format!("failed to look after {name}"))? {
                let path = log_of(name);
                let log = std::fs::read(&path).unwrap_or_default();
                let tail = last_lines(&String::from_utf8_lossy(&log), LOG_TAIL_LINES);
                bail!("{name} has ended: {status}\n  log: {}\n{tail}", path.display());
            }
        }
        Ok(())
    }
}

fn log_of(name: &str) -> PathBuf {
    state(&format!("log/{name}.log"))
}

/// Arguments of many types as one list.
pub(super) fn arguments<const N: usize>(arguments: [String; N]) -> Vec<OsString> {
    arguments.into_iter().map(Into::into).collect()
}
