//! What tables and columns can be called.
//!
//! Owns: the rules of their names. Does not own: which names a table has.

/// Longest name of a column. Unit: bytes.
pub const COLUMN_NAME_BYTES_MAX: usize = 128;

/// Longest name of a table. Unit: bytes.
pub const TABLE_NAME_BYTES_MAX: usize = 63;

/// What a quarantine is named after its table, hence reserved.
pub const QUARANTINE_SUFFIX: &str = "_quarantine";

/// A name that DuckDB keeps for itself where files are given field ids: it writes no file that has such a column or field.
/// Source: <https://duckdb.org/docs/stable/sql/statements/copy#parquet-options>.
pub const TAKEN_COLUMN_NAME: &str = "__duckdb_field_id";

/// Columns that every table has and no schema lists: INT, equal to the partition's date.
pub const PARTITION_COLUMNS: [&str; 3] = ["year", "month", "day"];

/// Whether a name is `[A-Za-z_][A-Za-z0-9_]{0,127}` and not the one that is taken.
pub fn is_column_name(name: &str) -> bool {
    name.len() <= COLUMN_NAME_BYTES_MAX
        && !name.eq_ignore_ascii_case(TAKEN_COLUMN_NAME)
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Why a name is no table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableNameFault {
    /// It has more than [`TABLE_NAME_BYTES_MAX`] bytes.
    Long,
    /// It is not `[a-z][a-z0-9_]*`.
    Form,
    /// It ends in [`QUARANTINE_SUFFIX`].
    Reserved,
}

/// Checks the name of a table: `[a-z][a-z0-9_]{0,62}`, not ending in `_quarantine`.
///
/// # Errors
/// It cannot be one.
pub fn check_table_name(name: &str) -> Result<(), TableNameFault> {
    let is_character = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if name.len() > TABLE_NAME_BYTES_MAX {
        Err(TableNameFault::Long)
    } else if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(is_character) {
        Err(TableNameFault::Form)
    } else if name.ends_with(QUARANTINE_SUFFIX) {
        Err(TableNameFault::Reserved)
    } else {
        Ok(())
    }
}
