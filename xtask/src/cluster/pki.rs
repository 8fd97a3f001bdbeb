//! Certificates, keys and the files with which each part of the cluster reaches the API server.
//!
//! Owns: one authority for a cluster, made anew with each. Does not own: certificates of the product.
//!
//! Source: <https://kubernetes.io/docs/setup/best-practices/certificates/>, the names and groups.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::{ADDRESS, node, state};

/// The first address of the services' range: the API server's own service.
const SERVICE: &str = "10.96.0.1";

/// Who has a certificate: its file, its name, its group, and the names that it serves under.
const IDENTITIES: [(&str, &str, &str, &[&str]); 6] = [
    (
        "apiserver",
        "kube-apiserver",
        "kubernetes",
        &["kubernetes", "kubernetes.default", "kubernetes.default.svc", ADDRESS, SERVICE],
    ),
    ("admin", "kubernetes-admin", "system:masters", &[]),
    ("controller-manager", "system:kube-controller-manager", "kubernetes", &[]),
    ("scheduler", "system:kube-scheduler", "kubernetes", &[]),
    ("proxy", "system:kube-proxy", "kubernetes", &[]),
    ("kubelet", "system:node:node1", "system:nodes", &[node::NAME, ADDRESS]),
];

/// Writes everything below `pki`, and a file of each client.
pub(super) fn write() -> Result<()> {
    let authority_key = KeyPair::generate().context("failed to make a key")?;
    let mut params = CertificateParams::new(Vec::new()).context("failed to describe the authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "lakeingest-cluster");
    let certificate = params.self_signed(&authority_key).context("failed to sign the authority")?;
    put("pki/ca.crt", &certificate.pem())?;
    put("pki/ca.key", &authority_key.serialize_pem())?;
    let authority = Issuer::new(params, authority_key);

    for (file, name, group, served) in IDENTITIES {
        let served: Vec<String> = served.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(served).context("failed to describe a certificate")?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().context("failed to make a key")?;
        let certificate = params.signed_by(&key, &authority).context("failed to sign a certificate")?;
        put(&format!("pki/{file}.crt"), &certificate.pem())?;
        put(&format!("pki/{file}.key"), &key.serialize_pem())?;
        put(&format!("{file}.conf"), &kubeconfig(file))?;
    }
    let service_accounts = KeyPair::generate().context("failed to make a key")?;
    put("pki/service-accounts.key", &service_accounts.serialize_pem())?;
    put("pki/service-accounts.pub", &service_accounts.public_key_pem())
}

fn kubeconfig(file: &str) -> String {
    let pki = state("pki");
    let pki = pki.display();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lakeingest\n\
         clusters:\n- name: lakeingest\n  cluster: {{server: 'https://{ADDRESS}:6443', certificate-authority: {pki}/ca.crt}}\n\
         users:\n- name: {file}\n  user: {{client-certificate: {pki}/{file}.crt, client-key: {pki}/{file}.key}}\n\
         contexts:\n- name: lakeingest\n  context: {{cluster: lakeingest, user: {file}}}\n"
    )
}

fn put(path: &str, text: &str) -> Result<()> {
    let path = state(path);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    // Keys are among them.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("failed to protect {}", path.display()))
}
