//! Kinds of pods, and what happens to pods while they live, on a real node.

use lakeingest_tests::team::{Team, pod_spec};
use serde_json::{Value, json};

/// The exit code of a pod's sidecar.
fn exit_code(team: &Team, pod: &str) -> Value {
    team.container_status(pod, "lakeingest")["state"]["terminated"]["exitCode"].clone()
}

#[test]
fn a_job_of_a_cron_job_completes_and_its_sidecar_ends_with_0() {
    let team = Team::new("cron-job");
    team.lake_ingest("events", &json!({}));
    let record = r#"{"table_name": "events", "record": {"sequence": 7}}"#;
    let script = format!("curl --silent --show-error --fail -X POST $LAKE_INGEST_URL/ingest/stream -d '{record}'");
    let mut spec = pod_spec(&script);
    spec["restartPolicy"] = json!("OnFailure");
    let template = json!({"metadata": {"annotations": {"lakeingest.io/inject": "events"}}, "spec": spec});
    team.apply(&json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"backoffLimit": 0, "template": template}}},
    }));
    team.kubectl(&["create", "job", "tonight", "--from=cronjob/nightly"]);
    team.kubectl(&["wait", "--for=condition=Complete", "job/tonight", "--timeout=60s"]);
    assert_eq!(team.stored(), [7]);
    let pod = team.get("pods")["items"][0].clone();
    assert_eq!(pod["status"]["phase"], "Succeeded");
    assert_eq!(exit_code(&team, pod["metadata"]["name"].as_str().expect("a pod has a name")), 0);
}

/// Goal: a full journal is no reason to evict a pod whose application has a small limit of its own.
/// Method: a pod that is over such a limit is evicted; by then the kubelet has looked at the other one too.
#[test]
fn a_full_journal_evicts_no_pod_whose_application_limits_ephemeral_storage() {
    let team = Team::new("full");
    let buffer = json!({"sizeLimit": "64Mi", "scratchSizeLimit": "64Mi"});
    let spec = json!({"buffer": buffer, "flush": {"maxBytes": "16Mi"}, "drain": {"gracePeriodSeconds": 1}});
    team.lake_ingest("events", &spec);
    team.take_bucket_away();
    let small = json!({"limits": {"ephemeral-storage": "20Mi"}});
    let mut pod = team.pod("shop", &json!({"lakeingest.io/inject": "events"}));
    pod["spec"]["containers"][0]["resources"] = small.clone();
    team.apply(&pod);
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    let mut sent_bytes = 0;
    let refusal = loop {
        let record = json!({"text": noise(sent_bytes, 1 << 20)});
        let body = json!({"table_name": "events", "record": record}).to_string();
        let (status, answer) = team.curl("pod/shop", "/ingest/stream", &body);
        if status != 202 {
            break format!("{status}: {answer}");
        }
        sent_bytes += body.len();
        assert!(sent_bytes < 64 << 20, "the journal has a cap");
    };
    assert!(refusal.starts_with("503") && sent_bytes > 40 << 20, "{refusal} after {sent_bytes} bytes");

    let mut over = team.pod_that("over", &json!({}), "dd if=/dev/zero of=/fill/file bs=1M count=40; sleep 3600");
    over["spec"]["containers"][0]["resources"] = small;
    over["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "fill", "mountPath": "/fill"}]);
    over["spec"]["volumes"] = json!([{"name": "fill", "emptyDir": {}}]);
    team.apply(&over);
    team.kubectl(&["wait", "--for=jsonpath={.status.reason}=Evicted", "pod/over", "--timeout=180s"]);
    let status = team.get("pod/shop")["status"].clone();
    assert_eq!((&status["phase"], status.get("reason")), (&json!("Running"), None), "{status}");
    assert_eq!(team.health("shop")["status"], "degraded");
}

/// Text that does not compress, another for each start.
fn noise(start: usize, length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::try_from(start).expect("a length fits");
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + u8::try_from(state % 64).expect("it is less than 64"))
    };
    (0..length).map(|_| next()).filter(|character| character.is_ascii_alphanumeric()).collect()
}

/// The application takes all the time that it had before there was a sidecar, and sends its last record at the end of it.
#[test]
fn an_application_that_uses_all_of_its_grace_leaves_the_sidecars_untouched() {
    let team = Team::new("grace");
    team.lake_ingest("events", &json!({"drain": {"gracePeriodSeconds": 20}}));
    let record = r#"{"table_name": "events", "record": {"sequence": 1}}"#;
    let send = format!("curl --silent --fail $LAKE_INGEST_URL/ingest/stream -d '{record}'");
    let script = format!("last() {{ sleep 4; {send}; exit 0; }}; trap last TERM; while true; do sleep 0.1; done");
    let mut pod = team.pod_that("shop", &json!({"lakeingest.io/inject": "events"}), &script);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(4);
    team.apply(&pod);
    team.kubectl(&["wait", "--for=condition=Ready", "pod/shop", "--timeout=60s"]);
    assert_eq!(team.get("pod/shop")["spec"]["terminationGracePeriodSeconds"], 24);
    team.stream("shop", 0, 1);
    team.kubectl(&["delete", "pod", "shop", "--timeout=60s"]);
    assert_eq!(team.stored(), [0, 1]);
}

#[test]
fn i10_what_changes_in_a_pod_that_runs_is_not_touched() {
    let team = Team::new("updates");
    team.lake_ingest("events", &json!({}));
    let asking = team.pod("shop", &json!({"lakeingest.io/inject": "events"}));
    let (done, _, words) = team.try_apply_with(&asking, &["--dry-run=server"]);
    assert!(done, "{words}");
    assert_eq!(team.get("pods")["items"], json!([]), "a dry run makes nothing");
    team.start_pod("shop", "events");
    let before = team.get("pod/shop");
    team.lake_ingest("events", &json!({"sidecar": {"port": 9001}}));
    team.kubectl(&["label", "pod/shop", "seen=yes"]);
    let image = before["spec"]["containers"][0]["image"].as_str().expect("it has an image").to_owned();
    let debug = ["debug", "shop", "--profile=restricted", "--container=debugger", "--image-pull-policy=IfNotPresent"];
    team.kubectl(&[debug.as_slice(), &[&format!("--image={image}"), "--", "true"]].concat());
    let mut after = team.get("pod/shop");
    let debugger = after["spec"]["ephemeralContainers"][0].take();
    assert_eq!((&debugger["name"], debugger.get("env")), (&json!("debugger"), None), "{debugger}");
    after["spec"].as_object_mut().expect("a pod has a spec").remove("ephemeralContainers");
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
}
