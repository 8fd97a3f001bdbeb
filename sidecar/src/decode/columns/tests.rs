//! Columns from records, and serde_json as the oracle for their values.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array as _, BooleanArray, Float64Array, Int64Array, StringArray};
use chrono::NaiveDate;
use proptest::prelude::*;

use super::*;
use crate::decode::{Format, ScanLimits, scan};
use crate::schema::{Column, Schema, observe};

fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    Schema::new(columns.iter().map(|(name, column_type)| Column::new(*name, *column_type)).collect()).expect("legal")
}

fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2025, 1, 2).expect("a day")
}

fn decode(lines: &str, schema: &Schema, present: &[bool]) -> Result<DecodedBatch, DecodeError> {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    decode_columns(&scanned, Rules::new(schema, day()), present, 0..scanned.record_count())
}

fn all_types() -> Schema {
    schema(&[
        ("i", ColumnType::Bigint),
        ("d", ColumnType::Double),
        ("b", ColumnType::Boolean),
        ("s", ColumnType::Varchar),
        ("j", ColumnType::Json),
    ])
}

#[test]
fn each_type_is_decoded_and_what_is_missing_is_null() {
    let lines = concat!(
        r#"{"i":-5,"d":1.5,"b":true,"s":"a\n\u00e9","j":{"x": [1, 2]}}"#,
        "\n{}\n",
        r#"{"j":"q\"","s":null,"b":false,"d":3,"i":9223372036854775807}"#,
        "\n{\"j\":null}\n",
    );
    let batch = decode(lines, &all_types(), &[true; 5]).expect("fits");
    assert_eq!(batch.rows, 4);
    let array = |position: usize| &batch.columns[position].array;
    assert_eq!(*array(0).as_primitive::<Int64Type>(), Int64Array::from(vec![Some(-5), None, Some(i64::MAX), None]));
    assert_eq!(*array(1).as_primitive::<Float64Type>(), Float64Array::from(vec![Some(1.5), None, Some(3.0), None]));
    assert_eq!(*array(2).as_boolean(), BooleanArray::from(vec![Some(true), None, Some(false), None]));
    assert_eq!(*array(3).as_string::<i32>(), StringArray::from(vec![Some("a\né"), None, None, None]));
    let texts = vec![Some(r#"{"x": [1, 2]}"#), None, Some(r#""q\"""#), None];
    assert_eq!(*array(4).as_string::<i32>(), StringArray::from(texts));
}

#[test]
fn only_the_columns_that_are_asked_for_are_decoded() {
    let batch =
        decode("{\"i\":1,\"s\":\"x\",\"d\":null}", &all_types(), &[true, false, false, true, false]).expect("fits");
    let columns: Vec<_> = batch.columns.iter().map(|column| (column.name.as_str(), column.column_type)).collect();
    assert_eq!(columns, [("i", ColumnType::Bigint), ("s", ColumnType::Varchar)]);
}

#[test]
fn keys_of_the_partition_are_skipped() {
    let batch =
        decode("{\"year\":2025,\"month\":1,\"day\":2,\"i\":1}", &all_types(), &[true, false, false, false, false]);
    assert_eq!(batch.expect("fits").columns.len(), 1);
}

#[test]
fn a_record_that_does_not_fit_is_told_and_its_neighbours_are_decoded() {
    let present = [true, true, true, true, false];
    for (record, field, code) in [
        (r#"{"i":"x"}"#, "i", "type-mismatch"),
        (r#"{"i":1.5}"#, "i", "type-mismatch"),
        (r#"{"d":9007199254740993}"#, "d", "type-mismatch"),
        (r#"{"b":1}"#, "b", "type-mismatch"),
        (r#"{"s":1}"#, "s", "type-mismatch"),
        (r#"{"I":1}"#, "I", "column-case"),
        (r#"{"a b":null}"#, "(3 bytes)", "column-name"),
        (r#"{"day":3}"#, "day", "partition-column-mismatch"),
        (r#"{"other":1,"Other":2}"#, "Other", "column-case"),
        // What has no column here is no fault of a record that has one anyway.
        (r#"{"other":1,"j":1,"i":2,"s":[]}"#, "s", "type-mismatch"),
    ] {
        let lines = format!("{{\"i\":1}}\n{record}\n{{\"i\":3}}");
        let batch = decode(&lines, &all_types(), &present).unwrap_or_else(|error| panic!("{record}: {error}"));
        let misfits: Vec<_> = batch.misfits.iter().map(|misfit| (misfit.row, &*misfit.column, misfit.code)).collect();
        assert_eq!(misfits, [(1, field, code)], "{record}");
        let numbers = batch.columns[0].array.as_primitive::<Int64Type>();
        assert_eq!((numbers.len(), numbers.value(0), numbers.value(2)), (3, 1, 3), "{record}");
    }
}

/// A value that nobody asked for would be lost without a word.
#[test]
fn a_value_without_a_column_is_an_error_where_its_record_fits() {
    for line in [r#"{"other":1}"#, r#"{"j":1}"#, r#"{"i":1,"other":{}}"#] {
        let error = decode(line, &all_types(), &[true, true, true, true, false]).expect_err(line);
        assert_eq!(error.violations()[0].code, "column-unknown", "{line}");
    }
}

#[test]
fn some_records_of_a_body_are_decoded_alone() {
    let lines = "{\"i\":0}\n{\"i\":1}\n{\"i\":\"x\"}\n{\"i\":3}";
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let schema = schema(&[("i", ColumnType::Bigint)]);
    let batch = decode_columns(&scanned, Rules::new(&schema, day()), &[true], 1..4).expect("a misfit is no error");
    assert_eq!((batch.rows, batch.misfits.len(), batch.misfits[0].row), (3, 1, 1));
    let numbers = Int64Array::from(vec![Some(1), None, Some(3)]);
    assert_eq!(*batch.columns[0].array.as_primitive::<Int64Type>(), numbers);
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
            let array = decoded.array.as_primitive::<Int64Type>();
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
                prop::sample::select(vec!["a", "A", "b", "B", "c", "d", "year", "Day", "x y", "i", "s"]),
                prop::sample::select(vec!["null", "1", "2025", "9007199254740993", "1.5", "true", "\"t\"", "[]"]),
                0..4,
            ).prop_flat_map(|record| Just(record.into_iter().collect::<Vec<_>>()).prop_shuffle()),
            1..12,
        ),
    ) {
        let line = |record: &Vec<(&str, &str)>| {
            let members: Vec<String> = record.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let lines = records.iter().map(line).collect::<Vec<_>>().join("\n");
        let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
        let known = schema(&[("i", ColumnType::Bigint), ("s", ColumnType::Varchar), ("d", ColumnType::Double)]);
        let observation = observe(&scanned, &known, day()).expect("there are few");
        let grown = known.with_columns_added(&observation.added).expect("what is added is legal");
        let rules = Rules::new(&grown, day());
        let present = observation.present_with_added();
        let batch = decode_columns(&scanned, rules, &present, 0..scanned.record_count())
            .unwrap_or_else(|error| panic!("{error}: {lines}"));
        let rows: Vec<usize> = batch.misfits.iter().map(|misfit| misfit.row as usize).collect();
        let seen: Vec<usize> = observation.misfits.into_listed().iter().filter_map(|misfit| misfit.index).collect();
        prop_assert_eq!(rows, seen, "{}", lines);
        // A column is there because of a record that fits.
        for (column, decoded) in grown.columns().iter().zip(&present).filter(|(_, present)| **present).map(|(column, _)| column).zip(&batch.columns) {
            let fits = |row: usize| batch.misfits.iter().all(|misfit| misfit.row as usize != row);
            prop_assert!((0..batch.rows).any(|row| fits(row) && decoded.array.is_valid(row)), "{}: {}", column.name, lines);
        }
    }
}
