//! Authorities and certificates that are replaced, over a clock that the tests turn.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::{Method, Request, Response};
use chrono::TimeDelta;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use lakeingest_crds::Seconds;

use super::*;
use crate::clock::Clock;
use crate::fixtures::ManualClock;

/// An API server that holds two objects, and refuses what was made from an earlier version of one.
#[derive(Debug)]
struct Server {
    secret: Option<Value>,
    configuration: Option<Value>,
    version: u64,
    /// Writes of the Secret and of the configuration that were taken.
    writes: (usize, usize),
    /// Notes of Events.
    events: Vec<String>,
}

impl Server {
    /// With a configuration of two entries and no Secret.
    fn new() -> Arc<Mutex<Self>> {
        let entry = |name: &str| {
            let service = json!({"name": "webhook", "namespace": "lakeingest"});
            json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"service": service}})
        };
        let metadata = json!({"name": "lakeingest", "resourceVersion": "1"});
        let configuration = json!({"metadata": metadata, "webhooks": [entry("one"), entry("two")]});
        Arc::new(Mutex::new(Self {
            secret: None,
            configuration: Some(configuration),
            version: 1,
            writes: (0, 0),
            events: Vec::new(),
        }))
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        if path.contains("/events") {
            self.events.push(sent["note"].as_str().unwrap_or_default().to_owned());
            return (201, sent);
        }
        let is_secret = path.contains("/secrets");
        let kept = if is_secret { &self.secret } else { &self.configuration };
        let refused = |code: u16, reason: &str| (code, json!({"kind": "Status", "code": code, "reason": reason}));
        let is_stale = |kept: &Value| {
            let sent = &sent["metadata"]["resourceVersion"];
            !sent.is_null() && *sent != kept["metadata"]["resourceVersion"]
        };
        match (method, kept) {
            (&Method::GET, Some(kept)) => return (200, kept.clone()),
            (&Method::GET | &Method::PUT | &Method::PATCH, None) => return refused(404, "NotFound"),
            (&Method::POST, Some(_)) => return refused(409, "AlreadyExists"),
            (_, Some(kept)) if is_stale(kept) => return refused(409, "Conflict"),
            _ => {}
        }
        self.version += 1;
        let mut written = if is_secret { sent } else { self.configuration.clone().unwrap_or_default() };
        if !is_secret {
            let sent: Value = serde_json::from_slice(body).expect("a patch is JSON");
            for (entry, sent) in written["webhooks"].as_array_mut().into_iter().flatten().zip(items(&sent["webhooks"]))
            {
                assert_eq!(entry["name"], sent["name"]);
                entry["clientConfig"]["caBundle"] = sent["clientConfig"]["caBundle"].clone();
            }
        }
        written["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if is_secret {
            (self.secret, self.writes.0) = (Some(written.clone()), self.writes.0 + 1);
        } else {
            (self.configuration, self.writes.1) = (Some(written.clone()), self.writes.1 + 1);
        }
        (200, written)
    }

    fn secret(&self) -> Option<Secret> {
        self.secret.clone().map(|secret| serde_json::from_value(secret).expect("it is a Secret"))
    }

    fn configuration(&self) -> Option<MutatingWebhookConfiguration> {
        self.configuration.clone().map(|found| serde_json::from_value(found).expect("it is a configuration"))
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn client(server: &Arc<Mutex<Server>>) -> Client {
    let server = Arc::clone(server);
    let answer = move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("the test's body is whole").to_bytes();
            let mut server = server.lock().expect("no holder of this lock panics");
            let (status, answer) = server.answer(&parts.method, parts.uri.path(), &body);
            let response = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(response.expect("the test's answer is one"))
        }
    };
    Client::new(tower::service_fn(answer), "lakeingest")
}

fn lives() -> Lives {
    Lives::new(Seconds::from_secs(12), Seconds::from_secs(3))
}

async fn keeper(server: &Arc<Mutex<Server>>, clock: &Arc<ManualClock>) -> Keeper {
    let (namespace, name) = ("lakeingest".to_owned(), "lakeingest-webhook-ca".to_owned());
    let place = SecretPlace { client: client(server), namespace, name };
    let (clock, metrics): (SharedClock, _) = (clock.clone(), Arc::new(Metrics::default()));
    let events = Events::new("operator", Arc::clone(&clock), Arc::clone(&metrics));
    let parts = KeeperParts { configuration: "lakeingest".to_owned(), place, lives: lives(), clock, events, metrics };
    Keeper::start(parts, "webhook").await.expect("the Secret can be made")
}

/// The watches bring what is there now.
fn hears(keeper: &mut Keeper, server: &Arc<Mutex<Server>>) {
    let server = server.lock().expect("no holder of this lock panics");
    (keeper.secret.object, keeper.found.object) = (server.secret(), server.configuration());
}

fn bundle(server: &Arc<Mutex<Server>>) -> Vec<u8> {
    let found = server.lock().expect("no holder of this lock panics").configuration().expect("there is one");
    let all: Vec<_> = bundles(&found).map(<[u8]>::to_vec).collect();
    assert_eq!(all[0], all[1], "every entry has the same");
    all[0].clone()
}

fn now() -> Arc<ManualClock> {
    ManualClock::at("2026-01-08T10:05:30Z")
}

/// Goal: at every moment every replica's leaf is believed by every API server, while authorities and leaves are replaced a
/// hundred times. Method: three replicas that look in any order, and hear of what the others wrote only sometimes; API
/// servers that learn of the configuration late, by almost the time that is left for it.
#[tokio::test]
async fn every_leaf_is_believed_by_api_servers_that_are_behind_through_a_hundred_rotations() {
    let (server, clock) = (Server::new(), now());
    let mut keepers = Vec::new();
    for _ in 0..3 {
        keepers.push(keeper(&server, &clock).await);
    }
    let step = Duration::from_millis(100);
    let behind = usize::try_from(lives().settle().num_milliseconds() / 100 - 1).expect("the time is short");
    let mut seen: VecDeque<Vec<u8>> = VecDeque::new();
    let mut choices = 1_u64;
    let mut choose = |of: u64| {
        // A generator of the simplest kind: the order has to be any, not unpredictable.
        choices = choices.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (choices >> 33) % of
    };
    let made = |keepers: &[Keeper]| {
        let metrics =
            |keeper: &Keeper| (keeper.parts.metrics.authorities.get(), keeper.parts.metrics.certificates.get());
        keepers.iter().map(metrics).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    };
    let mut steps = 0;
    while made(&keepers).0 < 100 {
        clock.advance(step);
        for _ in 0..3 {
            let keeper = &mut keepers[usize::try_from(choose(3)).expect("it is below three")];
            if choose(2) == 0 {
                hears(keeper, &server);
            }
            keeper.look().await.expect("the API server answers");
        }
        // Each looks at least every quarter of a second.
        if steps % 2 == 0 {
            for keeper in &mut keepers {
                hears(keeper, &server);
                keeper.look().await.expect("the API server answers");
            }
        }
        seen.push_back(bundle(&server));
        if seen.len() > behind {
            let oldest = seen.pop_front().expect("there are some");
            for bundle in [&oldest, &bundle(&server)] {
                for keeper in &keepers {
                    assert!(keeper.leaf.is_vouched_for_by(bundle, clock.now()), "step {steps}");
                }
            }
        }
        steps += 1;
    }
    let (authorities, certificates) = made(&keepers);
    assert_eq!(authorities, 100, "one replica makes an authority, and the others take it");
    assert!(certificates > 3 * authorities, "{certificates} leaves");
    let writes = server.lock().expect("no holder of this lock panics").writes;
    assert_eq!(writes.0, 101, "and one writes it");
    assert!(writes.1 <= 101, "{} writes of the configuration", writes.1);
}

#[tokio::test]
async fn replicas_that_start_together_have_one_authority() {
    let (server, clock) = (Server::new(), now());
    let started = futures::future::join_all((0..3).map(|_| keeper(&server, &clock))).await;
    assert_eq!(started[0].authorities.iter().count(), 1);
    assert!(started.iter().all(|one| one.authorities == started[0].authorities));
}

/// What people do to a Secret: it is deleted, filled with junk, and replaced by another authority. The leaf that is served is
/// believed all the while, and the others' too.
#[tokio::test]
async fn whatever_becomes_of_the_secret_what_is_served_stays_trusted() {
    let (server, clock) = (Server::new(), now());
    let mut keeper = keeper(&server, &clock).await;
    hears(&mut keeper, &server);
    keeper.look().await.expect("the API server answers");
    let whole = server.lock().expect("no holder of this lock panics").secret.clone();

    clock.advance(Duration::from_secs(1));
    let stranger = Authorities::from(vec![Authority::for_test(clock.now())]);
    let mut foreign = whole.clone().expect("there is one");
    foreign["data"] = json!(stranger.data());
    let mut junk = whole.clone().expect("there is one");
    junk["data"] = json!({"tls.crt": "anVuaw==", "tls.key": "anVuaw=="});
    for put in [None, Some(junk), Some(foreign)] {
        server.lock().expect("no holder of this lock panics").secret = put;
        hears(&mut keeper, &server);
        keeper.look().await.expect("the API server answers");
        assert!(keeper.leaf.is_vouched_for_by(&bundle(&server), clock.now()));
        let kept = server.lock().expect("no holder of this lock panics").secret().expect("it was put back");
        assert_eq!(keeper.parts.place.authorities(&kept).expect("it can be used"), keeper.authorities);
    }
    assert_eq!(keeper.authorities.iter().count(), 2, "the stranger's is trusted, and signs when it has settled");
    assert!(!keeper.leaf.is_of(stranger.iter().next().expect("there is one")));
    clock.advance(Duration::from_secs(2));
    keeper.look().await.expect("the API server answers");
    assert!(keeper.leaf.is_of(stranger.iter().next().expect("there is one")));
}

#[tokio::test]
async fn a_configuration_that_others_change_gets_its_bundle_again_and_nothing_else_is_owned() {
    let (server, clock) = (Server::new(), now());
    let mut keeper = keeper(&server, &clock).await;
    assert!(!keeper.is_trusted(), "there is no configuration yet");
    hears(&mut keeper, &server);
    assert!(!keeper.is_trusted(), "nor has it the bundle");
    keeper.look().await.expect("the API server answers");
    assert!(keeper.is_trusted());
    for entry in 0..2 {
        let found = keeper.found.object.as_mut().and_then(|found| found.webhooks.as_mut()).expect("there are entries");
        found[entry].client_config.ca_bundle = None;
        assert!(!keeper.is_trusted());
        keeper.look().await.expect("the API server answers");
        assert!(keeper.is_trusted());
    }
    let patch = keeper.patch(keeper.found.object.as_ref().expect("there is one"));
    for entry in items(&patch["webhooks"]) {
        let fields: Vec<&String> = entry.as_object().expect("an entry is an object").keys().collect();
        assert_eq!(fields, ["clientConfig", "name"]);
        assert_eq!(entry["clientConfig"].as_object().map(serde_json::Map::len), Some(1));
    }
}

/// A replica whose clock is a year ahead renews what has ended for it alone. The others put back what they serve with, once.
#[tokio::test]
async fn a_replica_whose_clock_is_wrong_takes_nothing_from_the_others_and_nobody_writes_for_ever() {
    let (server, clock) = (Server::new(), now());
    let mut right = keeper(&server, &clock).await;
    hears(&mut right, &server);
    right.look().await.expect("the API server answers");
    let ahead = now();
    ahead.advance(TimeDelta::days(365).to_std().expect("a year is positive"));
    let mut wrong = keeper(&server, &ahead).await;
    let mut writes = Vec::new();
    for _ in 0..5 {
        for keeper in [&mut wrong, &mut right] {
            hears(keeper, &server);
            keeper.look().await.expect("the API server answers");
        }
        writes.push(server.lock().expect("no holder of this lock panics").writes);
        assert!(right.leaf.is_vouched_for_by(&bundle(&server), clock.now()));
    }
    assert_eq!(writes[1], writes[4], "all is said after the first rounds: {writes:?}");
}

fn told(server: &Arc<Mutex<Server>>) -> Vec<String> {
    std::mem::take(&mut server.lock().expect("no holder of this lock panics").events)
}

/// Two replicas see the same; one of them writes, and tells.
#[tokio::test]
async fn what_somebody_takes_away_is_told_once_and_what_is_replaced_is_not() {
    let (server, clock) = (Server::new(), now());
    let mut keepers = vec![keeper(&server, &clock).await, keeper(&server, &clock).await];
    let turn = async |keepers: &mut Vec<Keeper>| {
        for keeper in keepers.iter_mut() {
            hears(keeper, &server);
        }
        for keeper in keepers {
            keeper.look().await.expect("the API server answers");
        }
    };
    // From the first bundle to the third authority.
    for _ in 0..40 {
        turn(&mut keepers).await;
        clock.advance(Duration::from_millis(500));
    }
    assert_eq!(told(&server), Vec::<String>::new());

    let spoil = |bundle: Value| {
        let mut server = server.lock().expect("no holder of this lock panics");
        server.version += 1;
        let version = json!(server.version.to_string());
        let found = server.configuration.as_mut().expect("there is one");
        found["webhooks"][1]["clientConfig"]["caBundle"] = bundle;
        found["metadata"]["resourceVersion"] = version;
    };
    for bundle in [Value::Null, json!("anVuaw==")] {
        spoil(bundle);
        turn(&mut keepers).await;
        let told = told(&server);
        assert!(told.len() == 1 && told[0].contains("the caBundle of two in lakeingest"), "{told:?}");
    }
    let spoil_secret = |certificates: Option<&str>| {
        let mut server = server.lock().expect("no holder of this lock panics");
        match (certificates, server.secret.as_mut()) {
            (Some(junk), Some(secret)) => secret["data"]["tls.crt"] = json!(junk),
            _ => server.secret = None,
        }
    };
    for (certificates, words) in [(None, "has deleted Secret"), (Some("anVuaw=="), "has changed Secret")] {
        spoil_secret(certificates);
        turn(&mut keepers).await;
        let told = told(&server);
        assert!(told.len() == 1 && told[0].contains(words), "{told:?}");
    }
    // A configuration that is made anew has no bundle yet.
    let fresh = Server::new().lock().expect("no holder of this lock panics").configuration.clone();
    server.lock().expect("no holder of this lock panics").configuration = None;
    turn(&mut keepers).await;
    server.lock().expect("no holder of this lock panics").configuration = fresh;
    turn(&mut keepers).await;
    assert!(keepers[0].is_trusted());
    assert_eq!(told(&server), Vec::<String>::new());
}
