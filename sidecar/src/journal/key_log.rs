//! The keys of retired segments on disk: what a restart needs to answer a retry of what is in the lake already.
//!
//! Owns: the folder `keys` in the journal's directory, its files, when they are written anew. Its files have the form of
//! log files, with a frame for each retired segment that has keys, or several for one with many.
//! Does not own: the keys in memory (`keys`); a damaged entry costs its keys and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use tracing::{error, info, warn};

use crate::journal::control::KeyRecord;
use crate::journal::directory::{
    cut_file, fsync_directory, log_files_in, log_path, make_private_directory, remove_unfinished,
};
use crate::journal::error::JournalError;
use crate::journal::frame::{FRAME_HEADER_BYTES, FrameKind, LOG_HEADER_BYTES, LogHeader};
use crate::journal::keys::Keys;
use crate::journal::reader::{Entry, LogReader};
use crate::journal::writer::LogWriter;

/// The folder's name.
const FOLDER: &str = "keys";

/// What the newest file may hold beyond twice of what was needed when it was written anew. Unit: bytes.
const WASTE_BYTES_MAX: u64 = 1 << 20;

/// How much is gathered before it is written, when a file is written anew. Unit: bytes.
const CHUNK_BYTES: u64 = 1 << 20;

/// The key log of a journal.
#[derive(Debug)]
pub(super) struct KeyLog {
    folder: PathBuf,
    journal: [u8; 16],
    /// Files of the folder with their lengths, oldest first, without the one that is written to.
    old_files: Vec<(u64, u64)>,
    /// The newest file, when this process has begun it.
    log: Option<LogWriter>,
    next_sequence: u64,
    /// Length of the newest file when it was last written anew. Unit: bytes.
    compact_bytes: u64,
    /// What the entries that are still needed may take; all files together take at most twice as much, and four times
    /// while they are written anew. Unit: bytes.
    needed_bytes_max: u64,
}

impl KeyLog {
    /// Reads the key log of the journal at `directory`, oldest entry first, and answers what it holds and how many
    /// places of it are damaged. An end of the newest file that breaks off was never counted on and is cut.
    ///
    /// # Errors
    /// A file cannot be read, or is of a later version: nothing was changed then.
    pub(super) fn open(
        directory: &Path,
        journal: [u8; 16],
        needed_bytes_max: u64,
    ) -> Result<(Self, Vec<KeyRecord>, u64), JournalError> {
        let folder = directory.join(FOLDER);
        remove_unfinished(&folder);
        let numbers = if folder.is_dir() { log_files_in(&folder)? } else { Vec::new() };
        let (mut records, mut damaged) = (Vec::new(), 0);
        let mut old_files = Vec::with_capacity(numbers.len());
        for number in &numbers {
            damaged += read_file(&folder, journal, *number, numbers.last() == Some(number), &mut records)?;
            let path = log_path(&folder, *number);
            let bytes = fs::metadata(&path).map_err(|source| JournalError::ReadLog { path, source })?.len();
            old_files.push((*number, bytes));
        }
        let log = Self { folder, journal, old_files, log: None, next_sequence: 1, compact_bytes: 0, needed_bytes_max };
        Ok((log, records, damaged))
    }

    /// Length of its files. Unit: bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.old_files.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.newest_bytes()
    }

    /// Keeps records durably; false if the volume has no room for them, and then none of them is kept. `keys` are all keys,
    /// those of the records among them: where much of the newest file is not needed any more, it is written anew from them,
    /// and where they are more than there may be, the oldest are forgotten first.
    ///
    /// # Errors
    /// It cannot be written or synced: nobody knows whether they are kept.
    pub(super) fn keep(&mut self, records: &[KeyRecord], keys: &Keys) -> Result<bool, JournalError> {
        let payloads: Vec<_> = records.iter().map(payload_of).collect();
        let bytes: u64 = payloads.iter().map(|(_, payload)| (FRAME_HEADER_BYTES + payload.len()) as u64).sum();
        if bytes == 0 {
            return Ok(true);
        }
        let worth_bytes = 2 * self.compact_bytes + WASTE_BYTES_MAX.min(self.needed_bytes_max);
        if self.newest_bytes() + bytes > worth_bytes && self.compact(&keys.records())? {
            return Ok(true);
        }
        if self.size_bytes() + bytes > 2 * self.needed_bytes_max {
            return self.make_room(keys);
        }
        if self.log.is_none() && !unless_no_space(self.begin_file())? {
            return Ok(false);
        }
        let Some(log) = &mut self.log else { return Ok(false) };
        // Not from the journal's reserve: that is for what the journal cannot do without.
        if log.reserve_exactly(bytes).is_err() {
            return Ok(false);
        }
        for (segment, payload) in &payloads {
            log.push(FrameKind::Keys, self.next_sequence, *segment, payload);
            self.next_sequence += 1;
        }
        log.sync().map(|()| true)
    }

    /// Writes everything anew, once so many of the oldest keys are forgotten that it is not to be done again at once.
    fn make_room(&mut self, keys: &Keys) -> Result<bool, JournalError> {
        let (mut records, mut forgotten) = (keys.records(), 0);
        while bytes_of(&records) > self.needed_bytes_max {
            match keys.forget_oldest() {
                0 => break,
                count => forgotten += count,
            }
            records = keys.records();
        }
        if forgotten > 0 {
            warn!(
                keys = forgotten,
                "forgot the oldest idempotency keys for younger ones; a retry of theirs would be stored again"
            );
        }
        self.compact(&records)
    }

    /// Writes what is still needed into a file of its own and removes the others. False if there is no space, if it is more
    /// than there may be, or nothing to write anew: then nothing is changed.
    ///
    /// # Errors
    /// The new file cannot be made for another reason, or the others cannot be removed.
    pub(super) fn compact(&mut self, records: &[KeyRecord]) -> Result<bool, JournalError> {
        let bytes = bytes_of(records);
        if bytes > 2 * self.needed_bytes_max || (self.old_files.is_empty() && self.log.is_none()) {
            return Ok(false);
        }
        let before = (self.log.take(), self.compact_bytes);
        self.old_files.extend(before.0.as_ref().map(|log| (log.header().file, log.position().offset)));
        if !unless_no_space(self.begin_file().and_then(|()| self.write(records, bytes)))? {
            info!("the key log is not written anew, for lack of space");
            if let Some(path) = self.log.take().map(|log| log_path(&self.folder, log.header().file)) {
                fs::remove_file(&path).map_err(|source| JournalError::WriteLog { path, source })?;
            }
            if before.0.is_some() {
                self.old_files.pop();
            }
            (self.log, self.compact_bytes) = before;
            return Ok(false);
        }
        self.compact_bytes = self.newest_bytes();
        for (number, _) in self.old_files.drain(..) {
            let path = log_path(&self.folder, number);
            fs::remove_file(&path).map_err(|source| JournalError::WriteLog { path, source })?;
        }
        let folder = self.folder.clone();
        fsync_directory(&folder).map_err(|source| JournalError::WriteLog { path: folder, source })?;
        Ok(true)
    }

    /// Writes records, which take so many bytes, to the newest file, a chunk at a time.
    fn write(&mut self, records: &[KeyRecord], bytes: u64) -> Result<(), JournalError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let path = log_path(&self.folder, log.header().file);
        let failed = |source| JournalError::WriteLog { path: path.clone(), source };
        // All at once: where there is no room, nothing is written.
        log.reserve_exactly(bytes).map_err(failed)?;
        let mut gathered = 0;
        for (segment, payload) in records.iter().map(payload_of) {
            let bytes = (FRAME_HEADER_BYTES + payload.len()) as u64;
            log.push(FrameKind::Keys, self.next_sequence, segment, &payload);
            self.next_sequence += 1;
            gathered += bytes;
            if gathered > CHUNK_BYTES {
                log.sync()?;
                gathered = 0;
            }
        }
        log.sync()
    }

    fn newest_bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.position().offset)
    }

    fn begin_file(&mut self) -> Result<(), JournalError> {
        make_private_directory(&self.folder)
            .map_err(|source| JournalError::OpenDirectory { path: self.folder.clone(), source })?;
        let header = LogHeader {
            journal: self.journal,
            epoch: 0,
            file: self.old_files.last().map_or(1, |(newest, _)| newest + 1),
            first_sequence: self.next_sequence,
            first_segment: 1,
            previous_bytes: 0,
            anew_bytes: 0,
            salt: rand::random(),
        };
        self.log = Some(LogWriter::create(&self.folder, header, None)?);
        self.compact_bytes = 0;
        Ok(())
    }
}

fn payload_of(record: &KeyRecord) -> (u64, Vec<u8>) {
    (record.segment, serde_json::to_vec(record).expect("a record is plain data"))
}

/// What records take in a file. Unit: bytes.
fn bytes_of(records: &[KeyRecord]) -> u64 {
    let frames = records.iter().map(|record| (FRAME_HEADER_BYTES + payload_of(record).1.len()) as u64);
    LOG_HEADER_BYTES as u64 + frames.sum::<u64>()
}

/// Whether something was done, or could not be for lack of space.
fn unless_no_space(outcome: Result<(), JournalError>) -> Result<bool, JournalError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is_no_space() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads one file; answers how many places of it are damaged. What breaks off at the end of the last one was never
/// counted on, since its segment is not retired: it is cut, so that it is no damage once another file follows.
fn read_file(
    folder: &Path,
    journal: [u8; 16],
    number: u64,
    is_last: bool,
    records: &mut Vec<KeyRecord>,
) -> Result<u64, JournalError> {
    let mut log = match LogReader::open(folder, number) {
        Ok(log) => log,
        Err(JournalError::DamagedLog { path }) => {
            error!(path = %path.display(), "the head of a file of the key log is damaged; its keys are forgotten");
            return Ok(1);
        }
        Err(error) => return Err(error),
    };
    if log.header().journal != journal {
        warn!(path = %log.path().display(), "a file of the key log is another journal's; its keys are none of this one");
        return Ok(0);
    }
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
                None if is_last => {
                    let path = log.path().to_owned();
                    cut_file(&path, start).map_err(|source| JournalError::WriteLog { path, source })?;
                    return Ok(damaged);
                }
                None => return Ok(damaged + 1),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::control::{KeyEntry, Settled};
    use crate::journal::keys::{KeyName, KeyedBatch};
    use chrono::NaiveDate;

    fn record(segment: u64) -> KeyRecord {
        let entry = KeyEntry {
            key: "0a".repeat(16),
            digest: "0b".repeat(32),
            sequence: segment * 10,
            rows: 1,
            partition_date: NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists"),
            last_date: None,
            received_micros: 0,
        };
        KeyRecord { epoch: 7, segment, table: "events".to_owned(), settled: Settled::default(), keys: vec![entry] }
    }

    struct Fixture {
        folder: tempfile::TempDir,
        needed_bytes_max: u64,
        keys: Keys,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let clock = crate::clock::SystemClock::shared();
            let keys = Keys::new(clock, std::sync::Arc::default(), 10);
            Self { folder, needed_bytes_max: 1 << 20, keys }
        }

        fn open(&self) -> (KeyLog, Vec<KeyRecord>, u64) {
            KeyLog::open(self.folder.path(), [3; 16], self.needed_bytes_max).expect("it can be read")
        }

        /// The records of a segment with one key, which is retired now.
        fn settled(&self, segment: u64) -> Vec<KeyRecord> {
            let [(name, batch)] = record(segment).into_batches().try_into().expect("it has one key");
            let name = KeyName::of(&format!("{name:?} {segment}"));
            self.keys.remember(name, KeyedBatch { settled: None, ..batch });
            self.keys.settle(segment, &std::sync::Arc::default())
        }

        /// Keeps a record that there is room for.
        fn keep(&self, log: &mut KeyLog, segment: u64) {
            assert!(log.keep(&[record(segment)], &self.keys).expect("the disk works"));
        }

        fn files(&self) -> Vec<PathBuf> {
            let folder = self.folder.path().join(FOLDER);
            let numbers = log_files_in(&folder).expect("it can be listed");
            numbers.into_iter().map(|number| log_path(&folder, number)).collect()
        }
    }

    #[test]
    fn keys_of_another_journal_that_was_in_the_folder_are_none_of_this_one() {
        let fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        fixture.keep(&mut log, 1);
        drop(log);
        let (mut other, found, damaged) =
            KeyLog::open(fixture.folder.path(), [4; 16], 1 << 20).expect("it can be read");
        assert_eq!((found, damaged), (vec![], 0));
        assert!(other.compact(&[]).expect("the disk works"));
        let (_, found, damaged) = fixture.open();
        assert_eq!((found, damaged), (vec![], 0));
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_is_made_for_nothing() {
        let fixture = Fixture::new();
        let (mut log, found, damaged) = fixture.open();
        assert_eq!((found, damaged), (vec![], 0));
        assert!(!log.compact(&[]).expect("there is nothing to do"));
        assert!(!fixture.folder.path().join(FOLDER).is_dir());
        for segment in 1..4 {
            fixture.keep(&mut log, segment);
        }
        assert_eq!(fixture.open().1, [record(1), record(2), record(3)]);
    }

    #[test]
    fn a_file_that_is_written_anew_replaces_the_others() {
        let fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        for segment in 1..4 {
            fixture.keep(&mut log, segment);
        }
        let (mut log, ..) = fixture.open();
        assert!(log.compact(&[record(3)]).expect("the disk works"));
        fixture.keep(&mut log, 4);
        assert_eq!(fixture.open().1, [record(3), record(4)]);
        assert_eq!(fixture.files().len(), 1);
    }

    #[test]
    fn a_torn_end_is_passed_over_and_a_damaged_entry_costs_itself_alone() {
        let fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        for segment in 1..4 {
            fixture.keep(&mut log, segment);
        }
        let path = fixture.files().remove(0);
        let whole = fs::read(&path).expect("it can be read");
        fs::write(&path, &whole[..whole.len() - 5]).expect("it can be written");
        let (mut log, found, damaged) = fixture.open();
        assert_eq!((found, damaged), (vec![record(1), record(2)], 0));
        // It is no damage either once another file follows.
        fixture.keep(&mut log, 4);
        let (_, found, damaged) = fixture.open();
        assert_eq!((found, damaged), (vec![record(1), record(2), record(4)], 0));
        fs::remove_file(&fixture.files()[1]).expect("it can be removed");
        let second = whole.len() / 2;
        let mut damaged = whole;
        damaged[second] ^= 1;
        fs::write(&path, damaged).expect("it can be written");
        assert_eq!(fixture.open().1, [record(1), record(3)]);
        assert_eq!(fixture.open().2, 1);
    }

    #[test]
    fn a_damaged_head_costs_the_keys_of_its_file_and_stops_no_start() {
        let fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        fixture.keep(&mut log, 1);
        let path = fixture.files().remove(0);
        let mut bytes = fs::read(&path).expect("it can be read");
        bytes[3] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
        let (mut log, found, damaged) = fixture.open();
        assert_eq!((found, damaged), (vec![], 1));
        assert!(log.compact(&[]).expect("the disk works"));
        fixture.keep(&mut log, 2);
        assert_eq!(fixture.open().1, [record(2)]);
    }

    /// Invariant I12: the key log has its bound, and beyond it the oldest keys are forgotten and nothing fails.
    #[test]
    fn i12_the_oldest_keys_make_room_for_the_youngest() {
        let clock = crate::clock::SystemClock::shared();
        let keys = Keys::new(clock, std::sync::Arc::default(), 100);
        let fixture = Fixture { needed_bytes_max: 2_000, keys, ..Fixture::new() };
        let (mut log, ..) = fixture.open();
        for segment in 1..60 {
            let records = fixture.settled(segment);
            assert!(log.keep(&records, &fixture.keys).expect("the disk works"));
            assert!(log.size_bytes() <= 4_000, "{}", log.size_bytes());
        }
        let mut segments: Vec<u64> = fixture.open().1.iter().map(|record| record.segment).collect();
        segments.sort_unstable();
        let first = segments[0];
        assert!((20..58).contains(&first), "{segments:?}");
        assert_eq!(segments, (first..60).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_never_got_its_head_takes_no_space_after_a_start() {
        let fixture = Fixture::new();
        let (mut log, ..) = fixture.open();
        fixture.keep(&mut log, 1);
        let torn = fixture.folder.path().join(FOLDER).join("0000000000000002.tmp");
        fs::write(&torn, "LAKE").expect("it can be written");
        fixture.open();
        assert!(!torn.try_exists().expect("the folder can be read"));
    }
}
