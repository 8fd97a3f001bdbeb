//! Writing one log file.
//!
//! Owns: frames to bytes, space reserved ahead, `fdatasync`. Does not own: which frames, or when to go to the next
//! file (`commit`).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::journal::batch::Batch;
use crate::journal::directory::{fsync_directory, log_path, unfinished_path};
use crate::journal::error::JournalError;
use crate::journal::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, LOG_HEADER_BYTES, LogHeader};
use crate::journal::reserve::Reserve;
use crate::journal::segment::Position;
use crate::limits::LOG_RESERVE_BYTES;
use crate::schema::Fingerprint;
use crate::seeded::{self, Bug};

/// The log file that is written to. Frames are gathered in memory until [`LogWriter::sync`].
#[derive(Debug)]
pub struct LogWriter {
    file: File,
    path: PathBuf,
    header: LogHeader,
    /// Where the next frame begins, gathered frames included. Unit: bytes.
    end: u64,
    /// To where disk is reserved. Unit: bytes.
    reserved_end: u64,
    gathered: Vec<u8>,
    /// Schemas that stand in this file.
    schemas: HashSet<Fingerprint>,
}

/// Gathered bytes beyond which the buffer is given back after a sync. Unit: bytes.
const KEEP_BUFFER_BYTES: usize = 4 << 20;

impl LogWriter {
    /// Makes log file `header.file`. On a full volume it takes the reserve, if it is given it.
    ///
    /// # Errors
    /// The file cannot be made or synced.
    pub fn create(directory: &Path, header: LogHeader, reserve: Option<&mut Reserve>) -> Result<Self, JournalError> {
        let path = log_path(directory, header.file);
        let written = match reserve {
            Some(reserve) => reserve.give_up_for(|| create_file(directory, &path, &header)),
            None => create_file(directory, &path, &header),
        };
        let file = written.map_err(|source| JournalError::WriteLog { path: path.clone(), source })?;
        let end = LOG_HEADER_BYTES as u64;
        Ok(Self { file, path, header, end, reserved_end: end, gathered: Vec::new(), schemas: HashSet::new() })
    }

    /// The file's header.
    pub fn header(&self) -> &LogHeader {
        &self.header
    }

    /// Where the next frame begins.
    pub fn position(&self) -> Position {
        Position { file: self.header.file, offset: self.end }
    }

    /// Whether the schema stands in this file.
    pub fn has_schema(&self, schema: Fingerprint) -> bool {
        self.schemas.contains(&schema)
    }

    /// Makes sure that `bytes` more fit the volume, so that writing them does not fail halfway; where there is room,
    /// for later frames too.
    ///
    /// # Errors
    /// The volume has no space. A file system that cannot reserve counts as one that has space.
    pub fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let needed = self.end + bytes;
        if needed <= self.reserved_end {
            return Ok(());
        }
        self.allocate(needed + LOG_RESERVE_BYTES).or_else(|_| self.allocate(needed))
    }

    /// Makes sure that `bytes` more fit the volume and takes nothing beyond: for frames that bring the backlog down,
    /// which may have only what the journal's reserve gave back.
    ///
    /// # Errors
    /// As for [`LogWriter::reserve`].
    pub fn reserve_exactly(&mut self, bytes: u64) -> io::Result<()> {
        let needed = self.end + bytes;
        if needed <= self.reserved_end { Ok(()) } else { self.allocate(needed) }
    }

    fn allocate(&mut self, end: u64) -> io::Result<()> {
        let length = end - self.reserved_end;
        let keep_size = rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, keep_size, self.reserved_end, length) {
            Ok(()) => self.reserved_end = end,
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.reserved_end = u64::MAX / 2,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Gathers a schema's frame.
    pub fn push_schema(&mut self, sequence: u64, schema: Fingerprint, payload: &[u8]) {
        self.schemas.insert(schema);
        self.push(FrameKind::Schema, sequence, 0, payload);
    }

    /// Gathers a frame.
    pub fn push(&mut self, kind: FrameKind, sequence: u64, segment: u64, payload: &[u8]) {
        let header = FrameHeader::of(kind, sequence, segment, payload, self.header.salt);
        self.gathered.extend_from_slice(&header.encode(self.header.salt));
        self.gathered.extend_from_slice(payload);
        self.end += header.frame_bytes();
    }

    /// Gathers a batch's frame, without a copy of its body in between.
    pub fn push_batch(&mut self, sequence: u64, segment: u64, batch: &Batch) {
        let start = self.gathered.len();
        self.gathered.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        batch.encode_into(&mut self.gathered);
        let payload = &self.gathered[start + FRAME_HEADER_BYTES..];
        let header = FrameHeader::of(FrameKind::Batch, sequence, segment, payload, self.header.salt);
        self.gathered[start..start + FRAME_HEADER_BYTES].copy_from_slice(&header.encode(self.header.salt));
        self.end += header.frame_bytes();
    }

    /// Writes what was gathered and waits until it would survive a power cut.
    ///
    /// # Errors
    /// The write or the sync failed: nobody knows what is on disk, and the file must not be used again, since a
    /// second `fdatasync` on it may succeed without having written anything.
    /// Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
    /// So it is where the file has gone from its place: the disk took the bytes, and nobody will find them.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let sync = || if seeded::is(Bug::AcknowledgeBeforeSync) { Ok(()) } else { self.file.sync_data() };
        let written = (&self.file).write_all(&self.gathered).and_then(|()| sync()).and_then(|()| self.require_found());
        written.map_err(|source| JournalError::WriteLog { path: self.path.clone(), source })?;
        self.gathered.clear();
        self.gathered.shrink_to(KEEP_BUFFER_BYTES);
        Ok(())
    }

    /// Gives back what is reserved behind the last frame: nothing more will be written to this file, and what nobody counts
    /// would take the volume beyond what the journal may have of it.
    pub fn give_back(&self) {
        if self.gathered.is_empty()
            && self.reserved_end > self.end
            && let Err(error) = self.file.set_len(self.end)
        {
            warn!(error = %error, path = %self.path.display(), "failed to give back reserved space");
        }
    }

    /// Looks whether the file is where the next start will look for it. One call of the kernel, of some microseconds.
    fn require_found(&self) -> io::Result<()> {
        let written = self.file.metadata()?;
        let found = fs::metadata(&self.path);
        match found.is_ok_and(|found| (found.dev(), found.ino()) == (written.dev(), written.ino())) {
            true => Ok(()),
            false => Err(io::Error::other(TAKEN_AWAY)),
        }
    }
}

/// Makes a log file under another name first, so that a file with its name always has its header.
fn create_file(directory: &Path, path: &Path, header: &LogHeader) -> io::Result<File> {
    let unfinished = unfinished_path(path);
    let mut file = File::options().create(true).truncate(true).write(true).open(&unfinished)?;
    file.write_all(&header.encode())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    fsync_directory(directory)?;
    Ok(file)
}

/// What is said of a log file that is not at its place any more.
const TAKEN_AWAY: &str = "somebody has removed or replaced it while it was written; what was not in the lake yet is lost with it: leave the journal's directory to the sidecar alone";
