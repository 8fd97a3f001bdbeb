//! `GET /receipts/{batch}`.
//!
//! Owns: where a batch is, in words. The id says where to look: in this journal, else in the lake, where a batch of any
//! sidecar of the prefix is found. Does not own: the way there.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::problem::{Problem, ProblemKind, ProblemsOfReports};
use crate::http::state::{AppState, Shared};
use crate::journal::control::FileRole;
use crate::lake::description::descriptions_of;
use crate::publish::key::BatchId;

/// Where a batch is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt {
    /// Its id.
    batch: String,
    /// Its table.
    table_name: String,
    /// `journal` or `lake`.
    durability: &'static str,
    /// In the journal: `open` (it takes more batches) or `sealed` (it is on its way).
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<&'static str>,
    /// What this is known by: `number` where the batch's number is one of its segment's (those of other tables' batches that
    /// came in between are not told from them), `segment` where an earlier version has delivered the segment and nobody
    /// remembers its numbers: then only the segment is certain. The days in the id are compared in the lake alone.
    known_by: &'static str,
    /// In the lake: the files that the batch's segment has for its day, or for its first day to its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<String>>,
    /// In the lake: the quarantine file of its segment, if records of it did not fit; some of them may be this batch's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantine_files: Vec<String>,
}

/// `GET /receipts/{batch}`: where a batch is.
#[utoipa::path(
    get,
    path = "/receipts/{batch}",
    params(("batch" = String, Path, description = "The id of a batch, as an answer has it.")),
    responses(
        (
            status = 200,
            description = "Where it is. An id that no answer had is 404 as far as that is remembered: see `known_by`.",
            body = Receipt
        ),
        ProblemsOfReports
    ),
)]
pub(super) async fn receipt(state: State<Shared>, Path(batch): Path<String>) -> Result<Json<Receipt>, Problem> {
    let unknown = |detail: &str| Problem::new(ProblemKind::NotFound, detail);
    let Some(id) = BatchId::parse(&batch) else {
        return Err(unknown("this is not the id of a batch, as an answer has it"));
    };
    let receipt = Receipt {
        batch,
        table_name: id.table.clone(),
        durability: "journal",
        segment: None,
        known_by: "number",
        files: None,
        quarantine_files: Vec::new(),
    };
    if let Some(segment) = in_journal(&state, &id) {
        return Ok(Json(Receipt { segment: Some(segment), ..receipt }));
    }
    let described = descriptions_of(&state.store, &state.prefix, &id.table, &id.segment).await;
    let described = described.map_err(|error| Problem::new(ProblemKind::LakeAway, error.to_string()))?;
    let known = described.first().map(|file| file.can_have(id.sequence));
    let known_by = match known {
        None => return Err(unknown("the batch is neither in this sidecar's journal nor in the lake")),
        Some(Some(false)) => {
            return Err(unknown("the batch's segment is in the lake, and has no batch of this number"));
        }
        Some(Some(true)) => "number",
        Some(None) => "segment",
    };
    let is_its_day = |role: FileRole, date: chrono::NaiveDate| role == FileRole::Quarantine || id.days.contains(date);
    let files = |role: FileRole| -> Vec<String> {
        let of_role = described.iter().filter(|file| file.role == role);
        let of_day = of_role.filter(|file| file.partition_date().is_some_and(|date| is_its_day(role, date)));
        of_day.map(|file| format!("{}{}", state.location, file.key)).collect()
    };
    let (files, quarantine_files) = (files(FileRole::Main), files(FileRole::Quarantine));
    if files.is_empty() && quarantine_files.is_empty() {
        return Err(unknown("the batch's segment is in the lake, and has nothing for these days"));
    }
    Ok(Json(Receipt { durability: "lake", known_by, files: Some(files), quarantine_files, ..receipt }))
}

/// What the segment of a batch is in this journal; none if it is not there.
fn in_journal(state: &AppState, id: &BatchId) -> Option<&'static str> {
    if id.segment.journal != state.journal.id() {
        return None;
    }
    let view = state.journal.view();
    let is_its = |number: u64, epoch: u64, table: &str, sequences: &std::ops::RangeInclusive<u64>| {
        number == id.segment.number
            && epoch == id.segment.epoch
            && table == id.table
            && sequences.contains(&id.sequence)
    };
    let open = view.open.iter().any(|part| is_its(part.number, part.epoch, &part.table, &part.sequences));
    let sealed = view.sealed.iter().any(|part| is_its(part.number, part.epoch, &part.table, &part.sequences));
    open.then_some("open").or(sealed.then_some("sealed"))
}
