//! The certificate that a replica serves with.
//!
//! Owns: making it, when it is replaced, whether a bundle vouches for it. It lives in memory alone.
//! Does not own: the connections, which authority signs (`keeper`).

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

use super::authority::Authority;
use super::lives::Validity;
use super::validity::validity;

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    key: Arc<CertifiedKey>,
    validity: Validity,
    life: TimeDelta,
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
    /// It is no PEM.
    #[error("failed to read the webhook's certificate or its key as PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// It is no certificate.
    #[error("failed to find the webhook's certificate")]
    None,
}

impl Leaf {
    /// A new leaf for these names that lives so long, and no longer than its authority.
    fn make(authority: &Authority, names: &[String], now: DateTime<Utc>, life: TimeDelta) -> Result<Self, LeafError> {
        let key = KeyPair::generate().map_err(LeafError::Make)?;
        let mut parameters = CertificateParams::new(names.to_vec()).map_err(LeafError::Make)?;
        parameters.distinguished_name.push(DnType::CommonName, "lakeingest webhook");
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let mut validity = Validity::of(now, life);
        validity.ends = validity.ends.min(authority.validity().ends);
        parameters.not_before = SystemTime::from(validity.begins).into();
        parameters.not_after = SystemTime::from(validity.ends).into();
        let certificate = parameters.signed_by(&key, authority.issuer()).map_err(LeafError::Make)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = any_supported_type(&private).map_err(LeafError::Key)?;
        let chain = vec![certificate.der().clone(), authority.certificate().clone()];
        Ok(Self { key: Arc::new(CertifiedKey::new(chain, signing)), validity, life })
    }

    /// A leaf that somebody else has made, with the certificates between it and its authority.
    pub(super) fn of_pem(certificates: &[u8], key: &[u8]) -> Result<Self, LeafError> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>().map_err(LeafError::Pem)?;
        let validity = chain.first().and_then(|certificate| validity(certificate)).ok_or(LeafError::None)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(LeafError::Pem)?;
        let key = CertifiedKey::new(chain, any_supported_type(&key).map_err(LeafError::Key)?);
        key.keys_match().map_err(LeafError::Key)?;
        Ok(Self { key: Arc::new(key), validity, life: TimeDelta::MAX })
    }

    /// Whether this authority has signed it.
    fn is_of(&self, authority: &Authority) -> bool {
        self.key.cert.last() == Some(authority.certificate())
    }

    /// Whether it is to be replaced: two thirds of its life are over, or the clock was put back before it.
    fn is_due(&self, now: DateTime<Utc>) -> bool {
        now >= self.validity.due_at(self.life) || now < self.validity.begins
    }
}

/// What is served with.
pub struct LeafKeeper {
    names: Vec<String>,
    present: RwLock<Arc<Leaf>>,
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
        authority: &Authority,
        service: &str,
        namespace: &str,
        now: DateTime<Utc>,
        life: TimeDelta,
    ) -> Result<Self, LeafError> {
        let names = names(service, namespace);
        let leaf = Leaf::make(authority, &names, now, life)?;
        Ok(Self { names, present: RwLock::new(Arc::new(leaf)) })
    }

    /// A keeper with this leaf, for the Service `service` of `namespace`.
    pub(super) fn with(leaf: Leaf, service: &str, namespace: &str) -> Self {
        Self { names: names(service, namespace), present: RwLock::new(Arc::new(leaf)) }
    }

    /// Serves with another leaf.
    pub(super) fn replace(&self, leaf: Leaf) {
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(leaf);
    }

    fn present(&self) -> Arc<Leaf> {
        // The lock is held for an assignment alone: a panic elsewhere leaves nothing half done.
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the present leaf ends.
    pub fn ends(&self) -> DateTime<Utc> {
        self.present().validity.ends
    }

    /// Whether this authority has signed the present leaf.
    pub(super) fn is_of(&self, authority: &Authority) -> bool {
        self.present().is_of(authority)
    }

    /// Replaces the leaf if it is due or another authority's. Says whether it did.
    ///
    /// # Errors
    /// See [`LeafError`]; the present leaf stays.
    pub fn renew_if_due(&self, signer: &Authority, now: DateTime<Utc>, life: TimeDelta) -> Result<bool, LeafError> {
        let present = self.present();
        if present.is_of(signer) && !present.is_due(now) {
            return Ok(false);
        }
        self.replace(Leaf::make(signer, &self.names, now, life)?);
        Ok(true)
    }

    /// Whether a client that trusts `bundle` (PEM) would accept the present leaf at this moment.
    pub fn is_vouched_for_by(&self, bundle: &[u8], now: DateTime<Utc>) -> bool {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle).flatten() {
            // One that is no authority vouches for nothing; another one may.
            let _ = roots.add(certificate);
        }
        let Ok(verifier) = WebPkiServerVerifier::builder(Arc::new(roots)).build() else { return false };
        let (leaf, Some(name)) = (self.present(), self.names.first()) else { return false };
        let Ok(name) = ServerName::try_from(name.as_str()) else { return false };
        let Some((certificate, chain)) = leaf.key.cert.split_first() else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.timestamp()).unwrap_or_default()));
        verifier.verify_server_cert(certificate, chain, &name, &[], now).is_ok()
    }
}

/// The names under which the API server calls a Service, the one that it uses first.
fn names(service: &str, namespace: &str) -> Vec<String> {
    let name = format!("{service}.{namespace}.svc");
    vec![name.clone(), format!("{name}.cluster.local")]
}

impl ResolvesServerCert for LeafKeeper {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.present().key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: TimeDelta = TimeDelta::days(7);

    fn now() -> DateTime<Utc> {
        "2026-01-08T10:05:30Z".parse().expect("the test's time is one")
    }

    fn keeper() -> (Authority, LeafKeeper) {
        let authority = Authority::for_test(now());
        let keeper = LeafKeeper::new(&authority, "webhook", "lakeingest", now(), LIFE).expect("a leaf can be made");
        (authority, keeper)
    }

    fn vouches(authority: &Authority, keeper: &LeafKeeper, now: DateTime<Utc>) -> bool {
        keeper.is_vouched_for_by(authority.certificate_pem().as_bytes(), now)
    }

    #[test]
    fn the_bundle_vouches_for_the_leaf_and_a_strangers_does_not() {
        let (authority, keeper) = keeper();
        assert!(vouches(&authority, &keeper, now()));
        let stranger = Authority::for_test(now());
        assert!(!vouches(&stranger, &keeper, now()));
        let both = format!("{}{}", stranger.certificate_pem(), authority.certificate_pem());
        assert!(keeper.is_vouched_for_by(both.as_bytes(), now()), "a bundle of two vouches as well");
        assert!(!keeper.is_vouched_for_by(b"", now()));
    }

    #[test]
    fn the_leaf_is_renewed_at_two_thirds_of_its_life_and_not_before() {
        let (authority, keeper) = keeper();
        let first = keeper.present();
        let due = now() + LIFE / 3 * 2;
        let renew = |now| keeper.renew_if_due(&authority, now, LIFE).expect("a leaf can be made");
        assert!(!renew(due - TimeDelta::seconds(1)));
        assert!(Arc::ptr_eq(&first, &keeper.present()));
        assert!(renew(due));
        assert!(keeper.ends() > first.validity.ends);
        assert!(vouches(&authority, &keeper, due));
    }

    /// An API server whose clock is right would not believe a leaf that a clock of next year has made.
    #[test]
    fn an_api_server_whose_clock_is_behind_believes_what_was_made_just_now() {
        let (authority, keeper) = keeper();
        assert!(vouches(&authority, &keeper, now() - TimeDelta::minutes(9)));
        assert!(!vouches(&authority, &keeper, now() - TimeDelta::minutes(11)), "it is not valid since for ever");
    }

    #[test]
    fn a_clock_that_was_put_back_renews_the_leaf() {
        let (authority, keeper) = keeper();
        let earlier = now() - TimeDelta::hours(1);
        assert!(keeper.renew_if_due(&authority, earlier, LIFE).expect("a leaf can be made"));
        assert!(keeper.present().validity.holds_at(earlier));
    }

    #[test]
    fn another_authority_signs_a_leaf_of_its_own() {
        let (authority, keeper) = keeper();
        let other = Authority::for_test(now());
        assert!(keeper.renew_if_due(&other, now(), LIFE).expect("a leaf can be made"));
        assert!(vouches(&other, &keeper, now()) && !vouches(&authority, &keeper, now()));
        assert!(keeper.is_of(&other) && !keeper.is_of(&authority));
    }

    #[test]
    fn a_leaf_whose_life_is_over_is_vouched_for_by_nobody_and_it_ends_with_its_authority() {
        let (authority, keeper) = keeper();
        assert!(!vouches(&authority, &keeper, now() + LIFE + TimeDelta::seconds(2)));
        let short = Authority::new(now(), TimeDelta::days(1)).expect("an authority can be made");
        assert!(keeper.renew_if_due(&short, now(), LIFE).expect("a leaf can be made"));
        assert_eq!(keeper.ends(), short.validity().ends);
    }
}
