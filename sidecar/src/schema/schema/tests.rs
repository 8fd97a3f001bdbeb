//! Schemas, their canonical bytes and their names.

use super::*;

fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
    columns.iter().map(|(name, column_type)| Column::new(*name, *column_type)).collect()
}

fn two() -> Schema {
    Schema::new(columns(&[("user_id", ColumnType::Bigint), ("amount", ColumnType::Double)])).expect("legal")
}

#[test]
fn canonical_bytes_and_fingerprint_are_as_documented() {
    assert_eq!(two().canonical_json(), br#"{"columns":[["user_id","bigint"],["amount","double"]]}"#);
    assert_eq!(Schema::empty().canonical_json(), br#"{"columns":[]}"#);
    // Of `printf '{"columns":[["user_id","bigint"],["amount","double"]]}' | sha256sum`.
    assert_eq!(two().fingerprint().to_string(), "b1e438168a065b9afd95add0384db465fd7cf406da35ccd01bbe367a720d5d83");
    assert_eq!(Fingerprint::from_bytes(*two().fingerprint().as_bytes()), two().fingerprint());
}

#[test]
fn every_type_keeps_its_name() {
    let types = [ColumnType::Bigint, ColumnType::Double, ColumnType::Boolean, ColumnType::Varchar, ColumnType::Json];
    let names = ["bigint", "double", "boolean", "varchar", "json"];
    assert_eq!(types.map(ColumnType::name), names);
    for (column_type, name) in types.iter().zip(names) {
        assert_eq!(serde_json::to_string(column_type).expect("a name"), format!("\"{name}\""));
    }
}

#[test]
fn canonical_bytes_give_the_schema_back() {
    for schema in [Schema::empty(), two()] {
        assert_eq!(Schema::from_canonical_json(&schema.canonical_json()).expect("canonical"), schema);
    }
}

#[test]
fn bytes_that_are_not_canonical_are_refused() {
    for bytes in [
        r#"{"columns": []}"#,
        r#"{"columns":[],"more":1}"#,
        r#"{"columns":[["a","bigint"],]}"#,
        r#"{"columns":[["a","integer"]]}"#,
        r#"{"columns":[["\u0061","bigint"]]}"#,
        r#"{"columns":[["a b","bigint"]]}"#,
        "{\"columns\":[]}\n",
        "",
    ] {
        Schema::from_canonical_json(bytes.as_bytes()).expect_err(bytes);
    }
}

#[test]
fn names_are_identifiers_of_at_most_128_bytes() {
    let longest = "a".repeat(128);
    for name in ["a", "A", "_", "_1", "user_id", longest.as_str()] {
        assert!(is_column_name(name), "{name}");
    }
    let too_long = "a".repeat(129);
    for name in ["", "1a", "a b", "a-b", "a\"b", "é", "a\0", "a.b", too_long.as_str()] {
        assert!(!is_column_name(name), "{name}");
        assert!(matches!(
            Schema::new(vec![Column::new(name, ColumnType::Json)]),
            Err(Error::ColumnName { name_bytes }) if name_bytes == name.len()
        ));
    }
}

#[test]
fn names_are_unique_whatever_their_case_and_never_the_partitions() {
    let twin = columns(&[("AMOUNT", ColumnType::Double)]);
    assert!(matches!(two().with_columns_added(&twin), Err(Error::NameTaken { present, .. }) if present == "amount"));
    for name in ["year", "month", "day", "Year", "DAY"] {
        let added = columns(&[(name, ColumnType::Bigint)]);
        assert!(matches!(two().with_columns_added(&added), Err(Error::PartitionColumn { .. })), "{name}");
    }
}

#[test]
fn a_table_has_at_most_a_thousand_columns() {
    let many = |count: usize| (0..count).map(|n| Column::new(format!("c{n}"), ColumnType::Json)).collect::<Vec<_>>();
    let full = Schema::new(many(1_000)).expect("a thousand");
    assert_eq!(full.len(), 1_000);
    assert!(matches!(Schema::new(many(1_001)), Err(Error::TooManyColumns)));
    let one_more = columns(&[("x", ColumnType::Json)]);
    assert!(matches!(full.with_columns_added(&one_more), Err(Error::TooManyColumns)));
}

#[test]
fn added_columns_stand_behind_the_others() {
    let grown = two().with_columns_added(&columns(&[("a", ColumnType::Json)])).expect("legal");
    assert_eq!(grown.columns()[..2], *two().columns());
    assert_eq!(grown.position("a"), Some(2));
    assert_ne!(grown.fingerprint(), two().fingerprint());
}

#[test]
fn a_column_is_found_with_any_hint_and_only_by_its_exact_name() {
    for hint in 0..4 {
        assert_eq!(two().position_near("user_id", hint), Some(0));
        assert_eq!(two().position_near("amount", hint), Some(1));
        assert_eq!(two().position_near("Amount", hint), None);
    }
    assert_eq!(two().column_of_any_case("AMOUNT").map(|column| column.name.as_str()), Some("amount"));
    assert_eq!(two().column_of_any_case("amounts"), None);
}
