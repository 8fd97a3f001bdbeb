//! Tests of the S3 server as a client sees it.

use super::*;
use crate::readers::{chdb_rows, clickhouse_source, duckdb_rows};
use crate::servers::sockets::listening_addresses;

fn write_rows(access: &S3Access, count: u32) -> Result<()> {
    let sql = format!("COPY (SELECT range AS number FROM range({count})) TO 's3://lake-data/data/numbers.parquet'");
    duckdb_rows(&sql, Some(access)).map(drop)
}

#[test]
fn both_readers_find_what_was_written_and_a_restart_keeps_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = WeedOptions::new(folder.path());
    let weed = Weed::start(options.clone()).expect("it starts");
    write_rows(weed.access(), 1_000).expect("the bucket is there and the identity may write");
    let s3_port = weed.s3_port();
    weed.server().stop().expect("it stops");
    drop(weed);

    let weed = Weed::start(WeedOptions { s3_port: Some(s3_port), ..options }).expect("it starts again");
    assert_eq!(weed.s3_port(), s3_port);
    let sql = |source: &str| format!("SELECT count(*) AS rows, sum(number) AS total FROM {source}");
    let duckdb = duckdb_rows(&sql("read_parquet('s3://lake-data/data/*.parquet')"), Some(weed.access()));
    let clickhouse = chdb_rows(&sql(&clickhouse_source(weed.access(), "data/*.parquet")));
    let expected = [[json!(1_000), json!(499_500)]];
    assert_eq!(duckdb.expect("DuckDB answers").rows, expected);
    assert_eq!(clickhouse.expect("ClickHouse answers").rows, expected);
}

#[test]
fn another_identity_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let weed = Weed::start(WeedOptions::new(folder.path())).expect("it starts");
    let stranger = S3Access { secret_key: "guessed".to_owned(), ..weed.access().clone() };
    write_rows(&stranger, 1).expect_err("the signature is wrong");
    write_rows(weed.access(), 1).expect("the server's own identity may write");
}

#[test]
fn it_listens_on_the_loopback_address_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let weed = Weed::start(WeedOptions::new(folder.path())).expect("it starts");
    let addresses = listening_addresses(weed.server().pid());
    assert!(addresses.iter().any(|address| address.ends_with(&format!(":{:04X}", weed.s3_port()))), "{addresses:?}");
    // 127.0.0.1 in the byte order of the machine.
    assert!(addresses.iter().all(|address| address.starts_with("0100007F:")), "{addresses:?}");
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let port = listener.local_addr().expect("it listens").port();
    let options = WeedOptions { s3_port: Some(port), ..WeedOptions::new(folder.path()) };
    let message = format!("{:#}", Weed::start(options).expect_err("the port is taken"));
    assert!(message.contains(&port.to_string()), "{message}");
}
