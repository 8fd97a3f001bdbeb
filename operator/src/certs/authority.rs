//! An authority that signs the leaves of all replicas.
//!
//! Owns: making one, reading one. Its key is never logged. Does not own: leaves, where authorities are kept, when one is
//! replaced.

use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::lives::Validity;
use super::validity::validity;

/// What authorities are called. A leaf names its authority so: an authority of another name vouches for no leaf.
const NAME: &str = "lakeingest webhook authority";

/// An authority: its certificate and its key.
pub struct Authority {
    certificate_pem: String,
    key_pem: String,
    certificate: CertificateDer<'static>,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// What of an authority cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its certificate.
    Certificate,
    /// Its key.
    Key,
}

impl Authority {
    /// A new authority that lives so long. ECDSA on P-256: every TLS stack has it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(now: DateTime<Utc>, life: TimeDelta) -> Result<Self, rcgen::Error> {
        let (key, validity) = (KeyPair::generate()?, Validity::of(now, life));
        let mut parameters = parameters();
        parameters.not_before = SystemTime::from(validity.begins).into();
        parameters.not_after = SystemTime::from(validity.ends).into();
        let certificate = parameters.self_signed(&key)?;
        let (certificate_pem, certificate) = (certificate.pem(), certificate.der().clone());
        let key_pem = key.serialize_pem();
        Ok(Self { certificate_pem, key_pem, certificate, validity, issuer: Issuer::new(self::parameters(), key) })
    }

    /// An authority from its certificate and its key.
    pub(super) fn of(certificate: CertificateDer<'static>, key: &PrivateKeyDer<'_>) -> Result<Self, Unfit> {
        let key = KeyPair::try_from(key).map_err(|_| Unfit::Key)?;
        let names = |part: &[u8]| certificate.windows(part.len()).any(|found| found == part);
        // The certificate names its public key; leaves that another key signs would be believed by nobody.
        if !names(key.public_key_raw()) {
            return Err(Unfit::Key);
        }
        let validity = validity(&certificate).filter(|_| names(NAME.as_bytes())).ok_or(Unfit::Certificate)?;
        Ok(Self {
            certificate_pem: pem(&certificate),
            key_pem: key.serialize_pem(),
            certificate,
            validity,
            // A leaf is signed in the name of the authority: the same parameters give the same name and key identifier.
            issuer: Issuer::new(parameters(), key),
        })
    }

    /// An authority of a year.
    #[cfg(test)]
    pub(crate) fn for_test(now: DateTime<Utc>) -> Self {
        Self::new(now, TimeDelta::days(365)).expect("an authority can be made")
    }

    /// Its certificate, as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key, as PEM.
    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Its certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What signs leaves.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// From when until when it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, NAME);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters
}

/// A certificate as PEM, as the library writes it.
/// Source: RFC 7468, 3 (lines of 64 characters).
fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::prelude::BASE64_STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_written_as_it_was_made() {
        let made = Authority::for_test(DateTime::UNIX_EPOCH);
        assert_eq!(pem(made.certificate()), made.certificate_pem());
    }

    #[test]
    fn neither_the_key_nor_the_certificate_is_in_the_debug_form() {
        let authority = Authority::for_test(DateTime::UNIX_EPOCH);
        let shown = format!("{authority:?}");
        assert!(shown.starts_with("Authority { validity") && shown.len() < 120, "{shown}");
    }
}
