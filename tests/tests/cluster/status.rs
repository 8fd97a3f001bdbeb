//! What is said of a LakeIngest on a real cluster, and who says it.

use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::cluster::NAMESPACE;
use xtask::wait::{self, Look};

#[test]
fn a_leader_that_ends_gives_the_lease_to_another_that_speaks_on() {
    let team = Team::new("leader");
    let before = team.leader();
    let (pod, _) = before.rsplit_once('_').expect("a holder is a pod and something by chance");
    let operator = |arguments: &[&str]| {
        team.cluster.run([&["--namespace", NAMESPACE], arguments].concat()).expect("the API server answers")
    };
    operator(&["delete", "pod", pod, "--timeout=60s"]);
    team.lake_ingest("events", &json!({}));
    assert_ne!(team.leader(), before);
    operator(&["rollout", "status", "deployment/lakeingest-operator", "--timeout=60s"]);
}

#[test]
fn the_status_says_how_many_pods_go_by_the_specification_as_it_is_now() {
    let team = Team::new("generation");
    team.lake_ingest("events", &json!({}));
    let untried = team.wait_for_condition("events", "StorageReachable", "Unknown", "NotTried");
    assert!(untried.contains("preflight.namespaces"), "the chart lets nobody try: {untried}");
    team.wait_for_condition("events", "Backlogged", "Unknown", "NoSidecars");
    team.start_pod("shop", "events");
    let expected = json!({
        "injected": 1, "ready": 1, "outdated": 0, "missing": 0, "unreachable": 0, "onCurrentGeneration": 1,
    });
    team.wait_for_status("events", "the pod to be current", |status| status["pods"] == expected);
    team.wait_for_condition("events", "StorageReachable", "True", "Reachable");
    team.wait_for_condition("events", "CredentialsValid", "True", "Accepted");

    team.lake_ingest("events", &json!({"flush": {"maxAge": "30m"}}));
    wait::until("the kubelet to bring the change", || {
        let health = team.health("shop");
        let is_new = health["generation"] == 2;
        Ok(if is_new { Look::Ready(()) } else { Look::NotYet(health.to_string()) })
    })
    .expect("it does");
    team.wait_for_status("events", "the pod to be current again", |status| {
        status["observedGeneration"] == 2 && status["pods"] == expected
    });
    // Where the lake is a running pod does not take in.
    team.lake_ingest("events", &json!({"storage": {"prefix": "elsewhere"}}));
    team.wait_for_status("events", "the pod to be outdated", |status| status["pods"]["outdated"] == 1);
}

#[test]
fn a_bucket_that_goes_away_is_said_in_the_status_and_told_once() {
    let team = Team::new("away");
    team.lake_ingest("events", &json!({"flush": {"maxAge": "1s"}, "drain": {"gracePeriodSeconds": 1}}));
    team.start_pod("shop", "events");
    team.wait_for_condition("events", "StorageReachable", "True", "Reachable");
    team.take_bucket_away();
    team.stream("shop", 0, 10);
    let message = team.wait_for_condition("events", "StorageReachable", "False", "StorageUnreachable");
    assert!(message.contains("pod shop, 1 of 1 sidecars"), "{message}");
    team.wait_for_condition("events", "CredentialsValid", "Unknown", "StorageUnreachable");
    team.wait_for_condition("events", "Ready", "True", "Configured");
    team.wait_for_status("events", "since when rows wait", |status| status["oldestUnflushedTime"].is_string());
    team.wait_for_event("LakeIngest", "StorageUnreachable");
    let columns = team.kubectl(&["get", "lakeingest"]);
    assert!(columns.contains("StorageUnreachable"), "{columns}");
}

/// The pods came before there was a LakeIngest, and wanted to run all the same. What has made two of them is told once.
#[test]
fn a_pod_that_asks_and_has_no_sidecar_is_counted_until_it_is_gone() {
    let team = Team::new("missing");
    let asking = json!({"lakeingest.io/inject": "events", "lakeingest.io/on-error": "allow"});
    let early = team.pod("early", &asking);
    team.apply(&early);
    team.apply(&team.pod("plain", &json!({})));
    let labels = json!({"app": "shop"});
    let template = json!({"metadata": {"annotations": asking, "labels": labels}, "spec": early["spec"]});
    team.apply(&json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }));
    // A pod whose LakeIngest comes a moment after it would have a sidecar.
    wait::until("the pods of the ReplicaSet", || {
        let pods = team.kubectl(&["get", "pods", "--selector=app=shop", "--output=name"]);
        Ok(if pods.lines().count() == 2 { Look::Ready(()) } else { Look::NotYet(pods) })
    })
    .expect("they are made");
    team.lake_ingest("events", &json!({}));
    team.wait_for_status("events", "the pods to be missing", |status| status["pods"]["missing"] == 3);
    let message = team.wait_for_condition("events", "InjectionHealthy", "False", "SidecarMissing");
    assert!(message.contains("early") && !message.contains("plain"), "{message}");
    for kind in ["Pod", "ReplicaSet", "LakeIngest"] {
        team.wait_for_event(kind, "SidecarMissing");
    }
    team.kubectl(&["delete", "pod/early", "replicaset/shop", "--timeout=60s"]);
    team.wait_for_condition("events", "InjectionHealthy", "True", "AllInjected");
}

/// Both replicas see it and one of them mends it; it is told once each time.
#[test]
fn a_configuration_that_somebody_deletes_or_edits_is_put_back_and_told() {
    let team = Team::new("restored");
    team.lake_ingest("events", &json!({}));
    let data = || team.get("configmap/lakeingest-events")["data"].clone();
    let right = data();
    let is_back = |what: &str, events: usize| {
        wait::until(what, || {
            let (found, told) = (data_of(&team), team.events("LakeIngest", "ConfigurationRestored"));
            let is_so = found.as_ref() == Some(&right) && told.len() == events;
            Ok(if is_so { Look::Ready(told) } else { Look::NotYet(format!("{found:?} {told:?}")) })
        })
        .expect("the operator puts it back")
    };
    team.kubectl(&["delete", "configmap", "lakeingest-events"]);
    let told = is_back("the ConfigMap to be there again", 1);
    assert!(told[0].contains("has deleted ConfigMap lakeingest-events"), "{told:?}");
    let patch = json!({"data": {"config.yaml": "formatVersion: 1"}}).to_string();
    team.kubectl(&["patch", "configmap", "lakeingest-events", "--type=merge", "--patch", &patch]);
    let told = is_back("the ConfigMap to be right again", 2);
    assert!(told.iter().any(|note| note.contains("has changed ConfigMap lakeingest-events")), "{told:?}");
    // What the operator itself changes is no news of that kind.
    team.lake_ingest("events", &json!({"flush": {"maxAge": "30m"}}));
    assert_ne!(data(), right);
    assert_eq!(team.events("LakeIngest", "ConfigurationRestored").len(), 2);
}

/// Whoever may edit the namespace of either may not decide who has the prefix: not by a mark, and not by deleting what is rendered.
#[test]
fn who_has_a_prefix_keeps_it_whatever_is_done_to_its_configuration() {
    let team = Team::new("claim");
    let prefix = |prefix: &str| json!({"storage": {"prefix": prefix}});
    team.lake_ingest("events", &prefix("elsewhere"));
    let created = |name: &str| team.get(&format!("lakeingest/{name}"))["metadata"]["creationTimestamp"].clone();
    // Of two of one second neither is the older one.
    let younger = wait::until("a younger LakeIngest", || {
        team.kubectl(&["delete", "lakeingest/younger", "--ignore-not-found", "--timeout=60s"]);
        team.apply(&team.lake_ingest_object("younger", &prefix("shared")));
        let (older, younger) = (created("events"), created("younger"));
        Ok(if older == younger { Look::NotYet(older.to_string()) } else { Look::Ready(younger) })
    });
    younger.expect("time goes on");
    team.wait_for_condition("younger", "Ready", "True", "Configured");
    let held = team.get("lakeingest/younger")["status"]["location"].clone();
    assert!(held.as_str().is_some_and(|held| held.ends_with("/shared")), "{held}");
    team.apply(&team.lake_ingest_object("events", &prefix("shared")));
    team.wait_for_condition("events", "Ready", "False", "PrefixInUse");
    assert_eq!(team.get("lakeingest/events")["status"]["location"], Value::Null);

    team.kubectl(&["annotate", "configmap/lakeingest-events", "lakeingest.io/prefix-in-use-by-"]);
    team.kubectl(&["annotate", "configmap/lakeingest-events", "--overwrite", "lakeingest.io/location=aws:/x/shared"]);
    team.kubectl(&["delete", "configmap/lakeingest-younger"]);
    let is_back = wait::until("the ConfigMap to be there again", || {
        let told = team.events("LakeIngest", "ConfigurationRestored");
        Ok(if told.is_empty() { Look::NotYet("nothing is told".to_owned()) } else { Look::Ready(()) })
    });
    is_back.expect("the operator puts it back");
    let config = team.get("configmap/lakeingest-younger")["data"]["config.yaml"].clone();
    let config = config.as_str().unwrap_or_default();
    assert!(config.contains("prefix: shared") && !config.contains("InUseBy"), "{config}");
    team.wait_for_condition("events", "Ready", "False", "PrefixInUse");
    team.wait_for_condition("younger", "Ready", "True", "Configured");
}

/// The ConfigMap of the LakeIngest; none while there is none.
fn data_of(team: &Team) -> Option<Value> {
    let found = team.kubectl(&["get", "configmap", "lakeingest-events", "--ignore-not-found", "--output=json"]);
    (!found.trim().is_empty()).then(|| {
        let found: Value = serde_json::from_str(&found).expect("kubectl writes JSON");
        found["data"].clone()
    })
}
