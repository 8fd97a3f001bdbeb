//! The wire.
//!
//! Owns: routes, one file per endpoint; bounds on connections, headers, bodies; errors as problem+json.
//! Does not own: what a record is, when anything is flushed.

#![expect(unused_qualifications, reason = "the macros that describe endpoints qualify what they are given")]

mod body;
mod description;
mod drain;
mod flush;
mod front;
mod guard;
mod ingest;
mod page;
mod patience;
pub mod problem;
mod query;
mod receipts;
mod report;
pub mod server;
pub mod state;
mod unread;

pub use body::InFlight;
pub use front::Front;

use std::sync::Arc;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use problem::{Problem, ProblemKind};
use state::Shared;

/// What the application's port serves.
pub fn application_front(state: Shared) -> Front {
    let metrics = Arc::clone(&state.metrics);
    Front::guarded(finished(described(), state), metrics)
}

/// What the port for probes and metrics serves: nothing that writes, and nothing that another pod may not know.
pub fn health_front(state: Shared) -> Front {
    let metrics = Arc::clone(&state.metrics);
    Front::open(finished(reports(), state), metrics)
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
        .with_state(state)
}
