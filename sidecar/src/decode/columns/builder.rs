//! A column that grows in memory, of any type that a column can have.
//!
//! Owns: the physical form of a value, which row it belongs to. Does not own: which values come (`columns`).

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder as _, BinaryBuilder, BooleanBufferBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    FixedSizeBinaryBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{Array as _, ArrayRef, Decimal128Array, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field};

use crate::decode::bytes::{UUID_BYTES, parse_base64, parse_uuid};
use crate::decode::instant::{parse_date, parse_timestamp};
use crate::decode::number::{parse_decimal, parse_double, parse_integer};
use crate::decode::tape::{NodeKind, Value};
use crate::schema::{ColumnType, Fields, is_column_name};

/// A column that grows; rows without a value are filled in when the next value comes.
pub(super) enum ColumnBuilder {
    Bigint(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Varchar(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Decimal(DecimalBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Binary(BinaryBuilder),
    Json(StringBuilder),
    List(Box<ListBuilder>),
    Map(Box<MapBuilder>),
    Struct(Box<StructBuilder>),
}

/// Length of a uuid, as Arrow counts it. Unit: bytes.
const UUID_WIDTH: i32 = 16;

/// A guess at the length of a text, for the first allocation. Unit: bytes.
const TEXT_BYTES_GUESS: usize = 16;

/// Name of a list's element, as Parquet has it.
const ELEMENT_NAME: &str = "element";

/// The same call for the builder of every type.
macro_rules! each_builder {
    ($builder:expr, $name:ident => $call:expr) => {
        match $builder {
            ColumnBuilder::Bigint($name) => $call,
            ColumnBuilder::Double($name) => $call,
            ColumnBuilder::Boolean($name) => $call,
            ColumnBuilder::Varchar($name) | ColumnBuilder::Json($name) => $call,
            ColumnBuilder::Date($name) => $call,
            ColumnBuilder::Timestamp($name) => $call,
            ColumnBuilder::Decimal($name) => $call,
            ColumnBuilder::Uuid($name) => $call,
            ColumnBuilder::Binary($name) => $call,
            ColumnBuilder::List($name) => $call,
            ColumnBuilder::Map($name) => $call,
            ColumnBuilder::Struct($name) => $call,
        }
    };
}

impl ColumnBuilder {
    /// A column without rows, with memory for some.
    pub(super) fn new(column_type: &ColumnType, rows: usize) -> Self {
        let texts = || StringBuilder::with_capacity(rows, rows * TEXT_BYTES_GUESS);
        match column_type {
            ColumnType::Bigint => Self::Bigint(Int64Builder::with_capacity(rows)),
            ColumnType::Double => Self::Double(Float64Builder::with_capacity(rows)),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::Varchar => Self::Varchar(texts()),
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            ColumnType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
            ColumnType::Decimal { precision, scale } => Self::Decimal(DecimalBuilder::new(*precision, *scale, rows)),
            ColumnType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::with_capacity(rows, UUID_WIDTH)),
            ColumnType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, rows * TEXT_BYTES_GUESS)),
            ColumnType::Json => Self::Json(texts()),
            ColumnType::Map(value) => Self::Map(Box::new(MapBuilder::new(value, rows))),
            ColumnType::List(element) => Self::List(Box::new(ListBuilder::new(element, rows))),
            ColumnType::Struct(fields) => Self::Struct(Box::new(StructBuilder::new(fields, rows))),
        }
    }

    /// Sets the value of `row`, which is behind every row that was set before; false when it does not fit, or has a field
    /// that the type has not. Then the row has any value, and is to be left out. It fits where [`ColumnType::fits`] says
    /// so.
    #[inline]
    pub(super) fn append(&mut self, row: usize, value: Value<'_>) -> bool {
        self.fill_to(row);
        if value.is_cell() {
            return value.string().is_some_and(|text| self.append_cell(&text, value));
        }
        match (self, value.kind()) {
            (Self::Bigint(builder), NodeKind::Integer) => builder.append_value(parse_integer(value.raw())),
            (Self::Double(builder), NodeKind::Double) => builder.append_value(parse_double(value.raw())),
            (Self::Double(builder), NodeKind::Integer) if ColumnType::Double.fits(value) => {
                builder.append_value(parse_integer(value.raw()) as f64);
            }
            (Self::Boolean(builder), NodeKind::True) => builder.append_value(true),
            (Self::Boolean(builder), NodeKind::False) => builder.append_value(false),
            (Self::Json(texts), _) => texts.append_value(value.raw()),
            (Self::Varchar(texts), _) => match value.string() {
                Some(text) => texts.append_value(text),
                None => return false,
            },
            (Self::Date(builder), _) => match value.string().and_then(|text| parse_date(&text)) {
                Some(days) => builder.append_value(days),
                None => return false,
            },
            (Self::Timestamp(builder), _) => match value.string().and_then(|text| parse_timestamp(&text)) {
                Some(micros) => builder.append_value(micros),
                None => return false,
            },
            (Self::Decimal(builder), NodeKind::Integer | NodeKind::Double) => return builder.append(value.raw()),
            (Self::Decimal(builder), _) => return value.string().is_some_and(|text| builder.append(&text)),
            (Self::Uuid(builder), _) => match value.string().and_then(|text| parse_uuid(&text)) {
                Some(uuid) => append_uuid(builder, uuid),
                None => return false,
            },
            (Self::Binary(builder), _) => match value.string().and_then(|text| parse_base64(&text)) {
                Some(bytes) => builder.append_value(bytes),
                None => return false,
            },
            (Self::Map(map), NodeKind::Object) => return map.append(value),
            (Self::List(list), NodeKind::Array) => return list.append(value),
            (Self::Struct(fields), NodeKind::Object) => return fields.append(value),
            (
                Self::Bigint(_) | Self::Double(_) | Self::Boolean(_) | Self::List(_) | Self::Map(_) | Self::Struct(_),
                _,
            ) => return false,
        }
        true
    }

    /// As [`Self::append`], for a field of CSV, which has no structure.
    fn append_cell(&mut self, text: &str, value: Value<'_>) -> bool {
        let fits = |column_type: ColumnType| column_type.fits(value);
        match self {
            Self::Bigint(builder) if fits(ColumnType::Bigint) => builder.append_value(parse_integer(text)),
            Self::Double(builder) if fits(ColumnType::Double) => builder.append_value(parse_double(text)),
            Self::Boolean(builder) if fits(ColumnType::Boolean) => builder.append_value(text == "true"),
            Self::Varchar(texts) => texts.append_value(text),
            Self::Json(texts) => texts.append_value(value.json()),
            Self::Date(builder) if fits(ColumnType::Date) => builder.append_option(parse_date(text)),
            Self::Timestamp(builder) if fits(ColumnType::Timestamp) => builder.append_option(parse_timestamp(text)),
            Self::Decimal(builder) => return builder.append(text),
            Self::Uuid(builder) => match parse_uuid(text) {
                Some(uuid) => append_uuid(builder, uuid),
                None => return false,
            },
            Self::Binary(builder) => match parse_base64(text) {
                Some(bytes) => builder.append_value(bytes),
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// Nulls up to `row`, exclusive.
    #[inline]
    fn fill_to(&mut self, row: usize) {
        each_builder!(self, builder => if builder.len() < row {
            builder.append_nulls(row - builder.len());
        });
    }

    /// The column, with this many rows.
    pub(super) fn finish(mut self, rows: usize) -> ArrayRef {
        self.fill_to(rows);
        each_builder!(&mut self, builder => Arc::new(builder.finish()) as ArrayRef)
    }
}

/// A field of this type that can be null. The 16 bytes of a uuid say that they are one.
/// Source: <https://arrow.apache.org/docs/format/CanonicalExtensions.html#uuid>.
pub(crate) fn arrow_field(name: &str, data_type: DataType) -> Field {
    let is_uuid = data_type == DataType::FixedSizeBinary(UUID_WIDTH);
    let field = Field::new(name, data_type, true);
    match is_uuid {
        true => field.with_metadata([(EXTENSION_TYPE_NAME_KEY.to_owned(), "arrow.uuid".to_owned())].into()),
        false => field,
    }
}

fn append_uuid(builder: &mut FixedSizeBinaryBuilder, uuid: [u8; UUID_BYTES]) {
    builder.append_value(uuid).expect("a uuid is as long as the builder's values");
}

/// A decimal of each row.
pub(super) struct DecimalBuilder {
    precision: u8,
    scale: u8,
    values: Decimal128Builder,
}

impl DecimalBuilder {
    fn new(precision: u8, scale: u8, rows: usize) -> Self {
        let values = Decimal128Builder::with_capacity(rows);
        let values = values.with_precision_and_scale(precision, scale.cast_signed());
        Self { precision, scale, values: values.expect("a type has at most 38 digits, and no more behind the point") }
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn append_nulls(&mut self, rows: usize) {
        self.values.append_nulls(rows);
    }

    fn append(&mut self, text: &str) -> bool {
        let value = parse_decimal(text, self.precision, self.scale);
        self.values.append_option(value);
        value.is_some()
    }

    fn finish(&mut self) -> Decimal128Array {
        self.values.finish()
    }
}

/// A list of each row.
pub(super) struct ListBuilder {
    /// Where the elements of each row end.
    ends: Vec<i32>,
    valid: BooleanBufferBuilder,
    elements: usize,
    element: Option<ColumnBuilder>,
}

impl ListBuilder {
    fn new(element: &ColumnType, rows: usize) -> Self {
        let element = Some(ColumnBuilder::new(element, rows));
        Self { ends: vec![0], valid: BooleanBufferBuilder::new(rows), elements: 0, element }
    }

    fn len(&self) -> usize {
        self.valid.len()
    }

    /// The end of what there is. There are no more elements than a body has bytes, which is far less than an `i32` counts.
    fn end(&self) -> i32 {
        i32::try_from(self.elements).expect("the elements of a body's rows are fewer than its bytes")
    }

    fn append_nulls(&mut self, rows: usize) {
        self.valid.append_n(rows, false);
        self.ends.resize(self.ends.len() + rows, self.end());
    }

    fn append(&mut self, array: Value<'_>) -> bool {
        let Some(element) = &mut self.element else { return false };
        let mut fits = true;
        for value in array.elements() {
            fits = value.is_null() || element.append(self.elements, value);
            self.elements += 1;
            if !fits {
                break;
            }
        }
        self.valid.append(true);
        self.ends.push(self.end());
        fits
    }

    /// The column. Nothing can be appended any more.
    fn finish(&mut self) -> ListArray {
        let element = self.element.take().expect("a builder is finished once");
        let values = element.finish(self.elements);
        let field = Arc::new(arrow_field(ELEMENT_NAME, values.data_type().clone()));
        let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::take(&mut self.ends)));
        ListArray::new(field, ends, values, Some(NullBuffer::new(self.valid.finish())))
    }
}

/// A map of each row.
pub(super) struct MapBuilder {
    /// Where the entries of each row end.
    ends: Vec<i32>,
    valid: BooleanBufferBuilder,
    keys: StringBuilder,
    values: Option<ColumnBuilder>,
}

impl MapBuilder {
    fn new(value: &ColumnType, rows: usize) -> Self {
        let keys = StringBuilder::with_capacity(rows, rows * TEXT_BYTES_GUESS);
        let values = Some(ColumnBuilder::new(value, rows));
        Self { ends: vec![0], valid: BooleanBufferBuilder::new(rows), keys, values }
    }

    fn len(&self) -> usize {
        self.valid.len()
    }

    /// The end of what there is; see [`ListBuilder::end`].
    fn end(&self) -> i32 {
        i32::try_from(self.keys.len()).expect("the entries of a body's rows are fewer than its bytes")
    }

    fn append_nulls(&mut self, rows: usize) {
        self.valid.append_n(rows, false);
        self.ends.resize(self.ends.len() + rows, self.end());
    }

    fn append(&mut self, object: Value<'_>) -> bool {
        let Some(values) = &mut self.values else { return false };
        let mut fits = true;
        for (name, value) in object.members() {
            fits = value.is_null() || values.append(self.keys.len(), value);
            self.keys.append_value(name);
            if !fits {
                break;
            }
        }
        self.valid.append(true);
        self.ends.push(self.end());
        fits
    }

    /// The column. Nothing can be appended any more.
    fn finish(&mut self) -> MapArray {
        let (keys, values) = (self.keys.finish(), self.values.take().expect("a builder is finished once"));
        let values = values.finish(keys.len());
        let fields = vec![Field::new("key", DataType::Utf8, false), arrow_field("value", values.data_type().clone())];
        let entries = StructArray::new(fields.into(), vec![Arc::new(keys), values], None);
        let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::take(&mut self.ends)));
        MapArray::new(field, ends, entries, Some(NullBuffer::new(self.valid.finish())), false)
    }
}

/// A struct of each row.
pub(super) struct StructBuilder {
    fields: Arc<Fields>,
    valid: BooleanBufferBuilder,
    columns: Vec<ColumnBuilder>,
}

impl StructBuilder {
    fn new(fields: &Arc<Fields>, rows: usize) -> Self {
        let columns = fields.columns().iter().map(|field| ColumnBuilder::new(&field.column_type, rows));
        Self { fields: Arc::clone(fields), valid: BooleanBufferBuilder::new(rows), columns: columns.collect() }
    }

    fn len(&self) -> usize {
        self.valid.len()
    }

    fn append_nulls(&mut self, rows: usize) {
        self.valid.append_n(rows, false);
    }

    fn append(&mut self, object: Value<'_>) -> bool {
        let row = self.len();
        self.valid.append(true);
        let mut next_position = 0;
        object.members().all(|(name, value)| match self.fields.position_near(&name, next_position) {
            Some(position) => {
                next_position = position + 1;
                value.is_null() || self.columns[position].append(row, value)
            }
            None => value.is_null() && is_column_name(&name),
        })
    }

    /// The column. Nothing can be appended any more.
    fn finish(&mut self) -> StructArray {
        let rows = self.len();
        let columns = std::mem::take(&mut self.columns).into_iter().map(|column| column.finish(rows));
        let columns: Vec<ArrayRef> = columns.collect();
        let names = self.fields.columns().iter().zip(&columns);
        let fields = names.map(|(field, column)| arrow_field(&field.name, column.data_type().clone())).collect();
        StructArray::new(fields, columns, Some(NullBuffer::new(self.valid.finish())))
    }
}
