//! A blocking HTTP client for servers on this machine.
//!
//! Owns: sending one request and holding its whole answer, whatever its status.
//! Does not own: retries (there are none), proxies (none is used).

use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use ureq::Agent;

/// Longest answer that is read. Unit: bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest that one request may take: the sidecar answers an `/ingest` within 30 s, the rest is for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long a connection that is not used is kept: a little less than the sidecar keeps it (5 s), so that no request
/// is sent on one that is just being closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// Connections that are kept: one for each thread that shares a client.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON of this shape; the message holds the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("failed to read an answer {} as JSON: {}", self.status, self.text()))
    }
}

/// A client that keeps its connections.
pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .max_idle_age(IDLE_TIME_MAX)
        .max_idle_connections(IDLE_CONNECTIONS_MAX)
        .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
        .build()
        .new_agent()
}

/// Sends one request; without a body it is sent as one that has none.
///
/// # Errors
/// When no whole answer came: whether the server acted on the request is then unknown.
pub(crate) fn send(
    agent: &Agent,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Response> {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let unbuildable = || format!("failed to build {method} {url}");
    let unanswered = || format!("failed to get an answer to {method} {url}");
    let mut answer = match body {
        Some(body) => agent.run(request.body(body).with_context(unbuildable)?),
        None => agent.run(request.body(()).with_context(unbuildable)?),
    }
    .with_context(unanswered)?;
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().with_context(unanswered)?;
    Ok(Response { status, headers, body })
}
