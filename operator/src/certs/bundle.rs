//! What the API server trusts: the `caBundle` of the webhook configuration.
//!
//! Owns: writing it by server-side apply under a field manager of its own, and again whenever somebody takes it away.
//! Does not own: the rest of the configuration, which is the chart's.

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

use super::leaf::LeafKeeper;
use crate::metrics::Metrics;

/// Field manager of the bundle alone, so that it owns no field of the chart's.
const MANAGER: &str = "lakeingest-operator/ca-bundle";

/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What keeps the bundle in the configuration.
#[derive(Debug)]
pub struct BundleKeeper {
    /// Name of the configuration.
    pub configuration: String,
    /// What the API server has to trust, as PEM.
    pub bundle: String,
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

    /// Whether every entry has the bundle, and it vouches for the leaf.
    fn is_current(&self, found: &MutatingWebhookConfiguration) -> bool {
        let mut bundles = found.webhooks.iter().flatten().map(|entry| entry.client_config.ca_bundle.as_ref());
        bundles.all(|bundle| {
            bundle.is_some_and(|bundle| bundle.0 == self.bundle.as_bytes() && self.leaf.is_vouched_for_by(&bundle.0))
        })
    }

    /// The bundle of each entry, and nothing else: what is not named is not owned.
    fn patch(&self, found: &MutatingWebhookConfiguration) -> Value {
        let bundle = k8s_openapi::ByteString(self.bundle.clone().into_bytes());
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
    use super::*;
    use crate::certs::Authority;
    use crate::clock::Clock;
    use crate::fixtures::ManualClock;

    fn keeper() -> BundleKeeper {
        let clock = ManualClock::at("2026-01-08T10:05:30Z");
        let authority = Arc::new(Authority::for_test(clock.now()));
        let bundle = authority.bundle().to_owned();
        let leaf = LeafKeeper::new(authority, "webhook", "lakeingest", clock).expect("a leaf can be made");
        BundleKeeper {
            configuration: "lakeingest".to_owned(),
            bundle,
            leaf: Arc::new(leaf),
            metrics: Arc::new(Metrics::default()),
        }
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

    #[test]
    fn every_entry_must_have_the_bundle() {
        let keeper = keeper();
        let bundle = Some(keeper.bundle.as_str());
        assert!(keeper.is_current(&configuration(&[bundle, bundle])));
        for bundles in [vec![None], vec![bundle, None], vec![bundle, Some("another")]] {
            assert!(!keeper.is_current(&configuration(&bundles)), "{bundles:?}");
        }
    }

    #[test]
    fn the_patch_names_the_bundle_of_each_entry_and_owns_nothing_else() {
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
}
