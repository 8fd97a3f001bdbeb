//! Rows that meet another schema.

use super::*;
use crate::decode::{Format, ScanLimits, decode_columns, scan};
use crate::schema::{Column, Rules, observe};

fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    Schema::new(columns.iter().map(|(name, column_type)| Column::new(*name, *column_type)).collect()).expect("legal")
}

/// What a node that knows nothing of the table makes of these lines.
fn batch(lines: &str) -> DecodedBatch {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let date = chrono::NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
    let observation = observe(&scanned, &Schema::empty(), date).expect("fits");
    let own = Schema::new(observation.added.clone()).expect("legal");
    let rules = Rules::new(&own, date);
    decode_columns(&scanned, rules, &observation.present_with_added(), 0..scanned.record_count()).expect("fits")
}

fn reasons(fitted: &Fitted) -> Vec<(u32, &str, &str)> {
    fitted.misfits.iter().map(|misfit| (misfit.row, misfit.column.as_str(), misfit.code)).collect()
}

#[test]
fn a_batch_of_the_registered_schema_passes_uncopied() {
    let batch = batch("{\"a\":1,\"b\":\"x\"}\n{\"b\":\"y\"}");
    let fitted = fit(&batch, &schema(&[("a", ColumnType::Bigint), ("b", ColumnType::Varchar)]));
    assert_eq!((fitted.kept.as_slice(), fitted.misfits.len()), (&[0, 1][..], 0));
    assert!(fitted.columns.iter().zip(&batch.columns).all(|(fitted, decoded)| Arc::ptr_eq(fitted, &decoded.array)));
}

#[test]
fn columns_come_in_the_registered_order_and_those_that_the_batch_lacks_are_null() {
    let registered = schema(&[("n", ColumnType::Boolean), ("b", ColumnType::Varchar), ("a", ColumnType::Bigint)]);
    let fitted = fit(&batch("{\"a\":1,\"b\":\"x\"}\n{\"a\":2}"), &registered);
    assert_eq!(*fitted.columns[0].as_boolean(), BooleanArray::new_null(2));
    assert_eq!(*fitted.columns[1].as_string::<i32>(), StringArray::from(vec![Some("x"), None]));
    assert_eq!(*fitted.columns[2].as_primitive::<Int64Type>(), Int64Array::from(vec![1, 2]));
}

#[test]
fn integers_pass_into_a_double_where_they_are_exact() {
    let fitted = fit(
        &batch("{\"a\":1}\n{\"a\":9007199254740993}\n{\"a\":null}\n{\"a\":-9007199254740992}"),
        &schema(&[("a", ColumnType::Double)]),
    );
    assert_eq!((fitted.kept.as_slice(), reasons(&fitted)), (&[0, 2, 3][..], vec![(1, "a", "type-mismatch")]));
    let expected = Float64Array::from(vec![Some(1.0), None, Some(-9_007_199_254_740_992.0)]);
    assert_eq!(*fitted.columns[0].as_primitive::<Float64Type>(), expected);
}

#[test]
fn every_value_passes_into_json_as_its_text() {
    let lines = concat!(
        r#"{"i":-5,"d":1.5,"b":true,"s":"a\"\n\u00e9","j":[1, 2]}"#,
        "\n{}\n",
        r#"{"i":9223372036854775807,"d":-0.0,"b":false,"s":"","j":{}}"#,
        "\n",
    );
    let registered = schema(&["i", "d", "b", "s", "j"].map(|name| (name, ColumnType::Json)));
    let fitted = fit(&batch(lines), &registered);
    assert_eq!((fitted.kept.as_slice(), fitted.misfits.len()), (&[0, 1, 2][..], 0));
    let expected =
        [["-5", "9223372036854775807"], ["1.5", "-0.0"], ["true", "false"], [r#""a\"\né""#, r#""""#], ["[1, 2]", "{}"]];
    for (column, [first, last]) in fitted.columns.iter().zip(expected) {
        assert_eq!(*column.as_string::<i32>(), StringArray::from(vec![Some(first), None, Some(last)]));
    }
}

#[test]
fn what_has_no_exact_form_in_the_registered_type_is_a_misfit_of_its_row_alone() {
    let samples = [
        (ColumnType::Bigint, "1"),
        (ColumnType::Double, "1.5"),
        (ColumnType::Boolean, "true"),
        (ColumnType::Varchar, "\"x\""),
        (ColumnType::Json, "[]"),
    ];
    for (own, sample) in samples {
        for (registered, _) in samples {
            let fits = own == registered
                || registered == ColumnType::Json
                || (own, registered) == (ColumnType::Bigint, ColumnType::Double);
            let lines = format!("{{\"k\":1}}\n{{\"k\":2,\"a\":{sample}}}\n{{\"k\":3,\"a\":null}}");
            let fitted = fit(&batch(&lines), &schema(&[("a", registered), ("k", ColumnType::Bigint)]));
            let expected: &[u32] = if fits { &[0, 1, 2] } else { &[0, 2] };
            assert_eq!(fitted.kept, expected, "{own} into {registered}");
            let expected = if fits { vec![] } else { vec![(1, "a", "type-mismatch")] };
            assert_eq!(reasons(&fitted), expected, "{own} into {registered}");
            let keys: Vec<i64> = fitted.columns[1].as_primitive::<Int64Type>().values().to_vec();
            assert_eq!(keys, fitted.kept.iter().map(|row| i64::from(*row) + 1).collect::<Vec<_>>());
            assert!(fitted.columns.iter().all(|column| column.len() == fitted.kept.len()));
        }
    }
}

#[test]
fn a_value_whose_column_is_not_registered_is_a_misfit() {
    let fitted = fit(&batch("{\"a\":1}\n{\"A2\":1}"), &schema(&[("a", ColumnType::Bigint)]));
    assert_eq!((fitted.kept.as_slice(), reasons(&fitted)), (&[0][..], vec![(1, "A2", "column-unknown")]));
}

#[test]
fn a_row_is_a_misfit_once_for_its_first_column() {
    let registered = schema(&[("a", ColumnType::Boolean), ("b", ColumnType::Boolean), ("c", ColumnType::Varchar)]);
    let fitted = fit(&batch("{\"b\":1,\"a\":1,\"c\":\"x\"}\n{\"a\":2}\n{\"c\":\"y\"}"), &registered);
    assert_eq!(reasons(&fitted), [(0, "b", "type-mismatch"), (1, "a", "type-mismatch")]);
    assert_eq!(fitted.kept, [2]);
    assert_eq!(*fitted.columns[2].as_string::<i32>(), StringArray::from(vec!["y"]));
    assert_eq!(*fitted.columns[0].as_boolean(), BooleanArray::new_null(1));
}

#[test]
fn a_row_that_did_not_fit_when_it_was_decoded_keeps_that_reason_and_its_values_are_nobodys() {
    let own = schema(&[("a", ColumnType::Bigint), ("b", ColumnType::Varchar)]);
    let lines = "{\"a\":1}\n{\"a\":2,\"b\":5}\n{\"a\":3,\"b\":\"x\"}";
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let date = chrono::NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
    let batch = decode_columns(&scanned, Rules::new(&own, date), &[true, true], 0..3).expect("one row is a misfit");
    let fitted = fit(&batch, &schema(&[("a", ColumnType::Bigint), ("b", ColumnType::Bigint)]));
    assert_eq!(reasons(&fitted), [(1, "b", "type-mismatch"), (2, "b", "type-mismatch")]);
    assert!(fitted.misfits[0].detail.contains("value is an integer"), "{:?}", fitted.misfits);
    assert_eq!(fitted.kept, [0]);
    assert_eq!(*fitted.columns[0].as_primitive::<Int64Type>(), Int64Array::from(vec![1]));
}
