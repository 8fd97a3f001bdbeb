//! A log file, written anew without what is in the lake.
//!
//! Owns: which frames are kept, and that the new file takes the old one's place whole or not at all. Upholds I2.
//! Does not own: which file it is done to, and when (`old_files`, `commit`).
//!
//! The new file has the old one's number and head. It comes to its name by one rename, when every byte of it is durable: a
//! crash leaves the one or the other, never both, and who reads the old one at that moment still has it. Frames keep their
//! order, sequence, segment and payload, so a reader finds in it what it would have found, less what is retired.
//!
//! What is kept, and why the rest may go:
//!
//! | frame | is kept |
//! |---|---|
//! | batch, seal, plan | while its segment is not retired |
//! | schema | while a segment that is not retired has batches of it |
//! | retirement | while an older file can hold frames of its segment, which would be delivered again without it |

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tracing::warn;

use crate::journal::directory::{fsync_directory, log_path, unfinished_path};
use crate::journal::error::JournalError;
use crate::journal::frame::{FrameHeader, FrameKind, LOG_HEADER_BYTES, LogHeader};
use crate::journal::old_files::WorthAnew;
use crate::journal::reader::{Entry, LogReader};
use crate::journal::schemas::WaitingSchemas;
use crate::schema::Fingerprint;
use crate::seeded::{self, Bug};

/// What is still needed of a log file.
#[derive(Debug)]
pub(super) struct Needed<'a> {
    /// Segments that are not retired.
    pub(super) segments: HashSet<u64>,
    /// Their schemas.
    pub(super) schemas: &'a WaitingSchemas,
    /// The sequence from which on a retirement may be of a segment that older files have frames of.
    pub(super) retired_from: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anew {
    /// The new file is in its place.
    Written {
        /// Its length. Unit: bytes.
        bytes: u64,
    },
    /// The volume has no room for a copy; the old file is as it was.
    NoRoom,
    /// The file is damaged, or the copy failed; the old file is as it was.
    Left,
}

/// How much is gathered before it is written. Unit: bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes a log file anew with what is needed of it.
///
/// # Errors
/// The new file has the old one's name and nobody knows for how long. Every other failure leaves the old file as it is.
pub(super) fn write_anew(directory: &Path, worth: &WorthAnew, needed: &Needed<'_>) -> Result<Anew, JournalError> {
    let path = log_path(directory, worth.file);
    let unfinished = unfinished_path(&path);
    let copied = copy_needed(directory, worth, needed, &unfinished).and_then(|bytes| {
        if bytes.is_some() {
            fs::rename(&unfinished, &path).map_err(|source| JournalError::WriteLog { path: path.clone(), source })?;
        }
        Ok(bytes)
    });
    match copied {
        Ok(Some(bytes)) => {
            // Before anything else: of two files that are written anew, the later one counts on the earlier.
            fsync_directory(directory)
                .map_err(|source| JournalError::WriteLog { path: directory.to_owned(), source })?;
            Ok(Anew::Written { bytes })
        }
        Ok(None) => {
            warn!(path = %path.display(), "a log file is damaged and is kept as it is");
            // What stays behind is removed by the next start.
            let _ = fs::remove_file(&unfinished);
            Ok(Anew::Left)
        }
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            if error.is_no_space() {
                return Ok(Anew::NoRoom);
            }
            warn!(error = %crate::error_chain(&error), "failed to write a log file anew; it is kept as it is");
            Ok(Anew::Left)
        }
    }
}

/// Copies what is needed and makes it durable; answers its length, or none if the file has lost its end, has something that
/// is no frame, or a frame that this build does not know: then nobody can say what is needed of it.
fn copy_needed(
    directory: &Path,
    worth: &WorthAnew,
    needed: &Needed<'_>,
    unfinished: &Path,
) -> Result<Option<u64>, JournalError> {
    let mut log = LogReader::open(directory, worth.file)?;
    if worth.bytes < LogReader::open(directory, worth.file + 1)?.header().length_of(log.header()) {
        return Ok(None);
    }
    let failed = |source| JournalError::WriteLog { path: unfinished.to_owned(), source };
    let file = File::options().create(true).truncate(true).write(true).open(unfinished).map_err(failed)?;
    // All at once, and not from the journal's reserve: where there is no room, nothing is written.
    match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, worth.needed_bytes + LOG_HEADER_BYTES as u64) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(failed(error.into())),
    }
    let mut head = LogHeader { salt: rand::random(), ..log.header().clone() };
    let mut output = BufWriter::with_capacity(CHUNK_BYTES, &file);
    output.write_all(&[0; LOG_HEADER_BYTES]).map_err(failed)?;
    let mut bytes = LOG_HEADER_BYTES as u64;
    loop {
        let frame = match log.next_entry()? {
            Entry::Frame(frame) => frame,
            Entry::End if log.offset() == worth.bytes => break,
            Entry::End | Entry::Damaged => return Ok(None),
        };
        match needed.says_of(&frame, &head) {
            Verdict::Unknown => return Ok(None),
            Verdict::Goes => log.skip(&frame)?,
            Verdict::Stays | Verdict::BySchema => {
                let Some(payload) = log.payload(&frame)? else { return Ok(None) };
                if frame.kind == FrameKind::Schema && !needed.has_schema(&payload) {
                    continue;
                }
                let again = FrameHeader::of(frame.kind, frame.sequence, frame.segment, &payload, head.salt);
                let written = output.write_all(&again.encode(head.salt)).and_then(|()| output.write_all(&payload));
                written.map_err(failed)?;
                bytes += again.frame_bytes();
            }
        }
    }
    output.flush().map_err(failed)?;
    drop(output);
    head.anew_bytes = u32::try_from(bytes).expect("it is not longer than a log file and a frame");
    let finished =
        file.write_all_at(&head.encode(), 0).and_then(|()| file.set_len(bytes)).and_then(|()| file.sync_all());
    finished.map_err(failed)?;
    Ok(Some(bytes))
}

/// What becomes of a frame.
enum Verdict {
    Stays,
    Goes,
    /// Its payload says it.
    BySchema,
    Unknown,
}

impl Needed<'_> {
    fn says_of(&self, frame: &FrameHeader, head: &LogHeader) -> Verdict {
        let stays = match frame.kind {
            FrameKind::Batch => self.segments.contains(&frame.segment) && !seeded::is(Bug::AnewWithoutBatches),
            FrameKind::Seal | FrameKind::Plan => self.segments.contains(&frame.segment),
            // A segment that was begun in this file has nothing in older ones.
            FrameKind::Retire => frame.segment < head.first_segment && frame.sequence >= self.retired_from,
            FrameKind::Schema => return Verdict::BySchema,
            FrameKind::Keys | FrameKind::Unknown(_) => return Verdict::Unknown,
        };
        if stays { Verdict::Stays } else { Verdict::Goes }
    }

    fn has_schema(&self, payload: &[u8]) -> bool {
        payload.first_chunk().is_some_and(|bytes| self.schemas.holds(Fingerprint::from_bytes(*bytes)))
    }
}
