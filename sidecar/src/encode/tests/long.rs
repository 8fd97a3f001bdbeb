//! Segments of long records: in the memory that there is, each row once and in order.

use super::*;

/// A text of hexadecimal digits that compresses by no more than half.
fn noise(seed: u64, length: usize) -> String {
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
