//! The endpoints hold what `/openapi.json` says of them.

use std::process::Command;

use lakeingest_tests::calls::{reasons, stream};
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::tools;

fn document(sidecar: &xtask::servers::Sidecar) -> Value {
    let answer = sidecar.request("GET", "/openapi.json", &[], None).expect("the sidecar answers");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json().expect("it is JSON")
}

#[test]
fn every_endpoint_is_described_with_its_problems() {
    let site = Site::local();
    let sidecar = site.start();
    let document = document(&sidecar);
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<&String> = document["paths"].as_object().into_iter().flatten().map(|(path, _)| path).collect();
    let expected = [
        "/",
        "/drain",
        "/flush",
        "/health",
        "/ingest",
        "/ingest/stream",
        "/livez",
        "/metrics",
        "/readyz",
        "/receipts/{batch}",
        "/tables",
    ];
    assert_eq!(paths, expected);
    let refused = &document["paths"]["/ingest"]["post"]["responses"]["422"]["content"];
    assert_eq!(refused["application/problem+json"]["schema"]["$ref"], "#/components/schemas/Problem");
}

/// What the description allows is answered as it says, and what it does not allow is refused. Whether a request that it
/// allows is taken is not asked: that depends on what the table has become, and numbers beyond 64 bits are none here.
#[test]
fn requests_that_are_made_of_the_description_are_answered_as_it_says() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "a", &json!({"n": 1}));
    let mut fuzzer = Command::new(tools::schemathesis().expect("it is installed"));
    fuzzer.args(["-m", "schemathesis.cli", "run", &format!("http://localhost:{}/openapi.json", sidecar.port())]);
    fuzzer.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--no-color"]);
    // After it the sidecar would take records for a while only.
    fuzzer.args(["--exclude-path", "/drain", "--max-examples", "40", "--seed", "1"]);
    let outcome = fuzzer.current_dir(site.folder()).output().expect("Python runs");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{said}{}", String::from_utf8_lossy(&outcome.stderr));
    assert!(said.contains("Stateful") && said.contains("No issues found"), "{said}");
    assert_eq!(reasons(&sidecar), Vec::<String>::new());
}

#[test]
fn a_flush_whose_query_and_body_name_two_tables_is_refused() {
    let site = Site::local();
    let sidecar = site.start();
    let body = json!({"table_name": "b"}).to_string();
    let answer = sidecar.request("POST", "/flush?table_name=a", &[], Some(body.as_bytes())).expect("it answers");
    assert_eq!((answer.status, answer.text().contains("contradiction")), (422, true), "{}", answer.text());
    let answer = sidecar.request("POST", "/flush?table_name=b", &[], Some(body.as_bytes())).expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_page_for_people_shows_tables_and_what_is_wrong_and_runs_nothing() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    let answer = sidecar.request("GET", "/", &[], None).expect("the sidecar answers");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy").unwrap_or_default().to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let text = answer.text();
    assert!(text.contains("<td>events</td>") && text.contains("n bigint"), "{text}");
}
