//! Requests byte by byte, for what no HTTP client would send.
//!
//! Owns: one connection to the sidecar and what came back on it.
//! Does not own: requests that a client can send (see `calls`).

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

use xtask::wait::TIMEOUT;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects to a port of this machine.
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the sidecar listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        Self { stream }
    }

    /// Sends bytes; a server that has closed the connection meanwhile is no failure, its answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("failed to send: {error}"),
        }
        self
    }

    /// Everything that the server sends until it closes the connection.
    ///
    /// # Panics
    /// When it does not close it in time.
    pub fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            // What came before a reset was read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("failed to see the connection closed: {error}"),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One whole answer, of which the head says how long it is; the connection stays open.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn read_answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !is_whole(&bytes) {
            self.stream.read_exact(&mut byte).expect("an answer comes");
            bytes.push(byte[0]);
        }
        String::from_utf8(bytes).expect("an answer is text")
    }

    /// Reads until these bytes have come, and then so many more, which it gives; the connection stays open.
    ///
    /// # Panics
    /// When they do not come in time.
    pub fn read_behind<const LENGTH: usize>(&mut self, mark: &[u8]) -> [u8; LENGTH] {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(mark) {
            self.stream.read_exact(&mut byte).expect("more comes");
            bytes.push(byte[0]);
        }
        let mut behind = [0; LENGTH];
        self.stream.read_exact(&mut behind).expect("more comes");
        behind
    }

    /// Cuts the connection in both directions.
    pub fn cut(self) {
        self.stream.shutdown(Shutdown::Both).expect("the connection is open");
    }
}

/// Whether an answer's head and as much of its body as the head says are there.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// The answer to one request, headers and body, on a connection of its own that is closed then.
pub fn exchange(port: u16, request: impl AsRef<[u8]>) -> String {
    Connection::open(port).send(request).read_to_end()
}

/// A request with its head and a body of known length; the connection is closed after the answer.
pub fn request(method: &str, path: &str, host: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The status of an answer.
pub fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("not an answer: {answer:?}"))
}
