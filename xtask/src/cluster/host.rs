//! What a cluster changes on the machine: processes, mounts, devices, addresses, rules of the firewall, control groups.
//!
//! Owns: making what it needs, and taking away what it or a killed one before it has left. Nothing is told by a name
//! pattern alone: a process is the cluster's when it is one of its programs and works on its folder, or when its root
//! file system lies in that folder.
//! Does not own: the servers as such.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{ADDRESS, STATE, node};
use crate::commands::{command, run_with_input};
use crate::prerequisites;
use crate::wait::{self, Look};

/// Ports of the cluster, each with the address and the server.
const PORTS: [(&str, u16, &str); 9] = [
    ("127.0.0.1", 2379, "etcd"),
    ("127.0.0.1", 2380, "etcd"),
    (ADDRESS, 6443, "kube-apiserver"),
    ("127.0.0.1", 10257, "kube-controller-manager"),
    ("127.0.0.1", 10259, "kube-scheduler"),
    (ADDRESS, 10250, "kubelet"),
    ("127.0.0.1", 10248, "kubelet"),
    ("127.0.0.1", 10249, "kube-proxy"),
    ("127.0.0.1", 10256, "kube-proxy"),
];

/// How long the sockets of servers that were killed may take to go.
const PORTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes sure that this machine can have a cluster.
pub(super) fn require() -> Result<()> {
    if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
        bail!(
            "a cluster of one node needs Linux and root; run as root, or give the tests a cluster of your own: \
             --kubeconfig FILE --host-address ADDRESS"
        );
    }
    Ok(())
}

/// Makes sure that no other Kubernetes runs on this machine: what one leaves in the firewall and among the control groups
/// is not told from what another has there.
pub(super) fn require_alone() -> Result<()> {
    if Path::new(STATE).is_dir() {
        return Ok(());
    }
    let has_rules = firewall_without_kubernetes("iptables")?.is_some();
    if has_rules {
        bail!(
            "this machine seems to run another Kubernetes: its rules are in the firewall; give the run that cluster: \
             --kubeconfig FILE --host-address ADDRESS"
        );
    }
    Ok(())
}

/// Makes sure that nobody else has the ports. Those of servers that were killed a moment ago become free a moment later.
pub(super) fn require_free_ports() -> Result<()> {
    prepare_address()?;
    let free = wait::until_within(PORTS_TIMEOUT, "free ports", || {
        let taken = PORTS.iter().find(|(address, port, _)| TcpListener::bind((*address, *port)).is_err());
        Ok(match taken {
            None => Look::Ready(()),
            Some((address, port, server)) => Look::NotYet(format!(
                "{address}:{port} is taken, which {server} needs; see who has it with: ss -ltnp 'sport = :{port}'"
            )),
        })
    });
    if free.is_err() {
        remove_address();
    }
    free
}

/// Servers of the cluster that do not run.
pub(super) fn missing_servers() -> Result<Vec<&'static str>> {
    let found = processes()?;
    let is_missing = |server: &&str| !found.iter().any(|(_, name)| name == *server);
    Ok(node::SERVERS.into_iter().filter(is_missing).collect())
}

/// Gives the machine the cluster's address, and lets packets pass between pods and the machine.
pub(super) fn prepare() -> Result<()> {
    prepare_address()?;
    let path = "/proc/sys/net/ipv4/ip_forward";
    if fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?.trim() != "1" {
        fs::write(path, "1").with_context(|| format!("failed to write {path}"))?;
    }
    Ok(())
}

/// Nothing is said where it is not there, as on a machine that never had a cluster.
fn remove_address() {
    let _ = system("ip", &["address", "delete", &format!("{ADDRESS}/32"), "dev", "lo"]);
}

/// Removes what the node's programs keep in places of their own choice. What is not there is what is wanted.
fn remove_files_elsewhere() {
    let names_below = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for result in names_below("/var/lib/cni/results") {
        let name = result.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("{}-", node::NETWORK)) {
            let _ = fs::remove_file(result);
        }
    }
    for link in names_below("/var/log/containers") {
        if fs::read_link(&link).is_ok_and(|place| place.starts_with(STATE)) {
            let _ = fs::remove_file(link);
        }
    }
    for folder in ["/var/lib/cni/results", "/var/log/containers"] {
        // Only if nobody else has anything in it.
        let _ = fs::remove_dir(folder);
    }
}

fn prepare_address() -> Result<()> {
    system("ip", &["address", "replace", &format!("{ADDRESS}/32"), "dev", "lo"])
}

/// Takes away everything of a cluster, whether it runs or was killed.
pub(super) fn clean() -> Result<()> {
    kill_all()?;
    clean_firewall()?;
    unmount_all()?;
    if Path::new("/sys/class/net").join(node::BRIDGE).is_dir() {
        system("ip", &["link", "delete", node::BRIDGE])?;
    }
    if Path::new(STATE).is_dir() {
        remove_control_groups(Path::new("/sys/fs/cgroup"), 0);
        remove_files_elsewhere();
    }
    remove_address();
    match fs::remove_dir_all(STATE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {STATE}"))
        }
        _ => Ok(()),
    }
}

/// Kills the servers, then what ran in the pods, until nothing is left.
pub(super) fn kill_all() -> Result<()> {
    wait::until("the cluster's processes to end", || {
        let found = processes()?;
        for &(pid, _) in &found {
            // One that ended in between is what is wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
        let shown: Vec<_> = found.iter().map(|(pid, name)| format!("{} {name}", pid.as_raw_nonzero())).collect();
        Ok(if found.is_empty() { Look::Ready(()) } else { Look::NotYet(shown.join(", ")) })
    })
}

/// The cluster's processes, with their programs.
fn processes() -> Result<Vec<(Pid, String)>> {
    let mut found = Vec::new();
    let own_mounts = fs::read_link("/proc/self/ns/mnt").context("failed to read our own namespace")?;
    for entry in fs::read_dir("/proc").context("failed to list the processes")? {
        let entry = entry.context("failed to list the processes")?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        if let Some(name) = program_of_cluster(&entry.path(), &own_mounts) {
            found.push((pid, name));
        }
    }
    Ok(found)
}

/// The cluster's programs, each with the memory that it holds. Unit: bytes.
pub(super) fn memory_bytes() -> Result<Vec<(String, u64)>> {
    let of = |(pid, name): (Pid, String)| {
        // One that ended in between holds nothing.
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some((name, kibibytes * 1024))
    };
    Ok(processes()?.into_iter().filter_map(of).collect())
}

/// The one process of a program whose environment names this pod.
pub(super) fn process_in_pod(program: &str, namespace: &str, pod: &str) -> Result<u32> {
    let variables = [format!("POD_NAMESPACE={namespace}"), format!("POD_NAME={pod}")];
    let names_pod = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        let has = |wanted: &String| environment.split(|&byte| byte == 0).any(|found| found == wanted.as_bytes());
        variables.iter().all(has)
    };
    let found = processes()?.into_iter().filter(|(pid, name)| name == program && names_pod(pid));
    let found: Vec<_> = found.map(|(pid, _)| pid.as_raw_nonzero().get().unsigned_abs()).collect();
    match found.as_slice() {
        [pid] => Ok(*pid),
        _ => bail!("failed to find the one {program} of pod {namespace}/{pod}: found {found:?}"),
    }
}

/// The program of a process of the cluster; none for any other, and for one that has ended or is only waited for.
fn program_of_cluster(process: &Path, own_mounts: &Path) -> Option<String> {
    let arguments = fs::read(process.join("cmdline")).ok()?;
    let arguments: Vec<_> = arguments.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let program = PathBuf::from(&*arguments[0]);
    let works_on_folder = arguments.iter().any(|argument| argument.contains(STATE));
    let name = program.file_name()?.to_string_lossy().into_owned();
    if node::is_server(&program) && works_on_folder {
        return Some(name);
    }
    let is_in_container = fs::read_link(process.join("ns/mnt")).ok()? != own_mounts;
    let mounts = fs::read_to_string(process.join("mountinfo")).ok()?;
    (is_in_container && root_lies_in(&mounts, STATE)).then_some(name)
}

/// Whether the root of a mount namespace is an overlay in this folder.
fn root_lies_in(mounts: &str, folder: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(&format!("={folder}/")))
}

/// Takes away the rules of kube-proxy and of the kubelet, and leaves everybody else's. All of theirs are in chains of
/// their own, or jump to one. (`kube-proxy --cleanup` wants the tools of every mode, and leaves some.)
fn clean_firewall() -> Result<()> {
    if !Path::new(STATE).is_dir() {
        return Ok(());
    }
    for family in ["iptables", "ip6tables"] {
        if let Some(others) = firewall_without_kubernetes(family)? {
            run_with_input(command(format!("{family}-restore"))?, others.as_bytes())?;
        }
    }
    Ok(())
}

/// The firewall's rules without those of Kubernetes; none if there are none of its.
fn firewall_without_kubernetes(family: &str) -> Result<Option<String>> {
    let Some(save) = prerequisites::find(&format!("{family}-save")) else { return Ok(None) };
    let rules = run_with_input(command(save)?, &[])?;
    Ok(without_chains_of_kubernetes(&String::from_utf8_lossy(&rules)))
}

/// The rules without those of Kubernetes; none if there are none of its.
fn without_chains_of_kubernetes(rules: &str) -> Option<String> {
    let is_of_kubernetes = |line: &str| line.contains("KUBE-");
    let others = || rules.lines().filter(|line| !is_of_kubernetes(line)).map(|line| format!("{line}\n")).collect();
    rules.lines().any(is_of_kubernetes).then(others)
}

/// Unmounts whatever is mounted below the folder, the deepest first.
fn unmount_all() -> Result<()> {
    wait::until("the cluster's mounts to go", || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read the mounts")?;
        let found = mounts_below(&mounts, STATE);
        for mount in &found {
            // One that went in between is what is wanted; one that stays is named when the wait is over.
            let _ = system("umount", &["--lazy", mount]);
        }
        Ok(if found.is_empty() { Look::Ready(()) } else { Look::NotYet(found.join(", ")) })
    })
}

/// Places of the mounts below a folder, the deepest first.
fn mounts_below(mounts: &str, folder: &str) -> Vec<String> {
    let folder = format!("{folder}/");
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut found: Vec<_> = places.filter(|place| place.starts_with(&folder)).map(str::to_owned).collect();
    found.sort_by_key(|place| std::cmp::Reverse(place.len()));
    found
}

/// Removes the empty groups that the kubelet has made; the kernel keeps those that somebody is in.
fn remove_control_groups(folder: &Path, depth: usize) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()) {
        let is_of_kubelet = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubepods"));
        if is_of_kubelet {
            remove_tree(&path);
        } else if depth == 0 {
            // Each controller is a folder of its own in the first version of control groups.
            remove_control_groups(&path, 1);
        }
    }
}

fn remove_tree(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        remove_tree(&path);
    }
    let _ = fs::remove_dir(folder);
}

fn system(program: &str, arguments: &[&str]) -> Result<()> {
    let output = command(program)?.args(arguments).output().with_context(|| format!("failed to run {program}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run {program} {}: {}", arguments.join(" "), words.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:5 / / rw,relatime - ext4 /dev/vda rw
90 22 0:50 / /var/lib/lakeingest-cluster/kubelet/pods/a rw - tmpfs tmpfs rw
91 90 0:51 / /var/lib/lakeingest-cluster/kubelet/pods/a/volumes/b rw - tmpfs tmpfs rw
92 22 0:52 / /var/lib/lakeingest-cluster-of-another rw - tmpfs tmpfs rw
93 22 0:53 / /home rw - ext4 /dev/vdb rw
";

    #[test]
    fn mounts_below_the_folder_are_found_the_deepest_first() {
        assert_eq!(
            mounts_below(MOUNTS, STATE),
            ["/var/lib/lakeingest-cluster/kubelet/pods/a/volumes/b", "/var/lib/lakeingest-cluster/kubelet/pods/a"]
        );
    }

    #[test]
    fn rules_of_kubernetes_go_and_others_stay() {
        let rules = "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n";
        let others = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n";
        assert_eq!(without_chains_of_kubernetes(rules).as_deref(), Some(others));
        assert_eq!(without_chains_of_kubernetes(others), None);
    }

    #[test]
    fn a_root_that_lies_in_the_folder_is_a_containers() {
        let container = "100 99 0:60 / / ro - overlay overlay rw,lowerdir=/x,upperdir=/var/lib/lakeingest-cluster/containerd/root/1\n";
        assert!(root_lies_in(container, STATE));
        assert!(!root_lies_in(MOUNTS, STATE), "the machine's own root, with the cluster's mounts below it");
    }
}
