//! Objects as large as the API server takes them, and reviews that nobody but an enemy would send.

use lakeingest_tests::api::Api;
use lakeingest_tests::handshakes::Trust;
use lakeingest_tests::operator::Operator;
use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::stopwatch::Stopwatch;
use xtask::wait::{self, Look};

use super::certificates::review;

/// What the chart lets an operator take. Unit: bytes.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Reviews that are sent at once: as many as one address may have connections, and some more.
const AT_ONCE: usize = 80;

/// A pod that asks, with so much text in its variables, in so many of them.
fn long_pod(team: &Team, bytes: usize, variables: usize) -> Value {
    let mut pod = team.pod("long", &json!({"lakeingest.io/inject": "events"}));
    let text = "x".repeat(bytes / variables);
    let variables = (0..variables).map(|number| json!({"name": format!("V{number}"), "value": text}));
    pod["spec"]["containers"][0]["env"] = variables.collect();
    pod
}

#[test]
fn a_pod_of_a_mebibyte_is_injected_and_keeps_all_of_it() {
    let team = Team::new("long-pod");
    team.lake_ingest("events", &json!({}));
    for variables in [1, 2_000] {
        let pod = long_pod(&team, 1 << 20, variables);
        let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", team.namespace);
        let stopwatch = Stopwatch::start();
        let output = team.cluster.run_with_input(["create", "--raw", &path, "--filename", "-"], &pod.to_string());
        let found: Value = serde_json::from_str(&output.expect("it is taken")).expect("the API server writes JSON");
        eprintln!("a pod of {variables} variables and a MiB took {:.2} s", stopwatch.seconds());
        assert_eq!(found["spec"]["initContainers"][0]["name"], "lakeingest");
        let before = pod["spec"]["containers"][0]["env"].as_array().map_or(0, Vec::len);
        let after = found["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
        assert_eq!(after.len(), before + 1);
        assert_eq!(after[..before], pod["spec"]["containers"][0]["env"].as_array().expect("it is a list")[..]);
    }
}

/// Invariant I12. Goal: whoever can reach the port cannot have an operator take more memory than it has. Method: reviews whose few
/// bytes are very many values, as many at once as there are connections, straight to an operator's port; one of the first kind
/// that the API server could send is decided over meanwhile.
#[test]
fn i12_reviews_of_an_enemy_take_no_more_memory_than_there_is() {
    let team = Team::new("enemy");
    team.lake_ingest("events", &json!({}));
    let api = Api::start(&team.cluster);
    let operator = Operator::start(&team.cluster, &api.url(), "third");
    operator.wait_until_ready();
    let address: std::net::SocketAddr = (team.cluster.host_address(), operator.webhook_port()).into();
    let trust = Trust::watch(&team.cluster).expect("kubectl runs");
    let honest = review(&team, &team.pod("shop", &json!({"lakeingest.io/inject": "events"})).to_string());
    wait::until("what the API server trusts", || {
        let answer = trust.review(address, &honest);
        Ok(answer.map_or_else(|error| Look::NotYet(format!("{error:#}")), |_| Look::Ready(())))
    })
    .expect("the watch brings it");

    let mut pod = team.pod("shop", &json!({"lakeingest.io/inject": "nothing"}));
    let mut hostile = Vec::new();
    for (what, count) in
        [(json!({"": 0}), 300_000), (json!([]), 600_000), (json!(0), 1_000_000), (json!({"": 0}), 8_000)]
    {
        pod["spec"]["more"] = vec![what; count].into();
        hostile.push(review(&team, &pod.to_string()));
    }
    for body in &hostile {
        let answers: Vec<String> = std::thread::scope(|scope| {
            let send = || trust.review(address, body).unwrap_or_else(|error| format!("{error:#}"));
            let sending: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(send)).collect();
            sending.into_iter().map(|one| one.join().expect("it does not panic")).collect()
        });
        let peak = operator.server().peak_rss_bytes().expect("it runs");
        let first = answers.first().map(|answer| answer.chars().take(160).collect::<String>()).unwrap_or_default();
        eprintln!("{} reviews of {} KiB: {} MiB at the peak; {first}", answers.len(), body.len() >> 10, peak >> 20);
        assert!(peak < MEMORY_BYTES_MAX, "{} MiB", peak >> 20);
        assert!(answers.iter().all(|answer| !answer.contains("\"allowed\":true")), "{first}");
        wait::until("an honest one to be decided over", || {
            let answer = trust.review(address, &honest);
            Ok(match answer {
                Ok(answer) if answer.contains("\"patch\"") => Look::Ready(()),
                other => Look::NotYet(format!("{other:?}")),
            })
        })
        .expect("there is room as soon as they are answered");
    }
    operator.server().kill().expect("it can be killed");
}

/// Goal: a LakeIngest of as many columns as there may be is rendered, and pods start with it; one of more is refused in words, by the
/// operator where the API server takes it, and by the API server where etcd does not.
#[test]
fn a_lake_ingest_is_rendered_up_to_its_bound_and_refused_with_words_beyond() {
    let team = Team::new("long-ingest");
    let path = format!("/apis/lakeingest.io/v1alpha1/namespaces/{}/lakeingests", team.namespace);
    let make = |name: &str, columns: usize| {
        let column = |number: usize| json!({"name": format!("column_{number}"), "type": "decimal(18,4)"});
        let table = |number: usize| json!({"name": format!("table_{number}"), "columns": (0..columns).map(column).collect::<Value>()});
        let spec = json!({"storage": {"prefix": name}, "tables": (0..32).map(table).collect::<Value>()});
        let ingest = team.lake_ingest_object(name, &spec).to_string();
        let stopwatch = Stopwatch::start();
        let outcome = team.cluster.run_with_input(["create", "--raw", &path, "--filename", "-"], &ingest);
        eprintln!("{columns} columns in each of 32 tables, {} KiB: {:.2} s", ingest.len() >> 10, stopwatch.seconds());
        outcome.map_err(|error| format!("{error:#}"))
    };
    make("events", 156).expect("it is taken");
    let stopwatch = Stopwatch::start();
    team.wait_for_condition("events", "Ready", "True", "Configured");
    eprintln!("it is ready after {:.2} s", stopwatch.seconds());
    team.start_pod("shop", "events");
    let body = r#"{"table_name": "table_7", "record": {"column_7": 1.5}}"#;
    let (status, answer) = team.curl("shop", "/ingest", body);
    assert_eq!(status, 200, "{answer}");

    make("wide", 512).expect("the API server takes it");
    let words = team.wait_for_condition("wide", "Ready", "False", "InvalidSpec");
    assert!(words.contains("at most 5000"), "{words}");
    let words = make("wider", 1_000).expect_err("etcd takes no object of that length");
    assert!(words.contains("request is too large"), "{words}");
}
