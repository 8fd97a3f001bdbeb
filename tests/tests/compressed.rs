//! Compressed bodies: what a client saves on the wire changes nothing of what is stored.
//!
//! Compressed by the codings' own encoders, sent to the real sidecar, read back from the lake by a reader that is not ours.

use std::io::Write as _;

use lakeingest_tests::calls::{body, flush, health, stream, table_status};
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};

const MEBIBYTE: usize = 1 << 20;

/// A coding's name and its encoder.
type Coding = (&'static str, fn(&[u8]) -> Vec<u8>);

const CODINGS: [Coding; 2] = [("gzip", gzip), ("zstd", zstd)];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes what is written")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory takes what is written")
}

fn send(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    sidecar.request("POST", path, headers, Some(body)).expect("the sidecar answers")
}

fn lines(numbers: std::ops::Range<u64>, coding: &str) -> String {
    numbers.map(|n| json!({"n": n, "coding": coding, "text": "größer \u{1f980}"}).to_string() + "\n").collect()
}

#[test]
fn compressed_json_and_lines_are_stored_as_what_they_are() {
    let site = Site::local();
    let sidecar = site.start();
    for (coding, encode) in CODINGS {
        let envelope =
            json!({"table_name": "events", "records": [{"n": 0, "coding": coding, "text": "größer \u{1f980}"}]});
        let headers = [("content-type", "application/json"), ("content-encoding", coding)];
        let answer = send(&sidecar, "/ingest", &headers, &encode(envelope.to_string().as_bytes()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let headers = [("content-type", "application/x-ndjson"), ("content-encoding", coding)];
        let answer = send(&sidecar, "/ingest?table_name=events", &headers, &encode(lines(1..2_000, coding).as_bytes()));
        assert_eq!((answer.status, body(&answer)["rows"].as_u64()), (200, Some(1_999)), "{}", answer.text());
    }
    let location = site.lake().location();
    let found = site.lake().query(&format!(
        "SELECT coding, count(*), count(DISTINCT n), sum(n), count(DISTINCT text), min(text) \
         FROM read_parquet('{location}/data/events/**/*.parquet') GROUP BY coding ORDER BY coding"
    ));
    let expected = CODINGS.map(|(coding, _)| {
        let sum = (0..2_000).sum::<u64>();
        json!([coding, 2_000, 2_000, sum, 1, "größer \u{1f980}"]).as_array().cloned().unwrap_or_default()
    });
    assert_eq!(found.rows, expected.to_vec());
}

#[test]
fn compressed_bodies_survive_a_kill_once() {
    let site = Site::local();
    let sidecar = site.start();
    for (coding, encode) in CODINGS {
        let headers = [("content-type", "application/x-ndjson"), ("content-encoding", coding)];
        let path = "/ingest/stream?table_name=events";
        let answer = send(&sidecar, path, &headers, &encode(lines(0..500, coding).as_bytes()));
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    stream(&sidecar, "events", &json!({"n": 0, "coding": "identity", "text": "-"}));
    let buffered = table_status(&sidecar, "events")["buffered_bytes"].clone();
    sidecar.kill().expect("it can be killed");
    let sidecar = site.start();
    // Counted by what the bodies become, before and after.
    let decoded = CODINGS.iter().map(|(coding, _)| lines(0..500, coding).len() as u64).sum::<u64>();
    assert!(buffered.as_u64() > Some(decoded), "{buffered} of {decoded}");
    let backlog = health(&sidecar)["backlog"]["bytes"].clone();
    assert!(backlog == buffered || backlog == json!(0), "{backlog} of {buffered}");
    flush(&sidecar);
    let rows = site.lake().table("events");
    assert_eq!(rows.len(), 1_001);
    let location = site.lake().location();
    let found = site.lake().query(&format!(
        "SELECT coding, count(DISTINCT n) FROM read_parquet('{location}/data/events/**/*.parquet') GROUP BY coding ORDER BY coding"
    ));
    assert_eq!(
        found.rows,
        [vec![json!("gzip"), json!(500)], vec![json!("identity"), json!(1)], vec![json!("zstd"), json!(500)]]
    );
}

#[test]
fn a_key_stands_for_what_a_body_says_and_not_for_its_coding() {
    let site = Site::local();
    let sidecar = site.start();
    let text = lines(0..3, "any");
    let path = "/ingest/stream?table_name=events";
    let kind = ("content-type", "application/x-ndjson");
    let key = ("idempotency-key", "one");
    let first = send(&sidecar, path, &[kind, key], text.as_bytes());
    assert_eq!(first.status, 202, "{}", first.text());
    for (coding, encode) in CODINGS {
        let again = send(&sidecar, path, &[kind, key, ("content-encoding", coding)], &encode(text.as_bytes()));
        assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")), "{}", again.text());
        assert_eq!(body(&again)["batch"], body(&first)["batch"]);
        let other = send(&sidecar, path, &[kind, key, ("content-encoding", coding)], &encode(b"{\"n\": 5}"));
        assert_eq!(other.status, 422, "{}", other.text());
    }
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 3);
}

#[test]
fn what_is_not_its_coding_or_becomes_too_long_is_refused_and_takes_no_memory() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    let before = sidecar.server().peak_rss_bytes().expect("the process is there");
    let blanks = [b"{\"n\": 2}".to_vec(), vec![b' '; 256 * MEBIBYTE]].concat();
    let refused = |coding: &str, sent: &[u8], status: u16, code: &str| {
        let headers = [("content-type", "application/x-ndjson"), ("content-encoding", coding)];
        let answer = send(&sidecar, "/ingest?table_name=events", &headers, sent);
        let problem: Value = body(&answer);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!((&problem["outcome"], &problem["errors"][0]["code"]), (&json!("refused"), &json!(code)));
    };
    for (coding, encode) in CODINGS {
        refused(coding, &encode(&blanks), 413, "expansion");
        refused(coding, b"{\"n\": 3}", 400, "content-coding");
        let whole = encode(lines(0..100, coding).as_bytes());
        refused(coding, &whole[..whole.len() - 1], 400, "content-coding");
        refused(coding, &[whole, b"{\"n\": 4}".to_vec()].concat(), 400, "content-coding");
    }
    let after = sidecar.server().peak_rss_bytes().expect("the process is there");
    // What a body may become, and not what it would.
    assert!(after - before < 128 * MEBIBYTE as u64, "{} MiB more", (after - before) >> 20);
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 1);
}

#[test]
fn another_coding_is_refused_with_those_that_are_known() {
    let site = Site::local();
    let sidecar = site.start();
    for coding in ["br", "deflate", "gzip, zstd", "gzip, gzip", "", "*"] {
        let headers = [("content-type", "application/json"), ("content-encoding", coding)];
        let answer = send(&sidecar, "/ingest", &headers, b"{}");
        assert_eq!(answer.status, 415, "{coding}: {}", answer.text());
        assert_eq!(answer.header("accept-encoding"), Some("gzip, zstd"), "{coding}");
    }
    let answer = send(&sidecar, "/ingest", &[("content-type", "text/tab-separated-values")], b"n\n1\n");
    assert_eq!((answer.status, answer.header("accept-encoding")), (415, None), "the type is at fault, not the coding");
}
