//! Step one: what else of the cluster a LakeIngest depends on.
//!
//! Owns: finding it in the index, where a lake is, and whether another LakeIngest has it.
//! Does not own: which claim is the better one (`claim`), whether it is right (`validate`), its Secret, which nothing here
//! reads.

use std::sync::Arc;

use kube::ResourceExt;
use lakeingest_crds::lakeingest::LakeIngest;

use super::{claim, named};
use crate::index::{ConfigMapMeta, Index};

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

    /// With the endpoint, for machines, and as claims name it.
    pub(super) fn url(&self) -> String {
        let endpoint = if self.endpoint.is_empty() { "aws:" } else { &self.endpoint };
        format!("{endpoint}/{}/{}", self.bucket, self.prefix)
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

/// Whether two locations are the same, or one lies in the other, by their URLs: neither an endpoint nor a bucket has a slash
/// in which they could differ.
fn overlap(one: &str, other: &str) -> bool {
    let lies_in = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    lies_in(one, other) || lies_in(other, one)
}

/// Finds what a LakeIngest depends on.
pub(super) fn dereference(index: &Index, ingest: &LakeIngest) -> Dereferenced {
    let (namespace, name) = (ingest.namespace().unwrap_or_default(), ingest.name_any());
    let location = Location::of(ingest).url();
    let (rank, holds) = (claim::rank(ingest), claim::holds(ingest));
    let has_it = |other: &LakeIngest| {
        let names_it = overlap(&Location::of(other).url(), &location);
        // Not given back yet.
        let held_it = claim::held(other).is_some_and(|held| overlap(held, &location));
        (names_it && claim::rank(other) < rank) || (held_it && !holds)
    };
    let before = index.find(|other| other.uid() != ingest.uid() && has_it(other));
    Dereferenced {
        config_map: index.config_map(&namespace, &name),
        holder: before.iter().min_by_key(|other| claim::rank(other)).map(named),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::fixtures::ingest;
    use crate::index::Filler;

    /// A LakeIngest of this age with this prefix.
    fn made(name: &str, created: &str, prefix: &str) -> LakeIngest {
        let spec = json!({"storage": {"bucket": "lake-data", "prefix": prefix}});
        let mut ingest = ingest(name, spec);
        ingest.metadata.creation_timestamp = Some(Time(created.parse().expect("the test's time is one")));
        ingest
    }

    /// The same, with a status that gives it this location.
    fn holding(mut ingest: LakeIngest, location: &str) -> LakeIngest {
        let status = json!({"location": format!("aws:/lake-data/{location}")});
        ingest.status = Some(serde_json::from_value(status).expect("it is a status"));
        ingest
    }

    #[test]
    fn of_two_new_ones_the_older_has_the_location_wherever_they_are() {
        let (mut filler, index) = Filler::empty();
        let older = made("older", "2026-01-08T10:00:00Z", "data");
        let mut younger = made("younger", "2026-01-08T10:00:01Z", "data");
        younger.metadata.namespace = Some("team-b".to_owned());
        filler.lake_ingest(older.clone());
        filler.lake_ingest(younger.clone());
        assert_eq!(dereference(&index, &younger).holder.as_deref(), Some("team-a/older"));
        assert_eq!(dereference(&index, &older).holder, None);
    }

    /// An older one that moves to a location finds those who are there, whatever anybody writes into ConfigMaps, which are
    /// not looked at: there is none here.
    #[test]
    fn who_holds_the_location_keeps_it() {
        let (mut filler, index) = Filler::empty();
        let newcomer = holding(made("newcomer", "2026-01-08T10:00:00Z", "data"), "other");
        let resident = holding(made("resident", "2026-01-08T10:00:01Z", "data"), "data");
        filler.lake_ingest(newcomer.clone());
        filler.lake_ingest(resident.clone());
        assert_eq!(dereference(&index, &newcomer).holder.as_deref(), Some("team-a/resident"));
        assert_eq!(dereference(&index, &resident).holder, None);
        // Made again under its name it is a new one.
        let again = made("resident", "2026-01-08T10:00:05Z", "data");
        filler.lake_ingest(again.clone());
        assert_eq!(dereference(&index, &newcomer).holder, None);
        assert_eq!(dereference(&index, &again).holder.as_deref(), Some("team-a/newcomer"));
    }

    /// Else who goes away and comes back at once would find a claim of its own that is older than the other's.
    #[test]
    fn nobody_has_a_location_before_it_is_given_back() {
        let (mut filler, index) = Filler::empty();
        let gone = holding(made("gone", "2026-01-08T10:00:00Z", "elsewhere"), "data");
        let next = made("next", "2026-01-08T10:00:01Z", "data/part");
        filler.lake_ingest(gone.clone());
        filler.lake_ingest(next.clone());
        assert_eq!(dereference(&index, &next).holder.as_deref(), Some("team-a/gone"));
        assert_eq!(dereference(&index, &gone).holder, None);
        filler.lake_ingest(holding(gone, "elsewhere"));
        assert_eq!(dereference(&index, &next).holder, None);
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
            let (one, other) = (here.url(), other.url());
            assert_eq!((overlap(&one, &other), overlap(&other, &one)), (overlaps, overlaps), "{other}");
        }
    }
}
