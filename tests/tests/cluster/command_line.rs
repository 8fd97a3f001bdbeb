//! The operator's command line on a real cluster: what it says must be what happens there.

use std::process::{Command, Stdio};

use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::wait::{self, Look};
use xtask::workspace;

use super::Absence;

/// Runs the operator's binary; gives its exit code, its standard output and its standard error.
pub(super) fn operator(team: &Team, arguments: &[&str], input: &Value) -> (i32, String, String) {
    let mut command = Command::new(workspace::operator_binary());
    command.args(arguments).args(["--namespace", &team.namespace]).env("KUBECONFIG", team.cluster.kubeconfig());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the operator is built");
    let stdin = child.stdin.take().expect("standard input was asked for as a pipe");
    serde_json::to_writer(stdin, input).expect("its input is taken");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn why(team: &Team, target: &str, words: &[&str]) {
    let (code, told, errors) = operator(team, &["why", target], &Value::Null);
    assert_eq!(code, 0, "{errors}");
    for part in words {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
}

/// The checks, each with its verdict, and whether the exit code says that all is well.
pub(super) fn checks(team: &Team) -> (bool, Vec<(String, String, String)>) {
    let (code, printed, errors) = operator(team, &["check", "--output", "json"], &Value::Null);
    let printed: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}{errors}"));
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    let all = printed["checks"].as_array().expect("there are checks").iter();
    let all = all.map(|check| (text(check, "check"), text(check, "verdict"), check.to_string())).collect();
    assert_eq!(printed["ready"], code == 0);
    (code == 0, all)
}

/// These checks fail; whatever is not well says what to do.
fn these_fail(team: &Team, expected: &[&str]) {
    let (is_ready, all) = checks(team);
    let fails = |name: &&str| all.iter().any(|(check, verdict, _)| check == name && verdict == "FAIL");
    assert_eq!(
        (expected.iter().filter(|name| fails(name)).count(), is_ready),
        (expected.len(), expected.is_empty()),
        "{all:#?}"
    );
    assert!(all.iter().all(|(_, verdict, whole)| verdict == "ok" || whole.contains("\"next\"")), "{all:#?}");
}

/// Invariant I7: a pod of a file that was injected is the pod that the webhook makes of the file. The API server says both,
/// and creates neither.
#[test]
fn i7_what_inject_prints_is_what_the_webhook_makes() {
    let team = Team::new("inject");
    team.lake_ingest("events", &json!({}));
    let mut pod = team.pod("shop", &json!({"lakeingest.io/inject": "events"}));
    // The API server gives the volume of a token a name by chance.
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    let (code, printed, errors) = operator(&team, &["inject", "--filename", "-"], &pod);
    assert_eq!((code, errors.as_str()), (0, ""), "{printed}");
    let created = |manifest: &str| -> Value {
        let create = ["--namespace", &team.namespace, "create", "--dry-run=server", "--output=json", "--filename=-"];
        let created = team.cluster.run_with_input(create, manifest).expect("the API server takes it");
        serde_json::from_str(&created).expect("kubectl writes JSON")
    };
    let (by_webhook, by_file) = (created(&pod.to_string()), created(&printed));
    for part in ["/spec", "/metadata/annotations", "/metadata/labels"] {
        assert_eq!(by_file.pointer(part), by_webhook.pointer(part), "{part}");
    }
    assert!(by_file["spec"]["initContainers"][0]["name"] == "lakeingest");
}

#[test]
fn what_inject_refuses_it_does_not_print() {
    let team = Team::new("inject-refused");
    let pod = team.pod("shop", &json!({"lakeingest.io/inject": "events"}));
    let (code, printed, errors) = operator(&team, &["inject", "--filename", "-"], &pod);
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(errors.contains("there is no LakeIngest \"events\""), "{errors}");
}

#[test]
fn why_tells_of_pods_as_they_are() {
    let team = Team::new("why");
    team.lake_ingest("events", &json!({}));
    team.start_pod("shop", "events");
    why(&team, "shop", &["has its sidecar, as it would be injected today", "running", "nothing has to be done"]);
    team.apply(&team.pod("plain", &json!({})));
    why(&team, "pod/plain", &["does not ask for one", "lakeingest.io/inject: events"]);
    team.apply(&team.pod("allowed", &json!({"lakeingest.io/inject": "evnets", "lakeingest.io/on-error": "allow"})));
    why(&team, "allowed", &["asks for a sidecar and has none", "there is no LakeIngest \"evnets\""]);

    team.lake_ingest("events", &json!({"drain": {"gracePeriodSeconds": 7}}));
    why(&team, "shop", &["would be injected otherwise today", "generation 2, the pod is of generation 1"]);

    let example = team.example("04-application.yaml").replace("inject: events", "inject: evnets");
    team.cluster.apply(&example).expect("a Deployment is taken whatever its pods ask for");
    wait::until("the Deployment's pods to be refused", || {
        let (_, told, errors) = operator(&team, &["why", "deployment/shop"], &Value::Null);
        let is_told = told.contains("they are refused") && told.contains("denied the request");
        Ok(if is_told { Look::Ready(()) } else { Look::NotYet(told + &errors) })
    })
    .expect("why says what the ReplicaSet is told");
}

/// The webhook configuration is away; it comes back at the end, also of a test that fails.
struct NoWebhook<'a>(&'a Team, String);

impl<'a> NoWebhook<'a> {
    fn begin(team: &'a Team) -> Self {
        let of = ["mutatingwebhookconfiguration", "lakeingest"];
        let found = team.cluster.run(["get", of[0], of[1], "--output=json"]).expect("it is there");
        let mut found: Value = serde_json::from_str(&found).expect("kubectl writes JSON");
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            found["metadata"].as_object_mut().expect("an object has metadata").remove(field);
        }
        let guard = Self(team, found.to_string());
        team.cluster.run(["delete", of[0], of[1]]).expect("it can be deleted");
        guard
    }
}

impl Drop for NoWebhook<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.cluster.apply(&self.1) {
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}

#[test]
fn check_says_what_is_missing_and_what_to_do() {
    let team = Team::new("check");
    these_fail(&team, &[]);
    team.lake_ingest("events", &json!({}));
    let (_, all) = checks(&team);
    assert!(all.iter().all(|(_, verdict, _)| verdict == "ok"), "{all:#?}");

    let no_webhook = NoWebhook::begin(&team);
    these_fail(&team, &["webhook", "trial"]);
    drop(no_webhook);
    let absence = Absence::begin(&team);
    these_fail(&team, &["operator", "service", "trial"]);
    drop(absence);
    wait::until("all to be well again", || {
        let (is_ready, all) = checks(&team);
        Ok(if is_ready { Look::Ready(()) } else { Look::NotYet(format!("{all:#?}")) })
    })
    .expect("the operators come back");
}
