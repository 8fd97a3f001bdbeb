//! Group commit: one thread writes the journal, and one `fdatasync` serves every request that waits.
//!
//! Owns: the order of frames, the numbers of segments, which segment is open for a table, the journal's size, when
//! a log file is begun, written anew and removed. Upholds I1: an append is answered after its `fdatasync`, never before.
//! Does not own: when a segment is sealed (`flush`), what is in the lake.
//!
//! The thread takes the command that waits longest and whatever else waits by then (at most
//! `COMMIT_GROUP_FRAMES_MAX`), writes all of it with one write and one `fdatasync`, and answers all of it. A single
//! client never waits for company; while one sync runs, the next group gathers behind it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::clock::SharedClock;
use crate::journal::anew::{Anew, Needed, write_anew};
use crate::journal::batch::Batch;
use crate::journal::busy::Busy;
use crate::journal::control::{Plan, Seal, SealReason, Settled};
use crate::journal::directory::{JournalDirectory, fsync_directory, log_path};
use crate::journal::error::{AppendError, JournalError};
use crate::journal::frame::{FRAME_HEADER_BYTES, FrameKind, LogHeader};
use crate::journal::key_log::KeyLog;
use crate::journal::keys::{KeyClaim, KeyedBatch, Keys};
use crate::journal::old_files::OldFiles;
use crate::journal::reserve::Reserve;
use crate::journal::schemas::WaitingSchemas;
use crate::journal::segment::Contents;
use crate::journal::view::{JournalView, OpenSegment, SealedSegment};
use crate::journal::writer::LogWriter;
use crate::limits::{
    COMMIT_GROUP_FRAMES_MAX, JOURNAL_CROWDED_PARTS, LOG_ANEW_PARTS, LOG_ANEW_PAUSE_PARTS, LOG_FILES_ANEW_MAX,
    WAITING_SCHEMA_FIELDS_MAX,
};
use crate::metrics::Metrics;
use crate::schema::Schema;
use crate::seeded::{self, Bug};

/// A batch was journaled and survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its sequence.
    pub sequence: u64,
    /// The segment that it is part of.
    pub segment: u64,
    /// The epoch in which that segment was begun.
    pub epoch: u64,
}

/// A segment that takes no more batches.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// What it holds.
    pub contents: Arc<Contents>,
    /// Its seal.
    pub seal: Seal,
}

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, AppendError>>;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Journal a batch.
    Append {
        /// The batch.
        batch: Box<Batch>,
        /// Its schema.
        schema: Schema,
        /// Its key, which is the request's alone until then.
        claim: Option<KeyClaim>,
        /// The answer.
        reply: Reply<Appended>,
    },
    /// Seal a segment, if it is still open.
    Seal {
        /// The segment.
        segment: u64,
        /// Why.
        reason: SealReason,
        /// The sealed segment; none if it was not open.
        reply: Reply<Option<Sealed>>,
    },
    /// Write a plan.
    Plan {
        /// The segment.
        segment: u64,
        /// The plan.
        plan: Box<Plan>,
        /// The answer.
        reply: Reply<()>,
    },
    /// Retire a segment.
    Retire {
        /// The segment.
        segment: u64,
        /// What it became.
        settled: Arc<Settled>,
        /// The answer.
        reply: Reply<()>,
    },
}

/// An answer that waits for the sync of its group.
enum Pending {
    Append(Reply<Appended>, Appended, Option<(KeyClaim, KeyedBatch)>, u32),
    Seal(Reply<Option<Sealed>>, Option<Sealed>),
    Done(Reply<()>),
}

/// The journal's thread.
pub(super) struct Committer {
    pub(super) directory: JournalDirectory,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) view: watch::Sender<Arc<JournalView>>,
    pub(super) failed: watch::Sender<bool>,
    pub(super) busy: Arc<Busy>,
    pub(super) log: LogWriter,
    pub(super) reserve: Reserve,
    /// Each log file but the newest.
    pub(super) old_files: OldFiles,
    pub(super) next_sequence: u64,
    pub(super) next_segment: u64,
    pub(super) open: HashMap<String, Contents>,
    pub(super) sealed: BTreeMap<u64, SealedSegment>,
    pub(super) schemas: WaitingSchemas,
    pub(super) keys: Keys,
    pub(super) key_log: KeyLog,
    /// Length of what was set aside. Unit: bytes.
    pub(super) aside_bytes: u64,
    /// Most that the journal's files may take. Unit: bytes.
    pub(super) cap_bytes: u64,
    pub(super) log_file_bytes: u64,
    /// Whether a batch was refused since it was last looked for what could be given back.
    pub(super) is_short: bool,
}

impl Committer {
    /// Serves commands until every handle is gone.
    pub(super) fn run(mut self) {
        let mut group = Vec::new();
        while let Some(first) = self.commands.blocking_recv() {
            group.push(first);
            while group.len() < COMMIT_GROUP_FRAMES_MAX
                && let Ok(command) = self.commands.try_recv()
            {
                group.push(command);
            }
            if *self.failed.borrow() {
                group.drain(..).for_each(|command| command.refuse(&AppendError::Failed));
            } else {
                self.busy.begin(self.clock.monotonic());
                self.commit(&mut group);
                self.busy.end();
            }
        }
    }

    /// Writes a group, syncs it, answers it.
    fn commit(&mut self, group: &mut Vec<Command>) {
        let mut pending = Vec::with_capacity(group.len());
        let mut retired = false;
        let mut outcome = Ok(());
        for command in group.drain(..) {
            if outcome.is_err() {
                command.refuse(&AppendError::Failed);
                continue;
            }
            outcome = self.rotate_if_full();
            if outcome.is_err() {
                command.refuse(&AppendError::Failed);
                continue;
            }
            retired |= matches!(command, Command::Retire { .. });
            match self.gather(command) {
                Ok(gathered) => pending.extend(gathered),
                Err(error) => outcome = Err(error),
            }
        }
        let outcome = outcome.and_then(|()| self.timed_sync());
        let outcome = outcome.and_then(|()| if retired { self.remove_retired_files() } else { Ok(()) });
        if retired {
            self.reserve.try_hold();
        }
        match outcome {
            Ok(()) => {
                self.publish_view();
                pending.into_iter().for_each(|pending| pending.succeed(&self.metrics));
                if (retired || std::mem::take(&mut self.is_short))
                    && let Err(error) = self.write_some_anew()
                {
                    self.fail(&error);
                }
            }
            Err(error) => {
                self.fail(&error);
                pending.into_iter().for_each(|pending| pending.fail(&AppendError::Unknown));
            }
        }
    }

    fn fail(&self, error: &JournalError) {
        error!(error = %crate::error_chain(error), "journal failed; the process ends and recovers from what is on disk");
        self.failed.send_replace(true);
    }

    fn timed_sync(&mut self) -> Result<(), JournalError> {
        let start = self.clock.monotonic();
        self.log.sync()?;
        self.metrics.journal_sync_seconds.observe((self.clock.monotonic() - start).as_secs_f64());
        Ok(())
    }

    /// Gathers a command's frames; what needs none, or cannot be taken, is answered at once.
    fn gather(&mut self, command: Command) -> Result<Option<Pending>, JournalError> {
        Ok(match command {
            Command::Append { batch, schema, claim, reply } => match self.append(&batch, &schema) {
                Ok(appended) => {
                    let Appended { sequence, segment, epoch } = appended;
                    let keyed = KeyedBatch::of(&batch, sequence, segment, epoch).map(|(_, keyed)| keyed);
                    Some(Pending::Append(reply, appended, claim.zip(keyed), batch.rows))
                }
                Err(error) => {
                    // Before the answer, after which the key may come again.
                    drop(claim);
                    let _ = reply.send(Err(error));
                    None
                }
            },
            Command::Seal { segment, reason, reply } => Some(Pending::Seal(reply, self.seal(segment, reason))),
            Command::Plan { segment, plan, reply } => {
                let payload = serde_json::to_vec(&*plan).expect("a plan is plain data");
                self.push(FrameKind::Plan, segment, &payload);
                Some(Pending::Done(reply))
            }
            Command::Retire { segment, settled, reply } => {
                // Before the frame after which the batches with the keys may go.
                self.keep_keys(segment, &settled)?;
                self.push(FrameKind::Retire, segment, b"{}");
                self.sealed.remove(&segment);
                self.old_files.release(segment);
                self.schemas.release(segment);
                Some(Pending::Done(reply))
            }
        })
    }

    /// Keeps the keys of a segment that is about to be retired; where there is no room it forgets them, and says so. Keys
    /// are for retries; a segment that is in the lake must be retired whatever they take.
    fn keep_keys(&mut self, segment: u64, settled: &Arc<Settled>) -> Result<(), JournalError> {
        let records = self.keys.settle(segment, settled);
        if seeded::is(Bug::NoKeyLog) || self.key_log.keep(&records, &self.keys)? {
            return Ok(());
        }
        let keys = self.keys.forget(&records);
        warn!(segment, keys, "forgot idempotency keys, since the key log has no room; a retry would be stored again");
        Ok(())
    }

    fn append(&mut self, batch: &Batch, schema: &Schema) -> Result<Appended, AppendError> {
        let schema_payload = match self.log.has_schema(batch.schema) {
            true => None,
            false => Some(super::control::SchemaFrame::encode(schema)),
        };
        let payload_bytes = batch.payload_bytes() + schema_payload.as_ref().map_or(0, Vec::len);
        let frame_bytes = (payload_bytes + 2 * FRAME_HEADER_BYTES) as u64;
        if self.size_bytes() + frame_bytes > self.cap_bytes {
            self.is_short = true;
            return Err(AppendError::Full { cap_bytes: self.cap_bytes });
        }
        if !self.schemas.has_room_for(batch.schema, schema) && self.has_waiting(&batch.table) {
            return Err(AppendError::TooManySchemas { fields_max: WAITING_SCHEMA_FIELDS_MAX });
        }
        // What the reserve is for comes first: without it a batch would take the space that retiring needs.
        if !self.reserve.try_hold() {
            return Err(AppendError::NoSpace);
        }
        self.log.reserve(frame_bytes).map_err(|_| AppendError::NoSpace)?;
        if let Some(payload) = schema_payload {
            self.log.push_schema(self.next_sequence, batch.schema, &payload);
            self.next_sequence += 1;
        }
        let (sequence, start) = (self.next_sequence, self.log.position());
        self.next_sequence += 1;
        let segment = match self.open.get_mut(&batch.table) {
            Some(segment) => segment,
            None => {
                let number = self.next_segment;
                self.next_segment += 1;
                let contents = Contents::begin(number, self.log.header().epoch, start, sequence, batch);
                self.open.entry(batch.table.clone()).or_insert(contents)
            }
        };
        self.log.push_batch(sequence, segment.number, batch);
        if !segment.schemas.contains_key(&batch.schema) {
            self.schemas.hold(segment.number, batch.schema, schema);
        }
        segment.add(sequence, self.log.position(), batch, schema);
        Ok(Appended { sequence, segment: segment.number, epoch: segment.epoch })
    }

    /// Whether something of the table waits for the lake. A table of which nothing does is not refused for what others have
    /// brought: it has one schema more, as each table may.
    fn has_waiting(&self, table: &str) -> bool {
        self.open.contains_key(table) || self.sealed.values().any(|segment| &*segment.table == table)
    }

    fn seal(&mut self, segment: u64, reason: SealReason) -> Option<Sealed> {
        let table = self.open.iter().find(|(_, open)| open.number == segment).map(|(table, _)| table.clone())?;
        let contents = Arc::new(self.open.remove(&table)?);
        let seal = contents.seal(self.clock.now().timestamp_micros(), reason);
        self.push_seal(segment, &seal);
        self.old_files.hold(segment, &contents.bytes_by_file);
        self.sealed.insert(segment, SealedSegment::of(&contents, self.log.position()));
        self.metrics.segments_sealed(reason.name()).inc();
        info!(
            segment,
            table,
            rows = contents.rows,
            bytes = contents.body_bytes,
            reason = reason.name(),
            "sealed segment"
        );
        Some(Sealed { contents, seal })
    }

    /// Gathers a seal's frame.
    pub(super) fn push_seal(&mut self, segment: u64, seal: &Seal) {
        let payload = serde_json::to_vec(seal).expect("a seal is plain data");
        self.push(FrameKind::Seal, segment, &payload);
    }

    /// Gathers a control frame. It is never refused: on a full volume it takes the reserve, and where that was not
    /// enough its write fails, the process ends, and nothing that was answered is lost.
    fn push(&mut self, kind: FrameKind, segment: u64, payload: &[u8]) {
        let frame_bytes = (FRAME_HEADER_BYTES + payload.len()) as u64;
        let log = &mut self.log;
        let _ = self.reserve.give_up_for(|| log.reserve_exactly(frame_bytes));
        self.log.push(kind, self.next_sequence, segment, payload);
        self.next_sequence += 1;
    }

    /// Begins the next log file when the newest is long enough; the old one is synced first.
    fn rotate_if_full(&mut self) -> Result<(), JournalError> {
        if self.log.position().offset < self.log_file_bytes { Ok(()) } else { self.rotate() }
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        self.timed_sync()?;
        self.log.give_back();
        let position = self.log.position();
        let header = LogHeader {
            file: position.file + 1,
            first_sequence: self.next_sequence,
            first_segment: self.next_segment,
            previous_bytes: position.offset,
            salt: rand::random(),
            ..self.log.header().clone()
        };
        self.log = LogWriter::create(self.directory.path(), header, Some(&mut self.reserve))?;
        self.old_files.push(position.file, position.offset);
        Ok(())
    }

    /// Removes log files, oldest first, up to the first one that a segment still needs: a later file may hold the
    /// seal and the plan of a segment whose batches lie in an earlier one. When no segment needs anything, the
    /// newest file is left behind too. What lies behind a file that is needed for long is written anew
    /// ([`Self::write_some_anew`]).
    pub(super) fn remove_retired_files(&mut self) -> Result<(), JournalError> {
        /// Below this a file that nothing needs is written on. Unit: bytes.
        const WORTH_REMOVING_BYTES: u64 = 1 << 20;
        if self.oldest_needed_file().is_none() && self.log.position().offset > WORTH_REMOVING_BYTES {
            self.rotate()?;
        }
        let needed = self.oldest_needed_file().unwrap_or(self.log.header().file);
        let mut removed = false;
        while let Some(file) = self.old_files.oldest().filter(|file| *file < needed) {
            let path = log_path(self.directory.path(), file);
            fs::remove_file(&path).map_err(|source| JournalError::WriteLog { path, source })?;
            self.old_files.remove_oldest();
            removed = true;
        }
        if removed {
            let path: PathBuf = self.directory.path().to_owned();
            fsync_directory(&path).map_err(|source| JournalError::WriteLog { path, source })?;
        }
        Ok(())
    }

    /// Writes old log files anew while that is worth it, a few at a time, so that those who wait for the next group do not wait
    /// for long.
    fn write_some_anew(&mut self) -> Result<(), JournalError> {
        let (mut files, mut copied) = (0, 0);
        while files < LOG_FILES_ANEW_MAX
            && copied < self.log_file_bytes / LOG_ANEW_PAUSE_PARTS
            && let Some(bytes) = self.write_one_anew()?
        {
            files += 1;
            copied += bytes;
        }
        if files > 0 {
            self.publish_view();
        }
        Ok(())
    }

    /// Writes the oldest log file anew that is worth it, once the journal is half full: without the frames of segments that
    /// are retired. Answers how much was copied, in bytes; none if there is nothing to do. Only after a sync: a segment whose
    /// retirement is not on disk is still needed.
    ///
    /// # Errors
    /// The new file has taken the place of the old one, and that may not be durable.
    pub(super) fn write_one_anew(&mut self) -> Result<Option<u64>, JournalError> {
        if self.size_bytes() < self.cap_bytes / JOURNAL_CROWDED_PARTS {
            return Ok(None);
        }
        let worth_bytes = self.log_file_bytes / LOG_ANEW_PARTS;
        let Some(worth) = self.old_files.worth_anew(self.open.values(), worth_bytes) else { return Ok(None) };
        let open = self.open.values().map(|contents| contents.number);
        let needed = Needed {
            segments: open.chain(self.sealed.keys().copied()).collect(),
            schemas: &self.schemas,
            retired_from: worth.retired_from,
        };
        match write_anew(self.directory.path(), &worth, &needed)? {
            Anew::Written { bytes } => {
                info!(
                    file = worth.file,
                    before = worth.bytes,
                    bytes,
                    "wrote a log file anew without what is in the lake"
                );
                self.old_files.was_written_anew(worth.file, bytes, worth.needed_bytes, self.next_sequence);
                Ok(Some(bytes))
            }
            Anew::Left => {
                self.old_files.leave(worth.file);
                Ok(Some(0))
            }
            Anew::NoRoom => Ok(None),
        }
    }

    fn oldest_needed_file(&self) -> Option<u64> {
        let open = self.open.values().map(|contents| contents.start_inclusive.file);
        let sealed = self.sealed.values().map(|segment| segment.start_file);
        open.chain(sealed).min()
    }

    /// What the journal takes of its volume, without its reserve. Unit: bytes.
    fn size_bytes(&self) -> u64 {
        self.old_files.size_bytes() + self.log.position().offset + self.key_log.size_bytes() + self.aside_bytes
    }

    pub(super) fn publish_view(&mut self) {
        let open = self.open.values().map(OpenSegment::of).collect();
        let view = JournalView {
            open,
            sealed: self.sealed.values().cloned().collect(),
            size_bytes: self.size_bytes(),
            cap_bytes: self.cap_bytes,
            end: self.log.position(),
        };
        self.view.send_replace(Arc::new(view));
    }
}

impl Command {
    fn refuse(self, error: &AppendError) {
        match self {
            Self::Append { reply, claim, .. } => {
                drop(claim);
                drop(reply.send(Err(error.clone())));
            }
            Self::Seal { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Plan { reply, .. } | Self::Retire { reply, .. } => drop(reply.send(Err(error.clone()))),
        }
    }
}

impl Pending {
    /// Whoever asked may be gone (a client that hung up); what was written stays all the same.
    fn succeed(self, metrics: &Metrics) {
        match self {
            Self::Append(reply, appended, keyed, rows) => {
                metrics.acknowledged_rows.inc_by(u64::from(rows));
                // Here and not by who asked, who may be gone: the batch is in the journal, and its key with it.
                if let Some((claim, batch)) = keyed {
                    claim.accepted(batch);
                }
                drop(reply.send(Ok(appended)));
            }
            Self::Seal(reply, sealed) => drop(reply.send(Ok(sealed))),
            Self::Done(reply) => drop(reply.send(Ok(()))),
        }
    }

    fn fail(self, error: &AppendError) {
        match self {
            Self::Append(reply, _, keyed, _) => {
                drop(keyed);
                drop(reply.send(Err(error.clone())));
            }
            Self::Seal(reply, _) => drop(reply.send(Err(error.clone()))),
            Self::Done(reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}
