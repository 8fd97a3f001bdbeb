//! `why`: why a pod was injected or not, and what to do next.
//!
//! Owns: what is meant by the argument, asking the cluster for it. Does not own: what it means (`explain`).

mod explain;

use std::process::ExitCode;

use clap::Args;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::Value;

use super::cluster::{Cluster, ClusterArguments, ClusterError, Installation};
use super::known::{ImageArguments, Known};
use super::objects::Object;
use super::{CliError, EXIT_UNUSABLE, print};
use explain::{Facts, explain, explain_workload};

/// The end of the help.
pub(super) const AFTER_HELP: &str = "\
Exit code: 0 it is told; 2 there is no such object, or the cluster cannot be read.

  lakeingest-operator why shop-7d9c6bf5c-x2x4v -n team-a
  lakeingest-operator why deployment/shop -n team-a";

/// Pods of a workload that are told of.
const PODS_TOLD_MAX: u32 = 10;

/// What makes pods, as deep as it goes: a CronJob makes Jobs, a Deployment makes ReplicaSets.
const OWNERS_MAX: usize = 2;

/// `lakeingest-operator why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArguments {
    /// A pod, or what makes pods: deployment/NAME, statefulset/NAME, daemonset/NAME, replicaset/NAME, job/NAME, cronjob/NAME
    #[arg(value_name = "POD")]
    pub target: String,

    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// A kind that can be asked for: its names on a command line, and how the API server is asked for it.
struct Kind {
    names: &'static [&'static str],
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
}

const KINDS: [Kind; 7] = [
    Kind { names: &["pod", "pods", "po"], group: "", kind: "Pod", plural: "pods" },
    Kind { names: &["deployment", "deployments", "deploy"], group: "apps", kind: "Deployment", plural: "deployments" },
    Kind { names: &["statefulset", "statefulsets", "sts"], group: "apps", kind: "StatefulSet", plural: "statefulsets" },
    Kind { names: &["daemonset", "daemonsets", "ds"], group: "apps", kind: "DaemonSet", plural: "daemonsets" },
    Kind { names: &["replicaset", "replicasets", "rs"], group: "apps", kind: "ReplicaSet", plural: "replicasets" },
    Kind { names: &["job", "jobs"], group: "batch", kind: "Job", plural: "jobs" },
    Kind { names: &["cronjob", "cronjobs", "cj"], group: "batch", kind: "CronJob", plural: "cronjobs" },
];

impl Kind {
    fn api(&self, cluster: &Cluster) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(self.group, "v1", self.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, self.plural);
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
    }

    /// The object of this name.
    async fn get(&self, cluster: &Cluster, name: &str) -> Result<Option<Value>, ClusterError> {
        let what = format!("{} {}/{name}", self.kind, cluster.namespace);
        let found = self.api(cluster).get_opt(name).await.map_err(ClusterError::ask(what))?;
        Ok(found.map(|found| self.json(&found)))
    }

    /// An item of a list does not say its kind.
    fn json(&self, object: &DynamicObject) -> Value {
        let mut json = serde_json::to_value(object).expect("what came as JSON is JSON");
        let version = if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) };
        json["apiVersion"] = version.into();
        json["kind"] = self.kind.into();
        json
    }
}

/// The kind and the name that an argument means.
fn target(argument: &str) -> Result<(&'static Kind, &str), String> {
    let (kind, name) = argument.split_once('/').unwrap_or(("pod", argument));
    let lower = kind.to_ascii_lowercase();
    let found = KINDS.iter().find(|known| known.names.contains(&lower.as_str()));
    match found {
        Some(kind) if !name.is_empty() && !name.contains('/') => Ok((kind, name)),
        Some(_) => Err(format!("{argument:?} names no object; write {kind}/NAME")),
        None => {
            let names: Vec<&str> = KINDS.iter().filter_map(|kind| kind.names.first().copied()).collect();
            Err(format!("{kind:?} makes no pods that are known here; these do: {}", names.join(", ")))
        }
    }
}

/// Asks and tells.
pub(super) async fn run(arguments: WhyArguments) -> Result<ExitCode, CliError> {
    let (kind, name) = match target(&arguments.target) {
        Ok(target) => target,
        Err(words) => {
            eprintln!("error: {words}");
            return Ok(ExitCode::from(EXIT_UNUSABLE));
        }
    };
    let cluster = Cluster::require(&arguments.cluster).await?;
    let Some(object) = kind.get(&cluster, name).await? else {
        let namespace = &cluster.namespace;
        let hint = match kind.kind {
            "Pod" => "; if its controller cannot make it, ask for the controller: deployment/NAME",
            _ => "",
        };
        eprintln!("error: there is no {} {namespace}/{name}: --namespace says where else{hint}", kind.kind);
        return Ok(ExitCode::from(EXIT_UNUSABLE));
    };
    let facts = facts(&cluster, object).await?;
    let told = match kind.kind {
        "Pod" => explain(&facts),
        _ => explain_workload(&facts, &pods_of(&cluster, &facts.object).await?),
    };
    print(&told.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that the explanation goes by.
async fn facts(cluster: &Cluster, object: Value) -> Result<Facts, ClusterError> {
    let mut notes = Vec::new();
    let mut known = Known::default();
    known.ask(cluster, &cluster.namespace).await?;
    // Whoever may see a pod may often not see what is the cluster's.
    let (installation, is_seen) = match cluster.installation().await {
        Ok(found) => (found, true),
        Err(error) => {
            notes.push(format!("the operator cannot be seen from here: {}", crate::error_chain(&error)));
            (Installation::default(), false)
        }
    };
    let excluded = installation.excluded_namespaces();
    let has_webhook = is_seen.then_some(installation.webhook.is_some());
    let images = installation.arguments.map(|arguments| arguments.images());
    if is_seen && images.is_none() {
        notes.push("how the operator was started cannot be seen: images are those of this version".to_owned());
    }
    let owners = owners(cluster, &object).await?;
    if let Err(error) = known.ask_namespace(cluster, &cluster.namespace).await {
        notes.push(format!("whether the namespace asks: {}", crate::error_chain(&error)));
    }
    Ok(Facts {
        admission: known.admission(ImageArguments::default().policy(images)),
        namespace: cluster.namespace.clone(),
        is_excluded: excluded.contains(&cluster.namespace),
        has_webhook,
        owners,
        notes,
        object,
    })
}

/// What has made an object, and what has made that.
async fn owners(cluster: &Cluster, object: &Value) -> Result<Vec<Value>, ClusterError> {
    let mut owners: Vec<Value> = Vec::new();
    while owners.len() < OWNERS_MAX {
        let references = &owners.last().unwrap_or(object)["metadata"]["ownerReferences"];
        let mut references = references.as_array().into_iter().flatten();
        let Some(owner) = references.find(|owner| owner["controller"] == true) else { break };
        let (kind, name) = (owner["kind"].as_str(), owner["name"].as_str().unwrap_or_default());
        let Some(kind) = KINDS.iter().find(|known| Some(known.kind) == kind) else { break };
        match kind.get(cluster, name).await? {
            Some(owner) => owners.push(owner),
            None => break,
        }
    }
    Ok(owners)
}

/// Some pods of a workload.
async fn pods_of(cluster: &Cluster, workload: &Value) -> Result<Vec<Value>, ClusterError> {
    let Some(labels) = workload["spec"]["selector"]["matchLabels"].as_object() else { return Ok(Vec::new()) };
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    let some = ListParams::default().labels(&pairs.join(",")).limit(PODS_TOLD_MAX);
    let [pod, ..] = &KINDS;
    let found = pod.api(cluster).list(&some).await.map_err(ClusterError::ask("the pods"))?;
    Ok(found.items.iter().map(|found| pod.json(found)).collect())
}

/// The pod that an object is or makes.
fn pod_of(object: &Value) -> &Value {
    let found = Object::all(object).into_iter().next();
    let pod = found.and_then(|found| object.pointer(found.pod_pointer()?));
    pod.unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_a_pods() {
        for (argument, expected) in [
            ("shop", Ok(("Pod", "shop"))),
            ("po/shop", Ok(("Pod", "shop"))),
            ("Deployment/shop", Ok(("Deployment", "shop"))),
            ("cj/nightly", Ok(("CronJob", "nightly"))),
            ("service/shop", Err("these do: pod, deployment")),
            ("pod/", Err("names no object")),
        ] {
            match (target(argument), expected) {
                (Ok((kind, name)), Ok(expected)) => assert_eq!((kind.kind, name), expected),
                (Err(words), Err(expected)) => assert!(words.contains(expected), "{words}"),
                (found, _) => panic!("{argument}: {:?}", found.map(|(kind, name)| (kind.kind, name))),
            }
        }
    }
}
