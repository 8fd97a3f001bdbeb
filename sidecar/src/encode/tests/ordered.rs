//! Files whose rows are ordered by columns of their own.

use super::long::noise;
use super::*;

/// Encodes a segment of these records, ordered by these columns, twice: a plan can be followed.
async fn encoded(
    fixture: &Fixture,
    records: &[String],
    table: &[(&str, ColumnType)],
    order_by: &[&str],
) -> (Sealed, Encoded) {
    let bodies: Vec<String> = records.chunks(4_000).map(|records| records.join("\n")).collect();
    let bodies: Vec<(&str, &str)> = bodies.iter().map(|body| ("2025-01-01", body.as_str())).collect();
    let sealed = fixture.sealed(&bodies, &schema(table)).await;
    let order_by = order_by.iter().map(|name| (*name).to_owned()).collect();
    let job = EncodeJob { order_by, ..fixture.job(&sealed, registered(table)) };
    let encoded = fixture.encoder.encode(job.clone()).await;
    let encoded = encoded.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
    let again = fixture.encoder.encode(job).await.expect("it can be encoded again");
    assert_eq!(encoded.plan, again.plan, "the same segment gives the same bytes");
    (sealed, encoded)
}

fn rows_of(fixture: &Fixture, (sealed, encoded): &(Sealed, Encoded), columns: &str) -> Vec<Vec<Value>> {
    let parts = encoded.plan.files.iter().map(|file| file.part);
    parts.flat_map(|part| fixture.rows(&fixture.path(sealed.contents.number, part), columns)).collect()
}

fn ids_of(rows: &[Vec<Value>]) -> Vec<i64> {
    let id = |row: &Vec<Value>| match row[0] {
        Value::BigInt(id) => id,
        ref other => panic!("{other:?} is no id"),
    };
    rows.iter().map(id).collect()
}

#[tokio::test]
async fn rows_are_ordered_by_value_with_nulls_last_and_ties_as_they_came() {
    let fixture = Fixture::new();
    let table = [ID, ("at", ColumnType::Timestamp), ("name", ColumnType::Varchar), ("any", ColumnType::Json)];
    let at = |second: u8| format!("\"at\":\"2025-01-01T00:00:{second:02}Z\"");
    let records = [
        format!("{{\"id\":1,{},\"name\":\"b\"}}", at(9)),
        "{\"id\":2,\"name\":\"a\"}".to_owned(),
        format!("{{\"id\":3,{},\"name\":\"b\"}}", at(3)),
        format!("{{\"id\":4,{}}}", at(9)),
        format!("{{\"id\":5,{},\"name\":\"a\"}}", at(9)),
        format!("{{\"id\":6,{},\"name\":\"b\",\"any\":1}}", at(9)),
    ];
    // Of these only two can order rows: one is not there, one is text that stands for anything.
    let ordered = encoded(&fixture, &records, &table, &["gone", "any", "at", "name"]).await;
    assert_eq!(ids_of(&rows_of(&fixture, &ordered, "id")), [3, 5, 1, 6, 4, 2]);
    let as_they_came = encoded(&fixture, &records, &table, &["gone", "any"]).await;
    assert_eq!(ids_of(&rows_of(&fixture, &as_they_came, "id")), [1, 2, 3, 4, 5, 6]);
    let digests = [&ordered, &as_they_came].map(|(_, encoded)| encoded.plan.files[0].row_digest.clone());
    assert_eq!(digests[0], digests[1], "the rows are the same in any order");
}

/// Records whose texts have so many bytes each and no order.
fn unordered(count: u64, text_bytes: usize) -> Vec<String> {
    (0..count).map(|id| format!("{{\"id\":{id},\"text\":\"{}\"}}", noise(id, text_bytes))).collect()
}

/// Invariant I12: more rows than the encoder's memory holds are ordered on disk.
#[tokio::test]
async fn i12_a_segment_that_is_longer_than_the_memory_is_ordered() {
    let fixture = Fixture::new();
    let table = [ID, ("text", ColumnType::Varchar)];
    let encoded = encoded(&fixture, &unordered(250_000, 450), &table, &["text"]).await;
    let rows = rows_of(&fixture, &encoded, "id, text[:16]");
    let text = |row: &Vec<Value>| match &row[1] {
        Value::Text(text) => text.clone(),
        other => panic!("{other:?} is no text"),
    };
    assert!(rows.is_sorted_by_key(text));
    let mut ids = ids_of(&rows);
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..250_000));
}

/// What is too long to be ordered arrives all the same.
#[tokio::test]
async fn rows_that_are_too_long_to_be_ordered_are_written_as_they_came() {
    let fixture = Fixture::new();
    let table = [ID, ("text", ColumnType::Varchar)];
    let encoded = encoded(&fixture, &unordered(12_000, 10_000), &table, &["text"]).await;
    assert!(ids_of(&rows_of(&fixture, &encoded, "id")).into_iter().eq(0..12_000));
}
