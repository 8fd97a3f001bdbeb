//! What a table's columns are: their types, how they are found in records, what fits them.
//!
//! Owns: column types, the `Schema` value with its canonical bytes and fingerprint, inference, additive growth,
//! the verdict on each row that meets another schema.
//! Does not own: the bytes of records (`decode`), files (`encode`).

mod declaration;
mod fault;
pub mod field_ids;
mod fields;
pub mod observe;
mod partition;
pub mod registry;
#[expect(clippy::module_inception, reason = "the folder is the subject, the file is its central value")]
mod schema;
mod shape;
mod transform;
mod type_name;
mod types;
mod verdict;

pub use declaration::{Declaration, Declarations};
pub use fault::{Fault, Flaw};
pub use fields::{Fields, FieldsError};
pub use lakeingest_crds::names::{PARTITION_COLUMNS, is_column_name};
pub use observe::{Observation, observe, observe_columns};
pub(crate) use observe::{places_of, with_columns_of};
pub use partition::{DayRule, Days};
pub use schema::{Constraints, Error, Fingerprint, Schema, leaf_count};
pub use transform::Transform;
pub use type_name::TypeNameError;
pub use types::{Column, ColumnType};
pub use verdict::{Misfit, Rules, Unknown, Unplaced};
pub(crate) use verdict::{check_cells, list_cells};
