//! What the demo prints: the lake as a tree of folders, and results of queries as tables.
//!
//! Owns: the words and the layout.
//! Does not own: where the numbers come from.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::numbers::grouped;
use crate::readers::Rows;

/// Result rows as a table: text to the left, numbers to the right.
pub(super) fn table(rows: &Rows) -> String {
    let cells: Vec<Vec<String>> = rows.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let is_number = |column: usize| rows.rows.iter().all(|row| row[column].is_number());
    let width = |column: usize| {
        let lengths = cells.iter().map(|row| row[column].chars().count());
        lengths.chain([rows.columns[column].chars().count()]).max().unwrap_or(0)
    };
    let line = |words: &[String]| {
        let mut line = String::from(" ");
        for (column, word) in words.iter().enumerate() {
            let width = width(column);
            line += &if is_number(column) { format!(" {word:>width$} ") } else { format!(" {word:<width$} ") };
        }
        line.trim_end().to_owned() + "\n"
    };
    let rule: Vec<String> = (0..rows.columns.len()).map(|column| "-".repeat(width(column))).collect();
    [line(&rows.columns), line(&rule)].into_iter().chain(cells.iter().map(|row| line(row))).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "NULL".to_owned(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        other => other.to_string(),
    }
}

/// One object of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LakeFile {
    /// Below the lake: `data/<table>/year=…/month=…/day=…/<name>`.
    pub(super) key: String,
    pub(super) bytes: u64,
}

/// The lake as a tree, abridged: every table and month with its counts, of each table only the first file.
pub(super) fn tree(files: &[LakeFile]) -> String {
    let mut tables: BTreeMap<&str, BTreeMap<Month, Vec<&LakeFile>>> = BTreeMap::new();
    for file in files {
        let mut parts = file.key.split('/').skip(1);
        let table = parts.next().unwrap_or_default();
        tables.entry(table).or_default().entry(Month::of(parts)).or_default().push(file);
    }
    let mut text = String::from("  data/\n");
    for (table, months) in tables {
        let _ = writeln!(text, "    {:<28}{}", format!("{table}/"), counts(months.values().flatten().copied()));
        for (index, (month, files)) in months.iter().enumerate() {
            let folder = format!("year={}/month={}/", month.year, month.month);
            let _ = writeln!(text, "      {folder:<26}{}", counts(files.iter().copied()));
            if let (0, Some(first)) = (index, files.iter().min_by_key(|file| &file.key)) {
                let below = first.key.split_once(&folder).map_or(first.key.as_str(), |(_, below)| below);
                let _ = writeln!(text, "        {below}");
                if files.len() > 1 {
                    text.push_str("        ...\n");
                }
            }
        }
    }
    text
}

/// Year and month of a partition, ordered as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Month {
    year: u32,
    month: u32,
}

impl Month {
    fn of<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self { year: 0, month: 0 };
        for part in parts {
            match part.split_once('=') {
                Some(("year", value)) => found.year = value.parse().unwrap_or(0),
                Some(("month", value)) => found.month = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        found
    }
}

fn counts<'a>(files: impl Iterator<Item = &'a LakeFile>) -> String {
    let (count, bytes) = files.fold((0_u64, 0_u64), |(count, bytes), file| (count + 1, bytes + file.bytes));
    let files = if count == 1 { "file" } else { "files" };
    format!("{:>6} {files:<5} {:>8} KiB", grouped(count), grouped(bytes.div_ceil(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_stand_to_the_right_and_text_to_the_left() {
        let rows = Rows {
            columns: vec!["carrier".to_owned(), "flights".to_owned()],
            rows: vec![vec![json!("UA"), json!(58_665)], vec![json!("OO"), json!(32)]],
        };
        assert_eq!(table(&rows), "  carrier  flights\n  -------  -------\n  UA        58,665\n  OO            32\n");
    }

    #[test]
    fn the_tree_counts_every_file_and_shows_the_first_of_each_table() {
        let file = |key: &str| LakeFile { key: key.to_owned(), bytes: 1_000 };
        let text = tree(&[
            file("data/flights/year=2013/month=10/day=1/data_b.parquet"),
            file("data/flights/year=2013/month=2/day=1/data_c.parquet"),
            file("data/flights/year=2013/month=2/day=1/data_a.parquet"),
            file("data/events/year=2026/month=1/day=9/data_d.parquet"),
        ]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [&[&str]; 9] = [
            &["data/"],
            &["events/", "1", "file", "1", "KiB"],
            &["year=2026/month=1/", "1", "file", "1", "KiB"],
            &["day=9/data_d.parquet"],
            &["flights/", "3", "files", "3", "KiB"],
            &["year=2013/month=2/", "2", "files", "2", "KiB"],
            &["day=1/data_a.parquet"],
            &["..."],
            &["year=2013/month=10/", "1", "file", "1", "KiB"],
        ];
        assert_eq!(lines, expected);
    }
}
