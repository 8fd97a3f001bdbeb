//! A request's body, within its bounds.
//!
//! Owns: length, time, what is in flight at once, type and encoding. Does not own: what is in the body.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::decode::Format;
use crate::http::problem::{Problem, ProblemKind};
use crate::limits::{BODY_BYTES_MAX, BODY_TIMEOUT, IN_FLIGHT_BODY_BYTES_MAX, IN_FLIGHT_WAIT_MAX};

/// Bodies in flight are counted in steps of so many bytes.
const STEP_BYTES: usize = 1 << 10;

/// Room for bodies in flight. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InFlight {
    steps: Arc<Semaphore>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { steps: Arc::new(Semaphore::new(IN_FLIGHT_BODY_BYTES_MAX / STEP_BYTES)) }
    }
}

/// A body that was received. It counts as in flight until this is dropped.
#[derive(Debug)]
pub struct Received {
    /// The body.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl InFlight {
    /// Receives a body.
    ///
    /// # Errors
    /// It is too long or too slow, the connection broke, or too much is in flight.
    pub async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Received, Problem> {
        let too_large = || {
            Problem::new(
                ProblemKind::TooLarge,
                format!("the body has more than {BODY_BYTES_MAX} bytes; send it in parts"),
            )
        };
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = declared.and_then(|length| length.parse::<usize>().ok()).unwrap_or(BODY_BYTES_MAX);
        if length > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let room = self.room(length).await?;
        let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
        match collected {
            Ok(Ok(collected)) => Ok(Received { bytes: collected.to_bytes(), _room: room }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::new(ProblemKind::Malformed, "the connection broke before the body was whole")),
            Err(_) => {
                let detail = format!("the body was not whole after {} s", BODY_TIMEOUT.as_secs());
                Err(Problem::new(ProblemKind::Slow, detail))
            }
        }
    }

    async fn room(&self, length: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let steps = u32::try_from(length.div_ceil(STEP_BYTES).max(1)).unwrap_or(u32::MAX);
        let acquired =
            tokio::time::timeout(IN_FLIGHT_WAIT_MAX, Arc::clone(&self.steps).acquire_many_owned(steps)).await;
        match acquired {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => {
                let detail = format!("{IN_FLIGHT_BODY_BYTES_MAX} bytes of bodies are being received");
                Err(Problem::new(ProblemKind::Busy, detail))
            }
        }
    }
}

/// How a body is written, by its headers. No content type, and the form type that `curl -d` sends by itself, mean JSON.
///
/// # Errors
/// The type or the encoding is not supported.
pub(super) fn format_of(headers: &HeaderMap) -> Result<Format, Problem> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    if encoding.is_some_and(|encoding| encoding != b"identity") {
        return Err(Problem::new(ProblemKind::Unsupported, "the Content-Encoding must be identity"));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Format::Json) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(Format::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Format::Ndjson),
        _ => {
            let detail = "the Content-Type must be application/json or application/x-ndjson";
            Err(Problem::new(ProblemKind::Unsupported, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_curl_sends_by_itself_is_json() {
        assert_eq!(format_of(&headers(&[])).ok(), Some(Format::Json));
        let form = headers(&[(header::CONTENT_TYPE, "application/x-www-form-urlencoded")]);
        assert_eq!(format_of(&form).ok(), Some(Format::Json));
        let lines = headers(&[(header::CONTENT_TYPE, "application/x-ndjson; charset=utf-8")]);
        assert_eq!(format_of(&lines).ok(), Some(Format::Ndjson));
    }

    #[test]
    fn other_types_and_encodings_are_refused() {
        assert!(format_of(&headers(&[(header::CONTENT_TYPE, "text/csv")])).is_err());
        assert!(format_of(&headers(&[(header::CONTENT_ENCODING, "gzip")])).is_err());
        assert!(format_of(&headers(&[(header::CONTENT_ENCODING, "identity")])).is_ok());
    }
}
