//! A pod that asks, created for the sake of the answer: what the API server, the network and the webhook do together.
//!
//! Owns: the pod, which is never really created (dry run), and what its answer means. The API server itself checks the
//! webhook's certificate against the caBundle here. Does not own: the objects that are involved (`installed`).

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::names::{CONTAINER, INJECT};

use super::super::cluster::Cluster;
use super::finding::Finding;

const CHECK: &str = "trial";

/// A name that no LakeIngest is asked for by, where there is none: the webhook's refusal shows that it answers.
const NOBODY: &str = "lakeingest-check";

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// In this namespace.
    pub(super) namespace: String,
    /// A LakeIngest of it that can be used, if there is one.
    pub(super) lake_ingest: Option<String>,
}

impl Trial {
    /// Creates the pod, without creating it.
    pub(super) async fn run(&self, cluster: &Cluster) -> Finding {
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &self.namespace);
        let pod = serde_json::from_value(self.pod()).expect("the pod is one");
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let answer = pods.create(&dry_run, &pod).await;
        self.finding(
            answer.map(|pod| serde_json::to_value(pod).unwrap_or_default()).map_err(|error| crate::error_chain(&error)),
        )
    }

    /// A pod that keeps every rule of the "restricted" standard, and whose image nobody pulls.
    fn pod(&self) -> Value {
        let security = json!({
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 65_532,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        });
        let resources = json!({"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}});
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "generateName": "lakeingest-check-", "namespace": self.namespace,
                "annotations": {INJECT: self.lake_ingest.as_deref().unwrap_or(NOBODY)},
            },
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [
                    {"name": "app", "image": "lakeingest/check", "securityContext": security, "resources": resources},
                ],
            },
        })
    }

    /// What the API server's answer means.
    fn finding(&self, answer: Result<Value, String>) -> Finding {
        let namespace = &self.namespace;
        match (answer, &self.lake_ingest) {
            (Ok(pod), Some(name)) if has_sidecar(&pod) => {
                Finding::ok(CHECK, format!("a pod that asks for LakeIngest {namespace}/{name} is injected"))
            }
            (Ok(_), _) => Finding::fail(
                CHECK,
                format!(
                    "a pod of namespace {namespace} that asks for a sidecar is created without one: the webhook was not asked"
                ),
                "see the check \"webhook\"; its namespaceSelector and matchConditions must be those of the chart: helm upgrade",
            ),
            (Err(words), None) if is_ours(&words) && words.contains("there is no LakeIngest") => Finding::ok(
                CHECK,
                "the webhook answers, and refuses a pod that asks for a LakeIngest which does not exist",
            ),
            (Err(words), _) => refused(&words, namespace),
        }
    }
}

fn has_sidecar(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    let sidecar = containers.into_iter().flatten().find(|container| container["name"] == CONTAINER);
    sidecar.is_some_and(|sidecar| sidecar["restartPolicy"] == "Always")
}

/// Whether it is the webhook that refuses, or the policy that looks at the pod after it.
/// Source: k8s.io/apiserver, webhook/errors and policy/validating.
fn is_ours(words: &str) -> bool {
    words.contains("denied the request: lakeingest:") || words.contains("denied request: lakeingest:")
}

/// Why the pod was not taken. The words are those of the API server (k8s.io/apiserver, webhook/errors) and of Go's net and
/// crypto/x509 in it.
fn refused(words: &str, namespace: &str) -> Finding {
    if is_ours(words) {
        return Finding::fail(
            CHECK,
            words,
            "do what the message says; it is of LakeIngest's webhook, or of its policy",
        );
    }
    if words.contains("cannot create resource \"pods\"") {
        return Finding::warn(CHECK, words, "ask with the rights of somebody who may create pods there");
    }
    if !words.contains("failed calling webhook") {
        let next = format!(
            "another rule of the cluster stands in the way of this test, not the webhook: name another namespace than {namespace} with --namespace"
        );
        return Finding::warn(CHECK, words, next);
    }
    let has = |any: &[&str]| any.iter().any(|part| words.contains(part));
    let next = if has(&["x509", "certificate", "tls:"]) {
        "the caBundle does not vouch for what is served: restart the operator, which writes it anew (kubectl rollout restart)"
    } else if has(&["no endpoints available", "connection refused", "not found"]) {
        "no operator answers: see the checks \"operator\" and \"service\""
    } else if has(&["deadline exceeded", "i/o timeout", "Client.Timeout", "no route to host"]) {
        "the API server does not reach the operator's pods: open their port (webhook.port, 9443) in the firewall between \
         control plane and nodes, or set webhook.port to one that is open, such as 10250; a NetworkPolicy may be in the way too"
    } else {
        "look at the operator's log"
    };
    Finding::fail(CHECK, words, next)
}

#[cfg(test)]
mod tests {
    use super::super::finding::lines;
    use super::*;

    fn trial(lake_ingest: Option<&str>) -> Trial {
        Trial { namespace: "team-a".to_owned(), lake_ingest: lake_ingest.map(str::to_owned) }
    }

    fn says(lake_ingest: Option<&str>, answer: Result<Value, &str>) -> String {
        lines(&[trial(lake_ingest).finding(answer.map_err(str::to_owned))])
    }

    #[test]
    fn the_pod_can_be_injected_as_it_is() {
        let injection = crate::inject::inject(&trial(Some("events")).pod(), &crate::fixtures::validated());
        let injected = injection.expect("it can be injected").pod;
        let said = says(Some("events"), Ok(injected));
        assert!(said.starts_with("ok") && said.contains("team-a/events is injected"), "{said}");
    }

    #[test]
    fn a_pod_that_nobody_has_injected_fails() {
        for lake_ingest in [Some("events"), None] {
            let said = says(lake_ingest, Ok(trial(None).pod()));
            assert!(said.starts_with("FAIL") && said.contains("the webhook was not asked"), "{said}");
        }
    }

    #[test]
    fn without_a_lake_ingest_the_webhooks_refusal_is_the_proof() {
        let words = "admission webhook \"inject.lakeingest.io\" denied the request: lakeingest: there is no LakeIngest \"lakeingest-check\"";
        assert!(says(None, Err(words)).starts_with("ok"));
        assert!(says(Some("events"), Err(words)).starts_with("FAIL"));
    }

    #[test]
    fn each_way_of_not_being_reached_says_what_to_do() {
        let call = |words: &str| {
            format!(
                "Internal error occurred: failed calling webhook \"inject.lakeingest.io\": failed to call webhook: Post \"https://x.svc:443/inject?timeout=3s\": {words}"
            )
        };
        for (words, next) in [
            ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "does not vouch"),
            ("no endpoints available for service \"lakeingest-webhook\"", "no operator answers"),
            ("dial tcp 10.0.0.1:443: connect: connection refused", "no operator answers"),
            ("service \"lakeingest-webhook\" not found", "no operator answers"),
            ("context deadline exceeded", "firewall"),
            ("dial tcp 10.0.0.1:9443: i/o timeout", "firewall"),
            ("something else", "operator's log"),
        ] {
            let said = says(Some("events"), Err(&call(words)));
            assert!(said.starts_with("FAIL") && said.contains(next), "{said}");
        }
        let policy = "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'lakeingest-injected-pods' with binding \
                      'lakeingest-injected-pods' denied request: lakeingest: the pod asks for a sidecar and has none";
        for lake_ingest in [Some("events"), None] {
            assert!(says(lake_ingest, Err(policy)).starts_with("FAIL"));
        }
        let said = says(Some("events"), Err("pods \"x\" is forbidden: exceeded quota: small"));
        assert!(said.starts_with("warn") && said.contains("exceeded quota"), "{said}");
        let said = says(None, Err("pods is forbidden: User \"dev\" cannot create resource \"pods\" in API group \"\""));
        assert!(said.starts_with("warn") && said.contains("who may create pods"), "{said}");
    }
}
