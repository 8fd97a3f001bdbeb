//! The records of a body, whichever format it has.
//!
//! Owns: the one way from bytes to records. Does not own: what each format is (`envelope`, `columnar`).

use std::borrow::Cow;
use std::ops::Range;

use chrono::NaiveDate;

use super::columnar::{Columnar, Lines, Source};
use super::columns::{DecodedRows, Target, decode_rows, rows_as_they_are};
use super::envelope::{Format, Scanned, scan};
use super::error::DecodeError;
use super::scan::ScanLimits;
use crate::schema::{Rules, with_columns_of};

/// A body of which every byte has been checked; it has at least one record.
#[derive(Debug)]
pub enum Records<'a> {
    /// It came as text.
    Text(Scanned<'a>),
    /// It came as columns.
    Columns(Columnar),
}

impl<'a> Records<'a> {
    /// Checks every byte of a body and finds its records.
    ///
    /// # Errors
    /// As [`scan`].
    pub fn read(format: Format, body: &'a [u8], limits: &ScanLimits) -> Result<Self, DecodeError> {
        match format {
            Format::ArrowStream => Source::Stream.read(body, limits).map(Self::Columns),
            Format::Parquet => Source::Parquet.read(body, limits).map(Self::Columns),
            Format::Json | Format::Ndjson | Format::Csv => scan(format, body, limits).map(Self::Text),
        }
    }

    /// Number of records; at least 1.
    pub fn record_count(&self) -> usize {
        match self {
            Self::Text(scanned) => scanned.record_count(),
            Self::Columns(columns) => columns.record_count(),
        }
    }

    /// What the values of a body of columns weigh. Unit: bytes.
    pub fn expanded_bytes(&self) -> Option<u32> {
        match self {
            Self::Text(_) => None,
            Self::Columns(columns) => Some(u32::try_from(columns.all_bytes()).unwrap_or(u32::MAX)),
        }
    }

    /// The checked table name of a JSON envelope.
    pub fn table_name(&self) -> Option<&str> {
        match self {
            Self::Text(scanned) => scanned.table_name(),
            Self::Columns(_) => None,
        }
    }

    /// The date of a JSON envelope, if it names one.
    pub fn partition_date(&self) -> Option<NaiveDate> {
        match self {
            Self::Text(scanned) => scanned.partition_date(),
            Self::Columns(_) => None,
        }
    }

    /// The text of record `index`: as received, or the JSON that it stands for.
    pub fn record_text(&self, index: usize) -> Cow<'_, str> {
        match self {
            Self::Text(scanned) => scanned.record_text(index),
            Self::Columns(columns) => columns.record_text(index),
        }
    }

    /// Decodes the records in `range`; see [`decode_rows`].
    ///
    /// # Errors
    /// As [`decode_rows`].
    pub fn decode(&self, target: &Target<'_>, range: Range<usize>) -> Result<DecodedRows, DecodeError> {
        let columns = match self {
            Self::Text(scanned) => return decode_rows(scanned, target, range),
            Self::Columns(columns) => columns,
        };
        if let Some(rows) = rows_as_they_are(columns, target, range.clone()) {
            return Ok(rows);
        }
        // Under the schema that the records were judged by when the body was accepted: that of the batch lacks the columns
        // which have a value in no record that fits.
        let known = with_columns_of(target.rules.schema(), columns);
        let mut present = target.present.to_vec();
        present.resize(known.len(), false);
        let target = Target { rules: Rules::new(&known, target.rules.day_rule()), present: &present, ..*target };
        let (mut parts, mut first) = (Vec::new(), range.start);
        while first < range.end {
            let lines = columns.lines(first..range.end, TEXT_BYTES, usize::MAX);
            let Lines { text, range: part, strays } = lines.expect("there is no bound that a record could be beyond");
            let scanned = scan(Format::Ndjson, text.as_bytes(), &ScanLimits::ACCEPTED)?.with_strays(strays);
            let mut rows = decode_rows(&scanned, &target, 0..part.len())?;
            rows.move_to(part.start);
            parts.push(rows);
            first = part.end;
        }
        Ok(DecodedRows::together(parts))
    }
}

/// Records of columns that are text at one time: names stand before every value there, and can be longer than all of them.
/// Unit: bytes.
const TEXT_BYTES: usize = 8 << 20;
