//! Step five: what is said of a LakeIngest.
//!
//! Owns: the one table from outcome to condition and Event, and writing the status only when it says something new.
//! Does not own: the outcome.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use lakeingest_crds::lakeingest::{LakeIngest, LakeIngestStatus, PodCounts, conditions, reasons};
use serde_json::json;

use super::Context;
use super::apply::ApplyError;
use super::dereference::Location;
use crate::events::Happening;
use crate::index::Found;
use crate::names::MANAGER;

/// What came of looking at a LakeIngest.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Pods can be injected from it.
    Configured {
        /// Whether anything had to be written.
        was_applied: bool,
        /// Where its lake is.
        location: Location,
    },
    /// Its specification cannot be used.
    Invalid {
        /// Every violation.
        message: String,
    },
    /// Its location is an older LakeIngest's.
    PrefixInUse {
        /// Whose.
        message: String,
    },
    /// What its sidecars need could not be written.
    ApplyFailed {
        /// Why.
        error: ApplyError,
    },
}

impl Outcome {
    /// The name for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "configured",
            Self::Invalid { .. } => "invalid",
            Self::PrefixInUse { .. } => "prefix-in-use",
            Self::ApplyFailed { .. } => "apply-failed",
        }
    }

    /// Status, reason and message of the condition `Ready`.
    fn condition(&self) -> (bool, &'static str, String) {
        match self {
            Self::Configured { location, .. } => {
                (true, reasons::CONFIGURED, format!("pods can be injected; the lake is {location}"))
            }
            Self::Invalid { message } => (false, reasons::INVALID_SPEC, message.clone()),
            Self::PrefixInUse { message } => (false, reasons::PREFIX_IN_USE, message.clone()),
            Self::ApplyFailed { error } => (false, reasons::APPLY_FAILED, crate::error_chain(error)),
        }
    }
}

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The API server refused it.
    #[error("failed to write the status of LakeIngest {name}")]
    Patch {
        /// The LakeIngest.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Writes the status if it says something new, and an Event if the condition does.
pub(super) async fn update(context: &Context, found: &Found, outcome: &Outcome) -> Result<(), StatusError> {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    let old = found.0.as_ref().ok().and_then(|ingest| ingest.status.clone());
    let pods = context.index.pod_counts(&namespace, &name);
    let new = status(found, old.as_ref(), outcome, pods, context.clock.now());
    if old.as_ref() == Some(&new) {
        return Ok(());
    }
    let lake_ingests: Api<LakeIngest> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({"apiVersion": LakeIngest::api_version(&()), "kind": LakeIngest::kind(&()), "status": new});
    let parameters = PatchParams::apply(MANAGER).force();
    let written = lake_ingests.patch_status(&name, &parameters, &Patch::Apply(&body)).await;
    match written {
        Ok(_) => {}
        // It was deleted meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
        Err(source) => return Err(StatusError::Patch { name, source: Box::new(source) }),
    }
    if reason_of(old.as_ref()) != reason_of(Some(&new)) {
        publish(context, found, outcome).await;
    }
    Ok(())
}

/// The status that follows from what was seen.
fn status(
    found: &Found,
    old: Option<&LakeIngestStatus>,
    outcome: &Outcome,
    pods: PodCounts,
    now: chrono::DateTime<chrono::Utc>,
) -> LakeIngestStatus {
    let generation = found.meta().generation;
    let (is_ready, reason, message) = outcome.condition();
    let status = if is_ready { "True" } else { "False" };
    let before = old.and_then(ready);
    let since = match before {
        Some(before) if before.status == status => before.last_transition_time.clone(),
        _ => time(now),
    };
    let ready = Condition {
        type_: conditions::READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    };
    LakeIngestStatus { observed_generation: generation, pods, conditions: vec![ready] }
}

/// A point in time as Kubernetes writes it, in whole seconds.
fn time(now: chrono::DateTime<chrono::Utc>) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(now.timestamp()).unwrap_or_default())
}

fn ready(status: &LakeIngestStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == conditions::READY)
}

fn reason_of(status: Option<&LakeIngestStatus>) -> Option<&str> {
    status.and_then(ready).map(|condition| condition.reason.as_str())
}

async fn publish(context: &Context, found: &Found, outcome: &Outcome) {
    let (is_ready, reason, note) = outcome.condition();
    // Replicas that decide at once have seen the same version.
    let key = found.resource_version().unwrap_or_default();
    context.events.publish(&context.client, found, Happening { is_warning: !is_ready, reason, note, key }).await;
}

#[cfg(test)]
mod tests;
