//! The verbs that speak to the process that serves: `started`, for the startup probe, and `drain`, for `preStop`.
//!
//! Owns: one small request over loopback, with its deadline. No runtime and no library: both run in every pod, often.
//! Does not own: what the process answers.
//!
//! Source: RFC 9112 (HTTP/1.1).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::limits::PROBE_TIMEOUT;

/// Longest answer that is looked at. Unit: bytes. The status line is all that counts.
const ANSWER_BYTES_MAX: u64 = 1 << 10;

/// The process that serves did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody answered in time.
    #[error("failed to ask the sidecar at {address}")]
    Ask {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The answer was another one.
    #[error("the sidecar at {address} answered \"{line}\"")]
    Answer {
        /// Where.
        address: SocketAddr,
        /// The status line.
        line: String,
    },
}

/// Whether the sidecar has opened its journal and takes records.
///
/// # Errors
/// It has not, with the reason.
pub fn started(health_port: u16) -> Result<(), ProbeError> {
    ask(health_port, "GET", "/readyz", 200)
}

/// Tells the sidecar that the pod is about to end.
///
/// # Errors
/// It did not hear.
pub fn drain(port: u16) -> Result<(), ProbeError> {
    ask(port, "POST", "/drain", 202)
}

fn ask(port: u16, method: &str, path: &str, expected: u16) -> Result<(), ProbeError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let line = exchange(address, method, path).map_err(|source| ProbeError::Ask { address, source })?;
    match line.split(' ').nth(1) == Some(expected.to_string().as_str()) {
        true => Ok(()),
        false => Err(ProbeError::Answer { address, line }),
    }
}

/// The status line of the answer.
fn exchange(address: SocketAddr, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers one request so.
    fn answering(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        let port = listener.local_addr().expect("it listens").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client comes");
            let mut request = [0; 1_024];
            let length = stream.read(&mut request).expect("it asks");
            stream.write_all(answer.as_bytes()).expect("it listens");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (port, server)
    }

    #[test]
    fn the_status_decides() {
        let (port, server) = answering("HTTP/1.1 200 OK\r\n\r\nok\n");
        started(port).expect("it has started");
        assert!(server.join().expect("it answers").starts_with("GET /readyz HTTP/1.1\r\nhost: localhost\r\n"));
        let (port, _server) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let error = started(port).expect_err("it has not").to_string();
        assert!(error.contains("503 Service Unavailable"), "{error}");
        let (port, server) = answering("HTTP/1.1 202 Accepted\r\n\r\n");
        drain(port).expect("it heard");
        assert!(server.join().expect("it answers").starts_with("POST /drain "));
    }

    #[test]
    fn nobody_there_is_said_with_the_address() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        let port = listener.local_addr().expect("it listens").port();
        drop(listener);
        let error = started(port).expect_err("nobody is there").to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    }
}
