//! Texts that are dates and timestamps, those that only look so, and chrono as the oracle.

use chrono::{DateTime, FixedOffset, TimeZone, Utc};
use proptest::prelude::*;

use super::*;

#[test]
fn a_date_is_written_in_one_way() {
    assert_eq!(parse_date("1970-01-01"), Some(0));
    assert_eq!(parse_date("1969-12-31"), Some(-1));
    assert_eq!(parse_date("2024-02-29"), Some(19_782));
    assert_eq!((parse_date("0001-01-01"), parse_date("9999-12-31")), (Some(-719_162), Some(2_932_896)));
    for text in [
        "",
        "2026",
        "2026-1-1",
        "2026-01-1",
        "20260101",
        "2026/01/01",
        "2026-13-01",
        "2026-00-10",
        "2026-02-29",
        "2026-01-32",
        "2026-01-00",
        "0000-01-01",
        "12026-01-01",
        "-026-01-01",
        "+026-01-01",
        "2026-01-01 ",
        " 2026-01-01",
        "2026-01-01Z",
        "2026-01-0a",
        "２026-01-01",
    ] {
        assert_eq!(parse_date(text), None, "{text:?}");
    }
}

#[test]
fn a_timestamp_is_an_instant_with_its_offset_taken_off() {
    for (text, micros) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1970-01-01T00:00:00.123456000Z", 123_456),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("1970-01-01T05:45:00+05:45", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01T00:00:01+00:00", 1_000_000),
        ("0001-01-01T00:00:00Z", EARLIEST_MICROS),
        ("9999-12-31T23:59:59.999999Z", LATEST_MICROS),
    ] {
        assert_eq!(parse_timestamp(text), Some(micros), "{text}");
    }
}

#[test]
fn what_only_looks_like_a_timestamp_is_text() {
    for text in [
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z",
        "1970-01-01t00:00:00Z",
        "1970-01-01T00:00:00z",
        "1970-01-01T00:00Z",
        "1970-01-01T24:00:00Z",
        "1970-01-01T23:60:00Z",
        "2016-12-31T23:59:60Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00,5Z",
        // Beyond microseconds: the value would be another one.
        "1970-01-01T00:00:00.1234567Z",
        "1970-01-01T00:00:00.000000001Z",
        "1970-01-01T00:00:00+0200",
        "1970-01-01T00:00:00+02",
        "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+02:60",
        "1970-01-01T00:00:00ZZ",
        "1970-01-01T00:00:00Z ",
        "1970-02-30T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ] {
        assert_eq!(parse_timestamp(text), None, "{text:?}");
    }
}

proptest! {
    #[test]
    fn whatever_chrono_writes_is_read_as_the_same_instant(
        micros in EARLIEST_MICROS + 100_000_000_000..LATEST_MICROS - 100_000_000_000,
        minutes in -1_439_i32..1_440,
    ) {
        let offset = FixedOffset::east_opt(minutes * 60).expect("it is less than a day");
        let instant: DateTime<FixedOffset> = offset.timestamp_micros(micros).single().expect("it is in range");
        prop_assert_eq!(parse_timestamp(&instant.to_rfc3339()), Some(micros));
        let date = instant.with_timezone(&Utc).date_naive();
        prop_assert_eq!(parse_date(&date.to_string()), Some(days_since_1970(date)));
    }

    #[test]
    fn no_text_makes_it_panic_and_what_is_taken_chrono_takes_too(text in "[0-9TtZ:+.-]{0,40}|\\PC{0,40}") {
        let _ = parse_date(&text);
        if let Some(micros) = parse_timestamp(&text) {
            let instant = DateTime::parse_from_rfc3339(&text).expect("chrono reads RFC 3339");
            prop_assert_eq!(instant.timestamp_micros(), micros);
        }
    }
}
