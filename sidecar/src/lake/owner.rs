//! Whose a prefix is.
//!
//! Owns: `owner.json`, created once by whoever starts first. Does not own: what a stranger does instead, when it is asked
//! (`contact`).

use bytes::Bytes;
use chrono::{DateTime, Utc};
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
        "the prefix {prefix} belongs to {owner}; use another prefix, or the same owner; if that one is gone for good, delete {key}"
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

/// Whether the prefix is `owner`'s already; false if it is nobody's. Nothing is written.
///
/// # Errors
/// See [`OwnerError`].
pub async fn is_claimed(store: &Store, prefix: &Prefix, owner: &Owner) -> Result<bool, OwnerError> {
    match store.get(&prefix.owner()).await? {
        Some(content) => compare(&content, prefix, owner).map(|()| true),
        None => Ok(false),
    }
}

/// Makes the prefix `owner`'s, or finds that it already is.
///
/// # Errors
/// See [`OwnerError`].
pub async fn claim(store: &Store, prefix: &Prefix, owner: &Owner, now: DateTime<Utc>) -> Result<(), OwnerError> {
    let key = prefix.owner();
    let object = OwnerObject { format_version: 1, owner: owner.clone(), created_at: now };
    let content: Bytes = serde_json::to_vec_pretty(&object).expect("the object is plain data").into();
    match store.put_first(&key, content).await? {
        PutOutcome::Created => Ok(()),
        PutOutcome::Exists => match is_claimed(store, prefix, owner).await? {
            true => Ok(()),
            false => Err(unusable(&key, "it was there and is gone").into()),
        },
    }
}

fn compare(content: &[u8], prefix: &Prefix, owner: &Owner) -> Result<(), OwnerError> {
    let found: OwnerObject =
        serde_json::from_slice(content).map_err(|error| unusable(&prefix.owner(), &error.to_string()))?;
    if found.owner == *owner {
        return Ok(());
    }
    let (prefix, owner, key) = (prefix.as_str().to_owned(), found.owner.to_string(), prefix.owner());
    Err(OwnerError::PrefixInUse { prefix, owner, key })
}

fn unusable(key: &str, detail: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Unexpected, action: "read", key: key.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::directory::DirectoryStore;

    #[tokio::test]
    async fn a_prefix_belongs_to_whoever_was_first() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let store =
            Store::Directory(DirectoryStore::new(root.path(), "data/_lakeingest/unfinished".to_owned(), "writer"));
        let prefix = Prefix::new("data").expect("the default prefix is one");
        let owner = |name: &str| Owner { cluster_id: None, namespace: None, name: name.to_owned() };
        let claimed = |name: &'static str| {
            let (store, prefix) = (store.clone(), prefix.clone());
            async move { claim(&store, &prefix, &owner(name), DateTime::UNIX_EPOCH).await }
        };
        claimed("first").await.expect("nobody has it");
        claimed("first").await.expect("it is the same owner");
        let error = claimed("second").await.expect_err("it is the first one's");
        let words = error.to_string();
        assert!(words.starts_with("the prefix data belongs to first; "), "{words}");
        assert!(words.ends_with("delete data/_lakeingest/owner.json"), "{words}");
    }
}
