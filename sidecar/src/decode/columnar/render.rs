//! Values of columns as the JSON that they stand for.
//!
//! Owns: the text of each type: one that the column of the type takes, exactly. Does not own: which values there are.
//!
//! A decimal is a text: as a number it could come to a column of doubles, and be another there.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;

use crate::decode::date_of_days;
use crate::schema::ColumnType;

/// A text that ends where it may not be longer.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    length_max: usize,
    is_over: bool,
}

impl Text {
    /// An empty one of at most so many bytes.
    pub(super) fn new(length_max: usize) -> Self {
        Self { text: String::new(), length_max, is_over: false }
    }

    /// What was written; none if that was too long.
    pub(super) fn finish(self) -> Option<String> {
        (!self.is_over).then_some(self.text)
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        self.is_over |= self.length_max - self.text.len() < bytes;
        !self.is_over
    }

    pub(super) fn push(&mut self, character: char) {
        if self.has_room(character.len_utf8()) {
            self.text.push(character);
        }
    }

    pub(super) fn push_str(&mut self, part: &str) {
        if self.has_room(part.len()) {
            self.text.push_str(part);
        }
    }
}

/// Writes a member's name and its colon.
pub(super) fn name(name: &str, text: &mut Text) {
    string(name, text);
    text.push(':');
}

/// Writes a string.
pub(super) fn string(value: &str, text: &mut Text) {
    if text.has_room(value.len()) {
        text.push_str(&serde_json::Value::from(value).to_string());
    }
}

/// Writes the value of `row`, or null.
pub(super) fn value(column_type: &ColumnType, array: &ArrayRef, row: usize, text: &mut Text) {
    if array.is_null(row) {
        text.push_str("null");
        return;
    }
    match column_type {
        ColumnType::Bigint => text.push_str(&array.as_primitive::<Int64Type>().value(row).to_string()),
        ColumnType::Double => {
            text.push_str(&serde_json::Value::from(array.as_primitive::<Float64Type>().value(row)).to_string());
        }
        ColumnType::Boolean => text.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        ColumnType::Varchar => string(array.as_string::<i32>().value(row), text),
        ColumnType::Date => {
            let date = date_of_days(array.as_primitive::<Date32Type>().value(row)).unwrap_or_default();
            string(&date.to_string(), text);
        }
        ColumnType::Timestamp => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let instant = DateTime::from_timestamp_micros(micros).unwrap_or_default();
            string(&instant.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(), text);
        }
        ColumnType::Decimal { .. } => string(&array.as_primitive::<Decimal128Type>().value_as_string(row), text),
        ColumnType::Uuid => string(&uuid(array.as_fixed_size_binary().value(row)), text),
        ColumnType::Binary => string(&STANDARD.encode(array.as_binary::<i32>().value(row)), text),
        // Of columns it is the type of what has no value.
        ColumnType::Json => text.push_str("null"),
        ColumnType::List(element) => {
            let elements = array.as_list::<i32>().value(row);
            text.push('[');
            for place in 0..elements.len() {
                comma(place, text);
                value(element, &elements, place, text);
                if text.is_over {
                    return;
                }
            }
            text.push(']');
        }
        ColumnType::Map(inner) => {
            let entries = array.as_map().value(row);
            text.push('{');
            for place in 0..entries.len() {
                comma(place, text);
                name(entries.column(0).as_string::<i32>().value(place), text);
                value(inner, entries.column(1), place, text);
                if text.is_over {
                    return;
                }
            }
            text.push('}');
        }
        ColumnType::Struct(fields) => {
            text.push('{');
            for (place, (field, column)) in fields.columns().iter().zip(array.as_struct().columns()).enumerate() {
                comma(place, text);
                name(&field.name, text);
                value(&field.column_type, column, row, text);
                if text.is_over {
                    return;
                }
            }
            text.push('}');
        }
    }
}

fn comma(place: usize, text: &mut Text) {
    if place > 0 {
        text.push(',');
    }
}

/// 16 bytes as RFC 9562 writes them.
fn uuid(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default()).join("-")
}
