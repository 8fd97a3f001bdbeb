//! A cluster that runs, as whoever works on it reaches it.
//!
//! Owns: `kubectl` as an administrator, and what the node of this machine's own cluster can do beyond it.
//! Does not own: its start and its end.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{ADDRESS, host, node, state, version_here};
use crate::commands::{command, last_lines, run_with_input};
use crate::prerequisites;
use crate::tools;
use crate::versions::Pinned;

/// Variable by which a test run tells its tests of a cluster that was given to it: the file that reaches it.
const KUBECONFIG_VARIABLE: &str = "LAKEINGEST_TEST_KUBECONFIG";

/// Variable by which a test run tells its tests where pods of that cluster reach this machine.
const HOST_ADDRESS_VARIABLE: &str = "LAKEINGEST_TEST_HOST_ADDRESS";

/// A cluster that runs.
#[derive(Clone, Debug)]
pub struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    host_address: IpAddr,
    is_here: bool,
}

impl Cluster {
    /// The cluster of this machine.
    pub(super) fn here(version: &Pinned) -> Result<Self> {
        Ok(Self {
            kubectl: tools::kubernetes(version)?.join("kubectl"),
            kubeconfig: state("admin.conf"),
            host_address: ADDRESS.parse().context("failed to parse the cluster's address")?,
            is_here: true,
        })
    }

    /// A cluster of the user's own, whose pods reach this machine at `host_address`.
    pub(super) fn given(kubeconfig: &Path, host_address: IpAddr) -> Result<Self> {
        ensure!(kubeconfig.is_file(), "failed to find the file {}", kubeconfig.display());
        let kubeconfig = std::path::absolute(kubeconfig).context("failed to find the current folder")?;
        let kubectl = prerequisites::find("kubectl");
        let kubectl = kubectl.context("failed to find kubectl: a cluster of your own needs it on the search path")?;
        Ok(Self { kubectl, kubeconfig, host_address, is_here: false })
    }

    /// The cluster that the test run has prepared, as its tests find it.
    ///
    /// # Errors
    /// When none is there; the message has the command that helps.
    pub fn attach() -> Result<Self> {
        if let Some(kubeconfig) = std::env::var_os(KUBECONFIG_VARIABLE) {
            let address = std::env::var(HOST_ADDRESS_VARIABLE).context("failed to find this machine's address")?;
            return Self::given(Path::new(&kubeconfig), address.parse().context("failed to parse the address")?);
        }
        let version = version_here()?.context("failed to find a cluster; use: cargo xtask test")?;
        Self::here(version)
    }

    /// Variables by which [`Self::attach`] finds it in another process.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        match self.is_here {
            true => Vec::new(),
            false => vec![
                (KUBECONFIG_VARIABLE, self.kubeconfig.clone().into()),
                (HOST_ADDRESS_VARIABLE, self.host_address.to_string().into()),
            ],
        }
    }

    /// Whether it is the cluster of this machine, whose node is this machine.
    pub fn is_here(&self) -> bool {
        self.is_here
    }

    /// The address of this machine at which pods reach a server of it.
    pub fn host_address(&self) -> IpAddr {
        self.host_address
    }

    /// The file with which `kubectl` and others reach it as an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The program `kubectl`.
    pub(crate) fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// `kubectl` with these arguments, as an administrator.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn kubectl(&self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command> {
        let mut kubectl = command(&self.kubectl)?;
        kubectl.env("KUBECONFIG", &self.kubeconfig).args(arguments.into_iter().map(Into::into));
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
    /// When the node is not this machine, or containerd does not take it.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        self.require_here("images are given to")?;
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

    /// The process of a program that runs in a pod, by the variables `POD_NAMESPACE` and `POD_NAME` that it was started
    /// with.
    ///
    /// # Errors
    /// When the node is not this machine, the processes cannot be listed, or there is not exactly one.
    pub fn process_in_pod(&self, program: &str, namespace: &str, pod: &str) -> Result<u32> {
        self.require_here("processes are looked at on")?;
        host::process_in_pod(program, namespace, pod)
    }

    /// The content of a file of a projected volume, as the kubelet has put it there for a pod.
    ///
    /// # Errors
    /// When the node is not this machine, or the file cannot be read.
    pub fn projected_file(&self, pod_uid: &str, volume: &str, file: &str) -> Result<String> {
        self.require_here("files are looked at on")?;
        let path = state(&format!("kubelet/pods/{pod_uid}/volumes/kubernetes.io~projected/{volume}/{file}"));
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    /// The programs that run in the node's pods, each with the memory that it holds. Unit: bytes.
    ///
    /// # Errors
    /// When the node is not this machine, or the processes cannot be listed.
    pub fn memory_bytes(&self) -> Result<Vec<(String, u64)>> {
        self.require_here("memory is looked at on")?;
        host::memory_bytes()
    }

    fn require_here(&self, what: &str) -> Result<()> {
        ensure!(self.is_here, "{what} the node of `cargo xtask cluster up` alone, not a cluster that was given");
        Ok(())
    }
}
