//! The flights of 2013 as JSON records, a day at a time.
//!
//! Owns: what of the CSV is a number and what is text, and the request bodies of demo and bench.
//! Does not own: sending them (see `load`).

use std::path::Path;

use anyhow::{Context, Result, ensure};
use csv::StringRecord;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// Rows of the whole year.
pub(crate) const YEAR_ROWS: u64 = 336_776;

/// Days of the year, each of which has flights.
pub(crate) const YEAR_DAYS: usize = 365;

/// The columns that a partition has of its own: year, month and day.
const DATE_COLUMNS: usize = 3;

/// Columns that are text; all others are whole numbers.
const TEXT_COLUMNS: [&str; 5] = ["carrier", "tailnum", "origin", "dest", "time_hour"];

/// What the CSV writes where there is no value.
const ABSENT: [&str; 2] = ["", "NA"];

/// A year of flights.
#[derive(Debug)]
pub(crate) struct Flights {
    columns: Vec<String>,
    /// In the order of the CSV.
    pub(crate) days: Vec<Day>,
}

/// The flights of one day.
#[derive(Debug)]
pub(crate) struct Day {
    /// `YYYY-MM-DD`.
    pub(crate) date: String,
    /// One for each flight.
    pub(crate) rows: Vec<StringRecord>,
}

impl Flights {
    /// Reads the CSV, whose first columns are year, month and day.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut reader = csv::Reader::from_path(path).with_context(|| format!("failed to open {}", path.display()))?;
        let columns: Vec<_> =
            reader.headers().context("failed to read the header")?.iter().map(str::to_owned).collect();
        ensure!(
            columns.starts_with(&["year", "month", "day"].map(str::to_owned)),
            "failed to find year, month and day"
        );
        let mut days: Vec<Day> = Vec::with_capacity(YEAR_DAYS);
        for row in reader.into_records() {
            let row = row.with_context(|| format!("failed to read {}", path.display()))?;
            let date = format!("{:0>4}-{:0>2}-{:0>2}", &row[0], &row[1], &row[2]);
            match days.last_mut() {
                Some(day) if day.date == date => day.rows.push(row),
                _ => days.push(Day { date, rows: vec![row] }),
            }
        }
        Ok(Self { columns, days })
    }

    /// Rows of all days.
    pub(crate) fn rows(&self) -> u64 {
        self.days.iter().map(|day| day.rows.len() as u64).sum()
    }

    /// The body of one `POST /ingest`: a day's flights, to be stored under that day.
    pub(crate) fn backfill_body(&self, day: &Day) -> Result<Vec<u8>> {
        let records = Records { columns: &self.columns, rows: &day.rows, skipped_columns: 0 };
        let body = Backfill { table_name: "flights", partition_date: &day.date, records };
        serde_json::to_vec(&body).context("failed to write a day as JSON")
    }

    /// The bodies of `count` `POST /ingest/stream` with `rows_each` flights each, all different.
    /// They are stored under the day on which they are sent, so they go without their own date.
    pub(crate) fn stream_bodies(&self, table_name: &str, rows_each: usize, count: usize) -> Result<Vec<Vec<u8>>> {
        let rows: Vec<StringRecord> =
            self.days.iter().flat_map(|day| &day.rows).take(rows_each * count).cloned().collect();
        let bodies = rows.chunks_exact(rows_each).map(|rows| {
            let records = Records { columns: &self.columns, rows, skipped_columns: DATE_COLUMNS };
            serde_json::to_vec(&Stream { table_name, records }).context("failed to write flights as JSON")
        });
        bodies.collect()
    }

    /// The bodies of `count` `POST /ingest/stream`, a departure each.
    pub(crate) fn departure_bodies(&self, count: usize) -> Vec<Vec<u8>> {
        let value = |row: &StringRecord, name: &str| {
            let index = self.columns.iter().position(|column| column == name);
            json_value(name, index.and_then(|index| row.get(index)).unwrap_or_default())
        };
        let departed = self.days.iter().flat_map(|day| &day.rows).filter(|row| !value(row, "dep_time").is_null());
        let body = |row: &StringRecord| {
            let record = serde_json::json!({
                "carrier": value(row, "carrier"),
                "flight": value(row, "flight"),
                "origin": value(row, "origin"),
                "destination": value(row, "dest"),
                "scheduled_hour": value(row, "time_hour"),
                "delay_minutes": value(row, "dep_delay"),
            });
            serde_json::json!({"table_name": "departures", "record": record}).to_string().into_bytes()
        };
        departed.take(count).map(body).collect()
    }
}

#[derive(serde::Serialize)]
struct Backfill<'a> {
    table_name: &'a str,
    partition_date: &'a str,
    records: Records<'a>,
}

#[derive(serde::Serialize)]
struct Stream<'a> {
    table_name: &'a str,
    records: Records<'a>,
}

/// Rows as JSON objects, written straight from the CSV in its order of columns.
struct Records<'a> {
    columns: &'a [String],
    rows: &'a [StringRecord],
    skipped_columns: usize,
}

impl Serialize for Records<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut records = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in self.rows {
            records.serialize_element(&Record { columns: self.columns, row, skipped_columns: self.skipped_columns })?;
        }
        records.end()
    }
}

struct Record<'a> {
    columns: &'a [String],
    row: &'a StringRecord,
    skipped_columns: usize,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_map(Some(self.columns.len() - self.skipped_columns))?;
        for (column, value) in self.columns.iter().zip(self.row).skip(self.skipped_columns) {
            record.serialize_entry(column, &json_value(column, value))?;
        }
        record.end()
    }
}

/// A value of the CSV as JSON; what should be a number and is none stays text, for the sidecar to judge.
fn json_value(column: &str, value: &str) -> serde_json::Value {
    if ABSENT.contains(&value) {
        return serde_json::Value::Null;
    }
    let number = if TEXT_COLUMNS.contains(&column) { None } else { value.parse::<i64>().ok() };
    number.map_or_else(|| value.into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_days() -> Flights {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("flights.csv");
        let csv = "year,month,day,dep_time,carrier,tailnum\n2013,1,1,517,UA,12\n2013,1,1,NA,9E,\n2013,10,2,5,B6,N1\n";
        std::fs::write(&path, csv).expect("a file");
        Flights::read(&path).expect("it is good CSV")
    }

    #[test]
    fn neighbouring_rows_of_a_date_are_one_day() {
        let flights = two_days();
        let days: Vec<_> = flights.days.iter().map(|day| (day.date.as_str(), day.rows.len())).collect();
        assert_eq!(days, [("2013-01-01", 2), ("2013-10-02", 1)]);
    }

    #[test]
    fn numbers_are_numbers_text_is_text_and_absence_is_null() {
        let flights = two_days();
        let body = flights.backfill_body(&flights.days[0]).expect("it can be written");
        let expected = concat!(
            r#"{"table_name":"flights","partition_date":"2013-01-01","records":["#,
            r#"{"year":2013,"month":1,"day":1,"dep_time":517,"carrier":"UA","tailnum":"12"},"#,
            r#"{"year":2013,"month":1,"day":1,"dep_time":null,"carrier":"9E","tailnum":null}]}"#,
        );
        assert_eq!(String::from_utf8(body).expect("JSON is UTF-8"), expected);
    }

    #[test]
    fn streamed_flights_are_whole_bodies_without_a_date() {
        let bodies = two_days().stream_bodies("live", 2, 9).expect("they can be written");
        let expected = concat!(
            r#"{"table_name":"live","records":[{"dep_time":517,"carrier":"UA","tailnum":"12"},"#,
            r#"{"dep_time":null,"carrier":"9E","tailnum":null}]}"#,
        );
        assert_eq!(bodies, [expected.as_bytes()], "the third flight alone fills no body");
    }

    #[test]
    fn only_flights_that_left_are_departures() {
        assert_eq!(two_days().departure_bodies(10).len(), 2);
    }
}
