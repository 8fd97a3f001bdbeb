//! Columns from records, and serde_json as the oracle for their values.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array as _, BooleanArray, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;

use super::*;
use crate::decode::{Format, ScanLimits, scan};
use crate::schema::Column;

fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    Schema::new(columns.iter().map(|(name, column_type)| Column::new(*name, *column_type)).collect()).expect("legal")
}

fn decode(lines: &str, schema: &Schema, present: &[bool]) -> Result<DecodedBatch, DecodeError> {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    decode_columns(&scanned, schema, present)
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

/// A value that nobody asked for would be lost without a word.
#[test]
fn a_value_without_a_column_or_of_another_type_is_an_error() {
    for (line, code) in [
        (r#"{"i":"x"}"#, "type-mismatch"),
        (r#"{"i":1.5}"#, "type-mismatch"),
        (r#"{"d":9007199254740993}"#, "type-mismatch"),
        (r#"{"b":1}"#, "type-mismatch"),
        (r#"{"s":1}"#, "type-mismatch"),
        (r#"{"other":1}"#, "column-unknown"),
        (r#"{"I":1}"#, "column-unknown"),
        (r#"{"j":1}"#, "column-unknown"),
    ] {
        let error = decode(line, &all_types(), &[true, true, true, true, false]).expect_err(line);
        assert_eq!(error.violations()[0].code, code, "{line}");
    }
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
}
