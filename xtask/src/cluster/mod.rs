//! A Kubernetes of one node on this machine, from package registries alone and without a container engine.
//!
//! Owns: its start and its end. Does not own: what is installed on it (see `install`).
//!
//! ```text
//! host (what an earlier one left) ──> pki ──> control (etcd, API server, …) ──> node (containerd, kubelet, kube-proxy)
//!                                                                                │
//! held (one run at a time has it, or one of the user's own) ──> client (kubectl) <┘
//! ```
//!
//! Everything that it keeps is below one folder, and everything that it starts can be told by that folder: a cluster
//! whose processes were killed is cleaned by whoever starts or stops the next one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::image;
use crate::stopwatch::Stopwatch;
use crate::tools;
use crate::versions::{KUBERNETES, Pinned};

mod client;
mod control;
mod held;
mod host;
mod install;
mod launch;
mod node;
mod pki;

pub use client::Cluster;
pub use held::{ClusterChoice, Held};
pub use install::{NAMESPACE, change, install};

use held::Lock;

/// The folder of everything that the cluster keeps. One for the machine, whoever starts it: the ports are the machine's.
const STATE: &str = "/var/lib/lakeingest-cluster";

/// The address of the node and of the API server, on the loopback device. Pods reach it, and so they reach any server
/// of the host that listens on it; nobody beyond this machine does.
const ADDRESS: &str = "10.88.255.1";

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
            let version = version_of(kubernetes)?;
            let cluster = match running()? {
                Some((found, cluster)) if found.version == version.version => cluster,
                Some((found, _)) => bail!(
                    "a cluster of Kubernetes {} is running; stop it first with: cargo xtask cluster down",
                    found.version
                ),
                None => start(version)?,
            };
            // A run that finds it uses it and leaves it alone.
            fs::write(state("keep"), []).context("failed to mark the cluster as kept")?;
            print_exports(&cluster)
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

/// The version of the cluster of this machine, if there is one; it need not answer.
fn version_here() -> Result<Option<&'static Pinned>> {
    match fs::read_to_string(state("version")) {
        Ok(found) => version_of(found.trim()).map(Some),
        Err(_) => Ok(None),
    }
}

/// The cluster of this machine if it answers and nothing of it has ended.
fn running() -> Result<Option<(&'static Pinned, Cluster)>> {
    let Some(version) = version_here()? else { return Ok(None) };
    let missing = host::missing_servers()?;
    if !missing.is_empty() {
        eprintln!("  of the cluster that was started, {} has ended; it is started anew", missing.join(", "));
        return Ok(None);
    }
    let cluster = Cluster::here(version)?;
    let (answers, _, _) = cluster.try_run(["get", "--raw", "/readyz", "--request-timeout=5s"])?;
    Ok(answers.then_some((version, cluster)))
}

/// Cleans up after an earlier cluster and starts one.
fn start(version: &'static Pinned) -> Result<Cluster> {
    tools::container_runtime()?;
    let etcd = tools::etcd()?;
    let cluster = Cluster::here(version)?;
    let stopwatch = Stopwatch::start();
    host::require_alone()?;
    host::clean()?;
    host::require_free_ports()?;
    if let Err(error) = start_all(&cluster, version, &etcd) {
        // Its logs stay: they are what tells why.
        eprintln!("the logs of the cluster that did not start are in {}", state("log").display());
        host::kill_all()?;
        return Err(error);
    }
    eprintln!("  Kubernetes {}: node {} is ready ({:.1} s)", version.version, node::NAME, stopwatch.seconds());
    Ok(cluster)
}

fn start_all(cluster: &Cluster, version: &Pinned, etcd: &Path) -> Result<()> {
    for folder in ["pki", "log", "cni", "containerd"] {
        let folder = state(folder);
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    host::prepare()?;
    pki::write()?;
    let programs = tools::kubernetes(version)?;
    let servers = control::start(cluster, &programs, etcd)?;
    let mut servers = node::start(&programs, servers)?;
    cluster.import_image(&image::pause()?.path)?;
    node::wait_until_ready(cluster, &mut servers)?;
    fs::write(state("version"), version.version).context("failed to note the version")
}

fn print_exports(cluster: &Cluster) -> Result<()> {
    eprintln!("{}", cluster.run(["get", "nodes", "--output", "wide"])?.trim_end());
    // On its own on standard output, for a shell to evaluate.
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    let helm = tools::helm()?;
    let folders = [cluster.kubectl_program(), &helm].map(|program| program.parent().context("failed to find a folder"));
    let [kubectl, helm] = folders;
    println!("export PATH={}:{}:$PATH", kubectl?.display(), helm?.display());
    eprintln!("Stop it with: cargo xtask cluster down");
    Ok(())
}
