//! From an outcome to what is said of it.

use chrono::{DateTime, TimeDelta, Utc};
use kube::core::DeserializeGuard;
use serde_json::json;

use super::*;
use crate::fixtures::{ingest, names};

fn found() -> Found {
    DeserializeGuard(Ok(ingest("events", json!({}))))
}

fn configured() -> Outcome {
    Outcome::Configured { was_applied: false, location: Location::of(&ingest("events", json!({}))) }
}

fn invalid() -> Outcome {
    Outcome::Invalid { message: "spec.storage.bucket: must be …".to_owned() }
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
        let status = status(&found(), None, &outcome, PodCounts::default(), DateTime::UNIX_EPOCH);
        let ready = ready(&status).expect("there is a condition");
        assert_eq!((ready.status == "True", ready.reason.as_str()), (is_ready, reason));
        assert!(ready.message.contains(words), "{}", ready.message);
        assert_eq!((status.observed_generation, ready.observed_generation), (Some(3), Some(3)));
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let at = |seconds: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
    let since = |status: &LakeIngestStatus| ready(status).map(|ready| ready.last_transition_time.clone());
    let status_at = |old: Option<&LakeIngestStatus>, outcome: &Outcome, now: DateTime<Utc>| {
        status(&found(), old, outcome, PodCounts { injected: 1, ready: 0 }, now)
    };
    let first = status_at(None, &invalid(), at(0));
    let second = status_at(Some(&first), &Outcome::PrefixInUse { message: String::new() }, at(60));
    assert_eq!(since(&second), since(&first));
    let third = status_at(Some(&second), &configured(), at(120));
    assert_eq!(since(&third), Some(time(at(120))));
    assert_eq!(status_at(Some(&third), &configured(), at(180)), third, "nothing new is nothing to write");
}

#[test]
fn a_name_for_messages_has_its_namespace() {
    assert_eq!(crate::controller::named(&ingest("events", json!({}))), "team-a/events");
    assert!(crate::controller::validate(&ingest("events", json!({})), &names()).is_ok());
}
