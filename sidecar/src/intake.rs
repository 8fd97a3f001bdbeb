//! A request's way from its bytes to the journal.
//!
//! Owns: the order: scan, admit, append; what is refused and in which words. Upholds I1.
//! Does not own: the wire (`http`), the checks themselves (`decode`, `schema`), the disk (`journal`).

use std::sync::Arc;

use bytes::Bytes;
use chrono::NaiveDate;

use crate::clock::{SharedClock, day_of_micros};
use crate::decode::{DecodeError, Format, ScanLimits, Violation, check_table_name, scan};
use crate::journal::batch::Batch;
use crate::journal::error::AppendError;
use crate::journal::{Appended, Journal};
use crate::limits::{DEPTH_MAX, RECORD_BYTES_MAX, RECORDS_MAX};
use crate::metrics::Metrics;
use crate::schema::Schema;
use crate::schema::registry::Registry;
use crate::status::{Status, reasons};

/// What a client sent.
#[derive(Clone, Debug)]
pub struct Submission {
    /// How the body is written.
    pub format: Format,
    /// The table, where it is not in the body.
    pub table_name: Option<String>,
    /// The partition's date, where it is not in the body.
    pub partition_date: Option<NaiveDate>,
    /// The body.
    pub body: Bytes,
}

/// A submission that survives a power cut.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its table.
    pub table: String,
    /// Its records.
    pub rows: u32,
    /// The day under which they lie.
    pub partition_date: NaiveDate,
    /// Where it is in the journal.
    pub appended: Appended,
}

/// A submission that was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The body is not what it should be. Nothing was appended.
    #[error("the request was refused")]
    Decode(#[from] DecodeError),
    /// The journal did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The process ends. Nothing was appended.
    #[error("the sidecar is draining")]
    Draining,
    /// A bug. Nothing was appended.
    #[error("the request could not be checked")]
    Internal,
}

/// The way in.
#[derive(Debug)]
pub struct Intake {
    registry: Arc<Registry>,
    journal: Journal,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

/// A body that is checked where it arrives; a longer one is checked on a thread where it delays nobody.
/// Unit: bytes. At 400 MB/s this takes a sixth of a millisecond.
const CHECK_INLINE_BYTES: usize = 64 << 10;

/// Bounds of a body.
const SCAN_LIMITS: ScanLimits = ScanLimits {
    depth_max: DEPTH_MAX,
    record_bytes_max: RECORD_BYTES_MAX,
    records_max: RECORDS_MAX,
    ..ScanLimits::DEFAULT
};

impl Intake {
    /// A way in.
    pub fn new(
        registry: Arc<Registry>,
        journal: Journal,
        status: Arc<Status>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
    ) -> Self {
        Self { registry, journal, status, metrics, clock }
    }

    /// Checks a submission and journals it; answers when it would survive a power cut.
    ///
    /// # Errors
    /// See [`IntakeError`]; only `Append(Unknown)` leaves open whether it is stored.
    pub async fn accept(self: &Arc<Self>, submission: Submission) -> Result<Accepted, IntakeError> {
        if self.status.is_draining() {
            return Err(IntakeError::Draining);
        }
        let (batch, schema) = if submission.body.len() <= CHECK_INLINE_BYTES {
            self.check(submission)?
        } else {
            let intake = Arc::clone(self);
            let checked = tokio::task::spawn_blocking(move || intake.check(submission)).await;
            checked.unwrap_or(Err(IntakeError::Internal))?
        };
        let (table, rows, partition_date) = (batch.table.clone(), batch.rows, batch.partition_date);
        match self.journal.append(batch, schema).await {
            Ok(appended) => {
                self.metrics.acknowledged_rows.inc_by(u64::from(rows));
                self.status.clear(&[reasons::JOURNAL_FULL]);
                Ok(Accepted { table, rows, partition_date, appended })
            }
            Err(error) => {
                if let AppendError::Full { .. } | AppendError::NoSpace = error {
                    self.status.set(reasons::JOURNAL_FULL, error.to_string());
                }
                Err(error.into())
            }
        }
    }

    /// Checks a submission, and takes in the columns that are new.
    fn check(&self, submission: Submission) -> Result<(Batch, Schema), IntakeError> {
        let Submission { format, table_name, partition_date, body } = submission;
        let received_micros = self.clock.now().timestamp_micros();
        let scanned = scan(format, &body, &SCAN_LIMITS)?;
        let table = agreed("/table_name", "table_name", table_name.as_deref(), scanned.table_name())?
            .ok_or_else(|| illegal(missing_table(format)))?
            .to_owned();
        check_table_name(&table).map_err(illegal)?;
        let date = agreed("/partition_date", "partition_date", partition_date, scanned.partition_date())?
            .unwrap_or_else(|| day_of_micros(received_micros));
        let admitted = self.registry.admit(&table, &scanned, date)?;
        let rows = u32::try_from(scanned.record_count()).map_err(|_| IntakeError::Internal)?;
        let batch = Batch {
            format,
            rows,
            received_micros,
            partition_date: date,
            schema: admitted.schema.fingerprint(),
            table,
            key: None,
            present: admitted.present,
            body: body.clone(),
        };
        Ok((batch, admitted.schema))
    }
}

/// What the query and the body say together of one thing.
fn agreed<T: PartialEq>(
    pointer: &str,
    name: &str,
    in_query: Option<T>,
    in_body: Option<T>,
) -> Result<Option<T>, DecodeError> {
    match (in_query, in_body) {
        (Some(in_query), Some(in_body)) if in_query != in_body => Err(illegal(Violation {
            index: None,
            pointer: pointer.to_owned(),
            code: "contradiction",
            detail: format!("the query and the body name different values for {name}"),
        })),
        (in_query, in_body) => Ok(in_query.or(in_body)),
    }
}

fn illegal(violation: Violation) -> DecodeError {
    DecodeError::Illegal(violation.into())
}

fn missing_table(format: Format) -> Violation {
    let detail = match format {
        Format::Json => "the body must have a field table_name",
        Format::Ndjson => "the query must have table_name, for example ?table_name=events",
    };
    Violation { index: None, pointer: "/table_name".to_owned(), code: "missing-field", detail: detail.to_owned() }
}
