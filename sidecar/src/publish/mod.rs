//! Files into the lake: created once, verified, never changed.
//!
//! Owns: keys, the create-only put, what is done when something is already there. Upholds I2 and I3.
//! Does not own: when (`flush`), what a file holds (`encode`).

pub mod credentials;
pub mod directory;
pub mod error;
pub mod key;
pub mod s3;
pub mod store;

use std::path::Path;

use tracing::info;

use crate::journal::control::{Plan, PlannedFile};
use crate::seeded::{self, Bug};
use error::{StoreError, StoreErrorKind};
use key::SegmentName;
use store::{Found, PutOutcome, Store, Upload};

/// A file is not in the lake.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another object is at the key. Nothing was overwritten; trying again does not help.
    #[error("{key} holds an object that no plan of its segment has made")]
    KeyConflict {
        /// The key.
        key: String,
    },
}

/// What an object that cannot be recognised by its bytes says of itself.
pub trait Identify {
    /// Whether the Parquet file at `local` says that it is `planned` of `segment`.
    fn is(&self, local: &Path, planned: &PlannedFile, segment: &SegmentName) -> impl Future<Output = bool> + Send;
}

/// Brings one file of a segment into the lake: puts it, and answers what is there then.
///
/// # Errors
/// See [`PublishError`]; after a `Store` error nobody knows, and the same call again settles it.
pub async fn publish(
    store: &Store,
    upload: Upload<'_>,
    plans: &[Plan],
    identify: &impl Identify,
    scratch: &Path,
) -> Result<Found, PublishError> {
    let (planned, key) = (upload.planned, &upload.planned.key);
    let outcome = store.put_file(upload).await?;
    let is_believed = match outcome {
        PutOutcome::Created => seeded::is(Bug::TrustPut),
        PutOutcome::Exists => seeded::is(Bug::DropOnExists),
    };
    if is_believed {
        return Ok(Found { size_bytes: planned.size_bytes, sha256: Some(planned.sha256.clone()) });
    }
    let Some(found) = store.head(key).await? else {
        let detail = match outcome {
            PutOutcome::Created => "the put succeeded and the object is not there",
            PutOutcome::Exists => "another writer is at the key",
        };
        return Err(unverified(key, detail).into());
    };
    if is_one_of(&found, key, plans) {
        return Ok(found);
    }
    match outcome {
        PutOutcome::Created if found.sha256.is_some() => Err(unverified(key, "the object is not what was sent").into()),
        // An object of which the lake knows no checksum tells by its own words what it is.
        PutOutcome::Created | PutOutcome::Exists => {
            let copy = scratch.join(format!("look-{:016x}", rand::random::<u64>()));
            let fetched = store.fetch(key, &copy).await;
            let is_ours = match &fetched {
                Ok(()) => identify.is(&copy, planned, upload.segment).await,
                Err(_) => false,
            };
            // A copy that stays behind is removed with the scratch folder at the next start.
            let _ = std::fs::remove_file(&copy);
            fetched?;
            match (is_ours, outcome) {
                (true, _) => {
                    info!(object_key = key, "accepted an object by what it says of itself");
                    Ok(found)
                }
                (false, PutOutcome::Created) => Err(unverified(key, "the object is not what was sent").into()),
                (false, PutOutcome::Exists) => Err(PublishError::KeyConflict { key: key.clone() }),
            }
        }
    }
}

/// Whether an object has the length and the SHA-256 that one of the plans gave it.
fn is_one_of(found: &Found, key: &str, plans: &[Plan]) -> bool {
    let mut planned = plans.iter().flat_map(|plan| &plan.files).filter(|planned| planned.key == key);
    planned.any(|planned| {
        found.size_bytes == planned.size_bytes && found.sha256.as_deref() == Some(planned.sha256.as_str())
    })
}

fn unverified(key: &str, detail: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Unverified, action: "verify", key: key.to_owned(), detail: detail.to_owned() }
}
