//! What machines may ask about the operator: `/livez`, `/readyz`, `/metrics`.
//!
//! Owns: the shapes, and what readiness is made of. Does not own: the facts.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// What readiness is made of.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Every store has been filled once.
    pub is_synced: watch::Receiver<bool>,
    /// The live webhook configuration vouches for our certificate.
    pub is_trusted: watch::Receiver<bool>,
    /// The process is about to end.
    pub is_leaving: watch::Receiver<bool>,
}

impl Readiness {
    /// Why the operator is not ready; empty if it is.
    fn reasons(&self) -> Vec<&'static str> {
        let checks = [
            (*self.is_leaving.borrow(), "it is about to end"),
            (!*self.is_synced.borrow(), "the watches have not been filled yet"),
            (!*self.is_trusted.borrow(), "the webhook configuration does not vouch for the certificate yet"),
        ];
        checks.into_iter().filter_map(|(is_so, reason)| is_so.then_some(reason)).collect()
    }
}

#[derive(Clone)]
struct Health {
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

/// The routes of the port for probes and metrics.
pub fn router(readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Health { readiness, metrics })
}

async fn readyz(state: State<Health>) -> Response {
    let reasons = state.readiness.reasons();
    match reasons.is_empty() {
        true => "ok\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", reasons.join("; "))).into_response(),
    }
}

async fn metrics_text(state: State<Health>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], state.metrics.text()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing() {
        let (_, yes) = watch::channel(true);
        let (_, no) = watch::channel(false);
        let ready = Readiness { is_synced: yes.clone(), is_trusted: yes.clone(), is_leaving: no.clone() };
        assert_eq!(ready.reasons(), Vec::<&str>::new());
        let not_ready = Readiness { is_synced: no.clone(), is_trusted: no, is_leaving: yes };
        assert_eq!(not_ready.reasons().len(), 3);
    }
}
