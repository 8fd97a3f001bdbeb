//! Envelopes, table names and dates.

use proptest::prelude::*;

use super::*;
use crate::decode::{Kind, VIOLATIONS_MAX};

fn json(body: &str) -> Result<Scanned<'_>, DecodeError> {
    scan(Format::Json, body.as_bytes(), &ScanLimits::DEFAULT)
}

fn ndjson(body: &str) -> Result<Scanned<'_>, DecodeError> {
    scan(Format::Ndjson, body.as_bytes(), &ScanLimits::DEFAULT)
}

/// Kind, and pointer and code of each violation.
fn faults<T>(result: Result<T, DecodeError>) -> (Kind, Vec<(String, &'static str)>) {
    let error = result.map(|_| ()).expect_err("a refusal");
    let faults = error.violations().iter().map(|violation| (violation.pointer.clone(), violation.code)).collect();
    (error.kind(), faults)
}

fn check_illegal(body: &str, pointer: &str, code: &'static str) {
    assert_eq!(faults(json(body)), (Kind::Illegal, vec![(pointer.to_owned(), code)]), "{body}");
}

#[test]
fn the_envelope_gives_table_date_and_records() {
    let body = r#" {"records": [{"a": 1}, { "b":"x" }], "partition_date": "2024-02-29", "table_name": "events"} "#;
    let scanned = json(body).expect("legal");
    assert_eq!(scanned.table_name(), Some("events"));
    assert_eq!(scanned.partition_date(), NaiveDate::from_ymd_opt(2024, 2, 29));
    assert_eq!(scanned.record_count(), 2);
    assert_eq!((&*scanned.record_text(0), &*scanned.record_text(1)), (r#"{"a": 1}"#, r#"{ "b":"x" }"#));
}

#[test]
fn a_single_record_needs_no_array() {
    let scanned = json(r#"{"table_name":"t","record":{"a":1}}"#).expect("legal");
    assert_eq!((scanned.record_count(), &*scanned.record_text(0)), (1, r#"{"a":1}"#));
    assert_eq!(scanned.partition_date(), None);
    assert_eq!(scanned.pointer(0, "a"), "/record/a");
}

#[test]
fn lines_are_records_and_blank_lines_are_not() {
    let scanned = ndjson("{\"a\":1}\r\n\n  \t\r\n {\"a\":2} \n{\"a\":3}").expect("legal");
    let texts: Vec<_> = (0..scanned.record_count()).map(|index| scanned.record_text(index)).collect();
    assert_eq!(texts, [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#]);
    assert_eq!((scanned.table_name(), scanned.pointer(2, "a")), (None, "/a".to_owned()));
}

#[test]
fn a_line_holds_one_object_and_no_part_of_it() {
    for body in ["{\"a\":\n1}", "{\"a\":1}{\"a\":2}", "{\"a\":1},", "{\"a\":1}\n{\"a\":", "{\"a\":\"x\ny\"}"] {
        assert_eq!(faults(ndjson(body)).0, Kind::Malformed, "{body}");
    }
    let (kind, found) = faults(ndjson("{}\n5\n[{}]\n"));
    assert_eq!(kind, Kind::Illegal);
    assert_eq!(found, [(String::new(), "record-not-an-object"), (String::new(), "record-not-an-object")]);
    let error = ndjson("{}\n5\n[{}]\n").expect_err("no objects");
    assert_eq!(error.violations().iter().map(|violation| violation.index).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

#[test]
fn an_envelope_without_its_fields_or_with_others_is_refused() {
    for (body, pointer, code) in [
        (r#"{"records":[{}]}"#, "/table_name", "missing-field"),
        (r#"{"table_name":"t"}"#, "/records", "missing-field"),
        (r#"{"table_name":"t","records":[{}],"record":{}}"#, "/record", "conflicting-fields"),
        (r#"{"table_name":"t","records":[{}],"partition":"x"}"#, "/partition", "unknown-field"),
        (r#"{"table_name":"t","records":[{}],"a b":1}"#, "/(3 bytes)", "unknown-field"),
        (r#"{"table_name":"t","records":[]}"#, "/records", "no-records"),
        (r#"{"table_name":"t","records":{}}"#, "/records", "field-type"),
        (r#"{"table_name":"t","records":null}"#, "/records", "field-type"),
        (r#"{"table_name":5,"records":[{}]}"#, "/table_name", "field-type"),
        (r#"{"table_name":null,"records":[{}]}"#, "/table_name", "field-type"),
        (r#"{"table_name":"t","records":[{}],"partition_date":null}"#, "/partition_date", "field-type"),
        (r#"{"table_name":"t","records":[{}],"partition_date":20250101}"#, "/partition_date", "field-type"),
        (r#"{"table_name":"t","records":[{},[]]}"#, "/records/1", "record-not-an-object"),
        (r#"{"table_name":"t","record":"x"}"#, "/record", "record-not-an-object"),
        ("[]", "", "envelope-not-an-object"),
        ("5", "", "envelope-not-an-object"),
    ] {
        check_illegal(body, pointer, code);
    }
    assert_eq!(faults(ndjson("\n \n")), (Kind::Illegal, vec![(String::new(), "no-records")]));
}

#[test]
fn every_fault_of_an_envelope_is_told_at_once() {
    let (_, found) = faults(json(r#"{"table_name":"A","partition_date":"x","records":[1],"z":0}"#));
    let codes: Vec<_> = found.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, ["unknown-field", "table-name", "partition-date", "record-not-an-object"]);
}

#[test]
fn table_names_are_short_lower_case_identifiers() {
    let longest = "t".repeat(63);
    for name in ["t", "events", "a1_b", longest.as_str(), "quarantine", "a_quarantine_b"] {
        assert_eq!(check_table_name(name), Ok(()), "{name}");
    }
    let too_long = "t".repeat(65);
    let just_too_long = "t".repeat(64);
    for name in [
        "",
        "../x",
        "a b",
        "A",
        "events.x",
        "1a",
        "_a",
        "a-b",
        "a/b",
        "é",
        "a\n",
        "'; drop table t; --",
        "a\"b",
        "events_quarantine",
        "a_quarantine",
        too_long.as_str(),
        just_too_long.as_str(),
    ] {
        let violation = check_table_name(name).expect_err(name);
        assert_eq!((violation.code, violation.pointer.as_str()), ("table-name", "/table_name"), "{name}");
    }
    check_illegal(r#"{"table_name":"\u002e./x","records":[{}]}"#, "/table_name", "table-name");
}

#[test]
fn partition_dates_are_days_of_the_calendar_in_one_form() {
    for (text, year, month, day) in [("2025-12-01", 2025, 12, 1), ("0001-01-01", 1, 1, 1), ("9999-12-31", 9999, 12, 31)]
    {
        assert_eq!(parse_partition_date(text).ok(), NaiveDate::from_ymd_opt(year, month, day));
    }
    for text in [
        "2025-02-30",
        "2023-02-29",
        "0000-01-01",
        "2025-13-01",
        "2025-00-10",
        "2025-01-00",
        "2025-1-1",
        "25-01-01",
        "2025/01/01",
        "2025-01-01T",
        "+025-01-01",
        "2025-+1-01",
        "2025-01-1 ",
        "",
        "10000-01-01",
        "２025-01-1",
    ] {
        let violation = parse_partition_date(text).expect_err(text);
        assert_eq!((violation.code, violation.pointer.as_str()), ("partition-date", "/partition_date"), "{text}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_malformed() {
    for bytes in [&b"{\"table_name\":\"t\xff\"}"[..], b"\xc0\x80", b"{\"a\":\"\xed\xa0\x80\"}", b"\xff\xfe{\0}\0"] {
        for format in [Format::Json, Format::Ndjson, Format::Csv] {
            let found = faults(scan(format, bytes, &ScanLimits::DEFAULT));
            assert_eq!(found, (Kind::Malformed, vec![(String::new(), "invalid-utf-8")]));
        }
    }
}

#[test]
fn a_byte_order_mark_is_malformed() {
    let found = faults(json("\u{feff}{\"table_name\":\"t\",\"records\":[{}]}"));
    assert_eq!(found, (Kind::Malformed, vec![(String::new(), "byte-order-mark")]));
}

#[test]
fn records_are_bounded_in_size_and_number() {
    let limits = ScanLimits { record_bytes_max: 9, records_max: 2, ..ScanLimits::DEFAULT };
    let check = |format, body: &str| scan(format, body.as_bytes(), &limits).map(|scanned| scanned.record_count());
    assert_eq!(check(Format::Ndjson, "{\"a\":123}\n{}\n"), Ok(2));
    assert_eq!(check(Format::Json, r#"{"table_name":"t","records":[{},{"a":123}]}"#), Ok(2));
    let illegal = |pointer: &str, code| (Kind::Illegal, vec![(pointer.to_owned(), code)]);
    assert_eq!(faults(check(Format::Ndjson, "{\"a\":1234}")), illegal("", "record-too-large"));
    assert_eq!(faults(check(Format::Ndjson, "{}\n{}\n{}")), illegal("", "too-many-records"));
    let body = r#"{"table_name":"t","records":[{},{"a":1234}]}"#;
    assert_eq!(faults(check(Format::Json, body)), illegal("/records/1", "record-too-large"));
    let body = r#"{"table_name":"t","record":{"a":1234}}"#;
    assert_eq!(faults(check(Format::Json, body)), illegal("/record", "record-too-large"));
    let body = r#"{"table_name":"t","records":[{},{},{}]}"#;
    assert_eq!(faults(check(Format::Json, body)), illegal("/records", "too-many-records"));
}

#[test]
fn twenty_records_are_listed_and_the_rest_is_counted() {
    let error = ndjson(&"1\n".repeat(50)).expect_err("no objects");
    assert_eq!((error.violations().len(), error.total()), (VIOLATIONS_MAX, 50));
}

#[test]
fn a_format_keeps_its_number() {
    let formats = [Format::Json, Format::Ndjson, Format::Csv, Format::ArrowStream, Format::Parquet];
    assert_eq!(formats.map(Format::code), [1, 2, 3, 4, 5]);
    for format in formats {
        assert_eq!(Format::from_code(format.code()), Some(format));
    }
    assert_eq!((Format::from_code(0), Format::from_code(6)), (None, None));
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_the_scan_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        for format in [Format::Json, Format::Ndjson] {
            let _verdict = scan(format, &bytes, &ScanLimits::DEFAULT);
        }
    }

    /// Most random bytes fail at the first; those of a broken envelope reach everything behind it.
    #[test]
    fn no_damage_to_a_body_makes_the_scan_panic(
        at in any::<proptest::sample::Index>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..4),
        cut in 0_usize..4,
    ) {
        let mut body = br#"{"table_name":"t","records":[{"a":[1.5e3,"\ud83d\ude00"],"b":null}],"partition_date":"2025-01-01"}"#.to_vec();
        let at = at.index(body.len());
        let end = (at + cut).min(body.len());
        body.splice(at..end, bytes);
        for format in [Format::Json, Format::Ndjson] {
            if let Err(error) = scan(format, &body, &ScanLimits::DEFAULT) {
                prop_assert!(error.total() >= 1 && !error.violations().is_empty());
            }
        }
    }
}
