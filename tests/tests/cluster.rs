//! The pod's path on a real node of Kubernetes: one object, one annotation, and the same curl; and what a user meets when
//! something is wrong.

#[path = "cluster/api_faults.rs"]
mod api_faults;
#[path = "cluster/asked_by_namespace.rs"]
mod asked_by_namespace;
#[path = "cluster/certificates.rs"]
mod certificates;
#[path = "cluster/command_line.rs"]
mod command_line;
#[path = "cluster/identity.rs"]
mod identity;
#[path = "cluster/injection_by_policy.rs"]
mod injection_by_policy;
#[path = "cluster/kinds.rs"]
mod kinds;
#[path = "cluster/large.rs"]
mod large;
#[path = "cluster/preflight.rs"]
mod preflight;
#[path = "cluster/restored.rs"]
mod restored;
#[path = "cluster/rules.rs"]
mod rules;
#[path = "cluster/stand_in.rs"]
mod stand_in;
#[path = "cluster/status.rs"]
mod status;
#[path = "cluster/watchdog.rs"]
mod watchdog;
#[path = "cluster/webhook_faults.rs"]
mod webhook_faults;
#[path = "cluster/wishes.rs"]
mod wishes;

use lakeingest_tests::team::{Team, pod_spec};
use serde_json::{Value, json};
use xtask::cluster::NAMESPACE;
use xtask::examples;
use xtask::wait::{self, Look};

#[test]
fn one_object_one_annotation_and_the_same_curl_land_json_in_the_lake() {
    let team = Team::new("path");
    let ingest = examples::lake_ingest(&team.access().endpoint).expect("it can be read");
    for manifest in [ingest.replace("team-a", &team.namespace), team.example("04-application.yaml")] {
        team.cluster.apply(&manifest).expect("the documentation's manifests are taken");
    }
    // The Deployment came perhaps before the LakeIngest was configured: its ReplicaSet tries again.
    team.kubectl(&["rollout", "status", "deployment/shop", "--timeout=60s"]);
    let body = r#"{"table_name": "events", "records": [{"user_id": 123, "action": "purchase", "amount": 99.99}]}"#;
    let (status, answer) = team.curl("deployment/shop", "/ingest", body);
    assert_eq!(status, 200, "{answer}");
    let file = answer["files"][0].as_str().expect("a file is text");
    assert!(file.starts_with("s3://lake-data/data/events/year=20"), "{file}");

    let rows = team.lake().table("events");
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["user_id"], &rows[0]["action"], &rows[0]["amount"]),
        (&json!(123), &json!("purchase"), &json!(99.99))
    );

    wait::until("the pod to be counted", || {
        let pods = team.get("lakeingest/events")["status"]["pods"].clone();
        let is_counted = pods["injected"] == 1 && pods["ready"] == 1;
        Ok(if is_counted { Look::Ready(()) } else { Look::NotYet(pods.to_string()) })
    })
    .expect("the operator counts it");
    let pods = team.get("pods");
    let pod = &pods["items"][0];
    assert_eq!(pod["metadata"]["labels"]["lakeingest.io/injected-by"], "events");
    assert_eq!(pod["spec"]["initContainers"][0]["restartPolicy"], "Always");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 90, "its own 30 s and the sidecar's 60 s");
    let variables = pod["spec"]["containers"][0]["env"].as_array().expect("the application has variables");
    assert!(variables.contains(&json!({"name": "LAKE_INGEST_URL", "value": "http://localhost:8001"})), "{variables:?}");

    let (_, log, _) = operator_log(&team);
    let events = team.get("events.events.k8s.io")["items"].as_array().cloned().unwrap_or_default();
    let configured = events.iter().filter(|event| event["reason"] == "Configured");
    assert_eq!(configured.count(), 1, "two operators tell of it once");

    let may_not = |line: &&str| line.contains("system:serviceaccount") && line.contains("cannot");
    assert_eq!(log.lines().find(may_not), None, "the chart lets the operator do what it does");
}

fn operator_log(team: &Team) -> (bool, String, String) {
    let of = ["--namespace", NAMESPACE, "logs", "--selector", "app.kubernetes.io/name=lakeingest", "--tail=-1"];
    team.cluster.try_run(of).expect("kubectl runs")
}

#[test]
fn i10_an_annotation_that_names_no_lake_ingest_is_refused_with_what_exists() {
    let team = Team::new("unknown");
    let (done, _, words) = team.try_apply(&team.pod("shop", &json!({"lakeingest.io/inject": "event"})));
    assert!(!done);
    assert!(words.contains("event") && words.contains("there is no LakeIngest"), "{words}");
    team.lake_ingest("events", &json!({}));
    team.lake_ingest("orders", &json!({"storage": {"prefix": "orders"}}));
    for name in ["event", "true"] {
        let (done, _, words) = team.try_apply(&team.pod("shop", &json!({"lakeingest.io/inject": name})));
        assert!(!done);
        assert!(words.contains("events") && words.contains("orders"), "{words}");
    }
    let pod = team.pod("shop", &json!({"lakeingest.io/inject": "event", "lakeingest.io/on-error": "allow"}));
    let (done, _, words) = team.try_apply(&pod);
    assert!(done && words.contains("Warning"), "the pod's own way out: {words}");
    assert!(team.get("pod/shop")["spec"].get("initContainers").is_none());
}

/// That no operator runs; they come back at the end, also of a test that fails.
struct Absence<'a>(&'a Team);

impl<'a> Absence<'a> {
    fn begin(team: &'a Team) -> Self {
        let absence = Self(team);
        absence.scale("0");
        absence.operator(&[
            "wait",
            "--for=delete",
            "pod",
            "--selector=app.kubernetes.io/name=lakeingest",
            "--timeout=60s",
        ]);
        absence
    }

    fn scale(&self, replicas: &str) {
        self.operator(&["scale", "deployment/lakeingest-operator", "--replicas", replicas]);
    }

    fn operator(&self, arguments: &[&str]) {
        let arguments = [&["--namespace", NAMESPACE], arguments].concat();
        if let Err(error) = self.0.cluster.run(arguments) {
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}

impl Drop for Absence<'_> {
    fn drop(&mut self) {
        self.scale("2");
        self.operator(&["rollout", "status", "deployment/lakeingest-operator", "--timeout=60s"]);
    }
}

#[test]
fn i10_without_an_operator_a_pod_that_did_not_ask_starts_and_one_that_asked_is_refused() {
    let team = Team::new("down");
    team.lake_ingest("events", &json!({}));
    let asking = team.pod("asking", &json!({"lakeingest.io/inject": "events"}));

    let absence = Absence::begin(&team);
    team.apply(&team.pod("plain", &json!({})));
    team.apply(&team.pod("declined", &json!({"lakeingest.io/inject": "false"})));
    for pod in ["pod/plain", "pod/declined"] {
        team.kubectl(&["wait", "--for=condition=Ready", pod, "--timeout=60s"]);
    }
    let (done, _, words) = team.try_apply(&asking);
    assert!(!done && words.contains("inject.lakeingest.io"), "{words}");
    drop(absence);

    // The node learns a moment later that the operators are there again.
    wait::until("the pod to be taken", || {
        let (done, _, words) = team.try_apply(&asking);
        Ok(if done { Look::Ready(()) } else { Look::NotYet(words) })
    })
    .expect("it is taken");
    team.kubectl(&["wait", "--for=condition=Ready", "pod/asking", "--timeout=60s"]);
    assert_eq!(team.container_status("asking", "lakeingest")["ready"], true);
}

#[test]
fn i8_a_bucket_that_is_not_there_leaves_the_pod_running_and_says_why() {
    let team = Team::new("bucket");
    let spec =
        json!({"storage": {"bucket": "no-such-bucket"}, "flush": {"maxAge": "1s"}, "drain": {"gracePeriodSeconds": 1}});
    team.lake_ingest("events", &spec);
    team.start_pod("shop", "events");
    team.stream("shop", 0, 10);
    let message = team.wait_for_reason("shop", "BucketMissing");
    assert!(message.contains("s3://no-such-bucket/"), "{message}");
    let log = team.kubectl(&["logs", "shop", "--container", "lakeingest"]);
    assert!(log.contains("BucketMissing") && log.contains("s3://no-such-bucket/"), "{log}");
    assert_eq!(team.health("shop")["backlog"]["rows"], 10);
    let status = team.container_status("shop", "lakeingest");
    assert_eq!((&status["ready"], &status["restartCount"]), (&json!(true), &json!(0)));
}

#[test]
fn wrong_keys_are_told_and_right_ones_deliver_what_was_journaled_without_a_restart() {
    let team = Team::new("keys");
    team.put_keys("a-wrong-secret-4711");
    team.lake_ingest("events", &json!({"flush": {"maxAge": "1s"}}));
    team.start_pod("shop", "events");
    team.stream("shop", 0, 10);
    let message = team.wait_for_reason("shop", "CredentialsInvalid");
    team.put_keys(&team.access().secret_key);
    // The kubelet brings the new files to the pod when it looks at it again.
    team.wait_until_delivered("shop");
    assert_eq!(team.stored(), (0..10).collect::<Vec<_>>());
    let log = team.kubectl(&["logs", "shop", "--container", "lakeingest"]);
    assert!(log.contains("CredentialsInvalid"), "{log}");
    for text in [message, log] {
        assert!(!text.contains("a-wrong-secret-4711") && !text.contains(&team.access().secret_key), "I13: {text}");
    }
    assert_eq!(team.container_status("shop", "lakeingest")["restartCount"], 0);
}

#[test]
fn a_pod_starts_without_its_secret_and_delivers_once_it_is_there() {
    let team = Team::new("no-secret");
    team.kubectl(&["delete", "secret", "lake-s3"]);
    team.lake_ingest("events", &json!({"flush": {"maxAge": "1s"}}));
    team.start_pod("shop", "events");
    team.stream("shop", 0, 10);
    let message = team.wait_for_reason("shop", "CredentialsMissing");
    assert!(message.contains("accessKeyId is missing"), "{message}");
    let told = team.wait_for_condition("events", "CredentialsValid", "False", "SecretMissingInNamespace");
    assert!(told.contains("Secret lake-s3") && told.contains(&team.namespace), "{told}");
    team.put_keys(&team.access().secret_key);
    team.wait_until_delivered("shop");
    assert_eq!(team.stored(), (0..10).collect::<Vec<_>>());
    team.wait_for_condition("events", "CredentialsValid", "True", "Accepted");
}

#[test]
fn a_deleted_pod_brings_everything_to_the_lake_before_it_goes() {
    let team = Team::new("drain");
    team.lake_ingest("events", &json!({}));
    team.start_pod("shop", "events");
    team.stream("shop", 0, 500);
    assert_eq!(team.stored(), Vec::<u64>::new(), "nothing is due for an hour");
    team.kubectl(&["delete", "pod", "shop", "--timeout=60s"]);
    assert_eq!(team.stored(), (0..500).collect::<Vec<_>>());
}

#[test]
fn a_job_ends_when_its_own_containers_have_and_its_records_are_in_the_lake() {
    let team = Team::new("job");
    team.lake_ingest("events", &json!({}));
    let record = r#"{"table_name": "events", "record": {"sequence": 7}}"#;
    let script = format!("curl --silent --show-error --fail -X POST $LAKE_INGEST_URL/ingest/stream -d '{record}'");
    let mut spec = pod_spec(&script);
    spec["restartPolicy"] = json!("Never");
    team.apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "import"},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"annotations": {"lakeingest.io/inject": "true"}}, "spec": spec},
        },
    }));
    team.kubectl(&["wait", "--for=condition=Complete", "job/import", "--timeout=60s"]);
    assert_eq!(team.stored(), [7]);
}

/// The second one's pod comes to the bucket first, and still writes nothing.
#[test]
fn a_second_lake_ingest_on_the_same_prefix_says_so_and_writes_nothing() {
    let team = Team::new("prefix");
    let spec = |prefix: &str| {
        let drain = json!({"gracePeriodSeconds": 1});
        json!({"storage": {"prefix": prefix}, "flush": {"maxAge": "1s"}, "drain": drain})
    };
    team.lake_ingest("first", &spec("shared"));
    for (name, prefix) in [("second", "shared"), ("within", "shared/deeper")] {
        team.apply(&team.lake_ingest_object(name, &spec(prefix)));
        let of = format!("lakeingest/{name}");
        team.kubectl(&["wait", "--for=jsonpath={.status.conditions[0].reason}=PrefixInUse", &of, "--timeout=60s"]);
        let ready = team.get(&of)["status"]["conditions"][0].clone();
        assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
        let words = ready["message"].as_str().unwrap_or_default();
        assert!(words.contains(&format!("{}/first", team.namespace)), "{words}");
    }
    team.start_pod("second", "second");
    team.stream("second", 10, 20);
    let message = team.wait_for_reason("second", "PrefixInUse");
    assert!(message.contains("first"), "it says whose the prefix is: {message}");
    assert_eq!(team.lake().objects().len(), 0);

    team.start_pod("first", "first");
    team.stream("first", 0, 10);
    team.wait_until_delivered("first");
    assert_eq!(team.health("second")["backlog"]["rows"], 10);
    let first_alone = team.lake().query("SELECT count(*) FROM read_parquet('s3://lake-data/shared/**/*.parquet')");
    assert_eq!(first_alone.rows, [[json!(10)]]);

    // The prefix becomes free: the second's sidecar is told, without a restart.
    let owner = "shared/_lakeingest/owner.json";
    assert!(team.lake().objects().contains(owner));
    // Of two that wait, the older one gets it, and these two may be of one second.
    team.kubectl(&["delete", "lakeingest/within", "--timeout=60s"]);
    team.kubectl(&["delete", "pod/first", "lakeingest/first", "--timeout=60s"]);
    let message = wait::until("the operator's verdict to reach the sidecar", || {
        let message = team.wait_for_reason("second", "PrefixInUse");
        let is_the_buckets = message.contains(owner);
        Ok(if is_the_buckets { Look::Ready(message) } else { Look::NotYet(message) })
    })
    .expect("the kubelet brings the new configuration");
    assert!(message.contains("delete"), "the bucket still says whose it was, and how that is changed: {message}");
}

/// The bucket is away while the pod ends: what is left behind is announced.
#[test]
fn rows_that_a_pod_leaves_behind_are_announced() {
    let team = Team::new("left");
    team.lake_ingest("events", &json!({"drain": {"gracePeriodSeconds": 1}}));
    team.start_pod("shop", "events");
    team.stream("shop", 0, 50);
    team.take_bucket_away();
    team.kubectl(&["delete", "pod", "shop", "--timeout=60s"]);
    let note = wait::until("an Event about the rows", || {
        let events = team.get("events.events.k8s.io");
        let all = events["items"].as_array().cloned().unwrap_or_default();
        let notes: Vec<_> = all.iter().filter(|event| event["reason"] == "RowsLeftBehind").collect();
        Ok(match notes.as_slice() {
            [] => Look::NotYet("there is none".to_owned()),
            [one] => Look::Ready(one["note"].as_str().unwrap_or_default().to_owned()),
            _ => anyhow::bail!("replicas tell of it once: {notes:?}"),
        })
    })
    .expect("the operator tells");
    assert!(note.contains("pod shop ended with 50 rows"), "{note}");
}

/// What is left of an authority that one operator of two has forgotten.
#[test]
fn operators_agree_on_an_authority_when_its_secret_was_deleted() {
    let team = Team::new("authority");
    team.lake_ingest("events", &json!({}));
    let operator = |arguments: &[&str]| {
        team.cluster.run([&["--namespace", NAMESPACE], arguments].concat()).expect("the API server answers")
    };
    let pods = operator(&["get", "pods", "--output=name"]);
    operator(&["delete", "secret", "lakeingest-webhook-ca"]);
    operator(&["delete", pods.lines().next().expect("an operator runs")]);
    operator(&["rollout", "status", "deployment/lakeingest-operator", "--timeout=60s"]);
    wait::until("one authority", || {
        let certificate = operator(&["get", "secret", "lakeingest-webhook-ca", "--output=jsonpath={.data.tls\\.crt}"]);
        let path = "--output=jsonpath={.webhooks[*].clientConfig.caBundle}";
        let bundles = operator(&["get", "mutatingwebhookconfiguration", "lakeingest", path]);
        let ready = "--output=jsonpath={.status.readyReplicas}";
        let ready = operator(&["get", "deployment", "lakeingest-operator", ready]);
        let is_one = bundles.split(' ').all(|bundle| bundle == certificate) && ready == "2";
        Ok(if is_one { Look::Ready(()) } else { Look::NotYet(format!("{ready} operators are ready")) })
    })
    .expect("they agree");
    team.start_pod("shop", "events");
}

#[test]
fn a_lake_ingest_that_breaks_the_schema_is_refused_with_words() {
    let team = Team::new("schema");
    let column = |name: &str, of_type: &str| json!({"name": "orders", "columns": [{"name": name, "type": of_type}]});
    let wrong: [(Value, &str); 8] = [
        (json!({"tables": [{"name": "a_quarantine"}]}), "not end in _quarantine"),
        (json!({"tables": [column("a b", "bigint")]}), "spec.tables[0].columns[0].name"),
        (json!({"tables": [column("a", "BIGINT")]}), "spec.tables[0].columns[0].type"),
        (json!({"storage": {"bucket": "Lake_Data"}}), "spec.storage.bucket"),
        (json!({"storage": {"prefix": "_data"}}), "spec.storage.prefix"),
        (json!({"flush": {"maxAge": "5ms"}}), "spec.flush.maxAge"),
        (json!({"storage": {"s3": {"allowInsecure": false}}}), "allowInsecure"),
        (json!({"drain": {"gracePeriodSeconds": 0}}), "spec.drain.gracePeriodSeconds"),
    ];
    for (spec, words) in wrong {
        let (done, _, said) = team.try_apply(&team.lake_ingest_object("events", &spec));
        assert!(!done, "{spec} was taken");
        assert!(said.contains(words), "{spec}: {said}");
    }
    assert_eq!(team.get("lakeingests")["items"], json!([]));
}

#[test]
fn declared_tables_reach_the_pods_and_a_columns_type_cannot_change() {
    let team = Team::new("declared");
    let orders = |id: &str, who: &str| {
        let columns = json!([{"name": "id", "type": id, "nullable": false}, {"name": "who", "type": who}]);
        json!({"tables": [{"name": "orders", "columns": columns, "onUnknownColumn": "quarantine"}]})
    };
    team.lake_ingest("events", &orders("bigint", "struct(name varchar)"));
    team.start_pod("shop", "events");
    let body = r#"{"table_name": "orders", "records": [{"id": 1}, {"who": {"name": "a"}}, {"id": 2, "other": 1}]}"#;
    let (status, answer) = team.curl("pod/shop", "/ingest", body);
    assert_eq!((status, &answer["quarantined"]), (200, &json!(2)), "{answer}");
    let (done, _, said) =
        team.try_apply(&team.lake_ingest_object("events", &orders("varchar", "struct(name varchar)")));
    assert!(!done && said.contains("keeps its type for ever"), "{said}");
    team.lake_ingest("events", &orders("bigint", "struct(name varchar, age bigint)"));
    // What no pattern tells is told by the operator.
    let none = json!({"tables": [{"name": "visits", "columns": [{"name": "page", "type": "text"}]}]});
    team.apply(&team.lake_ingest_object("other", &none));
    wait::until("the type to be refused", || {
        let conditions = team.get("lakeingest/other")["status"]["conditions"].to_string();
        let is_told = conditions.contains("spec.tables[visits].columns[page].type");
        Ok(if is_told { Look::Ready(()) } else { Look::NotYet(conditions) })
    })
    .expect("the operator tells it");
}

#[test]
fn a_changed_lake_ingest_reaches_pods_that_run_and_its_rows_are_computed_from_then_on() {
    let team = Team::new("changed");
    let columns = json!([{"name": "id", "type": "bigint"}, {"name": "who", "type": "varchar"}]);
    let orders = |select: Option<&str>| {
        let mut table = json!({"name": "orders", "columns": columns, "onUnknownColumn": "quarantine"});
        if let Some(select) = select {
            table["transform"] = json!(select);
        }
        json!({"flush": {"maxAge": "1h"}, "tables": [table]})
    };
    team.lake_ingest("events", &orders(None));
    team.start_pod("shop", "events");
    let send = |id: u64| {
        let body = format!(r#"{{"table_name": "orders", "record": {{"id": {id}, "who": "Ann"}}}}"#);
        let (status, answer) = team.curl("pod/shop", "/ingest/stream", &body);
        assert_eq!(status, 202, "{answer}");
    };
    send(1);
    let before = team.health("shop")["generation"].clone();
    team.lake_ingest("events", &orders(Some("SELECT id, upper(who) AS who, id * 2 AS twice FROM batch")));
    // The kubelet brings the new file to the pod when it looks at it again.
    wait::until("the pod to take in the change", || {
        let health = team.health("shop");
        let is_new = health["generation"].as_i64() > before.as_i64();
        Ok(if is_new { Look::Ready(()) } else { Look::NotYet(health.to_string()) })
    })
    .expect("it does");
    send(2);
    team.flush("shop");
    let mut rows = team.lake().table("orders");
    rows.sort_by_key(|row| row["id"].as_i64());
    let rows: Vec<_> = rows.iter().map(|row| ["id", "who", "twice"].map(|name| row[name].clone())).collect();
    assert_eq!(rows, [[json!(1), json!("Ann"), json!(null)], [json!(2), json!("ANN"), json!(4)]]);
    assert_eq!(team.container_status("shop", "lakeingest")["restartCount"], 0);
}

#[test]
fn i11_the_operator_may_read_no_secret_but_its_own() {
    let team = Team::new("rights");
    let operator = format!("--as=system:serviceaccount:{NAMESPACE}:lakeingest-operator");
    let may = |namespace: &str, verb: &str, what: &str| {
        let question = ["--namespace", namespace, "auth", "can-i", verb, what, &operator];
        team.cluster.try_run(question).expect("kubectl runs").1.trim() == "yes"
    };
    assert!(may(NAMESPACE, "get", "secrets/lakeingest-webhook-ca"));
    for (namespace, verb, what) in [
        (NAMESPACE, "list", "secrets"),
        (NAMESPACE, "get", "secrets/another"),
        (team.namespace.as_str(), "get", "secrets/lake-s3"),
        (team.namespace.as_str(), "list", "secrets"),
        (team.namespace.as_str(), "create", "pods"),
        (team.namespace.as_str(), "create", "jobs"),
        (team.namespace.as_str(), "delete", "configmaps"),
    ] {
        assert!(!may(namespace, verb, what), "{verb} {what} in {namespace}");
    }
}
