//! The product on a cluster: its images on the node, its chart installed.
//!
//! Owns: one way of installing it, for the demo and for the tests, and of taking it away again from a cluster that is
//! somebody's own. Does not own: what the chart deploys.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Cluster;
use crate::commands::{command, run_with_input};
use crate::image::{self, Archive};
use crate::stopwatch::Stopwatch;
use crate::{tools, workspace};

/// The namespace of the operator.
pub const NAMESPACE: &str = "lakeingest";

/// The release's name.
const RELEASE: &str = "lakeingest";

/// The definition that the chart installs, which stays when the chart goes.
const DEFINITION: &str = "customresourcedefinition/lakeingests.lakeingest.io";

/// Gives the node the images of the binaries that were built, installs the chart and waits until the operator is ready.
///
/// # Errors
/// When an image cannot be written or imported, or the chart cannot be installed; the message has helm's words.
pub fn install(cluster: &Cluster) -> Result<()> {
    let operator = image::operator()?;
    bring(cluster, [&operator, &image::sidecar()?, &image::demo_app()?])?;

    let stopwatch = Stopwatch::start();
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, \
         labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
    ))?;
    let mut helm = helm(cluster)?;
    helm.args(["upgrade", "--install", RELEASE]).arg(workspace::root().join("charts/lakeingest"));
    helm.args(["--namespace", NAMESPACE]);
    // An image of the same version that was built anew is rolled out too.
    helm.args(["--set-string", &format!("podAnnotations.image-digest={}", operator.written.digest)]);
    finish(cluster, helm)?;
    eprintln!("  the chart is installed and the operator is ready ({:.1} s)", stopwatch.seconds());
    Ok(())
}

/// Changes the chart that [`install`] has installed to these values, as `--set` takes them, and all others to their defaults;
/// waits until the operator is ready.
///
/// # Errors
/// When it cannot be changed; the message has helm's words.
pub fn change(cluster: &Cluster, values: &[&str]) -> Result<()> {
    let mut helm = helm(cluster)?;
    helm.args(["upgrade", RELEASE]).arg(workspace::root().join("charts/lakeingest"));
    helm.args(["--namespace", NAMESPACE, "--reset-values"]);
    for value in values {
        helm.args(["--set", value]);
    }
    finish(cluster, helm)
}

fn finish(cluster: &Cluster, mut helm: Command) -> Result<()> {
    helm.args(["--wait", "--timeout", "2m"]);
    if let Err(error) = run_with_input(helm, &[]) {
        let (_, pods, _) = cluster.try_run(["--namespace", NAMESPACE, "describe", "pods"])?;
        return Err(error).with_context(|| format!("failed to install the chart; its pods:\n{pods}"));
    }
    Ok(())
}

/// The images come onto the node of this machine; whose cluster it is brings them onto its nodes.
fn bring(cluster: &Cluster, archives: [&Archive; 3]) -> Result<()> {
    let stopwatch = Stopwatch::start();
    for archive in archives {
        if cluster.is_here() {
            cluster.import_image(&archive.path)?;
        } else {
            eprintln!("  the nodes of the cluster must have the image of {}", archive.path.display());
        }
    }
    if cluster.is_here() {
        eprintln!("  the images are on the node ({:.1} s)", stopwatch.seconds());
    }
    Ok(())
}

/// Makes sure that nothing of the product is on a cluster of the user's own, which is left as it was.
pub(super) fn require_free(cluster: &Cluster) -> Result<()> {
    for what in [DEFINITION, &format!("namespace/{NAMESPACE}")] {
        if !cluster.run(["get", what, "--ignore-not-found", "--output=name"])?.trim().is_empty() {
            bail!(
                "the cluster has {what} already, which a run installs and takes away; delete it, or give another cluster"
            );
        }
    }
    Ok(())
}

/// Takes away what [`install`] has brought, with the definition and every LakeIngest.
pub(super) fn uninstall(cluster: &Cluster) -> Result<()> {
    let mut helm = helm(cluster)?;
    helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"]);
    run_with_input(helm, &[])?;
    for what in [DEFINITION, &format!("namespace/{NAMESPACE}")] {
        cluster.run(["delete", what, "--ignore-not-found"])?;
    }
    Ok(())
}

fn helm(cluster: &Cluster) -> Result<Command> {
    let mut helm = command(tools::helm()?)?;
    helm.env("KUBECONFIG", cluster.kubeconfig());
    Ok(helm)
}
