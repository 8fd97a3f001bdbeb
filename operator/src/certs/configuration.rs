//! The webhook configuration, as far as certificates go.
//!
//! Owns: reading its bundles, hearing of its changes. Does not own: writing them (`keeper`), the rest of it, which is the
//! chart's.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::runtime::watcher;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::warn;

use crate::metrics::Metrics;

/// The bundle of each entry.
pub(super) fn bundles(found: &MutatingWebhookConfiguration) -> impl Iterator<Item = &[u8]> {
    let entries = found.webhooks.iter().flatten();
    entries.map(|entry| entry.client_config.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0))
}

/// The certificates of a bundle (PEM).
pub(super) fn certificates(bundle: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bundle).flatten().collect()
}

/// A watch of the one object of this name.
pub(super) fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

/// The one object of a watch.
#[derive(Debug)]
pub(super) struct Heard<K> {
    /// As it was seen last.
    pub(super) object: Option<K>,
    kind: &'static str,
    was_found: bool,
}

impl<K> Heard<K> {
    /// What is known before the watch begins.
    pub(super) fn new(kind: &'static str, object: Option<K>) -> Self {
        Self { object, kind, was_found: true }
    }

    /// Takes an event of the watch.
    pub(super) fn hear(&mut self, event: Result<watcher::Event<K>, watcher::Error>, metrics: &Metrics) {
        let kind = self.kind;
        match event {
            Ok(watcher::Event::Init) => self.was_found = false,
            Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => {
                self.was_found = true;
                self.object = Some(found);
            }
            Ok(watcher::Event::Delete(_)) => {
                self.object = None;
                warn!(kind, "the object of the webhook's certificates was deleted");
            }
            Ok(watcher::Event::InitDone) if !self.was_found => {
                self.object = None;
                warn!(kind, "there is no object of the webhook's certificates");
            }
            Ok(watcher::Event::InitDone) => {}
            Err(error) => {
                metrics.watch_failed(kind);
                warn!(error = %crate::error_chain(&error), kind, "failed to watch");
            }
        }
    }
}
