//! Segments of long records: in the memory that there is, each row once and in order.

use super::*;

/// A text of hexadecimal digits that compresses by no more than half.
pub(super) fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text.truncate(length);
    text
}

/// One batch a day for each of `batches`, which are the lengths of its records' texts.
async fn encoded(fixture: &Fixture, batches: &[(&str, Vec<usize>)], table: &[(&str, ColumnType)]) -> (Sealed, Encoded) {
    let accepted_as = schema(&[ID, ("text", ColumnType::Varchar)]);
    let mut id = 0;
    let mut bodies = Vec::new();
    for (date, lengths) in batches {
        let record = |length: &usize| {
            id += 1;
            format!("{{\"id\":{id},\"text\":\"{}\"}}\n", noise(id, *length))
        };
        bodies.push((*date, lengths.iter().map(record).collect::<String>()));
    }
    let bodies: Vec<(&str, &str)> = bodies.iter().map(|(date, body)| (*date, body.as_str())).collect();
    let sealed = fixture.sealed(&bodies, &accepted_as).await;
    let job = fixture.job(&sealed, registered(table));
    let encoded = fixture.encoder.encode(job.clone()).await;
    let encoded = encoded.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
    let again = fixture.encoder.encode(job).await.expect("it can be encoded again");
    assert_eq!(encoded.plan, again.plan, "a plan can be followed");
    (sealed, encoded)
}

/// The ids in a column of the files of a role, in the order of the files.
fn ids(fixture: &Fixture, (sealed, encoded): &(Sealed, Encoded), role: FileRole, column: &str) -> Vec<i64> {
    let files = encoded.plan.files.iter().filter(|file| file.role == role);
    let rows = files.flat_map(|file| {
        let rows = fixture.rows(&fixture.path(sealed.contents.number, file.part), column);
        assert_eq!(rows.len() as u64, file.rows);
        rows
    });
    let id = |row: Vec<Value>| match row[0] {
        Value::BigInt(id) => id,
        ref other => panic!("{other:?} is no id"),
    };
    rows.map(id).collect()
}

const TEXT: (&str, ColumnType) = ("text", ColumnType::Varchar);

/// Invariant I12: the encoder's memory holds what was accepted, however long the records are.
#[tokio::test]
async fn i12_records_of_a_megabyte_are_split_between_files_and_each_is_there_once() {
    let fixture = Fixture::new();
    let batches = vec![("2025-01-01", vec![1_000_000; 7]); 15];
    let encoded = encoded(&fixture, &batches, &[ID, TEXT]).await;
    assert_eq!(ids(&fixture, &encoded, FileRole::Main, "id"), (1..=105).collect::<Vec<_>>());
    let parts: Vec<u32> = encoded.1.plan.files.iter().map(|file| file.part).collect();
    assert_eq!(parts, [0, 1, 2, 3]);
}

#[tokio::test]
async fn long_records_that_do_not_fit_are_split_as_well() {
    let fixture = Fixture::new();
    let batches = vec![("2025-01-01", vec![900_000; 7]); 10];
    let encoded = encoded(&fixture, &batches, &[ID, ("text", ColumnType::Double)]).await;
    let expected: Vec<i64> = (0..10).flat_map(|_| 0..7).collect();
    assert_eq!(ids(&fixture, &encoded, FileRole::Quarantine, "record_index"), expected);
    assert!(encoded.1.plan.files.iter().all(|file| file.role == FileRole::Quarantine));
    assert_eq!((encoded.1.plan.files.len(), encoded.1.plan.quarantined_rows), (2, 70));
}

/// Few long records among many short ones make long row groups, though the average is short.
#[tokio::test]
async fn long_records_among_short_ones_and_in_one_long_batch_are_encoded() {
    let fixture = Fixture::new();
    let mut batches = vec![("2025-01-01", vec![1; 50_000]); 4];
    batches.extend(vec![("2025-01-01", vec![15_000; 512]); 16]);
    batches.push(("2025-01-01", [vec![1_000_000; 60], vec![1; 2_000]].concat()));
    let encoded = encoded(&fixture, &batches, &[ID, TEXT]).await;
    let all = 4 * 50_000 + 16 * 512 + 62_060 - 60_000;
    assert_eq!(ids(&fixture, &encoded, FileRole::Main, "id"), (1..=all).collect::<Vec<_>>());
}

#[tokio::test]
async fn days_that_take_turns_have_files_of_their_own_in_each_table() {
    let fixture = Fixture::new();
    let days = ["2025-01-01", "2025-01-02", "2025-01-03"];
    let batches: Vec<_> = (0..24).map(|number| (days[number % 3], vec![200_000; 20])).collect();
    let encoded = encoded(&fixture, &batches, &[ID, TEXT]).await;
    let mut found = ids(&fixture, &encoded, FileRole::Main, "id");
    found.sort_unstable();
    assert_eq!(found, (1..=480).collect::<Vec<_>>());
    let keys: BTreeSet<&str> = encoded.1.plan.files.iter().map(|file| file.key.as_str()).collect();
    assert_eq!((keys.len(), encoded.1.plan.files.len()), (9, 9), "eight batches of 4 MB make a table");
}

/// Nearly all rows are of one day: its row groups are longer than the vectors they come in.
#[tokio::test]
async fn a_late_record_now_and_then_makes_no_row_group_too_long() {
    let fixture = Fixture::new();
    let mut batches = Vec::new();
    for _ in 0..12 {
        batches.push(("2025-01-02", vec![15_000; 511]));
        batches.push(("2025-01-01", vec![15_000; 1]));
    }
    let encoded = encoded(&fixture, &batches, &[ID, TEXT]).await;
    let mut found = ids(&fixture, &encoded, FileRole::Main, "id");
    found.sort_unstable();
    assert_eq!(found, (1..=12 * 512).collect::<Vec<_>>());
}

/// Invariant I3: what a table has become since does not change where a segment is split.
#[tokio::test]
async fn i3_a_later_schema_gives_the_same_keys_rows_and_digests() {
    let fixture = Fixture::new();
    let accepted_as = schema(&[ID, TEXT]);
    let record = |id: usize, length: usize| format!("{{\"id\":{id},\"text\":\"{}\"}}\n", noise(id as u64, length));
    let short: Vec<String> =
        (0..20).map(|batch| (0..2_000).map(|row| record(batch * 2_000 + row, 30)).collect()).collect();
    let long: Vec<String> =
        (0..10).map(|batch| (0..400).map(|row| record(batch * 400 + row, 6_000)).collect()).collect();
    let bodies: Vec<(&str, &str)> = short.iter().chain(&long).map(|body| ("2025-01-01", body.as_str())).collect();
    let sealed = fixture.sealed(&bodies, &accepted_as).await;
    let earlier = registered(&[ID, TEXT]);
    let names: Vec<String> = (0..60).map(|name| format!("c{name}")).collect();
    let later: Vec<Column> = names.iter().map(|name| Column::new(name, ColumnType::Bigint)).collect();
    let later = RegisteredSchema { version: earlier.version, ..earlier.grown(&later) };
    let mut promises = Vec::new();
    for table in [earlier, later] {
        let encoded = fixture.encoder.encode(fixture.job(&sealed, table)).await;
        let encoded = encoded.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
        let files = encoded.plan.files.into_iter();
        promises.push(files.map(|file| (file.key, file.rows, file.row_digest)).collect::<Vec<_>>());
    }
    assert!(promises[0].len() > 1, "it is split");
    assert_eq!(promises[0], promises[1]);
}

/// A struct costs what its fields do.
#[tokio::test]
async fn i12_a_struct_of_many_fields_without_values_is_encoded_as_so_many_columns_are() {
    let fixture = Fixture::new();
    let fields: Vec<String> = (0..990).map(|field| format!("f{field} bigint")).collect();
    let wide = ("s", format!("struct({})", fields.join(", ")).parse().expect("a type"));
    let body = "{\"s\":{\"f7\":1}}\n".repeat(17_000);
    let sealed = fixture.sealed(&[("2025-01-01", &body)], &schema(std::slice::from_ref(&wide))).await;
    let encoded = fixture.encoder.encode(fixture.job(&sealed, registered(&[wide]))).await;
    let encoded = encoded.unwrap_or_else(|error| panic!("{}", crate::error_chain(&error)));
    assert_eq!(encoded.plan.files.iter().map(|file| file.rows).sum::<u64>(), 17_000);
}
