//! The HTTP contract as a client sees it: every endpoint's answer, and what it says is true.

use std::process::Command;

use lakeingest_tests::calls::{body, flush, health, ingest, metric, post, stream, table_status};
use lakeingest_tests::site::{Site, sidecar_program, wait_for_end};
use lakeingest_tests::wire;
use serde_json::{Value, json};
use xtask::commands::{command, run_with_input};
use xtask::servers::Sidecar;
use xtask::tools;

/// Prints name, type and field id of each column that a Parquet file says it has.
const PYARROW_COLUMNS: &str = "\
import json, sys, pyarrow.parquet
schema = pyarrow.parquet.read_schema(json.load(sys.stdin))
json.dump([[field.name, str(field.type), int(field.metadata[b'PARQUET:field_id'])] for field in schema], sys.stdout)
";

/// Paths of the files that an answer names; each must exist when the answer has arrived.
fn existing_files(answer: &Value) -> Vec<String> {
    let files = answer["files"].as_array().expect("files is an array");
    let files: Vec<_> = files.iter().map(|file| file.as_str().expect("a file is text").to_owned()).collect();
    for file in &files {
        assert!(std::path::Path::new(file).is_file(), "{file} does not exist");
    }
    files
}

/// Metrics say what happened since the start.
fn requests(sidecar: &Sidecar, endpoint: &str, status: u16) -> f64 {
    let name = format!("lakeingest_sidecar_requests_total{{endpoint=\"{endpoint}\",status=\"{status}\"}}");
    metric(sidecar, &name)
}

#[test]
fn the_line_of_the_readme_works_as_it_stands() {
    let site = Site::local();
    let sidecar = site.start();
    // `curl -d` sends a form type, and nothing in the line says otherwise.
    let sent = r#"{"table_name": "events", "records": [{"user_id": 123, "action": "purchase", "amount": 99.99}]}"#;
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "-X", "POST"])
        .args([&format!("http://localhost:{}/ingest", sidecar.port()), "-d", sent])
        .output()
        .expect("curl is there");
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("the answer is JSON");
    assert_eq!(answer["status"], "ok");
    existing_files(&answer);
    let rows = site.lake().table("events");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["user_id"], json!(123));
    assert_eq!(rows[0]["action"], json!("purchase"));
    assert_eq!(rows[0]["amount"], json!(99.99));
}

#[test]
fn i1_ingest_answers_200_when_its_files_are_in_the_lake() {
    let site = Site::local();
    let sidecar = site.start();
    let answer = ingest(&sidecar, "events", &[json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]);
    assert_eq!(answer["status"], "ok");
    assert_eq!(answer["table_name"], "events");
    assert_eq!(answer["rows"], 3);
    assert_eq!(answer["quarantined"], 0);
    assert_eq!(answer["durability"], "lake");
    assert_eq!(answer.get("buffered_rows"), None);
    let files = existing_files(&answer);
    assert_eq!(files.len(), 1);
    assert!(files[0].starts_with(&format!("{}/data/events/year=", site.lake().location())), "{files:?}");
    assert!(site.lake().objects().iter().any(|key| key.starts_with("data/_lakeingest/files/events/")));
    let journal = health(&sidecar)["journal"]["id"].clone();
    let batch = answer["batch"].as_str().expect("a batch has an id");
    let of_journal = format!("-{}-", journal.as_str().expect("a journal has an id"));
    assert!(batch.starts_with("events-") && batch.contains(&of_journal), "{batch}");
    assert_eq!(site.lake().table("events").len(), 3);
}

#[test]
fn a_stream_answers_202_with_what_is_buffered_and_nothing_is_in_the_lake_yet() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    let answer = stream(&sidecar, "events", &json!({"n": 2}));
    assert_eq!(answer["status"], "accepted");
    assert_eq!(answer["table_name"], "events");
    assert_eq!(answer["rows"], 1);
    assert_eq!(answer["durability"], "journal");
    assert_eq!(answer["buffered_rows"], 2);
    assert_eq!(answer.get("files"), None);
    assert!(answer["batch"].is_string());
    assert_eq!(site.lake().files("events"), Vec::<String>::new());
    // What is buffered is counted for the table alone.
    assert_eq!(stream(&sidecar, "others", &json!({"n": 1}))["buffered_rows"], 1);
}

#[test]
fn a_stream_takes_many_records_as_well() {
    let site = Site::local();
    let sidecar = site.start();
    let answer = post(&sidecar, "/ingest/stream", &json!({"table_name": "events", "records": [{"n": 1}, {"n": 2}]}));
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(body(&answer)["rows"], 2);
    assert_eq!(body(&answer)["buffered_rows"], 2);
}

#[test]
fn the_durability_can_be_asked_for_and_the_answer_says_which_was_reached() {
    let site = Site::local();
    let sidecar = site.start();
    let one = json!({"table_name": "events", "records": [{"n": 1}]});
    for path in ["/ingest?durability=journal", "/ingest?wait=0"] {
        let answer = post(&sidecar, path, &one);
        assert_eq!(answer.status, 202, "{path}: {}", answer.text());
        assert_eq!(body(&answer)["durability"], "journal", "{path}");
        assert!(body(&answer)["buffered_rows"].is_u64(), "{path}");
    }
    let answer = post(&sidecar, "/ingest/stream?durability=lake", &one);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(body(&answer)["durability"], "lake");
    existing_files(&body(&answer));
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 3);
}

#[test]
fn flush_brings_what_is_buffered_into_the_lake_of_one_table_or_of_all() {
    let site = Site::local();
    let sidecar = site.start();
    for table in ["one", "two", "three"] {
        stream(&sidecar, table, &json!({"n": 1}));
    }
    let answer = post(&sidecar, "/flush", &json!({"table_name": "one"}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(body(&answer)["status"], "ok");
    assert_eq!(body(&answer)["rows"], 1);
    let files = existing_files(&body(&answer));
    assert!(files.len() == 1 && files[0].contains("/data/one/"), "{files:?}");
    assert_eq!(site.lake().files("two"), Vec::<String>::new());

    // Without a body and without a content type.
    let answer = sidecar.request("POST", "/flush", &[], None).expect("the sidecar answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(body(&answer)["rows"], 2);
    assert_eq!(existing_files(&body(&answer)).len(), 2);
    assert_eq!(health(&sidecar)["backlog"]["rows"], 0);

    let nothing = flush(&sidecar);
    assert_eq!(nothing, json!({"status": "ok", "files": [], "rows": 0, "quarantined": 0}));
}

#[test]
fn a_backfill_lies_under_the_date_that_it_names() {
    let site = Site::local();
    let sidecar = site.start();
    let records = json!([{"n": 1}, {"n": 2}]);
    let in_body = json!({"table_name": "flights", "records": records, "partition_date": "2013-01-09"});
    let answer = post(&sidecar, "/ingest", &in_body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let files = existing_files(&body(&answer));
    // Month and day without a leading zero, so that a plain glob types them as numbers.
    assert!(files[0].contains("/data/flights/year=2013/month=1/day=9/data_"), "{files:?}");

    let in_query = "/ingest?table_name=flights&partition_date=2013-12-31";
    let answer = sidecar.post(in_query, Some("application/x-ndjson"), "{\"n\": 3}\n\n{\"n\": 4}").expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(body(&answer)["rows"], 2);
    assert!(existing_files(&body(&answer))[0].contains("/data/flights/year=2013/month=12/day=31/data_"));

    let location = site.lake().location();
    let found = site.lake().query(&format!(
        "SELECT year, month, day, count(*), sum(n) FROM read_parquet('{location}/data/flights/**/*.parquet') \
         WHERE year = 2013 GROUP BY ALL ORDER BY month"
    ));
    let expected = [[2013, 1, 9, 2], [2013, 12, 31, 2]];
    let dates: Vec<Vec<Value>> = found.rows.iter().map(|row| row[..4].to_vec()).collect();
    assert_eq!(dates, expected.map(|row| row.map(|number| json!(number)).to_vec()));
}

#[test]
fn one_segment_with_two_dates_makes_a_file_of_each_and_names_only_the_callers() {
    let site = Site::local();
    let sidecar = site.start();
    let of = |date: &str| json!({"table_name": "flights", "records": [{"n": 1}], "partition_date": date});
    assert_eq!(post(&sidecar, "/ingest/stream", &of("2013-01-01")).status, 202);
    let answer = post(&sidecar, "/ingest", &of("2013-01-02"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let files = existing_files(&body(&answer));
    assert!(files.len() == 1 && files[0].contains("/month=1/day=2/"), "{files:?}");
    assert_eq!(site.lake().files("flights").len(), 2);
}

#[test]
fn year_month_and_day_that_are_the_partitions_are_stored_once() {
    let site = Site::local();
    let sidecar = site.start();
    let record = json!({"year": 2013, "month": 5, "day": 7, "n": 1});
    let sent = json!({"table_name": "flights", "records": [record], "partition_date": "2013-05-07"});
    let answer = post(&sidecar, "/ingest", &sent);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rows = site.lake().table("flights");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].keys().collect::<Vec<_>>(), ["day", "month", "n", "year"]);
    assert_eq!((&rows[0]["year"], &rows[0]["month"], &rows[0]["day"]), (&json!(2013), &json!(5), &json!(7)));

    let other = json!({"table_name": "flights", "records": [{"year": 2014, "n": 2}], "partition_date": "2013-05-07"});
    let answer = post(&sidecar, "/ingest?on_invalid=reject", &other);
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(body(&answer)["errors"][0]["code"], "partition-column-mismatch");
    assert_eq!(body(&answer)["errors"][0]["pointer"], "/records/0/year");
}

#[test]
fn a_file_has_every_column_with_its_type_and_its_field_id() {
    let site = Site::local();
    let sidecar = site.start();
    let record = json!({"count": 1, "price": 1.5, "done": true, "name": "x", "tags": ["a", 1], "never": null,
        "due": "2026-01-08", "at": "2026-01-08T10:05:30.123456+02:00"});
    let first = ingest(&sidecar, "things", &[record]);
    // A column that comes later gets the next id, and the others keep theirs.
    let second = ingest(&sidecar, "things", &[json!({"later": 7})]);
    let columns = |answer: &Value| -> Value {
        let python = tools::readers().expect("the readers can be installed");
        let mut pyarrow = command(python).expect("it is there");
        pyarrow.args(["-I", "-c", PYARROW_COLUMNS]);
        let file = json!(existing_files(answer)[0]).to_string();
        serde_json::from_slice(&run_with_input(pyarrow, file.as_bytes()).expect("pyarrow reads it")).expect("JSON")
    };
    let mut found = columns(&first);
    found.as_array_mut().expect("an array").sort_by_key(|column| column[2].as_i64());
    let partition = [json!(["year", "int32", 1]), json!(["month", "int32", 2]), json!(["day", "int32", 3])];
    let own = |found: &Value| -> Vec<Value> {
        let columns = found.as_array().expect("an array").iter();
        columns.filter(|column| !partition.contains(column)).cloned().collect()
    };
    assert_eq!(found.as_array().expect("an array")[..3], partition);
    let names_and_types: Vec<_> = own(&found).iter().map(|column| (column[0].clone(), column[1].clone())).collect();
    let mut sorted = names_and_types.clone();
    sorted.sort_by_key(|(name, _)| name.to_string());
    let expected = [
        ("at", "timestamp[us, tz=UTC]"),
        ("count", "int64"),
        ("done", "bool"),
        ("due", "date32[day]"),
        ("name", "string"),
        ("price", "double"),
        ("tags", "string"),
    ];
    assert_eq!(sorted, expected.map(|(name, of_type)| (json!(name), json!(of_type))));
    let ids: Vec<_> = own(&found).iter().map(|column| column[2].clone()).collect();
    assert_eq!(ids, [4, 5, 6, 7, 8, 9, 10]);

    let mut later = columns(&second);
    later.as_array_mut().expect("an array").sort_by_key(|column| column[2].as_i64());
    let mut with_later = own(&found);
    with_later.push(json!(["later", "int64", 11]));
    assert_eq!(own(&later), with_later);
    let rows = site.lake().table("things");
    let row = rows.iter().find(|row| row["tags"] == json!(r#"["a",1]"#)).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!((&row["due"], &row["at"]), (&json!("2026-01-08"), &json!("2026-01-08 08:05:30.123456+00")));
}

#[test]
fn a_configuration_that_says_so_leaves_timestamps_as_text() {
    let site = Site::local().with_config("inference: {timestamps: false}\n");
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"due": "2026-01-08", "at": "2026-01-08T10:05:30+02:00"})]);
    let row = &site.lake().table("events")[0];
    assert_eq!((&row["due"], &row["at"]), (&json!("2026-01-08"), &json!("2026-01-08T10:05:30+02:00")));
    let columns = &table_status(&sidecar, "events")["columns"];
    assert!(columns.as_array().is_some_and(|columns| columns.iter().all(|column| column["type"] == "varchar")));
}

#[test]
fn tables_shows_columns_what_is_buffered_and_what_is_published() {
    let site = Site::local();
    let sidecar = site.start();
    assert_eq!(body(&sidecar.get("/tables").expect("it answers")), json!({"tables": []}));
    stream(&sidecar, "events", &json!({"n": 1, "name": "x", "ratio": 0.5, "ok": false, "tags": []}));
    stream(&sidecar, "events", &json!({"place": {"at": [1.5, 2], "name": "x"}}));
    let seen = table_status(&sidecar, "events");
    assert_eq!(seen["schema_version"], 0);
    assert_eq!(seen["buffered_rows"], 2);
    assert!(seen["buffered_bytes"].as_u64() > Some(0), "{seen}");
    assert!(seen["oldest_buffered"].as_str().is_some_and(|time| time.ends_with('Z')), "{seen}");
    assert_eq!((&seen["published_rows"], &seen["published_files"]), (&json!(0), &json!(0)));

    flush(&sidecar);
    let seen = table_status(&sidecar, "events");
    assert_eq!(seen["schema_version"], 1);
    assert_eq!(seen["buffered_rows"], 0);
    assert_eq!(seen["buffered_bytes"], 0);
    assert_eq!(seen.get("oldest_buffered"), None);
    assert_eq!((&seen["published_rows"], &seen["published_files"]), (&json!(2), &json!(1)));
    assert_eq!(seen["quarantined_rows"], 0);
    assert_eq!(seen.get("last_error"), None);
    let mut columns: Vec<String> = seen["columns"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|column| format!("{} {}", column["name"], column["type"]).replace('"', ""))
        .collect();
    columns.sort_unstable();
    let place = "place struct(at json, name varchar)";
    assert_eq!(columns, ["n bigint", "name varchar", "ok boolean", place, "ratio double", "tags json"]);
    // The other port tells the same.
    let on_health_port = body(&sidecar.get_health("/tables").expect("it answers"));
    assert_eq!(on_health_port["tables"][0], seen);
}

#[test]
fn a_restart_knows_the_columns_that_the_lake_has() {
    let site = Site::local();
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"n": 1})]);
    sidecar.stop().expect("it ends");
    drop(sidecar);
    let sidecar = site.start();
    ingest(&sidecar, "others", &[json!({"n": 1})]);
    let sent = json!({"table_name": "events", "records": [{"n": "text"}]});
    let refused = post(&sidecar, "/ingest?on_invalid=reject", &sent);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(body(&refused)["errors"][0]["code"], "type-mismatch");
    assert_eq!(table_status(&sidecar, "events")["schema_version"], 1);
}

#[test]
fn health_shows_the_backlog_the_journal_and_the_versions() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    stream(&sidecar, "others", &json!({"n": 1}));
    let seen = health(&sidecar);
    assert_eq!(seen["status"], "ok");
    assert_eq!(seen["reasons"], json!([]));
    assert_eq!(seen["backlog"]["segments"], 2);
    assert_eq!(seen["backlog"]["rows"], 2);
    assert!(seen["backlog"]["bytes"].as_u64() > Some(0), "{seen}");
    assert!(seen["backlog"]["oldest_seconds"].is_u64(), "{seen}");
    assert_eq!(seen["journal"]["id"].as_str().map(str::len), Some(32));
    assert!(seen["journal"]["bytes"].as_u64() > Some(0), "{seen}");
    assert_eq!(seen["journal"]["cap_bytes"], (2_u64 << 30) / 100 * 80);
    assert_eq!(seen["version"]["sidecar"], env!("CARGO_PKG_VERSION"));
    assert_eq!(seen["version"]["journal_format"], 1);
    assert_eq!(seen["version"]["configuration_format"], 1);
    assert_eq!(body(&sidecar.get("/health").expect("it answers"))["status"], "ok");
}

#[test]
fn a_field_of_the_configuration_that_is_not_known_is_shown_and_does_not_stop_the_start() {
    let site = Site::local().with_config("flush: {maxRows: 5, maxWishes: 3}\n");
    let sidecar = site.start();
    let seen = health(&sidecar);
    assert_eq!(seen["status"], "degraded");
    assert_eq!(seen["reasons"][0]["name"], "UnknownConfiguration");
    assert!(seen["reasons"][0]["message"].as_str().is_some_and(|words| words.contains("flush.maxWishes")), "{seen}");
    assert!((metric(&sidecar, "lakeingest_sidecar_unknown_configuration_fields") - 1.0).abs() < 0.5);
    // A delivery that succeeds does not clear what it has not mended.
    ingest(&sidecar, "events", &[json!({"n": 1})]);
    assert_eq!(health(&sidecar)["reasons"][0]["name"], "UnknownConfiguration");
}

#[test]
fn a_configuration_that_cannot_be_used_stops_the_start_with_every_violation() {
    let site = Site::local().with_config("flush: {maxRows: 0, maxAge: 1ms}\n");
    let sidecar = site.spawn();
    let status = wait_for_end(&sidecar);
    assert_eq!(status.code(), Some(2));
    let log = site.log();
    assert!(log.contains("flush.maxRows") && log.contains("flush.maxAge"), "{log}");
}

#[test]
fn the_metrics_move_with_what_happens() {
    let site = Site::local();
    let sidecar = site.start();
    let value = |name: &str| metric(&sidecar, &format!("lakeingest_sidecar_{name}"));
    stream(&sidecar, "events", &json!({"n": 1}));
    stream(&sidecar, "events", &json!({"n": 2}));
    assert_eq!(value("acknowledged_rows_total").to_string(), "2");
    assert_eq!(value("unflushed_rows").to_string(), "2");
    assert_eq!(value("published_rows_total").to_string(), "0");
    assert!(value("journal_bytes") > 0.0);
    assert_eq!(value("journal_cap_bytes").to_string(), "1717986880");
    assert!(value("journal_sync_seconds_count") >= 1.0);
    assert!(value("oldest_unflushed_seconds") >= 0.0);
    flush(&sidecar);
    ingest(&sidecar, "events", &[json!({"n": 3})]);
    assert_eq!(post(&sidecar, "/ingest", &json!({})).status, 422);
    assert_eq!(value("acknowledged_rows_total").to_string(), "3");
    assert_eq!(value("unflushed_rows").to_string(), "0");
    assert_eq!(value("published_rows_total").to_string(), "3");
    assert_eq!(value("published_files_total").to_string(), "2");
    assert!(value("published_bytes_total") > 0.0);
    assert_eq!(value("segments_sealed_total{reason=\"request\"}").to_string(), "2");
    let counted = [("ingest_stream", 202), ("flush", 200), ("ingest", 200), ("ingest", 422)];
    let counted = counted.map(|(endpoint, status)| requests(&sidecar, endpoint, status).to_string());
    assert_eq!(counted, ["2", "1", "1", "1"]);
    let answer = sidecar.get("/metrics").expect("the application's port has them too");
    assert!(answer.header("content-type").is_some_and(|of| of.starts_with("application/openmetrics-text")));
    assert!(answer.text().ends_with("# EOF\n"));
}

#[test]
fn the_health_port_takes_no_records() {
    let site = Site::local();
    let sidecar = site.start();
    let sent = r#"{"table_name": "events", "record": {"n": 1}}"#;
    for path in ["/ingest", "/ingest/stream", "/flush"] {
        let answer = wire::exchange(sidecar.health_port(), wire::request("POST", path, "localhost", sent));
        assert_eq!(wire::status(&answer), 404, "{answer}");
    }
    for path in ["/livez", "/readyz", "/health", "/tables", "/metrics"] {
        assert_eq!(sidecar.get_health(path).expect("it answers").status, 200, "{path}");
        assert_eq!(sidecar.get(path).expect("it answers").status, 200, "{path}");
    }
    assert_eq!(health(&sidecar)["backlog"]["rows"], 0);
}

#[test]
fn a_foreign_host_and_any_origin_are_refused() {
    let site = Site::local();
    let sidecar = site.start();
    let sent = r#"{"table_name": "events", "record": {"n": 1}}"#;
    for host in ["lake.example.com", "localhost.example.com", "192.0.2.1"] {
        let answer = wire::exchange(sidecar.port(), wire::request("POST", "/ingest/stream", host, sent));
        assert_eq!(wire::status(&answer), 403, "{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains(r#""outcome":"refused""#), "{answer}");
    }
    let headers = [("origin", "http://localhost"), ("content-type", "application/json")];
    let answer = sidecar.request("POST", "/ingest/stream", &headers, Some(sent.as_bytes())).expect("it answers");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(body(&answer)["outcome"], "refused");
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let answer = wire::exchange(sidecar.port(), wire::request("POST", "/ingest/stream", host, sent));
        assert_eq!(wire::status(&answer), 202, "{answer}");
    }
    assert_eq!(health(&sidecar)["backlog"]["rows"], 3);
}

#[test]
fn unknown_routes_and_methods_are_problem_documents() {
    let site = Site::local();
    let sidecar = site.start();
    for (method, path, status) in
        [("GET", "/nowhere", 404), ("GET", "/ingest", 405), ("PUT", "/ingest", 405), ("GET", "/flush", 405)]
    {
        let answer = sidecar.request(method, path, &[], None).expect("it answers");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
        let problem = body(&answer);
        assert_eq!(problem["status"], status);
        assert_eq!(problem["outcome"], "refused");
        assert!(problem["type"].as_str().is_some_and(|of| of.starts_with("urn:lakeingest:problem:")), "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
}

#[test]
fn the_version_is_told_and_the_command_line_is_checked() {
    let output = sidecar_program().arg("--version").output().expect("it runs");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("it is text");
    let expected = format!("lakeingest-sidecar {} (revision ", env!("CARGO_PKG_VERSION"));
    assert!(text.starts_with(&expected), "{text}");

    let output = sidecar_program().arg("serve").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).expect("it is text");
    assert!(words.contains("--lake") && words.contains("--journal"), "{words}");

    let site = Site::local();
    let missing = site.folder().join("no-such-lake");
    let journal = site.folder().join("journal");
    let mut serve = sidecar_program();
    serve.arg("serve").arg("--lake").arg(missing).arg("--journal").arg(journal);
    let output = serve.output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("make it first"), "{output:?}");
}

/// Every table is told of once, however many at a time.
#[test]
fn tables_come_in_pages_and_a_query_that_is_not_known_is_refused() {
    let site = Site::local();
    let sidecar = site.start();
    let mut sent: Vec<String> = (0..7).map(|number| format!("t{number}")).collect();
    for table in &sent {
        stream(&sidecar, table, &json!({"n": 1}));
    }
    let page = |query: &str| body(&sidecar.get(&format!("/tables{query}")).expect("it answers"));
    assert_eq!(page("")["next"], Value::Null);
    let (mut seen, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let answer = page(&query);
        let tables = answer["tables"].as_array().expect("tables is an array");
        assert!((1..=3).contains(&tables.len()), "{answer}");
        seen.extend(tables.iter().map(|table| table["name"].as_str().expect("a table has a name").to_owned()));
        match answer["next"].as_str() {
            Some(next) => query = format!("?limit=3&next={next}"),
            None => break,
        }
    }
    sent.sort();
    assert_eq!(seen, sent);
    for query in ["?limit=0", "?limit=101", "?limit=x", "?page=2"] {
        let answer = sidecar.get(&format!("/tables{query}")).expect("it answers");
        assert_eq!(answer.status, 422, "{query}: {}", answer.text());
    }
}
