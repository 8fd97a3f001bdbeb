//! Values: generated records of every type, with extremes, unicode and nesting, against what DuckDB and pyarrow read.
//!
//! Owns: what is generated and how it is sent. What each value means is said once more, in Python, by `values.py`.
//! Does not own: crashes and retries (see `soak`).

mod made;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use serde_json::{Value, json};
use xtask::readers::run_program;
use xtask::servers::{Response, Sidecar};

use crate::calls::{body, flush, wait_until_delivered};
use crate::site::Site;
use made::{any, day, decimal, moment, quoted, real, text, uuid, whole};

const PROGRAM: &str = include_str!("values.py");

/// Records of a request.
const REQUEST_RECORDS: u64 = 500;

/// One record in so many has a value that is none of its column's type.
const BAD_ONE_IN: u32 = 40;

/// One field in so many is null, and one is left out.
const ABSENT_ONE_IN: u32 = 12;

/// A type, as a declaration has it.
enum Kind {
    Bigint,
    Double,
    Boolean,
    Varchar,
    Date,
    Timestamp,
    Uuid,
    Binary,
    Json,
    Decimal(u32, u32),
    List(&'static Self),
    Map(&'static Self),
    Struct(&'static [(&'static str, Self)]),
}

use Kind::{Bigint, Binary, Boolean, Date, Decimal, Double, Json, List, Map, Struct, Timestamp, Uuid, Varchar};

/// The table whose columns are declared: every type, alone and within others.
const DECLARED: Table = Table {
    name: "declared",
    columns: &[
        ("id", Bigint),
        ("whole", Bigint),
        ("real", Double),
        ("flag", Boolean),
        ("text", Varchar),
        ("born", Date),
        ("moment", Timestamp),
        ("key", Uuid),
        ("bytes", Binary),
        ("any", Json),
        ("price", Decimal(18, 4)),
        ("long", Decimal(38, 0)),
        ("short", Decimal(4, 4)),
        ("list_of_text", List(&Varchar)),
        ("matrix", List(&List(&Double))),
        ("counts", Map(&Bigint)),
        ("prices", Map(&Decimal(9, 2))),
        ("Person", Struct(&[("name", Varchar), ("born", Date), ("keys", List(&Uuid))])),
        ("events", List(&Struct(&[("at", Timestamp), ("by", Map(&List(&Binary))), ("any", Json)]))),
        ("deep", Struct(&[("a", Struct(&[("b", Struct(&[("c", List(&Struct(&[("d", Double)])))]))]))])),
    ],
};

/// The table whose columns the first records make.
const INFERRED: Table = Table {
    name: "inferred",
    columns: &[
        ("id", Bigint),
        ("whole", Bigint),
        ("real", Double),
        ("flag", Boolean),
        ("text", Varchar),
        ("born", Date),
        ("moment", Timestamp),
        ("any", Json),
        ("person", Struct(&[("name", Varchar), ("born", Date), ("at", Struct(&[("when", Timestamp), ("x", Double)]))])),
    ],
};

/// A table and its columns.
struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Kind)],
}

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Rows that both readers found as they were meant.
    pub rows: u64,
    /// Records that were set aside, as they should be.
    pub set_aside: u64,
}

/// What the readers' program answers.
#[derive(Debug, Deserialize)]
struct Verdict {
    rows: u64,
    set_aside: u64,
    faults: Vec<String>,
    faults_total: u64,
}

/// A run of generated records.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    /// How many, for each of the two tables.
    pub records: u64,
    /// The seed of all that is chosen.
    pub seed: u64,
}

impl Values {
    /// Sends the records and compares.
    ///
    /// # Errors
    /// When a value is not what was sent, with the first of them in words.
    ///
    /// # Panics
    /// When a request is not acknowledged.
    pub fn run(self) -> Result<Compared, String> {
        let columns = DECLARED.columns.iter().map(|(name, kind)| json!({"name": name, "type": kind.name()}));
        let table =
            json!({"name": DECLARED.name, "columns": columns.collect::<Vec<_>>(), "onUnknownColumn": "quarantine"});
        let config = json!({"flush": {"maxRows": 20_000}, "tables": [table]});
        let mut site = Site::local().with_config(&config.to_string());
        let sidecar = site.start();
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut compared = Compared { rows: 0, set_aside: 0 };
        for table in [&DECLARED, &INFERRED] {
            let sent = site.folder().join(format!("{}.ndjson", table.name));
            self.send(table, &sidecar, &sent, &mut random);
            flush(&sidecar);
            wait_until_delivered(&sidecar);
            let Verdict { rows, set_aside, faults, faults_total } = judge(&site, table, &sent);
            if faults_total > 0 {
                site.keep();
                return Err(format!("{}: {faults_total} faults:\n  {}", table.name, faults.join("\n  ")));
            }
            compared.rows += rows;
            compared.set_aside += set_aside;
        }
        Ok(compared)
    }

    /// Sends the records of a table in every way, and writes each into a file before it goes.
    fn send(self, table: &Table, sidecar: &Sidecar, sent: &Path, random: &mut StdRng) {
        let mut file = BufWriter::new(File::create(sent).expect("a file can be made"));
        for first in (0..self.records).step_by(usize::try_from(REQUEST_RECORDS).expect("it is small")) {
            let ids = first..self.records.min(first + REQUEST_RECORDS);
            // The first records of the table that is inferred make its columns.
            let makes_columns = first == 0;
            let lines: Vec<String> = ids.map(|id| record(table, id, makes_columns, random)).collect();
            for line in &lines {
                writeln!(file, "{line}").expect("the file can be written");
            }
            let answer = send(sidecar, table.name, &lines, random.random_range(0..4));
            assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
            assert_eq!(body(&answer)["rows"], json!(lines.len()), "{}", answer.text());
        }
        file.flush().expect("the file can be written");
    }
}

/// Sends lines in one of four ways.
fn send(sidecar: &Sidecar, table: &str, lines: &[String], way: u32) -> Response {
    let path = if way == 0 { "/ingest" } else { "/ingest/stream" };
    let post = |path: &str, headers: &[(&str, &str)], bytes: &[u8]| {
        sidecar.request("POST", path, headers, Some(bytes)).expect("the sidecar answers")
    };
    if way < 2 {
        let text = format!(r#"{{"table_name": "{table}", "records": [{}]}}"#, lines.join(", "));
        return post(path, &[("content-type", "application/json")], text.as_bytes());
    }
    let (path, text) = (format!("{path}?table_name={table}"), lines.join("\n"));
    let line = ("content-type", "application/x-ndjson");
    if way == 2 {
        return post(&path, &[line], text.as_bytes());
    }
    let compressed = zstd::encode_all(text.as_bytes(), 1).expect("memory can be written");
    post(&path, &[line, ("content-encoding", "zstd")], &compressed)
}

fn judge(site: &Site, table: &Table, sent: &Path) -> Verdict {
    let root = site.lake_folder();
    let below = |folder: String| -> Vec<String> {
        let objects = site.lake().objects();
        let files = objects.iter().filter(|key| key.starts_with(&folder) && key.ends_with(".parquet"));
        files.map(|key| root.join(key).to_string_lossy().into_owned()).collect()
    };
    let columns: serde_json::Map<String, Value> =
        table.columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.tree())).collect();
    let question = json!({
        "sent": sent,
        "columns": columns,
        "files": below(format!("data/{}/", table.name)),
        "set_aside": below(format!("data/_quarantine/{}/", table.name)),
    });
    run_program(PROGRAM, &question).expect("the readers answer")
}

impl Kind {
    /// As a declaration has it.
    fn name(&self) -> String {
        match self {
            Decimal(precision, scale) => format!("decimal({precision},{scale})"),
            List(element) => format!("list({})", element.name()),
            Map(value) => format!("map(varchar, {})", value.name()),
            Struct(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, kind)| format!("{name} {}", kind.name())).collect();
                format!("struct({})", fields.join(", "))
            }
            _ => self.tree().as_str().expect("the others are a word").to_owned(),
        }
    }

    /// As `values.py` has it.
    fn tree(&self) -> Value {
        match self {
            Bigint => json!("bigint"),
            Double => json!("double"),
            Boolean => json!("boolean"),
            Varchar => json!("varchar"),
            Date => json!("date"),
            Timestamp => json!("timestamp"),
            Uuid => json!("uuid"),
            Binary => json!("binary"),
            Json => json!("json"),
            Decimal(precision, scale) => json!({"decimal": [precision, scale]}),
            List(element) => json!({"list": element.tree()}),
            Map(value) => json!({"map": value.tree()}),
            Struct(fields) => {
                let fields: serde_json::Map<String, Value> =
                    fields.iter().map(|(name, kind)| ((*name).to_owned(), kind.tree())).collect();
                json!({"struct": fields})
            }
        }
    }

    /// A value of the type as JSON, with extremes among them.
    fn value(&self, random: &mut StdRng) -> String {
        match self {
            Bigint => whole(random),
            Double => real(random),
            Boolean => random.random::<bool>().to_string(),
            Varchar => quoted(&text(random), random),
            Date => format!("\"{}\"", day(random)),
            Timestamp => moment(random),
            Uuid => uuid(random),
            Binary => {
                let length = random.random_range(0..40);
                let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
                format!("\"{}\"", BASE64_STANDARD.encode(bytes))
            }
            Json => any(random, 3),
            Decimal(precision, scale) => decimal(*precision, *scale, random),
            List(element) => {
                let length = random.random_range(0..5);
                let items: Vec<String> = (0..length).map(|_| element.value_or_null(random)).collect();
                format!("[{}]", items.join(","))
            }
            Map(value) => {
                let length = random.random_range(0..4);
                // A key stands once in an object.
                let items = (0..length).map(|key| {
                    let name = quoted(&format!("{key}{}", text(random)), random);
                    format!("{name}:{}", value.value_or_null(random))
                });
                format!("{{{}}}", items.collect::<Vec<_>>().join(","))
            }
            Struct(fields) => object(fields, false, random),
        }
    }

    fn value_or_null(&self, random: &mut StdRng) -> String {
        if random.random_range(0..ABSENT_ONE_IN) == 0 { "null".to_owned() } else { self.value(random) }
    }

    /// A value that is none of the type, and legal for all that; none for a type that takes every value.
    fn misfit(&self, random: &mut StdRng) -> Option<String> {
        let choices: &[&str] = match self {
            Bigint => &["\"1\"", "1.5", "1e3", "-0", "true", "[]", "{}"],
            Double => &["\"1\"", "9007199254740993", "false", "\"NaN\"", "[1.5]"],
            Boolean => &["0", "\"true\"", "[true]"],
            Varchar => &["1", "true", "[\"a\"]", "{\"a\":\"b\"}"],
            Date => &["\"2026-02-29\"", "\"2026-1-8\"", "\"2026-01-08T00:00:00Z\"", "20260108", "\"\""],
            Timestamp => &["\"2026-01-08\"", "\"2026-01-08T25:00:00Z\"", "\"2026-01-08T10:05:30\"", "1767866730"],
            Uuid => &["\"0b5e3c5e-0000-0000-0000-00000000000\"", "\"x\"", "7"],
            Binary => &["\"a\"", "\"YQ=\"", "\"?\"", "1"],
            Decimal(..) => &["\"1e400\"", "\"one\"", "true", "0.00000000001", "[]"],
            List(_) => &["1", "{}", "\"[]\"", "true"],
            Map(_) | Struct(_) => &["1", "[]", "\"{}\""],
            Json => return None,
        };
        choices.choose(random).map(|&text| text.to_owned())
    }
}

/// A record of a table, as a line of JSON. One that makes the columns is whole and fits.
fn record(table: &Table, id: u64, makes_columns: bool, random: &mut StdRng) -> String {
    let bad = (!makes_columns && random.random_range(0..BAD_ONE_IN) == 0)
        .then(|| random.random_range(1..table.columns.len()));
    let mut line = format!("{{\"id\":{id}");
    for (place, (name, kind)) in table.columns.iter().enumerate().skip(1) {
        let value = match bad.filter(|bad| *bad == place).and_then(|_| kind.misfit(random)) {
            Some(misfit) => misfit,
            None if makes_columns => match kind {
                Struct(fields) => object(fields, true, random),
                // What is a word or a list or a number makes a column of JSON, of each the first.
                Json => ["[1]", "\"word\"", "2.5"][usize::try_from(id % 3).expect("it is small")].to_owned(),
                _ => kind.value(random),
            },
            None if random.random_range(0..ABSENT_ONE_IN) == 0 => continue,
            None => kind.value_or_null(random),
        };
        write!(line, ",{}:{value}", quoted(name, random)).expect("a string can be written");
    }
    line.push('}');
    line
}

/// An object of these fields: each of them, or some of them in any order.
fn object(fields: &[(&str, Kind)], is_whole: bool, random: &mut StdRng) -> String {
    let mut members = Vec::new();
    for (name, kind) in fields {
        if is_whole {
            let value = if let Struct(inner) = kind { object(inner, true, random) } else { kind.value(random) };
            members.push(format!("{}:{value}", quoted(name, random)));
        } else if random.random_range(0..ABSENT_ONE_IN) > 0 {
            members.push(format!("{}:{}", quoted(name, random), kind.value_or_null(random)));
        }
    }
    if random.random::<bool>() {
        members.reverse();
    }
    format!("{{{}}}", members.join(","))
}
