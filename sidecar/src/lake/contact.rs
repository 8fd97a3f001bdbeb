//! The first contact with the lake, before anything is published.
//!
//! Owns: the order: whose the prefix is, what the endpoint promises, what schemas there are.
//! Does not own: when it is tried again (`flush::deliver`).

use std::sync::Arc;

use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::lake::owner::{Owner, OwnerError, claim};
use crate::publish::error::StoreError;
use crate::publish::key::Prefix;
use crate::publish::store::{Probe, Store};
use crate::schema::registry::Registry;

/// The lake cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContactError {
    /// The lake did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The prefix is somebody else's.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The endpoint replaced an object that it was told not to replace: a file could be overwritten.
    #[error("the endpoint does not honour If-None-Match; nothing is published to it")]
    NotCreateOnly,
}

/// The first contact, made once.
#[derive(Debug)]
pub struct Contact {
    store: Store,
    prefix: Prefix,
    owner: Owner,
    registry: Arc<Registry>,
    clock: SharedClock,
    made: Mutex<bool>,
}

impl Contact {
    /// A contact that has not been made.
    pub fn new(store: Store, prefix: Prefix, owner: Owner, registry: Arc<Registry>, clock: SharedClock) -> Self {
        Self { store, prefix, owner, registry, clock, made: Mutex::new(false) }
    }

    /// Makes the contact, unless it has been made. Whoever calls meanwhile waits for the same attempt.
    ///
    /// # Errors
    /// See [`ContactError`]; the next call tries again.
    pub async fn ensure(&self) -> Result<(), ContactError> {
        let mut made = self.made.lock().await;
        if *made {
            return Ok(());
        }
        claim(&self.store, &self.prefix, &self.owner, self.clock.now()).await?;
        let Probe { create_only, checksum } = self.store.probe(&self.prefix.probe()).await?;
        if !create_only {
            return Err(ContactError::NotCreateOnly);
        }
        if !checksum {
            warn!("the endpoint does not refuse a body with a wrong checksum; objects are verified after each put");
        }
        self.registry.load_all().await?;
        info!(prefix = self.prefix.as_str(), owner = %self.owner, checksum, "made contact with the lake");
        *made = true;
        Ok(())
    }
}
