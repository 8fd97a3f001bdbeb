//! What is made of answers, and of their absence.

use std::time::Duration;

use futures::StreamExt;
use kube::runtime::reflector::ObjectRef;
use lakeingest_crds::health_reasons;
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::fixtures::ManualClock;

fn pod(name: &str) -> SidecarPod {
    SidecarPod {
        uid: format!("uid-of-{name}"),
        namespace: "team-a".to_owned(),
        name: name.to_owned(),
        ingest: ObjectRef::new("events").within("team-a"),
        owner: None,
        image: "lakeingest/sidecar:1".to_owned(),
        is_ready: true,
        address: None,
    }
}

fn health(of: Value) -> Health {
    Health::parse(of.to_string().as_bytes()).expect("the test's answer is one")
}

fn summary(sidecars: &Sidecars, pods: &[SidecarPod]) -> Summary {
    sidecars.summary(pods, Some(3), Some("lakeingest/sidecar:1")).expect("each was asked")
}

#[test]
fn nothing_is_said_before_each_sidecar_was_asked_nor_by_who_does_not_lead() {
    let (sidecars, clock) = (Sidecars::default(), ManualClock::at("2026-01-08T10:05:30Z"));
    let pods = [pod("a")];
    sidecars.note(&pods[0], Some(Health::default()), clock.now());
    assert_eq!(sidecars.summary(&pods, Some(3), None), None);
    sidecars.finish_round(&pods, []);
    assert!(sidecars.summary(&pods, Some(3), None).is_some());
    sidecars.forget();
    assert_eq!(sidecars.summary(&pods, Some(3), None), None);
}

#[test]
fn sidecars_are_counted_by_what_they_say() {
    let (sidecars, clock) = (Sidecars::default(), ManualClock::at("2026-01-08T10:05:30Z"));
    let mut pods = ["a", "b", "c", "d", "e"].map(pod);
    let answers = [
        json!({"generation": 3}),
        json!({"generation": 2, "reasons": [{"name": "RestartNeeded"}], "quarantined_rows": 7}),
        json!({"generation": 3, "backlog": {"rows": 1, "oldest_seconds": 30}}),
    ];
    for (pod, answer) in pods.iter().zip(answers) {
        sidecars.note(pod, Some(health(answer)), clock.now());
    }
    for _ in 0..ASK_MISSES_MAX {
        sidecars.note(&pods[3], None, clock.now());
    }
    pods[4].image = "lakeingest/sidecar:0".to_owned();
    sidecars.finish_round(&pods, []);
    let told = summary(&sidecars, &pods);
    assert_eq!((told.answered, told.unreachable, told.outdated, told.on_current_generation), (3, 1, 2, 2));
    assert_eq!(told.oldest, Some("2026-01-08T10:05:00Z".parse().expect("it is a time")));
    assert_eq!(told.quarantined.map(|said| (said.pods, said.pod)), Some((1, "b".to_owned())));
}

#[test]
fn the_first_pod_by_name_speaks_for_those_that_say_the_same() {
    let (sidecars, clock) = (Sidecars::default(), ManualClock::at("2026-01-08T10:05:30Z"));
    let pods = ["b", "a", "c"].map(pod);
    for (pod, name) in pods.iter().zip(["BucketMissing", "BucketMissing", "WrongRegion"]) {
        let answer = json!({"reasons": [{"name": name, "message": format!("so says {}", pod.name)}]});
        sidecars.note(pod, Some(health(answer)), clock.now());
    }
    sidecars.finish_round(&pods, []);
    let told = summary(&sidecars, &pods);
    let (name, said) = told
        .first_of(&[health_reasons::KEY_CONFLICT, health_reasons::BUCKET_MISSING, health_reasons::WRONG_REGION])
        .expect("somebody says it");
    assert_eq!((name, said.pods, said.message.as_str()), ("BucketMissing", 2, "so says a"));
}

/// One question that is lost in a busy network is no news; a sidecar that answers again is well at once.
#[test]
fn a_sidecar_is_unreachable_after_more_than_one_question_and_what_it_said_holds_until_then() {
    let (sidecars, clock) = (Sidecars::default(), ManualClock::at("2026-01-08T10:05:30Z"));
    let pods = [pod("a")];
    sidecars.note(&pods[0], Some(health(json!({"generation": 3}))), clock.now());
    sidecars.finish_round(&pods, []);
    let counts = || {
        let told = summary(&sidecars, &pods);
        (told.unreachable, told.on_current_generation)
    };
    sidecars.note(&pods[0], None, clock.now());
    assert_eq!(counts(), (0, 1));
    sidecars.note(&pods[0], None, clock.now());
    assert_eq!(counts(), (1, 0));
    sidecars.note(&pods[0], Some(health(json!({"generation": 3}))), clock.now());
    assert_eq!(counts(), (0, 1));
}

/// Ages come in whole seconds, and an answer takes its time: the same row is seen at times that differ a little.
#[test]
fn the_time_of_the_oldest_row_stands_until_another_is_the_oldest() {
    let clock = ManualClock::at("2026-01-08T10:05:30Z");
    let mut pulse = Pulse::default();
    let mut at = |seconds: u64, rows: u64, age: u64| {
        clock.advance(Duration::from_secs(seconds));
        pulse.answered(health(json!({"backlog": {"rows": rows, "oldest_seconds": age}})), clock.now());
        pulse.oldest.map(|oldest| oldest.format("%M:%S").to_string())
    };
    assert_eq!(at(0, 1, 30).as_deref(), Some("05:00"));
    assert_eq!(at(10, 1, 39).as_deref(), Some("05:00"));
    assert_eq!(at(10, 1, 5).as_deref(), Some("05:45"));
    assert_eq!(at(10, 0, 0), None);
}

/// Whoever can make a pod can make it answer anything.
#[test]
fn an_age_that_cannot_be_is_cut_to_a_year() {
    let (sidecars, clock) = (Sidecars::default(), ManualClock::at("2026-01-08T10:05:30Z"));
    let pods = [pod("a")];
    for age in [u64::from(OLDEST_SECONDS_MAX) + 1, i64::MAX.unsigned_abs() / 1_000, i64::MAX.unsigned_abs(), u64::MAX] {
        sidecars.note(&pods[0], Some(health(json!({"backlog": {"rows": 1, "oldest_seconds": age}}))), clock.now());
        sidecars.finish_round(&pods, []);
        let oldest = summary(&sidecars, &pods).oldest.map(|oldest| oldest.to_rfc3339());
        assert_eq!(oldest.as_deref(), Some("2025-01-07T10:05:30+00:00"), "{age}");
    }
}

#[test]
fn what_is_gone_is_forgotten() {
    let (sidecars, clock) = (Sidecars::default(), ManualClock::at("2026-01-08T10:05:30Z"));
    for round in 0..3 {
        let pods = [pod(&format!("of-round-{round}"))];
        sidecars.note(&pods[0], None, clock.now());
        sidecars.finish_round(&pods, []);
        assert_eq!(sidecars.known().pulses.len(), 1);
    }
}

#[tokio::test]
async fn a_lake_ingest_is_named_once_for_all_its_pods_that_changed() {
    let (sidecars, clock) = (Sidecars::default(), ManualClock::at("2026-01-08T10:05:30Z"));
    let pods = ["a", "b", "c"].map(pod);
    for pod in &pods {
        sidecars.note(pod, Some(health(json!({"generation": 3}))), clock.now());
    }
    let mut changes = Box::pin(sidecars.changes());
    assert_eq!(changes.next().await, Some(ObjectRef::new("events").within("team-a")));
    assert!(sidecars.known().changed.is_empty());
    // More of the same is no news.
    sidecars.note(&pods[0], Some(health(json!({"generation": 3, "backlog": {"rows": 5}}))), clock.now());
    assert!(sidecars.known().changed.is_empty());
    sidecars.note(&pods[0], Some(health(json!({"generation": 4}))), clock.now());
    assert_eq!(sidecars.known().changed.len(), 1);
}

/// Also of one whose pods went while nobody looked.
#[test]
fn after_the_first_round_there_is_something_to_say_of_every_lake_ingest() {
    let sidecars = Sidecars::default();
    let all = || ["events", "orders"].map(|name| ObjectRef::new(name).within("team-a"));
    sidecars.finish_round(&[], all());
    assert_eq!(std::mem::take(&mut sidecars.known().changed).len(), 2);
    sidecars.finish_round(&[], all());
    assert!(sidecars.known().changed.is_empty());
}
