//! What every request of a listener passes before its route, and every answer after it.
//!
//! Owns: the order: who may speak, what becomes of a body that nobody reads, the route, the count. Does not own: each of them.
//!
//! It stands in front of the routes and not in layers around them: each layer puts its future, and with it the request, into
//! memory of its own, which shows in what a short request takes.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::Request;
use hyper::body::Incoming;
use tower::ServiceExt as _;

use crate::http::guard::require_this_host;
use crate::http::unread::read_to_its_end;
use crate::metrics::Metrics;

/// The front of a listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Front {
    router: Router,
    metrics: Arc<Metrics>,
    is_for_this_host: bool,
}

impl Front {
    /// The front of routes that other hosts may reach.
    pub fn open(router: Router, metrics: Arc<Metrics>) -> Self {
        Self { router, metrics, is_for_this_host: false }
    }

    /// The front of routes for this host alone.
    pub fn guarded(router: Router, metrics: Arc<Metrics>) -> Self {
        Self { is_for_this_host: true, ..Self::open(router, metrics) }
    }

    /// Answers a request.
    pub async fn answer(self, request: Request<Incoming>) -> Response {
        let endpoint = endpoint_of(request.uri().path());
        let admitted = if self.is_for_this_host { require_this_host(&request) } else { Ok(()) };
        let request = read_to_its_end(request);
        let response = match admitted {
            Ok(()) => self.router.oneshot(request).await.unwrap_or_else(|never| match never {}),
            Err(problem) => problem.into_response(),
        };
        self.metrics.requests(endpoint, response.status().as_u16()).inc();
        response
    }
}

/// By which name a path is counted: a stranger's paths make no metrics.
fn endpoint_of(path: &str) -> &'static str {
    match path {
        "/ingest" => "ingest",
        "/ingest/stream" => "ingest_stream",
        "/flush" => "flush",
        "/tables" => "tables",
        "/health" | "/livez" | "/readyz" | "/metrics" => "probe",
        "/openapi.json" | "/" => "page",
        path if path.starts_with("/receipts/") => "receipts",
        _ => "other",
    }
}
