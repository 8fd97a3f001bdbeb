//! The flights of 2013 as JSON records, a day at a time.
//!
//! Owns: what of the CSV is a number and what is text, and the request bodies.
//! Does not own: sending them (see `load`).

use std::path::Path;

use anyhow::{Context, Result, ensure};
use csv::StringRecord;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// Rows of the whole year.
pub(super) const YEAR_ROWS: u64 = 336_776;

/// Days of the year, each of which has flights.
pub(super) const YEAR_DAYS: usize = 365;

/// Columns that are text; all others are whole numbers.
const TEXT_COLUMNS: [&str; 5] = ["carrier", "tailnum", "origin", "dest", "time_hour"];

/// What the CSV writes where there is no value.
const ABSENT: [&str; 2] = ["", "NA"];

/// A year of flights.
#[derive(Debug)]
pub(super) struct Flights {
    columns: Vec<String>,
    /// In the order of the CSV.
    pub(super) days: Vec<Day>,
}

/// The flights of one day.
#[derive(Debug)]
pub(super) struct Day {
    /// `YYYY-MM-DD`.
    pub(super) date: String,
    /// One for each flight.
    pub(super) rows: Vec<StringRecord>,
}

impl Flights {
    /// Reads the CSV, whose first columns are year, month and day.
    pub(super) fn read(path: &Path) -> Result<Self> {
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
    pub(super) fn rows(&self) -> u64 {
        self.days.iter().map(|day| day.rows.len() as u64).sum()
    }

    /// The body of one `POST /ingest`: a day's flights, to be stored under that day.
    pub(super) fn backfill_body(&self, day: &Day) -> Result<Vec<u8>> {
        let records = Records { columns: &self.columns, rows: &day.rows };
        let body = Backfill { table_name: "flights", partition_date: &day.date, records };
        serde_json::to_vec(&body).context("failed to write a day as JSON")
    }

    /// The bodies of `count` `POST /ingest/stream`, a departure each.
    pub(super) fn departure_bodies(&self, count: usize) -> Vec<Vec<u8>> {
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

/// Rows as JSON objects, written straight from the CSV in its order of columns.
struct Records<'a> {
    columns: &'a [String],
    rows: &'a [StringRecord],
}

impl Serialize for Records<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut records = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in self.rows {
            records.serialize_element(&Record { columns: self.columns, row })?;
        }
        records.end()
    }
}

struct Record<'a> {
    columns: &'a [String],
    row: &'a StringRecord,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_map(Some(self.columns.len()))?;
        for (column, value) in self.columns.iter().zip(self.row) {
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
    fn only_flights_that_left_are_departures() {
        assert_eq!(two_days().departure_bodies(10).len(), 2);
    }
}
