//! An operator that is killed between any two of its writes, and one whose API server is away or refuses it. The operator is a
//! process of the test, behind the webhook's own Service.

use std::collections::HashSet;
use std::time::Duration;

use lakeingest_tests::api::{Act, Api, history_is_gone, refusal, watches, writes};
use lakeingest_tests::operator::Operator;
use lakeingest_tests::proxy::Head;
use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::stopwatch::Stopwatch;
use xtask::wait::{self, Look};

use super::stand_in::{StandIn, operator};

/// Variable with how many kills there are, one at each further write of an operator that starts; without it, one at each kind
/// of write.
const KILLS_VARIABLE: &str = "LAKEINGEST_TEST_OPERATOR_KILLS";

/// Requests and connections of an operator in a second, while all of them fail.
/// Derivation: seven watches that wait between 0.8 s and 30 s, the Lease every four seconds, one LakeIngest every five, and what
/// the client itself tries again.
const REQUESTS_PER_SECOND_MAX: f64 = 10.0;

/// Whether the API server would take a pod that asks for this LakeIngest, and its words.
fn trial(team: &Team, ingest: &str) -> (bool, String) {
    let pod = team.pod("asking", &json!({"lakeingest.io/inject": ingest}));
    let (done, printed, words) = team.try_apply_with(&pod, &["--dry-run=server", "--output=json"]);
    assert!(!done || printed.contains("lakeingest.io/injected-by"), "no pod that asks is left without its sidecar");
    (done, words)
}

fn wait_until_taken(team: &Team, ingest: &str) {
    wait::until("a pod that asks to be taken", || {
        let (done, words) = trial(team, ingest);
        Ok(if done { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// A LakeIngest with a prefix of its own.
fn make(team: &Team, ingest: &str, max_age: &str) {
    let spec = json!({"storage": {"prefix": ingest}, "flush": {"maxAge": max_age}});
    team.apply(&team.lake_ingest_object(ingest, &spec));
}

/// Waits until everything of a LakeIngest is as it is wanted now.
fn wait_until_settled(team: &Team, ingest: &str) {
    let of = format!("lakeingest/{ingest}");
    wait::until(&format!("{of} to be as it is wanted"), || {
        let found = team.get(&of);
        let (wanted, status) = (&found["metadata"]["generation"], &found["status"]);
        let generation = wanted.to_string();
        let is_ready = status["conditions"].as_array().into_iter().flatten().any(|condition| {
            condition["type"] == "Ready" && condition["status"] == "True" && condition["observedGeneration"] == *wanted
        });
        let rendered =
            team.kubectl(&["get", "configmap", &format!("lakeingest-{ingest}"), "--ignore-not-found", "--output=json"]);
        let rendered: Value = serde_json::from_str(&rendered).unwrap_or_default();
        let is_rendered = rendered["metadata"]["annotations"]["lakeingest.io/generation"] == generation
            && rendered["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"];
        let is_so = is_ready && is_rendered && status["observedGeneration"] == *wanted;
        Ok(if is_so { Look::Ready(()) } else { Look::NotYet(format!("{status} {}", rendered["metadata"])) })
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// The ConfigMaps of the operator's making in the namespace.
fn config_maps(team: &Team) -> Vec<String> {
    let of = ["get", "configmaps", "--selector=app.kubernetes.io/managed-by=lakeingest-operator", "--output=name"];
    let mut names: Vec<String> = team.kubectl(&of).lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// Every entry has what the Secret has.
fn wait_until_agreed(team: &Team) {
    wait::until("the bundles to be those of the Secret", || {
        let secret =
            ["get", "secret", "lakeingest-webhook-ca", "--ignore-not-found", "--output=jsonpath={.data.tls\\.crt}"];
        let bundles = [
            "get",
            "mutatingwebhookconfiguration",
            "lakeingest",
            "--output=jsonpath={.webhooks[*].clientConfig.caBundle}",
        ];
        let (secret, bundles) = (operator(team, &secret), operator(team, &bundles));
        let is_so = !secret.is_empty() && bundles.split(' ').all(|bundle| bundle == secret);
        Ok(if is_so { Look::Ready(()) } else { Look::NotYet(format!("{} and {bundles}", secret.len())) })
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Takes away everything that an operator which starts has to make.
fn spoil(team: &Team) {
    operator(team, &["delete", "secret/lakeingest-webhook-ca", "lease/lakeingest-leader", "--ignore-not-found"]);
    let junk = |entry: u32| json!({"op": "replace", "path": format!("/webhooks/{entry}/clientConfig/caBundle"), "value": "Cg=="});
    let patch = format!("--patch={}", json!([junk(0), junk(1)]));
    operator(team, &["patch", "mutatingwebhookconfiguration/lakeingest", "--type=json", &patch]);
    team.kubectl(&["delete", "configmaps", "--selector=app.kubernetes.io/managed-by=lakeingest-operator"]);
}

/// What an operator that starts writes, in the words of its requests.
const WRITES: [&str; 6] =
    ["/secrets", "/mutatingwebhookconfigurations/", "/leases", "/configmaps/", "/status", "/events"];

/// Where the operator of this round is stopped, and whether the API server has done what was asked for then.
fn stop_at(round: usize, is_named: bool) -> impl FnMut(&Head) -> Act + Send + 'static {
    let mut written = 0;
    move |head| {
        let is_write = writes(head) && (!is_named || head.target.contains(WRITES[round % WRITES.len()]));
        written += usize::from(is_write);
        let is_here = is_write && (is_named || written > round / 2);
        match (is_here, is_named || round % 2 == 1) {
            (false, _) => Act::Pass,
            (true, false) => Act::Stop,
            (true, true) => Act::StopAfter,
        }
    }
}

/// Goal: whatever an operator had done when it was killed, the next one brings everything to what is wanted, and no pod that asks
/// comes to be without its sidecar meanwhile. Method: `SIGKILL` at the moment at which the API server has done a write and its
/// answer is still on the way; then another operator.
#[test]
fn an_operator_that_is_killed_after_any_of_its_writes_leaves_nothing_that_the_next_one_does_not_mend() {
    let asked = std::env::var(KILLS_VARIABLE).ok().map(|text| text.parse::<usize>().expect("it is a number"));
    let team = Team::new("killed");
    let stand_in = StandIn::begin(&team);
    let api = Api::start(&team.cluster);
    let mut kept = Vec::new();
    for round in 0..asked.unwrap_or(WRITES.len()) {
        spoil(&team);
        if let Some(former) = kept.pop() {
            team.kubectl(&["delete", &format!("lakeingest/{former}"), "--timeout=60s"]);
        }
        let ingest = format!("round-{round}");
        make(&team, &ingest, "1h");
        api.rule(stop_at(round, asked.is_none()));
        let killed = Operator::start(&team.cluster, &api.url(), "killed");
        api.wait_until_stopped(&format!("round {round}: a write"));
        killed.server().kill().expect("it can be killed");
        let last = api.seen().last().map(|head| format!("{} {}", head.method, head.target));
        api.mend();
        assert!(!trial(&team, &ingest).0, "nobody serves");

        // One that was killed as the leader would hold the Lease for some time yet.
        operator(&team, &["delete", "lease/lakeingest-leader", "--ignore-not-found"]);
        let next = Operator::start(&team.cluster, &api.url(), "next");
        next.wait_until_ready();
        stand_in.lead_to(next.webhook_port());
        wait_until_settled(&team, &ingest);
        wait_until_agreed(&team);
        wait_until_taken(&team, &ingest);
        wait::until("no ConfigMap of another LakeIngest", || {
            let found = config_maps(&team);
            let is_so = found == [format!("configmap/lakeingest-{ingest}")];
            Ok(if is_so { Look::Ready(()) } else { Look::NotYet(format!("{found:?}")) })
        })
        .expect("none is left behind");
        assert!(team.events("LakeIngest", "Configured").len() <= round + 1, "each is told once at most");
        eprintln!("round {round}: killed at {}", last.unwrap_or_default());
        end(&team, &next);
        kept.push(ingest);
    }
}

/// Ends an operator at once. Nobody waits for the Lease that it may have.
fn end(team: &Team, one: &Operator) {
    one.server().kill().expect("it can be killed");
    operator(team, &["delete", "lease/lakeingest-leader", "--ignore-not-found"]);
}

/// How long requests are counted, at the least.
const PACE_TIME: Duration = Duration::from_secs(4);

/// How many requests or connections a second the operator makes of an API server that refuses or is away.
fn pace(what: &str, count: impl Fn() -> usize) -> f64 {
    let (stopwatch, before) = (Stopwatch::start(), count());
    wait::until(&format!("{what}: requests"), || {
        let made = count() - before;
        let is_enough = stopwatch.elapsed() > PACE_TIME && made > 0;
        Ok(if is_enough { Look::Ready(()) } else { Look::NotYet(made.to_string()) })
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    let pace = (count() - before) as f64 / stopwatch.seconds();
    eprintln!("{what}: {pace:.1} requests a second");
    pace
}

/// Goal: an API server that has too much to do, that is of another opinion, or that is away for longer than a term lasts ends no
/// operator and is not hammered by it; pods are decided over all the while, and afterwards nothing was missed, not even what
/// happened before the history of which watches go on.
#[test]
fn an_api_server_that_refuses_or_is_away_is_waited_for_and_nothing_is_missed() {
    let team = Team::new("api");
    let stand_in = StandIn::begin(&team);
    operator(&team, &["delete", "lease/lakeingest-leader", "--ignore-not-found"]);
    let api = Api::start(&team.cluster);
    let operator = Operator::start(&team.cluster, &api.url(), "alone");
    operator.wait_until_ready();
    stand_in.lead_to(operator.webhook_port());
    for ingest in ["stays", "changes", "goes"] {
        make(&team, ingest, "1h");
        wait_until_settled(&team, ingest);
    }
    wait_until_taken(&team, "stays");

    for (code, reason, header, max_age) in
        [(429, "TooManyRequests", "retry-after: 1\r\n", "50m"), (409, "Conflict", "", "40m")]
    {
        api.rule(move |head| if writes(head) { refusal(code, reason, header) } else { Act::Pass });
        make(&team, "changes", max_age);
        let refused = || api.seen().iter().filter(|head| writes(head)).count();
        assert!(pace(reason, refused) < REQUESTS_PER_SECOND_MAX);
        assert!(trial(&team, "stays").0);
        api.mend();
        wait_until_settled(&team, "changes");
    }

    api.go_away();
    make(&team, "changes", "30m");
    make(&team, "comes", "1h");
    team.kubectl(&["delete", "lakeingest/goes", "--timeout=60s"]);
    assert!(pace("away", || api.turned_away()) < REQUESTS_PER_SECOND_MAX);
    wait::until("the operator to lead no more", || {
        assert!(trial(&team, "stays").0, "pods are decided over by what is known");
        let leads = operator.metric("lakeingest_operator_leader ");
        Ok(if leads < 0.5 { Look::Ready(()) } else { Look::NotYet("it leads".to_owned()) })
    })
    .expect("its term ends");
    assert!(operator.is_ready(), "it can decide over pods");
    assert!(operator.metric("lakeingest_operator_watch_failures_total") > 0.0);
    assert!(operator.log().contains("failed to watch"));

    // What happened meanwhile is in no history any more.
    let mut expired = HashSet::new();
    api.mend_but(move |head| {
        let without_version = head.target.split('&').filter(|part| !part.contains("resourceVersion"));
        let is_first = watches(head) && expired.insert(without_version.collect::<String>());
        if is_first { history_is_gone() } else { Act::Pass }
    });
    for ingest in ["changes", "comes"] {
        wait_until_settled(&team, ingest);
        wait_until_taken(&team, ingest);
    }
    wait::until("the LakeIngest that went to be forgotten", || {
        let (done, words) = trial(&team, "goes");
        let is_so = !done && words.contains("there is no LakeIngest \"goes\"");
        Ok(if is_so { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("it was not missed");
    operator.server().ensure_running().expect("it is the same process");
    end(&team, &operator);
}
