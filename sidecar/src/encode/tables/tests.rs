//! How many rows a table takes, and how they get there.

use arrow_array::StringArray;

use super::*;

fn date() -> NaiveDate {
    NaiveDate::from_ymd_opt(2025, 1, 1).expect("the date exists")
}

fn rows(count: u64, bytes: u64) -> Rows {
    Rows { count, bytes, digest: RowDigest::default() }
}

/// Appends to a fresh fill as long as there is room; answers how many times that was.
fn fills(row_group_rows: u64, slices: &[Rows]) -> usize {
    let mut fill = Fill::new(row_group_rows);
    let taken = slices.iter().take_while(|rows| {
        let has_room = fill.has_room(date(), rows);
        fill.add(date(), rows);
        has_room
    });
    taken.count()
}

/// Invariant I12: what the encoder has in memory at one time is bounded by bytes, not by rows alone. Invariant I3: the
/// numbers are what keys of files depend on, and do not change.
#[test]
fn i12_a_table_takes_rows_until_a_vector_or_a_row_group_of_them_would_be_too_long() {
    let long = rows(7, 7 << 20);
    assert_eq!(fills(VECTOR_ROWS, &[long; 9]), 4, "7 MiB each, 28 in a vector of 32");
    // A vector of 8 MiB each, of which a row group of eight takes two.
    let vector = rows(VECTOR_ROWS, 8 << 20);
    assert_eq!(fills(VECTOR_ROWS, &[vector; 99]), 99);
    assert_eq!(fills(8 * VECTOR_ROWS, &[vector; 99]), 2);
    // Half of a slice lies behind the end of its vector, and of its row group with it.
    let across = rows(VECTOR_ROWS * 3 / 4, 16 << 20);
    assert_eq!(fills(VECTOR_ROWS, &[across; 99]), 99);
    // One slice is taken, however long.
    assert_eq!(fills(VECTOR_ROWS, &[rows(1, 99 << 20), rows(1, 1)]), 1);
}

/// Rows of another day are in the same vectors and in other row groups.
#[test]
fn each_day_fills_a_row_group_of_its_own() {
    let (mut fill, day) = (Fill::new(64 * VECTOR_ROWS), |day: u64| date() + chrono::Days::new(day));
    let vector = rows(VECTOR_ROWS, 6 << 20);
    for number in 0..8 {
        assert!(fill.has_room(day(number), &vector));
        fill.add(day(number), &vector);
        fill.add(day(number), &vector);
        assert!(!fill.has_room(day(number), &vector));
    }
    assert!(fill.has_room(day(8), &vector));
}

/// A row group is written when a vector has been read, with all rows of its day in that vector.
#[test]
fn a_row_group_of_one_day_among_others_goes_on_to_the_end_of_a_vector() {
    let (today, yesterday) = (date(), date() - chrono::Days::new(1));
    let (many, one) = (rows(VECTOR_ROWS - 1, 20 << 20), rows(1, 1_000));
    let mut fill = Fill::new(VECTOR_ROWS);
    fill.add(today, &many);
    fill.add(yesterday, &one);
    assert_eq!(fill.vector.rows, 0);
    assert!(!fill.has_room(today, &many), "2,047 rows are not enough to be written, and would be with these");
    assert!(fill.has_room(today, &rows(VECTOR_ROWS, 1_000)));
}

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
