//! The entries of the webhook configuration, which are the chart's.
//!
//! Owns: what must hold of them whatever the chart's values; telling that somebody has changed them, or taken them away.
//! Does not own: putting them back, which is the chart's; the `caBundle` of each, which the operator puts back (`certs`).

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Client, Resource, ResourceExt};
use lakeingest_crds::lakeingest::reasons;
use tracing::{info, warn};

use crate::again::Again;
use crate::events::{Events, Happening};
use crate::metrics::Metrics;

/// The name of each entry, and the path of the operator that it leads to: pods that ask themselves, and pods for which their
/// namespace asks. Source: charts/lakeingest/templates/webhook.yaml.
pub const ENTRIES: [(&str, &str); 2] =
    [("inject.lakeingest.io", "/inject"), ("inject-by-namespace.lakeingest.io", "/inject-by-namespace")];

/// Something that does not hold of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is and what comes of it, for a person.
    pub detail: String,
    /// Whether something comes of it already while an operator runs.
    pub is_felt: bool,
}

/// Everything that does not hold of the entries, beside their bundles.
pub fn faults(found: &MutatingWebhookConfiguration) -> Vec<Fault> {
    let name = found.name_any();
    let of_entry = |(wanted, path): (&str, &str)| {
        let entry = found.webhooks.iter().flatten().find(|entry| entry.name == wanted);
        match entry {
            Some(entry) => faults_of(&name, entry, path),
            None => vec![felt(format!("{name} has no entry {wanted}: pods that are for it start without a sidecar"))],
        }
    };
    ENTRIES.into_iter().flat_map(of_entry).collect()
}

fn felt(detail: String) -> Fault {
    Fault { detail, is_felt: true }
}

fn faults_of(name: &str, entry: &MutatingWebhook, path: &str) -> Vec<Fault> {
    let of = format!("entry {} of {name}", entry.name);
    let mut faults = Vec::new();
    let service = entry.client_config.service.as_ref();
    if service.is_none_or(|service| service.path.as_deref() != Some(path)) {
        faults.push(felt(format!("{of} does not lead to {path} of the operator: no pod that is for it is right")));
    }
    if !entry.rules.iter().flatten().any(is_of_created_pods) {
        faults.push(felt(format!("{of} has no rule for pods that are created: they start without a sidecar")));
    }
    if entry.match_conditions.iter().flatten().next().is_none() {
        faults.push(felt(format!(
            "{of} has no matchConditions: pods that do not ask are sent too, and are refused while no operator runs"
        )));
    }
    if entry.failure_policy.as_deref() != Some("Fail") {
        let detail = format!(
            "{of} has another failurePolicy than Fail: pods that ask start without a sidecar while no operator runs"
        );
        faults.push(Fault { detail, is_felt: false });
    }
    faults
}

fn is_of_created_pods(rule: &k8s_openapi::api::admissionregistration::v1::RuleWithOperations) -> bool {
    let has = |list: &Option<Vec<String>>, wanted: &str| list.iter().flatten().any(|one| one == wanted || one == "*");
    has(&rule.operations, "CREATE") && has(&rule.resources, "pods")
}

/// What looks after the entries.
#[derive(Debug)]
pub struct Entries {
    /// The name of the webhook configuration.
    pub configuration: String,
    /// Where it is told.
    pub events: Events,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

/// What was seen last.
#[derive(Clone, Debug, Default, PartialEq)]
enum Seen {
    /// Nothing: an operator that is installed may be there before its configuration.
    #[default]
    Nothing,
    /// The configuration, and what does not hold of it.
    There(ObjectReference, Vec<Fault>),
    /// It was there, and is no more.
    Gone,
}

impl Entries {
    /// Looks at every change, for ever.
    pub async fn run(self, client: Client) {
        let all: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let mut looks = watch_object(all, &self.configuration).backoff(Again::default()).boxed();
        let mut seen = Seen::default();
        while let Some(found) = looks.next().await {
            // The keeper of the certificates watches the same object, and tells of a watch that broke.
            if let Ok(found) = found {
                seen = self.look(&client, seen, found.as_ref()).await;
            }
        }
    }

    /// Tells what is new.
    async fn look(&self, client: &Client, before: Seen, found: Option<&MutatingWebhookConfiguration>) -> Seen {
        let version = found.and_then(ResourceExt::resource_version).unwrap_or_default();
        let now = next(&before, found);
        let wrong = match &now {
            Seen::There(_, faults) => faults.len(),
            Seen::Gone | Seen::Nothing => ENTRIES.len(),
        };
        self.metrics.webhook_faults.set(i64::try_from(wrong).unwrap_or(i64::MAX));
        match news(&before, &now, &version) {
            Some((about, happening)) => {
                warn!(configuration = %self.configuration, what = %happening.note, "the webhook configuration is not right");
                self.events.publish(client, &about, happening).await;
            }
            None if before != now && wrong == 0 => {
                info!(configuration = %self.configuration, "the webhook configuration is right");
            }
            None => {}
        }
        now
    }
}

fn next(before: &Seen, found: Option<&MutatingWebhookConfiguration>) -> Seen {
    match (found, before) {
        (Some(found), _) => {
            // The version says nothing of what it is.
            let about = ObjectReference { resource_version: None, ..found.object_ref(&()) };
            Seen::There(about, faults(found))
        }
        (None, Seen::Nothing) => Seen::Nothing,
        (None, Seen::There(..) | Seen::Gone) => Seen::Gone,
    }
}

/// What there is to tell, and what it is about.
fn news(before: &Seen, now: &Seen, version: &str) -> Option<(ObjectReference, Happening)> {
    match (before, now) {
        (Seen::There(about, _), Seen::Gone) => {
            let name = about.name.as_deref().unwrap_or_default();
            let note = format!(
                "{name} is gone: a pod that asks is refused, one for which only its namespace asks starts without a sidecar; it is the \
                 chart's, and helm upgrade brings it back"
            );
            let reason = reasons::WEBHOOK_GONE;
            Some((about.clone(), Happening { is_warning: true, reason, note, key: "gone".to_owned() }))
        }
        (before, Seen::There(about, faults)) if before != now && !faults.is_empty() => {
            let details: Vec<&str> = faults.iter().map(|fault| fault.detail.as_str()).collect();
            let note = format!("{}; it is the chart's, and helm upgrade puts it back", details.join("; "));
            let reason = reasons::WEBHOOK_CHANGED;
            Some((about.clone(), Happening { is_warning: true, reason, note, key: version.to_owned() }))
        }
        (_, Seen::There(..) | Seen::Gone | Seen::Nothing) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is changed of the entries.
    type Change = fn(&mut Value);

    /// The configuration as the chart has it, with a change.
    fn configuration(change: impl FnOnce(&mut Value)) -> MutatingWebhookConfiguration {
        let entry = |(name, path): (&str, &str)| {
            let rule =
                json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
            json!({
                "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                "clientConfig": {"service": {"name": "webhook", "namespace": "lakeingest", "path": path}},
                "rules": [rule], "matchConditions": [{"name": "asks", "expression": "true"}],
            })
        };
        let mut whole = json!({"metadata": {"name": "lakeingest", "uid": "u1"}, "webhooks": ENTRIES.map(entry)});
        change(&mut whole["webhooks"]);
        serde_json::from_value(whole).expect("it is a configuration")
    }

    #[test]
    fn what_the_chart_installs_is_right_and_each_change_has_its_words() {
        assert_eq!(faults(&configuration(|_| {})), []);
        let changes: [(Change, &str, bool); 6] = [
            (
                |entries| drop(entries.as_array_mut().map(|all| all.remove(0))),
                "has no entry inject.lakeingest.io",
                true,
            ),
            (|entries| entries[0]["failurePolicy"] = json!("Ignore"), "another failurePolicy than Fail", false),
            (|entries| entries[1]["matchConditions"] = json!([]), "pods that do not ask are sent too", true),
            (|entries| entries[1]["rules"][0]["operations"] = json!(["UPDATE"]), "no rule for pods", true),
            (|entries| entries[0]["clientConfig"]["service"]["path"] = json!("/"), "does not lead to /inject", true),
            (|entries| entries[0]["clientConfig"] = json!({"url": "https://x"}), "does not lead to /inject", true),
        ];
        for (change, words, is_felt) in changes {
            let found = faults(&configuration(change));
            assert!(found.len() == 1 && found[0].detail.contains(words) && found[0].is_felt == is_felt, "{found:?}");
        }
    }

    /// What is told when this is seen, one after another; none stands for a configuration that is not there.
    fn told(seen: &[Option<Change>]) -> Vec<Option<&'static str>> {
        let mut before = Seen::default();
        let look = |change: &Option<Change>| {
            let found = change.map(configuration);
            let now = next(&before, found.as_ref());
            let told = news(&before, &now, "7").map(|(about, happening)| {
                assert_eq!((about.uid.as_deref(), about.name.as_deref()), (Some("u1"), Some("lakeingest")));
                assert!(happening.is_warning && happening.note.contains("helm upgrade"), "{happening:?}");
                happening.reason
            });
            before = now;
            told
        };
        seen.iter().map(look).collect()
    }

    #[test]
    fn a_change_is_told_once_and_a_bundle_is_none() {
        let ignore: Change = |entries| entries[0]["failurePolicy"] = json!("Ignore");
        let bundle: Change = |entries| entries[0]["clientConfig"]["caBundle"] = json!("anVuaw==");
        let right: Change = |_| {};
        let changed = Some(reasons::WEBHOOK_CHANGED);
        assert_eq!(told(&[Some(right), Some(bundle)]), [None, None]);
        assert_eq!(
            told(&[Some(right), Some(ignore), Some(ignore), Some(right), Some(ignore)]),
            [None, changed, None, None, changed]
        );
        assert_eq!(told(&[Some(ignore)]), [changed], "an operator that starts tells what it finds");
    }

    #[test]
    fn a_configuration_that_goes_is_told_and_one_that_was_not_there_yet_is_not() {
        let right: Change = |_| {};
        let gone = Some(reasons::WEBHOOK_GONE);
        assert_eq!(told(&[None, Some(right), None, None, Some(right)]), [None, None, gone, None, None]);
    }
}
