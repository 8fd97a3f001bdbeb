//! What the pod of a preflight shows.
//!
//! Owns: reading it from the pod's status: a verdict, or why there is none. Pure. Does not own: what follows from it (`decide`).
//!
//! Whoever may create pods in a namespace can write such a pod; what it says is bounded, and its reason is one that we know.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use lakeingest_crds::health_reasons;
use lakeingest_crds::lakeingest::reasons;
use lakeingest_crds::preflight::Verdict;

use crate::limits::HEALTH_MESSAGE_CHARACTERS_MAX;
use crate::names::{PREFLIGHT_CONTAINER, said};

/// The API server did not take the Job, or not its pod. Source: the reason of the Job controller's Events, Kubernetes 1.33.
pub(super) const FAILED_CREATE: &str = "FailedCreate";

/// No node has room for the pod. Source: `PodReasonUnschedulable`, core/v1.
const UNSCHEDULABLE: &str = "Unschedulable";

/// What a container can wait for that somebody has to mend, by the kubelet's word and by the one that we say.
/// Source: `pkg/kubelet/images/types.go` and `pkg/kubelet/kuberuntime/kuberuntime_container.go`, Kubernetes 1.33.
const WAITING: [(&str, &str); 8] = [
    // The kubelet says these two in turns.
    ("ErrImagePull", "ImagePullBackOff"),
    ("ImagePullBackOff", "ImagePullBackOff"),
    ("ErrImageNeverPull", "ErrImageNeverPull"),
    ("InvalidImageName", "InvalidImageName"),
    ("ImageInspectError", "ImageInspectError"),
    ("CreateContainerConfigError", "CreateContainerConfigError"),
    ("CreateContainerError", "CreateContainerError"),
    ("RunContainerError", "RunContainerError"),
];

/// Reasons with which a Job ends that has no verdict. Source: batch/v1, Kubernetes 1.33.
const OF_JOBS: [&str; 2] = ["DeadlineExceeded", "BackoffLimitExceeded"];

/// What came of a trial, or keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why the lake cannot be used or could not be tried; none if it can be used.
    pub(super) reason: Option<&'static str>,
    /// The same for a person.
    pub(super) message: String,
}

/// How far a trial is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Its pod runs, or is about to.
    UnderWay,
    /// Its pod waits for something that somebody has to mend, and goes on by itself then.
    Stuck(Outcome),
    /// It has ended at this time.
    Ended(Time, Outcome),
}

/// What a pod shows; none of one that is being deleted: its Job tells what became of it.
pub(super) fn attempt(pod: &Pod) -> Option<Attempt> {
    if pod.meta().deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.iter().flatten().find(|status| status.name == PREFLIGHT_CONTAINER);
    let state = container.and_then(|container| container.state.clone()).unwrap_or_default();
    if let Some(ended) = state.terminated {
        let since = ended.finished_at.clone().or_else(|| pod.creation_timestamp())?;
        return Some(Attempt::Ended(since, verdict(&ended).unwrap_or_else(|| without_verdict(&ended))));
    }
    if status.phase.as_deref() == Some("Failed") {
        let words = [status.reason.as_deref(), status.message.as_deref()].map(Option::unwrap_or_default).join(": ");
        let message = format!("the pod of the preflight failed before it ran: {}", shown(&words));
        let since = status.start_time.or_else(|| pod.creation_timestamp())?;
        return Some(Attempt::Ended(since, Outcome { reason: Some(reasons::PREFLIGHT_FAILED), message }));
    }
    if let Some(waiting) = state.waiting {
        let known = WAITING.iter().find(|(word, _)| waiting.reason.as_deref() == Some(*word));
        if let Some((_, reason)) = known {
            return Some(stuck(reason, waiting.message.as_deref().unwrap_or_default()));
        }
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some(UNSCHEDULABLE));
    if let Some(condition) = unscheduled {
        return Some(stuck(UNSCHEDULABLE, condition.message.as_deref().unwrap_or_default()));
    }
    Some(Attempt::UnderWay)
}

fn stuck(reason: &'static str, words: &str) -> Attempt {
    let message = format!("the lake could not be tried: the pod of the preflight waits: {reason}: {}", shown(words));
    Attempt::Stuck(Outcome { reason: Some(reason), message })
}

/// What the program says at its end, if it says it.
fn verdict(ended: &ContainerStateTerminated) -> Option<Outcome> {
    let Verdict { reason, message } = serde_json::from_str(ended.message.as_deref()?.trim()).ok()?;
    Some(Outcome { reason: reason.as_deref().map(reason_of), message: shown(&message) })
}

fn without_verdict(ended: &ContainerStateTerminated) -> Outcome {
    let message = format!(
        "the preflight ended with code {} ({}) and no verdict: {}",
        ended.exit_code,
        shown(ended.reason.as_deref().unwrap_or("no reason")),
        shown(ended.message.as_deref().unwrap_or("it said nothing").trim())
    );
    Outcome { reason: Some(reasons::PREFLIGHT_FAILED), message }
}

/// A reason by its name; one that nobody has heard of stands for a trial that failed.
pub fn reason_of(name: &str) -> &'static str {
    let of_trials = WAITING.iter().map(|(_, reason)| *reason).chain([FAILED_CREATE, UNSCHEDULABLE]).chain(OF_JOBS);
    let known = health_reasons::ALL.into_iter().chain(of_trials).find(|known| *known == name);
    known.unwrap_or(reasons::PREFLIGHT_FAILED)
}

pub(super) fn shown(words: &str) -> String {
    said(words, HEALTH_MESSAGE_CHARACTERS_MAX)
}
