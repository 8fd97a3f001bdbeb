//! Journals that are opened, written, cut, damaged and opened again.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use chrono::NaiveDate;

use super::*;
use crate::clock::SystemClock;
use crate::decode::Format;
use crate::journal::control::{FileRole, PlannedFile, Seal};
use crate::journal::keys::KeyedBatch;
use crate::journal::reader::{Entry, LogReader, SegmentReader};
use crate::journal::segment::Contents;
use crate::schema::{Column, ColumnType};

mod damage;
mod full;
mod model;
mod pinned;
mod retries;
mod whole;

/// A journal in a temporary folder, opened and closed as a process would.
struct Fixture {
    folder: tempfile::TempDir,
    size_limit_bytes: u64,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made"), size_limit_bytes: 1 << 30 }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The batches of these tests are of 1970.
    fn try_open(&self) -> Result<OpenedJournal, JournalError> {
        self.try_open_as(|options| JournalOptions { takes_old: true, ..options })
    }

    fn try_open_as(&self, set: impl FnOnce(JournalOptions) -> JournalOptions) -> Result<OpenedJournal, JournalError> {
        let options = set(JournalOptions::new(self.path().to_owned(), self.size_limit_bytes));
        Journal::open(&options, SystemClock::shared(), Arc::new(Metrics::default()))
    }

    fn open(&self) -> OpenedJournal {
        self.try_open().expect("the journal can be opened")
    }

    fn logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).expect("the folder can be read");
        let paths = entries.map(|entry| entry.expect("the entry can be read").path());
        let mut logs: Vec<_> = paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "log")).collect();
        logs.sort();
        logs
    }
}

/// Waits for the thread, as the end of a process would.
fn close(opened: OpenedJournal) {
    let OpenedJournal { journal, thread, .. } = opened;
    drop(journal);
    thread.join().expect("the thread ends without a panic");
}

fn schema() -> Schema {
    Schema::new(vec![Column::new("n", ColumnType::Bigint)]).expect("one column is legal")
}

fn batch(table: &str, number: u32) -> Batch {
    Batch {
        format: Format::Ndjson,
        rows: 1,
        misfits: 0,
        received_micros: i64::from(number) * 1_000_000,
        partition_date: NaiveDate::from_ymd_opt(2026, 1, 1).expect("the date exists"),
        days: None,
        schema: schema().fingerprint(),
        table: table.to_owned(),
        key: None,
        present: vec![true],
        expanded_bytes: None,
        body: Bytes::from(format!("{{\"n\":{number}}}")).into(),
    }
}

async fn append(journal: &Journal, table: &str, number: u32) -> Appended {
    journal.append(batch(table, number), schema(), None).await.expect("there is room")
}

/// What a test reads of a journal's first file: its bytes and where its frames begin, the end of the last one included.
fn frames(fixture: &Fixture) -> (PathBuf, Vec<u8>, Vec<usize>) {
    let path = fixture.logs().remove(0);
    let mut log = LogReader::open(fixture.path(), 1).expect("the journal has a first file");
    let mut starts = vec![frame::LOG_HEADER_BYTES];
    while let Entry::Frame(frame) = log.next_entry().expect("the file can be read") {
        log.skip(&frame).expect("the file can be read");
        starts.push(usize::try_from(log.offset()).expect("the file is short"));
    }
    let bytes = fs::read(&path).expect("the log can be read");
    (path, bytes, starts)
}

/// Names of what was set aside, sorted.
fn aside(fixture: &Fixture) -> Vec<String> {
    let entries = fs::read_dir(fixture.path().join("damaged")).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("the entry can be read").file_name().into_string().expect("our names are text"))
        .collect();
    names.sort();
    names
}

/// The bodies of a segment, read back from the log files.
fn bodies(directory: &Path, contents: &Contents) -> Vec<String> {
    let mut reader = SegmentReader::open(directory, contents).expect("the segment's first file is there");
    let mut bodies = Vec::new();
    while let Some((_, batch)) = reader.next_batch().expect("the files can be read") {
        bodies.push(String::from_utf8(batch.body.bytes.to_vec()).expect("the test's bodies are text"));
    }
    bodies
}

fn numbers(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|number| format!("{{\"n\":{number}}}")).collect()
}

fn plan_of(seal: &Seal) -> Plan {
    let file = PlannedFile {
        key: "data/t/year=2026/month=1/day=1/data_000000_x.parquet".to_owned(),
        part: 0,
        role: FileRole::Main,
        partition_date: NaiveDate::from_ymd_opt(2026, 1, 1).expect("the date exists"),
        rows: seal.rows,
        size_bytes: 1,
        sha256: "00".repeat(32),
        row_digest: "xxh3-sum-1:0".to_owned(),
    };
    Plan {
        seal: seal.clone(),
        schema_version: 1,
        files: vec![file],
        quarantined: vec![],
        quarantined_rows: 0,
        poison: std::collections::BTreeSet::new(),
        quarantined_by_batch: BTreeMap::new(),
    }
}

/// Invariant I1: what was answered is found after the process is gone, whatever it was doing.
#[tokio::test]
async fn i1_what_was_acknowledged_is_found_again_in_order() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    for number in 0..20 {
        append(&opened.journal, if number % 2 == 0 { "even" } else { "odd" }, number).await;
    }
    close(opened);
    let opened = fixture.open();
    assert_eq!(opened.damaged, 0);
    let [even, odd] = opened.segments.as_slice() else { panic!("two tables make two segments") };
    assert_eq!(bodies(fixture.path(), &even.contents), numbers(0, 20).into_iter().step_by(2).collect::<Vec<_>>());
    assert_eq!((even.contents.rows, odd.contents.rows), (10, 10));
    assert_eq!(even.contents.observed, schema().columns());
}

#[tokio::test]
async fn what_was_open_is_sealed_at_its_last_receive_time_however_often_it_is_opened() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 1).await;
    append(&opened.journal, "t", 7).await;
    close(opened);
    let first = fixture.open();
    let state = first.segments[0].state.clone();
    close(first);
    let second = fixture.open();
    assert_eq!(second.segments[0].state, state);
    let SegmentState::Sealed { seal } = state else { panic!("it is sealed") };
    assert_eq!(seal.sealed_at.timestamp(), 7);
    assert_eq!(seal.reason, SealReason::Recovery);
}

#[tokio::test]
async fn a_tail_that_breaks_off_anywhere_is_cut_and_the_batches_before_it_survive() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 0).await;
    let log = fixture.logs().remove(0);
    let whole_before = fs::metadata(&log).expect("the log is there").len();
    append(&opened.journal, "t", 1).await;
    close(opened);
    let bytes = fs::read(&log).expect("the log can be read");
    for length in usize::try_from(whole_before).expect("it is short") + 1..bytes.len() {
        let cut = Fixture::new();
        let name = log.file_name().expect("it has a name");
        fs::write(cut.path().join(name), &bytes[..length]).expect("the copy can be written");
        let opened = cut.open();
        assert_eq!(opened.damaged, 0, "{length} bytes");
        assert_eq!(bodies(cut.path(), &opened.segments[0].contents), numbers(0, 1), "{length} bytes");
        close(opened);
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_set_aside_and_what_stands_around_it_survives() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let log = fixture.logs().remove(0);
    append(&opened.journal, "t", 0).await;
    let start = usize::try_from(fs::metadata(&log).expect("the log is there").len()).expect("it is short");
    append(&opened.journal, "t", 1).await;
    let end = usize::try_from(fs::metadata(&log).expect("the log is there").len()).expect("it is short");
    append(&opened.journal, "t", 2).await;
    close(opened);
    let bytes = fs::read(&log).expect("the log can be read");
    let (kept_first, kept_last) = (numbers(0, 1).remove(0), numbers(2, 3).remove(0));
    for at in start..end {
        let damaged = Fixture::new();
        let mut copy = bytes.clone();
        copy[at] ^= 0x40;
        fs::write(damaged.path().join(log.file_name().expect("it has a name")), copy).expect("it can be written");
        let opened = damaged.open();
        assert_eq!(opened.damaged, 1, "byte {at}");
        let found = bodies(damaged.path(), &opened.segments[0].contents);
        assert_eq!(found, [kept_first.clone(), kept_last.clone()], "byte {at}");
        let aside: Vec<_> = fs::read_dir(damaged.path().join("damaged")).expect("it was made").collect();
        assert_eq!(aside.len(), 1);
        close(opened);
    }
}

#[tokio::test]
async fn an_unknown_version_is_refused_and_nothing_is_changed() {
    let fixture = Fixture::new();
    close(fixture.open());
    let log = fixture.logs().remove(0);
    let mut bytes = fs::read(&log).expect("the log can be read");
    bytes[8] = 99;
    fs::write(&log, &bytes).expect("the log can be written");
    let error = fixture.try_open().expect_err("the version is not known");
    assert!(matches!(error, JournalError::UnknownVersion { version: 99, .. }), "{error}");
    assert_eq!(fixture.logs(), std::slice::from_ref(&log));
    assert_eq!(fs::read(&log).expect("the log can be read"), bytes);
}

#[tokio::test]
async fn a_missing_log_file_is_refused() {
    let fixture = Fixture { size_limit_bytes: 1 << 20, ..Fixture::new() };
    let opened = fixture.open();
    for number in 0..6_000 {
        append(&opened.journal, "t", number).await;
    }
    close(opened);
    let logs = fixture.logs();
    assert!(logs.len() > 2, "a small volume has small files");
    fs::remove_file(&logs[1]).expect("the file can be removed");
    let error = fixture.try_open().expect_err("a file is missing");
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[tokio::test]
async fn every_open_begins_another_epoch_and_old_segments_keep_theirs() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 1).await;
    let id = opened.journal.id();
    close(opened);
    let opened = fixture.open();
    let first = opened.segments[0].contents.epoch;
    append(&opened.journal, "t", 2).await;
    assert_eq!(opened.journal.id(), id);
    close(opened);
    let opened = fixture.open();
    let epochs: Vec<u64> = opened.segments.iter().map(|segment| segment.contents.epoch).collect();
    assert_eq!((epochs.len(), epochs[0]), (2, first));
    assert_ne!(epochs[1], first);
}

/// Invariant I2: a log file goes when every segment with frames in it is retired, oldest first.
#[tokio::test]
async fn i2_log_files_go_once_their_segments_are_retired_and_numbers_go_on() {
    let fixture = Fixture { size_limit_bytes: 1 << 20, ..Fixture::new() };
    let opened = fixture.open();
    let kept = append(&opened.journal, "kept", 0).await;
    let mut last = append(&opened.journal, "t", 1).await;
    for number in 2..4_000 {
        last = append(&opened.journal, "t", number).await;
    }
    let files_before = fixture.logs().len();
    assert!(files_before > 1);
    let sealed = opened.journal.seal(last.segment, SealReason::Age).await.expect("the disk works");
    let seal = sealed.expect("it is open").seal;
    opened.journal.plan(last.segment, plan_of(&seal)).await.expect("the disk works");
    opened.journal.retire(last.segment, Settled::default()).await.expect("the disk works");
    assert_eq!(fixture.logs().len(), files_before, "the first file still holds the other table's batch");
    opened.journal.seal(kept.segment, SealReason::Age).await.expect("the disk works").expect("it is open");
    opened.journal.retire(kept.segment, Settled::default()).await.expect("the disk works");
    assert_eq!(fixture.logs().len(), 1);
    assert_eq!(opened.journal.view().unretired(None), Vec::<u64>::new());
    close(opened);
    let opened = fixture.open();
    assert!(opened.segments.is_empty());
    let next = append(&opened.journal, "t", 9).await;
    assert!(next.segment > last.segment && next.sequence > last.sequence, "{next:?} after {last:?}");
}

#[tokio::test]
async fn a_planned_segment_comes_back_with_its_plan_even_without_its_seal() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let appended = append(&opened.journal, "t", 1).await;
    let log = fixture.logs().remove(0);
    let seal_at = usize::try_from(fs::metadata(&log).expect("the log is there").len()).expect("it is short");
    let sealed = opened.journal.seal(appended.segment, SealReason::Age).await.expect("the disk works");
    let seal = sealed.expect("it is open").seal;
    opened.journal.plan(appended.segment, plan_of(&seal)).await.expect("the disk works");
    close(opened);
    let expected = SegmentState::Planned { plans: vec![plan_of(&seal)] };
    let opened = fixture.open();
    assert_eq!(opened.segments[0].state, expected);
    close(opened);
    let mut bytes = fs::read(&log).expect("the log can be read");
    bytes[seal_at] ^= 1;
    fs::write(&log, bytes).expect("the log can be written");
    let opened = fixture.open();
    assert_eq!((opened.damaged, &opened.segments[0].state), (1, &expected));
}

/// Invariant I12: the journal keeps to its share of the volume.
#[tokio::test]
async fn i12_a_full_journal_refuses_and_takes_again_after_a_retirement() {
    let fixture = Fixture { size_limit_bytes: 64 << 10, ..Fixture::new() };
    let opened = fixture.open();
    let mut last = None;
    let error = loop {
        match opened.journal.append(batch("t", 1), schema(), None).await {
            Ok(appended) => last = Some(appended),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Full { .. }) && error.is_refused(), "{error}");
    let size: u64 = fixture.logs().iter().map(|log| fs::metadata(log).expect("it is there").len()).sum();
    assert!(size <= fixture.size_limit_bytes / 100 * JOURNAL_SHARE_PERCENT, "{size} bytes");
    let segment = last.expect("some were taken").segment;
    opened.journal.seal(segment, SealReason::Request).await.expect("a seal always has room").expect("it is open");
    opened.journal.retire(segment, Settled::default()).await.expect("a retirement always has room");
    append(&opened.journal, "t", 2).await;
}

#[tokio::test]
async fn requests_that_wait_together_are_all_answered_and_all_stored_once() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let appends = (0..200).map(|number| append(&opened.journal, "t", number));
    let mut sequences: Vec<u64> =
        futures::future::join_all(appends).await.into_iter().map(|appended| appended.sequence).collect();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), 200);
    close(opened);
    let opened = fixture.open();
    let mut found = bodies(fixture.path(), &opened.segments[0].contents);
    found.sort();
    let mut expected = numbers(0, 200);
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_body_that_looks_like_frames_is_not_taken_for_them_after_damage() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 0).await;
    let log = fixture.logs().remove(0);
    let frames = fs::read(&log).expect("the log can be read")[frame::LOG_HEADER_BYTES..].to_vec();
    let start = usize::try_from(fs::metadata(&log).expect("the log is there").len()).expect("it is short");
    // The client cannot know the file's salt; frames of another file are the closest that it can send.
    let other = Fixture::new();
    let other_opened = other.open();
    append(&other_opened.journal, "t", 666).await;
    let forged = fs::read(other.logs().remove(0)).expect("the log can be read")[frame::LOG_HEADER_BYTES..].to_vec();
    assert_ne!(forged, frames);
    let body = Batch { body: Bytes::from(forged).into(), ..batch("t", 1) };
    opened.journal.append(body, schema(), None).await.expect("there is room");
    append(&opened.journal, "t", 2).await;
    close(opened);
    let mut bytes = fs::read(&log).expect("the log can be read");
    bytes[start] ^= 1;
    fs::write(&log, bytes).expect("the log can be written");
    let opened = fixture.open();
    assert_eq!(bodies(fixture.path(), &opened.segments[0].contents), [numbers(0, 1), numbers(2, 3)].concat());
}

/// Without its schema a batch cannot be decoded. Each such frame was once a place of its own, and each was followed by
/// a search through the rest of the file.
#[tokio::test]
async fn batches_without_their_schema_are_one_place_of_damage_and_their_numbers_are_not_given_again() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let appends = (0..1_000).map(|number| append(&opened.journal, "t", number));
    futures::future::join_all(appends).await;
    let last = append(&opened.journal, "t", 1_000).await;
    close(opened);
    let (path, mut bytes, starts) = frames(&fixture);
    bytes[starts[1] - 1] ^= 1;
    fs::write(&path, &bytes).expect("the log can be written");
    let opened = fixture.open();
    assert_eq!((opened.damaged, opened.segments.len()), (1, 0));
    assert_eq!(aside(&fixture), ["0000000000000001-0000000000000050.bytes"]);
    let copy = fs::read(fixture.path().join("damaged").join(&aside(&fixture)[0])).expect("it can be read");
    assert_eq!(copy, bytes[frame::LOG_HEADER_BYTES..], "the acknowledged batches are kept to the last byte");
    let next = append(&opened.journal, "t", 0).await;
    assert!(next.segment > last.segment && next.sequence > last.sequence, "{next:?} after {last:?}");
}

#[tokio::test]
async fn a_batch_whose_schema_is_damaged_finds_it_in_a_later_file() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 0).await;
    append(&opened.journal, "t", 1).await;
    close(opened);
    let (path, mut bytes, starts) = frames(&fixture);
    let opened = fixture.open();
    append(&opened.journal, "other", 2).await;
    close(opened);
    bytes[starts[1] - 1] ^= 1;
    fs::write(&path, &bytes).expect("the log can be written");
    let opened = fixture.open();
    assert_eq!(opened.damaged, 1, "the schema's frame alone");
    assert_eq!(bodies(fixture.path(), &opened.segments[0].contents), numbers(0, 2));
}

#[tokio::test]
async fn a_frame_of_a_kind_that_is_not_known_is_set_aside_alone() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 0).await;
    append(&opened.journal, "t", 1).await;
    append(&opened.journal, "t", 2).await;
    close(opened);
    let (path, mut bytes, starts) = frames(&fixture);
    let log = LogReader::open(fixture.path(), 1).expect("the journal has a first file");
    let salt = log.header().salt;
    let payload = &bytes[starts[2] + frame::FRAME_HEADER_BYTES..starts[3]];
    let kind = frame::FrameKind::Unknown(200);
    let header = frame::FrameHeader::of(kind, 3, 1, payload, salt).encode(salt);
    bytes[starts[2]..][..header.len()].copy_from_slice(&header);
    fs::write(&path, &bytes).expect("the log can be written");
    let opened = fixture.open();
    assert_eq!(opened.damaged, 1);
    assert_eq!(bodies(fixture.path(), &opened.segments[0].contents), [numbers(0, 1), numbers(2, 3)].concat());
}

#[tokio::test]
async fn damaged_frames_that_follow_each_other_are_one_place() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    for number in 0..6 {
        append(&opened.journal, "t", number).await;
    }
    close(opened);
    let (path, mut bytes, starts) = frames(&fixture);
    // The first frame is the schema: batch 1 loses its header, batch 2 its payload, batch 4 its payload.
    for at in [starts[2], starts[4] - 1, starts[6] - 1] {
        bytes[at] ^= 1;
    }
    fs::write(&path, &bytes).expect("the log can be written");
    let opened = fixture.open();
    assert_eq!(opened.damaged, 2);
    let names = [starts[2], starts[5]].map(|start| format!("{:016x}-{start:016x}.bytes", 1));
    assert_eq!(aside(&fixture), names);
    let kept = [0, 3, 5].map(|number| format!("{{\"n\":{number}}}"));
    assert_eq!(bodies(fixture.path(), &opened.segments[0].contents), kept);
}

/// Method: of two tables in turn, one place after another loses bytes, so that a frame's end is not where its header
/// says; what recovery counts, the reader of each segment must find.
#[tokio::test]
async fn a_reader_finds_the_rows_that_recovery_counted_whatever_bytes_were_lost() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    for number in 0..6 {
        append(&opened.journal, if number % 2 == 0 { "even" } else { "odd" }, number).await;
    }
    close(opened);
    let (path, bytes, starts) = frames(&fixture);
    for at in (starts[1]..starts[5]).step_by(3) {
        let lost = Fixture::new();
        let copy = [&bytes[..at], &bytes[at + 5..]].concat();
        fs::write(lost.path().join(path.file_name().expect("it has a name")), copy).expect("it can be written");
        let opened = lost.open();
        assert_eq!(opened.damaged, 1, "byte {at}");
        let rows = opened.segments.iter().map(|segment| segment.contents.rows).sum::<u64>();
        assert!(rows >= 4, "byte {at}: {rows} rows are left of 6, and one place touches two frames at the most");
        for segment in &opened.segments {
            let found = bodies(lost.path(), &segment.contents);
            assert_eq!(found.len() as u64, segment.contents.rows, "byte {at}: {found:?}");
        }
        close(opened);
    }
}

/// Now, as the numbers of the test's batches have it.
fn now_seconds() -> u32 {
    u32::try_from(SystemClock::shared().now().timestamp()).expect("it is before 2106")
}

/// The lake may have forgotten what it was given of it: files are compacted, and descriptions of what is gone expire.
#[tokio::test]
async fn a_journal_that_comes_back_after_a_month_is_refused_unless_it_is_asked_for() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 1).await;
    close(opened);
    let error = fixture.try_open_as(|options| options).expect_err("it is of 1970");
    assert!(matches!(error, JournalError::TooOld { .. }), "{error}");
    assert!(error.to_string().contains("--replay-old-journal"), "{error}");
    assert_eq!(fixture.open().segments.len(), 1);

    let fixture = Fixture::new();
    let opened = fixture.open();
    append(&opened.journal, "t", 1).await;
    let young = Batch { received_micros: i64::from(now_seconds()) * 1_000_000, ..batch("t", 2) };
    opened.journal.append(young, schema(), None).await.expect("there is room");
    close(opened);
    // An outage of months that was written to until now is not old.
    assert!(fixture.try_open_as(|options| options).is_ok());
}
