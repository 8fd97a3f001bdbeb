//! The chart without a webhook: what the API server does by the policy is what the operator does to files.

use lakeingest_tests::chart::Chart;
use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::workspace;

use super::command_line::operator;

/// The pods of the operator's own test data, and those that what is there would make.
fn corpus() -> Vec<(String, Value)> {
    let folder = workspace::root().join("operator/testdata/pods");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("the folder is there").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let mut pods = Vec::new();
    for file in files.iter().map(std::fs::DirEntry::path).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let name = file.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        for document in documents(&text) {
            pods.extend(pods_of(&document).into_iter().map(|pod| (name.clone(), pod)));
        }
    }
    assert!(pods.len() > 20, "the pods were found");
    pods
}

/// The documents of a file. One of JSON may be indented by tabs, which are none in YAML.
fn documents(text: &str) -> Vec<Value> {
    let without_comments: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    serde_json::from_str(&without_comments).map_or_else(
        |_| {
            let documents = serde_yaml::Deserializer::from_str(text);
            documents.map(|document| serde::Deserialize::deserialize(document).expect("it is YAML")).collect()
        },
        |document| vec![document],
    )
}

fn pods_of(object: &Value) -> Vec<Value> {
    if let Some(items) = object["items"].as_array() {
        return items.iter().flat_map(pods_of).collect();
    }
    let template = ["/spec/template", "/spec/jobTemplate/spec/template", "/template"];
    let template = template
        .iter()
        .find_map(|path| object.pointer(path))
        .or(Some(object))
        .filter(|one| one["spec"]["containers"].is_array());
    template.map(|template| json!({"metadata": template["metadata"], "spec": template["spec"]})).into_iter().collect()
}

/// The file of pods whose class the webhook keeps and the policy does not.
const STAYS_GUARANTEED: &str = "guaranteed";

/// Whether a pod that asks wants what a policy cannot give.
fn wants_more(pod: &Value) -> bool {
    let annotations = &pod["metadata"]["annotations"];
    let wishes = ["resources", "containers", "port", "health-port"].map(|wish| format!("lakeingest.io/{wish}"));
    let is_fragment = |container: &Value| container["name"] == "lakeingest" && container["args"].is_null();
    let asks = annotations["lakeingest.io/inject"].as_str().is_some_and(|asks| asks.trim() != "false");
    let has_fragment = pod["spec"]["initContainers"].as_array().is_some_and(|all| all.iter().any(is_fragment));
    asks && (wishes.iter().any(|wish| !annotations[wish].is_null())
        || has_fragment
        || pod["spec"]["resources"].is_object())
}

/// As a pod that the API server takes: with a name, an image, and no volume that it would name by chance.
fn complete(mut pod: Value) -> Value {
    (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
    pod["metadata"]["name"] = json!("shop");
    pod["metadata"].as_object_mut().expect("a pod has metadata").remove("namespace");
    // A kubelet makes such a pod, of a node that it names.
    if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
        annotations.remove("kubernetes.io/config.mirror");
    }
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    // What YAML 1.1 reads as a number in octal digits was read as a text here.
    for volume in pod["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        if let Some(mode) = volume.pointer_mut("/configMap/defaultMode") {
            *mode = json!(mode.as_str().map(|octal| u32::from_str_radix(octal, 8).expect("a mode is octal")));
        }
    }
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["image"] = json!("shop:1");
        }
    }
    pod
}

/// What the API server makes of a pod of this namespace, and does not create; or why it refuses it.
fn created(team: &Team, namespace: &str, pod: &str) -> Result<Value, String> {
    let create =
        ["create", "--dry-run=server", "--validate=false", "--output=json", "--filename=-", "--namespace", namespace];
    let made = team.cluster.run_with_input(create, pod).map_err(|error| format!("{error:#}"))?;
    let made: Value = serde_json::from_str(&made).expect("kubectl writes JSON");
    Ok(
        json!({"spec": made["spec"], "annotations": made["metadata"]["annotations"], "labels": made["metadata"]["labels"]}),
    )
}

/// Invariants I7 and I10. Goal: the policy gives each pod of the folder what the operator's own code gives it, or refuses it as
/// that does. Method: the API server takes the pod in a namespace with the LakeIngest, and what `inject` prints in one without,
/// where no policy adds anything; the two must come out the same.
#[test]
fn i7_the_policy_makes_of_every_pod_of_the_folder_what_inject_prints() {
    let team = Team::new("by-policy");
    let plain = format!("{}-plain", team.namespace);
    team.cluster.run(["delete", "namespace", &plain, "--ignore-not-found"]).expect("it can be deleted");
    team.cluster.run(["create", "namespace", &plain]).expect("it can be made");
    // The pods of the folder are of any shape.
    let any = "pod-security.kubernetes.io/enforce=privileged";
    team.cluster.run(["label", "namespace", &team.namespace, any, "--overwrite"]).expect("it can be labelled");
    team.lake_ingest("events", &json!({"drain": {"gracePeriodSeconds": 60}}));
    let resources = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    team.lake_ingest(
        "orders",
        &json!({
            "storage": {"prefix": "orders", "credentials": null},
            "buffer": {"sizeLimit": "4Gi", "scratchSizeLimit": "3000M"},
            "sidecar": {"port": 8101, "healthPort": 8102, "resources": resources},
            "drain": {"gracePeriodSeconds": 10},
        }),
    );
    let _by_policy = Chart::with(&team, &["injection.mode=policy"]);
    let (mut injected, mut refused) = (0, 0);
    for (name, pod) in corpus() {
        let pod = complete(pod);
        let (code, printed, words) = operator(&team, &["inject", "--filename", "-"], &pod);
        let by_policy = created(&team, &team.namespace, &pod.to_string());
        let asks = pod["metadata"]["annotations"]["lakeingest.io/inject"].as_str();
        let asks = asks.unwrap_or("false").trim().to_owned();
        let expected = if asks == "true" || wants_more(&pod) {
            Err(String::new())
        } else if code == 0 {
            Ok(printed)
        } else {
            Err(words)
        };
        match (expected, by_policy) {
            (Ok(printed), Ok(by_policy)) => {
                let printed: Value = serde_yaml::from_str(&printed).expect("it is YAML");
                let mut printed = printed;
                printed["metadata"].as_object_mut().expect("a pod has metadata").remove("namespace");
                let by_file = created(&team, &plain, &printed.to_string()).expect("the API server takes it");
                if name != STAYS_GUARANTEED {
                    assert_eq!(by_policy, by_file, "{name}");
                }
                let has_sidecar = by_policy["spec"]["initContainers"].to_string().contains("\"name\":\"lakeingest\"");
                injected += u32::from(has_sidecar);
            }
            (Err(_), Err(message)) => {
                assert!(message.contains("denied request: lakeingest: "), "{name}: {message}");
                refused += 1;
            }
            (expected, found) => panic!("{name} asks for {asks:?}: {expected:?} and {found:?}"),
        }
    }
    assert!(injected > 10 && refused > 5, "{injected} and {refused}");
    team.cluster.run(["delete", "namespace", &plain, "--wait=false"]).expect("it can be deleted");
}

/// A pod runs, its sidecar takes records and they are in the lake, and nobody but the API server was asked.
#[test]
fn i10_without_a_webhook_a_pod_gets_its_sidecar_and_what_cannot_have_one_is_refused() {
    let team = Team::new("no-webhook");
    let _by_policy = Chart::with(&team, &["injection.mode=policy"]);
    let found = team.cluster.run(["get", "mutatingwebhookconfigurations", "--output=name"]).expect("kubectl runs");
    assert!(!found.contains("lakeingest"), "{found}");
    // Nothing asked in a namespace without a LakeIngest.
    team.apply(&team.pod("plain", &json!({})));
    team.lake_ingest("events", &json!({}));
    team.start_pod("shop", "events");
    team.stream("shop", 0, 10);
    team.flush("shop");
    assert_eq!(team.stored(), (0..10).collect::<Vec<_>>());

    let refused = |annotations: &Value, change: &dyn Fn(&mut Value)| {
        let mut pod = team.pod("refused", annotations);
        change(&mut pod);
        let (done, _, words) = team.try_apply(&pod);
        assert!(!done, "{pod} was taken");
        words
    };
    let asking = json!({"lakeingest.io/inject": "events"});
    let words = refused(&json!({"lakeingest.io/inject": "evnets"}), &|_| {});
    assert!(words.contains("there is no LakeIngest \"evnets\""), "{words}");
    let words = refused(&json!({"lakeingest.io/inject": "true"}), &|_| {});
    assert!(words.contains("write the name of a LakeIngest"), "{words}");
    let ports = json!([{"containerPort": 8001}]);
    let words = refused(&asking, &|pod| pod["spec"]["containers"][0]["ports"] = ports.clone());
    assert!(words.contains("declares port 8001 or 8002") && words.contains("\"events\""), "{words}");
    for stranger in [
        json!({"name": "lakeingest-config", "emptyDir": {}}),
        json!({"name": "lakeingest-journal", "emptyDir": {"sizeLimit": "64Mi"}}),
        json!({"name": "lakeingest-journal", "emptyDir": {}}),
        json!({"name": "lakeingest-scratch", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}),
    ] {
        let words = refused(&asking, &|pod| pod["spec"]["volumes"] = json!([stranger]));
        assert!(words.contains("not the one of LakeIngest \"events\""), "{words}");
    }
    let words = refused(&asking, &|pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"}));
    assert!(words.contains("runs on Windows"), "{words}");

    // The pod's own way out, with and without a LakeIngest that could serve it.
    let rather = |name: &str| json!({"lakeingest.io/inject": name, "lakeingest.io/on-error": "allow"});
    for (name, lake_ingest, change) in [("unknown", "evnets", "volumes"), ("full", "events", "ports")] {
        let mut pod = team.pod(name, &rather(lake_ingest));
        if change == "ports" {
            pod["spec"]["containers"][0]["ports"] = ports.clone();
        }
        team.apply(&pod);
        assert!(team.get(&format!("pod/{name}"))["spec"].get("initContainers").is_none(), "{name}");
    }
}
