//! Deliveries that are cut at each arrow and taken up by the next process, on a lake in a directory.

use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::clock::SystemClock;
use crate::config::Permission;
use crate::decode::Format;
use crate::encode::Trials;
use crate::journal::batch::Batch;
use crate::journal::control::SealReason;
use crate::journal::{JournalOptions, OpenedJournal, Sealed};
use crate::lake::owner::Owner;
use crate::limits::{RETRY_FIRST, RETRY_MAX};
use crate::publish::directory::DirectoryStore;
use crate::publish::store::PutOutcome;
use crate::schema::registry::SchemaOptions;
use crate::schema::{Column, ColumnType, Schema};

/// What outlives a process: the lake, the journal and the scratch volume.
struct World {
    folder: tempfile::TempDir,
}

/// A process: its parts, and what it found.
struct Process {
    context: DeliveryContext,
    recovered: Vec<Delivery>,
    thread: std::thread::JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::create_dir(folder.path().join("lake")).expect("the lake can be made");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Process {
        let clock = SystemClock::shared();
        let metrics = Arc::new(Metrics::default());
        // Its batches are of 1970.
        let options = JournalOptions { takes_old: true, ..JournalOptions::new(self.path("journal"), 1 << 30) };
        let opened = Journal::open(&options, Arc::clone(&clock), Arc::clone(&metrics));
        let OpenedJournal { journal, segments, thread, .. } = opened.expect("the journal can be opened");
        let scratch = Scratch::open(&self.path("scratch"), 256 << 20).expect("the folder can be made");
        let prefix = Prefix::new("data").expect("the default prefix is one");
        let store = Store::Directory(DirectoryStore::new(&self.path("lake"), prefix.unfinished(), "writer"));
        let registry = Arc::new(Registry::new(
            store.clone(),
            prefix.clone(),
            Arc::clone(&clock),
            "test".to_owned(),
            SchemaOptions::default(),
            Arc::new(Status::new(Arc::clone(&clock))),
        ));
        let owner = Owner { cluster_id: None, namespace: None, name: "local".to_owned() };
        let context = DeliveryContext {
            contact: Contact::new(
                store.clone(),
                prefix.clone(),
                owner,
                Permission::default(),
                Arc::clone(&registry),
                Arc::clone(&clock),
            ),
            journal,
            store,
            prefix,
            registry,
            encoder: Encoder::start(scratch.clone(), Trials::AfterDeaths).expect("the database can be set up"),
            scratch,
            outcomes: Arc::new(Outcomes::default()),
            pace: Arc::default(),
            status: Arc::new(Status::new(Arc::clone(&clock))),
            metrics,
            clock,
        };
        let recovered = segments.into_iter().map(|segment| Delivery::new(Arc::new(segment.contents), segment.state));
        Process { context, recovered: recovered.collect(), thread }
    }

    /// The keys of the lake's data files.
    fn data_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path("lake/data/t"), self.path("lake/data/_quarantine")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("the entry can be read").path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}

impl Process {
    /// Ends as a killed process does: nothing is written on the way out.
    fn kill(self) {
        let Self { context, recovered, thread } = self;
        drop((context, recovered));
        thread.join().expect("the thread ends without a panic");
    }

    /// Journals two batches of two days and seals them.
    async fn seal(&self) -> Delivery {
        self.seal_table("t").await
    }

    async fn seal_table(&self, table: &str) -> Delivery {
        let schema = Schema::new(vec![Column::new("n", ColumnType::Bigint)]).expect("one column is legal");
        let mut segment = 0;
        for day in ["2026-01-01", "2026-01-02"] {
            let batch = Batch {
                format: Format::Ndjson,
                rows: 2,
                misfits: 0,
                received_micros: 1_000_000,
                partition_date: day.parse().expect("the date exists"),
                days: None,
                expanded_bytes: None,
                schema: schema.fingerprint(),
                table: table.to_owned(),
                key: None,
                present: vec![true],
                body: Bytes::from_static(b"{\"n\":1}\n{\"n\":2}").into(),
            };
            segment = self.context.journal.append(batch, schema.clone(), None).await.expect("there is room").segment;
        }
        let sealed = self.context.journal.seal(segment, SealReason::Age).await.expect("the disk works");
        let Sealed { contents, seal } = sealed.expect("it is open");
        Delivery::new(contents, SegmentState::Sealed { seal })
    }

    /// Goes so many steps, and answers the state that was reached.
    async fn steps(&self, delivery: &Delivery, steps: usize) -> SegmentState {
        let mut run = Run::new(&self.context, delivery.clone());
        let mut state = delivery.state.clone();
        for _ in 0..steps {
            let event = run.step(&state).await.expect("nothing is in the way");
            state = state.advance(event).expect("each step follows the one before");
        }
        state
    }

    /// Delivers what was found, trying again as the worker does, and answers how each ended.
    async fn deliver_recovered(&self) -> Vec<&'static str> {
        let mut ends = Vec::new();
        for delivery in &self.recovered {
            let mut next = delivery.clone();
            ends.push(loop {
                match deliver(&self.context, next).await {
                    Delivered::Retired => break "retired",
                    Delivered::Stuck => break "stuck",
                    Delivered::Fatal => break "fatal",
                    Delivered::Later { delivery, .. } => next = *delivery,
                }
            });
        }
        ends
    }
}

/// A process is killed after so many steps; the next one must bring the segment into the lake, once.
async fn killed_after(steps: usize, between: impl FnOnce(&World)) -> World {
    let world = World::new();
    let process = world.start();
    let delivery = process.seal().await;
    process.steps(&delivery, steps).await;
    process.kill();
    between(&world);
    let process = world.start();
    assert_eq!(process.recovered.len(), 1);
    assert_eq!(process.deliver_recovered().await, ["retired"]);
    assert_eq!(process.context.status.reasons(), []);
    process.kill();
    let process = world.start();
    assert!(process.recovered.is_empty(), "it is retired");
    world
}

/// Invariant I2, at every arrow: after a kill the segment is delivered by the next process, and each file is there once.
#[tokio::test]
async fn i2_a_delivery_that_is_cut_at_any_arrow_is_finished_by_the_next_process() {
    for steps in 0..4 {
        let world = killed_after(steps, |_| {}).await;
        assert_eq!(world.data_files().len(), 2, "after {steps} steps");
    }
}

#[tokio::test]
async fn encoded_bytes_that_are_gone_are_encoded_again_under_the_same_keys() {
    let kept = killed_after(1, |_| {}).await;
    let gone = killed_after(1, |world| std::fs::remove_dir_all(world.path("scratch")).expect("it is there")).await;
    assert_eq!((kept.data_files().len(), gone.data_files().len()), (2, 2));
}

#[tokio::test]
async fn bytes_that_changed_on_the_scratch_volume_are_not_sent() {
    let world = killed_after(1, |world| {
        for entry in std::fs::read_dir(world.path("scratch/encoded")).expect("it is there") {
            std::fs::write(entry.expect("it can be read").path(), b"torn").expect("it can be written");
        }
    })
    .await;
    for file in world.data_files() {
        assert!(std::fs::read(file).expect("it can be read").starts_with(b"PAR1"));
    }
}

#[tokio::test]
async fn of_several_files_those_that_are_up_are_left_alone() {
    let world = killed_after(2, |world| {
        let files = world.data_files();
        std::fs::remove_file(&files[1]).expect("it is there");
        std::fs::remove_dir_all(world.path("scratch")).expect("it is there");
    })
    .await;
    assert_eq!(world.data_files().len(), 2);
}

/// Once a file is described it may have been compacted away: putting it again would store its rows twice.
#[tokio::test]
async fn a_file_that_is_described_is_never_put_again() {
    let world = killed_after(3, |world| {
        for file in world.data_files() {
            std::fs::remove_file(file).expect("it is there");
        }
    })
    .await;
    assert_eq!(world.data_files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_plan_is_followed_with_its_own_schema_version_when_the_registry_has_moved_on() {
    let world = World::new();
    let process = world.start();
    let delivery = process.seal().await;
    process.steps(&delivery, 1).await;
    let added = [Column::new("later", ColumnType::Varchar)];
    process.context.registry.reconcile("t", &added).await.expect("the lake is there");
    process.kill();
    std::fs::remove_dir_all(world.path("scratch")).expect("it is there");
    let process = world.start();
    let plans = |state: &SegmentState| match state {
        SegmentState::Planned { plans } => plans.clone(),
        other => panic!("it is {}", other.name()),
    };
    let before = plans(&process.recovered[0].state);
    let after = plans(&process.steps(&process.recovered[0], 1).await);
    assert_eq!(after.len(), 2);
    assert_eq!((after[1].schema_version, &after[1].files), (1, &before[0].files));
    assert_eq!(process.deliver_recovered().await, ["retired"]);
}

/// The same rows in other bytes, as a later encoder would write them, are recognised by what the file says of itself.
#[tokio::test]
async fn an_object_with_the_same_rows_in_other_bytes_is_accepted() {
    let world = World::new();
    let process = world.start();
    let delivery = process.seal().await;
    let state = process.steps(&delivery, 1).await;
    let SegmentState::Planned { plans } = state else { panic!("it is planned") };
    let segment = SegmentName {
        journal: process.context.journal.id(),
        epoch: delivery.contents.epoch,
        number: delivery.contents.number,
    };
    let planned = &plans[0].files[0];
    let words = [
        ("segment", segment.to_string()),
        ("part", planned.part.to_string()),
        ("rows", planned.rows.to_string()),
        ("row_digest", planned.row_digest.clone()),
    ];
    let words: Vec<String> = words.iter().map(|(key, value)| format!("'lakeingest.{key}': '{value}'")).collect();
    let path = world.path("lake").join(&planned.key);
    std::fs::create_dir_all(path.parent().expect("a key has folders")).expect("they can be made");
    let connection = duckdb::Connection::open_in_memory().expect("a database can be opened");
    let copy = format!(
        "COPY (SELECT 2 AS n UNION ALL SELECT 1) TO '{}' (FORMAT parquet, COMPRESSION snappy, KV_METADATA {{{}}})",
        path.display(),
        words.join(", ")
    );
    connection.execute_batch(&copy).expect("the file can be written");
    let before = std::fs::read(&path).expect("it can be read");
    process.kill();
    let process = world.start();
    assert_eq!(process.deliver_recovered().await, ["retired"]);
    assert_eq!(std::fs::read(&path).expect("it can be read"), before);
    assert_eq!(world.data_files().len(), 2);
}

#[tokio::test]
async fn a_strange_object_at_the_key_is_not_overwritten_and_the_segment_stays() {
    let world = World::new();
    let process = world.start();
    let delivery = process.seal().await;
    let SegmentState::Planned { plans } = process.steps(&delivery, 1).await else { panic!("it is planned") };
    let key = plans[0].files[0].key.clone();
    let put = process.context.store.put(&key, Bytes::from_static(b"somebody else's")).await;
    assert_eq!(put.expect("the lake is there"), PutOutcome::Created);
    process.kill();
    let process = world.start();
    assert_eq!(process.deliver_recovered().await, ["stuck"]);
    let reasons: Vec<_> = process.context.status.reasons().iter().map(|reason| reason.name).collect();
    assert_eq!(reasons, [reasons::KEY_CONFLICT]);
    let content = std::fs::read(world.path("lake").join(&key)).expect("it is there");
    assert_eq!(content, b"somebody else's");
    process.kill();
    assert_eq!(world.start().recovered.len(), 1, "it stays in the journal");
}

/// A copy of a running journal is sealed at another time than the original, so its files have other names: the
/// description, which has no time in its name, is what they collide at.
#[tokio::test]
async fn a_segment_that_a_copy_of_the_journal_has_delivered_with_other_rows_is_not_delivered_again() {
    let world = World::new();
    let process = world.start();
    let delivery = process.seal().await;
    let SegmentState::Planned { plans } = process.steps(&delivery, 1).await else { panic!("it is planned") };
    let segment = SegmentName {
        journal: process.context.journal.id(),
        epoch: delivery.contents.epoch,
        number: delivery.contents.number,
    };
    let planned = PlannedFile { rows: 7, key: "data/t/elsewhere.parquet".to_owned(), ..plans[0].files[0].clone() };
    let found = Found { size_bytes: 1, sha256: None };
    let description = Description::of(&planned, &found, "t", &segment, &plans[0], Vec::new());
    let (store, prefix) = (&process.context.store, &process.context.prefix);
    describe(store, prefix, &segment, &planned, &description).await.expect("nobody else has");
    process.kill();
    let process = world.start();
    assert_eq!(process.deliver_recovered().await, ["stuck"]);
    assert_eq!(world.data_files(), Vec::<PathBuf>::new());
}

/// The table that fails is tried again and is shown; another one goes to the lake beside it, and clears nothing.
#[tokio::test]
async fn a_table_with_a_bad_schema_object_does_not_keep_another_from_the_lake() {
    let world = World::new();
    let process = world.start();
    let key = process.context.prefix.schema("t", 1);
    process.context.store.put(&key, Bytes::from_static(b"no schema")).await.expect("the lake is there");
    let bad = process.seal().await;
    let Delivered::Later { is_everybodys, .. } = deliver(&process.context, bad).await else {
        panic!("it is to be tried again")
    };
    assert!(!is_everybodys);
    let good = process.seal_table("other").await;
    assert!(matches!(deliver(&process.context, good).await, Delivered::Retired));
    let left: Vec<_> = process.context.status.reasons();
    assert_eq!(
        left.iter().map(|reason| (reason.name, reason.scope.as_str())).collect::<Vec<_>>(),
        [(reasons::SCHEMA_REGISTRY, "t")]
    );
}

#[test]
fn waits_grow_to_their_bound_and_are_never_none() {
    for attempt in 0..100 {
        let wait = backoff(attempt);
        assert!(wait >= RETRY_FIRST / 2 && wait <= RETRY_MAX, "{wait:?} before attempt {attempt}");
    }
    assert!(backoff(20) >= RETRY_MAX / 2);
}
