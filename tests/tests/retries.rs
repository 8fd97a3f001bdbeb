//! Retries with an `Idempotency-Key`: the same request is stored once, whatever ended the first attempt.

use std::fs;

use lakeingest_tests::calls::{body, flush, health, wait_for_health, wait_until_delivered};
use lakeingest_tests::ledger::record;
use lakeingest_tests::site::Site;
use lakeingest_tests::wire::Connection;
use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};

const QUIET: &str = "flush: {maxAge: 1h}\n";

fn send(sidecar: &Sidecar, path: &str, key: &str, sent: &Value) -> Response {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    sidecar.request("POST", path, &headers, Some(sent.to_string().as_bytes())).expect("the sidecar answers")
}

fn orders(first: u64, count: u64) -> Value {
    let records: Vec<Value> = (first..first + count).map(|sequence| record(1, sequence)).collect();
    json!({"table_name": "orders", "records": records})
}

fn is_replayed(answer: &Response) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

/// Sequences that the lake holds, in order.
fn stored(site: &Site) -> Vec<u64> {
    let rows = site.lake().table("orders");
    let mut stored: Vec<u64> =
        rows.iter().map(|row| row["sequence"].as_u64().expect("a sequence is a number")).collect();
    stored.sort_unstable();
    stored
}

#[test]
fn a_retry_gets_the_first_answer_and_stores_nothing() {
    let site = Site::local().with_config(QUIET);
    let sidecar = site.start();
    let first = send(&sidecar, "/ingest", "\"order-1\"", &orders(0, 3));
    assert_eq!((first.status, is_replayed(&first)), (200, false), "{}", first.text());
    // With and without the quotes of the draft it is the same key.
    let again = send(&sidecar, "/ingest", "order-1", &orders(0, 3));
    assert_eq!((again.status, is_replayed(&again)), (200, true), "{}", again.text());
    assert_eq!(body(&first), body(&again));

    let streamed = send(&sidecar, "/ingest/stream", "order-2", &orders(3, 2));
    assert_eq!(streamed.status, 202);
    let again = send(&sidecar, "/ingest/stream", "order-2", &orders(3, 2));
    assert_eq!((again.status, is_replayed(&again)), (202, true), "{}", again.text());
    assert_eq!(body(&streamed)["batch"], body(&again)["batch"]);
    // The one that waits for the lake gets what was streamed there.
    let again = send(&sidecar, "/ingest", "order-2", &orders(3, 2));
    assert_eq!((again.status, body(&again)["durability"].as_str()), (200, Some("lake")), "{}", again.text());
    assert_eq!(stored(&site), [0, 1, 2, 3, 4]);
}

#[test]
fn a_key_that_was_used_for_something_else_is_refused() {
    let site = Site::local().with_config(QUIET);
    let sidecar = site.start();
    assert_eq!(send(&sidecar, "/ingest/stream", "order-1", &orders(0, 1)).status, 202);
    let mut other_date = orders(0, 1);
    other_date["partition_date"] = json!("2026-01-08");
    let mut other_table = orders(0, 1);
    other_table["table_name"] = json!("clicks");
    for other in [orders(1, 1), other_date, other_table] {
        let answer = send(&sidecar, "/ingest/stream", "order-1", &other);
        assert_eq!(answer.status, 422, "{}", answer.text());
        let problem = body(&answer);
        assert_eq!(
            (&problem["type"], &problem["outcome"]),
            (&json!("urn:lakeingest:problem:key-reused"), &json!("refused"))
        );
    }
    flush(&sidecar);
    assert_eq!(stored(&site), [0]);
}

#[test]
fn a_key_that_is_none_is_refused_in_words() {
    let site = Site::local();
    let sidecar = site.start();
    for key in ["", "\"\"", "two words", "a\"b", &"k".repeat(256)] {
        let answer = send(&sidecar, "/ingest/stream", key, &orders(0, 1));
        assert_eq!(answer.status, 400, "{key}: {}", answer.text());
        assert!(answer.text().contains("Idempotency-Key"), "{}", answer.text());
    }
    assert_eq!(health(&sidecar)["backlog"]["rows"], 0);
}

/// A request that is refused for what is in it leaves its key free: mended, it is taken.
#[test]
fn a_refused_request_uses_up_no_key() {
    let site = Site::local().with_config(QUIET);
    let sidecar = site.start();
    let wrong = json!({"table_name": "orders", "records": [{"no column": 1}]});
    assert_eq!(send(&sidecar, "/ingest/stream?on_invalid=reject", "order-1", &wrong).status, 422);
    let answer = send(&sidecar, "/ingest/stream", "order-1", &orders(0, 1));
    assert_eq!((answer.status, is_replayed(&answer)), (202, false));
}

/// Goal: a client that was cut off while the sidecar was killed retries and has stored once, whatever was on disk.
/// Method: the first attempt goes out in one write and the process is killed at once, many times, each with keys of its
/// own; before the retry the segment is sometimes delivered and retired.
#[test]
fn i1_after_a_kill_a_retry_with_its_key_is_stored_once() {
    const ROUNDS: u64 = 30;
    let site = Site::local().with_config("flush: {maxAge: 1s}\n");
    let mut replays = 0;
    for round in 0..ROUNDS {
        let sidecar = site.start();
        let sent = orders(round, 1).to_string();
        let request = format!(
            "POST /ingest/stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nidempotency-key: order-{round}\r\n\
             content-length: {}\r\n\r\n{sent}",
            sent.len()
        );
        let mut connection = Connection::open(sidecar.port());
        connection.send(request);
        // Some are killed before they have read it, some after they have answered.
        if round % 3 == 0 {
            connection.read_answer();
        }
        sidecar.kill().expect("it can be killed");
        drop(sidecar);

        let sidecar = site.start();
        if round % 2 == 0 {
            wait_until_delivered(&sidecar);
        }
        let answer = send(&sidecar, "/ingest/stream", &format!("order-{round}"), &orders(round, 1));
        assert_eq!(answer.status, 202, "{}", answer.text());
        replays += u64::from(is_replayed(&answer));
        assert!(round % 3 != 0 || is_replayed(&answer), "it was acknowledged before the kill");
        sidecar.kill().expect("it can be killed");
    }
    let sidecar = site.start();
    wait_until_delivered(&sidecar);
    assert_eq!(stored(&site), (0..ROUNDS).collect::<Vec<_>>());
    assert!(replays >= ROUNDS / 3, "{replays}");
}

#[test]
fn a_receipt_tells_where_a_batch_is_also_from_another_sidecar_of_the_lake() {
    let site = Site::local().with_config(QUIET);
    let sidecar = site.start();
    let batch = body(&send(&sidecar, "/ingest/stream", "order-1", &orders(0, 3)))["batch"].clone();
    let batch = batch.as_str().expect("an id is text").to_owned();
    let receipt = |sidecar: &Sidecar| sidecar.get(&format!("/receipts/{batch}")).expect("it answers");
    let answer = receipt(&sidecar);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        body(&answer),
        json!({
            "batch": batch, "table_name": "orders", "durability": "journal", "segment": "open", "known_by": "number"
        })
    );
    // A batch of another table has the number behind it.
    send(&sidecar, "/ingest/stream", "click-1", &json!({"table_name": "clicks", "records": [{"n": 1}]}));
    let never = numbers_that_never_were(&batch);
    require_unknown(&sidecar, &never);

    let files = flush(&sidecar)["files"].clone();
    let is_orders = |file: &&Value| file.as_str().is_some_and(|file| file.contains("/orders/"));
    let orders_file: Vec<_> = files.as_array().into_iter().flatten().filter(is_orders).cloned().collect();
    assert_eq!(orders_file.len(), 1, "{files}");
    let orders_file = json!(orders_file);
    let other_site = Site::on(site.lake());
    let other = other_site.start();
    wait_for_health(&other, "contact", |health| (health["status"] == "ok").then_some(()));
    for sidecar in [&sidecar, &other] {
        let answer = receipt(sidecar);
        assert_eq!(
            (&body(&answer)["durability"], &body(&answer)["files"], &body(&answer)["known_by"]),
            (&json!("lake"), &orders_file, &json!("number")),
            "{}",
            answer.text()
        );
        require_unknown(sidecar, &never);
    }
    forget_numbers(&site);
    for batch in [&batch, &never[0]] {
        let answer = sidecar.get(&format!("/receipts/{batch}")).expect("it answers");
        assert_eq!(body(&answer)["known_by"], "segment", "{}", answer.text());
    }

    let never = format!("{}9", batch.rsplit_once('-').expect("an id has parts").0.replace("orders", "clicks") + "-");
    for unknown in ["x", never.as_str()] {
        let answer = sidecar.get(&format!("/receipts/{unknown}")).expect("it answers");
        assert_eq!(answer.status, 404, "{unknown}: {}", answer.text());
    }
    let elsewhere = sidecar.get_health(&format!("/receipts/{batch}")).expect("it answers");
    assert_eq!(elsewhere.status, 404, "receipts are the application's alone");
}

/// Ids like this one with numbers and days that its segment does not have.
fn numbers_that_never_were(batch: &str) -> Vec<String> {
    let (segment, number) = batch.rsplit_once('-').expect("an id has parts");
    let number: u64 = number.parse().expect("its last part is a number");
    let numbers = [number + 1, number + 100, number - 1].map(|number| format!("{segment}-{number}"));
    let day = batch.split('-').nth(1).expect("an id has parts");
    numbers.into_iter().chain([batch.replacen(day, "19990101", 1)]).collect()
}

/// The days of a batch in the journal are not looked at, those of one in the lake are.
fn require_unknown(sidecar: &Sidecar, batches: &[String]) {
    let is_in_lake = health(sidecar)["backlog"]["rows"] == 0;
    for batch in batches.iter().filter(|batch| is_in_lake || !batch.contains("19990101")) {
        let answer = sidecar.get(&format!("/receipts/{batch}")).expect("it answers");
        assert_eq!(answer.status, 404, "{batch}: {}", answer.text());
    }
}

/// Makes the descriptions of a table those of an earlier version, which did not remember numbers.
fn forget_numbers(site: &Site) {
    let folder = site.lake_folder().join("data/_lakeingest/files/orders");
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it can be read").path();
        let mut description: Value =
            serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("a description is JSON");
        description.as_object_mut().expect("a description is an object").remove("batches").expect("it remembers");
        fs::write(&path, description.to_string()).expect("it can be written");
    }
}
