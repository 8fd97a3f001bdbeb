//! The types that a column can have.
//!
//! Owns: which JSON value fits which type, how a type grows.
//! Does not own: their names (`type_name`), how a type is stored in a file (`encode`).

use std::sync::Arc;

use lakeingest_crds::names::is_column_name;
use serde::{Deserialize, Serialize};

use super::fields::Fields;
use crate::decode::{
    NodeKind, Value, integer_is_exact_in_f64, kind_of_number, parse_base64, parse_date, parse_decimal, parse_integer,
    parse_timestamp, parse_uuid,
};

/// The one physical type of a column, for ever; fields can come to a struct, at any depth. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// 64-bit signed integers.
    Bigint,

    /// IEEE 754 doubles, always finite; takes integers that are exact in them.
    Double,

    /// `true` and `false`.
    Boolean,

    /// UTF-8 text without NUL.
    Varchar,

    /// Days of the years 1 to 9999, sent as `YYYY-MM-DD`.
    Date,

    /// Instants of the years 1 to 9999 in UTC, to the microsecond; sent as RFC 3339, the offset is taken off.
    Timestamp,

    /// Numbers of at most `precision` digits, `scale` of them behind the point; sent as numbers or as texts of numbers, and
    /// exact.
    Decimal {
        /// Digits, 1 to 38.
        precision: u8,
        /// Digits behind the point, at most `precision`.
        scale: u8,
    },

    /// 16 bytes, sent as RFC 9562 writes them.
    Uuid,

    /// Bytes, sent in base64.
    Binary,

    /// The text of any JSON value but null, exactly as received.
    Json,

    /// Values of one type in an order, any of them null; sent as an array.
    List(Arc<ColumnType>),

    /// Values of one type under texts, any of them null; sent as an object.
    Map(Arc<ColumnType>),

    /// Fields of their own types, at least one; sent as an object. What it lacks is null.
    Struct(Arc<Fields>),
}

impl ColumnType {
    /// A list of values of this type.
    pub fn list_of(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// Whether it has values inside that have types of their own.
    #[inline]
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::Map(_) | Self::Struct(_))
    }

    /// Whether rows can be ordered by its values: not by what is inside of them, and not by a text that stands for them.
    pub fn is_orderable(&self) -> bool {
        !self.is_nested() && !matches!(self, Self::Json | Self::Binary)
    }

    /// Whether it is a list or a map, or has one inside.
    pub fn has_list(&self) -> bool {
        match self {
            Self::List(_) | Self::Map(_) => true,
            Self::Struct(fields) => fields.columns().iter().any(|field| field.column_type.has_list()),
            _ => false,
        }
    }

    /// Whether a column of this type takes every value that one of type `other` takes, field by field.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Struct(fields), Self::Struct(others)) => others.columns().iter().all(|other| {
                let field = fields.position(&other.name).map(|position| &fields.columns()[position].column_type);
                field.is_some_and(|field| field.covers(&other.column_type))
            }),
            _ => self == other,
        }
    }

    /// Names inside of it, at every depth.
    pub fn field_count(&self) -> usize {
        match self {
            Self::Struct(fields) => fields.count(),
            Self::List(inner) | Self::Map(inner) => inner.field_count(),
            _ => 0,
        }
    }

    /// Columns that a file has for it, one for each value without a structure.
    pub fn leaf_count(&self) -> usize {
        match self {
            Self::Struct(fields) => fields.columns().iter().map(|field| field.column_type.leaf_count()).sum(),
            Self::List(element) => element.leaf_count(),
            Self::Map(value) => 1 + value.leaf_count(),
            _ => 1,
        }
    }

    /// This type with the fields that `other` has more, where there is room for so many names; what differs otherwise stays
    /// as it is here. Nothing comes to the structs in a list or a map, so what their elements weigh is the same for ever.
    #[must_use]
    pub fn merged(&self, other: &Self, room: &mut usize) -> Self {
        match (self, other) {
            (Self::Struct(fields), Self::Struct(others)) if fields != others => {
                Self::Struct(Arc::new(fields.merged(others.columns(), room)))
            }
            _ => self.clone(),
        }
    }

    /// Whether a column of this type can hold the value without loss; null fits every type, also inside.
    #[inline]
    pub fn fits(&self, value: Value<'_>) -> bool {
        if value.is_cell() {
            return value.string().is_some_and(|text| self.fits_cell(&text));
        }
        match (self, value.kind()) {
            (_, NodeKind::Null) | (Self::Json, _) => true,
            (Self::Bigint, kind) => kind == NodeKind::Integer,
            (Self::Double, NodeKind::Integer) => integer_is_exact_in_f64(parse_integer(value.raw())),
            (Self::Double, kind) => kind == NodeKind::Double,
            (Self::Boolean, kind) => matches!(kind, NodeKind::True | NodeKind::False),
            (Self::Varchar, kind) => matches!(kind, NodeKind::String | NodeKind::EscapedString),
            (Self::Date, _) => value.string().is_some_and(|text| parse_date(&text).is_some()),
            (Self::Timestamp, _) => value.string().is_some_and(|text| parse_timestamp(&text).is_some()),
            (Self::Decimal { precision, scale }, NodeKind::Integer | NodeKind::Double) => {
                parse_decimal(value.raw(), *precision, *scale).is_some()
            }
            (Self::Decimal { precision, scale }, _) => {
                value.string().is_some_and(|text| parse_decimal(&text, *precision, *scale).is_some())
            }
            (Self::Uuid, _) => value.string().is_some_and(|text| parse_uuid(&text).is_some()),
            (Self::Binary, _) => value.string().is_some_and(|text| parse_base64(&text).is_some()),
            (Self::Map(inner), kind) => kind == NodeKind::Object && value.members().all(|(_, value)| inner.fits(value)),
            (Self::List(element), kind) => kind == NodeKind::Array && value.elements().all(|value| element.fits(value)),
            (Self::Struct(fields), kind) => kind == NodeKind::Object && fits_fields(fields, value),
        }
    }

    /// As [`Self::fits`], for a field of CSV: its text has to be what JSON has without quotes, or within them.
    fn fits_cell(&self, text: &str) -> bool {
        match self {
            Self::Bigint => kind_of_number(text) == Some(NodeKind::Integer),
            Self::Double => match kind_of_number(text) {
                Some(NodeKind::Integer) => integer_is_exact_in_f64(parse_integer(text)),
                kind => kind == Some(NodeKind::Double),
            },
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Varchar | Self::Json => true,
            Self::Date => parse_date(text).is_some(),
            Self::Timestamp => parse_timestamp(text).is_some(),
            Self::Decimal { precision, scale } => parse_decimal(text, *precision, *scale).is_some(),
            Self::Uuid => parse_uuid(text).is_some(),
            Self::Binary => parse_base64(text).is_some(),
            Self::List(_) | Self::Map(_) | Self::Struct(_) => false,
        }
    }
}

/// Whether each member of an object fits its field; one that is no field must be null and could be one by its name.
fn fits_fields(fields: &Fields, object: Value<'_>) -> bool {
    let mut next_position = 0;
    object.members().all(|(name, value)| match fields.position_near(&name, next_position) {
        Some(position) => {
            next_position = position + 1;
            fields.columns()[position].column_type.fits(value)
        }
        None => value.is_null() && is_column_name(&name),
    })
}

/// A column of a table, or a field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// `[A-Za-z_][A-Za-z0-9_]{0,127}`, unique in its table or struct whatever the case.
    pub name: String,

    /// What it holds.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

impl Column {
    /// A column; its name is checked when it enters a [`super::Schema`] or [`Fields`].
    pub fn new(name: impl Into<String>, column_type: ColumnType) -> Self {
        Self { name: name.into(), column_type }
    }
}
