//! What a segment holds and how far it has come.
//!
//! Owns: [`Contents`], [`SegmentState`] and the one function that moves a segment on. Upholds I2 and I3.
//! Does not own: frames on disk, files in the lake.
//!
//! ```text
//! Open ─seal─> Sealed ─plan─> Planned ─verified─> Published ─described─> Described ─retire─> Retired
//!                              └─plan─┘ (the bytes were gone and the files were encoded again)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::journal::batch::Batch;
use crate::journal::control::{Plan, Seal, SealReason};
use crate::journal::frame::FRAME_HEADER_BYTES;
use crate::limits::COLUMNS_MAX;
use crate::schema::{Column, Fingerprint, Schema};

/// A place in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Number of the log file.
    pub file: u64,
    /// Offset in it. Unit: bytes.
    pub offset: u64,
}

/// What a segment holds. The bodies stay on disk; this says where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// The segment's number in its journal.
    pub number: u64,
    /// The epoch in which it was begun.
    pub epoch: u64,
    /// Its table.
    pub table: String,
    /// Where its first frame begins.
    pub start_inclusive: Position,
    /// Where its last frame ends.
    pub end_exclusive: Position,
    /// Sequence of its first batch.
    pub first_sequence: u64,
    /// Sequence of its last batch.
    pub last_sequence: u64,
    /// Records in it.
    pub rows: u64,
    /// Length of the bodies in it. Unit: bytes.
    pub body_bytes: u64,
    /// Receive time of its first batch. Unit: microseconds since 1970.
    pub first_received_micros: i64,
    /// Receive time of its last batch. Unit: microseconds since 1970.
    pub last_received_micros: i64,
    /// The schemas that its batches name.
    #[serde(serialize_with = "without_names", deserialize_with = "with_names")]
    pub schemas: BTreeMap<Fingerprint, Schema>,
    /// The days of its partitions.
    pub partitions: BTreeSet<NaiveDate>,
    /// Columns that have a value in it, with the types they were accepted with, in order of first appearance.
    /// A name can stand twice with two types.
    pub observed: Vec<Column>,
    /// Length of its batches' frames in each log file: what of that file cannot go before it is in the lake. Unit: bytes.
    #[serde(skip)]
    pub bytes_by_file: BTreeMap<u64, u64>,
    /// Which columns of each schema are among them already: most batches bring nothing new, and wide tables have a
    /// thousand columns to look for.
    #[serde(skip)]
    observed_of: BTreeMap<Fingerprint, Vec<bool>>,
}

/// Schemas name themselves.
fn without_names<S: Serializer>(schemas: &BTreeMap<Fingerprint, Schema>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(schemas.values())
}

fn with_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Fingerprint, Schema>, D::Error> {
    let schemas: Vec<Schema> = Vec::deserialize(deserializer)?;
    Ok(schemas.into_iter().map(|schema| (schema.fingerprint(), schema)).collect())
}

impl Contents {
    /// A segment that begins with `batch`.
    pub fn begin(number: u64, epoch: u64, start: Position, sequence: u64, batch: &Batch) -> Self {
        Self {
            number,
            epoch,
            table: batch.table.clone(),
            start_inclusive: start,
            end_exclusive: start,
            first_sequence: sequence,
            last_sequence: sequence,
            rows: 0,
            body_bytes: 0,
            first_received_micros: batch.received_micros,
            last_received_micros: batch.received_micros,
            schemas: BTreeMap::new(),
            partitions: BTreeSet::new(),
            observed: Vec::new(),
            bytes_by_file: BTreeMap::new(),
            observed_of: BTreeMap::new(),
        }
    }

    /// Takes in a batch whose frame ends at `end`.
    pub fn add(&mut self, sequence: u64, end_exclusive: Position, batch: &Batch, schema: &Schema) {
        self.end_exclusive = end_exclusive;
        self.last_sequence = sequence;
        self.rows += u64::from(batch.rows);
        self.body_bytes += batch.buffered_bytes();
        let frame_bytes = (FRAME_HEADER_BYTES + batch.payload_bytes()) as u64;
        *self.bytes_by_file.entry(end_exclusive.file).or_default() += frame_bytes;
        self.last_received_micros = batch.received_micros;
        match &batch.days {
            Some(days) => self.partitions.extend(days),
            None => drop(self.partitions.insert(batch.partition_date)),
        }
        self.schemas.entry(batch.schema).or_insert_with(|| schema.clone());
        if let Some(transform) = &schema.constraints().transform {
            // Its files have what is computed, whatever a record has a value in.
            if self.observed_of.insert(batch.schema, Vec::new()).is_none() {
                transform.columns.iter().for_each(|column| note(&mut self.observed, column));
            }
            return;
        }
        let known = self.observed_of.entry(batch.schema).or_insert_with(|| vec![false; schema.len()]);
        for ((column, present), known) in schema.columns().iter().zip(&batch.present).zip(known) {
            if *present && !*known {
                *known = true;
                note(&mut self.observed, column);
            }
        }
    }

    /// The seal of this segment at an instant given in microseconds since 1970.
    pub fn seal(&self, sealed_at_micros: i64, reason: SealReason) -> Seal {
        let seconds = sealed_at_micros.div_euclid(1_000_000);
        Seal {
            table: self.table.clone(),
            first_sequence: self.first_sequence,
            last_sequence: self.last_sequence,
            rows: self.rows,
            sealed_at: chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default(),
            reason,
        }
    }
}

/// Notes a column with a value. One that has grown takes the place of what it was.
fn note(observed: &mut Vec<Column>, column: &Column) {
    let is_grown = |seen: &&mut Column| {
        let mut room = COLUMNS_MAX;
        seen.name == column.name && seen.column_type.merged(&column.column_type, &mut room) == column.column_type
    };
    match observed.iter_mut().find(is_grown) {
        Some(seen) => seen.column_type = column.column_type.clone(),
        None => observed.push(column.clone()),
    }
}

/// How far a segment has come.
#[derive(Clone, Debug, PartialEq)]
pub enum SegmentState {
    /// It takes batches.
    Open,
    /// It takes no more; what it holds is fixed.
    Sealed {
        /// Its seal.
        seal: Seal,
    },
    /// What it becomes is fixed; its files may be on their way.
    Planned {
        /// Every plan of it, the newest last. All name the same keys; an object that is already there is accepted
        /// if it matches one of them.
        plans: Vec<Plan>,
    },
    /// Each of its files is in the lake and was verified.
    Published {
        /// The plan that was followed.
        plan: Plan,
    },
    /// Each of its files has its description in the lake.
    Described {
        /// The plan that was followed.
        plan: Plan,
    },
    /// The journal no longer needs it.
    Retired,
}

/// What happens to a segment.
#[derive(Clone, Debug, PartialEq)]
pub enum SegmentEvent {
    /// Its seal is on disk.
    Sealed(Seal),
    /// A plan is on disk.
    Planned(Plan),
    /// Every file is in the lake and verified.
    Published,
    /// Every file is described.
    Described,
    /// The retire frame is on disk.
    Retired,
}

/// An event that cannot happen in a state: a bug, or a journal whose frames are out of order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a segment that is {state} cannot become {event}")]
pub struct IllegalTransition {
    state: &'static str,
    event: &'static str,
}

impl SegmentState {
    /// Moves a segment on.
    ///
    /// # Errors
    /// The event cannot happen in this state; the state is lost and the segment must be read again.
    pub fn advance(self, event: SegmentEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Open, SegmentEvent::Sealed(seal)) => Ok(Self::Sealed { seal }),
            (Self::Sealed { .. }, SegmentEvent::Planned(plan)) => Ok(Self::Planned { plans: vec![plan] }),
            (Self::Planned { mut plans }, SegmentEvent::Planned(plan)) => {
                plans.push(plan);
                Ok(Self::Planned { plans })
            }
            (Self::Planned { mut plans }, SegmentEvent::Published) => {
                let plan = plans.pop().ok_or(IllegalTransition { state: "planned", event: "published" })?;
                Ok(Self::Published { plan })
            }
            (Self::Published { plan }, SegmentEvent::Described) => Ok(Self::Described { plan }),
            (Self::Described { .. }, SegmentEvent::Retired) => Ok(Self::Retired),
            (
                state @ (Self::Open
                | Self::Sealed { .. }
                | Self::Planned { .. }
                | Self::Published { .. }
                | Self::Described { .. }
                | Self::Retired),
                event,
            ) => Err(IllegalTransition { state: state.name(), event: event.name() }),
        }
    }

    /// Its seal; none while it is open, and once it is retired.
    pub fn seal(&self) -> Option<&Seal> {
        match self {
            Self::Sealed { seal } => Some(seal),
            Self::Planned { plans } => plans.last().map(|plan| &plan.seal),
            Self::Published { plan } | Self::Described { plan } => Some(&plan.seal),
            Self::Open | Self::Retired => None,
        }
    }

    /// The state's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed { .. } => "sealed",
            Self::Planned { .. } => "planned",
            Self::Published { .. } => "published",
            Self::Described { .. } => "described",
            Self::Retired => "retired",
        }
    }
}

impl SegmentEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Sealed(_) => "sealed",
            Self::Planned(_) => "planned",
            Self::Published => "published",
            Self::Described => "described",
            Self::Retired => "retired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal {
            table: "events".to_owned(),
            first_sequence: 1,
            last_sequence: 2,
            rows: 2,
            sealed_at: chrono::DateTime::UNIX_EPOCH,
            reason: SealReason::Age,
        }
    }

    fn plan(schema_version: u32) -> Plan {
        Plan {
            seal: seal(),
            schema_version,
            files: vec![],
            quarantined: vec![],
            quarantined_rows: 0,
            poison: BTreeSet::new(),
            quarantined_by_batch: BTreeMap::new(),
        }
    }

    #[test]
    fn a_segment_goes_through_every_state_in_order() {
        let events = [
            SegmentEvent::Sealed(seal()),
            SegmentEvent::Planned(plan(1)),
            SegmentEvent::Planned(plan(2)),
            SegmentEvent::Published,
            SegmentEvent::Described,
            SegmentEvent::Retired,
        ];
        let mut state = SegmentState::Open;
        let mut names = vec![state.name()];
        for event in events {
            state = state.advance(event).expect("each event follows the one before");
            names.push(state.name());
        }
        assert_eq!(names, ["open", "sealed", "planned", "planned", "published", "described", "retired"]);
    }

    /// Invariant I2: a segment is retired only after its files are verified and described.
    #[test]
    fn i2_no_state_before_described_can_be_retired() {
        let states = [
            SegmentState::Open,
            SegmentState::Sealed { seal: seal() },
            SegmentState::Planned { plans: vec![plan(1)] },
            SegmentState::Published { plan: plan(1) },
            SegmentState::Retired,
        ];
        for state in states {
            let name = state.name();
            assert!(state.advance(SegmentEvent::Retired).is_err(), "{name} was retired");
        }
    }

    #[test]
    fn a_sealed_segment_cannot_be_published_without_a_plan() {
        let error = SegmentState::Sealed { seal: seal() }.advance(SegmentEvent::Published);
        assert_eq!(
            error.expect_err("there is no plan").to_string(),
            "a segment that is sealed cannot become published"
        );
    }
}
