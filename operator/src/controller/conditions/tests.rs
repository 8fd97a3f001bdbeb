//! Each thing that a sidecar can say, and what is said of its LakeIngest then.

use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use super::*;
use crate::controller::Location;
use crate::fixtures::ingest;
use crate::index::SidecarPod;
use crate::sidecars::summary_of;

fn pod(name: &str) -> SidecarPod {
    SidecarPod {
        uid: name.to_owned(),
        namespace: "team-a".to_owned(),
        name: name.to_owned(),
        ingest: ObjectRef::new("events").within("team-a"),
        owner: None,
        image: "i".to_owned(),
        is_ready: true,
        address: None,
    }
}

/// What two sidecars say, the second of which has nothing to say.
fn saying(health: serde_json::Value) -> Summary {
    summary_of(&[(pod("shop-1"), Some(health)), (pod("shop-2"), Some(json!({"generation": 3})))])
}

fn reason(name: &str) -> Summary {
    saying(json!({"reasons": [{"name": name, "message": "so it is"}]}))
}

fn expected() -> Expected {
    Expected {
        secret: Some("lake-s3".to_owned()),
        namespace: "team-a".to_owned(),
        max_age: Duration::from_secs(60),
        quarantine: "s3://lake-data/data/_quarantine/".to_owned(),
        now: "2026-01-08T10:05:30Z".parse().expect("it is a time"),
    }
}

fn verdict(summary: &Summary, kind: &str) -> Verdict {
    let all = of_sidecars(summary, &expected());
    all.into_iter().find(|verdict| verdict.kind == kind).expect("each condition is said")
}

#[test]
fn each_reason_of_a_sidecar_is_a_condition_with_its_words() {
    for (name, kind, answer, told) in [
        (said::CREDENTIALS_MISSING, conditions::CREDENTIALS_VALID, "False", "SecretMissingInNamespace"),
        (said::CREDENTIALS_INVALID, conditions::CREDENTIALS_VALID, "False", "CredentialsInvalid"),
        (said::CREDENTIALS_INVALID, conditions::STORAGE_REACHABLE, "Unknown", "CredentialsInvalid"),
        (said::STORAGE_UNREACHABLE, conditions::STORAGE_REACHABLE, "False", "StorageUnreachable"),
        (said::STORAGE_UNREACHABLE, conditions::CREDENTIALS_VALID, "Unknown", "StorageUnreachable"),
        (said::BUCKET_MISSING, conditions::STORAGE_REACHABLE, "False", "BucketMissing"),
        (said::WRONG_REGION, conditions::STORAGE_REACHABLE, "False", "WrongRegion"),
        (said::STORAGE_UNEXPECTED, conditions::STORAGE_REACHABLE, "False", "StorageUnexpected"),
        (said::OBJECT_UNVERIFIED, conditions::STORAGE_REACHABLE, "False", "ObjectUnverified"),
        (said::CONDITIONAL_PUT_UNSUPPORTED, conditions::STORAGE_REACHABLE, "True", "ConditionalPutUnsupported"),
        (said::JOURNAL_FULL, conditions::BACKLOGGED, "True", "JournalFull"),
        (said::JOURNAL_STALLED, conditions::BACKLOGGED, "True", "JournalStalled"),
        (said::SCHEMA_CONFLICT, conditions::SCHEMA_CONFLICT, "True", "SchemaConflict"),
        (said::SCHEMA_REGISTRY, conditions::SCHEMA_CONFLICT, "True", "SchemaRegistry"),
        (said::KEY_CONFLICT, conditions::DATA_AT_RISK, "True", "KeyConflict"),
        (said::ENCODE_FAILED, conditions::DATA_AT_RISK, "True", "EncodeFailed"),
        (said::JOURNAL_DAMAGED, conditions::DATA_AT_RISK, "True", "JournalDamaged"),
        (said::SCRATCH_FAILED, conditions::DATA_AT_RISK, "True", "ScratchFailed"),
    ] {
        let verdict = verdict(&reason(name), kind);
        assert_eq!((verdict.answer.text(), verdict.reason), (answer, told), "{name} {kind}");
        assert!(verdict.message.contains("so it is"), "{name}: {}", verdict.message);
        assert!(verdict.message.contains("pod shop-1, 1 of 2 sidecars"), "{name}: {}", verdict.message);
    }
}

/// Nothing that a sidecar can say is passed over: it is a condition, counted, or named here with the reason.
#[test]
fn no_reason_of_a_sidecar_is_silent() {
    let well = of_sidecars(&saying(json!({})), &expected());
    let location = Location::of(&ingest("events", json!({"storage": {"bucket": "lake-data"}})));
    let outcome = Outcome::Configured { was_applied: false, location };
    assert_eq!(ready(&outcome, Some(&saying(json!({})))).answer, Answer::Yes);
    for name in said::ALL {
        let summary = reason(name);
        let is_counted = name == said::RESTART_NEEDED && summary.outdated == 1;
        // The first is its pod's, which is ending; the other passes over what it does not know, and goes on.
        let is_elsewhere = [said::POD_ENDING, said::UNKNOWN_CONFIGURATION].contains(&name);
        let ready = ready(&outcome, Some(&summary));
        let is_unready = ready.answer == Answer::No && ready.reason == name && ready.message.contains("so it is");
        let changes = of_sidecars(&summary, &expected()) != well;
        assert!(changes || is_counted || is_elsewhere || is_unready, "{name}");
    }
}

#[test]
fn a_lake_ingest_whose_sidecars_say_nothing_is_well() {
    let all = of_sidecars(&saying(json!({})), &expected());
    assert_eq!(all.iter().map(|verdict| verdict.kind).collect::<Vec<_>>(), OF_SIDECARS);
    assert!(all.iter().all(|verdict| !verdict.is_bad() && verdict.answer != Answer::Unknown), "{all:?}");
}

#[test]
fn without_an_answer_nobody_knows() {
    let none = summary_of(&[]);
    let silent = summary_of(&[(pod("shop-1"), None)]);
    for (summary, told) in [(none, reasons::NO_SIDECARS), (silent, reasons::NOT_ANSWERED)] {
        let all = of_sidecars(&summary, &expected());
        assert!(all.iter().all(|verdict| (verdict.answer, verdict.reason) == (Answer::Unknown, told)), "{all:?}");
        assert!(all.iter().all(|verdict| !verdict.is_bad()), "what nobody knows is no alarm");
    }
}

#[test]
fn rows_are_late_when_they_are_twice_as_old_as_they_may_be_and_a_minute_at_least() {
    let waiting = |seconds: u64| saying(json!({"backlog": {"rows": 1, "oldest_seconds": seconds}}));
    let reason = |seconds: u64, max_age: u64| {
        let expected = Expected { max_age: Duration::from_secs(max_age), ..expected() };
        let all = of_sidecars(&waiting(seconds), &expected);
        all.into_iter().find(|verdict| verdict.kind == conditions::BACKLOGGED).map(|verdict| verdict.reason)
    };
    assert_eq!(reason(119, 60), Some(reasons::KEEPING_UP));
    assert_eq!(reason(121, 60), Some(reasons::BEHIND));
    assert_eq!(reason(60, 1), Some(reasons::KEEPING_UP));
    assert_eq!(reason(62, 1), Some(reasons::BEHIND));
}

#[test]
fn records_in_quarantine_are_told_with_where_they_are() {
    let verdict = verdict(&saying(json!({"quarantined_rows": 2})), conditions::QUARANTINED);
    assert!(verdict.is_bad());
    assert!(verdict.message.contains("s3://lake-data/data/_quarantine/"), "{}", verdict.message);
}

#[test]
fn pods_without_their_sidecar_are_named_up_to_a_bound() {
    assert!(!injection(&[]).is_bad());
    let pod = |number| crate::fixtures::missing_pod(&format!("shop-{number}"), "u1");
    let missing: Vec<MissingPod> = (0..MISSING_NAMED_MAX + 2).map(pod).collect();
    let verdict = injection(&missing);
    assert_eq!((verdict.is_bad(), verdict.reason), (true, reasons::SIDECAR_MISSING));
    assert!(verdict.message.contains("shop-0, ") && verdict.message.contains(" and 2 more"), "{}", verdict.message);
}
