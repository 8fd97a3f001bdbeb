//! A request's body, within its bounds.
//!
//! Owns: length, time, what is in flight at once, type and encoding. Does not own: what is in the body.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::decode::{ContentCoding, Format};
use crate::http::problem::{Problem, ProblemKind};
use crate::limits::{BODY_BYTES_MAX, BODY_TIMEOUT, IN_FLIGHT_BODY_BYTES_MAX, IN_FLIGHT_WAIT_MAX};

/// Bodies in flight are counted in steps of so many bytes.
const STEP_BYTES: usize = 1 << 10;

/// Room for bodies in flight, taken as their bytes arrive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Room that all share, less what `last` stands for.
    steps: Arc<Semaphore>,
    /// Room for one whole body, for one that found no other. Bodies that together fill what all share, each in part,
    /// would otherwise wait for each other until they are refused.
    last: Arc<Semaphore>,
    wait: Duration,
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new(IN_FLIGHT_BODY_BYTES_MAX, IN_FLIGHT_WAIT_MAX)
    }
}

/// What a body has of the room.
#[derive(Debug, Default)]
struct Room {
    steps: Option<OwnedSemaphorePermit>,
    last: Option<OwnedSemaphorePermit>,
}

/// A body with the room that it takes.
#[derive(Debug)]
struct Held {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl InFlight {
    fn new(room_bytes: usize, wait: Duration) -> Self {
        let steps = (room_bytes - BODY_BYTES_MAX) / STEP_BYTES;
        Self { steps: Arc::new(Semaphore::new(steps)), last: Arc::new(Semaphore::new(1)), wait }
    }

    /// Receives a body. It counts as in flight for as long as any clone or part of it lives: a body that waits for the disk
    /// takes its room, although who has sent it may be gone.
    ///
    /// # Errors
    /// It is too long or too slow, the connection broke, or too much is in flight.
    pub async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = declared.and_then(|length| length.parse::<usize>().ok()).unwrap_or_default();
        if length > BODY_BYTES_MAX {
            return Err(too_large());
        }
        match tokio::time::timeout(BODY_TIMEOUT, self.collect(length, body)).await {
            Ok(received) => received,
            Err(_) => {
                let detail = format!("the body was not whole after {} s", BODY_TIMEOUT.as_secs());
                Err(Problem::new(ProblemKind::Slow, detail))
            }
        }
    }

    /// Collects a body of `length` bytes, or of unknown length if that is 0.
    async fn collect(&self, length: usize, mut body: Body) -> Result<Bytes, Problem> {
        let mut room = Room::default();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let broken = |_| Problem::new(ProblemKind::Malformed, "the connection broke before the body was whole");
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            self.take(&mut room, bytes.len() + data.len()).await?;
            if bytes.is_empty() {
                // Addresses alone: a page of it is memory once bytes were written to it.
                bytes.reserve(length.max(data.len()));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Bytes::from_owner(Held { bytes: bytes.freeze(), _room: room }))
    }

    /// Takes what a body of `bytes` bytes needs beside the room that it has.
    async fn take(&self, room: &mut Room, bytes: usize) -> Result<(), Problem> {
        let taken = room.steps.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = bytes.div_ceil(STEP_BYTES).saturating_sub(taken);
        if needed == 0 || room.last.is_some() {
            return Ok(());
        }
        let needed = u32::try_from(needed).expect("a body is short enough for its steps to be counted so");
        let taken = tokio::time::timeout(self.wait, async {
            tokio::select! {
                biased;
                steps = Arc::clone(&self.steps).acquire_many_owned(needed) => steps.map(|steps| (Some(steps), None)),
                last = Arc::clone(&self.last).acquire_owned() => last.map(|last| (None, Some(last))),
            }
        });
        let Ok(Ok((steps, last))) = taken.await else {
            let detail = format!("{IN_FLIGHT_BODY_BYTES_MAX} bytes of bodies are being received");
            return Err(Problem::new(ProblemKind::Busy, detail));
        };
        room.last = last;
        match (&mut room.steps, steps) {
            (Some(taken), Some(steps)) => taken.merge(steps),
            (taken @ None, steps) => *taken = steps,
            (Some(_), None) => {}
        }
        Ok(())
    }
}

fn too_large() -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("the body has more than {BODY_BYTES_MAX} bytes; send it in parts"))
}

/// How a body is compressed, by its headers: once at the most.
///
/// # Errors
/// The coding is not supported.
pub(super) fn coding_of(headers: &HeaderMap) -> Result<ContentCoding, Problem> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(ContentCoding::Identity) };
    let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    let coding = match name.as_str() {
        "identity" => Some(ContentCoding::Identity),
        // RFC 9110, 8.4.1.3: the older name is the same.
        "gzip" | "x-gzip" => Some(ContentCoding::Gzip),
        "zstd" => Some(ContentCoding::Zstd),
        _ => None,
    };
    match coding {
        Some(coding) if values.next().is_none() => Ok(coding),
        _ => {
            let detail = "the Content-Encoding must be gzip, zstd or identity, one of them alone";
            Err(Problem::new(ProblemKind::UnsupportedCoding, detail))
        }
    }
}

/// How a body is written, by its headers. No content type, and the form type that `curl -d` sends by itself, mean JSON.
///
/// # Errors
/// The type is not supported.
pub(super) fn format_of(headers: &HeaderMap) -> Result<Format, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Format::Json) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(Format::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Format::Ndjson),
        "text/csv" => csv_of(text.split(';').skip(1)),
        // Source: <https://www.iana.org/assignments/media-types/application/vnd.apache.arrow.stream>.
        "application/vnd.apache.arrow.stream" => Ok(Format::ArrowStream),
        // Source: <https://www.iana.org/assignments/media-types/application/vnd.apache.parquet>.
        "application/vnd.apache.parquet" => Ok(Format::Parquet),
        _ => {
            let detail = "the Content-Type must be application/json, application/x-ndjson, text/csv, \
                          application/vnd.apache.arrow.stream or application/vnd.apache.parquet";
            Err(Problem::new(ProblemKind::UnsupportedType, detail))
        }
    }
}

/// CSV with the parameters of RFC 7111: without a header its first row would be taken for one.
fn csv_of<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Format, Problem> {
    for (name, value) in parameters.filter_map(|parameter| parameter.split_once('=')) {
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_ascii_lowercase());
        let is_supported = match name.as_str() {
            "header" => value == "present",
            "charset" => matches!(value.as_str(), "utf-8" | "us-ascii"),
            _ => true,
        };
        if !is_supported {
            let detail = "CSV must have a header, and be UTF-8: text/csv; header=present; charset=utf-8";
            return Err(Problem::new(ProblemKind::UnsupportedType, detail));
        }
    }
    Ok(Format::Csv)
}

#[cfg(test)]
mod tests;
