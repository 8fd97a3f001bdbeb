//! Power cuts: the file system of the journal loses what was not synced, at a random moment, again and again.
//!
//! Owns: one run of them, over one journal and one lake. The lake lies elsewhere and keeps everything.
//! Does not own: how the power is cut (see `volume`).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::calls::wait_until_delivered;
use crate::ledger::Ledger;
use crate::oracle::{Tally, Violations, judge};
use crate::producers::{DECLARATIONS, Load, Producers};
use crate::site::Site;
use crate::volume::Volume;

/// Deliveries happen all the time, so that they are cut as often as requests are.
const CONFIG: &str = "flush: {maxRows: 100, maxAge: 1s}\n";

const PRODUCERS: u64 = 3;

const LOAD: Load = Load { requests_max: 60, may_be_refused: true };

/// Longest life between two cuts. Unit: milliseconds.
const LIFE_MS_MAX: u64 = 250;

/// A run of power cuts.
#[derive(Clone, Copy, Debug)]
pub struct PowerCuts {
    /// How many.
    pub cuts: u32,
    /// The seed of all that is chosen.
    pub seed: u64,
}

impl PowerCuts {
    /// Cuts, lets the sidecar come back, drains at last, and asks the oracle.
    ///
    /// # Errors
    /// When a promise was broken.
    ///
    /// # Panics
    /// When the sidecar does not come back or does not drain.
    pub fn run(self) -> Result<Tally, Violations> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut volume = Volume::make();
        let mut site = Site::local().with_config(&format!("{CONFIG}{DECLARATIONS}"));
        site.options.journal = volume.path().join("journal");
        let ledger_file = site.folder().join("ledger");
        let producers = Producers::new(0, PRODUCERS, &ledger_file);
        for _ in 0..self.cuts {
            let sidecar = site.start();
            let life = Duration::from_millis(random.random_range(0..=LIFE_MS_MAX));
            producers.live(&sidecar, LOAD, &mut random, life, || {
                producers.ledger().set_dark(true);
                volume.cut();
                // It may have seen that its disk fails, and ended.
                let _ = sidecar.kill();
            });
            drop(sidecar);
            volume.come_back();
            producers.ledger().set_dark(false);
        }
        let sidecar = site.start();
        producers.settle(&sidecar);
        wait_until_delivered(&sidecar);
        let status = sidecar.stop().expect("it ends in time");
        assert_eq!(status.code(), Some(0), "{}", site.log());
        drop(producers);
        judge(&Ledger::at(&ledger_file), site.lake()).inspect_err(|_| site.keep())
    }
}
