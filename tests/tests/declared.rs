//! Tables that are declared: their columns from the first file on, and what they take.

use lakeingest_tests::calls::{body, flush, health, ingest, post, stream, table_status, wait_for_reason};
use lakeingest_tests::site::{Site, wait_for_end};
use serde_json::{Value, json};

const TABLES: &str = "
flush: {maxAge: 1h}
tables:
- name: orders
  columns:
  - {name: id, type: bigint, nullable: false}
  - {name: amount, type: double}
  - {name: lines, type: 'list(struct(sku varchar, count bigint))'}
  - {name: note, type: varchar}
  onUnknownColumn: quarantine
- name: payments
  columns: [{name: id, type: bigint}]
  onUnknownColumn: reject
- name: visits
  columns: [{name: page, type: varchar}]
onUndeclaredTable: reject
";

fn columns_of(status: &Value) -> Vec<String> {
    let columns = status["columns"].as_array().into_iter().flatten();
    let text = |column: &Value| {
        let required = if column["nullable"] == json!(false) { " not null" } else { "" };
        format!(
            "{} {}{required}",
            column["name"].as_str().unwrap_or_default(),
            column["type"].as_str().unwrap_or_default()
        )
    };
    columns.map(text).collect()
}

#[test]
fn a_declared_table_has_its_columns_in_every_file_and_sets_aside_what_it_does_not_take() {
    let site = Site::local().with_config(TABLES);
    let sidecar = site.start();
    let declared =
        ["id bigint not null", "amount double", "lines list(struct(sku varchar, count bigint))", "note varchar"];
    assert_eq!(columns_of(&table_status(&sidecar, "orders")), declared);
    let records = [
        json!({"amount": 5, "id": 1}),
        json!({"id": 2, "lines": [{"sku": "a", "count": 2}, null, {"sku": "b"}], "unknown": null}),
        json!({"id": null, "amount": 1}),
        json!({"amount": 1}),
        json!({"id": 3, "stranger": true}),
        json!({"id": 4, "lines": [{"sku": "a"}, {"colour": "red"}]}),
        json!({"id": 5, "lines": [{"sku": 7}]}),
    ];
    let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "orders", "records": records}));
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(5)), "{}", answer.text());
    sidecar.kill().expect("it can be killed");

    // A process with another declaration makes of them what they were accepted as.
    let site = site.with_config("tables: [{name: orders, columns: [{name: note, type: varchar, nullable: false}]}]");
    let sidecar = site.start();
    flush(&sidecar);
    let mut rows = site.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let fields: Vec<_> =
        rows.iter().map(|row| ["id", "amount", "lines", "note"].map(|name| row[name].clone())).collect();
    let lines = json!([{"sku": "a", "count": 2}, null, {"sku": "b", "count": null}]);
    let expected = [[json!(1), json!(5.0), Value::Null, Value::Null], [json!(2), Value::Null, lines, Value::Null]];
    assert_eq!(fields, expected);
    let mut found: Vec<_> = site.lake().quarantine("orders");
    found.sort_by_key(|row| row["record_index"].as_i64());
    let found: Vec<_> = found.iter().map(|row| (row["field"].clone(), row["code"].clone())).collect();
    let expected = [
        ("id", "value-missing"),
        ("id", "value-missing"),
        ("stranger", "column-unknown"),
        ("lines/1/colour", "column-unknown"),
        ("lines/0/sku", "type-mismatch"),
    ];
    assert_eq!(found, expected.map(|(field, code)| (json!(field), json!(code))));
    assert_eq!(columns_of(&table_status(&sidecar, "orders"))[0], "note varchar not null", "declared, then found");
}

#[test]
fn a_table_that_takes_no_other_columns_or_is_not_declared_refuses_the_whole_request() {
    let site = Site::local().with_config(TABLES);
    let sidecar = site.start();
    let records = [json!({"id": "x"}), json!({"id": 1, "more": 1}), json!({"id": 2})];
    let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "payments", "records": records}));
    assert_eq!(answer.status, 422, "{}", answer.text());
    let answer = body(&answer);
    let error = &answer["errors"][0];
    assert_eq!((&error["pointer"], &error["code"]), (&json!("/records/1/more"), &json!("column-unknown")));
    assert_eq!((&answer["outcome"], answer["errors"].as_array().map(Vec::len)), (&json!("refused"), Some(1)));
    let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "clicks", "record": {"id": 1}}));
    assert_eq!((answer.status, &body(&answer)["errors"][0]["code"]), (422, &json!("table-undeclared")));
    // One that takes what comes takes it behind what is declared.
    stream(&sidecar, "visits", &json!({"at": 1}));
    flush(&sidecar);
    assert_eq!(columns_of(&table_status(&sidecar, "visits")), ["page varchar", "at bigint"]);
    let row = site.lake().table("visits").remove(0);
    assert_eq!((&row["page"], &row["at"]), (&Value::Null, &json!(1)), "a declared column is in each file");
    assert!(site.lake().table("payments").is_empty());
}

#[test]
fn a_declared_type_that_the_lake_has_otherwise_is_shown() {
    let site = Site::local();
    let sidecar = site.start();
    ingest(&sidecar, "visits", &[json!({"page": 7})]);
    drop(sidecar);
    let site = site.with_config(TABLES);
    let sidecar = site.start();
    let reason = wait_for_reason(&sidecar, "SchemaConflict");
    assert!(reason.contains("page is declared varchar and is bigint"), "{reason}");
    let answer = post(&sidecar, "/ingest", &json!({"table_name": "visits", "records": [{"page": "x"}, {"page": 8}]}));
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (200, &json!(1)), "{}", answer.text());
    assert_eq!(health(&sidecar)["status"], "degraded");
}

/// Early and late records go to their own day, also when the process dies between the answer and the lake.
#[test]
fn a_table_that_goes_by_a_column_has_each_record_under_its_own_day() {
    let site = Site::local().with_config(
        "flush: {maxAge: 1h}\ntables: [{name: orders, columns: [{name: id, type: bigint}, {name: paid_at, type: timestamp}], \
         partition: {by: paid_at}}]",
    );
    let sidecar = site.start();
    let records = [
        json!({"id": 1, "paid_at": "2026-01-08T23:59:59.999999Z"}),
        json!({"id": 2, "paid_at": "2026-01-10T00:30:00+01:00", "day": 9}),
        json!({"id": 3, "paid_at": "2031-07-01T00:00:00Z"}),
        json!({"id": 4, "paid_at": "2026-01-08T00:00:00Z", "day": 9}),
    ];
    let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "orders", "records": records}));
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(1)), "{}", answer.text());
    let batch = body(&answer)["batch"].as_str().expect("it has an id").to_owned();
    assert!(batch.starts_with("orders-20260108_20310701-"), "{batch}");
    let named = json!({"table_name": "orders", "partition_date": "2020-02-29", "record": {"id": 5, "paid_at": "2026-01-08T00:00:00Z"}});
    assert_eq!(post(&sidecar, "/ingest/stream", &named).status, 202);
    sidecar.kill().expect("it can be killed");

    // The rule that counts is that of the moment in which a record was accepted.
    let site = site.with_config("flush: {maxAge: 1h}");
    let sidecar = site.start();
    let csv = "id,paid_at\n6,2026-01-08T12:00:00Z\n";
    let headers = [("content-type", "text/csv")];
    let answer = sidecar.request("POST", "/ingest?table_name=orders", &headers, Some(csv.as_bytes()));
    let answer = answer.expect("the sidecar answers");
    let today = body(&answer)["batch"].as_str().and_then(|batch| batch.split('-').nth(1).map(str::to_owned));
    let today = today.expect("it has an id");
    let mut found: Vec<(i64, String)> = site
        .lake()
        .table("orders")
        .iter()
        .map(|row| {
            let [year, month, day] = ["year", "month", "day"].map(|part| row[part].as_i64().expect("it has a day"));
            (row["id"].as_i64().expect("it has an id"), format!("{year:04}{month:02}{day:02}"))
        })
        .collect();
    found.sort_unstable();
    let expected = [(1, "20260108"), (2, "20260109"), (3, "20310701"), (5, "20200229"), (6, today.as_str())];
    assert_eq!(found, expected.map(|(id, day)| (id, day.to_owned())));
    let quarantined = site.lake().quarantine("orders");
    assert_eq!((quarantined.len(), &quarantined[0]["code"]), (1, &json!("partition-column-mismatch")));
    let receipt = sidecar.get(&format!("/receipts/{batch}")).expect("the sidecar answers");
    assert_eq!(body(&receipt)["files"].as_array().map(Vec::len), Some(3), "{}", receipt.text());
}

#[test]
fn the_rows_of_a_file_are_ordered_by_the_columns_that_the_table_declares() {
    let site = Site::local().with_config(
        "tables: [{name: visits, columns: [{name: page, type: varchar}, {name: n, type: bigint}], orderBy: [page, n]}]",
    );
    let sidecar = site.start();
    let visit = |page: &str, n: i64| json!({"page": page, "n": n});
    ingest(&sidecar, "visits", &[visit("b", 1), visit("a", 10), json!({"n": 0}), visit("a", 9)]);
    let files = format!("read_parquet('{}/data/visits/**/*.parquet')", site.lake().location());
    let found = site.lake().query(&format!("SELECT page, n FROM {files}"));
    let row = |page: Value, n: i64| vec![page, json!(n)];
    assert_eq!(found.rows, [row(json!("a"), 9), row(json!("a"), 10), row(json!("b"), 1), row(Value::Null, 0)]);
}

/// What DuckDB reads back is what was sent, digit for digit and byte for byte.
#[test]
fn decimals_uuids_bytes_and_maps_arrive_exactly() {
    let site = Site::local().with_config(
        "tables: [{name: payments, columns: [{name: id, type: uuid, nullable: false}, {name: amount, type: 'decimal(38,10)'}, \
         {name: proof, type: binary}, {name: by_day, type: 'map(varchar, decimal(9,2))'}]}]",
    );
    let sidecar = site.start();
    let uuid = "2B1C0E4E-5F8A-4F0A-9D3C-0001020304FF";
    let lines = format!(
        "{{\"id\":\"{uuid}\",\"amount\":\"1234567890123456789012345678.0123456789\",\"proof\":\"AAEC/w==\",\"by_day\":{{\"mon\":0.1,\"tue\":null}}}}\n\
         {{\"id\":\"{uuid}\",\"amount\":0.30000000000000004}}\n\
         {{\"id\":\"{uuid}\",\"amount\":0.3}}\n"
    );
    let headers = [("content-type", "application/x-ndjson")];
    let answer = sidecar.request("POST", "/ingest?table_name=payments", &headers, Some(lines.as_bytes()));
    let answer = answer.expect("the sidecar answers");
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (200, &json!(1)), "{}", answer.text());
    let error = &body(&answer)["errors"][0];
    assert_eq!(error["detail"], "column is decimal(38,10), value is a number that it cannot hold exactly");
    let csv = format!("id,amount,proof,by_day\n{},-5,AA==,\n", uuid.to_lowercase());
    let headers = [("content-type", "text/csv")];
    let answer = sidecar.request("POST", "/ingest?table_name=payments", &headers, Some(csv.as_bytes()));
    assert_eq!(answer.expect("the sidecar answers").status, 200);

    let files = format!("read_parquet('{}/data/payments/**/*.parquet', union_by_name = true)", site.lake().location());
    let columns = "id::VARCHAR AS id, amount::VARCHAR AS amount, hex(proof) AS proof, by_day::VARCHAR AS by_day";
    let found = site.lake().query(&format!("SELECT {columns} FROM {files} AS payments ORDER BY payments.amount"));
    let row =
        |amount: &str, proof: Value, by_day: Value| vec![json!(uuid.to_lowercase()), json!(amount), proof, by_day];
    let expected = [
        row("-5.0000000000", json!("00"), Value::Null),
        row("0.3000000000", Value::Null, Value::Null),
        row("1234567890123456789012345678.0123456789", json!("000102FF"), json!("{mon=0.10, tue=NULL}")),
    ];
    assert_eq!(found.rows, expected);
}

const TRANSFORMED: &str = "
flush: {maxAge: 1h}
tables:
- name: orders
  columns:
  - {name: id, type: bigint, nullable: false}
  - {name: price, type: 'decimal(9,2)'}
  - {name: customer, type: 'struct(name varchar, email varchar)'}
  - {name: count, type: varchar}
  - {name: paid_at, type: timestamp}
  partition: {by: paid_at}
  orderBy: [id]
  onUnknownColumn: quarantine
  transform: >-
    SELECT id, price * 2 AS twice, lower(customer.name) AS name, md5(customer.email) AS customer, count::INTEGER AS pieces,
    price > 5 AS is_dear FROM batch
";

/// A table whose rows are computed: what is sent is judged by what is declared, the lake has the result, and what was accepted
/// is computed by the statement of its time.
#[test]
fn rows_are_computed_from_what_is_sent_and_after_a_crash_by_the_statement_of_their_time() {
    let site = Site::local().with_config(TRANSFORMED);
    let sidecar = site.start();
    let columns =
        ["id bigint", "twice decimal(18,2)", "name varchar", "customer varchar", "pieces bigint", "is_dear boolean"];
    assert_eq!(columns_of(&table_status(&sidecar, "orders")), columns);
    let record = |id: i64, count: &str, day: u32| {
        let customer = json!({"name": "ANN", "email": "ann@example.com"});
        json!({"id": id, "price": 7.25, "customer": customer, "count": count, "paid_at": format!("2026-01-{day:02}T12:00:00Z")})
    };
    let records = [
        record(3, "3", 8),
        record(1, "one", 8),
        record(2, "2", 9),
        json!({"price": 1, "count": "1"}),
        json!({"id": 4, "twice": 1}),
        json!({"id": 5, "paid_at": "2026-01-08T00:00:00Z"}),
    ];
    let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "orders", "records": records}));
    // That an expression fails on a record shows on its way to the lake.
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(2)), "{}", answer.text());
    sidecar.kill().expect("it can be killed");

    let other = TRANSFORMED.replace("price * 2", "price * 3").replace("price > 5", "price > 50");
    let site = site.with_config(&other);
    let sidecar = site.start();
    ingest(&sidecar, "orders", &[record(6, "6", 8)]);
    flush(&sidecar);
    let mut rows = site.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let found: Vec<_> = rows
        .iter()
        .map(|row| ["id", "twice", "name", "pieces", "is_dear", "day"].map(|name| row[name].to_string()).join(" "))
        .map(|row| row.replace('"', ""))
        .collect();
    let expected = ["2 14.50 ann 2 true 9", "3 14.50 ann 3 true 8", "5 null null null null 8", "6 21.75 ann 6 false 8"];
    assert_eq!(found, expected);
    assert_eq!(rows[0]["customer"].as_str().map(str::len), Some(32));
    assert!(rows.iter().all(|row| row.get("price").is_none() && row.get("count").is_none()));
    let mut aside = site.lake().quarantine("orders");
    aside.sort_by_key(|row| row["record_index"].as_i64());
    let found: Vec<_> = aside.iter().map(|row| (row["record_index"].clone(), row["code"].clone())).collect();
    let expected =
        [(json!(1), json!("transform")), (json!(3), json!("value-missing")), (json!(4), json!("column-unknown"))];
    assert_eq!(found, expected);
    assert_eq!(aside[0]["record"], json!(records[1].to_string()));
}

/// What is no transform ends the start, with where it stands and what is wrong.
#[test]
fn a_statement_that_is_no_transform_ends_the_start_with_words() {
    let site = Site::local().with_config(&TRANSFORMED.replace("FROM batch", "FROM batch WHERE id > 1"));
    let sidecar = site.spawn();
    assert_ne!(wait_for_end(&sidecar).code(), Some(0));
    let said = site.log();
    assert!(said.contains("tables[orders].transform") && said.contains("it has WHERE"), "{said}");
}
