//! Step four: what was built into the cluster.
//!
//! Owns: server-side apply under a field manager of its own, and leaving strangers' objects alone.
//! Does not own: what is applied (`build`).

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::build::{Applied, Prepared, Resources, Restored};
use super::claim::ClaimError;
use super::dereference::Dereferenced;
use crate::index::ConfigMapMeta;
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
    /// Its location could not be noted as its own, or given back.
    #[error(transparent)]
    Claim(#[from] ClaimError),
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
    /// Whether the namespace is being deleted, and its LakeIngests with it.
    pub(super) fn is_of_ending_namespace(&self) -> bool {
        matches!(self, Self::Apply { source, .. } if crate::is_of_ending_namespace(source))
    }
}

/// What this process has seen to be as it should be, so that the API server is asked only after a change: the version of
/// each ConfigMap, and what it should hold then.
#[derive(Debug, Default)]
pub struct Settled {
    seen: Mutex<HashMap<(String, String), (String, String)>>,
}

impl Settled {
    /// Whether the ConfigMap is still the version that was seen to hold `wanted`.
    fn is_still(&self, found: &ConfigMapMeta, wanted: &ConfigMap) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let version = found.resource_version();
        seen.get(&key_of(wanted)).is_some_and(|(seen_version, content)| {
            version.as_deref() == Some(seen_version) && *content == content_of(wanted)
        })
    }

    /// The version at which the ConfigMap was last seen to hold `wanted`: nothing of ours has changed since, so that whoever
    /// has was somebody else.
    fn last_right(&self, wanted: &ConfigMap) -> Option<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, content) = seen.get(&key_of(wanted))?;
        (*content == content_of(wanted)).then(|| version.clone())
    }

    /// Notes that this version holds `wanted`. At most `places` are remembered: who has gone makes room.
    fn note(&self, version: Option<String>, wanted: &ConfigMap, places: usize) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() > places {
            seen.clear();
        }
        if let Some(version) = version {
            seen.insert(key_of(wanted), (version, content_of(wanted)));
        }
    }
}

fn key_of(config_map: &ConfigMap) -> (String, String) {
    (config_map.namespace().unwrap_or_default(), config_map.name_any())
}

/// Everything of a ConfigMap that is ours, as one text.
fn content_of(config_map: &ConfigMap) -> String {
    let meta = &config_map.metadata;
    let parts = json!([meta.owner_references, meta.labels, meta.annotations, config_map.data]);
    parts.to_string()
}

/// Brings the cluster to hold what was built. Asks the API server for nothing if it is known that it does.
pub(super) async fn apply(
    client: &Client,
    prepared: Resources<Prepared>,
    dereferenced: &Dereferenced,
    settled: &Settled,
    places: usize,
) -> Result<Resources<Applied>, ApplyError> {
    let wanted = prepared.config_map;
    if dereferenced.config_map.as_deref().is_some_and(|found| settled.is_still(found, &wanted)) {
        return Ok(applied(wanted, false, None));
    }
    let name = wanted.name_any();
    let namespace = wanted.namespace().unwrap_or_default();
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let found = config_maps.get_opt(&name).await;
    let found = found.map_err(|source| ApplyError::Get { name: name.clone(), source: Box::new(source) })?;
    match what_to_do(found.as_ref(), &wanted) {
        Verdict::Foreign => return Err(ApplyError::Foreign { name }),
        Verdict::Current => {
            settled.note(found.and_then(|found| found.resource_version()), &wanted, places);
            return Ok(applied(wanted, false, None));
        }
        Verdict::Write => {}
    }
    let was_deleted = found.is_none();
    let restored = settled.last_right(&wanted).map(|last_right| Restored { was_deleted, last_right });
    // By force: whoever has edited a field of ours by hand is overruled.
    let parameters = PatchParams::apply(MANAGER).force();
    let outcome = config_maps.patch(&name, &parameters, &Patch::Apply(&wanted)).await;
    let config_map = outcome.map_err(|source| ApplyError::Apply { name, source: Box::new(source) })?;
    settled.note(config_map.resource_version(), &wanted, places);
    Ok(applied(config_map, true, restored))
}

/// What has to be done about a ConfigMap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is somebody else's.
    Foreign,
    /// It is as it should be.
    Current,
    /// It is missing, or not as it should be.
    Write,
}

fn what_to_do(found: Option<&ConfigMap>, wanted: &ConfigMap) -> Verdict {
    match found {
        None => Verdict::Write,
        Some(found) if !has_owner_of(found, wanted) => Verdict::Foreign,
        Some(found) if is_current(found, wanted) => Verdict::Current,
        Some(_) => Verdict::Write,
    }
}

fn applied(config_map: ConfigMap, was_changed: bool, restored: Option<Restored>) -> Resources<Applied> {
    Resources { config_map, state: Applied { was_changed, restored }, _state: PhantomData }
}

/// Whether everything of ours is in it; what others have added beside it is not read by anybody of ours.
fn is_current(found: &ConfigMap, wanted: &ConfigMap) -> bool {
    let holds = |found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| found.get(key) == Some(value))
    };
    let no_data = BTreeMap::new();
    holds(found.labels(), wanted.labels())
        && holds(found.annotations(), wanted.annotations())
        && holds(found.data.as_ref().unwrap_or(&no_data), wanted.data.as_ref().unwrap_or(&no_data))
}

/// Whether the object belongs to the same LakeIngest; one that an earlier LakeIngest of the same name has left does not.
fn has_owner_of(found: &ConfigMap, wanted: &ConfigMap) -> bool {
    let wanted = wanted.owner_references().first().map(|owner| owner.uid.as_str());
    found.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::build::build;
    use crate::fixtures::validated;

    fn wanted() -> ConfigMap {
        build(&validated(), None).config_map
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written_again() {
        let mut found = wanted();
        found.metadata.resource_version = Some("7".to_owned());
        found.labels_mut().insert("someone".to_owned(), "else".to_owned());
        found.data.get_or_insert_default().insert("notes.txt".to_owned(), "of somebody".to_owned());
        assert_eq!(what_to_do(Some(&found), &wanted()), Verdict::Current);
    }

    #[test]
    fn what_somebody_has_changed_is_written_again() {
        let changes: [fn(&mut ConfigMap); 4] = [
            |found| found.metadata.labels = None,
            |found| found.metadata.annotations = None,
            |found| found.data = None,
            |found| {
                found.data.get_or_insert_default().insert("config.yaml".to_owned(), "{}".to_owned());
            },
        ];
        for change in changes {
            let mut found = wanted();
            change(&mut found);
            assert_eq!(what_to_do(Some(&found), &wanted()), Verdict::Write, "{found:?}");
        }
        assert_eq!(what_to_do(None, &wanted()), Verdict::Write);
    }

    /// One that an earlier LakeIngest of the same name has left is a stranger's as well.
    #[test]
    fn a_strangers_is_never_written() {
        let mut found = wanted();
        found.metadata.owner_references = None;
        assert_eq!(what_to_do(Some(&found), &wanted()), Verdict::Foreign);
        let mut found = wanted();
        found.owner_references_mut()[0].uid = "another".to_owned();
        assert_eq!(what_to_do(Some(&found), &wanted()), Verdict::Foreign);
    }

    #[test]
    fn the_api_server_is_asked_again_after_each_change() {
        let meta = |version: &str| ConfigMapMeta {
            metadata: kube::api::ObjectMeta { resource_version: Some(version.to_owned()), ..Default::default() },
            types: None,
            _phantom: PhantomData,
        };
        let settled = Settled::default();
        assert!(!settled.is_still(&meta("7"), &wanted()));
        assert_eq!(settled.last_right(&wanted()), None, "nobody can have spoiled what was never right");
        settled.note(Some("7".to_owned()), &wanted(), 10);
        assert_eq!(settled.last_right(&wanted()).as_deref(), Some("7"));
        assert_eq!(settled.last_right(&build(&validated(), Some("team-b/events")).config_map), None, "we change it");
        assert!(settled.is_still(&meta("7"), &wanted()));
        assert!(!settled.is_still(&meta("8"), &wanted()), "somebody has changed it");
        assert!(
            !settled.is_still(&meta("7"), &build(&validated(), Some("team-b/events")).config_map),
            "it should be another"
        );
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
}
