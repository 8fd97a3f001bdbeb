//! The encoder's database and what it may do.
//!
//! Owns: its settings, locked before the first row. Upholds I5: it is given Arrow arrays, never JSON to read.
//! Does not own: what is in its tables.

use std::path::{Path, PathBuf};

use duckdb::Connection;
use serde::{Deserialize, Serialize};

use crate::limits::{ENCODE_COLUMN_BYTES, ENCODE_MEMORY_BYTES};

/// Where the encoder may write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scratch {
    root: PathBuf,
    /// What sorting may spill. Unit: bytes.
    spill_bytes: u64,
}

impl Scratch {
    /// The folder `root` on a volume of `size_limit_bytes`, made if it is missing. What an earlier process spilled or
    /// copied to look at is removed; encoded files stay, since a plan may name them.
    ///
    /// # Errors
    /// The folder cannot be made or cleaned.
    pub fn open(root: &Path, size_limit_bytes: u64) -> std::io::Result<Self> {
        // Half is left for encoded files that wait for the lake.
        let scratch = Self { root: root.to_owned(), spill_bytes: size_limit_bytes / 2 };
        for folder in [scratch.encoded(), scratch.attempts()] {
            crate::journal::directory::make_private_directory(&folder)?;
        }
        for folder in [scratch.spill(), scratch.look()] {
            if folder.is_dir() {
                std::fs::remove_dir_all(&folder)?;
            }
            crate::journal::directory::make_private_directory(&folder)?;
        }
        Ok(scratch)
    }

    /// The folder that everything is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that a process of its own encodes in, to see whether it dies of it.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn for_trial(&self) -> std::io::Result<Self> {
        let trial = Self::open(&self.root.join("trial"), 0)?;
        Ok(Self { spill_bytes: self.spill_bytes, ..trial })
    }

    /// Removes encoded files and notes of all segments but `segments`.
    ///
    /// # Errors
    /// The folder cannot be read or a file cannot be removed.
    pub fn keep_only(&self, segments: &[u64]) -> std::io::Result<()> {
        let is_kept = |segment: Option<u64>| segment.is_some_and(|segment| segments.contains(&segment));
        self.remove_where(&[self.encoded(), self.attempts()], |segment| !is_kept(segment))
    }

    /// Removes the encoded files of a segment, those of earlier attempts too.
    ///
    /// # Errors
    /// As for [`Self::keep_only`].
    pub fn remove_encoded(&self, segment: u64) -> std::io::Result<()> {
        self.remove_where(&[self.encoded()], |found| found == Some(segment))
    }

    /// Removes the files whose segment, by their names, is to go.
    fn remove_where(&self, folders: &[PathBuf], goes: impl Fn(Option<u64>) -> bool) -> std::io::Result<()> {
        for entry in folders.iter().map(std::fs::read_dir).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name();
            if goes(name.to_str().and_then(|name| name.split('-').next()?.parse::<u64>().ok())) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The folder of encoded files.
    pub fn encoded(&self) -> PathBuf {
        self.root.join("encoded")
    }

    /// Where part `part` of a segment is encoded to.
    pub fn encoded_file(&self, segment: u64, part: u32) -> PathBuf {
        self.encoded().join(format!("{segment}-{part}.parquet"))
    }

    /// The folder of notes that say which segments are being encoded.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts")
    }

    /// The folder of objects that are fetched to be looked at.
    pub fn look(&self) -> PathBuf {
        self.root.join("look")
    }

    fn spill(&self) -> PathBuf {
        self.root.join("spill")
    }
}

/// A text as SQL has it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL has it.
pub fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The encoder's database.
#[derive(Debug)]
pub struct Session {
    /// Its connection.
    pub connection: Connection,
    memory_bytes: u64,
}

/// What a segment of a table with so many columns may take. Unit: bytes.
fn memory_for(columns: usize) -> u64 {
    ENCODE_MEMORY_BYTES + ENCODE_COLUMN_BYTES * columns as u64
}

/// What a database is needed for.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Columns of the table, with the fields inside.
    pub columns: usize,
    /// Whether the segment has failed again and again: it is better to take more memory than to keep it for ever.
    pub is_suspect: bool,
}

impl Session {
    /// Opens the database for tables of a few columns.
    ///
    /// # Errors
    /// The library refuses a setting.
    pub fn open(scratch: &Scratch) -> duckdb::Result<Self> {
        Self::with_memory(scratch, memory_for(NARROW_COLUMNS))
    }

    /// Makes the database fit for a table: a wide one needs more memory, one whose segment has failed again and again gets twice
    /// as much, and a failure may have left it unusable. Its settings are locked, so another is opened then.
    ///
    /// # Errors
    /// The library refuses a setting.
    pub fn prepare(&mut self, scratch: &Scratch, need: Need, has_failed: bool) -> duckdb::Result<()> {
        let needed = memory_for(need.columns.max(NARROW_COLUMNS)) * if need.is_suspect { 2 } else { 1 };
        if has_failed || needed > self.memory_bytes || needed * 2 <= self.memory_bytes {
            *self = Self::with_memory(scratch, needed)?;
        }
        Ok(())
    }

    /// Opens the database in memory and takes away what encoding does not need: the network, extensions, files outside
    /// of the scratch folder, and the right to change these settings.
    fn with_memory(scratch: &Scratch, memory_bytes: u64) -> duckdb::Result<Self> {
        let connection = Connection::open_in_memory()?;
        let folder = |path: &Path| quoted(&path.to_string_lossy());
        let files = [
            format!("SET temp_directory = {}", folder(&scratch.spill())),
            format!("SET max_temp_directory_size = '{}B'", scratch.spill_bytes),
            format!("SET allowed_directories = [{}, {}]", folder(&scratch.encoded()), folder(&scratch.look())),
        ];
        set(&connection, files.into_iter().chain(settings(memory_bytes)))?;
        Ok(Self { connection, memory_bytes })
    }
}

/// A database in memory that reaches no file at all.
///
/// # Errors
/// The library refuses a setting.
pub fn without_files() -> duckdb::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    let files = ["SET temp_directory = ''".to_owned()];
    set(&connection, files.into_iter().chain(settings(ENCODE_MEMORY_BYTES)))?;
    Ok(connection)
}

/// What every database has, and the end of all settings.
fn settings(memory_bytes: u64) -> impl Iterator<Item = String> {
    let memory = format!("SET memory_limit = '{memory_bytes}B'");
    let others = [
        "SET threads = 1",
        "SET preserve_insertion_order = true",
        "SET TimeZone = 'UTC'",
        // What is computed comes back with the type that it has.
        "SET arrow_lossless_conversion = true",
        "SET autoinstall_known_extensions = false",
        "SET autoload_known_extensions = false",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ];
    std::iter::once(memory).chain(others.map(str::to_owned))
}

fn set(connection: &Connection, mut settings: impl Iterator<Item = String>) -> duckdb::Result<()> {
    settings.try_for_each(|setting| connection.execute_batch(&setting))
}

/// Columns up to which tables share one database.
const NARROW_COLUMNS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant I5: there is no file of JSON that the database could read, wherever it lies.
    #[test]
    fn i5_the_database_reaches_nothing_but_its_scratch_folder() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let scratch = Scratch::open(root.path(), 64 << 20).expect("the folder can be made");
        let connection = Session::open(&scratch).expect("the settings are known").connection;
        let inside = quoted(&scratch.encoded_file(1, 0).to_string_lossy());
        connection.execute_batch(&format!("COPY (SELECT 1 AS a) TO {inside} (FORMAT parquet)")).expect("it is allowed");
        let outside = quoted(&root.path().join("outside.parquet").to_string_lossy());
        for refused in [
            format!("COPY (SELECT 1 AS a) TO {outside} (FORMAT parquet)"),
            "SELECT * FROM read_text('/etc/hostname')".to_owned(),
            "SELECT * FROM read_json('/tmp/x.json')".to_owned(),
            "COPY (SELECT 1) TO 's3://bucket/key' (FORMAT parquet)".to_owned(),
            "INSTALL httpfs".to_owned(),
            "LOAD httpfs".to_owned(),
            "ATTACH '/tmp/other.db'".to_owned(),
            "SET memory_limit = '10GB'".to_owned(),
        ] {
            assert!(connection.execute_batch(&refused).is_err(), "{refused} was allowed");
        }
    }

    #[test]
    fn quotes_in_a_text_or_a_name_are_doubled() {
        assert_eq!(quoted("a'b"), "'a''b'");
        assert_eq!(quoted_name("a\"b"), "\"a\"\"b\"");
    }
}
