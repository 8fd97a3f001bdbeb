//! The sidecar as a process: started as a user starts it, spoken to over HTTP.
//!
//! Owns: its command line and knowing when it is ready.
//! Does not own: building it (`cargo build --package lakeingest-sidecar`).

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use ureq::Agent;

use crate::ports::{self, PortBlock};
use crate::process::{Server, ServerCommand};
use crate::servers::http::{self, Response};
use crate::wait::Look;
use crate::workspace;

/// How the sidecar is started.
#[derive(Debug, Clone)]
pub struct SidecarOptions {
    /// The program.
    pub binary: PathBuf,
    /// A folder or `s3://bucket`; absent for the pod's way, in which the configuration says it.
    pub lake: Option<String>,
    /// The folder of its journal; made when missing.
    pub journal: PathBuf,
    /// The folder of files that are being made; its own choice when absent.
    pub scratch: Option<PathBuf>,
    /// Who owns the prefix; its own choice when absent.
    pub owner: Option<String>,
    /// The port of the API; any free one when absent.
    pub port: Option<u16>,
    /// The port of health and metrics; any free one when absent.
    pub health_port: Option<u16>,
    /// Its configuration file.
    pub config: Option<PathBuf>,
    /// The folder of the bucket's keys, for the pod's way.
    pub credentials: Option<PathBuf>,
    /// Variables beside the inherited ones, such as [`crate::servers::S3Access::environment`].
    pub environment: Vec<(String, OsString)>,
    /// Its log; beside the journal when absent. A restart appends.
    pub log: Option<PathBuf>,
}

impl SidecarOptions {
    /// The built sidecar with this lake and this journal, on any free ports.
    pub fn new(lake: impl Into<String>, journal: impl Into<PathBuf>) -> Self {
        Self {
            binary: workspace::sidecar_binary(),
            lake: Some(lake.into()),
            journal: journal.into(),
            scratch: None,
            owner: None,
            port: None,
            health_port: None,
            config: None,
            credentials: None,
            environment: Vec::new(),
            log: None,
        }
    }

    fn arguments(&self, port: u16, health_port: u16) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["serve".into()];
        arguments.extend(["--journal".into(), self.journal.clone().into_os_string()]);
        arguments.extend(["--port".into(), port.to_string().into()]);
        arguments.extend(["--health-port".into(), health_port.to_string().into()]);
        let optional: [(&str, Option<OsString>); 5] = [
            ("--lake", self.lake.clone().map(Into::into)),
            ("--credentials", self.credentials.clone().map(Into::into)),
            ("--scratch", self.scratch.clone().map(Into::into)),
            ("--owner", self.owner.clone().map(Into::into)),
            ("--config", self.config.clone().map(Into::into)),
        ];
        for (flag, value) in optional {
            arguments.extend(value.into_iter().flat_map(|value| [flag.into(), value]));
        }
        arguments
    }
}

/// A running sidecar; dropping it stops it as a pod's end would.
#[derive(Debug)]
pub struct Sidecar {
    server: Server,
    agent: Agent,
    port: u16,
    health_port: u16,
    _block: PortBlock,
}

impl Sidecar {
    /// Starts the sidecar and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, ends early, or is not ready in time; the message holds the end of its log.
    pub fn start(options: SidecarOptions) -> Result<Self> {
        let sidecar = Self::spawn(options)?;
        let ready = sidecar.health_url("/readyz");
        sidecar.server.wait_until("the sidecar to be ready", || {
            match http::send(&sidecar.agent, "GET", &ready, &[], None) {
                Ok(answer) if answer.status == 200 => Ok(Look::Ready(())),
                Ok(answer) => Ok(Look::NotYet(format!("GET {ready}: status {}: {}", answer.status, answer.text()))),
                Err(error) => Ok(Look::NotYet(format!("{error:#}"))),
            }
        })?;
        Ok(sidecar)
    }

    /// Starts the sidecar without waiting, for one that is expected to refuse to start.
    ///
    /// # Errors
    /// When the process cannot be made or a given port is taken.
    pub fn spawn(options: SidecarOptions) -> Result<Self> {
        let block = PortBlock::claim()?;
        for port in [options.port, options.health_port].into_iter().flatten() {
            ports::require_free(port)?;
        }
        let port = options.port.unwrap_or_else(|| block.port(0));
        let health_port = options.health_port.unwrap_or_else(|| block.port(1));
        fs::create_dir_all(&options.journal)
            .with_context(|| format!("failed to make {}", options.journal.display()))?;
        let log = options.log.clone().unwrap_or_else(|| options.journal.with_extension("log"));
        let server = Server::start(ServerCommand {
            name: "the sidecar".to_owned(),
            arguments: options.arguments(port, health_port),
            program: options.binary,
            environment: options.environment,
            log,
        })?;
        Ok(Self { server, agent: http::agent(), port, health_port, _block: block })
    }

    /// The address of the API, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port of the API, to start again on the same one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a path on the port of health and metrics.
    pub fn health_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.health_port)
    }

    /// The port of health and metrics.
    pub fn health_port(&self) -> u16 {
        self.health_port
    }

    /// Sends a body to a path; without a content type it is the form type that `curl -d` sends.
    ///
    /// # Errors
    /// When no whole answer came: the outcome is then unknown.
    pub fn post(&self, path: &str, content_type: Option<&str>, body: impl AsRef<[u8]>) -> Result<Response> {
        let content_type = content_type.unwrap_or("application/x-www-form-urlencoded");
        self.request("POST", path, &[("content-type", content_type)], Some(body.as_ref()))
    }

    /// Gets a path of the API.
    ///
    /// # Errors
    /// When no whole answer came.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.request("GET", path, &[], None)
    }

    /// Gets a path of the port of health and metrics.
    ///
    /// # Errors
    /// When no whole answer came.
    pub fn get_health(&self, path: &str) -> Result<Response> {
        http::send(&self.agent, "GET", &self.health_url(path), &[], None)
    }

    /// Sends any request to the API.
    ///
    /// # Errors
    /// When no whole answer came: the outcome is then unknown.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Result<Response> {
        http::send(&self.agent, method, &format!("{}{path}", self.url()), headers, body)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The process, for its log, its exit status and other signals.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.server.kill()
    }

    /// Asks it to end and waits, as Kubernetes does.
    ///
    /// # Errors
    /// When it did not end in time.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.server.stop()
    }
}
