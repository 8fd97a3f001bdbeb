//! The rows of a table, computed from records by a SELECT.
//!
//! Owns: which statements are transforms, their evaluation, what becomes of a record on which one fails. Upholds I3: each
//! record becomes one row, the same one whenever it is computed and wherever the segment is split. Does not own: whether a
//! record fits (`schema`), whether a computed value fits the table (`decode`).
//!
//! A statement is one if it has expressions alone. The database's own parser and planner tell: the parser's tree is looked at
//! for clauses and functions, and the plan has a projection over a scan and nothing else.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::Schema as ArrowSchema;
use arrow_select::concat::concat_batches;
use arrow_select::take::take;
use duckdb::Connection;
use serde_json::Value;

use crate::decode::{Columnar, arrow_field, columns_of};
use crate::encode::error::{EncodeError, is_about_files};
use crate::encode::load::sql_type;
use crate::encode::session::{self, quoted, quoted_name};
use crate::limits::RECORD_BYTES_MAX;
use crate::schema::{Column, PARTITION_COLUMNS, Schema, Transform, is_column_name};

/// The table that a transform reads.
const BATCH: &str = "batch";

/// A statement that is no transform.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    /// The database cannot be asked.
    #[error("failed to open a database to read the transform")]
    Open(#[source] duckdb::Error),
    /// It is no SQL, or names what there is not.
    #[error("it is no SELECT over the table batch with the columns that are declared: {words}")]
    Sql {
        /// What the database says.
        words: String,
    },
    /// It has more than expressions.
    #[error("it has {what}; a transform has expressions over the columns of the table batch alone")]
    Clause {
        /// What it has.
        what: String,
    },
    /// It tells something else each time.
    #[error("it calls {name}, which tells something else each time; a record may have to be computed again")]
    Unsteady {
        /// The function.
        name: String,
    },
    /// A column of its result is none of a table.
    #[error("column {place} of its result cannot be one of a table: {reason}")]
    Column {
        /// Its place, from 1 on.
        place: usize,
        /// Why, and what to do.
        reason: String,
    },
    /// The columns of its result cannot stand beside each other.
    #[error("the columns of its result cannot be a table: {reason}")]
    Columns {
        /// Why.
        reason: String,
    },
}

/// Reads a transform over records of a schema.
///
/// # Errors
/// See [`TransformError`].
pub fn read(select: &str, records: &Schema) -> Result<Transform, TransformError> {
    let connection = session::without_files().map_err(TransformError::Open)?;
    check_tree(&connection, select, records)?;
    create_batch(&connection, records).map_err(TransformError::Open)?;
    check_plan(&connection, select)?;
    let mut statement = connection.prepare(select).map_err(of_sql)?;
    let result = statement.query_arrow([]).map_err(of_sql)?.get_schema();
    for (place, field) in result.fields().iter().enumerate() {
        let name = field.name();
        let is_partitions = PARTITION_COLUMNS.iter().any(|column| column.eq_ignore_ascii_case(name));
        if !is_column_name(name) || is_partitions {
            let reason =
                "its name is none of a column; give it one with AS, and leave year, month and day to the table";
            return Err(TransformError::Column { place: place + 1, reason: reason.to_owned() });
        }
        let alone = ArrowSchema::new(vec![Arc::clone(field)]);
        columns_of(&alone).map_err(|error| {
            let reason = error.violations().first().map_or_else(String::new, |violation| violation.detail.clone());
            TransformError::Column { place: place + 1, reason: format!("{reason}; cast it to another type") }
        })?;
    }
    let of_columns = |reason: String| TransformError::Columns { reason };
    let columns = columns_of(&result).map_err(|error| of_columns(error.to_string()))?;
    Schema::new(columns.clone()).map_err(|error| of_columns(error.to_string()))?;
    Ok(Transform { select: select.to_owned(), columns })
}

fn of_sql(error: duckdb::Error) -> TransformError {
    TransformError::Sql { words: error.to_string() }
}

fn clause(what: &str) -> TransformError {
    TransformError::Clause { what: what.to_owned() }
}

/// Checks what the parser makes of a statement.
fn check_tree(connection: &Connection, select: &str, records: &Schema) -> Result<(), TransformError> {
    let question = format!("SELECT json_serialize_sql({})", quoted(select));
    let answer: String = connection.query_row(&question, [], |row| row.get(0)).map_err(of_sql)?;
    let tree: Value =
        serde_json::from_str(&answer).map_err(|error| TransformError::Sql { words: error.to_string() })?;
    if tree["error"] != Value::Bool(false) {
        let words = tree["error_message"].as_str().unwrap_or("it is no statement").to_owned();
        return Err(TransformError::Sql { words });
    }
    let [statement] = tree["statements"].as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(clause("more than one statement"));
    };
    let node = &statement["node"];
    if node["type"] != "SELECT_NODE" {
        return Err(clause("a UNION or the like"));
    }
    if node["cte_map"]["map"].as_array().is_none_or(|tables| !tables.is_empty()) {
        return Err(clause("WITH"));
    }
    let is_there = |part: &Value| match part {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    for (part, what) in [
        ("modifiers", "DISTINCT, ORDER BY or LIMIT"),
        ("where_clause", "WHERE"),
        ("group_expressions", "GROUP BY"),
        ("having", "HAVING"),
        ("qualify", "QUALIFY"),
        ("sample", "a sample"),
    ] {
        if is_there(&node[part]) {
            return Err(clause(what));
        }
    }
    let from = &node["from_table"];
    if from["type"] != "BASE_TABLE" || from["table_name"] != BATCH || is_there(&from["sample"]) {
        return Err(clause("something else than FROM batch"));
    }
    let unsteady = unsteady_functions(connection).map_err(of_sql)?;
    check_expressions(&node["select_list"], &unsteady, records)
}

/// What is a function without its brackets, beside those that [`unsteady_functions`] finds.
/// Source: `ExpressionBinder::GetSQLValueFunction` of DuckDB 1.5.
const BARE_FUNCTIONS: [&str; 11] = [
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "user",
];

/// Functions that tell something else each time, or with each build, though the database answers for them. `age` counts to today
/// where it is given one date; two dates have a difference without it.
const ANSWERED_FOR: [&str; 7] =
    ["age", "current_localtime", "current_localtimestamp", "current_setting", "getvariable", "vector_type", "version"];

/// The functions that tell something else each time: those that the database does not answer for, a few that it does, and the
/// macros that are made of them.
fn unsteady_functions(connection: &Connection) -> duckdb::Result<HashSet<String>> {
    let question = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'";
    let mut statement = connection.prepare(question)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<duckdb::Result<Vec<_>>>()?;
    let mut names: HashSet<String> = names.into_iter().chain(ANSWERED_FOR.map(str::to_owned)).collect();
    let question = "SELECT function_name, macro_definition FROM duckdb_functions() WHERE macro_definition IS NOT NULL";
    let mut statement = connection.prepare(question)?;
    let macros = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let macros = macros.collect::<duckdb::Result<Vec<_>>>()?;
    let calls = |definition: &str, name: &str| {
        definition.contains(&format!("{name}(")) || definition.contains(&format!("\"{name}\"("))
    };
    // A macro can be made of others.
    loop {
        let is_unsteady = |definition: &str| {
            let definition = definition.to_ascii_lowercase();
            BARE_FUNCTIONS.iter().any(|name| name.contains('_') && definition.contains(name))
                || names.iter().any(|name| calls(&definition, name))
        };
        let found = macros.iter().filter(|(name, definition)| !names.contains(name) && is_unsteady(definition));
        let found: Vec<String> = found.map(|(name, _)| name.clone()).collect();
        if found.is_empty() {
            return Ok(names);
        }
        names.extend(found);
    }
}

/// Functions whose result is as long as a value says. What an expression makes on its way is in no bound of the database's.
const AS_LONG_AS_SAID: [&str; 12] = [
    "array_resize",
    "bar",
    "bitstring",
    "format",
    "generate_series",
    "list_resize",
    "lpad",
    "printf",
    "range",
    "repeat",
    "rpad",
    "to_base",
];

/// Functions whose time, or memory, is the product of the lengths of two texts: a record of the longest would hold up all others.
const AS_LONG_AS_A_PRODUCT: [&str; 3] = ["damerau_levenshtein", "editdist3", "levenshtein"];

/// Whether how long a function's result becomes stands in the statement.
fn is_bounded(name: &str, arguments: &[Value], is_method: bool) -> bool {
    let is_constant = |argument: &Value| argument["class"] == "CONSTANT";
    match name {
        // The width of what is put into a text can be another argument.
        "format" | "printf" if is_method => false,
        "format" | "printf" => arguments.first().is_some_and(|format| {
            let text = format["value"]["value"].as_str().unwrap_or("*");
            is_constant(format) && !text.contains('*') && !text.contains(":{")
        }),
        "range" | "generate_series" => arguments.iter().all(is_constant),
        // `name.repeat(3)` has `name` elsewhere in the tree.
        _ => arguments.iter().skip(usize::from(!is_method)).all(is_constant),
    }
}

fn check_expressions(tree: &Value, unsteady: &HashSet<String>, records: &Schema) -> Result<(), TransformError> {
    match tree {
        Value::Array(items) => items.iter().try_for_each(|item| check_expressions(item, unsteady, records)),
        Value::Object(fields) => {
            let name = match fields.get("class").and_then(Value::as_str) {
                Some("SUBQUERY") => return Err(clause("a subquery")),
                Some("WINDOW") => return Err(clause("a window")),
                Some("PARAMETER") => return Err(clause("a parameter")),
                Some("FUNCTION") => {
                    let name = fields["function_name"].as_str().unwrap_or_default();
                    let arguments = fields["children"].as_array().map_or(&[][..], Vec::as_slice);
                    let is_method = fields["schema"].as_str().is_some_and(|schema| !schema.is_empty());
                    if AS_LONG_AS_SAID.contains(&name) && !is_bounded(name, arguments, is_method) {
                        return Err(clause(&format!("{name} with a length that a record says")));
                    }
                    if AS_LONG_AS_A_PRODUCT.contains(&name) {
                        return Err(clause(&format!("{name}, which takes as long as one text times the other")));
                    }
                    // A sample.
                    let is_sampled =
                        arguments.iter().any(|argument| argument["value"]["value"] == "reservoir_quantile");
                    (unsteady.contains(name) || is_sampled).then_some(name)
                }
                Some("COLUMN_REF") => {
                    let names = fields["column_names"].as_array().map_or(&[][..], Vec::as_slice);
                    let name = |part: Option<&'_ Value>| part.and_then(Value::as_str).unwrap_or_default().to_owned();
                    let (first, last) = (name(names.first()), name(names.last()).to_ascii_lowercase());
                    let is_bare = BARE_FUNCTIONS.contains(&last.as_str()) || unsteady.contains(&last);
                    let is_column = records.column_of_any_case(&first).is_some();
                    match !is_column && (is_bare || last == "rowid") {
                        true => return Err(TransformError::Unsteady { name: last }),
                        false => None,
                    }
                }
                _ => None,
            };
            match name {
                Some(name) => Err(TransformError::Unsteady { name: name.to_owned() }),
                None => fields.values().try_for_each(|field| check_expressions(field, unsteady, records)),
            }
        }
        _ => Ok(()),
    }
}

/// Checks what the planner makes of a statement: a projection, at the most, of the one table.
fn check_plan(connection: &Connection, select: &str) -> Result<(), TransformError> {
    let question = format!("EXPLAIN (FORMAT json) {select}");
    let answer: String = connection.query_row(&question, [], |row| row.get(1)).map_err(of_sql)?;
    let plan: Value =
        serde_json::from_str(&answer).map_err(|error| TransformError::Sql { words: error.to_string() })?;
    let mut operators = plan.as_array().cloned().unwrap_or_default();
    while let Some(operator) = operators.pop() {
        let name = operator["name"].as_str().unwrap_or_default().trim().to_owned();
        if !["PROJECTION", "SEQ_SCAN"].contains(&name.as_str()) {
            return Err(clause(&format!("what the database does by {name}")));
        }
        operators.extend(operator["children"].as_array().cloned().unwrap_or_default());
    }
    Ok(())
}

/// Makes the table that a transform reads, without a row.
fn create_batch(connection: &Connection, records: &Schema) -> duckdb::Result<()> {
    let column = |Column { name, column_type }: &Column| format!("{} {}", quoted_name(name), sql_type(column_type));
    let columns: Vec<String> = records.columns().iter().map(column).collect();
    connection.execute_batch(&format!("CREATE OR REPLACE TEMP TABLE {BATCH} ({})", columns.join(", ")))
}

/// What became of some records.
pub(super) enum Piece {
    /// Those at these places are these rows.
    Rows(Range<usize>, Columnar),
    /// The transform fails on the one at this place: why.
    Failed(usize, String),
}

/// The evaluation of a transform over some records, a piece at a time.
pub(super) struct Evaluation<'a> {
    connection: &'a Connection,
    records: &'a Schema,
    transform: &'a Transform,
    columns: &'a [ArrayRef],
    /// What is still to be computed, the next at the end.
    rest: Vec<Range<usize>>,
}

/// What the rows of a piece may take. Past it the piece is halved. Unit: bytes.
const PIECE_BYTES_MAX: usize = 8 * RECORD_BYTES_MAX;

impl<'a> Evaluation<'a> {
    /// Of `count` records, whose values `columns` are, one for each column of `records`.
    pub(super) fn new(
        connection: &'a Connection,
        records: &'a Schema,
        transform: &'a Transform,
        columns: &'a [ArrayRef],
        count: usize,
    ) -> Self {
        Self { connection, records, transform, columns, rest: (count > 0).then_some(0..count).into_iter().collect() }
    }

    /// The next piece; the places of all of them ascend.
    ///
    /// # Errors
    /// The database fails whatever the records are.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, EncodeError> {
        while let Some(range) = self.rest.pop() {
            let fault = match self.evaluate(&range) {
                // The database makes texts of any bytes.
                Ok(batch) if batch.columns().iter().any(|column| column.to_data().validate_full().is_err()) => {
                    "it makes a text that is no UTF-8".into()
                }
                Ok(batch) if Columnar::bytes_of(&batch) > PIECE_BYTES_MAX => {
                    "the row that it becomes is too long".into()
                }
                Ok(batch) => match Columnar::of(&batch) {
                    Ok(columns) => return Ok(Some(Piece::Rows(range, columns))),
                    Err(error) => error.to_string(),
                },
                Err(EncodeError::Load(error)) if !is_about_files(&error) => error.to_string(),
                Err(error) => return Err(error),
            };
            if range.len() == 1 {
                // It is the record's fault if the database does without it.
                self.evaluate(&(0..0))?;
                return Ok(Some(Piece::Failed(range.start, fault)));
            }
            let middle = range.start + range.len() / 2;
            self.rest.extend([middle..range.end, range.start..middle]);
        }
        Ok(None)
    }

    /// The rows that the records in `range` become.
    fn evaluate(&self, range: &Range<usize>) -> Result<RecordBatch, EncodeError> {
        create_batch(self.connection, self.records).map_err(EncodeError::Load)?;
        let places = arrow_array::UInt64Array::from_iter_values(range.start as u64..range.end as u64);
        let part = |column: &ArrayRef| match *range == (0..column.len()) {
            true => Ok(Arc::clone(column)),
            false => take(column, &places, None),
        };
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(part).collect::<Result<_, _>>().map_err(EncodeError::Arrow)?;
        if !range.is_empty() {
            let fields = self.records.columns().iter().zip(&columns);
            let fields = fields.map(|(column, array)| arrow_field(&column.name, array.data_type().clone()));
            let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
            let batch = RecordBatch::try_new(schema, columns).map_err(EncodeError::Arrow)?;
            let mut appender = self.connection.appender(BATCH).map_err(EncodeError::Load)?;
            appender.append_record_batch(batch).map_err(EncodeError::Load)?;
            appender.flush().map_err(EncodeError::Load)?;
        }
        let mut statement = self.connection.prepare(&self.transform.select).map_err(EncodeError::Load)?;
        let result = statement.query_arrow([]).map_err(EncodeError::Load)?;
        let schema = result.get_schema();
        let batches: Vec<RecordBatch> = result.collect();
        let rows = concat_batches(&schema, &batches).map_err(EncodeError::Arrow)?;
        match rows.num_rows() == range.len() {
            true => Ok(rows),
            false => Err(EncodeError::Load(duckdb::Error::StatementChangedRows(rows.num_rows()))),
        }
    }
}

#[cfg(test)]
mod tests;
