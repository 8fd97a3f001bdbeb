//! Servers: processes that run beside us and must never outlive us.
//!
//! Owns: starting a server in a process group of its own (the terminal's Ctrl-C reaches only us, and we stop the
//! servers in order), its log file, stopping and killing it by its id, and its end when we end in any way.
//! Does not own: when it is ready and how it is spoken to (see `servers`).

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::commands::{bound_to_parent, display, last_lines};
use crate::stopwatch::Stopwatch;
use crate::wait::{self, Look, TimedOut};

/// How long a server may take to end after SIGTERM before it is killed.
/// The sidecar answers and delivers what it holds first, for which it gives itself 60 s.
const STOP_PATIENCE: Duration = Duration::from_secs(75);

/// Lines of the log that an error repeats.
const LOG_TAIL_LINES: usize = 30;

/// What is started.
#[derive(Debug, Clone)]
pub struct ServerCommand {
    /// What people call it.
    pub name: String,
    /// The program, as a path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside those that it inherits; none of our own `AWS_*` is inherited.
    pub environment: Vec<(String, OsString)>,
    /// Where its output goes; appended to, so that a restart keeps what came before.
    pub log: PathBuf,
}

/// A server that was started; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    name: String,
    command_line: String,
    log: PathBuf,
    pid: u32,
    child: Mutex<Child>,
}

impl Server {
    /// Starts the server. It may still fail a moment later: see [`Server::ensure_running`].
    ///
    /// # Errors
    /// When the program is missing, the log cannot be opened or the process cannot be made.
    pub fn start(server: ServerCommand) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&server.log)
            .with_context(|| format!("failed to open the log {}", server.log.display()))?;
        let mut command = bound_to_parent(server.program.as_os_str(), "KILL")?;
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .args(&server.arguments)
            .envs(server.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("failed to share the log")?)
            .stderr(log)
            .process_group(0);
        let command_line = display(&command);
        let child = launch(command).with_context(|| format!("failed to start {}: {command_line}", server.name))?;
        Ok(Self { name: server.name, command_line, log: server.log, pid: child.id(), child: Mutex::new(child) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        self.child().try_wait().with_context(|| format!("failed to look after {}", self.name))
    }

    /// Fails once the server has ended.
    ///
    /// # Errors
    /// With its exit status, its command line and the last lines of its log.
    pub fn ensure_running(&self) -> Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => Err(self.explain(&format!("{} has ended: {status}", self.name))),
        }
    }

    /// As [`wait::until`], for something that this server does: its end is noticed at once.
    ///
    /// # Errors
    /// When the server ends or time runs out, with its command line and the last lines of its log; or as `look`.
    pub fn wait_until<T>(&self, what: &str, mut look: impl FnMut() -> Result<Look<T>>) -> Result<T> {
        wait::until(what, || {
            self.ensure_running()?;
            look()
        })
        .map_err(|error| if error.is::<TimedOut>() { self.explain(&format!("{error:#}")) } else { error })
    }

    /// An error about this server, with its command line and the last lines of its log.
    pub fn explain(&self, what: &str) -> anyhow::Error {
        anyhow!("{what}\n  command: {}\n  log: {}\n{}", self.command_line, self.log.display(), self.log_tail())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        match std::fs::read(&self.log) {
            Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), LOG_TAIL_LINES),
            Err(error) => format!("(failed to read the log: {error})"),
        }
    }

    /// Sends a signal, such as STOP and CONT; a server that has ended gets none.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        if child.try_wait().with_context(|| format!("failed to look after {}", self.name))?.is_some() {
            return Ok(());
        }
        // It has not been waited for, and nobody else can while we hold the lock: the id is still its own.
        kill_process(Pid::from_child(&child), signal).with_context(|| format!("failed to signal {}", self.name))
    }

    /// Asks it to end and waits; gives its exit status.
    ///
    /// # Errors
    /// When it had to be killed because it did not end in time.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let stopwatch = Stopwatch::start();
        // No look at Ctrl-C here: stopping is what Ctrl-C asks for.
        while stopwatch.elapsed() < STOP_PATIENCE {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            wait::pause();
        }
        self.kill()?;
        bail!("{} did not end within {} s of SIGTERM and was killed", self.name, STOP_PATIENCE.as_secs())
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> Result<ExitStatus> {
        let mut child = self.child();
        child.kill().with_context(|| format!("failed to kill {}", self.name))?;
        child.wait().with_context(|| format!("failed to wait for {}", self.name))
    }

    /// Memory that it holds now. Unit: bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn rss_bytes(&self) -> Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most memory that it has held since its start. Unit: bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        let kibibytes = self
            .proc_file("status")?
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .with_context(|| format!("failed to find {field} in the process's status"))?;
        Ok(kibibytes * 1024)
    }

    /// Processor time that it has used, of all its threads. Unit: seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc_file("stat")?;
        // The name in brackets may hold blanks; after it come the fields from the third on, utime and stime
        // being the fourteenth and the fifteenth.
        let (_, fields) = stat.rsplit_once(')').context("failed to read the process's stat")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u32>)
            .sum::<Result<u32, _>>()
            .context("failed to read the process's times")?;
        let ticks_per_second =
            u32::try_from(rustix::param::clock_ticks_per_second()).context("failed to read the length of a tick")?;
        Ok(f64::from(ticks) / f64::from(ticks_per_second))
    }

    fn proc_file(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.pid);
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Server {
    /// A test that fails shows what its servers said last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last lines of {}, {}:\n{}", self.name, self.log.display(), self.log_tail());
        }
        match self.stop() {
            Ok(status) if status.success() || status.signal().is_some() => {}
            Ok(status) => eprintln!("{} ended badly: {status}; its log: {}", self.name, self.log.display()),
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

/// A command to start, and where the child is handed back.
type Launch = (Command, SyncSender<std::io::Result<Child>>);

/// Starts a command from a thread that lives as long as this process.
///
/// The parent-death signal is sent when the *thread* that started the child ends, so a server that a short-lived
/// thread started would be killed with it.
fn launch(command: Command) -> Result<Child> {
    static LAUNCHER: OnceLock<SyncSender<Launch>> = OnceLock::new();
    let launcher = LAUNCHER.get_or_init(|| {
        let (sender, receiver) = sync_channel::<Launch>(1);
        std::thread::spawn(move || {
            while let Ok((mut command, answer)) = receiver.recv() {
                // Whoever asked waits for the answer, so there is always a receiver.
                answer.send(command.spawn()).expect("the one who asked waits");
            }
        });
        sender
    });
    let (answer, child) = sync_channel(1);
    launcher.send((command, answer)).ok().context("the launching thread has ended")?;
    Ok(child.recv().context("the launching thread has ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Server {
        Server::start(ServerCommand {
            name: "a shell".to_owned(),
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            log: folder.join("log"),
        })
        .expect("sh is there")
    }

    fn log_holds(server: &Server, text: &str) {
        wait::until("the shell's output", || {
            let log = server.log_tail();
            Ok(if log.contains(text) { Look::Ready(()) } else { Look::NotYet(log) })
        })
        .expect("the shell says so");
    }

    #[test]
    fn a_server_that_has_ended_is_noticed_with_its_last_words() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = shell(folder.path(), "echo no such bucket; exit 7");
        let outcome: Result<()> = wait::until("readiness", || {
            server.ensure_running()?;
            Ok(Look::NotYet("running".to_owned()))
        });
        let message = outcome.expect_err("it ends").to_string();
        assert!(message.contains("no such bucket") && message.contains("exit status: 7"), "{message}");
    }

    #[test]
    fn stop_asks_and_kill_does_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let endings = [Server::stop, Server::kill].map(|end| {
            let server = shell(folder.path(), "echo up; exec tail -f /dev/null");
            log_holds(&server, "up");
            end(&server).expect("it ends").signal()
        });
        assert_eq!(endings, [Some(Signal::TERM.as_raw()), Some(Signal::KILL.as_raw())]);
    }

    #[test]
    fn a_signal_to_a_server_that_has_ended_goes_to_nobody() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = shell(folder.path(), "exec tail -f /dev/null");
        server.kill().expect("it ends");
        server.signal(Signal::TERM).expect("there is nobody to refuse");
    }

    #[test]
    fn a_server_survives_the_thread_that_started_it_and_ends_when_dropped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        let server = std::thread::spawn(move || shell(&path, "echo up; exec tail -f /dev/null"))
            .join()
            .expect("the thread ends well");
        log_holds(&server, "up");
        server.ensure_running().expect("it still runs");
        let proc = PathBuf::from(format!("/proc/{}", server.pid()));
        drop(server);
        assert!(!proc.try_exists().expect("/proc can be read"));
    }
}
