//! Each thing that a sidecar can say, and what is said of its LakeIngest then.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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

/// All that sidecars and a preflight tell.
fn told(summary: &Summary, standing: Option<&Standing>) -> Vec<Verdict> {
    let of_lake = of_lake(summary, standing, &expected());
    of_lake.into_iter().chain(of_sidecars(summary, &expected())).collect()
}

fn verdict(summary: &Summary, kind: &str) -> Verdict {
    let all = told(summary, None);
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
    let well = told(&saying(json!({})), None);
    let location = Location::of(&ingest("events", json!({"storage": {"bucket": "lake-data"}})));
    let outcome = Outcome::Configured { was_applied: false, location };
    assert_eq!(ready(&outcome, Some(Teller::Sidecars(&saying(json!({}))))).answer, Answer::Yes);
    for name in said::ALL {
        let summary = reason(name);
        let is_counted = name == said::RESTART_NEEDED && summary.outdated == 1;
        // The first is its pod's, which is ending; the other passes over what it does not know, and goes on.
        let is_elsewhere = [said::POD_ENDING, said::UNKNOWN_CONFIGURATION].contains(&name);
        let ready = ready(&outcome, Some(Teller::Sidecars(&summary)));
        let is_unready = ready.answer == Answer::No && ready.reason == name && ready.message.contains("so it is");
        let changes = told(&summary, None) != well;
        assert!(changes || is_counted || is_elsewhere || is_unready, "{name}");
    }
}

#[test]
fn a_lake_ingest_whose_sidecars_say_nothing_is_well() {
    let all = told(&saying(json!({})), None);
    assert_eq!(all.iter().map(|verdict| verdict.kind).collect::<Vec<_>>(), [&OF_LAKE[..], &OF_SIDECARS].concat());
    assert!(all.iter().all(|verdict| !verdict.is_bad() && verdict.answer != Answer::Unknown), "{all:?}");
}

#[test]
fn without_an_answer_nobody_knows() {
    let none = summary_of(&[]);
    let silent = summary_of(&[(pod("shop-1"), None)]);
    for (summary, told) in [(none, reasons::NO_SIDECARS), (silent, reasons::NOT_ANSWERED)] {
        let all = of_sidecars(&summary, &expected());
        assert_eq!(all.len(), OF_SIDECARS.len());
        assert!(all.iter().all(|verdict| (verdict.answer, verdict.reason) == (Answer::Unknown, told)), "{all:?}");
        assert!(all.iter().all(|verdict| !verdict.is_bad()), "what nobody knows is no alarm");
    }
}

fn tried(reason: Option<&str>, message: &str) -> Standing {
    let time = Time("2026-01-08T10:00:00Z".parse().expect("it is a time"));
    Standing::Tried(Preflight {
        tried: "0123456789ab".to_owned(),
        failing_since: reason.map(|_| time.clone()),
        time,
        reason: reason.map(str::to_owned),
        message: message.to_owned(),
    })
}

/// What is said of keys and of the lake by a preflight, and by nobody else.
#[test]
fn a_preflight_tells_of_the_lake_while_no_sidecar_does() {
    for (reason, keys, lake) in [
        (None, ("True", "Accepted"), ("True", "Reachable")),
        (Some("CredentialsMissing"), ("False", "SecretMissingInNamespace"), ("Unknown", "CredentialsMissing")),
        (Some("CredentialsInvalid"), ("False", "CredentialsInvalid"), ("Unknown", "CredentialsInvalid")),
        (Some("BucketMissing"), ("True", "Accepted"), ("False", "BucketMissing")),
        (Some("WrongRegion"), ("True", "Accepted"), ("False", "WrongRegion")),
        (Some("StorageUnreachable"), ("Unknown", "StorageUnreachable"), ("False", "StorageUnreachable")),
        (Some("PrefixInUse"), ("True", "Accepted"), ("True", "Reachable")),
        (Some("ScratchFailed"), ("Unknown", "ScratchFailed"), ("Unknown", "ScratchFailed")),
        (Some("ImagePullBackOff"), ("Unknown", "ImagePullBackOff"), ("Unknown", "ImagePullBackOff")),
        (Some("FailedCreate"), ("Unknown", "FailedCreate"), ("Unknown", "FailedCreate")),
        (Some("a stranger's"), ("Unknown", "PreflightFailed"), ("Unknown", "PreflightFailed")),
    ] {
        let standing = tried(reason, "so it is");
        for summary in [summary_of(&[]), summary_of(&[(pod("shop-1"), None)])] {
            let all = of_lake(&summary, Some(&standing), &expected());
            let said: Vec<_> = all.iter().map(|verdict| (verdict.answer.text(), verdict.reason)).collect();
            assert_eq!(said, [keys, lake], "{reason:?}");
            let words: String = all.iter().map(|verdict| verdict.message.as_str()).collect();
            assert!(words.contains("(preflight, 2026-01-08T10:00:00Z)"), "{words}");
            assert!(words.contains("so it is") || reason == Some("PrefixInUse"), "{words}");
            let others = of_sidecars(&summary, &expected());
            assert!(others.iter().all(|verdict| verdict.answer == Answer::Unknown), "it knows of no rows");
        }
        // Those who write to it know better.
        let by_sidecars = of_lake(&saying(json!({})), Some(&standing), &expected());
        assert!(by_sidecars.iter().all(|verdict| verdict.answer == Answer::Yes), "{by_sidecars:?}");
    }
}

#[test]
fn a_prefix_that_a_preflight_finds_in_use_is_not_ready() {
    let location = Location::of(&ingest("events", json!({"storage": {"bucket": "lake-data"}})));
    let outcome = Outcome::Configured { was_applied: false, location };
    let (standing, none) = (tried(Some("PrefixInUse"), "it is team-b/events's"), summary_of(&[]));
    let verdict = ready(&outcome, Teller::of(Some(&none), Some(&standing)));
    assert_eq!((verdict.answer, verdict.reason), (Answer::No, reasons::PREFIX_IN_USE));
    assert!(verdict.message.contains("team-b/events"), "{}", verdict.message);
    let verdict = ready(&outcome, Teller::of(Some(&saying(json!({}))), Some(&standing)));
    assert_eq!(verdict.answer, Answer::Yes, "a sidecar that writes has it");
}

#[test]
fn a_lake_that_nobody_has_tried_is_said_to_be_so() {
    let none = summary_of(&[]);
    for (standing, words) in
        [(Standing::Untried("nobody may".to_owned()), "nobody may"), (Standing::Pending, "under way")]
    {
        let all = of_lake(&none, Some(&standing), &expected());
        assert_eq!(all.iter().map(|verdict| verdict.kind).collect::<Vec<_>>(), OF_LAKE);
        let is_so = |verdict: &Verdict| (verdict.answer, verdict.reason) == (Answer::Unknown, reasons::NOT_TRIED);
        assert!(all.iter().all(|verdict| is_so(verdict) && verdict.message.contains(words)), "{all:?}");
    }
    assert!(of_lake(&none, None, &expected()).is_empty(), "a new leader has still to look");
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
