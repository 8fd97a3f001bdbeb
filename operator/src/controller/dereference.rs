//! Step one: what else of the cluster a LakeIngest depends on.
//!
//! Owns: finding it in the index. Does not own: whether it is right (`validate`), its Secret, which nothing here reads.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use lakeingest_crds::lakeingest::LakeIngest;

use super::named;
use crate::index::Index;

/// What a LakeIngest depends on.
#[derive(Clone, Debug, Default)]
pub struct Dereferenced {
    /// Its ConfigMap as it is now.
    pub config_map: Option<Arc<ConfigMap>>,
    /// An older LakeIngest with the same location, by namespace and name.
    pub older_neighbour: Option<String>,
}

/// Where a lake is: two LakeIngests may not have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    endpoint: String,
    bucket: String,
    prefix: String,
}

impl Location {
    /// The location of a LakeIngest.
    pub fn of(ingest: &LakeIngest) -> Self {
        let storage = &ingest.spec.storage;
        let endpoint = storage.s3.endpoint.as_deref().unwrap_or_default();
        Self {
            endpoint: endpoint.trim_end_matches('/').to_ascii_lowercase(),
            bucket: storage.bucket.clone(),
            prefix: storage.prefix.clone(),
        }
    }

    /// What is said when it is another's.
    pub(super) fn conflict_with(&self, neighbour: &str) -> String {
        format!(
            "{self} is also that of LakeIngest {neighbour}, which is older: sidecars of this one keep what they are given in \
             their journals and write nothing; give it a prefix of its own"
        )
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// Finds what a LakeIngest depends on.
pub(super) fn dereference(index: &Index, ingest: &LakeIngest) -> Dereferenced {
    let (namespace, name) = (ingest.namespace().unwrap_or_default(), ingest.name_any());
    let location = Location::of(ingest);
    let older = index.find(|other| Location::of(other) == location && is_older(other, ingest));
    Dereferenced {
        config_map: index.config_map(&namespace, &name),
        older_neighbour: older.iter().min_by_key(|other| age(other)).map(named),
    }
}

fn is_older(other: &LakeIngest, ingest: &LakeIngest) -> bool {
    other.uid() != ingest.uid() && age(other) < age(ingest)
}

/// When it was made; those of the same second are ordered by their uid.
fn age(ingest: &LakeIngest) -> (Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>, Option<String>) {
    (ingest.creation_timestamp(), ingest.uid())
}
