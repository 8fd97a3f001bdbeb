//! The only point on the node at which a record becomes durable.
//!
//! Owns: log files, frames, segments, group commit, recovery. Upholds I1, I2 (log files) and I12.
//! Does not own: the lake, when to flush, what is in a body.
//!
//! ```text
//! directory (lock, names) ── frame (bytes) ── batch, control (payloads)
//!        recovery (read all, once) ──> segment (contents, states) ──> commit (the one writing thread) ──> writer
//!                                                                       │
//!                                   keys, key_log ──┤     old_files (what they hold), anew (without what is delivered)
//!                                                    view (snapshot) <──┘ reserve  reader (a segment's batches)
//! ```

mod anew;
pub mod batch;
mod busy;
mod commit;
pub mod control;
pub mod directory;
pub mod error;
pub mod frame;
mod key_log;
pub mod keys;
mod old_files;
pub mod reader;
pub mod recovery;
pub mod reserve;
mod schemas;
pub mod segment;
pub mod view;
pub mod writer;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};

pub use commit::{Appended, Sealed};

use crate::clock::SharedClock;
use crate::limits::{
    APPEND_WAIT_MAX, JOURNAL_LIFETIME_MAX, JOURNAL_QUEUE_MAX, JOURNAL_RESERVE_BYTES, JOURNAL_SHARE_PERCENT,
    KEY_AGE_AT_START_MAX, KEY_DISK_BYTES, KEYS_MAX, LOG_FILE_BYTES,
};
use crate::metrics::Metrics;
use crate::schema::Schema;
use batch::Batch;
use busy::Busy;
use commit::{Command, Committer};
use control::{KeyRecord, Plan, SealReason, Settled};
use directory::{JournalDirectory, bytes_of_files, remove_unfinished};
use error::{AppendError, JournalError};
use frame::LogHeader;
use key_log::KeyLog;
use keys::{KeyClaim, Keys};
use old_files::OldFiles;
use recovery::{PartialSegment, Recovered, RecoveredSegment};
use reserve::Reserve;
use schemas::WaitingSchemas;
use segment::{Contents, SegmentEvent, SegmentState};
use view::{JournalView, SealedSegment};
use writer::LogWriter;

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Its directory.
    pub directory: PathBuf,
    /// Size of its volume. Unit: bytes. The journal takes `JOURNAL_SHARE_PERCENT` of it.
    pub size_limit_bytes: u64,
    /// Whose its log files are.
    pub files: Files,
    /// Whether a journal is opened that is older than `JOURNAL_LIFETIME_MAX`.
    pub takes_old: bool,
}

impl JournalOptions {
    /// A sidecar's own journal on a volume of this size.
    pub fn new(directory: PathBuf, size_limit_bytes: u64) -> Self {
        Self { directory, size_limit_bytes, files: Files::Own, takes_old: false }
    }
}

/// Whose log files are opened, and so what becomes of segments that are not whole: not sealed, or without records that
/// their seals count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// The journal of this process: there is nothing but what is here. What is open is sealed, and of what is damaged the
    /// rest is delivered.
    Own,
    /// Copies of another journal's files, of which some may not have arrived: segments that are not whole are left as they
    /// are, since who has the rest will deliver them whole.
    Copies,
}

/// A journal that is open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<JournalView>>,
    failed: watch::Receiver<bool>,
    busy: Arc<Busy>,
    keys: Keys,
    directory: Arc<Path>,
    id: [u8; 16],
}

/// An open journal with what it held.
#[derive(Debug)]
pub struct OpenedJournal {
    /// The journal.
    pub journal: Journal,
    /// The segments that are not in the lake yet, each sealed at least, oldest first.
    pub segments: Vec<RecoveredSegment>,
    /// Of one's own journal: records that seals count and that are not there.
    pub lacking_rows: u64,
    /// Of copies: segments that were left as they are.
    pub left: Vec<PartialSegment>,
    /// Places where bytes were no frames and were set aside.
    pub damaged: u64,
    /// The thread that writes. It ends when the last clone of the journal is gone.
    pub thread: std::thread::JoinHandle<()>,
}

impl Journal {
    /// Opens the journal, reads what it holds, seals what was left open and begins a new log file.
    ///
    /// # Errors
    /// See [`JournalError`]; where it says so nothing was changed.
    pub fn open(
        options: &JournalOptions,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<OpenedJournal, JournalError> {
        let directory = JournalDirectory::open(&options.directory)?;
        // Before the reserve takes the space.
        remove_unfinished(directory.path());
        let mut reserve = Reserve::open(directory.path(), JOURNAL_RESERVE_BYTES);
        let mut recovered = recovery::recover(&directory, &mut reserve)?;
        if !options.takes_old {
            refuse_old(&recovered, &options.directory, clock.now())?;
        }
        let header = next_header(&recovered);
        let key_log_bytes = key_log_bytes(options.size_limit_bytes);
        let keys_max = usize::try_from(key_log_bytes / KEY_DISK_BYTES).unwrap_or(KEYS_MAX);
        let keys = Keys::new(Arc::clone(&clock), Arc::clone(&metrics), keys_max);
        metrics.keys_evicted.inc_by(recovered.keys_evicted);
        let young_micros = (clock.now() - KEY_AGE_AT_START_MAX).timestamp_micros();
        let (mut key_log, found, damaged_keys) = KeyLog::open(directory.path(), header.journal, key_log_bytes)?;
        let settled = found.into_iter().flat_map(KeyRecord::into_batches);
        // A key can be in both: a crash has left its batch although it is settled, or it was used again once it was old.
        let mut found: Vec<_> = settled.chain(std::mem::take(&mut recovered.keys)).collect();
        found.sort_by_key(|(_, batch)| batch.sequence);
        for (name, batch) in found {
            if batch.received_micros > young_micros {
                keys.remember(name, batch);
            }
        }
        key_log.compact(&keys.records())?;
        let log = LogWriter::create(directory.path(), header.clone(), Some(&mut reserve))?;
        let cap_bytes = options.size_limit_bytes / 100 * JOURNAL_SHARE_PERCENT;
        let (commands_sender, commands) = mpsc::channel(JOURNAL_QUEUE_MAX);
        let (view_sender, view) = watch::channel(Arc::default());
        let (failed_sender, failed) = watch::channel(false);
        let busy = Arc::new(Busy::default());
        let journal = Self {
            commands: commands_sender,
            view,
            failed,
            busy: Arc::clone(&busy),
            keys: keys.clone(),
            directory: directory.path().into(),
            id: header.journal,
        };
        let aside_bytes = bytes_of_files(&directory.path().join(recovery::ASIDE_FOLDER));
        let mut committer = Committer {
            directory,
            clock,
            metrics,
            commands,
            view: view_sender,
            failed: failed_sender,
            busy,
            log,
            reserve,
            old_files: OldFiles::of(&recovered.files),
            next_sequence: recovered.next_sequence,
            next_segment: recovered.next_segment,
            open: HashMap::new(),
            sealed: BTreeMap::new(),
            schemas: WaitingSchemas::default(),
            keys,
            key_log,
            aside_bytes,
            cap_bytes,
            is_short: false,
            // A small volume has small files, so that retired segments give their space back in small steps.
            log_file_bytes: LOG_FILE_BYTES.min(cap_bytes / 8),
        };
        let adopted = committer.adopt(recovered.segments, recovered.sealed_alone, options.files)?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || committer.run())
            .map_err(JournalError::StartThread)?;
        let Adopted { segments, lacking_rows, left } = adopted;
        let damaged = recovered.damaged + damaged_keys;
        Ok(OpenedJournal { journal, segments, lacking_rows, left, damaged, thread })
    }

    /// Journals a batch; the claim of its key, if it has one, is settled with it.
    ///
    /// # Errors
    /// See [`AppendError`]; all but `Unknown` mean that nothing was appended.
    pub async fn append(&self, batch: Batch, schema: Schema, claim: Option<KeyClaim>) -> Result<Appended, AppendError> {
        let appended = self.ask(|reply| Command::Append { batch: Box::new(batch), schema, claim, reply });
        tokio::time::timeout(APPEND_WAIT_MAX, appended).await.unwrap_or(Err(AppendError::Unknown))
    }

    /// Seals a segment; none if it is not open any more.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn seal(&self, segment: u64, reason: SealReason) -> Result<Option<Sealed>, AppendError> {
        self.ask(|reply| Command::Seal { segment, reason, reply }).await
    }

    /// Writes the plan of a sealed segment.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn plan(&self, segment: u64, plan: Plan) -> Result<(), AppendError> {
        self.ask(|reply| Command::Plan { segment, plan: Box::new(plan), reply }).await
    }

    /// Writes that a segment is in the lake, verified and described, keeps its keys, and removes the log files that no
    /// segment needs.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn retire(&self, segment: u64, settled: Settled) -> Result<(), AppendError> {
        self.ask(|reply| Command::Retire { segment, settled: Arc::new(settled), reply }).await
    }

    /// The idempotency keys of its batches.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, AppendError>>) -> Command,
    ) -> Result<T, AppendError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return Err(AppendError::Failed);
        }
        // The thread answers every command it has taken; if it panicked, nobody knows.
        answer.await.unwrap_or(Err(AppendError::Unknown))
    }

    /// The journal as it was after the newest group commit.
    pub fn view(&self) -> Arc<JournalView> {
        Arc::clone(&self.view.borrow())
    }

    /// Tells of each group commit.
    pub fn watch(&self) -> watch::Receiver<Arc<JournalView>> {
        self.view.clone()
    }

    /// Becomes true, once, when a write or sync failed: the process must end.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.failed.clone()
    }

    /// How long the group commit that is under way has taken by `now`, by the monotonic clock; none if there is none.
    pub fn busy_for(&self, now: Duration) -> Option<Duration> {
        self.busy.for_how_long(now)
    }

    /// Where the log files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The journal's id, hex.
    pub fn id(&self) -> String {
        hex(&self.id)
    }
}

/// What was taken over of what was found.
struct Adopted {
    segments: Vec<RecoveredSegment>,
    lacking_rows: u64,
    left: Vec<PartialSegment>,
}

impl Committer {
    /// Takes over what was found. What was open in one's own journal is sealed with its last batch's receive time as seal
    /// time, so that every reading of the same bytes, and every clone of them, gives the same names.
    fn adopt(
        &mut self,
        found: Vec<RecoveredSegment>,
        sealed_alone: Vec<PartialSegment>,
        files: Files,
    ) -> Result<Adopted, JournalError> {
        let lost_rows = sealed_alone.iter().map(|segment| segment.rows).sum();
        let mut adopted = match files {
            Files::Own => {
                Adopted { segments: Vec::with_capacity(found.len()), lacking_rows: lost_rows, left: Vec::new() }
            }
            Files::Copies => Adopted { segments: Vec::new(), lacking_rows: 0, left: sealed_alone },
        };
        for segment in found {
            let (rows, lacking) = (segment.contents.rows, segment.lacking_rows());
            if files == Files::Copies && (segment.state == SegmentState::Open || lacking > 0) {
                let Contents { number, epoch, table, .. } = segment.contents;
                let is_sealed = segment.state != SegmentState::Open;
                adopted.left.push(PartialSegment { number, epoch, table, rows: rows + lacking, is_sealed });
                continue;
            }
            if lacking > 0 {
                let (segment, table) = (segment.contents.number, &segment.contents.table);
                error!(segment, table, rows, lacking, "records of a segment are gone; the others are delivered");
                adopted.lacking_rows += lacking;
            }
            adopted.segments.push(self.adopt_segment(segment)?);
        }
        self.log.sync()?;
        self.remove_retired_files()?;
        // What an earlier process has left, this one does before it takes anything.
        while self.write_one_anew()?.is_some() {}
        self.publish_view();
        Ok(adopted)
    }

    fn adopt_segment(&mut self, segment: RecoveredSegment) -> Result<RecoveredSegment, JournalError> {
        let RecoveredSegment { contents, mut state } = segment;
        let number = contents.number;
        contents.schemas.iter().for_each(|(fingerprint, schema)| self.schemas.hold(number, *fingerprint, schema));
        if state == SegmentState::Open {
            let seal = contents.seal(contents.last_received_micros, SealReason::Recovery);
            self.push_seal(number, &seal);
            state = state
                .advance(SegmentEvent::Sealed(seal))
                .map_err(|source| JournalError::Replay { segment: number, source })?;
        }
        info!(
            segment = number,
            table = contents.table,
            rows = contents.rows,
            state = state.name(),
            "recovered segment"
        );
        self.old_files.hold(number, &contents.bytes_by_file);
        self.sealed.insert(number, SealedSegment::of(&contents, self.log.position()));
        Ok(RecoveredSegment { contents, state })
    }
}

/// Refuses a journal that comes back after so long that the lake may have forgotten what it was given of it.
fn refuse_old(recovered: &Recovered, directory: &Path, now: DateTime<Utc>) -> Result<(), JournalError> {
    let newest = recovered.segments.iter().map(|segment| segment.contents.last_received_micros).max();
    let Some(newest) = newest.and_then(DateTime::from_timestamp_micros) else { return Ok(()) };
    match (now - newest).to_std() {
        Ok(age) if age > JOURNAL_LIFETIME_MAX => {
            Err(JournalError::TooOld { path: directory.to_owned(), days: age.as_secs() / (24 * 60 * 60) })
        }
        // A clock that went back makes nothing old.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What the keys that are still needed may take on a volume of this size. Unit: bytes. While they are written anew they are
/// there four times at the most, and what neither the journal's share nor its reserve takes has room for that.
fn key_log_bytes(size_limit_bytes: u64) -> u64 {
    let rest = size_limit_bytes / 100 * (100 - JOURNAL_SHARE_PERCENT);
    (rest.saturating_sub(JOURNAL_RESERVE_BYTES) / 4).min(KEYS_MAX as u64 * KEY_DISK_BYTES)
}

/// The header of the file that is begun when a journal is opened: always in a new epoch, so that no two processes
/// begin segments of one name, whatever was copied or put back.
fn next_header(recovered: &Recovered) -> LogHeader {
    LogHeader {
        journal: recovered.newest.as_ref().map_or_else(rand::random, |newest| newest.journal),
        epoch: rand::random(),
        file: recovered.newest.as_ref().map_or(1, |newest| newest.file + 1),
        first_sequence: recovered.next_sequence,
        first_segment: recovered.next_segment,
        previous_bytes: recovered.files.last().map_or(0, |(_, bytes)| *bytes),
        anew_bytes: 0,
        salt: rand::random(),
    }
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of lower-case or upper-case hex; none if it is no hex of this length.
pub fn bytes_of_hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let pair = |at: usize| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok();
    if text.len() != LENGTH * 2 || !text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..LENGTH).map(pair).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests;
