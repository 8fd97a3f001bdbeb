//! Whether the operator may do what it has to.
//!
//! Owns: the list of what it needs, as charts/lakeingest/templates/rbac.yaml grants it.
//! Does not own: the rights of whoever asks.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::super::cluster::{Cluster, Installation};
use super::finding::Finding;

const CHECK: &str = "rights";

/// What a right is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Objects of the whole cluster.
    Cluster,
    /// The webhook configuration.
    WebhookConfiguration,
    /// What the webhook configuration has of the operator's own certificates.
    Bundle,
    /// Objects of the operator's namespace.
    Own,
    /// The Secret of the authorities.
    Authority,
    /// The Lease by which one operator leads.
    Lease,
    /// The namespace `kube-system`.
    KubeSystem,
    /// Pods, where those without their sidecar are evicted.
    Watchdog,
    /// Objects of each namespace in which lakes are tried.
    Preflight,
}

/// Group, resource, verbs, what of them.
const NEEDED: [(&str, &str, &[&str], Scope); 17] = [
    ("lakeingest.io", "lakeingests", &["list", "watch"], Scope::Cluster),
    ("lakeingest.io", "lakeingests/status", &["patch"], Scope::Cluster),
    ("", "configmaps", &["get", "list", "watch", "create", "patch"], Scope::Cluster),
    ("", "pods", &["list", "watch"], Scope::Cluster),
    ("events.k8s.io", "events", &["create"], Scope::Cluster),
    ("", "namespaces", &["get"], Scope::KubeSystem),
    ("", "namespaces", &["list", "watch"], Scope::Cluster),
    ("", "pods", &["get"], Scope::Watchdog),
    ("", "pods/eviction", &["create"], Scope::Watchdog),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &["list", "watch"], Scope::WebhookConfiguration),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &["patch"], Scope::Bundle),
    ("", "secrets", &["create"], Scope::Own),
    ("", "secrets", &["get", "list", "watch", "update"], Scope::Authority),
    ("coordination.k8s.io", "leases", &["create"], Scope::Own),
    ("coordination.k8s.io", "leases", &["get", "update"], Scope::Lease),
    ("batch", "jobs", &["create", "get", "delete"], Scope::Preflight),
    ("events.k8s.io", "events", &["list"], Scope::Preflight),
];

/// Asks for each right of the operator's service account.
pub(super) async fn check(cluster: &Cluster, installation: &Installation) -> Finding {
    let Installation { namespace: Some(namespace), deployment: Some(deployment), .. } = installation else {
        return Finding::fail(CHECK, "there is no operator that could have any", "see the check \"operator\"");
    };
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let account = pod.and_then(|pod| pod.service_account_name.clone()).unwrap_or_else(|| "default".to_owned());
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let mut missing = Vec::new();
    let has_webhook = !installation.injects_by_policy();
    let makes_certificates =
        has_webhook && installation.arguments.as_ref().is_none_or(|arguments| arguments.certificate_files.is_none());
    let is_needed = |resource, scope| match scope {
        Scope::WebhookConfiguration => has_webhook,
        Scope::Bundle | Scope::Authority => makes_certificates,
        Scope::Own => makes_certificates || resource != "secrets",
        Scope::Watchdog => installation.arguments.as_ref().is_some_and(|arguments| arguments.evict_after.is_some()),
        Scope::Cluster | Scope::KubeSystem | Scope::Lease | Scope::Preflight => true,
    };
    for (group, resource, verbs, scope) in
        NEEDED.into_iter().filter(|(_, resource, _, scope)| is_needed(*resource, *scope))
    {
        let places = namespaces(installation, namespace, scope);
        for (verb, place) in verbs.iter().flat_map(|verb| places.iter().map(move |place| (verb, place))) {
            let attributes = attributes(installation, group, resource, verb, scope);
            let review = review(&user, ResourceAttributes { namespace: place.clone(), ..attributes });
            match reviews.create(&PostParams::default(), &review).await {
                Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => {}
                Ok(_) => missing.push(match (scope, place) {
                    (Scope::Preflight, Some(place)) => format!("{verb} {resource} in {place}"),
                    _ => format!("{verb} {resource}"),
                }),
                Err(error) => {
                    let detail = format!("what {user} may do cannot be asked: {}", crate::error_chain(&error));
                    return Finding::warn(CHECK, detail, "ask with the rights of an administrator");
                }
            }
        }
    }
    finding(&user, &missing)
}

fn finding(user: &str, missing: &[String]) -> Finding {
    match missing {
        [] => Finding::ok(CHECK, format!("{user} may do what it has to")),
        missing => Finding::fail(
            CHECK,
            format!("{user} may not {}", missing.join(", ")),
            "restore the ClusterRole and the Role of the chart: helm upgrade",
        ),
    }
}

/// In which namespaces a right is needed; none stands for all of them. `own` is the operator's.
fn namespaces(installation: &Installation, own: &str, scope: Scope) -> Vec<Option<String>> {
    match scope {
        Scope::Own | Scope::Authority | Scope::Lease => vec![Some(own.to_owned())],
        Scope::Preflight => {
            let listed = installation.arguments.iter().flat_map(|arguments| &arguments.preflight_namespaces);
            listed.map(|namespace| (namespace != "*").then(|| namespace.clone())).collect()
        }
        Scope::Cluster | Scope::WebhookConfiguration | Scope::Bundle | Scope::KubeSystem | Scope::Watchdog => {
            vec![None]
        }
    }
}

/// All but the namespace.
fn attributes(
    installation: &Installation,
    group: &str,
    resource: &str,
    verb: &str,
    scope: Scope,
) -> ResourceAttributes {
    let (resource, subresource) =
        resource.split_once('/').map_or((resource, None), |(resource, sub)| (resource, Some(sub)));
    let arguments = installation.arguments.as_ref();
    let name = match scope {
        Scope::Cluster | Scope::Own | Scope::Watchdog | Scope::Preflight => None,
        Scope::WebhookConfiguration | Scope::Bundle => {
            Some(arguments.map_or("lakeingest", |arguments| &arguments.webhook_configuration).to_owned())
        }
        Scope::Authority => {
            Some(arguments.map_or("lakeingest-webhook-ca", |arguments| &arguments.ca_secret).to_owned())
        }
        Scope::Lease => Some(arguments.map_or("lakeingest-leader", |arguments| &arguments.lease).to_owned()),
        Scope::KubeSystem => Some("kube-system".to_owned()),
    };
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(verb.to_owned()),
        name,
        ..ResourceAttributes::default()
    }
}

fn review(user: &str, attributes: ResourceAttributes) -> SubjectAccessReview {
    let spec = SubjectAccessReviewSpec {
        user: Some(user.to_owned()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview { spec, ..SubjectAccessReview::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the list is that of the chart. Method: every rule of the template must be in the list, word for word.
    #[test]
    fn the_list_has_every_rule_of_the_chart() {
        let template = include_str!("../../../../charts/lakeingest/templates/rbac.yaml");
        let after = |name: &'static str| {
            move |line: &'static str| {
                let rest = line.trim_start().trim_start_matches("- ").strip_prefix(name)?;
                Some(
                    rest.trim()
                        .trim_matches(['[', ']'])
                        .split(", ")
                        .map(|one| one.trim_matches('"'))
                        .collect::<Vec<_>>(),
                )
            }
        };
        let lists = |name| template.lines().filter_map(after(name)).collect::<Vec<_>>();
        let rules: Vec<_> = lists("resources:").into_iter().zip(lists("verbs:")).collect();
        let needed: Vec<_> = NEEDED.iter().map(|(_, resource, verbs, _)| (vec![*resource], verbs.to_vec())).collect();
        assert_eq!(rules, needed);
    }

    #[test]
    fn what_is_missing_is_named() {
        let lines = super::super::finding::lines(&[finding("system:x", &["patch pods".to_owned()])]);
        assert!(lines.starts_with("FAIL") && lines.contains("may not patch pods"), "{lines}");
    }
}
