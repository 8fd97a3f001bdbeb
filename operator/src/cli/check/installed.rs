//! Whether what the chart installs is there and as it should be.
//!
//! Owns: what is concluded from the objects, pure functions of them. Does not own: asking for them (`check`).

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use lakeingest_crds::lakeingest::schema;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::certs::not_after;
use crate::entries::faults;
use crate::settings::RunArguments;

use super::super::cluster::Installation;
use super::finding::Finding;

/// What is said where a part of the chart is missing or old.
const UPGRADE: &str = "helm upgrade --install lakeingest charts/lakeingest --namespace lakeingest --create-namespace";

/// How long before its end an authority is warned of, where it is not known how long it lives. Elsewhere a twelfth of its
/// life: operators that run replace it when a third is left.
const ENDS_SOON: TimeDelta = TimeDelta::days(30);

/// The definition of LakeIngest.
pub(super) fn definition(found: Option<&CustomResourceDefinition>) -> Finding {
    const CHECK: &str = "definition";
    let ours = schema::definition();
    let name = ours.name_any();
    let Some(found) = found else {
        return Finding::fail(CHECK, format!("there is no CustomResourceDefinition {name}"), UPGRADE);
    };
    let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unestablished = conditions.filter(|one| one.type_ == "Established").find(|one| one.status != "True");
    if let Some(condition) = unestablished {
        let words = condition.message.clone().unwrap_or_default();
        return Finding::fail(
            CHECK,
            format!("{name} is not established: {words}"),
            format!("kubectl describe crd {name}"),
        );
    }
    let version = |of: &CustomResourceDefinition| {
        let mine = ours.spec.versions.first().map(|version| version.name.clone());
        of.spec.versions.iter().find(|version| Some(&version.name) == mine.as_ref() && version.served).cloned()
    };
    let (Some(theirs), Some(ours)) = (version(found), version(&ours)) else {
        return Finding::fail(CHECK, format!("{name} does not serve the version of this program"), UPGRADE);
    };
    let schema = |version| serde_json::to_value(version).unwrap_or_default();
    match holds_all(&schema(theirs.schema), &schema(ours.schema)) {
        true => Finding::ok(CHECK, format!("{name} is there, with {} as this program has it", ours.name)),
        false => Finding::warn(
            CHECK,
            format!("{name} is not that of this program, version {}", env!("CARGO_PKG_VERSION")),
            format!("use the program of the operator's version, or upgrade: {UPGRADE}"),
        ),
    }
}

/// Whether two schemas are the same. The API server fills nothing in but what is null or empty.
fn holds_all(theirs: &Value, ours: &Value) -> bool {
    fn is_empty(value: &Value) -> bool {
        value.is_null() || value == &serde_json::json!({}) || value == &serde_json::json!([])
    }
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => theirs.keys().chain(ours.keys()).all(|key| {
            let (theirs, ours) = (theirs.get(key).unwrap_or(&Value::Null), ours.get(key).unwrap_or(&Value::Null));
            holds_all(theirs, ours) || (is_empty(theirs) && is_empty(ours))
        }),
        (Value::Array(theirs), Value::Array(ours)) => {
            theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(theirs, ours)| holds_all(theirs, ours))
        }
        // A bound may come back as 1.0 or as 1.
        (theirs, ours) if theirs.is_number() => theirs.as_f64() == ours.as_f64(),
        (theirs, ours) => theirs == ours,
    }
}

/// The webhook configuration, and the authority in it.
pub(super) fn webhook(installation: &Installation, now: DateTime<Utc>) -> Finding {
    const CHECK: &str = "webhook";
    if installation.injects_by_policy() {
        return Finding::ok(
            CHECK,
            "there is none: the API server injects by the policy of the chart, as the trial shows",
        );
    }
    let Some(webhook) = &installation.webhook else {
        let detail = "there is no MutatingWebhookConfiguration of LakeIngest: pods that ask start without a sidecar";
        return Finding::fail(CHECK, detail, UPGRADE);
    };
    let name = webhook.name_any();
    let entries = webhook.webhooks.as_deref().unwrap_or_default();
    if entries.is_empty() {
        return Finding::fail(CHECK, format!("MutatingWebhookConfiguration {name} has no entry"), UPGRADE);
    }
    let mut ends: Vec<DateTime<Utc>> = Vec::new();
    for entry in entries {
        match authority_end(entry) {
            Some(end) => ends.push(end),
            None => {
                let detail =
                    format!("entry {} of {name} has no usable caBundle, so no pod that asks is created", entry.name);
                let next = "the operator puts it there: look at its log, and at the check \"operator\"";
                return Finding::fail(CHECK, detail, next);
            }
        }
    }
    let end = ends.into_iter().min().unwrap_or(now);
    let (day, renew) = (end.format("%Y-%m-%d"), renew(installation));
    if end <= now {
        return Finding::fail(CHECK, format!("the authority in {name} has ended on {day}"), renew);
    }
    let lives = installation.arguments.as_ref().map(RunArguments::lives);
    if end - now < lives.map_or(ENDS_SOON, |lives| lives.authority / 12) {
        return Finding::warn(CHECK, format!("the authority in {name} ends on {day}"), renew);
    }
    let faults = faults(webhook);
    // What is felt already comes first.
    match faults.iter().find(|fault| fault.is_felt).or(faults.first()) {
        Some(fault) if fault.is_felt => return Finding::fail(CHECK, &fault.detail, UPGRADE),
        Some(fault) => return Finding::warn(CHECK, &fault.detail, UPGRADE),
        None => {}
    }
    Finding::ok(CHECK, format!("{name} is there, its authority is good until {day}"))
}

/// The latest end of the certificates of an entry: while a bundle has two, either vouches.
fn authority_end(entry: &MutatingWebhook) -> Option<DateTime<Utc>> {
    let bundle = entry.client_config.ca_bundle.as_ref()?;
    CertificateDer::pem_slice_iter(&bundle.0).flatten().filter_map(|certificate| not_after(&certificate)).max()
}

fn renew(installation: &Installation) -> String {
    let deployment = installation.deployment.as_ref().map_or("lakeingest-operator".to_owned(), ResourceExt::name_any);
    let namespace = installation.namespace.as_deref().unwrap_or("lakeingest");
    format!(
        "the operator replaces it long before: kubectl --namespace {namespace} logs deployment/{deployment} says why it does not"
    )
}

/// The operator's pods.
pub(super) fn operator(installation: &Installation) -> Finding {
    const CHECK: &str = "operator";
    let namespace = installation.namespace.as_deref().unwrap_or("lakeingest");
    let Some(deployment) = &installation.deployment else {
        return Finding::fail(CHECK, format!("there is no operator in namespace {namespace}"), UPGRADE);
    };
    let name = deployment.name_any();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let look = format!(
        "kubectl --namespace {namespace} describe deployment/{name} && kubectl --namespace {namespace} logs deployment/{name}"
    );
    if wanted == 0 {
        let next = format!("kubectl --namespace {namespace} scale deployment/{name} --replicas 2");
        return Finding::fail(CHECK, format!("{namespace}/{name} is scaled to 0: pods that ask are refused"), next);
    }
    if ready == 0 {
        return Finding::fail(
            CHECK,
            format!("none of {wanted} pods of {namespace}/{name} is ready: pods that ask are refused"),
            look,
        );
    }
    if ready < wanted {
        return Finding::warn(CHECK, format!("{ready} of {wanted} pods of {namespace}/{name} are ready"), look);
    }
    let version = deployment.labels().get("app.kubernetes.io/version").cloned().unwrap_or_default();
    if version != env!("CARGO_PKG_VERSION") {
        let detail =
            format!("{namespace}/{name} is of version {version}, this program of {}", env!("CARGO_PKG_VERSION"));
        return Finding::warn(CHECK, detail, "use the program of the operator's version: what it says may differ");
    }
    Finding::ok(CHECK, format!("{ready} of {wanted} pods of {namespace}/{name} are ready, version {version}"))
}

/// The Service that the webhook configuration names, and who is behind it. `slices` is none where there is no Service.
pub(super) fn service(namespace: &str, name: &str, slices: Option<&[EndpointSlice]>) -> Finding {
    const CHECK: &str = "service";
    let Some(slices) = slices else {
        return Finding::fail(
            CHECK,
            format!("there is no Service {namespace}/{name}, which the webhook configuration names"),
            UPGRADE,
        );
    };
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    // Absent is ready (discovery.k8s.io/v1, EndpointConditions).
    let ready = endpoints.filter(|one| one.conditions.as_ref().and_then(|all| all.ready).unwrap_or(true)).count();
    match ready {
        0 => Finding::fail(
            CHECK,
            format!("nobody is behind Service {namespace}/{name}"),
            format!("kubectl --namespace {namespace} get pods,endpointslices: a ready operator must be among them"),
        ),
        ready => Finding::ok(CHECK, format!("{ready} endpoints are behind {namespace}/{name}")),
    }
}

#[cfg(test)]
mod tests;
