//! From an outcome and what was seen to what is said of it.

use chrono::{TimeDelta, Utc};
use kube::core::DeserializeGuard;
use lakeingest_crds::lakeingest::Preflight;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{ingest, names};
use crate::sidecars::summary_of;

fn found() -> Found {
    DeserializeGuard(Ok(ingest("events", json!({}))))
}

fn configured() -> Outcome {
    Outcome::Configured { was_applied: false, location: Location::of(&ingest("events", json!({}))) }
}

fn invalid() -> Outcome {
    Outcome::Invalid { message: "spec.storage.bucket: must be …".to_owned() }
}

fn said(old: Option<&LakeIngestStatus>, outcome: &Outcome, seen: &Seen, now: DateTime<Utc>) -> LakeIngestStatus {
    status(&found(), old, outcome, seen, now).1
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn of(status: &LakeIngestStatus, kind: &str) -> (String, String) {
    let condition = of_kind(status, kind).expect("there is the condition");
    (condition.status.clone(), condition.reason.clone())
}

/// A pod whose sidecar says this, and one that is not ready.
fn seen(health: Value) -> Seen {
    let pod = |name: &str, is_ready: bool| SidecarPod {
        uid: name.to_owned(),
        namespace: "team-a".to_owned(),
        name: name.to_owned(),
        ingest: ObjectRef::new("events").within("team-a"),
        owner: None,
        image: "lakeingest/sidecar:1".to_owned(),
        is_ready,
        address: None,
    };
    let told = [(pod("a", true), Some(health)), (pod("b", false), Some(json!({})))];
    let summary = summary_of(&told);
    let missing = vec![crate::fixtures::missing_pod("c", "u1")];
    Seen { pods: told.map(|(pod, _)| pod).to_vec(), missing, summary: Some(summary), told: Vec::new(), standing: None }
}

#[test]
fn each_outcome_is_ready_or_says_why_not() {
    let apply_failed = Outcome::ApplyFailed { error: ApplyError::Foreign { name: "lakeingest-events".to_owned() } };
    let in_use = Outcome::PrefixInUse { message: "team-b/events".to_owned() };
    for (outcome, is_ready, reason, words) in [
        (configured(), true, "Configured", "s3://lake-data/data"),
        (invalid(), false, "InvalidSpec", "spec.storage.bucket"),
        (in_use, false, "PrefixInUse", "team-b/events"),
        (apply_failed, false, "ApplyFailed", "rename or delete it"),
    ] {
        let status = said(None, &outcome, &Seen::default(), DateTime::UNIX_EPOCH);
        let ready = of_kind(&status, conditions::READY).expect("there is a condition");
        assert_eq!((ready.status == "True", ready.reason.as_str()), (is_ready, reason));
        assert!(ready.message.contains(words), "{}", ready.message);
        assert_eq!((status.observed_generation, ready.observed_generation), (Some(3), Some(3)));
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let since =
        |status: &LakeIngestStatus| of_kind(status, conditions::READY).map(|ready| ready.last_transition_time.clone());
    let nothing = Seen::default();
    let first = said(None, &invalid(), &nothing, at(0));
    let second = said(Some(&first), &Outcome::PrefixInUse { message: String::new() }, &nothing, at(60));
    assert_eq!(since(&second), since(&first));
    let third = said(Some(&second), &invalid(), &nothing, at(120));
    assert_eq!(since(&third), since(&first));
    let fourth = said(Some(&third), &configured(), &nothing, at(180));
    assert_eq!(since(&fourth), Some(time(at(180))));
    assert_eq!(said(Some(&fourth), &configured(), &nothing, at(240)), fourth, "nothing new is nothing to write");
}

#[test]
fn pods_are_counted_by_what_is_seen_of_them() {
    let status = said(None, &configured(), &seen(json!({"generation": 3, "quarantined_rows": 1})), at(0));
    let expected =
        PodCounts { injected: 2, ready: 1, outdated: 0, missing: 1, unreachable: 0, on_current_generation: 1 };
    assert_eq!(status.pods, expected);
    assert_eq!(of(&status, conditions::INJECTION_HEALTHY), ("False".to_owned(), "SidecarMissing".to_owned()));
    assert_eq!(of(&status, conditions::QUARANTINED), ("True".to_owned(), "RecordsInQuarantine".to_owned()));
    let order: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(order, conditions::ALL, "the first one is what most people look for");
}

/// The API server would refuse the whole status, at each look.
#[test]
fn every_message_is_as_long_as_the_schema_lets_it_be_at_most() {
    let definition = lakeingest_crds::lakeingest::yaml().expect("it is plain data");
    let definition: Value = serde_yaml::from_str(&definition).expect("it is YAML");
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    let message = &schema["conditions"]["items"]["properties"]["message"];
    let bound = usize::try_from(message["maxLength"].as_u64().expect("there is a bound")).expect("it is small");
    let long = "é".repeat(bound + 1);
    let reasons = lakeingest_crds::health_reasons::ALL.map(|name| json!({"name": name, "message": long}));
    let outcomes = [
        Outcome::Invalid { message: long.clone() },
        Outcome::PrefixInUse { message: long.clone() },
        Outcome::ApplyFailed { error: ApplyError::Foreign { name: long.clone() } },
    ];
    for outcome in outcomes {
        let status = said(None, &outcome, &seen(json!({"reasons": reasons, "quarantined_rows": 1})), at(0));
        let lengths = status.conditions.iter().map(|condition| condition.message.chars().count());
        assert_eq!(lengths.max(), Some(bound), "{outcome:?}");
    }
}

/// A manager that applies a field owns it: the next look, which has seen an older status, would take the claim away again.
#[test]
fn the_claim_is_not_written_with_the_rest() {
    let old = LakeIngestStatus { location: Some("aws:/lake-data/data".to_owned()), ..LakeIngestStatus::default() };
    let new = said(Some(&old), &configured(), &Seen::default(), at(0));
    assert_eq!(new.location, old.location, "it is nothing new");
    let applied = serde_json::to_value(without_claim(new)).expect("a status is plain data");
    assert!(applied.get("location").is_none() && applied.get("conditions").is_some(), "{applied}");
}

/// A new leader has still to ask: nothing is taken back until it has.
#[test]
fn what_sidecars_said_to_another_replica_stands_until_they_are_asked_again() {
    let waiting =
        json!({"reasons": [{"name": "PrefixInUse", "message": "x"}], "backlog": {"rows": 1, "oldest_seconds": 5}});
    let first = said(None, &configured(), &seen(waiting), at(0));
    assert_eq!(of(&first, conditions::READY), ("False".to_owned(), "PrefixInUse".to_owned()));
    let not_asked = Seen { summary: None, ..seen(json!({})) };
    let second = said(Some(&first), &configured(), &not_asked, at(60));
    assert_eq!(second, first);
    let third = said(Some(&second), &configured(), &seen(json!({})), at(120));
    assert_eq!(of(&third, conditions::READY), ("True".to_owned(), "Configured".to_owned()));
    assert_eq!(third.oldest_unflushed_time, None);
    // A specification that cannot be used is told at once.
    assert_eq!(of(&said(Some(&first), &invalid(), &not_asked, at(180)), conditions::READY).1, "InvalidSpec");
}

#[test]
fn words_and_the_oldest_row_wait_for_their_turn_and_everything_else_does_not() {
    let waiting = |age: u64, message: &str| {
        let reasons = json!([{"name": "BucketMissing", "message": message}]);
        said(
            None,
            &configured(),
            &seen(json!({"reasons": reasons, "backlog": {"rows": 1, "oldest_seconds": age}})),
            at(0),
        )
    };
    assert!(can_wait(&waiting(5, "one key"), &waiting(50, "another key")));
    let well = said(None, &configured(), &seen(json!({})), at(0));
    assert!(!can_wait(&waiting(5, "one key"), &well));
    let key = ("team-a".to_owned(), "events".to_owned());
    let (written, second) = (Written::default(), Duration::from_secs(1));
    assert_eq!(written.pause(&key, second), None);
    written.note(key.clone(), second, 10);
    assert_eq!(written.pause(&key, 11 * second), Some(STATUS_PERIOD - 10 * second));
    assert_eq!(written.pause(&key, second + STATUS_PERIOD), None);
}

/// What a preflight of this hash has said.
fn tried(hash: &str, reason: &str) -> Standing {
    Standing::Tried(Preflight {
        tried: hash.to_owned(),
        time: time(at(0)),
        failing_since: Some(time(at(0))),
        reason: Some(reason.to_owned()),
        message: format!("said of {reason}"),
    })
}

#[test]
fn a_preflight_is_kept_with_the_conditions_that_go_by_it() {
    let unheard = || Seen { summary: Some(summary_of(&[])), ..Seen::default() };
    let missing = Seen { standing: Some(tried("a", "BucketMissing")), ..unheard() };
    let first = said(None, &configured(), &missing, at(0));
    assert_eq!(first.preflight.as_ref().and_then(|tried| tried.reason.as_deref()), Some("BucketMissing"));
    assert_eq!(of(&first, conditions::STORAGE_REACHABLE).1, "BucketMissing");
    // A new leader takes nothing back before it has looked, in whatever order it does.
    let not_looked = [Seen::default(), unheard(), Seen { standing: Some(Standing::Pending), ..Seen::default() }];
    for seen in not_looked {
        let second = said(Some(&first), &configured(), &seen, at(60));
        assert_eq!(second.preflight, first.preflight);
        assert_eq!(of(&second, conditions::STORAGE_REACHABLE), of(&first, conditions::STORAGE_REACHABLE));
    }
    let changed = Seen { standing: Some(Standing::Pending), ..unheard() };
    let third = said(Some(&first), &configured(), &changed, at(60));
    assert_eq!(third.preflight, None, "another lake is tried now");
    assert_eq!(of(&third, conditions::STORAGE_REACHABLE).1, "BucketMissing", "of the one of before, until then");
    assert_eq!(of(&said(None, &configured(), &changed, at(0)), conditions::STORAGE_REACHABLE).1, "NotTried");
}

#[test]
fn a_preflight_is_told_once_also_where_no_condition_goes_by_it() {
    let news = |old: Option<&LakeIngestStatus>, seen: &Seen| {
        let (verdicts, new) = status(&found(), old, &configured(), seen, at(0));
        let (news, happening) = news_of(old, &new, verdicts);
        let told = news.iter().map(|verdict| verdict.reason).chain(happening.iter().map(|one| one.reason));
        (told.collect::<Vec<_>>(), new)
    };
    let standing =
        |standing: Standing| Seen { summary: Some(summary_of(&[])), standing: Some(standing), ..Seen::default() };
    let (told, first) = news(None, &standing(tried("a", "BucketMissing")));
    assert_eq!(told, ["Configured", "BucketMissing"], "by the condition alone");
    assert_eq!(news(Some(&first), &standing(tried("a", "BucketMissing"))).0, Vec::<&str>::new());
    let (told, second) = news(Some(&first), &standing(tried("a", "ImagePullBackOff")));
    assert_eq!(told, ["ImagePullBackOff"]);
    assert_eq!(news(Some(&second), &standing(tried("a", "ImagePullBackOff"))).0, Vec::<&str>::new());
    let other_lake = Seen { standing: Some(tried("b", "BucketMissing")), missing: Vec::new(), ..seen(json!({})) };
    let (told, _) = news(Some(&second), &other_lake);
    assert!(told.contains(&"BucketMissing"), "sidecars write to the one of before: {told:?}");
}

#[test]
fn an_event_is_told_of_what_goes_wrong_and_of_what_is_well_again() {
    let news = |old: Option<&LakeIngestStatus>, health: Value| {
        let (verdicts, new) = status(&found(), old, &configured(), &seen(health), at(0));
        let news = verdicts.into_iter().filter(|verdict| is_news(old, verdict));
        (news.map(|verdict| verdict.reason).collect::<Vec<_>>(), new)
    };
    let missing = json!({"reasons": [{"name": "BucketMissing", "message": "x"}]});
    let (told, first) = news(None, missing.clone());
    assert_eq!(told, ["Configured", "SidecarMissing", "BucketMissing"]);
    let (told, second) = news(Some(&first), missing);
    assert_eq!(told, Vec::<&str>::new());
    let (told, third) = news(Some(&second), json!({}));
    assert_eq!(told, ["Reachable"]);
    assert_eq!(news(Some(&third), json!({})).0, Vec::<&str>::new());
}

#[test]
fn a_name_for_messages_has_its_namespace() {
    assert_eq!(crate::controller::named(&ingest("events", json!({}))), "team-a/events");
    assert!(crate::controller::validate(&ingest("events", json!({})), &names()).is_ok());
}
