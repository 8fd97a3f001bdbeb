//! The `Schema` value: the columns of a table in their order, and what names them for ever.
//!
//! Owns: the rules of column names, the canonical bytes, the fingerprint, the lookup by name.
//! Does not own: versions and their numbers, which exist only in the lake.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::types::{Column, ColumnType};
use crate::limits::COLUMNS_MAX;

/// Columns that every table has and no schema lists: INT, equal to the partition's date.
pub const PARTITION_COLUMNS: [&str; 3] = ["year", "month", "day"];

/// Longest column name. Unit: bytes.
const COLUMN_NAME_BYTES_MAX: usize = 128;

/// Why columns are no schema.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is not `[A-Za-z_][A-Za-z0-9_]{0,127}`.
    #[error("failed to add a column: its name of {name_bytes} bytes is no legal identifier")]
    ColumnName {
        /// Length of the name.
        name_bytes: usize,
    },

    /// A name belongs to the partition.
    #[error("failed to add column {name}: the name belongs to the partition")]
    PartitionColumn {
        /// The name.
        name: String,
    },

    /// Two names are equal but for their case.
    #[error("failed to add column {name}: the table has column {present}")]
    NameTaken {
        /// The name that was to be added.
        name: String,
        /// The name that is there.
        present: String,
    },

    /// More columns than a table may have.
    #[error("failed to add columns: a table has at most {}", COLUMNS_MAX)]
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

/// The columns of a table, in the order of its files. Cheap to clone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Column>", into = "Vec<Column>")]
pub struct Schema(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    columns: Vec<Column>,
    positions: HashMap<String, usize>,
    positions_in_lower_case: HashMap<String, usize>,
    fingerprint: Fingerprint,
}

impl TryFrom<Vec<Column>> for Schema {
    type Error = Error;

    fn try_from(columns: Vec<Column>) -> Result<Self, Error> {
        Self::new(columns)
    }
}

impl From<Schema> for Vec<Column> {
    fn from(schema: Schema) -> Self {
        schema.0.columns.clone()
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
        if columns.len() > COLUMNS_MAX {
            return Err(Error::TooManyColumns);
        }
        let mut positions = HashMap::with_capacity(columns.len());
        let mut positions_in_lower_case = HashMap::with_capacity(columns.len());
        for (position, Column { name, .. }) in columns.iter().enumerate() {
            if !is_column_name(name) {
                return Err(Error::ColumnName { name_bytes: name.len() });
            }
            let lower_case = name.to_ascii_lowercase();
            if PARTITION_COLUMNS.contains(&lower_case.as_str()) {
                return Err(Error::PartitionColumn { name: name.clone() });
            }
            if let Some(present) = positions_in_lower_case.insert(lower_case, position) {
                let present: &Column = &columns[present];
                return Err(Error::NameTaken { name: name.clone(), present: present.name.clone() });
            }
            positions.insert(name.clone(), position);
        }
        let fingerprint = Fingerprint(Sha256::digest(canonical_json(&columns)).into());
        Ok(Self(Arc::new(Inner { columns, positions, positions_in_lower_case, fingerprint })))
    }

    /// This schema with columns added behind its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_columns_added(&self, added: &[Column]) -> Result<Self, Error> {
        Self::new([self.columns(), added].concat())
    }

    /// The columns in order.
    #[inline]
    pub fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.columns().len()
    }

    /// Whether there is no column.
    pub fn is_empty(&self) -> bool {
        self.columns().is_empty()
    }

    /// Position of the column of exactly this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.positions.get(name).copied()
    }

    /// As [`Self::position`], looking at `hint` first: records mostly have their keys in the table's order,
    /// so the position behind the last one found is nearly always right.
    #[inline]
    pub fn position_near(&self, name: &str, hint: usize) -> Option<usize> {
        match self.0.columns.get(hint) {
            Some(column) if column.name == name => Some(hint),
            Some(_) | None => self.position(name),
        }
    }

    /// The column whose name differs from this one at most in its case.
    pub fn column_of_any_case(&self, name: &str) -> Option<&Column> {
        let position = self.0.positions_in_lower_case.get(&name.to_ascii_lowercase())?;
        Some(&self.columns()[*position])
    }

    /// The one sequence of bytes that stands for this schema.
    ///
    /// Shape: `{"columns":[["user_id","bigint"],["amount","double"]]}`, in order, without white space.
    pub fn canonical_json(&self) -> Vec<u8> {
        canonical_json(self.columns())
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
        }
        let canonical: Canonical = serde_json::from_slice(bytes).map_err(|source| Error::ParseCanonical { source })?;
        let columns = canonical.columns.into_iter().map(|(name, column_type)| Column { name, column_type });
        let schema = Self::new(columns.collect())?;
        if schema.canonical_json() == bytes { Ok(schema) } else { Err(Error::NotCanonical) }
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.columns() == other.columns()
    }
}

impl Eq for Schema {}

fn canonical_json(columns: &[Column]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + columns.len() * 24);
    bytes.extend_from_slice(b"{\"columns\":[");
    for (position, Column { name, column_type }) in columns.iter().enumerate() {
        if position > 0 {
            bytes.push(b',');
        }
        // A legal name needs no escape.
        for part in ["[\"", name, "\",\"", column_type.name(), "\"]"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes.extend_from_slice(b"]}");
    bytes
}

/// Whether a name is `[A-Za-z_][A-Za-z0-9_]{0,127}`.
pub fn is_column_name(name: &str) -> bool {
    name.len() <= COLUMN_NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;
