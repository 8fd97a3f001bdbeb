//! The journal against a model of ten lines: whatever is done in whatever order, and wherever a crash cuts it, what was
//! acknowledged is found again, once, in order, in the state it had reached.
//!
//! Cases that were found are kept in `sidecar/proptest-regressions`.

use proptest::prelude::*;

use super::retries::replay;
use super::*;

/// What is done. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A batch for a table, perhaps with a key.
    Append { table: usize, key: Option<u8> },
    /// Seal the open segment of a table.
    Seal { table: usize },
    /// Plan a segment that is sealed or planned.
    Plan { choice: usize },
    /// Retire a segment that is planned.
    Retire { choice: usize },
    /// End the process and start another.
    Reopen,
    /// As `Reopen`, with bytes of a frame behind the end that never became whole.
    TearTail { bytes: u8 },
    /// An append that was being written when the process ended: so many hundredths of it are on the disk.
    CrashInAppend { table: usize, hundredths: u8 },
}

const TABLE_NAMES: [&str; 3] = ["a", "b", "c"];

fn op() -> impl Strategy<Value = Op> {
    let table = 0..TABLE_NAMES.len();
    prop_oneof![
        6 => (table.clone(), proptest::option::of(0..12_u8)).prop_map(|(table, key)| Op::Append { table, key }),
        2 => table.clone().prop_map(|table| Op::Seal { table }),
        2 => any::<usize>().prop_map(|choice| Op::Plan { choice }),
        2 => any::<usize>().prop_map(|choice| Op::Retire { choice }),
        1 => Just(Op::Reopen),
        1 => any::<u8>().prop_map(|bytes| Op::TearTail { bytes }),
        1 => (table, 0..100_u8).prop_map(|(table, hundredths)| Op::CrashInAppend { table, hundredths }),
    ]
}

/// A segment as it should be.
#[derive(Clone, Debug)]
struct ModelSegment {
    number: u64,
    table: usize,
    bodies: Vec<String>,
    seal: Option<Seal>,
    plans: usize,
}

/// The model: what is not retired, and which keys are known for which batch.
#[derive(Debug, Default)]
struct Model {
    segments: Vec<ModelSegment>,
    keys: BTreeMap<u8, u64>,
    appended: u32,
}

impl Model {
    fn take(&mut self, table: usize, key: Option<u8>, appended: Appended, body: String) {
        let open = self.segments.iter_mut().find(|segment| segment.number == appended.segment);
        match open {
            Some(segment) => segment.bodies.push(body),
            None => self.segments.push(ModelSegment {
                number: appended.segment,
                table,
                bodies: vec![body],
                seal: None,
                plans: 0,
            }),
        }
        self.keys.extend(key.map(|key| (key, appended.sequence)));
    }

    /// The segment that `choice` names among those that `is_wanted`.
    fn choose(&mut self, choice: usize, is_wanted: impl Fn(&ModelSegment) -> bool) -> Option<&mut ModelSegment> {
        let mut wanted: Vec<_> = self.segments.iter_mut().filter(|segment| is_wanted(segment)).collect();
        let count = wanted.len();
        (count > 0).then(|| wanted.swap_remove(choice % count))
    }
}

/// The journal and its model.
struct Pair {
    fixture: Fixture,
    opened: Option<OpenedJournal>,
    model: Model,
    /// Length of a body. Unit: bytes.
    body_bytes: usize,
}

impl Pair {
    fn new(size_limit_bytes: u64, body_bytes: usize) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let fixture = Fixture { folder: folder.expect("a temporary folder can be made"), size_limit_bytes };
        let opened = Some(fixture.open());
        Self { fixture, opened, model: Model::default(), body_bytes }
    }

    fn journal(&self) -> &Journal {
        &self.opened.as_ref().expect("it is open between two operations").journal
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Append { table, key } => self.append(table, key).await,
            Op::Seal { table } => {
                let open = self.model.choose(0, |segment| segment.table == table && segment.seal.is_none());
                let Some(number) = open.map(|segment| segment.number) else { return };
                let sealed = self.journal().seal(number, SealReason::Request).await.expect("the disk works");
                let seal = sealed.expect("it is open").seal;
                let open = self.model.choose(0, |segment| segment.number == number).expect("it is known");
                open.seal = Some(seal);
            }
            Op::Plan { choice } => {
                let Some(segment) = self.model.choose(choice, |segment| segment.seal.is_some()) else { return };
                segment.plans += 1;
                let (number, seal) = (segment.number, segment.seal.clone().expect("it is sealed"));
                self.journal().plan(number, plan_of(&seal)).await.expect("the disk works");
            }
            Op::Retire { choice } => {
                let Some(segment) = self.model.choose(choice, |segment| segment.plans > 0) else { return };
                let number = segment.number;
                self.model.segments.retain(|segment| segment.number != number);
                self.journal().retire(number, Settled::default()).await.expect("the disk works");
            }
            Op::Reopen => self.reopen(|_, _| ()),
            Op::TearTail { bytes } => self.reopen(|_, newest| {
                let frame = frame::FrameHeader::of(frame::FrameKind::Batch, 1, 1, &[7; 300], 1).encode(1);
                let torn = [frame.as_slice(), &[7; 300]].concat();
                append_to(newest, &torn[..usize::from(bytes)]);
            }),
            Op::CrashInAppend { table, hundredths } => self.crash_in_append(table, hundredths).await,
        }
    }

    async fn append(&mut self, table: usize, key: Option<u8>) {
        let number = self.model.appended;
        self.model.appended += 1;
        let name = key.map(|key| format!("key-{key}"));
        let claim = match name.as_deref().map(|name| self.journal().keys().claim(name, [9; 32])) {
            None => None,
            Some(Ok(keys::Claimed::New(claim))) => {
                assert!(!self.model.keys.contains_key(&key.expect("it was claimed")), "{name:?} was forgotten");
                Some(claim)
            }
            Some(Ok(keys::Claimed::Replay(batch))) => {
                let known = self.model.keys.get(&key.expect("it was claimed"));
                assert_eq!(known, Some(&batch.sequence), "{name:?}");
                return;
            }
            Some(Err(error)) => panic!("{name:?} cannot be claimed: {error}"),
        };
        let batch = self.fresh_batch(table, number, name);
        let body = String::from_utf8(batch.body.bytes.to_vec()).expect("the test's bodies are text");
        match self.journal().append(batch, schema(), claim).await {
            Ok(appended) => self.model.take(table, key, appended, body),
            Err(error) => self.require_full(&error),
        }
    }

    /// What waits has the bound of the journal; what is retired must leave room for a quarter of it at the least.
    fn require_full(&self, error: &AppendError) {
        let AppendError::Full { cap_bytes } = error else { panic!("{error}") };
        let batches: usize = self.model.segments.iter().map(|segment| segment.bodies.len()).sum();
        assert!(4 * (batches * self.body_bytes) as u64 >= *cap_bytes, "{batches} batches fill {cap_bytes} bytes");
    }

    fn fresh_batch(&self, table: usize, number: u32, key: Option<String>) -> Batch {
        // Received now: a key of long ago is not taken in at a start.
        let received_micros = i64::from(now_seconds()) * 1_000_000;
        let key = key.map(|key| (key, [9; 32]));
        let body = Bytes::from(format!("{:1$}", format!("{{\"n\":{number}}}"), self.body_bytes));
        Batch { key, received_micros, body: body.into(), ..batch(TABLE_NAMES[table], number) }
    }

    /// A batch whose answer nobody got: it is there whole or not at all, by how much of it is on the disk.
    async fn crash_in_append(&mut self, table: usize, hundredths: u8) {
        let number = self.model.appended;
        self.model.appended += 1;
        let newest = self.fixture.logs().pop().expect("it has a file");
        let before = fs::metadata(&newest).expect("it is there").len();
        let batch = self.fresh_batch(table, number, None);
        let body = String::from_utf8(batch.body.bytes.to_vec()).expect("the test's bodies are text");
        let appended = match self.journal().append(batch, schema(), None).await {
            Ok(appended) => appended,
            Err(error) => return self.require_full(&error),
        };
        if self.fixture.logs().pop().as_ref() != Some(&newest) {
            // It has begun another file, which has nothing that could be cut.
            return self.model.take(table, None, appended, body);
        }
        let after = fs::metadata(&newest).expect("it is there").len();
        self.reopen(|_, _| {
            let file = fs::File::options().write(true).open(&newest).expect("it can be opened");
            file.set_len(before + (after - before) * u64::from(hundredths) / 100).expect("it can be cut");
        });
    }

    /// Ends the process, lets `crash` change the newest file, starts another, and compares.
    fn reopen(&mut self, crash: impl FnOnce(&Fixture, &Path)) {
        close(self.opened.take().expect("it is open"));
        let newest = self.fixture.logs().pop().expect("it has a file");
        crash(&self.fixture, &newest);
        let opened = self.fixture.open();
        assert_eq!(opened.damaged, 0);
        assert_eq!(opened.segments.len(), self.model.segments.len());
        self.model.segments.sort_by_key(|segment| segment.number);
        for (found, expected) in opened.segments.iter().zip(&mut self.model.segments) {
            compare(&self.fixture, found, expected);
        }
        for (key, sequence) in &self.model.keys {
            assert_eq!(replay(&opened.journal, &format!("key-{key}")).sequence, *sequence);
        }
        assert_eq!(opened.journal.keys().len(), self.model.keys.len());
        self.opened = Some(opened);
    }
}

/// A segment as it was found, against what it should be.
fn compare(fixture: &Fixture, found: &RecoveredSegment, expected: &mut ModelSegment) {
    assert_eq!((found.contents.number, &*found.contents.table), (expected.number, TABLE_NAMES[expected.table]));
    assert_eq!(bodies(fixture.path(), &found.contents), expected.bodies);
    assert_eq!(found.contents.rows, expected.bodies.len() as u64);
    match &found.state {
        SegmentState::Sealed { seal } => {
            assert_eq!(expected.plans, 0);
            // What was open is sealed by the start, and stays so.
            assert_eq!(seal, expected.seal.get_or_insert_with(|| seal.clone()));
        }
        SegmentState::Planned { plans } => assert_eq!(plans.len(), expected.plans),
        other => panic!("a start leaves no segment {}", other.name()),
    }
}

fn append_to(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = fs::File::options().append(true).open(path).expect("it can be opened");
    file.write_all(bytes).expect("it can be written");
}

fn check(ops: Vec<Op>, mut pair: Pair) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be made");
    runtime.block_on(async {
        for op in ops {
            pair.apply(op).await;
        }
        pair.reopen(|_, _| ());
        close(pair.opened.take().expect("it is open"));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_and_wherever_it_is_cut_the_journal_is_what_was_answered(
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        check(ops, Pair::new(1 << 30, 10));
    }

    /// In a journal of 1 MiB in files of 128 KiB most of them are written anew, again and again. It has no room for keys.
    #[test]
    fn whatever_is_written_anew_the_journal_is_what_was_answered(
        ops in proptest::collection::vec(op(), 50..200),
    ) {
        let without_key = |op| match op {
            Op::Append { table, .. } => Op::Append { table, key: None },
            other => other,
        };
        check(ops.into_iter().map(without_key).collect(), Pair::new(5 << 18, 40_000));
    }
}
