//! What a body of columns says about its table.
//!
//! Owns: when its columns are the table's as they are, so that no record has to be looked at; else the records are, one by one.
//! Does not own: the verdict on a record (`observe`).

use std::collections::BTreeSet;

use lakeingest_crds::Inference;
use lakeingest_crds::names::{PARTITION_COLUMNS, is_column_name};

use super::{Observation, observe};
use crate::decode::{Columnar, DecodeError, Format, Lines, ScanLimits, Violation, Violations, days_of_column, scan};
use crate::limits::{BATCH_PARTITIONS_MAX, CELLS_MAX, DECODED_BYTES_MAX, RECORD_BYTES_MAX, RECORD_CELLS_MAX};
use crate::schema::{Column, ColumnType, DayRule, Rules, Schema};

/// Checks a body of columns against what is known of its table. Columns that are new have the types that they came with, as
/// have fields that are new in structs.
///
/// # Errors
/// As [`observe`] for the records that its rows are.
pub fn observe_columns(
    body: &Columnar,
    known: &Schema,
    days: DayRule,
    inference: &Inference,
) -> Result<Observation, DecodeError> {
    let grown = with_columns_of(known, body);
    if let Some(observation) = as_they_are(body, &grown, days) {
        return Ok(observation);
    }
    let lines = body.lines(0..body.record_count(), DECODED_BYTES_MAX, RECORD_BYTES_MAX);
    let Lines { text, range: part, strays } = lines.map_err(record_too_large)?;
    if part.len() < body.record_count() {
        let detail = format!(
            "the records have more than {DECODED_BYTES_MAX} bytes as JSON, by which they are judged where a value or a column \
             is not simply its table's; send fewer in one request"
        );
        return Err(DecodeError::TooLong(Violation::new("", "body-too-large", detail).into()));
    }
    let scanned = scan(Format::Ndjson, text.as_bytes(), &ScanLimits::DEFAULT)?.with_strays(strays);
    let observation = observe(&scanned, &grown, days, inference)?;
    Ok(without_idle_growth(observation, known))
}

fn record_too_large(index: usize) -> DecodeError {
    let detail = format!("a record has at most {RECORD_BYTES_MAX} bytes as JSON, this one has more");
    DecodeError::Illegal(Violation::new("", "record-too-large", detail).of_record(index).into())
}

/// A schema grown by the columns of a body that can come to it, in the types that they have there.
pub(crate) fn with_columns_of(known: &Schema, body: &Columnar) -> Schema {
    if known.constraints().closed {
        return known.clone();
    }
    let can_come = |column: &&Column| {
        let is_partitions = PARTITION_COLUMNS.iter().any(|name| name.eq_ignore_ascii_case(&column.name));
        let has_room = match known.position(&column.name) {
            Some(position) => matches!(
                (&known.columns()[position].column_type, &column.column_type),
                (ColumnType::Struct(_), ColumnType::Struct(_))
            ),
            None => known.column_of_any_case(&column.name).is_none(),
        };
        has_room && !is_partitions && is_column_name(&column.name)
    };
    known.merged(&body.columns().iter().filter(can_come).cloned().collect::<Vec<_>>())
}

/// Where the columns of a body are in a schema, if each of its values has the type of its column there and every record is
/// known to fit without a look at it.
pub(crate) fn places_of(body: &Columnar, schema: &Schema) -> Option<Vec<usize>> {
    let is_bounded = body.all_list_cells() <= RECORD_CELLS_MAX && body.record_text_bytes_max() <= RECORD_BYTES_MAX;
    let place = |(position, column): (usize, &Column)| {
        let place = schema.position(&column.name)?;
        let is_same = schema.columns()[place].column_type == column.column_type;
        (is_same && body.array(position).is_some()).then_some(place)
    };
    let places: Vec<usize> = body.columns().iter().enumerate().map(place).collect::<Option<_>>()?;
    let required = places.iter().enumerate().filter(|(_, place)| schema.is_required(**place));
    let is_full = |(position, _): &(usize, &usize)| body.array(*position).is_some_and(|array| array.null_count() == 0);
    let has_required = required.filter(is_full).count() == schema.required_count();
    (is_bounded && has_required).then_some(places)
}

/// What is observed where every record fits.
fn as_they_are(body: &Columnar, grown: &Schema, days: DayRule) -> Option<Observation> {
    let places = places_of(body, grown)?;
    let rules = Rules::new(grown, days);
    let days = days_of_column(body, &rules)?.map(BTreeSet::from_iter);
    let mut present = vec![false; grown.len()];
    places.iter().for_each(|place| present[*place] = true);
    // With too many of either the records are judged one by one, which finds the words for it.
    let leaves = places.iter().map(|place| grown.columns()[*place].column_type.leaf_count()).sum::<usize>();
    let is_bounded = body.record_count() * leaves <= CELLS_MAX
        && days.as_ref().is_none_or(|days| days.len() <= BATCH_PARTITIONS_MAX);
    is_bounded.then(|| Observation {
        schema: grown.clone(),
        present,
        rows: body.record_count(),
        misfits: Violations::default(),
        strangers: Violations::default(),
        days,
    })
}

/// An observation without what has come to its table for records that do not fit: columns that are new, and fields of structs,
/// where no record that fits has a value.
fn without_idle_growth(observation: Observation, known: &Schema) -> Observation {
    let Observation { schema, present, .. } = &observation;
    let stays = |(position, column): (usize, &Column)| match known.columns().get(position) {
        Some(before) if !present[position] => Some((before.clone(), false)),
        None if !present[position] => None,
        _ => Some((column.clone(), present[position])),
    };
    let (columns, present): (Vec<_>, Vec<_>) = schema.columns().iter().enumerate().filter_map(stays).unzip();
    let schema = Schema::new(columns).expect("columns that stand beside others stand without them");
    Observation { schema: schema.constrained(known.constraints()), present, ..observation }
}
