//! The envelope.
//!
//! Owns: what of an AdmissionReview is read, and the shape of the answers. The pod stays raw JSON, so that fields of a
//! newer Kubernetes are neither lost nor looked at.
//! Does not own: the wire, the decision.
//!
//! Source: admission.k8s.io/v1,
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request>.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::PodReview;
use crate::limits::WARNINGS_MAX;

/// Longest warning. Source: `AdmissionResponse.warnings`; longer ones may be cut.
const WARNING_LENGTH_MAX: usize = 256;

#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    namespace: String,
    operation: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default)]
    object: Value,
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
    /// Reads a body.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ReviewError> {
        let envelope: Envelope = serde_json::from_slice(bytes)?;
        if envelope.api_version != "admission.k8s.io/v1" || envelope.kind != "AdmissionReview" {
            return Err(ReviewError::Kind(format!("{} {}", envelope.api_version, envelope.kind)));
        }
        let Request { uid, namespace, operation, resource, sub_resource, dry_run, object } = envelope.request;
        let Resource { group, version, resource } = resource;
        let is_pod =
            group.is_empty() && version == "v1" && resource == "pods" && sub_resource.unwrap_or_default().is_empty();
        let pod = match is_pod && operation == "CREATE" && object.is_object() {
            true => {
                let dry_run = dry_run.unwrap_or_default();
                Ok(PodReview { namespace, pod: object, dry_run, is_sent_for_label: false })
            }
            false => Err(NotOurs { operation, resource: format!("{group}/{version} {resource}") }),
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
