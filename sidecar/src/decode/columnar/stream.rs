//! Arrow's IPC stream.
//!
//! Owns: its batches. Does not own: what they may hold (`super`).
//!
//! Source: <https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format>.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::ArrowError;

use super::{Source, illegal, words_of};
use crate::decode::error::{DecodeError, Violation};
use crate::decode::scan::{ScanLimits, too_many_records};

/// The batches of a stream that have a row.
pub(super) fn read_batches(body: &[u8], limits: &ScanLimits) -> Result<Vec<RecordBatch>, DecodeError> {
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

fn of_reader(error: &ArrowError) -> DecodeError {
    let words = words_of(error);
    // It is built without them: how far a buffer expands shows only when it is there.
    if words.contains("IPC decompression") {
        let detail =
            "the stream's buffers are compressed; send them as they are and compress the body (Content-Encoding)";
        return illegal(Violation::new("", "compressed-buffers", detail));
    }
    Source::Stream.malformed(&words)
}
