//! Bodies that come as columns, through a real database, held against the same records as JSON.

use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    Float64Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampNanosecondArray, UInt16Array,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema as ArrowSchema};

use super::*;
use crate::decode::{Records, ScanLimits, arrow_field};

/// Rows of a body: more than the database is handed at once, and no multiple of it.
const ROWS: i64 = 5_003;

fn number(row: i64) -> i32 {
    i32::try_from(row).expect("there are few rows")
}

fn optional<T>(of: impl Fn(i64) -> T, every: i64) -> Vec<Option<T>> {
    (0..ROWS).map(|row| (row % every != 0).then(|| of(row))).collect()
}

fn strings(of: impl Fn(i64) -> String, every: i64) -> StringArray {
    StringArray::from(optional(of, every))
}

fn scalars() -> Vec<(&'static str, ArrayRef)> {
    let decimals = Decimal128Array::from(optional(|row| i128::from(row) * 1_000_003, 5));
    let uuid = |row: i64| [row.to_le_bytes(), row.to_be_bytes()].concat();
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(optional(uuid, 7).into_iter(), 16);
    let texts = optional(|row| format!("w{}", row % 5), 4);
    let dictionary: DictionaryArray<Int8Type> = texts.iter().map(Option::as_deref).collect();
    let nanos = optional(|row| row * 86_399_000_001_000, 6);
    let bytes = optional(|row| row.to_le_bytes()[..(row % 8) as usize].to_vec(), 9);
    vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        ("d", Arc::new(Float64Array::from(optional(|row| row as f64 / 7.0, 3)))),
        ("b", Arc::new(BooleanArray::from(optional(|row| row % 11 < 4, 5)))),
        ("s", Arc::new(strings(|row| "é".repeat((row % 13) as usize), 10))),
        ("on", Arc::new(Date32Array::from(optional(|row| number(row) - 2_000, 4)))),
        ("at", Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC"))),
        ("dec", Arc::new(decimals.with_precision_and_scale(20, 3).expect("it is legal"))),
        ("uid", Arc::new(uuids.expect("they have 16 bytes"))),
        ("bin", Arc::new(BinaryArray::from_iter(bytes))),
        ("word", Arc::new(dictionary)),
        ("large", Arc::new(LargeStringArray::from(optional(|row| format!("l{row}"), 3)))),
        ("view", Arc::new(StringViewArray::from(optional(|row| format!("a text of more than twelve bytes {row}"), 3)))),
        ("small", Arc::new(UInt16Array::from_iter_values(0..u16::try_from(ROWS).expect("few")))),
    ]
}

/// A list of up to three texts in each row.
fn lists() -> ListArray {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..ROWS {
        for element in 0..row % 4 {
            lists.values().append_option((element != 1).then(|| format!("e{row}-{element}")));
        }
        lists.append(row % 6 != 5);
    }
    lists.finish()
}

fn nested() -> Vec<(&'static str, ArrayRef)> {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in 0..ROWS {
        for entry in 0..row % 3 {
            map.keys().append_value(format!("k{entry}"));
            map.values().append_option((entry != 1).then_some(row));
        }
        map.append(row % 7 != 3).expect("keys and values are as many");
    }
    let seats = Int64Array::from(optional(|row| row * 3, 4));
    let plans = strings(|row| format!("plan {row}"), 5);
    let inner = StructArray::from(vec![
        (Arc::new(Field::new("seats", DataType::Int64, true)), Arc::new(seats.clone()) as ArrayRef),
        (Arc::new(Field::new("tags", lists().data_type().clone(), true)), Arc::new(lists())),
    ]);
    let fields = vec![Field::new("plan", DataType::Utf8, true), Field::new("inner", inner.data_type().clone(), true)];
    let validity: Vec<bool> = (0..ROWS).map(|row| row % 5 != 2).collect();
    let props = StructArray::new(fields.into(), vec![Arc::new(plans), Arc::new(inner.clone())], Some(validity.into()));
    let offsets: Vec<i32> = (0..=number(ROWS)).collect();
    let structs = ListArray::new(
        Arc::new(Field::new("item", inner.data_type().clone(), true)),
        arrow_buffer::OffsetBuffer::new(offsets.into()),
        Arc::new(inner),
        None,
    );
    vec![
        ("tags", Arc::new(lists())),
        ("map", Arc::new(map.finish())),
        ("props", Arc::new(props)),
        ("structs", Arc::new(structs)),
    ]
}

fn stream_of(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("the schema can be written");
    writer.write(batch).expect("the batch can be written");
    writer.into_inner().expect("the end can be written")
}

fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let field = |(name, array): &(&str, ArrayRef)| arrow_field(name, array.data_type().clone());
    let schema = ArrowSchema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect()).expect("a batch")
}

/// The rows that a body becomes in files, and what it is as lines of JSON.
async fn stored(format: Format, body: Vec<u8>, rows: u32, schema: &Schema) -> (Vec<Vec<Value>>, Vec<String>) {
    let fixture = Fixture::new();
    let batch = Batch {
        format,
        rows,
        misfits: 0,
        received_micros: 1_700_000_000_000_000,
        partition_date: "2026-01-08".parse().expect("it is a date"),
        days: None,
        expanded_bytes: None,
        schema: schema.fingerprint(),
        table: "events".to_owned(),
        key: None,
        present: vec![true; schema.len()],
        body: Bytes::from(body).into(),
    };
    let segment = fixture.journal.append(batch, schema.clone(), None).await.expect("there is room").segment;
    let sealed = fixture.journal.seal(segment, SealReason::Request).await.expect("the disk works").expect("it is open");
    let registered = RegisteredSchema::unknown().grown(schema.columns());
    let encoded = fixture.encoder.encode(fixture.job(&sealed, registered)).await;
    let encoded = encoded.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
    assert_eq!(encoded.plan.quarantined_rows, 0);
    let names = schema.columns().iter().map(|column| format!("{}::VARCHAR", session::quoted_name(&column.name)));
    let names = names.collect::<Vec<_>>().join(", ");
    let files = &encoded.plan.files;
    let found = files.iter().flat_map(|file| fixture.rows(&fixture.path(sealed.contents.number, file.part), &names));
    (found.collect(), files.iter().map(|file| file.row_digest.clone()).collect())
}

#[tokio::test]
async fn what_comes_as_columns_is_stored_as_the_same_records_in_json_are() {
    let batch = batch_of(scalars().into_iter().chain(nested()).collect());
    // A part of a longer table as well, whose arrays begin somewhere inside.
    for part in [batch.clone(), batch.slice(0, 2_048), batch.slice(1_001, 3_000)] {
        let body = stream_of(&part);
        let records = Records::read(Format::ArrowStream, &body, &ScanLimits::DEFAULT).expect("it is a stream");
        let Records::Columns(columns) = &records else { panic!("a stream has columns") };
        let schema = Schema::new(columns.columns().to_vec()).expect("the columns are legal");
        assert!((0..schema.len()).all(|position| columns.array(position).is_some()), "they go as they are");
        let lines = columns.lines(0..part.num_rows(), usize::MAX, usize::MAX).expect("there is no bound").text;
        let rows = u32::try_from(part.num_rows()).expect("few");
        let as_columns = stored(Format::ArrowStream, body, rows, &schema).await;
        let as_lines = stored(Format::Ndjson, lines.into_bytes(), rows, &schema).await;
        assert_eq!(as_columns.0.len(), part.num_rows());
        for (row, (found, expected)) in as_columns.0.iter().zip(&as_lines.0).enumerate() {
            assert_eq!(found, expected, "row {row}");
        }
        assert_eq!(as_columns.1, as_lines.1, "one digest, whichever way the rows came");
    }
}
