//! Servers that go silent, slow or astray, and bounds that are short enough to wait for.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::journal::control::{FileRole, PlannedFile};
use crate::publish::key::SegmentName;

/// Short bounds: a second of silence is a stall, and whatever is small is over sooner.
const LIMITS: S3Limits = S3Limits {
    request: Duration::from_millis(300),
    stall: Duration::from_secs(1),
    floor_bytes_per_second: 1 << 20,
    agreement_put: Duration::from_secs(1),
    agreement_wait: Duration::from_millis(50),
};

/// A server that does `serve` to each connection.
async fn server<Serving: Future<Output = ()> + Send + 'static>(serve: fn(TcpStream) -> Serving) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A store at such a server, whose keys are in files.
fn store(address: SocketAddr, keys: &tempfile::TempDir) -> S3Store {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for name in ["accessKeyId", "secretAccessKey"] {
        std::fs::write(keys.path().join(name), "key").expect("the file can be written");
    }
    let options = S3Options {
        bucket: "lake".to_owned(),
        endpoint: Some(format!("http://{address}")),
        allow_insecure: true,
        credentials: Some(keys.path().to_owned()),
        ..S3Options::default()
    };
    S3Store::with_limits(&options, LIMITS).expect("the settings can be used")
}

/// Puts a file of so many bytes.
async fn put_file(store: &S3Store, size_bytes: usize) -> Result<PutOutcome, StoreError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let content = vec![7; size_bytes];
    std::fs::write(file.path(), &content).expect("the file can be written");
    let planned = PlannedFile {
        key: "data/t/x.parquet".to_owned(),
        part: 0,
        role: FileRole::Main,
        partition_date: chrono::NaiveDate::from_ymd_opt(2026, 1, 1).expect("the date exists"),
        rows: 1,
        size_bytes: size_bytes as u64,
        sha256: hex(&Sha256::digest(&content)),
        row_digest: String::new(),
    };
    let segment = SegmentName { journal: "j".to_owned(), epoch: 1, number: 1 };
    store.put_file(Upload { planned: &planned, segment: &segment, local: file.path() }).await
}

/// Reads a request's head.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads a request with its body, and answers.
async fn answer(mut stream: TcpStream, answer: &str) {
    let head = read_head(&mut stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    let _ = stream.read_exact(&mut body).await;
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn never() {
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_upload_of_which_nothing_is_read_is_given_up_as_stalled() {
    let address = server(|mut stream| async move {
        read_head(&mut stream).await;
        never().await;
    })
    .await;
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    // More than the kernel takes for a connection.
    let error = put_file(&store(address, &keys), 64 << 20).await.expect_err("it never ends");
    assert_eq!(error.kind, StoreErrorKind::Unreachable);
    assert!(error.detail.contains("nothing has moved for 1 s"), "{error}");
}

#[tokio::test]
async fn an_upload_that_is_never_answered_is_given_up_as_stalled() {
    let address = server(|mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    let error = put_file(&store(address, &keys), 1 << 20).await.expect_err("it never ends");
    assert!(error.detail.contains("nothing has moved"), "{error}");
}

#[tokio::test]
async fn an_upload_that_takes_longer_than_any_other_request_arrives_while_it_moves() {
    // About 16 MiB a second: a second for what no other request may take a third of one for.
    let address = server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let mut left: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut piece = vec![0; 256 << 10];
        while left > 0 {
            let length = stream.read(&mut piece).await.unwrap_or(0).min(left);
            left = if length == 0 { 0 } else { left - length };
            tokio::time::sleep(Duration::from_micros(length as u64 / 16)).await;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    let outcome = put_file(&store(address, &keys), 16 << 20).await;
    assert_eq!(outcome.expect("it arrives"), PutOutcome::Created);
}

#[tokio::test]
async fn small_requests_are_bounded_as_a_whole() {
    let address = server(|mut stream| async move {
        read_head(&mut stream).await;
        // The head of an answer, and then a byte now and then.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    let store = store(address, &keys);
    let error = store.get("k").await.expect_err("it never ends");
    assert!(error.detail.contains("no whole answer within 0.3 s"), "{error}");
    let error = store.put("k", Bytes::from_static(b"{}")).await.expect_err("it never ends");
    assert_eq!(error.kind, StoreErrorKind::Unreachable);
    let error = store.list("k/").await.expect_err("it never ends");
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn an_object_that_stops_coming_is_given_up() {
    let address = server(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx").await;
        never().await;
    })
    .await;
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    let local = keys.path().join("copy");
    let error = store(address, &keys).copy_in_time("k", &local, 1 << 30).await.expect_err("it never ends");
    assert!(error.detail.contains("nothing has moved"), "{error}");
}

/// Taken for the object, it would be a stranger's at a segment's key, and the segment would stay for good.
#[tokio::test]
async fn an_error_with_a_status_of_success_is_not_taken_for_an_object() {
    let address = server(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let document = "<Error><Code>InternalError</Code></Error>";
        let (length, body) = if head.starts_with("HEAD") { (4_711, "") } else { (document.len(), document) };
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let _ = stream.write_all(text.as_bytes()).await;
    })
    .await;
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    let error = store(address, &keys).fetch("data/t/x.parquet", &keys.path().join("copy")).await;
    assert_eq!(error.expect_err("it is no object").kind, StoreErrorKind::Unverified);
}

#[tokio::test]
async fn nobody_follows_a_redirect() {
    // The server would answer what is asked there.
    let address = server(|stream| async move {
        answer(stream, "HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
    })
    .await;
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    let store = store(address, &keys);
    for error in [
        store.get("k").await.expect_err("it is no object"),
        store.head("k").await.expect_err("it is no object"),
        put_file(&store, 10).await.expect_err("it is not stored"),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Unexpected, "{error}");
        assert!(error.detail.contains("where nobody follows"), "{error}");
    }
    store.list("k/").await.expect_err("it is no list");
}

#[tokio::test]
async fn neither_412_nor_409_says_what_is_there() {
    for status in ["412 Precondition Failed", "409 Conflict"] {
        let serve = match status {
            "409 Conflict" => |stream| refuse(stream, "409 Conflict"),
            _ => |stream| refuse(stream, "412 Precondition Failed"),
        };
        let keys = tempfile::tempdir().expect("a temporary folder can be made");
        let store = store(server(serve).await, &keys);
        assert_eq!(put_file(&store, 10).await.expect("it is an answer"), PutOutcome::Exists, "{status}");
    }
}

async fn refuse(stream: TcpStream, status: &'static str) {
    answer(stream, &format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")).await;
}

#[tokio::test]
async fn a_file_of_authorities_that_is_missing_or_empty_is_told_and_read_again() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("ca.crt");
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let keys = tempfile::tempdir().expect("a temporary folder can be made");
    let options = S3Options {
        bucket: "lake".to_owned(),
        endpoint: Some(format!("https://{address}")),
        ca_file: Some(file.clone()),
        credentials: Some(keys.path().to_owned()),
        ..S3Options::default()
    };
    let store = S3Store::with_limits(&options, LIMITS).expect("the file may come later");
    let error = store.get("k").await.expect_err("it is missing").to_string();
    assert!(error.contains("ca.crt cannot be read") && error.contains("caBundle"), "{error}");
    std::fs::write(&file, "no certificate").expect("the file can be written");
    let error = store.get("k").await.expect_err("it holds none").to_string();
    assert!(error.contains("holds no certificate"), "{error}");
}
