//! The authority that signs the leaves of all replicas.
//!
//! Owns: making it, keeping it in a Secret, reading it. Its key is never logged.
//! Does not own: leaves, and what the API server is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::info;

use crate::names::{MANAGED_BY, MANAGER};

/// How long an authority is valid. Unit: days. Ten years: nothing replaces it yet but deleting its Secret.
const LIFE_DAYS: i64 = 3_650;

/// How far back validity begins, for API servers whose clock is behind. Unit: minutes.
pub(super) const BACKDATED_MINUTES: i64 = 10;

/// Keys of the Secret, as Secrets of type `kubernetes.io/tls` have them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Where the authority is kept.
#[derive(Clone)]
pub struct SecretPlace {
    /// The API server.
    pub client: Client,
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub name: String,
}

impl std::fmt::Debug for SecretPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SecretPlace({}/{})", self.namespace, self.name)
    }
}

/// An authority: its certificate and its key.
pub struct Authority {
    certificate_pem: String,
    key_pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// There is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The API server did not give the Secret.
    #[error("failed to read Secret {secret}")]
    Read {
        /// The Secret.
        secret: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not take the Secret.
    #[error("failed to create Secret {secret}")]
    Create {
        /// The Secret.
        secret: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// What is in the Secret is no authority.
    #[error("Secret {secret} holds no usable authority in {key}; delete it, and the operator makes a new one")]
    Unusable {
        /// The Secret.
        secret: String,
        /// The key of the Secret.
        key: &'static str,
    },
    /// It could not be made.
    #[error("failed to make an authority")]
    Make(#[source] rcgen::Error),
}

impl Authority {
    /// A new authority, in no Secret yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(now: DateTime<Utc>) -> Result<Self, AuthorityError> {
        let (certificate, key) = make(now).map_err(AuthorityError::Make)?;
        Self::of_pem(certificate, key)
            .map_err(|key| AuthorityError::Unusable { secret: "that was just made".to_owned(), key })
    }

    /// The authority of the Secret, or of `otherwise` and put there if there is no Secret. Replicas agree on one: the API
    /// server takes the first, and the others read it.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub async fn of_secret(
        place: &SecretPlace,
        otherwise: impl FnOnce() -> Result<Arc<Self>, AuthorityError>,
    ) -> Result<Arc<Self>, AuthorityError> {
        let SecretPlace { client, namespace, name } = place;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let shown = format!("{namespace}/{name}");
        let read = |source| AuthorityError::Read { secret: shown.clone(), source: Box::new(source) };
        if let Some(secret) = secrets.get_opt(name).await.map_err(read)? {
            return Self::read(&secret, &shown).map(Arc::new);
        }
        let authority = otherwise()?;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(BTreeMap::from([
                (CERTIFICATE.to_owned(), ByteString(authority.certificate_pem.clone().into_bytes())),
                (KEY.to_owned(), ByteString(authority.key_pem.clone().into_bytes())),
            ])),
            ..Secret::default()
        };
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {
                info!(secret = %shown, "put the authority of the webhook's certificates into its Secret");
                Ok(authority)
            }
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                let secret = secrets.get(name).await.map_err(read)?;
                Self::read(&secret, &shown).map(Arc::new)
            }
            Err(source) => Err(AuthorityError::Create { secret: shown, source: Box::new(source) }),
        }
    }

    fn read(secret: &Secret, shown: &str) -> Result<Self, AuthorityError> {
        let text = |key: &'static str| {
            let unusable = || AuthorityError::Unusable { secret: shown.to_owned(), key };
            let bytes = secret.data.as_ref().and_then(|data| data.get(key)).ok_or_else(unusable)?;
            String::from_utf8(bytes.0.clone()).map_err(|_| unusable())
        };
        let (certificate, key) = (text(CERTIFICATE)?, text(KEY)?);
        let unusable = |key| AuthorityError::Unusable { secret: shown.to_owned(), key };
        Self::of_pem(certificate, key).map_err(unusable)
    }

    /// An authority from its certificate and its key; the error is the Secret's key that cannot be used.
    pub(super) fn of_pem(certificate_pem: String, key_pem: String) -> Result<Self, &'static str> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| CERTIFICATE)?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| KEY)?;
        // The certificate names its public key; leaves that another key signs would be believed by nobody.
        let public = key.public_key_raw();
        if !certificate.windows(public.len()).any(|part| part == public) {
            return Err(KEY);
        }
        // A leaf is signed in the name of the authority: the same parameters give the same name and key identifier.
        Ok(Self { certificate_pem, key_pem, certificate, issuer: Issuer::new(parameters(), key) })
    }

    /// An authority that is in no Secret.
    #[cfg(test)]
    pub(crate) fn for_test(now: DateTime<Utc>) -> Self {
        Self::new(now).expect("an authority can be made")
    }

    /// As a Secret, for tests that stand for the API server.
    #[cfg(test)]
    pub(crate) fn as_secret(&self) -> serde_json::Value {
        use base64::Engine;
        let encoded = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
        serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca", "namespace": "lakeingest"},
            "data": {CERTIFICATE: encoded(&self.certificate_pem), KEY: encoded(&self.key_pem)},
        })
    }

    /// What the API server has to trust, as PEM.
    pub fn bundle(&self) -> &str {
        &self.certificate_pem
    }

    /// Its certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What signs leaves.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "lakeingest webhook authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters
}

/// Certificate and key as PEM. ECDSA on P-256: every TLS stack has it.
fn make(now: DateTime<Utc>) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = parameters();
    parameters.not_before = SystemTime::from(now - TimeDelta::minutes(BACKDATED_MINUTES)).into();
    parameters.not_after = SystemTime::from(now + TimeDelta::days(LIFE_DAYS)).into();
    Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_authority_is_named_by_its_key_and_says_what_to_do() {
        let (certificate, key) = make(DateTime::UNIX_EPOCH).expect("an authority can be made");
        let (_, another) = make(DateTime::UNIX_EPOCH).expect("an authority can be made");
        let secret = |certificate: &str, key: &str| Secret {
            data: Some(BTreeMap::from([
                (CERTIFICATE.to_owned(), ByteString(certificate.as_bytes().to_vec())),
                (KEY.to_owned(), ByteString(key.as_bytes().to_vec())),
            ])),
            ..Secret::default()
        };
        assert!(Authority::read(&secret(&certificate, &key), "ns/ca").is_ok());
        for (secret, wrong) in [
            (secret("junk", &key), CERTIFICATE),
            (secret(&certificate, "junk"), KEY),
            (secret(&certificate, &another), KEY),
            (Secret::default(), CERTIFICATE),
        ] {
            let error = Authority::read(&secret, "ns/ca").expect_err("it is none").to_string();
            assert!(error.contains(wrong) && error.contains("delete it") && error.contains("ns/ca"), "{error}");
        }
    }

    #[test]
    fn neither_the_key_nor_anything_else_is_in_the_debug_form() {
        assert_eq!(format!("{:?}", Authority::for_test(DateTime::UNIX_EPOCH)), "Authority { .. }");
    }
}
