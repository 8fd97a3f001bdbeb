//! What the facts about a pod mean, in words.
//!
//! Owns: the words, a pure function of the facts. Does not own: finding them (`why`), judging (`admit`).

use std::fmt;

use lakeingest_crds::lakeingest::{LakeIngest, conditions};
use serde_json::Value;

use crate::admit::{Admission, Asked, Judged, asked};
use crate::controller::ValidatedIngest;
use crate::names::{CONTAINER, INJECT, INJECTED_BY, ON_ERROR, STATUS, shown};

use super::super::objects::Object;
use super::pod_of;

/// What is known of a pod, or of what makes pods.
#[derive(Debug)]
pub(super) struct Facts {
    /// The object.
    pub(super) object: Value,
    /// What has made it, and what has made that.
    pub(super) owners: Vec<Value>,
    /// Its namespace.
    pub(super) namespace: String,
    /// Whether the webhook leaves the namespace alone.
    pub(super) is_excluded: bool,
    /// Whether there is a webhook configuration; none if that cannot be seen.
    pub(super) has_webhook: Option<bool>,
    /// What judges pods today.
    pub(super) admission: Admission,
    /// What could not be seen.
    pub(super) notes: Vec<String>,
}

impl Facts {
    fn title(&self) -> String {
        Object::all(&self.object).first().map(|object| object.title(&self.namespace)).unwrap_or_default()
    }

    /// How its pods are made anew, for whoever reads it.
    fn make_anew(&self) -> String {
        let namespace = &self.namespace;
        let workload = self.owners.iter().rev().chain([&self.object]).find_map(|object| {
            let kind =
                object["kind"].as_str().filter(|kind| ["Deployment", "StatefulSet", "DaemonSet"].contains(kind))?;
            Some(format!("{}/{}", kind.to_ascii_lowercase(), object["metadata"]["name"].as_str()?))
        });
        match workload {
            Some(workload) => format!("kubectl --namespace {namespace} rollout restart {workload}"),
            None => "delete the pod and have it made again".to_owned(),
        }
    }
}

/// A headline, what it rests on, and what to do.
#[derive(Debug, Default)]
pub(super) struct Explanation {
    headline: String,
    lines: Vec<(&'static str, String)>,
    next: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.headline)?;
        for (name, text) in &self.lines {
            writeln!(formatter, "  {name:<11} {text}")?;
        }
        match self.next.as_slice() {
            [] => writeln!(formatter, "Next: nothing has to be done."),
            steps => steps.iter().try_for_each(|step| writeln!(formatter, "Next: {step}")),
        }
    }
}

impl Explanation {
    fn line(&mut self, name: &'static str, text: impl Into<String>) {
        self.lines.push((name, text.into()));
    }

    fn next(&mut self, text: impl Into<String>) {
        self.next.push(text.into());
    }
}

/// Why a pod has its sidecar, or has none.
pub(super) fn explain(facts: &Facts) -> Explanation {
    let mut told = Explanation::default();
    let pod = &facts.object;
    tell_what_it_asks(facts, pod, &mut told);
    match sidecar_of(pod) {
        Some(sidecar) => explain_sidecar(facts, sidecar, &mut told),
        None => explain_absence(facts, &mut told),
    }
    for note in &facts.notes {
        told.line("not seen", note);
    }
    told
}

/// What becomes of the pods of a workload, and what some of them have.
pub(super) fn explain_workload(facts: &Facts, pods: &[Value]) -> Explanation {
    let mut told = Explanation::default();
    let (title, template) = (facts.title(), pod_of(&facts.object));
    tell_what_it_asks(facts, template, &mut told);
    told.headline = match facts.admission.judge(&facts.namespace, template) {
        Judged::NotAsked => {
            tell_how_to_ask(facts, &mut told);
            format!("{title}: its pods do not ask for a sidecar.")
        }
        judged => match obstacle(facts, &judged, &mut told) {
            Some(words) => format!("{title}: its pods ask for a sidecar, and today they {words}"),
            None => format!("{title}: its pods get a sidecar."),
        },
    };
    let conditions = facts.object["status"]["conditions"].as_array();
    let failure =
        conditions.into_iter().flatten().find(|one| one["type"] == "ReplicaFailure" && one["status"] == "True");
    if let Some(message) = failure.and_then(|failure| failure["message"].as_str()) {
        told.line("no pod", message);
    }
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let has = match sidecar_of(pod) {
            Some(_) => format!("sidecar {}", sidecar_state(pod).0),
            None => "no sidecar".to_owned(),
        };
        told.line("pod", format!("{name}: {has}"));
    }
    for note in &facts.notes {
        told.line("not seen", note);
    }
    told
}

fn tell_what_it_asks(facts: &Facts, pod: &Value, told: &mut Explanation) {
    let annotations = &pod["metadata"]["annotations"];
    let said = |name: &str| match &annotations[name] {
        Value::Null => None,
        Value::String(text) => Some(format!("{name}: {}", shown(text))),
        other => Some(format!("{name}: {}", shown(&other.to_string()))),
    };
    told.line("asks", said(INJECT).unwrap_or_else(|| format!("no: there is no annotation {INJECT}")));
    if let Some(on_error) = said(ON_ERROR) {
        told.line("", on_error);
    }
    if let Some(label) = facts.admission.namespaces.label(&facts.namespace) {
        let holds = if annotations[INJECT].is_null() { "" } else { "; the pod's own annotation wins" };
        told.line("namespace", format!("asks by its label {INJECT}: {}{holds}", shown(&label)));
    }
    if facts.is_excluded {
        told.line("namespace", format!("{} is left alone by the webhook", facts.namespace));
    }
}

/// What keeps a pod that asks from its sidecar today; none if it gets one.
fn obstacle(facts: &Facts, judged: &Judged, told: &mut Explanation) -> Option<String> {
    if facts.is_excluded {
        told.next("run it in another namespace: the webhook's namespaceSelector excludes this one");
        return Some("are not injected: the webhook leaves their namespace alone.".to_owned());
    }
    if facts.has_webhook == Some(false) {
        told.next("install the chart again (helm upgrade); `lakeingest-operator check` says what else is missing");
        return Some("are not injected: there is no webhook configuration.".to_owned());
    }
    match judged {
        Judged::NotAsked => None,
        Judged::Injected { ingest, .. } => {
            tell_lake_ingest(facts, ingest, told);
            None
        }
        Judged::Refused { reason, is_let_pass } => {
            told.line("in the way", reason.clone());
            told.next("change what is in the way; the next pod is judged anew");
            let is_wanted = pod_of(&facts.object)["metadata"]["annotations"][ON_ERROR] == "allow";
            let ends = match (is_let_pass, is_wanted) {
                (true, true) => "run without one, as on-error: allow has it.",
                (true, false) => "run without one, since nobody but their namespace asks.",
                (false, _) => "are refused.",
            };
            Some(ends.to_owned())
        }
    }
}

fn tell_how_to_ask(facts: &Facts, told: &mut Explanation) {
    let is_declined = pod_of(&facts.object)["metadata"]["annotations"][INJECT] == "false";
    // A Deployment hands its own annotations on to its ReplicaSets: what is outermost was written by somebody.
    let misplaced = facts.owners.iter().rev().chain([&facts.object]).find(|object| {
        object["kind"] != "Pod" && asked(object) != Asked::Nothing && asked(pod_of(object)) == Asked::Nothing
    });
    if let Some(misplaced) = misplaced {
        let title = Object::all(misplaced).first().map(|object| object.title(&facts.namespace)).unwrap_or_default();
        told.line("misplaced", format!("{INJECT} stands on {title} itself, where nothing reads it"));
        told.next("move the annotation to the pod's template: spec.template.metadata.annotations");
    } else if !is_declined {
        let names = facts.admission.index.names(&facts.namespace);
        told.next(match names.as_slice() {
            [] => format!("create a LakeIngest in namespace {}, and name it in {INJECT} on the pod", facts.namespace),
            names => format!("for a sidecar, annotate the pod (in its template) with {INJECT}: {}", names.join(" or ")),
        });
    }
}

/// A pod that has no sidecar.
fn explain_absence(facts: &Facts, told: &mut Explanation) {
    let title = facts.title();
    let judged = facts.admission.judge(&facts.namespace, &facts.object);
    if judged == Judged::NotAsked {
        told.headline = format!("{title} has no sidecar: it does not ask for one.");
        tell_how_to_ask(facts, told);
        return;
    }
    if let Some(words) = obstacle(facts, &judged, told) {
        told.headline = format!("{title} asks for a sidecar and has none; today such pods {words}");
        return;
    }
    // It would be injected today: something was otherwise when it was created.
    told.headline = format!("{title} asks for a sidecar and has none: something was otherwise when it was created.");
    let cause = match created_after(&facts.object, &judged, facts) {
        true => "the LakeIngest is younger than the pod",
        false => {
            "the annotation or the label came after the pod, or there was no webhook then, or what was in the way has gone"
        }
    };
    told.line("cause", cause);
    told.next(format!("it is injected when it is made anew: {}", facts.make_anew()));
}

/// Whether the LakeIngest was made after the pod.
fn created_after(pod: &Value, judged: &Judged, facts: &Facts) -> bool {
    let Judged::Injected { ingest, .. } = judged else { return false };
    let made = with_lake_ingest(facts, ingest, |found| {
        serde_json::to_value(&found.metadata.creation_timestamp).ok()?.as_str().map(str::to_owned)
    });
    // Both are RFC 3339 in UTC with whole seconds, whose order is that of their texts.
    made.flatten().zip(pod["metadata"]["creationTimestamp"].as_str()).is_some_and(|(made, pod)| made.as_str() > pod)
}

fn with_lake_ingest<T>(facts: &Facts, ingest: &ValidatedIngest, tell: impl Fn(&LakeIngest) -> T) -> Option<T> {
    let found = facts.admission.index.lake_ingest(&facts.namespace, &ingest.name)?;
    found.0.as_ref().ok().map(tell)
}

/// The LakeIngest and what the operator says of it.
fn tell_lake_ingest(facts: &Facts, ingest: &ValidatedIngest, told: &mut Explanation) {
    let ready = with_lake_ingest(facts, ingest, |found| {
        let all = found.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        all.iter().find(|one| one.type_ == conditions::READY).cloned()
    });
    let of = format!("{}, generation {}", ingest.name, ingest.generation);
    match ready.flatten() {
        Some(ready) if ready.status == "True" => told.line("LakeIngest", format!("{of}: {}", ready.message)),
        Some(ready) => {
            told.line("LakeIngest", format!("{of}: {}: {}", ready.reason, ready.message));
            told.next(format!("see: kubectl --namespace {} describe lakeingest {}", facts.namespace, ingest.name));
        }
        None => told.line("LakeIngest", format!("{of}: the operator has not looked at it yet")),
    }
}

fn sidecar_of(pod: &Value) -> Option<&Value> {
    pod["spec"]["initContainers"].as_array()?.iter().find(|container| container["name"] == CONTAINER)
}

/// A pod that has a sidecar: from what, whether it would be the same today, and how it is.
fn explain_sidecar(facts: &Facts, sidecar: &Value, told: &mut Explanation) {
    let (title, pod) = (facts.title(), &facts.object);
    let status = pod["metadata"]["annotations"][STATUS].as_str().unwrap_or_default();
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let from = &status["lakeIngest"];
    let image = sidecar["image"].as_str().unwrap_or_default();
    match from["name"].as_str() {
        Some(name) => told
            .line("injected", format!("{image}, from LakeIngest {}, generation {}", shown(name), from["generation"])),
        None => told.line("injected", format!("{image}; the annotation {STATUS} does not tell from what")),
    }
    let differences = differences(facts, &status, told);
    let (state, step) = sidecar_state(pod);
    told.line("sidecar", state);
    told.headline = match differences.as_slice() {
        [] => format!("{title} has its sidecar, as it would be injected today."),
        _ => format!("{title} has its sidecar, and would be injected otherwise today."),
    };
    for difference in &differences {
        told.line("outdated", difference.clone());
    }
    if let Some(step) = step {
        told.next(step.replace(
            "POD",
            &format!("--namespace {} {}", facts.namespace, pod["metadata"]["name"].as_str().unwrap_or_default()),
        ));
    }
    if !differences.is_empty() {
        told.next(format!("the pod has what it was made with until it is made anew: {}", facts.make_anew()));
    }
}

/// What would be otherwise if the pod were made today.
fn differences(facts: &Facts, status: &Value, told: &mut Explanation) -> Vec<String> {
    let pod = &facts.object;
    let (ingest, injection) = match facts.admission.judge(&facts.namespace, pod) {
        Judged::Injected { ingest, injection } => (ingest, injection),
        Judged::NotAsked => return vec![format!("it asks no more: {INJECT} was taken away or is \"false\"")],
        Judged::Refused { reason, .. } => return vec![reason],
    };
    tell_lake_ingest(facts, &ingest, told);
    let mut found = Vec::new();
    let from = &status["lakeIngest"];
    if let Some(name) = pod["metadata"]["labels"][INJECTED_BY].as_str().filter(|name| *name != ingest.name) {
        found.push(format!("it is wired from LakeIngest {}, and asks for {}", shown(name), ingest.name));
    }
    if from["uid"].as_str().is_some_and(|uid| uid != ingest.uid) {
        found.push(format!("LakeIngest {} was deleted and made again since", ingest.name));
    }
    if from["generation"] != ingest.generation {
        found.push(format!(
            "the LakeIngest is at generation {}, the pod is of generation {}",
            ingest.generation, from["generation"]
        ));
    }
    if status["image"] != ingest.spec.image.as_str() {
        found.push(format!(
            "the image is {} now, was {}",
            ingest.spec.image,
            shown(status["image"].as_str().unwrap_or("unknown"))
        ));
    }
    // The annotation tells what the lines above do.
    let is_mark = |path: &&str| path.ends_with("lakeingest.io~1status") || path.ends_with("lakeingest.io~1injected-by");
    let paths = injection.patch.iter().filter_map(|operation| operation["path"].as_str());
    let others: Vec<&str> = paths.filter(|path| !is_mark(path)).collect();
    if !others.is_empty() {
        found.push(format!("what a pod gets is more: {}", others.join(", ")));
    }
    found
}

/// How the container is, and what to do about it; `POD` stands for the pod in a command.
fn sidecar_state(pod: &Value) -> (String, Option<String>) {
    let statuses = pod["status"]["initContainerStatuses"].as_array();
    let Some(status) = statuses.into_iter().flatten().find(|status| status["name"] == CONTAINER) else {
        let phase = pod["status"]["phase"].as_str().unwrap_or("unknown");
        return (format!("not started yet; the pod is {phase}"), Some("see: kubectl describe pod POD".to_owned()));
    };
    let text = |value: &Value| shown(value.as_str().unwrap_or_default());
    let restarts = status["restartCount"].as_u64().unwrap_or_default();
    let (state, last) = (&status["state"], &status["lastState"]["terminated"]);
    let before = match last["reason"].as_str() {
        Some(reason) => format!(", last ended with {} ({})", last["exitCode"], shown(reason)),
        None => String::new(),
    };
    if state["running"].is_object() {
        let ready = if status["ready"] == true { "ready" } else { "not ready yet: it opens its journal" };
        let step = (last["reason"] == "OOMKilled")
            .then(|| "raise spec.sidecar.resources.limits.memory of the LakeIngest".to_owned());
        return (
            format!("running since {}, {ready}, {restarts} restarts{before}", text(&state["running"]["startedAt"])),
            step,
        );
    }
    if state["waiting"].is_object() {
        let reason = text(&state["waiting"]["reason"]);
        let step = match reason.as_str() {
            "ErrImagePull" | "ImagePullBackOff" => {
                "let the node pull the image: its registry, its name, the pod's imagePullSecrets"
            }
            "CrashLoopBackOff" => "see: kubectl logs POD --container lakeingest --previous",
            _ => "see: kubectl describe pod POD",
        };
        return (format!("waiting: {reason}, {restarts} restarts{before}"), Some(step.to_owned()));
    }
    let ended = &state["terminated"];
    let words = format!("ended with {} ({})", ended["exitCode"], text(&ended["reason"]));
    match ended["exitCode"].as_i64() {
        Some(0) => (words, None),
        _ => (words, Some("see: kubectl describe pod POD, and its termination message".to_owned())),
    }
}

#[cfg(test)]
mod tests;
