//! Step one: what else of the cluster a LakeIngest depends on.
//!
//! Owns: finding it in the index, and who has a location that two LakeIngests name.
//! Does not own: whether it is right (`validate`), its Secret, which nothing here reads.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use lakeingest_crds::lakeingest::LakeIngest;

use super::named;
use crate::index::{ConfigMapMeta, Index};
use crate::names::{HELD_BY, LOCATION};

/// What a LakeIngest depends on.
#[derive(Clone, Debug, Default)]
pub struct Dereferenced {
    /// What is known of its ConfigMap as it is now.
    pub config_map: Option<Arc<ConfigMapMeta>>,
    /// The LakeIngest that has its location, by namespace and name, if it is another one.
    pub holder: Option<String>,
}

/// Where a lake is: no two LakeIngests may have the same, nor one that lies in the other's, since their tables would mix.
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

    /// With the endpoint, for machines.
    pub(super) fn url(&self) -> String {
        let endpoint = if self.endpoint.is_empty() { "aws:" } else { &self.endpoint };
        format!("{endpoint}/{}/{}", self.bucket, self.prefix)
    }

    /// Whether the two are the same, or one lies in the other.
    fn overlaps(&self, other: &Self) -> bool {
        let lies_in = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.endpoint == other.endpoint
            && self.bucket == other.bucket
            && (lies_in(&self.prefix, &other.prefix) || lies_in(&other.prefix, &self.prefix))
    }

    /// What is said when it is another's.
    pub(super) fn conflict_with(&self, holder: &str) -> String {
        format!(
            "{self} is that of LakeIngest {holder}, or one lies in the other; that one had it before: sidecars of this one keep \
             what they are given in their journals and write nothing; give it a prefix of its own"
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
    let claim = claim(index, ingest);
    let is_before = |other: &LakeIngest| {
        other.uid() != ingest.uid() && Location::of(other).overlaps(&location) && self::claim(index, other) < claim
    };
    let before = index.find(is_before);
    Dereferenced {
        config_map: index.config_map(&namespace, &name),
        holder: before.iter().min_by_key(|other| self::claim(index, other)).map(named),
    }
}

/// How good a LakeIngest's claim to its location is; less is better. Whose sidecars were told of the location before keeps
/// it, also when an older LakeIngest moves there; of two that are new the older one has it, and of two that were made in
/// the same second the one with the lesser uid.
fn claim(index: &Index, ingest: &LakeIngest) -> (bool, Option<Time>, Option<String>) {
    let (namespace, name) = (ingest.namespace().unwrap_or_default(), ingest.name_any());
    let told = index.config_map(&namespace, &name).is_some_and(|config_map| {
        let annotations = config_map.annotations();
        let has_it = annotations.get(LOCATION).is_some_and(|told| *told == Location::of(ingest).url());
        has_it && !annotations.contains_key(HELD_BY)
    });
    (!told, ingest.creation_timestamp(), ingest.uid())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::build;
    use crate::fixtures::{ingest, names};
    use crate::index::Filler;

    /// A LakeIngest of this age with this prefix.
    fn made(name: &str, created: &str, prefix: &str) -> LakeIngest {
        let spec = json!({"storage": {"bucket": "lake-data", "prefix": prefix}});
        let mut ingest = ingest(name, spec);
        ingest.metadata.creation_timestamp = Some(Time(created.parse().expect("the test's time is one")));
        ingest
    }

    /// Makes the LakeIngest known, and its ConfigMap if `held_by` says whose its location is.
    fn known(filler: &mut Filler, ingest: &LakeIngest, held_by: Option<Option<&str>>) {
        if let Some(held_by) = held_by {
            let validated = crate::controller::validate(ingest, &names()).expect("it is legal");
            filler.config_map(build(&validated, held_by).config_map);
        }
        filler.lake_ingest(ingest.clone());
    }

    #[test]
    fn of_two_new_ones_the_older_has_the_location_wherever_they_are() {
        let (mut filler, index) = Filler::empty();
        let older = made("older", "2026-01-08T10:00:00Z", "data");
        let mut younger = made("younger", "2026-01-08T10:00:01Z", "data");
        younger.metadata.namespace = Some("team-b".to_owned());
        known(&mut filler, &older, None);
        known(&mut filler, &younger, None);
        assert_eq!(dereference(&index, &younger).holder.as_deref(), Some("team-a/older"));
        assert_eq!(dereference(&index, &older).holder, None);
    }

    /// An older one that moves to a location finds those who were there.
    #[test]
    fn who_was_told_of_the_location_before_keeps_it() {
        let (mut filler, index) = Filler::empty();
        let newcomer = made("newcomer", "2026-01-08T10:00:00Z", "data");
        let resident = made("resident", "2026-01-08T10:00:01Z", "data");
        known(&mut filler, &made("newcomer", "2026-01-08T10:00:00Z", "other"), Some(None));
        known(&mut filler, &newcomer, None);
        known(&mut filler, &resident, Some(None));
        assert_eq!(dereference(&index, &newcomer).holder.as_deref(), Some("team-a/resident"));
        assert_eq!(dereference(&index, &resident).holder, None);
        // Told that it is another's is no claim.
        known(&mut filler, &newcomer, Some(Some("team-a/resident")));
        assert_eq!(dereference(&index, &resident).holder, None);
    }

    #[test]
    fn a_location_within_another_is_no_location_of_its_own() {
        let location = |endpoint: &str, bucket: &str, prefix: &str| Location {
            endpoint: endpoint.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        let here = location("https://e", "b", "nest");
        for (other, overlaps) in [
            (location("https://e", "b", "nest"), true),
            (location("https://e", "b", "nest/events"), true),
            (location("https://e", "b", "nested"), false),
            (location("https://e", "c", "nest"), false),
            (location("https://f", "b", "nest"), false),
        ] {
            assert_eq!((here.overlaps(&other), other.overlaps(&here)), (overlaps, overlaps), "{other:?}");
        }
    }
}
