//! The envelope.
//!
//! Owns: what of an AdmissionReview is read, and the shape of the answers. The pod stays text, so that fields of a
//! newer Kubernetes are neither lost nor looked at, and none takes memory for a pod that did not ask.
//! Does not own: the wire, the decision.
//!
//! Source: admission.k8s.io/v1,
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request>.

use std::sync::Arc;

use axum::body::Bytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::PodReview;
use super::pod::PodJson;
use crate::limits::WARNINGS_MAX;

/// Longest warning. Source: `AdmissionResponse.warnings`; longer ones may be cut.
const WARNING_LENGTH_MAX: usize = 256;

#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    #[serde(default)]
    namespace: String,
    operation: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    group: String,
    version: String,
    resource: String,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Review {
    /// What the answer has to repeat.
    pub(super) uid: String,
    /// The pod, or why it is none.
    pub(super) pod: Result<PodReview, NotOurs>,
}

/// The body is no review.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is {0}; admission.k8s.io/v1 AdmissionReview is understood")]
    Kind(String),
}

/// The review is of something that this webhook never asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "lakeingest: {operation} of {resource} is not for this webhook; its configuration was changed by hand: upgrade the chart"
)]
pub(super) struct NotOurs {
    operation: String,
    resource: String,
}

impl Review {
    /// Reads a body. `large_trees`: see [`PodJson`].
    pub(super) fn parse(bytes: &Bytes, large_trees: &Arc<Semaphore>) -> Result<Self, ReviewError> {
        let envelope: Envelope<'_> = serde_json::from_slice(bytes)?;
        if envelope.api_version != "admission.k8s.io/v1" || envelope.kind != "AdmissionReview" {
            return Err(ReviewError::Kind(format!("{} {}", envelope.api_version, envelope.kind)));
        }
        let Request { uid, namespace, operation, resource, sub_resource, dry_run, object } = envelope.request;
        let Resource { group, version, resource } = resource;
        let is_pod =
            group.is_empty() && version == "v1" && resource == "pods" && sub_resource.unwrap_or_default().is_empty();
        let object = match object.filter(|_| is_pod && operation == "CREATE") {
            Some(text) => Some(PodJson::read(bytes.slice_ref(text.get().as_bytes()), Arc::clone(large_trees))?),
            None => None,
        };
        let pod = match object.filter(|pod| pod.head().is_object()) {
            Some(pod) => {
                let dry_run = dry_run.unwrap_or_default();
                Ok(PodReview { namespace, pod, dry_run, is_sent_for_label: false })
            }
            None => Err(NotOurs { operation, resource: format!("{group}/{version} {resource}") }),
        };
        Ok(Self { uid, pod })
    }
}

/// The pod may be created, perhaps with a patch.
pub(super) fn allowed(uid: &str, patch: Option<&[Value]>, warnings: Vec<String>) -> Value {
    let mut response = json!({"uid": uid, "allowed": true});
    if let Some(patch) = patch {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(BASE64_STANDARD.encode(Value::from(patch.to_vec()).to_string()));
    }
    let short = |warning: String| warning.chars().take(WARNING_LENGTH_MAX).collect::<String>();
    let warnings: Vec<String> = warnings.into_iter().take(WARNINGS_MAX).map(short).collect();
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    envelope(&response)
}

/// The pod may not be created.
pub(super) fn refused(uid: &str, message: &str) -> Value {
    let status = json!({"code": 403, "reason": "Forbidden", "status": "Failure", "message": message});
    envelope(&json!({"uid": uid, "allowed": false, "status": status}))
}

fn envelope(response: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
