//! What an endpoint does with a put that it should refuse.
//!
//! Owns: the two objects of the trial, the same for every writer, and what is concluded. Does not own: putting (`s3`).

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{S3Store, Sent};
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::store::{Probe, PutOutcome};

const PROBE_BODY: &[u8] = b"lakeingest probe";

impl S3Store {
    /// Puts an object twice, and another with a checksum that is not its own. The objects are the same for every
    /// writer and stay, so that nothing has to be deleted.
    pub(in crate::publish) async fn probe(&self, key: &str) -> Result<Probe, StoreError> {
        let (create_only_key, checksum_key) = (format!("{key}/create-only"), format!("{key}/wrong-checksum"));
        let right: [u8; 32] = Sha256::digest(PROBE_BODY).into();
        let wrong: [u8; 32] = Sha256::digest(b"another body").into();
        let create_only = match self.put_probe(&create_only_key, right, true).await {
            Ok(_) => self.put_probe(&create_only_key, right, true).await? == PutOutcome::Exists,
            // Some endpoints refuse what they do not know.
            Err(error) if error.kind == StoreErrorKind::Unexpected => {
                self.put_probe(&create_only_key, right, false).await?;
                false
            }
            Err(error) => return Err(error),
        };
        self.shared.is_create_only.store(create_only, Ordering::Release);
        let checksum = match self.put_probe(&checksum_key, wrong, create_only).await {
            Ok(_) => false,
            Err(error) if error.kind == StoreErrorKind::Unreachable => return Err(error),
            Err(_) => true,
        };
        Ok(Probe { create_only, checksum })
    }

    async fn put_probe(&self, key: &str, sha256: [u8; 32], is_conditional: bool) -> Result<PutOutcome, StoreError> {
        let body = Bytes::from_static(PROBE_BODY);
        let sent = Sent { headers: HeaderMap::new(), sha256, size_bytes: body.len() as u64, body: body.into() };
        self.in_time("put", key, self.create(key, sent, is_conditional)).await
    }
}
