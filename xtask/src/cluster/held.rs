//! The cluster that a run has for itself.
//!
//! Owns: the lock by which one run at a time has the cluster of this machine, which cluster a run takes, and what is left
//! of it at the end. Does not own: starting it.

use std::fs::{self, File, TryLockError};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Cluster, STATE, host, install, running, start, state};
use crate::versions::KUBERNETES;
use crate::wait::{self, Look};

/// How long one run waits for another that has the cluster: a whole test run.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Which cluster a run takes: that of this machine, or one of the user's own.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ClusterChoice {
    /// A cluster of your own instead of one on this machine; its nodes must have the images of `cargo xtask image --demo-app`
    #[arg(long, value_name = "FILE", requires = "host_address")]
    kubeconfig: Option<PathBuf>,
    /// The address of this machine at which pods of that cluster reach the S3 server of the run
    #[arg(long, value_name = "ADDRESS", requires = "kubeconfig")]
    host_address: Option<IpAddr>,
}

impl ClusterChoice {
    /// Whether it is one of the user's own.
    pub fn is_given(&self) -> bool {
        self.kubeconfig.is_some()
    }
}

/// That this run alone has the cluster of this machine; the kernel takes it back when the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not read")] File);

impl Lock {
    pub(super) fn take() -> Result<Self> {
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

/// A cluster that a run has for itself. One that was started for the run is stopped at its end; one that
/// `cluster up` has started stays; from one of the user's own, what was installed is taken away.
#[derive(Debug)]
pub struct Held {
    cluster: Cluster,
    _lock: Option<Lock>,
}

impl Held {
    /// Takes the user's cluster, or the one that runs, or starts one.
    ///
    /// # Errors
    /// When the user's cluster does not answer or is in use, this machine cannot have one, or something of it does not
    /// start.
    pub fn up(choice: &ClusterChoice) -> Result<Self> {
        if let (Some(kubeconfig), Some(address)) = (&choice.kubeconfig, choice.host_address) {
            let cluster = Cluster::given(kubeconfig, address)?;
            install::require_free(&cluster)?;
            eprintln!("  the cluster of {} is used, and left as it was", kubeconfig.display());
            return Ok(Self { cluster, _lock: None });
        }
        host::require()?;
        let lock = Lock::take()?;
        let found = if state("keep").is_file() { running()? } else { None };
        let cluster = match found {
            Some((version, cluster)) => {
                eprintln!(
                    "  the cluster that `cargo xtask cluster up` has started is used, and left running (Kubernetes {})",
                    version.version
                );
                cluster
            }
            None => start(&KUBERNETES[0])?,
        };
        Ok(Self { cluster, _lock: Some(lock) })
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
        if !self.cluster.is_here() {
            bail!("a cluster that was given is left as it was: --keep is for the cluster of this machine");
        }
        fs::write(state("keep"), []).context("failed to mark the cluster as kept")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let ended = match (self.cluster.is_here(), state("keep").is_file()) {
            (false, _) => install::uninstall(&self.cluster),
            (true, false) => host::clean(),
            (true, true) => Ok(()),
        };
        if let Err(error) = ended {
            eprintln!("{error:#}");
        }
    }
}
