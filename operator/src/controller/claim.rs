//! Who has a location that two LakeIngests name.
//!
//! Owns: what a claim is, which of two is the better one, writing it before anything that follows from it.
//! Does not own: what a LakeIngest without a location is told (`build`, `status`).
//!
//! A claim is in the status of the LakeIngest, which its users cannot write. What is written follows from the LakeIngest
//! alone, and the API server takes it for the version that was looked at alone: any replica may, and none has to lead.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use lakeingest_crds::lakeingest::{LakeIngest, conditions};
use serde_json::json;

use super::dereference::Location;
use crate::names::MANAGER;

/// A claim could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// There is a newer version of the LakeIngest, or none any more: whoever is told of it decides anew.
    #[error("LakeIngest {name} has changed meanwhile")]
    Superseded {
        /// The LakeIngest.
        name: String,
    },
    /// The API server refused it.
    #[error("failed to note in the status of LakeIngest {name} whose its location is")]
    Patch {
        /// The LakeIngest.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// How good a LakeIngest's claim to its location is; less is better. Who holds it keeps it, also when an older LakeIngest
/// moves there; of two that are new the older one has it, and of two that were made in the same second the one with the
/// lesser uid.
pub(super) fn rank(ingest: &LakeIngest) -> (bool, Option<Time>, Option<String>) {
    (!holds(ingest), ingest.creation_timestamp(), ingest.uid())
}

/// Whether a LakeIngest has the location that it names, by its status. One that an operator without claims has found ready
/// has it.
pub(super) fn holds(ingest: &LakeIngest) -> bool {
    match held(ingest) {
        Some(held) => held == Location::of(ingest).url(),
        None => is_ready(ingest),
    }
}

/// The location that the status gives to a LakeIngest. It may have another one by now: nobody has what it holds until it is
/// given back.
pub(super) fn held(ingest: &LakeIngest) -> Option<&str> {
    ingest.status.as_ref()?.location.as_deref()
}

fn is_ready(ingest: &LakeIngest) -> bool {
    let Some(status) = &ingest.status else { return false };
    let ready = status.conditions.iter().find(|condition| condition.type_ == conditions::READY);
    status.observed_generation == ingest.metadata.generation && ready.is_some_and(|ready| ready.status == "True")
}

/// What the status of a LakeIngest should give to it: its location where that is nobody else's. One that cannot be used keeps
/// what it names, and gives back everything else.
pub(super) fn wanted(ingest: &LakeIngest, is_valid: bool, is_anothers: bool) -> Option<String> {
    let location = Location::of(ingest).url();
    let keeps = !is_anothers && (is_valid || held(ingest) == Some(location.as_str()));
    keeps.then_some(location)
}

/// Brings the status to give `wanted` to the LakeIngest, and nothing else.
pub(super) async fn write(client: &Client, ingest: &LakeIngest, wanted: Option<&str>) -> Result<(), ClaimError> {
    if held(ingest) == wanted {
        return Ok(());
    }
    let (namespace, name) = (ingest.namespace().unwrap_or_default(), ingest.name_any());
    let lake_ingests: Api<LakeIngest> = Api::namespaced(client.clone(), &namespace);
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match lake_ingests.patch_status(&name, &parameters, &Patch::Merge(&change(ingest, wanted))).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Err(ClaimError::Superseded { name }),
        Err(source) => Err(ClaimError::Patch { name, source: Box::new(source) }),
    }
}

/// The change of the version that was looked at.
fn change(ingest: &LakeIngest, wanted: Option<&str>) -> serde_json::Value {
    json!({"metadata": {"resourceVersion": ingest.resource_version()}, "status": {"location": wanted}})
}

#[cfg(test)]
mod tests {
    use lakeingest_crds::lakeingest::LakeIngestStatus;

    use super::*;
    use crate::fixtures::ingest;

    fn with_status(status: serde_json::Value) -> LakeIngest {
        let mut ingest = ingest("events", json!({}));
        ingest.metadata.resource_version = Some("7".to_owned());
        ingest.status = Some(serde_json::from_value::<LakeIngestStatus>(status).expect("it is a status"));
        ingest
    }

    #[test]
    fn who_was_found_ready_before_there_were_claims_has_its_location() {
        let ready = |generation: i64, answer: &str| {
            with_status(json!({"observedGeneration": generation, "conditions": [{
                "type": "Ready", "status": answer, "reason": "x", "message": "", "lastTransitionTime": "2026-01-08T10:00:00Z",
            }]}))
        };
        assert!(holds(&ready(3, "True")));
        assert!(!holds(&ready(2, "True")), "that was of another specification");
        assert!(!holds(&ready(3, "False")));
        assert!(!holds(&ingest("events", json!({}))));
    }

    #[test]
    fn what_is_held_is_kept_or_given_back() {
        let here = Location::of(&ingest("events", json!({}))).url();
        let (new, holder) = (with_status(json!({})), with_status(json!({"location": here})));
        let moved = with_status(json!({"location": "aws:/lake-data/elsewhere"}));
        assert!(holds(&holder) && !holds(&moved));
        for (ingest, is_valid, is_anothers, is_wanted) in [
            (&new, true, false, true),
            (&new, false, false, false),
            (&new, true, true, false),
            (&holder, true, false, true),
            (&holder, false, false, true),
            (&holder, true, true, false),
            (&moved, true, false, true),
            (&moved, true, true, false),
            (&moved, false, false, false),
        ] {
            let expected = is_wanted.then(|| here.clone());
            assert_eq!(wanted(ingest, is_valid, is_anothers), expected, "{:?}", ingest.status);
        }
        // A merge patch removes what is null.
        let given_back = change(&moved, None);
        assert_eq!(given_back, json!({"metadata": {"resourceVersion": "7"}, "status": {"location": null}}));
    }
}
