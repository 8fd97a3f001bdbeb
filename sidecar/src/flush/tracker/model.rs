//! The tracker against its promises, whatever happens in whatever order: each segment is sealed once, none too late, none
//! without a reason, and the moment at which it wants to be asked again is one at which it has something to do.
//!
//! Cases that were found are kept in `sidecar/proptest-regressions`.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const POLICY: FlushPolicy = FlushPolicy { rows_max: 100, bytes_max: 1_000, age_max: Duration::from_secs(60) };

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A segment is opened.
    Open { rows: u64 },
    /// An open segment takes more.
    Grow { choice: usize, rows: u64, bytes: u64 },
    /// A segment that was sealed is gone from the view.
    Sealed { choice: usize },
    /// The lake takes segments, or does not: those that wait are of so many tables.
    Backlog { segments: usize, tables: u64 },
    /// The journal is half full, and a file of it is to go; or it is not.
    Crowd { file: Option<u64> },
    /// A caller waits.
    Request { choice: usize, linger: bool },
    /// Time passes, by the monotonic clock and, perhaps otherwise, by the calendar.
    Pass { milliseconds: u64, days: i8 },
    /// The pod is about to end, or is not.
    Hurry { hurried: bool },
    /// The process ends.
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..120_u64).prop_map(|rows| Op::Open { rows }),
        3 => (any::<usize>(), 0..80_u64, 0..900_u64)
            .prop_map(|(choice, rows, bytes)| Op::Grow { choice, rows, bytes }),
        3 => any::<usize>().prop_map(|choice| Op::Sealed { choice }),
        2 => (0..2 * BACKLOG_SEGMENTS_MAX, 1..12_u64).prop_map(|(segments, tables)| Op::Backlog { segments, tables }),
        1 => proptest::option::of(0..8_u64).prop_map(|file| Op::Crowd { file }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(choice, linger)| Op::Request { choice, linger }),
        4 => (0..40_000_u64, prop_oneof![8 => Just(0_i8), 1 => -1..2_i8])
            .prop_map(|(milliseconds, days)| Op::Pass { milliseconds, days }),
        1 => any::<bool>().prop_map(|hurried| Op::Hurry { hurried }),
        1 => Just(Op::Drain),
    ]
}

/// A segment as the model sees it.
#[derive(Clone, Debug)]
struct ModelSegment {
    open: OpenSegment,
    opened: Moment,
    /// When the earliest request falls due.
    due: Option<Duration>,
}

/// The model, and the tracker beside it.
struct Pair {
    tracker: FlushTracker,
    now: Moment,
    segments: Vec<ModelSegment>,
    sealed: BTreeSet<u64>,
    /// The tables of what waits for the lake.
    backlog: Vec<String>,
    crowded: Option<u64>,
    hurried: bool,
    draining: bool,
    next_number: u64,
}

impl Pair {
    fn new() -> Self {
        let day = NaiveDate::from_ymd_opt(2026, 1, 1).expect("the date exists");
        Self {
            tracker: FlushTracker::new(POLICY),
            now: Moment { monotonic: Duration::ZERO, day },
            segments: Vec::new(),
            sealed: BTreeSet::new(),
            backlog: Vec::new(),
            crowded: None,
            hurried: false,
            draining: false,
            next_number: 1,
        }
    }

    fn apply(&mut self, op: Op) {
        let count = self.segments.len();
        match op {
            Op::Open { rows } => {
                let number = self.next_number;
                self.next_number += 1;
                let open = OpenSegment {
                    number,
                    epoch: 1,
                    sequences: number..=number,
                    table: format!("t{number}"),
                    rows,
                    body_bytes: rows,
                    columns: 1,
                    schemas: 1,
                    partitions: 1,
                    first_received_micros: 0,
                    start_file: number / 4,
                };
                self.segments.push(ModelSegment { open, opened: self.now, due: None });
                self.show();
            }
            Op::Grow { choice, rows, bytes } if count > 0 => {
                let open = &mut self.segments[choice % count].open;
                if !self.sealed.contains(&open.number) {
                    open.rows += rows;
                    open.body_bytes += bytes;
                }
                self.show();
            }
            Op::Sealed { choice } if count > 0 => {
                if self.sealed.contains(&self.segments[choice % count].open.number) {
                    self.segments.remove(choice % count);
                }
                self.show();
            }
            Op::Backlog { segments, tables } => {
                self.backlog = (1..=tables).cycle().take(segments).map(|table| format!("t{table}")).collect();
                self.show();
            }
            Op::Crowd { file } => {
                self.crowded = file;
                self.show();
            }
            Op::Request { choice, linger } if count > 0 => self.request(choice % count, linger),
            Op::Pass { milliseconds, days } => {
                self.now.monotonic += Duration::from_millis(milliseconds);
                self.now.day += chrono::TimeDelta::days(days.into());
                self.tell(FlushEvent::Tick);
            }
            Op::Hurry { hurried } => {
                self.hurried = hurried;
                if hurried {
                    let now = self.now.monotonic;
                    self.segments.iter_mut().for_each(|segment| segment.due = Some(now));
                }
                self.tell(FlushEvent::Hurry(hurried));
            }
            Op::Drain => {
                self.draining = true;
                self.tell(FlushEvent::Draining);
            }
            Op::Grow { .. } | Op::Sealed { .. } | Op::Request { .. } => {}
        }
        self.check_wake();
    }

    fn request(&mut self, at: usize, linger: bool) {
        let due = self.now.monotonic + if linger { INGEST_LINGER } else { Duration::ZERO };
        let segment = &mut self.segments[at];
        segment.due = Some(segment.due.map_or(due, |earlier| earlier.min(due)));
        let segment = segment.open.number;
        self.tell(FlushEvent::Requested { segment, linger });
    }

    /// Shows the tracker what is open.
    fn show(&mut self) {
        let open: Vec<_> = self.segments.iter().map(|segment| segment.open.clone()).collect();
        let waiting = self.backlog.clone();
        let mut backlog: Vec<_> = waiting.iter().map(String::as_str).collect();
        backlog.sort_unstable();
        self.tell(FlushEvent::Open { open: &open, backlog: &backlog, crowded: self.crowded });
    }

    /// Tells the tracker, and holds what it does against what must be done.
    fn tell(&mut self, event: FlushEvent<'_>) {
        let actions = self.tracker.on_event(self.now, event);
        let sealing: BTreeSet<u64> = actions.iter().map(|FlushAction::Seal { segment, .. }| *segment).collect();
        assert_eq!(sealing.len(), actions.len(), "a segment is sealed once");
        for segment in &self.segments {
            let number = segment.open.number;
            let is_due = !self.sealed.contains(&number) && self.must_be_sealed(segment);
            assert_eq!(sealing.contains(&number), is_due, "segment {number} at {:?}: {segment:?}", self.now);
        }
        self.sealed.extend(sealing);
    }

    fn must_be_sealed(&self, segment: &ModelSegment) -> bool {
        let ModelSegment { open, opened, due } = segment;
        let is_full = open.rows >= POLICY.rows_max || open.body_bytes >= POLICY.bytes_max;
        let is_old = self.now.monotonic >= opened.monotonic + self.age_max();
        let is_asked_for = due.is_some_and(|due| due <= self.now.monotonic);
        let is_crowding = self.crowded == Some(open.start_file);
        let is_due = is_crowding || is_old || is_asked_for || self.now.day != opened.day;
        self.draining || is_full || is_due && !self.is_held(open)
    }

    /// No table is kept waiting for the segments of another.
    fn is_held(&self, open: &OpenSegment) -> bool {
        self.backlog.len() >= BACKLOG_SEGMENTS_MAX && self.backlog.contains(&open.table)
    }

    fn age_max(&self) -> Duration {
        if self.hurried { HURRIED_AGE } else { POLICY.age_max }
    }

    /// The tracker asks to be asked exactly when the next segment falls due by time.
    fn check_wake(&self) {
        let is_waiting = |open: &OpenSegment| !self.sealed.contains(&open.number) && !self.is_held(open);
        let waiting = self.segments.iter().filter(|segment| is_waiting(&segment.open));
        let due = waiting.map(|segment| {
            let by_age = segment.opened.monotonic + self.age_max();
            segment.due.map_or(by_age, |due| due.min(by_age))
        });
        let expected = due.min();
        assert_eq!(self.tracker.next_wake(), expected);
    }
}

proptest! {
    #[test]
    fn each_segment_is_sealed_once_in_time_and_for_a_reason(ops in proptest::collection::vec(op(), 1..80)) {
        let mut pair = Pair::new();
        for op in ops {
            pair.apply(op);
        }
    }
}
