//! Connections that are slow, cut or idle: each costs itself alone.

use lakeingest_tests::calls::{flush, health, stream};
use lakeingest_tests::site::Site;
use lakeingest_tests::wire::Connection;
use serde_json::json;

#[test]
fn a_client_that_does_not_finish_its_header_is_cut() {
    let site = Site::local();
    let sidecar = site.start();
    let mut silent = Connection::open(sidecar.port());
    let mut slow = Connection::open(sidecar.port());
    slow.send("POST /ingest HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    // Others are served meanwhile.
    stream(&sidecar, "events", &json!({"n": 1}));
    // Each is closed by the sidecar, long before `read_to_end` gives up.
    slow.read_to_end();
    silent.read_to_end();
    stream(&sidecar, "events", &json!({"n": 2}));
}

#[test]
fn uploads_that_announce_much_and_send_nothing_take_no_room_from_others() {
    let site = Site::local();
    let sidecar = site.start();
    // Twice what may be in flight.
    let _silent: Vec<_> = (0..16)
        .map(|_| {
            let mut connection = Connection::open(sidecar.port());
            connection.send("POST /ingest HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n");
            connection.send(format!("Content-Length: {}\r\n\r\n", 8 << 20));
            // The sidecar asks for the body once it has begun to wait for it.
            assert!(connection.read_answer().starts_with("HTTP/1.1 100 "), "the body is asked for");
            connection
        })
        .collect();
    stream(&sidecar, "events", &json!({"n": 1}));
}

#[test]
fn a_connection_that_is_cut_in_a_body_leaves_nothing() {
    let site = Site::local();
    let sidecar = site.start();
    let lines = "{\"n\": 1}\n{\"n\": 2}\n";
    for length in [lines.len() + 1, 1 << 20] {
        let mut connection = Connection::open(sidecar.port());
        let path = "/ingest/stream?table_name=events";
        connection.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"));
        connection.send(format!("Content-Length: {length}\r\n\r\n{lines}"));
        connection.cut();
    }
    let mut chunked = Connection::open(sidecar.port());
    chunked.send("POST /ingest/stream?table_name=events HTTP/1.1\r\nHost: localhost\r\n");
    chunked.send("Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"n\": 3}\n\r\n");
    chunked.cut();
    // In the order of arrival, so that what the cut ones might have left is before it.
    stream(&sidecar, "events", &json!({"n": 7}));
    flush(&sidecar);
    let rows = site.lake().table("events");
    assert_eq!(rows.iter().map(|row| row["n"].clone()).collect::<Vec<_>>(), [json!(7)]);
}

#[test]
fn idle_connections_do_not_keep_the_sidecar_from_ending() {
    let site = Site::local();
    let sidecar = site.start();
    stream(&sidecar, "events", &json!({"n": 1}));
    let mut idle = Connection::open(sidecar.port());
    idle.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(health(&sidecar)["status"], "ok");
    assert_eq!(sidecar.stop().expect("it ends in time").code(), Some(0));
    assert_eq!(site.lake().table("events").len(), 1);
}
