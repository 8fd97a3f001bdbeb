//! Step four: what was built into the cluster.
//!
//! Owns: server-side apply under a field manager of its own, and leaving strangers' objects alone.
//! Does not own: what is applied (`build`).

use std::marker::PhantomData;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};

use super::build::{Applied, Prepared, Resources};
use super::dereference::Dereferenced;
use crate::names::MANAGER;

/// What could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server did not say what is there.
    #[error("failed to look for ConfigMap {name}")]
    Get {
        /// The ConfigMap.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else has an object of that name.
    #[error("ConfigMap {name} is there and does not belong to this LakeIngest; rename or delete it")]
    Foreign {
        /// The ConfigMap.
        name: String,
    },
    /// The API server refused it.
    #[error("failed to apply ConfigMap {name}")]
    Apply {
        /// The ConfigMap.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    /// Whether the namespace is being deleted, and its LakeIngests with it: nothing can be created there any more.
    /// Source: the admission plugin NamespaceLifecycle, cause `NamespaceTerminating`.
    pub(super) fn is_of_ending_namespace(&self) -> bool {
        let Self::Apply { source, .. } = self else { return false };
        let kube::Error::Api(answer) = &**source else { return false };
        let causes = answer.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }
}

/// Brings the cluster to hold what was built. Asks the API server for nothing if it already does.
pub(super) async fn apply(
    client: &Client,
    prepared: Resources<Prepared>,
    dereferenced: &Dereferenced,
) -> Result<Resources<Applied>, ApplyError> {
    let wanted = prepared.config_map;
    if dereferenced.config_map.as_deref().is_some_and(|found| is_current(found, &wanted)) {
        return Ok(applied(wanted, false));
    }
    let name = wanted.name_any();
    let namespace = wanted.namespace().unwrap_or_default();
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let found = config_maps.get_opt(&name).await;
    let found = found.map_err(|source| ApplyError::Get { name: name.clone(), source: Box::new(source) })?;
    if found.is_some_and(|found| !has_owner_of(&found, &wanted)) {
        return Err(ApplyError::Foreign { name });
    }
    // By force: whoever has edited a field of ours by hand is overruled.
    let parameters = PatchParams::apply(MANAGER).force();
    let outcome = config_maps.patch(&name, &parameters, &Patch::Apply(&wanted)).await;
    let config_map = outcome.map_err(|source| ApplyError::Apply { name, source: Box::new(source) })?;
    Ok(applied(config_map, true))
}

fn applied(config_map: ConfigMap, was_changed: bool) -> Resources<Applied> {
    Resources { config_map, state: Applied { was_changed }, _state: PhantomData }
}

fn is_current(found: &ConfigMap, wanted: &ConfigMap) -> bool {
    let holds = |found: &std::collections::BTreeMap<String, String>,
                 wanted: &std::collections::BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| found.get(key) == Some(value))
    };
    has_owner_of(found, wanted)
        && holds(found.labels(), wanted.labels())
        && holds(found.annotations(), wanted.annotations())
        && found.data == wanted.data
}

/// Whether the object belongs to the same LakeIngest; one that an earlier LakeIngest of the same name has left does not.
fn has_owner_of(found: &ConfigMap, wanted: &ConfigMap) -> bool {
    let wanted = wanted.owner_references().first().map(|owner| owner.uid.as_str());
    found.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::build::build;
    use crate::fixtures::validated;

    #[test]
    fn what_is_as_it_should_be_is_not_written_again() {
        let wanted = build(&validated()).config_map;
        let mut found = wanted.clone();
        found.metadata.resource_version = Some("7".to_owned());
        found.labels_mut().insert("someone".to_owned(), "else".to_owned());
        assert!(is_current(&found, &wanted));
    }

    #[test]
    fn a_namespace_that_goes_is_told_from_a_refusal() {
        let error = |reason: &str| {
            let answer = json!({"code": 403, "message": "no", "reason": "Forbidden", "details": {"causes": [{"reason": reason}]}});
            let status: kube::core::Status = serde_json::from_value(answer).expect("it is a status");
            ApplyError::Apply {
                name: "lakeingest-events".to_owned(),
                source: Box::new(kube::Error::Api(status.boxed())),
            }
        };
        assert!(error("NamespaceTerminating").is_of_ending_namespace());
        assert!(!error("Other").is_of_ending_namespace());
    }

    #[test]
    fn what_somebody_has_changed_is_written_again() {
        let wanted = build(&validated()).config_map;
        let changes: [fn(&mut ConfigMap); 4] = [
            |found| found.metadata.owner_references = None,
            |found| found.metadata.labels = None,
            |found| found.metadata.annotations = None,
            |found| {
                found.data.get_or_insert_default().insert("config.yaml".to_owned(), "{}".to_owned());
            },
        ];
        for change in changes {
            let mut found = wanted.clone();
            change(&mut found);
            assert!(!is_current(&found, &wanted), "{found:?}");
        }
    }
}
