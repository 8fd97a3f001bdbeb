//! The tortures: each ends a sidecar in the worst moments that it can find, or gives it the worst that it can get, and asks
//! the oracle.
//!
//! Owns: the scenarios that tests run with a bound and `cargo xtask torture` without one.
//! Does not own: what is promised (see `oracle`).

pub mod pinned;
pub mod power_cuts;
pub mod slow_upload;
pub mod soak;
pub mod syscalls;
pub mod values;

use crate::oracle::{Fault, Tally, Violations};

/// What a scenario ends with.
pub type Judgement = Result<Tally, Violations>;

/// A negative control: the scenario holds with the sidecar as it is, and with the bug the oracle finds the fault.
///
/// # Panics
/// When it is not so: then the oracle, or the scenario, proves nothing about this bug.
pub fn control(bug: &str, fault: Fault, scenario: impl Fn(Option<&str>) -> Judgement) {
    if let Err(violations) = scenario(None) {
        panic!("without a bug: {violations}");
    }
    match scenario(Some(bug)) {
        Ok(tally) => panic!("the bug {bug} is not caught: {tally:?}"),
        Err(violations) => {
            println!("{bug} is caught: {violations}");
            assert!(violations.count(fault) > 0, "{bug} is caught by something else than {fault:?}: {violations}");
        }
    }
}

/// The seed of a run, by the variable `LAKEINGEST_TEST_SEED` or by chance; it is printed.
///
/// # Panics
/// When the variable holds no number.
pub fn seed() -> u64 {
    let given = std::env::var("LAKEINGEST_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().expect("LAKEINGEST_TEST_SEED is a number"));
    println!("seed {seed}; the same choices again, if not the same moments: LAKEINGEST_TEST_SEED={seed}");
    seed
}
