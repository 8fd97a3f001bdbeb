//! Programs that are built from the Go module proxy: Kubernetes and what belongs to it, and an S3 server.
//!
//! Owns: a module of our own around each program, since `go install` refuses modules that replace others.
//! Does not own: the Go toolchain, which must be there (see `prerequisites`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cache::Cache;
use crate::commands::{command, run_quiet};
use crate::versions::{ETCD, HELM, HELM_UNITTEST, KUBECONFORM, MINIO, Pinned};

/// The version of the language in the modules that are made here.
const GO_DIRECTIVE: &str = "1.26.0";

/// The fork of a library that helm-unittest's own module replaces, which only the main module can.
const HELM_UNITTEST_REPLACES: &str =
    "replace github.com/vmware-labs/yaml-jsonpath v0.3.2 => github.com/helm-unittest/yaml-jsonpath v0.4.0\n";

/// The folder of kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy and kubectl.
///
/// # Errors
/// When Go is missing, a download fails or something does not build.
pub fn kubernetes(version: &Pinned) -> Result<PathBuf> {
    let programs = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];
    Cache::open()?.ensure(&format!("kubernetes-{}", version.version), |partial| {
        let replaces = staging_replaces(version)?;
        let packages = programs.map(|program| format!("{}/cmd/{program}", version.package));
        let label = format!("building Kubernetes {} (about 7 minutes on 2 cores)", version.version);
        build(partial, version, &label, &packages, &replaces, &version_flags(version.version))
    })
}

/// The folder of Kubernetes' source, which has the API's description.
///
/// # Errors
/// When Go is missing or the download fails.
pub fn kubernetes_source(version: &Pinned) -> Result<PathBuf> {
    Ok(PathBuf::from(downloaded(version)?["Dir"].as_str().context("failed to find the module's folder")?))
}

/// The store's binary.
///
/// # Errors
/// When Go is missing, a download fails or it does not build.
pub fn etcd() -> Result<PathBuf> {
    // The package's path ends with its version: its program is named by us.
    program("etcd", &ETCD, ETCD.package, "")
}

/// The program that installs charts.
///
/// # Errors
/// When Go is missing, a download fails or it does not build.
pub fn helm() -> Result<PathBuf> {
    program("helm", &HELM, &format!("{}/cmd/helm", HELM.package), "")
}

/// The program that tests the templates of a chart.
///
/// # Errors
/// When Go is missing, a download fails or it does not build.
pub fn helm_unittest() -> Result<PathBuf> {
    let package = format!("{}/cmd/helm-unittest", HELM_UNITTEST.package);
    program("helm-unittest", &HELM_UNITTEST, &package, HELM_UNITTEST_REPLACES)
}

/// The program that checks manifests.
///
/// # Errors
/// When Go is missing, a download fails or it does not build.
pub fn kubeconform() -> Result<PathBuf> {
    program("kubeconform", &KUBECONFORM, &format!("{}/cmd/kubeconform", KUBECONFORM.package), "")
}

/// The other S3 server's binary.
///
/// # Errors
/// When Go is missing, a download fails or it does not build.
pub fn minio() -> Result<PathBuf> {
    program("minio", &MINIO, MINIO.package, "")
}

/// A program in a folder of its own.
fn program(name: &str, version: &Pinned, package: &str, replaces: &str) -> Result<PathBuf> {
    let folder = Cache::open()?.ensure(&format!("{name}-{}", version.version), |partial| {
        let label = format!("building {name} {} (about a minute on 2 cores)", version.version);
        build(&partial.join(name), version, &label, &[package.to_owned()], replaces, "")
    })?;
    Ok(folder.join(name))
}

/// Builds packages into `output`: a folder that is there, or the name of the one program.
fn build(
    output: &Path,
    version: &Pinned,
    label: &str,
    packages: &[String],
    replaces: &str,
    link_flags: &str,
) -> Result<()> {
    let module = tempfile::tempdir().context("failed to make a temporary folder")?;
    let manifest =
        format!("module build\n\ngo {GO_DIRECTIVE}\n\nrequire {} v{}\n\n{replaces}", version.package, version.version);
    fs::write(module.path().join("go.mod"), manifest).context("failed to write go.mod")?;
    let mut build = go()?;
    build.current_dir(module.path()).args(["build", "-ldflags", &format!("-s -w {link_flags}"), "-o"]);
    build.arg(output).args(packages);
    run_quiet(label, build)?;
    Ok(())
}

fn go() -> Result<Command> {
    let mut go = command("go")?;
    // The toolchain that is there, and nothing of a workspace or of flags that the user has for work of their own.
    go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod").env("GOWORK", "off");
    Ok(go)
}

/// What `go mod download -json` says of a module.
fn downloaded(module: &Pinned) -> Result<Value> {
    let mut download = go()?;
    download.current_dir("/").args(["mod", "download", "-json", &module.requirement()]);
    let label = format!("fetching the source of {} ({} MB)", module.requirement(), module.download_megabytes);
    let output = run_quiet(&label, download)?;
    let start = output.find('{').context("failed to read what go says of the module")?;
    serde_json::from_str(&output[start..]).context("failed to read what go says of the module")
}

/// The published module requires its parts at v0.0.0: each is replaced by its own release, v0.MINOR.PATCH.
fn staging_replaces(version: &Pinned) -> Result<String> {
    let module = downloaded(version)?;
    let path = module["GoMod"].as_str().context("failed to find the module's go.mod")?;
    let manifest = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
    Ok(replaces_of(&manifest, version.version))
}

fn replaces_of(manifest: &str, version: &str) -> String {
    let release = version.strip_prefix("1.").unwrap_or(version);
    let parts = manifest.lines().filter_map(|line| line.trim().strip_suffix(" v0.0.0"));
    let parts = parts.map(|part| part.trim_start_matches("require ").trim()).filter(|part| part.starts_with("k8s.io/"));
    parts.fold(String::new(), |mut replaces, part| {
        // Writing to a text does not fail.
        let _ = writeln!(replaces, "replace {part} => {part} v0.{release}");
        replaces
    })
}

/// What makes the programs say their version.
fn version_flags(version: &str) -> String {
    let minor = version.split('.').nth(1).unwrap_or_default();
    let of = |package: &str| {
        format!(
            "-X {package}.gitVersion=v{version} -X {package}.gitMajor=1 -X {package}.gitMinor={minor} \
             -X {package}.gitTreeState=clean"
        )
    };
    of("k8s.io/component-base/version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_kubernetes_are_replaced_by_their_releases() {
        let manifest =
            "require (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.130.1\n\tk8s.io/pod-security-admission v0.0.0\n)\n";
        assert_eq!(
            replaces_of(manifest, "1.37.2"),
            "replace k8s.io/api => k8s.io/api v0.37.2\n\
             replace k8s.io/pod-security-admission => k8s.io/pod-security-admission v0.37.2\n"
        );
    }
}
