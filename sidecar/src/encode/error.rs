//! What can go wrong while a segment is encoded.
//!
//! Owns: the errors. Does not own: what is done then (`flush::deliver`): the segment stays and is tried again.

use crate::decode::DecodeError;
use crate::journal::error::JournalError;

/// A segment was not encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The encoder's thread is gone; the process must end.
    #[error("the encoder's thread is gone")]
    Gone,
    /// The database cannot be set up.
    #[error("failed to set up the encoder's database")]
    Open(#[source] duckdb::Error),
    /// The thread cannot be started.
    #[error("failed to start the encoder's thread")]
    StartThread(#[source] std::io::Error),
    /// The segment cannot be read.
    #[error("failed to read the segment")]
    Journal(#[source] JournalError),
    /// A batch names a schema that the segment does not have.
    #[error("batch {sequence} of segment {segment} names a schema that the journal does not hold")]
    UnknownSchema {
        /// The segment.
        segment: u64,
        /// The batch.
        sequence: u64,
    },
    /// A batch that was accepted cannot be decoded.
    #[error("failed to decode batch {sequence} of segment {segment}")]
    Decode {
        /// The segment.
        segment: u64,
        /// The batch.
        sequence: u64,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The columns that a batch's transform computes are none of a table.
    #[error("batch {sequence} has a transform whose columns are none of a table")]
    Transform {
        /// The batch.
        sequence: u64,
    },
    /// The segment does not hold what it says.
    #[error("segment {segment} should hold {expected} rows and holds {found}")]
    RowCount {
        /// The segment.
        segment: u64,
        /// Rows by the journal's account.
        expected: u64,
        /// Rows that were decoded, or that a file holds.
        found: u64,
    },
    /// A process of its own died over it.
    #[error("a process died while it encoded segment {segment}")]
    Died {
        /// The segment.
        segment: u64,
    },
    /// A process of its own cannot be started, or says nothing that could be understood.
    #[error("failed to encode in a process of its own")]
    Trial(#[source] std::io::Error),
    /// Columns do not make a batch.
    #[error("failed to put columns together")]
    Arrow(#[source] arrow_schema::ArrowError),
    /// Rows cannot be loaded.
    #[error("failed to load rows into the encoder's database")]
    Load(#[source] duckdb::Error),
    /// A file cannot be written.
    #[error("failed to encode {path}")]
    Copy {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: duckdb::Error,
    },
    /// A file cannot be synced or read back.
    #[error("failed to sync or read back {path}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl EncodeError {
    /// Whether single records may be what the encoder fails on.
    pub fn is_about_rows(&self) -> bool {
        match self {
            Self::Arrow(_) | Self::Died { .. } => true,
            Self::Load(source) | Self::Copy { source, .. } => !is_about_the_machine(source),
            Self::Gone
            | Self::Open(_)
            | Self::StartThread(_)
            | Self::Journal(_)
            | Self::UnknownSchema { .. }
            | Self::Decode { .. }
            | Self::Transform { .. }
            | Self::RowCount { .. }
            | Self::Trial(_)
            | Self::File { .. } => false,
        }
    }

    /// Whether the scratch volume has no space left.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::File { source, .. } => crate::journal::reserve::is_no_space(source),
            Self::Open(source) | Self::Load(source) | Self::Copy { source, .. } => {
                is_about_files(source) && NO_SPACE.iter().any(|words| source.to_string().contains(words))
            }
            Self::Gone
            | Self::StartThread(_)
            | Self::Journal(_)
            | Self::UnknownSchema { .. }
            | Self::Decode { .. }
            | Self::Transform { .. }
            | Self::RowCount { .. }
            | Self::Died { .. }
            | Self::Trial(_)
            | Self::Arrow(_) => false,
        }
    }
}

/// What the system says of a volume without space, and of one whose user has had their share: `ENOSPC` and `EDQUOT`.
const NO_SPACE: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// Whether the database lacks memory or disk. It says so in words alone, the first of a message; behind them can be a record's
/// own, which may be the same.
/// Source: `Exception::ExceptionTypeToString` of DuckDB 1.5.
fn is_about_the_machine(error: &duckdb::Error) -> bool {
    is_about_files(error) || error.to_string().starts_with("Out of Memory Error")
}

/// Whether the database cannot use its files.
pub(super) fn is_about_files(error: &duckdb::Error) -> bool {
    let words = error.to_string();
    ["IO Error", "Permission Error"].iter().any(|kind| words.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_lacks_memory_blames_no_record() {
        let connection = duckdb::Connection::open_in_memory().expect("it can be opened");
        connection
            .execute_batch("SET memory_limit = '10MB'; SET max_temp_directory_size = '0B'")
            .expect("they are known");
        let sql = "SELECT count(*) FROM (SELECT DISTINCT range, repeat('x', 100) FROM range(10000000))";
        let lacking = connection.execute_batch(sql).expect_err("there is no memory for it");
        assert!(!EncodeError::Load(lacking).is_about_rows());
        let unwritable =
            connection.execute_batch("COPY (SELECT 1) TO '/nowhere/x.parquet'").expect_err("there is no folder");
        let unwritable = EncodeError::Load(unwritable);
        assert!(!unwritable.is_about_rows());
        assert!(!unwritable.is_no_space());
        let full = connection.execute_batch("COPY (SELECT 1) TO '/dev/full' (FORMAT parquet)").expect_err("it is full");
        assert!(EncodeError::Load(full).is_no_space());
        let wrong = connection.execute_batch("SELECT 'x'::INTEGER").expect_err("it is no number");
        let wrong = EncodeError::Load(wrong);
        assert!(wrong.is_about_rows() && !wrong.is_no_space());
    }
}
