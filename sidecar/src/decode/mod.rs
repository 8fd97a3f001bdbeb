//! Turns the bytes of a request into checked records, and records into Arrow columns.
//!
//! Owns: content codings, the strict scanner, the envelope, the verdicts on bytes and records, Arrow columns.
//! Does not own: types across requests (`schema`), the wire and its limits (`http`), storage.
//!
//! Everything here is pure: no clock, no I/O, no state between calls.
//! That is what lets a journaled body be decoded again after a restart with the same result.
//!
//! ```text
//! body --decoded--> bytes --read--> Records --schema::observe--> Observation       (when a body is accepted)
//! body --decoded--> bytes --read--> Records --decode--> DecodedRows                 (when a segment is flushed)
//! ```

mod bytes;
mod coding;
mod columnar;
mod columns;
mod csv;
mod envelope;
mod error;
mod escape;
mod instant;
mod number;
mod records;
mod scan;
mod tape;

pub use coding::{Body, ContentCoding, decoded};
pub use columnar::Columnar;
pub(crate) use columnar::{Lines, columns_of};
pub use columns::{DecodedRows, Target, decode_rows};
pub(crate) use columns::{arrow_field, days_of_column};
pub use envelope::{Format, Scanned, check_table_name, parse_partition_date, scan};
pub use error::{DecodeError, Kind, VIOLATIONS_MAX, Violation, Violations};
pub use records::Records;
pub use scan::ScanLimits;
pub use tape::{Elements, Members, NodeKind, Value};

pub(crate) use bytes::{parse_base64, parse_uuid};
pub(crate) use error::pointer_segment;
pub(crate) use instant::{date_of_days, is_timestamp, parse_date, parse_timestamp};
pub(crate) use number::{integer_is_exact_in_f64, kind_of_number, parse_decimal, parse_integer};
