//! The certificate that a replica serves with.
//!
//! Owns: making it, renewing it in time, whether a bundle vouches for it. It lives in memory alone.
//! Does not own: the connections.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::info;

use super::authority::{Authority, BACKDATED_MINUTES};
use crate::clock::SharedClock;
use crate::metrics::Metrics;

/// How long a leaf is valid. Unit: hours. Seven days: one that leaks is of use for a week at most.
const LIFE_HOURS: i64 = 7 * 24;

/// How often the wall clock is looked at. A timer for the whole wait would drift while a machine sleeps.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    key: Arc<CertifiedKey>,
    not_after: DateTime<Utc>,
    renew_at: DateTime<Utc>,
}

/// There is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// It could not be made.
    #[error("failed to make the webhook's certificate")]
    Make(#[source] rcgen::Error),
    /// Its key cannot be used.
    #[error("failed to use the key of the webhook's certificate")]
    Key(#[source] rustls::Error),
}

impl Leaf {
    /// A new leaf for these names.
    fn make(authority: &Authority, names: &[String], now: DateTime<Utc>) -> Result<Self, LeafError> {
        let key = KeyPair::generate().map_err(LeafError::Make)?;
        let mut parameters = CertificateParams::new(names.to_vec()).map_err(LeafError::Make)?;
        parameters.distinguished_name.push(DnType::CommonName, "lakeingest webhook");
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let (not_before, not_after) = (now - TimeDelta::minutes(BACKDATED_MINUTES), now + TimeDelta::hours(LIFE_HOURS));
        parameters.not_before = SystemTime::from(not_before).into();
        parameters.not_after = SystemTime::from(not_after).into();
        let certificate = parameters.signed_by(&key, authority.issuer()).map_err(LeafError::Make)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = any_supported_type(&private).map_err(LeafError::Key)?;
        let chain = vec![certificate.der().clone(), authority.certificate().clone()];
        let renew_at = now + TimeDelta::hours(LIFE_HOURS * 2 / 3);
        Ok(Self { key: Arc::new(CertifiedKey::new(chain, signing)), not_after, renew_at })
    }
}

/// Serves with the present leaf and renews it.
pub struct LeafKeeper {
    names: Vec<String>,
    clock: SharedClock,
    present: RwLock<Present>,
}

/// What is served with, and who signed it.
#[derive(Clone)]
struct Present {
    authority: Arc<Authority>,
    leaf: Arc<Leaf>,
}

impl std::fmt::Debug for LeafKeeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LeafKeeper").field("names", &self.names).finish_non_exhaustive()
    }
}

impl LeafKeeper {
    /// A keeper with a leaf for the Service `service` of `namespace`.
    ///
    /// # Errors
    /// See [`LeafError`].
    pub fn new(
        authority: Arc<Authority>,
        service: &str,
        namespace: &str,
        clock: SharedClock,
    ) -> Result<Self, LeafError> {
        let name = format!("{service}.{namespace}.svc");
        let names = vec![name.clone(), format!("{name}.cluster.local")];
        let leaf = Arc::new(Leaf::make(&authority, &names, clock.now())?);
        Ok(Self { names, clock, present: RwLock::new(Present { authority, leaf }) })
    }

    /// The authority that signs the leaves.
    pub fn authority(&self) -> Arc<Authority> {
        self.present().authority
    }

    /// Takes another authority, with a leaf of it.
    ///
    /// # Errors
    /// See [`LeafError`]; the present one stays.
    pub fn adopt(&self, authority: Arc<Authority>) -> Result<(), LeafError> {
        let leaf = Arc::new(Leaf::make(&authority, &self.names, self.clock.now())?);
        self.replace(Present { authority, leaf });
        Ok(())
    }

    fn present(&self) -> Present {
        // The lock is held for an assignment alone: a panic elsewhere leaves nothing half done.
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, present: Present) {
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = present;
    }

    /// Renews the leaf if two thirds of its life are over. Says whether it did.
    ///
    /// # Errors
    /// See [`LeafError`]; the present leaf stays.
    pub fn renew_if_due(&self) -> Result<bool, LeafError> {
        let Present { authority, leaf } = self.present();
        if self.clock.now() < leaf.renew_at {
            return Ok(false);
        }
        let leaf = Arc::new(Leaf::make(&authority, &self.names, self.clock.now())?);
        self.replace(Present { authority, leaf });
        Ok(true)
    }

    /// Renews the leaf in time, for ever.
    pub async fn run(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            match self.renew_if_due() {
                Ok(true) => info!(not_after = %self.present().leaf.not_after, "renewed the webhook's certificate"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(error = %crate::error_chain(&error), "failed to renew the webhook's certificate")
                }
            }
            metrics.certificate_not_after.set(self.present().leaf.not_after.timestamp());
        }
    }

    /// Whether a client that trusts `bundle` (PEM) would accept the present leaf now.
    pub fn is_vouched_for_by(&self, bundle: &[u8]) -> bool {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle).flatten() {
            // One that is no authority vouches for nothing; another one may.
            let _ = roots.add(certificate);
        }
        let Ok(verifier) = WebPkiServerVerifier::builder(Arc::new(roots)).build() else { return false };
        let (Present { leaf, .. }, Some(name)) = (self.present(), self.names.first()) else { return false };
        let Ok(name) = ServerName::try_from(name.as_str()) else { return false };
        let Some((certificate, chain)) = leaf.key.cert.split_first() else { return false };
        let seconds = u64::try_from(self.clock.now().timestamp()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(certificate, chain, &name, &[], now).is_ok()
    }
}

impl ResolvesServerCert for LeafKeeper {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.present().leaf.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::ManualClock;

    fn keeper() -> (Arc<ManualClock>, LeafKeeper, String) {
        let clock = ManualClock::at("2026-01-08T10:05:30Z");
        let authority = Arc::new(Authority::for_test(crate::clock::Clock::now(&*clock)));
        let bundle = authority.bundle().to_owned();
        let keeper = LeafKeeper::new(authority, "webhook", "lakeingest", clock.clone()).expect("a leaf can be made");
        (clock, keeper, bundle)
    }

    #[test]
    fn the_bundle_vouches_for_the_leaf_and_a_strangers_does_not() {
        let (clock, keeper, bundle) = keeper();
        assert!(keeper.is_vouched_for_by(bundle.as_bytes()));
        let stranger = Authority::for_test(crate::clock::Clock::now(&*clock));
        assert!(!keeper.is_vouched_for_by(stranger.bundle().as_bytes()));
        let both = format!("{}{bundle}", stranger.bundle());
        assert!(keeper.is_vouched_for_by(both.as_bytes()), "a bundle of two vouches as well");
        assert!(!keeper.is_vouched_for_by(b""));
    }

    #[test]
    fn the_leaf_is_renewed_at_two_thirds_of_its_life_and_not_before() {
        let (clock, keeper, bundle) = keeper();
        let first = keeper.present().leaf;
        clock.advance(Duration::from_secs(7 * 24 * 3_600 * 2 / 3 - 1));
        assert!(!keeper.renew_if_due().expect("there is nothing to fail"));
        assert!(Arc::ptr_eq(&first, &keeper.present().leaf));
        clock.advance(Duration::from_secs(1));
        assert!(keeper.renew_if_due().expect("a leaf can be made"));
        assert!(keeper.present().leaf.not_after > first.not_after);
        assert!(keeper.is_vouched_for_by(bundle.as_bytes()));
    }

    #[test]
    fn an_authority_that_is_adopted_signs_from_then_on() {
        let (clock, keeper, bundle) = keeper();
        let other = Arc::new(Authority::for_test(crate::clock::Clock::now(&*clock)));
        keeper.adopt(Arc::clone(&other)).expect("a leaf can be made");
        assert!(keeper.is_vouched_for_by(other.bundle().as_bytes()) && !keeper.is_vouched_for_by(bundle.as_bytes()));
        assert_eq!(keeper.authority().bundle(), other.bundle());
    }

    #[test]
    fn a_leaf_whose_life_is_over_is_vouched_for_by_nobody() {
        let (clock, keeper, bundle) = keeper();
        clock.advance(Duration::from_secs(7 * 24 * 3_600 + 1));
        assert!(!keeper.is_vouched_for_by(bundle.as_bytes()));
    }
}
