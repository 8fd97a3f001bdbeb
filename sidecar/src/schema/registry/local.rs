//! What this process has seen of a table, and what of it rests on requests that are not journaled yet.
//!
//! Owns: a table's local schema; that a refused request leaves nothing in it which another request would have to fit.
//! Does not own: the set of tables, the lake (`registry`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;

use super::RegisteredSchema;
use crate::decode::Violations;
use crate::schema::{Column, Declaration, Observation, Schema};

/// A request that its table takes.
#[derive(Debug)]
pub struct Admitted {
    /// The schema that it is decoded with.
    pub schema: Schema,
    /// Which columns of it have a value in the request.
    pub present: Vec<bool>,
    /// Records of it that do not fit.
    pub misfits: Violations,
    /// The days under which its records lie, where each has its own.
    pub days: Option<BTreeSet<NaiveDate>>,
    /// What stays in the local schema only if the request, or another that has it too, is journaled.
    pub claim: Claim,
}

/// What a request has in its table that is not settled. One that nobody hands back counts for ever as undecided: its
/// columns stay, as they must when it is not known whether the request is stored.
#[must_use = "a claim goes to `keep` or `retract` once the outcome is known"]
#[derive(Debug)]
pub struct Claim {
    /// Its number among the open ones, where it has a value in a column that is undecided.
    number: Option<u64>,
    /// Whether the table took no record before.
    table: bool,
}

impl Claim {
    /// Whether it is the same for the table what becomes of the request.
    pub fn is_settled(&self) -> bool {
        self.number.is_none() && !self.table
    }
}

/// What this process knows of a table.
#[derive(Clone, Debug)]
pub(super) struct TableSchemas {
    declared: Option<Arc<Declaration>>,
    pub(super) registered: Arc<RegisteredSchema>,
    /// The registered columns and those of journaled requests. They stay, whatever is declared next.
    stored: Schema,
    /// Those and the columns that are declared now, of which a stored one keeps its type.
    decided: Schema,
    /// Whether something is declared that is not stored, and is gone if another declaration comes before it is.
    is_ahead: bool,
    /// Columns of requests whose outcome is open, as far as these are not stored; by the number of the claim.
    open: BTreeMap<u64, Vec<Column>>,
    next_claim: u64,
    /// What is decided and what is open: what the next request is held against.
    pub(super) local: Schema,
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
    /// A table of which there is no record, and perhaps a declaration.
    pub(super) fn new(declared: Option<Arc<Declaration>>) -> Self {
        let mut table = Self {
            declared,
            registered: Arc::new(RegisteredSchema::unknown()),
            stored: Schema::empty(),
            decided: Schema::empty(),
            is_ahead: false,
            open: BTreeMap::new(),
            next_claim: 0,
            local: Schema::empty(),
            records: Records::None,
        };
        table.decide();
        table.meet();
        table
    }

    /// Its declaration.
    pub(super) fn declared(&self) -> Option<&Declaration> {
        self.declared.as_deref()
    }

    /// Whether records of the table are journaled or about to be.
    pub(super) fn takes_records(&self) -> bool {
        match self.records {
            Records::None => false,
            Records::Undecided(_) | Records::Taken => true,
        }
    }

    /// Whether all that is known of its columns is decided.
    pub(super) fn is_settled(&self) -> bool {
        self.local == self.decided
    }

    /// Whether nothing is known of the table.
    pub(super) fn is_unused(&self) -> bool {
        self.declared.is_none() && !self.takes_records() && self.registered.version == 0 && self.local.is_empty()
    }

    /// Takes in what a request brings that was looked at under `known`; none when that does not hold any more.
    pub(super) fn admit(&mut self, known: &Schema, observation: &Observation) -> Option<Admitted> {
        let Observation { schema, present, misfits, days, .. } = observation;
        // What does not fit was held against every column that was known, as was what is new.
        let still_holds = self.local == *known || (schema == known && misfits.is_empty() && self.has(known, present));
        if !still_holds {
            return None;
        }
        if schema != known {
            self.local = schema.clone();
        }
        let (schema, present) = (schema.clone(), present.clone());
        let claim = self.claim(&schema, &present);
        Some(Admitted { schema, present, misfits: misfits.clone(), days: days.clone(), claim })
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
        let mut number = None;
        if !self.is_settled() || self.is_ahead {
            let present = schema.columns().iter().zip(present).filter(|(_, is_present)| **is_present);
            let is_new = |column: &Column| {
                let position = self.stored.position(&column.name);
                position.is_none_or(|position| self.stored.columns()[position] != *column)
            };
            let new: Vec<Column> = present.map(|(column, _)| column).filter(|column| is_new(column)).cloned().collect();
            if !new.is_empty() {
                number = Some(self.next_claim);
                self.open.insert(self.next_claim, new);
                self.next_claim += 1;
            }
        }
        let (records, table) = match self.records {
            Records::None => (Records::Undecided(1), true),
            Records::Undecided(requests) => (Records::Undecided(requests + 1), true),
            Records::Taken => (Records::Taken, false),
        };
        self.records = records;
        Claim { number, table }
    }

    pub(super) fn keep(&mut self, claim: Claim) {
        if let Some(columns) = claim.number.and_then(|number| self.open.remove(&number)) {
            self.store(&columns);
            // Where nothing is open, both are one again, in one order.
            if self.open.is_empty() {
                self.meet();
            }
        }
        self.records = Records::Taken;
    }

    pub(super) fn retract(&mut self, claim: Claim) {
        if claim.number.is_some_and(|number| self.open.remove(&number).is_some()) {
            self.meet();
        }
        self.records = match self.records {
            Records::Undecided(1) if claim.table => Records::None,
            Records::Undecided(requests) if claim.table => Records::Undecided(requests - 1),
            records => records,
        };
    }

    /// Takes in another declaration. Requests that are looked at meanwhile are looked at again.
    pub(super) fn redeclare(&mut self, declared: Option<Arc<Declaration>>) {
        self.declared = declared;
        self.decide();
        self.meet();
    }

    /// The columns that its files have: what this process knows of them.
    pub(super) fn of_files(&self) -> Schema {
        match self.declared() {
            Some(declared) if declared.is_transformed() => self.registered.schema.merged(declared.columns()),
            _ => self.local.clone(),
        }
    }

    /// Whether what its files have says nothing of what its records have.
    fn is_transformed(&self) -> bool {
        self.declared().is_some_and(Declaration::is_transformed)
    }

    /// Takes in columns of journaled requests.
    pub(super) fn remember(&mut self, observed: &[Column]) {
        self.store(observed);
        self.records = Records::Taken;
        self.meet();
    }

    /// Takes in a registered version: its types win over what this process has seen and over what is declared, and its
    /// columns stay.
    pub(super) fn learn(&mut self, registered: Arc<RegisteredSchema>) {
        self.stored = registered.schema.merged(self.stored.columns());
        self.registered = registered;
        self.decide();
        self.meet();
    }

    /// Takes in columns that are journaled. What its files have says nothing of records that a transform gets.
    fn store(&mut self, columns: &[Column]) {
        if !self.is_transformed() {
            self.stored = self.stored.merged(columns);
            self.decide();
        }
    }

    /// Decides anew, after what is declared or stored has changed.
    fn decide(&mut self) {
        let declared = self.declared().map_or_else(Schema::empty, |declared| declared.schema.clone());
        let (registered, stored) = (&self.registered.schema, &self.stored);
        (self.decided, self.is_ahead) = match self.is_transformed() {
            true => (declared, false),
            false => {
                // Records that are journaled have the types that they were accepted with, whatever is declared since.
                let decided = match &self.declared {
                    Some(declaration) => registered.merged(&declaration.columns_beside(stored.columns())),
                    None => registered.merged(stored.columns()),
                };
                let is_ahead = stored.merged(declared.columns()) != *stored;
                (decided.constrained(declared.constraints()), is_ahead)
            }
        };
    }

    /// What is decided with what is open, the earlier first. What is open was of another declaration where what is computed of
    /// records has nothing to do with it.
    fn meet(&mut self) {
        if self.is_transformed() {
            self.local = self.decided.clone();
            return;
        }
        self.local = self.open.values().fold(self.decided.clone(), |schema, columns| schema.merged(columns));
    }
}
