//! CSV, as spreadsheets and exports have it, into the same tables as JSON.

use lakeingest_tests::calls::{body, flush, ingest, table_status};
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};

fn send(sidecar: &Sidecar, path: &str, text: &str) -> Response {
    let path = format!("{path}?table_name=orders&partition_date=2026-01-08");
    sidecar.request("POST", &path, &[("content-type", "text/csv")], Some(text.as_bytes())).expect("the sidecar answers")
}

#[test]
fn rows_are_stored_with_the_types_that_their_columns_have() {
    let site = Site::local();
    let sidecar = site.start();
    let text = "id,price,paid,name,note,due,at\r\n\
                1,2.50,true,\"Müller, \"\"Ann\"\"\",,2026-01-08,2026-01-08T10:05:30+02:00\r\n\
                2,3,false,07030,\"two\nlines\",,\r\n";
    let answer = send(&sidecar, "/ingest", text);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = body(&answer);
    assert_eq!((&answer["rows"], &answer["quarantined"]), (&json!(2), &json!(0)));
    let columns = &table_status(&sidecar, "orders")["columns"];
    let types: Vec<_> = columns.as_array().into_iter().flatten().map(|column| column["type"].as_str()).collect();
    let expected = ["bigint", "double", "boolean", "varchar", "varchar", "date", "timestamp"].map(Some);
    // A column has its place by its first value, and the first row has no note.
    let mut sorted = types.clone();
    sorted.sort_unstable();
    let mut all = expected.to_vec();
    all.sort_unstable();
    assert_eq!(sorted, all, "{columns}");

    let mut rows = site.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let fields = |row: &lakeingest_tests::lake::Row| {
        ["price", "paid", "name", "note", "due", "at", "day"].map(|name| row[name].clone())
    };
    let first = [
        json!(2.5),
        json!(true),
        json!("Müller, \"Ann\""),
        Value::Null,
        json!("2026-01-08"),
        json!("2026-01-08 08:05:30+00"),
        json!(8),
    ];
    assert_eq!(fields(&rows[0]), first);
    let second = [json!(3.0), json!(false), json!("07030"), json!("two\nlines"), Value::Null, Value::Null, json!(8)];
    assert_eq!(fields(&rows[1]), second);
}

#[test]
fn json_and_csv_meet_in_one_table_and_what_does_not_fit_is_set_aside_after_a_crash_too() {
    let site = Site::local().with_config("flush: {maxAge: 1h}\n");
    let sidecar = site.start();
    ingest(&sidecar, "orders", &[json!({"id": 1, "name": "json", "extra": [1, "x"]})]);
    let answer = send(&sidecar, "/ingest/stream", "id,name,extra\n2,\"007\",{}\nthree,x,\n4,,\n");
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(1)), "{}", answer.text());
    assert_eq!(body(&answer)["errors"][0]["pointer"], "/id");
    sidecar.kill().expect("it can be killed");
    let sidecar = site.start();
    flush(&sidecar);
    let mut rows = site.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let fields: Vec<_> =
        rows.iter().map(|row| (row["id"].clone(), row["name"].clone(), row["extra"].clone())).collect();
    let expected = [
        (json!(1), json!("json"), json!(r#"[1,"x"]"#)),
        (json!(2), json!("007"), json!("\"{}\"")),
        (json!(4), Value::Null, Value::Null),
    ];
    assert_eq!(fields, expected);
    let quarantine = site.lake().quarantine("orders");
    assert_eq!(quarantine.len(), 1);
    assert_eq!(quarantine[0]["record"], r#"{"id":"three","name":"x"}"#);
    assert_eq!((&quarantine[0]["field"], &quarantine[0]["record_index"]), (&json!("id"), &json!(1)));
}
