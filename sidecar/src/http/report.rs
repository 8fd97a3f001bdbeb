//! What people and machines may ask about the sidecar: `/health`, `/tables`, `/livez`, `/readyz`, `/metrics`.
//!
//! Owns: the shapes. Upholds I8: neither liveness nor readiness looks at the lake, and I13. Does not own: the facts.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat};
use http::{StatusCode, Uri, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::problem::{Problem, ProblemsOfQueries, ProblemsOfReports};
use crate::http::query::Query;
use crate::http::state::{AppState, Identity, Shared};
use crate::journal::view::JournalView;
use crate::limits::TABLES_IN_ANSWER_MAX;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    pub(super) status: &'static str,
    #[serde(flatten)]
    identity: Identity,
    pub(super) reasons: Vec<Reason>,
    pub(super) backlog: Backlog,
    /// Records in quarantine since this process began, of all tables.
    quarantined_rows: u64,
    journal: JournalSize,
    version: Version,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reason {
    pub(super) name: &'static str,
    /// The table or the segment that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) scope: String,
    pub(super) message: String,
    pub(super) since: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Backlog {
    pub(super) segments: usize,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) oldest_seconds: u64,
    /// What bringing all of it into the lake would take now, as fast as it was measured.
    pub(super) drain_seconds: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct JournalSize {
    id: String,
    bytes: u64,
    cap_bytes: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Version {
    sidecar: &'static str,
    revision: &'static str,
    journal_format: u32,
    configuration_format: u32,
}

/// `GET /health`: 200 with what is wrong in words; a machine looks at `status`.
#[utoipa::path(
    get,
    path = "/health",
    responses((status = 200, description = "What is wrong, and what waits.", body = Health), ProblemsOfReports),
)]
pub(super) async fn health(state: State<Shared>) -> Response {
    Json(health_of(&state.0)).into_response()
}

/// How the sidecar is.
pub(super) fn health_of(state: &AppState) -> Health {
    let view = state.journal.view();
    let reasons: Vec<Reason> = state
        .status
        .reasons()
        .into_iter()
        .map(|reason| Reason {
            name: reason.name,
            scope: reason.scope,
            message: reason.message,
            since: reason.since.to_rfc3339_opts(SecondsFormat::Secs, true),
        })
        .collect();
    let is_draining = state.status.is_draining() || state.leaving.announced().is_some();
    let status = match (is_draining, reasons.is_empty()) {
        (true, _) => "draining",
        (false, true) => "ok",
        (false, false) => "degraded",
    };
    Health {
        status,
        identity: Identity::clone(&state.identity.borrow()),
        reasons,
        backlog: backlog(state, &view),
        quarantined_rows: state.status.tables().values().map(|table| table.quarantined_rows).sum(),
        journal: JournalSize { id: state.journal.id(), bytes: view.size_bytes, cap_bytes: view.cap_bytes },
        version: Version {
            sidecar: env!("CARGO_PKG_VERSION"),
            revision: crate::REVISION,
            journal_format: crate::journal::frame::FORMAT_VERSION,
            configuration_format: lakeingest_crds::sidecar_config::FORMAT_VERSION,
        },
    }
}

fn backlog(state: &AppState, view: &JournalView) -> Backlog {
    let (segments, bytes) = (view.open.len() + view.sealed.len(), view.unretired_bytes());
    Backlog {
        segments,
        rows: view.unretired_rows(None),
        bytes,
        oldest_seconds: oldest_seconds(state, view),
        drain_seconds: in_tenths(state.pace.time_to_deliver(segments, bytes)),
    }
}

/// Seconds, to the tenth.
fn in_tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// Age of the oldest row that is not in the lake; 0 if there is none, or if the wall clock went back.
fn oldest_seconds(state: &AppState, view: &JournalView) -> u64 {
    let now = state.clock.now().timestamp_micros();
    let age = view.oldest_received_micros().map_or(0, |oldest| now - oldest);
    u64::try_from(age / 1_000_000).unwrap_or(0)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tables {
    /// By name.
    pub(super) tables: Vec<Table>,
    /// There are more: ask for them with `?next=` and this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<TableColumn>,
    /// Version of the schema in the lake; 0 while it has none.
    pub(super) schema_version: u32,
    pub(super) buffered_rows: u64,
    pub(super) buffered_bytes: u64,
    /// Receive time of the oldest row that is not in the lake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oldest_buffered: Option<String>,
    /// Since this process began, as what is below.
    pub(super) published_rows: u64,
    pub(super) published_files: u64,
    /// Length of these files.
    pub(super) published_bytes: u64,
    /// Those of them that have less than 16 MiB: a reader spends more on opening one than on reading it. Fewer, larger files
    /// come of a longer `flush.maxAge`, and of `/ingest/stream` instead of `/ingest`.
    pub(super) small_files: u64,
    pub(super) quarantined_rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) r#type: String,
    /// Shown where it is false: a record without a value in it goes to quarantine.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub(super) nullable: bool,
}

/// `GET /tables`.
#[utoipa::path(
    get,
    path = "/tables",
    params(
        ("limit" = Option<usize>, Query, description = "Most tables of the answer: 1 to 100, which is the default."),
        ("next" = Option<String>, Query, description = "`next` of the answer before: the tables behind it."),
    ),
    responses((status = 200, description = "The tables that this sidecar knows.", body = Tables), ProblemsOfQueries),
)]
pub(super) async fn tables(state: State<Shared>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, &["limit", "next"])?;
    let limit = match query.get("limit").map(str::parse::<usize>) {
        None => TABLES_IN_ANSWER_MAX,
        Some(Ok(limit)) if (1..=TABLES_IN_ANSWER_MAX).contains(&limit) => limit,
        Some(_) => {
            let detail = format!("limit must be 1 to {TABLES_IN_ANSWER_MAX}");
            return Err(Problem::at("?limit", "illegal-value", detail));
        }
    };
    Ok(Json(tables_of(&state.0, query.get("next").unwrap_or(""), limit)).into_response())
}

/// What is known of `limit` tables whose names come behind `after`.
pub(super) fn tables_of(state: &AppState, after: &str, limit: usize) -> Tables {
    let view = state.journal.view();
    let mut names = state.registry.names();
    let statuses = state.status.tables();
    names.extend(statuses.keys().cloned());
    names.extend(buffered(&view).map(|(name, ..)| name.to_owned()));
    let mut names = names.into_iter().filter(|name| name.as_str() > after);
    let shown: Vec<String> = names.by_ref().take(limit).collect();
    let next = names.next().and_then(|_| shown.last().cloned());
    let mut tables: BTreeMap<String, Table> =
        shown.into_iter().map(|name| (name.clone(), Table { name, ..Table::default() })).collect();
    for (name, table) in &mut tables {
        let Some((schema, version)) = state.registry.known_of(name) else { continue };
        table.schema_version = version;
        let columns = schema.columns().iter().enumerate();
        let columns = columns.map(|(position, column)| TableColumn {
            name: column.name.clone(),
            r#type: column.column_type.to_string(),
            nullable: !schema.is_required(position),
        });
        table.columns = columns.collect();
    }
    for (name, status) in statuses {
        let Some(table) = tables.get_mut(&name) else { continue };
        table.published_rows = status.published_rows;
        table.published_files = status.published_files;
        table.published_bytes = status.published_bytes;
        table.small_files = status.small_files;
        table.quarantined_rows = status.quarantined_rows;
        table.last_error = status.last_error;
    }
    for (name, rows, bytes, received_micros) in buffered(&view) {
        let Some(table) = tables.get_mut(name) else { continue };
        table.buffered_rows += rows;
        table.buffered_bytes += bytes;
        let received = DateTime::from_timestamp_micros(received_micros).unwrap_or_default();
        let received = received.to_rfc3339_opts(SecondsFormat::Millis, true);
        table.oldest_buffered = table.oldest_buffered.take().into_iter().chain([received]).min();
    }
    Tables { tables: tables.into_values().collect(), next }
}

/// Table, rows, bytes and oldest receive time of each segment that is not in the lake.
fn buffered(view: &JournalView) -> impl Iterator<Item = (&str, u64, u64, i64)> {
    let open = view.open.iter();
    let open = open.map(|part| (part.table.as_str(), part.rows, part.body_bytes, part.first_received_micros));
    let sealed = view.sealed.iter();
    let sealed = sealed.map(|part| (&*part.table, part.rows, part.body_bytes, part.first_received_micros));
    open.chain(sealed)
}

/// `GET /livez`: the process answers.
#[utoipa::path(get, path = "/livez", responses((status = 200, description = "It answers.", body = String), ProblemsOfReports))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the journal takes records.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "It takes records.", body = String),
        (status = 503, description = "It is about to end.", body = String),
    ),
)]
pub(super) async fn readyz(state: State<Shared>) -> (StatusCode, &'static str) {
    match state.status.is_draining() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        false => (StatusCode::OK, "ok\n"),
    }
}

/// What `/metrics` is written in.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((
        status = 200,
        description = "The numbers, as OpenMetrics has them.",
        body = String,
        content_type = METRICS_TYPE,
    ), ProblemsOfReports),
)]
pub(super) async fn metrics(state: State<Shared>) -> Response {
    let state = state.0;
    let view = state.journal.view();
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    state.metrics.journal_bytes.set(signed(view.size_bytes));
    state.metrics.journal_cap_bytes.set(signed(view.cap_bytes));
    state.metrics.unflushed_rows.set(signed(view.unretired_rows(None)));
    state.metrics.oldest_unflushed_seconds.set(signed(oldest_seconds(&state, &view)));
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics.text()).into_response()
}
