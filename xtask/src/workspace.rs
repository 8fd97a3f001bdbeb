//! Where things are in the checkout.
//!
//! Owns: the root, the build folder and the built binaries, as paths.
//! Does not own: what lies outside the checkout (see `cache`).

use std::path::{Path, PathBuf};

/// The folder that holds the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the manifest of this crate lies one folder below the root")
}

/// The build folder that `.cargo/config.toml` and every verb agree on.
pub fn target() -> PathBuf {
    root().join("target")
}

/// The folder that the build reads libduckdb from: a link into the cache.
pub fn libduckdb_link() -> PathBuf {
    target().join("libduckdb")
}

/// The sidecar, as `cargo build --release` leaves it.
pub fn sidecar_binary() -> PathBuf {
    target().join("release/lakeingest-sidecar")
}

/// The sidecar that can have a known bug, as `cargo xtask test` leaves it.
pub fn seeded_sidecar_binary() -> PathBuf {
    target().join("release/lakeingest-sidecar-seeded")
}

/// The operator, as `cargo build --release` leaves it.
pub fn operator_binary() -> PathBuf {
    target().join("release/lakeingest-operator")
}

/// A path below the root as people write it.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
