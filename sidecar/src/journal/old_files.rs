//! The log files behind the newest, and what is still needed of each.
//!
//! Owns: how long they are, how much of each is of segments that wait, and which one is worth being written anew.
//! Does not own: the files (`anew`, `commit`).

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::journal::segment::Contents;
use crate::limits::LOG_FILE_BYTES_MIN;

/// The log files behind the newest, oldest first.
#[derive(Debug, Default)]
pub(super) struct OldFiles {
    files: VecDeque<OldFile>,
    /// Length of each sealed segment's frames, by log file. Unit: bytes.
    held: HashMap<u64, Vec<(u64, u64)>>,
    /// Their sums. Unit: bytes.
    held_of_file: HashMap<u64, u64>,
}

#[derive(Debug)]
struct OldFile {
    number: u64,
    /// Its length. Unit: bytes.
    bytes: u64,
    /// What was kept beside batches when it was written anew: it would be kept again. Unit: bytes.
    other_bytes: u64,
    /// It has nothing of segments that were retired before this sequence; 0 if it was never written anew.
    knows_retired_before: u64,
    /// It cannot be written anew.
    is_left: bool,
}

/// A log file of which so much is in the lake that it is worth being written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorthAnew {
    /// Its number.
    pub(super) file: u64,
    /// Its length. Unit: bytes.
    pub(super) bytes: u64,
    /// Length of the batches in it that wait. Unit: bytes.
    pub(super) needed_bytes: u64,
    /// The sequence from which on a retirement in it may be of a segment that an older file has frames of.
    pub(super) retired_from: u64,
}

impl OldFiles {
    /// Files that were found, each with its number and length.
    pub(super) fn of(found: &[(u64, u64)]) -> Self {
        let mut files = Self::default();
        found.iter().for_each(|(number, bytes)| files.push(*number, *bytes));
        files
    }

    /// The newest log file was followed by another.
    pub(super) fn push(&mut self, number: u64, bytes: u64) {
        self.files.push_back(OldFile { number, bytes, other_bytes: 0, knows_retired_before: 0, is_left: false });
    }

    /// The number of the oldest.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.files.front().map(|file| file.number)
    }

    /// The oldest was removed.
    pub(super) fn remove_oldest(&mut self) {
        self.files.pop_front();
    }

    /// What they take of the volume. Unit: bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.max(LOG_FILE_BYTES_MIN)).sum()
    }

    /// A segment is sealed, and so long in each file.
    pub(super) fn hold(&mut self, segment: u64, bytes_by_file: &BTreeMap<u64, u64>) {
        for (file, bytes) in bytes_by_file {
            *self.held_of_file.entry(*file).or_default() += bytes;
        }
        self.held.insert(segment, bytes_by_file.iter().map(|(file, bytes)| (*file, *bytes)).collect());
    }

    /// A segment is retired.
    pub(super) fn release(&mut self, segment: u64) {
        for (file, bytes) in self.held.remove(&segment).unwrap_or_default() {
            let Some(held) = self.held_of_file.get_mut(&file) else { continue };
            *held -= bytes;
            if *held == 0 {
                self.held_of_file.remove(&file);
            }
        }
    }

    /// The oldest file of which at least half, and `worth_bytes`, are not needed, given the segments that take batches.
    pub(super) fn worth_anew<'a>(
        &self,
        open: impl Iterator<Item = &'a Contents>,
        worth_bytes: u64,
    ) -> Option<WorthAnew> {
        let mut open_of_file = HashMap::<u64, u64>::new();
        for (file, bytes) in open.flat_map(|contents| &contents.bytes_by_file) {
            *open_of_file.entry(*file).or_default() += bytes;
        }
        let mut retired_from = u64::MAX;
        for file in &self.files {
            let of = |bytes_of: &HashMap<u64, u64>| bytes_of.get(&file.number).copied().unwrap_or(0);
            let needed_bytes = of(&self.held_of_file) + of(&open_of_file);
            let rest = file.bytes.saturating_sub(file.other_bytes + needed_bytes);
            if !file.is_left && rest >= worth_bytes && 2 * rest >= file.bytes {
                return Some(WorthAnew { file: file.number, bytes: file.bytes, needed_bytes, retired_from });
            }
            retired_from = retired_from.min(file.knows_retired_before);
        }
        None
    }

    /// A file was written anew, with `needed_bytes` of batches, while `next_sequence` was the sequence of the next frame.
    pub(super) fn was_written_anew(&mut self, number: u64, bytes: u64, needed_bytes: u64, next_sequence: u64) {
        if let Some(file) = self.files.iter_mut().find(|file| file.number == number) {
            file.bytes = bytes;
            file.other_bytes = bytes.saturating_sub(needed_bytes);
            file.knows_retired_before = next_sequence;
        }
    }

    /// A file cannot be written anew.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(file) = self.files.iter_mut().find(|file| file.number == number) {
            file.is_left = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three files of a hundred bytes each, with a segment in the first and one that goes from the first to the second.
    fn three() -> OldFiles {
        let mut files = OldFiles::of(&[(4, 100), (5, 100), (6, 100)]);
        files.hold(1, &BTreeMap::from([(4, 40)]));
        files.hold(2, &BTreeMap::from([(4, 20), (5, 60)]));
        files
    }

    fn worth(files: &OldFiles) -> Option<(u64, u64, u64)> {
        let found = files.worth_anew(std::iter::empty(), 10);
        found.map(|worth| (worth.file, worth.needed_bytes, worth.retired_from))
    }

    #[test]
    fn a_file_is_worth_it_once_half_of_it_is_delivered_and_not_again_for_what_it_kept() {
        let mut files = three();
        assert_eq!(worth(&files), Some((6, 0, 0)), "of the others too much is needed");
        files.release(1);
        assert_eq!(worth(&files), Some((4, 20, u64::MAX)), "nothing is older than the first");
        files.was_written_anew(4, 45, 20, 77);
        files.was_written_anew(6, 80, 0, 77);
        assert_eq!(worth(&files), None);
        files.release(2);
        assert_eq!(worth(&files), Some((5, 0, 77)), "20 of 45 bytes are not worth it");
        files.leave(5);
        assert_eq!(worth(&files), None);
    }

    #[test]
    fn retirements_count_from_the_oldest_file_that_may_not_know_of_them() {
        let mut files = three();
        files.was_written_anew(4, 60, 60, 50);
        assert_eq!(worth(&files), Some((6, 0, 0)), "the second was never written anew");
        files.was_written_anew(5, 60, 60, 90);
        assert_eq!(worth(&files), Some((6, 0, 50)));
    }

    #[test]
    fn what_is_open_is_needed_and_an_empty_file_counts_as_a_block() {
        let mut files = OldFiles::of(&[(1, 100)]);
        assert_eq!(files.size_bytes(), LOG_FILE_BYTES_MIN);
        let small = files.worth_anew(std::iter::empty(), 200);
        assert_eq!(small, None);
        assert_eq!(files.oldest(), Some(1));
        files.remove_oldest();
        assert_eq!((files.size_bytes(), files.oldest()), (0, None));
    }
}
