//! A digest of rows that does not depend on their order.
//!
//! Owns: the algorithm, named and versioned. Does not own: what it is compared with (`publish`).
//!
//! `xxh3-sum-1`: the sum modulo 2^128 over all rows of XXH3-128 of the row's bytes. A row's bytes are its partition
//! date as days since 1970 (4 bytes), then for each column with a value, in the order of the columns: the field id
//! (4 bytes), one byte for the type, and the value: 8 bytes for `i` (bigint) and `d` (double, its bits), one for `b`
//! (boolean), 4 for `D` (date, days since 1970), 8 for `t` (timestamp, microseconds since 1970), for `s` (text) its length
//! (4 bytes) and its UTF-8. `l` (list) is the number of its elements (4 bytes) and of each its type and value, or `n` where
//! it is null; `r` (struct) is the number of its fields with a value (4 bytes) and of each the length of its name (4 bytes),
//! its name, its type and its value, so that a field which comes later changes nothing. `c` (decimal) is its unscaled value
//! (16 bytes), `u` (uuid) its 16 bytes, `x` (binary) its length (4 bytes) and its bytes, `m` (map) the number of its entries
//! (4 bytes) and of each its key as a text has it, its type and its value, or `n`. All little-endian.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use xxhash_rust::xxh3::xxh3_128;

/// The algorithm's name, in front of every digest.
const ALGORITHM: &str = "xxh3-sum-1";

/// The digest of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowDigest {
    sum: u128,
}

impl std::fmt::Display for RowDigest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{ALGORITHM}:{:032x}", self.sum)
    }
}

impl RowDigest {
    /// Takes in rows: `columns` are of one length and each of a type that a table's column can have. Answers the length of
    /// what was digested. Unit: bytes.
    pub fn add(&mut self, partition_days: i32, field_ids: &[i32], columns: &[ArrayRef]) -> u64 {
        let rows = columns.first().map_or(0, |column| column.len());
        let (mut bytes, mut length) = (Vec::new(), 0);
        for row in 0..rows {
            bytes.clear();
            bytes.extend_from_slice(&partition_days.to_le_bytes());
            for (field_id, column) in field_ids.iter().zip(columns) {
                if column.is_valid(row) {
                    bytes.extend_from_slice(&field_id.to_le_bytes());
                    append_value(&mut bytes, column, row);
                }
            }
            self.sum = self.sum.wrapping_add(xxh3_128(&bytes));
            length += bytes.len() as u64;
        }
        length
    }

    /// Takes in rows without any column. Answers the length of what was digested. Unit: bytes.
    pub fn add_empty(&mut self, partition_days: i32, rows: usize) -> u64 {
        let bytes = partition_days.to_le_bytes();
        self.sum = self.sum.wrapping_add(xxh3_128(&bytes).wrapping_mul(rows as u128));
        bytes.len() as u64 * rows as u64
    }

    /// Takes in the rows of another digest.
    pub fn merge(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

fn append_value(bytes: &mut Vec<u8>, column: &ArrayRef, row: usize) {
    match column.data_type() {
        DataType::Int64 => {
            bytes.push(b'i');
            bytes.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes());
        }
        DataType::Float64 => {
            bytes.push(b'd');
            bytes.extend_from_slice(&column.as_primitive::<Float64Type>().value(row).to_bits().to_le_bytes());
        }
        DataType::Boolean => bytes.extend_from_slice(&[b'b', u8::from(column.as_boolean().value(row))]),
        DataType::Date32 => {
            bytes.push(b'D');
            bytes.extend_from_slice(&column.as_primitive::<Date32Type>().value(row).to_le_bytes());
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            bytes.push(b't');
            bytes.extend_from_slice(&column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        DataType::Utf8 => {
            bytes.push(b's');
            append_text(bytes, column.as_string::<i32>().value(row));
        }
        DataType::Decimal128(..) => {
            bytes.push(b'c');
            bytes.extend_from_slice(&column.as_primitive::<Decimal128Type>().value(row).to_le_bytes());
        }
        DataType::FixedSizeBinary(_) => {
            bytes.push(b'u');
            bytes.extend_from_slice(column.as_fixed_size_binary().value(row));
        }
        DataType::Binary => {
            let value = column.as_binary::<i32>().value(row);
            bytes.push(b'x');
            append_count(bytes, value.len());
            bytes.extend_from_slice(value);
        }
        DataType::List(_) => {
            let elements = column.as_list::<i32>().value(row);
            bytes.push(b'l');
            append_count(bytes, elements.len());
            (0..elements.len()).for_each(|place| append_or_null(bytes, &elements, place));
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            bytes.push(b'm');
            append_count(bytes, entries.len());
            for place in 0..entries.len() {
                append_text(bytes, keys.value(place));
                append_or_null(bytes, values, place);
            }
        }
        DataType::Struct(fields) => {
            let values = column.as_struct().columns();
            bytes.push(b'r');
            append_count(bytes, values.iter().filter(|value| value.is_valid(row)).count());
            for (field, value) in fields.iter().zip(values).filter(|(_, value)| value.is_valid(row)) {
                append_text(bytes, field.name());
                append_value(bytes, value, row);
            }
        }
        other => unreachable!("no column of a table is {other}"),
    }
}

fn append_or_null(bytes: &mut Vec<u8>, values: &ArrayRef, place: usize) {
    match values.is_valid(place) {
        true => append_value(bytes, values, place),
        false => bytes.push(b'n'),
    }
}

fn append_text(bytes: &mut Vec<u8>, text: &str) {
    append_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// No body has as many elements, fields or bytes as `u32` does not count.
fn append_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int64Builder, MapBuilder, StringBuilder};
    use arrow_array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array,
        StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    fn digest(days: i32, numbers: Vec<Option<i64>>, texts: Vec<Option<&str>>) -> RowDigest {
        let columns: [ArrayRef; 2] = [Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
        let mut digest = RowDigest::default();
        digest.add(days, &[4, 5], &columns);
        digest
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let one = digest(1, vec![Some(1), Some(2)], vec![Some("a"), None]);
        let other = digest(1, vec![Some(2), Some(1)], vec![None, Some("a")]);
        assert_eq!(one, other);
    }

    #[test]
    fn a_value_a_day_a_null_and_a_second_copy_each_matter() {
        let base = digest(1, vec![Some(1)], vec![Some("a")]);
        let others = [
            digest(2, vec![Some(1)], vec![Some("a")]),
            digest(1, vec![Some(2)], vec![Some("a")]),
            digest(1, vec![None], vec![Some("a")]),
            digest(1, vec![Some(1)], vec![Some("")]),
            digest(1, vec![Some(1), Some(1)], vec![Some("a"), Some("a")]),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn each_type_has_its_value_in_it() {
        let decimal = |value| -> ArrayRef { Arc::new(Decimal128Array::from(vec![value])) };
        let map = |key: &str, value: Option<i64>| -> ArrayRef {
            let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
            builder.keys().append_value(key);
            builder.values().append_option(value);
            builder.append(true).expect("there are as many keys as values");
            Arc::new(builder.finish())
        };
        let uuid = |byte| -> ArrayRef { Arc::new(FixedSizeBinaryArray::from(vec![&[byte; 16]])) };
        let columns: [[ArrayRef; 2]; 11] = [
            [decimal(1), decimal(-1)],
            [uuid(0), uuid(1)],
            [Arc::new(BinaryArray::from(vec![&b"1"[..]])), Arc::new(BinaryArray::from(vec![&b""[..]]))],
            [map("a", Some(1)), map("a", None)],
            [map("b", Some(1)), map("a", Some(2))],
            [Arc::new(Int64Array::from(vec![1])), Arc::new(Int64Array::from(vec![2]))],
            [Arc::new(Float64Array::from(vec![1.0])), Arc::new(Float64Array::from(vec![-1.0]))],
            [Arc::new(BooleanArray::from(vec![true])), Arc::new(BooleanArray::from(vec![false]))],
            [Arc::new(StringArray::from(vec!["1"])), Arc::new(StringArray::from(vec!["2"]))],
            [Arc::new(Date32Array::from(vec![1])), Arc::new(Date32Array::from(vec![2]))],
            [
                Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
                Arc::new(TimestampMicrosecondArray::from(vec![2]).with_timezone("UTC")),
            ],
        ];
        let digests = columns.iter().flatten().map(|column| {
            let mut digest = RowDigest::default();
            digest.add(1, &[4], std::slice::from_ref(column));
            digest.to_string()
        });
        let mut digests: Vec<String> = digests.collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 22, "{digests:?}");
    }

    #[test]
    fn a_column_that_is_added_later_and_is_null_changes_nothing() {
        let mut with = RowDigest::default();
        let columns: [ArrayRef; 2] = [Arc::new(Int64Array::from(vec![1])), Arc::new(Float64Array::from(vec![None]))];
        with.add(1, &[4, 5], &columns);
        let mut without = RowDigest::default();
        without.add(1, &[4], &columns[..1]);
        assert_eq!(with, without);
        assert!(with.to_string().starts_with("xxh3-sum-1:"));
    }

    #[test]
    fn rows_without_columns_count() {
        let (mut once, mut twice) = (RowDigest::default(), RowDigest::default());
        once.add_empty(1, 2);
        twice.add_empty(1, 1);
        assert_ne!(once, twice);
        twice.add_empty(1, 1);
        assert_eq!(once, twice);
    }
}
