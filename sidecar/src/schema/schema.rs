//! The `Schema` value: the columns of a table in their order, and what names them for ever.
//!
//! Owns: which columns a table can have, the canonical bytes, the fingerprint.
//! Does not own: the names of columns as such (`fields`), versions and their numbers, which exist only in the lake.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use lakeingest_crds::names::PARTITION_COLUMNS;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fields::{Fields, FieldsError};
use super::transform::Transform;
use super::types::{Column, ColumnType};
use crate::limits::COLUMNS_MAX;

/// Why columns are no schema.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is illegal or taken.
    #[error(transparent)]
    Fields(#[from] FieldsError),

    /// A name belongs to the partition.
    #[error("failed to add column {name}: the name belongs to the partition")]
    PartitionColumn {
        /// The name.
        name: String,
    },

    /// More columns, with the fields inside of them, than a table may have.
    #[error("failed to add columns: a table has at most {}, fields of structs included", COLUMNS_MAX)]
    TooManyColumns,

    /// Bytes that are no canonical schema.
    #[error("failed to parse a canonical schema")]
    ParseCanonical {
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },

    /// Bytes that say the right thing in another way, so that their fingerprint would be another.
    #[error("failed to accept a schema: its bytes are not canonical")]
    NotCanonical,
}

/// SHA-256 of a schema's canonical bytes: the name of the schema, the same everywhere and for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A fingerprint from its bytes, as a journal holds them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    /// 64 lower-case hexadecimal digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What a table asks of its records beside the types of their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// Columns in which a record must have a value, where the table has them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub required: BTreeSet<String>,

    /// Whether a record may have no fields but those that there are columns for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,

    /// The column whose value tells the day under which a record lies, where its request names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<String>,

    /// What computes the rows of the table from what the columns hold; none: they are what the columns hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Arc<Transform>>,
}

/// The columns of a table, in the order of its files, and what it asks of its records. Cheap to clone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Schema(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fields: Fields,
    constraints: Constraints,
    /// Names at every depth.
    field_count: usize,
    /// Columns that a file has.
    leaf_count: usize,
    /// Whether a record must have a value in the column at this position. Empty: in none.
    required_at: Vec<bool>,
    /// How many columns are required, of those that there are.
    required_count: usize,
    /// Whether the column at this position is a list or has one inside. Empty: none is.
    lists_at: Vec<bool>,
    fingerprint: Fingerprint,
}

/// A schema taken apart.
#[derive(Serialize, Deserialize)]
struct Parts {
    columns: Vec<Column>,
    #[serde(flatten)]
    constraints: Constraints,
}

impl TryFrom<Parts> for Schema {
    type Error = Error;

    fn try_from(Parts { columns, constraints }: Parts) -> Result<Self, Error> {
        Ok(Self::new(columns)?.constrained(&constraints))
    }
}

impl From<Schema> for Parts {
    fn from(schema: Schema) -> Self {
        Self { columns: schema.columns().to_vec(), constraints: schema.constraints().clone() }
    }
}

impl Schema {
    /// The schema of a table that has no rows yet.
    pub fn empty() -> Self {
        Self::new(Vec::new()).expect("no column breaks no rule")
    }

    /// Columns in the order given.
    ///
    /// # Errors
    /// When a name is illegal, taken (whatever the case) or the partition's, or when there are too many columns.
    pub fn new(columns: Vec<Column>) -> Result<Self, Error> {
        let is_partitions = |name: &str| PARTITION_COLUMNS.iter().any(|column| column.eq_ignore_ascii_case(name));
        if let Some(column) = columns.iter().find(|column| is_partitions(&column.name)) {
            return Err(Error::PartitionColumn { name: column.name.clone() });
        }
        let fields = Fields::new(columns)?;
        if fields.count() > COLUMNS_MAX {
            return Err(Error::TooManyColumns);
        }
        Ok(Self::of(fields, Constraints::default()))
    }

    fn of(fields: Fields, constraints: Constraints) -> Self {
        let fingerprint = Fingerprint(Sha256::digest(canonical_json(fields.columns(), &constraints)).into());
        let flags = |of: &dyn Fn(&Column) -> bool| -> Vec<bool> {
            let flags: Vec<bool> = fields.columns().iter().map(of).collect();
            if flags.contains(&true) { flags } else { Vec::new() }
        };
        let required_at = flags(&|column| constraints.required.contains(&column.name));
        let required_count = required_at.iter().filter(|is_required| **is_required).count();
        let lists_at = flags(&|column| column.column_type.has_list());
        let (field_count, leaf_count) = (fields.count(), leaf_count(fields.columns()));
        Self(Arc::new(Inner {
            fields,
            constraints,
            field_count,
            leaf_count,
            required_at,
            required_count,
            lists_at,
            fingerprint,
        }))
    }

    /// The same columns of a table that asks for this, and for nothing else.
    #[must_use]
    pub fn constrained(&self, constraints: &Constraints) -> Self {
        match self.constraints() == constraints {
            true => self.clone(),
            false => Self::of(self.fields().clone(), constraints.clone()),
        }
    }

    /// What the table asks of its records.
    pub fn constraints(&self) -> &Constraints {
        &self.0.constraints
    }

    /// How many of the columns must have a value in a record.
    #[inline]
    pub fn required_count(&self) -> usize {
        self.0.required_count
    }

    /// Whether a record must have a value in the column at `position`.
    #[inline]
    pub fn is_required(&self, position: usize) -> bool {
        self.0.required_at.get(position).copied().unwrap_or(false)
    }

    /// This schema grown by the columns of another, or of several: those that it lacks stand behind its own, fields that its
    /// structs lack behind theirs. A name that differs from one here in its case alone stays out, as does a column or a
    /// field for whose names there is no room. What is here keeps its type, and what is asked of records stays.
    #[must_use]
    pub fn merged(&self, others: &[Column]) -> Self {
        if others.is_empty() {
            return self.clone();
        }
        let mut room = COLUMNS_MAX.saturating_sub(self.field_count());
        let merged = self.0.fields.merged(others, &mut room);
        if merged == self.0.fields { self.clone() } else { Self::of(merged, self.constraints().clone()) }
    }

    /// The columns as fields.
    pub(super) fn fields(&self) -> &Fields {
        &self.0.fields
    }

    /// The columns in order.
    #[inline]
    pub fn columns(&self) -> &[Column] {
        self.0.fields.columns()
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.columns().len()
    }

    /// Names of columns and, at every depth, of the fields inside of them.
    pub fn field_count(&self) -> usize {
        self.0.field_count
    }

    /// Columns that a file of the table has, one for each value without a structure.
    pub fn leaf_count(&self) -> usize {
        self.0.leaf_count
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.columns().is_empty()
    }

    /// Position of the column of exactly this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.fields.position(name)
    }

    /// Whether the column at `position` is a list or has one inside.
    #[inline]
    pub fn has_list(&self, position: usize) -> bool {
        self.0.lists_at.get(position).copied().unwrap_or(false)
    }

    /// As [`Self::position`], looking at `hint` first.
    #[inline]
    pub fn position_near(&self, name: &str, hint: usize) -> Option<usize> {
        self.0.fields.position_near(name, hint)
    }

    /// The column whose name differs from this one at most in its case.
    pub fn column_of_any_case(&self, name: &str) -> Option<&Column> {
        self.0.fields.of_any_case(name)
    }

    /// The one sequence of bytes that stands for this schema.
    ///
    /// Shape: `{"columns":[["user_id","bigint"],["amount","double"]],"required":["user_id"],"closed":true,
    /// "partition_by":"paid_at"}`, columns in order, required names sorted, without white space outside of a type's own name.
    /// What is not asked for is not there.
    pub fn canonical_json(&self) -> Vec<u8> {
        canonical_json(self.columns(), self.constraints())
    }

    /// SHA-256 of [`Self::canonical_json`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// The schema that canonical bytes stand for.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`Self::canonical_json`] gives for a legal schema.
    pub fn from_canonical_json(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Canonical {
            columns: Vec<(String, ColumnType)>,
            #[serde(flatten)]
            constraints: Constraints,
        }
        let canonical: Canonical = serde_json::from_slice(bytes).map_err(|source| Error::ParseCanonical { source })?;
        let columns = canonical.columns.into_iter().map(|(name, column_type)| Column { name, column_type });
        let schema = Self::new(columns.collect())?.constrained(&canonical.constraints);
        if schema.canonical_json() == bytes { Ok(schema) } else { Err(Error::NotCanonical) }
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl Eq for Schema {}

/// Columns that files have for these.
pub fn leaf_count(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.column_type.leaf_count()).sum()
}

fn canonical_json(columns: &[Column], constraints: &Constraints) -> Vec<u8> {
    let Constraints { required, closed, partition_by, transform } = constraints;
    let mut bytes = Vec::with_capacity(16 + columns.len() * 24);
    bytes.extend_from_slice(b"{\"columns\":[");
    for (position, Column { name, column_type }) in columns.iter().enumerate() {
        if position > 0 {
            bytes.push(b',');
        }
        // A legal name needs no escape.
        for part in ["[\"", name, "\",\"", &column_type.to_string(), "\"]"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes.push(b']');
    if !required.is_empty() {
        let names: Vec<String> = required.iter().map(|name| format!("\"{name}\"")).collect();
        bytes.extend_from_slice(format!(",\"required\":[{}]", names.join(",")).as_bytes());
    }
    if *closed {
        bytes.extend_from_slice(b",\"closed\":true");
    }
    if let Some(name) = partition_by {
        bytes.extend_from_slice(format!(",\"partition_by\":\"{name}\"").as_bytes());
    }
    if let Some(transform) = transform {
        bytes.extend_from_slice(b",\"transform\":");
        serde_json::to_writer(&mut bytes, &**transform).expect("memory takes what is plain data");
    }
    bytes.push(b'}');
    bytes
}

#[cfg(test)]
mod tests;
