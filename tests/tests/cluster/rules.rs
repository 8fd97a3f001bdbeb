//! Pods in namespaces with rules of their own, and pods of every class, on a real cluster.

use lakeingest_tests::team::Team;
use serde_json::{Value, json};

fn asking(team: &Team) -> Value {
    team.pod("shop", &json!({"lakeingest.io/inject": "events"}))
}

/// The pod as the API server would make it.
fn trial(team: &Team, pod: &Value) -> Value {
    let (done, printed, words) = team.try_apply_with(pod, &["--dry-run=server", "--output=json"]);
    assert!(done, "{words}");
    serde_json::from_str(&printed).expect("kubectl writes JSON")
}

fn sidecar(pod: &Value) -> &Value {
    &pod["spec"]["initContainers"][0]
}

#[test]
fn a_guaranteed_pod_stays_one_and_delivers() {
    let team = Team::new("guaranteed");
    team.lake_ingest("events", &json!({}));
    let mut pod = asking(&team);
    let sure = json!({"cpu": "50m", "memory": "64Mi"});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": sure, "limits": sure});
    assert_eq!(trial(&team, &pod)["status"]["qosClass"], "Guaranteed");
    team.apply(&pod);
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    assert_eq!(team.get("pod/shop")["status"]["qosClass"], "Guaranteed");
    team.stream("shop", 0, 100);
    team.kubectl(&["delete", "pod", "shop", "--timeout=60s"]);
    assert_eq!(team.stored(), (0..100).collect::<Vec<_>>());
}

#[test]
fn what_a_pod_as_a_whole_may_take_is_raised_by_the_sidecars() {
    let team = Team::new("whole");
    team.lake_ingest("events", &json!({}));
    let mut pod = asking(&team);
    let whole = json!({"cpu": "100m", "memory": "64Mi"});
    pod["spec"]["resources"] = json!({"requests": whole, "limits": whole});
    team.apply(&pod);
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    let pod = team.get("pod/shop");
    assert_eq!(pod["status"]["qosClass"], "Guaranteed");
    assert_eq!(pod["spec"]["resources"]["limits"], json!({"cpu": "150m", "memory": "576Mi"}));
}

#[test]
fn a_quota_finds_everything_that_it_counts() {
    let team = Team::new("quota");
    team.lake_ingest("events", &json!({}));
    let names = ["cpu", "memory", "ephemeral-storage"];
    let counted = ["requests", "limits"].iter().flat_map(|list| names.map(|name| format!("{list}.{name}")));
    let hard: serde_json::Map<String, Value> = counted.map(|name| (name, json!("100Gi"))).collect();
    team.apply(
        &json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": hard}}),
    );
    let mut pod = asking(&team);
    let (done, _, words) = team.try_apply(&pod);
    assert!(!done && words.contains("quota"), "the application itself says nothing: {words}");
    let some = json!({"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}, "limits": some});
    team.apply(&pod);
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    assert!(sidecar(&team.get("pod/shop"))["resources"]["limits"]["ephemeral-storage"].is_string());
}

#[test]
fn a_limit_range_leaves_what_the_sidecar_says() {
    let team = Team::new("limit-range");
    team.lake_ingest("events", &json!({}));
    let default = json!({"cpu": "100m", "memory": "64Mi"});
    let limits =
        json!([{"type": "Container", "default": default, "defaultRequest": default, "max": {"memory": "1Gi"}}]);
    team.apply(
        &json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "all"}, "spec": {"limits": limits}}),
    );
    team.start_pod("shop", "events");
    let pod = team.get("pod/shop");
    let resources = &sidecar(&pod)["resources"];
    assert_eq!((&resources["requests"]["memory"], &resources["limits"]["memory"]), (&json!("512Mi"), &json!("512Mi")));
    assert_eq!(pod["status"]["qosClass"], "Guaranteed", "as the application alone would be");
}

#[test]
fn a_namespace_that_gives_users_to_pods_gives_the_sidecar_one() {
    let team = Team::new("users");
    let annotation = "openshift.io/sa.scc.uid-range=1000680000/10000";
    team.cluster.run(["annotate", "namespace", &team.namespace, annotation]).expect("it can be annotated");
    team.lake_ingest("events", &json!({"sidecar": {"imagePullSecrets": [{"name": "registry"}]}}));
    let mut pod = asking(&team);
    // What gives a pod its user there sets it for the pod, or in each container.
    pod["spec"]["securityContext"] = json!({"runAsUser": 1_000_680_000, "fsGroup": 1_000_680_000});
    team.apply(&pod);
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    let found = team.get("pod/shop");
    let context = &sidecar(&found)["securityContext"];
    assert_eq!((context.get("runAsUser"), &context["runAsNonRoot"]), (None, &json!(true)), "{context}");
    assert_eq!(found["spec"]["imagePullSecrets"], json!([{"name": "registry"}]));
    team.stream("shop", 0, 10);
    team.kubectl(&["delete", "pod", "shop", "--timeout=60s"]);
    assert_eq!(team.stored(), (0..10).collect::<Vec<_>>());
}
