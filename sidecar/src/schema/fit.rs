//! Which rows of a batch a table takes, once the lake's registry has decided on its columns.
//!
//! Owns: the exact conversions between column types, the verdict on each row that fitted when it was accepted.
//! Does not own: where the rows that do not fit are kept (`encode`, `publish`).
//!
//! A batch is decoded with the schema that the node knew when it accepted the batch.
//! Another node may have registered a column with another type first, and that type stands for ever.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};

use super::schema::Schema;
use super::types::ColumnType;
use super::verdict::Misfit;
use crate::decode::{DecodedBatch, DecodedColumn, integer_is_exact_in_f64};

/// A batch in the form of its table.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// One array for each registered column, in order, with the rows of `kept` only.
    pub columns: Vec<ArrayRef>,

    /// Row numbers in the batch of the rows that fit, ascending.
    pub kept: Vec<u32>,

    /// The rows that do not fit, ascending, each once: together with `kept` they are all rows of the batch.
    pub misfits: Vec<Misfit>,
}

impl Fitted {
    /// Keeps of the rows that fit those for which `stays` holds; the others are in neither list then.
    pub fn retain(&mut self, registered: &Schema, mut stays: impl FnMut(u32) -> bool) {
        let places: Vec<u32> =
            (0_u32..).zip(&self.kept).filter(|(_, row)| stays(**row)).map(|(place, _)| place).collect();
        if places.len() == self.kept.len() {
            return;
        }
        self.kept = places.iter().map(|place| self.kept[*place as usize]).collect();
        for (array, column) in self.columns.iter_mut().zip(registered.columns()) {
            *array = gather(array, column.column_type, &places);
        }
    }

    /// Adds `first` to every row number: the batch was a part of a longer one.
    pub fn move_rows(&mut self, first: u32) {
        self.kept.iter_mut().for_each(|row| *row += first);
        self.misfits.iter_mut().for_each(|misfit| misfit.row += first);
    }
}

/// Brings a batch into the form of the registered schema, row by row.
///
/// A column of the registered type passes; integers pass into a double where they are exact; every value passes
/// into json as its JSON text; nulls always pass.
/// A registered column that the batch lacks is null. What fitted nothing when it was decoded fits nothing here.
pub fn fit(batch: &DecodedBatch, registered: &Schema) -> Fitted {
    let mut misfits: Misfits = batch.misfits.iter().map(|misfit| (misfit.row, misfit.clone())).collect();
    let mut converted: Vec<Option<ArrayRef>> = vec![None; registered.len()];
    for column in &batch.columns {
        match registered.position(&column.name) {
            Some(position) => {
                let target = registered.columns()[position].column_type;
                converted[position] = convert(column, target, &mut misfits);
            }
            None => refuse_values(column, "column-unknown", || "the table has no such column".to_owned(), &mut misfits),
        }
    }
    let row_count = u32::try_from(batch.rows).expect("a body is counted in u32 and a row takes at least two bytes");
    let kept: Vec<u32> = (0..row_count).filter(|row| !misfits.contains_key(row)).collect();
    let columns = registered.columns().iter().zip(converted).map(|(column, array)| match array {
        Some(array) if misfits.is_empty() => array,
        Some(array) => gather(&array, column.column_type, &kept),
        None => nulls(column.column_type, kept.len()),
    });
    Fitted { columns: columns.collect(), misfits: misfits.into_values().collect(), kept }
}

type Misfits = BTreeMap<u32, Misfit>;

/// The column in the target's form.
/// Where a value has none its row is noted, and `None` stands for a column without any value that fits.
fn convert(column: &DecodedColumn, target: ColumnType, misfits: &mut Misfits) -> Option<ArrayRef> {
    if column.column_type == target {
        return Some(Arc::clone(&column.array));
    }
    match (column.column_type, target) {
        (ColumnType::Bigint, ColumnType::Double) => Some(integers_as_doubles(column, misfits)),
        (_, ColumnType::Json) => Some(values_as_json(column)),
        (
            ColumnType::Bigint | ColumnType::Double | ColumnType::Boolean | ColumnType::Varchar | ColumnType::Json,
            ColumnType::Bigint | ColumnType::Double | ColumnType::Boolean | ColumnType::Varchar,
        ) => {
            let detail = || format!("the table's column is {target}, the value was accepted as {}", column.column_type);
            refuse_values(column, "type-mismatch", detail, misfits);
            None
        }
    }
}

fn integers_as_doubles(column: &DecodedColumn, misfits: &mut Misfits) -> ArrayRef {
    let integers = column.array.as_primitive::<Int64Type>();
    for (row, integer) in (0_u32..).zip(integers) {
        if integer.is_some_and(|integer| !integer_is_exact_in_f64(integer)) {
            let detail = "the table's column is double, which cannot hold this integer exactly".to_owned();
            note(misfits, row, column, "type-mismatch", detail);
        }
    }
    Arc::new(integers.unary::<_, Float64Type>(|integer| integer as f64))
}

/// Each value as the shortest JSON text that reads back as the same value.
fn values_as_json(column: &DecodedColumn) -> ArrayRef {
    let texts: StringArray = match column.column_type {
        ColumnType::Bigint => {
            let integers = column.array.as_primitive::<Int64Type>();
            integers.iter().map(|integer| integer.map(|integer| integer.to_string())).collect()
        }
        ColumnType::Double => {
            let doubles = column.array.as_primitive::<Float64Type>();
            doubles.iter().map(|double| double.map(|double| serde_json::json!(double).to_string())).collect()
        }
        ColumnType::Boolean => {
            let booleans = column.array.as_boolean();
            booleans.iter().map(|boolean| boolean.map(|boolean| boolean.to_string())).collect()
        }
        ColumnType::Varchar => {
            let strings = column.array.as_string::<i32>();
            strings.iter().map(|string| string.map(|string| serde_json::json!(string).to_string())).collect()
        }
        ColumnType::Json => return Arc::clone(&column.array),
    };
    Arc::new(texts)
}

/// Notes every row that has a value in a column which the table cannot take.
fn refuse_values(column: &DecodedColumn, code: &'static str, detail: impl Fn() -> String, misfits: &mut Misfits) {
    for (row, position) in (0_u32..).zip(0..column.array.len()) {
        if column.array.is_valid(position) {
            note(misfits, row, column, code, detail());
        }
    }
}

/// The first reason of a row stands.
fn note(misfits: &mut Misfits, row: u32, column: &DecodedColumn, code: &'static str, detail: String) {
    misfits.entry(row).or_insert_with(|| Misfit { row, column: column.name.clone(), code, detail });
}

/// The given rows of an array of the given type.
fn gather(array: &ArrayRef, column_type: ColumnType, rows: &[u32]) -> ArrayRef {
    let rows = rows.iter().map(|row| *row as usize);
    match column_type {
        ColumnType::Bigint => {
            let integers = array.as_primitive::<Int64Type>();
            Arc::new(rows.map(|row| integers.is_valid(row).then(|| integers.value(row))).collect::<Int64Array>())
        }
        ColumnType::Double => {
            let doubles = array.as_primitive::<Float64Type>();
            Arc::new(rows.map(|row| doubles.is_valid(row).then(|| doubles.value(row))).collect::<Float64Array>())
        }
        ColumnType::Boolean => {
            let booleans = array.as_boolean();
            Arc::new(rows.map(|row| booleans.is_valid(row).then(|| booleans.value(row))).collect::<BooleanArray>())
        }
        ColumnType::Varchar | ColumnType::Json => {
            let strings = array.as_string::<i32>();
            Arc::new(rows.map(|row| strings.is_valid(row).then(|| strings.value(row))).collect::<StringArray>())
        }
    }
}

fn nulls(column_type: ColumnType, rows: usize) -> ArrayRef {
    match column_type {
        ColumnType::Bigint => Arc::new(Int64Array::new_null(rows)),
        ColumnType::Double => Arc::new(Float64Array::new_null(rows)),
        ColumnType::Boolean => Arc::new(BooleanArray::new_null(rows)),
        ColumnType::Varchar | ColumnType::Json => Arc::new(StringArray::new_null(rows)),
    }
}

#[cfg(test)]
mod tests;
