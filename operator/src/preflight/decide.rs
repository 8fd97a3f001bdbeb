//! What is to be done about a trial.
//!
//! Owns: when one is made, when it is made again, and what of it is noted. Pure. Does not own: doing it (`trials`).

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lakeingest_crds::lakeingest::Preflight;

use super::attempt::{Attempt, Outcome};
use crate::limits::{PREFLIGHT_RETRY_MAX, PREFLIGHT_RETRY_MIN};

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing: it was tried, or is being tried.
    Rest,
    /// Something has come of it.
    Note(Preflight),
    /// Its Job is made, or looked at if it is there.
    Make,
}

/// What is known of a trial.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    /// What is tried.
    pub(super) tried: &'a str,
    /// What came of it last; none if it was never tried.
    pub(super) last: Option<&'a Preflight>,
    /// What its pod shows.
    pub(super) attempt: Option<Attempt>,
    /// Whether sidecars tell how the lake is.
    pub(super) sidecars_tell: bool,
    /// Now.
    pub(super) now: Time,
}

impl Facts<'_> {
    /// What is to be done.
    pub(super) fn step(&self) -> Step {
        match &self.attempt {
            Some(Attempt::Ended(at, outcome)) if self.last.is_none_or(|last| last.time != *at) => {
                return Step::Note(self.noted(at, outcome));
            }
            Some(Attempt::Stuck(outcome)) => {
                let is_known = self.last.is_some_and(|last| last.reason.as_deref() == outcome.reason);
                return if is_known { Step::Rest } else { Step::Note(self.noted(&self.now, outcome)) };
            }
            Some(Attempt::UnderWay) => return Step::Rest,
            Some(Attempt::Ended(..)) | None => {}
        }
        match self.last {
            None => Step::Make,
            Some(last) if last.reason.is_none() || self.sidecars_tell => Step::Rest,
            Some(last) if between(&last.time, &self.now) >= pause(last) => Step::Make,
            Some(_) => Step::Rest,
        }
    }

    /// An outcome of this time as it is kept.
    pub(super) fn noted(&self, at: &Time, outcome: &Outcome) -> Preflight {
        let Outcome { reason, message } = outcome;
        let before = self.last.and_then(|last| last.failing_since.clone());
        Preflight {
            tried: self.tried.to_owned(),
            time: at.clone(),
            failing_since: reason.map(|_| before.unwrap_or_else(|| at.clone())),
            reason: reason.map(str::to_owned),
            message: message.clone(),
        }
    }
}

/// How long after its end a trial that has failed is made again: as long as the same has failed already, within bounds.
fn pause(last: &Preflight) -> Duration {
    let since = last.failing_since.as_ref().unwrap_or(&last.time);
    between(since, &last.time).clamp(PREFLIGHT_RETRY_MIN, PREFLIGHT_RETRY_MAX)
}

/// The time from one to the other; none if the other was before.
fn between(from: &Time, to: &Time) -> Duration {
    Duration::try_from(to.0.duration_since(from.0)).unwrap_or_default()
}
