//! What the schemas of waiting segments take of the memory.
//!
//! Owns: which schemas are held by segments that are not retired, and how many fields these have together. Records whose
//! columns come one by one make a schema for each request, of which each has all columns before it: a few bytes in the journal
//! are much more in memory, for as long as the lake is away.
//! Does not own: the schemas.

use std::collections::HashMap;

use crate::limits::WAITING_SCHEMA_FIELDS_MAX;
use crate::schema::{Fingerprint, Schema};

/// The schemas of segments that are not retired.
#[derive(Debug, Default)]
pub(super) struct WaitingSchemas {
    held: HashMap<Fingerprint, Held>,
    of_segment: HashMap<u64, Vec<Fingerprint>>,
    fields: usize,
}

/// A schema, which is in memory once however many segments have it.
#[derive(Debug)]
struct Held {
    segments: usize,
    fields: usize,
}

impl WaitingSchemas {
    /// Whether a segment may have batches of this schema.
    pub(super) fn has_room_for(&self, fingerprint: Fingerprint, schema: &Schema) -> bool {
        // One schema alone always has room.
        self.holds(fingerprint) || self.fields == 0 || self.fields + schema.field_count() <= WAITING_SCHEMA_FIELDS_MAX
    }

    /// Whether a segment that is not retired has batches of this schema.
    pub(super) fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.held.contains_key(&fingerprint)
    }

    /// A segment has a batch of this schema, its first one.
    pub(super) fn hold(&mut self, segment: u64, fingerprint: Fingerprint, schema: &Schema) {
        self.of_segment.entry(segment).or_default().push(fingerprint);
        let held = self.held.entry(fingerprint).or_insert_with(|| {
            self.fields += schema.field_count();
            Held { segments: 0, fields: schema.field_count() }
        });
        held.segments += 1;
    }

    /// A segment is retired.
    pub(super) fn release(&mut self, segment: u64) {
        for fingerprint in self.of_segment.remove(&segment).unwrap_or_default() {
            let Some(held) = self.held.get_mut(&fingerprint) else { continue };
            held.segments -= 1;
            if held.segments == 0 {
                self.fields -= held.fields;
                self.held.remove(&fingerprint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, ColumnType};

    fn schema(number: usize, columns: usize) -> Schema {
        let columns =
            (0..columns).map(|column| Column { name: format!("c{number}_{column}"), column_type: ColumnType::Bigint });
        Schema::empty().merged(&columns.collect::<Vec<_>>())
    }

    /// Invariant I12.
    #[test]
    fn i12_schemas_that_wait_have_a_bound_together_and_each_counts_once() {
        let mut waiting = WaitingSchemas::default();
        let wide: Vec<Schema> = (0..=WAITING_SCHEMA_FIELDS_MAX / 1_000).map(|number| schema(number, 1_000)).collect();
        let (last, others) = wide.split_last().expect("there are some");
        for (segment, schema) in others.iter().enumerate() {
            let fingerprint = schema.fingerprint();
            assert!(waiting.has_room_for(fingerprint, schema), "segment {segment}");
            waiting.hold(segment as u64, fingerprint, schema);
            waiting.hold(1_000 + segment as u64, fingerprint, schema);
        }
        assert!(!waiting.has_room_for(last.fingerprint(), last), "it is one too many");
        assert!(waiting.has_room_for(others[0].fingerprint(), &others[0]), "it is there already");
        waiting.release(0);
        assert!(!waiting.has_room_for(last.fingerprint(), last), "another segment has the same");
        waiting.release(1_000);
        assert!(waiting.has_room_for(last.fingerprint(), last));
        for segment in (1..others.len() as u64).flat_map(|segment| [segment, 1_000 + segment]) {
            waiting.release(segment);
        }
        assert_eq!(waiting.fields, 0);
    }
}
