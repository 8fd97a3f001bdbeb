//! Connections over loopback, of one address and of several.

use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bounds of which only the ones that a test changes are ever met.
fn wide() -> Bounds {
    let long = Duration::from_secs(3_600);
    Bounds { place_wait: long, first_request: long, header: long, ..Bounds::default() }
}

/// Serves on a free port of loopback for as long as the sender lives.
async fn serving(bounds: Bounds) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
    let address = listener.local_addr().expect("it listens");
    let (stop, stopping) = watch::channel(false);
    let router = Router::new().route("/", get(async || "ok"));
    tokio::spawn(serve_within(bounds, listener, None, router, stopping));
    (address, stop)
}

/// A connection from the address of loopback that ends so.
async fn connect(address: SocketAddr, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.bind(SocketAddr::from(([127, 0, 0, from], 0))).expect("some port is free");
    socket.connect(address).await.expect("it listens")
}

/// Sends a request and waits for its answer; none if the connection is closed instead.
async fn ask(stream: &mut TcpStream) -> Option<String> {
    let _ = stream.write_all(REQUEST).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.expect("it is answered or closed");
        match read {
            Ok(1) => answer.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Waits until the other end closes the connection; what came before.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    // One that is closed before it was read from is reset.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn a_connection_beyond_the_bound_of_its_address_waits_for_a_place() {
    let bounds = Bounds { connections_per_peer_max: 1, waiting_per_peer_max: 1, ..wide() };
    let (address, _stop) = serving(bounds).await;
    let mut first = connect(address, 1).await;
    assert!(ask(&mut first).await.is_some());
    let (second, third) = (connect(address, 1).await, connect(address, 1).await);
    // One of them waits, and the other, for which there is no room to wait, is closed: whichever was looked at first.
    let second_is_closed = tokio::select! {
        _ = second.readable() => true,
        _ = third.readable() => false,
    };
    let (mut waiting, mut closed) = if second_is_closed { (third, second) } else { (second, third) };
    assert_eq!(rest(&mut closed).await, "");
    let mut of_another = connect(address, 2).await;
    assert!(ask(&mut of_another).await.is_some(), "another address does not wait");
    drop(first);
    assert!(ask(&mut waiting).await.is_some());
}

#[tokio::test]
async fn a_place_is_waited_for_only_so_long() {
    let bounds = Bounds { connections_per_peer_max: 1, place_wait: Duration::from_millis(20), ..wide() };
    let (address, _stop) = serving(bounds).await;
    let mut first = connect(address, 1).await;
    assert!(ask(&mut first).await.is_some());
    assert_eq!(rest(&mut connect(address, 1).await).await, "");
    assert!(ask(&mut first).await.is_some());
}

/// Goal: whoever opens connections and asks nothing closes the port to nobody.
#[tokio::test]
async fn i12_connections_that_ask_nothing_make_room() {
    let bounds = Bounds { connections_max: 5, connections_per_peer_max: 2, ..wide() };
    let (address, _stop) = serving(bounds).await;
    let mut of_ours = connect(address, 1).await;
    assert!(ask(&mut of_ours).await.is_some());
    let mut idle = Vec::new();
    for from in [2, 2, 3, 3, 4, 4, 5, 5] {
        idle.push(connect(address, from).await);
    }
    let mut late = connect(address, 6).await;
    assert!(ask(&mut late).await.is_some());
    assert!(ask(&mut of_ours).await.is_some(), "one that was answered stays");
    assert_eq!(rest(&mut idle[0]).await, "");
}

/// Method: what asks nothing is closed within the time, and one that was answered before outlives it.
#[tokio::test]
async fn the_first_request_has_a_time_of_its_own() {
    let (address, _stop) = serving(Bounds { first_request: Duration::from_millis(500), ..wide() }).await;
    let mut answered = connect(address, 1).await;
    assert!(ask(&mut answered).await.is_some());
    let (mut silent, mut slow) = (connect(address, 1).await, connect(address, 1).await);
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.expect("it listens");
    assert_eq!((rest(&mut silent).await, rest(&mut slow).await), (String::new(), String::new()));
    assert!(ask(&mut answered).await.is_some());
}

#[tokio::test]
async fn a_connection_of_which_no_request_was_in_order_ends_with_its_answer() {
    let (address, _stop) = serving(wide()).await;
    let mut stream = connect(address, 1).await;
    stream.write_all(b"GET /elsewhere HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it listens");
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 404"));
    let mut stream = connect(address, 1).await;
    assert!(ask(&mut stream).await.is_some());
    stream.write_all(b"GET /elsewhere HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it listens");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("it is answered");
    assert_eq!(&answer, b"HTTP/1.1 404");
}

/// The client sends no more and does not close: only the timeout of the headers can end the connection.
#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    let (address, _stop) = serving(Bounds { header: Duration::from_millis(20), ..wide() }).await;
    let mut stream = connect(address, 1).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.expect("it listens");
    assert!(!rest(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn i12_the_head_of_a_request_has_a_bound() {
    let (address, _stop) = serving(wide()).await;
    let mut stream = connect(address, 1).await;
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(4 * REQUEST_HEAD_BYTES_MAX));
    let _ = stream.write_all(head.as_bytes()).await;
    assert!(!rest(&mut stream).await.starts_with("HTTP/1.1 200"));
}
