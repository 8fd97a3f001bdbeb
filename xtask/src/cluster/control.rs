//! The control plane: etcd, the API server, the controller manager, the scheduler.
//!
//! Owns: their command lines. Does not own: the node.

use std::path::Path;

use anyhow::Result;

use super::launch::{Servers, arguments};
use super::{ADDRESS, Cluster, state};
use crate::wait::Look;

/// Starts the control plane and waits until the API server is ready.
pub(super) fn start(cluster: &Cluster, programs: &Path, etcd: &Path) -> Result<Servers> {
    let mut servers = Servers::default();
    let pki = state("pki");
    let pki = pki.display();
    servers.start(
        "etcd",
        etcd,
        &arguments([
            format!("--data-dir={}", state("etcd").display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            // A cluster for tests is made anew after a crash.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]),
    )?;
    servers.start(
        "kube-apiserver",
        &programs.join("kube-apiserver"),
        &arguments([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--bind-address={ADDRESS}"),
            format!("--advertise-address={ADDRESS}"),
            "--secure-port=6443".to_owned(),
            format!("--client-ca-file={pki}/ca.crt"),
            format!("--tls-cert-file={pki}/apiserver.crt"),
            format!("--tls-private-key-file={pki}/apiserver.key"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={pki}/service-accounts.key"),
            format!("--service-account-key-file={pki}/service-accounts.pub"),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--kubelet-client-certificate={pki}/admin.crt"),
            format!("--kubelet-client-key={pki}/admin.key"),
            format!("--kubelet-certificate-authority={pki}/ca.crt"),
            // Logs and exec reach the kubelet without DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
        ]),
    )?;
    servers.wait_until("the API server to be ready", || {
        let (is_ready, _, words) = cluster.try_run(["get", "--raw", "/readyz"])?;
        Ok(if is_ready { Look::Ready(()) } else { Look::NotYet(words.trim().to_owned()) })
    })?;
    servers.start(
        "kube-controller-manager",
        &programs.join("kube-controller-manager"),
        &arguments([
            format!("--kubeconfig={}", state("controller-manager.conf").display()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--service-account-private-key-file={pki}/service-accounts.key"),
            format!("--root-ca-file={pki}/ca.crt"),
            format!("--cluster-signing-cert-file={pki}/ca.crt"),
            format!("--cluster-signing-key-file={pki}/ca.key"),
            "--use-service-account-credentials".to_owned(),
            "--allocate-node-cidrs".to_owned(),
            "--cluster-cidr=10.88.0.0/16".to_owned(),
            "--leader-elect=false".to_owned(),
        ]),
    )?;
    servers.start(
        "kube-scheduler",
        &programs.join("kube-scheduler"),
        &arguments([
            format!("--kubeconfig={}", state("scheduler.conf").display()),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ]),
    )?;
    Ok(servers)
}
