//! The certificates of a replica, kept for ever.
//!
//! Owns: the order: what the Secret says, then what the API server is told, then what is served with. It writes the
//! `caBundle` by server-side apply under a field manager of its own, and again whenever somebody takes it away, of which it
//! tells.
//! Does not own: the rest of the configuration, which is the chart's.
//!
//! ```text
//! Secret: join what the others have, renew what is due ──> caBundle of every entry ──> settle ──> leaf
//! ```

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use lakeingest_crds::lakeingest::reasons;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::authorities::Authorities;
use super::authority::Authority;
use super::configuration::{Heard, bundles, certificates, named};
use super::leaf::{LeafError, LeafKeeper};
use super::lives::Lives;
use super::secret::{SecretError, SecretPlace};
use super::settling::{Moment, Settling};
use crate::again::Again;
use crate::clock::SharedClock;
use crate::events::{Events, Happening};
use crate::limits::CERTIFICATES_WAIT;
use crate::metrics::Metrics;

/// Field manager of the bundle alone, so that it owns no field of the chart's.
const MANAGER: &str = "lakeingest-operator/ca-bundle";

/// What a keeper is made of.
#[derive(Debug)]
pub struct KeeperParts {
    /// Name of the webhook configuration.
    pub configuration: String,
    /// Where the replicas' authorities are kept, and the API server.
    pub place: SecretPlace,
    /// How long certificates live.
    pub lives: Lives,
    /// The clocks.
    pub clock: SharedClock,
    /// Where it is told that something was put back.
    pub events: Events,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

/// Keeps the certificates.
#[derive(Debug)]
pub struct Keeper {
    parts: KeeperParts,
    leaf: Arc<LeafKeeper>,
    authorities: Authorities,
    secret: Heard<Secret>,
    found: Heard<MutatingWebhookConfiguration>,
    /// Whether the Secret was seen to have every authority that is known here: who takes one away is somebody else.
    has_agreed: bool,
    /// The bundle that every entry was last seen to have; none while there is no configuration.
    last_right: Option<String>,
    settling: Settling,
}

/// There is nothing to serve with.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// There is no authority.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is no leaf.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// No authority is valid.
    #[error("failed to find an authority that is valid now")]
    NoneValid,
    /// The API server took too long.
    #[error("failed to get an answer of the API server about the webhook's certificates in time")]
    Slow,
    /// The API server was not told what to trust.
    #[error("failed to put the authorities into the webhook configuration")]
    Bundle(#[source] Box<kube::Error>),
}

impl Keeper {
    /// A keeper with a leaf for the Service `service`, by the authorities of the Secret, which is made if there is none.
    ///
    /// # Errors
    /// There is nothing to serve with.
    pub async fn start(parts: KeeperParts, service: &str) -> Result<Self, KeeperError> {
        let now = parts.clock.now();
        let (authorities, secret) = parts.place.start(now, parts.lives).await?;
        // Those of the Secret may all have ended: the first look makes one, and the leaf of it.
        let signer = authorities.valid(now).next().or_else(|| authorities.iter().next_back());
        let signer = signer.ok_or(KeeperError::NoneValid)?;
        let leaf = LeafKeeper::new(signer, service, &parts.place.namespace, now, parts.lives.leaf)?;
        let leaf = Arc::new(leaf);
        let settling = Settling::default();
        let secret = Heard::new("Secret", Some(secret));
        let found = Heard::new("MutatingWebhookConfiguration", None);
        Ok(Self { parts, leaf, authorities, secret, found, has_agreed: true, last_right: None, settling })
    }

    /// What is served with.
    pub fn leaf(&self) -> Arc<LeafKeeper> {
        Arc::clone(&self.leaf)
    }

    /// Keeps them, for ever. `is_trusted` says whether the live configuration vouches for the leaf.
    pub async fn run(mut self, is_trusted: watch::Sender<bool>) {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.parts.place.client.clone());
        let mut configurations =
            watcher(configurations, named(&self.parts.configuration)).backoff(Again::default()).boxed();
        let mut secrets =
            watcher(self.parts.place.api(), named(&self.parts.place.name)).backoff(Again::default()).boxed();
        let mut looks = tokio::time::interval(self.parts.lives.look_every());
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = secrets.next() => {
                    let Some(event) = event else { break };
                    self.secret.hear(event, &self.parts.metrics);
                }
                event = configurations.next() => {
                    let Some(event) = event else { break };
                    self.found.hear(event, &self.parts.metrics);
                }
                // What could not be written is tried again as well.
                _ = looks.tick() => {}
            }
            if let Err(error) = self.look().await {
                error!(error = %crate::error_chain(&error), "failed to keep the webhook's certificates");
            }
            is_trusted.send_replace(self.is_trusted());
        }
    }

    /// Does what there is to do.
    async fn look(&mut self) -> Result<(), KeeperError> {
        let told = tokio::time::timeout(CERTIFICATES_WAIT, async {
            self.agree().await?;
            self.tell().await
        });
        let told = told.await.unwrap_or(Err(KeeperError::Slow));
        // Whether the API server answers or not, the leaf must not end.
        let served = self.serve();
        told.and(served)
    }

    fn now(&self) -> Moment {
        Moment { wall: self.parts.clock.now(), monotonic: self.parts.clock.monotonic() }
    }

    /// Takes what the Secret has beside what is known here, renews what is due, and puts back what is missing there: what
    /// some replica may serve with stays trusted, whoever deletes or edits the Secret.
    async fn agree(&mut self) -> Result<(), SecretError> {
        let place = &self.parts.place;
        let was_deleted = self.secret.object.is_none();
        let found = self.secret.object.as_ref().map(|secret| place.authorities(secret)).transpose();
        let found = found.unwrap_or_else(|unusable| {
            warn!(error = %unusable, "the Secret was changed to something else; it is put back");
            None
        });
        let now = self.parts.clock.now();
        // What has ended is put back by nobody.
        let ours = self.authorities.living(now);
        let known = found.as_ref().map_or_else(|| ours.clone(), |found| ours.joined(found));
        let wanted = known.renewed(now, self.parts.lives).map_err(SecretError::Make)?;
        if found.as_ref() == Some(&wanted) {
            (self.authorities, self.has_agreed) = (wanted, true);
            return Ok(());
        }
        let is_spoiled = found.as_ref().is_none_or(|found| ours.joined(found) != *found);
        match place.write(self.secret.object.as_ref(), &wanted).await? {
            Some(written) => {
                if wanted != known {
                    self.parts.metrics.authorities.inc();
                    info!("made a new authority; it signs once every API server trusts it");
                }
                let told = (is_spoiled && self.has_agreed).then(|| restored_secret(&written, was_deleted));
                (self.secret.object, self.authorities, self.has_agreed) = (Some(written), wanted, true);
                self.tell_restored(told).await;
            }
            // Another replica was first.
            None => self.secret.object = place.read().await?,
        }
        Ok(())
    }

    /// Writes the bundle of every entry of the configuration if it is not there.
    async fn tell(&mut self) -> Result<(), KeeperError> {
        if self.found.object.as_ref().is_some_and(|found| !self.is_current(found)) {
            // What another replica has just written may be newer than what was seen of the Secret.
            self.secret.object = self.parts.place.read().await?;
            self.agree().await?;
        }
        if let Some(found) = self.found.object.as_ref().filter(|found| !self.is_current(found)) {
            let api: Api<MutatingWebhookConfiguration> = Api::all(self.parts.place.client.clone());
            let (parameters, patch) = (PatchParams::apply(MANAGER).force(), self.patch(found));
            // Nothing of ours has changed since it was right: whoever has changed it was somebody else.
            let was_right = self.last_right.as_deref() == Some(&*self.authorities.bundle());
            let told = was_right.then(|| self.restored_bundle(found));
            match api.patch(&self.parts.configuration, &parameters, &Patch::Apply(&patch)).await {
                Ok(written) => {
                    self.parts.metrics.bundle_writes.inc();
                    info!(
                        configuration = self.parts.configuration,
                        "put the authorities into the webhook configuration"
                    );
                    self.found.object = Some(written);
                    self.tell_restored(told).await;
                }
                // It was changed since, or deleted: the watch brings what it is now.
                Err(kube::Error::Api(answer)) if answer.code == 409 || answer.code == 404 => {}
                Err(source) => return Err(KeeperError::Bundle(Box::new(source))),
            }
        }
        let now = self.now();
        let Some(found) = &self.found.object else {
            self.settling.saw_none();
            self.last_right = None;
            return Ok(());
        };
        if self.is_current(found) {
            self.last_right = Some(self.authorities.bundle());
        }
        let bundles: Vec<_> = bundles(found).map(certificates).collect();
        let is_there = |one: &Authority| bundles.iter().all(|bundle| bundle.contains(one.certificate()));
        self.settling.saw(&self.authorities, is_there, now, self.parts.lives.settle());
        Ok(())
    }

    /// That this configuration, in which somebody has changed the bundle, is right again.
    fn restored_bundle(&self, found: &MutatingWebhookConfiguration) -> Told {
        let wanted = self.authorities.bundle();
        let entries = found.webhooks.iter().flatten().zip(bundles(found));
        let changed: Vec<&str> =
            entries.filter(|(_, bundle)| *bundle != wanted.as_bytes()).map(|(entry, _)| entry.name.as_str()).collect();
        let note = format!(
            "somebody has changed the caBundle of {} in {}, without which no pod that asks is created: it is put back; what applies \
             the chart's rendering has to leave that field to the operator",
            changed.join(" and "),
            found.name_any()
        );
        Told::new(found, note, found.resource_version())
    }

    /// Tells that something was put back, if there is something.
    async fn tell_restored(&self, told: Option<Told>) {
        if let Some(Told { about, happening }) = told {
            warn!(what = %happening.note, "put back what somebody had done to the webhook's certificates");
            self.parts.events.publish(&self.parts.place.client, &about, happening).await;
        }
    }

    /// Replaces the leaf where that is due.
    fn serve(&self) -> Result<(), KeeperError> {
        let (now, lives) = (self.now(), self.parts.lives);
        let signer = self.settling.signer(&self.authorities, |one| self.leaf.is_of(one), now, lives.settle());
        let signer = signer.ok_or(KeeperError::NoneValid)?;
        if self.leaf.renew_if_due(signer, now.wall, lives.leaf)? {
            self.parts.metrics.certificates.inc();
            info!(not_after = %self.leaf.ends(), "renewed the webhook's certificate");
        }
        self.parts.metrics.certificate_not_after.set(self.leaf.ends().timestamp());
        self.parts.metrics.authority_not_after.set(signer.validity().ends.timestamp());
        Ok(())
    }

    /// Whether every entry has the bundle.
    fn is_current(&self, found: &MutatingWebhookConfiguration) -> bool {
        let wanted = self.authorities.bundle();
        bundles(found).all(|bundle| bundle == wanted.as_bytes())
    }

    /// Whether every entry vouches for the leaf.
    fn is_trusted(&self) -> bool {
        let now = self.parts.clock.now();
        self.found
            .object
            .as_ref()
            .is_some_and(|found| bundles(found).all(|bundle| self.leaf.is_vouched_for_by(bundle, now)))
    }

    /// The bundle of each entry, and nothing else: what is not named is not owned. By the version it is refused if somebody
    /// has changed the configuration since.
    fn patch(&self, found: &MutatingWebhookConfiguration) -> Value {
        let bundle = k8s_openapi::ByteString(self.authorities.bundle().into_bytes());
        let entries: Vec<Value> = found
            .webhooks
            .iter()
            .flatten()
            .map(|entry| json!({"name": entry.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": found.name_any(), "resourceVersion": found.resource_version()},
            "webhooks": entries,
        })
    }
}

/// That something was put back, and what it is about.
#[derive(Debug)]
struct Told {
    about: ObjectReference,
    happening: Happening,
}

impl Told {
    /// `version` tells one time from another, the same for every replica.
    fn new<K: Resource<DynamicType = ()>>(object: &K, note: String, version: Option<String>) -> Self {
        let about = ObjectReference { resource_version: None, ..object.object_ref(&()) };
        let (reason, key) = (reasons::CERTIFICATES_RESTORED, version.unwrap_or_default());
        Self { about, happening: Happening { is_warning: true, reason, note, key } }
    }
}

/// That the Secret, which somebody had deleted or changed, has every authority again.
fn restored_secret(written: &Secret, was_deleted: bool) -> Told {
    let done = if was_deleted { "deleted" } else { "changed" };
    let note = format!(
        "somebody has {done} Secret {}, and an authority was gone with which operators serve: it is put back; to have it believed no \
         more, end every operator before",
        written.name_any()
    );
    Told::new(written, note, written.resource_version())
}

#[cfg(test)]
mod tests;
