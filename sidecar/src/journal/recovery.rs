//! What a journal holds when it is opened.
//!
//! Owns: reading every log file once, oldest first, in the memory of one frame; cutting a torn tail; setting
//! damage aside. Does not own: writing anything else.
//!
//! A tail that breaks off in the last file was never acknowledged (an acknowledgement waits for `fdatasync`) and is
//! cut. Anything else that is no frame is damage: its bytes are copied to `damaged/`, what stands before and behind
//! it is kept, and the caller is told.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use tracing::{error, info};

use crate::journal::batch::Batch;
use crate::journal::control::{Plan, SchemaFrame, Seal};
use crate::journal::directory::{JournalDirectory, fsync_directory, log_path, make_private_directory};
use crate::journal::error::JournalError;
use crate::journal::frame::{FrameHeader, FrameKind, LogHeader};
use crate::journal::reader::{Entry, LogReader, find_frame};
use crate::journal::segment::{Contents, Position, SegmentEvent, SegmentState};
use crate::schema::{Fingerprint, Schema};

/// A segment that was found.
#[derive(Clone, Debug)]
pub struct RecoveredSegment {
    /// What it holds.
    pub contents: Contents,
    /// How far it had come.
    pub state: SegmentState,
}

/// What a journal held.
#[derive(Debug)]
pub struct Recovered {
    /// Header of the newest log file; none if there is no file.
    pub newest: Option<LogHeader>,
    /// Each log file's number and length, oldest first.
    pub files: Vec<(u64, u64)>,
    /// The sequence of the next frame.
    pub next_sequence: u64,
    /// The number of the next segment.
    pub next_segment: u64,
    /// The segments that are not retired, oldest first.
    pub segments: Vec<RecoveredSegment>,
    /// Places where bytes were no frames.
    pub damaged: u64,
}

/// Reads the whole journal.
///
/// # Errors
/// A file cannot be read, or is of a later version, or is missing from the sequence: nothing was changed then.
pub fn recover(directory: &JournalDirectory) -> Result<Recovered, JournalError> {
    let numbers = directory.log_files()?;
    let mut scan = Scan::default();
    let mut newest: Option<LogHeader> = None;
    let mut files = Vec::new();
    for (place, number) in numbers.iter().enumerate() {
        let mut log = LogReader::open(directory.path(), *number)?;
        check_order(&log, *number, newest.as_ref())?;
        newest = Some(log.header().clone());
        scan.next_sequence = scan.next_sequence.max(log.header().first_sequence);
        scan.next_segment = scan.next_segment.max(log.header().first_segment);
        let end = scan.read_log(directory.path(), &mut log, place + 1 == numbers.len())?;
        files.push((*number, end));
    }
    let segments = scan.into_segments();
    Ok(Recovered {
        newest,
        files,
        next_sequence: segments.next_sequence,
        next_segment: segments.next_segment,
        segments: segments.live,
        damaged: segments.damaged,
    })
}

fn check_order(log: &LogReader, number: u64, before: Option<&LogHeader>) -> Result<(), JournalError> {
    let header = log.header();
    let reason = match before {
        _ if header.file != number => Some("its name is not its number"),
        Some(before) if header.journal != before.journal => Some("it belongs to another journal"),
        Some(before) if header.file != before.file + 1 => Some("a file between them is missing"),
        Some(_) | None => None,
    };
    match reason {
        Some(reason) => Err(JournalError::OutOfOrder { path: log.path().to_owned(), reason }),
        None => Ok(()),
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Scan {
    schemas: HashMap<Fingerprint, Schema>,
    segments: BTreeMap<u64, RecoveredSegment>,
    next_sequence: u64,
    next_segment: u64,
    damaged: u64,
}

/// A scan that is over.
struct Scanned {
    live: Vec<RecoveredSegment>,
    next_sequence: u64,
    next_segment: u64,
    damaged: u64,
}

impl Scan {
    /// Reads one log file and answers where its frames end.
    fn read_log(&mut self, directory: &Path, log: &mut LogReader, is_last: bool) -> Result<u64, JournalError> {
        loop {
            let start = log.offset();
            let frame = match log.next_entry()? {
                Entry::End => return Ok(start),
                Entry::Frame(frame) => frame,
                Entry::Damaged => {
                    if !self.pass_damage(directory, log, start, is_last)? {
                        return Ok(start);
                    }
                    continue;
                }
            };
            let intact = match log.payload(&frame)? {
                Some(payload) => self.take_frame(log.header(), &frame, payload, start, log.offset())?,
                None => false,
            };
            if !intact && !self.pass_damage(directory, log, start, is_last)? {
                return Ok(start);
            }
        }
    }

    /// Goes on behind bytes that are no frame; false if they are a torn tail, which is cut.
    fn pass_damage(
        &mut self,
        directory: &Path,
        log: &mut LogReader,
        start: u64,
        is_last: bool,
    ) -> Result<bool, JournalError> {
        let failed = |path: &Path, source| JournalError::ReadLog { path: path.to_owned(), source };
        let next = find_frame(log.path(), log.header(), start + 1).map_err(|source| failed(log.path(), source))?;
        if next.is_none() && is_last {
            cut_tail(log.path(), start).map_err(|source| failed(log.path(), source))?;
            info!(path = %log.path().display(), offset = start, bytes = log.file_bytes() - start, "cut a torn tail");
            return Ok(false);
        }
        let end = next.unwrap_or(log.file_bytes());
        set_aside(directory, log, start, end).map_err(|source| failed(log.path(), source))?;
        self.damaged += 1;
        error!(path = %log.path().display(), offset = start, bytes = end - start, "set damaged bytes aside");
        log.seek(end)?;
        Ok(true)
    }

    /// Takes in one frame; false if its payload cannot be what was written.
    fn take_frame(
        &mut self,
        log: &LogHeader,
        frame: &FrameHeader,
        payload: Bytes,
        start: u64,
        end: u64,
    ) -> Result<bool, JournalError> {
        let intact = match frame.kind {
            FrameKind::Schema => match SchemaFrame::decode(&payload) {
                Some(SchemaFrame { schema }) => {
                    self.schemas.insert(schema.fingerprint(), schema);
                    true
                }
                None => false,
            },
            FrameKind::Batch => self.take_batch(log, frame, payload, start, end),
            FrameKind::Seal => match serde_json::from_slice::<Seal>(&payload) {
                Ok(seal) => self.advance(frame.segment, SegmentEvent::Sealed(seal))?,
                Err(_) => false,
            },
            FrameKind::Plan => match serde_json::from_slice::<Plan>(&payload) {
                Ok(plan) => self.take_plan(frame.segment, plan)?,
                Err(_) => false,
            },
            FrameKind::Retire => self.retire(frame.segment)?,
        };
        if intact {
            self.next_sequence = self.next_sequence.max(frame.sequence + 1);
            self.next_segment = self.next_segment.max(frame.segment + 1);
        }
        Ok(intact)
    }

    fn take_batch(&mut self, log: &LogHeader, frame: &FrameHeader, payload: Bytes, start: u64, end: u64) -> bool {
        let Some((batch, schema)) = Batch::decode(payload)
            .ok()
            .and_then(|batch| self.schemas.get(&batch.schema).cloned().map(|schema| (batch, schema)))
        else {
            return false;
        };
        let start = Position { file: log.file, offset: start };
        let segment = self.segments.entry(frame.segment).or_insert_with(|| RecoveredSegment {
            contents: Contents::begin(frame.segment, log.epoch, start, frame.sequence, &batch),
            state: SegmentState::Open,
        });
        segment.contents.add(frame.sequence, Position { file: log.file, offset: end }, &batch, &schema);
        true
    }

    /// Moves a segment on. Frames of a segment whose batches went with an older log file are passed over.
    fn advance(&mut self, number: u64, event: SegmentEvent) -> Result<bool, JournalError> {
        if let Some(segment) = self.segments.get_mut(&number) {
            let state = std::mem::replace(&mut segment.state, SegmentState::Retired);
            segment.state = state.advance(event).map_err(|source| JournalError::Replay { segment: number, source })?;
        }
        Ok(true)
    }

    /// A plan carries its seal, so that a seal that was damaged is not missed.
    fn take_plan(&mut self, number: u64, plan: Plan) -> Result<bool, JournalError> {
        let is_open = self.segments.get(&number).is_some_and(|segment| segment.state == SegmentState::Open);
        if is_open {
            self.advance(number, SegmentEvent::Sealed(plan.seal.clone()))?;
        }
        self.advance(number, SegmentEvent::Planned(plan))
    }

    /// A retire frame says that everything before it has happened, whatever of it can still be read.
    fn retire(&mut self, number: u64) -> Result<bool, JournalError> {
        self.segments.remove(&number);
        Ok(true)
    }

    fn into_segments(self) -> Scanned {
        Scanned {
            live: self.segments.into_values().collect(),
            next_sequence: self.next_sequence.max(1),
            next_segment: self.next_segment.max(1),
            damaged: self.damaged,
        }
    }
}

/// Cuts a file and makes the cut durable.
fn cut_tail(path: &Path, length: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

/// Copies the bytes from `start` to `end` to a file of their own.
fn set_aside(directory: &Path, log: &LogReader, start: u64, end: u64) -> io::Result<()> {
    let folder = directory.join("damaged");
    make_private_directory(&folder)?;
    let mut input = File::open(log_path(directory, log.header().file))?;
    input.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    input.take(end - start).read_to_end(&mut bytes)?;
    let path = folder.join(format!("{:016x}-{start:016x}.bytes", log.header().file));
    fs::write(&path, bytes)?;
    File::open(&path)?.sync_all()?;
    fsync_directory(&folder)
}
