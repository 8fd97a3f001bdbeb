//! The body of a request.
//!
//! Owns: reading it within a time, a length and what all of them may take together. Upholds I12. Does not own: what is in it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{BODY_TIMEOUT, LONG_REVIEW_TIMEOUT, REVIEW_BYTES_MAX, SHORT_REVIEW_BYTES_MAX};

/// A body that arrived whole.
#[derive(Debug)]
pub(super) struct WholeBody {
    /// What is in it.
    pub(super) bytes: Bytes,
    /// A long one has its turn for as long as it is held.
    _turn: Option<OwnedSemaphorePermit>,
}

/// Reads a body; one that is long when it is its turn by `long`.
///
/// # Errors
/// It is too long, too slow, broken, or one of too many; the answer says which.
pub(super) async fn read(body: Body, long: &Arc<Semaphore>) -> Result<WholeBody, Response> {
    let mut arriving = Arriving { body, bytes: Vec::new() };
    if arriving.comes_within(BODY_TIMEOUT, SHORT_REVIEW_BYTES_MAX).await? {
        return Ok(WholeBody { bytes: arriving.bytes.into(), _turn: None });
    }
    let turn = tokio::time::timeout(BODY_TIMEOUT, Arc::clone(long).acquire_owned()).await;
    // Nobody closes the semaphore.
    let Ok(Ok(turn)) = turn else {
        let words = format!("too many reviews of more than {SHORT_REVIEW_BYTES_MAX} bytes at once\n");
        return Err((StatusCode::SERVICE_UNAVAILABLE, words).into_response());
    };
    if arriving.comes_within(LONG_REVIEW_TIMEOUT, REVIEW_BYTES_MAX).await? {
        return Ok(WholeBody { bytes: arriving.bytes.into(), _turn: Some(turn) });
    }
    let words = format!("a review has at most {REVIEW_BYTES_MAX} bytes\n");
    Err((StatusCode::PAYLOAD_TOO_LARGE, words).into_response())
}

/// A body of which a part is there.
struct Arriving {
    body: Body,
    bytes: Vec<u8>,
}

impl Arriving {
    /// Reads on in this time; whether all of it is there, and no more than `length_max`.
    async fn comes_within(&mut self, time: Duration, length_max: usize) -> Result<bool, Response> {
        match tokio::time::timeout(time, self.comes(length_max)).await {
            Ok(Ok(is_whole)) => Ok(is_whole),
            Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body did not arrive whole\n").into_response()),
            Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response()),
        }
    }

    async fn comes(&mut self, length_max: usize) -> Result<bool, axum::Error> {
        while self.bytes.len() <= length_max {
            match self.body.frame().await {
                None => return Ok(true),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.bytes.extend_from_slice(&data);
                    }
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn i12_a_long_review_waits_for_its_turn_and_a_short_one_does_not() {
        let long = Arc::new(Semaphore::new(1));
        let body = |length: usize| Body::from(vec![b' '; length]);
        let first = read(body(SHORT_REVIEW_BYTES_MAX + 1), &long).await.expect("it is its turn");
        assert!(read(body(SHORT_REVIEW_BYTES_MAX + 1), &long).now_or_never().is_none());
        assert!(read(body(SHORT_REVIEW_BYTES_MAX), &long).await.is_ok());
        drop(first);
        assert!(read(body(REVIEW_BYTES_MAX), &long).await.is_ok());
    }
}
