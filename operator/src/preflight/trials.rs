//! Trying lakes.
//!
//! Owns: the Jobs, a few at once, and the look at all LakeIngests from time to time while this replica leads.
//! Does not own: what a Job is (`job`), when there is one (`decide`).
//!
//! A Job has the same name whoever makes it: of two replicas that both believe to lead, one makes it and both look at it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use lakeingest_crds::lakeingest::{LakeIngest, Preflight};
use tracing::{info, warn};

use super::attempt::{Attempt, FAILED_CREATE, Outcome, attempt, reason_of, shown};
use super::decide::{Facts, Step};
use super::job::Trial;
use super::wanted::{Allowed, Wanted, wanted};
use super::{Preflights, Standing};
use crate::clock::SharedClock;
use crate::controller::ContextNames;
use crate::index::{Found, Index, tried_for};
use crate::leader::Leadership;
use crate::limits::{
    PREFLIGHT_EVENTS_MAX, PREFLIGHT_PAUSE, PREFLIGHT_PERIOD, PREFLIGHT_POD_WAIT, PREFLIGHT_REQUEST_TIMEOUT,
    PREFLIGHTS_AT_ONCE_MAX,
};
use crate::metrics::Metrics;
use crate::names::TRIED;
use crate::namespaces::Namespaces;
use crate::sidecars::Sidecars;

/// What tries lakes.
#[derive(Debug)]
pub struct Trials {
    /// Which LakeIngests and pods there are.
    pub index: Index,
    /// Which namespaces give their pods users.
    pub namespaces: Namespaces,
    /// Whether this replica tries.
    pub leadership: Leadership,
    /// Whose lake is told of by sidecars.
    pub sidecars: Sidecars,
    /// What has come of it.
    pub preflights: Preflights,
    /// What a LakeIngest is validated by.
    pub names: Arc<ContextNames>,
    /// Where lakes may be tried.
    pub allowed: Vec<String>,
    /// Time.
    pub clock: SharedClock,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

/// The API server did not do what a trial needs.
#[derive(Debug, thiserror::Error)]
enum TrialError {
    /// It did not answer in time.
    #[error("the API server took too long to answer about Job {job}")]
    Slow {
        /// The Job.
        job: String,
    },
    /// It refused.
    #[error("failed to {action} Job {job}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The Job.
        job: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Trials {
    /// Looks from time to time while this replica leads, for ever.
    pub async fn run(self, client: Client) {
        loop {
            self.leadership.begins().await;
            self.index.synced().await;
            self.namespaces.synced().await;
            // On the heap: a Job in its own form is large.
            self.leadership.during(Box::pin(self.looks(&client))).await;
            self.preflights.forget();
        }
    }

    async fn looks(&self, client: &Client) {
        let mut changes = self.index.changes();
        loop {
            let seen = changes.borrow_and_update().of_trials();
            self.look(client).await;
            tokio::time::sleep(PREFLIGHT_PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(PREFLIGHT_PERIOD) => {}
                _ = changes.wait_for(|progress| progress.of_trials() != seen) => {}
            }
        }
    }

    async fn look(&self, client: &Client) {
        let allowed = Allowed::of(&self.allowed);
        let pods = self.index.trials();
        let under_way = pods.iter().filter(|pod| attempt(pod) == Some(Attempt::UnderWay)).count();
        let (mut room, mut no_room) = (PREFLIGHTS_AT_ONCE_MAX.saturating_sub(under_way), 0);
        let ingests = self.index.find(|_| true);
        let all: HashSet<ObjectRef<Found>> = ingests.iter().map(reference).collect();
        self.preflights.keep(&all);
        for ingest in ingests {
            let of = reference(&ingest);
            let assigns_users = self.namespaces.assigns_users(of.namespace.as_deref().unwrap_or_default());
            let (trial, room) = match wanted(&self.index, &self.names, &allowed, &ingest, assigns_users) {
                Wanted::Nothing(why) => {
                    self.preflights.note(of, Standing::Untried(why));
                    continue;
                }
                Wanted::Soon(trial) => (trial, &mut no_room),
                Wanted::Trial(trial) => (trial, &mut room),
            };
            if let Err(error) = self.look_at(client, &ingest, &trial, &pods, room).await {
                let (namespace, error) = (of.namespace.unwrap_or_default(), crate::error_chain(&error));
                warn!(%namespace, name = %of.name, error, "failed to try a lake");
            }
        }
    }

    /// Does what is due about one trial. At most as many Jobs are made as there is `room` for.
    async fn look_at(
        &self,
        client: &Client,
        ingest: &LakeIngest,
        trial: &Trial,
        pods: &[Arc<Pod>],
        room: &mut usize,
    ) -> Result<(), TrialError> {
        let of = reference(ingest);
        let pod = newest_of(pods, &of, &trial.tried);
        let last = self.last(&of, ingest, &trial.tried);
        let facts = Facts {
            tried: &trial.tried,
            last: last.as_ref(),
            attempt: pod.and_then(attempt),
            sidecars_tell: last.as_ref().is_some_and(|last| last.reason.is_some()) && self.sidecars_tell(&of),
            now: Time(Timestamp::from_second(self.clock.now().timestamp()).unwrap_or_default()),
        };
        let news = match facts.step() {
            Step::Note(news) => Some(news),
            Step::Rest => None,
            Step::Make if *room == 0 => None,
            Step::Make => {
                *room -= 1;
                Jobs::of(client, trial).make(&facts).await?
            }
        };
        if let Some(news) = &news {
            self.tell(&of, news);
        }
        self.preflights.note(of, news.or(last).map_or(Standing::Pending, Standing::Tried));
        Ok(())
    }

    /// What came of the same trial last, as this replica knows it or as another one has written it.
    fn last(&self, of: &ObjectRef<Found>, ingest: &LakeIngest, tried: &str) -> Option<Preflight> {
        let of_another = || ingest.status.as_ref().and_then(|status| status.preflight.clone());
        let known = match self.preflights.of(of) {
            Some(Standing::Tried(known)) if known.tried == tried => Some(known),
            _ => of_another(),
        };
        known.filter(|known| known.tried == tried)
    }

    /// Whether sidecars tell of the lake themselves; so long as they have still to be asked, they may.
    fn sidecars_tell(&self, of: &ObjectRef<Found>) -> bool {
        let pods = self.index.pods(of.namespace.as_deref().unwrap_or_default(), &of.name);
        self.sidecars.summary(&pods, None, None).is_none_or(|summary| summary.answered > 0)
    }

    fn tell(&self, of: &ObjectRef<Found>, news: &Preflight) {
        let namespace = of.namespace.as_deref().unwrap_or_default();
        let reason = news.reason.as_deref().unwrap_or("none");
        info!(namespace, name = %of.name, reason, verdict = news.message.as_str(), "tried a lake");
        self.metrics.tried(if news.reason.is_none() { "usable" } else { "failed" });
    }
}

fn reference(ingest: &LakeIngest) -> ObjectRef<Found> {
    ObjectRef::new(&ingest.name_any()).within(&ingest.namespace().unwrap_or_default())
}

/// The pod of a trial; the newest of several.
pub(super) fn newest_of<'a>(pods: &'a [Arc<Pod>], of: &ObjectRef<Found>, tried: &str) -> Option<&'a Pod> {
    let is_of = |pod: &&Arc<Pod>| {
        tried_for(pod).as_ref() == Some(of) && pod.annotations().get(TRIED).map(String::as_str) == Some(tried)
    };
    pods.iter().filter(is_of).max_by_key(|pod| pod.creation_timestamp()).map(Arc::as_ref)
}

/// The Job of one trial in the API server.
struct Jobs<'a> {
    jobs: Api<Job>,
    events: Api<Event>,
    wanted: &'a Job,
    name: String,
}

impl<'a> Jobs<'a> {
    fn of(client: &Client, trial: &'a Trial) -> Self {
        let namespace = trial.job.namespace().unwrap_or_default();
        Self {
            jobs: Api::namespaced(client.clone(), &namespace),
            events: Api::namespaced(client.clone(), &namespace),
            wanted: &trial.job,
            name: trial.job.name_any(),
        }
    }

    /// Makes the Job. One that is there and at work is left alone, and asked why it has no pod; one that has ended makes room, once
    /// it was noted how.
    async fn make(&self, facts: &Facts<'_>) -> Result<Option<Preflight>, TrialError> {
        let made = self.in_time(self.jobs.create(&PostParams::default(), self.wanted)).await?;
        match made {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => self.look(facts).await,
            Err(error) if crate::is_of_ending_namespace(&error) => Ok(None),
            // What is asked for is refused: by a quota, a policy, or since the operator may not.
            Err(kube::Error::Api(answer)) if (400..500).contains(&answer.code) && answer.code != 429 => {
                Ok(Some(facts.noted(&facts.now, &not_created(&answer.message))))
            }
            Err(source) => Err(self.refused("create", source)),
        }
    }

    async fn look(&self, facts: &Facts<'_>) -> Result<Option<Preflight>, TrialError> {
        let found = self.in_time(self.jobs.get_opt(&self.name)).await?.map_err(|source| self.refused("get", source))?;
        let Some(found) = found else { return Ok(None) };
        let Some(end) = end_of(&found) else { return self.why_no_pod(&found, facts).await };
        let was_told = matches!(facts.attempt, Some(Attempt::Ended(..)));
        let at = end.last_transition_time.clone().unwrap_or_else(|| facts.now.clone());
        if !was_told && facts.last.is_none_or(|last| last.time != at) {
            let meanwhile = facts.last.filter(|last| found.creation_timestamp().is_some_and(|made| made <= last.time));
            return Ok(Some(facts.noted(&at, &without_pod(end, meanwhile))));
        }
        let this_one = Preconditions { uid: found.uid(), resource_version: None };
        let parameters = DeleteParams::background().preconditions(this_one);
        match self.in_time(self.jobs.delete(&self.name, &parameters)).await? {
            Ok(_) => Ok(None),
            // Somebody else was faster.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(None),
            Err(source) => Err(self.refused("delete", source)),
        }
    }

    /// Why a Job that is at work has no pod, if it says so by now. It is asked at the pace of trials that fail.
    async fn why_no_pod(&self, job: &Job, facts: &Facts<'_>) -> Result<Option<Preflight>, TrialError> {
        let made = job.creation_timestamp().unwrap_or_else(|| facts.now.clone());
        let age = Duration::try_from(facts.now.0.duration_since(made.0)).unwrap_or_default();
        if age < PREFLIGHT_POD_WAIT {
            return Ok(None);
        }
        let uid = job.uid().unwrap_or_default();
        let of_job = ListParams::default()
            .fields(&format!("regarding.uid={uid},reason={FAILED_CREATE}"))
            .limit(PREFLIGHT_EVENTS_MAX);
        let events =
            self.in_time(self.events.list(&of_job)).await?.map_err(|source| self.refused("ask after", source))?;
        let newest = events.items.into_iter().max_by_key(|event| event.creation_timestamp());
        let note = newest.and_then(|event| event.note);
        Ok(note.map(|note| facts.noted(&facts.now, &not_created(&note))))
    }

    fn refused(&self, action: &'static str, source: kube::Error) -> TrialError {
        TrialError::Refused { action, job: self.name.clone(), source: Box::new(source) }
    }

    async fn in_time<T>(&self, request: impl Future<Output = T>) -> Result<T, TrialError> {
        let answer = tokio::time::timeout(PREFLIGHT_REQUEST_TIMEOUT, request).await;
        answer.map_err(|_| TrialError::Slow { job: self.name.clone() })
    }
}

/// What a Job says of its end; none while it is at work.
fn end_of(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ends = conditions.filter(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True");
    ends.next()
}

/// What a Job tells that has ended and whose pod nobody can look at any more. What kept it `meanwhile` is said further.
fn without_pod(end: &JobCondition, meanwhile: Option<&Preflight>) -> Outcome {
    if end.type_ == "Complete" {
        return Outcome { reason: None, message: String::new() };
    }
    match meanwhile.and_then(|known| Some((reason_of(known.reason.as_deref()?), &known.message))) {
        Some((reason, message)) => Outcome { reason: Some(reason), message: message.clone() },
        None => {
            let words = shown(end.message.as_deref().unwrap_or("it does not say why"));
            let message = format!("the preflight ended without a verdict: {words}");
            Outcome { reason: Some(reason_of(end.reason.as_deref().unwrap_or_default())), message }
        }
    }
}

fn not_created(words: &str) -> Outcome {
    let message = format!("the lake could not be tried: there is no pod for the preflight: {}", shown(words));
    Outcome { reason: Some(FAILED_CREATE), message }
}
