//! Lakes that are tried before any pod uses them, on a real cluster: a Job in a namespace that admits restricted pods alone.

use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::cluster::change;

/// The chart that has lakes tried in the namespace of a team; the chart of before at the end, also of a test that fails.
struct Tried<'a>(&'a Team);

impl<'a> Tried<'a> {
    fn begin(team: &'a Team) -> Self {
        let tried = Self(team);
        let value = format!("preflight.namespaces={{{}}}", team.namespace);
        change(&team.cluster, &[&value]).expect("the chart can be changed");
        tried
    }
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if let Err(error) = change(&self.0.cluster, &[]) {
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}

/// The pods of preflights that there are.
fn pods(team: &Team) -> Vec<Value> {
    let pods = team.kubectl(&["get", "pods", "--selector=lakeingest.io/preflight", "--output=json"]);
    let pods: Value = serde_json::from_str(&pods).expect("kubectl writes JSON");
    pods["items"].as_array().cloned().unwrap_or_default()
}

#[test]
fn what_is_wrong_with_a_lake_is_said_before_any_pod_uses_it_and_so_is_that_it_was_mended() {
    let team = Team::new("preflight");
    let _tried = Tried::begin(&team);
    team.lake_ingest("events", &json!({"storage": {"bucket": "no-such-bucket"}, "flush": {"maxAge": "1s"}}));
    let message = team.wait_for_condition("events", "StorageReachable", "False", "BucketMissing");
    assert!(message.contains("s3://no-such-bucket/") && message.contains("(preflight, "), "{message}");
    team.wait_for_condition("events", "CredentialsValid", "True", "Accepted");
    assert!(team.wait_for_event("LakeIngest", "BucketMissing").contains("s3://no-such-bucket/"));
    for pod in pods(&team) {
        assert_eq!(pod["spec"].get("initContainers"), None, "it is not injected: {pod}");
        assert_eq!(pod["status"]["qosClass"], "Guaranteed");
        let is_token = |volume: &Value| volume.to_string().contains("kube-api-access");
        assert!(!pod["spec"]["volumes"].as_array().is_some_and(|all| all.iter().any(is_token)), "{pod}");
    }

    team.lake_ingest("events", &json!({"flush": {"maxAge": "1s"}}));
    team.wait_for_condition("events", "StorageReachable", "True", "Reachable");
    let status = team.wait_for_status("events", "that it is well", |status| status["preflight"]["reason"].is_null());
    assert_eq!(status["pods"]["injected"], 0);
    let left = team.lake().objects();
    assert!(
        left.iter().all(|key| key.starts_with("data/_lakeingest/probe/")),
        "it claims and leaves nothing: {left:?}"
    );

    // The prefix is that of a LakeIngest that is gone.
    team.start_pod("shop", "events");
    team.stream("shop", 0, 10);
    team.wait_until_delivered("shop");
    team.kubectl(&["delete", "pod/shop", "lakeingest/events", "--timeout=60s"]);
    team.apply(&team.lake_ingest_object("other", &json!({})));
    let message = team.wait_for_condition("other", "Ready", "False", "PrefixInUse");
    assert!(message.contains(&format!("{}/events", team.namespace)) && message.contains("(preflight, "), "{message}");
    let taken: Vec<_> = team.lake().objects().into_iter().filter(|key| key.contains("/owner-")).collect();
    assert_eq!(taken, Vec::<String>::new());
}

#[test]
fn a_lake_that_cannot_be_tried_says_why_until_it_can_be() {
    let team = Team::new("untried");
    let _tried = Tried::begin(&team);
    team.kubectl(&["delete", "secret", "lake-s3"]);
    team.lake_ingest("events", &json!({}));
    let message = team.wait_for_condition("events", "CredentialsValid", "False", "SecretMissingInNamespace");
    assert!(message.contains("Secret lake-s3") && message.contains("accessKeyId is missing"), "{message}");
    team.wait_for_condition("events", "StorageReachable", "Unknown", "CredentialsMissing");
    // Nobody tells the operator, which reads no Secret: it has the lake tried again.
    team.put_keys(&team.access().secret_key);
    team.wait_for_condition("events", "CredentialsValid", "True", "Accepted");
    team.wait_for_condition("events", "StorageReachable", "True", "Reachable");

    let image = json!({"storage": {"prefix": "image"}, "sidecar": {"image": "lakeingest/sidecar:never-made"}});
    team.lake_ingest("image", &image);
    let message = team.wait_for_condition("image", "StorageReachable", "Unknown", "ImagePullBackOff");
    assert!(message.contains("lakeingest/sidecar:never-made"), "{message}");
    team.wait_for_event("LakeIngest", "ImagePullBackOff");

    team.apply(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}},
    }));
    team.lake_ingest("quota", &json!({"storage": {"prefix": "quota"}}));
    let message = team.wait_for_condition("quota", "StorageReachable", "Unknown", "FailedCreate");
    assert!(message.contains("exceeded quota"), "{message}");
    team.kubectl(&["delete", "resourcequota", "none"]);
    team.wait_for_condition("quota", "StorageReachable", "True", "Reachable");
}
