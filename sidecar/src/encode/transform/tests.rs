//! What is a transform, and what it makes of records.

use arrow_array::{Int64Array, StringArray};

use super::*;

fn records(columns: &[(&str, &str)]) -> Schema {
    let column = |(name, text): &(&str, &str)| Column::new(*name, text.parse().expect("the test's types are some"));
    Schema::new(columns.iter().map(column).collect()).expect("the test's columns are legal")
}

fn orders() -> Schema {
    records(&[
        ("id", "bigint"),
        ("name", "varchar"),
        ("seen", "timestamp"),
        ("amount", "decimal(9,2)"),
        ("ref", "uuid"),
        ("tags", "list(varchar)"),
        ("props", "struct(plan varchar, seats bigint)"),
        ("attrs", "map(varchar, bigint)"),
        ("raw", "binary"),
        ("extra", "json"),
        ("user", "varchar"),
    ])
}

fn columns(select: &str) -> Vec<String> {
    let transform = read(select, &orders()).unwrap_or_else(|error| panic!("{select}: {error}"));
    assert_eq!(transform.select, select);
    transform.columns.iter().map(|column| format!("{} {}", column.name, column.column_type)).collect()
}

#[test]
fn expressions_have_the_types_of_their_results() {
    assert_eq!(
        columns("SELECT * FROM batch"),
        [
            "id bigint",
            "name varchar",
            "seen timestamp",
            "amount decimal(9,2)",
            "ref uuid",
            "tags list(varchar)",
            "props struct(plan varchar, seats bigint)",
            "attrs map(varchar, bigint)",
            "raw binary",
            // The database's own JSON is a text.
            "extra varchar",
            "user varchar",
        ]
    );
    assert_eq!(
        columns(
            "select id + 1 AS id, amount * 1.5 AS gross, seen::DATE AS on_day, props.seats > 3 AS big, \"user\", \
             list_transform(tags, t -> upper(t)) AS tags, CASE WHEN id = 1 THEN 'a' ELSE name END AS name, \
             {'a': id, 'b': [name IS NULL]} AS both, coalesce(id, 0)::DOUBLE AS x, \
             regexp_extract(name, 'a+') AS r, extra->>'$.a' AS a, nullif(props.plan, '') AS p, \
             name.lpad(3, '0') AS l FROM batch AS b"
        ),
        [
            "id bigint",
            "gross decimal(11,3)",
            "on_day date",
            "big boolean",
            "user varchar",
            "tags list(varchar)",
            "name varchar",
            "both struct(a bigint, b list(boolean))",
            "x double",
            "r varchar",
            "a varchar",
            "p varchar",
            "l varchar",
        ]
    );
}

#[test]
fn what_is_more_than_expressions_is_no_transform() {
    for (select, words) in [
        ("SELEC id FROM batch", "it is no SELECT"),
        ("SELECT nothing FROM batch", "it is no SELECT"),
        ("SELECT id FROM other", "something else than FROM batch"),
        ("DROP TABLE batch", "it is no SELECT"),
        ("SELECT id FROM batch; SELECT id FROM batch", "more than one statement"),
        ("SELECT id FROM batch; DROP TABLE batch", "it is no SELECT"),
        ("SELECT id FROM batch WHERE id > 1", "WHERE"),
        ("SELECT DISTINCT id FROM batch", "DISTINCT"),
        ("SELECT id FROM batch ORDER BY id", "ORDER BY"),
        ("SELECT id FROM batch LIMIT 1", "LIMIT"),
        ("SELECT id FROM batch GROUP BY id", "GROUP BY"),
        ("SELECT id FROM batch USING SAMPLE 10%", "a sample"),
        ("SELECT id FROM batch TABLESAMPLE 10%", "something else than FROM batch"),
        ("SELECT count(*) AS n FROM batch", "UNGROUPED_AGGREGATE"),
        ("SELECT max(id) OVER () AS n FROM batch", "a window"),
        ("SELECT unnest(tags) AS tag FROM batch", "UNNEST"),
        ("SELECT (SELECT 1) AS n FROM batch", "a subquery"),
        ("SELECT b.id FROM batch AS a, batch AS b", "something else than FROM batch"),
        ("SELECT id FROM batch UNION ALL SELECT id FROM batch", "a UNION"),
        ("SELECT 1 AS n", "something else than FROM batch"),
        ("SELECT value AS v FROM duckdb_settings()", "something else than FROM batch"),
        ("SELECT * FROM read_text('/etc/hostname')", "something else than FROM batch"),
        ("SELECT content AS c FROM '/etc/hostname'", "something else than FROM batch"),
        ("SELECT ? AS n FROM batch", "a parameter"),
        ("SELECT now() AS n FROM batch", "it calls now"),
        ("SELECT random() AS n FROM batch", "it calls random"),
        ("SELECT id + length(uuid()::VARCHAR) AS n FROM batch", "it calls uuid"),
        ("SELECT list_transform(tags, t -> t || now()) AS n FROM batch", "it calls now"),
        ("SELECT current_date AS n FROM batch", "it calls current_date"),
        ("SELECT Current_Timestamp AS n FROM batch", "it calls"),
        ("SELECT age(seen) AS n FROM batch", "it calls age"),
        ("SELECT rowid AS n FROM batch", "it calls rowid"),
        ("SELECT nextval('s') AS n FROM batch", "it calls nextval"),
        ("WITH batch AS (SELECT random() AS id FROM batch) SELECT id FROM batch", "WITH"),
        ("WITH x AS (SELECT 1) SELECT id FROM batch", "WITH"),
        ("SELECT ago(INTERVAL 1 DAY) AS n FROM batch", "it calls ago"),
        ("SELECT pg_postmaster_start_time() AS n FROM batch", "it calls pg_postmaster_start_time"),
        ("SELECT current_localtimestamp() AS n FROM batch", "it calls current_localtimestamp"),
        ("SELECT version() AS n FROM batch", "it calls version"),
        ("SELECT seen.age() AS n FROM batch", "it calls age"),
        ("SELECT batch.rowid AS n FROM batch", "it calls rowid"),
        ("SELECT list_aggregate([id], 'reservoir_quantile', 0.5) AS n FROM batch", "it calls list_aggregate"),
        ("SELECT repeat(name, id) AS n FROM batch", "repeat with a length that a record says"),
        ("SELECT length(lpad(name, id::INTEGER, 'x')) AS n FROM batch", "lpad with a length that a record says"),
        ("SELECT name.repeat(id) AS n FROM batch", "repeat with a length that a record says"),
        ("SELECT name.lower().REPEAT(id) AS n FROM batch", "repeat with a length that a record says"),
        ("SELECT name.printf(id) AS n FROM batch", "printf with a length that a record says"),
        ("SELECT bitstring('1', id::INTEGER)::VARCHAR AS n FROM batch", "bitstring with a length that a record says"),
        ("SELECT levenshtein(name, name) AS n FROM batch", "one text times the other"),
        ("SELECT NOW() AS n FROM batch", "it calls now"),
        ("SELECT range(id) AS n FROM batch", "range with a length that a record says"),
        ("SELECT printf('%*d', id::INTEGER, 1) AS n FROM batch", "printf with a length that a record says"),
        ("SELECT format('{:{}}', id, id) AS n FROM batch", "format with a length that a record says"),
        ("SELECT id + 1 FROM batch", "column 1 of its result"),
        ("SELECT id, name AS year FROM batch", "column 2 of its result"),
        ("SELECT id, id AS ID FROM batch", "the columns of its result"),
        ("SELECT id, id FROM batch", "the columns of its result"),
        ("SELECT id::HUGEINT * 2 AS n FROM batch", "cast it to another type"),
        ("SELECT seen - seen AS n FROM batch", "cast it to another type"),
        ("SELECT seen::TIME AS n FROM batch", "cast it to another type"),
    ] {
        let error = read(select, &orders()).expect_err(select).to_string();
        assert!(error.contains(words), "{select}: {error}");
    }
}

fn pieces(select: &str, ids: &[Option<i64>], names: &[&str]) -> (Vec<String>, Vec<(usize, String)>) {
    let known = records(&[("id", "bigint"), ("name", "varchar")]);
    let transform = read(select, &known).expect("it is a transform");
    let connection = session::without_files().expect("it can be opened");
    let columns: [ArrayRef; 2] =
        [Arc::new(Int64Array::from(ids.to_vec())), Arc::new(StringArray::from(names.to_vec()))];
    let mut evaluation = Evaluation::new(&connection, &known, &transform, &columns, ids.len());
    let (mut rows, mut failed, mut next) = (Vec::new(), Vec::new(), 0);
    while let Some(piece) = evaluation.next().expect("the database does its part") {
        let range = match &piece {
            Piece::Rows(range, _) => range.clone(),
            Piece::Failed(place, _) => *place..place + 1,
        };
        assert_eq!(range.start, next, "the places ascend without a gap");
        next = range.end;
        match piece {
            Piece::Rows(range, body) => rows.extend((0..range.len()).map(|row| body.record_text(row).into_owned())),
            Piece::Failed(place, reason) => failed.push((place, reason)),
        }
    }
    assert_eq!(next, ids.len());
    (rows, failed)
}

#[test]
fn every_record_becomes_one_row_in_its_place() {
    let ids: Vec<Option<i64>> = (0..5_000).map(|id| (id % 3 > 0).then_some(id)).collect();
    let names: Vec<String> = (0..5_000).map(|id| format!("n{id}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (rows, failed) = pieces("SELECT id * 2 AS twice, upper(name) AS name FROM batch", &ids, &names);
    assert!(failed.is_empty());
    let expected = |id: i64| match id % 3 {
        0 => format!(r#"{{"name":"N{id}"}}"#),
        _ => format!(r#"{{"twice":{},"name":"N{id}"}}"#, id * 2),
    };
    assert_eq!(rows, (0..5_000).map(expected).collect::<Vec<_>>());
    assert_eq!(pieces("SELECT id FROM batch", &[], &[]), (Vec::new(), Vec::new()));
}

#[test]
fn a_record_on_which_it_fails_is_found_and_its_neighbours_become_rows() {
    let names = ["1", "2", "three", "4", "", "6"];
    let (rows, failed) = pieces("SELECT id, name::BIGINT AS n FROM batch", &[Some(1); 6], &names);
    let numbers = [1, 2, 4, 6];
    assert_eq!(rows, numbers.map(|n| format!(r#"{{"id":1,"n":{n}}}"#)));
    assert_eq!(failed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [2, 4]);
    assert!(failed[0].1.contains("three"), "{}", failed[0].1);
    // What the database says holds the record's own words.
    let (rows, failed) = pieces("SELECT name::BIGINT AS n FROM batch", &[Some(1); 3], &["1", "IO Error", "3"]);
    assert_eq!((rows.len(), failed.len(), failed[0].0), (2, 1, 1), "{failed:?}");
    let (rows, failed) = pieces("SELECT regexp_extract(name, '\\C') AS n FROM batch", &[Some(1); 2], &["\u{e9}", "e"]);
    assert_eq!((rows.len(), failed.len(), failed[0].0), (1, 1, 0), "{failed:?}");
    let (rows, failed) = pieces("SELECT id + 1 AS n FROM batch", &[Some(i64::MAX), Some(1)], &["", ""]);
    assert_eq!((rows.len(), failed.len()), (1, 1), "{failed:?}");
}

/// Invariant I12: what a record is computed to is bounded, whatever it is computed from.
#[test]
fn i12_rows_that_become_too_long_are_set_aside_and_long_ones_come_in_pieces() {
    let million = "replace(replace(name, 'l', repeat('x', 1000)), 'x', repeat('y', 1000))";
    let (rows, failed) = pieces(&format!("SELECT {million} AS t FROM batch"), &[Some(1); 64], &["l"; 64]);
    assert_eq!((rows.len(), failed.len()), (64, 0));
    for times in [20, 2_000] {
        let select = format!("SELECT replace({million}, 'y', repeat('z', {times})) AS t FROM batch");
        let (rows, failed) = pieces(&select, &[Some(1); 3], &["a", "l", "b"]);
        assert_eq!((rows.len(), failed.len(), failed[0].0), (2, 1, 1), "{failed:?}");
    }
}
