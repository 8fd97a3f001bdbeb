//! The webhook on the wire.
//!
//! Owns: the TLS port, the bounds on what strangers may send, the envelope of an admission review. It parses and answers
//! and does nothing else: any pod of the cluster can reach it.
//! Does not own: the decision (`admit`).

mod body;
mod pod;
mod review;
mod tree;

pub use pod::{PodJson, Unread, WholePod};

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::{Instrument, error, info_span};

use crate::certs::LeafKeeper;
use crate::clock::SharedClock;
use crate::limits::{LARGE_TREES_AT_ONCE_MAX, LONG_REVIEWS_AT_ONCE_MAX};
use crate::metrics::Metrics;
use review::Review;

/// A pod that is being created.
#[derive(Clone, Debug)]
pub struct PodReview {
    /// Its namespace.
    pub namespace: String,
    /// It, as it came.
    pub pod: PodJson,
    /// Whether nothing will come of it.
    pub dry_run: bool,
    /// Whether it was sent for the label of its namespace, and not for an annotation of its own.
    pub is_sent_for_label: bool,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is created as it is.
    Unchanged {
        /// For whoever creates it.
        warnings: Vec<String>,
    },
    /// It is created with a patch.
    Patched {
        /// Operations of a JSON Patch.
        patch: Vec<Value>,
        /// For whoever creates it.
        warnings: Vec<String>,
    },
    /// A sidecar was asked for, it gets none, and is created all the same.
    LetPass {
        /// For whoever creates it.
        warning: String,
    },
    /// It is not created.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// What decides.
pub type Decide = Arc<dyn Fn(PodReview) -> BoxFuture<'static, Decision> + Send + Sync>;

/// What the endpoint works with.
#[derive(Clone)]
pub struct Webhook {
    /// What decides.
    pub decide: Decide,
    /// Time.
    pub clock: SharedClock,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// The routes of the TLS port.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/inject", post(|state, body| inject(state, body, false)))
        .route("/inject-by-namespace", post(|state, body| inject(state, body, true)))
        .with_state(Serving {
            webhook,
            long_reviews: Arc::new(Semaphore::new(LONG_REVIEWS_AT_ONCE_MAX)),
            large_trees: Arc::new(Semaphore::new(LARGE_TREES_AT_ONCE_MAX)),
        })
}

/// The endpoint at work.
#[derive(Clone, Debug)]
struct Serving {
    webhook: Webhook,
    /// Whose turn it is to be read.
    long_reviews: Arc<Semaphore>,
    /// Whose turn it is to be made a tree of.
    large_trees: Arc<Semaphore>,
}

/// TLS 1.2 and 1.3 with the present leaf.
///
/// # Errors
/// When the provider has no cipher suite for a version, which would be a fault of its build.
pub fn tls(leaf: Arc<LeafKeeper>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = versions.with_no_client_auth().with_cert_resolver(leaf);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// `POST /inject`, and `POST /inject-by-namespace`.
async fn inject(state: State<Serving>, body: Body, is_sent_for_label: bool) -> Response {
    let body = body::read(body, &state.long_reviews).await;
    let Webhook { clock, metrics, .. } = &state.webhook;
    let started = clock.monotonic();
    let (outcome, response) = match body {
        Ok(body) => answer(&state, &body.bytes, is_sent_for_label).await,
        Err(refusal) => ("error", refusal),
    };
    metrics.admitted(outcome, clock.monotonic().saturating_sub(started));
    response
}

async fn answer(serving: &Serving, bytes: &Bytes, is_sent_for_label: bool) -> (&'static str, Response) {
    let review = match Review::parse(bytes, &serving.large_trees) {
        Ok(review) => review,
        Err(error) => return ("error", (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()),
    };
    let span = info_span!("admit", uid = %review.uid);
    let pod = match review.pod {
        Ok(pod) => PodReview { is_sent_for_label, ..pod },
        Err(reason) => return ("refused", json(&review::refused(&review.uid, &reason.to_string()))),
    };
    // A fault in the decision is no reason to stop deciding over others.
    let decision = std::panic::AssertUnwindSafe((serving.webhook.decide)(pod)).catch_unwind().instrument(span).await;
    match decision {
        Ok(Decision::Unchanged { warnings }) => ("unchanged", json(&review::allowed(&review.uid, None, warnings))),
        Ok(Decision::Patched { patch, warnings }) => {
            ("patched", json(&review::allowed(&review.uid, Some(&patch), warnings)))
        }
        Ok(Decision::LetPass { warning }) => ("let-pass", json(&review::allowed(&review.uid, None, vec![warning]))),
        Ok(Decision::Refused { message }) => ("refused", json(&review::refused(&review.uid, &message))),
        Err(_) => {
            error!(uid = %review.uid, "the decision over a pod panicked");
            let words = "lakeingest: the operator failed while it decided over this pod; its log says more";
            ("error", json(&review::refused(&review.uid, words)))
        }
    }
}

fn json(review: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], review.to_string()).into_response()
}

#[cfg(test)]
mod tests;
