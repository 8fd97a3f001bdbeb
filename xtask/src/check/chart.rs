//! The chart: it renders, always the same, refuses wrong values, and its templates keep their promises.
//!
//! Owns: running helm and the templates' tests. Does not own: what is in them (`charts/lakeingest`).

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};

use crate::commands::{command, last_lines, run_shown};
use crate::image::VERSION;
use crate::versions::KUBERNETES;
use crate::{tools, workspace};

/// Where the chart is.
fn folder() -> PathBuf {
    workspace::root().join("charts/lakeingest")
}

/// Lints the chart, renders it twice, and compares its versions with the workspace's.
pub(super) fn check() -> Result<()> {
    let lint = helm(["lint", "--strict", "--quiet"], &[])?;
    ensure!(lint.status.success(), "helm lint says:\n{}", String::from_utf8_lossy(&lint.stdout));
    ensure!(render()? == render()?, "two renderings of the chart differ");
    check_refusals()?;
    let path = folder().join("Chart.yaml");
    let chart = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    for line in [format!("version: {VERSION}"), format!("appVersion: \"{VERSION}\"")] {
        ensure!(chart.lines().any(|found| found == line), "{} has no line `{line}`", path.display());
    }
    Ok(())
}

/// The schema of the values refuses what nobody reads and what cannot be.
fn check_refusals() -> Result<()> {
    for wrong in [
        "replicas=x",
        "replica=2",
        "webhook.port=443",
        "webhook.port=8080",
        "logLevel=loud",
        "image.digest=sha256:1",
        "image.repository=Bad Repository",
        "fullnameOverride=UPPER",
        "podAnnotations.lakeingest\\.io/inject=events",
        "podLabels.app\\.kubernetes\\.io/name=other",
        "policies.authors=perhaps",
        "injection.mode=magic",
        "preflight.namespaces={Team A}",
        "certificates.mode=cert-manager",
        "certificates.duration=90d",
    ] {
        let output = helm(["template", "lakeingest"], &["--kube-version", KUBERNETES[0].version, "--set", wrong])?;
        ensure!(!output.status.success(), "the chart takes --set {wrong}");
    }
    Ok(())
}

/// Every object of the chart with its default values.
pub(super) fn render() -> Result<String> {
    let arguments = ["--namespace", "lakeingest", "--kube-version", KUBERNETES[0].version];
    let output = helm(["template", "lakeingest"], &arguments)?;
    if !output.status.success() {
        bail!("helm template says:\n{}", last_lines(&String::from_utf8_lossy(&output.stderr), 10));
    }
    String::from_utf8(output.stdout).context("failed to read what helm has rendered")
}

/// The tests of the templates, and that each template has some.
pub(super) fn check_templates() -> Result<()> {
    for name in templates()? {
        let test = folder().join(format!("tests/{name}_test.yaml"));
        ensure!(test.is_file(), "the template {name} has no test {}", workspace::shown(&test));
    }
    let mut tests = command(tools::helm_unittest()?)?;
    tests.args(["--strict", "--color=false"]).arg(folder());
    run_shown(tests)
}

/// Names of the templates, as their tests have them.
fn templates() -> Result<Vec<String>> {
    let folder = folder().join("templates");
    let entries = fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.context("failed to list the templates")?.file_name().to_string_lossy().into_owned();
        match name.rsplit_once('.') {
            Some((stem, "yaml" | "txt")) => names.push(stem.to_lowercase()),
            _ => ensure!(name == "_helpers.tpl", "{name} is no template that is known here"),
        }
    }
    Ok(names)
}

/// Runs helm on the chart, wherever its user's own cluster is.
fn helm<const N: usize>(verb: [&str; N], arguments: &[&str]) -> Result<Output> {
    let mut helm = command(tools::helm()?)?;
    helm.env_remove("KUBECONFIG").args(verb).arg(folder()).args(arguments.iter().map(OsStr::new));
    helm.output().context("failed to run helm")
}
