//! The first contact with the lake, before anything is published.
//!
//! Owns: the order: whether the prefix may be claimed, whose it is, what the endpoint promises, what schemas there are.
//! Does not own: when it is tried again (`flush::deliver`).

use std::sync::Arc;

use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::config::Permission;
use crate::lake::owner::{self, Claim, Owner, OwnerError};
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
    /// The operator has given the prefix to another LakeIngest.
    #[error("the prefix {prefix} is that of LakeIngest {owner}, or one lies in the other; nothing is written to it")]
    Withheld {
        /// The prefix.
        prefix: String,
        /// Whose it is.
        owner: String,
    },
}

/// What is said of an endpoint that replaced an object which it was told not to replace.
pub const REPLACES: &str = "the endpoint does not honour If-None-Match: it would replace an object; records flow, each \
    object is looked at before and after it is put, and new tables and columns take seconds more";

/// The first contact, made once.
#[derive(Debug)]
pub struct Contact {
    store: Store,
    prefix: Prefix,
    owner: Owner,
    permission: Permission,
    registry: Arc<Registry>,
    clock: SharedClock,
    made: Mutex<bool>,
}

impl Contact {
    /// A contact that has not been made.
    pub fn new(
        store: Store,
        prefix: Prefix,
        owner: Owner,
        permission: Permission,
        registry: Arc<Registry>,
        clock: SharedClock,
    ) -> Self {
        Self { store, prefix, owner, permission, registry, clock, made: Mutex::new(false) }
    }

    /// Makes the contact, unless it has been made. Whoever calls meanwhile waits for the same attempt.
    ///
    /// # Errors
    /// See [`ContactError`]; the next call tries again.
    pub async fn ensure(&self) -> Result<(), ContactError> {
        let mut made = self.made.lock().await;
        if *made && self.store.is_create_only() {
            return Ok(());
        }
        if let Some(owner) = self.permission.withheld_for().filter(|_| !*made) {
            return Err(ContactError::Withheld { prefix: self.prefix.as_str().to_owned(), owner });
        }
        // Before anything is written. Where an object can be replaced it is looked at each time: a stranger may have come.
        let takes_over_from = self.permission.takes_over_from();
        let claim = owner::look(&self.store, &self.prefix, &self.owner, takes_over_from.as_deref()).await?;
        if *made && claim == Claim::Held {
            return Ok(());
        }
        let Probe { create_only, checksum } = self.store.probe(&self.prefix.probe()).await?;
        if let Claim::Free { place, from } = claim {
            if let Some(from) = &from {
                warn!(prefix = self.prefix.as_str(), from, owner = %self.owner, "taking the prefix over");
            }
            owner::claim(&self.store, &self.prefix, &self.owner, (place, from), self.clock.now()).await?;
        }
        if !checksum {
            warn!("the endpoint does not refuse a body with a wrong checksum; objects are verified after each put");
        }
        self.registry.load_all().await?;
        info!(prefix = self.prefix.as_str(), owner = %self.owner, create_only, checksum, "made contact with the lake");
        *made = true;
        Ok(())
    }
}
