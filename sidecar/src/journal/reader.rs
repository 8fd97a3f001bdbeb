//! Reading frames back.
//!
//! Owns: walking a log file frame by frame, and the batches of one segment among those of others.
//! Does not own: what frames mean for a journal as a whole (`recovery`).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::journal::batch::Batch;
use crate::journal::directory::log_path;
use crate::journal::error::JournalError;
use crate::journal::frame::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, FrameStart, LOG_HEADER_BYTES, LogHeader, LogHeaderFault,
};
use crate::journal::segment::{Contents, Position};
use crate::schema::Fingerprint;

/// How much of a log file is read at once. Unit: bytes.
const READ_BYTES: usize = 256 << 10;

/// A log file, read from its start or from a position.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    input: BufReader<File>,
    header: LogHeader,
    offset: u64,
    file_bytes: u64,
}

/// What stands at the reader's position.
#[derive(Debug)]
pub enum Entry {
    /// A frame whose header holds; the payload has not been read.
    Frame(FrameHeader),
    /// The end of the file, or of what was written of it.
    End,
    /// Bytes that are no frame.
    Damaged,
}

impl LogReader {
    /// Opens log file `number` behind its header.
    ///
    /// # Errors
    /// It cannot be read, has an unknown version or a damaged head.
    pub fn open(directory: &Path, number: u64) -> Result<Self, JournalError> {
        let path = log_path(directory, number);
        let failed = |source| JournalError::ReadLog { path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        let file_bytes = file.metadata().map_err(failed)?.len();
        let mut input = BufReader::with_capacity(READ_BYTES, file);
        let mut head = Vec::with_capacity(LOG_HEADER_BYTES);
        input.by_ref().take(LOG_HEADER_BYTES as u64).read_to_end(&mut head).map_err(failed)?;
        match LogHeader::decode(&head) {
            Ok(header) => Ok(Self { path, input, header, offset: LOG_HEADER_BYTES as u64, file_bytes }),
            Err(LogHeaderFault::UnknownVersion(version)) => Err(JournalError::UnknownVersion { path, version }),
            Err(LogHeaderFault::Damaged) => Err(JournalError::DamagedLog { path }),
        }
    }

    /// The file's header.
    pub fn header(&self) -> &LogHeader {
        &self.header
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of what the next call reads. Unit: bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the file. Unit: bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Goes to an offset at which a frame begins.
    pub fn seek(&mut self, offset: u64) -> Result<(), JournalError> {
        let distance = i64::try_from(offset).ok().zip(i64::try_from(self.offset).ok()).map(|(to, from)| to - from);
        let moved = match distance {
            Some(distance) => self.input.seek_relative(distance),
            None => self.input.seek(SeekFrom::Start(offset)).map(|_| ()),
        };
        moved.map_err(|source| self.failed(source))?;
        self.offset = offset;
        Ok(())
    }

    /// Reads the header at the position and stays in front of the payload.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_entry(&mut self) -> Result<Entry, JournalError> {
        let mut head = Vec::with_capacity(FRAME_HEADER_BYTES);
        let taken = self.input.by_ref().take(FRAME_HEADER_BYTES as u64).read_to_end(&mut head);
        taken.map_err(|source| self.failed(source))?;
        let entry = match FrameHeader::decode(&head, self.header.salt) {
            FrameStart::Header(frame) if self.offset + frame.frame_bytes() <= self.file_bytes => {
                self.offset += FRAME_HEADER_BYTES as u64;
                return Ok(Entry::Frame(frame));
            }
            FrameStart::Unwritten if self.is_last_written()? => Entry::End,
            FrameStart::Header(_) | FrameStart::Unwritten | FrameStart::Damaged => Entry::Damaged,
        };
        let unread = i64::try_from(head.len()).expect("a frame header is short");
        self.input.seek_relative(-unread).map_err(|source| self.failed(source))?;
        Ok(entry)
    }

    /// Whether no frame stands behind the position. Disk is reserved without making the file longer, so that zeroes before
    /// its end are rare, and frames behind them are there only if something has destroyed those in front.
    fn is_last_written(&self) -> Result<bool, JournalError> {
        if self.offset == self.file_bytes {
            return Ok(true);
        }
        let next = find_frame(self.input.get_ref(), &self.header, self.offset);
        Ok(next.map_err(|source| self.failed(source))?.is_none())
    }

    /// Reads the payload of the frame whose header was just read; none if its checksum does not hold.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn payload(&mut self, frame: &FrameHeader) -> Result<Option<Bytes>, JournalError> {
        let mut payload = vec![0; frame.payload_bytes as usize];
        self.input.read_exact(&mut payload).map_err(|source| self.failed(source))?;
        self.offset += u64::from(frame.payload_bytes);
        Ok(frame.matches(&payload, self.header.salt).then(|| payload.into()))
    }

    /// Passes over the payload of the frame whose header was just read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn skip(&mut self, frame: &FrameHeader) -> Result<(), JournalError> {
        self.seek(self.offset + u64::from(frame.payload_bytes))
    }

    /// Where frames go on behind `start`, at which stands none that holds; none if they do not. Recovery and
    /// [`SegmentReader`] both go by this, so that they pass over the same bytes. Leaves the position open.
    ///
    /// A frame whose header holds tells its length, so what follows it is tried before anything is searched.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn end_of_damage(&mut self, start: u64) -> Result<Option<u64>, JournalError> {
        self.seek(start)?;
        if let Entry::Frame(frame) = self.next_entry()? {
            self.skip(&frame)?;
            let end = self.offset;
            if end == self.file_bytes {
                return Ok(None);
            }
            if matches!(self.next_entry()?, Entry::Frame(_)) {
                return Ok(Some(end));
            }
        }
        find_frame(self.input.get_ref(), &self.header, start + 1).map_err(|source| self.failed(source))
    }

    /// Whether a whole frame stands at `start`. Leaves the position open.
    fn holds(&mut self, start: u64) -> Result<bool, JournalError> {
        self.seek(start)?;
        match self.next_entry()? {
            Entry::Frame(frame) => Ok(self.payload(&frame)?.is_some()),
            Entry::End | Entry::Damaged => Ok(false),
        }
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::ReadLog { path: self.path.clone(), source }
    }
}

/// The batches of one segment, oldest first.
#[derive(Debug)]
pub struct SegmentReader {
    directory: PathBuf,
    segment: u64,
    /// Schemas that its batches are decoded with; a batch with another one was set aside at recovery.
    schemas: HashSet<Fingerprint>,
    end_exclusive: Position,
    log: LogReader,
    file: u64,
    /// Where the frame in front of the position begins, if it was passed over without a look at its payload.
    unread_start: Option<u64>,
}

impl SegmentReader {
    /// Reads the segment `contents` in the journal at `directory`.
    ///
    /// # Errors
    /// Its first log file cannot be read.
    pub fn open(directory: &Path, contents: &Contents) -> Result<Self, JournalError> {
        let file = contents.start_inclusive.file;
        let mut log = LogReader::open(directory, file)?;
        // In a file that was written anew every frame stands in front of where it stood, so that no place in it is behind
        // the end of the segment.
        if log.header().anew_bytes == 0 {
            log.seek(contents.start_inclusive.offset)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            segment: contents.number,
            schemas: contents.schemas.keys().copied().collect(),
            end_exclusive: contents.end_exclusive,
            log,
            file,
            unread_start: None,
        })
    }

    /// The next batch and its sequence, or the end. What was set aside at recovery is passed over.
    ///
    /// # Errors
    /// A log file cannot be read.
    pub fn next_batch(&mut self) -> Result<Option<(u64, Batch)>, JournalError> {
        loop {
            let start = self.log.offset();
            if (Position { file: self.file, offset: start }) >= self.end_exclusive {
                return Ok(None);
            }
            match self.log.next_entry()? {
                Entry::Frame(frame) if frame.kind == FrameKind::Batch && frame.segment == self.segment => {
                    let Some(payload) = self.log.payload(&frame)? else {
                        self.pass_damage(start)?;
                        continue;
                    };
                    self.unread_start = None;
                    let batch = Batch::decode(payload).ok();
                    if let Some(batch) = batch.filter(|batch| self.schemas.contains(&batch.schema)) {
                        return Ok(Some((frame.sequence, batch)));
                    }
                }
                Entry::Frame(frame) => {
                    self.log.skip(&frame)?;
                    self.unread_start = Some(start);
                }
                Entry::End => {
                    self.file += 1;
                    if self.file > self.end_exclusive.file {
                        return Ok(None);
                    }
                    self.log = LogReader::open(&self.directory, self.file)?;
                    self.unread_start = None;
                }
                Entry::Damaged => {
                    // Recovery read every payload: where one did not hold it looked for a frame from there on.
                    let damage = match self.unread_start {
                        Some(unread) if !self.log.holds(unread)? => unread,
                        Some(_) | None => start,
                    };
                    self.pass_damage(damage)?;
                }
            }
        }
    }

    fn pass_damage(&mut self, start: u64) -> Result<(), JournalError> {
        let end = self.log.end_of_damage(start)?.unwrap_or(self.log.file_bytes());
        self.unread_start = None;
        self.log.seek(end)
    }
}

/// Offset of the first whole frame, header and payload, at or behind `from` in a damaged log file.
fn find_frame(file: &File, header: &LogHeader, from: u64) -> io::Result<Option<u64>> {
    let mut window = vec![0; READ_BYTES];
    let mut start = from;
    loop {
        let length = read_up_to(file, &mut window, start)?;
        let bytes = &window[..length];
        // A header that the window cuts off is looked at in the next one, which begins with it.
        let is_last = length < READ_BYTES;
        let looked_at = if is_last { length } else { length - (FRAME_HEADER_BYTES - 1) };
        let mut at = 0;
        while let Some(found) = super::frame::find_marker(bytes, at).filter(|found| *found < looked_at) {
            let offset = start + found as u64;
            if let FrameStart::Header(frame) = FrameHeader::decode(&bytes[found..], header.salt)
                && payload_holds(file, header, &frame, offset)?
            {
                return Ok(Some(offset));
            }
            at = found + 1;
        }
        if is_last {
            return Ok(None);
        }
        start += looked_at as u64;
    }
}

/// Whether the payload of the frame at `offset` is what was written.
fn payload_holds(file: &File, header: &LogHeader, frame: &FrameHeader, offset: u64) -> io::Result<bool> {
    let mut payload = vec![0; frame.payload_bytes as usize];
    match file.read_exact_at(&mut payload, offset + FRAME_HEADER_BYTES as u64) {
        Ok(()) => Ok(frame.matches(&payload, header.salt)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Fills `buffer` from `offset` on and answers how much of it the file had.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
