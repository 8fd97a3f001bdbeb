//! A connection that is kept: a request is sent on it, and its answer is read when it is wanted, so that one thread has many
//! requests under way.
//!
//! Owns: as much of HTTP/1.1 as the sidecar's answers need. Does not own: what an answer means.

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Sending;
use crate::servers::Response;

/// How long an answer may take: longer than any that is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// A connection to a server of this machine.
#[derive(Debug)]
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    /// The head of every request, up to the number behind `Content-Length`.
    head: String,
}

impl Connection {
    /// A connection on which bodies are posted.
    pub(super) fn open(port: u16, Sending { path, content_type, .. }: &Sending<'_>) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("failed to connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\nContent-Length: "
        );
        Ok(Self { stream: BufReader::new(stream), head })
    }

    /// Sends a request.
    pub(super) fn send(&mut self, body: &[u8]) -> Result<()> {
        let head = format!("{}{}\r\n\r\n", self.head, body.len());
        let stream = self.stream.get_mut();
        // Both at once where they are short: two writes are two packets.
        let written = stream.write_vectored(&[IoSlice::new(head.as_bytes()), IoSlice::new(body)])?;
        stream.write_all(head.as_bytes().get(written..).unwrap_or_default())?;
        stream.write_all(&body[written.saturating_sub(head.len())..])?;
        Ok(())
    }

    /// Reads the answer to the oldest request that has none.
    pub(super) fn receive(&mut self) -> Result<Response> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.context("the answer begins with no status")?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a line of the answer's head is no header")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Response { status, headers, body: Vec::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        answer.body = vec![0; length.context("the answer does not say its length")?];
        self.stream.read_exact(&mut answer.body).context("the answer is not whole")?;
        Ok(answer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).context("failed to read an answer")?;
        ensure!(length > 0, "the connection was closed without an answer");
        Ok(line.trim_end().to_owned())
    }
}
