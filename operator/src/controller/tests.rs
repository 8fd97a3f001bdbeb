//! What is asked of the API server, and when.

use std::sync::Mutex;

use axum::http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{ManualClock, ingest, names};
use crate::index::Filler;

/// An API server that notes what it is asked for, and answers a change of a claim with this status.
fn api_server(claim: u16) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let answer = move |request: Request<Body>| {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        noted.lock().expect("no holder of this lock panics").push(format!("{method} {path}"));
        let refused = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "" };
            json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason})
        };
        let (code, body) = match (method.as_str(), path.ends_with("/status")) {
            ("PATCH", true) if claim != 200 => (claim, refused(claim)),
            ("PATCH", true) => (200, serde_json::to_value(ingest("events", json!({}))).unwrap_or_default()),
            ("PATCH", false) => (200, json!({"metadata": {"name": "lakeingest-events", "namespace": "team-a"}})),
            _ => (404, refused(404)),
        };
        let answer = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
        futures::future::ready(answer)
    };
    (Client::new(tower::service_fn(answer), "team-a"), asked)
}

/// What is asked for when LakeIngest `events` is looked at, and what comes next. No replica leads.
async fn looked_at(status: Value, is_synced: bool, claim: u16) -> (Vec<String>, Action) {
    let (mut filler, index) = Filler::empty();
    if is_synced {
        filler.all_filled();
    }
    let mut ingest = ingest("events", json!({}));
    ingest.metadata.resource_version = Some("7".to_owned());
    ingest.status = serde_json::from_value(status).expect("it is a status");
    filler.lake_ingest(ingest.clone());
    let (client, asked) = api_server(claim);
    let clock: SharedClock = ManualClock::at("2026-01-08T10:05:30Z");
    let metrics = Arc::new(Metrics::default());
    let (_tell, leadership) = Leadership::new(Arc::clone(&clock));
    let context = Context {
        client,
        index,
        leadership,
        names: names(),
        events: Events::new("a", Arc::clone(&clock), Arc::clone(&metrics)),
        clock,
        settled: Settled::default(),
        sidecars: Sidecars::default(),
        preflights: Preflights::default(),
        written: Written::default(),
        told: Told::default(),
        metrics,
    };
    let action = reconcile_in_span(&DeserializeGuard(Ok(ingest)), &context).await.expect("no status is written");
    (asked.lock().expect("no holder of this lock panics").clone(), action)
}

const CLAIM: &str = "PATCH /apis/lakeingest.io/v1alpha1/namespaces/team-a/lakeingests/events/status";
const LOOK: &str = "GET /api/v1/namespaces/team-a/configmaps/lakeingest-events";
const APPLY: &str = "PATCH /api/v1/namespaces/team-a/configmaps/lakeingest-events";

/// Else a location would be another's for as long as a list is slow, and pods would seem to be gone.
#[tokio::test]
async fn nothing_is_decided_before_the_watches_are_filled() {
    assert_eq!(looked_at(Value::Null, false, 200).await, (Vec::new(), Action::await_change()));
}

/// Without a leader as well.
#[tokio::test]
async fn a_location_is_claimed_before_anybody_is_told_of_it() {
    let (asked, action) = looked_at(Value::Null, true, 200).await;
    assert_eq!((asked, action), ([CLAIM, LOOK, APPLY].map(str::to_owned).to_vec(), Action::await_change()));
    let (asked, _) = looked_at(json!({"location": "aws:/lake-data/data"}), true, 200).await;
    assert_eq!(asked, [LOOK, APPLY], "it has it");
}

#[tokio::test]
async fn nobody_is_told_of_a_location_that_could_not_be_claimed() {
    for (code, next) in [(409, RETRY), (404, RETRY), (500, RETRY)] {
        let (asked, action) = looked_at(Value::Null, true, code).await;
        assert_eq!((asked, action), (vec![CLAIM.to_owned()], Action::requeue(next)), "{code}");
    }
}
