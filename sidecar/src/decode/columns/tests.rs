//! Columns from records, and serde_json as the oracle for their values.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array as _, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use chrono::NaiveDate;
use lakeingest_crds::Inference;
use proptest::prelude::*;

use super::*;
use crate::decode::{Format, ScanLimits, scan};
use crate::journal::hex;
use crate::schema::{Column, Constraints, Schema, observe};

fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    Schema::new(columns.iter().map(|(name, column_type)| Column::new(*name, column_type.clone())).collect())
        .expect("legal")
}

fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2025, 1, 2).expect("a day")
}

/// Decodes with the schema that the table has, too.
fn decode(lines: &str, schema: &Schema, present: &[bool]) -> Result<DecodedRows, DecodeError> {
    let wanted: Vec<usize> = (0..schema.len()).filter(|position| present[*position]).collect();
    decode_into(lines, schema, present, schema, &wanted)
}

fn decode_into(
    lines: &str,
    known: &Schema,
    present: &[bool],
    registered: &Schema,
    wanted: &[usize],
) -> Result<DecodedRows, DecodeError> {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let target = Target { rules: Rules::new(known, day()), present, registered, wanted };
    decode_rows(&scanned, &target, 0..scanned.record_count())
}

/// What a node that knows nothing of the table has accepted, as rows of the table.
fn fitted(lines: &str, registered: &Schema) -> DecodedRows {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let observation = observe(&scanned, &Schema::empty(), day(), &Inference::default()).expect("there are few");
    let own = observation.schema;
    let wanted: Vec<usize> = (0..registered.len()).collect();
    let target = Target { rules: Rules::new(&own, day()), present: &observation.present, registered, wanted: &wanted };
    decode_rows(&scanned, &target, 0..scanned.record_count()).expect("every value has its place")
}

fn reasons(rows: &DecodedRows) -> Vec<(u32, &str, &str)> {
    rows.misfits.iter().map(|misfit| (misfit.row, misfit.column.as_str(), misfit.code)).collect()
}

fn parsed(column_type: &str) -> ColumnType {
    column_type.parse().expect("a type")
}

fn all_types() -> Schema {
    schema(&[
        ("i", ColumnType::Bigint),
        ("d", ColumnType::Double),
        ("b", ColumnType::Boolean),
        ("s", ColumnType::Varchar),
        ("j", ColumnType::Json),
        ("on", ColumnType::Date),
        ("at", ColumnType::Timestamp),
    ])
}

#[test]
fn each_type_is_decoded_and_what_is_missing_is_null() {
    let lines = concat!(
        r#"{"i":-5,"d":1.5,"b":true,"s":"a\n\u00e9","j":{"x": [1, 2]},"on":"1970-01-02","at":"1970-01-01T01:00:00.5+01:00"}"#,
        "\n{}\n",
        r#"{"j":"q\"","s":null,"b":false,"d":3,"i":9223372036854775807}"#,
        "\n{\"j\":null}\n",
    );
    let batch = decode(lines, &all_types(), &[true; 7]).expect("fits");
    assert_eq!(batch.kept, [0, 1, 2, 3]);
    let array = |position: usize| &batch.columns[position];
    assert_eq!(*array(0).as_primitive::<Int64Type>(), Int64Array::from(vec![Some(-5), None, Some(i64::MAX), None]));
    assert_eq!(*array(1).as_primitive::<Float64Type>(), Float64Array::from(vec![Some(1.5), None, Some(3.0), None]));
    assert_eq!(*array(2).as_boolean(), BooleanArray::from(vec![Some(true), None, Some(false), None]));
    assert_eq!(*array(3).as_string::<i32>(), StringArray::from(vec![Some("a\né"), None, None, None]));
    let texts = vec![Some(r#"{"x": [1, 2]}"#), None, Some(r#""q\"""#), None];
    assert_eq!(*array(4).as_string::<i32>(), StringArray::from(texts));
    assert_eq!(*array(5).as_primitive::<Date32Type>(), Date32Array::from(vec![Some(1), None, None, None]));
    let instants = TimestampMicrosecondArray::from(vec![Some(500_000), None, None, None]).with_timezone("UTC");
    assert_eq!(*array(6).as_primitive::<TimestampMicrosecondType>(), instants);
}

/// Values of a column as JSON, an absent field as null.
fn as_json(column: &ArrayRef, row: usize) -> serde_json::Value {
    use serde_json::json;
    match column.data_type() {
        _ if column.is_null(row) => serde_json::Value::Null,
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => json!(column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::List(_) => {
            let elements = column.as_list::<i32>().value(row);
            (0..elements.len()).map(|place| as_json(&elements, place)).collect()
        }
        DataType::Decimal128(..) => json!(column.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::FixedSizeBinary(_) => json!(hex(column.as_fixed_size_binary().value(row))),
        DataType::Binary => json!(hex(column.as_binary::<i32>().value(row))),
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let keys = entries.column(0).as_string::<i32>();
            let entry = |place| (keys.value(place).to_owned(), as_json(entries.column(1), place));
            (0..entries.len()).map(entry).collect()
        }
        DataType::Struct(fields) => {
            let values = column.as_struct().columns();
            fields.iter().zip(values).map(|(field, value)| (field.name().clone(), as_json(value, row))).collect()
        }
        other => panic!("no value of this test is {other}"),
    }
}

#[test]
fn what_is_nested_is_decoded_and_what_is_missing_inside_is_null() {
    let table = schema(&[
        ("s", parsed("struct(a bigint, t list(varchar), deep struct(x double), j json)")),
        ("l", parsed("list(list(struct(k boolean)))")),
    ]);
    let lines = concat!(
        r#"{"s":{"t":["a\u00e9",null],"a":1,"deep":{"x":2},"j":[1, 2]},"l":[[{"k":true},null],[],null]}"#,
        "\n{}\n",
        r#"{"l":[],"s":{"deep":{},"other":null,"t":[]}}"#,
        "\n{\"s\":{}}\n",
    );
    let rows = decode(lines, &table, &[true; 2]).expect("fits");
    let column = |place: usize| (0..4).map(|row| as_json(&rows.columns[place], row)).collect::<serde_json::Value>();
    let nothing = serde_json::json!({"a": null, "t": null, "deep": null, "j": null});
    assert_eq!(
        column(0),
        serde_json::json!([
            {"a": 1, "t": ["aé", null], "deep": {"x": 2.0}, "j": "[1, 2]"},
            null,
            {"a": null, "t": [], "deep": {"x": null}, "j": null},
            nothing,
        ])
    );
    assert_eq!(column(1), serde_json::json!([[[{"k": true}, null], [], null], null, [], null]));
}

#[test]
fn decimals_uuids_bytes_and_maps_are_decoded_from_what_json_has_for_them() {
    let table = schema(&[
        ("c", parsed("decimal(6,2)")),
        ("u", parsed("uuid")),
        ("b", parsed("binary")),
        ("m", parsed("map(varchar, list(decimal(38,0)))")),
    ]);
    let lines = concat!(
        r#"{"c":12.5,"u":"2B1C0E4E-5F8A-4F0A-9D3C-0001020304FF","b":"aGk=","m":{"a\u00e9":["12345678901234567890",null],"":null}}"#,
        "\n{\"c\":\"-1e3\",\"b\":\"\",\"m\":{}}\n{\"u\":null}\n{\"m\":{\"x\":[7]},\"c\":-0}\n",
    );
    let rows = decode(lines, &table, &[true; 4]).expect("fits");
    let column = |place: usize| (0..4).map(|row| as_json(&rows.columns[place], row)).collect::<serde_json::Value>();
    assert_eq!(column(0), serde_json::json!(["12.50", "-1000.00", null, "0.00"]));
    assert_eq!(column(1), serde_json::json!(["2b1c0e4e5f8a4f0a9d3c0001020304ff", null, null, null]));
    assert_eq!(column(2), serde_json::json!(["6869", "", null, null]));
    let first = serde_json::json!({"aé": ["12345678901234567890", null], "": null});
    assert_eq!(column(3), serde_json::json!([first, {}, null, {"x": ["7"]}]));
    for (record, field) in [
        (r#"{"c":12.345}"#, "c"),
        (r#"{"c":10000}"#, "c"),
        (r#"{"c":"12,5"}"#, "c"),
        (r#"{"u":"2b1c0e4e5f8a4f0a9d3c0001020304ff"}"#, "u"),
        (r#"{"b":"aGk"}"#, "b"),
        (r#"{"b":1}"#, "b"),
        (r#"{"m":[]}"#, "m"),
        (r#"{"m":{"x":[1,0.5]}}"#, "m/x/1"),
        (r#"{"m":{"a b":1}}"#, "m/(3 bytes)"),
    ] {
        let rows = decode(record, &table, &[true; 4]).unwrap_or_else(|error| panic!("{record}: {error}"));
        assert_eq!(reasons(&rows), [(0, field, "type-mismatch")], "{record}");
    }
}

#[test]
fn what_does_not_fit_inside_is_told_with_its_place_and_leaves_the_rows_around_it_alone() {
    let table = schema(&[("s", parsed("struct(a bigint, l list(struct(k date)))")), ("n", ColumnType::Bigint)]);
    for (record, field, code) in [
        (r#"{"s":{"a":"x"}}"#, "s/a", "type-mismatch"),
        (r#"{"s":[]}"#, "s", "type-mismatch"),
        (r#"{"s":{"l":[{},null,{"k":"2026-02-30"}]}}"#, "s/l/2/k", "type-mismatch"),
        (r#"{"s":{"l":[1]}}"#, "s/l/0", "type-mismatch"),
        (r#"{"s":{"A":1}}"#, "s/A", "column-case"),
        (r#"{"s":{"b c":null}}"#, "s/(3 bytes)", "column-name"),
        (r#"{"s":{"new":1,"New":1}}"#, "s/New", "column-case"),
        // What has no field here is no fault of a record that has one anyway.
        (r#"{"s":{"new":1,"l":[{"new":null}]},"n":"x"}"#, "n", "type-mismatch"),
        (r#"{"s":{"new":1,"l":[null,{"new":2}]},"n":"x"}"#, "s/l/1/new", "column-unknown"),
    ] {
        let lines = format!(
            "{{\"s\":{{\"a\":1,\"l\":[{{}}]}}}}\n{record}\n{{\"s\":{{\"a\":3,\"l\":[{{\"k\":\"1970-01-02\"}}]}}}}"
        );
        let rows = decode(&lines, &table, &[true; 2]).unwrap_or_else(|error| panic!("{record}: {error}"));
        assert_eq!((reasons(&rows), &*rows.kept), (vec![(1, field, code)], &[0, 2][..]), "{record}");
        let values = rows.columns[0].as_struct();
        assert_eq!(*values.column(0).as_primitive::<Int64Type>(), Int64Array::from(vec![1, 3]), "{record}");
        let dates = values.column(1).as_list::<i32>();
        let dates = [dates.value(0), dates.value(1)]
            .map(|days| days.as_struct().column(0).as_primitive::<Date32Type>().clone());
        assert_eq!(dates, [Date32Array::from(vec![None]), Date32Array::from(vec![1])], "{record}");
    }
    let error = decode(r#"{"s":{"new":1}}"#, &table, &[true; 2]).expect_err("it has no place");
    assert_eq!((error.violations()[0].code, error.violations()[0].pointer.as_str()), ("column-unknown", "/s/new"));
}

/// Another writer has registered the same struct with other types inside.
#[test]
fn i9_the_registered_type_of_a_field_stands_and_what_does_not_fit_it_is_told() {
    let registered = schema(&[("s", parsed("struct(a double, b bigint, l list(bigint))")), ("t", ColumnType::Varchar)]);
    let lines = [
        r#"{"s":{"a":1}}"#,
        r#"{"s":{"b":"text"}}"#,
        r#"{"s":{"c":1}}"#,
        r#"{"s":{"l":["x"]}}"#,
        r#"{"t":{"a":1}}"#,
        r#"{"s":{"a":9007199254740993}}"#,
        r#"{"s":{"b":null},"t":null}"#,
    ];
    let rows = fitted(&lines.join("\n"), &registered);
    let expected = [
        (1, "s/b", "type-mismatch"),
        (2, "s/c", "column-unknown"),
        (3, "s/l", "type-mismatch"),
        (4, "t", "type-mismatch"),
        (5, "s/a", "type-mismatch"),
    ];
    assert_eq!((reasons(&rows), &*rows.kept), (expected.to_vec(), &[0, 6][..]));
    let words: Vec<&str> = rows.misfits.iter().map(|misfit| misfit.detail.as_str()).collect();
    assert!(words[0].contains("the table's column is bigint, the value was accepted as varchar"), "{words:?}");
    assert!(words[4].contains("which cannot hold this integer exactly"), "{words:?}");
}

#[test]
fn only_the_columns_that_are_asked_for_are_decoded_and_one_without_a_value_is_null() {
    let present = [true, false, false, true, false, false, false];
    let line = "{\"i\":1,\"s\":\"x\",\"d\":null,\"year\":2025,\"month\":1,\"day\":2}";
    let rows = decode_into(line, &all_types(), &present, &all_types(), &[0, 3, 6]).expect("fits");
    let types: Vec<_> = rows.columns.iter().map(|column| column.data_type().clone()).collect();
    assert_eq!((&types[0], &types[1], rows.columns[2].null_count()), (&DataType::Int64, &DataType::Utf8, 1));
    assert_eq!(types.len(), 3);
}

#[test]
fn a_record_that_does_not_fit_is_told_and_its_neighbours_are_decoded() {
    let present = [true, true, true, true, false, true, true];
    for (record, field, code) in [
        (r#"{"i":"x"}"#, "i", "type-mismatch"),
        (r#"{"i":1.5}"#, "i", "type-mismatch"),
        (r#"{"d":9007199254740993}"#, "d", "type-mismatch"),
        (r#"{"b":1}"#, "b", "type-mismatch"),
        (r#"{"s":1}"#, "s", "type-mismatch"),
        (r#"{"on":"2026-02-30"}"#, "on", "type-mismatch"),
        (r#"{"at":"2026-01-08"}"#, "at", "type-mismatch"),
        (r#"{"I":1}"#, "I", "column-case"),
        (r#"{"a b":null}"#, "(3 bytes)", "column-name"),
        (r#"{"day":3}"#, "day", "partition-column-mismatch"),
        (r#"{"other":1,"Other":2}"#, "Other", "column-case"),
        // What has no column here is no fault of a record that has one anyway.
        (r#"{"other":1,"j":1,"i":2,"s":[]}"#, "s", "type-mismatch"),
    ] {
        let lines = format!("{{\"i\":1}}\n{record}\n{{\"i\":3}}");
        let batch = decode(&lines, &all_types(), &present).unwrap_or_else(|error| panic!("{record}: {error}"));
        assert_eq!(reasons(&batch), [(1, field, code)], "{record}");
        let numbers = Int64Array::from(vec![1, 3]);
        assert_eq!((&*batch.kept, batch.columns[0].as_primitive::<Int64Type>()), (&[0, 2][..], &numbers), "{record}");
    }
}

/// A value that nobody asked for would be lost without a word.
#[test]
fn a_value_without_a_column_is_an_error_where_its_record_fits() {
    for line in [r#"{"other":1}"#, r#"{"j":1}"#, r#"{"i":1,"other":{}}"#] {
        let error = decode(line, &all_types(), &[true, true, true, true, false, true, true]).expect_err(line);
        assert_eq!(error.violations()[0].code, "column-unknown", "{line}");
    }
}

#[test]
fn some_records_of_a_body_are_decoded_alone_and_keep_their_numbers() {
    let lines = "{\"i\":0}\n{\"i\":1}\n{\"i\":\"x\"}\n{\"i\":3}";
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let schema = schema(&[("i", ColumnType::Bigint)]);
    let target = Target { rules: Rules::new(&schema, day()), present: &[true], registered: &schema, wanted: &[0] };
    let mut rows = decode_rows(&scanned, &target, 1..4).expect("a misfit is no error");
    assert_eq!((&*rows.kept, reasons(&rows)), (&[1, 3][..], vec![(2, "i", "type-mismatch")]));
    assert_eq!(*rows.columns[0].as_primitive::<Int64Type>(), Int64Array::from(vec![1, 3]));
    rows.retain(|row| row != 1).expect("it is of a type that a column can have");
    assert_eq!((&*rows.kept, rows.columns[0].as_primitive::<Int64Type>().values().as_ref()), (&[3][..], &[3][..]));
}

#[test]
fn columns_come_in_the_registered_order_and_those_that_the_batch_lacks_are_null() {
    let registered = schema(&[("n", ColumnType::Boolean), ("b", ColumnType::Varchar), ("a", ColumnType::Bigint)]);
    let rows = fitted("{\"a\":1,\"b\":\"x\"}\n{\"a\":2}", &registered);
    assert_eq!(*rows.columns[0].as_boolean(), BooleanArray::new_null(2));
    assert_eq!(*rows.columns[1].as_string::<i32>(), StringArray::from(vec![Some("x"), None]));
    assert_eq!(*rows.columns[2].as_primitive::<Int64Type>(), Int64Array::from(vec![1, 2]));
}

#[test]
fn integers_pass_into_a_double_where_they_are_exact() {
    let lines = "{\"a\":1}\n{\"a\":9007199254740993}\n{\"a\":null}\n{\"a\":-9007199254740992}";
    let rows = fitted(lines, &schema(&[("a", ColumnType::Double)]));
    assert_eq!((&*rows.kept, reasons(&rows)), (&[0, 2, 3][..], vec![(1, "a", "type-mismatch")]));
    let expected = Float64Array::from(vec![Some(1.0), None, Some(-9_007_199_254_740_992.0)]);
    assert_eq!(*rows.columns[0].as_primitive::<Float64Type>(), expected);
}

#[test]
fn every_value_passes_into_json_as_it_was_received() {
    let lines = concat!(
        r#"{"i":-5,"d":1.50,"b":true,"s":"a\"\n\u00e9","j":[1, 2],"on":"2026-01-08","at":"2026-01-08T10:05:30Z"}"#,
        "\n{}\n",
        r#"{"i":9223372036854775807,"d":-0.0,"b":false,"s":"","j":{},"on":"2024-02-29","at":"2026-01-08T10:05:30.10+01:00"}"#,
        "\n",
    );
    let registered = schema(&["i", "d", "b", "s", "j", "on", "at"].map(|name| (name, ColumnType::Json)));
    let rows = fitted(lines, &registered);
    assert_eq!((&*rows.kept, rows.misfits.len()), (&[0, 1, 2][..], 0));
    let expected = [
        ["-5", "9223372036854775807"],
        ["1.50", "-0.0"],
        ["true", "false"],
        [r#""a\"\n\u00e9""#, r#""""#],
        ["[1, 2]", "{}"],
        [r#""2026-01-08""#, r#""2024-02-29""#],
        [r#""2026-01-08T10:05:30Z""#, r#""2026-01-08T10:05:30.10+01:00""#],
    ];
    for (column, [first, last]) in rows.columns.iter().zip(expected) {
        assert_eq!(*column.as_string::<i32>(), StringArray::from(vec![Some(first), None, Some(last)]));
    }
}

/// What one writer took for a timestamp is text where another one has registered text, and the other way round.
#[test]
fn a_value_is_stored_by_what_it_is_and_not_by_what_it_was_taken_for() {
    for (value, registered, fits) in [
        (r#""2026-01-08T10:05:30Z""#, ColumnType::Varchar, true),
        (r#""2026-01-08""#, ColumnType::Varchar, true),
        (r#""2026-01-08""#, ColumnType::Timestamp, false),
        (r#""text""#, ColumnType::Timestamp, false),
        ("1", ColumnType::Double, true),
        ("1.5", ColumnType::Bigint, false),
        ("[]", ColumnType::Varchar, false),
    ] {
        let lines = format!("{{\"k\":1}}\n{{\"k\":2,\"a\":{value}}}\n{{\"k\":3,\"a\":null}}");
        let rows = fitted(&lines, &schema(&[("a", registered.clone()), ("k", ColumnType::Bigint)]));
        let kept: &[u32] = if fits { &[0, 1, 2] } else { &[0, 2] };
        assert_eq!(rows.kept, kept, "{value} into {registered}");
        let expected = if fits { vec![] } else { vec![(1, "a", "type-mismatch")] };
        assert_eq!(reasons(&rows), expected, "{value} into {registered}");
        let keys: Vec<i64> = rows.columns[1].as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(keys, kept.iter().map(|row| i64::from(*row) + 1).collect::<Vec<_>>());
    }
    // Taken for text because of a neighbour, and a timestamp each but one.
    let lines = "{\"a\":\"2026-01-08T10:05:30Z\"}\n{\"a\":\"later\"}";
    let rows = fitted(lines, &schema(&[("a", ColumnType::Timestamp)]));
    assert_eq!((&*rows.kept, reasons(&rows)), (&[0][..], vec![(1, "a", "type-mismatch")]));
    assert_eq!(rows.misfits[0].detail, "the table's column is timestamp, the value was accepted as varchar");
}

#[test]
fn fields_of_csv_are_stored_as_their_columns_have_them() {
    let text = "i,d,b,s,j,on,at\n-5,1,true,07030,07030,1970-01-02,1970-01-01T00:00:00.5Z\n,,,,,,\n7,2.5,false,\"a \"\"b\"\"\",\"{\"\"x\"\"}\",,\n";
    let scanned = scan(Format::Csv, text.as_bytes(), &ScanLimits::DEFAULT).expect("legal rows");
    let (schema, wanted): (_, Vec<usize>) = (all_types(), (0..7).collect());
    let target =
        Target { rules: Rules::new(&schema, day()), present: &[true; 7], registered: &schema, wanted: &wanted };
    let rows = decode_rows(&scanned, &target, 0..3).expect("every value has its place");
    assert_eq!((&*rows.kept, rows.misfits.len()), (&[0, 1, 2][..], 0));
    let column = |position: usize| &rows.columns[position];
    assert_eq!(*column(0).as_primitive::<Int64Type>(), Int64Array::from(vec![Some(-5), None, Some(7)]));
    assert_eq!(*column(1).as_primitive::<Float64Type>(), Float64Array::from(vec![Some(1.0), None, Some(2.5)]));
    assert_eq!(*column(2).as_boolean(), BooleanArray::from(vec![Some(true), None, Some(false)]));
    assert_eq!(*column(3).as_string::<i32>(), StringArray::from(vec![Some("07030"), None, Some("a \"b\"")]));
    let json = StringArray::from(vec![Some(r#""07030""#), None, Some(r#""{\"x\"}""#)]);
    assert_eq!(*column(4).as_string::<i32>(), json);
    assert_eq!(*column(5).as_primitive::<Date32Type>(), Date32Array::from(vec![Some(1), None, None]));
    assert_eq!(column(6).as_primitive::<TimestampMicrosecondType>().values()[0], 500_000);
}

#[test]
fn a_value_whose_column_is_not_registered_is_a_misfit() {
    let rows = fitted("{\"a\":1}\n{\"A2\":1}", &schema(&[("a", ColumnType::Bigint)]));
    assert_eq!((&*rows.kept, reasons(&rows)), (&[0][..], vec![(1, "A2", "column-unknown")]));
}

#[test]
fn a_row_is_a_misfit_once_for_its_first_field() {
    let registered = schema(&[("a", ColumnType::Boolean), ("b", ColumnType::Boolean), ("c", ColumnType::Varchar)]);
    let rows = fitted("{\"b\":1,\"a\":1,\"c\":\"x\"}\n{\"a\":2}\n{\"c\":\"y\"}", &registered);
    assert_eq!(reasons(&rows), [(0, "b", "type-mismatch"), (1, "a", "type-mismatch")]);
    assert_eq!(rows.kept, [2]);
    assert_eq!(*rows.columns[2].as_string::<i32>(), StringArray::from(vec!["y"]));
    assert_eq!(*rows.columns[0].as_boolean(), BooleanArray::new_null(1));
}

proptest! {
    /// Rows in any order of keys, with any of them missing: each value is found in its own row and column.
    #[test]
    fn every_value_lands_in_its_row_and_column(
        rows in proptest::collection::vec(
            proptest::collection::btree_map(0_usize..5, any::<i64>(), 0..5).prop_flat_map(|row| {
                Just(row.into_iter().collect::<Vec<_>>()).prop_shuffle()
            }),
            1..20,
        ),
    ) {
        let names = ["e", "d", "c", "b", "a"];
        let columns = names.map(|name| (name, ColumnType::Bigint));
        let lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let members: Vec<String> = row.iter().map(|(column, value)| format!("\"{}\":{value}", names[*column])).collect();
                format!("{{{}}}", members.join(","))
            })
            .collect();
        let batch = decode(&lines.join("\n"), &schema(&columns), &[true; 5]).expect("fits");
        for (column, decoded) in batch.columns.iter().enumerate() {
            let array = decoded.as_primitive::<Int64Type>();
            prop_assert_eq!(array.len(), rows.len());
            for (row, members) in rows.iter().enumerate() {
                let expected = members.iter().find(|(position, _)| *position == column).map(|(_, value)| *value);
                prop_assert_eq!(array.is_valid(row).then(|| array.value(row)), expected);
            }
        }
    }

    /// The two verdicts on a record, when its body is accepted and when it is decoded with what the table knows since,
    /// are one: the same records do not fit, and no value of another is without its column.
    #[test]
    fn i5_records_that_do_not_fit_are_the_same_at_the_door_and_on_the_way_to_the_lake(
        records in proptest::collection::vec(
            proptest::collection::btree_map(
                prop::sample::select(vec![
                    "a", "A", "b", "B", "c", "d", "year", "Day", "x y", "i", "s", "o", "l", "cents", "uid", "bin", "map",
                ]),
                prop::sample::select(vec![
                    "null", "1", "2025", "9007199254740993", "1.5", "true", "\"t\"", "[]", "\"2026-01-08\"",
                    "\"2026-01-08T10:05:30Z\"", "{}", "{\"a\":1}", "{\"a\":\"t\",\"n\":null}", "{\"n\":1,\"N\":2}",
                    "{\"n\":{\"m\":true}}", "{\"n\":[1]}", "{\"x y\":1}", "{\"x y\":null}", "[1]", "[\"t\",null]",
                    "[{\"a\":1,\"n\":2}]", "[{\"n\":\"t\"},{\"N\":1}]", "[[1.5]]", "\"12.50\"", "12.345", "\"aGk=\"",
                    "\"2b1c0e4e-5f8a-4f0a-9d3c-0001020304ff\"", "{\"x y\":{\"a\":1}}", "{\"k\":{\"n\":1}}",
                ]),
                0..4,
            ).prop_flat_map(|record| Just(record.into_iter().collect::<Vec<_>>()).prop_shuffle()),
            1..12,
        ),
        required in prop::sample::subsequence(vec!["i", "map"], 0..=1),
        closed in proptest::bool::weighted(0.3),
    ) {
        let line = |record: &Vec<(&str, &str)>| {
            let members: Vec<String> = record.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let lines = records.iter().map(line).collect::<Vec<_>>().join("\n");
        let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
        let known = schema(&[
            ("i", ColumnType::Bigint),
            ("s", ColumnType::Varchar),
            ("d", ColumnType::Double),
            ("o", parsed("struct(a bigint)")),
            ("l", parsed("list(struct(a bigint))")),
            ("cents", parsed("decimal(6,2)")),
            ("uid", parsed("uuid")),
            ("bin", parsed("binary")),
            ("map", parsed("map(varchar, struct(a bigint))")),
        ]);
        let known = known.constrained(&Constraints { required: required.into_iter().map(str::to_owned).collect(), closed, ..Constraints::default() });
        let observation = observe(&scanned, &known, day(), &Inference::default()).expect("there are few");
        let batch = decode(&lines, &observation.schema, &observation.present).unwrap_or_else(|error| panic!("{error}: {lines}"));
        let rows: Vec<usize> = batch.misfits.iter().map(|misfit| misfit.row as usize).collect();
        let seen: Vec<usize> = observation.misfits.into_listed().iter().filter_map(|misfit| misfit.index).collect();
        prop_assert_eq!(rows, seen, "{}", lines);
        // A column is there because of a record that fits.
        prop_assert!(batch.columns.iter().all(|column| column.null_count() < column.len()), "{}", lines);
    }
}
