//! What a journal holds when it is opened.
//!
//! Owns: reading every log file once, oldest first, in the memory of one frame; cutting a torn tail; setting
//! damage aside. Does not own: writing anything else.
//!
//! A tail that breaks off in the last file was never acknowledged (an acknowledgement waits for `fdatasync`) and is
//! cut. Anything else that is no frame, and a frame that holds and cannot be used, is damage: its bytes are copied to
//! `damaged/`, what stands before and behind it is kept, and the caller is told. Damage without a usable frame in
//! between is one place.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use tracing::{error, info};

use crate::journal::batch::Batch;
use crate::journal::control::{Plan, SchemaFrame, Seal};
use crate::journal::directory::{
    JournalDirectory, cut_file, fsync_directory, log_path, make_private_directory, settle_file,
};
use crate::journal::error::JournalError;
use crate::journal::frame::{FrameHeader, FrameKind, LogHeader};
use crate::journal::keys::{KeyName, KeyedBatch};
use crate::journal::reader::{Entry, LogReader};
use crate::journal::reserve::Reserve;
use crate::journal::segment::{Contents, Position, SegmentEvent, SegmentState};
use crate::limits::KEYS_MAX;
use crate::schema::{Fingerprint, Schema};
use crate::seeded::{self, Bug};

/// The folder of what was set aside, in the journal's directory.
pub const ASIDE_FOLDER: &str = "damaged";

/// A segment that was found.
#[derive(Clone, Debug)]
pub struct RecoveredSegment {
    /// What it holds.
    pub contents: Contents,
    /// How far it had come.
    pub state: SegmentState,
}

impl RecoveredSegment {
    /// Records that its seal counts and that are not there.
    pub fn lacking_rows(&self) -> u64 {
        self.state.seal().map_or(0, |seal| seal.rows.saturating_sub(self.contents.rows))
    }
}

/// A segment of which something is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialSegment {
    /// Its number in its journal.
    pub number: u64,
    /// The epoch in which it was begun; that of the file in which its seal was found, where nothing else is there.
    pub epoch: u64,
    /// Its table.
    pub table: String,
    /// Records that its seal counts; without a seal those that are there.
    pub rows: u64,
    /// Whether it has a seal.
    pub is_sealed: bool,
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
    /// Segments that are sealed and not retired, and of which nothing else is there.
    pub sealed_alone: Vec<PartialSegment>,
    /// The keys of their batches, oldest first.
    pub keys: Vec<(KeyName, KeyedBatch)>,
    /// Keys that were left out because there are more than `KEYS_MAX`.
    pub keys_evicted: u64,
    /// Places where bytes were no frames or frames could not be used, and files that have lost their end.
    pub damaged: u64,
}

/// Reads the whole journal. On a full volume, setting damage aside takes the reserve.
///
/// # Errors
/// A file cannot be read, or is of a later version, or is missing from the sequence: nothing was changed then.
pub fn recover(directory: &JournalDirectory, reserve: &mut Reserve) -> Result<Recovered, JournalError> {
    let numbers = directory.log_files()?;
    let mut scan = Scan::of(directory.path(), &numbers, reserve);
    let mut newest: Option<LogHeader> = None;
    let mut files = Vec::new();
    for number in &numbers {
        if numbers.last() == Some(number) && !seeded::is(Bug::ReadUnsynced) {
            // A frame whose process was killed in the middle of its sync is answered for from now on.
            let path = log_path(directory.path(), *number);
            settle_file(&path).map_err(|source| JournalError::WriteLog { path, source })?;
        }
        let mut log = LogReader::open(directory.path(), *number)?;
        check_order(&log, *number, newest.as_ref())?;
        if let Some(before) = &newest {
            scan.compare_length(before, log.header(), files.last().map_or(0, |(_, end)| *end));
        }
        newest = Some(log.header().clone());
        scan.next_sequence = scan.next_sequence.max(log.header().first_sequence);
        scan.next_segment = scan.next_segment.max(log.header().first_segment);
        let end = scan.read_log(&mut log)?;
        files.push((*number, end));
    }
    Ok(Recovered {
        newest,
        files,
        next_sequence: scan.next_sequence,
        next_segment: scan.next_segment,
        sealed_alone: scan.sealed_alone.into_values().collect(),
        keys: scan.keys.into_values().flatten().collect(),
        keys_evicted: scan.keys_evicted,
        segments: scan.segments.into_values().collect(),
        damaged: scan.damaged,
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
#[derive(Debug)]
struct Scan<'a> {
    directory: &'a Path,
    /// Numbers of all log files, oldest first.
    files: &'a [u64],
    reserve: &'a mut Reserve,
    schemas: HashMap<Fingerprint, Schema>,
    /// Whether `schemas` has those of the later files too.
    has_later_schemas: bool,
    segments: BTreeMap<u64, RecoveredSegment>,
    /// Segments whose seal was read and no batch of them: their batches went with older files, and they are retired further
    /// on, or they are lost.
    sealed_alone: BTreeMap<u64, PartialSegment>,
    /// The keys of segments that are not retired, by segment, and how many there are.
    keys: BTreeMap<u64, VecDeque<(KeyName, KeyedBatch)>>,
    keys_count: usize,
    keys_evicted: u64,
    next_sequence: u64,
    next_segment: u64,
    damaged: u64,
}

/// What stands at a place of a log file.
enum Found {
    /// A frame that was taken in.
    Taken,
    /// A frame that holds, whose payload is of no use; the reader stands at its end.
    Useless,
    /// Bytes that are no frame, or one whose payload is not what was written.
    Broken,
    /// The end of what was written.
    End,
}

/// Bytes of a log file without a usable frame among them. Unit: bytes, each an offset in the file.
#[derive(Clone, Copy, Debug)]
struct Damage {
    start: u64,
    /// Where the broken bytes at its end begin: what is in front of them was written whole, so it is no torn tail.
    broken_start: u64,
    end: u64,
}

impl<'a> Scan<'a> {
    fn of(directory: &'a Path, files: &'a [u64], reserve: &'a mut Reserve) -> Self {
        Self {
            directory,
            files,
            reserve,
            schemas: HashMap::new(),
            has_later_schemas: false,
            segments: BTreeMap::new(),
            sealed_alone: BTreeMap::new(),
            keys: BTreeMap::new(),
            keys_count: 0,
            keys_evicted: 0,
            next_sequence: 1,
            next_segment: 1,
            damaged: 0,
        }
    }

    /// Compares the end of the file before with what the next one's header says of it, or its own if it was written anew: a
    /// file that ends early between two frames has no damage that could be seen in it.
    fn compare_length(&mut self, before: &LogHeader, next: &LogHeader, end: u64) {
        let expected = next.length_of(before);
        if end < expected {
            self.damaged += 1;
            let path = log_path(self.directory, before.file);
            error!(path = %path.display(), bytes = end, expected, "a log file has lost its end");
        }
    }

    /// Reads one log file and answers where its frames end.
    fn read_log(&mut self, log: &mut LogReader) -> Result<u64, JournalError> {
        let is_last = self.files.last() == Some(&log.header().file);
        let mut damage: Option<Damage> = None;
        loop {
            let start = log.offset();
            let found = self.read_entry(log)?;
            let end = match found {
                Found::Taken => {
                    self.set_aside(log, damage.take())?;
                    continue;
                }
                Found::End => {
                    self.set_aside(log, damage)?;
                    return Ok(start);
                }
                Found::Useless => log.offset(),
                Found::Broken => match log.end_of_damage(start)?.filter(|_| !seeded::is(Bug::DamageEndsTheLog)) {
                    Some(end) => end,
                    None if is_last => return self.cut_tail(log, damage, start),
                    None => log.file_bytes(),
                },
            };
            let damage = damage.get_or_insert(Damage { start, broken_start: start, end });
            damage.end = end;
            if matches!(found, Found::Useless) {
                damage.broken_start = end;
            }
            log.seek(end)?;
        }
    }

    fn read_entry(&mut self, log: &mut LogReader) -> Result<Found, JournalError> {
        let start = log.offset();
        let frame = match log.next_entry()? {
            Entry::End => return Ok(Found::End),
            Entry::Damaged => return Ok(Found::Broken),
            Entry::Frame(frame) => frame,
        };
        // The header holds, so its numbers were given and are not given again, whatever became of the payload.
        self.next_sequence = self.next_sequence.max(frame.sequence + 1);
        self.next_segment = self.next_segment.max(frame.segment + 1);
        let Some(payload) = log.payload(&frame)? else { return Ok(Found::Broken) };
        let taken = self.take_frame(log.header(), &frame, payload, start, log.offset())?;
        Ok(if taken { Found::Taken } else { Found::Useless })
    }

    /// Cuts the broken bytes at the end of the last file, sets aside what was whole in front of them, and answers
    /// where the file ends now.
    fn cut_tail(&mut self, log: &LogReader, damage: Option<Damage>, start: u64) -> Result<u64, JournalError> {
        let length = damage.map_or(start, |damage| damage.broken_start);
        self.set_aside(log, damage.map(|damage| Damage { end: length, ..damage }))?;
        cut_file(log.path(), length)
            .map_err(|source| JournalError::WriteLog { path: log.path().to_owned(), source })?;
        info!(path = %log.path().display(), offset = length, bytes = log.file_bytes() - length, "cut a torn tail");
        Ok(length)
    }

    /// Copies damaged bytes to a file of their own.
    fn set_aside(&mut self, log: &LogReader, damage: Option<Damage>) -> Result<(), JournalError> {
        let Some(Damage { start, end, .. }) = damage.filter(|damage| damage.start < damage.end) else {
            return Ok(());
        };
        let copied = self.reserve.give_up_for(|| copy_aside(self.directory, log.header().file, start, end));
        copied.map_err(|source| JournalError::ReadLog { path: log.path().to_owned(), source })?;
        self.damaged += 1;
        error!(path = %log.path().display(), offset = start, bytes = end - start, "set damaged bytes aside");
        Ok(())
    }

    /// Takes in one frame; false if its payload cannot be used.
    fn take_frame(
        &mut self,
        log: &LogHeader,
        frame: &FrameHeader,
        payload: Bytes,
        start: u64,
        end: u64,
    ) -> Result<bool, JournalError> {
        match frame.kind {
            FrameKind::Schema => Ok(self.take_schema(&payload)),
            FrameKind::Batch => self.take_batch(log, frame, payload, start, end),
            FrameKind::Seal => match serde_json::from_slice::<Seal>(&payload) {
                Ok(seal) => self.take_seal(log.epoch, frame.segment, seal),
                Err(_) => Ok(false),
            },
            FrameKind::Plan => match serde_json::from_slice::<Plan>(&payload) {
                Ok(plan) => self.take_plan(log.epoch, frame.segment, plan),
                Err(_) => Ok(false),
            },
            FrameKind::Retire => self.retire(frame.segment),
            FrameKind::Keys | FrameKind::Unknown(_) => Ok(false),
        }
    }

    fn take_schema(&mut self, payload: &[u8]) -> bool {
        let Some(SchemaFrame { schema }) = SchemaFrame::decode(payload) else { return false };
        self.schemas.insert(schema.fingerprint(), schema);
        true
    }

    fn take_batch(
        &mut self,
        log: &LogHeader,
        frame: &FrameHeader,
        payload: Bytes,
        start: u64,
        end: u64,
    ) -> Result<bool, JournalError> {
        let Ok(batch) = Batch::decode(payload) else { return Ok(false) };
        if !self.schemas.contains_key(&batch.schema) {
            self.read_later_schemas(log.file)?;
        }
        let Some(schema) = self.schemas.get(&batch.schema) else { return Ok(false) };
        let start = Position { file: log.file, offset: start };
        let segment = self.segments.entry(frame.segment).or_insert_with(|| RecoveredSegment {
            contents: Contents::begin(frame.segment, log.epoch, start, frame.sequence, &batch),
            state: SegmentState::Open,
        });
        segment.contents.add(frame.sequence, Position { file: log.file, offset: end }, &batch, schema);
        let keyed = KeyedBatch::of(&batch, frame.sequence, frame.segment, segment.contents.epoch);
        if let Some(keyed) = keyed.filter(|_| !seeded::is(Bug::ForgetKeysOnReplay)) {
            self.take_key(frame.segment, keyed);
        }
        Ok(true)
    }

    fn take_key(&mut self, segment: u64, keyed: (KeyName, KeyedBatch)) {
        self.keys.entry(segment).or_default().push_back(keyed);
        self.keys_count += 1;
        if self.keys_count > KEYS_MAX
            && let Some(mut oldest) = self.keys.first_entry()
        {
            oldest.get_mut().pop_front();
            if oldest.get().is_empty() {
                oldest.remove();
            }
            self.keys_count -= 1;
            self.keys_evicted += 1;
        }
    }

    /// Looks for schemas in the files behind `file`, once: a batch whose schema frame is damaged finds the same schema
    /// in a later file that has a batch of it.
    fn read_later_schemas(&mut self, file: u64) -> Result<(), JournalError> {
        if std::mem::replace(&mut self.has_later_schemas, true) {
            return Ok(());
        }
        for number in self.files.iter().filter(|number| **number > file) {
            let mut log = LogReader::open(self.directory, *number)?;
            loop {
                let start = log.offset();
                match log.next_entry()? {
                    Entry::Frame(frame) if frame.kind == FrameKind::Schema => {
                        if let Some(payload) = log.payload(&frame)? {
                            self.take_schema(&payload);
                        }
                    }
                    Entry::Frame(frame) => log.skip(&frame)?,
                    Entry::Damaged => {
                        let end = log.end_of_damage(start)?.unwrap_or(log.file_bytes());
                        log.seek(end)?;
                    }
                    Entry::End => break,
                }
            }
        }
        Ok(())
    }

    /// Moves a segment on. Frames of a segment whose batches went with an older log file are passed over.
    fn advance(&mut self, number: u64, event: SegmentEvent) -> Result<bool, JournalError> {
        if let Some(segment) = self.segments.get_mut(&number) {
            let state = std::mem::replace(&mut segment.state, SegmentState::Retired);
            segment.state = state.advance(event).map_err(|source| JournalError::Replay { segment: number, source })?;
        }
        Ok(true)
    }

    fn take_seal(&mut self, epoch: u64, number: u64, seal: Seal) -> Result<bool, JournalError> {
        if !self.segments.contains_key(&number) {
            let (table, rows) = (seal.table.clone(), seal.rows);
            self.sealed_alone.insert(number, PartialSegment { number, epoch, table, rows, is_sealed: true });
        }
        self.advance(number, SegmentEvent::Sealed(seal))
    }

    /// A plan carries its seal, so that a seal that was damaged is not missed.
    fn take_plan(&mut self, epoch: u64, number: u64, plan: Plan) -> Result<bool, JournalError> {
        let is_open = self.segments.get(&number).is_some_and(|segment| segment.state == SegmentState::Open);
        if is_open || !self.segments.contains_key(&number) {
            self.take_seal(epoch, number, plan.seal.clone())?;
        }
        self.advance(number, SegmentEvent::Planned(plan))
    }

    /// A retire frame says that everything before it has happened, whatever of it can still be read.
    fn retire(&mut self, number: u64) -> Result<bool, JournalError> {
        self.segments.remove(&number);
        self.sealed_alone.remove(&number);
        self.keys_count -= self.keys.remove(&number).map_or(0, |keys| keys.len());
        Ok(true)
    }
}

/// Copies the bytes of log file `number` from `start` to `end` to a file of their own, unless an earlier start did.
fn copy_aside(directory: &Path, number: u64, start: u64, end: u64) -> io::Result<()> {
    let folder = directory.join(ASIDE_FOLDER);
    make_private_directory(&folder)?;
    let path = folder.join(format!("{number:016x}-{start:016x}.bytes"));
    if fs::metadata(&path).is_ok_and(|copy| copy.len() == end - start) {
        return Ok(());
    }
    let mut input = File::open(log_path(directory, number))?;
    input.seek(SeekFrom::Start(start))?;
    let mut copy = File::create(&path)?;
    io::copy(&mut input.take(end - start), &mut copy)?;
    copy.sync_all()?;
    fsync_directory(&folder)
}
