//! A namespace that asks for sidecars in its pods, on a real cluster.

use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::wait::{self, Look};

use super::Absence;

/// Gives the namespace the label, or takes it away.
fn label(team: &Team, label: Option<&str>) {
    let label = label.map_or("lakeingest.io/inject-".to_owned(), |label| format!("lakeingest.io/inject={label}"));
    team.cluster.run(["label", "namespace", &team.namespace, "--overwrite", &label]).expect("it can be labelled");
}

/// A pod as the API server would make it, with what it says; it is not made.
fn trial(team: &Team, pod: &Value) -> Result<(Value, String), String> {
    let (done, printed, words) = team.try_apply_with(pod, &["--dry-run=server", "--output=json"]);
    if done { Ok((serde_json::from_str(&printed).expect("kubectl writes JSON"), words)) } else { Err(words) }
}

fn has_sidecar(pod: &Value) -> bool {
    pod["spec"]["initContainers"][0]["name"] == "lakeingest"
}

/// Waits until the API server, which takes up a label a moment later, sends pods that say nothing to the webhook, or none.
fn wait_for_sidecar(team: &Team, is_expected: bool) {
    let silent = team.pod("silent", &json!({}));
    wait::until("the label to be taken up", || {
        let (pod, words) = trial(team, &silent).map_err(anyhow::Error::msg)?;
        Ok(if has_sidecar(&pod) == is_expected { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("it is");
}

#[test]
fn a_namespace_asks_for_its_pods_and_a_pods_own_word_wins() {
    let team = Team::new("namespace");
    team.lake_ingest("events", &json!({}));
    team.lake_ingest("orders", &json!({"storage": {"prefix": "orders"}}));
    label(&team, Some("events"));
    wait_for_sidecar(&team, true);

    team.apply(&team.pod("silent", &json!({})));
    team.kubectl(&["wait", "--for=condition=Ready", "pod/silent", "--timeout=60s"]);
    team.stream("silent", 0, 10);
    team.kubectl(&["delete", "pod", "silent", "--timeout=60s"]);
    assert_eq!(team.stored(), (0..10).collect::<Vec<_>>());

    let of = |annotations: Value| trial(&team, &team.pod("shop", &annotations));
    let (declined, _) = of(json!({"lakeingest.io/inject": "false"})).expect("it is taken");
    assert!(!has_sidecar(&declined) && declined["metadata"]["labels"].is_null(), "{declined}");
    let (own, _) = of(json!({"lakeingest.io/inject": "orders"})).expect("it is taken");
    assert_eq!(own["metadata"]["labels"]["lakeingest.io/injected-by"], "orders");
    let words = of(json!({"lakeingest.io/inject": "evnets"})).expect_err("a pod that asks itself is refused");
    assert!(words.contains("there is no LakeIngest \"evnets\""), "{words}");

    label(&team, Some("false"));
    wait_for_sidecar(&team, false);
    let (own, _) = of(json!({"lakeingest.io/inject": "orders"})).expect("it is taken");
    assert!(has_sidecar(&own), "a pod asks itself also where its namespace does not");
    label(&team, Some("true"));
    wait_for_sidecar_warning(&team, "exactly one");
    label(&team, None);
    wait_for_sidecar(&team, false);
}

/// Waits until a pod that says nothing is let run without a sidecar, with these words.
fn wait_for_sidecar_warning(team: &Team, part: &str) {
    let silent = team.pod("silent", &json!({}));
    wait::until("the warning", || {
        let (pod, words) = trial(team, &silent).map_err(anyhow::Error::msg)?;
        let is_told = !has_sidecar(&pod) && words.contains(part) && words.contains("its namespace asks by the label");
        Ok(if is_told { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("it comes");
}

/// Invariant I10: what nobody but the namespace asks for in vain keeps no pod from starting, and what was injected comes out
/// of the webhooks whole or is refused.
#[test]
fn i10_what_a_namespace_asks_for_in_vain_is_a_warning() {
    let team = Team::new("in-vain");
    label(&team, Some("events"));
    wait_for_sidecar_warning(&team, "there is no LakeIngest \"events\"");
    team.lake_ingest("events", &json!({}));
    wait_for_sidecar(&team, true);
    let mut taken = team.pod("taken", &json!({}));
    taken["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8001}]);
    let (pod, words) = trial(&team, &taken).expect("it is taken");
    assert!(!has_sidecar(&pod) && words.contains("port 8001"), "{words}");
    let mut foreign = team.pod("foreign", &json!({}));
    foreign["spec"]["containers"][0]["name"] = json!("lakeingest");
    let (_, words) = trial(&team, &foreign).expect("the policy lets pass what the webhook does");
    assert!(words.contains("runs without its sidecar"), "{words}");

    // A copy whose sidecar another webhook would have taken out is what the policy sees of it.
    let (whole, _) = trial(&team, &team.pod("copy", &json!({}))).expect("it is taken");
    let mut stripped = team.pod("copy", &whole["metadata"]["annotations"]);
    stripped["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8001}]);
    let words = trial(&team, &stripped).expect_err("it is refused");
    assert!(words.contains("has no sidecar any more"), "{words}");
}

#[test]
fn i10_without_an_operator_a_namespace_that_asks_waits_and_others_do_not() {
    let team = Team::new("namespace-down");
    team.lake_ingest("events", &json!({}));
    label(&team, Some("events"));
    wait_for_sidecar(&team, true);
    let absence = Absence::begin(&team);
    let words = trial(&team, &team.pod("silent", &json!({}))).expect_err("nobody answers");
    assert!(words.contains("inject-by-namespace.lakeingest.io"), "{words}");
    trial(&team, &team.pod("declined", &json!({"lakeingest.io/inject": "false"}))).expect("it is not even sent");
    drop(absence);
}
