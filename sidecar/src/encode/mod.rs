//! Segments into Parquet files, by DuckDB, on one thread of its own.
//!
//! Owns: the thread, its queue, the files on the scratch volume. Upholds I3 (the same segment and schema version give
//! the same keys, verdicts and rows) and I5. Does not own: the network, when.
//!
//! ```text
//! journal ── load: scan, decode, fit ──> tables ── copy: COPY in the order of arrival ──> scratch/encoded/*.parquet
//! ```

mod copy;
pub mod digest;
pub mod error;
mod load;
mod poison;
pub mod session;
mod tables;
pub mod transform;
pub mod trial;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use duckdb::Connection;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

pub use copy::EncodedFile;

use crate::journal::control::{Plan, PlannedFile, Seal};
use crate::journal::segment::Contents;
use crate::limits::{ENCODE_FAILURES_MAX, ENCODE_QUEUE_MAX};
use crate::publish::Identify;
use crate::publish::key::{Prefix, SegmentName};
use crate::schema::registry::RegisteredSchema;
use error::EncodeError;
use load::Selection;
use poison::NotFound;
use session::{Need, Scratch, Session};
use trial::Note;
pub use trial::Trials;

/// A segment to encode.
#[derive(Clone, Debug)]
pub struct EncodeJob {
    /// What it holds.
    pub contents: Arc<Contents>,
    /// Its seal.
    pub seal: Seal,
    /// Its name in the lake.
    pub segment: SegmentName,
    /// Where the lake is.
    pub prefix: Prefix,
    /// The schema that its files have.
    pub registered: Arc<RegisteredSchema>,
    /// Columns by which the rows of a file are ordered, the first before the others. Those that the table does not have, or
    /// has with a structure, say nothing.
    pub order_by: Vec<String>,
    /// Where the journal is.
    pub journal: PathBuf,
    /// Records that go to quarantine because the encoder fails on them: sequence and place in the batch.
    pub poison: BTreeSet<(u64, u32)>,
    /// Whether to look for such records, should the segment fail again.
    pub is_suspect: bool,
}

/// A segment that is encoded.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// What it becomes.
    pub plan: Plan,
    /// Its files, in the plan's order.
    pub files: Vec<EncodedFile>,
}

/// What the thread is asked for.
enum Job {
    Encode(Box<EncodeJob>, oneshot::Sender<Result<Encoded, EncodeError>>),
    Identify(PathBuf, Box<PlannedFile>, String, oneshot::Sender<bool>),
}

/// The encoder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Encoder {
    jobs: mpsc::Sender<Job>,
    /// Parts of segments that were tried one by one.
    tries: Arc<AtomicU64>,
}

impl Encoder {
    /// Starts the thread, which sets up its database before this returns.
    ///
    /// # Errors
    /// The thread or the database cannot be set up.
    pub fn start(scratch: Scratch, trials: Trials) -> Result<Self, EncodeError> {
        let (jobs, queue) = mpsc::channel(ENCODE_QUEUE_MAX);
        let (ready, opened) = std::sync::mpsc::sync_channel(1);
        let tries = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&tries);
        std::thread::Builder::new()
            .name("encoder".to_owned())
            .spawn(move || match Session::open(&scratch) {
                Ok(session) => {
                    // The caller waits for exactly this answer.
                    let _ = ready.send(Ok(()));
                    run(session, &Workplace { scratch, trials, tries: counted }, queue);
                }
                Err(error) => drop(ready.send(Err(EncodeError::Open(error)))),
            })
            .map_err(EncodeError::StartThread)?;
        opened.recv().unwrap_or(Err(EncodeError::Gone))?;
        Ok(Self { jobs, tries })
    }

    /// How many parts of segments were tried one by one, to find records that the encoder fails on.
    pub fn tries(&self) -> u64 {
        self.tries.load(Ordering::Relaxed)
    }

    /// Encodes a segment.
    ///
    /// # Errors
    /// See [`EncodeError`]; `Gone` means that the process must end, anything else that it can be tried again.
    pub async fn encode(&self, job: EncodeJob) -> Result<Encoded, EncodeError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Encode(Box::new(job), reply)).await.map_err(|_| EncodeError::Gone)?;
        answer.await.unwrap_or(Err(EncodeError::Gone))
    }
}

impl Identify for Encoder {
    async fn is(&self, local: &Path, planned: &PlannedFile, segment: &SegmentName) -> bool {
        let (reply, answer) = oneshot::channel();
        let job = Job::Identify(local.to_owned(), Box::new(planned.clone()), segment.to_string(), reply);
        self.jobs.send(job).await.is_ok() && answer.await.unwrap_or(false)
    }
}

/// Where and how the thread works.
struct Workplace {
    scratch: Scratch,
    trials: Trials,
    tries: Arc<AtomicU64>,
}

/// Serves jobs until every handle is gone. A panic ends the thread, and with it the process (`EncodeError::Gone`).
fn run(mut session: Session, workplace: &Workplace, mut queue: mpsc::Receiver<Job>) {
    let mut has_failed = false;
    while let Some(job) = queue.blocking_recv() {
        match job {
            // Whoever asked has given up, and may have taken the folders with it.
            Job::Encode(_, reply) if reply.is_closed() => {}
            Job::Encode(job, reply) => {
                let note = Note::begin(&workplace.scratch, job.contents.number);
                let is_deadly = note.deaths() >= ENCODE_FAILURES_MAX;
                if is_deadly {
                    let (segment, deaths) = (job.contents.number, note.deaths());
                    warn!(
                        segment,
                        deaths,
                        "the process has ended while it encoded this segment; trying it in a process of its own"
                    );
                }
                let encoded = encode_or_suspect(&mut session, &mut has_failed, workplace, &job, is_deadly);
                match &encoded {
                    Ok(_) => note.end(),
                    Err(_) => note.go_back(),
                }
                // Whoever asked may be gone; the files are found by the next attempt.
                drop(reply.send(encoded));
            }
            Job::Identify(path, planned, segment, reply) => {
                let _ = reply.send(copy::says_it_is(&session.connection, &path, &planned, &segment));
            }
        }
    }
}

/// Encodes a segment; where it fails and is suspect, without the records that it fails on. Of one that is tried aside, this
/// process encodes exactly what a process of its own has encoded before; one that nobody is known to have died over is
/// encoded here too where no such process can be had.
fn encode_or_suspect(
    session: &mut Session,
    has_failed: &mut bool,
    workplace: &Workplace,
    job: &EncodeJob,
    is_deadly: bool,
) -> Result<Encoded, EncodeError> {
    let Workplace { scratch, trials, tries } = workplace;
    let is_tried = is_deadly || *trials == Trials::Always;
    let mut attempt = |selection: &Selection| {
        let need = Need { columns: job.registered.schema.leaf_count(), is_suspect: job.is_suspect };
        let encoded = session.prepare(scratch, need, *has_failed).map_err(EncodeError::Open);
        let encoded = encoded.and_then(|()| encode(&session.connection, scratch, job, selection));
        *has_failed = encoded.is_err();
        if *has_failed && let Err(error) = session.prepare(scratch, Need { columns: 0, is_suspect: false }, true) {
            // What it holds is given up before the next attempt, at the latest.
            warn!(error = %error, "failed to open the database anew");
        }
        encoded
    };
    let all = Selection { range: 0..u64::MAX, poison: job.poison.clone() };
    let aside = |selection: &Selection| {
        let tried = if is_tried { trial::encode_aside(scratch, job, selection) } else { Ok(()) };
        match tried {
            Err(EncodeError::Trial(error)) if !is_deadly => {
                warn!(error = %error, "failed to try a segment in a process of its own");
                Ok(())
            }
            outcome => outcome,
        }
    };
    let error = match aside(&all).and_then(|()| attempt(&all)) {
        Err(error) if (job.is_suspect || is_tried) && error.is_about_rows() => error,
        outcome => return outcome,
    };
    let mut try_part = |selection: &Selection| {
        tries.fetch_add(1, Ordering::Relaxed);
        match is_tried {
            true => trial::encode_aside(scratch, job, selection),
            false => attempt(selection).map(drop),
        }
    };
    warn!(error = %crate::error_chain(&error), "looking for the records that the encoder fails on");
    let mut encodes = |range: Range<u64>| match try_part(&Selection { range, poison: job.poison.clone() }) {
        Ok(()) => Ok(true),
        Err(error) if error.is_about_rows() => Ok(false),
        Err(_) => Err(NotFound::NoRecord),
    };
    let Ok(rows) = poison::find(job.contents.rows, &mut encodes) else { return Err(error) };
    // Each alone and once more: what failed for another reason, and does not any more, is no record's fault.
    for row in &rows {
        if !matches!(encodes(*row..*row + 1), Ok(false)) {
            return Err(error);
        }
    }
    let mut poison = job.poison.clone();
    poison.extend(load::places_of(job, &rows)?);
    error!(records = rows.len(), "records that the encoder fails on go to quarantine");
    let rest = Selection { range: 0..u64::MAX, poison };
    // The parts were tried, and not yet all of them together.
    aside(&rest).and_then(|()| attempt(&rest))
}

fn encode(
    connection: &Connection,
    scratch: &Scratch,
    job: &EncodeJob,
    selection: &Selection,
) -> Result<Encoded, EncodeError> {
    let loaded = load::load(connection, scratch, job, selection)?;
    let plan = Plan {
        seal: job.seal.clone(),
        schema_version: job.registered.version,
        files: loaded.files.iter().map(|file| file.planned.clone()).collect(),
        quarantined: loaded.quarantined,
        quarantined_rows: loaded.quarantined_rows,
        poison: selection.poison.clone(),
        quarantined_by_batch: loaded.quarantined_by_batch,
    };
    Ok(Encoded { plan, files: loaded.files })
}

#[cfg(test)]
mod tests;
