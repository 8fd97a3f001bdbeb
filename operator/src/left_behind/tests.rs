//! What is seen of pods that end, and told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::ManualClock;
use crate::index::Filler;

fn pod(phase: &str, is_deleted: bool, state: Value) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": "shop", "namespace": "team-a", "uid": "u1", "labels": {INJECTED_BY: "events"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u0"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-5d4f", "uid": "u7", "controller": true},
            ],
        },
        "status": {"phase": phase, "initContainerStatuses": [{
            "name": CONTAINER, "ready": false, "image": "i", "imageID": "i", "restartCount": 0, "state": state,
        }]},
    });
    if is_deleted {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-08T10:00:00Z");
    }
    serde_json::from_value(pod).expect("the test's pod has the right shape")
}

fn ended(rows: u64) -> Value {
    let message = json!({"reason": "unflushed", "unflushed_rows": rows}).to_string();
    json!({"terminated": {"exitCode": 75, "message": message}})
}

#[test]
fn rows_of_a_pod_that_goes_are_seen_and_those_of_one_that_stays_are_not_lost() {
    let expected = LeftBehind {
        namespace: "team-a".to_owned(),
        pod: "shop".to_owned(),
        uid: "u1".to_owned(),
        ingest: "events".to_owned(),
        owner: Some(ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("ReplicaSet".to_owned()),
            name: Some("shop-5d4f".to_owned()),
            namespace: Some("team-a".to_owned()),
            uid: Some("u7".to_owned()),
            ..ObjectReference::default()
        }),
        rows: 50,
        rescued_rows: 0,
    };
    assert_eq!(of(&pod("Running", true, ended(50))), Some(expected.clone()));
    assert_eq!(of(&pod("Failed", false, ended(50))), Some(expected));
    assert_eq!(of(&pod("Running", false, ended(50))), None, "it is started again");
    assert_eq!(of(&pod("Running", true, ended(0))), None);
    assert_eq!(of(&pod("Running", true, json!({"running": {}}))), None);
    assert_eq!(of(&pod("Running", true, json!({"terminated": {"exitCode": 1, "message": "panicked"}}))), None);
}

#[test]
fn rows_in_log_files_are_told_with_what_delivers_them() {
    let message = json!({"reason": "rescued", "unflushed_rows": 0, "rescued_rows": 70}).to_string();
    let left = of(&pod("Succeeded", false, json!({"terminated": {"exitCode": 0, "message": message}})));
    let left = left.expect("its rows are not in their tables");
    assert_eq!((left.rows, left.rescued_rows), (0, 70));
    let [happening] = left.happenings().try_into().expect("there is one thing to tell");
    let happening: Happening = happening;
    assert_eq!(happening.reason, ROWS_IN_LOG_FILES);
    assert!(happening.note.contains("70 rows") && happening.note.contains("lakeingest-sidecar rescue"));
}

/// The API server refuses the first one and takes the second; the budget is not used up.
#[tokio::test]
async fn an_event_about_rows_is_tried_until_it_is_there() {
    let asked = Arc::new(AtomicU32::new(0));
    let noted = Arc::clone(&asked);
    let answer = move |request: Request<Body>| {
        let nth = noted.fetch_add(1, Ordering::Relaxed);
        let body = json!({"kind": "Status", "status": "Failure", "code": 500, "message": "no", "reason": ""});
        let (code, body) = match nth {
            0 => (500, body),
            _ => (201, json!({"metadata": {"name": "x"}, "eventTime": null})),
        };
        drop(request);
        let body = Body::from(body.to_string().into_bytes());
        futures::future::ready(Response::builder().status(code).body(body))
    };
    let client = Client::new(tower::service_fn(answer), "team-a");
    let metrics = Arc::new(Metrics::default());
    let events = Events::new("a", ManualClock::at("2026-01-08T10:05:30Z"), Arc::clone(&metrics));
    let (_filler, index) = Filler::empty();
    let (tell_of, left) = mpsc::channel(1);
    let telling = tell_every(Duration::from_millis(1), left, index, client, events, &metrics);
    let pods = async {
        let of_pod = of(&pod("Failed", false, ended(50))).expect("it has left rows");
        assert!(tell_of.send(of_pod).await.is_ok());
        while asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        drop(tell_of);
    };
    tokio::join!(telling, pods);
    assert_eq!((asked.load(Ordering::Relaxed), metrics.rows_left_behind.get()), (2, 50), "the rows are counted once");
}

#[test]
fn an_event_is_given_up_after_a_while_and_where_too_many_wait() {
    let about = ObjectReference::default;
    let happening =
        || Happening { is_warning: true, reason: ROWS_LEFT_BEHIND, note: String::new(), key: String::new() };
    let mut waiting = Waiting::default();
    waiting.add(about(), happening(), EVENT_TRIES_MAX);
    assert!(waiting.events.is_empty());
    for _ in 0..2 * LEFT_BEHIND_QUEUE_MAX {
        waiting.add(about(), happening(), 1);
    }
    assert_eq!(waiting.events.len(), LEFT_BEHIND_QUEUE_MAX);
}

/// Whoever can make a pod can make it end with any message, and the numbers of all are added up.
#[test]
fn what_one_pod_can_have_left_behind_has_a_bound() {
    let message = json!({"unflushed_rows": u64::MAX, "rescued_rows": u64::MAX - 1}).to_string();
    let left = of(&pod("Failed", false, json!({"terminated": {"exitCode": 75, "message": message}})));
    let left = left.expect("it says that rows are missing");
    assert_eq!((left.rows, left.rescued_rows), (ROWS_LEFT_BEHIND_MAX, ROWS_LEFT_BEHIND_MAX));
    assert_eq!(of(&pod("Failed", false, ended(50))).map(|left| left.rows), Some(50));
}

#[test]
fn a_pod_is_told_of_once_and_the_oldest_are_forgotten() {
    let mut told = Remembered::default();
    assert!(told.is_new("first") && !told.is_new("first"));
    for number in 0..PODS_REMEMBERED_MAX {
        assert!(told.is_new(&number.to_string()));
    }
    assert!(told.is_new("first"));
    assert_eq!(told.known.len(), PODS_REMEMBERED_MAX);
}
