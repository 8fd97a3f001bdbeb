//! The grammar, and serde_json as the oracle for it.

use proptest::prelude::*;
use serde_json::Value as Oracle;

use super::*;
use crate::decode::VIOLATIONS_MAX;
use crate::decode::number::{parse_double, parse_integer};

fn refusal(text: &str) -> DecodeError {
    refusal_within(text, &ScanLimits::DEFAULT)
}

fn refusal_within(text: &str, limits: &ScanLimits) -> DecodeError {
    scan_document(text, limits).map(|_| ()).expect_err(text)
}

fn first(error: &DecodeError) -> &Violation {
    &error.violations()[0]
}

fn accept(text: &str) -> Vec<Node> {
    scan_document(text, &ScanLimits::DEFAULT).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What the tape says, in the oracle's form.
fn oracle_of(value: Value<'_>) -> Oracle {
    match value.kind() {
        NodeKind::Null => Oracle::Null,
        NodeKind::True => Oracle::Bool(true),
        NodeKind::False => Oracle::Bool(false),
        NodeKind::Integer => Oracle::from(parse_integer(value.raw())),
        NodeKind::Double => Oracle::from(parse_double(value.raw())),
        NodeKind::String | NodeKind::EscapedString => Oracle::from(value.string().expect("a string")),
        NodeKind::Cell | NodeKind::EscapedCell => unreachable!("JSON has no fields of CSV"),
        NodeKind::Array => value.elements().map(oracle_of).collect(),
        NodeKind::Object => {
            Oracle::Object(value.members().map(|(name, value)| (name.into_owned(), oracle_of(value))).collect())
        }
    }
}

/// How far the oracle's reading of a double may be off, as it is built here: it rounds up to three times on its way.
/// A distance in units of the last place, since a relative one has no meaning for subnormal doubles.
const ORACLE_ERROR_ULPS: u64 = 8;

/// Equal, but for the oracle's own error.
fn is_equal(ours: &Oracle, theirs: &Oracle) -> bool {
    match (ours, theirs) {
        (Oracle::Array(ours), Oracle::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is_equal(ours, theirs))
        }
        (Oracle::Object(ours), Oracle::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| ours.0 == theirs.0 && is_equal(ours.1, theirs.1))
        }
        (Oracle::Number(ours), Oracle::Number(theirs)) if ours.is_f64() => {
            let [ours, theirs] = [ours, theirs].map(|double| double.as_f64().expect("a double"));
            let same_sign = ours.is_sign_negative() == theirs.is_sign_negative();
            same_sign && ours.to_bits().abs_diff(theirs.to_bits()) <= ORACLE_ERROR_ULPS
        }
        (ours, theirs) => ours == theirs,
    }
}

/// Reasons for which a body that the oracle reads is refused all the same.
const STRICTER_CODES: [&str; 4] = ["duplicate-key", "too-deep", "number-range", "nul-in-string"];

fn check_against_oracle(text: &str) -> Result<(), TestCaseError> {
    let oracle = serde_json::from_str::<Oracle>(text);
    match (scan_document(text, &ScanLimits::DEFAULT), oracle) {
        (Ok(nodes), Ok(oracle)) => {
            let ours = oracle_of(root(text, &nodes, 0));
            prop_assert!(is_equal(&ours, &oracle), "{text}: {ours} is not {oracle}");
        }
        (Ok(_), Err(error)) => prop_assert!(false, "{text}: only the oracle refuses: {error}"),
        (Err(error), Ok(_)) => prop_assert!(STRICTER_CODES.contains(&first(&error).code), "{text}: {error}"),
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

fn json_value() -> impl Strategy<Value = Oracle> {
    let leaf = prop_oneof![
        Just(Oracle::Null),
        any::<bool>().prop_map(Oracle::from),
        any::<i64>().prop_map(Oracle::from),
        any::<f64>().prop_filter("finite", |double| double.is_finite()).prop_map(Oracle::from),
        any::<String>().prop_filter("no NUL", |text| !text.contains('\0')).prop_map(Oracle::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let name = prop_oneof!["[a-e]", any::<String>().prop_filter("no NUL", |text| !text.contains('\0'))];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Oracle::from),
            proptest::collection::btree_map(name, inner, 0..24)
                .prop_map(|members| Oracle::Object(members.into_iter().collect())),
        ]
    })
}

/// Each string of a compact JSON text with every character as a `\u` escape.
fn with_every_character_escaped(value: &Oracle) -> String {
    match value {
        Oracle::String(text) => escaped(text),
        Oracle::Array(elements) => {
            format!("[{}]", elements.iter().map(with_every_character_escaped).collect::<Vec<_>>().join(" , "))
        }
        Oracle::Object(members) => {
            let member = |(name, value): (&String, &Oracle)| {
                format!("{}\t:\r\n{}", escaped(name), with_every_character_escaped(value))
            };
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
        Oracle::Null | Oracle::Bool(_) | Oracle::Number(_) => value.to_string(),
    }
}

fn escaped(text: &str) -> String {
    format!("\"{}\"", text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>())
}

/// Pieces of JSON, whole and broken, that meet the scanner in any order.
fn json_piece() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\"a\"",
        "\"b\"",
        "\"\\u0061\"",
        "\"a\":",
        "\"b\":1",
        "1",
        "-",
        "0",
        "-0",
        ".5",
        "e3",
        "E+",
        "1e400",
        "1.5",
        "true",
        "false",
        "null",
        "nul",
        "\"",
        "\\",
        "\\n",
        "\\ud800",
        "\\udc00",
        "\u{1}",
        "é",
        "99999999999999999999",
        "\"\\u0000\"",
        "[]",
        "{}",
        "[1,2]",
        "{\"a\":{\"a\":[]}}",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_json_value_is_read_as_the_oracle_reads_it(value in json_value()) {
        for text in [value.to_string(), format!("{value:#}"), with_every_character_escaped(&value)] {
            let nodes = accept(&text);
            // Bit by bit: the text was written from the value, so here the oracle's error has no part.
            prop_assert_eq!(oracle_of(root(&text, &nodes, 0)), value.clone(), "{}", text);
            check_against_oracle(&text)?;
        }
    }

    #[test]
    fn what_the_oracle_refuses_is_refused_and_the_rest_only_for_stricter_rules(
        pieces in proptest::collection::vec(json_piece(), 0..24),
    ) {
        let text = pieces.concat();
        check_against_oracle(&text)?;
        check_against_oracle(&format!("[{text}]"))?;
        check_against_oracle(&format!("{{\"a\":{text}}}"))?;
    }

    #[test]
    fn a_damaged_text_gets_the_oracles_verdict(
        value in json_value(),
        at in any::<proptest::sample::Index>(),
        length in 0_usize..4,
        piece in json_piece(),
    ) {
        let mut characters: Vec<char> = value.to_string().chars().collect();
        let at = at.index(characters.len());
        let end = (at + length).min(characters.len());
        characters.splice(at..end, piece.chars());
        check_against_oracle(&characters.into_iter().collect::<String>())?;
    }

    #[test]
    fn a_line_is_read_as_a_document_is(values in proptest::collection::vec(json_value(), 1..6)) {
        let lines: Vec<String> = values.iter().map(Oracle::to_string).collect();
        for text in [lines.join("\n"), lines.join("\r\n\n \t\n") + "\n"] {
            let (nodes, roots) = scan_lines(&text, &ScanLimits::DEFAULT).expect("legal lines");
            prop_assert_eq!(roots.len(), values.len());
            for (index, value) in roots.iter().zip(&values) {
                prop_assert_eq!(&oracle_of(root(&text, &nodes, *index)), value);
            }
        }
    }

    /// Objects after and within one another, of so few names that they often repeat their own and each other's:
    /// a body is refused when and only when one of them has a name twice.
    #[test]
    fn a_key_is_a_duplicate_only_of_a_key_of_its_own_object(
        sound in proptest::collection::vec(proptest::sample::subsequence(vec![0_u8, 1, 2], 0..=3).prop_shuffle(), 1..4),
        last in proptest::collection::vec(0_u8..3, 0..5),
        is_nested in any::<bool>(),
    ) {
        let objects = [sound, vec![last]].concat();
        let name = |key: &u8| char::from(b'a' + key);
        let object = |keys: &Vec<u8>| {
            let members: Vec<String> = keys.iter().map(|key| format!("\"{}\":{{}}", name(key))).collect();
            format!("{{{}}}", members.join(","))
        };
        let text = if is_nested {
            let members: Vec<String> = (b'a'..).zip(&objects).map(|(key, keys)| {
                format!("\"{}\":{}", char::from(key), object(keys))
            }).collect();
            format!("{{{}}}", members.join(","))
        } else {
            format!("[{}]", objects.iter().map(object).collect::<Vec<_>>().join(","))
        };
        let has_duplicate = objects.iter().any(|keys| keys.iter().collect::<HashSet<_>>().len() < keys.len());
        let verdict = scan_document(&text, &ScanLimits::DEFAULT).map(|_| ());
        prop_assert_eq!(verdict.is_err(), has_duplicate, "{}", text);
    }

    #[test]
    fn raw_text_of_a_value_is_what_was_sent(value in json_value()) {
        let text = format!(" {{ \"a\" : {value} , \"b\" : 1 }} ");
        let nodes = accept(&text);
        let (_, member) = root(&text, &nodes, 0).members().next().expect("a member");
        prop_assert_eq!(member.raw(), value.to_string());
    }
}

#[test]
fn nesting_is_bounded_and_a_bomb_is_a_clean_refusal() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    accept(&nested(64));
    for text in [nested(65), nested(100_000), "[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        let error = refusal(&text);
        assert!(matches!(error, DecodeError::Malformed(_)));
        assert_eq!(first(&error).code, "too-deep");
    }
}

#[test]
fn an_accepted_bomb_needs_no_stack() {
    let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nodes = scan_document(&text, &ScanLimits::ACCEPTED).expect("no limit");
    assert_eq!(nodes.len(), 100_000);
}

#[test]
fn a_duplicate_key_is_refused_at_every_level_and_however_it_is_written() {
    for (text, pointer) in [
        (r#"{"a":1,"a":2}"#, "/a"),
        (r#"{"a":1,"b":2,"\u0061":3}"#, "/a"),
        (r#"{"\u0061":1,"a":3}"#, "/a"),
        (r#"{"x":[0,{"b":{},"c":1,"b":[]}]}"#, "/x/1/b"),
        // The second object has the keys of the first up to the third.
        (r#"[{"a":1,"b":2},{"a":1,"b":2,"a":3}]"#, "/1/a"),
        (r#"[{"a":1,"b":2},{"a":1,"a":3}]"#, "/1/a"),
        (r#"[{"a":1,"b":2,"c":3},{"a":1,"c":2,"c":3}]"#, "/1/c"),
        // Once a key has differed, one that the first object had next may still repeat an earlier one.
        (r#"[{"a":1,"b":2},{"b":1,"a":2,"b":3}]"#, "/1/b"),
        // What follows the first object is a key of another one, and no key that the second could expect.
        (r#"{"x":{"y":1},"y":{"y":1,"y":2}}"#, "/y/y"),
    ] {
        let error = refusal(text);
        assert!(matches!(error, DecodeError::Malformed(_)), "{text}");
        assert_eq!((first(&error).code, first(&error).pointer.as_str()), ("duplicate-key", pointer), "{text}");
    }
}

/// Objects are compared key by key when small, by hash when large, by their predecessor when alike:
/// a repeated key is found on every one of these ways, whatever its place.
#[test]
fn a_duplicate_key_is_found_among_any_number_of_keys() {
    let object = |names: &[usize]| {
        let members: Vec<String> = names.iter().map(|name| format!("\"k{name}\":{name}")).collect();
        format!("{{{}}}", members.join(","))
    };
    for count in [1, 2, 15, 16, 17, 18, 40] {
        let names: Vec<usize> = (0..count).collect();
        accept(&object(&names));
        for repeated in 0..count {
            for predecessor in ["0".to_owned(), object(&names), object(&[0]), object(&names[..count / 2])] {
                let text = format!("[{predecessor},{}]", object(&[names.as_slice(), &[repeated]].concat()));
                let error = refusal(&text);
                assert_eq!((first(&error).code, &first(&error).pointer), ("duplicate-key", &format!("/1/k{repeated}")));
            }
        }
    }
}

#[test]
fn equal_keys_of_different_objects_are_no_duplicates() {
    accept(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2},{"b":1,"a":2}]}"#);
}

#[test]
fn numbers_out_of_range_are_illegal_not_malformed_and_all_are_found() {
    let error = refusal(r#"{"records":[{"a":1e400},{"a":1},{"a":[9223372036854775808]}]}"#);
    assert!(matches!(error, DecodeError::Illegal(_)));
    let found: Vec<_> = error.violations().iter().map(|v| (v.index, v.pointer.as_str(), v.code)).collect();
    assert_eq!(found, [(Some(0), "/records/0/a", "number-range"), (Some(2), "/records/2/a/0", "number-range")]);
}

#[test]
fn a_fault_of_the_format_outranks_what_was_illegal_before_it() {
    let error = refusal("[1e400,");
    assert!(matches!(error, DecodeError::Malformed(_)));
    assert_eq!((error.total(), first(&error).code), (1, "syntax"));
}

#[test]
fn many_violations_are_counted_and_twenty_are_listed() {
    let text = format!("[{}1]", "1e400,".repeat(1_000));
    let error = refusal(&text);
    assert_eq!((error.total(), error.violations().len()), (1_000, VIOLATIONS_MAX));
}

#[test]
fn strings_with_nul_control_characters_or_half_surrogates_are_refused() {
    for (text, code) in [
        (r#"["\u0000"]"#, "nul-in-string"),
        (r#"{"\u0000":1}"#, "nul-in-string"),
        ("[\"\0\"]", "syntax"),
        ("[\"a\nb\"]", "syntax"),
        (r#"["\ud800"]"#, "lone-surrogate"),
        (r#"["\udc00\ud800"]"#, "lone-surrogate"),
        (r#"["\x"]"#, "syntax"),
        ("[\"abc", "syntax"),
        ("[\"abc\\", "syntax"),
    ] {
        assert_eq!(first(&refusal(text)).code, code, "{text}");
    }
}

#[test]
fn syntax_faults_name_the_byte_and_never_the_text() {
    for (text, detail) in [
        ("", "expected a value at byte 0 where the body ends"),
        ("{} x", "expected the end of the body at byte 3"),
        ("{\"secret\":1,}", "expected a key at byte 12"),
        ("[1,]", "expected a value at byte 3"),
        ("[1 2]", "expected ',' or ']' at byte 3"),
        ("{\"a\" 1}", "expected ':' at byte 5"),
        ("{\"a\":1 \"b\":2}", "expected ',' or '}' at byte 7"),
        ("[01]", "expected ',' or ']' at byte 2"),
        ("[1.]", "expected a digit at byte 3"),
        ("[NaN]", "expected a value at byte 1"),
        ("[truth]", "expected a value at byte 1"),
        ("[1}", "expected ',' or ']' at byte 2"),
        ("'a'", "expected a value at byte 0"),
        ("[1\u{a0}]", "expected ',' or ']' at byte 2"),
    ] {
        let error = refusal(text);
        assert_eq!((first(&error).code, first(&error).detail.as_str()), ("syntax", detail), "{text}");
    }
}

#[test]
fn a_fault_names_its_record_and_field() {
    for (text, index, pointer) in [
        (r#"{"records":[{},{"a":{"b":[1,tru]}}]}"#, Some(1), "/records/1/a/b/1"),
        (r#"{"records":[{"a":1} {"a":2}]}"#, Some(1), "/records/1"),
        (r#"{"record":{"a":nul}}"#, Some(0), "/record/a"),
        (r#"{"table_name":"e","records":[{"a":1"#, Some(0), "/records/0"),
        (r#"{"other":[{"a":x}]}"#, None, "/other/0/a"),
    ] {
        let error = refusal(text);
        assert_eq!((first(&error).index, first(&error).pointer.as_str()), (index, pointer), "{text}");
    }
    let error = scan_lines("{\"a\":1}\n\n{\"a\":\n1}", &ScanLimits::DEFAULT).map(|_| ()).expect_err("a torn line");
    assert_eq!((first(&error).index, first(&error).pointer.as_str()), (Some(1), "/a"));
    assert_eq!(first(&error).detail, "expected a value at byte 14 where the line ends");
}

#[test]
fn names_that_are_no_identifiers_are_not_shown() {
    let error = refusal(r#"{"my secret":{"a/b":[x]}}"#);
    assert_eq!(first(&error).pointer, "/(9 bytes)/(3 bytes)/0");
}

#[test]
fn keys_and_values_are_bounded() {
    let limits = ScanLimits { keys_max: 3, values_max: 12, ..ScanLimits::DEFAULT };
    let within = |text| scan_document(text, &limits).map(|_| ());
    assert_eq!(within(r#"{"a":1,"b":2,"c":3}"#), Ok(()));
    let error = refusal_within(r#"{"a":1,"b":2,"c":3,"d":4}"#, &limits);
    assert_eq!((first(&error).code, error.total()), ("too-many-keys", 1));
    assert_eq!(within("[1,2,3,4,5,6,7,8,9,10,11]"), Ok(()));
    let error = refusal_within("[1,2,3,4,5,6,7,8,9,10,11,12]", &limits);
    assert_eq!(first(&error).code, "too-many-values");
    assert!(matches!(error, DecodeError::Illegal(_)));
}

#[test]
fn an_object_like_the_one_before_is_bounded_too() {
    let limits = ScanLimits { keys_max: 2, ..ScanLimits::DEFAULT };
    let error = refusal_within(r#"[{"a":1,"b":2},{"a":1,"b":2,"c":3}]"#, &limits);
    assert_eq!((first(&error).code, first(&error).pointer.as_str()), ("too-many-keys", "/1/c"));
}
