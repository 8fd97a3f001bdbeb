//! The lake as an analyst finds it: rows and objects, read by DuckDB in a process of its own.
//!
//! Owns: where a lake is, and reading all of it.
//! Does not own: what should be in it (see `oracle`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::Value;
use xtask::readers::{Rows, duckdb_rows};
use xtask::servers::S3Access;

/// A row: its columns by name.
pub type Row = BTreeMap<String, Value>;

/// A lake: a directory or a bucket, with the default prefix `data`.
#[derive(Clone, Debug)]
pub struct Lake {
    location: String,
    access: Option<S3Access>,
}

impl Lake {
    /// A directory.
    pub fn directory(path: &Path) -> Self {
        Self { location: path.display().to_string(), access: None }
    }

    /// A bucket.
    pub fn bucket(access: &S3Access) -> Self {
        Self { location: format!("s3://{}", access.bucket), access: Some(access.clone()) }
    }

    /// As `--lake` has it.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The variables with which a sidecar reaches it.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        self.access.as_ref().map(S3Access::environment).unwrap_or_default()
    }

    /// How the bucket is reached, if it is one.
    pub fn access(&self) -> Option<&S3Access> {
        self.access.as_ref()
    }

    /// Runs a statement in DuckDB.
    pub fn query(&self, sql: &str) -> Rows {
        duckdb_rows(sql, self.access.as_ref()).expect("DuckDB answers")
    }

    /// Every row of a table; none when it has no file.
    pub fn table(&self, table: &str) -> Vec<Row> {
        self.rows_below(&format!("data/{table}"))
    }

    /// Every row of a table's quarantine; none when it has no file.
    pub fn quarantine(&self, table: &str) -> Vec<Row> {
        self.rows_below(&format!("data/_quarantine/{table}"))
    }

    /// Keys of the data files of a table, in order.
    pub fn files(&self, table: &str) -> Vec<String> {
        let folder = format!("data/{table}/");
        self.objects().into_iter().filter(|key| key.starts_with(&folder)).collect()
    }

    /// Every key of the lake, whatever is stored there.
    pub fn objects(&self) -> BTreeSet<String> {
        if self.access.is_none() {
            let mut keys = BTreeSet::new();
            collect_files(Path::new(&self.location), "", &mut keys);
            return keys;
        }
        let below = format!("{}/", self.location);
        let found = self.query(&format!("SELECT file FROM glob('{below}**')"));
        let keys = found.rows.iter().filter_map(|row| row[0].as_str()?.strip_prefix(&below));
        keys.map(str::to_owned).collect()
    }

    fn rows_below(&self, folder: &str) -> Vec<Row> {
        let is_data = |key: &String| key.starts_with(&format!("{folder}/")) && key.ends_with(".parquet");
        if !self.objects().iter().any(is_data) {
            return Vec::new();
        }
        let files = format!("'{}/{folder}/**/*.parquet'", self.location);
        let found = self.query(&format!("SELECT * FROM read_parquet({files}, union_by_name = true)"));
        let Rows { columns, rows } = found;
        rows.into_iter().map(|row| columns.iter().cloned().zip(row).collect()).collect()
    }
}

fn collect_files(folder: &Path, key: &str, keys: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("the lake can be listed") {
        let entry = entry.expect("the lake can be listed");
        let name = entry.file_name().into_string().expect("the lake's names are text");
        let key = if key.is_empty() { name } else { format!("{key}/{name}") };
        if entry.path().is_dir() {
            collect_files(&entry.path(), &key, keys);
        } else {
            keys.insert(key);
        }
    }
}
