//! The Secret that the replicas share.
//!
//! Owns: reading it, and writing it so that none undoes what another has just written. Does not own: what is in it
//! (`authorities`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use tracing::info;

use super::authorities::Authorities;
use super::lives::Lives;
use crate::names::{MANAGED_BY, MANAGER};

/// Where the authorities are kept.
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
        write!(formatter, "SecretPlace({self})")
    }
}

impl std::fmt::Display for SecretPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// The replicas have no common authorities.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
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
    #[error("failed to write Secret {secret}")]
    Write {
        /// The Secret.
        secret: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// What is in the Secret are no authorities.
    #[error("Secret {secret} holds no usable authority in {key}; delete it, and the operator makes a new one")]
    Unusable {
        /// The Secret.
        secret: String,
        /// The key of the Secret.
        key: &'static str,
    },
    /// None could be made.
    #[error("failed to make an authority")]
    Make(#[source] rcgen::Error),
}

impl SecretPlace {
    /// The Secrets of its namespace.
    pub(super) fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What the Secret holds; new authorities, put there, if there is none. The API server takes the first that comes, and the
    /// other replicas read it.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn start(&self, now: DateTime<Utc>, lives: Lives) -> Result<(Authorities, Secret), SecretError> {
        if let Some(found) = self.read().await? {
            return Ok((self.authorities(&found)?, found));
        }
        let made = Authorities::default().renewed(now, lives).map_err(SecretError::Make)?;
        if let Some(written) = self.write(None, &made).await? {
            info!(secret = %self, "made the authority of the webhook's certificates");
            return Ok((made, written));
        }
        let read = |source| SecretError::Read { secret: self.to_string(), source: Box::new(source) };
        let found = self.api().get(&self.name).await.map_err(read)?;
        Ok((self.authorities(&found)?, found))
    }

    /// The Secret as it is now; none if there is none.
    pub(super) async fn read(&self) -> Result<Option<Secret>, SecretError> {
        let read = |source| SecretError::Read { secret: self.to_string(), source: Box::new(source) };
        self.api().get_opt(&self.name).await.map_err(read)
    }

    /// Puts authorities into the Secret in place of what was `found` there. Gives none, and has done nothing, if it was changed,
    /// made or deleted since.
    pub(super) async fn write(
        &self,
        found: Option<&Secret>,
        authorities: &Authorities,
    ) -> Result<Option<Secret>, SecretError> {
        let fresh = || Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        };
        // What was found has its version, by which the API server tells whether it was changed since.
        let secret = Secret { data: Some(authorities.data()), ..found.cloned().unwrap_or_else(fresh) };
        let written = match found {
            None => self.api().create(&PostParams::default(), &secret).await,
            Some(_) => self.api().replace(&self.name, &PostParams::default(), &secret).await,
        };
        match written {
            Ok(written) => Ok(Some(written)),
            Err(kube::Error::Api(answer)) if answer.code == 409 || answer.code == 404 => Ok(None),
            Err(source) => Err(SecretError::Write { secret: self.to_string(), source: Box::new(source) }),
        }
    }

    /// What a Secret holds.
    pub(super) fn authorities(&self, secret: &Secret) -> Result<Authorities, SecretError> {
        let unusable = |key| SecretError::Unusable { secret: self.to_string(), key };
        Authorities::of_data(secret.data.as_ref().unwrap_or(&BTreeMap::new())).map_err(unusable)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, Response};
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn an_unusable_secret_is_named_and_says_what_to_do() {
        let answer = async |_: Request<Body>| Err::<Response<Body>, _>("nobody asks");
        let client = Client::new(tower::service_fn(answer), "ns");
        let place = SecretPlace { client, namespace: "ns".to_owned(), name: "ca".to_owned() };
        let error = place.authorities(&Secret::default()).expect_err("it is empty").to_string();
        assert!(error.contains("ns/ca") && error.contains("tls.crt") && error.contains("delete it"), "{error}");
    }
}
