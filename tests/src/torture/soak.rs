//! A soak: faults at random, by seed, for as long as is asked for.
//!
//! Owns: which faults there are and how they are mixed. A run is cut into chapters, each with a lake of its own that is
//! read whole at its end, so that a run of any length needs no more than a chapter does.
//! Does not own: a fault as such (see `volume`, `producers`).

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use xtask::servers::Sidecar;

use crate::calls::wait_until_delivered;
use crate::ledger::Ledger;
use crate::oracle::judge;
use crate::producers::{DECLARATIONS, Load, Producers};
use crate::site::Site;
use crate::torture::Judgement;
use crate::volume::{self, Volume};

/// Deliveries happen all the time; an end that cannot deliver does not take long.
const CONFIG: &str = "flush: {maxRows: 200, maxAge: 1s}\ndrain: {gracePeriodSeconds: 1}\n";

const PRODUCERS: u64 = 3;

const LOAD: Load = Load { requests_max: 100, may_be_refused: true };

/// Longest life between two faults. Unit: milliseconds.
const LIFE_MS_MAX: u64 = 400;

/// Exit code of a sidecar that leaves rows in its journal.
const EXIT_UNFLUSHED: i32 = 75;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM, and time to end.
    Terminate,
    /// The journal's file system loses its power.
    PowerCut,
}

/// One chapter of a soak.
#[derive(Clone, Copy, Debug)]
pub struct Chapter {
    /// How many lives it has.
    pub lives: u32,
    /// The seed of all that is chosen.
    pub seed: u64,
}

impl Chapter {
    /// Lives, dies, drains and judges. The power is cut only where that can be done: see [`volume::can_be_made`].
    ///
    /// # Panics
    /// When the sidecar does not come back, ends in a way that it must not, or does not drain.
    pub fn run(self) -> Judgement {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut volume = volume::can_be_made().then(Volume::make);
        let mut site = Site::local().with_config(&format!("{CONFIG}{DECLARATIONS}"));
        if let Some(volume) = &volume {
            site.options.journal = volume.path().join("journal");
        }
        let ledger_file = site.folder().join("ledger");
        let producers = Producers::new(0, PRODUCERS, &ledger_file);
        for _ in 0..self.lives {
            live(&site, volume.as_mut(), &producers, &mut random);
        }
        let sidecar = site.start();
        producers.settle(&sidecar);
        wait_until_delivered(&sidecar);
        assert_eq!(sidecar.stop().expect("it ends in time").code(), Some(0), "{}", site.log());
        drop(producers);
        judge(&Ledger::at(&ledger_file), site.lake()).inspect_err(|_| site.keep())
    }
}

/// One life, with or without a lake.
fn live(site: &Site, volume: Option<&mut Volume>, producers: &Producers, random: &mut StdRng) {
    let is_away = random.random_range(0..4) == 0;
    let ends: &[End] = match volume {
        Some(_) => &[End::Kill, End::Terminate, End::PowerCut],
        None => &[End::Kill, End::Terminate],
    };
    let end = *ends.choose(random).expect("there are some");
    let sidecar = site.start();
    if is_away {
        site.take_lake_away();
    }
    let life = Duration::from_millis(random.random_range(0..=LIFE_MS_MAX));
    match (end, volume) {
        (End::PowerCut, Some(volume)) => {
            producers.live(&sidecar, LOAD, random, life, || {
                producers.ledger().set_dark(true);
                volume.cut();
                // It may have seen that its disk fails, and ended.
                let _ = sidecar.kill();
            });
            drop(sidecar);
            volume.come_back();
            producers.ledger().set_dark(false);
        }
        (End::Terminate, _) => producers.live(&sidecar, LOAD, random, life, || ends_well(&sidecar, site)),
        (End::Kill | End::PowerCut, _) => producers.live(&sidecar, LOAD, random, life, || {
            let status = sidecar.kill().expect("it can be killed");
            assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it ended by itself: {}", site.log());
        }),
    }
    if is_away {
        site.bring_lake_back();
    }
}

fn ends_well(sidecar: &Sidecar, site: &Site) {
    let status = sidecar.stop().expect("it ends in time");
    assert!(matches!(status.code(), Some(0 | EXIT_UNFLUSHED)), "{status}: {}", site.log());
}
