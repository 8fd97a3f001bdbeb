//! What objects become, and how structs grow.

use chrono::NaiveDate;

use super::*;
use crate::decode::{Format, ScanLimits, scan};
use crate::limits::RECORD_CELLS_MAX;
use crate::schema::{Constraints, Observation, Schema, observe};

fn observed(lines: &str, known: &[(&str, &str)], inference: &Inference) -> Observation {
    let columns = known.iter().map(|(name, text)| Column::new(*name, text.parse().expect("a type")));
    observed_under(lines, &Schema::new(columns.collect()).expect("legal"), inference)
}

fn observed_under(lines: &str, known: &Schema, inference: &Inference) -> Observation {
    let scanned = scan(Format::Ndjson, lines.as_bytes(), &ScanLimits::DEFAULT).expect("legal lines");
    observe(&scanned, known, NaiveDate::from_ymd_opt(2025, 12, 1).expect("a day"), inference).expect("there are few")
}

/// The columns as text, and of what does not fit the place and the code.
fn outcome(lines: &str, known: &[(&str, &str)]) -> (String, Vec<(String, &'static str)>) {
    let observation = observed(lines, known, &Inference::default());
    let columns = observation.schema.columns().iter();
    let columns: Vec<String> = columns.map(|column| format!("{} {}", column.name, column.column_type)).collect();
    let misfits = observation.misfits.into_listed().into_iter();
    (columns.join(", "), misfits.map(|violation| (violation.pointer, violation.code)).collect())
}

/// What a new column `x` becomes.
fn inferred(values: &[&str]) -> String {
    let lines: Vec<String> = values.iter().map(|value| format!("{{\"x\":{value}}}")).collect();
    let (columns, misfits) = outcome(&lines.join("\n"), &[]);
    assert_eq!(misfits, []);
    columns.strip_prefix("x ").expect("it has a value").to_owned()
}

#[test]
fn objects_are_structs_of_all_their_names_and_arrays_are_text() {
    for (values, expected) in [
        (&[r#"{"a":1}"#, r#"{"b":"t","a":2.5}"#, r#"{"c":null}"#][..], "struct(a double, b varchar)"),
        (&[r#"{"a":{"b":{"at":"2026-01-08"}}}"#, r#"{"a":{}}"#, "{}"], "struct(a struct(b struct(at date)))"),
        (&["[1,2.5]", "[]", "[null]"], "json"),
        (&[r#"[{"a":1},null,{"b":true}]"#], "json"),
        (&[r#"{"rows":[{"at":1}],"at":"2026-01-08T10:05:30Z"}"#], "struct(rows json, at timestamp)"),
        // A mixed field is json, and its neighbours are what they are.
        (&[r#"{"a":1,"b":1}"#, r#"{"a":"t"}"#], "struct(a json, b bigint)"),
        // What cannot be one.
        (&["{}"], "json"),
        (&[r#"{"a":null}"#], "json"),
        (&[r#"{"a":1}"#, "[1]"], "json"),
        (&[r#"{"a":1}"#, "1"], "json"),
        (&[r#"{"a b":1,"c":2}"#], "json"),
        (&[r#"{"a b":null,"c":2}"#], "json"),
        (&[r#"{"a":1,"A":2}"#], "json"),
        (&[r#"{"a":1}"#, r#"{"A":2}"#], "json"),
    ] {
        assert_eq!(inferred(values), expected, "{values:?}");
    }
}

#[test]
fn a_column_that_is_told_not_to_be_nested_is_json() {
    let inference = Inference { nested: false, ..Inference::default() };
    let observation =
        observed(r#"{"o":{"a":1},"l":[1],"s":{"l":[{"b":1}]}}"#, &[("s", "struct(l list(json))")], &inference);
    let types: Vec<String> = observation.schema.columns().iter().map(|column| column.column_type.to_string()).collect();
    // What is one already stays one.
    assert_eq!(types, ["struct(l list(json))", "json", "json"]);
}

#[test]
fn objects_with_more_names_than_fields_have_are_json_and_so_is_what_is_too_deep() {
    let object = |names: usize| {
        let members: Vec<String> = (0..names).map(|name| format!("\"n{name}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(inferred(&[&object(INFERRED_FIELDS_MAX)]).starts_with("struct(n0 bigint, "));
    assert_eq!(inferred(&[&object(INFERRED_FIELDS_MAX + 1)]), "json");
    let few: Vec<String> = (0..=INFERRED_FIELDS_MAX).map(|name| format!("{{\"n{name}\":1}}")).collect();
    assert_eq!(inferred(&few.iter().map(String::as_str).collect::<Vec<_>>()), "json");

    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let deepest = inferred(&[&objects(TYPE_DEPTH_MAX)]);
    assert_eq!(deepest.parse::<ColumnType>().expect("a type").to_string(), deepest);
    // The deepest object that there can be is kept as text, and those around it are structs.
    let deeper = inferred(&[&objects(TYPE_DEPTH_MAX + 1)]);
    assert_eq!(deeper, deepest.replace("bigint", "json"));
}

#[test]
fn a_struct_that_stands_takes_new_fields_at_every_depth() {
    let known = [("s", "struct(a bigint, l list(struct(k date)))"), ("n", "bigint")];
    let lines = [
        r#"{"s":{"a":1,"b":1,"l":[{"k":"2026-01-08"},null]}}"#,
        r#"{"s":{"b":2.5,"c":{"d":[1]}},"n":1}"#,
        r#"{"s":{"c":{"d":[2.5],"e":"t"},"nothing":null}}"#,
    ];
    let grown = "s struct(a bigint, l list(struct(k date)), b double, c struct(d json, e varchar)), n bigint";
    assert_eq!(outcome(&lines.join("\n"), &known), (grown.to_owned(), vec![]));
}

#[test]
fn what_does_not_fit_a_struct_that_stands_is_told_with_its_place() {
    let known = [("s", "struct(a bigint, l list(struct(k date)))")];
    for (record, pointer, code) in [
        (r#"{"s":1}"#, "/s", "type-mismatch"),
        (r#"{"s":{"a":"t"}}"#, "/s/a", "type-mismatch"),
        (r#"{"s":{"l":{"k":1}}}"#, "/s/l", "type-mismatch"),
        (r#"{"s":{"l":[null,{"k":"t"}]}}"#, "/s/l/1/k", "type-mismatch"),
        (r#"{"s":{"l":[{"m":null},{"m":true}]}}"#, "/s/l/1/m", "column-unknown"),
        (r#"{"s":{"A":1}}"#, "/s/A", "column-case"),
        (r#"{"s":{"l":[{"b c":null}]}}"#, "/s/l/0/(3 bytes)", "column-name"),
        (r#"{"s":{"b":1,"B":2}}"#, "/s/B", "column-case"),
    ] {
        let expected = (format!("s {}", known[0].1), vec![(pointer.to_owned(), code)]);
        assert_eq!(outcome(record, &known), expected, "{record}");
    }
}

#[test]
fn a_record_that_does_not_fit_takes_back_all_that_it_has_shown() {
    let known = [("s", "struct(a bigint)"), ("n", "bigint")];
    let lines = [
        r#"{"s":{"b":1},"x":{"p":1},"y":[1],"n":1}"#,
        r#"{"s":{"b":"t","c":{"d":1}},"x":{"p":"t","q":1},"y":[{"z":1}],"w":{"v":[1]},"n":"bad"}"#,
        r#"{"s":{"c":true},"x":{"q":true}}"#,
    ];
    let columns = "s struct(a bigint, b bigint, c boolean), n bigint, x struct(p bigint, q boolean), y json";
    assert_eq!(outcome(&lines.join("\n"), &known), (columns.to_owned(), vec![("/n".to_owned(), "type-mismatch")]));
}

#[test]
fn names_inside_count_as_columns_do() {
    let members = |names: std::ops::Range<usize>| {
        let members: Vec<String> = names.map(|name| format!("\"n{name}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    let object = |column: usize| format!("\"c{column}\":{}", members(0..99));
    // Ten of a hundred names are all that a table has: the next one is kept as text, if there is room for its own name.
    let ten: Vec<String> = (0..10).map(object).collect();
    let full = observed(&format!("{{{}}}", ten.join(",")), &[], &Inference::default()).schema;
    assert_eq!((full.len(), full.field_count()), (10, COLUMNS_MAX));
    let nine = format!("{{{},\"last\":{}}}", ten[..9].join(","), members(0..100));
    let schema = observed(&nine, &[], &Inference::default()).schema;
    assert_eq!((schema.columns()[9].column_type.clone(), schema.field_count()), (ColumnType::Json, 901));

    // A struct that stands takes no more than there is room for.
    let known = format!("struct({})", (0..998).map(|name| format!("n{name} json")).collect::<Vec<_>>().join(", "));
    let record = |name: &str| format!("{{\"s\":{{\"{name}\":1}}}}");
    let lines = [record("a"), record("b"), record("a")].join("\n");
    let (_, misfits) = outcome(&lines, &[("s", &known)]);
    assert_eq!(misfits, [("/s/b".to_owned(), "too-many-columns")]);
}

#[test]
fn a_table_that_is_closed_takes_no_name_at_any_depth() {
    let closed = Constraints { closed: true, ..Constraints::default() };
    let schema = Schema::new(vec![Column::new("s", "struct(a bigint)".parse().expect("a type"))]);
    let known = schema.expect("it is legal").constrained(&closed);
    for (record, pointer, code) in [
        (r#"{"s":{"a":1,"b":null},"n":null}"#, "", ""),
        (r#"{"n":1}"#, "/n", "column-unknown"),
        (r#"{"s":{"b":1}}"#, "/s/b", "column-unknown"),
        (r#"{"s":{"A":1}}"#, "/s/A", "column-case"),
        (r#"{"1n":1}"#, "/(2 bytes)", "column-name"),
    ] {
        let observation = observed_under(record, &known, &Inference::default());
        let found: Vec<_> =
            observation.misfits.into_listed().into_iter().map(|found| (found.pointer, found.code)).collect();
        let expected = if code.is_empty() { vec![] } else { vec![(pointer.to_owned(), code)] };
        assert_eq!(found, expected, "{record}");
        assert_eq!(observation.strangers.total(), usize::from(!code.is_empty()), "{record}");
        assert_eq!(observation.schema, known);
    }
}

/// Invariant I12: what a record becomes is bounded, not what it is written with alone.
#[test]
fn i12_the_elements_of_a_records_lists_are_bounded_by_what_they_become() {
    let fields: Vec<String> = (0..100).map(|field| format!("f{field} bigint")).collect();
    let known = [("l", format!("list(struct({}))", fields.join(", "))), ("n", "list(list(bigint))".to_owned())];
    let known = known.each_ref().map(|(name, text)| (*name, text.as_str()));
    let elements = |count: usize| vec!["{}"; count].join(",");
    let most = RECORD_CELLS_MAX / 100;
    let (_, misfits) = outcome(&format!("{{\"l\":[{}]}}\n{{\"n\":[[1,2],[]]}}", elements(most)), &known);
    assert_eq!(misfits, []);
    let (_, misfits) = outcome(&format!("{{\"n\":[]}}\n{{\"l\":[{}]}}", elements(most + 1)), &known);
    assert_eq!(misfits, [("/l".to_owned(), "too-many-elements")]);
}
