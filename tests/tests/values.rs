//! The promise, value by value: whatever is accepted is in the lake as it was meant, whatever is not is set aside.

use lakeingest_tests::torture::seed;
use lakeingest_tests::torture::values::Values;

/// As many as `cargo xtask torture --values N` says; here some thousands.
#[test]
fn generated_records_of_every_type_are_read_by_duckdb_and_pyarrow_as_they_were_meant() {
    let compared = Values { records: 10_000, seed: seed() }.run().unwrap_or_else(|faults| panic!("{faults}"));
    println!("{compared:?}");
    assert_eq!(compared.rows + compared.set_aside, 20_000);
    assert!(compared.set_aside > 100, "{compared:?}");
}
