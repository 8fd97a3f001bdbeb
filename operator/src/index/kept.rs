//! What is kept of an object's metadata.
//!
//! Owns: the one list of keys that are read, and how long what is kept may be: others write any amount beside ours, into as many
//! objects as they like. Upholds I12. Does not own: what is kept of the rest of a pod (`pods`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Found;
use crate::limits::{INVALID_CHARACTERS_MAX, KEPT_VALUE_BYTES_MAX, OWNERS_KEPT_MAX};
use crate::names::{GENERATION, INJECT, INJECTED_BY, ON_ERROR, PREFLIGHT, TRIED, said};

/// The keys that are read of one kind of object.
pub(super) struct Kept {
    labels: &'static [&'static str],
    annotations: &'static [&'static str],
}

/// Of a LakeIngest: all that it says is in its specification and its status.
const OF_LAKE_INGEST: Kept = Kept { labels: &[], annotations: &[] };

/// Of a ConfigMap of the operator.
pub(super) const OF_CONFIG_MAP: Kept = Kept { labels: &[], annotations: &[GENERATION] };

/// Of a pod that has a sidecar, or says so.
pub(super) const OF_INJECTED_POD: Kept = Kept { labels: &[INJECTED_BY], annotations: &[INJECT, ON_ERROR] };

/// Of a pod that asks and has none.
pub(super) const OF_ASKING_POD: Kept = Kept { labels: &[], annotations: &[INJECT, ON_ERROR] };

/// Of a pod that tries a lake.
pub(super) const OF_TRIAL: Kept = Kept { labels: &[PREFLIGHT], annotations: &[TRIED] };

impl Kept {
    /// Takes everything else out of an object's metadata. A value that is too long to be one of ours goes as well.
    pub(super) fn prune(&self, meta: &mut ObjectMeta) {
        let is_kept =
            |keys: &[&str], name: &str, value: &str| keys.contains(&name) && value.len() <= KEPT_VALUE_BYTES_MAX;
        meta.labels.iter_mut().for_each(|all| all.retain(|name, value| is_kept(self.labels, name, value)));
        meta.annotations.iter_mut().for_each(|all| all.retain(|name, value| is_kept(self.annotations, name, value)));
        meta.managed_fields = None;
        meta.finalizers = None;
        meta.generate_name = None;
        if let Some(owners) = &mut meta.owner_references {
            owners.retain(is_short);
            owners.truncate(OWNERS_KEPT_MAX);
        }
    }
}

fn is_short(owner: &OwnerReference) -> bool {
    let OwnerReference { api_version, kind, name, uid, .. } = owner;
    [api_version, kind, name, uid].into_iter().all(|text| text.len() <= KEPT_VALUE_BYTES_MAX)
}

/// Keeps of a LakeIngest what is read of it.
pub(super) fn prune_lake_ingest(found: &mut Found) {
    match &mut found.0 {
        Ok(ingest) => OF_LAKE_INGEST.prune(&mut ingest.metadata),
        Err(invalid) => {
            OF_LAKE_INGEST.prune(&mut invalid.metadata);
            invalid.error = said(&invalid.error, INVALID_CHARACTERS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use serde_json::json;

    use super::*;
    use crate::fixtures::ingest;
    use crate::names::{CONTAINERS, RESOURCES};

    /// Metadata as whoever may write it likes it.
    fn metadata() -> ObjectMeta {
        let long = "x".repeat(250_000);
        let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": "u"});
        let owners: Vec<_> = (0..1_000).map(|_| owner("n")).chain([owner(&long)]).collect();
        serde_json::from_value(json!({
            "name": "events", "namespace": "team-a", "uid": "u1", "resourceVersion": "7", "generation": 3,
            "annotations": {
                INJECT: "events", ON_ERROR: "allow", TRIED: "2d1f", GENERATION: "3", RESOURCES: long, CONTAINERS: "app", "lakeingest.io/anything": long,
                "kubectl.kubernetes.io/last-applied-configuration": long,
            },
            "labels": {INJECTED_BY: "events", PREFLIGHT: "events", "app": "shop"}, "finalizers": [long], "ownerReferences": owners,
        }))
        .expect("the test's metadata has the right shape")
    }

    #[test]
    fn i12_what_is_kept_of_an_object_has_a_bound() {
        for (kept, annotations, labels) in [
            (OF_LAKE_INGEST, vec![], vec![]),
            (OF_CONFIG_MAP, vec![GENERATION], vec![]),
            (OF_INJECTED_POD, vec![INJECT, ON_ERROR], vec![INJECTED_BY]),
            (OF_ASKING_POD, vec![INJECT, ON_ERROR], vec![]),
            (OF_TRIAL, vec![TRIED], vec![PREFLIGHT]),
        ] {
            let mut meta = metadata();
            kept.prune(&mut meta);
            let names = |all: &Option<std::collections::BTreeMap<String, String>>| -> Vec<String> {
                all.iter().flat_map(|all| all.keys().cloned()).collect()
            };
            assert_eq!(
                (names(&meta.annotations), names(&meta.labels)),
                (annotations.into_iter().map(str::to_owned).collect(), labels.into_iter().map(str::to_owned).collect())
            );
            assert_eq!((meta.name.as_deref(), meta.resource_version.as_deref()), (Some("events"), Some("7")));
            let length = serde_json::to_string(&meta).expect("metadata is plain data").len();
            assert!(length < 2_000, "{length} bytes");
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_none_of_ours() {
        let mut meta = metadata();
        meta.annotations.get_or_insert_default().insert(INJECT.to_owned(), "x".repeat(KEPT_VALUE_BYTES_MAX + 1));
        OF_ASKING_POD.prune(&mut meta);
        assert_eq!(meta.annotations, Some([(ON_ERROR.to_owned(), "allow".to_owned())].into()));
    }

    #[test]
    fn nothing_that_others_write_beside_a_lake_ingest_is_kept() {
        let mut found: Found = DeserializeGuard(Ok(ingest("events", json!({}))));
        let all = |found: &Found| found.0.as_ref().map(|found| found.metadata.clone()).unwrap_or_default();
        let expected = all(&found);
        if let Ok(found) = &mut found.0 {
            found.metadata.annotations = metadata().annotations;
            found.metadata.labels = metadata().labels;
        }
        prune_lake_ingest(&mut found);
        let kept = all(&found);
        assert_eq!((kept.annotations, kept.labels), (Some(Default::default()), Some(Default::default())));
        assert_eq!((kept.uid, kept.creation_timestamp), (expected.uid, expected.creation_timestamp));
    }
}
