//! Idempotency keys over restarts and crashes.

use super::*;
use crate::journal::control::KeyEntry;
use crate::journal::keys::KeyName;

pub(super) fn keyed(table: &str, number: u32, key: &str) -> Batch {
    Batch { key: Some((key.to_owned(), [9; 32])), ..batch(table, number) }
}

pub(super) async fn append_keyed(journal: &Journal, table: &str, number: u32, key: &str) -> Appended {
    let claim = match journal.keys().claim(key, [9; 32]) {
        Ok(keys::Claimed::New(claim)) => claim,
        other => panic!("{key} is not new: {other:?}"),
    };
    journal.append(keyed(table, number, key), schema(), Some(claim)).await.expect("there is room")
}

/// The batch that a key is known for.
pub(super) fn replay(journal: &Journal, key: &str) -> KeyedBatch {
    match journal.keys().claim(key, [9; 32]) {
        Ok(keys::Claimed::Replay(batch)) => batch,
        other => panic!("{key} is not known: {other:?}"),
    }
}

/// A key lives in its batch's frame, then in the key log; a restart finds it in either.
#[tokio::test]
async fn a_key_is_known_after_a_restart_before_and_after_its_segment_is_retired() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let appended = append_keyed(&opened.journal, "t", now_seconds(), "first").await;
    append(&opened.journal, "t", now_seconds()).await;
    close(opened);

    let opened = fixture.open();
    let found = replay(&opened.journal, "first");
    assert_eq!((found.sequence, found.segment, found.settled), (appended.sequence, appended.segment, None));
    let settled = Settled { files: vec![], quarantined_by_batch: BTreeMap::from([(appended.sequence, 1)]) };
    opened.journal.retire(appended.segment, settled.clone()).await.expect("the disk works");
    close(opened);

    let opened = fixture.open();
    assert!(opened.segments.is_empty(), "it is retired");
    let found = replay(&opened.journal, "first");
    assert_eq!(found.sequence, appended.sequence);
    assert_eq!(found.settled.as_deref(), Some(&settled));
    close(opened);
    // Written anew by the start before.
    let opened = fixture.open();
    assert_eq!(replay(&opened.journal, "first").settled.as_deref(), Some(&settled));
}

/// Goal: a crash between the key log and the retire frame delivers the segment again and answers from the later state.
/// Method: the retire frame is cut off.
#[tokio::test]
async fn a_key_that_a_crash_left_in_both_places_is_known_once() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let appended = append_keyed(&opened.journal, "t", now_seconds(), "first").await;
    opened.journal.seal(appended.segment, SealReason::Request).await.expect("the disk works");
    opened.journal.retire(appended.segment, Settled::default()).await.expect("the disk works");
    close(opened);
    let (path, bytes, starts) = frames(&fixture);
    fs::write(&path, &bytes[..starts[starts.len() - 2]]).expect("it can be written");

    let opened = fixture.open();
    assert_eq!(opened.segments.len(), 1);
    assert_eq!(replay(&opened.journal, "first").settled, None);
    opened.journal.retire(appended.segment, Settled::default()).await.expect("the disk works");
    assert_eq!(replay(&opened.journal, "first").settled.as_deref(), Some(&Settled::default()));
    assert_eq!(opened.journal.keys().len(), 1);
}

#[tokio::test]
async fn a_request_that_the_journal_refuses_frees_its_key() {
    let fixture = Fixture { size_limit_bytes: 8 << 20, ..Fixture::new() };
    let opened = fixture.open();
    let Ok(keys::Claimed::New(claim)) = opened.journal.keys().claim("first", [9; 32]) else { panic!("it is new") };
    let long = Batch { body: Bytes::from(vec![b' '; 8 << 20]).into(), ..keyed("t", 1, "first") };
    let refused = opened.journal.append(long, schema(), Some(claim)).await;
    assert!(matches!(refused, Err(AppendError::Full { .. })), "{refused:?}");
    assert!(matches!(opened.journal.keys().claim("first", [8; 32]), Ok(keys::Claimed::New(_))));
}

/// Whether a key was accepted before.
pub(super) fn is_known(journal: &Journal, key: &str) -> bool {
    matches!(journal.keys().claim(key, [9; 32]), Ok(keys::Claimed::Replay(_)))
}

/// Invariant I12: what the keys take counts, so that the journal stays within its share of the volume.
#[tokio::test]
async fn i12_the_key_log_is_part_of_the_journals_size() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let keyed = append_keyed(&opened.journal, "t", now_seconds(), "first").await;
    opened.journal.seal(keyed.segment, SealReason::Request).await.expect("the disk works");
    let before = opened.journal.view().size_bytes;
    opened.journal.retire(keyed.segment, Settled::default()).await.expect("the disk works");
    let kept = fs::metadata(fixture.path().join("keys/0000000000000001.log")).expect("it is there").len();
    assert!(kept > 200 && opened.journal.view().size_bytes >= before + kept, "{before} and {kept} bytes");
}

/// Goal: the answer of a key that was used again is that of its latest use. Method: the first batch is still in the journal,
/// and the second one is in the lake, so that the key log has it.
#[tokio::test]
async fn a_key_that_was_used_again_is_its_latest_batchs_after_a_restart() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let first = append_keyed(&opened.journal, "stuck", now_seconds(), "again").await;
    // As when its time is over.
    let record = |sequence| KeyRecord {
        epoch: 1,
        segment: first.segment,
        table: "stuck".to_owned(),
        settled: Settled::default(),
        keys: vec![KeyEntry {
            key: KeyName::of("again").to_hex(),
            digest: String::new(),
            sequence,
            rows: 1,
            partition_date: NaiveDate::from_ymd_opt(2026, 1, 1).expect("the date exists"),
            last_date: None,
            received_micros: 0,
        }],
    };
    assert_eq!(opened.journal.keys().forget(&[record(first.sequence)]), 1);
    let second = append_keyed(&opened.journal, "t", now_seconds(), "again").await;
    opened.journal.seal(second.segment, SealReason::Request).await.expect("the disk works");
    opened.journal.retire(second.segment, Settled::default()).await.expect("the disk works");
    close(opened);
    for start in 0..2 {
        let opened = fixture.open();
        let found = replay(&opened.journal, "again");
        assert_eq!((found.sequence, found.settled.is_some()), (second.sequence, true), "start {start}");
        close(opened);
    }
}
