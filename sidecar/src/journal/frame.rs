//! The bytes around every entry of a log file.
//!
//! Owns: the layout of a log file's header and of a frame's header, and their checks.
//! Does not own: what a payload means (`batch`, `control`), files (`writer`, `reader`).
//!
//! All integers are little-endian. `docs/journal.md` describes the same bytes for people.

use crate::limits::FRAME_PAYLOAD_BYTES_MAX;
use crate::seeded::{self, Bug};

/// The first bytes of a log file.
pub const LOG_MAGIC: [u8; 8] = *b"LAKEJRNL";

/// The version of the bytes in a log file that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Length of a log file's header. Unit: bytes.
pub const LOG_HEADER_BYTES: usize = 80;

/// Length of a frame's header. Unit: bytes.
pub const FRAME_HEADER_BYTES: usize = 40;

/// The first bytes of a frame; not zero, so that space that was reserved and never written is told from a frame.
const FRAME_MARKER: [u8; 4] = *b"LKFR";

/// What a frame holds. The codes are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A table's schema, under its fingerprint; stands before the first batch of the file that names it.
    Schema,
    /// The body of a request, as it was received.
    Batch,
    /// The end of a segment.
    Seal,
    /// What a segment becomes in the lake, written before the first byte leaves.
    Plan,
    /// A segment is in the lake, verified and described.
    Retire,
    /// The idempotency keys of a retired segment; in the key log alone.
    Keys,
    /// A code that this build does not know. The frame's length can be believed, its payload cannot be used.
    Unknown(u8),
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Schema => 1,
            Self::Batch => 2,
            Self::Seal => 3,
            Self::Plan => 4,
            Self::Retire => 5,
            Self::Keys => 6,
            Self::Unknown(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Schema,
            2 => Self::Batch,
            3 => Self::Seal,
            4 => Self::Plan,
            5 => Self::Retire,
            6 => Self::Keys,
            code => Self::Unknown(code),
        }
    }
}

/// What stands at the head of a log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHeader {
    /// The journal's id: 128 random bits, the same in each of its files.
    pub journal: [u8; 16],
    /// The epoch in which segments are begun in this file: 64 random bits.
    pub epoch: u64,
    /// The number of this file, counting from 1 without a gap.
    pub file: u64,
    /// The sequence of the first frame that can stand in this file.
    pub first_sequence: u64,
    /// The number of the first segment that can be begun in this file.
    pub first_segment: u64,
    /// Length of the file before this one when this one was begun: one that is shorter has lost its end. 0 where there is
    /// none, or where an earlier build has begun this file. Unit: bytes.
    pub previous_bytes: u64,
    /// Length of this file where it was written anew without what is in the lake; 0 where it is as it was written. A build
    /// that does not know of it takes such a file for one that has lost its end, and all frames of it. Unit: bytes.
    pub anew_bytes: u32,
    /// Random bits that every checksum of this file starts from, so that bytes which a client sends, or which an
    /// older file left on the disk, do not pass for a frame of this one.
    pub salt: u32,
}

/// Why the head of a log file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogHeaderFault {
    /// Too short, the wrong magic or a wrong checksum.
    Damaged,
    /// A format that this build does not know.
    UnknownVersion(u32),
}

impl LogHeader {
    /// How long the file before the one with this header was left, whose own header is `before`; 0 if nobody knows.
    pub fn length_of(&self, before: &Self) -> u64 {
        if before.anew_bytes == 0 { self.previous_bytes } else { u64::from(before.anew_bytes) }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; LOG_HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(LOG_HEADER_BYTES);
        bytes.extend_from_slice(&LOG_MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.journal);
        for number in [self.epoch, self.file, self.first_sequence, self.first_segment, self.previous_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.anew_bytes.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.try_into().expect("the fields above are as long as the header")
    }

    /// Reads a header.
    ///
    /// # Errors
    /// See [`LogHeaderFault`]; the version is looked at before the checksum, since a later version may have
    /// another layout behind it.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogHeaderFault> {
        let bytes: &[u8; LOG_HEADER_BYTES] =
            bytes.first_chunk().filter(|bytes| bytes.starts_with(&LOG_MAGIC)).ok_or(LogHeaderFault::Damaged)?;
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(LogHeaderFault::UnknownVersion(version));
        }
        let (covered, checksum) = bytes.split_at(LOG_HEADER_BYTES - 4);
        if crc32c::crc32c(covered) != u32_at(checksum, 0) {
            return Err(LogHeaderFault::Damaged);
        }
        Ok(Self {
            salt: u32_at(bytes, 12),
            journal: array_at(bytes, 16),
            epoch: u64_at(bytes, 32),
            file: u64_at(bytes, 40),
            first_sequence: u64_at(bytes, 48),
            first_segment: u64_at(bytes, 56),
            previous_bytes: u64_at(bytes, 64),
            anew_bytes: u32_at(bytes, 72),
        })
    }
}

/// What stands at the head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: FrameKind,
    /// Length of the payload. Unit: bytes.
    pub payload_bytes: u32,
    /// The frame's number in the journal; grows by one with each frame.
    pub sequence: u64,
    /// The segment that the frame belongs to; 0 for a schema.
    pub segment: u64,
    payload_checksum: u32,
}

/// What stands where a frame should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameStart {
    /// A header whose checksum holds.
    Header(FrameHeader),
    /// Zeroes: reserved and never written.
    Unwritten,
    /// Anything else, or too few bytes.
    Damaged,
}

impl FrameHeader {
    /// The header of `payload` in a file with `salt`.
    pub fn of(kind: FrameKind, sequence: u64, segment: u64, payload: &[u8], salt: u32) -> Self {
        let payload_bytes = u32::try_from(payload.len()).expect("a payload is bounded by the body's limit");
        debug_assert!(payload_bytes <= FRAME_PAYLOAD_BYTES_MAX, "payload of {payload_bytes} bytes");
        Self { kind, payload_bytes, sequence, segment, payload_checksum: checksum(salt, payload) }
    }

    /// The header's bytes in a file with `salt`.
    pub fn encode(&self, salt: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&FRAME_MARKER);
        bytes[4] = self.kind.code();
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.segment.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let header_checksum = checksum(salt, &bytes[..36]);
        bytes[36..].copy_from_slice(&header_checksum.to_le_bytes());
        bytes
    }

    /// Reads what stands at the start of `bytes`, which are from a file with `salt`.
    pub fn decode(bytes: &[u8], salt: u32) -> FrameStart {
        let Some(bytes) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return if bytes.iter().all(|byte| *byte == 0) { FrameStart::Unwritten } else { FrameStart::Damaged };
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return FrameStart::Unwritten;
        }
        let payload_bytes = u32_at(bytes, 8);
        if !bytes.starts_with(&FRAME_MARKER)
            || checksum(salt, &bytes[..36]) != u32_at(bytes, 36)
            || payload_bytes > FRAME_PAYLOAD_BYTES_MAX
        {
            return FrameStart::Damaged;
        }
        FrameStart::Header(Self {
            kind: FrameKind::from_code(bytes[4]),
            payload_bytes,
            sequence: u64_at(bytes, 12),
            segment: u64_at(bytes, 20),
            payload_checksum: u32_at(bytes, 32),
        })
    }

    /// Whether `payload` is what was written.
    pub fn matches(&self, payload: &[u8], salt: u32) -> bool {
        payload.len() == self.payload_bytes as usize
            && (checksum(salt, payload) == self.payload_checksum || seeded::is(Bug::SkipChecksum))
    }

    /// Length of the frame, header and payload. Unit: bytes.
    pub fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }
}

/// Where the next frame marker stands in `bytes`, at or behind `from`.
pub fn find_marker(bytes: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(FRAME_MARKER.len()).position(|window| window == FRAME_MARKER).map(|at| from + at)
}

/// CRC-32C of `bytes`, started from `salt`.
fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(salt, bytes)
}

fn array_at<const LENGTH: usize>(bytes: &[u8], at: usize) -> [u8; LENGTH] {
    bytes[at..at + LENGTH].try_into().expect("the slice has the array's length")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> LogHeader {
        LogHeader {
            journal: [7; 16],
            epoch: 0x0102_0304_0506_0708,
            file: 3,
            first_sequence: 41,
            first_segment: 5,
            previous_bytes: 4_711,
            anew_bytes: 815,
            salt: 0xDEAD_BEEF,
        }
    }

    #[test]
    fn a_log_header_is_read_as_it_was_written() {
        assert_eq!(LogHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_of_a_log_header_is_found() {
        for bit in 0..LOG_HEADER_BYTES * 8 {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(LogHeader::decode(&bytes).is_err(), "bit {bit} went unseen");
        }
    }

    #[test]
    fn a_later_format_is_named_and_not_taken_for_damage() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        assert_eq!(LogHeader::decode(&bytes), Err(LogHeaderFault::UnknownVersion(2)));
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_found() {
        let payload = b"payload";
        let frame = FrameHeader::of(FrameKind::Batch, 12, 3, payload, 77);
        let whole: Vec<u8> = frame.encode(77).into_iter().chain(*payload).collect();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let intact = match FrameHeader::decode(&bytes, 77) {
                FrameStart::Header(read) => read.matches(&bytes[FRAME_HEADER_BYTES..], 77),
                FrameStart::Unwritten | FrameStart::Damaged => false,
            };
            assert!(!intact, "bit {bit} went unseen");
        }
    }

    #[test]
    fn a_frame_of_another_file_is_not_a_frame_of_this_one() {
        let bytes = FrameHeader::of(FrameKind::Seal, 1, 1, b"", 1).encode(1);
        assert!(matches!(FrameHeader::decode(&bytes, 1), FrameStart::Header(_)));
        assert_eq!(FrameHeader::decode(&bytes, 2), FrameStart::Damaged);
    }

    #[test]
    fn reserved_space_is_told_from_damage() {
        assert_eq!(FrameHeader::decode(&[0; 64], 1), FrameStart::Unwritten);
        assert_eq!(FrameHeader::decode(&[0; 3], 1), FrameStart::Unwritten);
        assert_eq!(FrameHeader::decode(&[1; 64], 1), FrameStart::Damaged);
    }
}
