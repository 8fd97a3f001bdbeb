//! Tables that are declared: what their columns are before the first record comes.
//!
//! Owns: the fields, their bounds and their checks. Does not own: what becomes of a record that does not fit (the sidecar).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Violation;
use crate::names::{PARTITION_COLUMNS, check_table_name, is_column_name};
use crate::type_name::TypeName;

/// Tables that can be declared. With [`NAMES_MAX`] and [`TYPE_BYTES_MAX`] what the API server reckons the rule on types to cost,
/// ten million units at the most, whatever [`ALL_NAMES_MAX`] says.
/// Source: <https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints>.
pub const TABLES_MAX: usize = 32;

/// Names of one table: its columns, and the fields inside of them at every depth.
pub const NAMES_MAX: usize = 1_000;

/// Names of all tables that are declared. What is declared has to fit a ConfigMap, which holds 1 MiB.
/// Source: <https://kubernetes.io/docs/concepts/configuration/configmap/#motivation>.
pub const ALL_NAMES_MAX: usize = 5_000;

/// Columns by which the rows of a file can be ordered: with eight the rule on them costs half as much again as a rule may; see
/// [`TABLES_MAX`].
pub const ORDER_BY_MAX: usize = 4;

/// Longest transform. Unit: bytes; those of all tables are 128 KiB of a ConfigMap.
pub const TRANSFORM_BYTES_MAX: usize = 4_096;

/// Longest type. Unit: bytes.
pub const TYPE_BYTES_MAX: usize = 512;

/// Names and types of all columns that are declared. Unit: bytes; see [`ALL_NAMES_MAX`].
const ALL_BYTES_MAX: usize = 512 << 10;

/// A table whose columns are known before its first record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::table))]
pub struct TableDeclaration {
    /// The table's name: `[a-z][a-z0-9_]{0,62}`, not ending in `_quarantine`, which is reserved.
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::table_name))]
    pub name: String,

    /// Its columns, in the order that its files have them. At most 1,000 names, with the fields of structs; 5,000 for all
    /// tables that are declared. They are in every file of the table, also where no record has a value in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::columns))]
    pub columns: Vec<ColumnDeclaration>,

    /// Under which day a record lies. Without it: the day in UTC on which it was received. `partition_date` of a request comes
    /// before both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionDeclaration>,

    /// Columns by which the rows of each file are ordered, ascending, nulls last, the first column before the others: readers
    /// pass over what they do not ask for. At most 4, each declared, and none of type `json`, `binary`, `list`, `map` or
    /// `struct`. Rows that are too long to be ordered in the encoder's memory are written as they came, and the log says so.
    /// A change holds for the files that come after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::order_by))]
    pub order_by: Vec<String>,

    /// What the rows of the table are, where they are not what is sent: one SELECT over the table `batch`, which has the columns
    /// that are declared, `SELECT order_id, amount * 1.19 AS gross FROM batch`, in the SQL of DuckDB. The types of its result
    /// are the table's columns. Each record becomes one row: it has expressions alone, and no WHERE, JOIN, aggregate or window,
    /// nor a function that tells another value the next time (`now()`, `random()`). It is checked when the sidecar starts,
    /// which ends with what is wrong with it. Records are judged by what is declared; one on which an expression fails goes to
    /// quarantine. `partition.by` names a column of what is sent, `orderBy` one that the result has too. `json` is text. Needs
    /// `columns`, and `onUnknownColumn: quarantine` or `reject`. At most 4,096 bytes. A change holds for the requests that
    /// come after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::transform))]
    pub transform: Option<String>,

    /// What becomes of a record with a field that is no column of the table: `add` makes it one, `quarantine` sets the
    /// record aside, `reject` refuses its whole request. Columns that the table has without being declared here stay.
    /// Default `add`.
    #[serde(default)]
    pub on_unknown_column: OnUnknownColumn,
}

/// Under which day a record of a table lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub struct PartitionDeclaration {
    /// The column whose value tells the day: one that is declared with type `date` or `timestamp`; of a timestamp it is the
    /// day in UTC. A record without a value in it lies under the day on which it was received. The records of one request
    /// lie under at most 64 days. A change holds for the requests that come after it.
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::column_name))]
    pub by: String,

    /// How long a partition is. Default `day`.
    #[serde(default)]
    pub granularity: Granularity,
}

/// How long a partition is: `day`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub enum Granularity {
    /// A day of the calendar.
    #[default]
    Day,
}

/// A column of a table that is declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::column))]
pub struct ColumnDeclaration {
    /// The column's name: `[A-Za-z_][A-Za-z0-9_]{0,127}`, unique in its table whatever the case. `year`, `month` and `day`
    /// are the partition's.
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::column_name))]
    pub name: String,

    /// What it holds, for ever: `bigint`, `double`, `boolean`, `varchar`, `date` (`"2026-01-08"`), `timestamp` (RFC 3339,
    /// kept as UTC in microseconds), `decimal(18,4)` (at most 38 digits; a number, or its text where doubles are not exact),
    /// `uuid`, `binary` (base64), `json` (any value, kept as its text), `list(bigint)`, `map(varchar, bigint)`,
    /// `struct(plan varchar, seats bigint)`, and these within each other, at most 16 deep. A table that has the column with
    /// another type already keeps that one.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::column_type))]
    pub column_type: String,

    /// Whether a record may lack a value in it or have null there; one that may not and does goes to quarantine.
    /// Default true.
    #[serde(default = "yes")]
    pub nullable: bool,
}

fn yes() -> bool {
    true
}

/// What becomes of a record with a field that its table has no column for: `add`, `quarantine` or `reject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub enum OnUnknownColumn {
    /// The table gets the column.
    #[default]
    Add,
    /// The record goes to quarantine.
    Quarantine,
    /// The request is refused, all of it.
    Reject,
}

/// What becomes of a request for a table that is not declared: `accept` or `reject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub enum OnUndeclaredTable {
    /// Its columns are found in its records.
    #[default]
    Accept,
    /// It is refused.
    Reject,
}

/// Everything that is wrong with declarations, each with its path: `tables[orders].columns[amount].type`.
pub(crate) fn violations(tables: &[TableDeclaration]) -> Vec<Violation> {
    let mut found = Vec::new();
    if tables.len() > TABLES_MAX {
        let detail = format!("has {} tables; there can be at most {TABLES_MAX}", tables.len());
        found.push(Violation { field: "tables".into(), detail });
    }
    let mut names: BTreeMap<&str, ()> = BTreeMap::new();
    let (mut all_names, mut all_bytes) = (0, 0);
    for table in tables {
        let bytes = |column: &ColumnDeclaration| column.name.len() + column.column_type.len();
        all_bytes += table.columns.iter().map(bytes).sum::<usize>();
        let field = format!("tables[{}]", table.name);
        if check_table_name(&table.name).is_err() {
            found.push(Violation { field: format!("{field}.name").into(), detail: TABLE_NAME_RULE.to_owned() });
        }
        if names.insert(&table.name, ()).is_some() {
            found.push(Violation { field: field.clone().into(), detail: "is declared twice".to_owned() });
        }
        let table_names = columns_violations(table, &field, &mut found);
        found.extend(partition_violation(table, &field));
        order_violations(table, &field, &mut found);
        transform_violations(table, &field, &mut found);
        if table_names > NAMES_MAX {
            let detail = format!("has {table_names} names, fields of structs included; must be at most {NAMES_MAX}");
            found.push(Violation { field: format!("{field}.columns").into(), detail });
        }
        all_names += table_names;
    }
    if all_names > ALL_NAMES_MAX {
        let detail = format!("have {all_names} names of columns and fields; there can be at most {ALL_NAMES_MAX}");
        found.push(Violation { field: "tables".into(), detail });
    }
    if all_bytes > ALL_BYTES_MAX {
        let detail = format!("have {all_bytes} bytes of names and types; there can be at most {ALL_BYTES_MAX}");
        found.push(Violation { field: "tables".into(), detail });
    }
    found
}

/// The rule of a table's name in words.
pub const TABLE_NAME_RULE: &str =
    "must begin with a letter a to z, hold a to z, 0 to 9 and _, have at most 63 characters and not end in _quarantine";

/// The rule of a column's name in words.
pub const COLUMN_NAME_RULE: &str =
    "must be [A-Za-z_][A-Za-z0-9_]*, at most 128 characters, and not year, month, day or __duckdb_field_id";

/// The rule of the column that tells a record's day, in words.
pub const PARTITION_RULE: &str = "must be a column that is declared for the table with type date or timestamp";

/// What is wrong with the column that tells a record's day.
fn partition_violation(table: &TableDeclaration, field: &str) -> Option<Violation> {
    let by = &table.partition.as_ref()?.by;
    let tells_day =
        |column: &ColumnDeclaration| column.name == *by && matches!(column.column_type.as_str(), "date" | "timestamp");
    let detail = PARTITION_RULE.to_owned();
    match table.columns.iter().any(tells_day) {
        true => None,
        false => Some(Violation { field: format!("{field}.partition.by").into(), detail }),
    }
}

/// The rule of the columns that files are ordered by, in words.
pub const ORDER_RULE: &str =
    "must be columns that are declared for the table, each once, and none of type json, binary, list, map or struct";

/// What is wrong with the columns that files are ordered by.
fn order_violations(table: &TableDeclaration, field: &str, found: &mut Vec<Violation>) {
    let field = format!("{field}.orderBy");
    if table.order_by.len() > ORDER_BY_MAX {
        let detail = format!("has {} columns; there can be at most {ORDER_BY_MAX}", table.order_by.len());
        found.push(Violation { field: field.clone().into(), detail });
    }
    let has_no_order = ["json", "binary", "list(", "map(", "struct("];
    let is_orderable = |name: &str| {
        let column = table.columns.iter().find(|column| column.name == name);
        column.is_some_and(|column| !has_no_order.iter().any(|start| column.column_type.starts_with(start)))
    };
    for (place, name) in table.order_by.iter().enumerate() {
        if !is_orderable(name) || table.order_by[..place].contains(name) {
            found.push(Violation { field: format!("{field}[{place}]").into(), detail: ORDER_RULE.to_owned() });
        }
    }
}

/// The rule of a transform, in words.
pub const TRANSFORM_RULE: &str =
    "needs columns, which tell what records have, and onUnknownColumn quarantine or reject";

/// What is wrong with a transform, as far as it shows without a database.
fn transform_violations(table: &TableDeclaration, field: &str, found: &mut Vec<Violation>) {
    let Some(transform) = &table.transform else { return };
    let mut report = |detail: String| found.push(Violation { field: format!("{field}.transform").into(), detail });
    if table.columns.is_empty() || table.on_unknown_column == OnUnknownColumn::Add {
        report(TRANSFORM_RULE.to_owned());
    }
    if transform.trim().is_empty() || transform.len() > TRANSFORM_BYTES_MAX {
        report(format!("must be a SELECT of at most {TRANSFORM_BYTES_MAX} bytes"));
    }
}

/// Names that the columns of a table have.
fn columns_violations(table: &TableDeclaration, field: &str, found: &mut Vec<Violation>) -> usize {
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let mut names = 0;
    for column in &table.columns {
        let field = format!("{field}.columns[{}]", column.name);
        let mut report = |part: &str, detail: String| {
            found.push(Violation { field: format!("{field}{part}").into(), detail });
        };
        let is_partitions = PARTITION_COLUMNS.iter().any(|name| name.eq_ignore_ascii_case(&column.name));
        if is_partitions || !is_column_name(&column.name) {
            report(".name", COLUMN_NAME_RULE.to_owned());
        }
        if seen.insert(column.name.to_ascii_lowercase(), ()).is_some() {
            report("", "is declared twice; names are the same whatever their case".to_owned());
        }
        names += 1;
        if column.column_type.len() > TYPE_BYTES_MAX {
            report(".type", format!("must have at most {TYPE_BYTES_MAX} bytes"));
            continue;
        }
        match column.column_type.parse::<TypeName>() {
            Ok(name) => names += field_names(&name, &mut |detail| report(".type", detail)),
            Err(error) => report(".type", error.to_string()),
        }
    }
    names
}

/// Names inside of a type, at every depth; `report` is told of those that cannot stand there.
fn field_names(name: &TypeName, report: &mut dyn FnMut(String)) -> usize {
    match name {
        TypeName::Scalar(_) | TypeName::Decimal { .. } => 0,
        TypeName::List(inner) | TypeName::Map(inner) => field_names(inner, report),
        TypeName::Struct(fields) => {
            let mut seen: BTreeMap<String, ()> = BTreeMap::new();
            let mut names = fields.len();
            for (name, column_type) in fields {
                if !is_column_name(name) {
                    report(format!("its field {name} must be named [A-Za-z_][A-Za-z0-9_]*, at most 128 characters"));
                }
                if seen.insert(name.to_ascii_lowercase(), ()).is_some() {
                    report(format!("its field {name} is there twice; names are the same whatever their case"));
                }
                names += field_names(column_type, report);
            }
            names
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(yaml: &str) -> Vec<String> {
        let tables: Vec<TableDeclaration> = serde_yaml::from_str(yaml).expect("the test's YAML is well-formed");
        violations(&tables).into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn what_can_be_declared_is() {
        let yaml = "
- name: orders
  columns:
  - {name: order_id, type: bigint, nullable: false}
  - {name: customer, type: 'struct(name varchar, seats list(struct(n bigint)))'}
  - {name: paid_at, type: timestamp}
  partition: {by: paid_at, granularity: day}
  orderBy: [paid_at, order_id]
  transform: SELECT order_id, paid_at FROM batch
  onUnknownColumn: reject
- name: clicks";
        assert_eq!(fields_of(yaml), Vec::<String>::new());
        let tables: Vec<TableDeclaration> = serde_yaml::from_str(yaml).expect("it is well-formed");
        assert_eq!((tables[0].columns[0].nullable, tables[0].columns[1].nullable), (false, true));
        assert_eq!(tables[1].on_unknown_column, OnUnknownColumn::Add);
    }

    #[test]
    fn every_violation_is_reported_with_its_path() {
        let found = fields_of(
            "
- {name: Orders}
- {name: a_quarantine}
- name: orders
  columns:
  - {name: Year, type: bigint}
  - {name: a b, type: bigint}
  - {name: x, type: int}
  - {name: X, type: double}
  - {name: s, type: 'struct(a bigint, A double, __duckdb_field_id json)'}
  partition: {by: x}
  orderBy: [x, x, gone, s]
  transform: SELECT x FROM batch
- {name: orders, transform: ' ', onUnknownColumn: reject}",
        );
        let starts = [
            "tables[Orders].name: must",
            "tables[a_quarantine].name: must",
            "tables[orders].columns[Year].name: must",
            "tables[orders].columns[a b].name: must",
            "tables[orders].columns[x].type: the type is not written as one at byte 0",
            "tables[orders].columns[X]: is declared twice",
            "tables[orders].columns[s].type: its field A is there twice",
            "tables[orders].columns[s].type: its field __duckdb_field_id must",
            "tables[orders].partition.by: must be a column that is declared",
            "tables[orders].orderBy[1]: must be columns that are declared for the table, each once",
            "tables[orders].orderBy[2]: must",
            "tables[orders].orderBy[3]: must",
            "tables[orders].transform: needs columns",
            "tables[orders]: is declared twice",
            "tables[orders].transform: needs columns",
            "tables[orders].transform: must be a SELECT",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }

    #[test]
    fn what_is_declared_is_bounded() {
        let many = |columns: usize| TableDeclaration {
            name: "a".to_owned(),
            columns: (0..columns)
                .map(|number| ColumnDeclaration {
                    name: format!("c{number}"),
                    column_type: "struct(a bigint, b bigint)".to_owned(),
                    nullable: true,
                })
                .collect(),
            partition: None,
            order_by: Vec::new(),
            transform: None,
            on_unknown_column: OnUnknownColumn::Add,
        };
        assert_eq!(violations(&[many(333)]), []);
        assert_eq!(violations(&[many(334)])[0].field, "tables[a].columns");
        let several = |tables: usize| -> Vec<TableDeclaration> {
            (0..tables).map(|number| TableDeclaration { name: format!("t{number}"), ..many(333) }).collect()
        };
        assert_eq!(violations(&several(5)), []);
        assert_eq!(violations(&several(6))[0].field, "tables");
        let tables: Vec<_> = (0..33).map(|number| TableDeclaration { name: format!("t{number}"), ..many(0) }).collect();
        assert_eq!(violations(&tables)[0].field, "tables");
    }
}
