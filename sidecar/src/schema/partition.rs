//! Under which day of its table a record lies.
//!
//! Owns: the day of a record, the days of a batch. Does not own: which column a table goes by (`declaration`), files (`encode`).
//!
//! A record lies under the day that its request names, else under the day in UTC of its value in the column that the table
//! goes by, else under the day on which it was received. The day of a record is found in its text by the schema that the
//! batch was accepted with, so that it is the same whenever the batch is decoded and whatever its table has become.

use std::collections::BTreeSet;
use std::fmt;

use chrono::NaiveDate;

use super::schema::Schema;
use super::types::ColumnType;
use crate::clock::day_of_micros;
use crate::decode::{Value, parse_date, parse_timestamp};
use crate::journal::batch::date_from_days;

/// Under which day the records of a batch lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayRule {
    /// All of them under this one.
    Named(NaiveDate),
    /// Each under the day of its value in the column that its table goes by, if it goes by one; those without a value under
    /// this day.
    ByColumn(NaiveDate),
}

impl From<NaiveDate> for DayRule {
    fn from(date: NaiveDate) -> Self {
        Self::Named(date)
    }
}

/// The day of each record of a batch, one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordDay<'s> {
    pub(super) rule: DayRule,
    /// The column that tells it, and whether that holds timestamps; none where all lie under one day.
    column: Option<(&'s str, bool)>,
    /// The day of a record without a value there.
    otherwise: NaiveDate,
    /// The day of the record that was looked at last.
    pub(super) date: NaiveDate,
}

impl<'s> RecordDay<'s> {
    pub(super) fn new(schema: &'s Schema, rule: DayRule) -> Self {
        let (otherwise, name) = match rule {
            DayRule::Named(date) => (date, None),
            DayRule::ByColumn(date) => (date, schema.constraints().partition_by.as_deref()),
        };
        // Another writer may have registered the column with a type that tells no day.
        let column = name.and_then(|name| {
            let column_type = &schema.columns()[schema.position(name)?].column_type;
            match column_type {
                ColumnType::Timestamp => Some((name, true)),
                ColumnType::Date => Some((name, false)),
                _ => None,
            }
        });
        Self { rule, column, otherwise, date: otherwise }
    }

    /// The column that tells it; none where all lie under one day.
    pub(super) fn column(&self) -> Option<&'s str> {
        self.column.map(|(name, _)| name)
    }

    /// Goes on to a record. A value that does not fit its column tells no day; the record goes to quarantine anyway.
    #[inline]
    pub(super) fn go_to(&mut self, record: Value<'_>) {
        if let Some((name, is_timestamp)) = self.column {
            let value = record.members().find(|(member, _)| *member == *name).map(|(_, value)| value);
            let text = value.and_then(Value::string);
            let date = text.and_then(|text| match is_timestamp {
                true => parse_timestamp(&text).map(day_of_micros),
                false => parse_date(&text).and_then(date_from_days),
            });
            self.date = date.unwrap_or(self.otherwise);
        }
    }
}

/// The days under which the records of a batch lie, the first and the last of them.
///
/// Shape: `20260108`, or `20260108_20260110` where they are not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// The first.
    pub first: NaiveDate,
    /// The last.
    pub last: NaiveDate,
}

impl Days {
    /// These days; none is `otherwise`.
    pub fn of(days: &BTreeSet<NaiveDate>, otherwise: NaiveDate) -> Self {
        let (first, last) = (days.first().copied(), days.last().copied());
        Self { first: first.unwrap_or(otherwise), last: last.unwrap_or(otherwise) }
    }

    /// Whether a day is one of them or lies between.
    pub fn contains(&self, date: NaiveDate) -> bool {
        (self.first..=self.last).contains(&date)
    }

    /// Reads them; none if the text is not as it is written.
    pub fn parse(text: &str) -> Option<Self> {
        let date = |text: &str| NaiveDate::parse_from_str(text, FORM).ok();
        let days = match text.split_once('_') {
            Some((first, last)) => Self { first: date(first)?, last: date(last)? },
            None => Self::from(date(text)?),
        };
        (days.first <= days.last && days.to_string() == text).then_some(days)
    }
}

/// How a day is written.
const FORM: &str = "%Y%m%d";

impl From<NaiveDate> for Days {
    fn from(date: NaiveDate) -> Self {
        Self { first: date, last: date }
    }
}

impl fmt::Display for Days {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.first.format(FORM))?;
        match self.first == self.last {
            true => Ok(()),
            false => write!(formatter, "_{}", self.last.format(FORM)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("the test's date is one")
    }

    #[test]
    fn days_are_read_as_they_were_written_and_nothing_else_is_one() {
        for text in ["20260108", "20260108_20260110", "00010101_99991231"] {
            assert_eq!(Days::parse(text).map(|days| days.to_string()), Some(text.to_owned()));
        }
        for wrong in ["", "2026-01-08", "20260110_20260108", "20260108_20260108", "20260108_", "20260230", "20260108_x"]
        {
            assert_eq!(Days::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_day_is_the_day_otherwise() {
        let days = Days::of(&BTreeSet::new(), date("2026-01-08"));
        assert_eq!(days, date("2026-01-08").into());
        let days = Days::of(&BTreeSet::from([date("2026-01-10"), date("2026-01-08")]), date("2020-01-01"));
        assert_eq!([date("2026-01-07"), date("2026-01-09")].map(|date| days.contains(date)), [false, true]);
    }
}
