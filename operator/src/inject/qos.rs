//! What the sidecar does to what the pod as a whole asks for and may take.
//!
//! Owns: whether a container is sure of what it may take, and raising the resources of a whole pod by ours.
//! Does not own: the sidecar's own resources (`container`).

use serde_json::{Value, json};

use super::amounts::Amount;
use super::patch::{Patch, Step};
use super::{ANNOTATIONS, Refusal, items};
use crate::names::{CONTAINER, ORIGINAL_RESOURCES};

/// What counts for the class of a pod, and what a pod as a whole can have.
/// Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// Whether a container is given all that it may take, as every container of a pod of the class Guaranteed is.
pub(super) fn is_guaranteed(container: &Value) -> bool {
    let resources = &container["resources"];
    COUNTED.iter().all(|name| {
        let (request, limit) = (&resources["requests"][name], &resources["limits"][name]);
        let amount = Amount::of(limit);
        // What is not requested is requested as it is limited.
        amount.is_some() && (request.is_null() || Amount::of(request) == amount)
    })
}

/// Raises what a pod as a whole asks for and may take by what the sidecar does: it would else take that from the application.
/// What was there before is kept in an annotation, by which a second run knows that it was done.
///
/// # Errors
/// The pod says something that is no amount.
pub(super) fn raise_pod_resources(patch: &mut Patch, sidecar: &Value) -> Result<(), Refusal> {
    let Some(own) = patch.get(&["spec".into(), "resources".into()]).cloned() else { return Ok(()) };
    if !patch.set_if_absent(&ANNOTATIONS, ORIGINAL_RESOURCES, json!(own.to_string())) {
        return Ok(());
    }
    for name in COUNTED {
        let ours = |list: &str| Amount::of(&sidecar["resources"][list][name]);
        let request = ours("requests");
        let limit = ours("limits").or(request);
        let own_limit = amount(&own, "limits", name)?;
        // Where nobody says what is requested, the API server takes the limit for it, as long as no container says it: and
        // the sidecar does.
        let implied =
            own_limit.filter(|_| !patch.get(&["spec".into()]).is_some_and(|spec| is_said_by_containers(spec, name)));
        let own_request = amount(&own, "requests", name)?.or(implied);
        let is_guaranteed = own_request.is_some() && own_request == own_limit;
        let request = if is_guaranteed { limit } else { request };
        for (list, own, ours) in [("requests", own_request, request), ("limits", own_limit, limit)] {
            if let Some((own, ours)) = own.zip(ours) {
                let place: [Step<'_>; 3] = ["spec".into(), "resources".into(), list.into()];
                patch.set(&place, name, json!(own.plus(ours).to_string()));
            }
        }
    }
    Ok(())
}

/// Whether a container but the sidecar says what it requests of something; its limit stands for its request.
/// Source: `defaultPodRequests` of pkg/apis/core/v1, Kubernetes 1.34.
fn is_said_by_containers(spec: &Value, name: &str) -> bool {
    let all = items(&spec["containers"]).chain(items(&spec["initContainers"]));
    let mut others = all.filter(|container| container["name"] != CONTAINER);
    others.any(|container| ["requests", "limits"].iter().any(|list| !container["resources"][*list][name].is_null()))
}

fn amount(own: &Value, list: &str, name: &str) -> Result<Option<Amount>, Refusal> {
    match &own[list][name] {
        Value::Null => Ok(None),
        value => Amount::of(value).map(Some).ok_or_else(|| Refusal::Wish {
            place: format!("spec.resources.{list}.{name} of the pod"),
            detail: "is no amount".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
