//! Arrow's IPC stream and Parquet, as pyarrow and DuckDB write them, into the same tables as JSON.

use std::fs;

use lakeingest_tests::calls::{body, flush, ingest, table_status, wait_until_delivered};
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::readers::run_program;
use xtask::servers::{Response, Sidecar};

/// Writes `orders` and `mixed` as streams and as Parquet, and copies of the first that are compressed in every way, into a
/// folder.
const STREAMS: &str = r#"
import decimal, gzip, json, sys
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

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
for name, table in [("orders", orders), ("mixed", mixed)]:
    pq.write_table(table, f"{folder}/{name}.parquet", compression="none")
for compression in ["snappy", "gzip", "zstd", "lz4", "brotli"]:
    pq.write_table(orders, f"{folder}/{compression}.parquet", compression=compression, row_group_size=1_700)
pq.write_table(
    orders, f"{folder}/second.parquet", compression="zstd", data_page_version="2.0", write_page_checksum=True,
    data_page_size=4_096, use_dictionary=False,
)
pq.write_table(orders, f"{folder}/delta.parquet", use_dictionary=False, column_encoding={"name": "DELTA_BYTE_ARRAY"})
database = duckdb.connect()
database.sql("SET TimeZone = 'UTC'")
database.sql(f"COPY (SELECT * EXCLUDE (unused) FROM orders) TO '{folder}/duckdb.parquet' (FORMAT parquet, COMPRESSION zstd)")
text = pa.array(["x" * 65_536]).dictionary_encode().take(pa.array([0] * 500))
pq.write_table(pa.table({"text": text}), f"{folder}/long.parquet", compression="none")
json.dump({}, sys.stdout)
"#;

fn streams() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let _: Value = run_program(STREAMS, &json!({"folder": folder.path()})).expect("the streams can be written");
    folder
}

const STREAM: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";

fn send(sidecar: &Sidecar, path: &str, content_type: &str, coding: &str, bytes: &[u8]) -> Response {
    let headers = [("content-type", content_type), ("content-encoding", coding)];
    sidecar.request("POST", path, &headers, Some(bytes)).expect("the sidecar answers")
}

#[test]
fn columns_arrive_with_their_types_and_values() {
    let folder = streams();
    let site = Site::local();
    let sidecar = site.start();
    let path = "/ingest?table_name=orders&partition_date=2026-01-08";
    for (content_type, coding, name) in [(STREAM, "identity", "orders.arrows"), (STREAM, "gzip", "orders.arrows.gz")] {
        let bytes = fs::read(folder.path().join(name)).expect("it was written");
        let answer = send(&sidecar, path, content_type, coding, &bytes);
        assert_eq!((answer.status, &body(&answer)["rows"]), (200, &json!(5_000)), "{}", answer.text());
    }
    assert_orders(&site, &sidecar, 2);
}

/// That the table holds the rows of `orders` so many times.
fn assert_orders(site: &Site, sidecar: &Sidecar, times: i64) {
    let status = table_status(sidecar, "orders");
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
    let ids: i64 = times * (0..5_000).sum::<i64>();
    let seats: i64 = times * (0..5_000).filter(|id| id % 2 == 1).sum::<i64>();
    let tags: i64 = times * (0..5_000).map(|id| (id % 4).min(3)).sum::<i64>();
    let names = times * (0..5_000).filter(|id| id % 3 != 0).count() as i64;
    let expected = [
        json!(times * 5_000),
        json!(5_000),
        json!(ids),
        json!(names),
        json!(7),
        json!(1_767_830_400_000_000_i64 + 4_999 * 1_000),
        json!(format!("{}.{:02}", ids / 100, ids % 100)),
        json!(tags),
        json!(seats),
        json!(times * 2_500),
        json!(true),
        json!(8),
    ];
    assert_eq!(found.rows, [expected]);
}

#[test]
fn files_arrive_with_their_types_and_values_however_they_are_compressed() {
    let folder = streams();
    let site = Site::local();
    let sidecar = site.start();
    let path = "/ingest?table_name=orders&partition_date=2026-01-08";
    let names = ["orders", "snappy", "gzip", "zstd", "lz4", "second", "duckdb"];
    for name in names {
        let bytes = fs::read(folder.path().join(format!("{name}.parquet"))).expect("it was written");
        let answer = send(&sidecar, path, PARQUET, "identity", &bytes);
        assert_eq!((answer.status, &body(&answer)["rows"]), (200, &json!(5_000)), "{name}: {}", answer.text());
    }
    for name in ["brotli", "delta"] {
        let bytes = fs::read(folder.path().join(format!("{name}.parquet"))).expect("it was written");
        let answer = send(&sidecar, path, PARQUET, "identity", &bytes);
        assert_eq!((answer.status, &body(&answer)["errors"][0]["code"]), (422, &json!("unsupported-pages")), "{name}");
    }
    assert_orders(&site, &sidecar, names.len() as i64);
}

/// Invariant I12: a segment is as long as its values are, however short the bodies are that name them.
#[test]
fn i12_a_short_body_of_long_values_fills_its_segment() {
    let folder = streams();
    let site = Site::local().with_config("flush: {maxBytes: 16Mi, maxAge: 1h}\n");
    let sidecar = site.start();
    let bytes = fs::read(folder.path().join("long.parquet")).expect("it was written");
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
    let answer = send(&sidecar, "/ingest/stream?table_name=texts", PARQUET, "identity", &bytes);
    assert_eq!((answer.status, &body(&answer)["rows"]), (202, &json!(500)), "{}", answer.text());
    wait_until_delivered(&sidecar);
    let files = format!("read_parquet('{}/data/texts/**/*.parquet')", site.lake().location());
    let found =
        site.lake().query(&format!("SELECT count(*), min(len(\"text\")), count(DISTINCT \"text\") FROM {files}"));
    assert_eq!(found.rows, [[json!(500), json!(65_536), json!(1)]]);
}

#[test]
fn columns_and_json_meet_in_one_table_and_what_does_not_fit_is_set_aside_after_a_crash_too() {
    let folder = streams();
    let site = Site::local().with_config("flush: {maxAge: 1h}\n");
    let sidecar = site.start();
    ingest(&sidecar, "orders", &[json!({"id": 0, "price": 0.5})]);
    for (content_type, name, fault) in
        [(STREAM, "mixed.arrows", "arrow-stream"), (PARQUET, "mixed.parquet", "parquet-file")]
    {
        let mixed = fs::read(folder.path().join(name)).expect("it was written");
        let answer =
            send(&sidecar, "/ingest/stream?table_name=orders&on_invalid=reject", content_type, "identity", &mixed);
        assert_eq!((answer.status, &body(&answer)["outcome"]), (422, &json!("refused")), "{}", answer.text());
        let answer = send(&sidecar, "/ingest/stream?table_name=orders", content_type, "identity", &mixed);
        assert_eq!((answer.status, &body(&answer)["quarantined"]), (202, &json!(2)), "{}", answer.text());
        let half = &mixed[..mixed.len() / 2];
        let answer = send(&sidecar, "/ingest/stream?table_name=orders", content_type, "identity", half);
        assert_eq!((answer.status, &body(&answer)["errors"][0]["code"]), (400, &json!(fault)));
    }
    for name in ["lz4.arrows", "zstd.arrows"] {
        let compressed = fs::read(folder.path().join(name)).expect("it was written");
        let answer = send(&sidecar, "/ingest/stream?table_name=orders", STREAM, "identity", &compressed);
        assert_eq!((answer.status, &body(&answer)["errors"][0]["code"]), (422, &json!("compressed-buffers")), "{name}");
    }
    sidecar.kill().expect("it can be killed");

    let sidecar = site.start();
    flush(&sidecar);
    let mut rows = site.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let fields: Vec<_> = rows.iter().map(|row| ["id", "price", "note"].map(|name| row[name].clone())).collect();
    let mixed = [json!(1), json!(1.0), json!("x")];
    assert_eq!(fields, [[json!(0), json!(0.5), Value::Null], mixed.clone(), mixed]);
    let mut found = site.lake().quarantine("orders");
    found.sort_by_key(|row| (row["record_index"].as_i64(), row["field"].to_string()));
    let found: Vec<_> = found.iter().map(|row| (row["field"].clone(), row["record"].clone())).collect();
    let expected = [
        (json!("id"), json!(r#"{"id":"9223372036854775808","price":2,"note":"y"}"#)),
        (json!("price"), json!(r#"{"id":3,"price":9007199254740993,"note":"z"}"#)),
    ];
    let twice: Vec<_> = expected.into_iter().flat_map(|row| [row.clone(), row]).collect();
    assert_eq!(found, twice);
}
