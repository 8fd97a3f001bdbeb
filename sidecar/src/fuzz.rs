//! Fuzzing on the stable toolchain: inputs of a corpus, changed at random by seed, a fixed number of times in every test
//! run and any number by `cargo xtask fuzz`.
//!
//! Owns: how inputs are changed, and the targets: bodies on their whole way to columns, the journal's decoders, the makers of
//! keys, texts and names in SQL, types. An input that breaks a target is kept beside the corpus by whoever finds it: it is
//! printed, and becomes a file there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate};
use lakeingest_crds::Inference;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::decode::{Format, Records, ScanLimits, Target};
use crate::encode::session::{quoted, quoted_name};
use crate::journal::batch::Batch;
use crate::journal::control::{FileRole, KeyRecord, Plan, SchemaFrame, Seal};
use crate::journal::frame::{FrameHeader, FrameKind, FrameStart, LogHeader};
use crate::journal::reader::{Entry, LogReader};
use crate::publish::key::{BatchId, Prefix, SegmentName};
use crate::schema::{Column, ColumnType, Constraints, DayRule, Rules, Schema, observe, observe_columns};

/// Changed inputs of each target in every test run: some seconds.
const ITERATIONS: u64 = 100_000;

/// Changes of one input at the most.
const CHANGES_MAX: u32 = 6;

/// Longest input that is made. Unit: bytes.
const INPUT_BYTES_MAX: usize = 16 << 10;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the corpus can be listed").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("the corpus can be read")).collect()
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Gives a target every input of its corpus as it is, then changed ones.
fn fuzz(name: &str, target: impl Fn(&[u8])) {
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "the corpus of {name} is empty");
    let seed = number_of("LAKEINGEST_TEST_SEED").unwrap_or_else(rand::random);
    // The database takes its time for each statement.
    let iterations = if name == "sql" { ITERATIONS / 10 } else { ITERATIONS };
    let iterations = number_of("LAKEINGEST_FUZZ_ITERATIONS").unwrap_or(iterations);
    println!("{name}: {iterations} inputs, seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    inputs.iter().for_each(|input| target(input));
    for _ in 0..iterations {
        let input = changed(&inputs, &mut random);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            println!("broken by this input, to be kept in sidecar/fuzz/{name}: {}", crate::journal::hex(&input));
            std::panic::resume_unwind(panic);
        }
    }
}

/// One of the inputs after some changes: a bit, a byte, a stretch that is gone, doubled, zeroed or another input's.
fn changed(inputs: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut input = inputs[random.random_range(0..inputs.len())].clone();
    for _ in 0..random.random_range(1..=CHANGES_MAX) {
        let at = random.random_range(0..=input.len());
        let end = (at + random.random_range(0..=64)).min(input.len());
        match random.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => input.insert(at, random.random()),
            3 => drop(input.drain(at..end)),
            4 => input.extend_from_within(at..end),
            5 => input[at..end].fill(0),
            _ => {
                let other = &inputs[random.random_range(0..inputs.len())];
                let from = random.random_range(0..=other.len());
                input.splice(at..at, other[from..].iter().copied().take(64));
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// Each decoder reads its own bytes back, and no bytes make one panic.
fn decode_frame(bytes: &[u8]) {
    if let Ok(header) = LogHeader::decode(bytes) {
        assert_eq!(LogHeader::decode(&header.encode()), Ok(header));
    }
    if let FrameStart::Header(header) = FrameHeader::decode(bytes, 0) {
        assert_eq!(FrameHeader::decode(&header.encode(0), 0), FrameStart::Header(header));
    }
    if let Ok(batch) = Batch::decode(bytes.to_vec().into()) {
        let mut again = Vec::new();
        batch.encode_into(&mut again);
        assert_eq!(Batch::decode(again.into()), Ok(batch));
    }
    if let Some(frame) = SchemaFrame::decode(bytes) {
        assert_eq!(SchemaFrame::decode(&SchemaFrame::encode(&frame.schema)), Some(frame));
    }
    let _ = serde_json::from_slice::<Seal>(bytes);
    let _ = serde_json::from_slice::<Plan>(bytes);
    if let Ok(record) = serde_json::from_slice::<KeyRecord>(bytes) {
        let _ = record.into_batches();
    }
}

/// Reads a whole log file, however it is broken: it ends, and what it gives out is what its checksums cover.
fn read_log(folder: &Path, bytes: &[u8]) {
    let path = folder.join("0000000000000001.log");
    // Behind a head that holds, so that most inputs are looked into.
    let header = LogHeader {
        journal: [1; 16],
        epoch: 2,
        file: 1,
        first_sequence: 1,
        first_segment: 1,
        previous_bytes: 0,
        anew_bytes: 0,
        salt: 0,
    };
    let mut file = fs::File::create(&path).expect("the file can be made");
    file.write_all(&header.encode()).and_then(|()| file.write_all(bytes)).expect("the file can be written");
    let mut log = LogReader::open(folder, 1).expect("its head holds");
    loop {
        let start = log.offset();
        let is_whole = match log.next_entry().expect("the file can be read") {
            Entry::End => return,
            Entry::Damaged => false,
            Entry::Frame(frame) => log.payload(&frame).expect("the file can be read").is_some(),
        };
        if !is_whole {
            match log.end_of_damage(start).expect("the file can be read") {
                Some(end) => {
                    assert!(end > start, "it goes forward");
                    log.seek(end).expect("the file can be read");
                }
                None => return,
            }
        }
    }
}

/// A text as a batch's id, a prefix and a table.
fn make_keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(id) = BatchId::parse(&text) {
        assert_eq!(id.to_string(), text);
    }
    let Some(prefix) = Prefix::new(&text) else { return };
    let segment = SegmentName { journal: "0f".repeat(16), epoch: u64::MAX, number: u64::MAX };
    let date = NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists");
    let keys = [
        prefix.data_file(FileRole::Main, "events", date, DateTime::UNIX_EPOCH, &segment, u32::MAX),
        prefix.data_file(FileRole::Quarantine, "events", date, DateTime::UNIX_EPOCH, &segment, 0),
        prefix.description("events", &segment, 0),
        prefix.schema("events", 1),
        prefix.owner(),
        prefix.probe(),
        prefix.unfinished(),
    ];
    for key in keys {
        assert!(key.starts_with(&format!("{text}/")), "{key} leaves {text}");
        let is_plain = |name: &str| !name.is_empty() && name != "." && name != "..";
        assert!(key.split('/').all(is_plain) && !key.chars().any(char::is_control), "{key}");
        assert!(key.len() <= 1_024, "{key} is longer than a key of S3");
    }
}

/// The formats of text.
const TEXTS: [Format; 3] = [Format::Json, Format::Ndjson, Format::Csv];

/// What a reader accepts can be stored: each record is a row of the table or has its reason, by the same verdict at the door
/// and on the way to the lake, whatever the table has become meanwhile; and it is what an independent reader takes it for.
fn store_body(formats: &[Format], bytes: &[u8]) {
    let columns = [("id", "bigint"), ("name", "varchar"), ("price", "double"), ("ok", "boolean"), ("on", "date")];
    let nested = "struct(id bigint, name varchar, deep struct(ok boolean), rows list(struct(at timestamp)))";
    let columns = columns.into_iter().chain([("at", "timestamp"), ("extra", "json"), ("tags", "list(varchar)")]);
    let columns = columns.chain([("props", nested)]);
    let canonical: Vec<_> = columns.map(|(name, of_type)| format!("[\"{name}\",\"{of_type}\"]")).collect();
    let canonical = format!("{{\"columns\":[{}]}}", canonical.join(","));
    let known = Schema::from_canonical_json(canonical.as_bytes()).expect("it is canonical");
    let asks = |required: &[&str], closed, partition_by: &str| {
        let required = required.iter().map(|name| (*name).to_owned()).collect();
        known.constrained(&Constraints {
            required,
            closed,
            partition_by: Some(partition_by.to_owned()),
            transform: None,
        })
    };
    let tables = [known.clone(), asks(&["id"], true, "at"), asks(&[], false, "on")];
    let date = NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists");
    for format in formats {
        let Ok(records) = Records::read(*format, bytes, &ScanLimits::DEFAULT) else { continue };
        let count = records.record_count();
        for record in 0..count {
            let text = records.record_text(record);
            let read: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&text);
            assert!(read.is_ok(), "record {record} is not what another reader takes for one: {text}");
        }
        for known in &tables {
            store_records(&records, known, DayRule::ByColumn(date));
        }
    }
}

fn store_records(records: &Records<'_>, known: &Schema, days: DayRule) {
    let (count, inference) = (records.record_count(), Inference::default());
    let observed = match records {
        Records::Text(scanned) => observe(scanned, known, days, &inference),
        Records::Columns(columns) => observe_columns(columns, known, days, &inference),
    };
    if let Ok(observation) = observed {
        let (grown, present) = (observation.schema, observation.present);
        // As another writer may have registered it: each column with the type of the one before.
        let names = grown.columns().iter().map(|column| &column.name);
        let types = grown.columns().iter().cycle().skip(grown.len() - 1).map(|column| column.column_type.clone());
        let turned = names.zip(types).map(|(name, column_type)| Column::new(name, column_type)).collect();
        // It can have more names than a table has, if a struct stands in two places.
        let turned = Schema::new(turned).unwrap_or_else(|_| grown.clone());
        let wider = [Column::new("props", "struct(w json, rows list(struct(v json)))".parse().expect("a type"))];
        let wider = grown.merged(&wider);
        for registered in [&grown, &turned, &wider] {
            let wanted: Vec<usize> = (0..registered.len()).collect();
            let target = Target { rules: Rules::new(&grown, days), present: &present, registered, wanted: &wanted };
            let rows = records.decode(&target, 0..count).expect("every value that fits has its column");
            let (misfits, at_the_door) = (rows.misfits.len(), observation.misfits.total());
            assert!(misfits >= at_the_door && (misfits == at_the_door || *registered == turned), "{misfits} misfits");
            assert_eq!(rows.kept.len() + misfits, count);
            assert!(rows.columns.iter().all(|column| column.len() == rows.kept.len()));
            let (stored, seen) = (rows.days.map(BTreeSet::from_iter), &observation.days);
            assert!(stored.is_none() == seen.is_none());
            let was_seen = |days: &BTreeSet<NaiveDate>| seen.as_ref().is_some_and(|seen| days.is_subset(seen));
            assert!(
                stored.as_ref().is_none_or(was_seen) && (misfits > at_the_door || stored == *seen),
                "a day came up later"
            );
        }
    }
}

#[test]
fn fuzz_bodies() {
    fuzz("bodies", |bytes| store_body(&TEXTS, bytes));
}

#[test]
fn fuzz_columns() {
    fuzz("columns", |bytes| store_body(&[Format::ArrowStream, Format::Parquet], bytes));
}

#[test]
fn fuzz_frames() {
    fuzz("frames", decode_frame);
}

#[test]
fn fuzz_log_files() {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a temporary folder can be made");
    fuzz("logs", |bytes| read_log(folder.path(), bytes));
}

/// Whatever a text or a name holds, it is itself in SQL.
fn quote(connection: &duckdb::Connection, bytes: &[u8]) {
    // Neither a text nor a name of ours has a NUL, and no name is empty.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.is_empty() || text.contains('\0') {
        return;
    }
    let statement = format!("SELECT {} AS {}", quoted(text), quoted_name(text));
    let mut statement = connection.prepare(&statement).expect("it is a statement");
    let found: String = statement.query_row([], |row| row.get(0)).expect("it has one row");
    assert_eq!((found.as_str(), statement.column_name(0).expect("it has one column").as_str()), (text, text));
}

/// What is a type is written in one way, and is the same type then.
fn read_type(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(column_type) = text.parse::<ColumnType>() {
        let name = column_type.to_string();
        assert_eq!(name.parse(), Ok(column_type.clone()));
        assert_eq!(name.replace(' ', ""), text.replace(' ', ""));
        assert!(column_type.leaf_count() >= 1);
    }
}

#[test]
fn fuzz_sql() {
    let connection = duckdb::Connection::open_in_memory().expect("a database can be opened");
    fuzz("sql", |bytes| quote(&connection, bytes));
}

#[test]
fn fuzz_types() {
    fuzz("types", read_type);
}

#[test]
fn fuzz_keys() {
    fuzz("keys", make_keys);
}

/// Frames of salt 0, one after the other, of each kind.
fn example_log() -> Vec<u8> {
    let payloads = [b"{}".as_slice(), b"LKFR", &[0; 64], b"{\"n\":1}"];
    let kinds = [FrameKind::Schema, FrameKind::Batch, FrameKind::Seal, FrameKind::Retire];
    let frame = |(sequence, (kind, payload)): (u64, (FrameKind, &[u8]))| {
        [FrameHeader::of(kind, sequence, 1, payload, 0).encode(0).as_slice(), payload].concat()
    };
    (1..).zip(kinds.into_iter().zip(payloads)).flat_map(frame).collect()
}

/// What the code writes today, under the names that it has in the corpus.
fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let header = LogHeader {
        journal: [1; 16],
        epoch: 2,
        file: 1,
        first_sequence: 1,
        first_segment: 1,
        previous_bytes: 0,
        anew_bytes: 0,
        salt: 0,
    };
    let schema = Schema::new(vec![Column::new("n", ColumnType::Bigint)]).expect("one column is legal");
    let date = NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists");
    let batch = |key| Batch {
        format: Format::Ndjson,
        rows: 1,
        misfits: 0,
        received_micros: 1_767_830_400_000_000,
        partition_date: date,
        days: None,
        schema: schema.fingerprint(),
        table: "events".to_owned(),
        key,
        present: vec![true],
        expanded_bytes: None,
        body: bytes::Bytes::from_static(b"{\"n\":1}").into(),
    };
    let encoded = |batch: Batch| {
        let mut bytes = Vec::new();
        batch.encode_into(&mut bytes);
        bytes
    };
    vec![
        ("logs/four-frames", example_log()),
        ("frames/log-header", header.encode().to_vec()),
        ("frames/frame-header", FrameHeader::of(FrameKind::Batch, 7, 3, b"payload", 0).encode(0).to_vec()),
        ("frames/batch", encoded(batch(None))),
        ("frames/batch-with-key", encoded(batch(Some(("order-1".to_owned(), [8; 32]))))),
        ("frames/batch-with-misfits", encoded(Batch { misfits: 1, ..batch(None) })),
        ("frames/batch-with-days", encoded(Batch { days: Some(BTreeSet::from([date])), ..batch(None) })),
        ("frames/batch-with-length", encoded(Batch { expanded_bytes: Some(1_000), ..batch(None) })),
        ("frames/schema", SchemaFrame::encode(&schema)),
    ]
}

/// `LAKEINGEST_WRITE_CORPUS=1` writes the examples anew; the rest of the corpus is what was found.
#[test]
fn the_corpus_has_what_the_code_writes_today() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, example) in examples() {
        let path = folder.join(name);
        if std::env::var_os("LAKEINGEST_WRITE_CORPUS").is_some() {
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("it can be made");
            fs::write(&path, &example).expect("it can be written");
        }
        assert!(fs::read(&path).expect("the example is there") == example, "{name} is of another version");
    }
    assert!(corpus("keys").iter().any(|input| BatchId::parse(&String::from_utf8_lossy(input)).is_some()));
}
