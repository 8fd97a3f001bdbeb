//! What others may see of the journal without asking its thread.
//!
//! Owns: the snapshot that is replaced after each group commit, before its answers go out. Does not own: the state.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::journal::segment::{Contents, Position};
use crate::limits::JOURNAL_CROWDED_PARTS;
use crate::schema::leaf_count;

/// The journal after a group commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalView {
    /// Segments that take batches, at most one a table.
    pub open: Vec<OpenSegment>,
    /// Segments that are sealed and not retired, oldest first.
    pub sealed: Vec<SealedSegment>,
    /// Length of the log files. Unit: bytes.
    pub size_bytes: u64,
    /// Most that the log files may take. Unit: bytes.
    pub cap_bytes: u64,
    /// The newest log file, and to where it is synced.
    pub end: Position,
}

/// A segment that takes batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSegment {
    /// Its number.
    pub number: u64,
    /// The epoch in which it was begun.
    pub epoch: u64,
    /// Sequences of its first and last batch.
    pub sequences: RangeInclusive<u64>,
    /// Its table.
    pub table: String,
    /// Records in it.
    pub rows: u64,
    /// Length of its bodies. Unit: bytes.
    pub body_bytes: u64,
    /// Columns that have a value in it, as files have them.
    pub columns: usize,
    /// Days under which its rows lie: it becomes a file for each.
    pub partitions: usize,
    /// Schemas that its batches are decoded with.
    pub schemas: usize,
    /// Receive time of its first batch. Unit: microseconds since 1970.
    pub first_received_micros: i64,
    /// The log file in which it begins.
    pub start_file: u64,
}

/// A segment that is sealed and not retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its number.
    pub number: u64,
    /// The epoch in which it was begun.
    pub epoch: u64,
    /// Sequences of its first and last batch.
    pub sequences: RangeInclusive<u64>,
    /// Its table.
    pub table: Arc<str>,
    /// Records in it.
    pub rows: u64,
    /// Length of its bodies. Unit: bytes.
    pub body_bytes: u64,
    /// Receive time of its first batch. Unit: microseconds since 1970.
    pub first_received_micros: i64,
    /// The log file in which it begins.
    pub start_file: u64,
    /// Where its seal ends, or somewhere behind it: the log up to there has all of it.
    pub end: Position,
}

impl OpenSegment {
    /// What others may see of `contents`.
    pub fn of(contents: &Contents) -> Self {
        Self {
            number: contents.number,
            epoch: contents.epoch,
            sequences: contents.first_sequence..=contents.last_sequence,
            table: contents.table.clone(),
            rows: contents.rows,
            body_bytes: contents.body_bytes,
            columns: leaf_count(&contents.observed),
            partitions: contents.partitions.len(),
            schemas: contents.schemas.len(),
            first_received_micros: contents.first_received_micros,
            start_file: contents.start_inclusive.file,
        }
    }
}

impl SealedSegment {
    /// What others may see of `contents`, whose seal ends in front of `end`.
    pub fn of(contents: &Contents, end: Position) -> Self {
        Self {
            number: contents.number,
            epoch: contents.epoch,
            sequences: contents.first_sequence..=contents.last_sequence,
            table: contents.table.as_str().into(),
            rows: contents.rows,
            body_bytes: contents.body_bytes,
            first_received_micros: contents.first_received_micros,
            start_file: contents.start_inclusive.file,
            end,
        }
    }
}

impl JournalView {
    /// The numbers of the segments of `table`, or of all tables, that are not in the lake yet.
    pub fn unretired(&self, table: Option<&str>) -> Vec<u64> {
        let wanted = |name: &str| table.is_none_or(|table| table == name);
        let sealed = self.sealed.iter().filter(|segment| wanted(&segment.table)).map(|segment| segment.number);
        let open = self.open.iter().filter(|segment| wanted(&segment.table)).map(|segment| segment.number);
        sealed.chain(open).collect()
    }

    /// Rows that are not in the lake yet, of `table` or of all tables.
    pub fn unretired_rows(&self, table: Option<&str>) -> u64 {
        let wanted = |name: &str| table.is_none_or(|table| table == name);
        let sealed = self.sealed.iter().filter(|segment| wanted(&segment.table)).map(|segment| segment.rows);
        let open = self.open.iter().filter(|segment| wanted(&segment.table)).map(|segment| segment.rows);
        sealed.chain(open).sum()
    }

    /// Length of the bodies that are not in the lake yet. Unit: bytes.
    pub fn unretired_bytes(&self) -> u64 {
        let sealed = self.sealed.iter().map(|segment| segment.body_bytes);
        sealed.chain(self.open.iter().map(|segment| segment.body_bytes)).sum()
    }

    /// Whether the journal is far enough from its bound to say that it is not full any more: a tenth of it is free, so that
    /// what is said does not change with every request.
    pub fn has_room(&self) -> bool {
        self.size_bytes <= self.cap_bytes - self.cap_bytes / 10
    }

    /// The segments, and the length of their bodies in bytes, that have to reach the lake before the journal gives space
    /// back: those that begin in its oldest file.
    pub fn before_room(&self) -> (usize, u64) {
        let oldest = self.oldest_file();
        let first = self.sealed.iter().filter(|segment| Some(segment.start_file) == oldest);
        first.fold((0, 0), |(count, bytes), segment| (count + 1, bytes + segment.body_bytes))
    }

    /// The oldest log file, where the journal is half full and only segments that take batches keep that file from being
    /// removed: one with a row now and then holds as much of the disk as all others have written meanwhile.
    pub fn crowded_file(&self) -> Option<u64> {
        let oldest = self.open.iter().map(|segment| segment.start_file).min()?;
        let is_old = oldest < self.end.file && self.oldest_file().is_none_or(|file| oldest < file);
        (is_old && self.size_bytes >= self.cap_bytes / JOURNAL_CROWDED_PARTS).then_some(oldest)
    }

    /// The log file in which the oldest segment begins that is sealed and not in the lake yet.
    pub fn oldest_file(&self) -> Option<u64> {
        self.sealed.iter().map(|segment| segment.start_file).min()
    }

    /// Receive time of the oldest row that is not in the lake yet. Unit: microseconds since 1970.
    pub fn oldest_received_micros(&self) -> Option<i64> {
        let sealed = self.sealed.iter().map(|segment| segment.first_received_micros);
        let open = self.open.iter().map(|segment| segment.first_received_micros);
        sealed.chain(open).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(number: u64, start_file: u64, body_bytes: u64) -> SealedSegment {
        SealedSegment {
            number,
            epoch: 1,
            sequences: number..=number,
            table: "events".into(),
            rows: 1,
            body_bytes,
            first_received_micros: 0,
            start_file,
            end: Position { file: start_file, offset: 100 },
        }
    }

    #[test]
    fn a_journal_is_crowded_by_what_is_open_since_its_oldest_file() {
        let open = |start_file: u64| OpenSegment {
            number: 9,
            epoch: 1,
            sequences: 9..=9,
            table: "events".to_owned(),
            rows: 1,
            body_bytes: 1,
            columns: 1,
            partitions: 1,
            schemas: 1,
            first_received_micros: 0,
            start_file,
        };
        let view = |open: Vec<OpenSegment>, sealed: Vec<SealedSegment>, size_bytes: u64| JournalView {
            open,
            sealed,
            size_bytes,
            cap_bytes: 100,
            end: Position { file: 5, offset: 0 },
        };
        assert_eq!(view(vec![open(3), open(2)], vec![sealed(1, 4, 1)], 50).crowded_file(), Some(2));
        assert_eq!(view(vec![open(2)], vec![], 49).crowded_file(), None, "there is room");
        assert_eq!(view(vec![open(5)], vec![], 99).crowded_file(), None, "it is being written");
        assert_eq!(view(vec![open(2)], vec![sealed(1, 2, 1)], 99).crowded_file(), None, "another needs it too");
        assert_eq!(view(vec![], vec![sealed(1, 2, 1)], 99).crowded_file(), None);
    }

    #[test]
    fn room_comes_with_the_segments_of_the_oldest_file() {
        assert_eq!(JournalView::default().before_room(), (0, 0));
        let sealed = vec![sealed(1, 3, 100), sealed(2, 4, 1_000), sealed(3, 3, 20)];
        let view = JournalView { sealed, ..JournalView::default() };
        assert_eq!(view.before_room(), (2, 120));
    }
}
