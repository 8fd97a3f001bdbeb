//! `POST /flush`.
//!
//! Owns: which segments are meant, the wait, the answer. Does not own: flushing.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use crate::decode::check_table_name;
use crate::flush::worker::FlushRequest;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::query::Query;
use crate::http::state::Shared;
use crate::limits::LAKE_WAIT_DEFAULT;

/// The body: absent, empty or `{"table_name": "…"}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    table_name: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    status: &'static str,
    files: Vec<String>,
    rows: u64,
    quarantined: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffered_rows: Option<u64>,
}

/// `POST /flush`: 200 when everything that was buffered at the call is in the lake.
pub(super) async fn flush(state: State<Shared>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let state = state.0;
    let query = Query::parse(&uri, &["table_name", "wait"])?;
    let wait = query.wait()?.unwrap_or(LAKE_WAIT_DEFAULT);
    let request = parse(&state.in_flight.receive(&headers, body).await?)?;
    let table = request.table_name.or_else(|| query.get("table_name").map(str::to_owned));
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
    serde_json::from_slice(body).map_err(|error| {
        let detail = "the body must be empty or {\"table_name\": \"…\"}";
        match error.classify() {
            serde_json::error::Category::Data => Problem::at("/", "illegal-body", detail),
            _ => Problem::new(ProblemKind::Malformed, detail),
        }
    })
}
