//! Step two: whether a LakeIngest can be used.
//!
//! Owns: [`ValidatedIngest`], from which everything that is built follows without a failure.
//! Does not own: the rules of the specification (`lakeingest_crds`), which the webhook uses through here as well (I7).

use kube::ResourceExt;
use lakeingest_crds::lakeingest::{ImagePolicy, LakeIngest, ValidatedSpec, Violations, validate_spec};
use lakeingest_crds::sidecar_config::OwnerReference;

use super::dereference::Location;

/// What does not change while the process runs: no step needs a client to know it.
#[derive(Clone, Debug)]
pub struct ContextNames {
    /// Uid of the namespace `kube-system`, which stands for the cluster.
    pub cluster_id: String,
    /// Which images a sidecar may have.
    pub images: ImagePolicy,
}

/// A LakeIngest that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedIngest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The generation of its specification.
    pub generation: i64,
    /// Its cluster.
    pub cluster_id: String,
    /// Its specification.
    pub spec: ValidatedSpec,
    /// Whether its namespace gives each pod a user of its own. Whoever injects says so; nothing else goes by it.
    pub assigns_users: bool,
    location: Location,
}

impl ValidatedIngest {
    /// Who owns the prefix, as the sidecars are told.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            cluster_id: self.cluster_id.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// The same, in a namespace that gives each pod a user of its own, or does not.
    #[must_use]
    pub fn with_assigned_users(self, assigns_users: bool) -> Self {
        Self { assigns_users, ..self }
    }

    /// Where its lake is.
    pub fn location(&self) -> Location {
        self.location.clone()
    }
}

/// Checks a LakeIngest.
///
/// # Errors
/// Every violation.
pub fn validate(ingest: &LakeIngest, names: &ContextNames) -> Result<ValidatedIngest, Violations> {
    let name = ingest.name_any();
    Ok(ValidatedIngest {
        spec: validate_spec(&name, &ingest.spec, &names.images)?,
        namespace: ingest.namespace().unwrap_or_default(),
        name,
        uid: ingest.uid().unwrap_or_default(),
        generation: ingest.metadata.generation.unwrap_or_default(),
        cluster_id: names.cluster_id.clone(),
        assigns_users: false,
        location: Location::of(ingest),
    })
}
