//! What the values of a body of columns take, before anything is made of them.
//!
//! Owns: their bytes, the bytes of their texts, the elements of their lists. Does not own: the bounds on them.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::OffsetBuffer;
use arrow_schema::DataType;

use super::normal::window;
use crate::schema::ColumnType;

/// How many values a column has, those in lists and structs included.
pub(super) fn values(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::List(_) => values(&*window(array.as_list::<i32>().values(), array.as_list::<i32>().offsets())),
        DataType::LargeList(_) => values(&*window(array.as_list::<i64>().values(), array.as_list::<i64>().offsets())),
        DataType::FixedSizeList(_, _) => values(array.as_fixed_size_list().values()),
        DataType::Map(_, _) => {
            let entries: ArrayRef = Arc::new(array.as_map().entries().clone());
            values(&*window(&entries, array.as_map().offsets()))
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| values(column)).fold(0, usize::saturating_add)
        }
        // What a value is of many keys is looked at once.
        DataType::Dictionary(_, _) => array.len().saturating_add(array.as_any_dictionary().values().len()),
        _ => 0,
    }
    .saturating_add(array.len())
}

/// How many bytes the values of a column have once each stands for itself. Unit: bytes.
pub(super) fn expanded_bytes(array: &dyn Array) -> usize {
    let of_views = |lengths: &mut dyn Iterator<Item = usize>| lengths.fold(0_usize, usize::saturating_add);
    let rows = array.len();
    match array.data_type() {
        DataType::Utf8View => {
            of_views(&mut array.as_string_view().lengths().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
        }
        DataType::BinaryView => {
            of_views(&mut array.as_binary_view().lengths().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            if values.is_empty() {
                return rows;
            }
            let lengths: Vec<usize> = (0..values.len()).map(|place| expanded_bytes(&*values.slice(place, 1))).collect();
            dictionary.normalized_keys().iter().fold(0, |sum, key| sum.saturating_add(lengths[*key]))
        }
        DataType::Null => rows,
        DataType::List(_) => {
            expanded_bytes(&*window(array.as_list::<i32>().values(), array.as_list::<i32>().offsets()))
        }
        DataType::LargeList(_) => {
            expanded_bytes(&*window(array.as_list::<i64>().values(), array.as_list::<i64>().offsets()))
        }
        DataType::FixedSizeList(_, _) => expanded_bytes(array.as_fixed_size_list().values()),
        DataType::Map(_, _) => expanded_bytes(&*window(
            &(Arc::new(array.as_map().entries().clone()) as ArrayRef),
            array.as_map().offsets(),
        )),
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            columns.iter().map(|column| expanded_bytes(column)).fold(rows, usize::saturating_add)
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or(usize::MAX),
    }
}

/// More than any value of an array has as JSON. Unit: bytes.
pub(super) fn text_bytes_max(column_type: &ColumnType, array: &ArrayRef) -> usize {
    /// The longest number, date or timestamp, with what is around it.
    const SCALAR_BYTES: usize = 48;
    /// A character that is escaped, or a byte in base64.
    const ESCAPED: usize = 6;
    let longest = |ends: &[i32]| ends.windows(2).map(|ends| ends[1].abs_diff(ends[0]) as usize).max().unwrap_or(0);
    let inside = match column_type {
        ColumnType::Varchar => ESCAPED * longest(array.as_string::<i32>().value_offsets()),
        ColumnType::Binary => ESCAPED * longest(array.as_binary::<i32>().value_offsets()),
        ColumnType::List(element) => {
            let list = array.as_list::<i32>();
            longest(list.value_offsets()).saturating_mul(text_bytes_max(element, list.values()))
        }
        ColumnType::Map(value) => {
            let map = array.as_map();
            let entry = text_bytes_max(&ColumnType::Varchar, map.keys()) + text_bytes_max(value, map.values());
            longest(map.value_offsets()).saturating_mul(entry)
        }
        ColumnType::Struct(fields) => {
            let columns = fields.columns().iter().zip(array.as_struct().columns());
            columns.map(|(field, column)| field.name.len() + text_bytes_max(&field.column_type, column)).sum()
        }
        _ => 0,
    };
    SCALAR_BYTES.saturating_add(inside)
}

/// Values that the lists in some rows of an array are stored as: for each element as many as a file has columns for it.
pub(super) fn list_cells(column_type: &ColumnType, array: &ArrayRef, rows: Range<usize>) -> usize {
    let span = |offsets: &OffsetBuffer<i32>| {
        let at = |place: usize| usize::try_from(offsets[place]).unwrap_or(0);
        at(rows.start)..at(rows.end)
    };
    match column_type {
        ColumnType::List(element) => {
            let (list, elements) = (array.as_list::<i32>(), span(array.as_list::<i32>().offsets()));
            elements.len() * element.leaf_count() + list_cells(element, list.values(), elements)
        }
        ColumnType::Map(value) => {
            let (map, entries) = (array.as_map(), span(array.as_map().offsets()));
            entries.len() * column_type.leaf_count() + list_cells(value, map.values(), entries)
        }
        ColumnType::Struct(fields) if column_type.has_list() => {
            let columns = fields.columns().iter().zip(array.as_struct().columns());
            columns.map(|(field, column)| list_cells(&field.column_type, column, rows.clone())).sum()
        }
        _ => 0,
    }
}
