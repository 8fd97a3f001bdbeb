//! Segments that wait while others are delivered behind them, many times what the journal may take.

use std::collections::HashSet;

use super::retries::{append_keyed, is_known};
use super::*;
use crate::journal::anew::{Anew, Needed, write_anew};
use crate::journal::directory::unfinished_path;

/// A body of about a kilobyte, so that a small journal has many files.
fn long_batch(table: &str, number: u32) -> Batch {
    Batch { body: Bytes::from(format!("{{\"n\":{number}}}{:1000}", "")).into(), ..batch(table, number) }
}

fn trimmed(bodies: Vec<String>) -> Vec<String> {
    bodies.into_iter().map(|body| body.trim_end().to_owned()).collect()
}

/// A journal of 800 KiB in files of 100 KiB.
fn small() -> Fixture {
    Fixture { size_limit_bytes: 1 << 20, ..Fixture::new() }
}

async fn append_long(journal: &Journal, table: &str, number: u32) -> Appended {
    journal.append(long_batch(table, number), schema(), None).await.expect("there is room")
}

async fn seal_and_plan(journal: &Journal, segment: u64) -> Sealed {
    let sealed = journal.seal(segment, SealReason::Request).await.expect("the disk works").expect("it is open");
    journal.plan(segment, plan_of(&sealed.seal)).await.expect("the disk works");
    sealed
}

/// A segment of so many batches, from the first append to its retirement.
async fn deliver(journal: &Journal, table: &str, batches: u32) {
    let mut segment = 0;
    for number in 0..batches {
        segment = append_long(journal, table, number).await.segment;
    }
    seal_and_plan(journal, segment).await;
    journal.retire(segment, Settled::default()).await.expect("the disk works");
}

fn recovered(fixture: &Fixture) -> Recovered {
    let directory = JournalDirectory::open(fixture.path()).expect("nobody else has it");
    recovery::recover(&directory, &mut Reserve::open(fixture.path(), 0)).expect("it can be read")
}

/// What a start finds, as far as it matters: numbers that go on, damage, and of each segment its name, how far it is, what
/// is in it.
fn summary(fixture: &Fixture) -> (u64, u64, u64, Vec<String>) {
    let found = recovered(fixture);
    assert_eq!(found.sealed_alone, []);
    let segments = found.segments.iter().map(|RecoveredSegment { contents, state }| {
        let Contents { number, epoch, table, rows, first_sequence, last_sequence, .. } = contents;
        let bodies = trimmed(bodies(fixture.path(), contents));
        format!("{number} {epoch:x} {table} {rows} {first_sequence}..={last_sequence} {state:?} {bodies:?}")
    });
    (found.next_sequence, found.next_segment, found.damaged, segments.collect())
}

/// A copy of a journal's directory.
fn copy_of(fixture: &Fixture) -> Fixture {
    let copy = small();
    for log in fixture.logs() {
        let name = log.file_name().expect("a log has a name");
        fs::copy(&log, copy.path().join(name)).expect("it can be copied");
    }
    copy
}

/// What waits stays whole and once, for those who have read of it before and for the next start; what is delivered behind it,
/// ten times what the journal may take, finds room.
#[tokio::test]
async fn one_segment_that_waits_does_not_fill_the_journal_with_what_others_have_delivered() {
    let fixture = small();
    let opened = fixture.open();
    let journal = &opened.journal;
    append_long(journal, "waits", 0).await;
    let waits = append_long(journal, "waits", 1).await.segment;
    let sealed = seal_and_plan(journal, waits).await;
    let mut trickle = 0;
    for round in 0..400 {
        deliver(journal, "others", 20).await;
        trickle = append_long(journal, "trickle", round).await.segment;
    }
    assert!(journal.view().end.file > 60, "{:?}", journal.view().end);
    assert_eq!(bodies(fixture.path(), &sealed.contents).len(), 2);
    let before = journal.view();
    close(opened);

    let opened = fixture.open();
    assert_eq!((opened.damaged, opened.lacking_rows), (0, 0));
    let [first, second] = opened.segments.as_slice() else { panic!("two wait: {:?}", opened.segments.len()) };
    assert_eq!((first.contents.number, second.contents.number), (waits, trickle));
    assert_eq!(first.contents.epoch, sealed.contents.epoch);
    assert_eq!(first.state, SegmentState::Planned { plans: vec![plan_of(&sealed.seal)] });
    assert_eq!(trimmed(bodies(fixture.path(), &first.contents)), numbers(0, 2));
    assert_eq!(trimmed(bodies(fixture.path(), &second.contents)), numbers(0, 400));
    assert!(before.size_bytes < before.cap_bytes);
}

/// Goal: no batch is copied again and again. Method: a file that was written anew is another file on the disk.
#[tokio::test]
async fn what_waits_is_not_copied_again_while_nothing_of_it_is_delivered() {
    use std::os::unix::fs::MetadataExt;
    let fixture = small();
    let opened = fixture.open();
    append_long(&opened.journal, "waits", 0).await;
    let first = || {
        let metadata = fs::metadata(&fixture.logs()[0]).expect("it is there");
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
    };
    while opened.journal.view().end.file == 1 || first().3 > 10_000 {
        deliver(&opened.journal, "others", 20).await;
    }
    let copied = first();
    for _ in 0..200 {
        deliver(&opened.journal, "others", 20).await;
    }
    assert_eq!(first(), copied);
}

#[tokio::test]
async fn keys_of_what_waits_and_of_what_is_delivered_are_known_after_a_start() {
    // A volume with room for a key log.
    let fixture = Fixture { size_limit_bytes: 24 << 20, ..Fixture::new() };
    let opened = fixture.open();
    let now = now_seconds();
    append_keyed(&opened.journal, "waits", now, "waits").await;
    let delivered = append_keyed(&opened.journal, "delivered", now, "delivered").await.segment;
    opened.journal.seal(delivered, SealReason::Request).await.expect("the disk works");
    opened.journal.retire(delivered, Settled::default()).await.expect("the disk works");
    while fs::metadata(&fixture.logs()[0]).expect("it is there").len() > 100_000 || opened.journal.view().end.file == 1
    {
        let body = Bytes::from(vec![b' '; 1 << 20]);
        let large = Batch { body: body.into(), ..batch("others", 1) };
        let segment = opened.journal.append(large, schema(), None).await.expect("there is room").segment;
        opened.journal.seal(segment, SealReason::Request).await.expect("the disk works");
        opened.journal.retire(segment, Settled::default()).await.expect("the disk works");
    }
    close(opened);
    let opened = fixture.open();
    assert!(is_known(&opened.journal, "waits") && is_known(&opened.journal, "delivered"));
    assert_eq!(opened.segments.len(), 1);
}

/// Segments that wait in every state, in the files of several processes and epochs, among those that are retired: half of
/// what the journal may take, so that nothing is written anew by itself.
async fn mixed() -> Fixture {
    let fixture = small();
    for (process, others) in (1..).zip([30, 130, 20, 60, 40]) {
        let opened = fixture.open();
        let journal = &opened.journal;
        append_long(journal, "open", process).await;
        let planned = append_long(journal, "planned", process).await.segment;
        deliver(journal, "others", others).await;
        append_long(journal, "open", process + 1).await;
        let sealed = seal_and_plan(journal, planned).await;
        if process % 2 == 0 {
            journal.plan(planned, plan_of(&sealed.seal)).await.expect("the disk works");
        }
        let sealed = append_long(journal, "sealed", process).await.segment;
        journal.seal(sealed, SealReason::Request).await.expect("the disk works");
        close(opened);
    }
    fixture
}

/// Goal: the new file is there whole or not at all, and both are the same journal. Method: before each file takes the place
/// of the old one, a start finds it beside it, whole and cut anywhere; then in its place.
#[tokio::test]
async fn a_crash_at_any_point_leaves_the_same_journal() {
    let fixture = mixed().await;
    let found = recovered(&fixture);
    let expected = summary(&fixture);
    let (_, old) = found.files.split_last().expect("there are files");
    let mut files = OldFiles::of(old);
    let mut schemas = WaitingSchemas::default();
    let mut segments = HashSet::new();
    for RecoveredSegment { contents, .. } in &found.segments {
        files.hold(contents.number, &contents.bytes_by_file);
        contents.schemas.iter().for_each(|(fingerprint, schema)| schemas.hold(contents.number, *fingerprint, schema));
        segments.insert(contents.number);
    }
    let mut written = 0;
    while let Some(worth) = files.worth_anew(std::iter::empty(), 1) {
        let needed = Needed { segments: segments.clone(), schemas: &schemas, retired_from: worth.retired_from };
        let ahead = copy_of(&fixture);
        let outcome = write_anew(ahead.path(), &worth, &needed).expect("the disk works");
        let Anew::Written { bytes } = outcome else { panic!("{outcome:?}") };
        let path = directory::log_path(ahead.path(), worth.file);
        let new = fs::read(&path).expect("it is there");
        assert_eq!(new.len() as u64, bytes);
        let old = fs::read(directory::log_path(fixture.path(), worth.file)).expect("it is there");
        assert!(new.len() < old.len(), "{} of {}", new.len(), old.len());
        for cut in [0, 1, 79, 80, new.len() / 2, new.len() - 1, new.len()] {
            let crashed = copy_of(&fixture);
            let path = unfinished_path(&directory::log_path(crashed.path(), worth.file));
            fs::write(path, &new[..cut]).expect("it can be written");
            assert_eq!(summary(&crashed), expected, "file {} cut at {cut}", worth.file);
        }
        write_anew(fixture.path(), &worth, &needed).expect("the disk works");
        assert_eq!(summary(&fixture), expected, "file {}", worth.file);
        files.was_written_anew(worth.file, bytes, worth.needed_bytes, found.next_sequence);
        written += 1;
    }
    assert!(written >= 5, "{written}");
    // And for a process that does the rest of its life with it.
    let opened = fixture.open();
    assert_eq!((opened.damaged, opened.lacking_rows), (0, 0));
    for RecoveredSegment { contents, .. } in &opened.segments {
        opened.journal.retire(contents.number, Settled::default()).await.expect("the disk works");
    }
    close(opened);
    assert_eq!(recovered(&fixture).segments.len(), 0);
}

/// A retirement whose segment lies in an older file that nobody writes anew is all that tells that it is delivered.
#[tokio::test]
async fn a_retirement_is_kept_while_an_older_file_has_its_segment() {
    let fixture = small();
    let opened = fixture.open();
    let journal = &opened.journal;
    let delivered = append_long(journal, "delivered", 0).await.segment;
    let mut waits = 0;
    for number in 0..85 {
        waits = append_long(journal, "waits", number).await.segment;
    }
    seal_and_plan(journal, waits).await;
    seal_and_plan(journal, delivered).await;
    while journal.view().end.file == 1 {
        deliver(journal, "others", 1).await;
    }
    journal.retire(delivered, Settled::default()).await.expect("the disk works");
    let second = directory::log_path(fixture.path(), 2);
    let length = || fs::metadata(&second).expect("it is there").len();
    while journal.view().end.file < 3 || length() > 10_000 {
        deliver(journal, "others", 20).await;
    }
    close(opened);
    assert!(fs::metadata(&fixture.logs()[0]).expect("it is there").len() > 100_000, "most of the first file waits");
    let opened = fixture.open();
    let segments: Vec<_> = opened.segments.iter().map(|segment| segment.contents.number).collect();
    assert_eq!((segments, opened.lacking_rows, opened.damaged), (vec![waits], 0, 0));
}

/// Files of which something is missing are told as before.
#[tokio::test]
async fn a_file_that_was_written_anew_and_is_lost_or_cut_is_no_gap_that_was_meant() {
    let fixture = small();
    let opened = fixture.open();
    let mut number = 0;
    while opened.journal.view().end.file < 12 {
        append_long(&opened.journal, "waits", number).await;
        deliver(&opened.journal, "others", 20).await;
        number += 1;
    }
    close(opened);
    let second = directory::log_path(fixture.path(), 2);
    let whole = fs::read(&second).expect("it is there");
    assert!(whole.len() < 50_000, "{}", whole.len());
    let mut log = LogReader::open(fixture.path(), 2).expect("it can be read");
    let mut starts = Vec::new();
    while let Entry::Frame(frame) = log.next_entry().expect("it can be read") {
        log.skip(&frame).expect("it can be read");
        starts.push(usize::try_from(log.offset()).expect("the file is short"));
    }
    fs::write(&second, &whole[..starts[starts.len() - 2]]).expect("it can be written");
    assert_eq!(recovered(&copy_of(&fixture)).damaged, 1);
    fs::remove_file(&second).expect("it can be removed");
    assert!(matches!(fixture.try_open(), Err(JournalError::OutOfOrder { .. })));
}

/// What cannot be read is not written anew: it was never looked at what is lost with it.
#[tokio::test]
async fn a_file_with_damage_stays_as_it_is() {
    let fixture = small();
    let opened = fixture.open();
    append_long(&opened.journal, "waits", 0).await;
    while opened.journal.view().end.file == 1 {
        deliver(&opened.journal, "others", 20).await;
    }
    let first = fixture.logs().remove(0);
    let mut bytes = fs::read(&first).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2_000].fill(7);
    fs::write(&first, &bytes).expect("it can be written");
    while opened.journal.view().end.file < 20 {
        deliver(&opened.journal, "others", 20).await;
    }
    assert_eq!(fs::read(&first).expect("it is there"), bytes);
    assert!(!*opened.journal.failed().borrow());
}

/// That it has lost its end is told at every start, as before.
#[tokio::test]
async fn a_file_that_has_lost_its_end_stays_as_it_is() {
    let fixture = small();
    let opened = fixture.open();
    append_long(&opened.journal, "waits", 0).await;
    while opened.journal.view().end.file == 1 {
        deliver(&opened.journal, "others", 20).await;
    }
    close(opened);
    let (path, bytes, starts) = frames(&fixture);
    fs::write(&path, &bytes[..starts[starts.len() - 2]]).expect("it can be written");
    let opened = fixture.open();
    while opened.journal.view().end.file < 20 {
        deliver(&opened.journal, "others", 20).await;
    }
    close(opened);
    assert_eq!(fixture.open().damaged, 1);
}

/// The bound that is left: what waits and what cannot be written anew.
#[tokio::test]
async fn i12_what_waits_has_the_bound_of_the_journal() {
    let fixture = small();
    let opened = fixture.open();
    let mut number = 0;
    let refused = loop {
        match opened.journal.append(long_batch("waits", number), schema(), None).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!(opened.journal.view().size_bytes <= opened.journal.view().cap_bytes);
}
