//! The column of a body in the one physical form that its type has in a table.
//!
//! Owns: the form of values, which of them are none of their type. Does not own: which type that is (`types`), which column of
//! the table they go to.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Float64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, ListArray, MapArray, StructArray, TimestampMicrosecondArray,
    UInt32Array, UInt64Array, new_null_array,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};
use arrow_select::nullif::nullif;
use arrow_select::take::take;

use super::render::{self, Text};
use crate::decode::{arrow_field, date_of_days, is_timestamp};
use crate::schema::{ColumnType, Fields};

/// A day. Unit: milliseconds.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// The elements that a list's offsets speak of.
pub(super) fn window<O: arrow_array::OffsetSizeTrait>(elements: &ArrayRef, offsets: &OffsetBuffer<O>) -> ArrayRef {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    elements.slice(first, last - first)
}

/// An array in memory of its own: the database takes what has no offset.
fn own(array: ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.offset() == 0 && !array.data_type().is_nested() {
        true => Ok(array),
        false => take(&array, &UInt64Array::from_iter_values(0..array.len() as u64), None),
    }
}

/// The values of a column.
#[derive(Debug)]
pub(super) struct Normal {
    /// In the form of the column's type.
    pub(super) array: ArrayRef,
    /// Those that are none of it, as they came.
    stray: Option<(BooleanBuffer, ArrayRef)>,
}

impl Normal {
    /// The values of `array` as those of a type, which is its own.
    pub(super) fn of(array: &ArrayRef, own_type: &ColumnType) -> Result<Self, ArrowError> {
        let (normal, stray) = normalised(array, own_type)?;
        let stray = stray.filter(|stray| stray.count_set_bits() > 0).map(|stray| (stray, Arc::clone(array)));
        Ok(Self { array: normal, stray })
    }

    /// Whether each value is of its type.
    pub(super) fn is_whole(&self) -> bool {
        self.stray.is_none()
    }

    /// Whether the value at `index` is none of its type.
    pub(super) fn is_stray(&self, index: usize) -> bool {
        self.stray.as_ref().is_some_and(|(stray, _)| stray.value(index))
    }

    /// Whether there is a value at `index`, whatever it is.
    pub(super) fn has_value(&self, index: usize) -> bool {
        self.array.is_valid(index) || self.is_stray(index)
    }

    /// What the value at `index` weighs, if it has no structure. Unit: bytes.
    pub(super) fn bytes_of(&self, index: usize) -> usize {
        const VALUE_BYTES: usize = 8;
        match self.array.data_type() {
            DataType::Utf8 => VALUE_BYTES + self.array.as_string::<i32>().value_length(index).unsigned_abs() as usize,
            DataType::Binary => VALUE_BYTES + self.array.as_binary::<i32>().value_length(index).unsigned_abs() as usize,
            _ => VALUE_BYTES,
        }
    }

    /// Writes the value at `index`, which there is, as JSON.
    pub(super) fn render(&self, own_type: &ColumnType, index: usize, text: &mut Text) {
        match &self.stray {
            Some((stray, array)) if stray.value(index) => {
                // No JSON of ours has a NUL.
                render::string(&words_of(array, index).replace('\0', "\u{fffd}"), text);
            }
            _ => render::value(own_type, &self.array, index, text),
        }
    }
}

/// A value that is none of its type, in words.
fn words_of(array: &ArrayRef, index: usize) -> String {
    // A zone is only how it is shown, and its name may be one that is not known here.
    let array = match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => cast(array, &DataType::Int64)
            .and_then(|values| cast(&values, &DataType::Timestamp(*unit, None)))
            .unwrap_or_else(|_| Arc::clone(array)),
        _ => Arc::clone(array),
    };
    // What cannot be shown as what it is shown as its number.
    let shown = |array: &ArrayRef| {
        let options = FormatOptions::default().with_display_error(false);
        let formatter = ArrayFormatter::try_new(array, &options).ok()?;
        formatter.value(index).try_to_string().ok()
    };
    let number = || cast(&array, &DataType::Int64).ok().filter(|number| number.is_valid(index));
    let shown = shown(&array).or_else(|| shown(&number()?));
    shown.unwrap_or_else(|| "a value that cannot be shown".to_owned())
}

/// An array in the form of its type, and which of its rows hold a value that is none of it.
type Normalised = (ArrayRef, Option<BooleanBuffer>);

fn normalised(array: &ArrayRef, own_type: &ColumnType) -> Result<Normalised, ArrowError> {
    match own_type {
        ColumnType::List(element) => list(array, element),
        ColumnType::Map(value) => map(array.as_map(), value),
        ColumnType::Struct(fields) => structure(array.as_struct(), fields),
        ColumnType::Json => Ok((new_null_array(&DataType::Utf8, array.len()), None)),
        scalar => self::scalar(array, scalar),
    }
}

/// The form of a type without a structure.
fn form_of(own_type: &ColumnType) -> DataType {
    match own_type {
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Decimal { precision, scale } => DataType::Decimal128(*precision, scale.cast_signed()),
        ColumnType::Uuid => DataType::FixedSizeBinary(16),
        ColumnType::Binary => DataType::Binary,
        ColumnType::Varchar | ColumnType::Json | ColumnType::List(_) | ColumnType::Map(_) | ColumnType::Struct(_) => {
            DataType::Utf8
        }
    }
}

fn scalar(array: &ArrayRef, own_type: &ColumnType) -> Result<Normalised, ArrowError> {
    if let DataType::Dictionary(_, values) = array.data_type() {
        return scalar(&cast(array, values)?, own_type);
    }
    if let DataType::Timestamp(unit, _) = array.data_type() {
        return Ok(timestamp(array, *unit));
    }
    let cast = cast(array, &form_of(own_type))?;
    let mut strays = Strays::new(array, &cast);
    match own_type {
        ColumnType::Double => {
            let values = cast.as_primitive::<Float64Type>().values();
            strays.note(|row| !values[row].is_finite(), values.iter().all(|value| value.is_finite()));
        }
        ColumnType::Varchar => {
            let texts = cast.as_string::<i32>();
            strays.note(|row| texts.value(row).contains('\0'), !texts.value_data().contains(&0));
        }
        ColumnType::Date => {
            let days = cast.as_primitive::<Date32Type>().values();
            strays.note(|row| date_of_days(days[row]).is_none(), false);
            if let Some(millis) = array.as_primitive_opt::<Date64Type>() {
                // The cast takes the lowest 32 bits of the days.
                strays.note(|row| i64::from(days[row]).checked_mul(DAY_MILLIS) != Some(millis.value(row)), false);
            }
        }
        ColumnType::Decimal { precision, .. } => {
            let most = 10_u128.pow(u32::from(*precision)) - 1;
            let values = cast.as_primitive::<Decimal128Type>().values();
            let is_stray = |value: &i128| value.unsigned_abs() > most;
            strays.note(|row| is_stray(&values[row]), !values.iter().any(is_stray));
        }
        _ => {}
    }
    Ok((cast, strays.rows))
}

/// Timestamps of any unit in microseconds. Their zone says only how they are shown; without one they are UTC.
fn timestamp(array: &ArrayRef, unit: TimeUnit) -> Normalised {
    let values = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    };
    let micros = |value: i64| {
        let micros = match unit {
            TimeUnit::Second => value.checked_mul(1_000_000),
            TimeUnit::Millisecond => value.checked_mul(1_000),
            TimeUnit::Microsecond => Some(value),
            TimeUnit::Nanosecond => (value % 1_000 == 0).then_some(value / 1_000),
        };
        micros.filter(|micros| is_timestamp(*micros))
    };
    let of_row = |row: usize| if array.is_null(row) { None } else { micros(values[row]) };
    let cast: TimestampMicrosecondArray = (0..array.len()).map(of_row).collect();
    let cast: ArrayRef = Arc::new(cast.with_timezone("UTC"));
    let stray = Strays::new(array, &cast).rows;
    (cast, stray)
}

/// Rows whose values are none of their type.
struct Strays<'a> {
    array: &'a ArrayRef,
    rows: Option<BooleanBuffer>,
}

impl<'a> Strays<'a> {
    /// Those that the cast has made nulls of.
    fn new(array: &'a ArrayRef, cast: &ArrayRef) -> Self {
        let nulls = array.logical_nulls();
        let was_valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let has_lost = cast.null_count() > nulls.as_ref().map_or(0, NullBuffer::null_count);
        let lost = || BooleanBuffer::collect_bool(array.len(), |row| cast.is_null(row) && was_valid(row));
        Self { array, rows: has_lost.then(lost) }
    }

    /// Adds those for which `is_stray` holds; there is none if `all_well`.
    fn note(&mut self, is_stray: impl Fn(usize) -> bool, all_well: bool) {
        if all_well {
            return;
        }
        let nulls = self.array.logical_nulls();
        let is_valid = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let rows = BooleanBuffer::collect_bool(self.array.len(), |row| is_valid(row) && is_stray(row));
        self.rows = Some(match &self.rows {
            Some(before) => before | &rows,
            None => rows,
        });
    }
}

/// Ends of lists from 0 on.
fn ends_of<O: arrow_array::OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> OffsetBuffer<i32> {
    let first = offsets[0].as_usize();
    let end = |offset: &O| i32::try_from(offset.as_usize() - first);
    let end = |offset| end(offset).expect("a body whose elements are more than `values_max` was refused");
    OffsetBuffer::new(ScalarBuffer::from(offsets.iter().map(end).collect::<Vec<i32>>()))
}

fn list(array: &ArrayRef, element: &ColumnType) -> Result<Normalised, ArrowError> {
    let (elements, ends) = match array.data_type() {
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let elements = window(list.values(), list.offsets());
            (elements, ends_of(list.offsets()))
        }
        DataType::FixedSizeList(_, _) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let length = usize::try_from(list.value_length()).unwrap_or(0);
            (Arc::clone(list.values()), OffsetBuffer::from_lengths(std::iter::repeat_n(length, list.len())))
        }
        _ => {
            let list = array.as_list::<i32>();
            let elements = window(list.values(), list.offsets());
            (elements, ends_of(list.offsets()))
        }
    };
    let (ends, [elements]) = without_hidden(array.nulls(), ends, [elements])?;
    let (elements, stray) = normalised(&own(elements)?, element)?;
    let stray = stray.map(|stray| rows_of(&ends, &stray));
    let field = Arc::new(arrow_field("element", elements.data_type().clone()));
    Ok((Arc::new(ListArray::try_new(field, ends, elements, array.nulls().cloned())?), stray))
}

/// Lists without what is in those that are null: Arrow lets it stand there, and the database would take it for something.
fn without_hidden<const COLUMNS: usize>(
    nulls: Option<&NullBuffer>,
    ends: OffsetBuffer<i32>,
    elements: [ArrayRef; COLUMNS],
) -> Result<(OffsetBuffer<i32>, [ArrayRef; COLUMNS]), ArrowError> {
    let span = |row: usize| ends[row].unsigned_abs()..ends[row + 1].unsigned_abs();
    let Some(nulls) = nulls else { return Ok((ends, elements)) };
    if (0..nulls.len()).all(|row| nulls.is_valid(row) || span(row).is_empty()) {
        return Ok((ends, elements));
    }
    let shown = (0..nulls.len()).filter(|row| nulls.is_valid(*row)).flat_map(span);
    let shown = UInt32Array::from_iter_values(shown);
    let lengths = (0..nulls.len()).map(|row| if nulls.is_valid(row) { span(row).len() } else { 0 });
    let mut kept = elements;
    for column in &mut kept {
        *column = take(column, &shown, None)?;
    }
    Ok((OffsetBuffer::from_lengths(lengths), kept))
}

/// The rows that have an element which is flagged.
fn rows_of(ends: &OffsetBuffer<i32>, flags: &BooleanBuffer) -> BooleanBuffer {
    let span = |row: usize| ends[row].unsigned_abs() as usize..ends[row + 1].unsigned_abs() as usize;
    BooleanBuffer::collect_bool(ends.len() - 1, |row| span(row).any(|element| flags.value(element)))
}

fn map(map: &MapArray, value: &ColumnType) -> Result<Normalised, ArrowError> {
    let offsets = map.offsets();
    let entries = [window(map.keys(), offsets), window(map.values(), offsets)];
    let (ends, [keys, values]) = without_hidden(map.nulls(), ends_of(offsets), entries)?;
    let (keys, values) = (own(keys)?, own(values)?);
    let (keys, stray_keys) = scalar(&keys, &ColumnType::Varchar)?;
    let (values, stray) = normalised(&values, value)?;
    let mut stray = stray.map(|stray| rows_of(&ends, &stray));
    if let Some(keys) = stray_keys {
        let rows = rows_of(&ends, &keys);
        stray = Some(stray.map_or(rows.clone(), |stray| &stray | &rows));
    }
    let texts = keys.as_string::<i32>();
    let has_twins = |row: usize| {
        let mut span: Vec<&str> = (ends[row].unsigned_abs() as usize..ends[row + 1].unsigned_abs() as usize)
            .map(|at| texts.value(at))
            .collect();
        span.sort_unstable();
        span.windows(2).any(|pair| pair[0] == pair[1])
    };
    let twins = BooleanBuffer::collect_bool(map.len(), has_twins);
    let stray = stray.map_or(twins.clone(), |stray| &stray | &twins);
    let fields = vec![Field::new("key", DataType::Utf8, false), arrow_field("value", values.data_type().clone())];
    let entries = StructArray::try_new(fields.into(), vec![keys, values], None)?;
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    Ok((Arc::new(MapArray::try_new(field, ends, entries, map.nulls().cloned(), false)?), Some(stray)))
}

fn structure(array: &StructArray, fields: &Fields) -> Result<Normalised, ArrowError> {
    let mut stray: Option<BooleanBuffer> = None;
    let mut columns = Vec::with_capacity(fields.columns().len());
    for (field, column) in fields.columns().iter().zip(array.columns()) {
        // What is in a struct that is null is null: Arrow lets a value stand there, and the database would take it for one.
        let hidden = array.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| !nulls.inner());
        let (column, of_field) = match hidden {
            Some(hidden) => normalised(&nullif(column, &BooleanArray::new(hidden, None))?, &field.column_type)?,
            None => normalised(column, &field.column_type)?,
        };
        if let Some(of_field) = of_field {
            stray = Some(stray.map_or(of_field.clone(), |stray| &stray | &of_field));
        }
        columns.push(column);
    }
    let names = fields.columns().iter().zip(&columns);
    let names = names.map(|(field, column)| arrow_field(&field.name, column.data_type().clone())).collect();
    Ok((Arc::new(StructArray::try_new(names, columns, array.nulls().cloned())?), stray))
}
