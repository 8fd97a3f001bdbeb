//! Pods that run without the sidecar that they ask for, where somebody wants them replaced.

use lakeingest_tests::chart::Chart;
use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::wait::{self, Look};

const ON: [&str; 2] = ["watchdog.enabled=true", "watchdog.after=2s"];

/// Three pods get the annotation while they run; nothing would make the third one again. At first no pod of the namespace can
/// have a sidecar, so that the first one is evicted in vain.
#[test]
fn pods_without_their_sidecar_are_evicted_one_after_the_other_and_not_in_vain() {
    let team = Team::new("watchdog");
    team.lake_ingest("events", &json!({}));
    let alone = team.pod("alone", &json!({}));
    team.apply(&alone);
    let labels = json!({"app": "shop"});
    team.apply(&json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "shop"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": alone["spec"]},
        },
    }));
    team.apply(&json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "shop"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }));
    wait_for_pods(&team, "two pods without a sidecar", |pod| sidecar_of(pod).is_none());
    let uid = team.get("pod/alone")["metadata"]["uid"].clone();

    let no_namespace_of_ours = format!("webhook.excludedNamespaces={{{}}}", team.namespace);
    let chart = Chart::with(&team, &[ON[0], ON[1], &no_namespace_of_ours]);
    let asking = json!({"spec": {"template": {"metadata": {"annotations": {"lakeingest.io/inject": "events"}}}}});
    team.kubectl(&["patch", "replicaset", "shop", "--type=merge", "--patch", &asking.to_string()]);
    team.kubectl(&["annotate", "pods", "--all", "lakeingest.io/inject=events"]);
    let told = team.wait_for_event("ReplicaSet", "EvictionInVain");
    assert!(told.contains("asks for LakeIngest events and has no sidecar either"), "{told}");
    assert_eq!(team.events("ReplicaSet", "PodEvicted").len(), 1);

    chart.change(&ON);
    wait_for_pods(&team, "two pods with a sidecar that runs", |pod| {
        sidecar_of(pod).is_some() && pod["status"]["initContainerStatuses"][0]["started"] == true
    });
    let told = team.events("ReplicaSet", "PodEvicted");
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(team.get("pod/alone")["metadata"]["uid"], uid);
    team.wait_for_status("events", "the pod that nothing makes again to be missing", |status| {
        (&status["pods"]["missing"], &status["pods"]["ready"]) == (&json!(1), &json!(2))
    });
}

/// Until the ReplicaSet has two pods that do not end, and it is so of both.
fn wait_for_pods(team: &Team, what: &str, is_so: impl Fn(&Value) -> bool) {
    wait::until(what, || {
        let pods = team.kubectl(&["get", "pods", "--selector=app=shop", "--output=json"]);
        let pods: Value = serde_json::from_str(&pods).expect("kubectl writes JSON");
        let pods = pods["items"].as_array().expect("it is a list");
        let stay = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
        let are_so = pods.len() == 2 && pods.iter().filter(stay).filter(|pod| is_so(pod)).count() == 2;
        let shown = || pods.iter().map(|pod| pod["metadata"]["name"].to_string()).collect::<Vec<_>>().join(" ");
        Ok(if are_so { Look::Ready(()) } else { Look::NotYet(shown()) })
    })
    .expect("the ReplicaSet makes them");
}

fn sidecar_of(pod: &Value) -> Option<&Value> {
    pod["spec"]["initContainers"].as_array()?.iter().find(|container| container["name"] == "lakeingest")
}
