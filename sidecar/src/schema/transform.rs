//! What computes the rows of a table from the records that are sent.
//!
//! Owns: its text and the columns of its result, as a batch's schema names them. Does not own: whether it is one, its
//! evaluation (`encode::transform`).

use serde::{Deserialize, Serialize};

use super::types::{Column, ColumnType};

/// A SELECT over the columns of a batch, of which each record becomes one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub struct Transform {
    /// The statement, over the table `batch`.
    pub select: String,
    /// The columns of its result, in their order.
    pub columns: Vec<Column>,
}

/// A transform as the canonical bytes of a schema have it.
#[derive(Serialize, Deserialize)]
struct Parts {
    select: String,
    columns: Vec<(String, ColumnType)>,
}

impl From<Parts> for Transform {
    fn from(Parts { select, columns }: Parts) -> Self {
        Self { select, columns: columns.into_iter().map(|(name, of_type)| Column::new(name, of_type)).collect() }
    }
}

impl From<Transform> for Parts {
    fn from(Transform { select, columns }: Transform) -> Self {
        let columns = columns.into_iter().map(|Column { name, column_type }| (name, column_type));
        Self { select, columns: columns.collect() }
    }
}
