//! Step five: what is said of a LakeIngest.
//!
//! Owns: putting conditions and counts together, writing them only when they say something new, Events of what has changed.
//! Does not own: the outcome, the words of conditions (`conditions`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use lakeingest_crds::lakeingest::{
    CONDITION_MESSAGE_CHARACTERS_MAX, LakeIngest, LakeIngestStatus, PodCounts, conditions, reasons,
};
use serde_json::json;

use super::Context;
use super::apply::ApplyError;
use super::conditions::{Expected, Teller, Verdict, injection, of_lake, of_sidecars, ready};
use super::dereference::Location;
use super::owners;
use crate::events::Happening;
use crate::index::{Found, MissingPod, SidecarPod};
use crate::limits::STATUS_PERIOD;
use crate::names::MANAGER;
use crate::preflight::{Standing, reason_of};
use crate::sidecars::{Health, Summary};

/// What came of looking at a LakeIngest.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Pods can be injected from it.
    Configured {
        /// Whether anything had to be written.
        was_applied: bool,
        /// Where its lake is.
        location: Location,
    },
    /// Its specification cannot be used.
    Invalid {
        /// Every violation.
        message: String,
    },
    /// Its location is an older LakeIngest's.
    PrefixInUse {
        /// Whose.
        message: String,
    },
    /// What its sidecars need could not be written.
    ApplyFailed {
        /// Why.
        error: ApplyError,
    },
}

impl Outcome {
    /// The name for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "configured",
            Self::Invalid { .. } => "invalid",
            Self::PrefixInUse { .. } => "prefix-in-use",
            Self::ApplyFailed { .. } => "apply-failed",
        }
    }

    /// Whether the LakeIngest can be used, why, and the same for a person.
    pub(super) fn words(&self) -> (bool, &'static str, String) {
        match self {
            Self::Configured { location, .. } => {
                (true, reasons::CONFIGURED, format!("pods can be injected; the lake is {location}"))
            }
            Self::Invalid { message } => (false, reasons::INVALID_SPEC, message.clone()),
            Self::PrefixInUse { message } => (false, reasons::PREFIX_IN_USE, message.clone()),
            Self::ApplyFailed { error } => (false, reasons::APPLY_FAILED, crate::error_chain(error)),
        }
    }
}

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The API server refused it.
    #[error("failed to write the status of LakeIngest {name}")]
    Patch {
        /// The LakeIngest.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// When the status of each LakeIngest was written last, by the monotonic clock.
#[derive(Debug, Default)]
pub struct Written {
    at: Mutex<HashMap<(String, String), Duration>>,
}

impl Written {
    /// How long what can wait has to wait before it is written; none if it may be now.
    fn pause(&self, key: &(String, String), now: Duration) -> Option<Duration> {
        let at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = at.get(key)?.saturating_add(STATUS_PERIOD);
        due.checked_sub(now).filter(|pause| !pause.is_zero())
    }

    /// Notes a write. At most `places` are remembered: who has gone makes room.
    fn note(&self, key: (String, String), now: Duration, places: usize) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if at.len() > places {
            at.clear();
        }
        at.insert(key, now);
    }
}

/// What was seen of a LakeIngest's pods.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Those that have its sidecar.
    pods: Vec<SidecarPod>,
    /// Those that asked and have none.
    missing: Vec<MissingPod>,
    /// What the sidecars say; none while they are still to be asked.
    summary: Option<Summary>,
    /// What each of them says that is not well.
    told: Vec<(SidecarPod, Health)>,
    /// What is known of the lake by trying it; none while that is still to be looked at.
    standing: Option<Standing>,
}

impl Seen {
    fn of(context: &Context, found: &Found) -> Self {
        let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
        let pods = context.index.pods(&namespace, &name);
        let image = found.0.as_ref().ok().map(|ingest| {
            let own = ingest.spec.sidecar.image.as_ref();
            own.unwrap_or(&context.names.images.default_image).clone()
        });
        let summary = context.sidecars.summary(&pods, found.meta().generation, image.as_deref());
        let told = context.sidecars.unwell(&pods);
        let standing = context.preflights.of(&ObjectRef::new(&name).within(&namespace));
        Self { pods, missing: context.index.missing(&namespace, &name), summary, told, standing }
    }
}

/// Writes the status if it says something new, and Events of conditions that have changed. Gives how soon the rest is to be
/// written, if something has to wait.
pub(super) async fn update(
    context: &Context,
    found: &Found,
    outcome: &Outcome,
) -> Result<Option<Duration>, StatusError> {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    let old = found.0.as_ref().ok().and_then(|ingest| ingest.status.clone());
    let seen = Seen::of(context, found);
    owners::tell(context, &name, &namespace, owners::complaints(&name, &seen.missing, &seen.told)).await;
    let (verdicts, new) = status(found, old.as_ref(), outcome, &seen, context.clock.now());
    if old.as_ref() == Some(&new) {
        return Ok(None);
    }
    let key = (namespace.clone(), name.clone());
    let pause = context.written.pause(&key, context.clock.monotonic());
    if pause.is_some() && old.as_ref().is_some_and(|old| can_wait(old, &new)) {
        return Ok(pause);
    }
    let lake_ingests: Api<LakeIngest> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({"apiVersion": LakeIngest::api_version(&()), "kind": LakeIngest::kind(&()), "status": without_claim(new.clone())});
    let parameters = PatchParams::apply(MANAGER).force();
    let written = lake_ingests.patch_status(&name, &parameters, &Patch::Apply(&body)).await;
    match written {
        Ok(_) => {}
        // It was deleted meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(None),
        Err(source) => return Err(StatusError::Patch { name, source: Box::new(source) }),
    }
    context.written.note(key, context.clock.monotonic(), context.index.count().saturating_mul(2));
    let (news, of_preflight) = news_of(old.as_ref(), &new, verdicts);
    for verdict in news {
        publish(context, found, verdict).await;
    }
    if let Some(happening) = of_preflight {
        context.events.publish(&context.client, &found.object_ref(&()), happening).await;
    }
    Ok(None)
}

/// What is applied: the claim is not of this manager's fields, and stays as it is.
fn without_claim(status: LakeIngestStatus) -> LakeIngestStatus {
    LakeIngestStatus { location: None, ..status }
}

/// Whether nothing has changed but words and the time of the oldest row, which change with each look.
fn can_wait(old: &LakeIngestStatus, new: &LakeIngestStatus) -> bool {
    let without_them = |status: &LakeIngestStatus| {
        let conditions = status.conditions.iter().cloned();
        let conditions = conditions.map(|condition| Condition { message: String::new(), ..condition }).collect();
        LakeIngestStatus { oldest_unflushed_time: None, conditions, ..status.clone() }
    };
    without_them(old) == without_them(new)
}

/// The status that follows from what was seen, and the verdicts in it.
fn status(
    found: &Found,
    old: Option<&LakeIngestStatus>,
    outcome: &Outcome,
    seen: &Seen,
    now: DateTime<Utc>,
) -> (Vec<Verdict>, LakeIngestStatus) {
    let Seen { pods, missing, summary, told: _, standing } = seen;
    let mut verdicts = vec![injection(missing)];
    let teller = Teller::of(summary.as_ref(), standing.as_ref());
    // Until the sidecars were asked and the lake was looked at, what was said to another replica stands.
    let is_asked = matches!(teller, Some(Teller::Sidecars(_))) || (summary.is_some() && standing.is_some());
    let known_to_be_foreign = !is_asked && is_foreign(old);
    if !(known_to_be_foreign && matches!(outcome, Outcome::Configured { .. })) {
        verdicts.insert(0, ready(outcome, teller));
    }
    if let (Some(summary), Ok(ingest)) = (summary, &found.0) {
        let expected = expected(ingest, now);
        // While another lake is being tried, what was said of the one of before stands, with its generation.
        let is_said = |verdict: &Verdict| old.is_some_and(|old| of_kind(old, verdict.kind).is_some());
        let waits = teller.is_none() && matches!(standing, Some(Standing::Pending));
        let of_lake = of_lake(summary, standing.as_ref(), &expected).into_iter();
        verdicts.extend(of_lake.filter(|verdict| !(waits && is_said(verdict))));
        verdicts.extend(of_sidecars(summary, &expected));
    }
    let generation = found.meta().generation;
    let of_verdicts = verdicts.iter().map(|verdict| condition(verdict, old, generation, now));
    let mut all: Vec<Condition> = of_verdicts.collect();
    let others = old.iter().flat_map(|old| &old.conditions);
    let others = others.filter(|other| conditions::ALL.contains(&other.type_.as_str()));
    let others: Vec<_> = others.filter(|other| !all.iter().any(|one| one.type_ == other.type_)).cloned().collect();
    all.extend(others);
    all.sort_by_key(|condition| conditions::ALL.iter().position(|kind| *kind == condition.type_));
    let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
    let before = old.map(|old| old.pods).unwrap_or_default();
    let told = |of: fn(&Summary) -> u32, before: u32| summary.as_ref().map_or(before, of);
    let pods = PodCounts {
        injected: count(pods.len()),
        ready: count(pods.iter().filter(|pod| pod.is_ready).count()),
        outdated: told(|summary| summary.outdated, before.outdated),
        missing: count(missing.len()),
        unreachable: told(|summary| summary.unreachable, before.unreachable),
        on_current_generation: told(|summary| summary.on_current_generation, before.on_current_generation),
    };
    let oldest_unflushed_time = match summary {
        Some(summary) => summary.oldest.map(time),
        None => old.and_then(|old| old.oldest_unflushed_time.clone()),
    };
    // With the conditions that go by it.
    let preflight = match (summary, standing) {
        (Some(_), Some(Standing::Tried(tried))) => Some(tried.clone()),
        (Some(_), Some(Standing::Untried(_) | Standing::Pending)) => None,
        (None, _) | (_, None) => old.and_then(|old| old.preflight.clone()),
    };
    let location = old.and_then(|old| old.location.clone());
    let new = LakeIngestStatus {
        observed_generation: generation,
        location,
        pods,
        oldest_unflushed_time,
        preflight,
        conditions: all,
    };
    (verdicts, new)
}

fn expected(ingest: &LakeIngest, now: DateTime<Utc>) -> Expected {
    let credentials = ingest.spec.storage.credentials.as_ref();
    Expected {
        secret: credentials.and_then(|credentials| Some(credentials.secret_ref.as_ref()?.name.clone())),
        namespace: ingest.namespace().unwrap_or_default(),
        max_age: ingest.spec.flush.max_age.duration(),
        quarantine: format!("{}/_quarantine/", Location::of(ingest)),
        now,
    }
}

/// A verdict with its times: that of the last change of its status stays.
fn condition(
    verdict: &Verdict,
    old: Option<&LakeIngestStatus>,
    generation: Option<i64>,
    now: DateTime<Utc>,
) -> Condition {
    let status = verdict.answer.text();
    let since = match old.and_then(|old| of_kind(old, verdict.kind)) {
        Some(before) if before.status == status => before.last_transition_time.clone(),
        _ => time(now),
    };
    Condition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: cut(&verdict.message),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// A message that the API server takes, whoever's words are in it.
fn cut(message: &str) -> String {
    if message.chars().nth(CONDITION_MESSAGE_CHARACTERS_MAX).is_none() {
        return message.to_owned();
    }
    message.chars().take(CONDITION_MESSAGE_CHARACTERS_MAX - 1).chain(['…']).collect()
}

/// A point in time as Kubernetes writes it, in whole seconds.
fn time(now: DateTime<Utc>) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(now.timestamp()).unwrap_or_default())
}

fn of_kind<'a>(status: &'a LakeIngestStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether its sidecars have said that another has its prefix.
fn is_foreign(status: Option<&LakeIngestStatus>) -> bool {
    let ready = status.and_then(|status| of_kind(status, conditions::READY));
    ready.is_some_and(|ready| ready.reason == reasons::PREFIX_IN_USE)
}

/// Whether a verdict is worth an Event: another reason than before, of `Ready` whatever it is, of the others when something is
/// not well, or is well again.
fn is_news(old: Option<&LakeIngestStatus>, verdict: &Verdict) -> bool {
    let before = old.and_then(|old| of_kind(old, verdict.kind));
    let is_new = before.is_none_or(|before| before.reason != verdict.reason || before.status != verdict.answer.text());
    let was_bad = before.is_some_and(|before| verdict.is_bad_as(&before.status));
    is_new && (verdict.kind == conditions::READY || verdict.is_bad() || was_bad)
}

/// What of all this is worth an Event, each thing once.
fn news_of(
    old: Option<&LakeIngestStatus>,
    new: &LakeIngestStatus,
    verdicts: Vec<Verdict>,
) -> (Vec<Verdict>, Option<Happening>) {
    let mut news: Vec<Verdict> = verdicts.into_iter().filter(|verdict| is_news(old, verdict)).collect();
    let of_preflight = preflight_news(old, new, &news);
    if let Some(happening) = &of_preflight {
        // A condition of which nobody knows any more for the same reason.
        news.retain(|verdict| verdict.reason != happening.reason);
    }
    (news, of_preflight)
}

/// An Event of a preflight that says something of which no condition has become worse: it could not be made, or sidecars tell
/// of the lake and it is another one that was tried.
fn preflight_news(old: Option<&LakeIngestStatus>, new: &LakeIngestStatus, news: &[Verdict]) -> Option<Happening> {
    let tried = new.preflight.as_ref()?;
    let reason = reason_of(tried.reason.as_deref()?);
    let before = old.and_then(|old| old.preflight.as_ref());
    let is_known = before.is_some_and(|before| before.tried == tried.tried && before.reason == tried.reason);
    let is_told = is_known || news.iter().any(|verdict| verdict.is_bad() && verdict.message.contains(&tried.message));
    let note = format!("{} (preflight)", tried.message);
    let key = format!("preflight {}", tried.tried);
    (!is_told).then_some(Happening { is_warning: true, reason, note, key })
}

async fn publish(context: &Context, found: &Found, verdict: Verdict) {
    // Who decides twice of the same version says the same.
    let key = format!("{} {}", verdict.kind, found.resource_version().unwrap_or_default());
    let is_warning = verdict.is_bad();
    let happening = Happening { is_warning, reason: verdict.reason, note: verdict.message, key };
    context.events.publish(&context.client, &found.object_ref(&()), happening).await;
}

#[cfg(test)]
mod tests;
