//! Keys from their claim to the moment in which they are forgotten.

use chrono::NaiveDate;

use super::*;
use crate::clock::ManualClock;

const KEYS_IN_TEST_MAX: usize = 3_000;

fn keys() -> (Keys, Arc<ManualClock>) {
    let clock = ManualClock::at(chrono::DateTime::UNIX_EPOCH);
    (Keys::new(Arc::clone(&clock) as SharedClock, Arc::new(Metrics::default()), KEYS_IN_TEST_MAX), clock)
}

fn batch(segment: u64, sequence: u64, digest: KeyDigest) -> KeyedBatch {
    KeyedBatch {
        digest,
        table: "events".into(),
        rows: 3,
        misfits: 0,
        days: NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists").into(),
        received_micros: 7,
        sequence,
        segment,
        epoch: 5,
        settled: None,
    }
}

fn accept(keys: &Keys, key: &str, segment: u64, sequence: u64) {
    match keys.claim(key, [1; 32]) {
        Ok(Claimed::New(claim)) => claim.accepted(batch(segment, sequence, [1; 32])),
        other => panic!("{key} is not new: {other:?}"),
    }
}

#[test]
fn a_key_is_one_requests_until_it_is_answered_and_then_gives_its_answer() {
    let (keys, _) = keys();
    let Ok(Claimed::New(claim)) = keys.claim("a", [1; 32]) else { panic!("it is new") };
    assert_eq!(keys.claim("a", [1; 32]).expect_err("it is under way"), KeyError::InFlight);
    assert_eq!(keys.claim("a", [2; 32]).expect_err("it is another body"), KeyError::Reused);
    claim.accepted(batch(1, 10, [1; 32]));
    match keys.claim("a", [1; 32]) {
        Ok(Claimed::Replay(found)) => assert_eq!(found, batch(1, 10, [1; 32])),
        other => panic!("it is not known: {other:?}"),
    }
    assert_eq!(keys.claim("a", [2; 32]).expect_err("it is another body"), KeyError::Reused);
}

#[test]
fn a_request_that_was_refused_or_went_away_frees_its_key() {
    let (keys, _) = keys();
    drop(keys.claim("a", [1; 32]));
    assert!(matches!(keys.claim("a", [2; 32]), Ok(Claimed::New(_))));
    assert!(keys.is_empty());
}

#[test]
fn what_the_log_has_to_keep_is_what_is_in_the_lake() {
    let (keys, _) = keys();
    accept(&keys, "a", 1, 10);
    accept(&keys, "b", 1, 11);
    accept(&keys, "c", 2, 12);
    assert_eq!(keys.records(), []);
    let settled = Arc::new(Settled { files: vec![], quarantined_by_batch: BTreeMap::from([(11, 2)]) });
    let [record] = keys.settle(1, &settled).try_into().expect("it has a few keys");
    let record: KeyRecord = record;
    let found: Vec<_> = record.keys.iter().map(|key| (key.key.clone(), key.sequence)).collect();
    assert_eq!(found, [(KeyName::of("a").to_hex(), 10), (KeyName::of("b").to_hex(), 11)]);
    assert_eq!(keys.records(), [record]);
    assert_eq!(keys.settle(3, &settled), []);
    match keys.claim("a", [1; 32]) {
        Ok(Claimed::Replay(found)) => assert_eq!(found.settled, Some(settled)),
        other => panic!("it is not known: {other:?}"),
    }
}

#[test]
fn a_key_is_forgotten_after_its_time_by_the_monotonic_clock() {
    let (keys, clock) = keys();
    accept(&keys, "a", 1, 10);
    clock.advance(KEY_AGE_MAX);
    assert!(matches!(keys.claim("a", [1; 32]), Ok(Claimed::Replay(_))));
    clock.advance(Duration::from_secs(1));
    assert!(matches!(keys.claim("a", [1; 32]), Ok(Claimed::New(_))));
}

/// Invariant I12: more keys than there may be cost the oldest, which is counted.
#[test]
fn i12_the_oldest_key_makes_room_and_is_counted() {
    let (keys, _) = keys();
    for sequence in 0..KEYS_IN_TEST_MAX as u64 + 2 {
        accept(&keys, &sequence.to_string(), 1, sequence);
    }
    assert_eq!((keys.len(), keys.metrics.keys_evicted.get()), (KEYS_IN_TEST_MAX, 2));
    assert!(matches!(keys.claim("2", [1; 32]), Ok(Claimed::Replay(_))));
    assert!(matches!(keys.claim("1", [1; 32]), Ok(Claimed::New(_))));
}

/// Invariant I12: with the lake away no segment is retired, and what is known of keys is bounded all the same.
#[test]
fn i12_a_key_that_made_room_is_nowhere_any_more() {
    let (keys, clock) = keys();
    for sequence in 0..2 * KEYS_IN_TEST_MAX as u64 {
        accept(&keys, &sequence.to_string(), 1 + sequence % 2, sequence);
    }
    let names = |keys: &Keys| keys.inner().by_segment.values().map(VecDeque::len).sum::<usize>();
    assert_eq!((keys.len(), names(&keys)), (KEYS_IN_TEST_MAX, KEYS_IN_TEST_MAX));
    clock.advance(KEY_AGE_MAX + Duration::from_secs(1));
    accept(&keys, "last", 2, 9_999);
    assert_eq!((keys.len(), names(&keys), keys.inner().by_segment.len()), (1, 1, 1));
}

/// A key whose time was over came back with another batch, and the segment of the first one is retired only now.
#[test]
fn what_a_segment_became_is_no_answer_for_a_key_that_came_back_since() {
    let (keys, clock) = keys();
    accept(&keys, "a", 1, 10);
    clock.advance(KEY_AGE_MAX + Duration::from_secs(1));
    accept(&keys, "a", 2, 20);
    assert_eq!(keys.settle(1, &Arc::new(Settled::default())), []);
    match keys.claim("a", [1; 32]) {
        Ok(Claimed::Replay(found)) => assert_eq!((found.sequence, found.settled), (20, None)),
        other => panic!("it is not known: {other:?}"),
    }
}

#[test]
fn a_key_that_came_back_is_not_forgotten_with_the_record_of_its_first_segment() {
    let (keys, clock) = keys();
    accept(&keys, "a", 1, 10);
    let records = keys.settle(1, &Arc::new(Settled::default()));
    clock.advance(KEY_AGE_MAX + Duration::from_secs(1));
    let Ok(Claimed::New(claim)) = keys.claim("a", [1; 32]) else { panic!("its time is over") };
    assert_eq!(keys.forget(&records), 0);
    assert_eq!(keys.claim("a", [1; 32]).expect_err("it is under way"), KeyError::InFlight);
    claim.accepted(batch(2, 20, [1; 32]));
    assert_eq!(keys.forget(&records), 0);
    assert!(matches!(keys.claim("a", [1; 32]), Ok(Claimed::Replay(_))));
}

#[test]
fn many_keys_make_several_records_each_with_its_own_part_of_the_outcome() {
    let (keys, _) = keys();
    for sequence in 0..2_500 {
        accept(&keys, &sequence.to_string(), 1, sequence);
    }
    let quarantined_by_batch = BTreeMap::from([(5, 1), (2_400, 2)]);
    let records = keys.settle(1, &Arc::new(Settled { files: vec![], quarantined_by_batch }));
    let parts: Vec<_> =
        records.iter().map(|record| (record.keys.len(), record.settled.quarantined_by_batch.len())).collect();
    assert_eq!(parts, [(1_000, 1), (1_000, 0), (500, 1)]);
    assert_eq!(keys.records(), records);
    assert_eq!((keys.forget(&records[..2]), keys.len()), (2_000, 500));
    assert_eq!(keys.metrics.keys_evicted.get(), 2_000);
}
