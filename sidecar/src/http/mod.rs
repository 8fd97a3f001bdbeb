//! The wire.
//!
//! Owns: routes, one file per endpoint; bounds on connections, headers, bodies; errors as problem+json.
//! Does not own: what a record is, when anything is flushed.

#![expect(unused_qualifications, reason = "the macros that describe endpoints qualify what they are given")]

mod body;
mod description;
mod drain;
mod flush;
mod guard;
mod ingest;
mod page;
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
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use problem::{Problem, ProblemKind};
use state::Shared;

/// The routes of the application's port.
pub fn application_router(state: Shared) -> Router {
    let guarded = finished(described(), state).layer(middleware::from_fn(guard::only_this_host));
    guarded.layer(middleware::from_fn(unread::read_the_rest))
}

/// The routes of the port for probes and metrics: nothing that writes, and nothing that another pod may not know.
pub fn health_router(state: Shared) -> Router {
    finished(reports(), state).layer(middleware::from_fn(unread::read_the_rest))
}

/// All routes, each with its description.
fn described() -> OpenApiRouter<Shared> {
    reports()
        .routes(routes!(ingest::batch))
        .routes(routes!(ingest::stream))
        .routes(routes!(flush::flush))
        .routes(routes!(receipts::receipt))
        .routes(routes!(drain::drain))
}

/// Those that tell and change nothing.
fn reports() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(description::document())
        .routes(routes!(page::page))
        .routes(routes!(report::health))
        .routes(routes!(report::tables))
        .routes(routes!(report::livez))
        .routes(routes!(report::readyz))
        .routes(routes!(report::metrics))
}

fn finished(described: OpenApiRouter<Shared>, state: Shared) -> Router {
    let (router, document) = described.split_for_parts();
    router
        .merge(description::router(document))
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
        Some("/openapi.json" | "/") => "page",
        _ => "other",
    };
    let response = next.run(request).await;
    state.metrics.requests(endpoint, response.status().as_u16()).inc();
    response
}
