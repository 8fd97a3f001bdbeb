//! Schemas, their canonical bytes and their names.

use super::*;
use crate::schema::is_column_name;

fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
    columns.iter().map(|(name, column_type)| Column::new(*name, column_type.clone())).collect()
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
    for name in
        ["", "1a", "a b", "a-b", "a\"b", "é", "a\0", "a.b", "__duckdb_field_id", "__DuckDB_field_id", too_long.as_str()]
    {
        assert!(!is_column_name(name), "{name}");
        assert!(matches!(
            Schema::new(vec![Column::new(name, ColumnType::Json)]),
            Err(Error::Fields(FieldsError::Name { name_bytes })) if name_bytes == name.len()
        ));
    }
}

#[test]
fn names_are_unique_whatever_their_case_and_never_the_partitions() {
    let twins = columns(&[("amount", ColumnType::Double), ("AMOUNT", ColumnType::Double)]);
    assert!(
        matches!(Schema::new(twins), Err(Error::Fields(FieldsError::NameTaken { present, .. })) if present == "amount")
    );
    for name in ["year", "month", "day", "Year", "DAY"] {
        let own = columns(&[(name, ColumnType::Bigint)]);
        assert!(matches!(Schema::new(own), Err(Error::PartitionColumn { .. })), "{name}");
    }
    // Within a struct they are names as any other.
    Schema::new(columns(&[("at", parsed("struct(year bigint, day bigint)"))])).expect("legal");
}

fn parsed(column_type: &str) -> ColumnType {
    column_type.parse().expect("a type")
}

#[test]
fn a_table_has_at_most_a_thousand_names() {
    let many = |count: usize| (0..count).map(|n| Column::new(format!("c{n}"), ColumnType::Json)).collect::<Vec<_>>();
    let full = Schema::new(many(1_000)).expect("a thousand");
    assert_eq!(full.len(), 1_000);
    assert!(matches!(Schema::new(many(1_001)), Err(Error::TooManyColumns)));
    let of_two = Column::new("x", parsed("struct(a bigint, b list(struct(c json)))"));
    assert!(matches!(Schema::new([many(997), vec![of_two.clone()]].concat()), Err(Error::TooManyColumns)));
    assert_eq!(Schema::new([many(996), vec![of_two]].concat()).expect("a thousand").field_count(), 1_000);
}

#[test]
fn a_schema_grows_behind_its_own_columns_and_its_structs_behind_their_own_fields() {
    let first = columns(&[("a", ColumnType::Json), ("s", parsed("struct(x bigint, l list(struct(p double)))"))]);
    let schema = two().merged(&first);
    assert_eq!(schema.columns()[..2], *two().columns());
    assert_eq!((schema.position("a"), schema.len(), schema.field_count()), (Some(2), 4, 7));
    assert_ne!(schema.fingerprint(), two().fingerprint());
    assert_eq!(schema.merged(&first), schema);
    let others = columns(&[
        // Their types stand.
        ("user_id", ColumnType::Varchar),
        ("a", parsed("struct(x bigint)")),
        // A name in another case stays out.
        ("AMOUNT", ColumnType::Double),
        ("s", parsed("struct(l list(struct(q date, p varchar)), X json, y json)")),
    ]);
    let grown = schema.merged(&others);
    assert_eq!(grown.columns()[..3], schema.columns()[..3]);
    // Nothing comes to what is in a list.
    let expected = "struct(x bigint, l list(struct(p double)), y json)";
    assert_eq!((grown.columns()[3].column_type.to_string().as_str(), grown.len()), (expected, 4));
}

#[test]
fn what_there_is_no_room_for_stays_out_as_a_whole() {
    let many = (0..997).map(|n| Column::new(format!("c{n}"), ColumnType::Json)).collect();
    let schema = Schema::new(many).expect("legal");
    let others = columns(&[("s", parsed("struct(a json, b json, c json)")), ("t", parsed("struct(a json)"))]);
    let grown = schema.merged(&others);
    assert_eq!((grown.field_count(), grown.columns().last()), (999, Some(&others[1])));
    let wider = columns(&[("t", parsed("struct(b struct(c json), d json, e json)"))]);
    let full = grown.merged(&wider);
    assert_eq!(
        full.columns().last().map(|column| column.column_type.to_string()),
        Some("struct(a json, d json)".into())
    );
    assert_eq!((full.field_count(), full.merged(&wider)), (1_000, full));
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
