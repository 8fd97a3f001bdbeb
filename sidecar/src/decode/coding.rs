//! Content codings: a compressed body to its bytes, within a bound that holds while it is read.
//!
//! Owns: which codings there are, how far a body may expand. Does not own: the header that names one (`http`), what the
//! bytes are (`envelope`).
//!
//! Sources: RFC 1952 (gzip; members may follow each other), RFC 8878 (zstd; frames may follow each other), RFC 9659 (the
//! window that a receiver of zstd has to offer).

use std::borrow::Cow;
use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use super::error::{DecodeError, Violation};
use crate::limits::{DECODED_BYTES_MAX, EXPANSION_FREE_BYTES, EXPANSION_MAX, ZSTD_WINDOW_LOG_MAX};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// Not at all.
    #[default]
    Identity,
    /// `gzip`
    Gzip,
    /// `zstd`
    Zstd,
}

impl ContentCoding {
    /// The number that stands for the coding in the journal; it never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Identity => 0,
            Self::Gzip => 1,
            Self::Zstd => 2,
        }
    }

    /// The coding of a journal's number; `None` for one that this version does not know.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Identity),
            1 => Some(Self::Gzip),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its name in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A body as it was received and accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// How it is compressed.
    pub coding: ContentCoding,
    /// Its length when it is decompressed. Unit: bytes.
    pub decoded_bytes: u64,
    /// What was received.
    pub bytes: Bytes,
}

impl Body {
    /// Its bytes once more. Today's bounds, which may be narrower than those of its time, do not apply.
    ///
    /// # Errors
    /// `Malformed`: it is not what was accepted.
    pub fn decoded(&self) -> Result<Cow<'_, [u8]>, DecodeError> {
        let other = || {
            let detail = format!("the body does not have the {} bytes that it was accepted with", self.decoded_bytes);
            DecodeError::Malformed(Violation::new("", "content-coding", detail).into())
        };
        let length = usize::try_from(self.decoded_bytes).map_err(|_| other())?;
        let bytes = decoded_within(self.coding, &self.bytes, length, other)?;
        if bytes.len() == length { Ok(bytes) } else { Err(other()) }
    }
}

impl From<Bytes> for Body {
    /// A body that is not compressed.
    fn from(bytes: Bytes) -> Self {
        Self { coding: ContentCoding::Identity, decoded_bytes: bytes.len() as u64, bytes }
    }
}

/// The bytes of a new body.
///
/// # Errors
/// `Malformed` when the body is not what its coding says, its end included; `TooLong` when it becomes longer than a body may.
pub fn decoded(coding: ContentCoding, body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let bytes_max = body.len().saturating_mul(EXPANSION_MAX).clamp(EXPANSION_FREE_BYTES, DECODED_BYTES_MAX);
    decoded_within(coding, body, bytes_max, || {
        let detail = format!(
            "the body becomes longer than {bytes_max} bytes, from {} bytes of {}; a body may become {EXPANSION_MAX} times as \
             long or {EXPANSION_FREE_BYTES} bytes, and at most {DECODED_BYTES_MAX}; send it in parts or with less compression",
            body.len(),
            coding.name()
        );
        DecodeError::TooLong(Violation::new("", "expansion", detail).into())
    })
}

/// Bytes that become exactly `length`, of a coding that is one.
pub(super) fn expanded_to(coding: ContentCoding, bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let other = || DecodeError::Malformed(Violation::new("", "content-coding", "it becomes longer").into());
    let expanded = decoded_within(coding, bytes, length, other).ok()?.into_owned();
    (expanded.len() == length).then_some(expanded)
}

fn decoded_within<'a>(
    coding: ContentCoding,
    body: &'a [u8],
    bytes_max: usize,
    too_long: impl FnOnce() -> DecodeError,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let read = match coding {
        ContentCoding::Identity => return Ok(Cow::Borrowed(body)),
        ContentCoding::Gzip => read_within(MultiGzDecoder::new(body), body.len(), bytes_max),
        ContentCoding::Zstd => zstd_reader(body).and_then(|reader| read_within(reader, body.len(), bytes_max)),
    };
    let bytes = read.map_err(|_| {
        // What the decoders say is about their own insides.
        let detail = format!("the body of {} bytes is not whole and correct {}", body.len(), coding.name());
        DecodeError::Malformed(Violation::new("", "content-coding", detail).into())
    })?;
    if bytes.len() > bytes_max { Err(too_long()) } else { Ok(Cow::Owned(bytes)) }
}

fn zstd_reader(body: &[u8]) -> io::Result<impl Read> {
    let mut reader = zstd::stream::read::Decoder::with_buffer(body)?;
    reader.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(reader)
}

/// A guess at how many times longer a body of records becomes, for the first allocation.
const EXPANSION_GUESS: usize = 8;

/// At most one byte more than `bytes_max`, so that the caller sees that there is more.
fn read_within(reader: impl Read, body_bytes: usize, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body_bytes.saturating_mul(EXPANSION_GUESS).min(bytes_max + 1));
    reader.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
