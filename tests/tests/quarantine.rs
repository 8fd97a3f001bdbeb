//! Records that do not fit their table: they are stored aside, as they came and with the reason, the answer says how many,
//! and their neighbours are stored as if they had come alone.

use lakeingest_tests::calls::{body, flush, ingest, metric, post, stream, table_status};
use lakeingest_tests::lake::Row;
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};

const QUIET: &str = "flush: {maxAge: 1h}\n";

/// One that fits between some that do not.
fn mixed() -> Value {
    json!([
        {"id": "x", "fresh": 1},
        {"id": 1, "name": "fits"},
        {"Id": 2},
        {"name": 5.5, "id": 3},
        {"year": 1999},
        {"not a name": null},
    ])
}

/// Field and code of each of the records in [`mixed`] that do not fit.
const REASONS: [(&str, &str); 5] = [
    ("id", "type-mismatch"),
    ("Id", "column-case"),
    ("name", "type-mismatch"),
    ("year", "partition-column-mismatch"),
    ("(10 bytes)", "column-name"),
];

/// A sidecar whose table `events` knows the types of two columns.
fn begin() -> (Site, Sidecar) {
    let site = Site::local().with_config(QUIET);
    let sidecar = site.start();
    assert_eq!(ingest(&sidecar, "events", &[json!({"id": 0, "name": "first"})])["quarantined"], 0);
    (site, sidecar)
}

/// Sends [`mixed`] with a key.
fn send(sidecar: &Sidecar, path: &str) -> Response {
    let headers = [("content-type", "application/json"), ("idempotency-key", "mixed-1")];
    let sent = json!({"table_name": "events", "records": mixed()}).to_string();
    sidecar.request("POST", path, &headers, Some(sent.as_bytes())).expect("the sidecar answers")
}

fn sorted_quarantine(site: &Site) -> Vec<Row> {
    let mut rows = site.lake().quarantine("events");
    rows.sort_by_key(|row| row["record_index"].as_u64());
    rows
}

/// The lake has what [`begin`] and [`mixed`] were: each record once, in the table or in its quarantine.
fn verify(site: &Site) {
    let mut table: Vec<(Value, Value)> =
        site.lake().table("events").into_iter().map(|row| (row["id"].clone(), row["name"].clone())).collect();
    table.sort_by_key(|(id, _)| id.as_u64());
    assert_eq!(table, [(json!(0), json!("first")), (json!(1), json!("fits"))]);
    let quarantine = sorted_quarantine(site);
    let reasons: Vec<_> = quarantine.iter().map(|row| (row["field"].as_str(), row["code"].as_str())).collect();
    assert_eq!(reasons, REASONS.map(|(field, code)| (Some(field), Some(code))));
    let records: Vec<Value> = quarantine
        .iter()
        .map(|row| serde_json::from_str(row["record"].as_str().expect("a record is text")).expect("it is JSON"))
        .collect();
    let mut sent = mixed().as_array().cloned().unwrap_or_default();
    sent.remove(1);
    assert_eq!(records, sent);
}

#[test]
fn i5_a_record_that_does_not_fit_is_set_aside_and_its_neighbours_are_stored() {
    let (site, sidecar) = begin();
    let answer = send(&sidecar, "/ingest");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = body(&answer);
    assert_eq!(
        (&answer["rows"], &answer["quarantined"], &answer["durability"]),
        (&json!(6), &json!(5), &json!("lake"))
    );
    assert_eq!(answer["files"].as_array().map(Vec::len), Some(2), "{answer}");
    let first = json!({
        "index": 0,
        "pointer": "/records/0/id",
        "code": "type-mismatch",
        "detail": "column is bigint, value is a string",
    });
    assert_eq!((answer["errors"].as_array().map(Vec::len), &answer["errors"][0]), (Some(5), &first));
    verify(&site);
    // What does not fit makes no column.
    let status = table_status(&sidecar, "events");
    assert_eq!(status["columns"], json!([{"name": "id", "type": "bigint"}, {"name": "name", "type": "varchar"}]));
    assert_eq!((&status["published_rows"], &status["quarantined_rows"]), (&json!(2), &json!(5)));
    assert_eq!(metric(&sidecar, "lakeingest_sidecar_quarantined_rows_total"), 5.0);
    // A type that only a record had which does not fit is nobody's.
    stream(&sidecar, "events", &json!({"fresh": "text"}));
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 3);
}

/// What the door has counted is in the batch's own frame, and the verdict is the same after a crash.
#[test]
fn i5_a_crash_changes_nothing_of_what_is_set_aside() {
    let (site, sidecar) = begin();
    let answer = send(&sidecar, "/ingest/stream");
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = body(&answer);
    assert_eq!((&answer["rows"], &answer["quarantined"]), (&json!(6), &json!(5)), "{answer}");
    let again = send(&sidecar, "/ingest/stream");
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")), "{}", again.text());
    assert_eq!((&body(&again)["quarantined"], &body(&again)["batch"]), (&json!(5), &answer["batch"]));

    sidecar.kill().expect("it can be killed");
    let sidecar = site.start();
    flush(&sidecar);
    verify(&site);
    // From the key log, once the frame is gone.
    sidecar.kill().expect("it can be killed");
    let sidecar = site.start();
    for (path, status) in [("/ingest/stream", 202), ("/ingest", 200)] {
        let again = send(&sidecar, path);
        assert_eq!((again.status, again.header("idempotent-replayed")), (status, Some("true")), "{}", again.text());
        assert_eq!((&body(&again)["quarantined"], &body(&again)["batch"]), (&json!(5), &answer["batch"]));
    }
    verify(&site);
}

#[test]
fn a_request_of_records_that_do_not_fit_alone_is_set_aside_whole() {
    let (site, sidecar) = begin();
    let answer = ingest(&sidecar, "events", &[json!({"id": "a"}), json!({"id": "b"})]);
    assert_eq!((&answer["rows"], &answer["quarantined"]), (&json!(2), &json!(2)));
    let files = answer["files"].as_array().cloned().unwrap_or_default();
    assert!(matches!(&files[..], [Value::String(file)] if file.contains("/_quarantine/events/")), "{files:?}");
    // Of a table that has nothing else, too.
    let answer = ingest(&sidecar, "strange", &[json!({"not a name": 1})]);
    assert_eq!(answer["quarantined"], 1);
    assert_eq!(site.lake().quarantine("strange")[0]["record"], r#"{"not a name":1}"#);
    assert_eq!((site.lake().table("strange").len(), site.lake().table("events").len()), (0, 1));
    ingest(&sidecar, "strange", &[json!({"id": 1})]);
    assert_eq!(site.lake().table("strange").len(), 1);
}

#[test]
fn i4_a_request_that_must_not_be_set_aside_is_refused_whole() {
    let (site, sidecar) = begin();
    let sent = json!({"table_name": "events", "records": mixed()});
    for path in ["/ingest?on_invalid=reject", "/ingest/stream?on_invalid=reject"] {
        let answer = post(&sidecar, path, &sent);
        assert_eq!(answer.status, 422, "{}", answer.text());
        let problem = body(&answer);
        assert_eq!((&problem["outcome"], &problem["errors_total"]), (&json!("refused"), &json!(5)), "{problem}");
        let codes: Vec<_> =
            problem["errors"].as_array().into_iter().flatten().map(|error| error["code"].as_str()).collect();
        assert_eq!(codes, REASONS.map(|(_, code)| Some(code)));
    }
    flush(&sidecar);
    assert_eq!((site.lake().table("events").len(), site.lake().quarantine("events").len()), (1, 0));
    // Where every record fits it is as without the option.
    let answer = post(&sidecar, "/ingest?on_invalid=reject", &json!({"table_name": "events", "record": {"id": 1}}));
    assert_eq!((answer.status, &body(&answer)["quarantined"]), (200, &json!(0)), "{}", answer.text());
}

/// More reasons than an answer lists: all records are counted and stored.
#[test]
fn an_answer_lists_the_first_reasons_and_counts_all() {
    let (site, sidecar) = begin();
    let records: Vec<Value> =
        (0..5_000).map(|n| if n % 2 == 0 { json!({"id": n}) } else { json!({"id": "x"}) }).collect();
    let answer = ingest(&sidecar, "events", &records);
    assert_eq!((&answer["rows"], &answer["quarantined"]), (&json!(5_000), &json!(2_500)));
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(20));
    assert_eq!((site.lake().table("events").len(), site.lake().quarantine("events").len()), (2_501, 2_500));
    let indexes: Vec<_> = sorted_quarantine(&site).iter().map(|row| row["record_index"].as_u64()).collect();
    assert_eq!(indexes, (0..2_500).map(|n| Some(2 * n + 1)).collect::<Vec<_>>());
}
