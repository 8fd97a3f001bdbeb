//! The promise, under faults at random: kills, ends, power cuts, a lake that is away, and retries with keys.

use lakeingest_tests::torture::seed;
use lakeingest_tests::torture::soak::Chapter;

/// As long as `cargo xtask torture --minutes N` says, a chapter after the other; here a short one.
#[test]
fn thirty_lives_with_faults_at_random_lose_and_double_nothing() {
    let tally = Chapter { lives: 30, seed: seed() }.run().unwrap_or_else(|violations| panic!("{violations}"));
    println!("{tally:?}");
    assert!(tally.acknowledged > 300 && tally.refused > 0, "{tally:?}");
}
