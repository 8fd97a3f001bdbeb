//! The cluster as the command line reaches it: with the rights of whoever calls it.
//!
//! Owns: the kubeconfig, the operator that is installed and how it was started.
//! Does not own: what is made of it.

use std::path::PathBuf;

use clap::{Args, Parser};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config, ResourceExt};

use crate::limits::CLUSTER_WAIT;
use crate::settings::{Injection, RunArguments};

/// What the chart's objects have in common.
/// Source: `lakeingest.labels` of charts/lakeingest/templates/_helpers.tpl.
pub(super) const PART_OF: &str = "app.kubernetes.io/part-of=lakeingest";

/// The operator's Deployment among them.
const OPERATOR: &str = "app.kubernetes.io/part-of=lakeingest,app.kubernetes.io/component=operator";

/// How the cluster is reached.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArguments {
    /// The file that reaches the cluster; otherwise as kubectl finds it
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// A context of that file, instead of its current one
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The namespace; otherwise that of the context
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// The cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    /// The file that reaches it cannot be used.
    #[error("failed to use the kubeconfig")]
    Kubeconfig(#[source] KubeconfigError),
    /// There is no such file.
    #[error("there is no kubeconfig: name one with --kubeconfig or KUBECONFIG")]
    Nowhere,
    /// What the file says makes no client.
    #[error("failed to make a client of the kubeconfig")]
    Client(#[source] Box<kube::Error>),
    /// It did not give what was asked for.
    #[error("failed to ask the cluster for {what}")]
    Ask {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ClusterError {
    /// For `map_err`.
    pub(super) fn ask(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        |source| Self::Ask { what, source: Box::new(source) }
    }
}

/// A cluster that can be asked.
#[derive(Clone)]
pub(super) struct Cluster {
    /// The API server.
    pub(super) client: Client,
    /// The namespace that is meant where none is named.
    pub(super) namespace: String,
    /// Where the API server is.
    pub(super) url: String,
}

impl Cluster {
    /// The cluster of the kubeconfig, or the one that this runs in; none if there is neither.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub(super) async fn find(arguments: &ClusterArguments) -> Result<Option<Self>, ClusterError> {
        let options = KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
        let read = match &arguments.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let config = match read {
            Ok(kubeconfig) => {
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(ClusterError::Kubeconfig)?
            }
            // A file that was named must be there.
            Err(error) if arguments.kubeconfig.is_some() || std::env::var_os("KUBECONFIG").is_some() => {
                return Err(ClusterError::Kubeconfig(error));
            }
            Err(KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath) => match Config::incluster() {
                Ok(config) => config,
                Err(_) => return Ok(None),
            },
            Err(error) => return Err(ClusterError::Kubeconfig(error)),
        };
        Self::of(config, arguments).map(Some)
    }

    /// As [`Self::find`]; there must be one.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub(super) async fn require(arguments: &ClusterArguments) -> Result<Self, ClusterError> {
        Self::find(arguments).await?.ok_or(ClusterError::Nowhere)
    }

    fn of(mut config: Config, arguments: &ClusterArguments) -> Result<Self, ClusterError> {
        config.connect_timeout = Some(CLUSTER_WAIT);
        config.read_timeout = Some(CLUSTER_WAIT);
        let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| ClusterError::Client(Box::new(error)))?;
        Ok(Self { client, namespace, url })
    }

    /// The operator that is installed, as far as it can be seen.
    ///
    /// # Errors
    /// The API server does not give the webhook configurations or the Deployments.
    pub(super) async fn installation(&self) -> Result<Installation, ClusterError> {
        let all: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(PART_OF);
        let found = all.list(&ours).await.map_err(ClusterError::ask("the webhook configuration"))?;
        let webhook = found.items.into_iter().min_by_key(ResourceExt::name_any);
        let deployments: Api<Deployment> = match webhook.as_ref().and_then(namespace_of) {
            Some(namespace) => Api::namespaced(self.client.clone(), &namespace),
            // What sends pods to it is gone: it may be anywhere.
            None => Api::all(self.client.clone()),
        };
        let found = deployments.list(&ListParams::default().labels(OPERATOR)).await;
        let found = found.map_err(ClusterError::ask("the operator's Deployment"))?;
        let deployment = found.items.into_iter().min_by_key(ResourceExt::name_any);
        let of_deployment = deployment.as_ref().and_then(ResourceExt::namespace);
        let namespace = of_deployment.or_else(|| webhook.as_ref().and_then(namespace_of));
        let started = deployment.as_ref().zip(namespace.as_deref());
        let arguments = started.and_then(|(deployment, namespace)| arguments_of(deployment, namespace));
        Ok(Installation { webhook, namespace, deployment, arguments })
    }
}

/// The namespace of the Service that the webhook configuration sends pods to.
fn namespace_of(webhook: &MutatingWebhookConfiguration) -> Option<String> {
    let entries = webhook.webhooks.iter().flatten();
    entries.filter_map(|entry| entry.client_config.service.as_ref()).map(|service| service.namespace.clone()).next()
}

/// The operator as the chart has installed it.
#[derive(Clone, Debug, Default)]
pub(super) struct Installation {
    /// What sends pods to it.
    pub(super) webhook: Option<MutatingWebhookConfiguration>,
    /// Its namespace.
    pub(super) namespace: Option<String>,
    /// What runs it.
    pub(super) deployment: Option<Deployment>,
    /// How it was started; none if this version does not understand it.
    pub(super) arguments: Option<RunArguments>,
}

impl Installation {
    /// Whether the API server injects by itself.
    pub(super) fn injects_by_policy(&self) -> bool {
        self.arguments.as_ref().is_some_and(|arguments| arguments.injection == Injection::Policy)
    }

    /// Namespaces whose pods are never sent to the webhook.
    pub(super) fn excluded_namespaces(&self) -> Vec<String> {
        let entries = self.webhook.iter().flat_map(|webhook| webhook.webhooks.iter().flatten());
        let selectors = entries.filter_map(|entry| entry.namespace_selector.as_ref());
        let requirements = selectors.flat_map(|selector| selector.match_expressions.iter().flatten());
        let names = requirements.filter(|one| one.key == "kubernetes.io/metadata.name" && one.operator == "NotIn");
        names.flat_map(|one| one.values.clone().unwrap_or_default()).collect()
    }
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    run: RunArguments,
}

/// How the operator of a Deployment was started.
pub(super) fn arguments_of(deployment: &Deployment, namespace: &str) -> Option<RunArguments> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let given = pod.containers.iter().find_map(|container| match container.args.as_deref() {
        Some([verb, rest @ ..]) if verb == "run" => Some(rest.to_vec()),
        _ => None,
    })?;
    // In the pod it is in a variable.
    let line = ["run".to_owned(), format!("--namespace={namespace}")].into_iter().chain(given);
    CommandLine::try_parse_from(line).ok().map(|line| line.run)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_operators_own_arguments_tell_how_it_injects() {
        let deployment = |args: serde_json::Value| -> Deployment {
            let containers = json!([{"name": "proxy"}, {"name": "operator", "args": args}]);
            let template = json!({"spec": {"containers": containers}});
            serde_json::from_value(json!({"spec": {"selector": {}, "template": template}})).expect("it is a Deployment")
        };
        let args =
            json!(["run", "--sidecar-image=a/b:1", "--allowed-sidecar-images=a/b", "--allowed-sidecar-images=c"]);
        let found = arguments_of(&deployment(args), "ns").expect("they are understood");
        assert_eq!((found.sidecar_image.as_str(), found.namespace.as_str()), ("a/b:1", "ns"));
        assert_eq!(found.allowed_sidecar_images, ["a/b", "c"]);
        for unknown in [json!(["run", "--sidecar-image=a", "--from-the-future"]), json!(["serve"]), json!([])] {
            assert!(arguments_of(&deployment(unknown.clone()), "ns").is_none(), "{unknown}");
        }
    }

    #[test]
    fn excluded_namespaces_are_those_of_the_webhooks_selector() {
        let values = ["kube-system", "lakeingest"];
        let selector = json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": values},
            {"key": "other", "operator": "NotIn", "values": ["x"]},
        ]});
        let entry = json!({"name": "a", "clientConfig": {}, "namespaceSelector": selector,
            "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        let webhook = serde_json::from_value(json!({"webhooks": [entry]})).expect("it is a configuration");
        let installation = Installation { webhook: Some(webhook), ..Installation::default() };
        assert_eq!(installation.excluded_namespaces(), values);
    }
}
