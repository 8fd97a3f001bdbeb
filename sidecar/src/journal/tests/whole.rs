//! Journals of which a part is there: files that were removed, cut between two frames, or have not arrived.

use super::*;

/// A journal of small files.
fn small_files() -> Fixture {
    Fixture { size_limit_bytes: 1 << 20, ..Fixture::new() }
}

/// As who has copies of its files would open it.
fn open_copies(fixture: &Fixture) -> OpenedJournal {
    let as_copies = |options| JournalOptions { takes_old: true, files: Files::Copies, ..options };
    fixture.try_open_as(as_copies).expect("it can be opened")
}

/// Two segments, of which the first goes on into the second log file and the second begins there; both are sealed.
async fn two_segments(fixture: &Fixture) -> (u32, u32) {
    let opened = fixture.open();
    let (mut first, mut number) = (append(&opened.journal, "first", 0).await.segment, 1);
    while opened.journal.view().end.file == 1 {
        first = append(&opened.journal, "first", number).await.segment;
        number += 1;
    }
    let second = append(&opened.journal, "second", number).await.segment;
    for segment in [first, second] {
        opened.journal.seal(segment, SealReason::Request).await.expect("the disk works");
    }
    close(opened);
    (number, 1)
}

fn tables(opened: &OpenedJournal) -> Vec<String> {
    opened.segments.iter().map(|segment| segment.contents.table.clone()).collect()
}

#[tokio::test]
async fn copies_give_what_is_sealed_in_them_and_count_the_rest() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let segment = append(&opened.journal, "sealed", 1).await.segment;
    append(&opened.journal, "open", 2).await;
    opened.journal.seal(segment, SealReason::Request).await.expect("the disk works");
    close(opened);
    let part = open_copies(&fixture);
    assert_eq!((tables(&part), left_rows(&part)), (vec!["sealed".to_owned()], 1));
}

/// What is a part of a segment was once delivered under the name of the whole, which could never follow.
#[tokio::test]
async fn copies_without_the_first_file_leave_the_segment_that_begins_in_it() {
    let fixture = small_files();
    let (first, _) = two_segments(&fixture).await;
    fs::remove_file(&fixture.logs()[0]).expect("it can be removed");
    let part = open_copies(&fixture);
    assert_eq!((tables(&part), left_rows(&part)), (vec!["second".to_owned()], u64::from(first)));
}

#[tokio::test]
async fn a_journal_that_has_lost_its_oldest_file_delivers_the_rest_and_says_how_much_is_gone() {
    let fixture = small_files();
    let (first, _) = two_segments(&fixture).await;
    fs::remove_file(&fixture.logs()[0]).expect("it can be removed");
    let opened = fixture.open();
    let rows: u64 = opened.segments.iter().map(|segment| segment.contents.rows).sum();
    assert_eq!(tables(&opened).last().map(String::as_str), Some("second"));
    assert_eq!(rows + opened.lacking_rows, u64::from(first) + 1);
    assert!(opened.lacking_rows > 0);
}

#[tokio::test]
async fn a_segment_of_which_only_the_seal_is_left_is_counted() {
    let fixture = small_files();
    let opened = fixture.open();
    let lost = append(&opened.journal, "lost", 0).await.segment;
    let mut number = 1;
    while opened.journal.view().end.file == 1 {
        append(&opened.journal, "kept", number).await;
        number += 1;
    }
    opened.journal.seal(lost, SealReason::Request).await.expect("the disk works");
    close(opened);
    fs::remove_file(&fixture.logs()[0]).expect("it can be removed");
    assert_eq!(fixture.open().lacking_rows, 1);
}

/// An end that is missing exactly between two frames looks like an end.
#[tokio::test]
async fn an_older_file_that_ends_early_between_two_frames_is_damage() {
    let fixture = small_files();
    two_segments(&fixture).await;
    let (path, bytes, starts) = frames(&fixture);
    fs::write(&path, &bytes[..starts[starts.len() - 2]]).expect("it can be written");
    let opened = fixture.open();
    assert_eq!((opened.damaged, opened.lacking_rows), (1, 1));
    close(opened);
    // However often it is opened.
    assert_eq!(fixture.open().damaged, 1);
}

/// A tail that was cut, and everything that was written and removed since, is no damage.
#[tokio::test]
async fn a_file_that_was_cut_at_a_start_is_whole_for_the_next_one() {
    let fixture = Fixture::new();
    for number in 0..3 {
        let opened = fixture.open();
        assert_eq!((opened.damaged, opened.lacking_rows), (0, 0));
        append(&opened.journal, "t", number).await;
        close(opened);
        let newest = fixture.logs().pop().expect("there is one");
        let mut bytes = fs::read(&newest).expect("it can be read");
        bytes.extend_from_slice(b"LKFR torn");
        fs::write(&newest, bytes).expect("it can be written");
    }
}

fn left_rows(part: &OpenedJournal) -> u64 {
    part.left.iter().map(|segment| segment.rows).sum()
}
