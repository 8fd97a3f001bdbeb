//! SeaweedFS as an S3 server: one process, one identity, one bucket, on one address of this machine.
//!
//! Owns: its command line, its identity, and knowing when the bucket is there.
//! Does not own: what is stored in it.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use crate::ports::{self, GRPC_OFFSET, PortBlock};
use crate::process::{Server, ServerCommand};
use crate::servers::access::{ACCESS_KEY, S3Access, SECRET_KEY};
use crate::servers::http;
use crate::tools;
use crate::wait::Look;

/// How the server is started.
#[derive(Debug, Clone)]
pub struct WeedOptions {
    /// Where it keeps its data, its configuration and its log; made when missing.
    /// A server that is started again on the same folder finds its objects again.
    pub directory: PathBuf,
    /// The bucket that is made at the start.
    pub bucket: String,
    /// The port of S3; any free one when absent.
    pub s3_port: Option<u16>,
    /// The address on which all of it listens: loopback, or one that pods reach.
    pub address: IpAddr,
    /// A name below which each bucket is a host; none unless told.
    pub domain: Option<String>,
}

impl WeedOptions {
    /// A server in this folder, on any free port of the loopback address, with the bucket `lake-data`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            bucket: "lake-data".to_owned(),
            s3_port: None,
            address: Ipv4Addr::LOCALHOST.into(),
            domain: None,
        }
    }
}

/// A running S3 server.
#[derive(Debug)]
pub struct Weed {
    server: Server,
    access: S3Access,
    s3_port: u16,
    block: PortBlock,
}

/// The block's port of each service; each has a gRPC twin [`GRPC_OFFSET`] above it.
const S3: u16 = 0;
const MASTER: u16 = 1;
const VOLUME: u16 = 2;
const FILER: u16 = 3;
const ADMIN: u16 = 4;

impl Weed {
    /// Starts the server and waits until its bucket is there.
    ///
    /// # Errors
    /// When it cannot be installed or started, ends early (a port was taken), or is not ready in time.
    pub fn start(mut options: WeedOptions) -> Result<Self> {
        options.directory = std::path::absolute(&options.directory).context("failed to find the current folder")?;
        let program = tools::weed()?;
        let block = PortBlock::claim()?;
        let s3_port = match options.s3_port {
            Some(port) => {
                ports::require_free(port)?;
                port
            }
            None => block.port(S3),
        };
        let access = S3Access::at(SocketAddr::from((options.address, s3_port)), &options.bucket);
        let server = Server::start(ServerCommand {
            name: "SeaweedFS".to_owned(),
            program,
            arguments: arguments(&options, s3_port, &block)?,
            environment: vec![("TMPDIR".to_owned(), options.directory.join("temporary").into())],
            log: options.directory.join("weed.log"),
        })?;
        let weed = Self { server, access, s3_port, block };
        weed.wait_for_bucket(options.address)?;
        Ok(weed)
    }

    /// How a client reaches the bucket.
    pub fn access(&self) -> &S3Access {
        &self.access
    }

    /// The variables that S3 clients read.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        self.access.environment()
    }

    /// The port of S3, to start again on the same one.
    pub fn s3_port(&self) -> u16 {
        self.s3_port
    }

    /// The process, to stop, kill or pause it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// S3 answers a quarter of a second before the bucket is made, and an unsigned request to it is refused
    /// whether it exists or not. The filer, which holds the bucket as a folder, tells.
    fn wait_for_bucket(&self, address: IpAddr) -> Result<()> {
        let agent = http::agent();
        let filer = SocketAddr::from((address, self.block.port(FILER)));
        let bucket = format!("http://{filer}/buckets/{}?metadata=true", self.access.bucket);
        self.server.wait_until("the S3 server to answer", || {
            for (url, expected_status) in [(bucket.as_str(), 200), (self.access.endpoint.as_str(), 403)] {
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

impl Drop for Weed {
    fn drop(&mut self) {
        // A server that is killed leaves its sockets behind, in a place that it does not let us choose.
        let killed = self.server.stop();
        let services = [("s3", S3), ("master", MASTER), ("volume", VOLUME), ("filer", FILER), ("admin", ADMIN)];
        for (service, index) in services {
            let grpc_port = self.block.port(index) + GRPC_OFFSET;
            // One that ended well has removed them itself.
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{service}-grpc-{grpc_port}.sock"));
        }
        if let Err(error) = killed {
            eprintln!("{error:#}");
        }
    }
}

fn arguments(options: &WeedOptions, s3_port: u16, block: &PortBlock) -> Result<Vec<OsString>> {
    let directory = &options.directory;
    let (data, temporary, identities) =
        (directory.join("data"), directory.join("temporary"), directory.join("identities.json"));
    for folder in [&data, &temporary] {
        fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let identity = json!({"identities": [{
        "name": "lake",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    fs::write(&identities, identity.to_string())
        .with_context(|| format!("failed to write {}", identities.display()))?;

    let mut arguments: Vec<OsString> = vec!["mini".into()];
    arguments.extend(["ip", "ip.bind"].map(|flag| format!("-{flag}={}", options.address).into()));
    // It reports home and opens every interface unless told.
    arguments.extend(["-master.telemetry=false", "-admin.ui=false", "-webdav=false"].map(Into::into));
    arguments.extend(["-s3.port.iceberg=0", "-s3.port.lance=0"].map(Into::into));
    for (flag, value) in [("dir", &data), ("s3.config", &identities)] {
        arguments.push(format!("-{flag}={}", value.display()).into());
    }
    for (flag, socket) in [("s3.localSocket", "s3.sock"), ("filer.localSocket", "filer.sock")] {
        arguments.push(format!("-{flag}={}", temporary.join(socket).display()).into());
    }
    let ports = [
        ("s3.port", s3_port),
        ("s3.port.grpc", block.port(S3) + GRPC_OFFSET),
        ("master.port", block.port(MASTER)),
        ("volume.port", block.port(VOLUME)),
        ("filer.port", block.port(FILER)),
        ("admin.port", block.port(ADMIN)),
    ];
    arguments.extend(ports.map(|(flag, port)| format!("-{flag}={port}").into()));
    arguments.push(format!("-bucket={}", options.bucket).into());
    arguments.extend(options.domain.iter().map(|domain| format!("-s3.domainName={domain}").into()));
    Ok(arguments)
}

#[cfg(test)]
mod tests;
