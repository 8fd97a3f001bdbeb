//! Columns of a body that go to their table as they are.
//!
//! Owns: which array is which column, the days of the rows. Does not own: whether every record fits (`schema::observe`).

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_select::take::take;
use chrono::NaiveDate;

use super::builder::ColumnBuilder;
use super::{DecodedRows, Target, number_of};
use crate::clock::day_of_micros;
use crate::decode::columnar::Columnar;
use crate::journal::batch::date_from_days;
use crate::schema::{Rules, places_of};

/// The records in `range` as rows of a table, where every record fits and every column has the type that it came with; else
/// none, and they have to be looked at one by one.
pub(crate) fn rows_as_they_are(body: &Columnar, target: &Target<'_>, range: Range<usize>) -> Option<DecodedRows> {
    let Target { rules, present, registered, wanted } = target;
    let places = places_of(body, rules.schema())?;
    let mut columns: Vec<Option<ArrayRef>> = vec![None; wanted.len()];
    for (position, (column, place)) in body.columns().iter().zip(places).enumerate() {
        let in_table = registered.position(&column.name)?;
        if !present[place] || registered.columns()[in_table].column_type != column.column_type {
            return None;
        }
        let slot = wanted.binary_search(&in_table).ok()?;
        columns[slot] = Some(part_of(body.array(position)?, &range));
    }
    let without_value =
        |position: &usize| ColumnBuilder::new(&registered.columns()[*position].column_type, 0).finish(range.len());
    let columns =
        columns.into_iter().zip(*wanted).map(|(column, position)| column.unwrap_or_else(|| without_value(position)));
    let days = days_of_column(body, rules)?.map(|days| days[range.clone()].to_vec());
    Some(DecodedRows { columns: columns.collect(), kept: range.map(number_of).collect(), days, misfits: Vec::new() })
}

/// The rows of an array in `range`, in memory of their own: the database takes what has no offset, also inside.
fn part_of(array: &ArrayRef, range: &Range<usize>) -> ArrayRef {
    if *range == (0..array.len()) {
        return Arc::clone(array);
    }
    let rows: UInt32Array = range.clone().map(number_of).collect();
    take(array, &rows, None).expect("every type of a column has rows that can be taken, and these are there")
}

/// The day of each record, where each has its own; outer none if only a look at each record tells.
pub(crate) fn days_of_column(body: &Columnar, rules: &Rules<'_>) -> Option<Option<Vec<NaiveDate>>> {
    let Some(name) = rules.day_column() else { return Some(None) };
    let Some(position) = body.columns().iter().position(|column| column.name == name) else {
        return Some(Some(vec![rules.date(); body.record_count()]));
    };
    let array = body.array(position)?;
    let day = |row: usize| {
        if array.is_null(row) {
            return rules.date();
        }
        let day = match array.as_primitive_opt::<TimestampMicrosecondType>() {
            Some(micros) => Some(day_of_micros(micros.value(row))),
            None => array.as_primitive_opt::<Date32Type>().and_then(|days| date_from_days(days.value(row))),
        };
        day.unwrap_or_else(|| rules.date())
    };
    Some(Some((0..body.record_count()).map(day).collect()))
}
