//! The product on the cluster: its images on the node, its chart installed.
//!
//! Owns: one way of installing it, for the demo and for the tests. Does not own: what the chart deploys.

use anyhow::{Context, Result};

use super::Cluster;
use crate::commands::{command, run_with_input};
use crate::stopwatch::Stopwatch;
use crate::{image, tools, workspace};

/// The namespace of the operator.
pub const NAMESPACE: &str = "lakeingest";

/// Gives the node the images of the binaries that were built, installs the chart and waits until the operator is ready.
///
/// # Errors
/// When an image cannot be written or imported, or the chart cannot be installed; the message has helm's words.
pub fn install(cluster: &Cluster) -> Result<()> {
    let stopwatch = Stopwatch::start();
    let operator = image::operator()?;
    for archive in [&operator, &image::sidecar()?, &image::demo_app()?] {
        cluster.import_image(&archive.path)?;
    }
    eprintln!("  the images are on the node ({:.1} s)", stopwatch.seconds());

    let stopwatch = Stopwatch::start();
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, \
         labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
    ))?;
    let mut helm = command(tools::helm()?)?;
    helm.env("KUBECONFIG", cluster.kubeconfig()).args(["upgrade", "--install", "lakeingest"]);
    helm.arg(workspace::root().join("charts/lakeingest")).args(["--namespace", NAMESPACE]);
    // An image of the same version that was built anew is rolled out too.
    helm.args(["--set-string", &format!("podAnnotations.image-digest={}", operator.written.digest)]);
    helm.args(["--wait", "--timeout", "2m"]);
    if let Err(error) = run_with_input(helm, &[]) {
        let (_, pods, _) = cluster.try_run(["--namespace", NAMESPACE, "describe", "pods"])?;
        return Err(error).with_context(|| format!("failed to install the chart; its pods:\n{pods}"));
    }
    eprintln!("  the chart is installed and the operator is ready ({:.1} s)", stopwatch.seconds());
    Ok(())
}
