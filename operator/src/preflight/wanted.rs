//! What is to be tried of a LakeIngest, or why nothing is.
//!
//! Owns: that, by what is known of the cluster; no client. Does not own: when (`decide`).

use kube::ResourceExt;
use lakeingest_crds::lakeingest::LakeIngest;

use super::job::Trial;
use crate::controller::{ContextNames, ValidatedIngest, holder_of, validate};
use crate::index::Index;
use crate::names::GENERATION;

/// Every namespace, as it is written in the operator's arguments.
const EVERYWHERE: &str = "*";

/// What is to be tried.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// This.
    Trial(Box<Trial>),
    /// This, once the sidecars' configuration says what the LakeIngest says.
    Soon(Box<Trial>),
    /// Nothing, for this reason.
    Nothing(String),
}

/// In which namespaces lakes may be tried.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed(Vec<String>);

impl Allowed {
    /// These, or all where one of them is `*`.
    pub(super) fn of(namespaces: &[String]) -> Self {
        Self(namespaces.to_vec())
    }

    fn has(&self, namespace: &str) -> bool {
        self.0.iter().any(|allowed| allowed == EVERYWHERE || allowed == namespace)
    }
}

/// What is to be tried of a LakeIngest whose namespace gives each pod a user of its own, or does not.
pub(super) fn wanted(
    index: &Index,
    names: &ContextNames,
    allowed: &Allowed,
    ingest: &LakeIngest,
    assigns_users: bool,
) -> Wanted {
    let (namespace, name) = (ingest.namespace().unwrap_or_default(), ingest.name_any());
    let nothing = |why: &str| Wanted::Nothing(format!("nobody has tried the lake: {why}; the first sidecar will tell"));
    if !allowed.has(&namespace) {
        return nothing("the operator tries none in this namespace (preflight.namespaces of the chart)");
    }
    let Ok(validated) = validate(ingest, names) else {
        return nothing("the specification cannot be used");
    };
    if !has_known_identity(&validated) {
        return nothing(
            "only its pods know the identity by which they reach it (no secretRef, and no serviceAccountName in workloadIdentity)",
        );
    }
    let generation = validated.generation.to_string();
    let trial = Box::new(Trial::of(&validated.with_assigned_users(assigns_users)));
    let Some(config_map) = index.config_map(&namespace, &name) else { return Wanted::Soon(trial) };
    if config_map.annotations().get(GENERATION) != Some(&generation) {
        return Wanted::Soon(trial);
    }
    if holder_of(index, ingest).is_some() {
        return nothing("its place is another LakeIngest's");
    }
    Wanted::Trial(trial)
}

/// Whether a pod of the operator's making can have the identity of the LakeIngest's own pods.
fn has_known_identity(ingest: &ValidatedIngest) -> bool {
    let identity = ingest.spec.workload_identity.as_ref();
    ingest.spec.secret_name.is_some() || identity.is_some_and(|identity| identity.service_account_name.is_some())
}
