//! HTTP/2 without TLS: the same endpoints and the same bounds, by `curl`, by Node and by bytes of our own.

use std::fs;
use std::process::Command;

use lakeingest_tests::calls::{flush, stream};
use lakeingest_tests::site::Site;
use lakeingest_tests::wire::Connection;
use serde_json::{Value, json};
use xtask::servers::Sidecar;

/// What a client of HTTP/2 begins with. Source: RFC 9113, 3.4.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A SETTINGS frame that sets nothing. Source: RFC 9113, 6.5.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A HEADERS frame of stream 1 that asks for `GET http://localhost/`. Source: RFC 9113, 6.2; RFC 7541, appendix A.
const GET: &[u8] = b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x84\x41\x09localhost";

/// The head of a PING frame, and of its answer. Source: RFC 9113, 6.7.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0";
const PING_ACK: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0";

/// Calls `curl` over HTTP/2; gives what it prints, and behind it a line for each answer: version and status.
fn curl(sidecar: &Sidecar, path: &str, arguments: &[&str]) -> (String, Vec<String>) {
    let mut command = Command::new("curl");
    command.args([
        "--http2-prior-knowledge",
        "--silent",
        "--show-error",
        "--write-out",
        "\n=%{http_version} %{http_code}\n",
    ]);
    let output = command.args(arguments).arg(format!("{}{path}", sidecar.url())).output().expect("curl can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("what it prints is text");
    let (answers, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('='));
    (rest.concat(), answers.iter().map(|line| line[1..].to_owned()).collect())
}

#[test]
fn every_endpoint_speaks_both_versions() {
    let site = Site::local();
    let sidecar = site.start();
    let body = json!({"table_name": "events", "records": [{"n": 1}, {"n": 2}]}).to_string();
    let (answer, statuses) = curl(&sidecar, "/ingest", &["-d", &body]);
    assert_eq!(statuses, ["2 200"], "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("the answer is JSON");
    assert_eq!((&answer["durability"], &answer["rows"]), (&json!("lake"), &json!(2)));
    let (health, statuses) = curl(&sidecar, "/health", &[]);
    assert_eq!(statuses, ["2 200"], "{health}");
    // The older version, on the same port.
    stream(&sidecar, "events", &json!({"n": 3}));
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 3);
}

#[test]
fn many_requests_share_a_connection_and_each_is_stored_once() {
    let site = Site::local();
    let sidecar = site.start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/http2.js");
    let path = "/ingest/stream?table_name=events";
    let output = Command::new("node").args([script, &sidecar.url(), path, "200", "{\"n\": 1}"]).output();
    let output = output.expect("node can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "{\"202\":200}");
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 200);
}

#[test]
fn the_bounds_and_the_guard_are_the_same() {
    let site = Site::local();
    let sidecar = site.start();
    let body = json!({"table_name": "events", "record": {"n": 1}}).to_string();
    let foreign = curl(&sidecar, "/ingest/stream", &["-H", "host: lake.example.com", "-d", &body]);
    assert_eq!(foreign.1, ["2 403"], "{}", foreign.0);
    let page = curl(&sidecar, "/ingest/stream", &["-H", "origin: http://localhost", "-d", &body]);
    assert_eq!(page.1, ["2 403"], "{}", page.0);
    let long = site.folder().join("long");
    fs::write(&long, vec![b' '; (8 << 20) + 1]).expect("a file can be written");
    let long = curl(&sidecar, "/ingest/stream", &["--data-binary", &format!("@{}", long.display())]);
    assert_eq!(long.1, ["2 413"], "{}", long.0);
    let whole = curl(&sidecar, "/ingest/stream", &["-d", &body]);
    assert_eq!(whole.1, ["2 202"], "{}", whole.0);
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 1);
}

#[test]
fn a_client_that_begins_and_asks_for_nothing_is_cut() {
    let site = Site::local();
    let sidecar = site.start();
    let mut connections = ["P", "PRI", PREFACE].map(|sent| {
        let mut connection = Connection::open(sidecar.port());
        connection.send(sent);
        connection
    });
    // The connection is open, and still nothing is asked for.
    connections[2].send(SETTINGS);
    stream(&sidecar, "events", &json!({"n": 1}));
    for connection in &mut connections {
        connection.read_to_end();
    }
    stream(&sidecar, "events", &json!({"n": 2}));
}

#[test]
fn an_idle_connection_does_not_keep_the_sidecar_from_ending() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    let mut idle = Connection::open(sidecar.port());
    idle.send(PREFACE).send(SETTINGS).send(GET);
    // The page; the frames around it are none.
    let [] = idle.read_behind(b"</html>");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A client answers each PING, also the one with which the server sees that its GOAWAY has arrived.
            let payload: [u8; 8] = idle.read_behind(PING);
            idle.send([PING_ACK, &payload].concat());
        });
        assert_eq!(sidecar.stop().expect("it ends in time").code(), Some(0));
    });
    assert!(site.log().contains("drained") && !site.log().contains("connections were still open"), "{}", site.log());
    assert_eq!(site.lake().table("events").len(), 1);
}
