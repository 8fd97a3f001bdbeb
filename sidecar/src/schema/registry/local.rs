//! What this process has seen of a table, and what of it rests on requests that are not journaled yet.
//!
//! Owns: a table's local schema; that a refused request leaves nothing in it which another request would have to fit.
//! Does not own: the set of tables, the lake (`registry`).

use std::collections::HashMap;
use std::sync::Arc;

use super::RegisteredSchema;
use crate::decode::Violations;
use crate::schema::{Column, Observation, Schema};

/// A request that its table takes.
#[derive(Debug)]
pub struct Admitted {
    /// The schema that it is decoded with.
    pub schema: Schema,
    /// Which columns of it have a value in the request.
    pub present: Vec<bool>,
    /// Records of it that do not fit.
    pub misfits: Violations,
    /// What stays in the local schema only if the request, or another that has it too, is journaled.
    pub claim: Claim,
}

/// What a request has in its table that is not settled. One that nobody hands back counts for ever as undecided: its
/// columns stay, as they must when it is not known whether the request is stored.
#[must_use = "a claim goes to `keep` or `retract` once the outcome is known"]
#[derive(Debug)]
pub struct Claim {
    /// Undecided columns that have a value in the request.
    columns: Vec<String>,
    /// Whether the table took no record before.
    table: bool,
}

/// What this process knows of a table.
#[derive(Clone, Debug)]
pub(super) struct TableSchemas {
    pub(super) registered: Arc<RegisteredSchema>,
    /// The registered columns and those that this process has seen beside them.
    pub(super) local: Schema,
    /// Columns of `local` that neither a registered schema nor a journaled request has, each with the number of
    /// requests that have a value in it and whose outcome is open.
    undecided: HashMap<String, usize>,
    records: Records,
}

/// Whether this process takes records for a table.
#[derive(Clone, Copy, Debug)]
enum Records {
    /// The table is known from the lake alone.
    None,
    /// So many requests were admitted, and the outcome of each is open.
    Undecided(usize),
    /// At least one request was journaled.
    Taken,
}

impl TableSchemas {
    pub(super) fn unknown() -> Self {
        Self {
            registered: Arc::new(RegisteredSchema::unknown()),
            local: Schema::empty(),
            undecided: HashMap::new(),
            records: Records::None,
        }
    }

    /// Whether records of the table are journaled or about to be.
    pub(super) fn takes_records(&self) -> bool {
        match self.records {
            Records::None => false,
            Records::Undecided(_) | Records::Taken => true,
        }
    }

    /// Whether nothing is known of the table.
    pub(super) fn is_unused(&self) -> bool {
        !self.takes_records() && self.registered.version == 0 && self.local.is_empty()
    }

    /// Takes in what a request brings that was looked at under `known`; none when that does not hold any more.
    pub(super) fn admit(&mut self, known: &Schema, observation: &Observation) -> Option<Admitted> {
        let schema = if observation.added.is_empty() {
            // What does not fit was held against every column that was known.
            let is_same = self.local.fingerprint() == known.fingerprint();
            let still_holds = is_same || (observation.misfits.is_empty() && self.has(known, &observation.present));
            if !still_holds {
                return None;
            }
            known.clone()
        } else {
            if self.local != *known {
                return None;
            }
            let grown = known.with_columns_added(&observation.added);
            self.local = grown.expect("what is observed is new beside the known schema, and legal");
            self.undecided.extend(observation.added.iter().map(|column| (column.name.clone(), 0)));
            self.local.clone()
        };
        let present = observation.present_with_added();
        let claim = self.claim(&schema, &present);
        Some(Admitted { schema, present, misfits: observation.misfits.clone(), claim })
    }

    /// Whether the columns with a value are still what `known` says.
    fn has(&self, known: &Schema, present: &[bool]) -> bool {
        let is_here = |column: &Column| {
            let position = self.local.position(&column.name);
            position.is_some_and(|position| self.local.columns()[position] == *column)
        };
        known.columns().iter().zip(present).all(|(column, is_present)| !is_present || is_here(column))
    }

    fn claim(&mut self, schema: &Schema, present: &[bool]) -> Claim {
        let mut columns = Vec::new();
        if !self.undecided.is_empty() {
            for (column, _) in schema.columns().iter().zip(present).filter(|(_, is_present)| **is_present) {
                if let Some(requests) = self.undecided.get_mut(&column.name) {
                    *requests += 1;
                    columns.push(column.name.clone());
                }
            }
        }
        let (records, table) = match self.records {
            Records::None => (Records::Undecided(1), true),
            Records::Undecided(requests) => (Records::Undecided(requests + 1), true),
            Records::Taken => (Records::Taken, false),
        };
        self.records = records;
        Claim { columns, table }
    }

    pub(super) fn keep(&mut self, claim: Claim) {
        for name in &claim.columns {
            self.undecided.remove(name);
        }
        self.records = Records::Taken;
    }

    pub(super) fn retract(&mut self, claim: Claim) {
        let undecided = &mut self.undecided;
        let mut is_left = |name: &String| match undecided.get_mut(name) {
            Some(1) => undecided.remove(name).is_some(),
            Some(requests) => {
                *requests -= 1;
                false
            }
            None => false,
        };
        let left: Vec<String> = claim.columns.into_iter().filter(|name| is_left(name)).collect();
        if !left.is_empty() {
            let columns = self.local.columns().iter().filter(|column| !left.contains(&column.name));
            self.local = Schema::new(columns.cloned().collect()).expect("a part of a legal schema is legal");
        }
        self.records = match self.records {
            Records::Undecided(1) if claim.table => Records::None,
            Records::Undecided(requests) if claim.table => Records::Undecided(requests - 1),
            records => records,
        };
    }

    /// Takes in columns of journaled requests.
    pub(super) fn remember(&mut self, observed: &[Column]) {
        self.local = union(&self.local, observed);
        self.undecided.retain(|name, _| observed.iter().all(|column| column.name != *name));
        self.records = Records::Taken;
    }

    /// Takes in a registered version: its types win over what this process has seen, and its columns stay.
    pub(super) fn learn(&mut self, registered: Arc<RegisteredSchema>) {
        self.local = union(&registered.schema, self.local.columns());
        self.undecided.retain(|name, _| registered.schema.column_of_any_case(name).is_none());
        self.registered = registered;
    }
}

/// The columns of `first`, and those of `others` that can stand beside them.
fn union(first: &Schema, others: &[Column]) -> Schema {
    others.iter().fold(first.clone(), |schema, column| match schema.column_of_any_case(&column.name) {
        Some(_) => schema,
        None => schema.with_columns_added(std::slice::from_ref(column)).unwrap_or(schema),
    })
}
