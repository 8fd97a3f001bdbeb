//! What people take away from the operator: what it owns is put back, what the chart owns is told, and whoever asks for a
//! sidecar meanwhile is told as well.

use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::cluster::NAMESPACE;
use xtask::wait::{self, Look};

use super::command_line::checks;
use super::stand_in::operator;

const WEBHOOK: &str = "mutatingwebhookconfiguration/lakeingest";

/// An object of the cluster or of the operator's namespace, as it can be created again.
struct Kept<'a> {
    team: &'a Team,
    what: &'static str,
    manifest: Value,
}

impl<'a> Kept<'a> {
    fn of(team: &'a Team, what: &'static str) -> Self {
        let mut manifest: Value =
            serde_json::from_str(&operator(team, &["get", what, "--output=json"])).expect("kubectl writes JSON");
        let kept = ["name", "namespace", "labels", "annotations"];
        if let Some(metadata) = manifest["metadata"].as_object_mut() {
            metadata.retain(|field, _| kept.contains(&field.as_str()));
        }
        let webhooks = manifest.get_mut("webhooks").and_then(Value::as_array_mut);
        for webhook in webhooks.into_iter().flatten() {
            webhook["clientConfig"].as_object_mut().map(|config| config.remove("caBundle"));
        }
        if let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|field, _| !field.starts_with("clusterIP"));
        }
        manifest.as_object_mut().map(|all| all.remove("status"));
        Self { team, what, manifest }
    }

    fn delete(&self) {
        operator(self.team, &["delete", self.what, "--timeout=60s"]);
    }

    fn patch(&self, patch: &Value) {
        operator(self.team, &["patch", self.what, "--type=json", "--patch", &patch.to_string()]);
    }

    /// As `helm upgrade` does.
    fn put_back(&self) -> anyhow::Result<()> {
        let exists = self.team.cluster.run([
            "--namespace",
            NAMESPACE,
            "get",
            self.what,
            "--ignore-not-found",
            "--output=name",
        ])?;
        if exists.trim().is_empty() {
            self.team.cluster.run_with_input(["create", "--filename", "-"], &self.manifest.to_string())?;
        } else if self.manifest["webhooks"].is_array() {
            let patch = json!({"webhooks": self.manifest["webhooks"]}).to_string();
            self.team.cluster.run(["patch", self.what, "--type=merge", "--patch", &patch])?;
        }
        Ok(())
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}

/// The notes of the Events of this reason about the webhook configuration.
fn notes(team: &Team, reason: &str) -> Vec<String> {
    let events = team.cluster.run(["--namespace=default", "get", "events.events.k8s.io", "--output=json"]);
    let events: Value = serde_json::from_str(&events.expect("the API server answers")).expect("kubectl writes JSON");
    let events = events["items"].as_array().into_iter().flatten();
    let these = events
        .filter(|event| event["regarding"]["kind"] == "MutatingWebhookConfiguration" && event["reason"] == reason);
    these.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Does something, and waits for the one Event that comes of it.
fn wait_for_note(team: &Team, reason: &str, act: impl FnOnce()) -> String {
    let before = notes(team, reason);
    act();
    wait::until(&format!("an Event {reason}"), || {
        let mut new = notes(team, reason);
        before.iter().for_each(|old| {
            if let Some(place) = new.iter().position(|note| note == old) {
                new.remove(place);
            }
        });
        match new.as_slice() {
            [] => Ok(Look::NotYet("there is none".to_owned())),
            [one] => Ok(Look::Ready(one.clone())),
            many => anyhow::bail!("two operators tell it once: {many:?}"),
        }
    })
    .unwrap_or_else(|error| panic!("{error:#}"))
}

fn asking(team: &Team) -> Value {
    team.pod("asking", &json!({"lakeingest.io/inject": "events"}))
}

fn plain(team: &Team) -> Value {
    team.pod("plain", &json!({}))
}

/// Whether the API server would take a pod, and its words.
fn trial(team: &Team, pod: &Value) -> (bool, String) {
    let (done, printed, words) = team.try_apply_with(pod, &["--dry-run=server", "--output=name"]);
    (done, printed + &words)
}

fn wait_until_taken(team: &Team) {
    wait::until("a pod that asks to be taken", || {
        let (done, words) = trial(team, &asking(team));
        Ok(if done { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("it is taken once all is as before");
}

fn bundles(team: &Team) -> String {
    operator(team, &["get", WEBHOOK, "--output=jsonpath={.webhooks[*].clientConfig.caBundle}"])
}

#[test]
fn a_webhook_configuration_that_somebody_edits_or_deletes_is_put_back_or_told_with_what_comes_of_it() {
    let team = Team::new("edited");
    team.lake_ingest("events", &json!({}));
    let right = bundles(&team);
    let kept = Kept::of(&team, WEBHOOK);
    let junk = json!([{"op": "replace", "path": "/webhooks/1/clientConfig/caBundle", "value": "Cg=="}]);
    let note = wait_for_note(&team, "CertificatesRestored", || kept.patch(&junk));
    assert!(note.contains("the caBundle of inject-by-namespace.lakeingest.io"), "{note}");
    assert_eq!(bundles(&team), right, "it was put back before it was told");

    let ignore = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]);
    let note = wait_for_note(&team, "WebhookChanged", || kept.patch(&ignore));
    assert!(note.contains("entry inject.lakeingest.io") && note.contains("helm upgrade"), "{note}");
    let (_, found) = checks(&team);
    let says = |words: &str| {
        found.iter().any(|(check, verdict, whole)| check == "webhook" && verdict != "ok" && whole.contains(words))
    };
    assert!(says("another failurePolicy than Fail"), "{found:?}");
    kept.put_back().expect("it can be put back");
    let remove = json!([{"op": "remove", "path": "/webhooks/0"}]);
    let note = wait_for_note(&team, "WebhookChanged", || kept.patch(&remove));
    assert!(note.contains("has no entry inject.lakeingest.io"), "{note}");

    let note = wait_for_note(&team, "WebhookGone", || kept.delete());
    assert!(note.contains("a pod that asks is refused"), "{note}");
    let (done, words) = wait::until("the API server to know it", || {
        let (done, words) = trial(&team, &asking(&team));
        Ok(if words.contains("ValidatingAdmissionPolicy") { Look::Ready((done, words)) } else { Look::NotYet(words) })
    })
    .expect("the policy looks last");
    assert!(!done && words.contains("MutatingWebhookConfiguration"), "{words}");
    assert!(trial(&team, &plain(&team)).0);
    drop(kept);
    wait_until_taken(&team);
    assert_eq!(bundles(&team), right, "whoever brings it back brings no bundle");
}

/// Both are the chart's. Nobody can put back the LakeIngests that went with their definition.
#[test]
fn without_the_service_or_the_definition_whoever_asks_is_refused_in_words_and_all_goes_on_when_they_are_back() {
    let team = Team::new("taken");
    team.lake_ingest("events", &json!({}));
    let service = Kept::of(&team, "service/lakeingest-webhook");
    service.delete();
    let words = wait::until("a refusal", || {
        let (done, words) = trial(&team, &asking(&team));
        Ok(if done { Look::NotYet(words) } else { Look::Ready(words) })
    })
    .expect("nobody can be asked");
    assert!(words.contains("inject.lakeingest.io") && words.contains("lakeingest-webhook"), "{words}");
    assert!(trial(&team, &plain(&team)).0);
    let (_, found) = checks(&team);
    assert!(found.iter().any(|(check, verdict, _)| check == "service" && verdict == "FAIL"), "{found:?}");
    drop(service);
    wait_until_taken(&team);

    let definition = Kept::of(&team, "customresourcedefinition/lakeingests.lakeingest.io");
    definition.delete();
    wait::until("a refusal", || {
        let (done, words) = trial(&team, &asking(&team));
        let is_told = !done && words.contains("there is no LakeIngest \"events\"");
        Ok(if is_told { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("there is no LakeIngest any more");
    assert!(trial(&team, &plain(&team)).0);
    drop(definition);
    team.cluster
        .run([
            "wait",
            "--for=condition=Established",
            "customresourcedefinition/lakeingests.lakeingest.io",
            "--timeout=60s",
        ])
        .expect("it is established");
    wait::until("LakeIngests to be taken again", || {
        let (done, _, words) = team.try_apply(&team.lake_ingest_object("events", &json!({})));
        Ok(if done { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("the API server serves them");
    team.kubectl(&["wait", "--for=condition=Ready", "lakeingest/events", "--timeout=60s"]);
    wait_until_taken(&team);
}
