//! What becomes of a pod that is being created.
//!
//! Owns: which LakeIngest the pod or its namespace asks for, waiting a moment for one that was created just before it, and
//! the words for whoever gets no sidecar. Upholds I7: the webhook and the command line judge by [`Admission`], and I10: a pod that asked
//! gets its sidecar or is refused.
//! Does not own: the envelope (`webhook`), who may wait (`waits`), the patch (`inject`).

mod waits;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use serde_json::Value;
use tracing::{info, warn};

use crate::controller::{ContextNames, ValidatedIngest, validate};
use crate::index::{ConfigMapMeta, Index};
use crate::inject::{Injection, inject};
use crate::names::{GENERATION, INJECT, ON_ERROR, config_map, shown};
use crate::namespaces::Namespaces;
use crate::webhook::{Decision, PodReview, Unread};
pub use waits::Waits;

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
    /// The annotation or the label is there and empty, or no text.
    Unclear,
    /// What the namespace's label says, which the API server has seen and the operator has not yet.
    NotSeen,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The pod, by its annotation: it gets its sidecar or is refused.
    Pod,
    /// Its namespace alone, by its label: a pod that cannot have a sidecar runs without one.
    Namespace,
    /// Neither says anything.
    Nobody,
}

/// Why a pod that asked gets no sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
enum Unwired {
    #[error("{INJECT} is empty; write the name of a LakeIngest, \"true\" for the namespace's only one, or \"false\"")]
    Unclear,
    #[error("the operator has not seen the label {INJECT} of the namespace yet")]
    NotSeen,
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
    #[error("{0}")]
    Unread(String),
}

impl Unwired {
    /// Whether it may be otherwise in a moment.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::NotTheOnlyOne { .. }
            | Self::NotRendered { .. }
            | Self::Invalid { .. }
            | Self::NotSeen => true,
            Self::Unclear | Self::Unread(_) => false,
        }
    }
}

/// What comes of a pod by what is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Nobody asked, and it stays as it is.
    NotAsked,
    /// It gets the sidecar.
    Injected {
        /// The LakeIngest that it is wired from.
        ingest: Box<ValidatedIngest>,
        /// What is done to it.
        injection: Box<Injection>,
    },
    /// It was asked for and gets none.
    Refused {
        /// Why, and what to do.
        reason: String,
        /// Whether it runs all the same: it wants it so, or nobody but its namespace has asked.
        is_let_pass: bool,
    },
}

/// Decides over pods.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What is known of the cluster.
    pub index: Index,
    /// What is known of namespaces.
    pub namespaces: Namespaces,
    /// What does not change while the process runs.
    pub names: Arc<ContextNames>,
    /// Who waits.
    pub waits: Waits,
}

impl Admission {
    /// Decides over one pod.
    pub async fn decide(&self, review: PodReview) -> Decision {
        let judged = match self.settled(&review).await {
            None => Judged::NotAsked,
            Some(wired @ Wired { ingest: Err(_), .. }) => judged(review.pod.head(), wired),
            Some(wired) => match review.pod.whole().await {
                Ok(whole) => judged(whole.json(), wired),
                Err(unread) => judged(review.pod.head(), wired.unread(&unread)),
            },
        };
        decided(&review, judged)
    }

    /// What comes of a pod by what is known now: as [`Self::decide`], without waiting.
    pub fn judge(&self, namespace: &str, pod: &Value) -> Judged {
        match self.wired(namespace, pod, false) {
            Some(wired) => judged(pod, wired),
            None => Judged::NotAsked,
        }
    }

    /// What a pod asks for, or what its namespace does where the pod says nothing.
    pub fn asked(&self, namespace: &str, pod: &Value) -> (Asked, Asker) {
        if !pod["metadata"]["annotations"][INJECT].is_null() {
            return (asked(pod), Asker::Pod);
        }
        match self.namespaces.label(namespace) {
            Some(label) => (asked_by(&label), Asker::Namespace),
            None => (Asked::Nothing, Asker::Nobody),
        }
    }

    /// As [`Self::wired`], once it is so for good: what is not there or not ready is waited for, for a moment, unless too many
    /// wait or it was waited for in vain just now.
    async fn settled(&self, review: &PodReview) -> Option<Wired> {
        let (mut changes, mut namespaces) = (self.index.changes(), self.namespaces.changes());
        let look = || self.wired(&review.namespace, review.pod.head(), review.is_sent_for_label);
        changes.mark_unchanged();
        namespaces.mark_unchanged();
        let first = look();
        let Some(missing) = first.as_ref().and_then(Wired::missing) else { return first };
        let Some(waiting) = self.waits.begin(&review.namespace, missing) else { return first };
        let found = async {
            loop {
                tokio::select! {
                    Ok(()) = changes.changed() => {}
                    Ok(()) = namespaces.changed() => {}
                    else => return look(),
                }
                changes.mark_unchanged();
                namespaces.mark_unchanged();
                let settled = look();
                if settled.as_ref().and_then(Wired::missing).is_none() {
                    return settled;
                }
            }
        };
        let settled = tokio::time::timeout(self.waits.time(), found).await.unwrap_or_else(|_| look());
        if let Some(missing) = settled.as_ref().and_then(Wired::missing) {
            waiting.was_in_vain(missing);
        }
        settled
    }

    /// What a pod would be wired from; none if nobody asks. `is_sent_for_label`: the API server has seen a label of its
    /// namespace.
    fn wired(&self, namespace: &str, pod: &Value, is_sent_for_label: bool) -> Option<Wired> {
        let (asked, asker) = match self.asked(namespace, pod) {
            (Asked::Nothing, Asker::Nobody) if is_sent_for_label => (Asked::NotSeen, Asker::Namespace),
            (Asked::Nothing, _) => return None,
            known => known,
        };
        let assigns_users = self.namespaces.assigns_users(namespace);
        let ingest = self.look(namespace, &asked).map(|ingest| ingest.with_assigned_users(assigns_users));
        Some(Wired { asker, ingest })
    }

    fn look(&self, namespace: &str, asked: &Asked) -> Result<ValidatedIngest, Unwired> {
        let existing = self.index.names(namespace);
        let name = match asked {
            Asked::Nothing | Asked::Unclear => return Err(Unwired::Unclear),
            Asked::NotSeen => return Err(Unwired::NotSeen),
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

/// What a pod is to be wired from.
#[derive(Debug)]
struct Wired {
    asker: Asker,
    ingest: Result<ValidatedIngest, Unwired>,
}

impl Wired {
    /// What is not there and may be in a moment.
    fn missing(&self) -> Option<&Unwired> {
        self.ingest.as_ref().err().filter(|unwired| unwired.may_pass())
    }

    /// As it is where the pod that would be wired was not read.
    fn unread(self, unread: &Unread) -> Self {
        Self { ingest: Err(Unwired::Unread(unread.to_string())), ..self }
    }
}

/// What comes of a pod; of one that gets nothing its head is enough.
fn judged(pod: &Value, wired: Wired) -> Judged {
    let injection = wired.ingest.map_err(|unwired| unwired.to_string()).and_then(|ingest| {
        let injection = inject(pod, &ingest).map_err(|refusal| refusal.to_string())?;
        Ok(Judged::Injected { ingest: Box::new(ingest), injection: Box::new(injection) })
    });
    injection.unwrap_or_else(|reason| match wired.asker {
        // The pod's own way out is its annotation; without it the pod is refused.
        Asker::Pod => Judged::Refused { reason, is_let_pass: pod["metadata"]["annotations"][ON_ERROR] == "allow" },
        Asker::Namespace | Asker::Nobody => {
            let reason = format!("its namespace asks by the label {INJECT}, and {reason}");
            Judged::Refused { reason, is_let_pass: true }
        }
    })
}

/// The answer to the API server, and what the log says of it.
fn decided(review: &PodReview, judged: Judged) -> Decision {
    let (namespace, pod) = (&review.namespace, name_of(review.pod.head()));
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

/// What a pod asks for by its own annotation.
pub fn asked(pod: &Value) -> Asked {
    match &pod["metadata"]["annotations"][INJECT] {
        Value::Null => Asked::Nothing,
        Value::String(text) => asked_by(text),
        _ => Asked::Unclear,
    }
}

/// What the text of an annotation or of a label asks for.
fn asked_by(text: &str) -> Asked {
    match text.trim() {
        "" => Asked::Unclear,
        "false" => Asked::Nothing,
        "true" => Asked::TheOnlyOne,
        name => Asked::Named(name.to_owned()),
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
