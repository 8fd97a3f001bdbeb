//! Many writers of one lake: one type wins for ever, and what does not fit it is in the quarantine, counted.

use lakeingest_tests::calls::{body, flush, health, ingest, metric, post, table_status, wait_until_delivered};
use lakeingest_tests::lake::Lake;
use lakeingest_tests::ledger::{Ledger, Shape, record};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::{Site, temporary_folder};
use serde_json::{Value, json};
use xtask::ports::PortBlock;
use xtask::servers::{S3Access, Sidecar, Weed, WeedOptions};

/// A record whose column `value` has a type of its writer's choice.
fn with_value(producer: u64, sequence: u64, value: Value) -> Value {
    let mut record = record(producer, sequence);
    record["value"] = value;
    record
}

#[test]
fn i9_the_type_that_is_registered_first_stands_and_the_others_rows_are_quarantined() {
    let first = Site::local();
    let second = Site::on(first.lake());
    let (one, two) = (first.start(), second.start());
    let ledger = Ledger::default();
    for sequence in 0..10 {
        // Neither has seen a registry: each acknowledges what it understands.
        ledger.stream(&one, "events", with_value(1, sequence, json!(sequence)));
        ledger.stream(&two, "events", with_value(2, sequence, json!("text")));
        // These fit whatever wins.
        ledger.stream(&two, "events", with_value(2, 100 + sequence, Value::Null));
    }
    flush(&one);
    let flushed = flush(&two);
    assert_eq!(flushed["quarantined"], 10);
    assert_eq!(flushed["rows"], 20);

    let tally = verify(&ledger, first.lake());
    assert_eq!((tally.acknowledged, tally.quarantined), (30, 10));
    let quarantine = first.lake().quarantine("events");
    for row in &quarantine {
        assert_eq!((&row["field"], &row["code"]), (&json!("value"), &json!("type-mismatch")), "{row:?}");
        assert!(row["detail"].as_str().is_some_and(|words| words.contains("bigint") && words.contains("varchar")));
        assert!(row["record"].as_str().is_some_and(|record| record.contains(r#""producer":2"#)));
        assert_eq!(row["record_index"], json!(0));
        assert!(row["batch"].is_string() && row["received_at"].is_string() && row["partition_date"].is_string());
    }
    assert_eq!(table_status(&one, "events")["quarantined_rows"], 0);
    assert_eq!(table_status(&two, "events")["quarantined_rows"], 10);
    assert_eq!(table_status(&two, "events")["published_rows"], 10);
    assert_eq!(metric(&two, "lakeingest_sidecar_quarantined_rows_total").to_string(), "10");
    assert_eq!(health(&two)["status"], "ok");

    // The one that lost has learnt the type: the next record of the other does not fit already at the door.
    let records = json!([with_value(2, 1_000, json!("text"))]);
    let refused = post(&two, "/ingest?on_invalid=reject", &json!({"table_name": "events", "records": records}));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(body(&refused)["errors"][0]["pointer"], "/records/0/value");
    let answer = ingest(&two, "events", &[with_value(2, 1_001, json!(5))]);
    assert_eq!(answer["quarantined"], 0);
}

/// What only one of them takes for timestamps is stored as the text that it is, where the other one was first.
#[test]
fn i9_a_timestamp_is_text_where_another_writer_has_registered_text() {
    let first = Site::local();
    let second = Site::on(first.lake());
    let (one, two) = (first.start(), second.start());
    assert_eq!(flush(&two)["rows"], 0);
    ingest(&one, "events", &[json!({"at": "2026-01-08T10:05:30.50Z"}), json!({"at": "yesterday"})]);
    let answer = ingest(&two, "events", &[json!({"at": "2026-01-08T10:05:30.50+01:00"})]);
    assert_eq!(answer["quarantined"], 0);
    let mut stored: Vec<String> =
        first.lake().table("events").iter().filter_map(|row| Some(row["at"].as_str()?.to_owned())).collect();
    stored.sort();
    assert_eq!(stored, ["2026-01-08T10:05:30.50+01:00", "2026-01-08T10:05:30.50Z", "yesterday"]);
}

#[test]
fn an_answer_of_ingest_counts_what_was_quarantined_of_its_own_records() {
    let first = Site::local();
    let second = Site::on(first.lake());
    let (one, two) = (first.start(), second.start());
    let ledger = Ledger::default();
    // The second is up and has seen an empty registry; then the first decides.
    assert_eq!(flush(&two)["rows"], 0);
    let decisive = ledger.send(&one, "/ingest", "events", Shape::Record, &[with_value(0, 0, json!(1))]);
    assert_eq!(decisive.expect("it answers").status, 200);
    // Another batch of the same segment, whose rows count for itself alone.
    ledger.stream(&two, "events", with_value(2, 50, json!("text")));
    let records: Vec<Value> = (0..6)
        .map(|sequence| with_value(2, sequence, if sequence < 4 { json!("text") } else { Value::Null }))
        .collect();
    let answer = ledger.send(&two, "/ingest", "events", Shape::Records, &records).expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = body(&answer);
    assert_eq!(answer["rows"], 6);
    assert_eq!(answer["quarantined"], 4);
    assert_eq!(answer["durability"], "lake");
    let files = answer["files"].as_array().expect("files is an array");
    let in_quarantine = files.iter().filter(|file| file.as_str().is_some_and(|file| file.contains("/_quarantine/")));
    assert_eq!((files.len(), in_quarantine.count()), (2, 1), "{files:?}");
    let tally = verify(&ledger, first.lake());
    assert_eq!((tally.acknowledged, tally.quarantined), (8, 5));
}

#[test]
fn writers_that_met_no_lake_yet_agree_when_it_appears() {
    let ports = PortBlock::claim().expect("some ports are free");
    let folder = temporary_folder();
    let options = WeedOptions { s3_port: Some(ports.port(0)), ..WeedOptions::new(folder.path()) };
    // As the server will say of itself.
    let access = S3Access {
        endpoint: format!("http://127.0.0.1:{}", ports.port(0)),
        access_key: "lakekey".to_owned(),
        secret_key: "lakesecret".to_owned(),
        region: "us-east-1".to_owned(),
        bucket: "lake-data".to_owned(),
    };
    let lake = Lake::bucket(&access);
    let sites = [(); 3].map(|()| Site::on(&lake).with_config("flush: {maxAge: 1s}\n"));
    let sidecars = sites.each_ref().map(Site::start);
    let ledger = Ledger::default();
    let types = [json!(1), json!("text"), json!(true)];
    for sequence in 0..30 {
        for (producer, (sidecar, value)) in (0..).zip(sidecars.iter().zip(&types)) {
            ledger.stream(sidecar, "events", with_value(producer, sequence, value.clone()));
            // Columns that each has alone reach the registry whoever wins.
            let mut own = record(producer, 1_000 + sequence);
            own[format!("own_{producer}")] = json!(sequence);
            ledger.stream(sidecar, "events", own);
        }
    }
    let weed = Weed::start(options).expect("the S3 server starts");
    assert_eq!(weed.access().endpoint, access.endpoint);
    for sidecar in &sidecars {
        wait_until_delivered(sidecar);
    }
    let tally = verify(&ledger, &lake);
    // One of three types won, and the rows of the two others are in the quarantine.
    assert_eq!((tally.acknowledged, tally.quarantined), (180, 60));
    let shown: u64 = sidecars.iter().filter_map(|of| table_status(of, "events")["quarantined_rows"].as_u64()).sum();
    assert_eq!(shown, 60);
    let columns: Vec<String> = lake.table("events").swap_remove(0).into_keys().collect();
    assert!(["own_0", "own_1", "own_2", "value"].iter().all(|name| columns.contains(&(*name).to_owned())));
    for sidecar in &sidecars {
        assert_eq!(sidecar.stop().expect("it ends").code(), Some(0));
    }
    drop(weed);
}

/// Fifty pods meet a new column at one moment, each with a type of its own for it. Invariant I9: one of them wins, for all.
#[test]
fn i9_fifty_writers_of_five_types_agree_on_one_and_lose_nothing() {
    let folder = temporary_folder();
    let weed = Weed::start(WeedOptions::new(folder.path())).expect("the S3 server starts");
    let lake = Lake::bucket(weed.access());
    let sites: Vec<Site> = (0..50).map(|_| Site::on(&lake).with_config("flush: {maxAge: 1h}\n")).collect();
    let sidecars: Vec<Sidecar> = sites.iter().map(Site::start).collect();
    let (ledger, kinds) = (Ledger::default(), ["bigint", "varchar", "boolean", "double", "timestamp"]);
    let value = |kind: &str, sequence: u64| match kind {
        "bigint" => json!(sequence),
        "varchar" => json!("text"),
        "boolean" => json!(true),
        "double" => json!(0.5),
        _ => json!("2026-01-08T10:05:30Z"),
    };
    for (producer, (sidecar, kind)) in (0..).zip(sidecars.iter().zip(kinds.iter().cycle())) {
        for sequence in 0..4 {
            ledger.stream(sidecar, "events", with_value(producer, sequence, value(kind, sequence)));
            ledger.stream(sidecar, "events", with_value(producer, 100 + sequence, Value::Null));
        }
    }
    std::thread::scope(|scope| {
        let flushes: Vec<_> = sidecars.iter().map(|sidecar| scope.spawn(|| flush(sidecar))).collect();
        flushes.into_iter().for_each(|flush| drop(flush.join().expect("everything reaches the lake")));
    });
    let columns = table_status(&sidecars[0], "events")["columns"].clone();
    let mut columns = columns.as_array().into_iter().flatten();
    let winner = columns.find(|column| column["name"] == "value").expect("the column is registered")["type"].clone();
    // A double holds the small integers, and a text the timestamps.
    let losers = match winner.as_str() {
        Some("double" | "varchar") => 3,
        Some("bigint" | "boolean" | "timestamp") => 4,
        other => panic!("{other:?} is nobody's type"),
    };
    let tally = verify(&ledger, &lake);
    assert_eq!((tally.acknowledged, tally.quarantined), (50 * 8, losers * 10 * 4), "{winner} has won");
}
