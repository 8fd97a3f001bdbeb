//! Independent readers of the lake: DuckDB and ClickHouse as an analyst would use them, each in a Python process.
//!
//! Owns: how each reader is given access to S3, and one shape for their results.
//! Does not own: the sidecar's own DuckDB; nothing here shares code or a process with it.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::{command, run_with_input};
use crate::servers::S3Access;
use crate::tools;

const DUCKDB: &str = include_str!("duckdb_rows.py");
const CHDB: &str = include_str!("chdb_rows.py");

/// What a query gave.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows in the query's order. Numbers and booleans are JSON's; dates, times, decimals and numbers that JSON
    /// cannot hold are text as the reader writes them; bytes are text in hexadecimal.
    pub rows: Vec<Vec<Value>>,
}

/// What a reader's program reads from its standard input.
#[derive(Serialize)]
struct Question<'a> {
    sql: &'a str,
    s3: Option<Secret<'a>>,
}

#[derive(Serialize)]
struct Secret<'a> {
    /// Host and port.
    endpoint: &'a str,
    access_key: &'a str,
    secret_key: &'a str,
    region: &'a str,
}

/// Runs one statement in DuckDB; with `s3` it reads `s3://…` there.
///
/// # Errors
/// When the reader cannot be installed, or with the reader's own words when the statement fails.
pub fn duckdb_rows(sql: &str, s3: Option<&S3Access>) -> Result<Rows> {
    let secret = s3.map(|access| Secret {
        endpoint: access.endpoint.trim_start_matches("http://"),
        access_key: &access.access_key,
        secret_key: &access.secret_key,
        region: &access.region,
    });
    ask(DUCKDB, &Question { sql, s3: secret })
}

/// Runs one statement in ClickHouse; see [`clickhouse_source`] for reading from S3.
///
/// # Errors
/// When the reader cannot be installed, or with the reader's own words when the statement fails.
pub fn chdb_rows(sql: &str) -> Result<Rows> {
    ask(CHDB, &Question { sql, s3: None })
}

/// What stands after FROM in ClickHouse to read the Parquet files of a bucket.
pub fn clickhouse_source(access: &S3Access, glob: &str) -> String {
    format!(
        "s3('{}/{}/{glob}', '{}', '{}', 'Parquet')",
        access.endpoint, access.bucket, access.access_key, access.secret_key
    )
}

/// What stands after FROM in DuckDB to read the Parquet files of a lake: a folder or `s3://bucket`.
pub fn duckdb_source(lake: &str, glob: &str) -> String {
    format!("read_parquet('{lake}/{glob}')")
}

fn ask(program: &str, question: &Question<'_>) -> Result<Rows> {
    run_program(program, question).with_context(|| format!("failed to query: {}", question.sql))
}

/// Runs a program in the readers' Python: JSON in on its standard input, JSON out on its standard output.
pub fn run_program<T: DeserializeOwned>(program: &str, input: &impl Serialize) -> Result<T> {
    let mut python = command(tools::readers()?)?;
    // Nothing of the user's own Python may change what the reader is.
    python.args(["-I", "-c", program]);
    let input = serde_json::to_vec(input).context("failed to write the reader's input")?;
    let output = run_with_input(python, &input)?;
    serde_json::from_slice(&output)
        .with_context(|| format!("failed to read the reader's answer: {}", String::from_utf8_lossy(&output)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_readers_give_the_same_rows_in_the_same_shape() {
        let sql = "SELECT 9007199254740993 AS large, 1.5 AS half, 'Zürich' AS place, NULL AS nothing";
        let duckdb = duckdb_rows(sql, None).expect("DuckDB answers");
        assert_eq!(duckdb.columns, ["large", "half", "place", "nothing"]);
        let clickhouse = chdb_rows(sql).expect("ClickHouse answers");
        assert_eq!(clickhouse.rows, [[json!(9_007_199_254_740_993_i64), json!(1.5), json!("Zürich"), json!(null)]]);
        assert_eq!(clickhouse.rows[0][0], duckdb.rows[0][0]);
        assert_eq!(clickhouse.rows[0][2..], duckdb.rows[0][2..]);
    }

    #[test]
    fn a_statement_that_fails_gives_the_readers_own_words() {
        for outcome in [duckdb_rows("SELECT no_such_column", None), chdb_rows("SELECT no_such_column")] {
            let message = format!("{:#}", outcome.expect_err("there is no such column"));
            assert!(message.contains("no_such_column"), "{message}");
        }
    }
}
