//! A trial from what is to be tried to what came of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use lakeingest_crds::lakeingest::LakeIngest;
use serde_json::{Value, json};

use super::attempt::{Attempt, Outcome, attempt};
use super::decide::{Facts, Step};
use super::job::Trial;
use super::trials::newest_of;
use super::wanted::{Allowed, Wanted, wanted};
use super::*;
use crate::controller::{build, validate};
use crate::fixtures::{ingest, names, validated};
use crate::index::{Filler, Index};
use crate::limits::{PREFLIGHT_RETRY_MAX, PREFLIGHT_RETRY_MIN};

#[test]
fn the_job_has_the_keys_and_the_manners_of_a_sidecar_and_nothing_else() {
    let Trial { tried, job } = Trial::of(&validated());
    let job = serde_json::to_value(job).expect("a Job is plain data");
    let items = ["accessKeyId", "secretAccessKey", "sessionToken"].map(|key| json!({"key": key, "path": key}));
    let expected = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": format!("lakeingest-preflight-events-{tried}"),
            "namespace": "team-a",
            "labels": {"app.kubernetes.io/managed-by": "lakeingest-operator", "lakeingest.io/preflight": "events"},
            "ownerReferences": [{
                "apiVersion": "lakeingest.io/v1alpha1", "kind": "LakeIngest", "name": "events", "uid": "uid-of-events",
                "controller": true,
            }],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 180,
            "ttlSecondsAfterFinished": 600,
            "template": {
                "metadata": {
                    "labels": {"app.kubernetes.io/managed-by": "lakeingest-operator", "lakeingest.io/preflight": "events"},
                    "annotations": {"lakeingest.io/inject": "false", "lakeingest.io/tried": tried},
                },
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "preflight",
                        "image": "lakeingest/sidecar:1",
                        "args": ["preflight"],
                        "env": [{"name": "LAKEINGEST_CREDENTIALS", "value": "files"}],
                        "resources": {
                            "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "32Mi"},
                            "limits": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "32Mi"},
                        },
                        "volumeMounts": [
                            {"name": "lakeingest-scratch", "mountPath": "/var/lib/lakeingest/scratch"},
                            {"name": "lakeingest-config", "mountPath": "/etc/lakeingest/config", "readOnly": true},
                            {"name": "lakeingest-credentials", "mountPath": "/etc/lakeingest/credentials", "readOnly": true},
                        ],
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "securityContext": {
                            "runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                            "runAsUser": 65532, "runAsGroup": 65532,
                        },
                    }],
                    "volumes": [
                        {"name": "lakeingest-scratch", "emptyDir": {"sizeLimit": "16Mi"}},
                        {"name": "lakeingest-config", "projected": {"sources": [
                            {"configMap": {"name": "lakeingest-events", "items": [{"key": "config.yaml", "path": "config.yaml"}]}},
                        ]}},
                        {"name": "lakeingest-credentials", "projected": {"sources": [{"secret": {
                            "name": "lake-s3", "optional": true,
                            "items": items,
                        }}]}},
                    ],
                },
            },
        },
    });
    assert_eq!(job, expected);
}

#[test]
fn keys_that_are_lent_are_lent_to_the_account_of_the_pods() {
    let identity = json!({"aws": {"roleArn": "arn:aws:iam::123456789012:role/lake"}, "serviceAccountName": "shop"});
    let spec = json!({
        "storage": {"credentials": {"workloadIdentity": identity}},
        "sidecar": {"imagePullSecrets": [{"name": "registry"}]},
    });
    let ingest = validate(&ingest("events", spec), &names()).expect("it is legal");
    let job = serde_json::to_value(Trial::of(&ingest.with_assigned_users(true)).job).expect("a Job is plain data");
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!((&pod["serviceAccountName"], &pod["automountServiceAccountToken"]), (&json!("shop"), &json!(false)));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    let token = &pod["volumes"][2]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "sts.amazonaws.com");
    let container = &pod["containers"][0];
    assert_eq!(
        container["env"][2],
        json!({"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/etc/lakeingest/token/token"})
    );
    assert_eq!(container["securityContext"].get("runAsUser"), None, "the namespace gives one");
}

/// What changes nothing about the lake makes no other trial.
#[test]
fn another_lake_other_keys_and_another_image_are_another_trial() {
    let tried = |spec: Value| Trial::of(&validate(&ingest("events", spec), &names()).expect("it is legal")).tried;
    let first = tried(json!({}));
    for same in [json!({"flush": {"maxAge": "1s"}}), json!({"drain": {"gracePeriodSeconds": 1}})] {
        assert_eq!(tried(same.clone()), first, "{same}");
    }
    for other in [
        json!({"storage": {"bucket": "other"}}),
        json!({"storage": {"prefix": "other"}}),
        json!({"storage": {"region": "eu-central-1"}}),
        json!({"storage": {"takeOverFrom": "c/team-b/events"}}),
        json!({"storage": {"credentials": {"secretRef": {"name": "other"}}}}),
        json!({"sidecar": {"image": "lakeingest/sidecar:2"}}),
    ] {
        assert_ne!(tried(other.clone()), first, "{other}");
    }
    let mut made_again = ingest("events", json!({}));
    made_again.metadata.uid = Some("another".to_owned());
    assert_ne!(Trial::of(&validate(&made_again, &names()).expect("it is legal")).tried, first);
}

#[test]
fn a_lake_is_tried_where_the_chart_lets_it_and_with_the_configuration_of_now() {
    let (mut filler, index) = Filler::empty();
    let wanted = |ingest: &LakeIngest, allowed: &[&str], index: &Index| {
        let allowed: Vec<String> = allowed.iter().map(|one| (*one).to_owned()).collect();
        wanted(index, &names(), &Allowed::of(&allowed), ingest, false)
    };
    let is_nothing = |wanted: Wanted, words: &str| {
        let Wanted::Nothing(why) = wanted else { panic!("{wanted:?}") };
        assert!(why.contains(words), "{why}");
    };
    let events = ingest("events", json!({}));
    is_nothing(wanted(&events, &[], &index), "preflight.namespaces");
    is_nothing(wanted(&events, &["team-b"], &index), "preflight.namespaces");
    assert!(matches!(wanted(&events, &["*"], &index), Wanted::Soon(_)), "there is no configuration yet");
    filler.config_map(build(&validated(), None).config_map);
    for allowed in [&["*"][..], &["team-b", "team-a"]] {
        assert!(matches!(wanted(&events, allowed, &index), Wanted::Trial(_)), "{allowed:?}");
    }
    let mut changed = events.clone();
    changed.metadata.generation = Some(4);
    assert!(matches!(wanted(&changed, &["*"], &index), Wanted::Soon(_)), "it is that of before");
    let mut older = ingest("older", json!({}));
    older.metadata.creation_timestamp = Some(time("2026-01-08T10:05:29Z"));
    filler.lake_ingest(older);
    is_nothing(wanted(&events, &["*"], &index), "another LakeIngest's");
    is_nothing(wanted(&ingest("events", json!({"storage": {"bucket": "B"}})), &["*"], &index), "cannot be used");
    let role = json!({"aws": {"roleArn": "arn:aws:iam::123456789012:role/lake"}});
    for credentials in [json!(null), json!({"workloadIdentity": role})] {
        let unknown = ingest("events", json!({"storage": {"credentials": credentials}}));
        is_nothing(wanted(&unknown, &["*"], &index), "serviceAccountName");
    }
}

fn pod(status: Value) -> Pod {
    let metadata = json!({"name": "x", "namespace": "team-a", "creationTimestamp": "2026-01-08T10:00:00Z"});
    serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("it is a pod")
}

fn container(state: Value) -> Value {
    json!({"containerStatuses": [{
        "name": "preflight", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state,
    }]})
}

fn ended(message: &str) -> Pod {
    let finished = "2026-01-08T10:00:05Z";
    pod(container(
        json!({"terminated": {"exitCode": 69, "reason": "Error", "message": message, "finishedAt": finished}}),
    ))
}

fn time(text: &str) -> Time {
    Time(text.parse().expect("it is a time"))
}

/// The outcome of a pod that has ended.
fn outcome(pod: &Pod) -> (Option<&'static str>, String) {
    let Some(Attempt::Ended(at, Outcome { reason, message })) = attempt(pod) else { panic!("{:?}", attempt(pod)) };
    assert!(at == time("2026-01-08T10:00:05Z") || at == time("2026-01-08T10:00:00Z"), "{at:?}");
    (reason, message)
}

#[test]
fn a_verdict_is_read_and_one_who_has_none_is_told_of() {
    let verdict = r#"{"reason":"BucketMissing","message":"failed to get s3://x"}"#;
    assert_eq!(outcome(&ended(verdict)), (Some("BucketMissing"), "failed to get s3://x".to_owned()));
    assert_eq!(outcome(&ended(r#"{"message":""}"#)), (None, String::new()));
    let (reason, message) =
        outcome(&ended(&json!({"reason": "AllIsWell", "message": "a\nb".repeat(10_000)}).to_string()));
    assert_eq!(reason, Some("PreflightFailed"), "I12, I13: nobody puts words of their own into a condition's reason");
    assert!(!message.contains('\n') && message.len() < 4_096, "{}", message.len());
    let (reason, message) = outcome(&ended("error: unrecognized subcommand 'preflight'"));
    assert_eq!(reason, Some("PreflightFailed"));
    assert!(message.contains("code 69 (Error)") && message.contains("unrecognized subcommand"), "{message}");
    let evicted = pod(json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}));
    let (reason, message) = outcome(&evicted);
    assert!(reason == Some("PreflightFailed") && message.contains("Evicted: The node was low"), "{message}");
}

#[test]
fn a_pod_that_cannot_start_says_what_it_waits_for() {
    let waiting = |reason: &str| attempt(&pod(container(json!({"waiting": {"reason": reason, "message": "no such"}}))));
    for (said, reason) in [
        ("ErrImagePull", "ImagePullBackOff"),
        ("ImagePullBackOff", "ImagePullBackOff"),
        ("InvalidImageName", "InvalidImageName"),
        ("CreateContainerConfigError", "CreateContainerConfigError"),
    ] {
        let Some(Attempt::Stuck(outcome)) = waiting(said) else { panic!("{said}") };
        assert_eq!(outcome.reason, Some(reason));
        assert!(outcome.message.contains("no such"), "{}", outcome.message);
    }
    assert_eq!(waiting("ContainerCreating"), Some(Attempt::UnderWay));
    assert_eq!(attempt(&pod(json!({"phase": "Running"}))), Some(Attempt::UnderWay));
    let condition =
        json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"});
    let unscheduled = attempt(&pod(json!({"phase": "Pending", "conditions": [condition]})));
    assert!(
        matches!(unscheduled, Some(Attempt::Stuck(Outcome { reason: Some("Unschedulable"), .. }))),
        "{unscheduled:?}"
    );
    let mut going = ended("");
    going.metadata.deletion_timestamp = going.creation_timestamp();
    assert_eq!(attempt(&going), None, "its Job tells");
}

#[test]
fn the_newest_pod_of_the_same_trial_counts() {
    let (mut filler, index) = Filler::empty();
    for (name, ingest, tried, created) in [
        ("older", "events", "a", "2026-01-08T10:00:00Z"),
        ("newer", "events", "a", "2026-01-08T10:00:20Z"),
        ("other", "events", "b", "2026-01-08T10:00:40Z"),
        ("stranger", "orders", "a", "2026-01-08T10:00:40Z"),
    ] {
        let mut pod = pod(json!({"phase": "Running", "podIP": "10.0.0.1"}));
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.creation_timestamp = Some(time(created));
        pod.labels_mut().insert("lakeingest.io/preflight".to_owned(), ingest.to_owned());
        pod.annotations_mut().insert("lakeingest.io/tried".to_owned(), tried.to_owned());
        pod.annotations_mut().insert("of-somebody".to_owned(), "x".to_owned());
        filler.trial(pod);
    }
    let (pods, events) = (index.trials(), ObjectRef::new("events").within("team-a"));
    let newest = newest_of(&pods, &events, "a").expect("there is one");
    assert_eq!(newest.name_any(), "newer");
    let kept = serde_json::to_string(newest).expect("a pod is plain data");
    assert!(!kept.contains("of-somebody") && !kept.contains("10.0.0.1"), "{kept}");
    assert_eq!(newest_of(&pods, &events, "c"), None);
}

fn preflight(reason: Option<&str>, failing_since: &str, at: &str) -> Preflight {
    Preflight {
        tried: "a".to_owned(),
        time: time(at),
        failing_since: reason.map(|_| time(failing_since)),
        reason: reason.map(str::to_owned),
        message: String::new(),
    }
}

fn step(last: Option<&Preflight>, attempt: Option<Attempt>, sidecars_tell: bool, now: &str) -> Step {
    Facts { tried: "a", last, attempt, sidecars_tell, now: time(now) }.step()
}

#[test]
fn a_lake_is_tried_once_and_again_only_while_it_fails_and_no_sidecar_tells() {
    let (at, later) = ("2026-01-08T10:00:00Z", "2026-01-09T10:00:00Z");
    assert_eq!(step(None, None, false, at), Step::Make);
    assert_eq!(step(None, Some(Attempt::UnderWay), false, at), Step::Rest);
    let well = preflight(None, at, at);
    assert_eq!(step(Some(&well), None, false, later), Step::Rest);
    let failed = preflight(Some("BucketMissing"), at, at);
    assert_eq!(step(Some(&failed), None, false, later), Step::Make);
    assert_eq!(step(Some(&failed), None, true, later), Step::Rest);
    assert_eq!(step(Some(&failed), Some(Attempt::UnderWay), false, later), Step::Rest);
}

#[test]
fn what_came_of_a_trial_is_noted_once_and_since_when_it_fails_is_kept() {
    let (at, then, now) = ("2026-01-08T10:00:00Z", "2026-01-08T10:01:00Z", "2026-01-08T10:01:01Z");
    let bad = |reason| Outcome { reason: Some(reason), message: String::new() };
    let ended = |reason| Some(Attempt::Ended(time(then), bad(reason)));
    let first = preflight(Some("BucketMissing"), at, at);
    let Step::Note(second) = step(Some(&first), ended("WrongRegion"), false, now) else { panic!("it is news") };
    assert_eq!(second, preflight(Some("WrongRegion"), at, then));
    assert_eq!(step(Some(&second), ended("WrongRegion"), false, now), Step::Rest);
    let well = Some(Attempt::Ended(time(then), Outcome { reason: None, message: String::new() }));
    assert_eq!(step(Some(&first), well, false, now), Step::Note(preflight(None, at, then)));
    // A pod that waits is told of at once, and once; it goes on by itself.
    let stuck = || Some(Attempt::Stuck(bad("ImagePullBackOff")));
    let Step::Note(noted) = step(None, stuck(), false, now) else { panic!("it is news") };
    assert_eq!(noted, preflight(Some("ImagePullBackOff"), now, now));
    assert_eq!(step(Some(&noted), stuck(), false, "2026-01-09T10:00:00Z"), Step::Rest);
    assert!(matches!(step(Some(&noted), ended("BucketMissing"), false, now), Step::Note(_)));
}

/// The pace of a lake that fails for a day.
#[test]
fn i12_trials_become_rarer_the_longer_they_fail() {
    let start = time("2026-01-08T10:00:00Z");
    let after = |seconds: u64| Time(start.0 + Duration::from_secs(seconds));
    let (mut last, mut tries, mut pauses) = (0, 0, Vec::new());
    for second in 1..=86_400 {
        let known = Preflight {
            time: after(last),
            ..preflight(Some("BucketMissing"), "2026-01-08T10:00:00Z", "2026-01-08T10:00:00Z")
        };
        let facts = Facts { tried: "a", last: Some(&known), attempt: None, sidecars_tell: false, now: after(second) };
        if facts.step() == Step::Make {
            pauses.push(second - last);
            (last, tries) = (second, tries + 1);
        }
    }
    assert_eq!(pauses.first(), Some(&PREFLIGHT_RETRY_MIN.as_secs()));
    assert_eq!(pauses.last(), Some(&PREFLIGHT_RETRY_MAX.as_secs()));
    assert!(pauses.is_sorted() && tries < 110, "{tries} in a day: {pauses:?}");
}
