//! The promise, under faults at random: kills, ends, power cuts, a lake that is away, and retries with keys.

use lakeingest_tests::site::Site;
use lakeingest_tests::torture::pinned::Pinned;
use lakeingest_tests::torture::seed;
use lakeingest_tests::torture::soak::Chapter;

/// As long as `cargo xtask torture --minutes N` says, a chapter after the other; here a short one.
#[test]
fn thirty_lives_with_faults_at_random_lose_and_double_nothing() {
    let tally = Chapter { lives: 30, seed: seed() }.run().unwrap_or_else(|violations| panic!("{violations}"));
    println!("{tally:?}");
    assert!(tally.acknowledged > 300 && tally.refused > 0, "{tally:?}");
}

/// One table cannot be delivered, and what others have delivered behind it is given back while it waits.
#[test]
fn kills_and_power_cuts_while_a_table_waits_lose_and_double_nothing() {
    let judgement = Pinned { lives: 16, seed: seed() }.run(Site::local());
    let tally = judgement.unwrap_or_else(|violations| panic!("{violations}"));
    println!("{tally:?}");
    // What the first life sends, which is cut by nothing.
    assert!(tally.acknowledged > 800, "{tally:?}");
}
