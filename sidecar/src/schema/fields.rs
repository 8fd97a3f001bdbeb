//! Named fields in an order: the columns of a table, the fields of a struct.
//!
//! Owns: the rules of their names, the lookup by name. Does not own: which types they have (`types`).

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use lakeingest_crds::names::is_column_name;

use super::types::Column;

/// Why fields cannot stand beside each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// A name is not `[A-Za-z_][A-Za-z0-9_]{0,127}`.
    #[error("failed to add a column: its name of {name_bytes} bytes is no legal identifier")]
    Name {
        /// Length of the name.
        name_bytes: usize,
    },

    /// Two names are equal but for their case.
    #[error("failed to add column {name}: the table has column {present}")]
    NameTaken {
        /// The name that was to be added.
        name: String,
        /// The name that is there.
        present: String,
    },
}

/// Fields whose names are identifiers, and unique whatever their case.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    columns: Vec<Column>,
    positions: HashMap<String, usize>,
    positions_in_lower_case: HashMap<String, usize>,
}

impl Fields {
    /// Fields in the order given.
    ///
    /// # Errors
    /// When a name is illegal or taken.
    pub fn new(columns: Vec<Column>) -> Result<Self, FieldsError> {
        let mut fields = Self::default();
        for column in columns {
            fields.push(column)?;
        }
        Ok(fields)
    }

    /// Adds one behind the others.
    ///
    /// # Errors
    /// As [`Self::new`]; nothing was added then.
    pub fn push(&mut self, column: Column) -> Result<(), FieldsError> {
        let name = &column.name;
        if !is_column_name(name) {
            return Err(FieldsError::Name { name_bytes: name.len() });
        }
        if let Some(present) = self.of_any_case(name) {
            return Err(FieldsError::NameTaken { name: name.clone(), present: present.name.clone() });
        }
        self.positions.insert(name.clone(), self.columns.len());
        self.positions_in_lower_case.insert(name.to_ascii_lowercase(), self.columns.len());
        self.columns.push(column);
        Ok(())
    }

    /// The fields in order.
    #[inline]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Position of the field of exactly this name.
    #[inline]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).copied()
    }

    /// As [`Self::position`], looking at `hint` first: records mostly have their keys in the table's order,
    /// so the position behind the last one found is nearly always right.
    #[inline]
    pub fn position_near(&self, name: &str, hint: usize) -> Option<usize> {
        match self.columns.get(hint) {
            Some(column) if column.name == name => Some(hint),
            Some(_) | None => self.position(name),
        }
    }

    /// The field whose name differs from this one at most in its case.
    pub fn of_any_case(&self, name: &str) -> Option<&Column> {
        let position = self.positions_in_lower_case.get(&name.to_ascii_lowercase())?;
        Some(&self.columns[*position])
    }

    /// Names at every depth.
    pub fn count(&self) -> usize {
        self.columns.iter().map(|column| 1 + column.column_type.field_count()).sum()
    }

    /// These fields grown by `others`: what those have more stands behind, at every depth, as far as it can stand beside
    /// what is here and there is room for its names. What is here keeps its type.
    #[must_use]
    pub fn merged(&self, others: &[Column], room: &mut usize) -> Self {
        let mut merged = self.clone();
        for other in others {
            if let Some(position) = merged.position(&other.name) {
                let grown = merged.columns[position].column_type.merged(&other.column_type, room);
                merged.columns[position].column_type = grown;
                continue;
            }
            let names = 1 + other.column_type.field_count();
            if names <= *room && merged.push(other.clone()).is_ok() {
                *room -= names;
            }
        }
        merged
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns
    }
}

impl Eq for Fields {}

impl Hash for Fields {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.columns.hash(state);
    }
}
