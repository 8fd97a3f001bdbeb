//! One question to one sidecar.
//!
//! Owns: `GET /health` at a pod's address, within a time and a length. Does not own: whom to ask, and when.
//!
//! A connection for each question: a pod is asked again many seconds later, and there are many pods.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::health::Health;
use crate::limits::{ASK_TIMEOUT, HEALTH_BYTES_MAX, HEALTH_HEADER_BYTES_MAX};

/// A sidecar did not say how it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Not in time.
    #[error("no answer within {} s", ASK_TIMEOUT.as_secs())]
    Slow,
    /// Nobody took the connection.
    #[error("failed to connect")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or what came is no HTTP.
    #[error("failed to exchange a request")]
    Exchange(#[source] hyper::Error),
    /// Another answer than 200.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// A body that is too long, or broke off.
    #[error("failed to read the answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A body that is none of a sidecar's.
    #[error("the answer is not a sidecar's")]
    Parse(#[source] serde_json::Error),
}

/// Asks the sidecar at this address how it is.
pub(super) async fn ask(address: SocketAddr) -> Result<Health, AskError> {
    let asked = tokio::time::timeout(ASK_TIMEOUT, exchange(address)).await;
    let answer = asked.map_err(|_| AskError::Slow)??;
    Health::parse(&answer).map_err(AskError::Parse)
}

async fn exchange(address: SocketAddr) -> Result<Bytes, AskError> {
    let stream = TcpStream::connect(address).await.map_err(AskError::Connect)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEALTH_HEADER_BYTES_MAX);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(AskError::Exchange)?;
    let answer = answer(sender, address);
    tokio::pin!(answer, connection);
    // The connection has to be polled for the answer to come; where the other end closes it, it ends first.
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

async fn answer(mut sender: http1::SendRequest<Empty<Bytes>>, address: SocketAddr) -> Result<Bytes, AskError> {
    let request = Request::get("/health")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .expect("an address is a legal header");
    let response = sender.send_request(request).await.map_err(AskError::Exchange)?;
    if response.status() != StatusCode::OK {
        return Err(AskError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), HEALTH_BYTES_MAX).collect().await;
    Ok(body.map_err(AskError::Body)?.to_bytes())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What is made of an answer that a server gives to whoever connects.
    async fn asked(answer: impl Into<Vec<u8>>) -> Result<Health, AskError> {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
        let address = listener.local_addr().expect("it listens");
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("somebody asks");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.expect("a request comes");
            // Whoever has heard enough closes.
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let outcome = ask(address).await;
        let request = served.await.expect("the server ends");
        assert!(request.starts_with("GET /health HTTP/1.1\r\n"), "{request}");
        outcome
    }

    fn with_body(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_sidecar_says_how_it_is() {
        let health = asked(with_body(r#"{"status": "ok", "generation": 3}"#)).await.expect("it says so");
        assert_eq!(health.generation, Some(3));
        // Without a length the end of the connection is the end of the answer.
        let health = asked("HTTP/1.1 200 OK\r\n\r\n{\"generation\": 4}").await.expect("it says so");
        assert_eq!(health.generation, Some(4));
    }

    #[tokio::test]
    async fn i12_an_answer_has_a_bound() {
        let long = format!(r#"{{"padding": "{}"}}"#, "x".repeat(HEALTH_BYTES_MAX));
        assert!(matches!(asked(with_body(&long)).await, Err(AskError::Body(_))));
        let headers = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(4 * HEALTH_HEADER_BYTES_MAX));
        assert!(matches!(asked(headers).await, Err(AskError::Exchange(_))));
    }

    #[tokio::test]
    async fn what_is_no_sidecars_answer_is_none() {
        assert!(matches!(asked("SSH-2.0-OpenSSH\r\n").await, Err(AskError::Exchange(_))));
        assert!(matches!(asked("HTTP/1.1 404 Not Found\r\n\r\n").await, Err(AskError::Status(StatusCode::NOT_FOUND))));
        assert!(matches!(asked(with_body("ok")).await, Err(AskError::Parse(_))));
        // Nobody follows it to where a stranger's pod would like the operator to knock.
        let elsewhere = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(asked(elsewhere).await, Err(AskError::Status(StatusCode::FOUND))));
    }
}
