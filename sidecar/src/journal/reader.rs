//! Reading frames back.
//!
//! Owns: walking a log file frame by frame, and the batches of one segment among those of others.
//! Does not own: what frames mean for a journal as a whole (`recovery`).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::journal::batch::Batch;
use crate::journal::directory::log_path;
use crate::journal::error::JournalError;
use crate::journal::frame::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, FrameStart, LOG_HEADER_BYTES, LogHeader, LogHeaderFault,
};
use crate::journal::segment::{Contents, Position};

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
    /// The end of what was written.
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
            FrameStart::Unwritten => Entry::End,
            FrameStart::Header(_) | FrameStart::Damaged => Entry::Damaged,
        };
        let unread = i64::try_from(head.len()).expect("a frame header is short");
        self.input.seek_relative(-unread).map_err(|source| self.failed(source))?;
        Ok(entry)
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

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::ReadLog { path: self.path.clone(), source }
    }
}

/// The batches of one segment, oldest first.
#[derive(Debug)]
pub struct SegmentReader {
    directory: PathBuf,
    segment: u64,
    end_exclusive: Position,
    log: LogReader,
    file: u64,
}

impl SegmentReader {
    /// Reads the segment `contents` in the journal at `directory`.
    ///
    /// # Errors
    /// Its first log file cannot be read.
    pub fn open(directory: &Path, contents: &Contents) -> Result<Self, JournalError> {
        let file = contents.start_inclusive.file;
        let mut log = LogReader::open(directory, file)?;
        log.seek(contents.start_inclusive.offset)?;
        Ok(Self {
            directory: directory.to_owned(),
            segment: contents.number,
            end_exclusive: contents.end_exclusive,
            log,
            file,
        })
    }

    /// The next batch and its sequence, or the end. A damaged frame was set aside at recovery and is passed over.
    ///
    /// # Errors
    /// A log file cannot be read.
    pub fn next_batch(&mut self) -> Result<Option<(u64, Batch)>, JournalError> {
        loop {
            if (Position { file: self.file, offset: self.log.offset() }) >= self.end_exclusive {
                return Ok(None);
            }
            match self.log.next_entry()? {
                Entry::Frame(frame) if frame.kind == FrameKind::Batch && frame.segment == self.segment => {
                    let batch = self.log.payload(&frame)?.and_then(|payload| Batch::decode(payload).ok());
                    if let Some(batch) = batch {
                        return Ok(Some((frame.sequence, batch)));
                    }
                }
                Entry::Frame(frame) => self.log.skip(&frame)?,
                Entry::End => {
                    self.file += 1;
                    if self.file > self.end_exclusive.file {
                        return Ok(None);
                    }
                    self.log = LogReader::open(&self.directory, self.file)?;
                }
                Entry::Damaged => {
                    let offset = find_frame(self.log.path(), self.log.header(), self.log.offset() + 1)
                        .map_err(|source| JournalError::ReadLog { path: self.log.path().to_owned(), source })?
                        .unwrap_or(self.log.file_bytes());
                    self.log.seek(offset)?;
                }
            }
        }
    }
}

/// Offset of the first whole frame, header and payload, at or behind `from` in a damaged log file. The file is
/// read into memory: it has at most `LOG_FILE_BYTES` and one frame.
pub fn find_frame(path: &Path, header: &LogHeader, from: u64) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut at = 0;
    while let Some(found) = super::frame::find_marker(&bytes, at) {
        if let FrameStart::Header(frame) = FrameHeader::decode(&bytes[found..], header.salt) {
            let payload = bytes[found..].get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + frame.payload_bytes as usize);
            if payload.is_some_and(|payload| frame.matches(payload, header.salt)) {
                return Ok(Some(from + found as u64));
            }
        }
        at = found + 1;
    }
    Ok(None)
}
