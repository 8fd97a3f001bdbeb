//! The pods of `testdata/pods`, and pods of any shape, against what is expected of them and against the webhook.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::clock::SystemClock;
use crate::fixtures::pods::pods;
use crate::metrics::Metrics;
use crate::webhook::{PodReview, Webhook, router};

/// Variable with which the tests write what they expect instead of comparing with it. What they write is to be read.
const WRITE_VARIABLE: &str = "LAKEINGEST_WRITE_EXPECTED";

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// The names of the test's files, and their texts.
fn corpus() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(testdata().join("pods")).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path()).filter(|path| path.is_file());
    let mut files: Vec<_> = paths
        .map(|path| {
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("it can be read"))
        })
        .collect();
    files.sort();
    assert!(files.len() > 10, "the files were found");
    files
}

/// What files are judged by: the LakeIngests of `testdata`, and namespace `team-a` where none is named.
fn test_context() -> Context {
    let text = std::fs::read_to_string(testdata().join("lakeingests.yaml")).expect("it can be read");
    let mut known = Known::default();
    for document in documents::split("lakeingests.yaml", &text).expect("it is YAML") {
        for object in Object::all(&document.json().expect("it is JSON")) {
            assert!(known.add(&object, "team-a"));
        }
    }
    let policy = ImageArguments { sidecar_image: Some("lakeingest/sidecar:1".to_owned()), ..Default::default() };
    let admission = known.admission(policy.policy(None));
    Context { admission, namespace: "team-a".to_owned(), excluded: EXCLUDED.map(str::to_owned).to_vec() }
}

fn injected(name: &str, text: &str) -> Injected {
    let documents = documents::split(&format!("{name}.yaml"), text).expect("the test's text is YAML");
    inject(documents, &test_context()).expect("the test's text is JSON too")
}

/// What would be on standard output, and on standard error.
fn output(name: &str, text: &str) -> (String, String) {
    let injected = injected(name, text);
    let words: String = injected.words.iter().map(|line| format!("{line}\n")).collect();
    let printed = if injected.is_refused { String::new() } else { documents::joined(&injected.documents) };
    (printed, words)
}

#[test]
fn every_pod_of_the_folder_comes_out_as_expected() {
    for (name, text) in corpus() {
        let (printed, words) = output(&name, &text);
        for (kind, found) in [("yaml", printed), ("txt", words)] {
            let path = testdata().join(format!("pods/expected/{name}.{kind}"));
            if std::env::var_os(WRITE_VARIABLE).is_some() {
                match found.is_empty() {
                    true => drop(std::fs::remove_file(&path)),
                    false => std::fs::write(&path, found).expect("it can be written"),
                }
                continue;
            }
            let expected = match std::fs::read_to_string(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                read => read.expect("it can be read"),
            };
            assert!(
                found == expected,
                "{name} is not {}; set {WRITE_VARIABLE} and read the difference",
                path.display()
            );
        }
    }
}

#[test]
fn what_was_injected_once_comes_out_byte_for_byte() {
    for (name, text) in corpus() {
        let (printed, _) = output(&name, &text);
        assert_eq!(output(&name, &printed).0, printed, "{name}");
    }
}

/// What the webhook answers when the API server asks for this pod: the bytes of the patch, none if there is none, or its
/// refusal.
async fn webhook_answer(context: &Context, namespace: &str, pod: &Value) -> Result<Vec<u8>, String> {
    let admission = context.admission.clone();
    let decide = move |review: PodReview| {
        let admission = admission.clone();
        Box::pin(async move { admission.decide(review).await }) as futures::future::BoxFuture<'static, _>
    };
    let metrics = Arc::new(Metrics::default());
    let webhook = Webhook { decide: Arc::new(decide), clock: SystemClock::shared(), metrics };
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "namespace": namespace, "operation": "CREATE",
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": pod,
        },
    });
    let request = Request::post("/inject").body(Body::from(review.to_string())).expect("the request is one");
    let answer = router(webhook).oneshot(request).await.expect("a router answers");
    let bytes = answer.into_body().collect().await.expect("the answer has a body").to_bytes();
    let response = serde_json::from_slice::<Value>(&bytes).expect("it is JSON")["response"].clone();
    if response["allowed"] == false {
        return Err(response["status"]["message"].as_str().unwrap_or_default().to_owned());
    }
    let patch = response["patch"].as_str().unwrap_or_default();
    Ok(BASE64_STANDARD.decode(patch).expect("it is base64"))
}

/// The pods of a document, each with its namespace and its place.
fn pods_of(document: &Value) -> Vec<(String, String, Value)> {
    let pod = |object: Object<'_>| {
        let pointer = format!("{}{}", object.pointer, object.pod_pointer()?);
        Some((object.namespace.unwrap_or("team-a").to_owned(), pointer.clone(), document.pointer(&pointer)?.clone()))
    };
    Object::all(document).into_iter().filter_map(pod).filter(|(namespace, ..)| namespace != "kube-system").collect()
}

/// Invariant I7: the webhook's patch and that of the command line are the same bytes, and its words the same words; the
/// pod that comes out is the pod that the API server makes of the webhook's patch.
#[tokio::test]
async fn i7_the_webhook_does_the_same_to_every_pod_of_the_folder() {
    let context = test_context();
    let mut patched = 0;
    for (name, text) in corpus() {
        let before = documents::split(&name, &text).expect("it is YAML");
        let after = injected(&name, &text).documents;
        for (before, after) in before.iter().zip(&after) {
            let (before, after) = (before.json().expect("it is JSON"), after.json().expect("it is JSON"));
            for (namespace, pointer, pod) in pods_of(&before) {
                let answer = webhook_answer(&context, &namespace, &pod).await;
                match (context.admission.judge(&namespace, &pod), answer) {
                    (Judged::Injected { injection, .. }, Ok(patch)) => {
                        assert_eq!(Value::from(injection.patch).to_string().into_bytes(), patch, "{name}");
                        let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("it is a patch");
                        let mut applied = pod.clone();
                        json_patch::patch(&mut applied, &patch).expect("it applies");
                        assert_eq!(after.pointer(&pointer), Some(&applied), "{name}");
                        patched += 1;
                    }
                    (Judged::NotAsked | Judged::Refused { is_let_pass: true, .. }, Ok(patch)) => {
                        assert_eq!((patch, after.pointer(&pointer)), (Vec::new(), Some(&pod)), "{name}");
                    }
                    (Judged::Refused { reason, is_let_pass: false }, Err(message)) => {
                        assert_eq!(message, format!("lakeingest: {reason}"), "{name}");
                    }
                    (judged, answer) => panic!("{name}: {judged:?}, and the webhook says {answer:?}"),
                }
            }
        }
    }
    assert!(patched > 10, "{patched} pods were compared");
}

/// The API server reads nulls and twin fields in its own way before it asks the webhook.
#[test]
fn a_pod_is_judged_as_the_api_server_would_send_it() {
    let null = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {lakeingest.io/inject: }}\nspec: {containers: [{name: app}]}\n";
    let (printed, words) = output("null", null);
    assert!(printed.is_empty() && words.contains("refused: ") && words.contains("is empty"), "{words}");
    let account = json!({"metadata": {"annotations": null}, "spec": {"serviceAccount": "shop"}});
    assert_eq!(as_sent(&account)["spec"]["serviceAccountName"], "shop");
    assert_eq!(as_sent(&account)["metadata"], account["metadata"]);
    let both = json!({"spec": {"serviceAccount": "shop", "serviceAccountName": "other"}});
    assert_eq!(as_sent(&both), both);
}

#[tokio::test]
async fn a_pod_is_injected_from_a_lake_ingest_of_the_same_file() {
    let ingest =
        "apiVersion: lakeingest.io/v1alpha1\nkind: LakeIngest\nmetadata: {name: x}\nspec: {storage: {bucket: lake}}\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {lakeingest.io/inject: x}}\nspec: {containers: [{name: app}]}\n";
    let documents = documents::split("both.yaml", &format!("{pod}---\n{ingest}")).expect("it is YAML");
    let (images, mut words) = (ImageArguments::default(), Vec::new());
    let context = context(&documents, &[], "team-d", None, &images, &mut words).await.expect("nobody is asked");
    let injected = inject(documents, &context).expect("it is JSON");
    assert_eq!((injected.is_refused, injected.words, words), (false, Vec::new(), Vec::new()));
    let printed = documents::joined(&injected.documents);
    assert!(printed.contains("- name: lakeingest-config\n") && printed.ends_with(ingest), "{printed}");
}

proptest! {
    /// Goal: what the command line prints is what the webhook's patch makes, for pods of any shape, and printing it again
    /// changes no byte. Method: the pod is the template of a Deployment, read and written as YAML.
    #[test]
    fn any_pod_comes_out_as_injected_and_only_once(pod in pods()) {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "team-a"},
            "spec": {"template": pod, "unknown": pod},
        });
        let text = super::super::yaml::text_of(&serde_yaml::to_value(&object).expect("JSON is YAML"));
        let (printed, words) = output("any", &text);
        let printed_value: Value = serde_yaml::from_str(&printed).expect("it is YAML");
        let Judged::Injected { injection, .. } = test_context().admission.judge("team-a", &pod) else {
            return Err(TestCaseError::fail(words));
        };
        prop_assert_eq!(&printed_value["spec"]["template"], &injection.pod);
        prop_assert_eq!(&printed_value["spec"]["unknown"], &pod);
        let names = |pod: &Value| -> Vec<Value> {
            pod["spec"]["containers"].as_array().into_iter().flatten().map(|container| container["name"].clone()).collect()
        };
        prop_assert_eq!(names(&printed_value["spec"]["template"]), names(&pod), "containers keep their order");
        prop_assert_eq!(output("any", &printed).0, printed);
    }
}
