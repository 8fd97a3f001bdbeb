//! MinIO as an S3 server: one process, one identity, one bucket, on one port of the loopback address.
//!
//! Owns: its command line, its identity, and knowing when the bucket is there.
//! Does not own: what is stored in it.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::ports::{self, PortBlock};
use crate::process::{Server, ServerCommand};
use crate::servers::access::{ACCESS_KEY, REGION, S3Access, SECRET_KEY};
use crate::servers::http;
use crate::tools;
use crate::wait::Look;

/// How the server is started.
#[derive(Debug, Clone)]
pub struct MinioOptions {
    /// Where it keeps its data and its log; made when missing.
    /// A server that is started again on the same folder finds its objects again.
    pub directory: PathBuf,
    /// The bucket that is made at the first start.
    pub bucket: String,
    /// Its port; any free one when absent.
    pub port: Option<u16>,
    /// A name below which each bucket is a host; none unless told.
    pub domain: Option<String>,
}

impl MinioOptions {
    /// A server in this folder, on any free port, with the bucket `lake-data`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), bucket: "lake-data".to_owned(), port: None, domain: None }
    }
}

/// A running MinIO.
#[derive(Debug)]
pub struct Minio {
    server: Server,
    access: S3Access,
    _block: PortBlock,
}

impl Minio {
    /// Starts the server and waits until its bucket is there.
    ///
    /// # Errors
    /// When it cannot be installed or started, ends early (a port was taken), or is not ready in time.
    pub fn start(mut options: MinioOptions) -> Result<Self> {
        options.directory = std::path::absolute(&options.directory).context("failed to find the current folder")?;
        let program = tools::minio()?;
        let block = PortBlock::claim()?;
        if let Some(port) = options.port {
            ports::require_free(port)?;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port.unwrap_or_else(|| block.port(0))));
        let data = options.directory.join("data");
        fs::create_dir_all(&data).with_context(|| format!("failed to make {}", data.display()))?;
        let server = Server::start(ServerCommand {
            name: "MinIO".to_owned(),
            program,
            arguments: arguments(address, &data, &options.directory),
            environment: environment(&options),
            log: options.directory.join("minio.log"),
        })?;
        let minio = Self { server, access: S3Access::at(address, &options.bucket), _block: block };
        minio.wait_until_ready()?;
        // A folder that is there is a bucket that is there.
        if !data.join(&options.bucket).is_dir() {
            minio.access.make_bucket()?;
        }
        Ok(minio)
    }

    /// How a client reaches the bucket.
    pub fn access(&self) -> &S3Access {
        &self.access
    }

    /// The process, to stop, kill or pause it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The server says that it is ready before it knows its identity: an unsigned request that is refused says both.
    fn wait_until_ready(&self) -> Result<()> {
        let agent = http::agent();
        let ready = format!("{}/minio/health/ready", self.access.endpoint);
        self.server.wait_until("MinIO to answer", || {
            for (url, expected_status) in [(ready.as_str(), 200), (self.access.endpoint.as_str(), 403)] {
                match http::send(&agent, "GET", url, &[], None) {
                    Ok(answer) if answer.status == expected_status => {}
                    Ok(answer) => return Ok(Look::NotYet(format!("GET {url}: status {}", answer.status))),
                    Err(error) => return Ok(Look::NotYet(format!("{error:#}"))),
                }
            }
            Ok(Look::Ready(()))
        })
    }
}

fn arguments(address: SocketAddr, data: &Path, directory: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["server".into(), "--address".into(), address.to_string().into()];
    // Where it looks for certificates: nowhere that a user has some.
    arguments.extend(["--certs-dir".into(), directory.join("certs").into()]);
    arguments.push(data.into());
    arguments
}

/// It asks for updates and serves a console on every address unless told.
fn environment(options: &MinioOptions) -> Vec<(String, OsString)> {
    let fixed = [
        ("MINIO_ROOT_USER", ACCESS_KEY),
        ("MINIO_ROOT_PASSWORD", SECRET_KEY),
        ("MINIO_REGION", REGION),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
        ("MINIO_CALLHOME_ENABLE", "off"),
    ];
    let domain = options.domain.iter().map(|domain| ("MINIO_DOMAIN", domain.as_str()));
    fixed.into_iter().chain(domain).map(|(name, value)| (name.to_owned(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readers::duckdb_rows;
    use crate::servers::sockets::listening_addresses;

    #[test]
    fn what_was_written_is_there_after_a_restart_and_nothing_but_loopback_is_open() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let minio = Minio::start(MinioOptions::new(folder.path())).expect("it starts");
        let addresses = listening_addresses(minio.server().pid());
        let port = minio.access().endpoint.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        // Loopback as the kernel writes it, of either family.
        let is_loopback = |address: &String| {
            let hosts = ["0100007F", "00000000000000000000000001000000"];
            port.is_some_and(|port| hosts.iter().any(|host| *address == format!("{host}:{port:04X}")))
        };
        assert!(!addresses.is_empty() && addresses.iter().all(is_loopback), "{addresses:?}");
        let sql = "COPY (SELECT range AS number FROM range(1000)) TO 's3://lake-data/data/numbers.parquet'";
        duckdb_rows(sql, Some(minio.access())).expect("the bucket is there and the identity may write");
        minio.server().stop().expect("it stops");
        drop(minio);
        let minio = Minio::start(MinioOptions { port, ..MinioOptions::new(folder.path()) }).expect("it starts again");
        let found = duckdb_rows("SELECT count(*) FROM 's3://lake-data/data/numbers.parquet'", Some(minio.access()));
        assert_eq!(found.expect("DuckDB answers").rows, [[serde_json::json!(1_000)]]);
    }
}
