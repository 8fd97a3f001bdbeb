//! Submissions on their way into a journal that has room, and into one that has not.

use super::*;
use crate::clock::SystemClock;
use crate::journal::{JournalOptions, OpenedJournal};
use crate::limits::WAITING_SCHEMA_FIELDS_MAX;
use crate::publish::directory::DirectoryStore;
use crate::publish::key::Prefix;
use crate::publish::store::Store;
use crate::schema::registry::SchemaOptions;

/// A way in, with the folder of its journal.
struct Fixture {
    intake: Arc<Intake>,
    _opened: OpenedJournal,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(size_limit_bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let directory = folder.path().join("journal");
        let options = JournalOptions::new(directory, size_limit_bytes);
        let (clock, metrics) = (SystemClock::shared(), Arc::new(Metrics::default()));
        let opened = Journal::open(&options, Arc::clone(&clock), Arc::clone(&metrics)).expect("the journal opens");
        let store = DirectoryStore::new(folder.path(), "data/_lakeingest/unfinished".to_owned(), "writer");
        let prefix = Prefix::new("data").expect("the default prefix is one");
        let (store, status) = (Store::Directory(store), Arc::new(Status::new(Arc::clone(&clock))));
        let options = SchemaOptions::default();
        let registry =
            Registry::new(store, prefix, Arc::clone(&clock), "writer".to_owned(), options, Arc::clone(&status));
        let intake = Intake::new(Arc::new(registry), opened.journal.clone(), status, metrics, clock);
        Self { intake: Arc::new(intake), _opened: opened, _folder: folder }
    }

    async fn send(&self, lines: &str) -> Result<Accepted, IntakeError> {
        self.intake.accept(submission(lines)).await
    }
}

fn submission(lines: &str) -> Submission {
    Submission {
        format: Format::Ndjson,
        coding: ContentCoding::Identity,
        table_name: Some("events".to_owned()),
        partition_date: None,
        key: None,
        on_invalid: OnInvalid::Reject,
        body: Bytes::from(lines.to_owned()),
    }
}

#[tokio::test]
async fn a_request_that_the_journal_refuses_leaves_no_column_behind() {
    let fixture = Fixture::new(32 << 20);
    fixture.send(r#"{"n": 1}"#).await.expect("there is room for a short one");
    let long = format!("{{\"n\": 1, \"x\": \"{}\"}}\n", "x".repeat(1_000_000)).repeat(32);
    let refused = fixture.send(&long).await;
    assert!(matches!(refused, Err(IntakeError::Append(AppendError::Full { .. }))), "{refused:?}");
    let accepted = fixture.send(r#"{"x": 5}"#).await.expect("x has no type yet");
    assert_eq!(accepted.rows, 1);
    let refused = fixture.send(r#"{"x": "text"}"#).await;
    assert!(matches!(refused, Err(IntakeError::Decode(_))), "what was journaled stays: {refused:?}");
}

/// Columns that come one by one, while nothing goes to the lake: each request makes a schema with all columns before it.
#[tokio::test]
async fn i12_columns_that_come_one_by_one_are_refused_before_they_fill_the_memory_and_known_ones_are_not() {
    let fixture = Fixture::new(1 << 30);
    let mut count = 0;
    let refused = loop {
        match fixture.send(&format!("{{\"c{count}\": 1}}")).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count * count / 2 <= WAITING_SCHEMA_FIELDS_MAX, "{count} columns were taken");
    };
    assert!(matches!(refused, IntakeError::Append(AppendError::TooManySchemas { .. })), "{refused:?}");
    assert!(count > 800, "{count}");
    fixture.send(r#"{"c5": 2, "c7": 3}"#).await.expect("these are known");
    let others = Submission { table_name: Some("others".to_owned()), ..submission(r#"{"n": 1}"#) };
    fixture.intake.accept(others).await.expect("another table is not refused for it");
    let of_it = |fixture: &Fixture| {
        let said = fixture.intake.status.reasons();
        said.iter().any(|reason| reason.name == reasons::JOURNAL_FULL && reason.scope == "events")
    };
    assert!(of_it(&fixture), "what is refused is said of its table");
    let refused = fixture.send(&format!("{{\"c{count}\": \"text\"}}")).await;
    assert!(matches!(refused, Err(IntakeError::Append(AppendError::TooManySchemas { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_record_that_does_not_fit_is_counted_and_brings_no_column() {
    let fixture = Fixture::new(32 << 20);
    fixture.send(r#"{"n": 1}"#).await.expect("n is a number from now on");
    let lines = "{\"n\": \"x\", \"y\": 1}\n{\"n\": 2}";
    let submission = Submission { on_invalid: OnInvalid::Quarantine, ..submission(lines) };
    let accepted = fixture.intake.accept(submission).await.expect("one of them fits");
    assert_eq!((accepted.rows, accepted.misfits, accepted.reasons.len()), (2, 1, 1));
    assert_eq!(accepted.reasons[0].pointer, "/n");
    fixture.send(r#"{"y": "text"}"#).await.expect("y has no type yet");
}

#[tokio::test]
async fn a_long_body_waits_for_its_turn_and_a_short_one_does_not() {
    let fixture = Fixture::new(1 << 30);
    let checks = u32::try_from(CHECKS_MAX).expect("there are few");
    let taken = Arc::clone(&fixture.intake.checks).acquire_many_owned(checks).await.expect("none is taken");
    let long = format!("{{\"n\": 1}}\n{}", "\n".repeat(CHECK_INLINE_BYTES));
    let mut waiting = Box::pin(fixture.send(&long));
    assert!(futures::poll!(&mut waiting).is_pending());
    fixture.send(r#"{"n": 2}"#).await.expect("a short one is checked at once");
    assert!(futures::poll!(&mut waiting).is_pending());
    assert!(matches!(turn(&fixture.intake.checks, Duration::ZERO).await, Err(IntakeError::Busy)));
    drop(taken);
    assert_eq!(waiting.await.expect("it is its turn").rows, 1);
    assert_eq!(fixture.intake.checks.available_permits(), CHECKS_MAX);
}

/// Goal: a client that goes away leaves nothing half done. Method: it goes while its body is checked on another thread.
#[tokio::test]
async fn a_client_that_goes_away_changes_nothing_of_what_becomes_of_its_request() {
    let fixture = Fixture::new(1 << 30);
    let long = format!("{{\"n\": 1, \"x\": \"text\"}}\n{}", "\n".repeat(CHECK_INLINE_BYTES));
    let mut sending = Box::pin(fixture.send(&long));
    assert!(futures::poll!(&mut sending).is_pending());
    drop(sending);
    let mut changes = fixture.intake.journal.watch();
    let journaled = changes.wait_for(|view| view.unretired_rows(None) == 1);
    tokio::time::timeout(Duration::from_secs(60), journaled)
        .await
        .expect("it is journaled")
        .expect("the journal lives");
    let refused = fixture.send(r#"{"x": 5}"#).await;
    assert!(matches!(refused, Err(IntakeError::Decode(_))), "x is text, and no column is undecided: {refused:?}");
}

/// What was accepted is answered for as long as the process answers; nothing new is taken.
#[tokio::test]
async fn a_retry_is_answered_while_the_sidecar_drains_and_a_new_key_is_not_taken() {
    let fixture = Fixture::new(1 << 30);
    let keyed = |key: &str| Submission { key: Some(key.to_owned()), ..submission(r#"{"n": 1}"#) };
    let first = fixture.intake.accept(keyed("first")).await.expect("there is room");
    fixture.intake.status.set_draining();
    let again = fixture.intake.accept(keyed("first")).await.expect("it was accepted before");
    assert_eq!((again.is_replay, again.appended), (true, first.appended));
    for submission in [keyed("second"), submission(r#"{"n": 1}"#)] {
        let refused = fixture.intake.accept(submission).await;
        assert!(matches!(refused, Err(IntakeError::Draining)), "{refused:?}");
    }
    assert_eq!(fixture.intake.journal.keys().len(), 1, "the key of what was refused is free");
}
