//! A webhook that is there and does not answer as it should: whoever did not ask notices nothing, and whoever asked is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lakeingest_tests::stub::{Stub, answer};
use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::stopwatch::Stopwatch;
use xtask::wait::{self, Look};

use super::stand_in::{StandIn, tls_that_ends};

/// How a webhook answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Not within the API server's patience.
    Late,
    /// With bytes that are not HTTP.
    Noise,
    /// With a page.
    Page,
    /// That it failed.
    Failure,
    /// With JSON that is no review.
    Empty,
    /// With the answer to another review.
    AnothersUid,
    /// With a patch that is none.
    NoPatch,
    /// That the pod may be created as it is.
    NothingToDo,
}

/// Each fault, with what the API server says of it beside the webhook's name.
const FAULTS: [(Fault, &str); 8] = [
    (Fault::Late, "inject.lakeingest.io"),
    (Fault::Noise, "inject.lakeingest.io"),
    (Fault::Page, "inject.lakeingest.io"),
    (Fault::Failure, "inject.lakeingest.io"),
    (Fault::Empty, "inject.lakeingest.io"),
    (Fault::AnothersUid, "inject.lakeingest.io"),
    // The API server blames itself for a patch that it cannot apply.
    (Fault::NoPatch, "Internal error occurred"),
    // Not the webhook refuses it then but the policy, which looks last.
    (Fault::NothingToDo, "MutatingWebhookConfiguration \"lakeingest\""),
];

/// What the server of the test does, and how often it was asked.
struct Acting {
    fault: Mutex<Fault>,
    changed: Condvar,
    asked: AtomicU64,
}

impl Acting {
    fn set(&self, fault: Fault) {
        *self.fault.lock().expect("no holder of this lock panics") = fault;
        self.changed.notify_all();
    }

    fn answer(&self, request: &[u8]) -> Vec<u8> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.lock().expect("no holder of this lock panics");
        let review = || {
            let body =
                request.windows(4).position(|window| window == b"\r\n\r\n").map_or(&[][..], |at| &request[at + 4..]);
            let review: Value = serde_json::from_slice(body).expect("the API server sends reviews");
            review["request"]["uid"].clone()
        };
        let allowed = |uid: Value, patch: Option<&str>| {
            let mut response = json!({"uid": uid, "allowed": true});
            if let Some(patch) = patch {
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(BASE64_STANDARD.encode(patch));
            }
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
                .to_string();
            answer(200, &review)
        };
        match *fault {
            Fault::Late => {
                drop(self.changed.wait_while(fault, |fault| *fault == Fault::Late));
                answer(200, "{}")
            }
            Fault::Noise => vec![0x16; 300],
            Fault::Page => answer(200, "<html>It works!</html>"),
            Fault::Failure => answer(500, "no"),
            Fault::Empty => answer(200, "{}"),
            Fault::AnothersUid => allowed(json!("705ab4f5-6393-11e8-b7cc-42010a800002"), None),
            Fault::NoPatch => allowed(review(), Some("[{\"op\": \"burn\"}]")),
            Fault::NothingToDo => allowed(review(), None),
        }
    }
}

/// Whether the API server would take a pod, how long it took, and its words.
fn trial(team: &Team, pod: &Value) -> (bool, Duration, String) {
    let stopwatch = Stopwatch::start();
    let (done, _, words) = team.try_apply_with(pod, &["--dry-run=server", "--output=name"]);
    (done, stopwatch.elapsed(), words)
}

/// Waits until a pod that asks is refused with these words: the node learns a moment later who is behind the Service.
fn wait_for_refusal(team: &Team, asking: &Value, words: &str) -> String {
    wait::until(&format!("a refusal with {words:?}"), || {
        let (done, _, said) = trial(team, asking);
        Ok(if !done && said.contains(words) { Look::Ready(said) } else { Look::NotYet(format!("{done}: {said}")) })
    })
    .expect("it is refused so")
}

/// Invariant I10. Goal: a webhook that is late, broken, lying or of an expired certificate is not even asked for a pod that did
/// not ask, and no pod that did comes to be without its sidecar. Method: a server of the test behind the webhook's own Service,
/// with certificates of the webhook's own authority.
#[test]
fn i10_whatever_the_webhook_answers_plain_pods_are_made_and_those_that_ask_are_refused_with_words() {
    let team = Team::new("webhook-faults");
    team.lake_ingest("events", &json!({}));
    let asking = team.pod("asking", &json!({"lakeingest.io/inject": "events"}));
    let plain = [team.pod("plain", &json!({})), team.pod("declined", &json!({"lakeingest.io/inject": "false"}))];
    let host = team.cluster.host_address().to_string();
    let acting = Arc::new(Acting { fault: Mutex::new(Fault::Page), changed: Condvar::new(), asked: AtomicU64::new(0) });
    let act = || {
        let acting = Arc::clone(&acting);
        move |_: &_, request: &[u8]| acting.answer(request)
    };
    let good = Stub::with(&host, tls_that_ends(&team, 4_000), act());
    let expired = Stub::with(&host, tls_that_ends(&team, 2_000), act());

    let stand_in = StandIn::begin(&team);
    stand_in.lead_to(good.port());
    wait::until("the API server to reach the test", || {
        let (done, _, words) = trial(&team, &asking);
        assert!(!done, "no pod that asks is left without its sidecar");
        let is_reached = acting.asked.load(Ordering::Relaxed) > 0;
        Ok(if is_reached { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("the Service leads to it");
    for (fault, words) in FAULTS {
        acting.set(fault);
        let before = acting.asked.load(Ordering::Relaxed);
        for pod in &plain {
            let (done, took, said) = trial(&team, pod);
            assert!(done, "{fault:?}: {said}");
            eprintln!("{fault:?}: a pod that did not ask took {took:?}");
        }
        assert_eq!(acting.asked.load(Ordering::Relaxed), before, "{fault:?}: the webhook hears of no such pod");
        let (done, took, said) = trial(&team, &asking);
        assert!(!done && said.contains(words), "{fault:?}: {said}");
        assert!(acting.asked.load(Ordering::Relaxed) > before, "{fault:?}: the webhook was asked");
        eprintln!("{fault:?}: a pod that asked was refused after {took:?}: {}", said.trim());
    }
    stand_in.lead_to(expired.port());
    wait_for_refusal(&team, &asking, "certificate has expired");
    for pod in &plain {
        team.apply(pod);
    }
    team.kubectl(&["wait", "--for=condition=Ready", "pod/plain", "pod/declined", "--timeout=60s"]);

    drop(stand_in);
    wait::until("the pod to be taken", || {
        let (done, _, words) = team.try_apply(&asking);
        Ok(if done { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("it is taken once the webhook is mended");
    team.kubectl(&["wait", "--for=condition=Ready", "pod/asking", "--timeout=60s"]);
}
