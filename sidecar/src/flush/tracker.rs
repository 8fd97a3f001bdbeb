//! Which segment is sealed when: a pure decision.
//!
//! Owns: the flush policy and what it has to remember. Does not own: sealing, timers, files.
//!
//! An age is measured by the monotonic clock, so that a jump of the wall clock makes no flush early or late for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::NaiveDate;

use crate::journal::control::SealReason;
use crate::journal::view::OpenSegment;
use crate::limits::{
    BACKLOG_SEGMENTS_MAX, HURRIED_AGE, INGEST_LINGER, ROW_GROUP_BYTES_MAX, SEGMENT_CELLS_MAX, SEGMENT_FILES_MAX,
    SEGMENT_PARTITIONS_MAX, SEGMENT_SCHEMAS_MAX,
};

/// When buffered rows go to the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Rows of a segment at which it is sealed.
    pub rows_max: u64,
    /// Body bytes of a segment at which it is sealed.
    pub bytes_max: u64,
    /// Age of a segment at which it is sealed.
    pub age_max: Duration,
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub monotonic: Duration,
    /// The UTC day.
    pub day: NaiveDate,
}

/// What the tracker is told.
#[derive(Clone, Copy, Debug)]
pub enum FlushEvent<'a> {
    /// The segments that are open now, and what is sealed and on its way to the lake.
    Open {
        /// The open segments.
        open: &'a [OpenSegment],
        /// The table of each sealed segment that can still get into the lake, sorted.
        backlog: &'a [&'a str],
        /// The log file that has to go: see [`crate::journal::view::JournalView::crowded_file`].
        crowded: Option<u64>,
    },
    /// A caller waits for a segment.
    Requested {
        /// The segment.
        segment: u64,
        /// Whether others may join it: then it is sealed `INGEST_LINGER` after the first request.
        linger: bool,
    },
    /// Time has passed.
    Tick,
    /// The pod is about to end, or is not after all: while it is, nothing waits longer than [`HURRIED_AGE`].
    Hurry(bool),
    /// The process ends: what is open, and what will be, is sealed.
    Draining,
    /// Segments are sealed by this policy from now on, those that are open too.
    Policy(FlushPolicy),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushAction {
    /// Seal a segment.
    Seal {
        /// The segment.
        segment: u64,
        /// Why.
        reason: SealReason,
    },
}

/// Decides when segments are sealed.
#[derive(Debug)]
pub struct FlushTracker {
    policy: FlushPolicy,
    open: BTreeMap<u64, Tracked>,
    crowded: Option<u64>,
    hurried: bool,
    draining: bool,
}

#[derive(Debug)]
struct Tracked {
    opened: Moment,
    segment: OpenSegment,
    /// When a request falls due.
    requested: Option<Duration>,
    /// The backlog is long, and some of it is of the same table: it is sealed only because it is full.
    is_held: bool,
    /// An action was given out for it.
    is_sealing: bool,
}

impl FlushTracker {
    /// A tracker that has seen nothing.
    pub fn new(policy: FlushPolicy) -> Self {
        Self { policy, open: BTreeMap::new(), crowded: None, hurried: false, draining: false }
    }

    /// Takes in an event and answers what is to be done now. Each segment is sealed once.
    pub fn on_event(&mut self, now: Moment, event: FlushEvent<'_>) -> Vec<FlushAction> {
        match event {
            FlushEvent::Open { open, backlog, crowded } => {
                self.crowded = crowded;
                self.take_open(now, open, backlog);
            }
            FlushEvent::Requested { segment, linger } => {
                let due = now.monotonic + if linger { INGEST_LINGER } else { Duration::ZERO };
                if let Some(tracked) = self.open.get_mut(&segment) {
                    tracked.requested = Some(tracked.requested.map_or(due, |earlier| earlier.min(due)));
                }
            }
            FlushEvent::Tick => {}
            FlushEvent::Hurry(hurried) => {
                self.hurried = hurried;
                let open = self.open.values_mut().filter(|_| hurried);
                open.for_each(|tracked| tracked.requested = Some(now.monotonic));
            }
            FlushEvent::Draining => self.draining = true,
            FlushEvent::Policy(policy) => self.policy = policy,
        }
        self.due(now)
    }

    /// When the tracker must be asked again, if nothing happens before.
    pub fn next_wake(&self) -> Option<Duration> {
        let waiting = self.open.values().filter(|tracked| !tracked.is_sealing && !tracked.is_held);
        waiting
            .map(|tracked| tracked.requested.unwrap_or(Duration::MAX).min(tracked.opened.monotonic + self.age_max()))
            .min()
    }

    /// Age at which a segment is sealed now.
    fn age_max(&self) -> Duration {
        if self.hurried { self.policy.age_max.min(HURRIED_AGE) } else { self.policy.age_max }
    }

    fn take_open(&mut self, now: Moment, open: &[OpenSegment], backlog: &[&str]) {
        let is_long = backlog.len() >= BACKLOG_SEGMENTS_MAX;
        self.open.retain(|number, _| open.iter().any(|segment| segment.number == *number));
        for segment in open {
            let tracked = self.open.entry(segment.number).or_insert_with(|| Tracked {
                opened: now,
                segment: segment.clone(),
                requested: None,
                is_held: false,
                is_sealing: false,
            });
            tracked.segment.clone_from(segment);
            tracked.is_held = is_long && backlog.binary_search(&segment.table.as_str()).is_ok();
        }
    }

    fn due(&mut self, now: Moment) -> Vec<FlushAction> {
        let mut actions = Vec::new();
        let policy = FlushPolicy { age_max: self.age_max(), ..self.policy };
        for (segment, tracked) in &mut self.open {
            if tracked.is_sealing {
                continue;
            }
            let reason = match self.draining {
                true => Some(SealReason::Drain),
                false => tracked.is_full(&policy).or_else(|| {
                    let is_crowding = self.crowded == Some(tracked.segment.start_file);
                    let due = || is_crowding.then_some(SealReason::Journal).or_else(|| tracked.is_due(now, &policy));
                    (!tracked.is_held).then(due).flatten()
                }),
            };
            if let Some(reason) = reason {
                tracked.is_sealing = true;
                actions.push(FlushAction::Seal { segment: *segment, reason });
            }
        }
        actions
    }
}

impl Tracked {
    /// Why the segment can take no more.
    fn is_full(&self, policy: &FlushPolicy) -> Option<SealReason> {
        let OpenSegment { rows, body_bytes, columns, partitions, schemas, .. } = self.segment;
        if rows >= policy.rows_max {
            Some(SealReason::Rows)
        } else if body_bytes >= policy.bytes_max {
            Some(SealReason::Bytes)
        } else if rows.saturating_mul(columns as u64) >= SEGMENT_CELLS_MAX {
            Some(SealReason::Cells)
        } else if partitions >= SEGMENT_PARTITIONS_MAX
            || partitions as u64 * (1 + body_bytes / ROW_GROUP_BYTES_MAX) >= SEGMENT_FILES_MAX
        {
            Some(SealReason::Partitions)
        } else if schemas >= SEGMENT_SCHEMAS_MAX {
            Some(SealReason::Schemas)
        } else {
            None
        }
    }

    /// Why the segment should wait no longer.
    fn is_due(&self, now: Moment, policy: &FlushPolicy) -> Option<SealReason> {
        if self.requested.is_some_and(|due| due <= now.monotonic) {
            Some(SealReason::Request)
        } else if now.day != self.opened.day {
            Some(SealReason::Day)
        } else if now.monotonic >= self.opened.monotonic + policy.age_max {
            Some(SealReason::Age)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: FlushPolicy = FlushPolicy { rows_max: 100, bytes_max: 1_000, age_max: Duration::from_secs(60) };

    fn at(seconds: u64) -> Moment {
        let day = NaiveDate::from_ymd_opt(2026, 1, 1).expect("the date exists");
        Moment { monotonic: Duration::from_secs(seconds), day: day + chrono::Days::new(seconds / 86_400) }
    }

    fn open(number: u64, rows: u64, body_bytes: u64) -> OpenSegment {
        let table = format!("t{number}");
        OpenSegment {
            number,
            epoch: 1,
            sequences: 1..=1,
            table,
            rows,
            body_bytes,
            columns: 1,
            schemas: 1,
            partitions: 1,
            first_received_micros: 0,
            start_file: number,
        }
    }

    fn seal(segment: u64, reason: SealReason) -> Vec<FlushAction> {
        vec![FlushAction::Seal { segment, reason }]
    }

    #[test]
    fn each_bound_seals_by_itself_and_once() {
        let wide = OpenSegment { columns: usize::MAX, ..open(1, 1, 5) };
        let scattered = OpenSegment { partitions: SEGMENT_PARTITIONS_MAX, ..open(1, 5, 5) };
        for (segment, reason) in [
            (open(1, 100, 5), SealReason::Rows),
            (open(1, 5, 1_000), SealReason::Bytes),
            (wide, SealReason::Cells),
            (scattered, SealReason::Partitions),
            (OpenSegment { schemas: SEGMENT_SCHEMAS_MAX, ..open(1, 5, 5) }, SealReason::Schemas),
        ] {
            let mut tracker = FlushTracker::new(POLICY);
            assert_eq!(
                tracker.on_event(at(0), FlushEvent::Open { open: &[open(1, 5, 5)], backlog: &[], crowded: None }),
                []
            );
            assert_eq!(
                tracker.on_event(
                    at(1),
                    FlushEvent::Open { open: std::slice::from_ref(&segment), backlog: &[], crowded: None }
                ),
                seal(1, reason)
            );
            assert_eq!(tracker.on_event(at(2), FlushEvent::Open { open: &[segment], backlog: &[], crowded: None }), []);
        }
    }

    #[test]
    fn a_quiet_segment_is_sealed_at_its_age_and_the_tracker_says_when_to_ask() {
        let mut tracker = FlushTracker::new(POLICY);
        tracker.on_event(at(10), FlushEvent::Open { open: &[open(1, 1, 1)], backlog: &[], crowded: None });
        tracker
            .on_event(at(30), FlushEvent::Open { open: &[open(1, 2, 2), open(2, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.next_wake(), Some(Duration::from_secs(70)));
        assert_eq!(tracker.on_event(at(69), FlushEvent::Tick), []);
        assert_eq!(tracker.on_event(at(70), FlushEvent::Tick), seal(1, SealReason::Age));
        assert_eq!(tracker.next_wake(), Some(Duration::from_secs(90)));
    }

    #[test]
    fn a_jump_of_the_wall_clock_flushes_once_and_no_age_with_it() {
        let mut tracker = FlushTracker::new(POLICY);
        tracker.on_event(at(0), FlushEvent::Open { open: &[open(1, 1, 1)], backlog: &[], crowded: None });
        let yesterday = Moment { day: at(0).day - chrono::Days::new(1), ..at(1) };
        assert_eq!(tracker.on_event(yesterday, FlushEvent::Tick), seal(1, SealReason::Day));
        tracker.on_event(yesterday, FlushEvent::Open { open: &[open(2, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.next_wake(), Some(Duration::from_secs(61)));
    }

    #[test]
    fn the_change_of_the_day_seals() {
        let mut tracker = FlushTracker::new(FlushPolicy { age_max: Duration::from_secs(3_600), ..POLICY });
        tracker.on_event(at(86_390), FlushEvent::Open { open: &[open(1, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.on_event(at(86_401), FlushEvent::Tick), seal(1, SealReason::Day));
    }

    #[test]
    fn requests_that_arrive_together_share_a_segment() {
        let mut tracker = FlushTracker::new(POLICY);
        tracker.on_event(at(0), FlushEvent::Open { open: &[open(1, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.on_event(at(0), FlushEvent::Requested { segment: 1, linger: true }), []);
        let later = Moment { monotonic: INGEST_LINGER / 2, ..at(0) };
        assert_eq!(tracker.on_event(later, FlushEvent::Requested { segment: 1, linger: true }), []);
        assert_eq!(tracker.next_wake(), Some(INGEST_LINGER));
        let due = Moment { monotonic: INGEST_LINGER, ..at(0) };
        assert_eq!(tracker.on_event(due, FlushEvent::Tick), seal(1, SealReason::Request));
    }

    #[test]
    fn a_request_without_linger_seals_at_once_and_an_unknown_segment_is_passed_over() {
        let mut tracker = FlushTracker::new(POLICY);
        tracker.on_event(at(0), FlushEvent::Open { open: &[open(1, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.on_event(at(0), FlushEvent::Requested { segment: 7, linger: false }), []);
        assert_eq!(
            tracker.on_event(at(0), FlushEvent::Requested { segment: 1, linger: false }),
            seal(1, SealReason::Request)
        );
    }

    /// Invariant I12: an outage makes no endless number of segments.
    #[test]
    fn i12_while_the_backlog_is_long_a_table_that_is_in_it_gets_only_full_segments_sealed() {
        let backlog = &["t1"; BACKLOG_SEGMENTS_MAX];
        let mut tracker = FlushTracker::new(POLICY);
        let opened = [open(1, 1, 1), open(2, 100, 1)];
        assert_eq!(
            tracker.on_event(at(0), FlushEvent::Open { open: &opened, backlog, crowded: None }),
            seal(2, SealReason::Rows)
        );
        assert_eq!(tracker.on_event(at(0), FlushEvent::Requested { segment: 1, linger: false }), []);
        assert_eq!(tracker.on_event(at(99), FlushEvent::Tick), []);
        assert_eq!(tracker.next_wake(), None);
        let shorter = FlushEvent::Open { open: &opened, backlog: &backlog[1..], crowded: None };
        assert_eq!(tracker.on_event(at(99), shorter), seal(1, SealReason::Request));
    }

    #[test]
    fn a_long_backlog_of_one_table_holds_no_other() {
        let backlog = &["t1"; BACKLOG_SEGMENTS_MAX];
        let mut tracker = FlushTracker::new(POLICY);
        let opened = [open(1, 1, 1), open(2, 1, 1), open(3, 1, 1)];
        tracker.on_event(at(0), FlushEvent::Open { open: &opened, backlog, crowded: None });
        assert_eq!(
            tracker.on_event(at(1), FlushEvent::Requested { segment: 2, linger: false }),
            seal(2, SealReason::Request)
        );
        assert_eq!(tracker.next_wake(), Some(Duration::from_secs(60)));
        assert_eq!(tracker.on_event(at(60), FlushEvent::Tick), seal(3, SealReason::Age));
    }

    #[test]
    fn a_hurry_seals_what_is_open_at_once_and_later_segments_within_a_second_until_it_is_over() {
        let mut tracker = FlushTracker::new(POLICY);
        tracker.on_event(at(0), FlushEvent::Open { open: &[open(1, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.on_event(at(5), FlushEvent::Hurry(true)), seal(1, SealReason::Request));
        tracker.on_event(at(6), FlushEvent::Open { open: &[open(2, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.next_wake(), Some(Duration::from_secs(7)));
        assert_eq!(tracker.on_event(at(7), FlushEvent::Tick), seal(2, SealReason::Age));
        tracker.on_event(at(8), FlushEvent::Open { open: &[open(3, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.on_event(at(8), FlushEvent::Hurry(false)), []);
        assert_eq!(tracker.next_wake(), Some(Duration::from_secs(68)));
    }

    #[test]
    fn a_segment_that_keeps_a_full_journal_from_getting_room_is_sealed() {
        let mut tracker = FlushTracker::new(POLICY);
        let opened = [open(1, 1, 1), open(2, 1, 1)];
        let long = &["t1"; BACKLOG_SEGMENTS_MAX];
        let crowded = |backlog, crowded| FlushEvent::Open { open: &opened, backlog, crowded };
        assert_eq!(tracker.on_event(at(0), crowded(&[], None)), []);
        assert_eq!(tracker.on_event(at(0), crowded(long, Some(1))), []);
        assert_eq!(tracker.on_event(at(0), crowded(&[], Some(1))), seal(1, SealReason::Journal));
        assert_eq!(tracker.on_event(at(0), crowded(&[], Some(1))), []);
    }

    #[test]
    fn draining_seals_what_is_open_and_what_opens_later() {
        let mut tracker = FlushTracker::new(POLICY);
        tracker.on_event(at(0), FlushEvent::Open { open: &[open(1, 1, 1)], backlog: &[], crowded: None });
        assert_eq!(tracker.on_event(at(0), FlushEvent::Draining), seal(1, SealReason::Drain));
        assert_eq!(
            tracker.on_event(at(1), FlushEvent::Open { open: &[open(2, 1, 1)], backlog: &[], crowded: None }),
            seal(2, SealReason::Drain)
        );
    }
}
