//! `cargo xtask crdgen`: writes what is generated from the types.
//!
//! Owns: where the definition of LakeIngest is written: `crds/yaml`, for people, and the chart, which installs it.
//! Does not own: the definition (`crds/src/lakeingest`), the test that fails when a file is stale (there as well).

use std::fs;

use anyhow::{Context, Result};

use crate::commands::{cargo, run_with_input};
use crate::workspace;

/// The files, below the root of the workspace. All hold the same.
const FILES: [&str; 2] =
    ["crds/yaml/lakeingests.lakeingest.io.yaml", "charts/lakeingest/files/lakeingests.lakeingest.io.yaml"];

/// Writes every generated file.
///
/// # Errors
/// When the generator does not build or a file cannot be written.
pub fn run() -> Result<()> {
    let mut generate = cargo()?;
    generate.args(["run", "--quiet", "--release", "--locked", "--package", "lakeingest-crds"]);
    generate.args(["--features", "resource", "--bin", "crdgen"]);
    let definition = run_with_input(generate, &[])?;
    for file in FILES {
        let path = workspace::root().join(file);
        let is_current = fs::read(&path).is_ok_and(|found| found == definition);
        if !is_current {
            fs::write(&path, &definition).with_context(|| format!("failed to write {}", path.display()))?;
        }
        println!("{file}: {}", if is_current { "current" } else { "written" });
    }
    Ok(())
}
