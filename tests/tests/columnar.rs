//! Arrow's IPC stream, as pyarrow writes it, into the same tables as JSON.

use std::fs;

use lakeingest_tests::calls::{body, flush, ingest, table_status};
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::readers::run_program;
use xtask::servers::{Response, Sidecar};

/// Writes `orders.arrows`, `mixed.arrows` and a compressed copy of the first into a folder.
const STREAMS: &str = r#"
import decimal, gzip, json, sys
import pyarrow as pa

folder = json.load(sys.stdin)["folder"]
rows = 5_000
orders = pa.table({
    "id": pa.array(range(rows), pa.int32()),
    "name": pa.array([f"n{row % 7}" if row % 3 else None for row in range(rows)]).dictionary_encode(),
    "at": pa.array([1_767_830_400_000_000_000 + row * 1_000_000 for row in range(rows)], pa.timestamp("ns", tz="Europe/Berlin")),
    "amount": pa.array([decimal.Decimal(row).scaleb(-2) for row in range(rows)], pa.decimal128(9, 2)),
    "tags": pa.array([["a", None, "c"][: row % 4] for row in range(rows)]),
    "props": pa.array([{"plan": "pro", "seats": row} if row % 2 else None for row in range(rows)]),
    "raw": pa.array([bytes([row % 256]) for row in range(rows)], pa.large_binary()),
    "unused": pa.nulls(rows),
})
mixed = pa.table({
    "id": pa.array([1, 2**63, 3], pa.uint64()),
    "price": pa.array([1, 2, 2**53 + 1], pa.int64()),
    "note": pa.array(["x", "y", "z"]),
})
for name, table in [("orders", orders), ("mixed", mixed)]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1_700)
    data = sink.getvalue().to_pybytes()
    open(f"{folder}/{name}.arrows", "wb").write(data)
    open(f"{folder}/{name}.arrows.gz", "wb").write(gzip.compress(data))
for compression in ["lz4", "zstd"]:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(f"{folder}/{compression}.arrows", orders.schema, options=options) as writer:
        writer.write_table(orders)
json.dump({}, sys.stdout)
"#;

fn streams() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let _: Value = run_program(STREAMS, &json!({"folder": folder.path()})).expect("the streams can be written");
    folder
}

fn send(sidecar: &Sidecar, path: &str, coding: &str, bytes: &[u8]) -> Response {
    let headers = [("content-type", "application/vnd.apache.arrow.stream"), ("content-encoding", coding)];
    sidecar.request("POST", path, &headers, Some(bytes)).expect("the sidecar answers")
}

#[test]
fn columns_arrive_with_their_types_and_values() {
    let folder = streams();
    let site = Site::local();
    let sidecar = site.start();
    let path = "/ingest?table_name=orders&partition_date=2026-01-08";
    for (coding, name) in [("identity", "orders.arrows"), ("gzip", "orders.arrows.gz")] {
        let bytes = fs::read(folder.path().join(name)).expect("it was written");
        let answer = send(&sidecar, path, coding, &bytes);
        assert_eq!((answer.status, &body(&answer)["rows"]), (200, &json!(5_000)), "{}", answer.text());
    }
    let status = table_status(&sidecar, "orders");
    let columns = status["columns"].as_array().into_iter().flatten();
    let types: Vec<String> =
        columns.map(|column| format!("{} {}", column["name"], column["type"]).replace('"', "")).collect();
    let expected = [
        "id bigint",
        "name varchar",
        "at timestamp",
        "amount decimal(9,2)",
        "tags list(varchar)",
        "props struct(plan varchar, seats bigint)",
        "raw binary",
    ];
    assert_eq!(types, expected);

    let files = format!("read_parquet('{}/data/orders/**/*.parquet')", site.lake().location());
    let found = site.lake().query(&format!(
        "SELECT count(*), count(DISTINCT id), sum(id), count(name), count(DISTINCT name), max(epoch_us(\"at\")), \
         sum(amount)::VARCHAR, sum(len(tags)), sum(props.seats), count(props), max(raw) = '\\xFF'::BLOB, min(day) FROM {files}"
    ));
    let ids: i64 = 2 * (0..5_000).sum::<i64>();
    let seats: i64 = 2 * (0..5_000).filter(|id| id % 2 == 1).sum::<i64>();
    let tags: i64 = 2 * (0..5_000).map(|id| (id % 4).min(3)).sum::<i64>();
    let names = 2 * (0..5_000).filter(|id| id % 3 != 0).count();
    let expected = [
        json!(10_000),
        json!(5_000),
        json!(ids),
        json!(names),
        json!(7),
        json!(1_767_830_400_000_000_i64 + 4_999 * 1_000),
        json!(format!("{}.{:02}", ids / 100, ids % 100)),
        json!(tags),
        json!(seats),
        json!(5_000),
        json!(true),
        json!(8),
    ];
    assert_eq!(found.rows, [expected]);
}

#[test]
fn columns_and_json_meet_in_one_table_and_what_does_not_fit_is_set_aside_after_a_crash_too() {
    let folder = streams();
    let site = Site::local().with_config("flush: {maxAge: 1h}\n");
    let sidecar = site.start();
    ingest(&sidecar, "orders", &[json!({"id": 0, "price": 0.5})]);
    let mixed = fs::read(folder.path().join("mixed.arrows")).expect("it was written");
    let answer = send(&sidecar, "/ingest/stream?table_name=orders&on_invalid=reject", "identity", &mixed);
    assert_eq!((answer.status, &body(&answer)["outcome"]), (422, &json!("refused")), "{}", answer.text());
    let answer = send(&sidecar, "/ingest/stream?table_name=orders", "identity", &mixed);
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(2)), "{}", answer.text());
    let answer = send(&sidecar, "/ingest/stream?table_name=orders", "identity", &mixed[..mixed.len() / 2]);
    assert_eq!((answer.status, &body(&answer)["errors"][0]["code"]), (400, &json!("arrow-stream")));
    for name in ["lz4.arrows", "zstd.arrows"] {
        let compressed = fs::read(folder.path().join(name)).expect("it was written");
        let answer = send(&sidecar, "/ingest/stream?table_name=orders", "identity", &compressed);
        assert_eq!((answer.status, &body(&answer)["errors"][0]["code"]), (422, &json!("compressed-buffers")), "{name}");
    }
    sidecar.kill().expect("it can be killed");

    let sidecar = site.start();
    flush(&sidecar);
    let mut rows = site.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let fields: Vec<_> = rows.iter().map(|row| ["id", "price", "note"].map(|name| row[name].clone())).collect();
    assert_eq!(fields, [[json!(0), json!(0.5), Value::Null], [json!(1), json!(1.0), json!("x")]]);
    let mut found = site.lake().quarantine("orders");
    found.sort_by_key(|row| row["record_index"].as_i64());
    let found: Vec<_> = found.iter().map(|row| (row["field"].clone(), row["record"].clone())).collect();
    let expected = [
        (json!("id"), json!(r#"{"id":"9223372036854775808","price":2,"note":"y"}"#)),
        (json!("price"), json!(r#"{"id":3,"price":9007199254740993,"note":"z"}"#)),
    ];
    assert_eq!(found, expected);
}
