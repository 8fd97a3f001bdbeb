//! The pages of a Parquet file.
//!
//! Owns: where they lie, how many values and bytes they become. Does not own: their expansion (`expand`), the values in them,
//! which the library reads.
//!
//! Source: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>, `PageHeader`.

use std::ops::Range;

use bytes::Bytes;
use flate2::Crc;
use parquet::basic::{Compression, ConvertedType, Encoding, LogicalType, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::expand::{OTHER_LENGTH, expanded};
use super::thrift::{self, Structure};
use super::{File, Source, of_reader};
use crate::decode::columnar::{illegal, too_many_bytes, too_many_values};
use crate::decode::error::{DecodeError, Violation, pointer_segment};
use crate::decode::scan::ScanLimits;

/// Numbers of fields.
mod field {
    pub(super) const KIND: i16 = 1;
    pub(super) const EXPANDED_BYTES: i16 = 2;
    pub(super) const BYTES: i16 = 3;
    pub(super) const CRC: i16 = 4;
    pub(super) const DATA: i16 = 5;
    pub(super) const DICTIONARY: i16 = 7;
    pub(super) const DATA_V2: i16 = 8;
    /// Of each kind of page.
    pub(super) const VALUES: i16 = 1;

    pub(super) mod data {
        pub(in super::super) const ENCODING: i16 = 2;
        pub(in super::super) const DEFINITION_LEVELS: i16 = 3;
        pub(in super::super) const REPETITION_LEVELS: i16 = 4;
    }

    pub(super) mod data_v2 {
        pub(in super::super) const NULLS: i16 = 2;
        pub(in super::super) const ROWS: i16 = 3;
        pub(in super::super) const ENCODING: i16 = 4;
        pub(in super::super) const DEFINITION_BYTES: i16 = 5;
        pub(in super::super) const REPETITION_BYTES: i16 = 6;
        pub(in super::super) const IS_COMPRESSED: i16 = 7;
    }

    pub(super) mod dictionary {
        pub(in super::super) const ENCODING: i16 = 2;
        pub(in super::super) const IS_SORTED: i16 = 3;
    }
}

/// Walks all pages of a file without expanding one; the number of its rows.
///
/// # Errors
/// There is more of something than a body may have, or a page is none.
pub(super) fn check(file: &File, limits: &ScanLimits) -> Result<usize, DecodeError> {
    let groups = file.metadata.row_groups();
    let rows = groups.iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0)).sum::<usize>();
    let leaves = file.metadata.file_metadata().schema_descr().num_columns();
    // A column has room for each row, whatever its pages have.
    if rows.saturating_mul(leaves) > limits.values_max {
        return Err(too_many_values(limits));
    }
    let mut sums = Sums::default();
    for chunk in groups.iter().flat_map(|group| group.columns()) {
        check_chunk(file, chunk, &mut sums, limits)?;
    }
    Ok(rows)
}

/// What all pages come to.
#[derive(Default)]
struct Sums {
    /// As they lie in the file. Two columns may not have the same: one page could become any number of them.
    file_bytes: usize,
    /// Once they are expanded, or as much as the values take that have a length of their own.
    bytes: usize,
    /// With those of dictionaries.
    values: usize,
}

fn check_chunk(
    file: &File,
    chunk: &ColumnChunkMetaData,
    sums: &mut Sums,
    limits: &ScanLimits,
) -> Result<(), DecodeError> {
    let mut pages = Pages::of(&file.bytes, chunk).map_err(|error| of_reader(&error))?;
    sums.file_bytes = sums.file_bytes.saturating_add(pages.bytes.len());
    if sums.file_bytes > file.bytes.len() {
        return Err(Source::Parquet.malformed("two of its columns lie at the same place"));
    }
    check_support(chunk).map_err(|fault| of_page(chunk, &fault))?;
    let value_bytes = match chunk.column_type() {
        Type::FIXED_LEN_BYTE_ARRAY => usize::try_from(chunk.column_descr().type_length()).unwrap_or(0),
        _ => 0,
    };
    while let Some(page) = pages.next_header().map_err(|fault| of_page(chunk, &fault))? {
        let bytes = page.expanded_bytes.max(value_bytes.saturating_mul(page.kind.values()));
        sums.bytes = sums.bytes.saturating_add(bytes);
        sums.values = sums.values.saturating_add(page.kind.values());
        if sums.bytes > limits.column_bytes_max {
            return Err(too_many_bytes(limits));
        }
        if sums.values > limits.values_max {
            return Err(too_many_values(limits));
        }
    }
    Ok(())
}

/// Checks that a column is one that is read here.
fn check_support(chunk: &ColumnChunkMetaData) -> Result<(), Fault> {
    if matches!(chunk.compression(), Compression::LZ4 | Compression::LZO | Compression::BROTLI(_)) {
        let detail = "it is compressed in a way that is not read here; use zstd, snappy, gzip or LZ4_RAW";
        return Err(Fault::Unsupported(detail));
    }
    // Decimals are copied out of a dictionary, however long it says that they are.
    let column = chunk.column_descr();
    let is_decimal = column.converted_type() == ConvertedType::DECIMAL
        || matches!(column.logical_type_ref(), Some(LogicalType::Decimal { .. }));
    if is_decimal && chunk.column_type() == Type::BYTE_ARRAY {
        return Err(Fault::Unsupported("its decimals have bytes of any length; write them with a fixed length"));
    }
    Ok(())
}

/// What is found when a page is expanded.
pub(super) const FAULTS: [&str; 4] = [OUTSIDE, OTHER_LENGTH, CHECKSUM, LEVELS];
const OUTSIDE: &str = "a column lies outside of the file";
const CHECKSUM: &str = "a page has not the checksum that it says";
const LEVELS: &str = "a page's levels are longer than it";

/// What is wrong with a page.
#[derive(Debug)]
enum Fault {
    /// It is none.
    Malformed(&'static str),
    /// It is one that is not read here: what to do.
    Unsupported(&'static str),
}

impl From<&'static str> for Fault {
    fn from(fault: &'static str) -> Self {
        Self::Malformed(fault)
    }
}

impl From<Fault> for ParquetError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(fault) | Fault::Unsupported(fault) => Self::General(fault.to_owned()),
        }
    }
}

fn of_page(chunk: &ColumnChunkMetaData, fault: &Fault) -> DecodeError {
    match fault {
        Fault::Malformed(fault) => Source::Parquet.malformed(&format!("a page's header is none: {fault}")),
        Fault::Unsupported(detail) => {
            let path = chunk.column_descr().path().parts().iter().map(|name| format!("/{}", pointer_segment(name)));
            illegal(Violation::new(path.collect::<String>(), "unsupported-pages", *detail))
        }
    }
}

/// The pages of a column in a row group.
pub(super) struct Pages {
    bytes: Bytes,
    compression: Compression,
    at: usize,
}

/// A page before it is expanded.
struct Header {
    kind: Kind,
    /// Where it lies in the column's part.
    range: Range<usize>,
    expanded_bytes: usize,
    crc: Option<u32>,
}

/// What kind of page it is, with what its kind says.
enum Kind {
    Data {
        values: u32,
        encoding: Encoding,
        definition_levels: Encoding,
        repetition_levels: Encoding,
    },
    DataV2 {
        values: u32,
        nulls: u32,
        rows: u32,
        encoding: Encoding,
        definition_bytes: u32,
        repetition_bytes: u32,
        is_compressed: bool,
    },
    Dictionary {
        values: u32,
        encoding: Encoding,
        is_sorted: bool,
    },
}

impl Kind {
    fn values(&self) -> usize {
        match self {
            Self::Data { values, .. } | Self::DataV2 { values, .. } | Self::Dictionary { values, .. } => {
                usize::try_from(*values).unwrap_or(usize::MAX)
            }
        }
    }

    fn of(header: &Structure<'_>) -> Result<Option<Self>, Fault> {
        let of_kind = |number| header.structure(number).ok_or("it does not say what its kind has");
        let number = |structure: &Structure<'_>, number| {
            let value = structure.int(number).and_then(|value| u32::try_from(value).ok());
            value.ok_or(Fault::Malformed("a number of it is none"))
        };
        Ok(Some(match header.int(field::KIND) {
            Some(0) => {
                let page = of_kind(field::DATA)?;
                Self::Data {
                    values: number(page, field::VALUES)?,
                    encoding: encoding_of(page, field::data::ENCODING)?,
                    definition_levels: level_encoding_of(page, field::data::DEFINITION_LEVELS)?,
                    repetition_levels: level_encoding_of(page, field::data::REPETITION_LEVELS)?,
                }
            }
            // An index, which nobody writes.
            Some(1) => return Ok(None),
            Some(2) => {
                let page = of_kind(field::DICTIONARY)?;
                Self::Dictionary {
                    values: number(page, field::VALUES)?,
                    encoding: encoding_of(page, field::dictionary::ENCODING)?,
                    is_sorted: page.field(field::dictionary::IS_SORTED) == Some(&thrift::Item::Bool(true)),
                }
            }
            Some(3) => {
                let page = of_kind(field::DATA_V2)?;
                Self::DataV2 {
                    values: number(page, field::VALUES)?,
                    nulls: number(page, field::data_v2::NULLS)?,
                    rows: number(page, field::data_v2::ROWS)?,
                    encoding: encoding_of(page, field::data_v2::ENCODING)?,
                    definition_bytes: number(page, field::data_v2::DEFINITION_BYTES)?,
                    repetition_bytes: number(page, field::data_v2::REPETITION_BYTES)?,
                    is_compressed: page.field(field::data_v2::IS_COMPRESSED) != Some(&thrift::Item::Bool(false)),
                }
            }
            _ => return Err(Fault::Malformed("it is of no kind")),
        }))
    }
}

/// How the values of a page are encoded.
fn encoding_of(page: &Structure<'_>, number: i16) -> Result<Encoding, Fault> {
    Ok(match page.int(number) {
        Some(0) => Encoding::PLAIN,
        Some(2) => Encoding::PLAIN_DICTIONARY,
        Some(3) => Encoding::RLE,
        Some(5) => Encoding::DELTA_BINARY_PACKED,
        Some(8) => Encoding::RLE_DICTIONARY,
        Some(9) => Encoding::BYTE_STREAM_SPLIT,
        // How long their texts become is seen only when they are there.
        Some(6 | 7) => {
            return Err(Fault::Unsupported(
                "its texts are encoded as the differences of their lengths; write them plain or with a dictionary",
            ));
        }
        _ => return Err(Fault::Malformed("its values are encoded in a way that there is none of")),
    })
}

fn level_encoding_of(page: &Structure<'_>, number: i16) -> Result<Encoding, Fault> {
    match page.int(number) {
        Some(3) => Ok(Encoding::RLE),
        Some(4) => Err(Fault::Unsupported("its levels are bit-packed, which no writer has done for long")),
        _ => Err(Fault::Malformed("its levels are encoded in a way that there is none of")),
    }
}

impl Pages {
    /// The pages of a column's part, of which none is read yet.
    ///
    /// # Errors
    /// It lies elsewhere than in the file.
    pub(super) fn of(file: &Bytes, chunk: &ColumnChunkMetaData) -> Result<Self, ParquetError> {
        let data = chunk.data_page_offset();
        let start = chunk.dictionary_page_offset().filter(|at| (1..data).contains(at)).unwrap_or(data);
        let range = usize::try_from(start).ok().zip(usize::try_from(chunk.compressed_size()).ok());
        let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let range = range.filter(|range| range.end <= file.len());
        let range = range.ok_or_else(|| ParquetError::General(OUTSIDE.to_owned()))?;
        Ok(Self { bytes: file.slice(range), compression: chunk.compression(), at: 0 })
    }

    /// The header of the next page, which is then behind.
    fn next_header(&mut self) -> Result<Option<Header>, Fault> {
        while self.at < self.bytes.len() {
            let (header, length) = thrift::read(&self.bytes[self.at..])?;
            let start = self.at + length;
            let end = header.count(field::BYTES).and_then(|bytes| start.checked_add(bytes));
            let end = end.filter(|end| *end <= self.bytes.len()).ok_or("the page is longer than its column")?;
            let expanded_bytes = header.count(field::EXPANDED_BYTES).ok_or("it does not say how long its page is")?;
            self.at = end;
            if let Some(kind) = Kind::of(&header)? {
                let crc = header.int(field::CRC).and_then(|crc| i32::try_from(crc).ok()).map(i32::cast_unsigned);
                return Ok(Some(Header { kind, range: start..end, expanded_bytes, crc }));
            }
        }
        Ok(None)
    }

    fn page(&self, header: Header) -> Result<Page, Fault> {
        let bytes = self.bytes.slice(header.range);
        if header.crc.is_some_and(|crc| crc != crc_of(&bytes)) {
            return Err(Fault::Malformed(CHECKSUM));
        }
        let (levels_bytes, is_compressed) = match header.kind {
            Kind::DataV2 { definition_bytes, repetition_bytes, is_compressed, .. } => {
                let levels = u64::from(definition_bytes) + u64::from(repetition_bytes);
                (usize::try_from(levels).unwrap_or(usize::MAX), is_compressed)
            }
            _ => (0, true),
        };
        if levels_bytes > bytes.len() || levels_bytes > header.expanded_bytes {
            return Err(Fault::Malformed(LEVELS));
        }
        let compression = if is_compressed { self.compression } else { Compression::UNCOMPRESSED };
        let buf = expanded(compression, bytes, levels_bytes, header.expanded_bytes)?;
        Ok(match header.kind {
            Kind::Data { values, encoding, definition_levels, repetition_levels } => Page::DataPage {
                buf,
                num_values: values,
                encoding,
                def_level_encoding: definition_levels,
                rep_level_encoding: repetition_levels,
                statistics: None,
            },
            Kind::DataV2 { values, nulls, rows, encoding, definition_bytes, repetition_bytes, .. } => {
                Page::DataPageV2 {
                    buf,
                    num_values: values,
                    encoding,
                    num_nulls: nulls,
                    num_rows: rows,
                    def_levels_byte_len: definition_bytes,
                    rep_levels_byte_len: repetition_bytes,
                    is_compressed: false,
                    statistics: None,
                }
            }
            Kind::Dictionary { values, encoding, is_sorted } => {
                Page::DictionaryPage { buf, num_values: values, encoding, is_sorted }
            }
        })
    }
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        match self.next_header()? {
            Some(header) => Ok(Some(self.page(header)?)),
            None => Ok(None),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        let here = self.at;
        let header = self.next_header();
        self.at = here;
        Ok(header?.map(|header| match header.kind {
            Kind::Data { values, .. } => {
                PageMetadata { num_rows: None, num_levels: usize::try_from(values).ok(), is_dict: false }
            }
            Kind::DataV2 { values, rows, .. } => PageMetadata {
                num_rows: usize::try_from(rows).ok(),
                num_levels: usize::try_from(values).ok(),
                is_dict: false,
            },
            Kind::Dictionary { .. } => PageMetadata { num_rows: None, num_levels: None, is_dict: true },
        }))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.next_header()?;
        Ok(())
    }
}
