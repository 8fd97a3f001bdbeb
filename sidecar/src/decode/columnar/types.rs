//! Which types of Arrow are which of a table.
//!
//! Owns: the table below. Does not own: the form of their values (`normal`).
//!
//! | Arrow | column type |
//! |---|---|
//! | Int, UInt of any width | bigint; of UInt64 what an Int64 holds |
//! | Float of any width | double, where it is finite |
//! | Boolean, Int8 named `arrow.bool8` | boolean |
//! | Utf8, LargeUtf8, Utf8View | varchar, without NUL |
//! | Date32, Date64 | date |
//! | Timestamp of any unit | timestamp, what microseconds hold exactly; without a zone it is UTC |
//! | Decimal of any width | decimal, of at most 38 digits and no negative scale |
//! | FixedSizeBinary of 16 bytes named `arrow.uuid` | uuid |
//! | Binary of any form | binary |
//! | List, LargeList, FixedSizeList | list |
//! | Map, its keys text | map |
//! | Struct | struct |
//! | Dictionary | the type of its values |
//! | Null | no value |

use std::sync::Arc;

use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field};

use crate::limits::TYPE_DEPTH_MAX;
use crate::schema::{Column, ColumnType, Fields};

/// The type of a column; none if it can hold nothing but nulls.
///
/// # Errors
/// No column of a table can have it: its name.
pub(super) fn type_of(field: &Field, depth: usize) -> Result<Option<ColumnType>, String> {
    if depth >= TYPE_DEPTH_MAX {
        return Err(format!("it is more than {TYPE_DEPTH_MAX} deep"));
    }
    let is_named = |wanted: &str| field.metadata().get(EXTENSION_TYPE_NAME_KEY).is_some_and(|name| name == wanted);
    let inner = |field: &Field| Ok::<_, String>(Arc::new(type_of(field, depth + 1)?.unwrap_or(ColumnType::Json)));
    if is_named("arrow.opaque") {
        return Err("it is one that the sender alone knows".to_owned());
    }
    let column_type = match field.data_type() {
        DataType::Null => return Ok(None),
        DataType::FixedSizeBinary(16) if is_named("arrow.uuid") => ColumnType::Uuid,
        DataType::Int8 if is_named("arrow.bool8") => ColumnType::Boolean,
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            ColumnType::List(inner(element)?)
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 && scalar_of(entry[0].data_type())? == ColumnType::Varchar => {
                ColumnType::Map(inner(&entry[1])?)
            }
            _ => return Err("a map whose keys are no text".to_owned()),
        },
        DataType::Struct(fields) => {
            let column = |field: &Arc<Field>| {
                let column_type = type_of(field, depth + 1)?.unwrap_or(ColumnType::Json);
                Ok(Column::new(field.name().clone(), column_type))
            };
            let fields = fields.iter().map(column).collect::<Result<Vec<_>, String>>()?;
            match Fields::new(fields) {
                Ok(fields) if fields.columns().is_empty() => return Err("a struct without fields".to_owned()),
                Ok(fields) => ColumnType::Struct(Arc::new(fields)),
                Err(_) => return Err("a struct whose fields no columns can be".to_owned()),
            }
        }
        other => scalar_of(other)?,
    };
    Ok(Some(column_type))
}

fn scalar_of(data_type: &DataType) -> Result<ColumnType, String> {
    Ok(match data_type {
        data_type if data_type.is_integer() => ColumnType::Bigint,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Double,
        DataType::Boolean => ColumnType::Boolean,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::Varchar,
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Timestamp(_, _) => ColumnType::Timestamp,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if (1..=38).contains(precision) && u8::try_from(*scale).is_ok_and(|scale| scale <= *precision) =>
        {
            ColumnType::Decimal { precision: *precision, scale: scale.unsigned_abs() }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            ColumnType::Binary
        }
        DataType::Dictionary(_, values) if !values.is_nested() => scalar_of(values)?,
        other => return Err(other.to_string()),
    })
}
