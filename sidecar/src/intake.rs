//! A request's way from its bytes to the journal.
//!
//! Owns: the order: read, claim the key, admit, append, and back when the journal refuses; what is refused and in which words; how
//! many bodies are checked at once. Upholds I1.
//! Does not own: the wire (`http`), the checks themselves (`decode`, `schema`), the disk (`journal`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{SharedClock, day_of_micros};
use crate::decode::{
    Body, ContentCoding, DecodeError, Format, Records, ScanLimits, Violation, check_table_name, decoded,
};
use crate::journal::batch::Batch;
use crate::journal::control::Settled;
use crate::journal::error::AppendError;
use crate::journal::keys::{Claimed, KeyClaim, KeyDigest, KeyError, KeyedBatch};
use crate::journal::{Appended, Journal};
use crate::limits::{CHECKS_MAX, IN_FLIGHT_WAIT_MAX};
use crate::metrics::Metrics;
use crate::schema::registry::{Admitted, Claim, Registry};
use crate::schema::{DayRule, Days, Schema};
use crate::status::{Status, reasons};

/// What a client sent.
#[derive(Clone, Debug)]
pub struct Submission {
    /// How the body is written.
    pub format: Format,
    /// How it is compressed.
    pub coding: ContentCoding,
    /// The table, where it is not in the body.
    pub table_name: Option<String>,
    /// The partition's date, where it is not in the body.
    pub partition_date: Option<NaiveDate>,
    /// The key by which a retry is told from another request.
    pub key: Option<String>,
    /// What becomes of records that do not fit their table.
    pub on_invalid: OnInvalid,
    /// The body, as it was received.
    pub body: Bytes,
}

/// What becomes of records that do not fit their table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    /// They are stored aside, with the reason; the others are stored in the table.
    Quarantine,
    /// With one of them the whole submission is refused.
    Reject,
}

/// A submission that survives a power cut.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its table.
    pub table: String,
    /// Its records.
    pub rows: u32,
    /// Records of them that were seen not to fit, and go to quarantine.
    pub misfits: u32,
    /// Why: the first reasons. Not known any more of a submission that was accepted before.
    pub reasons: Vec<Violation>,
    /// The days under which they lie.
    pub days: Days,
    /// Where it is in the journal.
    pub appended: Appended,
    /// Whether it was accepted before, and this is a retry with its key.
    pub is_replay: bool,
    /// What its segment became, where a retry finds it in the lake already.
    pub settled: Option<Arc<Settled>>,
}

/// A submission that was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The body is not what it should be. Nothing was appended.
    #[error("the request was refused")]
    Decode(#[from] DecodeError),
    /// Its key is another request's. Nothing was appended by this one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The journal did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The process ends. Nothing was appended.
    #[error("the sidecar is draining")]
    Draining,
    /// Other bodies are being checked. Nothing was appended.
    #[error("{} long bodies are being checked", CHECKS_MAX)]
    Busy,
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
    /// A permit for each long body that may be checked.
    checks: Arc<Semaphore>,
}

/// A submission that was checked.
enum Checked {
    /// It is not journaled yet.
    Fresh(Box<Fresh>),
    /// It was accepted before.
    Replay(KeyedBatch),
}

/// A submission that is not journaled yet.
struct Fresh {
    batch: Batch,
    /// Why records of it do not fit.
    reasons: Vec<Violation>,
    schema: Schema,
    claim: Claim,
    key: Option<KeyClaim>,
}

impl Checked {
    /// Whether there is nothing to be settled once it is journaled: the table has its columns already, and the journal's own
    /// thread settles the key.
    fn is_settled(&self) -> bool {
        match self {
            Self::Fresh(fresh) => fresh.claim.is_settled(),
            Self::Replay(_) => true,
        }
    }
}

/// A body that is checked where it arrives; a longer one is checked on a thread where it delays nobody.
/// Unit: bytes. At 400 MB/s this takes a sixth of a millisecond.
const CHECK_INLINE_BYTES: usize = 64 << 10;

impl Intake {
    /// A way in.
    pub fn new(
        registry: Arc<Registry>,
        journal: Journal,
        status: Arc<Status>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
    ) -> Self {
        Self { registry, journal, status, metrics, clock, checks: Arc::new(Semaphore::new(CHECKS_MAX)) }
    }

    /// Checks a submission and journals it; answers when it would survive a power cut. A caller that goes away changes nothing
    /// of what becomes of it: half of the way would leave columns and keys that are nobody's.
    ///
    /// # Errors
    /// See [`IntakeError`]; only `Append(Unknown)` leaves open whether it is stored.
    pub async fn accept(self: &Arc<Self>, submission: Submission) -> Result<Accepted, IntakeError> {
        // What has a key may have been accepted before, and then its answer is due.
        if self.status.is_draining() && submission.key.is_none() {
            return Err(IntakeError::Draining);
        }
        // How long a compressed body is shows only when it is read.
        let is_short = submission.coding == ContentCoding::Identity && submission.body.len() <= CHECK_INLINE_BYTES;
        if !is_short {
            let intake = Arc::clone(self);
            return whole(async move { intake.take(intake.check_aside(submission).await?).await }).await;
        }
        let checked = self.check(submission)?;
        if checked.is_settled() {
            return self.take(checked).await;
        }
        let intake = Arc::clone(self);
        whole(async move { intake.take(checked).await }).await
    }

    async fn take(&self, checked: Checked) -> Result<Accepted, IntakeError> {
        match checked {
            Checked::Fresh(fresh) => self.append(*fresh).await,
            Checked::Replay(batch) => {
                self.metrics.replayed_requests.inc();
                Ok(Accepted::again(batch))
            }
        }
    }

    async fn append(&self, fresh: Fresh) -> Result<Accepted, IntakeError> {
        let Fresh { batch, reasons, schema, claim, key } = fresh;
        let (table, days) = (batch.table.clone(), batch.days());
        let (rows, misfits) = (batch.rows, batch.misfits);
        match self.journal.append(batch, schema, key).await {
            Ok(appended) => {
                self.registry.keep(&table, claim);
                // A short request may find room where a longer one does not.
                if self.journal.view().has_room() {
                    self.status.clear(&[reasons::JOURNAL_FULL]);
                }
                let (is_replay, settled) = (false, None);
                Ok(Accepted { table, rows, misfits, reasons, days, appended, is_replay, settled })
            }
            Err(error) => {
                if error.is_refused() {
                    self.registry.retract(&table, claim);
                }
                match error {
                    AppendError::Full { .. } | AppendError::NoSpace => {
                        self.status.set(reasons::JOURNAL_FULL, error.to_string());
                    }
                    AppendError::TooManySchemas { .. } => {
                        self.status.set_for(reasons::JOURNAL_FULL, &table, error.to_string());
                    }
                    AppendError::Failed | AppendError::Unknown => {}
                }
                Err(error.into())
            }
        }
    }

    /// Checks a long body on a thread where it delays nobody, when it is its turn.
    async fn check_aside(self: &Arc<Self>, submission: Submission) -> Result<Checked, IntakeError> {
        let turn = turn(&self.checks, IN_FLIGHT_WAIT_MAX).await?;
        let intake = Arc::clone(self);
        let checked = tokio::task::spawn_blocking(move || {
            // Held to the end of the check.
            let _turn = turn;
            intake.check(submission)
        });
        checked.await.unwrap_or(Err(IntakeError::Internal))
    }

    /// Checks a submission, claims its key, and takes in the columns that are new.
    fn check(&self, submission: Submission) -> Result<Checked, IntakeError> {
        let Submission { format, coding, table_name, partition_date, key, on_invalid, body } = submission;
        let received_micros = self.clock.now().timestamp_micros();
        let bytes = decoded(coding, &body)?;
        let records = Records::read(format, &bytes, &ScanLimits::DEFAULT)?;
        let table = agreed("/table_name", "table_name", table_name.as_deref(), records.table_name())?
            .ok_or_else(|| illegal(missing_table(format)))?
            .to_owned();
        check_table_name(&table).map_err(illegal)?;
        let named_date = agreed("/partition_date", "partition_date", partition_date, records.partition_date())?;
        let key = key.map(|key| (key, digest_of(format, &table, named_date, &bytes)));
        // Before the types: what was accepted once is answered, whatever the table has become since.
        let claim = match key.as_ref().map(|(key, digest)| self.journal.keys().claim(key, *digest)).transpose()? {
            None => None,
            Some(Claimed::New(claim)) => Some(claim),
            Some(Claimed::Replay(batch)) => return Ok(Checked::Replay(batch)),
        };
        if self.status.is_draining() {
            return Err(IntakeError::Draining);
        }
        let received_date = day_of_micros(received_micros);
        let day_rule = named_date.map_or(DayRule::ByColumn(received_date), DayRule::Named);
        let admitted = self.registry.admit(&table, &records, day_rule, on_invalid)?;
        let Admitted { schema, present, misfits, days, claim: columns } = admitted;
        let count = |records: usize| u32::try_from(records).map_err(|_| IntakeError::Internal);
        let batch = Batch {
            format,
            rows: count(records.record_count())?,
            misfits: count(misfits.total())?,
            received_micros,
            partition_date: named_date.unwrap_or(received_date),
            days,
            schema: schema.fingerprint(),
            table,
            key,
            present,
            expanded_bytes: records.expanded_bytes().filter(|length| *length as usize > bytes.len()),
            body: Body { coding, decoded_bytes: bytes.len() as u64, bytes: body.clone() },
        };
        let fresh = Fresh { batch, reasons: misfits.into_listed(), schema, claim: columns, key: claim };
        Ok(Checked::Fresh(Box::new(fresh)))
    }
}

impl Accepted {
    /// What was accepted before.
    fn again(batch: KeyedBatch) -> Self {
        let KeyedBatch { table, rows, misfits, days, sequence, segment, epoch, settled, .. } = batch;
        let appended = Appended { sequence, segment, epoch };
        let (table, reasons, is_replay) = (table.to_string(), Vec::new(), true);
        Self { table, rows, misfits, reasons, days, appended, is_replay, settled }
    }
}

/// Does the whole of something whoever waits for it: in a task of its own, which a short request
/// does without.
async fn whole(
    work: impl Future<Output = Result<Accepted, IntakeError>> + Send + 'static,
) -> Result<Accepted, IntakeError> {
    tokio::spawn(work).await.unwrap_or(Err(IntakeError::Internal))
}

/// What a key stands for. A date that the request did not name is not part of it: a retry after midnight is the same.
fn digest_of(format: Format, table: &str, named_date: Option<NaiveDate>, body: &[u8]) -> KeyDigest {
    let date = named_date.map_or(String::new(), |date| date.to_string());
    let mut hasher = Sha256::new();
    // None of the parts in front of the body can hold a line end.
    hasher.update(format!("{}\n{table}\n{date}\n", format.code()));
    hasher.update(body);
    hasher.finalize().into()
}

/// Waits for one of the permits.
async fn turn(checks: &Arc<Semaphore>, wait: Duration) -> Result<OwnedSemaphorePermit, IntakeError> {
    let turn = tokio::time::timeout(wait, Arc::clone(checks).acquire_owned()).await;
    turn.map_err(|_| IntakeError::Busy)?.map_err(|_| IntakeError::Internal)
}

/// What the query and the body say together of one thing.
pub(crate) fn agreed<T: PartialEq>(
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
        Format::Ndjson | Format::Csv | Format::ArrowStream | Format::Parquet => {
            "the query must have table_name, for example ?table_name=events"
        }
    };
    Violation { index: None, pointer: "/table_name".to_owned(), code: "missing-field", detail: detail.to_owned() }
}

#[cfg(test)]
mod tests;
