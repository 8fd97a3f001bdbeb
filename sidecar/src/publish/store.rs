//! The lake as a place for objects: a bucket or a directory.
//!
//! Owns: which of the two it is, and what both promise: an object is created once and never changed.
//! Does not own: the two ways (`directory`, `s3`), what an object means.

use std::path::Path;

use bytes::Bytes;

use crate::journal::control::PlannedFile;
use crate::publish::directory::DirectoryStore;
use crate::publish::error::StoreError;
use crate::publish::key::SegmentName;
use crate::publish::s3::S3Store;

/// What a create-only put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is new and is what was sent.
    Created,
    /// Something is at the key, or another writer is at it: look before anything is believed.
    Exists,
}

/// What the lake says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its length. Unit: bytes.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, hex, as far as the lake knows it: by a checksum of its own, by the metadata that the
    /// writer sent, or by reading it.
    pub sha256: Option<String>,
}

/// What an endpoint was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// A create-only put of a key that exists is refused.
    pub create_only: bool,
    /// A body that is not what its checksum says is refused.
    pub checksum: bool,
}

/// A file on the way to the lake.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// What it is and where it goes.
    pub planned: &'a PlannedFile,
    /// Whose it is.
    pub segment: &'a SegmentName,
    /// Where it lies now.
    pub local: &'a Path,
}

/// The lake. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Store {
    /// A directory stands for the bucket.
    Directory(DirectoryStore),
    /// A bucket.
    S3(S3Store),
}

impl Store {
    /// What keys are below: `s3://<bucket>/` or a directory with a slash at its end.
    pub fn location(&self) -> String {
        match self {
            Self::Directory(store) => store.location(),
            Self::S3(store) => store.location(),
        }
    }

    /// Creates an object from a file; never changes one that exists.
    ///
    /// # Errors
    /// Nobody knows whether the object is there now.
    pub async fn put_file(&self, upload: Upload<'_>) -> Result<PutOutcome, StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.put_file(upload).await,
            Self::S3(store) => store.put_file(upload).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// Creates an object from the first `bytes` of a file, whose SHA-256 is `sha256`, hex; never changes one that exists.
    ///
    /// # Errors
    /// Nobody knows whether the object is there now.
    pub async fn put_log(&self, key: &str, local: &Path, bytes: u64, sha256: &str) -> Result<PutOutcome, StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.put_log(key, local, bytes, sha256).await,
            Self::S3(store) => store.put_log(key, local, bytes, sha256).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// Creates a small object that no other writer makes under this key; never changes one that exists.
    ///
    /// # Errors
    /// Nobody knows whether the object is there now.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.put(key, content).await,
            Self::S3(store) => store.put(key, content).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// Creates a small object under a key that other writers may want at the same time: one of them has `Created`. At an
    /// endpoint that replaces objects this takes some seconds, and is as sure as it can be there.
    ///
    /// # Errors
    /// Nobody knows whether the object is there now.
    pub async fn put_first(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.put(key, content).await,
            Self::S3(store) => store.put_first(key, content).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// Whether an object that exists is never replaced, as far as [`Self::probe`] has seen.
    pub fn is_create_only(&self) -> bool {
        match self {
            Self::Directory(_) => true,
            Self::S3(store) => store.is_create_only(),
        }
    }

    /// What the lake says of an object.
    ///
    /// # Errors
    /// The lake did not say.
    pub async fn head(&self, key: &str) -> Result<Option<Found>, StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.head(key).await,
            Self::S3(store) => store.head(key).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// A small object's content.
    ///
    /// # Errors
    /// The lake did not say, or the object is larger than `LAKE_OBJECT_BYTES_MAX`.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.get(key).await,
            Self::S3(store) => store.get(key).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// Copies an object to a local file.
    ///
    /// # Errors
    /// The lake did not give it, or the file cannot be written.
    pub async fn fetch(&self, key: &str, local: &Path) -> Result<(), StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.fetch(key, local).await,
            Self::S3(store) => store.fetch(key, local).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// Removes an object that this process has made for a trial. Nothing else is ever removed.
    ///
    /// # Errors
    /// The lake did not remove it: it need not let a sidecar remove anything.
    pub async fn remove_trial(&self, key: &str) -> Result<(), StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.remove_trial(key).await,
            Self::S3(store) => store.remove_trial(key).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// The keys that begin with `prefix`, which ends with a slash.
    ///
    /// # Errors
    /// The lake did not say.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let outcome = match self {
            Self::Directory(store) => store.list(prefix).await,
            Self::S3(store) => store.list(prefix).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }

    /// Tries what the endpoint promises, in a folder that nothing else uses.
    ///
    /// # Errors
    /// The lake did not answer.
    pub async fn probe(&self, key: &str) -> Result<Probe, StoreError> {
        let outcome = match self {
            // A rename that must not replace, and a copy that is read back: the kernel promises both.
            Self::Directory(_) => Ok(Probe { create_only: true, checksum: true }),
            Self::S3(store) => store.probe(key).await,
        };
        outcome.map_err(|error| error.below(&self.location()))
    }
}
