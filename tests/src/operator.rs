//! An operator on this machine, beside the cluster: one that can be killed at a point, and cut off from the API server.
//!
//! Owns: its process, started as the chart starts it. Does not own: its way to the API server (`api`), that pods come to it.

use std::net::SocketAddr;

use serde_json::json;
use tempfile::TempDir;
use xtask::cluster::{Cluster, NAMESPACE};
use xtask::ports::PortBlock;
use xtask::process::{Server, ServerCommand};
use xtask::wait::Look;
use xtask::workspace;

use crate::handshakes::{connect, exchange};
use crate::site::temporary_folder;

/// An operator. Fields are dropped in this order: the process before its folder.
#[derive(Debug)]
pub struct Operator {
    server: Server,
    ports: PortBlock,
    _folder: TempDir,
}

impl Operator {
    /// An operator that reaches the API server at this URL, with the arguments that the chart gives to those of the cluster.
    pub fn start(cluster: &Cluster, url: &str, name: &str) -> Self {
        let folder = temporary_folder();
        let kubeconfig = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("a kubeconfig can be written");
        let ports = PortBlock::claim().expect("ports are free");
        let of = ["--namespace", NAMESPACE, "get", "deployment/lakeingest-operator"];
        let path = "--output=jsonpath={.spec.template.spec.containers[0].args}";
        let arguments = cluster.run([&of[..], &[path]].concat()).expect("the chart is installed");
        let arguments: Vec<String> = serde_json::from_str(&arguments).expect("kubectl writes JSON");
        let is_kept =
            |argument: &String| !argument.starts_with("--webhook-port") && !argument.starts_with("--health-port");
        let mut arguments: Vec<_> = arguments.into_iter().filter(is_kept).collect();
        arguments.push(format!("--webhook-port={}", ports.port(0)));
        arguments.push(format!("--health-port={}", ports.port(1)));
        arguments.push(format!("--namespace={NAMESPACE}"));
        arguments.push(format!("--pod-name={name}"));
        let server = Server::start(ServerCommand {
            name: name.to_owned(),
            program: workspace::operator_binary(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: vec![("KUBECONFIG".to_owned(), kubeconfig.into())],
            log: folder.path().join("operator.log"),
        });
        Self { server: server.expect("the operator is built"), ports, _folder: folder }
    }

    /// The port of its webhook.
    pub fn webhook_port(&self) -> u16 {
        self.ports.port(0)
    }

    /// Its process.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What it answers on its port for probes and metrics; an error is an answer that is none of success.
    fn ask(&self, path: &str) -> anyhow::Result<String> {
        let address: SocketAddr = ([127, 0, 0, 1], self.ports.port(1)).into();
        exchange(&mut connect(address)?, "GET", path, "")
    }

    /// Waits until it says that it is ready.
    pub fn wait_until_ready(&self) {
        let look =
            || Ok(self.ask("/readyz").map_or_else(|error| Look::NotYet(format!("{error:#}")), |_| Look::Ready(())));
        self.server.wait_until("the operator to be ready", look).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        self.ask("/readyz").is_ok()
    }

    /// The sum of the numbers of its metrics whose lines begin so.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.ask("/metrics").expect("an operator tells its numbers");
        let numbers = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
        numbers.filter_map(|number| number.parse::<f64>().ok()).sum()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.log()).expect("the log can be read")
    }
}
