//! Segments of a real journal, encoded by a real database.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use chrono::NaiveDate;
use duckdb::types::Value;

mod columns;
mod long;
mod nested;
mod ordered;

use super::*;
use crate::clock::SystemClock;
use crate::decode::Format;
use crate::journal::batch::Batch;
use crate::journal::control::{FileRole, SealReason};
use crate::journal::{Journal, JournalOptions, Sealed};
use crate::metrics::Metrics;
use crate::schema::field_ids::FieldId;
use crate::schema::{Column, ColumnType, Constraints, Schema};

/// A journal and an encoder in a temporary folder.
struct Fixture {
    folder: tempfile::TempDir,
    journal: Journal,
    encoder: Encoder,
    scratch: Scratch,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let directory = folder.path().join("journal");
        let options = JournalOptions::new(directory, 1 << 30);
        let opened = Journal::open(&options, SystemClock::shared(), Arc::new(Metrics::default()));
        let journal = opened.expect("the journal can be opened").journal;
        let scratch = Scratch::open(&folder.path().join("it's scratch"), 1 << 30).expect("the folder can be made");
        let encoder = Encoder::start(scratch.clone(), Trials::AfterDeaths).expect("the database can be set up");
        Self { folder, journal, encoder, scratch }
    }

    /// Journals one batch for each body and seals them.
    async fn sealed(&self, bodies: &[(&str, &str)], schema: &Schema) -> Sealed {
        let mut segment = 0;
        for (date, body) in bodies {
            let batch = Batch {
                format: Format::Ndjson,
                rows: u32::try_from(body.lines().count()).expect("the test's bodies are short"),
                misfits: 0,
                received_micros: 1_700_000_000_000_000,
                partition_date: date.parse().expect("the test's date is one"),
                days: schema.constraints().partition_by.as_ref().map(|_| BTreeSet::new()),
                expanded_bytes: None,
                schema: schema.fingerprint(),
                table: "events".to_owned(),
                key: None,
                present: vec![true; schema.len()],
                body: Bytes::from((*body).to_owned()).into(),
            };
            segment = self.journal.append(batch, schema.clone(), None).await.expect("there is room").segment;
        }
        self.journal.seal(segment, SealReason::Request).await.expect("the disk works").expect("it is open")
    }

    fn job(&self, sealed: &Sealed, registered: RegisteredSchema) -> EncodeJob {
        EncodeJob {
            contents: Arc::clone(&sealed.contents),
            seal: sealed.seal.clone(),
            segment: SegmentName { journal: self.journal.id(), epoch: 1, number: sealed.contents.number },
            prefix: Prefix::new("data").expect("the default prefix is one"),
            registered: Arc::new(registered),
            order_by: Vec::new(),
            journal: self.journal.directory().to_owned(),
            poison: BTreeSet::new(),
            is_suspect: false,
        }
    }

    fn path(&self, segment: u64, part: u32) -> PathBuf {
        self.scratch.encoded_file(segment, part)
    }

    /// The rows of a file, by a database of its own.
    fn rows(&self, path: &Path, columns: &str) -> Vec<Vec<Value>> {
        let connection = Connection::open_in_memory().expect("a database can be opened");
        let from = session::quoted(&path.to_string_lossy());
        let statement = format!("SELECT {columns} FROM read_parquet({from}, hive_partitioning = false)");
        let mut statement = connection.prepare(&statement).expect("the file is Parquet");
        let count = columns.split(", ").count();
        let rows = statement.query_map([], |row| (0..count).map(|place| row.get(place)).collect());
        rows.expect("the file can be read").collect::<Result<_, _>>().expect("each row can be read")
    }
}

fn registered(columns: &[(&str, ColumnType)]) -> RegisteredSchema {
    let schema = schema(columns);
    RegisteredSchema::unknown().grown(schema.columns())
}

fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    let columns = columns.iter().map(|(name, column_type)| Column::new(*name, column_type.clone())).collect();
    Schema::new(columns).expect("the test's columns are legal")
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

const ID: (&str, ColumnType) = ("id", ColumnType::Bigint);

#[tokio::test]
async fn each_partition_becomes_a_file_with_its_rows_in_order_and_its_date_inside() {
    let fixture = Fixture::new();
    let columns = [ID, ("name", ColumnType::Varchar), ("extra", ColumnType::Json)];
    let first = "{\"id\":2,\"name\":\"b\",\"extra\":{\"k\": [1]}}\n{\"id\":1,\"name\":\"a'\\\"\\u00e9\"}";
    let bodies = [("2025-02-01", first), ("2024-12-31", "{\"id\":3}"), ("2025-02-01", "{\"id\":4}")];
    let sealed = fixture.sealed(&bodies, &schema(&columns)).await;
    let encoded = fixture.encoder.encode(fixture.job(&sealed, registered(&columns))).await.expect("it can be encoded");
    let dates: Vec<String> = encoded.plan.files.iter().map(|file| file.partition_date.to_string()).collect();
    assert_eq!(dates, ["2024-12-31", "2025-02-01"]);
    let rows = fixture.rows(&fixture.path(sealed.contents.number, 1), "id, name, extra, year, month, day");
    let date = [Value::Int(2025), Value::Int(2), Value::Int(1)];
    let row = |id: i64, name: Value, extra: Value| [vec![Value::BigInt(id), name, extra], date.to_vec()].concat();
    let expected =
        [row(2, text("b"), text("{\"k\": [1]}")), row(1, text("a'\"é"), Value::Null), row(4, Value::Null, Value::Null)];
    assert_eq!(rows, expected);
    let planned = &encoded.plan.files[1];
    assert_eq!((planned.rows, planned.role, encoded.plan.quarantined_rows), (3, FileRole::Main, 0));
    assert!(planned.key.starts_with("data/events/year=2025/month=2/day=1/data_"), "{}", planned.key);
}

/// The day of a row is found by the schema that its batch was accepted with, whatever the table has become since.
#[tokio::test]
async fn each_row_of_a_table_that_goes_by_a_column_lies_under_its_own_day() {
    let fixture = Fixture::new();
    let constraints = Constraints { partition_by: Some("at".to_owned()), ..Constraints::default() };
    let accepted_as = schema(&[ID, ("at", ColumnType::Timestamp)]).constrained(&constraints);
    let line = |id: i32, at: &str| format!("{{\"id\":{id},\"at\":\"{at}\"}}\n");
    let first =
        [line(1, "2025-02-03T10:00:00Z"), line(2, "2025-02-04T00:30:00+01:00"), line(3, "2025-02-05T00:00:00Z")];
    let rest = [line(4, "2025-02-05T00:00:00Z"), "{\"id\":5}\n".to_owned(), line(6, "2025-02-03T00:00:00Z")];
    let bodies = [("2026-01-08", &*first.concat()), ("2026-01-09", &*rest.concat())];
    for registered_type in [ColumnType::Timestamp, ColumnType::Varchar] {
        let sealed = fixture.sealed(&bodies, &accepted_as).await;
        let registered = registered(&[ID, ("at", registered_type)]);
        let job = fixture.job(&sealed, registered);
        let encoded = fixture.encoder.encode(job).await.expect("it can be encoded");
        let found: Vec<_> = encoded
            .plan
            .files
            .iter()
            .map(|file| {
                let rows = fixture
                    .rows(&fixture.path(sealed.contents.number, file.part), "id, year * 10000 + month * 100 + day");
                let ids = rows.iter().map(|row| match row.as_slice() {
                    [Value::BigInt(id), _] => *id,
                    other => panic!("{other:?} is not what was asked for"),
                });
                let ids: Vec<i64> = ids.collect();
                assert!(rows.iter().all(|row| row[1]
                    == Value::Int(file.partition_date.format("%Y%m%d").to_string().parse().expect("digits"))));
                (file.partition_date.to_string(), ids)
            })
            .collect();
        let expected = [("2025-02-03", vec![1, 2, 6]), ("2025-02-05", vec![3, 4]), ("2026-01-09", vec![5])];
        assert_eq!(found, expected.map(|(day, ids)| (day.to_owned(), ids)));
    }
}

#[tokio::test]
async fn what_does_not_fit_the_registered_schema_goes_to_quarantine_as_it_came() {
    let fixture = Fixture::new();
    let accepted_as = schema(&[ID, ("x", ColumnType::Varchar)]);
    let sealed = fixture.sealed(&[("2025-01-01", "{\"id\":1,\"x\":\"no\"}\n{\"id\":2}")], &accepted_as).await;
    let table = registered(&[ID, ("x", ColumnType::Double)]);
    let encoded = fixture.encoder.encode(fixture.job(&sealed, table)).await.expect("it can be encoded");
    let roles: Vec<_> = encoded.plan.files.iter().map(|file| (file.role, file.rows)).collect();
    assert_eq!(roles, [(FileRole::Main, 1), (FileRole::Quarantine, 1)]);
    let sequence = sealed.contents.first_sequence;
    assert_eq!(encoded.plan.quarantined_by_batch, BTreeMap::from([(sequence, 1)]));
    let quarantined =
        fixture.rows(&fixture.path(sealed.contents.number, 1), "batch, record_index, field, code, record");
    let batch = format!("{}-{sequence}", fixture.journal.id());
    let record = text("{\"id\":1,\"x\":\"no\"}");
    assert_eq!(quarantined, [[text(&batch), Value::BigInt(0), text("x"), text("type-mismatch"), record]]);
    let main = fixture.rows(&fixture.path(sealed.contents.number, 0), "id, x");
    assert_eq!(main, [[Value::BigInt(2), Value::Null]]);
}

/// Invariant I3: the plan says which records the encoder fails on, so that the verdicts are the same when it is followed.
#[tokio::test]
async fn i3_records_that_the_encoder_fails_on_are_quarantined_one_by_one_and_the_plan_says_which() {
    let fixture = Fixture::new();
    let table = [ID, ("x", ColumnType::Varchar)];
    let bodies = [("2025-01-01", "{\"id\":1,\"x\":\"a\"}\n{\"id\":2}\n{\"id\":3}"), ("2025-01-02", "{\"id\":4}")];
    let sealed = fixture.sealed(&bodies, &schema(&table)).await;
    let first = sealed.contents.first_sequence;
    let all = fixture.job(&sealed, registered(&table));
    assert_eq!(load::places_of(&all, &[1, 3]).expect("it can be read"), [(first, 1), (first + 1, 0)]);
    let job = EncodeJob { poison: BTreeSet::from([(first, 1), (first + 1, 0)]), ..all };
    let encoded = fixture.encoder.encode(job.clone()).await.expect("it can be encoded");
    assert_eq!(encoded.plan.poison, job.poison);
    assert_eq!(encoded.plan.quarantined_by_batch, BTreeMap::from([(first, 1), (first + 1, 1)]));
    assert_eq!(fixture.rows(&fixture.path(sealed.contents.number, 0), "id"), [[Value::BigInt(1)], [Value::BigInt(3)]]);
    let quarantined = fixture.rows(&fixture.path(sealed.contents.number, 1), "record_index, code, record");
    let row = |index: i64, record: &str| [Value::BigInt(index), text("encode-failed"), text(record)];
    assert_eq!(quarantined, [row(1, "{\"id\":2}"), row(0, "{\"id\":4}")]);
    let again = fixture.encoder.encode(job).await.expect("it can be encoded again");
    assert_eq!(encoded.plan, again.plan);
}

/// Invariant I3: encoding a segment again gives the same keys, verdicts and rows.
#[tokio::test]
async fn i3_encoding_again_keeps_keys_verdicts_and_rows() {
    let fixture = Fixture::new();
    let accepted_as = schema(&[ID, ("x", ColumnType::Varchar)]);
    let bodies = [("2025-01-01", "{\"id\":1,\"x\":\"a\"}\n{\"id\":2}\n{\"id\":3}"), ("2025-01-02", "{\"id\":4}")];
    let sealed = fixture.sealed(&bodies, &accepted_as).await;
    let job = fixture.job(&sealed, registered(&[ID, ("x", ColumnType::Bigint)]));
    let first = fixture.encoder.encode(job.clone()).await.expect("it can be encoded");
    let again = fixture.encoder.encode(job).await.expect("it can be encoded again");
    assert_eq!(first.plan, again.plan);
}

#[tokio::test]
async fn a_record_without_a_column_is_a_row_all_the_same() {
    let fixture = Fixture::new();
    let sealed = fixture.sealed(&[("2025-01-01", "{}\n{}")], &Schema::empty()).await;
    let encoded = fixture.encoder.encode(fixture.job(&sealed, registered(&[]))).await.expect("it can be encoded");
    assert_eq!(encoded.plan.files.len(), 1);
    let rows = fixture.rows(&fixture.path(sealed.contents.number, 0), "year, day");
    assert_eq!(rows, [[Value::Int(2025), Value::Int(1)], [Value::Int(2025), Value::Int(1)]]);
}

#[tokio::test]
async fn a_file_says_what_it_is_and_another_does_not() {
    let fixture = Fixture::new();
    let sealed = fixture.sealed(&[("2025-01-01", "{\"id\":1}")], &schema(&[ID])).await;
    let job = fixture.job(&sealed, registered(&[ID]));
    let segment = job.segment.clone();
    let encoded = fixture.encoder.encode(job).await.expect("it can be encoded");
    let planned = &encoded.plan.files[0];
    let path = fixture.path(sealed.contents.number, 0);
    assert!(fixture.encoder.is(&path, planned, &segment).await);
    let other = SegmentName { epoch: 2, ..segment.clone() };
    assert!(!fixture.encoder.is(&path, planned, &other).await);
    let other_rows = PlannedFile { row_digest: "xxh3-sum-1:0".to_owned(), ..planned.clone() };
    assert!(!fixture.encoder.is(&path, &other_rows, &segment).await);
    let no_parquet = fixture.scratch.look().join("x");
    std::fs::write(&no_parquet, b"no parquet").expect("the file can be written");
    assert!(!fixture.encoder.is(&no_parquet, planned, &segment).await);
}

/// Segments at the bounds at which they are sealed: many rows, long rows, and rows of ever more columns, each of them with
/// a value in every one.
#[tokio::test]
async fn a_segment_at_its_bounds_is_encoded_narrow_and_wide() {
    // About 128 MiB of bodies each, the default of `flush.maxBytes`; the first is as many rows as `flush.maxRows`.
    let cases = [(1, 500_000, 8), (2, 30_000, 2_000), (64, 120_000, 0), (250, 32_000, 0), (1_000, 8_000, 0)];
    for (columns, rows, text_bytes) in cases {
        let fixture = Fixture::new();
        let names: Vec<String> = (0..columns).map(|place| format!("c{place}")).collect();
        let column_type = if text_bytes > 0 { ColumnType::Varchar } else { ColumnType::Bigint };
        let table: Vec<_> = names.iter().map(|name| (name.as_str(), column_type.clone())).collect();
        let mut bodies = Vec::new();
        for first in (0..rows).step_by(2_000) {
            let record = |row: usize| {
                let value = |place: usize| match text_bytes {
                    0 => format!("\"c{place}\":{}", row * 31 + place),
                    length => format!("\"c{place}\":\"{:0length$x}\"", row * 977 + place),
                };
                format!("{{{}}}\n", (0..columns).map(value).collect::<Vec<_>>().join(","))
            };
            bodies.push((first..first + 2_000).map(record).collect::<String>());
        }
        let bodies: Vec<(&str, &str)> = bodies.iter().map(|body| ("2025-01-01", body.as_str())).collect();
        let sealed = fixture.sealed(&bodies, &schema(&table)).await;
        let job = fixture.job(&sealed, registered(&table));
        let encoded = fixture.encoder.encode(job).await;
        let encoded = encoded.unwrap_or_else(|error| panic!("{columns} columns: {}", crate::error_chain(&error)));
        assert_eq!(encoded.plan.files[0].rows, rows as u64, "{columns} columns");
        let place = fixture.rows(&fixture.path(sealed.contents.number, 0), "c0");
        if text_bytes == 0 {
            assert_eq!(place[rows - 1], [Value::BigInt((rows as i64 - 1) * 31)], "the order of arrival is kept");
        }
    }
}

/// The writer keeps a dictionary of the texts of each column, which repeated texts fill.
#[tokio::test]
async fn many_columns_of_texts_that_repeat_are_encoded() {
    let scalar: ColumnType = ColumnType::Varchar;
    let nested = |text: &str| text.parse::<ColumnType>().expect("the test's types are some");
    let fields: Vec<String> = (0..990).map(|place| format!("f{place} varchar")).collect();
    let of_fields: Vec<String> = (0..990).map(|place| format!("\"f{place}\":\"x\"")).collect();
    let one_list = format!("list(struct({}))", fields.join(", "));
    let cases: [(usize, ColumnType, String); 4] = [
        (1_000, scalar, "\"x\"".to_owned()),
        (1_000, nested("list(varchar)"), "[\"x\",\"y\"]".to_owned()),
        (500, nested("map(varchar, varchar)"), "{\"k\":\"x\"}".to_owned()),
        (1, nested(&one_list), format!("[{{{}}}]", of_fields.join(","))),
    ];
    for (columns, column_type, value) in cases {
        let fixture = Fixture::new();
        let names: Vec<String> = (0..columns).map(|place| format!("c{place}")).collect();
        let table: Vec<_> = names.iter().map(|name| (name.as_str(), column_type.clone())).collect();
        let fields: Vec<String> = names.iter().map(|name| format!("\"{name}\":{value}")).collect();
        let body = format!("{{{}}}\n", fields.join(",")).repeat(8);
        let sealed = fixture.sealed(&[("2025-01-01", &body)], &schema(&table)).await;
        let encoded = fixture.encoder.encode(fixture.job(&sealed, registered(&table))).await;
        let encoded = encoded.unwrap_or_else(|error| panic!("{column_type}: {}", crate::error_chain(&error)));
        assert_eq!(encoded.plan.files[0].rows, 8);
    }
}

/// A few short records in a table of many columns must not be paid for by every column.
#[tokio::test]
async fn columns_without_a_value_are_null_and_cost_no_memory() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..1_000).map(|place| format!("c{place}")).collect();
    let table: Vec<_> = names.iter().map(|name| (name.as_str(), ColumnType::Bigint)).collect();
    let body = "{\"c999\":5}\n".repeat(90_000);
    let only = schema(&[("c999", ColumnType::Bigint)]);
    let sealed = fixture.sealed(&[("2025-01-01", &body)], &only).await;
    let encoded = fixture.encoder.encode(fixture.job(&sealed, registered(&table))).await.expect("it can be encoded");
    assert_eq!(encoded.plan.files[0].rows, 90_000);
    let rows = fixture.rows(&fixture.path(sealed.contents.number, 0), "c0, c999");
    assert_eq!(rows[0], [Value::Null, Value::BigInt(5)]);
}

#[tokio::test]
async fn field_ids_are_the_tables_own() {
    let fixture = Fixture::new();
    let sealed = fixture.sealed(&[("2025-01-01", "{\"id\":1}")], &schema(&[ID])).await;
    let table = RegisteredSchema { field_ids: vec![FieldId { id: 17, inside: Vec::new() }], ..registered(&[ID]) };
    fixture.encoder.encode(fixture.job(&sealed, table)).await.expect("it can be encoded");
    let connection = Connection::open_in_memory().expect("a database can be opened");
    let path = session::quoted(&fixture.path(sealed.contents.number, 0).to_string_lossy());
    let statement = format!("SELECT name, field_id FROM parquet_schema({path}) WHERE field_id IS NOT NULL ORDER BY 2");
    let mut statement = connection.prepare(&statement).expect("the file is Parquet");
    let found = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    let found: Vec<_> = found.expect("it can be read").map(|row| row.expect("each row can be read")).collect();
    let expected = [("year", 1), ("month", 2), ("day", 3), ("id", 17)].map(|(name, id)| (name.to_owned(), id));
    assert_eq!(found, expected);
    assert!(fixture.folder.path().is_dir());
}

#[test]
fn the_plan_holds_dates_as_people_write_them() {
    let date = NaiveDate::from_ymd_opt(2025, 1, 2).expect("the date exists");
    assert_eq!(serde_json::json!(date), "2025-01-02");
}
