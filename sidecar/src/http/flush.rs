//! `POST /flush`.
//!
//! Owns: which segments are meant, the wait, the answer. Does not own: flushing.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::decode::check_table_name;
use crate::flush::worker::FlushRequest;
use crate::http::problem::{Problem, ProblemKind, Problems};
use crate::http::query::Query;
use crate::http::state::Shared;
use crate::intake::agreed;
use crate::limits::LAKE_WAIT_DEFAULT;

/// The body: absent, empty, null or `{"table_name": "…"}`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FlushRequest)]
struct Request {
    /// The table; absent: all of them.
    #[schema(pattern = "^[a-z][a-z0-9_]{0,62}$")]
    table_name: Option<String>,
}

/// What has reached the lake.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Flushed)]
struct Answer {
    /// `ok` when everything that was buffered is in the lake, `accepted` when some is on its way.
    status: &'static str,
    /// Its files.
    files: Vec<String>,
    /// Rows in them.
    rows: u64,
    /// Those of them in quarantine.
    quarantined: u64,
    /// What is not in the lake yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    buffered_rows: Option<u64>,
}

/// Options of a flush.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `Query` reads")]
struct Options {
    /// The table; the body may name it too.
    #[param(pattern = "^[a-z][a-z0-9_]{0,62}$")]
    table_name: Option<String>,
    /// How long the lake is waited for: seconds, or a duration with a unit; at most 300 s.
    #[param(pattern = "^([0-9]|[1-9][0-9]|[12][0-9][0-9]|300|[1-9][0-9]{0,4}ms|[1-9][0-9]?s|[1-5]m)$")]
    wait: Option<String>,
}

/// `POST /flush`: 200 when everything that was buffered at the call is in the lake.
#[utoipa::path(
    post,
    path = "/flush",
    params(Options),
    request_body = Option<Request>,
    responses(
        (status = 200, description = "Everything that was buffered at the call is in the lake.", body = Answer),
        (status = 202, description = "Some of it is on its way.", body = Answer),
        Problems,
    ),
)]
pub(super) async fn flush(state: State<Shared>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let state = state.0;
    let query = Query::parse(&uri, &["table_name", "wait"])?;
    let wait = query.wait()?.unwrap_or(LAKE_WAIT_DEFAULT);
    let request = parse(&state.in_flight.receive(&headers, body).await?)?;
    let table = agreed("/table_name", "table_name", query.get("table_name").map(str::to_owned), request.table_name)?;
    if let Some(table) = &table {
        check_table_name(table).map_err(Problem::from_violation)?;
    }
    let segments = state.journal.view().unretired(table.as_deref());
    let outcomes: Vec<_> = segments.iter().map(|segment| state.outcomes.wait(*segment)).collect();
    let asked = async {
        for segment in &segments {
            // A worker that is gone means that the process ends; the deadline answers then.
            let _ = state.flush.send(FlushRequest { segment: *segment, linger: false }).await;
        }
    };
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    let mut answer = Answer { status: "ok", files: Vec::new(), rows: 0, quarantined: 0, buffered_rows: None };
    let mut left = segments.len();
    let collected = async {
        asked.await;
        for outcome in outcomes {
            let Ok(outcome) = outcome.await else { return };
            left -= 1;
            answer.files.extend(outcome.files.iter().map(|file| format!("{}{}", state.location, file.key)));
            answer.rows += outcome.files.iter().map(|file| file.rows).sum::<u64>();
            answer.quarantined += outcome.quarantined_by_batch.values().sum::<u64>();
        }
    };
    tokio::select! {
        () = collected => {}
        () = &mut deadline => {}
        () = state.status.waits_ended() => {}
    }
    if left == 0 {
        return Ok((StatusCode::OK, Json(answer)).into_response());
    }
    answer.status = "accepted";
    answer.buffered_rows = Some(state.journal.view().unretired_rows(table.as_deref()));
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

fn parse(body: &[u8]) -> Result<Request, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Request::default());
    }
    let request: Result<Option<Request>, _> = serde_json::from_slice(body);
    request.map(Option::unwrap_or_default).map_err(|error| {
        let detail = "the body must be empty or {\"table_name\": \"…\"}";
        match error.classify() {
            serde_json::error::Category::Data => Problem::at("/", "illegal-body", detail),
            _ => Problem::new(ProblemKind::Malformed, detail),
        }
    })
}
