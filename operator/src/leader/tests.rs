//! Candidates beside one another, on an API server that holds one Lease.

use std::sync::Mutex;

use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::limits::{LEADER_ACTS, LEASE_DURATION};

/// Clocks that the test moves.
#[derive(Debug, Default)]
struct Stopped(Mutex<Duration>);

impl Stopped {
    fn advance(&self, duration: Duration) {
        *self.0.lock().expect("no holder of this lock panics") += duration;
    }
}

impl Clock for Stopped {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::UNIX_EPOCH + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().expect("no holder of this lock panics")
    }
}

/// What the API server holds, and whether it answers.
#[derive(Debug, Default)]
struct Server {
    lease: Mutex<Option<Value>>,
    is_away: Mutex<bool>,
}

impl Server {
    fn set_away(&self, is_away: bool) {
        *self.is_away.lock().expect("no holder of this lock panics") = is_away;
    }

    fn holder(&self) -> String {
        let lease = self.lease.lock().expect("no holder of this lock panics");
        let holder = lease.as_ref().map(|lease| lease["spec"]["holderIdentity"].clone());
        holder.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// As the API server answers: a write at another version than the one that is there is a conflict.
    fn answer(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let refusal = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "code": code, "reason": reason, "message": reason}))
        };
        if *self.is_away.lock().expect("no holder of this lock panics") {
            return refusal(503, "ServiceUnavailable");
        }
        let mut lease = self.lease.lock().expect("no holder of this lock panics");
        let version = lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
        if *method == Method::GET {
            return lease.as_ref().map_or_else(|| refusal(404, "NotFound"), |lease| (200, lease.clone()));
        }
        let mut written: Value = serde_json::from_slice(body).expect("the test's body is JSON");
        match (method, &version) {
            (&Method::POST, Some(_)) => return refusal(409, "AlreadyExists"),
            (&Method::PUT, version) if version.as_ref() != Some(&written["metadata"]["resourceVersion"]) => {
                return refusal(409, "Conflict");
            }
            _ => {}
        }
        let next =
            version.as_ref().and_then(Value::as_str).and_then(|version| version.parse::<u64>().ok()).unwrap_or(0) + 1;
        written["metadata"]["resourceVersion"] = json!(next.to_string());
        *lease = Some(written.clone());
        (200, written)
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let answer = move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("the test's body is whole").to_bytes();
                let (status, answer) = server.answer(&parts.method, &body);
                let response = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(response.expect("the test's answer is one"))
            }
        };
        Client::new(tower::service_fn(answer), "lakeingest")
    }
}

struct Replica {
    candidate: Candidate,
    leadership: Leadership,
}

impl Replica {
    fn beside(server: &Arc<Server>, clock: &Arc<Stopped>, pod: &str) -> Self {
        let clock: SharedClock = clock.clone();
        let (tell, leadership) = Leadership::new(Arc::clone(&clock));
        let leases = Leases::new(server.client(), "lakeingest", "leader");
        let candidate = Candidate::new(pod, leases, clock, Arc::new(Metrics::default()), tell);
        Self { candidate, leadership }
    }

    /// One turn; gives whether it leads then.
    async fn turn(&mut self) -> bool {
        let _ = self.candidate.turn().await;
        self.candidate.tell();
        self.leadership.holds()
    }
}

#[tokio::test]
async fn one_leads_and_another_follows_when_it_hangs() {
    let (server, clock) = (Arc::new(Server::default()), Arc::new(Stopped::default()));
    let mut first = Replica::beside(&server, &clock, "first");
    let mut second = Replica::beside(&server, &clock, "second");
    assert!(first.turn().await && !second.turn().await);
    for _ in 0..10 {
        clock.advance(LEASE_LOOK_PERIOD);
        assert!(first.turn().await && !second.turn().await);
    }
    // The first one does nothing any more: by the clock alone it has stopped before the second one begins.
    clock.advance(LEADER_ACTS);
    assert!(!first.leadership.holds() && !second.turn().await);
    clock.advance(LEASE_DURATION - LEADER_ACTS);
    assert!(second.turn().await);
    assert!(server.holder().starts_with("second_"));
    assert!(!first.turn().await, "it finds that another leads");
}

#[tokio::test]
async fn an_api_server_that_is_away_for_less_than_the_lease_changes_nothing() {
    let (server, clock) = (Arc::new(Server::default()), Arc::new(Stopped::default()));
    let mut first = Replica::beside(&server, &clock, "first");
    let mut second = Replica::beside(&server, &clock, "second");
    assert!(first.turn().await && !second.turn().await);
    server.set_away(true);
    for _ in 0..3 {
        clock.advance(LEASE_LOOK_PERIOD);
        assert!(first.turn().await && !second.turn().await);
    }
    server.set_away(false);
    assert!(first.turn().await && !second.turn().await);
    // Away for longer, nobody leads, and whoever comes first when it is back does.
    server.set_away(true);
    clock.advance(LEADER_ACTS);
    assert!(!first.turn().await && !second.turn().await);
    server.set_away(false);
    assert!(first.turn().await, "nobody has taken it meanwhile");
}

#[tokio::test]
async fn who_leaves_gives_the_lease_back_and_has_stopped_by_then() {
    let (server, clock) = (Arc::new(Server::default()), Arc::new(Stopped::default()));
    let mut first = Replica::beside(&server, &clock, "first");
    let mut second = Replica::beside(&server, &clock, "second");
    assert!(first.turn().await && !second.turn().await);
    first.candidate.give_back().await;
    assert_eq!((first.leadership.holds(), server.holder().as_str()), (false, ""));
    assert!(second.turn().await);
    first.candidate.give_back().await;
    assert!(server.holder().starts_with("second_"), "it is not the first one's to give");
}

#[tokio::test]
async fn of_two_that_come_at_once_one_leads() {
    let (server, clock) = (Arc::new(Server::default()), Arc::new(Stopped::default()));
    let mut first = Replica::beside(&server, &clock, "first");
    let mut second = Replica::beside(&server, &clock, "second");
    // Both have seen that there is none.
    let step = |replica: &mut Replica| {
        replica.candidate.election.decide("leader", None, Duration::ZERO, Timestamp::UNIX_EPOCH)
    };
    let steps = (step(&mut first), step(&mut second));
    assert!(first.candidate.leases.write(steps.0).await.expect("it answers"));
    assert!(!second.candidate.leases.write(steps.1).await.expect("it answers"));
}

#[tokio::test]
async fn work_of_the_leader_ends_with_its_term() {
    let clock = Arc::new(Stopped::default());
    let (tell, leadership) = Leadership::new(clock.clone());
    assert_eq!(leadership.during(async { 1 }).await, None);
    tell.send_replace(Some(Duration::from_secs(1)));
    assert_eq!(leadership.during(async { 2 }).await, Some(2));
    let endless = tokio::spawn({
        let leadership = leadership.clone();
        async move { leadership.during(std::future::pending::<()>()).await }
    });
    tell.send_replace(None);
    assert_eq!(endless.await.expect("it ends"), None);
}
