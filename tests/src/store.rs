//! An S3 server for a test, of either kind: what the sidecar promises must not be one server's habit.
//!
//! Owns: where such a server is, before it is and after it was; running a test on both kinds.
//! Does not own: the servers as such (`xtask`), what is stored (see `lake`).

use tempfile::TempDir;
use xtask::ports::PortBlock;
use xtask::servers::{Minio, MinioOptions, S3Access, Weed, WeedOptions};

use crate::site::temporary_folder;

/// Makes of each test, which takes a [`Kind`], one on each kind: `seaweedfs::<name>` and `minio::<name>`.
#[macro_export]
macro_rules! on_both_kinds {
    ($($test:ident),+ $(,)?) => {
        mod seaweedfs {
            $(#[test] fn $test() { super::$test($crate::store::Kind::SeaweedFs); })+
        }
        mod minio {
            $(#[test] fn $test() { super::$test($crate::store::Kind::Minio); })+
        }
    };
}

/// A kind of S3 server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SeaweedFS.
    SeaweedFs,
    /// MinIO.
    Minio,
}

/// A running S3 server.
#[derive(Debug)]
pub enum Store {
    /// SeaweedFS.
    SeaweedFs(Weed),
    /// MinIO.
    Minio(Minio),
}

impl Store {
    /// How a client reaches its bucket.
    pub fn access(&self) -> &S3Access {
        match self {
            Self::SeaweedFs(weed) => weed.access(),
            Self::Minio(minio) => minio.access(),
        }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(self) {
        let server = match &self {
            Self::SeaweedFs(weed) => weed.server(),
            Self::Minio(minio) => minio.server(),
        };
        server.kill().expect("the S3 server can be killed");
    }
}

/// Where a server is, over every restart.
#[derive(Debug)]
pub struct Place {
    kind: Kind,
    domain: Option<String>,
    folder: TempDir,
    ports: PortBlock,
}

impl Place {
    /// A place for a server that has not been started.
    pub fn new(kind: Kind) -> Self {
        let ports = PortBlock::claim().expect("some ports are free");
        Self { kind, domain: None, folder: temporary_folder(), ports }
    }

    /// The same for a server whose buckets are hosts below a name.
    #[must_use]
    pub fn with_domain(self, domain: &str) -> Self {
        Self { domain: Some(domain.to_owned()), ..self }
    }

    /// How the server here is reached, also while there is none.
    pub fn access(&self) -> S3Access {
        S3Access::at(([127, 0, 0, 1], self.ports.port(0)).into(), "lake-data")
    }

    /// Starts the server, again after an earlier one has ended.
    pub fn start(&self) -> Store {
        let (folder, port, domain) = (self.folder.path(), Some(self.ports.port(0)), self.domain.clone());
        let store = match self.kind {
            Kind::SeaweedFs => {
                Weed::start(WeedOptions { s3_port: port, domain, ..WeedOptions::new(folder) }).map(Store::SeaweedFs)
            }
            Kind::Minio => Minio::start(MinioOptions { port, domain, ..MinioOptions::new(folder) }).map(Store::Minio),
        };
        store.expect("the S3 server starts")
    }
}
