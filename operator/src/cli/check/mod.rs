//! `check`: whether the cluster is ready for pods that ask, or whether manifests are right.
//!
//! Owns: which checks there are, their order, asking the cluster for what they look at.
//! Does not own: what is concluded (`installed`, `rights`, `trial`, `manifests`).

mod finding;
mod installed;
mod manifests;
mod rights;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lakeingest_crds::lakeingest::{conditions, schema};

use crate::clock::SystemClock;
use crate::index::Found;
use crate::{error_chain, version};

use super::cluster::{Cluster, ClusterArguments, ClusterError, Installation};
use super::known::ImageArguments;
use super::{CliError, EXIT_REFUSED, documents, print};
use finding::Finding;
use trial::Trial;

/// The end of the help.
pub(super) const AFTER_HELP: &str = "\
Exit code: 0 nothing fails; 1 something fails; 2 a file cannot be read. Nothing is changed: the pod that is created for
the sake of the answer is a dry run.

  lakeingest-operator check
  lakeingest-operator check -n team-a -o json
  lakeingest-operator check -f lakeingest.yaml";

/// LakeIngests that are looked at. Derivation: a thousand are a megabyte or two.
const LAKE_INGESTS_MAX: u32 = 1_000;

/// LakeIngests that a line names.
const NAMED_MAX: usize = 5;

/// `lakeingest-operator check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArguments {
    /// Check the LakeIngests of these manifests instead, and ask no cluster; - is standard input; once for each
    #[arg(short, long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// What is printed
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,

    /// The images.
    #[command(flatten)]
    pub images: ImageArguments,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for each check
    Text,
    /// One object
    Json,
}

/// Checks and tells.
pub(super) async fn run(arguments: CheckArguments) -> Result<ExitCode, CliError> {
    let findings = match arguments.files.as_slice() {
        [] => of_cluster(&arguments).await,
        files => manifests::check(&documents::read(files)?, &arguments.images.policy(None))?,
    };
    print(&match arguments.output {
        Output::Text => finding::lines(&findings),
        Output::Json => finding::json(&findings),
    })?;
    Ok(if finding::is_ready(&findings) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
}

/// Every check of a cluster; without an API server that can be used, that one alone.
async fn of_cluster(arguments: &CheckArguments) -> Vec<Finding> {
    const CHECK: &str = "api-server";
    let cluster = match Cluster::require(&arguments.cluster).await {
        Ok(cluster) => cluster,
        Err(error) => {
            return vec![Finding::fail(
                CHECK,
                error_chain(&error),
                "name the file that reaches the cluster: --kubeconfig, --context",
            )];
        }
    };
    let mut findings = match version::require(&cluster.client).await {
        Ok(kubernetes) => vec![Finding::ok(CHECK, format!("Kubernetes {kubernetes} at {}", cluster.url))],
        Err(error @ version::VersionError::TooOld { .. }) => {
            vec![Finding::fail(CHECK, error.to_string(), "upgrade the cluster")]
        }
        Err(error) => {
            let next = format!("see: kubectl version; the address is {}", cluster.url);
            return vec![Finding::fail(CHECK, error_chain(&error), next)];
        }
    };
    findings.push(definition(&cluster).await.unwrap_or_else(|error| unseen("definition", &error)));
    let installation = match cluster.installation().await {
        Ok(installation) => {
            findings.extend(of_installation(&cluster, &installation).await);
            installation
        }
        // Nor is the operator seen without it.
        Err(error) => {
            findings.push(unseen("webhook", &error));
            Installation::default()
        }
    };
    let (finding, trial) = lake_ingests(&cluster, &arguments.cluster, &installation).await;
    findings.push(finding);
    findings.push(trial.run(&cluster).await);
    findings
}

/// What the chart has brought.
async fn of_installation(cluster: &Cluster, installation: &Installation) -> Vec<Finding> {
    let webhook = installed::webhook(installation, SystemClock::shared().now());
    let mut findings = vec![webhook, installed::operator(installation)];
    let of_webhook = service_of(installation).filter(|_| !installation.injects_by_policy());
    if let Some((namespace, name)) = of_webhook {
        findings.push(service(cluster, &namespace, &name).await.unwrap_or_else(|error| unseen("service", &error)));
    }
    findings.push(rights::check(cluster, installation).await);
    findings
}

fn unseen(check: &'static str, error: &ClusterError) -> Finding {
    Finding::warn(check, error_chain(error), "ask with the rights of an administrator")
}

async fn definition(cluster: &Cluster) -> Result<Finding, ClusterError> {
    let name = schema::definition().name_any();
    let all: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let found = all.get_opt(&name).await.map_err(ClusterError::ask(format!("CustomResourceDefinition {name}")))?;
    Ok(installed::definition(found.as_ref()))
}

/// The Service that the webhook configuration names, or that the operator was told of.
fn service_of(installation: &Installation) -> Option<(String, String)> {
    let mut entries = installation.webhook.iter().flat_map(|webhook| webhook.webhooks.iter().flatten());
    let named = entries.find_map(|entry| {
        let service = entry.client_config.service.as_ref()?;
        Some((service.namespace.clone(), service.name.clone()))
    });
    named.or_else(|| {
        let arguments = installation.arguments.as_ref()?;
        Some((arguments.namespace.clone(), arguments.webhook_service.clone()))
    })
}

async fn service(cluster: &Cluster, namespace: &str, name: &str) -> Result<Finding, ClusterError> {
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), namespace);
    let what = format!("Service {namespace}/{name}");
    if services.get_metadata_opt(name).await.map_err(ClusterError::ask(what))?.is_none() {
        return Ok(installed::service(namespace, name, None));
    }
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices = slices.list(&of_service).await.map_err(ClusterError::ask("its endpoints"))?;
    Ok(installed::service(namespace, name, Some(&slices.items)))
}

/// What is said of the LakeIngests, and where a pod can be tried.
async fn lake_ingests(
    cluster: &Cluster,
    arguments: &ClusterArguments,
    installation: &Installation,
) -> (Finding, Trial) {
    let all: Api<Found> = match &arguments.namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    let nothing = Trial { namespace: cluster.namespace.clone(), lake_ingest: None };
    match all.list(&ListParams::default().limit(LAKE_INGESTS_MAX)).await {
        Ok(found) => judge(&found.items, &installation.excluded_namespaces(), nothing),
        Err(error) => (unseen("lakeingests", &ClusterError::ask("the LakeIngests")(error)), nothing),
    }
}

/// As the operator sees them: each says by itself whether it can be used.
fn judge(found: &[Found], excluded: &[String], otherwise: Trial) -> (Finding, Trial) {
    const CHECK: &str = "lakeingests";
    let named = |found: &Found| format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any());
    let (ready, others): (Vec<_>, Vec<_>) = found.iter().partition(|found| is_ready(found));
    let is_open = |found: &&&Found| !found.namespace().is_some_and(|namespace| excluded.contains(&namespace));
    let trial = ready.iter().find(is_open).map_or(otherwise, |found| Trial {
        namespace: found.namespace().unwrap_or_default(),
        lake_ingest: Some(found.name_any()),
    });
    let finding = match (found, others.as_slice()) {
        ([], _) => Finding::warn(
            CHECK,
            "there is no LakeIngest yet",
            "apply one, for example docs/examples/03-lakeingest.yaml",
        ),
        (_, []) => Finding::ok(CHECK, format!("{} can be used", ready.len())),
        (_, others) => {
            let names: Vec<String> = others.iter().take(NAMED_MAX).map(|found| named(found)).collect();
            let detail =
                format!("{} of {} cannot be used, or not fully: {}", others.len(), found.len(), names.join(", "));
            Finding::warn(CHECK, detail, "kubectl get lakeingests --all-namespaces -o wide says why")
        }
    };
    (finding, trial)
}

fn is_ready(found: &Found) -> bool {
    let Ok(ingest) = &found.0 else { return false };
    let all = ingest.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    all.iter().any(|one| one.type_ == conditions::READY && one.status == "True")
}

#[cfg(test)]
mod tests;
