//! The node: containerd, the kubelet, kube-proxy, and the network of its pods.
//!
//! Owns: their configuration. Does not own: the control plane.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::launch::{Servers, arguments};
use super::{ADDRESS, Cluster, state};
use crate::image::PAUSE;
use crate::prerequisites;
use crate::wait::Look;

/// The node's name.
pub(super) const NAME: &str = "node1";

/// The device that joins the pods of the node.
pub(super) const BRIDGE: &str = "lakeingest0";

/// The name of the pods' network.
pub(super) const NETWORK: &str = "lakeingest";

/// Where containerd listens.
pub(super) fn containerd_socket() -> PathBuf {
    state("containerd/containerd.sock")
}

/// Starts what a node needs. The pause image has to be imported before it can be ready.
pub(super) fn start(programs: &Path, mut servers: Servers) -> Result<Servers> {
    put("containerd.toml", &containerd_config())?;
    put("cni/10-bridge.conflist", &network_config())?;
    put("kubelet.yaml", &kubelet_config())?;
    put("proxy.yaml", &proxy_config())?;
    let containerd = prerequisites::find("containerd").context("failed to find containerd")?;
    servers.start(
        "containerd",
        &containerd,
        &arguments([format!("--config={}", state("containerd.toml").display())]),
    )?;
    servers.wait_until("containerd to listen", || {
        let listens = std::os::unix::net::UnixStream::connect(containerd_socket());
        Ok(listens.map_or_else(|error| Look::NotYet(error.to_string()), |_| Look::Ready(())))
    })?;
    servers.start(
        "kubelet",
        &programs.join("kubelet"),
        &arguments([
            format!("--config={}", state("kubelet.yaml").display()),
            format!("--kubeconfig={}", state("kubelet.conf").display()),
            format!("--hostname-override={NAME}"),
            format!("--root-dir={}", state("kubelet").display()),
            format!("--cert-dir={}", state("pki").display()),
            format!("--node-ip={ADDRESS}"),
        ]),
    )?;
    servers.start(
        "kube-proxy",
        &programs.join("kube-proxy"),
        &arguments([format!("--config={}", state("proxy.yaml").display())]),
    )?;
    Ok(servers)
}

/// Waits until pods can be created and run.
pub(super) fn wait_until_ready(cluster: &Cluster, servers: &mut Servers) -> Result<()> {
    let node = format!("node/{NAME}");
    let looks: [(&str, &[&str]); 3] = [
        ("the node to be ready", &["wait", "--for=condition=Ready", &node, "--timeout=1s"]),
        ("the node to take pods", &["get", &node, "--output=jsonpath={.spec.taints}"]),
        ("the default service account", &["get", "serviceaccount", "default"]),
    ];
    for (what, look) in looks {
        servers.wait_until(what, || {
            let (done, output, words) = cluster.try_run(look.iter().copied())?;
            let is_tainted = output.contains("not-ready");
            Ok(if done && !is_tainted { Look::Ready(()) } else { Look::NotYet(format!("{output} {words}")) })
        })?;
    }
    Ok(())
}

fn put(path: &str, text: &str) -> Result<()> {
    let path = state(path);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

fn shown(path: &str) -> String {
    state(path).display().to_string()
}

fn containerd_config() -> String {
    let plugin = "plugins.\"io.containerd.grpc.v1.cri\"";
    [
        "version = 2".to_owned(),
        format!("root = \"{}\"", shown("containerd/root")),
        format!("state = \"{}\"", shown("containerd/state")),
        "[grpc]".to_owned(),
        format!("  address = \"{}\"", containerd_socket().display()),
        format!("[{plugin}]"),
        format!("  sandbox_image = \"{PAUSE}\""),
        // Where a process may not lower this score, runc dies of the attempt.
        "  restrict_oom_score_adj = true".to_owned(),
        // So that the folder of the cluster tells which namespaces are its own.
        "  netns_mounts_under_state_dir = true".to_owned(),
        format!("[{plugin}.cni]"),
        "  bin_dir = \"/usr/lib/cni\"".to_owned(),
        format!("  conf_dir = \"{}\"", shown("cni")),
        format!("[{plugin}.containerd.runtimes.runc]"),
        "  runtime_type = \"io.containerd.runc.v2\"".to_owned(),
        format!("[{plugin}.containerd.runtimes.runc.options]"),
        format!("  Root = \"{}\"\n", shown("containerd/runc")),
    ]
    .join("\n")
}

fn network_config() -> String {
    let data = shown("cni/data");
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "{NETWORK}", "plugins": [{{
  "type": "bridge", "bridge": "{BRIDGE}", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {{"type": "host-local", "dataDir": "{data}", "ranges": [[{{"subnet": "10.88.0.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}
}}]}}
"#
    )
}

fn kubelet_config() -> String {
    let pki = shown("pki");
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
         address: {ADDRESS}\nhealthzBindAddress: 127.0.0.1\n\
         authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {pki}/ca.crt}}}}\n\
         authorization: {{mode: Webhook}}\n\
         tlsCertFile: {pki}/kubelet.crt\ntlsPrivateKeyFile: {pki}/kubelet.key\n\
         containerRuntimeEndpoint: unix://{socket}\n\
         cgroupDriver: cgroupfs\nfailCgroupV1: false\nfailSwapOn: false\n\
         clusterDNS: [10.96.0.10]\nclusterDomain: cluster.local\n\
         evictionHard: {{memory.available: 100Mi, nodefs.available: 1%}}\nimageGCHighThresholdPercent: 100\n\
         syncFrequency: 5s\nmakeIPTablesUtilChains: false\npodLogsDir: {logs}\n",
        logs = shown("pod-logs"),
        socket = containerd_socket().display()
    )
}

fn proxy_config() -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: iptables\n\
         clientConnection: {{kubeconfig: {}}}\nhostnameOverride: {NAME}\nclusterCIDR: 10.88.0.0/16\n\
         healthzBindAddress: 127.0.0.1:10256\nmetricsBindAddress: 127.0.0.1:10249\n\
         conntrack: {{maxPerCore: 0, min: 0}}\n",
        shown("proxy.conf")
    )
}

/// The programs that a cluster always runs.
pub(super) const SERVERS: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "containerd"];

/// Whether a program is one of those that a cluster runs, or one that containerd runs beside each pod.
pub(super) fn is_server(program: &Path) -> bool {
    let mut names = SERVERS.iter().chain(&["containerd-shim-runc-v2"]);
    program.file_name().is_some_and(|name| names.any(|server| name == *server))
}
