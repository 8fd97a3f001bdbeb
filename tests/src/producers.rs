//! Producers at full speed, each answer of which is noted: single records, batches, NDJSON, columns, some that must be refused,
//! and some with an idempotency key, which are sent again until they are acknowledged.
//!
//! Owns: what is sent by chance, and which requests are still to be sent again.
//! Does not own: what becomes of the sidecar meanwhile.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use xtask::servers::Sidecar;

use crate::columns::flat;
use crate::ledger::{Key, Ledger, Request, Shape, record, spoil};

/// The tables that are written: three that their records make, one whose records have days of their own, one whose rows are
/// computed. The last two need [`DECLARATIONS`].
pub const TABLES: [&str; 5] = ["events", "orders", "clicks", BY_MOMENT, COMPUTED];

/// The table whose records lie under the days of their moments.
pub const BY_MOMENT: &str = "visits";

/// The table whose rows have one column more than its records: see [`computed`].
pub const COMPUTED: &str = "totals";

/// What the configuration of a sidecar says of these tables.
pub const DECLARATIONS: &str = "
tables:
- name: visits
  columns: [{name: moment, type: timestamp}]
  partition: {by: moment}
  orderBy: [moment]
- name: totals
  columns:
  - {name: producer, type: bigint}
  - {name: sequence, type: bigint}
  - {name: text, type: varchar}
  - {name: amount, type: double}
  - {name: even, type: boolean}
  - {name: nested, type: 'struct(list json, none json, inner struct(n bigint, words json, later json))'}
  - {name: points, type: json}
  - {name: due, type: date}
  - {name: moment, type: timestamp}
  - {name: sometimes, type: bigint}
  onUnknownColumn: quarantine
  transform: SELECT *, producer * 1000000 + sequence AS computed FROM batch
";

/// What a row of [`COMPUTED`] has in the column `computed`.
pub fn computed((producer, sequence): Key) -> u64 {
    producer * 1_000_000 + sequence
}

/// One request in so many has a record that does not fit, whatever the sidecar knows of its table.
const BAD_ONE_IN: u32 = 25;

/// One request in so many has an idempotency key.
const KEYED_ONE_IN: u32 = 3;

/// What a life of the sidecar is like for its producers.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests of each producer in one life, so that the lake stays small enough to be read whole.
    pub requests_max: u32,
    /// Whether the sidecar may refuse what is legal, since its disk fails or it ends.
    pub may_be_refused: bool,
}

/// Producers, and what they have sent.
#[derive(Debug)]
pub struct Producers {
    ledger: Ledger,
    members: Vec<Producer>,
}

/// One of them.
#[derive(Debug)]
struct Producer {
    number: u64,
    next_sequence: AtomicU64,
    /// Requests with a key whose outcome is not known.
    unsettled: Mutex<Vec<Request>>,
}

impl Producers {
    /// Producers that are numbered from `first` on, with a ledger at `path`.
    pub fn new(first: u64, count: u64, path: &Path) -> Self {
        let member = |number| Producer { number, next_sequence: AtomicU64::new(0), unsettled: Mutex::new(Vec::new()) };
        Self { ledger: Ledger::at(path), members: (first..first + count).map(member).collect() }
    }

    /// What they have sent.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// All of them send to a sidecar for as long as `life`, then `end` ends it while they still send.
    ///
    /// # Panics
    /// When an answer comes that must not come.
    pub fn live(&self, sidecar: &Sidecar, load: Load, random: &mut StdRng, life: Duration, end: impl FnOnce()) {
        let (tell, surprises) = sync_channel(1);
        std::thread::scope(|scope| {
            for producer in &self.members {
                let (tell, random) = (tell.clone(), StdRng::from_rng(random));
                scope.spawn(move || self.produce(producer, sidecar, load, random, &tell));
            }
            let surprise = surprises.recv_timeout(life);
            // Also when there was a surprise: else the producers would go on.
            end();
            assert_eq!(surprise, Err(RecvTimeoutError::Timeout));
        });
    }

    /// Sends every request whose outcome is not known again, to a sidecar that is well: each must be acknowledged.
    pub fn settle(&self, sidecar: &Sidecar) {
        for producer in &self.members {
            for request in producer.take_unsettled() {
                let answer = self.ledger.attempt(sidecar, &request).expect("the sidecar answers");
                assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
            }
        }
    }

    /// Sends until the sidecar is gone. Anything but an acknowledgement or a refusal that was asked for is told.
    fn produce(
        &self,
        producer: &Producer,
        sidecar: &Sidecar,
        load: Load,
        mut random: StdRng,
        surprises: &SyncSender<String>,
    ) {
        let mut again = VecDeque::from(producer.take_unsettled());
        for _ in 0..load.requests_max {
            let (request, is_bad) = again.pop_front().map_or_else(|| producer.request(&mut random), |it| (it, false));
            let answer = self.ledger.attempt(sidecar, &request);
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            if request.key.is_some() && !is_bad && !is_acknowledged(status) {
                producer.unsettled().push(request);
            }
            let Ok(answer) = answer else { break };
            let is_answered = if is_bad { status == 422 } else { is_acknowledged(status) };
            if !(is_answered || load.may_be_refused && status == 503) {
                // The receiver is gone once the first surprise was told.
                let _ = surprises.try_send(format!("{status} {}", answer.text()));
            }
        }
        producer.unsettled().extend(again);
    }
}

impl Producer {
    fn unsettled(&self) -> MutexGuard<'_, Vec<Request>> {
        self.unsettled.lock().expect("no holder of this lock panics")
    }

    fn take_unsettled(&self) -> Vec<Request> {
        std::mem::take(&mut self.unsettled())
    }

    /// Another request, and whether it must be refused.
    fn request(&self, random: &mut StdRng) -> (Request, bool) {
        let (path, shape, rows) = match random.random_range(0..20) {
            0 => ("/ingest", Shape::Records, 5),
            1 => ("/ingest", Shape::Lines, 3),
            2..=5 => ("/ingest/stream", Shape::Records, 8),
            6 => ("/ingest/stream", Shape::Lines, 4),
            7 => ("/ingest/stream", Shape::Arrow, 6),
            8 => ("/ingest/stream", Shape::Parquet, 6),
            _ => ("/ingest/stream", Shape::Record, 1),
        };
        let table = TABLES[random.random_range(0..TABLES.len())].to_owned();
        let first = self.next_sequence.fetch_add(rows, Ordering::Relaxed);
        let mut records: Vec<_> = (first..first + rows).map(|sequence| record(self.number, sequence)).collect();
        let is_columns = matches!(shape, Shape::Arrow | Shape::Parquet);
        if is_columns {
            records = records.iter().map(flat).collect();
        }
        let has_bad = !is_columns && random.random_range(0..BAD_ONE_IN) == 0;
        // Half of them may be set aside.
        let rejects = random.random_range(0..2) == 0;
        if has_bad {
            spoil(&mut records[0]);
        }
        let is_keyed = random.random_range(0..KEYED_ONE_IN) == 0;
        let key = is_keyed.then(|| format!("{}-{first}", self.number));
        (Request { path, table, shape, records, key, rejects }, has_bad && rejects)
    }
}

fn is_acknowledged(status: u16) -> bool {
    matches!(status, 200 | 202)
}
