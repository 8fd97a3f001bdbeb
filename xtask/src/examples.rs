//! The manifests that the documentation shows, as the demo and the tests apply them.
//!
//! Owns: reading them and giving them the endpoint of a server that was started. Does not own: their words.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Where the manifests are, below the root.
pub const FOLDER: &str = "docs/examples";

/// The one value that differs between the documentation and a server that was started for a run.
const ENDPOINT: &str = "http://10.88.255.1:8333";

/// A manifest of the documentation.
///
/// # Errors
/// When it cannot be read.
pub fn manifest(name: &str) -> Result<String> {
    let path = workspace::root().join(FOLDER).join(name);
    fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// The LakeIngest of the documentation with another endpoint.
///
/// # Errors
/// When it cannot be read, or names another endpoint than it did.
pub fn lake_ingest(endpoint: &str) -> Result<String> {
    let text = manifest("03-lakeingest.yaml")?;
    ensure!(text.matches(ENDPOINT).count() == 1, "failed to find the endpoint {ENDPOINT} in 03-lakeingest.yaml");
    Ok(text.replace(ENDPOINT, endpoint))
}
