//! Rows on their way to a table.

use super::*;

/// Invariant I12: what is gathered before the database gets it is bounded in rows and in bytes.
#[test]
fn i12_long_rows_and_many_arrays_are_handed_over_before_there_are_many_rows() {
    let connection = Connection::open_in_memory().expect("a database can be opened");
    let columns: Vec<String> = (0..500).map(|number| format!("c{number} VARCHAR")).collect();
    connection.execute_batch(&format!("CREATE TABLE wide ({})", columns.join(", "))).expect("it can be made");
    let mut appender = TableAppender::open(&connection, "wide").expect("it is there");
    let text = |length: usize| -> ArrayRef { Arc::new(StringArray::from(vec!["x".repeat(length)])) };
    let mut gathered_bytes_max = 0;
    // A long one among short ones, then short ones alone.
    for row in 0..200 {
        let length = if row < 20 { 1 << 20 } else { 1 };
        let mut columns = vec![text(1); 500];
        columns[0] = text(length);
        appender.append(columns).expect("the database takes it");
        gathered_bytes_max = gathered_bytes_max.max(appender.gathered_bytes);
    }
    assert!((1..GATHERED_BYTES_MAX).contains(&gathered_bytes_max), "{gathered_bytes_max}");
    appender.finish().expect("the database takes it");
    let rows: u64 = connection.query_row("SELECT count(c499) FROM wide", [], |row| row.get(0)).expect("it answers");
    assert_eq!(rows, 200);
}
