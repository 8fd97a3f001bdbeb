//! One schema per table for every writer: each version an immutable object of the lake.
//!
//! Owns: what this process knows of each table's schema, the growth of the registered one by compare-and-swap.
//! Upholds I9: a column that is registered keeps its type and its field id for ever.
//! Does not own: what a request brings to a table and takes back (`local`), the verdict on rows that do not fit (`fit`).
//!
//! ```text
//! request ── admit ──> local schema (registered + what this process has seen)      never waits for the lake
//! request ── keep or retract ──> the same, once it is journaled or refused
//! segment ── reconcile ──> registered schema, one version further if need be       waits for the lake
//! ```

mod asleep;
mod local;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use lakeingest_crds::{Inference, OnUnknownColumn};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::decode::{DecodeError, Records, Violation};
use crate::intake::OnInvalid;
use crate::limits::TABLES_MAX;
use crate::publish::error::StoreError;
use crate::publish::key::Prefix;
use crate::publish::store::{PutOutcome, Store};
use crate::schema::field_ids::{self, FieldId};
use crate::schema::{Column, ColumnType, DayRule, Declarations, Schema, observe, observe_columns};
use crate::status::{Status, reasons};

use asleep::Asleep;
use local::TableSchemas;
pub use local::{Admitted, Claim};

/// The version of the object's shape.
const FORMAT_VERSION: u32 = 1;

/// A version of a table's schema, as every writer has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredSchema {
    /// The version, from 1. Version 0 has no columns and no object.
    pub version: u32,
    /// Names and types.
    pub schema: Schema,
    /// The field id of each column of `schema`, with those inside of it.
    pub field_ids: Vec<FieldId>,
}

/// The object of a version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaObject {
    format_version: u32,
    table: String,
    version: u32,
    columns: Vec<ColumnObject>,
    created_at: DateTime<Utc>,
    created_by: String,
}

/// A column in the object of a version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ColumnObject {
    name: String,
    #[serde(rename = "type")]
    column_type: ColumnType,
    #[serde(flatten)]
    field_id: FieldId,
}

/// The registry cannot be read or moved on.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The lake did not answer as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object of the registry is not what this build reads.
    #[error("the schema object {key} cannot be used: {reason}")]
    Object {
        /// The object.
        key: String,
        /// Why.
        reason: String,
    },
    /// Other writers were faster every time; trying again helps.
    #[error("the schema of table {table} was changed by others in every one of {attempts} attempts")]
    Contended {
        /// The table.
        table: String,
        /// How often.
        attempts: u32,
    },
}

/// What this process knows of every table's schema.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    prefix: Prefix,
    clock: SharedClock,
    /// Named in the versions that this process makes.
    writer: String,
    /// Changed under the lock of the tables, and looked at without it.
    options: Mutex<Arc<SchemaOptions>>,
    status: Arc<Status>,
    tables: Mutex<Tables>,
}

/// The tables of a registry, each in one of the two.
#[derive(Debug, Default)]
struct Tables {
    /// Those that are declared, or that somebody has asked about.
    awake: HashMap<String, TableSchemas>,
    /// Others that the lake has.
    asleep: HashMap<String, Asleep>,
}

/// What a registry is told of the types that tables have.
#[derive(Clone, Debug, Default)]
pub struct SchemaOptions {
    /// How the type of a new column is found.
    pub inference: Inference,
    /// Which tables are declared.
    pub declarations: Declarations,
}

/// Attempts to move a schema on before the caller is told.
const ATTEMPTS_MAX: u32 = 16;

impl Registry {
    /// A registry that knows nothing yet but what is declared. Where the lake has another type, `status` shows it.
    pub fn new(
        store: Store,
        prefix: Prefix,
        clock: SharedClock,
        writer: String,
        options: SchemaOptions,
        status: Arc<Status>,
    ) -> Self {
        let declarations = &options.declarations;
        let tables = declarations
            .tables()
            .map(|table| (table.to_owned(), TableSchemas::new(declarations.of_table(table).cloned())));
        let tables = Mutex::new(Tables { awake: tables.collect(), asleep: HashMap::new() });
        Self { store, prefix, clock, writer, options: Mutex::new(Arc::new(options)), status, tables }
    }

    /// Takes in other declarations. What was accepted by those of before stays what it was accepted as.
    pub fn redeclare(&self, options: SchemaOptions) {
        let mut tables = self.tables();
        let declarations = &options.declarations;
        for table in declarations.tables() {
            tables.wake(table);
        }
        for (name, table) in &mut tables.awake {
            let declared = declarations.of_table(name);
            if table.declared() != declared.map(Arc::as_ref) {
                table.redeclare(declared.cloned());
                self.show_conflicts(name, table);
            }
        }
        tables.awake.retain(|_, table| !table.is_unused());
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
    }

    fn options(&self) -> Arc<SchemaOptions> {
        Arc::clone(&self.options.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows which declared columns the lake has otherwise.
    fn show_conflicts(&self, name: &str, table: &TableSchemas) {
        let registered = &table.registered.schema;
        let conflicts = table.declared().map(|declared| declared.conflicts(registered)).unwrap_or_default();
        match conflicts.is_empty() {
            true => self.status.clear_for(&[reasons::SCHEMA_CONFLICT], name),
            false => self.status.set_for(reasons::SCHEMA_CONFLICT, name, schema_conflict(&conflicts)),
        }
    }

    /// Checks a request against its table and takes in the columns that are new. Never waits for the lake.
    /// Records that do not fit bring no column.
    /// Once it is known whether the request was journaled, its claim goes to [`Self::keep`] or [`Self::retract`].
    ///
    /// # Errors
    /// A record does not fit and none may, or the table is one too many; nothing was changed.
    pub fn admit(
        &self,
        table: &str,
        records: &Records<'_>,
        days: impl Into<DayRule>,
        on_invalid: OnInvalid,
    ) -> Result<Admitted, DecodeError> {
        let days = days.into();
        loop {
            let options = self.options();
            if !options.declarations.takes(table) {
                return Err(undeclared_table());
            }
            let known = self.tables().find(table).map_or_else(Schema::empty, |table| table.local.clone());
            let observation = match records {
                Records::Text(scanned) => observe(scanned, &known, days, &options.inference)?,
                Records::Columns(columns) => observe_columns(columns, &known, days, &options.inference)?,
            };
            if on_invalid == OnInvalid::Reject && !observation.misfits.is_empty() {
                return Err(DecodeError::Illegal(observation.misfits));
            }
            let declared = options.declarations.of_table(table);
            let is_reject = declared.is_some_and(|table| table.on_unknown_column == OnUnknownColumn::Reject);
            if is_reject && !observation.strangers.is_empty() {
                return Err(DecodeError::Illegal(observation.strangers));
            }
            let mut tables = self.tables();
            let is_taken = |table: &TableSchemas| table.takes_records();
            if !tables.awake.get(table).is_some_and(is_taken)
                && tables.awake.values().filter(|table| is_taken(table)).count() >= TABLES_MAX
            {
                return Err(too_many_tables());
            }
            if let Some(admitted) = tables.wake(table).admit(&known, &observation) {
                return Ok(admitted);
            }
            // Another request has changed the schema since: then this one is looked at again.
            forget_if_unused(&mut tables.awake, table);
        }
    }

    /// The columns by which a table's files are ordered.
    pub fn order_of(&self, table: &str) -> Vec<String> {
        self.options().declarations.of_table(table).map_or_else(Vec::new, |declared| declared.order_by.clone())
    }

    /// Settles what a request has brought: it was journaled.
    pub fn keep(&self, table: &str, claim: Claim) {
        if let Some(entry) = self.tables().awake.get_mut(table) {
            entry.keep(claim);
        }
    }

    /// Takes back what a request has brought and nobody else has used since: it was not journaled.
    pub fn retract(&self, table: &str, claim: Claim) {
        let mut tables = self.tables();
        if let Some(entry) = tables.awake.get_mut(table) {
            entry.retract(claim);
            forget_if_unused(&mut tables.awake, table);
        }
    }

    /// Takes in columns that an earlier process accepted, so that the next request meets the same types.
    pub fn remember(&self, table: &str, observed: &[Column]) {
        self.tables().wake(table).remember(observed);
    }

    /// The names of all tables that this process or the lake has, for `/tables`.
    pub fn names(&self) -> BTreeSet<String> {
        let tables = self.tables();
        tables.awake.keys().chain(tables.asleep.keys()).cloned().collect()
    }

    /// The columns and the registered version of a table, for `/tables`; one that sleeps goes on to. None if there is none.
    pub fn known_of(&self, table: &str) -> Option<(Schema, u32)> {
        let tables = self.tables();
        match tables.awake.get(table) {
            Some(table) => Some((table.of_files(), table.registered.version)),
            None => {
                let registered = tables.asleep.get(table)?.schema(table).ok()?;
                Some((registered.schema, registered.version))
            }
        }
    }

    /// Reads the newest version of every table that the lake has; those that nobody has asked about sleep. A table whose object cannot be used is logged and left
    /// to the first segment that needs it: it must not keep the others from the lake.
    ///
    /// # Errors
    /// The lake did not answer; what was read until then is kept.
    pub async fn load_all(&self) -> Result<(), StoreError> {
        let folder = self.prefix.all_schemas();
        let mut newest: HashMap<String, u32> = HashMap::new();
        for key in self.store.list(&folder).await? {
            if let Some((table, version)) = key.strip_prefix(&folder).and_then(table_and_version) {
                let entry = newest.entry(table.to_owned()).or_default();
                *entry = version.max(*entry);
            }
        }
        for (table, version) in newest {
            let key = self.prefix.schema(&table, version);
            let Some(content) = self.store.get(&key).await? else { continue };
            match RegisteredSchema::from_object(&content, &table, version) {
                Ok(registered) => self.take_in(&table, registered, &content),
                Err(reason) => {
                    let error = RegistryError::Object { key, reason };
                    warn!(table, error = %error, "failed to read a table's schema");
                }
            }
        }
        Ok(())
    }

    /// Takes in what was read of a table: ready for use if somebody has asked about it, else as it lies in the lake.
    fn take_in(&self, table: &str, registered: RegisteredSchema, content: &[u8]) {
        let mut tables = self.tables();
        if !tables.awake.contains_key(table)
            && let Ok(asleep) = Asleep::new(registered.version, content)
        {
            tables.asleep.insert(table.to_owned(), asleep);
            return;
        }
        drop(tables);
        self.learn(table, registered);
    }

    /// Version `version` of a table's schema, which a plan names.
    ///
    /// # Errors
    /// See [`RegistryError`]; an absent version is one.
    pub async fn version(&self, table: &str, version: u32) -> Result<Arc<RegisteredSchema>, RegistryError> {
        if version == 0 {
            return Ok(Arc::new(RegisteredSchema::unknown()));
        }
        match self.read(table, version).await? {
            Some(registered) => Ok(Arc::new(registered)),
            None => {
                let key = self.prefix.schema(table, version);
                Err(RegistryError::Object { key, reason: "it does not exist".to_owned() })
            }
        }
    }

    /// A registered schema that has a column for each name in `observed`, and a field for each in its structs, made if need
    /// be. Where another writer was first with another type, that type stands and the caller's rows have to fit it.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn reconcile(&self, table: &str, observed: &[Column]) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let observed = &*self.with_declared(table, observed);
        for attempt in 0..ATTEMPTS_MAX {
            let registered = match self.registered(table) {
                known if known.has_all(observed) => return Ok(known),
                known => self.newest_from(table, known).await?,
            };
            if registered.has_all(observed) {
                return Ok(registered);
            }
            let next = registered.grown(observed);
            let key = self.prefix.schema(table, next.version);
            match self.store.put_first(&key, self.object_of(table, &next)).await? {
                PutOutcome::Created => {
                    let added = next.schema.field_count() - registered.schema.field_count();
                    info!(table, version = next.version, added, "registered schema");
                    return Ok(self.learn(table, next));
                }
                PutOutcome::Exists => {
                    // Writers that met here meet less often when they come back at different times.
                    let wait = Duration::from_millis(rand::random_range(5..=20) << attempt.min(6));
                    tokio::time::sleep(wait).await;
                }
            }
        }
        warn!(table, attempts = ATTEMPTS_MAX, "schema is contended");
        Err(RegistryError::Contended { table: table.to_owned(), attempts: ATTEMPTS_MAX })
    }

    /// What is observed of a table with what is declared of it. Records that were accepted before a declaration came have the
    /// types that they were accepted with.
    fn with_declared<'o>(&self, table: &str, observed: &'o [Column]) -> Cow<'o, [Column]> {
        match self.options().declarations.of_table(table) {
            Some(declared) => Cow::Owned(declared.columns_beside(observed)),
            None => Cow::Borrowed(observed),
        }
    }

    fn registered(&self, table: &str) -> Arc<RegisteredSchema> {
        let mut tables = self.tables();
        tables.find(table).map_or_else(|| Arc::new(RegisteredSchema::unknown()), |table| Arc::clone(&table.registered))
    }

    /// Follows the versions behind a known one to the newest. Versions have no gap, since each is made by a writer
    /// that has read the one before.
    async fn newest_from(
        &self,
        table: &str,
        known: Arc<RegisteredSchema>,
    ) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let mut newest = known;
        while let Some(next) = self.read(table, newest.version + 1).await? {
            newest = self.learn(table, next);
        }
        Ok(newest)
    }

    async fn read(&self, table: &str, version: u32) -> Result<Option<RegisteredSchema>, RegistryError> {
        let key = self.prefix.schema(table, version);
        let Some(content) = self.store.get(&key).await? else { return Ok(None) };
        RegisteredSchema::from_object(&content, table, version)
            .map(Some)
            .map_err(|reason| RegistryError::Object { key, reason })
    }

    /// Takes in a registered version: its types win over what this process has seen.
    fn learn(&self, table: &str, registered: RegisteredSchema) -> Arc<RegisteredSchema> {
        let registered = Arc::new(registered);
        let mut tables = self.tables();
        let entry = tables.wake(table);
        if registered.version >= entry.registered.version {
            entry.learn(Arc::clone(&registered));
            self.show_conflicts(table, entry);
        }
        registered
    }

    fn object_of(&self, table: &str, registered: &RegisteredSchema) -> Bytes {
        let columns = registered.schema.columns().iter().zip(&registered.field_ids);
        let object = SchemaObject {
            format_version: FORMAT_VERSION,
            table: table.to_owned(),
            version: registered.version,
            columns: columns
                .map(|(column, field_id)| ColumnObject {
                    name: column.name.clone(),
                    column_type: column.column_type.clone(),
                    field_id: field_id.clone(),
                })
                .collect(),
            created_at: self.clock.now(),
            created_by: self.writer.clone(),
        };
        serde_json::to_vec_pretty(&object).expect("the object is plain data").into()
    }

    /// No call under this lock can leave a table half changed, so a panic elsewhere does not spoil it.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// A table, made if nothing is known of it.
    fn wake(&mut self, table: &str) -> &mut TableSchemas {
        let asleep = self.asleep.remove(table);
        self.awake.entry(table.to_owned()).or_insert_with(|| {
            let mut schemas = TableSchemas::new(None);
            match asleep.map(|asleep| asleep.schema(table)) {
                Some(Ok(registered)) => schemas.learn(Arc::new(registered)),
                // Its first segment reads it from the lake.
                Some(Err(error)) => warn!(table, error, "failed to read a table's schema"),
                None => {}
            }
            schemas
        })
    }

    /// A table of which something is known.
    fn find(&mut self, table: &str) -> Option<&TableSchemas> {
        if self.asleep.contains_key(table) { Some(self.wake(table)) } else { self.awake.get(table) }
    }
}

impl RegisteredSchema {
    /// Of a table that nobody has registered.
    pub(crate) fn unknown() -> Self {
        Self { version: 0, schema: Schema::empty(), field_ids: Vec::new() }
    }

    /// Whether there is nothing in `observed` by which this schema would grow.
    fn has_all(&self, observed: &[Column]) -> bool {
        self.version > 0 && self.schema.merged(observed) == self.schema
    }

    /// The next version, grown by what is observed.
    pub(crate) fn grown(&self, observed: &[Column]) -> Self {
        let schema = self.schema.merged(observed);
        let field_ids = field_ids::grown(&self.field_ids, schema.columns());
        Self { version: self.version + 1, schema, field_ids }
    }

    fn from_object(content: &[u8], table: &str, version: u32) -> Result<Self, String> {
        let object: SchemaObject = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        if object.format_version != FORMAT_VERSION {
            return Err(format!(
                "its format version is {}, this sidecar reads {FORMAT_VERSION}",
                object.format_version
            ));
        }
        if object.table != table || object.version != version {
            return Err(format!("it is version {} of table {}", object.version, object.table));
        }
        let columns = object.columns.into_iter();
        let (field_ids, columns): (Vec<_>, Vec<_>) =
            columns.map(|column| (column.field_id, Column::new(column.name, column.column_type))).unzip();
        let schema = Schema::new(columns).map_err(|error| error.to_string())?;
        if !field_ids::are_of(&field_ids, schema.columns()) {
            return Err("its field ids are not those of its columns".to_owned());
        }
        Ok(Self { version, schema, field_ids })
    }
}

/// Removes a table of which nothing is known: the request that named it was refused.
fn forget_if_unused(tables: &mut HashMap<String, TableSchemas>, table: &str) {
    if tables.get(table).is_some_and(TableSchemas::is_unused) {
        tables.remove(table);
    }
}

fn schema_conflict(conflicts: &[String]) -> String {
    format!(
        "the table keeps columns that are declared otherwise, and records that do not fit them go to quarantine; change the \
         declaration: {}",
        conflicts.join("; ")
    )
}

fn undeclared_table() -> DecodeError {
    let detail = "the table is not declared, and this sidecar takes records for declared tables alone";
    DecodeError::Illegal(Violation::new("/table_name", "table-undeclared", detail).into())
}

fn too_many_tables() -> DecodeError {
    let violation = Violation {
        index: None,
        pointer: "/table_name".to_owned(),
        code: "too-many-tables",
        detail: format!("this sidecar already takes records for {TABLES_MAX} tables"),
    };
    DecodeError::Illegal(violation.into())
}

fn table_and_version(name: &str) -> Option<(&str, u32)> {
    let (table, file) = name.split_once('/')?;
    Some((table, file.strip_suffix(".json")?.parse().ok()?))
}

#[cfg(test)]
mod tests;
