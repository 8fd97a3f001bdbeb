//! Data that people have made, as it is: names that are no columns, years of their own, numbers among texts.

use std::collections::BTreeMap;
use std::fs;

use lakeingest_tests::calls::{body, flush, table_status};
use lakeingest_tests::ledger::{Ledger, Shape};
use lakeingest_tests::oracle::verify;
use lakeingest_tests::site::Site;
use serde_json::{Value, json};
use xtask::tools;

/// Records of a set that are read back; of a longer one these are enough.
const RECORDS_MAX: usize = 20_000;

/// Every file that is a list of records, by the name that its table gets.
fn sets() -> BTreeMap<String, Vec<Value>> {
    let folder = tools::vega_datasets().expect("it is installed");
    let mut sets = BTreeMap::new();
    for entry in fs::read_dir(&folder).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let Ok(Value::Array(mut records)) = serde_json::from_str(&text) else { continue };
        if !records.is_empty() && records.iter().all(Value::is_object) {
            let name = path.file_stem().expect("a file has a name").to_string_lossy();
            records.truncate(RECORDS_MAX);
            sets.insert(name.to_lowercase().replace('-', "_"), records);
        }
    }
    sets
}

/// Each record is in its table or, whole and with its reason, in its quarantine; the oracle compares every value.
#[test]
fn what_people_have_made_is_stored_as_it_is_or_set_aside_with_a_reason() {
    let site = Site::local();
    let sidecar = site.start();
    let (ledger, sets) = (Ledger::default(), sets());
    assert!(sets.len() > 30, "{:?}", sets.keys());
    for (producer, (table, records)) in (0_u64..).zip(&sets) {
        let keyed = (0_u64..).zip(records).map(|(sequence, record)| {
            let mut record = record.clone();
            record["producer"] = json!(producer);
            record["sequence"] = json!(sequence);
            record
        });
        for records in keyed.collect::<Vec<_>>().chunks(1_000) {
            let answer = ledger.send(&sidecar, "/ingest/stream", table, Shape::Lines, records);
            let answer = answer.expect("the sidecar answers");
            assert_eq!(answer.status, 202, "{table}: {}", answer.text());
        }
    }
    flush(&sidecar);
    let tally = verify(&ledger, site.lake());
    let sent: usize = sets.values().map(Vec::len).sum();
    assert_eq!(tally.acknowledged, sent);

    let quarantined = |table: &str| table_status(&sidecar, table)["quarantined_rows"].clone();
    for table in ["anscombe", "burtin", "flare_dependencies", "flights_10k", "us_state_capitals"] {
        assert_eq!(quarantined(table), 0, "{table}");
    }
    // Its year is not the one under which its rows lie.
    assert_eq!(quarantined("barley"), 120);
    assert_eq!(site.lake().quarantine("barley")[0]["code"], "partition-column-mismatch");
    // "US Gross" is no name that every reader could ask for.
    assert_eq!(site.lake().quarantine("movies")[0]["code"], "column-name");
}

/// Rows of the weather.
const WEATHER_ROWS: u64 = 26_115;

/// A year of weather, a day a request: what R writes for a missing value is text, and no number.
#[test]
fn a_year_of_weather_is_stored_as_it_is_and_its_gaps_are_set_aside() {
    let path = tools::weather().expect("it is installed");
    let text = fs::read_to_string(&path).expect("it can be read");
    let (header, rows) = text.split_once('\n').expect("it has a header");
    let mut days: BTreeMap<String, String> = BTreeMap::new();
    for row in rows.lines() {
        let mut fields = row.split(',').skip(1);
        let mut part = || fields.next().and_then(|field| field.parse::<u32>().ok()).expect("a row has a date");
        let date = format!("{:04}-{:02}-{:02}", part(), part(), part());
        let day = days.entry(date).or_insert_with(|| format!("{header}\n"));
        day.push_str(row);
        day.push('\n');
    }
    // Some are whole numbers for days, and would be columns of such.
    let doubles = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"];
    let doubles = doubles.map(|name| format!("{{name: {name}, type: double}}")).join(", ");
    let config = format!("flush: {{maxAge: 1h}}\ntables: [{{name: weather, columns: [{doubles}]}}]");
    let site = Site::local().with_config(&config);
    let sidecar = site.start();
    let mut accepted = 0;
    for (date, day) in &days {
        let path = format!("/ingest/stream?table_name=weather&partition_date={date}");
        let answer = sidecar.request("POST", &path, &[("content-type", "text/csv")], Some(day.as_bytes()));
        let answer = answer.expect("the sidecar answers");
        assert_eq!(answer.status, 202, "{date}: {}", answer.text());
        accepted += body(&answer)["rows"].as_u64().expect("it is counted");
    }
    assert_eq!(accepted, WEATHER_ROWS);
    flush(&sidecar);

    let quarantined = site.lake().quarantine("weather");
    for row in &quarantined {
        let record: Value = serde_json::from_str(row["record"].as_str().expect("a text")).expect("it is JSON");
        let field = row["field"].as_str().expect("a record of CSV has a field that does not fit");
        assert_eq!((&row["code"], &record[field]), (&json!("type-mismatch"), &json!("NA")));
    }
    let numbers = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"];
    let numbers: Vec<String> = numbers.iter().map(|name| format!("TRY_CAST({name} AS DOUBLE)")).collect();
    let columns = format!("origin, \"year\", \"month\", \"day\", \"hour\", {}, time_hour", numbers.join(", "));
    let stored = format!("SELECT {columns} FROM read_parquet('{}/data/weather/**/*.parquet')", site.lake().location());
    let parts = "origin, CAST(\"year\" AS INT) AS \"year\", CAST(\"month\" AS INT) AS \"month\", CAST(\"day\" AS INT) AS \"day\", \
                 CAST(\"hour\" AS BIGINT) AS \"hour\"";
    let file = path.display();
    let sent = format!(
        "SELECT {parts}, {}, CAST(time_hour AS TIMESTAMPTZ) FROM read_csv('{file}', all_varchar = true)",
        numbers.join(", ")
    );
    let count = |sql: &str| site.lake().query(&format!("SELECT count(*) FROM ({sql})")).rows[0][0].clone();
    assert_eq!(count(&format!("{stored} EXCEPT ALL {sent}")), json!(0), "what is there was sent");
    let missing = count(&format!("{sent} EXCEPT ALL {stored}"));
    assert_eq!(missing, json!(quarantined.len()), "what is not there is in quarantine");
    assert_eq!(count(&stored).as_u64().map(|stored| stored + quarantined.len() as u64), Some(WEATHER_ROWS));
}
