//! The end of a Parquet file: its schema, where its columns lie.
//!
//! Owns: that a footer is within bounds before the library reads it. Does not own: its encoding (`thrift`), the pages that it
//! points to (`pages`).
//!
//! Source: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>, `FileMetaData`.

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::thrift::{self, Item, Structure};
use super::{Source, of_reader};
use crate::decode::columnar::too_many_columns;
use crate::decode::error::DecodeError;
use crate::decode::scan::{ScanLimits, too_many_records};
use crate::limits::{COLUMNS_MAX, PARQUET_NAME_BYTES_MAX, TYPE_DEPTH_MAX};

/// What a file begins and ends with.
const MAGIC: &[u8] = b"PAR1";
/// What a file ends with whose footer is encrypted.
const MAGIC_ENCRYPTED: &[u8] = b"PARE";
/// The length of the footer, then the magic.
const TAIL_BYTES: usize = 8;

/// Levels of a schema: a list or a map takes three of them, the root one.
const SCHEMA_DEPTH_MAX: usize = 3 * TYPE_DEPTH_MAX + 1;

/// Numbers of fields.
mod field {
    pub(super) const SCHEMA: i16 = 2;
    pub(super) const ENCRYPTION: i16 = 8;
    pub(super) const ELEMENT_NAME: i16 = 4;
    pub(super) const ELEMENT_CHILDREN: i16 = 5;
}

/// Reads the footer of a file.
pub(super) fn read(body: &[u8], limits: &ScanLimits) -> Result<ParquetMetaData, DecodeError> {
    let footer = footer_of(body)?;
    let (structure, _) = thrift::read(footer).map_err(malformed)?;
    if structure.field(field::ENCRYPTION).is_some() {
        return Err(encrypted());
    }
    check_schema(&structure)?;
    let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(|error| of_reader(&error))?;
    let leaves = metadata.file_metadata().schema_descr().num_columns();
    let mut rows = 0_usize;
    for group in metadata.row_groups() {
        if group.num_columns() != leaves {
            return Err(malformed("a row group has not the columns of the schema"));
        }
        if group.columns().iter().any(|column| column.file_path().is_some()) {
            return Err(malformed("a column lies in another file"));
        }
        let of_group = usize::try_from(group.num_rows()).map_err(|_| malformed("a number of rows is negative"))?;
        rows = rows.saturating_add(of_group);
    }
    if rows > limits.records_max {
        return Err(DecodeError::Illegal(too_many_records(limits.records_max).into()));
    }
    Ok(metadata)
}

fn footer_of(body: &[u8]) -> Result<&[u8], DecodeError> {
    let Some((rest, tail)) = body.split_last_chunk::<TAIL_BYTES>() else {
        return Err(malformed_file("it is too short"));
    };
    let (length, magic) = tail.split_at(4);
    if magic == MAGIC_ENCRYPTED {
        return Err(encrypted());
    }
    if magic != MAGIC || !rest.starts_with(MAGIC) {
        return Err(malformed_file("it does not begin and end with PAR1"));
    }
    let length = length.iter().rev().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    let start = rest.len().checked_sub(length).filter(|start| *start >= MAGIC.len());
    let start = start.ok_or_else(|| malformed_file("its footer is longer than the file"))?;
    Ok(&rest[start..])
}

/// Checks the tree that the schema's elements are the order of.
fn check_schema(footer: &Structure<'_>) -> Result<(), DecodeError> {
    let elements = footer.list(field::SCHEMA).ok_or_else(|| malformed("it has no schema"))?;
    // For each level the children that are still to come.
    let mut open: Vec<usize> = Vec::new();
    let mut leaves = 0;
    for (place, element) in elements.iter().enumerate() {
        let Item::Structure(element) = element else { return Err(malformed("its schema is none")) };
        let name_bytes = match element.field(field::ELEMENT_NAME) {
            Some(Item::Bytes(name)) => name.len(),
            _ => return Err(malformed("its schema has a name that is none")),
        };
        if name_bytes > PARQUET_NAME_BYTES_MAX {
            return Err(malformed("its schema has a name that is too long"));
        }
        match open.last_mut() {
            Some(to_come) => *to_come -= 1,
            None if place > 0 => return Err(malformed("its schema has more than one root")),
            None => {}
        }
        match element.int(field::ELEMENT_CHILDREN).unwrap_or(0) {
            0 => leaves += usize::from(place > 0),
            children => {
                let children = usize::try_from(children).ok().filter(|children| *children < elements.len());
                open.push(children.ok_or_else(|| malformed("its schema has fewer elements than it says"))?);
            }
        }
        if open.len() > SCHEMA_DEPTH_MAX {
            return Err(malformed("its schema is too deep"));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    match open.is_empty() && !elements.is_empty() {
        true if leaves > COLUMNS_MAX => Err(too_many_columns(leaves)),
        true => Ok(()),
        false => Err(malformed("its schema has fewer elements than it says")),
    }
}

fn malformed(fault: &str) -> DecodeError {
    malformed_file(&format!("its footer is none: {fault}"))
}

fn malformed_file(fault: &str) -> DecodeError {
    Source::Parquet.malformed(fault)
}

fn encrypted() -> DecodeError {
    malformed_file("it is encrypted")
}
