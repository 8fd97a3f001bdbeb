//! What records show of their columns, and what is refused.

use super::*;
use crate::decode::{Format, ScanLimits, VIOLATIONS_MAX, scan};
use crate::schema::{ColumnType, Constraints, DayRule};

fn known() -> Schema {
    Schema::new(vec![
        Column::new("id", ColumnType::Bigint),
        Column::new("price", ColumnType::Double),
        Column::new("ok", ColumnType::Boolean),
        Column::new("name", ColumnType::Varchar),
        Column::new("extra", ColumnType::Json),
    ])
    .expect("legal")
}

fn observe_lines(lines: &str, known: &Schema) -> Result<Observation, DecodeError> {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    observe(&scanned, known, NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day"), &Inference::default())
}

fn observed(lines: &str) -> Observation {
    observe_lines(lines, &known()).unwrap_or_else(|error| panic!("{lines}: {error}"))
}

fn accepted(lines: &str) -> Observation {
    let observation = observed(lines);
    assert!(observation.misfits.is_empty(), "{lines}: {}", observation.misfits);
    observation
}

/// The columns that the known schema lacks.
fn added(observation: &Observation) -> &[Column] {
    &observation.schema.columns()[known().len()..]
}

/// Record and code of each record that does not fit.
fn faults(lines: &str) -> Vec<(usize, &'static str)> {
    let misfits = observed(lines).misfits.into_listed();
    misfits.iter().map(|violation| (violation.index.expect("a record"), violation.code)).collect()
}

/// The type that is inferred for `x` from these values, in this order and in the reverse order.
fn inferred(values: &[&str]) -> Option<ColumnType> {
    let lines = |values: &mut dyn Iterator<Item = &&str>| {
        values.map(|value| format!("{{\"x\":{value}}}")).collect::<Vec<_>>().join("\n")
    };
    let forward = accepted(&lines(&mut values.iter()));
    let backward = accepted(&lines(&mut values.iter().rev()));
    assert_eq!(forward.schema, backward.schema);
    added(&forward).first().map(|column| column.column_type.clone())
}

#[test]
fn a_column_is_present_when_a_record_has_a_value_in_it() {
    let observation = accepted("{\"id\":1,\"price\":null}\n{\"name\":\"x\"}\n{}");
    assert_eq!(
        observation,
        Observation {
            schema: known(),
            present: vec![true, false, false, true, false],
            rows: 3,
            misfits: Violations::default(),
            strangers: Violations::default(),
            days: None,
        }
    );
}

#[test]
fn new_columns_are_added_in_the_order_of_their_first_values() {
    let observation = accepted("{\"z\":null,\"b\":true,\"id\":1}\n{\"a\":\"x\",\"b\":false,\"z\":1,\"n\":null}");
    let expected = [
        Column::new("b", ColumnType::Boolean),
        Column::new("a", ColumnType::Varchar),
        Column::new("z", ColumnType::Bigint),
    ];
    assert_eq!(added(&observation), expected);
    assert_eq!(observation.present, [true, false, false, false, false, true, true, true]);
}

#[test]
fn the_type_of_a_new_column_is_joined_over_the_batch() {
    for (values, expected) in [
        (&["1", "9223372036854775807"][..], Some(ColumnType::Bigint)),
        (&["1", "null", "2.5"], Some(ColumnType::Double)),
        (&["1e3"], Some(ColumnType::Double)),
        (&["-0"], Some(ColumnType::Double)),
        (&["9007199254740993", "2.5"], Some(ColumnType::Json)),
        (&["9007199254740992", "2.5"], Some(ColumnType::Double)),
        (&["true", "false"], Some(ColumnType::Boolean)),
        (&["\"a\"", "\"\\n\"", "null"], Some(ColumnType::Varchar)),
        (&["\"2026-01-08\"", "null", "\"0001-01-01\""], Some(ColumnType::Date)),
        (&["\"2026-01-08T10:05:30Z\"", "\"2026-01-08T10:05:30.123456+02:00\""], Some(ColumnType::Timestamp)),
        (&["\"2026\\u002d01-08T10:05:30Z\""], Some(ColumnType::Timestamp)),
        (&["\"2026-01-08\"", "\"2026-01-08T10:05:30Z\""], Some(ColumnType::Varchar)),
        (&["\"2026-01-08\"", "\"\""], Some(ColumnType::Varchar)),
        (&["\"2026-01-08T10:05:30Z\"", "\"n/a\""], Some(ColumnType::Varchar)),
        (&["\"2026-01-08T10:05:30.123456789Z\""], Some(ColumnType::Varchar)),
        (&["\"2026-01-08\"", "1"], Some(ColumnType::Json)),
        (&["{}"], Some(ColumnType::Json)),
        (&["[]", "null"], Some(ColumnType::Json)),
        (&["[1]", "{}"], Some(ColumnType::Json)),
        (&["[1]", "[2]"], Some(ColumnType::Json)),
        (&["[1]", "1"], Some(ColumnType::Json)),
        (&["1", "\"1\""], Some(ColumnType::Json)),
        (&["true", "1"], Some(ColumnType::Json)),
        (&["true", "\"true\""], Some(ColumnType::Json)),
        (&["null", "null"], None),
    ] {
        assert_eq!(inferred(values), expected, "{values:?}");
    }
}

/// Of CSV, whose fields have no type: a column is of the narrowest type that each of them has the form of.
#[test]
fn the_type_of_a_column_of_csv_is_that_of_all_its_texts() {
    for (values, expected) in [
        (&["1", "", "-5"][..], Some(ColumnType::Bigint)),
        (&["1", "2.50"], Some(ColumnType::Double)),
        (&["9007199254740993", "2.5"], Some(ColumnType::Varchar)),
        (&["true", "false"], Some(ColumnType::Boolean)),
        (&["true", "1"], Some(ColumnType::Varchar)),
        (&["07030", "10001"], Some(ColumnType::Varchar)),
        (&["1", "\"\""], Some(ColumnType::Varchar)),
        (&["\"1\"", "\"2\""], Some(ColumnType::Bigint)),
        (&["1e400"], Some(ColumnType::Varchar)),
        (&["18446744073709551616"], Some(ColumnType::Varchar)),
        (&["2026-01-08", "2024-02-29"], Some(ColumnType::Date)),
        (&["2026-01-08T10:05:30Z"], Some(ColumnType::Timestamp)),
        (&["2026-01-08", "1"], Some(ColumnType::Varchar)),
        (&["NA", "1"], Some(ColumnType::Varchar)),
        (&["\"say \"\"so\"\"\""], Some(ColumnType::Varchar)),
        (&["", ""], None),
    ] {
        let text = format!("x,y\n{}", values.iter().map(|value| format!("{value},1\n")).collect::<String>());
        let scanned = scan(Format::Csv, text.as_bytes(), &ScanLimits::DEFAULT).expect("legal rows");
        let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
        let observed = observe(&scanned, &Schema::empty(), date, &Inference::default()).expect("there are few");
        let found =
            observed.schema.columns().iter().find(|column| column.name == "x").map(|column| column.column_type.clone());
        assert_eq!(found, expected, "{values:?}");
    }
}

#[test]
fn a_field_of_csv_fits_a_column_that_it_has_the_form_of() {
    for (field, misfits) in [
        ("id,1", false),
        ("id,x", true),
        ("id,1.0", true),
        ("id,\"\"", true),
        ("price,1", false),
        ("price,1.5", false),
        ("price,9007199254740993", true),
        ("ok,true", false),
        ("ok,TRUE", true),
        ("name,1", false),
        ("name,\"\"", false),
        ("extra,{}", false),
        ("year,2025", false),
        ("year,2024", true),
        ("Id,1", true),
    ] {
        let (name, value) = field.split_once(',').expect("it has both");
        let text = format!("{name}\n{value}\n");
        let scanned = scan(Format::Csv, text.as_bytes(), &ScanLimits::DEFAULT).expect("a legal row");
        let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
        let observed = observe(&scanned, &known(), date, &Inference::default()).expect("there are few");
        assert_eq!(!observed.misfits.is_empty(), misfits, "{field}");
    }
}

/// Invariant I12: a short row under a long header is long where it is set aside, with the header's names.
#[test]
fn i12_rows_of_csv_that_grow_too_much_when_they_are_set_aside_are_refused() {
    let names: Vec<String> = (0..100).map(|number| format!("{}{number}", "n".repeat(120))).collect();
    let text = |rows: usize| format!("id,{}\n{}", names.join(","), format!("x{}\n", ",1".repeat(100)).repeat(rows));
    let observed = |rows: usize| {
        let text = text(rows);
        let scanned = scan(Format::Csv, text.as_bytes(), &ScanLimits::DEFAULT).expect("legal rows");
        let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
        observe(&scanned, &known(), date, &Inference::default()).map(|observation| observation.misfits.total())
    };
    assert_eq!(observed(500).expect("it is less than may be"), 500);
    let refused = observed(1_000).expect_err("it is more");
    assert_eq!((refused.violations()[0].code, refused.total()), ("too-much-aside", 1));
    // What fits is in the table, without the names.
    let fits = text(1_000).replace("\nx,", "\n1,");
    let scanned = scan(Format::Csv, fits.as_bytes(), &ScanLimits::DEFAULT).expect("legal rows");
    let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
    let observation = observe(&scanned, &known(), date, &Inference::default()).expect("all of them fit");
    assert_eq!(observation.misfits.total(), 0);
}

#[test]
fn without_the_inference_of_timestamps_they_are_text_and_a_column_that_is_one_stays_so() {
    let lines = "{\"day\":1,\"on\":\"2026-01-08\",\"at\":\"2026-01-08T10:05:30Z\",\"known\":\"2026-01-08\"}";
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let known = Schema::new(vec![Column::new("known", ColumnType::Date)]).expect("legal");
    let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
    let observed = observe(&scanned, &known, date, &Inference { timestamps: false, ..Inference::default() });
    let observed = observed.expect("there are few");
    let expected = [Column::new("on", ColumnType::Varchar), Column::new("at", ColumnType::Varchar)];
    assert_eq!((&observed.schema.columns()[1..], observed.present), (&expected[..], vec![true; 3]));
}

#[test]
fn a_text_that_is_no_date_or_timestamp_does_not_fit_such_a_column() {
    let known = Schema::new(vec![Column::new("on", ColumnType::Date), Column::new("at", ColumnType::Timestamp)])
        .expect("legal");
    for (record, words) in [
        (r#"{"on":"2026-02-30"}"#, "column is date, value is a string that is no date written YYYY-MM-DD"),
        (r#"{"on":20260108}"#, "column is date, value is an integer"),
        (r#"{"at":"2026-01-08"}"#, "no RFC 3339 timestamp of at most microseconds"),
        (r#"{"at":"2026-01-08T10:05:30.0000001Z"}"#, "no RFC 3339 timestamp of at most microseconds"),
        (r#"{"at":true}"#, "column is timestamp, value is a boolean"),
    ] {
        let misfits = observe_lines(record, &known).expect("there are few").misfits.into_listed();
        assert!(misfits[0].detail.contains(words), "{record}: {misfits:?}");
    }
    let fits = r#"{"on":"2024-02-29","at":"2026-01-08T10:05:30.123456-05:00"}"#;
    assert!(observe_lines(fits, &known).expect("there are few").misfits.is_empty());
}

#[test]
fn values_that_fit_their_column_are_accepted() {
    for record in [
        r#"{"id":-5,"price":1.5,"ok":true,"name":"","extra":1}"#,
        r#"{"id":0,"price":9007199254740992,"ok":false,"name":"\u00e9","extra":[null]}"#,
        r#"{"id":null,"price":null,"ok":null,"name":null,"extra":null}"#,
        r#"{"extra":"text"}"#,
        r#"{"extra":{"Year":1}}"#,
    ] {
        accepted(record);
    }
}

#[test]
fn values_that_do_not_fit_their_column_are_told() {
    for record in [
        r#"{"id":"1"}"#,
        r#"{"id":1.0}"#,
        r#"{"id":-0}"#,
        r#"{"id":true}"#,
        r#"{"id":{}}"#,
        r#"{"price":"1.5"}"#,
        r#"{"price":9007199254740993}"#,
        r#"{"ok":1}"#,
        r#"{"ok":"true"}"#,
        r#"{"name":1}"#,
        r#"{"name":["a"]}"#,
    ] {
        assert_eq!(faults(record), [(0, "type-mismatch")], "{record}");
    }
}

#[test]
fn a_violation_names_record_field_and_types_but_no_value() {
    let body = br#"{"table_name":"t","records":[{"id":1},{"id":"hunter2"}]}"#;
    let scanned = scan(Format::Json, body, &ScanLimits::DEFAULT).expect("legal");
    let date = NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day");
    let misfits = observe(&scanned, &known(), date, &Inference::default()).expect("there are few").misfits;
    let expected = Violation::new("/records/1/id", "type-mismatch", "column is bigint, value is a string").of_record(1);
    assert_eq!(misfits.into_listed(), [expected]);
}

#[test]
fn a_record_gives_one_violation_and_all_records_are_counted() {
    assert_eq!(faults("{\"id\":\"x\",\"ok\":5}\n{\"id\":1}\n{\"a b\":1}"), [(0, "type-mismatch"), (2, "column-name")]);
    let misfits = observed(&"{\"id\":\"x\"}\n".repeat(500)).misfits;
    assert_eq!((misfits.total(), misfits.into_listed().len()), (500, VIOLATIONS_MAX));
}

#[test]
fn partition_keys_are_dropped_when_they_say_what_the_partition_says() {
    let observation = accepted("{\"year\":2025,\"month\":12,\"day\":1,\"id\":1}\n{\"year\":null,\"day\":null}");
    assert_eq!(added(&observation), []);
    for record in [r#"{"year":2024}"#, r#"{"month":"12"}"#, r#"{"month":12.0}"#, r#"{"day":2}"#, r#"{"day":[]}"#] {
        assert_eq!(faults(record), [(0, "partition-column-mismatch")], "{record}");
    }
}

#[test]
fn names_that_differ_in_case_alone_are_told() {
    for lines in [r#"{"Id":1}"#, r#"{"NAME":""}"#, r#"{"Year":2025}"#, r#"{"DAY":1}"#, r#"{"fresh":1,"Fresh":1}"#] {
        assert_eq!(faults(lines), [(0, "column-case")], "{lines}");
    }
    assert_eq!(faults("{\"fresh\":1}\n{\"fresH\":2}"), [(1, "column-case")]);
    // A null says nothing, and takes no name.
    let observation = accepted("{\"NAME\":null,\"DAY\":null,\"fresh\":null}\n{\"Fresh\":1}");
    assert_eq!(added(&observation), [Column::new("Fresh", ColumnType::Bigint)]);
}

#[test]
fn names_that_are_no_identifiers_are_told_even_without_a_value() {
    let too_long = format!("{{\"{}\":1}}", "a".repeat(129));
    for record in [r#"{"":1}"#, r#"{"a b":1}"#, r#"{"1a":1}"#, r#"{"a\"b":null}"#, r#"{"é":1}"#, too_long.as_str()] {
        assert_eq!(faults(record), [(0, "column-name")], "{record}");
    }
}

#[test]
fn an_escaped_name_is_the_name_that_it_stands_for() {
    let observation = accepted(r#"{"\u0069d":7}"#);
    assert_eq!((added(&observation).len(), observation.present[0]), (0, true));
}

#[test]
fn records_that_need_too_many_columns_do_not_fit() {
    let record = |count: usize| {
        let members: Vec<String> = (0..count).map(|number| format!("\"c{number}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert_eq!(added(&accepted(&record(995))).len(), 995);
    assert_eq!(faults(&record(996)), [(0, "too-many-columns")]);
    // Each record few, all of them too many: the first ones have their columns.
    let lines: Vec<String> = (0..1_100).map(|number| format!("{{\"c{number}\":1}}")).collect();
    let observation = observed(&lines.join("\n"));
    assert_eq!((added(&observation).len(), observation.misfits.total()), (995, 105));
    // A null is no column.
    let lines: Vec<String> = (0..5_000).map(|number| format!("{{\"c{number}\":null}}")).collect();
    assert_eq!(added(&accepted(&lines.join("\n"))), []);
}

#[test]
fn a_record_that_does_not_fit_says_nothing_of_its_columns() {
    let observation = observed(concat!(
        "{\"price\":1.5,\"fresh\":1,\"id\":\"x\"}\n",
        "{\"fresh\":\"text\",\"only\":1}\n",
        "{\"only\":2,\"fresh\":true,\"fleeting\":1,\"ok\":0}\n",
        "{\"Fleeting\":[]}\n",
    ));
    let expected = [
        Column::new("fresh", ColumnType::Varchar),
        Column::new("only", ColumnType::Bigint),
        Column::new("Fleeting", ColumnType::Json),
    ];
    assert_eq!((added(&observation), &observation.present[..5]), (&expected[..], &[false; 5][..]));
    assert_eq!((observation.rows, observation.misfits.total()), (4, 2));
}

#[test]
fn a_batch_of_too_many_records_times_columns_is_refused() {
    let columns = 512;
    let members: Vec<String> = (0..columns).map(|number| format!("\"c{number}\":1")).collect();
    let lines = |rows: usize| format!("{{{}}}\n{}", members.join(","), "{}\n".repeat(rows - 1));
    assert_eq!(added(&accepted(&lines(CELLS_MAX / columns))).len(), columns);
    let error = observe_lines(&lines(CELLS_MAX / columns + 1), &known()).expect_err("one row too many");
    assert_eq!((error.violations()[0].code, error.total()), ("too-many-cells", 1));
    // A column that has no value costs nothing.
    let nulls = lines(CELLS_MAX / columns + 1).replace("\"c0\":1", "\"c0\":null");
    assert_eq!(added(&accepted(&nulls)).len(), columns - 1);
    // Columns that are known count as those that are new.
    let known = accepted(&lines(1)).schema;
    let error = observe_lines(&lines(CELLS_MAX / columns + 1), &known).expect_err("one row too many");
    assert_eq!(error.violations()[0].code, "too-many-cells");
}

#[test]
fn a_record_has_a_value_in_each_column_that_must_have_one() {
    let required = ["id", "name"].map(str::to_owned).into();
    let known = known().constrained(&Constraints { required, ..Constraints::default() });
    let lines =
        "{\"id\":1,\"name\":\"x\",\"new\":1}\n{\"id\":1}\n{\"name\":\"x\",\"id\":null,\"other\":1}\n{\"id\":\"x\"}";
    let observation = observe_lines(lines, &known).expect("each record is judged alone");
    let found: Vec<_> =
        observation.misfits.into_listed().into_iter().map(|found| (found.pointer, found.code)).collect();
    let expected = [("/name", "value-missing"), ("/id", "value-missing"), ("/id", "type-mismatch")];
    assert_eq!(found, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    let grown = known.merged(&[Column::new("new", ColumnType::Bigint)]);
    assert_eq!(observation.schema, grown, "a record that does not fit brings no column");
    assert!(grown.is_required(0) && !grown.is_required(1));
}

/// What a table that goes by `by` sees in lines that were received on 2025-12-01.
fn by_column(by: &str, named: Option<&str>, lines: &str) -> Result<Observation, DecodeError> {
    let known = Schema::new(vec![
        Column::new("at", ColumnType::Timestamp),
        Column::new("on", ColumnType::Date),
        Column::new("id", ColumnType::Bigint),
    ]);
    let constraints = Constraints { partition_by: Some(by.to_owned()), ..Constraints::default() };
    let known = known.expect("legal").constrained(&constraints);
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    let date = |text: &str| text.parse().expect("the test's dates are some");
    let days = named.map_or(DayRule::ByColumn(date("2025-12-01")), |named| DayRule::Named(date(named)));
    observe(&scanned, &known, days, &Inference::default())
}

fn days_of(observation: &Observation) -> Option<Vec<String>> {
    observation.days.as_ref().map(|days| days.iter().map(NaiveDate::to_string).collect())
}

#[test]
fn a_record_lies_under_the_day_of_its_column_unless_the_request_names_one() {
    let lines = "{\"id\":1,\"at\":\"2026-01-09T00:30:00+01:00\",\"on\":\"2020-02-29\"}\n{\"id\":2,\"at\":null}\n{\"id\":3}\n\
                 {\"at\":\"2027-01-01T00:00:00Z\",\"id\":\"no\"}";
    let of = |by, named| by_column(by, named, lines).expect("there are few");
    let days = |days: &[&str]| Some(days.iter().map(|day| (*day).to_owned()).collect::<Vec<_>>());
    assert_eq!(days_of(&of("at", None)), days(&["2025-12-01", "2026-01-08"]), "of those that fit, in UTC");
    assert_eq!(days_of(&of("on", None)), days(&["2020-02-29", "2025-12-01"]));
    assert_eq!(days_of(&of("at", Some("2024-01-01"))), None);
    assert_eq!(days_of(&of("id", None)), None, "it tells no day");
    assert_eq!(days_of(&of("gone", None)), None);
}

#[test]
fn the_partitions_own_columns_are_held_against_the_records_own_day() {
    let line = |day: u8| format!("{{\"day\":{day},\"id\":1,\"on\":\"2026-01-08\",\"month\":1}}");
    assert_eq!(by_column("on", None, &line(8)).expect("there are few").misfits.total(), 0);
    let misfits = by_column("on", None, &line(9)).expect("there are few").misfits;
    assert_eq!(misfits.into_listed()[0].pointer, "/day");
}

/// Invariant I12: the days of a request are bounded, and so are the files that it becomes.
#[test]
fn i12_records_of_too_many_days_are_refused() {
    let lines = |days: u32| -> String {
        let first: NaiveDate = "2026-01-01".parse().expect("it is a date");
        let day = |day: u32| format!("{{\"on\":\"{}\"}}\n", first + chrono::Days::new(day.into()));
        (0..days).chain([0]).map(day).collect()
    };
    let most = by_column("on", None, &lines(64)).expect("so many are taken");
    assert_eq!(most.days.map(|days| days.len()), Some(64));
    let refused = by_column("on", None, &lines(65)).expect_err("it is one too many");
    assert_eq!((refused.violations()[0].code, refused.violations()[0].index), ("too-many-days", Some(64)));
}
