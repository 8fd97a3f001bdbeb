//! Arrow's IPC stream.
//!
//! Owns: its batches. Does not own: what they may hold (`super`).
//!
//! Source: <https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format>.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{Endianness, Message, root_as_message_with_opts};
use arrow_schema::ArrowError;
use flatbuffers::VerifierOptions;

use super::{Source, illegal, words_of};
use crate::decode::error::{DecodeError, Violation};
use crate::decode::scan::{ScanLimits, too_many_records};

/// The batches of a stream that have a row.
pub(super) fn read_batches(body: &[u8], limits: &ScanLimits) -> Result<Vec<RecordBatch>, DecodeError> {
    check_messages(body)?;
    let mut decoder = StreamDecoder::new();
    let mut rest = Buffer::from(body);
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    while !rest.is_empty() {
        let Some(batch) = decoder.decode(&mut rest).map_err(|error| of_reader(&error))? else { break };
        rows += batch.num_rows();
        if rows > limits.records_max {
            return Err(DecodeError::Illegal(too_many_records(limits.records_max).into()));
        }
        // A batch without a row, of which there can be many, is nothing.
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    if !rest.is_empty() {
        return Err(Source::Stream.malformed("there are bytes behind the end of the stream"));
    }
    decoder.finish().map_err(|error| of_reader(&error))?;
    if decoder.schema().is_none() {
        return Err(Source::Stream.malformed("it has no schema"));
    }
    Ok(batches)
}

/// What stands before the length of a message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// How often the bytes of a message's head may be named, on average: writers name each once, and a few twice.
const NAMED_MAX: usize = 4;

/// Checks what the messages of a stream say of their buffers. The reader copies a buffer that is not aligned, however often it is
/// named, and dictionaries that are added to, each time as a whole.
fn check_messages(body: &[u8]) -> Result<(), DecodeError> {
    const TORN: &str = "a message of it is not whole";
    let malformed = |fault: &str| Source::Stream.malformed(fault);
    let mut rest = body;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (length, behind) = match *length {
            // Streams of before have no such mark.
            CONTINUATION => behind.split_first_chunk::<4>().ok_or_else(|| malformed(TORN))?,
            _ => (length, behind),
        };
        let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| malformed(TORN))?;
        if length == 0 {
            return Ok(());
        }
        let (head, behind) = behind.split_at_checked(length).ok_or_else(|| malformed(TORN))?;
        // The reader makes each field, name and value of metadata as often as it is named.
        let options =
            VerifierOptions { max_apparent_size: head.len().saturating_mul(NAMED_MAX), ..VerifierOptions::default() };
        let message = root_as_message_with_opts(&options, head).map_err(|_| malformed("a message of it is none"))?;
        let content = usize::try_from(message.bodyLength()).ok().and_then(|length| behind.split_at_checked(length));
        let (content, behind) = content.ok_or_else(|| malformed(TORN))?;
        check_message(&message, content.len())?;
        rest = behind;
    }
    Ok(())
}

fn check_message(message: &Message<'_>, content_bytes: usize) -> Result<(), DecodeError> {
    let malformed = |fault: &str| Source::Stream.malformed(fault);
    if message.header_as_schema().is_some_and(|schema| schema.endianness() != Endianness::Little) {
        return Err(malformed("its numbers are not little-endian"));
    }
    let dictionary = message.header_as_dictionary_batch();
    if dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
        let detail = "the stream adds to its dictionaries; write them whole, or without dictionaries";
        return Err(illegal(Violation::new("", "delta-dictionaries", detail)));
    }
    let batch = dictionary.and_then(|dictionary| dictionary.data()).or_else(|| message.header_as_record_batch());
    let buffers = batch.and_then(|batch| batch.buffers()).into_iter().flatten();
    let length = |length: i64| usize::try_from(length).unwrap_or(usize::MAX);
    let all = buffers.map(|buffer| length(buffer.length())).fold(0, usize::saturating_add);
    if all > content_bytes { Err(malformed("its buffers lie at the same place")) } else { Ok(()) }
}

fn of_reader(error: &ArrowError) -> DecodeError {
    // It is built without them: how far a buffer expands shows only when it is there.
    if error.to_string().contains("IPC decompression") {
        let detail =
            "the stream's buffers are compressed; send them as they are and compress the body (Content-Encoding)";
        return illegal(Violation::new("", "compressed-buffers", detail));
    }
    Source::Stream.malformed(words_of(error))
}

#[cfg(test)]
mod tests;
