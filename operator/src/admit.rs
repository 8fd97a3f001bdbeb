//! What becomes of a pod that is being created.
//!
//! Owns: which LakeIngest the pod asks for, waiting a moment for one that was created just before it, and the words for
//! whoever gets no sidecar. Upholds I7: the webhook and the command line judge by [`Admission`], and I10: a pod that asked
//! gets its sidecar or is refused.
//! Does not own: the envelope (`webhook`), the patch (`inject`).

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use serde_json::Value;
use tracing::{info, warn};

use crate::controller::{ContextNames, ValidatedIngest, validate};
use crate::index::{ConfigMapMeta, Index};
use crate::inject::{Injection, inject};
use crate::names::{GENERATION, INJECT, ON_ERROR, config_map, shown};
use crate::webhook::{Decision, PodReview};

/// How long a pod waits for a LakeIngest that is not known yet, or not rendered yet.
/// Derivation: `kubectl apply` of both in one file makes the pod milliseconds after the LakeIngest; the API server waits
/// three seconds for us.
pub const REFERENCE_WAIT: Duration = Duration::from_millis(1_500);

/// LakeIngests that a refusal lists.
const LISTED_MAX: usize = 10;

/// What a pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// The LakeIngest of this name.
    Named(String),
    /// The only LakeIngest of its namespace.
    TheOnlyOne,
    /// The annotation is there and empty, or no text.
    Unclear,
}

/// Why a pod that asked gets no sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unwired {
    #[error(
        "annotation {INJECT} is empty; write the name of a LakeIngest, \"true\" for the namespace's only one, or \"false\""
    )]
    Unclear,
    #[error("there is no LakeIngest \"{name}\" in namespace \"{namespace}\"; {existing}")]
    Unknown { name: String, namespace: String, existing: String },
    #[error("{INJECT}: \"true\" needs exactly one LakeIngest in namespace \"{namespace}\"; {existing}")]
    NotTheOnlyOne { namespace: String, existing: String },
    #[error("LakeIngest \"{name}\" cannot be used: {reason}")]
    Invalid { name: String, reason: String },
    #[error(
        "ConfigMap \"{config_map}\" is not there, or not what LakeIngest \"{name}\" says now; see: kubectl describe lakeingest {name}"
    )]
    NotRendered { name: String, config_map: String },
}

impl Unwired {
    /// Whether it may be otherwise in a moment.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::NotTheOnlyOne { .. } | Self::NotRendered { .. } | Self::Invalid { .. } => true,
            Self::Unclear => false,
        }
    }
}

/// What comes of a pod by what is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It did not ask, and stays as it is.
    NotAsked,
    /// It gets the sidecar.
    Injected {
        /// The LakeIngest that it is wired from.
        ingest: Box<ValidatedIngest>,
        /// What is done to it.
        injection: Box<Injection>,
    },
    /// It asked and gets none.
    Refused {
        /// Why, and what to do.
        reason: String,
        /// Whether it runs all the same, as it wants it.
        is_let_pass: bool,
    },
}

/// Decides over pods.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What is known of the cluster.
    pub index: Index,
    /// What does not change while the process runs.
    pub names: Arc<ContextNames>,
    /// How long a pod waits; see [`REFERENCE_WAIT`].
    pub reference_wait: Duration,
}

impl Admission {
    /// Decides over one pod.
    pub async fn decide(&self, review: PodReview) -> Decision {
        let asked = asked(&review.pod);
        if asked == Asked::Nothing {
            return Decision::Unchanged { warnings: Vec::new() };
        }
        let wired = self.wired(&review.namespace, &asked).await;
        decided(&review, judged(&review.pod, wired))
    }

    /// What comes of a pod by what is known now: as [`Self::decide`], without waiting.
    pub fn judge(&self, namespace: &str, pod: &Value) -> Judged {
        match asked(pod) {
            Asked::Nothing => Judged::NotAsked,
            asked => judged(pod, self.look(namespace, &asked)),
        }
    }

    /// Finds the LakeIngest, and waits for it for a moment if it is not there or not ready.
    async fn wired(&self, namespace: &str, asked: &Asked) -> Result<ValidatedIngest, Unwired> {
        let mut changes = self.index.changes();
        let found = async {
            loop {
                changes.mark_unchanged();
                match self.look(namespace, asked) {
                    Err(unwired) if unwired.may_pass() => {}
                    settled => return settled,
                }
                if changes.changed().await.is_err() {
                    return self.look(namespace, asked);
                }
            }
        };
        match tokio::time::timeout(self.reference_wait, found).await {
            Ok(settled) => settled,
            Err(_) => self.look(namespace, asked),
        }
    }

    fn look(&self, namespace: &str, asked: &Asked) -> Result<ValidatedIngest, Unwired> {
        let existing = self.index.names(namespace);
        let name = match asked {
            Asked::Nothing | Asked::Unclear => return Err(Unwired::Unclear),
            Asked::Named(name) => name,
            Asked::TheOnlyOne => match existing.as_slice() {
                [name] => name,
                _ => {
                    let (namespace, existing) = (namespace.to_owned(), listed(&existing));
                    return Err(Unwired::NotTheOnlyOne { namespace, existing });
                }
            },
        };
        let Some(found) = self.index.lake_ingest(namespace, name) else {
            let (name, namespace) = (shown(name), namespace.to_owned());
            return Err(Unwired::Unknown { name, namespace, existing: listed(&existing) });
        };
        let invalid = |reason: String| Unwired::Invalid { name: name.clone(), reason };
        let ingest = found.0.as_ref().map_err(|error| invalid(error.to_string()))?;
        let validated = validate(ingest, &self.names).map_err(|violations| invalid(violations.to_string()))?;
        if !self.index.config_map(namespace, name).is_some_and(|found| is_rendered_from(&found, &validated)) {
            return Err(Unwired::NotRendered { name: name.clone(), config_map: config_map(name) });
        }
        Ok(validated)
    }
}

/// Whether a ConfigMap is what the LakeIngest says now: the pod would else be wired from an earlier one, or from a
/// stranger's.
fn is_rendered_from(found: &ConfigMapMeta, ingest: &ValidatedIngest) -> bool {
    let is_its = found.owner_references().iter().any(|owner| owner.uid == ingest.uid);
    let generation = found.annotations().get(GENERATION);
    is_its && generation.is_some_and(|generation| *generation == ingest.generation.to_string())
}

fn judged(pod: &Value, wired: Result<ValidatedIngest, Unwired>) -> Judged {
    let injection = wired.map_err(|unwired| unwired.to_string()).and_then(|ingest| {
        let injection = inject(pod, &ingest).map_err(|refusal| refusal.to_string())?;
        Ok(Judged::Injected { ingest: Box::new(ingest), injection: Box::new(injection) })
    });
    // The pod's own way out is its annotation; without it the pod is refused.
    let is_let_pass = pod["metadata"]["annotations"][ON_ERROR] == "allow";
    injection.unwrap_or_else(|reason| Judged::Refused { reason, is_let_pass })
}

/// The answer to the API server, and what the log says of it.
fn decided(review: &PodReview, judged: Judged) -> Decision {
    let (namespace, pod) = (&review.namespace, name_of(&review.pod));
    match judged {
        Judged::NotAsked => Decision::Unchanged { warnings: Vec::new() },
        Judged::Injected { ingest, injection } => {
            let Injection { patch, warnings, .. } = *injection;
            if patch.is_empty() {
                return Decision::Unchanged { warnings };
            }
            info!(%namespace, %pod, name = %ingest.name, dry_run = review.dry_run, "injected");
            Decision::Patched { patch, warnings }
        }
        Judged::Refused { reason, is_let_pass: true } => {
            warn!(%namespace, %pod, error = %reason, "let a pod pass without its sidecar");
            Decision::LetPass { warning: let_pass_warning(&reason) }
        }
        Judged::Refused { reason, is_let_pass: false } => {
            info!(%namespace, %pod, error = %reason, "refused a pod");
            Decision::Refused { message: format!("lakeingest: {reason}") }
        }
    }
}

/// What is said of a pod that runs without the sidecar that it asked for.
pub fn let_pass_warning(reason: &str) -> String {
    format!("lakeingest: the pod runs without its sidecar: {reason}")
}

/// What a pod asks for.
pub fn asked(pod: &Value) -> Asked {
    match &pod["metadata"]["annotations"][INJECT] {
        Value::Null => Asked::Nothing,
        Value::String(text) => match text.trim() {
            "" => Asked::Unclear,
            "false" => Asked::Nothing,
            "true" => Asked::TheOnlyOne,
            name => Asked::Named(name.to_owned()),
        },
        _ => Asked::Unclear,
    }
}

/// What there is, for a refusal.
fn listed(names: &[String]) -> String {
    match names {
        [] => "there is none in that namespace: create one first".to_owned(),
        names if names.len() > LISTED_MAX => {
            format!(
                "there are {}, among them {}",
                names.len(),
                names.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ")
            )
        }
        names => format!("there is {}", names.join(", ")),
    }
}

/// A pod of a controller has no name yet when it is admitted; one of a user has a name that was not looked at yet.
fn name_of(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    shown(metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
