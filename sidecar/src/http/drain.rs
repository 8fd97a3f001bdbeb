//! `POST /drain`.
//!
//! Owns: the answer. It is what `preStop` calls, by `lakeingest-sidecar drain`, and only from this host.
//! Does not own: what follows (`leaving`, `flush`).

use axum::extract::State;
use http::StatusCode;
use tracing::info;

use crate::http::problem::Problems;
use crate::http::state::Shared;

/// `POST /drain`: 202. From now on records are still taken and go to the lake within a second.
#[utoipa::path(
    post,
    path = "/drain",
    responses((status = 202, description = "The end is announced.", body = String), Problems),
)]
pub(super) async fn drain(state: State<Shared>) -> (StatusCode, &'static str) {
    info!("the end of the pod was announced");
    state.leaving.announce(state.clock.monotonic());
    (StatusCode::ACCEPTED, "draining\n")
}
