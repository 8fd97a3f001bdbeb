//! Streams of every type, well-formed and not, held against the same records as JSON.

use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int32Type};
use arrow_array::{Array, ArrayRef};
use arrow_array::{
    BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray, DurationSecondArray,
    FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, LargeListArray, LargeStringArray,
    ListArray, MapArray, NullArray, PrimitiveArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema as ArrowSchema};
use chrono::NaiveDate;
use lakeingest_crds::Inference;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::decode::{DecodedRows, Format, Records, Target, decode_rows, scan};
use crate::schema::{Constraints, DayRule, Observation, Rules, Schema, observe, observe_columns};

pub(super) fn stream_of(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).expect("the schema can be written");
    batches.iter().for_each(|batch| writer.write(batch).expect("the batch can be written"));
    writer.into_inner().expect("the end can be written")
}

pub(super) fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields = columns.iter().map(|(name, array)| match array.data_type() {
        DataType::FixedSizeBinary(16) => crate::decode::arrow_field(name, array.data_type().clone()),
        data_type => Field::new(*name, data_type.clone(), true),
    });
    let schema = ArrowSchema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect()).expect("a batch")
}

pub(super) fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    stream_of(&[batch_of(columns)])
}

pub(super) fn read(body: &[u8]) -> Result<Columnar, DecodeError> {
    Source::Stream.read(body, &ScanLimits::DEFAULT)
}

pub(super) fn columnar(columns: Vec<(&str, ArrayRef)>) -> Columnar {
    read(&stream(columns)).unwrap_or_else(|error| panic!("{error}"))
}

fn lines_of(body: &Columnar, rows: usize) -> String {
    body.lines(0..rows, usize::MAX, usize::MAX).expect("there is no bound").text
}

pub(super) fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, 8).expect("the date exists")
}

pub(super) fn known(columns: &[(&str, &str)]) -> Schema {
    let column = |(name, text): &(&str, &str)| Column::new(*name, text.parse().expect("the test's types are some"));
    Schema::new(columns.iter().map(column).collect()).expect("the test's columns are legal")
}

fn observed(body: &Columnar, known: &Schema) -> Observation {
    observe_columns(body, known, DayRule::ByColumn(day()), &Inference::default()).expect("there are few records")
}

/// The rows of a body in a table that is what the body says.
pub(super) fn stored(body: Columnar, known: &Schema) -> (Observation, DecodedRows) {
    let observation = observed(&body, known);
    let wanted: Vec<usize> = (0..observation.schema.len()).filter(|place| observation.present[*place]).collect();
    let rules = Rules::new(&observation.schema, DayRule::ByColumn(day()));
    let target = Target { rules, present: &observation.present, registered: &observation.schema, wanted: &wanted };
    let count = body.record_count();
    let rows = Records::Columns(body).decode(&target, 0..count).expect("what was observed can be decoded");
    (observation, rows)
}

/// The same records as JSON, under the schema that was found.
fn stored_as_text(lines: &str, observation: &Observation) -> DecodedRows {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("the lines are JSON");
    let Observation { schema, present, .. } = observation;
    let wanted: Vec<usize> = (0..schema.len()).filter(|place| present[*place]).collect();
    let rules = Rules::new(schema, DayRule::ByColumn(day()));
    let target = Target { rules, present, registered: schema, wanted: &wanted };
    decode_rows(&scanned, &target, 0..scanned.record_count()).expect("every value has its column")
}

pub(super) fn strings(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

pub(super) fn scalars() -> Vec<(&'static str, ArrayRef)> {
    let decimals = Decimal128Array::from(vec![Some(-1_230), None, Some(5)]);
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
        [Some([7_u8; 16]), None, Some([0xab; 16])].into_iter(),
        16,
    );
    vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("d", Arc::new(Float64Array::from(vec![Some(0.1), Some(-0.0), Some(f64::MAX)]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("s", strings(vec![Some(""), Some("a\"\\\n\u{e9}\u{1f600}"), None])),
        ("on", Arc::new(Date32Array::from(vec![Some(-719_162), Some(0), None]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_767_830_400_123_456)]).with_timezone("UTC"),
            ),
        ),
        ("dec", Arc::new(decimals.with_precision_and_scale(9, 2).expect("it is legal"))),
        ("uid", Arc::new(uuids.expect("they have 16 bytes"))),
        ("bin", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), Some(b""), None]))),
    ]
}

/// Two structs with a list of texts, under a null as well, and a map.
pub(super) fn nested() -> Vec<(&'static str, ArrayRef)> {
    let texts = ListArray::new(
        Arc::new(Field::new("item", DataType::Utf8, true)),
        OffsetBuffer::new(vec![0, 2, 2, 3].into()),
        strings(vec![Some("x"), None, Some("z")]),
        Some(vec![true, false, true].into()),
    );
    let plan = strings(vec![Some("pro"), Some("hidden"), None]);
    let fields = vec![Field::new("plan", DataType::Utf8, true), Field::new("tags", texts.data_type().clone(), true)];
    let props =
        StructArray::new(fields.into(), vec![plan, Arc::new(texts.clone())], Some(vec![true, false, true].into()));
    let entries = StructArray::from(vec![
        (Arc::new(Field::new("keys", DataType::Utf8, false)), strings(vec![Some("k"), Some("l"), Some("k")])),
        (
            Arc::new(Field::new("values", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef,
        ),
    ]);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(field, OffsetBuffer::new(vec![0, 2, 2, 3].into()), entries, None, false);
    vec![("props", Arc::new(props)), ("tags", Arc::new(texts)), ("map", Arc::new(map))]
}

#[test]
fn columns_go_to_their_table_as_they_are_and_as_their_json_would() {
    let columns: Vec<_> = scalars().into_iter().chain(nested()).collect();
    let body = columnar(columns);
    let lines = lines_of(&body, 3);
    let (observation, rows) = stored(body, &Schema::empty());
    let types: Vec<String> =
        observation.schema.columns().iter().map(|column| format!("{} {}", column.name, column.column_type)).collect();
    assert_eq!(
        types,
        [
            "i bigint",
            "d double",
            "b boolean",
            "s varchar",
            "on date",
            "at timestamp",
            "dec decimal(9,2)",
            "uid uuid",
            "bin binary",
            "props struct(plan varchar, tags list(varchar))",
            "tags list(varchar)",
            "map map(varchar, bigint)"
        ]
    );
    assert!(rows.misfits.is_empty() && observation.present.iter().all(|present| *present));
    let as_text = stored_as_text(&lines, &observation);
    for (place, (found, expected)) in rows.columns.iter().zip(&as_text.columns).enumerate() {
        assert_eq!(found, expected, "{}", types[place]);
    }
    let digests = [&rows, &as_text].map(|rows| {
        let ids: Vec<i32> = (1..).take(rows.columns.len()).collect();
        let mut digest = crate::encode::digest::RowDigest::default();
        digest.add(0, &ids, &rows.columns);
        digest.to_string()
    });
    assert_eq!(digests[0], digests[1], "the rows are the same");
}

#[test]
fn every_form_of_a_type_becomes_the_one_that_its_column_has() {
    let dictionary: DictionaryArray<Int8Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    let seconds = TimestampSecondArray::from(vec![Some(1), None, Some(2)]).with_timezone("+02:00");
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        vec![Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(4)])],
        2,
    );
    let large =
        LargeListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(0.5)]), None, Some(vec![])]);
    let int8: PrimitiveArray<Int8Type> = vec![Some(-128), None, Some(127)].into();
    let body = columnar(vec![
        ("dict", Arc::new(dictionary)),
        ("large", Arc::new(LargeStringArray::from(vec!["a", "b", "c"]))),
        ("view", Arc::new(StringViewArray::from(vec!["a", "a text that is longer than twelve bytes", "c"]))),
        ("i8", Arc::new(int8)),
        ("u64", Arc::new(UInt64Array::from(vec![0, 1, i64::MAX.unsigned_abs()]))),
        ("f32", Arc::new(Float32Array::from(vec![0.5, -1.5, 3.0]))),
        ("ms", Arc::new(Date64Array::from(vec![0, 86_400_000, -86_400_000]))),
        ("sec", Arc::new(seconds)),
        ("ns", Arc::new(TimestampNanosecondArray::from(vec![1_000, 0, -1_000]))),
        ("fixed", Arc::new(fixed)),
        ("lists", Arc::new(large)),
        ("nothing", Arc::new(NullArray::new(3))),
    ]);
    let lines = lines_of(&body, 3);
    let first = "{\"dict\":\"x\",\"large\":\"a\",\"view\":\"a\",\"i8\":-128,\"u64\":0,\"f32\":0.5,\"ms\":\"1970-01-01\",\
                 \"sec\":\"1970-01-01T00:00:01.000000Z\",\"ns\":\"1970-01-01T00:00:00.000001Z\",\"fixed\":[1,null],\
                 \"lists\":[0.5]}";
    assert_eq!(lines.lines().next(), Some(first));
    let (observation, rows) = stored(body, &Schema::empty());
    assert_eq!((rows.kept.len(), rows.misfits.len(), observation.schema.len()), (3, 0, 11));
}

#[test]
fn a_value_that_is_none_of_its_type_sets_its_record_aside_with_its_text() {
    let body = || {
        columnar(vec![
            ("u", Arc::new(UInt64Array::from(vec![1, u64::MAX, 3, 4, 5]))),
            ("d", Arc::new(Float64Array::from(vec![1.0, 2.0, f64::NAN, 4.0, 5.0]))),
            ("ns", Arc::new(TimestampNanosecondArray::from(vec![0, 0, 0, 1, 0]).with_timezone("UTC"))),
            ("on", Arc::new(Date32Array::from(vec![0, 0, 0, 0, i32::MAX]))),
        ])
    };
    let (observation, rows) = stored(body(), &Schema::empty());
    assert_eq!((rows.kept, observation.misfits.total()), (vec![0], 4));
    let found: Vec<(u32, &str, &str)> =
        rows.misfits.iter().map(|misfit| (misfit.row, misfit.column.as_str(), misfit.code)).collect();
    let expected = [(1, "u"), (2, "d"), (3, "ns"), (4, "on")];
    assert_eq!(found, expected.map(|(row, name)| (row, name, "type-mismatch")));
    assert!(body().record_text(3).contains("\"ns\":\"1970-01-01T00:00:00.000000001\""), "{}", body().record_text(3));
    assert!(body().record_text(1).starts_with("{\"u\":\"18446744073709551615\","), "{}", body().record_text(1));
    // A column of which no record that fits has a value is none.
    let only = columnar(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("x", Arc::new(Float64Array::from(vec![None, Some(f64::INFINITY)]))),
    ]);
    let (observation, rows) = stored(only, &Schema::empty());
    assert_eq!((observation.schema.len(), rows.kept, rows.misfits.len()), (1, vec![0], 1));
}

/// A value that is none of its type is shown as a text, which a column of texts, or one of anything, would take.
#[test]
fn a_value_that_no_column_has_comes_to_none_whatever_its_type() {
    let of_type = |text: &str| {
        let table = known(&[("x", text), ("on", text), ("list", text)]);
        let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(1.0)]),
            Some(vec![Some(1.0), Some(f64::NAN)]),
            None,
        ]);
        let body = columnar(vec![
            ("x", Arc::new(Float64Array::from(vec![None, None, Some(f64::INFINITY)]))),
            ("on", Arc::new(Date32Array::from(vec![Some(i32::MAX), None, None]))),
            ("list", Arc::new(lists)),
        ]);
        let texts: Vec<String> = (0..3).map(|row| body.record_text(row).into_owned()).collect();
        assert!(texts[0].contains(&format!("\"on\":\"{}\"", i32::MAX)), "{texts:?}");
        let (observation, rows) = stored(body, &table);
        let found: Vec<_> =
            rows.misfits.iter().map(|misfit| (misfit.row, misfit.column.clone(), misfit.code)).collect();
        assert_eq!((observation.misfits.total(), found.len()), (3, 3), "{text}");
        found
    };
    let columns = ["on", "list", "x"];
    let expected: Vec<_> = (0..3).map(|row| (row, columns[row as usize].to_owned(), "type-mismatch")).collect();
    assert_eq!(of_type("json"), expected);
    let of_varchar = of_type("varchar");
    assert_eq!((of_varchar[0].1.as_str(), of_varchar[2].1.as_str()), ("on", "x"));
}

/// A NUL is in no JSON of ours: a text with one sets its record aside, and no other.
#[test]
fn a_text_with_a_nul_sets_its_record_aside_alone() {
    let texts = || strings(vec![Some("a\0b"), Some("c"), None]);
    let lists = ListArray::new(
        Arc::new(Field::new("item", DataType::Utf8, true)),
        OffsetBuffer::from_lengths([1, 1, 1]),
        texts(),
        None,
    );
    for column in [texts(), Arc::new(lists) as ArrayRef] {
        let body = columnar(vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3]))), ("s", column)]);
        let (observation, rows) = stored(body, &Schema::empty());
        assert_eq!((observation.misfits.total(), rows.kept, rows.misfits.len()), (1, vec![1, 2], 1));
    }
}

#[test]
fn a_day_that_no_date_has_is_no_other_day() {
    let far = ((1_i64 << 32) + 20_000) * 86_400_000;
    let days = vec![20_000 * 86_400_000, far, -((1_i64 << 32) - 5) * 86_400_000, 1];
    let (_, rows) = stored(columnar(vec![("on", Arc::new(Date64Array::from(days)))]), &Schema::empty());
    assert_eq!((rows.kept, rows.misfits.len()), (vec![0], 3));
}

/// Invariant I12: a record is made a text no further than a record may be long.
#[test]
fn i12_a_record_that_is_too_long_as_json_is_refused_before_it_is_made() {
    let name = "n".repeat(120);
    let fields: Vec<Field> = (0..900).map(|place| Field::new(format!("{name}{place}"), DataType::Null, true)).collect();
    let nulls = fields.iter().map(|_| Arc::new(NullArray::new(5_000)) as ArrayRef).collect();
    let structs = StructArray::new(fields.into(), nulls, None);
    let element = Arc::new(Field::new("item", structs.data_type().clone(), true));
    let lists = ListArray::new(element, OffsetBuffer::from_lengths([5_000]), Arc::new(structs), None);
    let body = columnar(vec![("a", Arc::new(lists))]);
    assert_eq!(body.lines(0..1, usize::MAX, 1 << 20), Err(0));
    let refused = observe_columns(&body, &Schema::empty(), DayRule::ByColumn(day()), &Inference::default());
    assert_eq!(refused.expect_err("it is too long").violations()[0].code, "record-too-large");
}

/// Invariant I13: what is wrong with a body is said without what is in it.
#[test]
fn i13_a_refusal_has_no_name_no_key_and_no_value_of_the_body() {
    let secret = "hunter2";
    let field =
        Field::new(secret, DataType::Int64, true).with_metadata([(secret.to_owned(), secret.to_owned())].into());
    let batch = RecordBatch::try_new(
        Arc::new(ArrowSchema::new(vec![field])),
        vec![Arc::new(Int64Array::from(vec![1])) as ArrayRef],
    );
    let whole = stream_of(&[batch.expect("a batch")]);
    for at in 0..whole.len() {
        for flip in [1, 0x40, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            let Err(error) = read(&damaged) else { continue };
            let said: String = error.violations().iter().map(|violation| violation.detail.clone()).collect();
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn a_column_that_the_table_has_otherwise_is_judged_as_json_would_be() {
    let table = known(&[("d", "double"), ("on", "date"), ("dec", "decimal(5,2)"), ("any", "json"), ("n", "bigint")]);
    let body = columnar(vec![
        ("d", Arc::new(Int64Array::from(vec![1, (1 << 53) + 1, 3, 4]))),
        ("on", strings(vec![Some("2026-01-08"), None, Some("soon"), None])),
        ("dec", Arc::new(Int64Array::from(vec![Some(1), None, None, Some(1_000)]))),
        ("any", Arc::new(Float64Array::from(vec![0.5; 4]))),
        ("new", Arc::new(Decimal128Array::from(vec![1; 4]).with_precision_and_scale(4, 1).expect("legal"))),
    ]);
    let (observation, rows) = stored(body, &table);
    assert_eq!(rows.kept, [0]);
    let found: Vec<_> = rows.misfits.iter().map(|misfit| (misfit.row, misfit.column.as_str())).collect();
    assert_eq!(found, [(1, "d"), (2, "on"), (3, "dec")]);
    let new = observation.schema.columns().last().expect("there is one");
    assert_eq!((new.name.as_str(), new.column_type.to_string()), ("new", "decimal(4,1)".to_owned()));
}

#[test]
fn what_a_table_asks_of_its_records_it_asks_of_columns_too() {
    let constraints = Constraints {
        required: ["id".to_owned()].into(),
        closed: true,
        partition_by: Some("at".to_owned()),
        transform: None,
    };
    let table = known(&[("id", "bigint"), ("at", "timestamp"), ("o", "struct(a bigint)")]).constrained(&constraints);
    let ids = |ids: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(ids)) };
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None, Some(86_400_000_000)]));
    let (observation, rows) =
        stored(columnar(vec![("id", ids(vec![Some(1), Some(2), Some(3)])), ("at", Arc::clone(&at))]), &table);
    let days = rows.days.expect("each has its own");
    assert_eq!(days.iter().map(NaiveDate::to_string).collect::<Vec<_>>(), ["1970-01-01", "2026-01-08", "1970-01-02"]);
    assert_eq!(observation.days.map(|days| days.len()), Some(3));
    let with_flaws = columnar(vec![
        ("id", ids(vec![Some(1), None, Some(3)])),
        ("at", at),
        ("stranger", ids(vec![None, None, Some(1)])),
        ("day", ids(vec![Some(1), None, None])),
    ]);
    let (observation, rows) = stored(with_flaws, &table);
    let found: Vec<_> = rows.misfits.iter().map(|misfit| (misfit.row, misfit.code)).collect();
    assert_eq!((rows.kept, found), (vec![0], vec![(1, "value-missing"), (2, "column-unknown")]));
    assert_eq!(observation.strangers.total(), 1);
    // Names that no column can have, or that differ in their case alone.
    let names = columnar(vec![("ID", ids(vec![Some(1)])), ("a b", ids(vec![Some(1)]))]);
    assert_eq!(stored(names, &known(&[("id", "bigint")])).1.misfits.len(), 1);
}

/// What a record that does not fit has more than its table comes to nothing: no column, and no field of a struct.
#[test]
fn records_that_do_not_fit_leave_nothing_in_their_table() {
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0]));
    let grown = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int64, true)), Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Int64, true)), Arc::new(Int64Array::from(vec![Some(1), None]))),
    ]);
    let grown = StructArray::new(grown.fields().clone(), grown.columns().to_vec(), Some(vec![true, false].into()));
    let table = known(&[("o", "struct(a bigint)"), ("d", "double")]);
    let body = columnar(vec![("d", nan), ("o", Arc::new(grown)), ("new", strings(vec![Some("x"), None]))]);
    let (observation, rows) = stored(body, &table);
    assert_eq!((&observation.schema, observation.present, rows.kept), (&table, vec![false, true], vec![1]));
}

/// Invariant I12: records that are judged by their texts are texts so many at a time, and are the same rows in any parts.
#[test]
fn i12_a_body_that_is_judged_by_its_texts_is_so_in_parts() {
    let name = "n".repeat(120);
    let names: Vec<String> = (0..40).map(|number| format!("{name}{number}")).collect();
    let rows = 2_500_usize;
    let mut columns: Vec<(&str, ArrayRef)> =
        names.iter().map(|name| (name.as_str(), Arc::new(BooleanArray::from(vec![true; rows])) as ArrayRef)).collect();
    let numbers: Vec<f64> =
        (0_u32..).take(rows).map(|row| if row % 100 == 7 { f64::NAN } else { f64::from(row) }).collect();
    columns.push(("d", Arc::new(Float64Array::from(numbers))));
    let body = columnar(columns);
    let Lines { text, range: part, .. } = body.lines(0..rows, 8 << 20, usize::MAX).expect("there is no bound");
    assert!(part.len() < rows && text.len() < 9 << 20, "{part:?}");
    let lines = lines_of(&body, rows);
    let (observation, found) = stored(body, &Schema::empty());
    let expected = stored_as_text(&lines, &observation);
    assert_eq!((found.kept, found.misfits.len()), (expected.kept, 25));
    assert_eq!(
        found.misfits.iter().map(|misfit| misfit.row).collect::<Vec<_>>(),
        (0..25).map(|row| row * 100 + 7).collect::<Vec<_>>()
    );
    assert_eq!(found.columns, expected.columns);
}

pub(super) fn refusal(body: &[u8]) -> String {
    let refused = read(body).map(|columnar| format!("{:?}", columnar.columns())).expect_err("it is refused");
    refused.violations()[0].code.to_owned()
}

#[test]
fn what_no_table_can_have_is_refused_with_its_place() {
    let list = |element: ArrayRef| -> ArrayRef {
        let field = Arc::new(Field::new("item", element.data_type().clone(), true));
        Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([element.len()]), element, None))
    };
    let mut deep: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for _ in 0..20 {
        deep = list(deep);
    }
    assert_eq!(refusal(&stream(vec![("deep", deep)])), "column-type");
    let negative = Decimal128Array::from(vec![1]).with_precision_and_scale(5, -2).expect("Arrow has them");
    assert_eq!(refusal(&stream(vec![("dec", Arc::new(negative))])), "column-type");
    assert_eq!(refusal(&stream(vec![("for", Arc::new(DurationSecondArray::from(vec![1])))])), "column-type");
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert_eq!(refusal(&stream(vec![("a", Arc::clone(&one)), ("a", Arc::clone(&one))])), "duplicate-key");
    assert_eq!(refusal(&stream(vec![("a", one.slice(0, 0))])), "no-records");
    assert_eq!(refusal(b""), "arrow-stream");
    assert_eq!(refusal(b"{\"records\":[]}"), "arrow-stream");
    let whole = stream(vec![("a", one)]);
    assert_eq!(refusal(&[whole.as_slice(), b"more"].concat()), "arrow-stream");
}

/// Invariant I12: what is short in a stream can stand for much, and is counted before it is made.
#[test]
fn i12_a_stream_that_stands_for_too_much_is_refused() {
    let rows = Arc::new(NullArray::new(200_000));
    assert_eq!(refusal(&stream(vec![("a", rows)])), "too-many-records");
    let long = "x".repeat(1 << 20);
    let keys = arrow_array::Int8Array::from(vec![0; 1_000]);
    let dictionary = DictionaryArray::new(keys, strings(vec![Some(&long)]));
    assert_eq!(refusal(&stream(vec![("a", Arc::new(dictionary))])), "body-too-large");
    let nothing = FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Null, true)),
        1 << 30,
        Arc::new(NullArray::new(1 << 30)),
        None,
    );
    assert_eq!(refusal(&stream(vec![("a", Arc::new(nothing))])), "too-many-values");
    // Values that take a byte here and eight in a column.
    let bytes: ArrayRef = Arc::new(arrow_array::Int8Array::from(vec![1; (8 << 20) + 1]));
    let one_list = ListArray::new(
        Arc::new(Field::new("item", DataType::Int8, true)),
        OffsetBuffer::from_lengths([bytes.len()]),
        bytes,
        None,
    );
    assert_eq!(refusal(&stream(vec![("a", Arc::new(one_list))])), "too-many-values");
    let many: Vec<(String, ArrayRef)> =
        (0..1_001).map(|name| (format!("c{name}"), Arc::new(Int64Array::from(vec![1])) as ArrayRef)).collect();
    let many = many.iter().map(|(name, array)| (name.as_str(), Arc::clone(array))).collect();
    assert_eq!(refusal(&stream(many)), "too-many-columns");
}

/// Whatever the bytes are, they are refused or they are records; nothing else comes of them.
#[test]
fn a_damaged_stream_makes_no_panic() {
    let columns: Vec<_> = scalars().into_iter().chain(nested()).collect();
    let whole = stream(columns);
    damage(&whole, read);
}

/// Cuts a body at every byte and changes each: it is refused, or its records come to a table.
pub(super) fn damage(whole: &[u8], read: impl Fn(&[u8]) -> Result<Columnar, DecodeError>) {
    for length in 0..whole.len() {
        let _ = read(&whole[..length]);
    }
    for at in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = whole.to_vec();
            damaged[at] ^= flip;
            let Ok(body) = read(&damaged) else { continue };
            let seen = observe_columns(&body, &Schema::empty(), DayRule::ByColumn(day()), &Inference::default());
            if seen.is_ok() {
                stored(body, &Schema::empty());
            }
        }
    }
}

proptest! {
    /// The two ways of a body to its table end at the same rows.
    #[test]
    fn columns_and_their_json_make_the_same_rows(
        integers in proptest::collection::vec(any::<Option<i64>>(), 1..20),
        doubles in proptest::collection::vec(any::<Option<f64>>(), 20),
        texts in proptest::collection::vec(any::<Option<String>>(), 20),
        types in proptest::sample::subsequence(vec![("i", "double"), ("d", "bigint"), ("s", "date"), ("d", "double"), ("s", "json")], 0..3),
    ) {
        same_rows(&integers, &doubles, &texts, &types)?;
    }
}

fn same_rows(
    integers: &[Option<i64>],
    doubles: &[Option<f64>],
    texts: &[Option<String>],
    types: &[(&str, &str)],
) -> TestCaseResult {
    let rows = integers.len();
    let texts: Vec<Option<String>> =
        texts[..rows].iter().map(|text| text.as_ref().map(|text| text.replace('\0', ""))).collect();
    let columns = || {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("i", Arc::new(Int64Array::from(integers.to_vec()))),
            ("d", Arc::new(Float64Array::from(doubles[..rows].to_vec()))),
            ("s", Arc::new(StringArray::from(texts.clone()))),
        ];
        columnar(columns)
    };
    let mut table: Vec<(&str, &str)> = Vec::new();
    for (name, of_type) in types {
        if !table.iter().any(|(present, _)| present == name) {
            table.push((name, of_type));
        }
    }
    let table = known(&table);
    let (observation, found) = stored(columns(), &table);
    let lines = lines_of(&columns(), rows);
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("the lines are JSON");
    let as_text = observe(&scanned, &observation.schema, DayRule::ByColumn(day()), &Inference::default()).expect("few");
    prop_assert_eq!(as_text.misfits.total(), observation.misfits.total(), "{}", &lines);
    let expected = stored_as_text(&lines, &observation);
    prop_assert_eq!(&found.kept, &expected.kept, "{}", &lines);
    for (found, expected) in found.columns.iter().zip(&expected.columns) {
        prop_assert_eq!(found.as_ref(), expected.as_ref(), "{}", &lines);
    }
    let rows_of = |misfits: &[crate::schema::Misfit]| misfits.iter().map(|misfit| misfit.row).collect::<Vec<_>>();
    prop_assert_eq!(rows_of(&found.misfits), rows_of(&expected.misfits));
    Ok(())
}
