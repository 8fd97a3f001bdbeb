//! Whose a prefix is.
//!
//! Owns: `owner.json`, created once by whoever starts first, and `owner-2.json` and so on, each created once by whoever takes
//! the prefix over; the last of them counts. Does not own: what a stranger does instead, when it is asked (`contact`).

use bytes::Bytes;
use chrono::{DateTime, Utc};
use lakeingest_crds::health_reasons;
use serde::{Deserialize, Serialize};

use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::key::Prefix;
use crate::publish::store::{PutOutcome, Store};

/// Who writes to a prefix. Two are the same when all three fields are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Uid of the cluster's namespace `kube-system`; absent outside of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Namespace of the LakeIngest; absent outside of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the LakeIngest; outside of a cluster what `--owner` says.
    pub name: String,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [self.cluster_id.as_deref(), self.namespace.as_deref(), Some(&self.name)];
        formatter.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
    }
}

/// The object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerObject {
    format_version: u32,
    #[serde(flatten)]
    owner: Owner,
    /// Who had the prefix before, if it was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken_over_from: Option<String>,
    created_at: DateTime<Utc>,
}

/// The prefix cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The lake did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The prefix is somebody else's. Nothing was written.
    #[error(
        "the prefix {prefix} belongs to {owner}; use another prefix, or the same owner; if that one is gone for good, take it over with storage.takeOverFrom: {owner}, or delete {key}"
    )]
    PrefixInUse {
        /// The prefix.
        prefix: String,
        /// Whose it is.
        owner: String,
        /// The object that says so.
        key: String,
    },
}

impl OwnerError {
    /// The name of the reason that is said of it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => error.kind.reason(),
            Self::PrefixInUse { .. } => health_reasons::PREFIX_IN_USE,
        }
    }
}

/// How often a prefix can change its owner. Each look at it asks for one object more than there are owners.
const OWNERS_MAX: u32 = 100;

/// Whose a prefix is, as seen by one who would have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its own.
    Held,
    /// Nobody's, or that of the one from whom it may be taken over.
    Free {
        /// The place of the object that makes it one's own: 0 for the first owner.
        place: u32,
        /// From whom it is taken over.
        from: Option<String>,
    },
}

/// Whose the prefix is: the last one's who took it over. Nothing is written.
///
/// # Errors
/// See [`OwnerError`]; `PrefixInUse` if it is a stranger's who is not named by `takes_over_from`, or from whom `owner` has
/// taken it over once before.
pub async fn look(
    store: &Store,
    prefix: &Prefix,
    owner: &Owner,
    takes_over_from: Option<&str>,
) -> Result<Claim, OwnerError> {
    let mut chain: Vec<OwnerObject> = Vec::new();
    for place in 0..OWNERS_MAX {
        let key = prefix.owner_after(place);
        match store.get(&key).await? {
            Some(content) => {
                chain.push(serde_json::from_slice(&content).map_err(|error| unusable(&key, &error.to_string()))?);
            }
            None => return verdict(&chain, place, prefix, owner, takes_over_from),
        }
    }
    Err(unusable(&prefix.owner_after(OWNERS_MAX), "the prefix has changed its owner too often").into())
}

fn verdict(
    chain: &[OwnerObject],
    place: u32,
    prefix: &Prefix,
    owner: &Owner,
    takes_over_from: Option<&str>,
) -> Result<Claim, OwnerError> {
    let Some(last) = chain.last() else { return Ok(Claim::Free { place, from: None }) };
    if last.owner == *owner {
        return Ok(Claim::Held);
    }
    let holder = last.owner.to_string();
    let has_taken_it =
        |earlier: &OwnerObject| earlier.owner == *owner && earlier.taken_over_from.as_deref() == Some(holder.as_str());
    if takes_over_from == Some(holder.as_str()) && !chain.iter().any(has_taken_it) {
        return Ok(Claim::Free { place, from: Some(holder) });
    }
    let key = prefix.owner_after(place.saturating_sub(1));
    Err(OwnerError::PrefixInUse { prefix: prefix.as_str().to_owned(), owner: holder, key })
}

/// Makes the prefix `owner`'s at the place that a look found free, or finds that it already is.
///
/// # Errors
/// See [`OwnerError`].
pub async fn claim(
    store: &Store,
    prefix: &Prefix,
    owner: &Owner,
    (place, from): (u32, Option<String>),
    now: DateTime<Utc>,
) -> Result<(), OwnerError> {
    let key = prefix.owner_after(place);
    let takes_over_from = from.clone();
    let object = OwnerObject { format_version: 1, owner: owner.clone(), taken_over_from: from, created_at: now };
    let content: Bytes = serde_json::to_vec_pretty(&object).expect("the object is plain data").into();
    match store.put_first(&key, content).await? {
        PutOutcome::Created => Ok(()),
        PutOutcome::Exists => match look(store, prefix, owner, takes_over_from.as_deref()).await? {
            Claim::Held => Ok(()),
            Claim::Free { .. } => Err(unusable(&key, "it was there and is gone").into()),
        },
    }
}

fn unusable(key: &str, detail: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Unexpected, action: "read", key: key.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::directory::DirectoryStore;

    /// An empty lake in a directory.
    struct Scene {
        store: Store,
        prefix: Prefix,
        _root: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a temporary folder can be made");
            let store = DirectoryStore::new(root.path(), "data/_lakeingest/unfinished".to_owned(), "writer");
            let prefix = Prefix::new("data").expect("the default prefix is one");
            Self { store: Store::Directory(store), prefix, _root: root }
        }

        /// Looks, and claims what is free.
        async fn claimed(&self, name: &str, takes_over_from: Option<&str>) -> Result<(), OwnerError> {
            let owner = Owner { cluster_id: None, namespace: None, name: name.to_owned() };
            match look(&self.store, &self.prefix, &owner, takes_over_from).await? {
                Claim::Held => Ok(()),
                Claim::Free { place, from } => {
                    claim(&self.store, &self.prefix, &owner, (place, from), DateTime::UNIX_EPOCH).await
                }
            }
        }
    }

    #[tokio::test]
    async fn a_prefix_belongs_to_whoever_was_first() {
        let scene = Scene::new();
        scene.claimed("first", None).await.expect("nobody has it");
        scene.claimed("first", None).await.expect("it is the same owner");
        for takes_over_from in [None, Some("third")] {
            let error = scene.claimed("second", takes_over_from).await.expect_err("it is the first one's");
            let words = error.to_string();
            assert!(words.starts_with("the prefix data belongs to first; "), "{words}");
            assert!(words.ends_with("takeOverFrom: first, or delete data/_lakeingest/owner.json"), "{words}");
        }
    }

    #[tokio::test]
    async fn a_prefix_is_taken_over_by_name_and_not_taken_back_by_a_name_that_still_stands() {
        let scene = Scene::new();
        scene.claimed("first", None).await.expect("nobody has it");
        scene.claimed("second", Some("first")).await.expect("it names whose it is");
        scene.claimed("second", None).await.expect("it is its own");
        let words = scene.claimed("first", None).await.expect_err("it was taken").to_string();
        assert!(
            words.contains("belongs to second") && words.ends_with("delete data/_lakeingest/owner-2.json"),
            "{words}"
        );
        scene.claimed("first", Some("second")).await.expect("it names whose it is");
        scene.claimed("second", Some("first")).await.expect_err("it has taken it from that one before");
        scene.claimed("third", Some("first")).await.expect("it names whose it is");
        scene.claimed("first", Some("second")).await.expect_err("it is the third one's");
    }

    /// Of two that take over at the same time one has it, and the other hears of it.
    #[tokio::test]
    async fn of_two_that_take_over_one_has_it() {
        let scene = Scene::new();
        scene.claimed("first", None).await.expect("nobody has it");
        let owner = |name: &str| Owner { cluster_id: None, namespace: None, name: name.to_owned() };
        let free = || (1, Some("first".to_owned()));
        let claim = |name| {
            let (scene, owner) = (&scene, owner(name));
            async move { claim(&scene.store, &scene.prefix, &owner, free(), DateTime::UNIX_EPOCH).await }
        };
        claim("second").await.expect("it is free");
        let words = claim("third").await.expect_err("it was free when it was looked at").to_string();
        assert!(words.contains("belongs to second"), "{words}");
        claim("second").await.expect("another pod of the same owner finds it done");
    }
}
