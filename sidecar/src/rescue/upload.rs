//! The log files of what is not in the lake, into the lake as they are.
//!
//! Owns: which files, their order, that each is looked at after it was put, and that a manifest names it only then: a
//! manifest for each file that arrives, of all that have until then. Does not own: for how long it is tried.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::manifest::{LogFile, Manifest};
use crate::flush::backoff;
use crate::flush::deliver::DeliveryContext;
use crate::journal::directory::{log_files_in, log_path};
use crate::journal::error::JournalError;
use crate::journal::hex;
use crate::journal::segment::Position;
use crate::journal::view::{JournalView, SealedSegment};
use crate::lake::contact::ContactError;
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::store::PutOutcome;

/// How far the log files of a journal are in the lake and named by a manifest: as far as the end of file `file`, `offset`
/// bytes of it. Shared, so that who gives up at a deadline knows what is safe.
#[derive(Debug, Default)]
pub struct Progress {
    file: AtomicU64,
    offset: AtomicU64,
}

/// A log file that cannot be put.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Contact(#[from] ContactError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("failed to read the log file {number}")]
    Read { number: u64, source: io::Error },
}

impl Progress {
    /// Whether everything of a segment is in the files that are in the lake.
    pub fn has(&self, segment: &SealedSegment) -> bool {
        segment.end <= Position { file: self.file.load(Ordering::Acquire), offset: self.offset.load(Ordering::Acquire) }
    }

    /// One task moves it, file by file, and whoever reads it in between finds less rather than more.
    pub(crate) fn reached(&self, position: Position) {
        self.offset.store(0, Ordering::Release);
        self.file.store(position.file, Ordering::Release);
        self.offset.store(position.offset, Ordering::Release);
    }
}

/// Puts the log files of everything that is in `view`, oldest first, and tries again until all of them are in the lake.
/// `files` are those that an earlier call has put; only the newest of them can have grown since.
pub async fn upload(context: &DeliveryContext, view: &JournalView, progress: &Progress, files: &mut Vec<LogFile>) {
    let has_grown = |file: &mut LogFile| Position { file: file.number, offset: file.bytes } != view.end;
    files.pop_if(has_grown);
    let mut attempt = 0;
    while let Err(error) = upload_once(context, view, progress, files).await {
        warn!(error = %crate::error_chain(&error), "failed to put the log files into the lake; trying again");
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
    }
    info!(rows = view.unretired_rows(None), "the log files are in the lake; lakeingest-sidecar rescue delivers them");
}

/// Puts the files behind those that are in the lake already, and adds them.
async fn upload_once(
    context: &DeliveryContext,
    view: &JournalView,
    progress: &Progress,
    files: &mut Vec<LogFile>,
) -> Result<(), UploadError> {
    let Some(oldest) = view.oldest_file() else { return Ok(()) };
    context.contact.ensure().await?;
    for number in log_files_in(context.journal.directory())? {
        let is_safe = files.last().is_some_and(|newest| number <= newest.number);
        if number < oldest || number > view.end.file || is_safe {
            continue;
        }
        let length = (number == view.end.file).then_some(view.end.offset);
        match upload_file(context, number, length).await {
            Ok(file) => {
                let named: Vec<_> = files.iter().cloned().chain([file.clone()]).collect();
                put_manifest(context, &Manifest::of(context.journal.id(), named)).await?;
                progress.reached(Position { file: number, offset: file.bytes });
                files.push(file);
            }
            // Everything in it is in the lake by now, and it was removed.
            Err(UploadError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts one log file, up to `length` or whole.
async fn upload_file(context: &DeliveryContext, number: u64, length: Option<u64>) -> Result<LogFile, UploadError> {
    let path = log_path(context.journal.directory(), number);
    let failed = |source| UploadError::Read { number, source };
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || length_and_digest(&path, length)).await
    };
    let (bytes, sha256) = read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)?;
    let file = LogFile { number, bytes, sha256 };
    let key = context.prefix.rescue_log(&context.journal.id(), &file);
    let start = context.clock.monotonic();
    context.store.put_log(&key, &path, bytes, &file.sha256).await?;
    let found = context.store.head(&key).await?;
    if found.is_none_or(|found| found.size_bytes != bytes || found.sha256.as_ref() != Some(&file.sha256)) {
        return Err(not_what_was_sent(key).into());
    }
    context.pace.sent(bytes, context.clock.monotonic().saturating_sub(start));
    info!(number, bytes, "put a log file into the lake");
    Ok(file)
}

/// Puts a manifest, whose name is made of its content.
async fn put_manifest(context: &DeliveryContext, manifest: &Manifest) -> Result<(), UploadError> {
    let (key, content) = (context.prefix.rescue_manifest(&manifest.name()), manifest.encode());
    match context.store.put(&key, content.clone()).await? {
        PutOutcome::Created => Ok(()),
        PutOutcome::Exists if context.store.get(&key).await?.as_ref() == Some(&content) => Ok(()),
        PutOutcome::Exists => Err(not_what_was_sent(key).into()),
    }
}

fn not_what_was_sent(key: String) -> StoreError {
    let detail = "the object is not what was sent".to_owned();
    StoreError { kind: StoreErrorKind::Unverified, action: "verify", key, detail }
}

fn length_and_digest(path: &Path, length: Option<u64>) -> io::Result<(u64, String)> {
    let file = File::open(path)?;
    let length = length.map_or_else(|| Ok(file.metadata()?.len()), Ok::<_, io::Error>)?;
    let mut hasher = Sha256::new();
    let read = io::copy(&mut file.take(length), &mut hasher)?;
    if read == length { Ok((length, hex(&hasher.finalize()))) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// How long before the end the log files must begin to leave: what that takes by what was measured, and as much again;
/// at least a quarter and at most half of all the time there is.
pub fn time_for(context: &DeliveryContext, wait: Duration) -> Duration {
    let bytes = context.journal.view().size_bytes;
    (2 * context.pace.time_to_send(bytes)).clamp(wait / 4, wait / 2)
}
