//! Structs and lists in files: their values, their field ids, their statistics.

use super::*;

fn nested(text: &str) -> (&'static str, ColumnType) {
    ("s", text.parse().expect("a type"))
}

const LINES: &str = concat!(
    r#"{"id":1,"s":{"a":1,"l":[{"k":"é"},null]}}"#,
    "\n{\"id\":2}\n{\"id\":3,\"s\":{}}\n",
    r#"{"id":4,"s":{"l":[]}}"#,
);

#[tokio::test]
async fn what_is_nested_is_in_the_file_as_it_was_sent_and_each_value_inside_has_its_id_and_statistics() {
    let fixture = Fixture::new();
    let columns = [ID, nested("struct(a bigint, l list(struct(k varchar)))")];
    let sealed = fixture.sealed(&[("2025-01-01", LINES)], &schema(&columns)).await;
    let encoded = fixture.encoder.encode(fixture.job(&sealed, registered(&columns))).await.expect("it can be encoded");
    let path = fixture.path(sealed.contents.number, 0);
    let rows = fixture.rows(&path, "to_json(s)::VARCHAR");
    let texts =
        [Some(r#"{"a":1,"l":[{"k":"é"},null]}"#), None, Some(r#"{"a":null,"l":null}"#), Some(r#"{"a":null,"l":[]}"#)];
    let texts = texts.map(|text| vec![text.map_or(Value::Null, |text| Value::Text(text.to_owned()))]);
    assert_eq!(rows, texts);

    let connection = Connection::open_in_memory().expect("a database can be opened");
    let from = session::quoted(&path.to_string_lossy());
    let statement = format!("SELECT name, field_id FROM parquet_schema({from}) WHERE field_id IS NOT NULL ORDER BY 2");
    let mut statement = connection.prepare(&statement).expect("the file is Parquet");
    let found = statement.query_map([], |row| Ok(format!("{} {}", row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    let found: Vec<String> = found.expect("it can be read").map(|row| row.expect("each row can be read")).collect();
    assert_eq!(found, ["year 1", "month 2", "day 3", "id 4", "s 5", "a 6", "l 7", "element 8", "k 9"]);

    let statistics = encoded.files[0].columns.iter();
    let statistics = statistics.map(|column| (column.name.as_str(), column.field_id, column.max.as_deref()));
    let expected = [("id", 4, Some("4")), ("s.a", 6, Some("1")), ("s.l.element.k", 9, Some("é"))];
    assert_eq!(statistics.take(3).collect::<Vec<_>>(), expected);
}

/// Invariant I3: the digest of rows is that of their values, whatever fields the table's struct has got since.
#[tokio::test]
async fn i3_a_struct_that_has_grown_gives_the_same_digest_of_the_same_rows() {
    let fixture = Fixture::new();
    let columns = [ID, nested("struct(a bigint, l list(struct(k varchar)))")];
    let sealed = fixture.sealed(&[("2025-01-01", LINES)], &schema(&columns)).await;
    let table = registered(&columns);
    let wider = table.grown(&[Column::new("s", "struct(z json, y struct(x date))".parse().expect("a type"))]);
    let mut digests = Vec::new();
    for table in [table, wider] {
        let encoded = fixture.encoder.encode(fixture.job(&sealed, table)).await.expect("it can be encoded");
        digests.push(encoded.plan.files[0].row_digest.clone());
    }
    assert_eq!(digests[0], digests[1]);
    // The second has the new fields, null.
    let rows = fixture.rows(&fixture.path(sealed.contents.number, 0), "s.z IS NULL, s.y.x IS NULL, s.l[1].k");
    assert_eq!(rows[0], [Value::Boolean(true), Value::Boolean(true), Value::Text("é".to_owned())]);
}

/// A column that no row of the segment has a value in is in the file all the same, with its type.
#[tokio::test]
async fn a_nested_column_without_a_value_is_null_with_its_type() {
    let fixture = Fixture::new();
    let sealed = fixture.sealed(&[("2025-01-01", "{\"id\":1}")], &schema(&[ID])).await;
    let table = registered(&[ID, nested("struct(a bigint, l list(struct(k varchar)))")]);
    fixture.encoder.encode(fixture.job(&sealed, table)).await.expect("it can be encoded");
    let rows = fixture.rows(&fixture.path(sealed.contents.number, 0), "s IS NULL, typeof(s)");
    let text = "STRUCT(a BIGINT, l STRUCT(k VARCHAR)[])";
    assert_eq!(rows, [[Value::Boolean(true), Value::Text(text.to_owned())]]);
}

#[tokio::test]
async fn decimals_uuids_bytes_and_maps_are_in_the_file_at_every_depth() {
    let fixture = Fixture::new();
    let types = "c decimal(20,4), u uuid, b binary, m map(varchar, struct(u uuid, c decimal(38,10)))";
    let columns = [ID, nested(&format!("struct({types}, l list(uuid))"))];
    let flat: Vec<(&str, ColumnType)> = ["c decimal(20,4)", "u uuid", "b binary", "m map(varchar, list(binary))"]
        .map(|column| column.split_once(' ').expect("a name and a type"))
        .map(|(name, text)| (name, text.parse().expect("a type")))
        .into();
    let columns = [&columns[..], &flat].concat();
    let uuid = "2b1c0e4e-5f8a-4f0a-9d3c-0001020304ff";
    let lines = format!(
        r#"{{"id":1,"c":"-1234567890123456.7891","u":"{uuid}","b":"AP8=","m":{{"k":["aGk=",null],"z":[]}},"s":{{"c":1,"u":"{uuid}","b":"","m":{{"x":{{"u":"{uuid}","c":1e-10}},"y":null}},"l":["{uuid}",null]}}}}"#
    );
    let lines = format!("{lines}\n{{\"id\":2,\"m\":{{}},\"s\":{{}}}}");
    let sealed = fixture.sealed(&[("2025-01-01", &lines)], &schema(&columns)).await;
    let encoded = fixture.encoder.encode(fixture.job(&sealed, registered(&columns))).await;
    let encoded = encoded.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
    let path = fixture.path(sealed.contents.number, 0);
    let rows = fixture.rows(&path, "c::VARCHAR, u::VARCHAR, hex(b), m::VARCHAR, s::VARCHAR");
    let first = [
        "-1234567890123456.7891",
        uuid,
        "00FF",
        "{k=[hi, NULL], z=[]}",
        &format!(
            "{{'c': 1.0000, 'u': {uuid}, 'b': '', 'm': {{x={{'u': {uuid}, 'c': 0.0000000001}}, y=NULL}}, 'l': [{uuid}, NULL]}}"
        ),
    ];
    assert_eq!(rows[0], first.map(text));
    let second = "{'c': NULL, 'u': NULL, 'b': NULL, 'm': NULL, 'l': NULL}";
    assert_eq!(rows[1], [Value::Null, Value::Null, Value::Null, text("{}"), text(second)]);
    let described: Vec<(&str, Option<&str>)> =
        encoded.files[0].columns.iter().map(|column| (column.name.as_str(), column.max.as_deref())).collect();
    for expected in [("s.c", Some("1.0000")), ("s.m.key", Some("y")), ("s.m.value.u", Some(uuid)), ("u", Some(uuid))] {
        assert!(described.contains(&expected), "{expected:?} is not in {described:?}");
    }
}
