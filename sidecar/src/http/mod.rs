//! The wire.
//!
//! Owns: routes, one file per endpoint; bounds on connections, headers, bodies; errors as problem+json.
//! Does not own: what a record is, when anything is flushed.

mod body;
mod drain;
mod flush;
mod guard;
mod ingest;
pub mod problem;
mod query;
mod receipts;
mod report;
pub mod server;
pub mod state;
mod unread;

pub use body::InFlight;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

use problem::{Problem, ProblemKind};
use state::Shared;

/// The routes of the application's port.
pub fn application_router(state: Shared) -> Router {
    let router = Router::new()
        .route("/ingest", post(ingest::batch))
        .route("/ingest/stream", post(ingest::stream))
        .route("/flush", post(flush::flush))
        .route("/receipts/{batch}", get(receipts::receipt))
        .route("/drain", post(drain::drain));
    let guarded = finished(with_reports(router), state).layer(middleware::from_fn(guard::only_this_host));
    guarded.layer(middleware::from_fn(unread::read_the_rest))
}

/// The routes of the port for probes and metrics: nothing that writes, and nothing that another pod may not know.
pub fn health_router(state: Shared) -> Router {
    finished(with_reports(Router::new()), state).layer(middleware::from_fn(unread::read_the_rest))
}

fn with_reports(router: Router<Shared>) -> Router<Shared> {
    router
        .route("/health", get(report::health))
        .route("/tables", get(report::tables))
        .route("/livez", get(report::livez))
        .route("/readyz", get(report::readyz))
        .route("/metrics", get(report::metrics))
}

fn finished(router: Router<Shared>, state: Shared) -> Router {
    router
        .fallback(async || Problem::new(ProblemKind::NotFound, "there is no such endpoint"))
        .method_not_allowed_fallback(async || {
            Problem::new(ProblemKind::MethodNotAllowed, "the endpoint has another method")
        })
        .layer(middleware::from_fn_with_state(state.clone(), count_requests))
        .with_state(state)
}

/// Counts each request by the route that it matched, so that a stranger's paths make no metrics.
async fn count_requests(state: State<Shared>, request: Request, next: Next) -> Response {
    let endpoint = match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some("/ingest") => "ingest",
        Some("/ingest/stream") => "ingest_stream",
        Some("/flush") => "flush",
        Some("/receipts/{batch}") => "receipts",
        Some("/tables") => "tables",
        Some("/health" | "/livez" | "/readyz" | "/metrics") => "probe",
        _ => "other",
    };
    let response = next.run(request).await;
    state.metrics.requests(endpoint, response.status().as_u16()).inc();
    response
}
