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
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::decode::{Violation, parse_partition_date};
use crate::flush::worker::FlushRequest;
use crate::http::body::{coding_of, format_of};
use crate::http::problem::{Problem, ProblemKind, Problems};
use crate::http::query::Query;
use crate::http::state::{AppState, Shared};
use crate::intake::{Accepted, IntakeError, OnInvalid, Submission};
use crate::journal::Appended;
use crate::journal::control::{FileRole, Settled};
use crate::journal::error::AppendError;
use crate::limits::{KEY_BYTES_MAX, LAKE_WAIT_DEFAULT, RETRY_AFTER_FULL};
use crate::publish::key::{BatchId, SegmentName};

/// The key by which a retry is told from another request.
/// Source: draft-ietf-httpapi-idempotency-key-header-07.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// That the answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What an answer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Durability {
    /// Every record is in a verified object of the lake.
    Lake,
    /// Every record survives a power cut of this node.
    Journal,
}

/// That records are taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Acknowledgement)]
struct Answer {
    /// `ok` when they are in the lake, `accepted` when they are on their way.
    status: &'static str,
    /// Their table.
    table_name: String,
    /// Records of the request, those that do not fit included.
    rows: u32,
    /// In the lake: the files that they are in, with records of other requests. Where each record has a day of its own, those
    /// of the first day to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<String>>,
    /// Records of the request that do not fit and go to quarantine.
    quarantined: u64,
    /// Why records go to quarantine: the first reasons, as far as they are known when the answer is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Violation>,
    /// What was reached.
    durability: Durability,
    /// In the journal: records of the table that are not in the lake yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    buffered_rows: Option<u64>,
    /// What `/receipts/{batch}` asks for.
    batch: String,
}

/// Records of a table, as JSON.
#[derive(ToSchema)]
#[schema(as = Records)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what the scanner reads, which makes none of it")]
pub(super) enum Submitted {
    /// Several.
    Many(ManyRecords),
    /// One.
    One(OneRecord),
}

/// Records of a table.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Submitted`")]
pub(super) struct ManyRecords {
    /// The table.
    #[schema(pattern = "^[a-z][a-z0-9_]{0,62}$")]
    table_name: String,
    /// The records: names are the table's columns.
    #[schema(min_items = 1, max_items = 100_000, value_type = Vec<Object>)]
    records: Vec<()>,
    /// The day under which they lie; absent: the day on which they are received.
    #[schema(value_type = Option<String>, format = Date)]
    partition_date: Option<()>,
}

/// One record of a table.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Submitted`")]
pub(super) struct OneRecord {
    /// The table.
    #[schema(pattern = "^[a-z][a-z0-9_]{0,62}$")]
    table_name: String,
    /// The record: names are the table's columns.
    #[schema(value_type = Object)]
    record: (),
    /// The day under which it lies; absent: the day on which it is received.
    #[schema(value_type = Option<String>, format = Date)]
    partition_date: Option<()>,
}

/// Options of a request that brings records.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `Query` reads")]
struct Options {
    /// The table, for formats that do not name it themselves.
    #[param(pattern = "^[a-z][a-z0-9_]{0,62}$")]
    table_name: Option<String>,
    /// The day under which the records lie, for formats that do not name it themselves.
    #[param(value_type = Option<String>, format = Date)]
    partition_date: Option<()>,
    /// What is to be reached before the answer, instead of the endpoint's own.
    #[param(value_type = Option<Durability>)]
    durability: Option<()>,
    /// How long the lake is waited for: seconds, or a duration with a unit; at most 300 s.
    #[param(pattern = "^([0-9]|[1-9][0-9]|[12][0-9][0-9]|300|[1-9][0-9]{0,4}ms|[1-9][0-9]?s|[1-5]m)$")]
    wait: Option<String>,
    /// What becomes of records that do not fit: they go to quarantine, or the request is refused.
    #[param(pattern = "^(quarantine|reject)$")]
    on_invalid: Option<String>,
}

/// The header that makes a retry the same request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what `idempotency_key` reads")]
struct Headers {
    /// A request with this key is stored once, however often it is sent.
    #[param(rename = "Idempotency-Key", pattern = "^[!#-\\[\\]-~]{1,255}$")]
    key: Option<String>,
}

/// `POST /ingest`: in the lake when it answers 200.
///
/// A body of NDJSON, CSV, Arrow's IPC stream or Parquet names its table by `?table_name=`; any may be compressed by gzip or zstd
/// (`Content-Encoding`).
#[utoipa::path(
    post,
    path = "/ingest",
    params(Options, Headers),
    request_body(content(
        (Submitted = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"),
        (Vec<u8> = "application/vnd.apache.parquet"),
    )),
    responses(
        (status = 200, description = "Every record is in a verified file of the lake.", body = Answer),
        (status = 202, description = "Every record survives a power cut of this node.", body = Answer),
        Problems,
    ),
)]
pub(super) async fn batch(state: State<Shared>, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    ingest(state.0, uri, headers, body, Durability::Lake).await
}

/// `POST /ingest/stream`: durable on this node when it answers 202.
///
/// Bodies are those of `/ingest`.
#[utoipa::path(
    post,
    path = "/ingest/stream",
    params(Options, Headers),
    request_body(content(
        (Submitted = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"),
        (Vec<u8> = "application/vnd.apache.parquet"),
    )),
    responses(
        (status = 200, description = "Every record is in a verified file of the lake.", body = Answer),
        (status = 202, description = "Every record survives a power cut of this node.", body = Answer),
        Problems,
    ),
)]
pub(super) async fn stream(
    state: State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    ingest(state.0, uri, headers, body, Durability::Journal).await
}

async fn ingest(
    state: Shared,
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
    let on_invalid = match query.get("on_invalid") {
        None | Some("quarantine") => OnInvalid::Quarantine,
        Some("reject") => OnInvalid::Reject,
        Some(_) => {
            return Err(Problem::at("?on_invalid", "illegal-value", "on_invalid must be quarantine or reject"));
        }
    };
    let key = idempotency_key(&headers)?;
    let format = format_of(&headers)?;
    let coding = coding_of(&headers)?;
    let partition_date = match query.get("partition_date") {
        Some(text) => Some(parse_partition_date(text).map_err(Problem::from_violation)?),
        None => None,
    };
    let body = state.in_flight.receive(&headers, body).await?;
    let submission = Submission {
        format,
        coding,
        table_name: query.get("table_name").map(str::to_owned),
        partition_date,
        key,
        on_invalid,
        body,
    };
    let accepted = state.intake.accept(submission).await.map_err(|error| refusal(&state, error))?;
    let settled = match durability {
        Durability::Lake => wait_for_lake(&state, &accepted, wait).await,
        Durability::Journal => None,
    };
    let is_replay = accepted.is_replay;
    let mut response = answer(&state, accepted, settled.as_deref());
    if is_replay {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Why a submission was not accepted; where the journal is full, with the time after which it will not be.
fn refusal(state: &AppState, error: IntakeError) -> Problem {
    let is_at_cap = matches!(error, IntakeError::Append(AppendError::Full { .. } | AppendError::TooManySchemas { .. }));
    let is_full = is_at_cap || matches!(error, IntakeError::Append(AppendError::NoSpace));
    let problem = Problem::from(error);
    if !is_full {
        return problem;
    }
    // Where nothing else is wrong it is the client that has to slow down.
    let problem =
        if is_at_cap && state.status.is_lake_well() { problem.with_kind(ProblemKind::TooFast) } else { problem };
    let (segments, body_bytes) = state.journal.view().before_room();
    problem.with_retry_after(seconds_until_room(state.pace.time_to_deliver(segments, body_bytes)))
}

/// A wait for room as `Retry-After` says it.
fn seconds_until_room(time: Duration) -> u32 {
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    seconds.clamp(*RETRY_AFTER_FULL.start(), *RETRY_AFTER_FULL.end())
}

/// The request's idempotency key. The draft has it as a quoted string; without quotes it is taken too.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(&KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().map(str::trim).unwrap_or_default();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_key = (1..=KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    match is_key && values.next().is_none() {
        true => Ok(Some(key.to_owned())),
        false => {
            let detail = format!(
                "Idempotency-Key must be given once, with 1 to {KEY_BYTES_MAX} visible ASCII characters without quotes and backslashes"
            );
            Err(Problem::new(ProblemKind::MalformedHeader, detail))
        }
    }
}

/// Asks for a flush and waits; none at the deadline, and when the process ends. The batch is acknowledged either way.
async fn wait_for_lake(state: &AppState, accepted: &Accepted, wait: Duration) -> Option<Arc<Settled>> {
    if accepted.settled.is_some() {
        return accepted.settled.clone();
    }
    let segment = accepted.appended.segment;
    let outcome = state.outcomes.wait(segment);
    let asked = async {
        // A worker that is gone means that the process ends; the deadline answers then.
        let _ = state.flush.send(FlushRequest { segment, linger: true }).await;
        outcome.await.ok()
    };
    tokio::select! {
        outcome = tokio::time::timeout(wait, asked) => outcome.ok().flatten(),
        () = state.status.waits_ended() => None,
    }
}

fn answer(state: &AppState, accepted: Accepted, settled: Option<&Settled>) -> Response {
    let Accepted { table, rows, misfits, reasons: errors, days, appended, .. } = accepted;
    let Appended { sequence, segment, epoch } = appended;
    let segment = SegmentName { journal: state.journal.id(), epoch, number: segment };
    let batch = BatchId { table: table.clone(), days, segment, sequence }.to_string();
    let Some(settled) = settled else {
        let answer = Answer {
            status: "accepted",
            rows,
            files: None,
            quarantined: u64::from(misfits),
            errors,
            durability: Durability::Journal,
            buffered_rows: Some(state.journal.view().unretired_rows(Some(&table))),
            batch,
            table_name: table,
        };
        return (StatusCode::ACCEPTED, Json(answer)).into_response();
    };
    let quarantined = settled.quarantined_of(sequence);
    let holds_some = |role: FileRole| match role {
        FileRole::Main => u64::from(rows) > quarantined,
        FileRole::Quarantine => quarantined > 0,
    };
    let files = settled
        .files
        .iter()
        .filter(|file| holds_some(file.role))
        .filter(|file| file.role == FileRole::Quarantine || days.contains(file.partition_date))
        .map(|file| format!("{}{}", state.location, file.key));
    let answer = Answer {
        status: "ok",
        table_name: table,
        rows,
        files: Some(files.collect()),
        quarantined,
        errors,
        durability: Durability::Lake,
        buffered_rows: None,
        batch,
    };
    (StatusCode::OK, Json(answer)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_room_is_what_was_measured_within_its_bounds() {
        let of = |millis: u64| seconds_until_room(Duration::from_millis(millis));
        assert_eq!([of(0), of(4_900), of(12_500), of(59_999), of(3_600_000)], [5, 5, 13, 60, 60]);
        assert_eq!(seconds_until_room(Duration::MAX), 60);
    }
}
