//! `GET /openapi.json`.
//!
//! Owns: what the document says beside the endpoints, which describe themselves where they are. Does not own: routes.
//!
//! Source: OpenAPI 3.1, <https://spec.openapis.org/oas/v3.1.0>.

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::header;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use crate::http::problem::ProblemBody;
use crate::http::state::Shared;

/// The document without an endpoint.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "LakeIngest",
        description = "JSON, NDJSON, CSV, Arrow streams and Parquet into a lake of Parquet files, each record once. What is acknowledged survives a \
                       power cut; what does not fit its table is in the table's quarantine; what is refused is in neither.",
    ),
    components(schemas(ProblemBody))
)]
struct Document;

/// See [`Document`].
pub(super) fn document() -> OpenApi {
    Document::openapi()
}

/// The route of the document that describes the others.
pub(super) fn router(document: OpenApi) -> Router<Shared> {
    let text = Bytes::from(document.to_json().expect("a document is plain data"));
    let answer = async move || ([(header::CONTENT_TYPE, "application/json")], text.clone());
    Router::new().route("/openapi.json", get(answer))
}
