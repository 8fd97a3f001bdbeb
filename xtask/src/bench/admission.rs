//! What the creation of a pod costs on a cluster: one that asks for nothing without an operator, with it and with its webhook
//! down, and one that asks.
//!
//! Owns: the cluster and what is created, as dry runs one after another. Does not own: how long a pod takes to run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::table;
use crate::cluster::{Cluster, ClusterChoice, Held, NAMESPACE, install};
use crate::numbers::Latencies;
use crate::ports::PortBlock;
use crate::process::{Server, ServerCommand};
use crate::servers::http;
use crate::stopwatch::Stopwatch;
use crate::wait::{self, Look};
use crate::{examples, test_run, tools};

/// Pods of each figure.
const PODS: usize = 300;

/// The namespace of the examples.
const TEAM: &str = "team-a";

/// The status of what was created.
const CREATED: u16 = 201;

/// Measures on a cluster of its own, or on the one that runs, where nothing is installed yet.
///
/// # Errors
/// When there is no cluster to be had, something does not start, or a plain pod is not taken.
pub(super) fn run(folder: &Path) -> Result<()> {
    tools::helm()?;
    test_run::build_release()?;
    let held = Held::up(&ClusterChoice::default())?;
    let cluster = held.cluster();
    let webhooks = cluster.run(["get", "mutatingwebhookconfigurations", "--output=name"])?;
    ensure!(webhooks.trim().is_empty(), "failed to measure without an operator: the cluster has {}", webhooks.trim());
    cluster.apply(&examples::manifest("01-namespace.yaml")?)?;
    let way = Way::start(cluster, folder)?;
    wait::until("the first pod to be taken", || {
        let answer = way.create(&pod(&Value::Null))?;
        Ok(if answer.0 == CREATED { Look::Ready(()) } else { Look::NotYet(answer.1) })
    })?;

    table::section(&format!("creation of a pod that asks for nothing ({PODS} dry runs, one after another)"));
    let alone = way.plain()?;
    table::figure("without an operator [alone]", &table::latencies(&alone));
    let compared = |name: &str, found: &Latencies| {
        table::compared(name, &table::latencies(found), found.ms(50) / alone.ms(50), "alone");
    };
    compared("the same again", &way.plain()?);
    install(cluster)?;
    cluster.apply(&examples::manifest("02-secret.yaml")?)?;
    cluster.apply(&examples::lake_ingest("http://127.0.0.1:9")?)?;
    cluster.run(["--namespace", TEAM, "wait", "--for=condition=Ready", "lakeingest/events", "--timeout=60s"])?;
    compared("with an operator", &way.plain()?);
    compared("  of a pod that asks", &way.measured(&asking(), |status| status == CREATED)?);
    let operator = |arguments: &[&str]| cluster.run([&["--namespace", NAMESPACE], arguments].concat());
    operator(&["scale", "deployment/lakeingest-operator", "--replicas=0"])?;
    operator(&["wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=lakeingest", "--timeout=60s"])?;
    compared("with the webhook down", &way.plain()?);
    compared("  of a pod that asks, until it is refused", &way.measured(&asking(), |status| status >= 400)?);
    Ok(())
}

fn pod(annotations: &Value) -> Value {
    let context = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "shop-", "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "shop:1", "securityContext": context}]},
    })
}

fn asking() -> Value {
    pod(&json!({"lakeingest.io/inject": "events"}))
}

/// `kubectl proxy`: a way to the API server on which connections are kept.
struct Way {
    agent: ureq::Agent,
    url: String,
    _proxy: Server,
    _block: PortBlock,
}

impl Way {
    fn start(cluster: &Cluster, folder: &Path) -> Result<Self> {
        let block = PortBlock::claim()?;
        let port = block.port(0);
        let proxy = Server::start(ServerCommand {
            name: "kubectl proxy".to_owned(),
            program: cluster.kubectl_program().to_owned(),
            arguments: vec!["proxy".into(), format!("--port={port}").into()],
            environment: vec![("KUBECONFIG".to_owned(), cluster.kubeconfig().into())],
            log: folder.join("kubectl-proxy.log"),
        })?;
        let url = format!("http://127.0.0.1:{port}/api/v1/namespaces/{TEAM}/pods?dryRun=All");
        let way = Self { agent: http::agent(), url, _proxy: proxy, _block: block };
        wait::until("kubectl proxy to answer", || match way.create(&pod(&Value::Null)) {
            Ok(_) => Ok(Look::Ready(())),
            Err(error) => Ok(Look::NotYet(format!("{error:#}"))),
        })?;
        Ok(way)
    }

    fn create(&self, pod: &Value) -> Result<(u16, String)> {
        let body = pod.to_string();
        let headers = [("content-type", "application/json")];
        let answer = http::send(&self.agent, "POST", &self.url, &headers, Some(body.as_bytes()))?;
        Ok((answer.status, answer.text()))
    }

    fn plain(&self) -> Result<Latencies> {
        self.measured(&pod(&Value::Null), |status| status == CREATED)
    }

    fn measured(&self, pod: &Value, is_expected: impl Fn(u16) -> bool) -> Result<Latencies> {
        let one = || -> Result<Duration> {
            let stopwatch = Stopwatch::start();
            let (status, words) = self.create(pod)?;
            ensure!(is_expected(status), "failed to create a pod: {status}: {words}");
            Ok(stopwatch.elapsed())
        };
        Ok(Latencies::new((0..PODS).map(|_| one()).collect::<Result<_>>()?))
    }
}
