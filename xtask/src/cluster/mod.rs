//! A Kubernetes of one node on this machine, from package registries alone and without a container engine.
//!
//! Owns: its start, its end, and the lock by which one run at a time has it.
//! Does not own: what is installed on it (see `install`).
//!
//! ```text
//! host (what an earlier one left) ──> pki ──> control (etcd, API server, …) ──> node (containerd, kubelet, kube-proxy)
//! ```
//!
//! Everything that it keeps is below one folder, and everything that it starts can be told by that folder: a cluster
//! whose processes were killed is cleaned by whoever starts or stops the next one.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::commands::{command, last_lines, run_with_input};
use crate::image;
use crate::stopwatch::Stopwatch;
use crate::tools;
use crate::versions::{KUBERNETES, Pinned};
use crate::wait::{self, Look};

mod control;
mod host;
mod install;
mod launch;
mod node;
mod pki;

pub use install::{NAMESPACE, install};

/// The folder of everything that the cluster keeps. One for the machine, whoever starts it: the ports are the machine's.
const STATE: &str = "/var/lib/lakeingest-cluster";

/// The address of the node and of the API server, on the loopback device. Pods reach it, and so they reach any server
/// of the host that listens on it; nobody beyond this machine does.
pub const ADDRESS: &str = "10.88.255.1";

/// How long one run waits for another that has the cluster: a whole test run.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// `cargo xtask cluster`.
#[derive(Debug, clap::Args)]
pub struct ClusterOptions {
    #[command(subcommand)]
    verb: ClusterVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ClusterVerb {
    /// Start the cluster and leave it running; say what to export
    Up {
        /// The version of Kubernetes
        #[arg(long, value_name = "VERSION", default_value = KUBERNETES[0].version)]
        kubernetes: String,
    },
    /// Stop the cluster, or clean up what a killed one has left
    Down,
}

/// Starts or stops the cluster for work by hand.
///
/// # Errors
/// When this machine cannot have one, something of it does not start, or another run has it.
pub fn run(options: &ClusterOptions) -> Result<()> {
    host::require()?;
    let lock = Lock::take()?;
    match &options.verb {
        ClusterVerb::Up { kubernetes } => {
            let cluster = match running(version_of(kubernetes)?)? {
                Some(cluster) => cluster,
                None => Cluster::start(version_of(kubernetes)?)?,
            };
            // A run that finds it uses it and leaves it alone.
            fs::write(state("keep"), []).context("failed to mark the cluster as kept")?;
            cluster.print_exports()
        }
        ClusterVerb::Down => {
            let stopwatch = Stopwatch::start();
            host::clean()?;
            drop(lock);
            eprintln!("Nothing of the cluster is left ({:.1} s).", stopwatch.seconds());
            Ok(())
        }
    }
}

/// A pinned version by its number.
fn version_of(number: &str) -> Result<&'static Pinned> {
    KUBERNETES.iter().find(|version| version.version == number).with_context(|| {
        let known: Vec<_> = KUBERNETES.iter().map(|version| version.version).collect();
        format!("failed to find Kubernetes {number}: this repository pins {}", known.join(" and "))
    })
}

/// A path below the folder of the cluster.
fn state(path: &str) -> PathBuf {
    Path::new(STATE).join(path)
}

/// That this run alone has the cluster; the kernel takes it back when the process ends.
#[derive(Debug)]
struct Lock(#[expect(dead_code, reason = "it is held, not read")] File);

impl Lock {
    fn take() -> Result<Self> {
        let path = format!("{STATE}.lock");
        let file = File::create(&path).with_context(|| format!("failed to make {path}"))?;
        let mut told = false;
        wait::until_within(LOCK_TIMEOUT, "another run to end", || match file.try_lock() {
            Ok(()) => Ok(Look::Ready(())),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    eprintln!("  waiting for another run that has the cluster");
                    told = true;
                }
                Ok(Look::NotYet(format!("{path} is locked")))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("failed to lock {path}")),
        })?;
        Ok(Self(file))
    }
}

/// A cluster that a run has for itself. It is stopped at the end, unless `cluster up` has started it.
#[derive(Debug)]
pub struct Held {
    cluster: Cluster,
    _lock: Lock,
}

impl Held {
    /// Takes the cluster that runs, or starts one.
    ///
    /// # Errors
    /// When this machine cannot have one, or something of it does not start.
    pub fn up() -> Result<Self> {
        host::require()?;
        let lock = Lock::take()?;
        let found = if state("keep").is_file() { running(&KUBERNETES[0])? } else { None };
        let cluster = match found {
            Some(cluster) => {
                eprintln!("  the cluster that `cargo xtask cluster up` has started is used, and left running");
                cluster
            }
            None => Cluster::start(&KUBERNETES[0])?,
        };
        Ok(Self { cluster, _lock: lock })
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Leaves it running for work by hand.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub fn keep(&self) -> Result<()> {
        fs::write(state("keep"), []).context("failed to mark the cluster as kept")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if state("keep").is_file() {
            return;
        }
        if let Err(error) = host::clean() {
            eprintln!("{error:#}");
        }
    }
}

/// The cluster if it answers; one of another version is an error.
fn running(version: &Pinned) -> Result<Option<Cluster>> {
    let Ok(found) = fs::read_to_string(state("version")) else { return Ok(None) };
    let cluster = Cluster::of_version(version_of(found.trim())?)?;
    let mut ready = cluster.kubectl(["get", "--raw", "/readyz"])?;
    let answers = ready.output().context("failed to run kubectl")?.status.success();
    if !answers {
        return Ok(None);
    }
    if found.trim() != version.version {
        bail!("a cluster of Kubernetes {} is running; stop it first with: cargo xtask cluster down", found.trim());
    }
    Ok(Some(cluster))
}

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Cluster {
    version: &'static Pinned,
    programs: PathBuf,
}

impl Cluster {
    /// The cluster that another process has started, as tests find it.
    ///
    /// # Errors
    /// When none is there; the message has the command that starts one.
    pub fn attach() -> Result<Self> {
        let version = fs::read_to_string(state("version"))
            .context("failed to find a cluster; start one with: cargo xtask cluster up")?;
        Self::of_version(version_of(version.trim())?)
    }

    fn of_version(version: &'static Pinned) -> Result<Self> {
        Ok(Self { version, programs: tools::kubernetes(version)? })
    }

    /// Cleans up after an earlier one and starts one.
    fn start(version: &'static Pinned) -> Result<Self> {
        tools::container_runtime()?;
        let etcd = tools::etcd()?;
        let cluster = Self::of_version(version)?;
        let stopwatch = Stopwatch::start();
        host::clean()?;
        host::require_free_ports()?;
        if let Err(error) = cluster.start_all(&etcd) {
            // Its logs stay: they are what tells why.
            eprintln!("the logs of the cluster that did not start are in {}", state("log").display());
            host::kill_all()?;
            return Err(error);
        }
        eprintln!("  Kubernetes {}: node {} is ready ({:.1} s)", version.version, node::NAME, stopwatch.seconds());
        Ok(cluster)
    }

    fn start_all(&self, etcd: &Path) -> Result<()> {
        for folder in ["pki", "log", "cni", "containerd"] {
            let folder = state(folder);
            fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        }
        host::prepare()?;
        pki::write()?;
        let servers = control::start(self, etcd)?;
        let mut servers = node::start(self, servers)?;
        self.import_image(&image::pause()?.path)?;
        node::wait_until_ready(self, &mut servers)?;
        fs::write(state("version"), self.version.version).context("failed to note the version")
    }

    /// `kubectl` with these arguments, as an administrator.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn kubectl(&self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command> {
        let mut kubectl = command(self.programs.join("kubectl"))?;
        kubectl.env("KUBECONFIG", self.kubeconfig()).args(arguments.into_iter().map(Into::into));
        Ok(kubectl)
    }

    /// Runs `kubectl`; gives its standard output.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<String> {
        self.run_with_input(arguments, "")
    }

    /// Runs `kubectl` with a text on its standard input; gives its standard output.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn run_with_input(
        &self,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        input: &str,
    ) -> Result<String> {
        let output = run_with_input(self.kubectl(arguments)?, input.as_bytes())?;
        String::from_utf8(output).context("failed to read what kubectl says")
    }

    /// Applies manifests; gives kubectl's words.
    ///
    /// # Errors
    /// When one is refused, with the API server's words.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.run_with_input(["apply", "--filename", "-"], manifests)
    }

    /// Runs `kubectl` for what it answers, whether it succeeds or not: success, standard output, standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn try_run(&self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<(bool, String, String)> {
        let output = self.kubectl(arguments)?.output().context("failed to run kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    }

    /// Gives the node an image.
    ///
    /// # Errors
    /// When containerd does not take it.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        let mut import = command("ctr")?;
        import.arg("--address").arg(node::containerd_socket()).args(["--namespace", "k8s.io", "images", "import"]);
        import.arg(archive);
        let output = import.output().context("failed to run ctr")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("failed to import {}: {}", archive.display(), last_lines(&words, 5));
        }
        Ok(())
    }

    /// The programs that run in the node's pods, each with the memory that it holds. Unit: bytes.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn memory_bytes(&self) -> Result<Vec<(String, u64)>> {
        host::memory_bytes()
    }

    /// The folder of the node's programs.
    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The file with which `kubectl` and others reach it as an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        state("admin.conf")
    }

    fn print_exports(&self) -> Result<()> {
        println!("{}", self.run(["get", "nodes", "--output", "wide"])?.trim_end());
        println!("export KUBECONFIG={}", self.kubeconfig().display());
        let helm = tools::helm()?;
        let helm = helm.parent().context("failed to find helm's folder")?;
        println!("export PATH={}:{}:$PATH", self.programs.display(), helm.display());
        eprintln!("Stop it with: cargo xtask cluster down");
        Ok(())
    }
}
