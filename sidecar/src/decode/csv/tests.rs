//! Bodies of CSV: what is a field, what is null, what is no CSV.

use proptest::prelude::*;

use crate::decode::{DecodeError, Format, NodeKind, ScanLimits, Scanned, scan};

fn scanned(text: &str) -> Scanned<'_> {
    scan(Format::Csv, text.as_bytes(), &ScanLimits::DEFAULT).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// Names and texts of each record; none for null.
fn rows(text: &str) -> Vec<Vec<(String, Option<String>)>> {
    let scanned = scanned(text);
    let row = |index: usize| {
        let fields = scanned.record(index).members();
        fields.map(|(name, value)| (name.into_owned(), value.string().map(|text| text.into_owned()))).collect()
    };
    (0..scanned.record_count()).map(row).collect()
}

fn row(fields: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    fields.iter().map(|(name, text)| ((*name).to_owned(), text.map(str::to_owned))).collect()
}

/// Code and record of the first fault, and whether the format is broken.
fn fault(text: &str) -> (&'static str, Option<usize>, bool) {
    let error = scan(Format::Csv, text.as_bytes(), &ScanLimits::DEFAULT).expect_err(text);
    let first = &error.violations()[0];
    (first.code, first.index, matches!(error, DecodeError::Malformed(_)))
}

#[test]
fn a_row_is_a_record_with_the_headers_names() {
    let expected = [row(&[("id", Some("1")), ("name", Some("a"))]), row(&[("id", Some("2")), ("name", Some("b c"))])];
    for text in [
        "id,name\n1,a\n2,b c\n",
        "id,name\r\n1,a\r\n2,b c",
        "\n\nid,name\n1,a\n\r\n\n2,b c\n\n",
        "\"id\",name\n1,\"a\"\n\"2\",b c",
    ] {
        assert_eq!(rows(text), expected, "{text:?}");
    }
}

#[test]
fn quotes_hold_commas_lines_and_quotes_and_tell_null_from_an_empty_text() {
    let text = "a,b,c\n\"x,y\",\"1\n2\r\n3\",\"say \"\"so\"\"\"\n,\"\",\"\"\"\"\n";
    let expected = [
        row(&[("a", Some("x,y")), ("b", Some("1\n2\r\n3")), ("c", Some("say \"so\""))]),
        row(&[("a", None), ("b", Some("")), ("c", Some("\""))]),
    ];
    assert_eq!(rows(text), expected);
    let scanned = scanned(text);
    let kinds: Vec<NodeKind> = scanned.record(1).members().map(|(_, value)| value.kind()).collect();
    assert_eq!(kinds, [NodeKind::Null, NodeKind::Cell, NodeKind::EscapedCell]);
}

#[test]
fn a_record_is_told_as_an_object_of_its_texts() {
    let scanned = scanned("a,b,c\n1,\"say \"\"so\"\"\",\n");
    assert_eq!(scanned.record_text(0), r#"{"a":"1","b":"say \"so\""}"#);
    assert_eq!(scanned.pointer(0, "b"), "/b");
}

#[test]
fn what_is_no_csv_is_refused_whole_with_its_place() {
    for (text, expected) in [
        ("", ("syntax", None, true)),
        ("\r\n\n", ("syntax", None, true)),
        ("a,b\n", ("no-records", None, false)),
        ("a,b\n1,2\n3\n", ("field-count", Some(1), true)),
        ("a,b\n1,2,3\n", ("field-count", Some(0), true)),
        ("a,b\n1,2\n\"3,4\n", ("syntax", Some(1), true)),
        ("a,b\n1,2\"\n", ("syntax", Some(0), true)),
        ("a,b\n\"1\"x,2\n", ("syntax", Some(0), true)),
        ("a,\"b\n", ("syntax", None, true)),
        ("a,b\n1,2\r", ("syntax", Some(0), true)),
        ("a,b\n1\r,2\n", ("syntax", Some(0), true)),
        ("a,b,a\n1,2,3\n", ("duplicate-key", None, true)),
        ("a,First Name\n1,2\n", ("column-name", None, false)),
        ("a,\n1,2\n", ("column-name", None, false)),
        ("a,b\n1,\0\n", ("nul-in-string", None, false)),
    ] {
        assert_eq!(fault(text), expected, "{text:?}");
    }
}

#[test]
fn a_body_is_bounded_as_json_is() {
    let limits = ScanLimits { records_max: 2, ..ScanLimits::DEFAULT };
    let code = |text: &str, limits: &ScanLimits| {
        scan(Format::Csv, text.as_bytes(), limits).expect_err("it is beyond a bound").violations()[0].code
    };
    assert_eq!(code("a\n1\n2\n3\n", &limits), "too-many-records");
    assert_eq!(code("a,b\n1,2\n3,4\n", &ScanLimits { values_max: 9, ..ScanLimits::DEFAULT }), "too-many-values");
    assert_eq!(code("a,b\n1,2\n", &ScanLimits { keys_max: 1, ..ScanLimits::DEFAULT }), "too-many-keys");
    let commas = ",".repeat(1 << 20);
    assert_eq!(code(&commas, &ScanLimits::DEFAULT), "too-many-keys");
    assert_eq!(code("a\nlong\n", &ScanLimits { record_bytes_max: 3, ..ScanLimits::DEFAULT }), "record-too-large");
}

proptest! {
    /// Whatever the csv crate writes is read as it was.
    #[test]
    fn what_another_writer_has_written_is_read_back(
        fields in proptest::collection::vec(proptest::collection::vec("[ -~\\n\\ré]{0,8}", 3), 1..8),
        quotes_all in any::<bool>(),
    ) {
        let style = if quotes_all { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let mut writer = csv::WriterBuilder::new().quote_style(style).from_writer(Vec::new());
        writer.write_record(["a", "b", "c"]).expect("memory takes what is written");
        fields.iter().for_each(|row| writer.write_record(row).expect("memory takes what is written"));
        let text = String::from_utf8(writer.into_inner().expect("memory takes what is written")).expect("it was text");
        let read: Vec<Vec<String>> = rows(&text)
            .into_iter()
            .map(|row| row.into_iter().map(|(_, text)| text.unwrap_or_default()).collect())
            .collect();
        prop_assert_eq!(read, fields, "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a,\"\\r\\n1\\PC]{0,40}") {
        let _ = scan(Format::Csv, text.as_bytes(), &ScanLimits::DEFAULT);
    }
}
