//! What can go wrong with the journal, and what it means for the caller.
//!
//! Owns: the errors. Does not own: status codes (`http::problem`).

use std::io;
use std::path::PathBuf;

/// The journal cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory cannot be made, read or written.
    #[error("failed to open the journal's directory {path}")]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("failed to lock the journal {path}: another process uses it; give each sidecar a journal of its own")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A log file cannot be read.
    #[error("failed to read the log file {path}")]
    ReadLog {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A log file cannot be made or written.
    #[error("failed to write the log file {path}")]
    WriteLog {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A log file is of a later version. Nothing was changed.
    #[error(
        "the log file {path} has format version {version}, this sidecar reads version 1; nothing was changed: run the version that wrote it"
    )]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The head of a log file is damaged, so that none of its frames can be told from other bytes. Nothing was changed.
    #[error(
        "the head of the log file {path} is damaged; nothing was changed: restore the file from a copy, or move the whole journal directory away and start with a new one (what it had not delivered stays in the old one)"
    )]
    DamagedLog {
        /// The file.
        path: PathBuf,
    },
    /// A file of the sequence is missing or belongs to another journal. Nothing was changed.
    #[error("the log file {path} does not follow the one before it: {reason}; nothing was changed")]
    OutOfOrder {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
    /// It comes back after so long that the lake may not know any more what it has of it. Nothing was delivered.
    #[error(
        "the newest undelivered record of the journal {path} is {days} days old, and the lake knows for 30 days what it was given: nothing was delivered; if no file of its tables was compacted or deleted since, start with --replay-old-journal"
    )]
    TooOld {
        /// The directory.
        path: PathBuf,
        /// The age.
        days: u64,
    },
    /// The frames contradict each other.
    #[error("failed to replay segment {segment}")]
    Replay {
        /// The segment.
        segment: u64,
        /// Why.
        #[source]
        source: super::segment::IllegalTransition,
    },
    /// The journal's thread cannot be started.
    #[error("failed to start the journal's thread")]
    StartThread(#[source] io::Error),
}

impl JournalError {
    /// Whether something could not be written because the volume is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::OpenDirectory { source, .. } | Self::WriteLog { source, .. } => super::reserve::is_no_space(source),
            Self::Locked { .. }
            | Self::ReadLog { .. }
            | Self::UnknownVersion { .. }
            | Self::DamagedLog { .. }
            | Self::OutOfOrder { .. }
            | Self::TooOld { .. }
            | Self::Replay { .. }
            | Self::StartThread(_) => false,
        }
    }
}

/// A request was not journaled, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was appended: the journal has reached its share of the volume.
    #[error("the journal has reached its bound of {cap_bytes} bytes")]
    Full {
        /// The bound. Unit: bytes.
        cap_bytes: u64,
    },
    /// Nothing was appended: the volume has no space.
    #[error("the journal's volume has no space left")]
    NoSpace,
    /// Nothing was appended: the batch has a schema that no segment has yet, and there is no room for another one.
    #[error(
        "schemas of {fields_max} fields wait for the lake already, and this request brings new columns; send records whose columns are known, or wait until the lake has taken more"
    )]
    TooManySchemas {
        /// The bound.
        fields_max: usize,
    },
    /// Nothing was appended: an earlier write or sync failed, and the process is about to end.
    #[error("the journal's disk failed and the sidecar restarts")]
    Failed,
    /// A write or sync failed: the batch may be on disk or not.
    #[error("failed to write or sync the journal; the batch may be stored or not")]
    Unknown,
}

impl AppendError {
    /// Whether it is certain that nothing was appended.
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoSpace | Self::TooManySchemas { .. } | Self::Failed => true,
            Self::Unknown => false,
        }
    }
}
