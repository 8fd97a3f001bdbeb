//! Programs of the system that a Kubernetes node needs, and what tests hold a process in: system calls that fail, a wall
//! clock that jumps.
//!
//! Owns: the lists of them, and installing their packages where we may.
//! Does not own: what every verb expects (see `prerequisites`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::commands::{command, run_quiet};
use crate::prerequisites;

/// Files that must be there, each with its Debian package. A name without a slash is looked for on the search path.
const NEEDED: [(&str, &str); 12] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/lib/cni/host-local", "containernetworking-plugins"),
    ("/usr/lib/cni/loopback", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("/bin/busybox", "busybox-static"),
];

/// What the kills at system calls need.
const STRACE: [(&str, &str); 1] = [("strace", "strace")];

/// What a wall clock that jumps needs, of this architecture.
const FAKETIME: &str = match cfg!(target_arch = "aarch64") {
    true => "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    false => "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
};

/// Makes sure that containerd, runc, the network plugins and their like are there; installs them as root.
///
/// # Errors
/// When something is missing and cannot be installed; the message has the command that does.
pub fn container_runtime() -> Result<()> {
    ensure(&NEEDED, "what a node of Kubernetes needs")
}

/// The program `strace`; installs it as root.
///
/// # Errors
/// When it is missing and cannot be installed; the message has the command that does.
pub fn strace() -> Result<PathBuf> {
    ensure(&STRACE, "strace")?;
    prerequisites::find("strace").context("failed to find strace")
}

/// The library that gives a process another wall clock; installs it as root.
///
/// # Errors
/// When it is missing and cannot be installed; the message has the command that does.
pub fn faketime() -> Result<PathBuf> {
    ensure(&[(FAKETIME, "libfaketime")], "libfaketime")?;
    Ok(FAKETIME.into())
}

/// Makes sure that files are there; installs their packages as root.
fn ensure(needed: &[(&str, &'static str)], what: &str) -> Result<()> {
    let mut packages = missing(needed);
    if packages.is_empty() {
        return Ok(());
    }
    packages.dedup();
    let install = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !rustix::process::geteuid().is_root() || prerequisites::find("apt-get").is_none() {
        bail!("failed to find {what}; install it with: {install}");
    }
    let mut update = command("apt-get")?;
    update.args(["update", "--quiet"]);
    run_quiet("fetching the list of Debian's packages", update)?;
    let mut apt = command("apt-get")?;
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    // A service of the system's own is not wanted: the cluster starts its containerd itself.
    apt.env("RUNLEVEL", "1");
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&packages);
    run_quiet(&format!("installing {}", packages.join(", ")), apt)?;
    match missing(needed).as_slice() {
        [] => Ok(()),
        still => bail!("failed to find the programs of {} after: {install}", still.join(", ")),
    }
}

/// Packages of what is not there, in order.
fn missing(needed: &[(&str, &'static str)]) -> Vec<&'static str> {
    let is_there = |file: &str| match file.starts_with('/') {
        true => Path::new(file).is_file(),
        false => prerequisites::find(file).is_some(),
    };
    needed.iter().filter(|(file, _)| !is_there(file)).map(|(_, package)| *package).collect()
}
