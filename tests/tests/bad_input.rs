//! Bad input: each is refused with words that name record and field and never repeat what was sent, the process lives,
//! the next request works, and nothing of it is ever in the lake.

use std::process::Command;

use lakeingest_tests::calls::{body, flush, ingest, metric, post, stream};
use lakeingest_tests::lake::Row;
use lakeingest_tests::site::Site;
use lakeingest_tests::wire::{self, Connection};
use serde_json::{Value, json};
use xtask::servers::{Response, Sidecar};

/// Stands in every payload where a value can stand, and must appear nowhere else.
const CANARY: &str = "canary-7f3a91";

const MEBIBYTE: usize = 1 << 20;

/// A request that is refused, and how.
struct Case {
    name: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    status: u16,
    /// What the first error says, where there is one.
    error: Option<Error>,
}

/// Code, record and pointer of an error.
type Error = (&'static str, Option<u64>, String);

impl Case {
    fn json(name: &'static str, body: impl Into<Vec<u8>>, status: u16) -> Self {
        let headers = vec![("content-type", "application/json")];
        Self { name, path: "/ingest", headers, body: body.into(), status, error: None }
    }

    /// A body with one record of table `controls`, given as text, that must not be set aside.
    fn record(name: &'static str, record: &str, status: u16) -> Self {
        let body = format!(r#"{{"table_name": "controls", "records": [{{"n": 1}}, {record}]}}"#);
        Self::json(name, body, status).at("/ingest?on_invalid=reject")
    }

    fn table(name: &'static str, table: &str) -> Self {
        let body = json!({"table_name": table, "records": [{"name": CANARY}]}).to_string();
        Self::json(name, body, 422).with("table-name", None, "/table_name")
    }

    fn lines(name: &'static str, lines: impl Into<Vec<u8>>, status: u16) -> Self {
        let case = Self::json(name, lines, status);
        Self { headers: vec![("content-type", "application/x-ndjson")], ..case }.at("/ingest?table_name=controls")
    }

    fn csv(name: &'static str, rows: impl Into<Vec<u8>>, status: u16) -> Self {
        let case = Self::json(name, rows, status);
        Self { headers: vec![("content-type", "text/csv")], ..case }.at("/ingest?table_name=controls")
    }

    fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    fn with(self, code: &'static str, record: Option<u64>, pointer: impl Into<String>) -> Self {
        Self { error: Some((code, record, pointer.into())), ..self }
    }

    fn send(&self, sidecar: &Sidecar) -> Response {
        let answer = sidecar.request("POST", self.path, &self.headers, Some(&self.body));
        answer.unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }

    /// What is wrong with the answer.
    fn fault(&self, answer: &Response) -> Option<String> {
        let text = answer.text();
        let fault = |what: &str| Some(format!("{}: {what}: {} {text}", self.name, answer.status));
        if answer.status != self.status {
            return fault(&format!("not {}", self.status));
        }
        if answer.header("content-type") != Some("application/problem+json") {
            return fault("no problem document");
        }
        if text.contains(CANARY) {
            return fault("the payload is repeated");
        }
        let problem: Value = answer.json().expect("a problem document is JSON");
        if problem["outcome"] != "refused" || problem["status"] != answer.status {
            return fault("the outcome or the status is not said");
        }
        let Some((code, record, pointer)) = &self.error else { return None };
        let first = &problem["errors"][0];
        let is_named = first["code"] == *code && first["pointer"] == *pointer && first["index"].as_u64() == *record;
        if is_named && first["detail"].is_string() { None } else { fault(&format!("not {:?}", self.error)) }
    }
}

fn envelope_cases() -> Vec<Case> {
    let canary_record = json!({"name": CANARY});
    let with = |envelope: Value| envelope.to_string();
    vec![
        Case::json("not JSON", format!("{{\"table_name\": {CANARY}"), 400).with("syntax", None, "/table_name"),
        Case::json("an empty body", "", 400),
        Case::json("words behind the end", r#"{"table_name": "controls", "records": [{"n": 1}]} x"#, 400),
        Case::json("an array", "[]", 422).with("envelope-not-an-object", None, ""),
        Case::json("a number as the table", with(json!({"table_name": 5, "records": [canary_record]})), 422).with(
            "field-type",
            None,
            "/table_name",
        ),
        Case::json("no table", with(json!({"records": [canary_record]})), 422).with(
            "missing-field",
            None,
            "/table_name",
        ),
        Case::json("no records", with(json!({"table_name": "controls"})), 422).with("missing-field", None, "/records"),
        Case::json("empty records", with(json!({"table_name": "controls", "records": []})), 422).with(
            "no-records",
            None,
            "/records",
        ),
        Case::json("an object as records", with(json!({"table_name": "controls", "records": canary_record})), 422)
            .with("field-type", None, "/records"),
        Case::json("text as a record", with(json!({"table_name": "controls", "records": [{"n": 1}, CANARY]})), 422)
            .with("record-not-an-object", Some(1), "/records/1"),
        Case::json("text as the record", with(json!({"table_name": "controls", "record": CANARY})), 422)
            .at("/ingest/stream")
            .with("record-not-an-object", Some(0), "/record"),
        Case::json(
            "record and records",
            with(json!({"table_name": "controls", "record": canary_record, "records": [canary_record]})),
            422,
        )
        .with("conflicting-fields", None, "/record"),
        Case::json(
            "an unknown field",
            with(json!({"table_name": "controls", "records": [{"n": 1}], "mode": CANARY})),
            422,
        )
        .with("unknown-field", None, "/mode"),
        Case::json(
            "a number as the date",
            with(json!({"table_name": "controls", "record": {}, "partition_date": 1})),
            422,
        )
        .with("field-type", None, "/partition_date"),
        Case::json(
            "a day that does not exist",
            with(json!({"table_name": "controls", "records": [{"n": 1}], "partition_date": "2025-02-30"})),
            422,
        )
        .with("partition-date", None, "/partition_date"),
        Case::json(
            "a date in another form",
            with(json!({"table_name": "controls", "records": [{"n": 1}], "partition_date": "2025-2-3"})),
            422,
        )
        .with("partition-date", None, "/partition_date"),
        Case::json("another table in the query", r#"{"table_name": "controls", "records": [{"n": 1}]}"#, 422)
            .at("/ingest?table_name=others")
            .with("contradiction", None, "/table_name"),
        Case::table("a table that leaves its folder", "../x"),
        Case::table("a table with a blank", "a b"),
        Case::table("a table of 65 characters", &"t".repeat(65)),
        Case::table("a table of 64 characters", &"t".repeat(64)),
        Case::table("a table with capitals", "Events"),
        Case::table("an empty table name", ""),
        Case::table("a table that is named like the payload", CANARY),
        Case::table("the name of a quarantine", "x_quarantine"),
        Case::table("the folder of bookkeeping", "_lakeingest"),
        Case::table("a table with a quote", "x'; COPY x TO 'y"),
    ]
}

fn record_cases() -> Vec<Case> {
    let bomb = "[".repeat(100_000);
    let objects = r#"{"x":"#.repeat(100_000);
    let columns: Vec<String> = (0..1_001).map(|number| format!(r#""c{number}": {number}"#)).collect();
    let keys: Vec<String> = (0..1_004).map(|number| format!(r#""k{number}": null"#)).collect();
    let large = format!(r#"{{"name": "{CANARY}{}"}}"#, "x".repeat(MEBIBYTE));
    let record = Case::record;
    vec![
        record("text for a number", &format!(r#"{{"n": "{CANARY}"}}"#), 422).with(
            "type-mismatch",
            Some(1),
            "/records/1/n",
        ),
        record("a number for text", r#"{"name": 5}"#, 422).with("type-mismatch", Some(1), "/records/1/name"),
        record("a fraction for an integer", r#"{"n": 1.5}"#, 422).with("type-mismatch", Some(1), "/records/1/n"),
        record("an object for a number", r#"{"n": {}}"#, 422).with("type-mismatch", Some(1), "/records/1/n"),
        record("a column that differs in its case", r#"{"N": 1}"#, 422).with("column-case", Some(1), "/records/1/N"),
        record("two new columns that differ in their case", r#"{"new": 1, "New": 1}"#, 422).with(
            "column-case",
            Some(1),
            "/records/1/New",
        ),
        record("the partition's column in capitals", r#"{"Year": 2025}"#, 422).with(
            "column-case",
            Some(1),
            "/records/1/Year",
        ),
        record("another year than the partition's", r#"{"year": 1999}"#, 422).with(
            "partition-column-mismatch",
            Some(1),
            "/records/1/year",
        ),
        // A name that is no identifier may be payload: its length is told.
        record("a column with a blank", &format!(r#"{{"{CANARY} x": 1}}"#), 422).with(
            "column-name",
            Some(1),
            format!("/records/1/({} bytes)", CANARY.len() + 2),
        ),
        record("an empty column name", r#"{"": 1}"#, 422).with("column-name", Some(1), "/records/1/(0 bytes)"),
        record("a column of 129 characters", &format!(r#"{{"{}": 1}}"#, "c".repeat(129)), 422).with(
            "column-name",
            Some(1),
            "/records/1/(129 bytes)",
        ),
        record("1,001 columns", &format!("{{{}}}", columns.join(",")), 422),
        record("1,004 keys", &format!("{{{}}}", keys.join(",")), 422).with(
            "too-many-keys",
            Some(1),
            "/records/1/k1003",
        ),
        record("a record of more than 1 MiB", &large, 422).with("record-too-large", Some(1), "/records/1"),
        record("100,000 brackets", &format!(r#"{{"name": {bomb}"#), 400),
        record("100,000 braces", &format!(r#"{{"name": {objects}"#), 400),
        record("a key twice", &format!(r#"{{"name": "a", "name": "{CANARY}"}}"#), 400).with(
            "duplicate-key",
            Some(1),
            "/records/1/name",
        ),
        record("a key twice, once escaped", r#"{"name": "a", "n\u0061me": "b"}"#, 400),
        record("a key twice, deep inside", r#"{"deep": [{"a": {"b": 1, "b": 2}}]}"#, 400),
        record("half of a surrogate pair", r#"{"name": "\ud83c"}"#, 400).with(
            "lone-surrogate",
            Some(1),
            "/records/1/name",
        ),
        record("the other half", r#"{"name": "\udf0a"}"#, 400).with("lone-surrogate", Some(1), "/records/1/name"),
        record("NUL", r#"{"name": "a\u0000b"}"#, 422).with("nul-in-string", Some(1), "/records/1/name"),
        record("1e400", r#"{"x": 1e400}"#, 422).with("number-range", Some(1), "/records/1/x"),
        record("2^64", r#"{"x": 18446744073709551616}"#, 422).with("number-range", Some(1), "/records/1/x"),
        record("2^63", r#"{"x": 9223372036854775808}"#, 422).with("number-range", Some(1), "/records/1/x"),
        record("NaN", r#"{"x": NaN}"#, 400).with("syntax", Some(1), "/records/1/x"),
        record("a comma too much", r#"{"x": 1,}"#, 400),
        record("a leading zero", r#"{"x": 01}"#, 400),
        record("a control character in text", "{\"name\": \"a\u{1}b\"}", 400).with(
            "syntax",
            Some(1),
            "/records/1/name",
        ),
        record("single quotes", &format!("{{'name': '{CANARY}'}}"), 400),
    ]
}

fn byte_cases() -> Vec<Case> {
    let control = r#"{"table_name": "controls", "records": [{"n": 1}]}"#;
    let invalid = [br#"{"table_name": "controls", "records": [{"name": ""#.as_slice(), b"\xc3\x28", b"\"}]}"].concat();
    let wide: Vec<String> = (0..900).map(|number| format!(r#""c{number}": 1"#)).collect();
    let sparse = format!("{{{}}}\n{}", wide.join(","), "{}\n".repeat(99_999));
    let oversized = json!({"table_name": "controls", "records": [{"name": "x".repeat(8 * MEBIBYTE)}]}).to_string();
    vec![
        Case::json("invalid UTF-8", invalid, 400).with("invalid-utf-8", None, ""),
        Case::json("a byte order mark", format!("\u{feff}{control}"), 400).with("byte-order-mark", None, ""),
        Case::json("more than 8 MiB", oversized, 413),
        Case::json("values that tabs part", format!("n\n{CANARY}\n"), 415)
            .header("content-type", "text/tab-separated-values"),
        Case::csv("CSV without a table", format!("n\n{CANARY}\n"), 422).at("/ingest").with(
            "missing-field",
            None,
            "/table_name",
        ),
        Case::csv("CSV with a row that is too short", format!("n,name\n1,{CANARY}\n2\n"), 400).with(
            "field-count",
            Some(1),
            "",
        ),
        Case::csv("CSV with an open quote", format!("n\n\"{CANARY}\n"), 400).with("syntax", Some(0), ""),
        Case::csv("CSV with a name that is none", format!("{CANARY}\n1\n"), 422).with(
            "column-name",
            None,
            format!("/({} bytes)", CANARY.len()),
        ),
        Case::csv("CSV with a value that does not fit", format!("n\n1\n{CANARY}\n"), 422)
            .at("/ingest?table_name=controls&on_invalid=reject")
            .with("type-mismatch", Some(1), "/n"),
        Case::json("gzip that is none", control, 400).header("content-encoding", "gzip").with(
            "content-coding",
            None,
            "",
        ),
        Case::json("brotli", control, 415).header("content-encoding", "br"),
        Case::json("an unknown option", control, 422).at("/ingest?canary-7f3a91=1").with("unknown-option", None, "?"),
        Case::json("an option twice", control, 422).at("/ingest?wait=1&wait=2").with("duplicate-option", None, "?wait"),
        Case::json("a wait that is none", control, 422).at("/ingest?wait=canary-7f3a91").with(
            "illegal-value",
            None,
            "?wait",
        ),
        Case::json("a wait beyond its bound", control, 422).at("/ingest?wait=301").with("illegal-value", None, "?wait"),
        Case::json("an unknown durability", control, 422).at("/ingest?durability=canary-7f3a91").with(
            "illegal-value",
            None,
            "?durability",
        ),
        Case::json("an unknown treatment of bad records", control, 422).at("/ingest?on_invalid=canary-7f3a91").with(
            "illegal-value",
            None,
            "?on_invalid",
        ),
        Case::json("a date in the query that does not exist", control, 422)
            .at("/ingest?partition_date=2025-02-30")
            .with("partition-date", None, "/partition_date"),
        Case::json("an idempotency key of two words", control, 400)
            .header("idempotency-key", "canary-7f3a91 canary-7f3a91"),
        Case::lines("NDJSON without a table", format!("{{\"name\": \"{CANARY}\"}}\n"), 422).at("/ingest").with(
            "missing-field",
            None,
            "/table_name",
        ),
        Case::lines("NDJSON with a torn line", "{\"n\": 1}\n{\"n\": ", 400).with("syntax", Some(1), "/n"),
        Case::lines("NDJSON with a line that is no object", "{\"n\": 1}\n\n[5]\n", 422).with(
            "record-not-an-object",
            Some(1),
            "",
        ),
        Case::lines("NDJSON with a value that does not fit", format!("{{\"n\": 1}}\n{{\"n\": \"{CANARY}\"}}"), 422)
            .at("/ingest?table_name=controls&on_invalid=reject")
            .with("type-mismatch", Some(1), "/n"),
        Case::lines("one wide record and many empty ones", sparse, 422).with("too-many-cells", None, ""),
        Case::lines("NDJSON without a line", "\n\n", 422).with("no-records", None, ""),
        Case::json("a flush of an illegal table", r#"{"table_name": "../x"}"#, 422).at("/flush"),
        Case::json("a flush with an unknown field", format!(r#"{{"table": "{CANARY}"}}"#), 422).at("/flush"),
        Case::json("a flush that is not JSON", format!("{{{CANARY}"), 400).at("/flush"),
    ]
}

#[test]
fn i13_bad_input_is_refused_by_name_and_never_repeated_stored_or_logged() {
    let mut site = Site::local();
    // Whatever the sidecar would ever log.
    site.options.environment.push(("LAKEINGEST_LOG".to_owned(), "info,lakeingest_sidecar=trace".into()));
    let sidecar = site.start();
    // Its columns are known from here on.
    ingest(&sidecar, "controls", &[json!({"n": 0, "name": "control"})]);
    let cases: Vec<Case> = [envelope_cases(), record_cases(), byte_cases()].into_iter().flatten().collect();
    let mut faults = Vec::new();
    for (case, n) in cases.iter().zip(1_u64..) {
        let answer = case.send(&sidecar);
        faults.extend(case.fault(&answer));
        // The process lives and the next request works.
        stream(&sidecar, "controls", &json!({"n": n, "name": "control"}));
        sidecar.server().ensure_running().expect(case.name);
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));

    flush(&sidecar);
    let mut stored: Vec<_> = site.lake().table("controls").iter().map(|row| row["n"].as_u64()).collect();
    stored.sort_unstable();
    assert_eq!(stored, (0..=cases.len() as u64).map(Some).collect::<Vec<_>>());
    let columns: Vec<String> = site.lake().table("controls").pop().map(Row::into_keys).expect("rows").collect();
    assert_eq!(columns, ["day", "month", "n", "name", "year"], "no refused column is in the registry");
    let strangers = site.lake().objects();
    let strangers: Vec<_> =
        strangers.iter().filter(|key| key.contains("schemas/") && !key.contains("controls")).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    let acknowledged = metric(&sidecar, "lakeingest_sidecar_acknowledged_rows_total");
    assert_eq!(acknowledged.to_string(), (cases.len() + 1).to_string());
    sidecar.stop().expect("it ends");
    let log = site.log();
    assert!(log.contains("segment is in the lake") && !log.contains(CANARY), "the payload is in the log");
    let journal = std::fs::read_dir(&site.options.journal).expect("the journal can be listed");
    for file in journal.filter_map(|entry| std::fs::read(entry.ok()?.path()).ok()) {
        assert!(!file.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()), "the payload is in the journal");
    }
}

#[test]
fn a_refused_request_names_every_bad_record_up_to_twenty_and_counts_them_all() {
    let site = Site::local();
    let sidecar = site.start();
    ingest(&sidecar, "events", &[json!({"n": 1})]);
    let records: Vec<Value> = (0..60).map(|n| if n % 2 == 0 { json!({"n": n}) } else { json!({"n": "x"}) }).collect();
    let sent = json!({"table_name": "events", "records": records});
    let answer = post(&sidecar, "/ingest?on_invalid=reject", &sent);
    assert_eq!(answer.status, 422, "{}", answer.text());
    let problem = body(&answer);
    let indexes: Vec<_> =
        problem["errors"].as_array().expect("errors").iter().map(|error| error["index"].as_u64()).collect();
    assert_eq!(indexes, (0..20).map(|n| Some(2 * n + 1)).collect::<Vec<_>>());
    assert_eq!(problem["errors_total"], 30);
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 1, "its good records are not stored either");
}

#[test]
fn a_chunked_body_is_cut_at_its_bound() {
    let site = Site::local();
    let sidecar = site.start();
    let mut connection = Connection::open(sidecar.port());
    connection.send("POST /ingest/stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let start = r#"{"table_name": "events", "record": {"name": ""#;
    connection.send(format!("{:x}\r\n{start}\r\n", start.len()));
    let chunk = format!("{:x}\r\n{}\r\n", 64 << 10, "x".repeat(64 << 10));
    // Just past the bound, and no end: the answer does not wait for one.
    for _ in 0..128 {
        connection.send(&chunk);
    }
    let answer = connection.read_answer();
    assert_eq!(wire::status(&answer), 413, "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains(r#""outcome":"refused""#), "{answer}");

    // A chunked body within its bound is as good as any.
    let small = r#"{"table_name": "events", "record": {"n": 1}}"#;
    let head = "POST /ingest/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n";
    let answer = wire::exchange(sidecar.port(), format!("{head}\r\n{:x}\r\n{small}\r\n0\r\n\r\n", small.len()));
    assert_eq!(wire::status(&answer), 202, "{answer}");
    flush(&sidecar);
    assert_eq!(site.lake().table("events").len(), 1);
}

#[test]
fn a_body_that_says_that_it_is_too_long_is_refused_before_it_is_sent() {
    let site = Site::local();
    let sidecar = site.start();
    let head = "POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n";
    let answer = Connection::open(sidecar.port()).send(head).read_answer();
    assert_eq!(wire::status(&answer), 413, "{answer}");
    stream(&sidecar, "events", &json!({"n": 1}));
}

#[test]
fn a_client_that_asks_before_it_sends_is_spared_the_body() {
    let site = Site::local();
    let sidecar = site.start();
    let file = site.folder().join("body.json");
    std::fs::write(&file, vec![b'x'; 9 * MEBIBYTE]).expect("it can be written");
    // curl sends `Expect: 100-continue` with a body of this length.
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--expect100-timeout", "60", "--write-out", "\n%{http_code} %{size_upload}"])
        .args(["--data-binary", &format!("@{}", file.display()), &format!("{}/ingest", sidecar.url())])
        .output()
        .expect("curl is there");
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert!(output.status.success() && text.ends_with("\n413 0"), "{text} {:?}", output.stderr);
    assert!(text.contains(r#""outcome":"refused""#), "{text}");
}

#[test]
fn what_is_just_within_the_bounds_is_stored() {
    let site = Site::local();
    let sidecar = site.start();
    let deepest = format!("{}{}", "[".repeat(61), "]".repeat(61));
    let columns: serde_json::Map<String, Value> =
        (0..1_000).map(|number| (format!("c{number}"), json!(number))).collect();
    let texts: Vec<Value> = (0..7).map(|n| json!({"n": n, "text": "x".repeat(MEBIBYTE - 100)})).collect();
    let accepted = [
        ("deep", format!(r#"{{"table_name": "deep", "records": [{{"x": {deepest}}}]}}"#)),
        ("wide", json!({"table_name": "wide", "records": [columns]}).to_string()),
        ("large", json!({"table_name": "large", "records": texts}).to_string()),
        ("numbers", r#"{"table_name": "numbers", "records": [{"a": 9223372036854775807, "b": -9223372036854775808, "c": 1e308}]}"#.to_owned()),
        ("words", r#"{"table_name": "words", "records": [{"a": "\ud83c\udf0a", "b": "", "c": "\u0001\"\\/\b\f\n\r\t"}]}"#.to_owned()),
    ];
    for (name, body) in &accepted {
        let answer = sidecar.post("/ingest", None, body).expect("it answers");
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    let lake = site.lake();
    assert_eq!(lake.table("deep")[0]["x"], json!(deepest));
    assert_eq!(lake.table("wide")[0].len(), 1_003);
    assert_eq!(lake.table("large").len(), 7);
    let numbers = &lake.table("numbers")[0];
    assert_eq!((&numbers["a"], &numbers["b"], &numbers["c"]), (&json!(i64::MAX), &json!(i64::MIN), &json!(1e308)));
    let words = &lake.table("words")[0];
    assert_eq!((&words["a"], &words["b"]), (&json!("\u{1f30a}"), &json!("")));
    assert_eq!(words["c"], json!("\u{1}\"\\/\u{8}\u{c}\n\r\t"));
}
