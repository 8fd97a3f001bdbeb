//! `POST /ingest` and `POST /ingest/stream`.
//!
//! Owns: what the query may say, how long is waited, the answer. Upholds I1: the durability that the answer names was
//! reached. Does not own: the way in (`intake`), the way to the lake (`flush`).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;

use crate::decode::parse_partition_date;
use crate::flush::outcomes::Outcome;
use crate::flush::worker::FlushRequest;
use crate::http::body::format_of;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::state::AppState;
use crate::intake::{Accepted, Submission};
use crate::journal::control::FileRole;
use crate::limits::LAKE_WAIT_DEFAULT;

/// What an answer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Durability {
    /// Every record is in a verified object of the lake.
    Lake,
    /// Every record survives a power cut of this node.
    Journal,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    status: &'static str,
    table_name: String,
    rows: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<String>>,
    quarantined: u64,
    durability: Durability,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffered_rows: Option<u64>,
    batch: String,
}

/// `POST /ingest`: in the lake when it answers 200.
pub(super) async fn batch(
    state: State<AppState>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    ingest(state.0, uri, headers, body, Durability::Lake).await
}

/// `POST /ingest/stream`: durable on this node when it answers 202.
pub(super) async fn stream(
    state: State<AppState>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    ingest(state.0, uri, headers, body, Durability::Journal).await
}

async fn ingest(
    state: AppState,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
    default: Durability,
) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["table_name", "partition_date", "durability", "wait", "on_invalid"])?;
    let wait = query.wait()?.unwrap_or(LAKE_WAIT_DEFAULT);
    let durability = match query.get("durability") {
        None => default,
        Some("lake") => Durability::Lake,
        Some("journal") => Durability::Journal,
        Some(_) => return Err(Problem::at("?durability", "illegal-value", "durability must be lake or journal")),
    };
    if !matches!(query.get("on_invalid"), None | Some("reject")) {
        let detail = "on_invalid must be reject: a request with a record that does not fit is refused whole";
        return Err(Problem::at("?on_invalid", "illegal-value", detail));
    }
    if headers.contains_key("idempotency-key") {
        let detail = "Idempotency-Key is not supported yet; a key that is not honoured would promise what is not kept";
        return Err(Problem::at("Idempotency-Key", "unsupported-header", detail));
    }
    let format = format_of(&headers)?;
    let partition_date = match query.get("partition_date") {
        Some(text) => Some(parse_partition_date(text).map_err(Problem::from_violation)?),
        None => None,
    };
    let received = state.in_flight.receive(&headers, body).await?;
    let submission = Submission {
        format,
        table_name: query.get("table_name").map(str::to_owned),
        partition_date,
        body: received.bytes.clone(),
    };
    let accepted = state.intake.accept(submission).await?;
    drop(received);
    let outcome = match durability {
        Durability::Lake => wait_for_lake(&state, &accepted, wait).await,
        Durability::Journal => None,
    };
    Ok(answer(&state, accepted, outcome.as_deref()))
}

/// Asks for a flush and waits; none at the deadline. The batch is acknowledged either way.
async fn wait_for_lake(state: &AppState, accepted: &Accepted, wait: Duration) -> Option<Arc<Outcome>> {
    let segment = accepted.appended.segment;
    let outcome = state.outcomes.wait(segment);
    let asked = async {
        // A worker that is gone means that the process ends; the deadline answers then.
        let _ = state.flush.send(FlushRequest { segment, linger: true }).await;
        outcome.await.ok()
    };
    tokio::time::timeout(wait, asked).await.ok().flatten()
}

fn answer(state: &AppState, accepted: Accepted, outcome: Option<&Outcome>) -> Response {
    let Accepted { table, rows, partition_date, appended } = accepted;
    let batch = format!("{}-{}", state.journal.id(), appended.sequence);
    let Some(outcome) = outcome else {
        let answer = Answer {
            status: "accepted",
            rows,
            files: None,
            quarantined: 0,
            durability: Durability::Journal,
            buffered_rows: Some(state.journal.view().unretired_rows(Some(&table))),
            batch,
            table_name: table,
        };
        return (StatusCode::ACCEPTED, Json(answer)).into_response();
    };
    let quarantined = outcome.quarantined_by_batch.get(&appended.sequence).copied().unwrap_or(0);
    let holds_some = |role: FileRole| match role {
        FileRole::Main => u64::from(rows) > quarantined,
        FileRole::Quarantine => quarantined > 0,
    };
    let files = outcome
        .files
        .iter()
        .filter(|file| holds_some(file.role))
        .filter(|file| file.role == FileRole::Quarantine || file.partition_date == partition_date)
        .map(|file| format!("{}{}", state.location, file.key));
    let answer = Answer {
        status: "ok",
        table_name: table,
        rows,
        files: Some(files.collect()),
        quarantined,
        durability: Durability::Lake,
        buffered_rows: None,
        batch,
    };
    (StatusCode::OK, Json(answer)).into_response()
}
