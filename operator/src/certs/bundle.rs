//! What the API server trusts: the `caBundle` of the webhook configuration.
//!
//! Owns: writing it by server-side apply under a field manager of its own, and again whenever somebody takes it away; and
//! that replicas agree on one authority: before one overwrites another bundle it looks into the Secret, and takes the
//! authority that is there. Does not own: the rest of the configuration, which is the chart's.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::authority::{Authority, AuthorityError, SecretPlace};
use super::leaf::{LeafError, LeafKeeper};
use crate::metrics::Metrics;

/// Field manager of the bundle alone, so that it owns no field of the chart's.
const MANAGER: &str = "lakeingest-operator/ca-bundle";

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The replicas have no common authority.
#[derive(Debug, thiserror::Error)]
enum AgreeError {
    /// The Secret does not tell.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Its authority signs nothing.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

/// What keeps the bundle in the configuration.
#[derive(Debug)]
pub struct BundleKeeper {
    /// Name of the configuration.
    pub configuration: String,
    /// Where the replicas' authority is kept.
    pub place: SecretPlace,
    /// The leaf that it has to vouch for.
    pub leaf: Arc<LeafKeeper>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

/// Watches the configuration and keeps the bundle in each of its entries, for ever. `is_trusted` says whether the live
/// configuration vouches for the leaf.
pub async fn keep(keeper: BundleKeeper, client: Client, is_trusted: watch::Sender<bool>) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let only_ours = watcher::Config::default().fields(&format!("metadata.name={}", keeper.configuration));
    let mut events = Box::pin(watcher(api.clone(), only_ours).default_backoff());
    let mut was_found = false;
    // What could not be written, to be tried again.
    let mut pending: Option<MutatingWebhookConfiguration> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = tokio::time::sleep(RETRY), if pending.is_some() => {
                let found = pending.take().expect("the branch is taken only if there is one");
                pending = keeper.look_at(&api, found, &is_trusted).await;
                continue;
            }
        };
        match event {
            None => break,
            Some(event) => match event {
                Ok(watcher::Event::Init) => was_found = false,
                Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => {
                    was_found = true;
                    pending = keeper.look_at(&api, found, &is_trusted).await;
                }
                Ok(watcher::Event::Delete(_)) => {
                    pending = None;
                    is_trusted.send_replace(false);
                    warn!(
                        configuration = keeper.configuration,
                        "the webhook configuration was deleted; upgrade the chart to have it again"
                    );
                }
                Ok(watcher::Event::InitDone) if !was_found => {
                    is_trusted.send_replace(false);
                    warn!(
                        configuration = keeper.configuration,
                        "there is no webhook configuration; no pod is injected until there is"
                    );
                }
                Ok(watcher::Event::InitDone) => {}
                Err(error) => warn!(error = %crate::error_chain(&error), "failed to watch the webhook configuration"),
            },
        }
    }
}

impl BundleKeeper {
    /// Writes the bundle if it is not there. Gives back the configuration if that failed.
    async fn look_at(
        &self,
        api: &Api<MutatingWebhookConfiguration>,
        found: MutatingWebhookConfiguration,
        is_trusted: &watch::Sender<bool>,
    ) -> Option<MutatingWebhookConfiguration> {
        if self.is_current(&found) {
            is_trusted.send_replace(true);
            return None;
        }
        is_trusted.send_replace(false);
        if let Err(error) = self.agree().await {
            error!(error = %crate::error_chain(&error), "failed to agree on an authority with the other replicas");
            return Some(found);
        }
        if self.is_current(&found) {
            is_trusted.send_replace(true);
            return None;
        }
        let patch = self.patch(&found);
        match api.patch(&self.configuration, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch)).await {
            Ok(written) => {
                self.metrics.bundle_writes.inc();
                info!(configuration = self.configuration, "put the authority into the webhook configuration");
                is_trusted.send_replace(self.is_current(&written));
                None
            }
            Err(error) => {
                error!(error = %crate::error_chain(&error), "failed to put the authority into the webhook configuration");
                Some(found)
            }
        }
    }

    /// Takes the authority of the Secret, or puts ours there if there is no Secret: replicas that each wrote a bundle of
    /// their own would do so for ever.
    async fn agree(&self) -> Result<(), AgreeError> {
        let ours = self.leaf.authority();
        let agreed = Authority::of_secret(&self.place, || Ok(Arc::clone(&ours))).await?;
        if agreed.bundle() != ours.bundle() {
            info!("took the authority of the Secret; another replica has made it");
            self.leaf.adopt(agreed)?;
        }
        Ok(())
    }

    /// Whether every entry has the bundle, and it vouches for the leaf.
    fn is_current(&self, found: &MutatingWebhookConfiguration) -> bool {
        let ours = self.leaf.authority();
        let mut bundles = found.webhooks.iter().flatten().map(|entry| entry.client_config.ca_bundle.as_ref());
        bundles.all(|bundle| {
            bundle.is_some_and(|bundle| bundle.0 == ours.bundle().as_bytes() && self.leaf.is_vouched_for_by(&bundle.0))
        })
    }

    /// The bundle of each entry, and nothing else: what is not named is not owned.
    fn patch(&self, found: &MutatingWebhookConfiguration) -> Value {
        let bundle = k8s_openapi::ByteString(self.leaf.authority().bundle().as_bytes().to_vec());
        let entries: Vec<Value> = found
            .webhooks
            .iter()
            .flatten()
            .map(|entry| json!({"name": entry.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": found.name_any()},
            "webhooks": entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;

    use super::*;
    use crate::clock::Clock;
    use crate::fixtures::ManualClock;

    /// A keeper whose API server has this authority in the Secret, or none, and takes whatever is written.
    fn keeper_beside(in_secret: Option<Arc<Authority>>) -> BundleKeeper {
        let clock = ManualClock::at("2026-01-08T10:05:30Z");
        let authority = Arc::new(Authority::for_test(clock.now()));
        let leaf = LeafKeeper::new(authority, "webhook", "lakeingest", clock).expect("a leaf can be made");
        let answer = move |request: Request<Body>| {
            let in_secret = in_secret.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("the test's body is whole").to_bytes();
                let (status, answer) = match (&parts.method, &in_secret) {
                    (&Method::GET, None) => {
                        let status =
                            json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "not found"});
                        (404, status.to_string().into_bytes())
                    }
                    (&Method::GET, Some(authority)) => (200, authority.as_secret().to_string().into_bytes()),
                    // As it was sent.
                    _ => (201, body.to_vec()),
                };
                let response = Response::builder().status(status).body(Body::from(answer));
                Ok::<_, std::convert::Infallible>(response.expect("the test's answer is one"))
            }
        };
        let client = Client::new(tower::service_fn(answer), "lakeingest");
        BundleKeeper {
            configuration: "lakeingest".to_owned(),
            place: SecretPlace { client, namespace: "lakeingest".to_owned(), name: "ca".to_owned() },
            leaf: Arc::new(leaf),
            metrics: Arc::new(Metrics::default()),
        }
    }

    fn keeper() -> BundleKeeper {
        keeper_beside(None)
    }

    fn bundle_of(keeper: &BundleKeeper) -> String {
        keeper.leaf.authority().bundle().to_owned()
    }

    fn configuration(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let entries: Vec<Value> = bundles
            .iter()
            .enumerate()
            .map(|(index, bundle)| {
                let bundle = bundle.map(|bundle| k8s_openapi::ByteString(bundle.as_bytes().to_vec()));
                json!({
                    "name": format!("entry{index}"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                    "clientConfig": {"caBundle": bundle, "service": {"name": "webhook", "namespace": "lakeingest"}},
                })
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "lakeingest"}, "webhooks": entries}))
            .expect("the test's configuration has the right shape")
    }

    #[tokio::test]
    async fn every_entry_must_have_the_bundle() {
        let keeper = keeper();
        let ours = bundle_of(&keeper);
        let bundle = Some(ours.as_str());
        assert!(keeper.is_current(&configuration(&[bundle, bundle])));
        for bundles in [vec![None], vec![bundle, None], vec![bundle, Some("another")]] {
            assert!(!keeper.is_current(&configuration(&bundles)), "{bundles:?}");
        }
    }

    #[tokio::test]
    async fn the_patch_names_the_bundle_of_each_entry_and_owns_nothing_else() {
        let keeper = keeper();
        let patch = keeper.patch(&configuration(&[None, None]));
        let entries = patch["webhooks"].as_array().expect("there are entries");
        assert_eq!(entries.len(), 2);
        for entry in entries {
            let fields: Vec<&String> = entry.as_object().expect("an entry is an object").keys().collect();
            assert_eq!(fields, ["clientConfig", "name"]);
            assert_eq!(entry["clientConfig"].as_object().map(serde_json::Map::len), Some(1));
        }
    }

    /// Goal: two replicas never write their own bundles in turn. Method: the Secret holds what the other one has made.
    #[tokio::test]
    async fn the_authority_of_the_secret_is_taken_and_ours_is_kept_where_there_is_none() {
        let other = Arc::new(Authority::for_test(ManualClock::at("2026-01-08T10:05:30Z").now()));
        let keeper = keeper_beside(Some(Arc::clone(&other)));
        keeper.agree().await.expect("the Secret can be read");
        assert_eq!(bundle_of(&keeper), other.bundle());
        assert!(keeper.is_current(&configuration(&[Some(other.bundle())])), "nothing is left to write");

        let alone = keeper_beside(None);
        let ours = bundle_of(&alone);
        alone.agree().await.expect("the Secret can be made");
        assert_eq!(bundle_of(&alone), ours);
    }
}
