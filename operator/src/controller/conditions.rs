//! From what the steps, the sidecars and a preflight say to conditions.
//!
//! Owns: the one table of conditions, their reasons and their words. Pure. Does not own: writing them (`status`).
//!
//! What a person reads here says what to do, or repeats the sidecar that does. `Unknown` is said where nobody knows.

use chrono::{DateTime, Utc};
use lakeingest_crds::health_reasons as said;
use lakeingest_crds::lakeingest::{Preflight, conditions, reasons};

use super::status::Outcome;
use crate::index::MissingPod;
use crate::limits::{BEHIND_SLACK, MISSING_NAMED_MAX};
use crate::preflight::{Standing, reason_of};
use crate::sidecars::{Said, Summary};

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    /// As Kubernetes writes it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Yes => "True",
            Self::No => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: &'static str,
    pub(super) answer: Answer,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn new(kind: &'static str, answer: Answer, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, answer, reason, message: message.into() }
    }

    /// Whether it is a person's business: something is not well.
    pub(super) fn is_bad(&self) -> bool {
        self.is_bad_as(self.answer.text())
    }

    /// Whether its condition is not well when it has this status.
    pub(super) fn is_bad_as(&self, status: &str) -> bool {
        status == if BAD_WHEN_TRUE.contains(&self.kind) { "True" } else { "False" }
    }
}

/// Conditions that are not well when they are true.
const BAD_WHEN_TRUE: [&str; 4] =
    [conditions::BACKLOGGED, conditions::SCHEMA_CONFLICT, conditions::QUARANTINED, conditions::DATA_AT_RISK];

/// What the sidecars of a LakeIngest are held against.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Its Secret, if it names one.
    pub(super) secret: Option<String>,
    /// Its namespace.
    pub(super) namespace: String,
    /// How old a row may become before it is flushed.
    pub(super) max_age: std::time::Duration,
    /// Where its quarantines are.
    pub(super) quarantine: String,
    /// Now.
    pub(super) now: DateTime<Utc>,
}

/// Who tells how a lake is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Teller<'a> {
    /// The sidecars, some of which have answered.
    Sidecars(&'a Summary),
    /// A preflight, of a lake of which no sidecar tells.
    Preflight(&'a Preflight),
}

impl<'a> Teller<'a> {
    /// The sidecars where there are any that answer: they know more, and later.
    pub(super) fn of(summary: Option<&'a Summary>, standing: Option<&'a Standing>) -> Option<Self> {
        match (summary?, standing) {
            (summary, _) if summary.answered > 0 => Some(Self::Sidecars(summary)),
            (_, Some(Standing::Tried(tried))) => Some(Self::Preflight(tried)),
            (_, Some(Standing::Untried(_) | Standing::Pending) | None) => None,
        }
    }

    /// The first of these names that is said, with the words of who says it.
    fn first_of(self, names: &[&'static str]) -> Option<(&'static str, String)> {
        match self {
            Self::Sidecars(summary) => summary.first_of(names).map(|(name, words)| (name, by_whom(words, summary))),
            Self::Preflight(tried) => {
                let reason = reason_of(tried.reason.as_deref()?);
                names.contains(&reason).then(|| (reason, by_preflight(&tried.message, tried)))
            }
        }
    }

    /// Why a preflight could not try the lake at all.
    fn kept_away(self) -> Option<(&'static str, String)> {
        let Self::Preflight(tried) = self else { return None };
        let reason = reason_of(tried.reason.as_deref()?);
        let mut verdicts = AWAY.iter().chain(&KEYLESS).chain(&[said::PREFIX_IN_USE]);
        (!verdicts.any(|verdict| *verdict == reason)).then(|| (reason, by_preflight(&tried.message, tried)))
    }

    /// What is said where nothing is wrong.
    fn well(self, by_sidecars: &str, of_preflight: &str) -> String {
        match self {
            Self::Sidecars(_) => by_sidecars.to_owned(),
            Self::Preflight(tried) if tried.reason.is_some() || tried.message.is_empty() => {
                by_preflight(of_preflight, tried)
            }
            Self::Preflight(tried) => by_preflight(&format!("{of_preflight}; {}", tried.message), tried),
        }
    }
}

/// Reasons for which the lake is not there, or not as it should be.
const AWAY: [&str; 5] = [
    said::BUCKET_MISSING,
    said::WRONG_REGION,
    said::STORAGE_UNREACHABLE,
    said::STORAGE_UNEXPECTED,
    said::OBJECT_UNVERIFIED,
];

/// Reasons of the keys.
const KEYLESS: [&str; 2] = [said::CREDENTIALS_MISSING, said::CREDENTIALS_INVALID];

/// `Ready`: what the steps say, that nobody else has the prefix, and that the sidecars can use what they are told.
pub(super) fn ready(outcome: &Outcome, teller: Option<Teller<'_>>) -> Verdict {
    let (is_ready, reason, message) = outcome.words();
    match teller.and_then(|teller| teller.first_of(&[said::PREFIX_IN_USE, said::CONFIGURATION_INVALID])) {
        Some((name, words)) if is_ready => Verdict::new(conditions::READY, Answer::No, name, words),
        _ if is_ready => Verdict::new(conditions::READY, Answer::Yes, reason, message),
        _ => Verdict::new(conditions::READY, Answer::No, reason, message),
    }
}

/// `InjectionHealthy`: these pods asked and have no sidecar.
pub(super) fn injection(missing: &[MissingPod]) -> Verdict {
    if missing.is_empty() {
        let words = "no pod that asks is without its sidecar";
        return Verdict::new(conditions::INJECTION_HEALTHY, Answer::Yes, reasons::ALL_INJECTED, words);
    }
    let named = missing.iter().take(MISSING_NAMED_MAX).map(|pod| pod.name.as_str()).collect::<Vec<_>>().join(", ");
    let more = missing.len().saturating_sub(MISSING_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let words = format!(
        "pods that ask run without their sidecar: {named}{more}; kubectl lakeingest why <pod> says why; a pod is injected when it is \
         created, so make it anew"
    );
    Verdict::new(conditions::INJECTION_HEALTHY, Answer::No, reasons::SIDECAR_MISSING, words)
}

/// Whether the keys are taken and the lake is there. While neither a sidecar nor a preflight tells, nobody knows; none while it
/// is still to be found out who tells.
pub(super) fn of_lake(summary: &Summary, standing: Option<&Standing>, expected: &Expected) -> Vec<Verdict> {
    if let Some(teller) = Teller::of(Some(summary), standing) {
        return vec![credentials(teller, expected), storage(teller)];
    }
    let (reason, words) = match (summary.unreachable, standing) {
        (1.., _) => unheard(summary),
        (0, Some(Standing::Untried(why))) => (reasons::NOT_TRIED, why.clone()),
        (0, Some(Standing::Pending)) => {
            (reasons::NOT_TRIED, "nobody has tried the lake yet; a preflight is under way".to_owned())
        }
        (0, Some(Standing::Tried(_)) | None) => return Vec::new(),
    };
    OF_LAKE.iter().map(|kind| Verdict::new(kind, Answer::Unknown, reason, words.clone())).collect()
}

/// The conditions of [`of_lake`].
pub(super) const OF_LAKE: [&str; 2] = [conditions::CREDENTIALS_VALID, conditions::STORAGE_REACHABLE];

/// What the sidecars alone can tell.
pub(super) fn of_sidecars(summary: &Summary, expected: &Expected) -> Vec<Verdict> {
    if summary.answered == 0 {
        let (reason, words) = unheard(summary);
        let unknown = |kind: &&'static str| Verdict::new(kind, Answer::Unknown, reason, words.clone());
        return OF_SIDECARS.iter().map(unknown).collect();
    }
    vec![backlog(summary, expected), schema(summary), quarantine(summary, expected), risk(summary)]
}

/// The conditions of [`of_sidecars`].
pub(super) const OF_SIDECARS: [&str; 4] =
    [conditions::BACKLOGGED, conditions::SCHEMA_CONFLICT, conditions::QUARANTINED, conditions::DATA_AT_RISK];

/// Why no sidecar tells.
fn unheard(summary: &Summary) -> (&'static str, String) {
    match summary.unreachable {
        0 => (reasons::NO_SIDECARS, "there is no sidecar that could tell".to_owned()),
        silent => (
            reasons::NOT_ANSWERED,
            format!(
                "{silent} sidecars run and none answers; does a NetworkPolicy keep the operator from their health port?"
            ),
        ),
    }
}

fn credentials(teller: Teller<'_>, expected: &Expected) -> Verdict {
    let kind = conditions::CREDENTIALS_VALID;
    if let Some((_, words)) = teller.first_of(&[said::CREDENTIALS_MISSING]) {
        return match &expected.secret {
            Some(secret) => {
                let what =
                    format!("Secret {secret} of namespace {} is missing, or has not all keys", expected.namespace);
                Verdict::new(kind, Answer::No, reasons::SECRET_MISSING, format!("{what}: {words}"))
            }
            None => Verdict::new(kind, Answer::No, said::CREDENTIALS_MISSING, words),
        };
    }
    if let Some((name, words)) = teller.first_of(&[said::CREDENTIALS_INVALID]) {
        return Verdict::new(kind, Answer::No, name, words);
    }
    if let Some((name, words)) = teller.first_of(&[said::STORAGE_UNREACHABLE]).or_else(|| teller.kept_away()) {
        return Verdict::new(kind, Answer::Unknown, name, words);
    }
    let words = teller.well("no sidecar says that its keys are refused", "nobody has refused the keys");
    Verdict::new(kind, Answer::Yes, reasons::ACCEPTED, words)
}

fn storage(teller: Teller<'_>) -> Verdict {
    let kind = conditions::STORAGE_REACHABLE;
    if let Some((name, words)) = teller.first_of(&AWAY) {
        return Verdict::new(kind, Answer::No, name, words);
    }
    // Who has no keys has not been there.
    if let Some((name, words)) = teller.first_of(&KEYLESS).or_else(|| teller.kept_away()) {
        return Verdict::new(kind, Answer::Unknown, name, words);
    }
    if let Some((name, words)) = teller.first_of(&[said::CONDITIONAL_PUT_UNSUPPORTED]) {
        return Verdict::new(kind, Answer::Yes, name, words);
    }
    let words = teller.well("no sidecar says that the lake is away", "the lake was reached");
    Verdict::new(kind, Answer::Yes, reasons::REACHABLE, words)
}

fn backlog(summary: &Summary, expected: &Expected) -> Verdict {
    let kind = conditions::BACKLOGGED;
    if let Some((name, words)) = summary.first_of(&[said::JOURNAL_FULL, said::JOURNAL_STALLED]) {
        return Verdict::new(kind, Answer::Yes, name, by_whom(words, summary));
    }
    let due = expected.max_age.saturating_add(expected.max_age.max(BEHIND_SLACK));
    let age = summary.oldest.and_then(|oldest| (expected.now - oldest).to_std().ok());
    if age.is_some_and(|age| age > due) {
        let words = "rows wait for longer than flush.maxAge lets them; status.oldestUnflushedTime says since when, the other \
                     conditions perhaps why; what is acknowledged is in the journals, which are full at 80 % of buffer.sizeLimit";
        return Verdict::new(kind, Answer::Yes, reasons::BEHIND, words);
    }
    Verdict::new(kind, Answer::No, reasons::KEEPING_UP, "no row waits for longer than it may")
}

fn schema(summary: &Summary) -> Verdict {
    let kind = conditions::SCHEMA_CONFLICT;
    match summary.first_of(&[said::SCHEMA_CONFLICT, said::SCHEMA_REGISTRY]) {
        Some((name, words)) => Verdict::new(kind, Answer::Yes, name, by_whom(words, summary)),
        None => Verdict::new(kind, Answer::No, reasons::NO_CONFLICT, "every table has the types that are declared"),
    }
}

fn quarantine(summary: &Summary, expected: &Expected) -> Verdict {
    let kind = conditions::QUARANTINED;
    let Some(Said { pods, pod, .. }) = &summary.quarantined else {
        let words = "the sidecars that run have put no record into quarantine";
        return Verdict::new(kind, Answer::No, reasons::NONE_IN_QUARANTINE, words);
    };
    let words = format!(
        "records did not fit their tables and are, with the reasons, in {}, counted in the quarantined_rows of the sidecars' /tables \
         (pod {pod}, {pods} of {} sidecars, since they started)",
        expected.quarantine, summary.answered
    );
    Verdict::new(kind, Answer::Yes, reasons::RECORDS_IN_QUARANTINE, words)
}

fn risk(summary: &Summary) -> Verdict {
    let kind = conditions::DATA_AT_RISK;
    match summary.first_of(&[said::JOURNAL_DAMAGED, said::KEY_CONFLICT, said::ENCODE_FAILED, said::SCRATCH_FAILED]) {
        Some((name, words)) => Verdict::new(kind, Answer::Yes, name, by_whom(words, summary)),
        None => {
            let words = "no sidecar has rows that it cannot deliver for a reason of their own";
            Verdict::new(kind, Answer::No, reasons::NOTHING_AT_RISK, words)
        }
    }
}

/// What a sidecar says, and how many say the like.
fn by_whom(words: &Said, summary: &Summary) -> String {
    format!("{} (pod {}, {} of {} sidecars)", words.message, words.pod, words.pods, summary.answered)
}

/// Words, and which preflight has told them.
fn by_preflight(words: &str, tried: &Preflight) -> String {
    format!("{words} (preflight, {})", tried.time.0)
}

#[cfg(test)]
mod tests;
