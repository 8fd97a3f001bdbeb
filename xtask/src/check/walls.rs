//! The walls between the crates: what a crate must not depend on, not even through another.
//!
//! Owns: the list of walls.
//! Does not own: versions, licences and sources of crates (see `registry`).

use anyhow::{Result, bail};

use crate::commands::{cargo, run_with_input};

/// A crate, and the crates that must not be in its tree.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    ("lakeingest-sidecar", &["kube", "kube-client", "kube-core", "kube-runtime", "k8s-openapi"]),
    ("lakeingest-operator", &["duckdb", "libduckdb-sys", "arrow", "arrow-array", "object_store", "lakeingest-sidecar"]),
    ("xtask", &["duckdb", "libduckdb-sys", "arrow", "arrow-array", "kube", "tokio"]),
];

/// A crate, and all that it may depend on directly with its default features.
const ALLOWED: [(&str, &[&str]); 1] = [("lakeingest-crds", &["serde"])];

/// Looks at the tree of each crate.
pub(super) fn check() -> Result<()> {
    let mut breaches = Vec::new();
    for (package, forbidden) in FORBIDDEN {
        let tree = dependencies(package, &[])?;
        breaches.extend(
            forbidden
                .iter()
                .filter(|name| tree.iter().any(|dependency| dependency == *name))
                .map(|name| format!("{package} must not depend on {name}: cargo tree -p {package} -i {name}")),
        );
    }
    for (package, allowed) in ALLOWED {
        let direct = dependencies(package, &["--depth", "1"])?;
        breaches.extend(
            direct
                .iter()
                .filter(|dependency| !allowed.contains(&dependency.as_str()))
                .map(|dependency| format!("{package} must not depend on {dependency}")),
        );
    }
    if !breaches.is_empty() {
        bail!("{}", breaches.join("\n    "));
    }
    Ok(())
}

/// Names of what a package is built from, without itself and without what only its tests need.
fn dependencies(package: &str, more: &[&str]) -> Result<Vec<String>> {
    let mut tree = cargo()?;
    tree.args(["tree", "--quiet", "--locked", "--package", package, "--edges", "normal,build"]);
    tree.args(["--prefix", "none", "--format", "{p}"]).args(more);
    let output = run_with_input(tree, &[])?;
    let names = |line: &str| line.split_whitespace().next().map(str::to_owned);
    Ok(String::from_utf8_lossy(&output).lines().skip(1).filter_map(names).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant I6: the sidecar has no Kubernetes client, the operator no DuckDB.
    #[test]
    fn i6_no_wall_is_broken() {
        check().expect("no crate stands on what it must not");
    }

    #[test]
    fn the_tree_of_a_crate_holds_what_it_stands_on_and_not_itself() {
        let tree = dependencies("xtask", &[]).expect("cargo answers");
        assert!(tree.iter().any(|name| name == "serde_json"));
        assert!(tree.iter().any(|name| name == "itoa"), "a dependency of serde_json");
        assert!(!tree.iter().any(|name| name == "xtask"));
    }
}
