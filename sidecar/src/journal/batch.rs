//! The payload of a batch frame: one request's body, as it was received, with what its decoding depends on.
//!
//! Owns: the layout. Does not own: decoding the body (`decode`).
//!
//! Shape, integers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | format code of the body (`decode::Format`) |
//! | 1 | content coding of the body (`decode::ContentCoding`) |
//! | 2 | options, added up: 1 when some of the records do not fit, 2 when each has a day of its own, 4 when its values are longer than the body |
//! | 4 | records in the body |
//! | 8 | receive time, microseconds since 1970 UTC, signed |
//! | 4 | partition date, days since 1970, signed |
//! | 32 | fingerprint of the schema that the body is decoded with |
//! | 1 + n | table name |
//! | 2 + n | idempotency key, empty for none |
//! | 32, only with a key | SHA-256 of what the key stands for |
//! | 2 + n | bitmap of the schema's columns that have a value in the body, lowest bit first |
//! | 4, only with a coding | length of the body when it is decompressed |
//! | 4, only with option 1 | records in the body that do not fit |
//! | 2 + 4n, only with option 2 | days under which those lie that fit, days since 1970, signed, ascending |
//! | 4, only with option 4 | length of the values |
//! | rest | the body |

use std::collections::BTreeSet;

use chrono::NaiveDate;

use crate::decode::{Body, ContentCoding, Format};
use crate::schema::{DayRule, Days, Fingerprint};

/// One accepted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How the body is written.
    pub format: Format,
    /// Records in the body.
    pub rows: u32,
    /// Records of them that were seen not to fit when the body was accepted, and go to quarantine. Which ones they are
    /// the body tells, whenever it is decoded.
    pub misfits: u32,
    /// When the request was received. Unit: microseconds since 1970, UTC.
    pub received_micros: i64,
    /// The day under which its records lie, or those of them that have no day of their own.
    pub partition_date: NaiveDate,
    /// The days under which those lie that fit, where each has its own by a column of `schema`.
    pub days: Option<BTreeSet<NaiveDate>>,
    /// The schema that the body is decoded with.
    pub schema: Fingerprint,
    /// The table, already checked.
    pub table: String,
    /// The request's idempotency key and the SHA-256 of its decoded body, table and partition date.
    pub key: Option<(String, [u8; 32])>,
    /// Which columns of the schema have a value in the body.
    pub present: Vec<bool>,
    /// The length of its values, if they are longer than the body: one of columns can name a value many times. Unit: bytes.
    pub expanded_bytes: Option<u32>,
    /// The body, as it was received.
    pub body: Body,
}

/// What a payload lacks to be a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read a batch frame at its {field}")]
pub struct BatchError {
    field: &'static str,
}

/// The fields in front of the table name. Unit: bytes.
const FIXED_BYTES: usize = 1 + 1 + 2 + 4 + 8 + 4 + 32;

/// The option of a batch that counts records which do not fit.
const WITH_MISFITS: u16 = 1;

/// The option of a batch whose records have days of their own.
const WITH_DAYS: u16 = 2;

/// The option of a batch whose values are longer than its body.
const WITH_EXPANDED_BYTES: u16 = 4;

/// Days from 0001-01-01, which chrono counts from, to 1970-01-01.
const DAYS_TO_1970: i32 = 719_163;

/// A date as days since 1970.
pub fn days_since_1970(date: NaiveDate) -> i32 {
    use chrono::Datelike;
    date.num_days_from_ce() - DAYS_TO_1970
}

/// The inverse of [`days_since_1970`].
pub fn date_from_days(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(DAYS_TO_1970)?)
}

impl Batch {
    /// Under which day each of its records lies.
    pub fn day_rule(&self) -> DayRule {
        match self.days {
            None => DayRule::Named(self.partition_date),
            Some(_) => DayRule::ByColumn(self.partition_date),
        }
    }

    /// The first and the last of the days under which its records lie.
    pub fn days(&self) -> Days {
        self.days.as_ref().map_or(self.partition_date.into(), |days| Days::of(days, self.partition_date))
    }

    /// What it counts for where a segment's length is asked for. Unit: bytes.
    pub fn buffered_bytes(&self) -> u64 {
        self.expanded_bytes.map_or(self.body.decoded_bytes, u64::from)
    }

    /// Length of the payload. Unit: bytes.
    pub fn payload_bytes(&self) -> usize {
        let key_bytes = self.key.as_ref().map_or(0, |(key, digest)| key.len() + digest.len());
        let coded_bytes = if self.body.coding == ContentCoding::Identity { 0 } else { 4 };
        let misfits_bytes = if self.misfits == 0 { 0 } else { 4 };
        let names_bytes = 1 + self.table.len() + 2 + key_bytes;
        let days_bytes = self.days.as_ref().map_or(0, |days| 2 + 4 * days.len());
        let bitmap_bytes = 2 + self.present.len().div_ceil(8);
        let expanded_bytes = if self.expanded_bytes.is_none() { 0 } else { 4 };
        let counts_bytes = coded_bytes + misfits_bytes + days_bytes + expanded_bytes;
        FIXED_BYTES + names_bytes + bitmap_bytes + counts_bytes + self.body.bytes.len()
    }

    /// Appends the payload to `bytes`.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        let option = |is_set: bool, option: u16| if is_set { option } else { 0 };
        let options = option(self.misfits > 0, WITH_MISFITS)
            | option(self.days.is_some(), WITH_DAYS)
            | option(self.expanded_bytes.is_some(), WITH_EXPANDED_BYTES);
        bytes.extend_from_slice(&[self.format.code(), self.body.coding.code()]);
        bytes.extend_from_slice(&options.to_le_bytes());
        bytes.extend_from_slice(&self.rows.to_le_bytes());
        bytes.extend_from_slice(&self.received_micros.to_le_bytes());
        bytes.extend_from_slice(&days_since_1970(self.partition_date).to_le_bytes());
        bytes.extend_from_slice(self.schema.as_bytes());
        bytes.push(u8::try_from(self.table.len()).expect("a checked table name has at most 63 bytes"));
        bytes.extend_from_slice(self.table.as_bytes());
        let key = self.key.as_ref().map_or("", |(key, _)| key.as_str());
        bytes.extend_from_slice(&short_length(key.len()));
        bytes.extend_from_slice(key.as_bytes());
        if let Some((_, digest)) = &self.key {
            bytes.extend_from_slice(digest);
        }
        let bitmap = bitmap_of(&self.present);
        bytes.extend_from_slice(&short_length(bitmap.len()));
        bytes.extend_from_slice(&bitmap);
        if self.body.coding != ContentCoding::Identity {
            let decoded_bytes = u32::try_from(self.body.decoded_bytes);
            let decoded_bytes = decoded_bytes.expect("a body was decompressed to at most DECODED_BYTES_MAX");
            bytes.extend_from_slice(&decoded_bytes.to_le_bytes());
        }
        if self.misfits > 0 {
            bytes.extend_from_slice(&self.misfits.to_le_bytes());
        }
        if let Some(days) = &self.days {
            bytes.extend_from_slice(&short_length(days.len()));
            days.iter().for_each(|day| bytes.extend_from_slice(&days_since_1970(*day).to_le_bytes()));
        }
        if let Some(length) = self.expanded_bytes {
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(&self.body.bytes);
    }

    /// Reads a payload whose checksum held.
    ///
    /// # Errors
    /// A field that is missing or has no meaning: the frame was written by another version or is damaged.
    pub fn decode(payload: bytes::Bytes) -> Result<Self, BatchError> {
        let mut rest = Rest { bytes: &payload };
        let format = Format::from_code(rest.array::<1>("format")?[0]).ok_or(BatchError { field: "format" })?;
        let coding = ContentCoding::from_code(rest.array::<1>("content coding")?[0]);
        let coding = coding.ok_or(BatchError { field: "content coding" })?;
        let options = u16::from_le_bytes(rest.array("options")?);
        if options & !(WITH_MISFITS | WITH_DAYS | WITH_EXPANDED_BYTES) != 0 {
            return Err(BatchError { field: "options" });
        }
        let has_misfits = options & WITH_MISFITS != 0;
        let rows = u32::from_le_bytes(rest.array("record count")?);
        let received_micros = i64::from_le_bytes(rest.array("receive time")?);
        let partition_date = date_from_days(i32::from_le_bytes(rest.array("partition date")?))
            .ok_or(BatchError { field: "partition date" })?;
        let schema = Fingerprint::from_bytes(rest.array("schema fingerprint")?);
        let table_bytes = usize::from(rest.array::<1>("table name")?[0]);
        let table = rest.text(table_bytes, "table name")?;
        let key_bytes = usize::from(u16::from_le_bytes(rest.array("idempotency key")?));
        let key = match rest.text(key_bytes, "idempotency key")? {
            key if key.is_empty() => None,
            key => Some((key, rest.array("key digest")?)),
        };
        let bitmap_bytes = usize::from(u16::from_le_bytes(rest.array("column bitmap")?));
        let present = bools_of(rest.take(bitmap_bytes, "column bitmap")?);
        let decoded_bytes = match coding {
            ContentCoding::Identity => None,
            ContentCoding::Gzip | ContentCoding::Zstd => Some(u32::from_le_bytes(rest.array("decoded length")?)),
        };
        let misfits = if has_misfits { u32::from_le_bytes(rest.array("misfit count")?) } else { 0 };
        if has_misfits && misfits == 0 {
            return Err(BatchError { field: "misfit count" });
        }
        let days = if options & WITH_DAYS != 0 { Some(rest.days()?) } else { None };
        let expanded_bytes = match options & WITH_EXPANDED_BYTES {
            0 => None,
            _ => Some(u32::from_le_bytes(rest.array("length of values")?)),
        };
        let bytes = payload.slice(payload.len() - rest.bytes.len()..);
        let body = match decoded_bytes {
            None => Body::from(bytes),
            Some(decoded_bytes) => Body { coding, decoded_bytes: u64::from(decoded_bytes), bytes },
        };
        Ok(Self {
            format,
            rows,
            misfits,
            received_micros,
            partition_date,
            days,
            schema,
            table,
            key,
            present,
            expanded_bytes,
            body,
        })
    }
}

/// What of a payload has not been read yet.
struct Rest<'a> {
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], BatchError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(BatchError { field })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self, field: &'static str) -> Result<[u8; LENGTH], BatchError> {
        self.take(LENGTH, field)?.try_into().map_err(|_| BatchError { field })
    }

    fn days(&mut self) -> Result<BTreeSet<NaiveDate>, BatchError> {
        let error = BatchError { field: "days" };
        let count = u16::from_le_bytes(self.array("days")?);
        let mut days = BTreeSet::new();
        for _ in 0..count {
            let day = date_from_days(i32::from_le_bytes(self.array("days")?)).ok_or(error.clone())?;
            // Ascending, so that there is one way to write them.
            if days.last().is_some_and(|last| *last >= day) {
                return Err(error);
            }
            days.insert(day);
        }
        Ok(days)
    }

    fn text(&mut self, length: usize, field: &'static str) -> Result<String, BatchError> {
        let taken = self.take(length, field)?;
        std::str::from_utf8(taken).map(str::to_owned).map_err(|_| BatchError { field })
    }
}

fn short_length(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("keys, bitmaps and days are bounded far below 65,536").to_le_bytes()
}

fn bitmap_of(present: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (bit, set)| byte | (u8::from(*set) << bit));
    present.chunks(8).map(byte).collect()
}

fn bools_of(bitmap: &[u8]) -> Vec<bool> {
    bitmap.iter().flat_map(|byte| (0..8).map(move |bit| byte & (1 << bit) != 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(key: Option<(String, [u8; 32])>) -> Batch {
        Batch {
            format: Format::Json,
            rows: 3,
            misfits: 0,
            received_micros: -5,
            partition_date: NaiveDate::from_ymd_opt(2024, 2, 29).expect("2024 is a leap year"),
            days: None,
            schema: Fingerprint::from_bytes([4; 32]),
            table: "events".to_owned(),
            key,
            present: vec![true, false, true, false, false, false, false, false],
            expanded_bytes: None,
            body: bytes::Bytes::from_static(b"{\"records\":[]}").into(),
        }
    }

    fn encoded(batch: &Batch) -> Vec<u8> {
        let mut bytes = Vec::new();
        batch.encode_into(&mut bytes);
        bytes
    }

    #[test]
    fn a_batch_is_read_as_it_was_written_and_as_long_as_it_said() {
        for key in [None, Some(("order-1".to_owned(), [8; 32]))] {
            for coding in [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Zstd] {
                let day = date_from_days(20_000).expect("it exists");
                for days in [None, Some(BTreeSet::new()), Some(BTreeSet::from([day, NaiveDate::MIN]))] {
                    for (misfits, expanded_bytes) in [(0, None), (2, None), (0, Some(7)), (2, Some(u32::MAX))] {
                        let mut batch = Batch { misfits, days: days.clone(), expanded_bytes, ..batch(key.clone()) };
                        batch.body.coding = coding;
                        let bytes = encoded(&batch);
                        assert_eq!(bytes.len(), batch.payload_bytes());
                        assert_eq!(Batch::decode(bytes.into()), Ok(batch));
                    }
                }
            }
        }
    }

    #[test]
    fn a_payload_that_ends_early_names_the_field() {
        let days = BTreeSet::from([NaiveDate::MIN, NaiveDate::MAX]);
        let with_days = Batch { days: Some(days), ..batch(None) };
        let with_length = Batch { expanded_bytes: Some(20), ..batch(None) };
        for batch in [batch(None), with_days, with_length] {
            let bytes = encoded(&batch);
            for length in 0..bytes.len() - batch.body.bytes.len() {
                assert!(Batch::decode(bytes[..length].to_vec().into()).is_err(), "{length} bytes were enough");
            }
        }
    }

    #[test]
    fn days_that_do_not_ascend_are_none() {
        let mut bytes = encoded(&Batch { days: Some(BTreeSet::from([NaiveDate::MIN, NaiveDate::MAX])), ..batch(None) });
        let days_at = bytes.len() - batch(None).body.bytes.len() - 8;
        bytes.copy_within(days_at..days_at + 4, days_at + 4);
        assert_eq!(Batch::decode(bytes.into()), Err(BatchError { field: "days" }));
    }

    #[test]
    fn days_count_from_1970() {
        let date = |text: &str| text.parse::<NaiveDate>().expect("the test's date is one");
        assert_eq!(days_since_1970(date("1970-01-01")), 0);
        assert_eq!(days_since_1970(date("1969-12-31")), -1);
        assert_eq!(date_from_days(days_since_1970(date("2026-03-01"))), Some(date("2026-03-01")));
    }
}
