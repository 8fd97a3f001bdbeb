//! What the sidecars of one LakeIngest say together.
//!
//! Owns: counting them, and who says what is wrong. Pure. Does not own: what is made of it (`controller/conditions.rs`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use lakeingest_crds::health_reasons;

use super::Pulse;
use crate::index::SidecarPod;

/// What the sidecars of one LakeIngest say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sidecars that have answered.
    pub answered: u32,
    /// Those that have started and do not answer.
    pub unreachable: u32,
    /// Pods whose sidecar has another image than it would get today, or takes in a change at its start alone.
    pub outdated: u32,
    /// Those that go by the generation that is asked about.
    pub on_current_generation: u32,
    /// When the oldest row was received that is not in the lake.
    pub oldest: Option<DateTime<Utc>>,
    /// Who says what is wrong, by its name.
    reasons: BTreeMap<&'static str, Said>,
    /// Who has put records into quarantine.
    pub quarantined: Option<Said>,
}

/// Something that sidecars say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// How many say it.
    pub pods: u32,
    /// The first of them, by name.
    pub pod: String,
    /// What that one says.
    pub message: String,
}

impl Summary {
    /// What these pods say, each by its uid, of a LakeIngest of this generation whose sidecars should have this image.
    pub(super) fn of<'a>(
        pods: &[SidecarPod],
        pulse_of: impl Fn(&str) -> Option<&'a Pulse>,
        generation: Option<i64>,
        image: Option<&str>,
    ) -> Self {
        let mut summary = Self::default();
        for pod in pods {
            let pulse = pulse_of(&pod.uid).filter(|_| pod.is_ready);
            let has_other_image = image.is_some_and(|image| pod.image != image);
            let health = pulse.and_then(|pulse| pulse.health.as_ref());
            let needs_restart = health.is_some_and(|health| health.has(health_reasons::RESTART_NEEDED));
            summary.outdated += u32::from(has_other_image || needs_restart);
            let Some(pulse) = pulse else { continue };
            summary.unreachable += u32::from(pulse.is_unreachable());
            let Some(health) = health else { continue };
            summary.answered += 1;
            summary.on_current_generation += u32::from(generation.is_some() && health.generation == generation);
            summary.oldest = summary.oldest.into_iter().chain(pulse.oldest).min();
            for name in health_reasons::ALL {
                if let Some(reason) = health.reasons.iter().find(|reason| reason.name == name) {
                    summary.reasons.entry(name).or_insert_with(Said::nobody).add(&pod.name, &reason.message);
                }
            }
            if health.quarantined_rows > 0 {
                summary.quarantined.get_or_insert_with(Said::nobody).add(&pod.name, "");
            }
        }
        summary
    }

    /// The first of these names that somebody says.
    pub fn first_of(&self, names: &[&'static str]) -> Option<(&'static str, &Said)> {
        names.iter().find_map(|name| self.reasons.get_key_value(name).map(|(name, said)| (*name, said)))
    }
}

impl Said {
    fn nobody() -> Self {
        Self { pods: 0, pod: String::new(), message: String::new() }
    }

    fn add(&mut self, pod: &str, message: &str) {
        if self.pods == 0 || *pod < *self.pod {
            (self.pod, self.message) = (pod.to_owned(), message.to_owned());
        }
        self.pods += 1;
    }
}
