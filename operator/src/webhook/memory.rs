//! How much memory reviews may take at once.
//!
//! Owns: telling from the bytes of a review, before it is read, what it will take, and letting no more in than there is room for.
//! Upholds I12: any pod of the cluster can reach the port, and few bytes can be very many values.
//! Does not own: reading it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::limits::{LARGE_BODIES_AT_ONCE_MAX, REVIEW_ROOM_WAIT, REVIEWS_MEMORY_BYTES_MAX};

/// What is counted at once. Unit: bytes.
const UNIT_BYTES: usize = 1 << 10;

/// What an object or a list that is not empty takes beside what is in it. Unit: bytes.
/// Derivation: a node of the ordered map has places for eleven names and values, of 24 and 32 bytes, whether they are taken or
/// not.
const CONTAINER_BYTES: usize = 640;

/// What a value takes beside its text. Unit: bytes.
/// Derivation: its place in a list that has grown to twice its length, and the least block that holds its name.
const VALUE_BYTES: usize = 96;

/// How often a pod is in memory while it is decided over: as it came, and as it will be.
const COPIES: usize = 2;

/// There is no room for a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoom {
    /// It is too much by itself.
    #[error(
        "lakeingest: the pod has too many values to be looked at: it would take {bytes} bytes of memory, and at most {REVIEWS_MEMORY_BYTES_MAX} are for pods; take some of its fields away"
    )]
    Ever {
        /// What it would take.
        bytes: usize,
    },
    /// Others have it.
    #[error("lakeingest: too many large pods are being created at this moment; try again")]
    Now,
}

/// Room for reviews. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory {
    large_bodies: Arc<Semaphore>,
    values: Arc<Semaphore>,
    /// How long is waited for it.
    wait: Duration,
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_wait(REVIEW_ROOM_WAIT)
    }
}

impl Memory {
    fn with_wait(wait: Duration) -> Self {
        let values = Arc::new(Semaphore::new(REVIEWS_MEMORY_BYTES_MAX / UNIT_BYTES));
        Self { large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_AT_ONCE_MAX)), values, wait }
    }

    /// Room for a body that turns out to be large.
    pub(super) async fn for_large_body(&self) -> Result<OwnedSemaphorePermit, NoRoom> {
        self.in_time(Arc::clone(&self.large_bodies).acquire_owned()).await
    }

    /// Room for what a body will be once it is read.
    pub(super) async fn for_values(&self, body: &[u8]) -> Result<OwnedSemaphorePermit, NoRoom> {
        let bytes = memory_of(body);
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        if bytes > REVIEWS_MEMORY_BYTES_MAX {
            return Err(NoRoom::Ever { bytes });
        }
        self.in_time(Arc::clone(&self.values).acquire_many_owned(units)).await
    }

    async fn in_time(
        &self,
        acquired: impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>>,
    ) -> Result<OwnedSemaphorePermit, NoRoom> {
        match tokio::time::timeout(self.wait, acquired).await {
            Ok(Ok(permit)) => Ok(permit),
            // Nobody closes a semaphore.
            Ok(Err(_)) | Err(_) => Err(NoRoom::Now),
        }
    }
}

/// What a text of JSON takes at most while a pod of it is decided over. Unit: bytes. What is no JSON takes no more.
fn memory_of(body: &[u8]) -> usize {
    let (mut containers, mut values) = (0_usize, 1_usize);
    let (mut is_text, mut is_escaped, mut is_begun) = (false, false, false);
    for byte in body {
        // One that is empty takes nothing: the fields that a manager of an object has are a great many of them.
        if is_begun && !byte.is_ascii_whitespace() {
            is_begun = false;
            containers += usize::from(!matches!(byte, b'}' | b']'));
        }
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => (is_begun, values) = (true, values + 1),
            b',' => values += 1,
            _ => {}
        }
    }
    let once = body.len() + containers.saturating_mul(CONTAINER_BYTES) + values.saturating_mul(VALUE_BYTES);
    once.saturating_mul(COPIES)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_takes_is_told_by_its_values_and_not_by_its_length() {
        let of = |value: serde_json::Value| memory_of(value.to_string().as_bytes());
        let text = of(json!({"a": "x,{[".repeat(100)}));
        assert_eq!(text, COPIES * (408 + CONTAINER_BYTES + 2 * VALUE_BYTES), "what is in a text is none");
        assert_eq!(memory_of(br#"{"a\"{":1}"#), COPIES * (10 + CONTAINER_BYTES + 2 * VALUE_BYTES));
        let many = of(serde_json::Value::from(vec![json!({"a": 1}); 1_000]));
        assert!(many > 1_000 * COPIES * (CONTAINER_BYTES + VALUE_BYTES), "{many}");
        let empty = of(serde_json::Value::from(vec![json!({}); 1_000]));
        assert_eq!(empty, COPIES * (3_001 + CONTAINER_BYTES + 2_001 * VALUE_BYTES));
        assert_eq!(memory_of(b"{ }"), COPIES * (3 + 2 * VALUE_BYTES));
    }

    #[tokio::test]
    async fn i12_a_review_that_is_too_much_is_refused_and_others_wait_for_room() {
        let memory = Memory::with_wait(Duration::from_millis(1));
        let too_much = "{\"\":0},".repeat(100_000);
        let refusal = memory.for_values(too_much.as_bytes()).await.expect_err("it is too much").to_string();
        assert!(refusal.contains("too many values") && refusal.contains("take some of its fields away"), "{refusal}");
        let half = "[0],".repeat(REVIEWS_MEMORY_BYTES_MAX / COPIES / (CONTAINER_BYTES + 2 * VALUE_BYTES + 4) * 2 / 3);
        let first = memory.for_values(half.as_bytes()).await.expect("there is room");
        assert_eq!(memory.for_values(half.as_bytes()).await.expect_err("there is none now"), NoRoom::Now);
        drop(memory.for_values(b"{}").await.expect("a small one finds room"));
        drop(first);
        drop(memory.for_values(half.as_bytes()).await.expect("there is room again"));

        let large: Vec<_> =
            futures::future::join_all((0..LARGE_BODIES_AT_ONCE_MAX).map(|_| memory.for_large_body())).await;
        assert!(large.iter().all(Result::is_ok));
        assert_eq!(memory.for_large_body().await.expect_err("there are too many"), NoRoom::Now);
    }
}
