//! The keys of retired segments on disk: what a restart needs to answer a retry of what is in the lake already.
//!
//! Owns: the folder `keys` in the journal's directory, its files, when they are written anew. Its files have the form of
//! log files, with one frame for each retired segment that has keys.
//! Does not own: the keys in memory (`keys`); a damaged entry costs its keys and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use tracing::{error, info};

use crate::journal::control::KeyRecord;
use crate::journal::directory::{fsync_directory, log_files_in, log_path, make_private_directory};
use crate::journal::error::JournalError;
use crate::journal::frame::{FrameKind, LogHeader};
use crate::journal::keys::Keys;
use crate::journal::reader::{Entry, LogReader};
use crate::journal::reserve::Reserve;
use crate::journal::writer::LogWriter;

/// The folder's name.
const FOLDER: &str = "keys";

/// What a file may hold beyond twice of what is still needed before it is written anew. Unit: bytes.
const WASTE_BYTES_MAX: u64 = 1 << 20;

/// The key log of a journal.
#[derive(Debug)]
pub(super) struct KeyLog {
    folder: PathBuf,
    journal: [u8; 16],
    /// Files of the folder, oldest first.
    files: Vec<u64>,
    /// The newest of them, when this process has begun it.
    log: Option<LogWriter>,
    next_sequence: u64,
    /// Length of the newest file when it was last written anew. Unit: bytes.
    compact_bytes: u64,
}

impl KeyLog {
    /// Reads the key log of the journal at `directory`, oldest entry first, and answers what it holds and how many
    /// places of it are damaged.
    ///
    /// # Errors
    /// A file cannot be read, or is of a later version: nothing was changed then.
    pub(super) fn open(directory: &Path, journal: [u8; 16]) -> Result<(Self, Vec<KeyRecord>, u64), JournalError> {
        let folder = directory.join(FOLDER);
        let files = if folder.is_dir() { log_files_in(&folder)? } else { Vec::new() };
        let (mut records, mut damaged) = (Vec::new(), 0);
        for number in &files {
            damaged += read_file(&folder, *number, files.last() == Some(number), &mut records)?;
        }
        Ok((Self { folder, journal, files, log: None, next_sequence: 1, compact_bytes: 0 }, records, damaged))
    }

    /// Keeps a record durably.
    ///
    /// # Errors
    /// It cannot be written or synced: nobody knows whether it is kept.
    pub(super) fn keep(&mut self, record: &KeyRecord, reserve: &mut Reserve) -> Result<(), JournalError> {
        if self.log.is_none() {
            self.begin_file(reserve)?;
        }
        let payload = serde_json::to_vec(record).expect("a record is plain data");
        let (sequence, segment) = (self.next_sequence, record.segment);
        self.next_sequence += 1;
        let Some(log) = &mut self.log else { return Ok(()) };
        // Where there is no space the write fails, as every other that the journal cannot do without.
        let _ = reserve.give_up_for(|| log.reserve_exactly(payload.len() as u64));
        log.push(FrameKind::Keys, sequence, segment, &payload);
        log.sync()
    }

    /// Writes what is still needed into a file of its own and removes the others, when they hold much more than that.
    /// Where there is no space nothing is changed.
    ///
    /// # Errors
    /// The new file cannot be made or the others cannot be removed.
    pub(super) fn compact_if_worth(&mut self, keys: &Keys, reserve: &mut Reserve) -> Result<(), JournalError> {
        let length = self.log.as_ref().map_or(0, |log| log.position().offset);
        match length > 2 * self.compact_bytes + WASTE_BYTES_MAX {
            true => self.compact(&keys.records(), reserve),
            false => Ok(()),
        }
    }

    /// As [`Self::compact_if_worth`], at a start, whatever it is worth.
    ///
    /// # Errors
    /// As for [`Self::compact_if_worth`].
    pub(super) fn compact(&mut self, records: &[KeyRecord], reserve: &mut Reserve) -> Result<(), JournalError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let old = std::mem::take(&mut self.files);
        self.files.extend(old.last());
        self.begin_file(reserve)?;
        let Some(log) = &mut self.log else { return Ok(()) };
        for record in records {
            let payload = serde_json::to_vec(record).expect("a record is plain data");
            log.push(FrameKind::Keys, self.next_sequence, record.segment, &payload);
            self.next_sequence += 1;
        }
        let newest = log.header().file;
        if log.reserve(0).is_err() || log.sync().is_err() {
            info!("the key log is not written anew, for lack of space");
            let path = log_path(&self.folder, newest);
            fs::remove_file(&path).map_err(|source| JournalError::WriteLog { path, source })?;
            (self.files, self.log) = (old, None);
            return Ok(());
        }
        self.compact_bytes = log.position().offset;
        for number in old {
            let path = log_path(&self.folder, number);
            fs::remove_file(&path).map_err(|source| JournalError::WriteLog { path, source })?;
        }
        self.files = vec![newest];
        let folder = self.folder.clone();
        fsync_directory(&folder).map_err(|source| JournalError::WriteLog { path: folder, source })
    }

    fn begin_file(&mut self, reserve: &mut Reserve) -> Result<(), JournalError> {
        make_private_directory(&self.folder)
            .map_err(|source| JournalError::OpenDirectory { path: self.folder.clone(), source })?;
        let number = self.files.last().map_or(1, |newest| newest + 1);
        let header = LogHeader {
            journal: self.journal,
            epoch: 0,
            file: number,
            first_sequence: self.next_sequence,
            first_segment: 1,
            salt: rand::random(),
        };
        self.log = Some(LogWriter::create(&self.folder, header, reserve)?);
        self.files.push(number);
        self.compact_bytes = 0;
        Ok(())
    }
}

/// Reads one file; answers how many places of it are damaged. What breaks off at the end of the last one was never
/// counted on: its segment is not retired.
fn read_file(folder: &Path, number: u64, is_last: bool, records: &mut Vec<KeyRecord>) -> Result<u64, JournalError> {
    let mut log = match LogReader::open(folder, number) {
        Ok(log) => log,
        Err(JournalError::DamagedLog { path }) => {
            error!(path = %path.display(), "the head of a file of the key log is damaged; its keys are forgotten");
            return Ok(1);
        }
        Err(error) => return Err(error),
    };
    let mut damaged = 0;
    loop {
        let start = log.offset();
        let payload = match log.next_entry()? {
            Entry::End => return Ok(damaged),
            Entry::Damaged => None,
            Entry::Frame(frame) => log.payload(&frame)?,
        };
        match payload.and_then(|payload| serde_json::from_slice(&payload).ok()) {
            Some(record) => records.push(record),
            None => match log.end_of_damage(start)? {
                Some(end) => {
                    damaged += 1;
                    error!(path = %log.path().display(), offset = start, "an entry of the key log is damaged; its keys are forgotten");
                    log.seek(end)?;
                }
                None if is_last => return Ok(damaged),
                None => return Ok(damaged + 1),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::control::{KeyEntry, Settled};
    use chrono::NaiveDate;

    fn record(segment: u64) -> KeyRecord {
        let entry = KeyEntry {
            key: "0a".repeat(16),
            digest: "0b".repeat(32),
            sequence: segment * 10,
            rows: 1,
            partition_date: NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists"),
            received_micros: 0,
        };
        KeyRecord { epoch: 7, segment, table: "events".to_owned(), settled: Settled::default(), keys: vec![entry] }
    }

    struct Fixture {
        folder: tempfile::TempDir,
        reserve: Reserve,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let reserve = Reserve::open(folder.path(), 4_096);
            Self { folder, reserve }
        }

        fn open(&self) -> (KeyLog, Vec<KeyRecord>, u64) {
            KeyLog::open(self.folder.path(), [3; 16]).expect("it can be read")
        }

        fn files(&self) -> Vec<PathBuf> {
            let folder = self.folder.path().join(FOLDER);
            let numbers = log_files_in(&folder).expect("it can be listed");
            numbers.into_iter().map(|number| log_path(&folder, number)).collect()
        }
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_is_made_for_nothing() {
        let mut fixture = Fixture::new();
        let (mut log, found, damaged) = fixture.open();
        assert_eq!((found, damaged), (vec![], 0));
        log.compact(&[], &mut fixture.reserve).expect("there is nothing to do");
        assert!(!fixture.folder.path().join(FOLDER).is_dir());
        for segment in 1..4 {
            log.keep(&record(segment), &mut fixture.reserve).expect("the disk works");
        }
        assert_eq!(fixture.open().1, [record(1), record(2), record(3)]);
    }

    #[test]
    fn a_file_that_is_written_anew_replaces_the_others() {
        let mut fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        for segment in 1..4 {
            log.keep(&record(segment), &mut fixture.reserve).expect("the disk works");
        }
        let (mut log, ..) = fixture.open();
        log.compact(&[record(3)], &mut fixture.reserve).expect("the disk works");
        log.keep(&record(4), &mut fixture.reserve).expect("the disk works");
        assert_eq!(fixture.open().1, [record(3), record(4)]);
        assert_eq!(fixture.files().len(), 1);
    }

    #[test]
    fn a_torn_end_is_passed_over_and_a_damaged_entry_costs_itself_alone() {
        let mut fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        for segment in 1..4 {
            log.keep(&record(segment), &mut fixture.reserve).expect("the disk works");
        }
        let path = fixture.files().remove(0);
        let whole = fs::read(&path).expect("it can be read");
        fs::write(&path, &whole[..whole.len() - 5]).expect("it can be written");
        assert_eq!(fixture.open().1, [record(1), record(2)]);
        assert_eq!(fixture.open().2, 0);
        let second = whole.len() / 2;
        let mut damaged = whole;
        damaged[second] ^= 1;
        fs::write(&path, damaged).expect("it can be written");
        assert_eq!(fixture.open().1, [record(1), record(3)]);
        assert_eq!(fixture.open().2, 1);
    }

    #[test]
    fn a_damaged_head_costs_the_keys_of_its_file_and_stops_no_start() {
        let mut fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        log.keep(&record(1), &mut fixture.reserve).expect("the disk works");
        let path = fixture.files().remove(0);
        let mut bytes = fs::read(&path).expect("it can be read");
        bytes[3] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
        let (mut log, found, damaged) = fixture.open();
        assert_eq!((found, damaged), (vec![], 1));
        log.compact(&[], &mut fixture.reserve).expect("the disk works");
        log.keep(&record(2), &mut fixture.reserve).expect("the disk works");
        assert_eq!(fixture.open().1, [record(2)]);
    }
}
