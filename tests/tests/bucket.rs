//! The lake in a bucket: two engines agree on it, and whatever is wrong with it, streams are acknowledged, `/health`
//! says why, and everything is delivered once it is repaired.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lakeingest_tests::calls::{
    body, flush, health, ingest, post, reasons, table_status, wait_for_reason, wait_until_delivered,
};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Fate, Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::Site;
use lakeingest_tests::store::{Kind, Place};
use serde_json::{Value, json};
use xtask::readers::{chdb_rows, clickhouse_source, duckdb_rows, duckdb_source};
use xtask::servers::{S3Access, Sidecar};
use xtask::wait::{self, Look};

/// Streams `count` records of `producer` into a table; each must be acknowledged.
fn stream_many(ledger: &Ledger, sidecar: &Sidecar, table: &str, producer: u64, count: u64) {
    for sequence in 0..count {
        ledger.stream(sidecar, table, record(producer, sequence));
    }
}

/// Whether two engines mean the same: one of them writes -7 for the double -7.0.
fn same(of_duckdb: &Value, of_clickhouse: &Value) -> bool {
    match (of_duckdb, of_clickhouse) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        // Only one of them tells the zone.
        (Value::String(one), Value::String(other)) => one.trim_end_matches("+00") == other.trim_end_matches("+00"),
        // ClickHouse knows no list that is null: it is empty there.
        (Value::Null, Value::Array(other)) => other.is_empty(),
        (Value::Array(one), Value::Array(other)) => same_row(one, other),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        (one, other) => one == other,
    }
}

fn same_row(of_duckdb: &[Value], of_clickhouse: &[Value]) -> bool {
    of_duckdb.len() == of_clickhouse.len() && of_duckdb.iter().zip(of_clickhouse).all(|(one, other)| same(one, other))
}

lakeingest_tests::on_both_kinds! {
    both_engines_read_the_same_rows_by_the_same_glob,
    i8_a_dead_endpoint_at_the_start_delays_the_lake_and_nothing_else,
    a_wrong_secret_is_told_and_the_right_one_delivers_what_was_journaled,
    a_missing_bucket_is_told_and_delivered_to_once_it_is_there,
    a_server_that_dies_under_load_gets_everything_once_when_it_is_back,
    ingest_answers_202_at_its_deadline_while_the_server_is_away_and_it_counts,
}

fn both_engines_read_the_same_rows_by_the_same_glob(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let site = Site::on(&Lake::bucket(store.access()));
    let sidecar = site.start();
    let ledger = Ledger::default();
    for (producer, date) in [(1_u64, "2013-01-05"), (2, "2013-11-30"), (3, "2024-02-29")] {
        let records: Vec<Value> = (0..500).map(|sequence| record(producer, sequence)).collect();
        let sent = json!({"table_name": "flights", "records": records, "partition_date": date});
        let answer = post(&sidecar, "/ingest", &sent);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let file = body(&answer)["files"][0].as_str().expect("a file is text").to_owned();
        assert!(file.starts_with("s3://lake-data/data/flights/year=20"), "{file}");
    }
    stream_many(&ledger, &sidecar, "events", 1, 5);
    flush(&sidecar);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 5);

    let columns = "producer, sequence, text, amount, even, nested, points, sometimes, year, month, day, due, moment";
    let sql = |source: &str| format!("SELECT {columns} FROM {source} ORDER BY producer, sequence");
    let glob = "data/flights/**/*.parquet";
    let access = store.access();
    let duckdb = duckdb_rows(&sql(&duckdb_source("s3://lake-data", glob)), Some(access)).expect("DuckDB answers");
    let clickhouse = chdb_rows(&sql(&clickhouse_source(access, glob))).expect("ClickHouse answers");
    assert_eq!(duckdb.rows.len(), 1_500);
    for (of_duckdb, of_clickhouse) in duckdb.rows.iter().zip(&clickhouse.rows) {
        assert!(same_row(of_duckdb, of_clickhouse), "{of_duckdb:?} is not {of_clickhouse:?}");
    }
    assert_eq!(clickhouse.rows.len(), 1_500);
    let moment = |day: u32, time: &str| json!(format!("2026-01-{day:02} {time}+00"));
    let first = [json!(2013), json!(1), json!(5), json!("2000-02-28"), moment(8, "00:05:30.000001")];
    let last = [json!(2024), json!(2), json!(29), json!("2099-02-28"), moment(9, "19:05:30.004991")];
    assert_eq!((&duckdb.rows[0][8..], &duckdb.rows[1_499][8..]), (&first[..], &last[..]));
}

fn i8_a_dead_endpoint_at_the_start_delays_the_lake_and_nothing_else(kind: Kind) {
    let place = Place::new(kind);
    let site = Site::on(&Lake::bucket(&place.access())).with_config("flush: {maxAge: 1s}\n");
    let sidecar = site.start();
    let ledger = Ledger::default();
    stream_many(&ledger, &sidecar, "events", 1, 20);
    let message = wait_for_reason(&sidecar, "StorageUnreachable");
    assert!(message.contains("_lakeingest/owner.json"), "{message}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(sidecar.get_health(path).expect("it answers").status, 200, "{path}");
    }
    stream_many(&ledger, &sidecar, "orders", 2, 20);
    // The first segment is due by its age, and a failure of its delivery is shown at the table.
    wait::until("the failure of a delivery", || {
        let seen = table_status(&sidecar, "events");
        Ok(if seen["last_error"].is_string() { Look::Ready(()) } else { Look::NotYet(seen.to_string()) })
    })
    .expect("it is shown");
    assert_eq!(health(&sidecar)["backlog"]["rows"], 40);

    let store = place.start();
    wait_until_delivered(&sidecar);
    assert_eq!(reasons(&sidecar), Vec::<String>::new());
    assert_eq!(table_status(&sidecar, "events").get("last_error"), None);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 40);
    assert_eq!(sidecar.stop().expect("it ends").code(), Some(0));
    drop(store);
}

fn a_wrong_secret_is_told_and_the_right_one_delivers_what_was_journaled(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let mut site = Site::on(&Lake::bucket(store.access())).with_config("flush: {maxAge: 1s}\n");
    let wrong = S3Access { secret_key: "a-wrong-secret-4711".to_owned(), ..store.access().clone() };
    site.options.environment = wrong.environment();
    let sidecar = site.start();
    let ledger = Ledger::default();
    stream_many(&ledger, &sidecar, "events", 1, 10);
    let message = wait_for_reason(&sidecar, "CredentialsInvalid");
    let secrets = ["a-wrong-secret-4711", "lakesecret"];
    assert!(secrets.iter().all(|secret| !message.contains(secret)), "{message}");
    sidecar.kill().expect("it can be killed");
    drop(sidecar);
    assert_eq!(site.lake().objects().len(), 0, "nothing was written");

    site.options.environment = store.access().environment();
    let sidecar = site.start();
    stream_many(&ledger, &sidecar, "events", 2, 10);
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 20);
    // I13: neither secret is in anything that it has said.
    let log = site.log();
    assert!(secrets.iter().all(|secret| !log.contains(secret)));
}

fn a_missing_bucket_is_told_and_delivered_to_once_it_is_there(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let access = S3Access { bucket: "other-lake".to_owned(), ..store.access().clone() };
    let site = Site::on(&Lake::bucket(&access)).with_config("flush: {maxAge: 1s}\n");
    let sidecar = site.start();
    let ledger = Ledger::default();
    stream_many(&ledger, &sidecar, "events", 1, 10);
    wait_for_reason(&sidecar, "BucketMissing");
    assert_eq!(health(&sidecar)["backlog"]["rows"], 10);

    access.make_bucket().expect("the bucket can be made");
    wait_until_delivered(&sidecar);
    assert_eq!(verify(&ledger, site.lake()).acknowledged, 10);
}

fn a_server_that_dies_under_load_gets_everything_once_when_it_is_back(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let site = Site::on(&Lake::bucket(store.access())).with_config("flush: {maxRows: 50, maxAge: 1s}\n");
    let sidecar = site.start();
    ingest(&sidecar, "others", &[json!({"n": 1})]);
    let ledger = Ledger::default();
    let (sequence, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let store = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let next = sequence.fetch_add(1, Ordering::Relaxed);
                    ledger.stream(&sidecar, "events", record(1, next));
                    // Bounded, so that the lake stays small: the outage lasts as long as it takes to be noticed.
                    if next > 20_000 {
                        return;
                    }
                }
            });
        }
        wait::until("the first files", || {
            let published = table_status(&sidecar, "events")["published_files"].as_u64().unwrap_or(0);
            Ok(if published >= 3 { Look::Ready(()) } else { Look::NotYet(format!("{published} files")) })
        })
        .expect("they come");
        store.kill();
        wait_for_reason(&sidecar, "StorageUnreachable");
        let store = place.start();
        wait::until("the storage to be reached again", || {
            let reasons = reasons(&sidecar);
            Ok(if reasons.is_empty() { Look::Ready(()) } else { Look::NotYet(reasons.join(", ")) })
        })
        .expect("it is reached");
        is_over.store(true, Ordering::Relaxed);
        store
    });
    flush(&sidecar);
    wait_until_delivered(&sidecar);
    let tally = verify(&ledger, site.lake());
    assert_eq!(tally.acknowledged, ledger.entries().len());
    drop(store);
}

fn ingest_answers_202_at_its_deadline_while_the_server_is_away_and_it_counts(kind: Kind) {
    let place = Place::new(kind);
    let store = place.start();
    let site = Site::on(&Lake::bucket(store.access()));
    let sidecar = site.start();
    let ledger = Ledger::default();
    let before = ledger.send(&sidecar, "/ingest", "events", Shape::Records, &[record(1, 0)]).expect("it answers");
    assert_eq!(before.status, 200, "{}", before.text());
    store.kill();
    let records = [record(1, 1), record(1, 2)];
    let sent = json!({"table_name": "events", "records": records});
    let answer = post(&sidecar, "/ingest?wait=1", &sent);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = body(&answer);
    assert_eq!(answer["status"], "accepted");
    assert_eq!(answer["durability"], "journal");
    assert_eq!(answer["rows"], 2);
    assert_eq!(answer["buffered_rows"], 2);
    let left = post(&sidecar, "/flush?wait=1", &json!({}));
    assert_eq!(left.status, 202, "{}", left.text());
    assert_eq!(body(&left)["buffered_rows"], 2);

    let store = place.start();
    wait_until_delivered(&sidecar);
    assert_eq!(ledger.count(Fate::Acknowledged), 1);
    let mut stored: Vec<_> = site.lake().table("events").iter().map(|row| row["sequence"].as_u64()).collect();
    stored.sort_unstable();
    assert_eq!(stored, [Some(0), Some(1), Some(2)]);
    drop(store);
}
