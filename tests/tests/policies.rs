//! What the API server refuses by itself, by the policies of the chart, on a real one: pods that lost their sidecar on the
//! way, LakeIngests whose author would gain by them, and the annotation where it does nothing.

use lakeingest_tests::team::{Team, pod_spec};
use serde_json::{Value, json};
use xtask::wait::{self, Look};

/// Options of kubectl with which everything is looked at and nothing is made.
const TRIAL: [&str; 2] = ["--dry-run=server", "--output=json"];

/// The webhook configuration and the binding of the policy, as the chart that the tests install names them.
const WEBHOOK: &str = "mutatingwebhookconfiguration/lakeingest";
const BINDING: &str = "validatingadmissionpolicybinding/lakeingest-injected-pods";

/// That something of the cluster leaves the team's namespace out, as if it were not there; it is as before at the end, also
/// of a test that fails.
struct LeftOut<'a> {
    team: &'a Team,
    what: &'static str,
    undo: Value,
}

impl<'a> LeftOut<'a> {
    /// The webhook is not called, as when its configuration was deleted.
    fn webhook(team: &'a Team) -> Self {
        let selector = "/webhooks/0/namespaceSelector/matchExpressions";
        let but_this = but_this(team);
        let apply = json!([{"op": "add", "path": format!("{selector}/-"), "value": but_this}]);
        let undo = json!([{"op": "remove", "path": format!("{selector}/1")}]);
        Self::begin(team, WEBHOOK, &apply, undo)
    }

    /// The policy of injected pods does not bind, as before it was installed.
    fn policy(team: &'a Team) -> Self {
        let selector = json!({"namespaceSelector": {"matchExpressions": [but_this(team)]}});
        let apply = json!([{"op": "add", "path": "/spec/matchResources", "value": selector}]);
        let undo = json!([{"op": "remove", "path": "/spec/matchResources"}]);
        Self::begin(team, BINDING, &apply, undo)
    }

    fn begin(team: &'a Team, what: &'static str, apply: &Value, undo: Value) -> Self {
        patch(team, what, apply).expect("it can be changed");
        Self { team, what, undo }
    }
}

impl Drop for LeftOut<'_> {
    fn drop(&mut self) {
        if let Err(error) = patch(self.team, self.what, &self.undo) {
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}

/// Every namespace but the team's.
fn but_this(team: &Team) -> Value {
    json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [team.namespace]})
}

fn patch(team: &Team, what: &str, patch: &Value) -> anyhow::Result<String> {
    team.cluster.run(["patch", what, "--type=json", "--patch", &patch.to_string()])
}

/// A pod that asks, as its user writes it.
fn asking(team: &Team) -> Value {
    team.pod("shop", &json!({"lakeingest.io/inject": "events"}))
}

/// The API server's words for a pod; none if it would take it.
fn refusal(team: &Team, pod: &Value) -> Option<String> {
    let (done, _, words) = team.try_apply_with(pod, &TRIAL);
    (!done).then_some(words)
}

/// Waits until a pod that asks is refused by the policy: the API server takes up a moment later what was changed.
fn wait_for_the_policy(team: &Team) -> String {
    wait::until("the policy to refuse a pod", || {
        Ok(match refusal(team, &asking(team)) {
            Some(words) if words.contains("ValidatingAdmissionPolicy") => Look::Ready(words),
            other => Look::NotYet(other.unwrap_or_else(|| "the pod is taken".to_owned())),
        })
    })
    .expect("it does")
}

/// The pod as the webhook leaves it.
fn injected(team: &Team) -> Value {
    let (done, output, words) = team.try_apply_with(&asking(team), &TRIAL);
    assert!(done, "{words}");
    let mut pod: Value = serde_json::from_str(&output).expect("kubectl writes JSON");
    let metadata = ["name", "annotations", "labels"].map(|field| (field.to_owned(), pod["metadata"][field].take()));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": Value::Object(metadata.into_iter().collect()), "spec": pod["spec"]})
}

#[test]
fn i10_a_pod_that_asked_and_lost_its_sidecar_on_the_way_is_refused_with_words() {
    let team = Team::new("stripped");
    team.lake_ingest("events", &json!({}));
    let whole = injected(&team);
    assert_eq!(whole["spec"]["initContainers"][0]["name"], "lakeingest");
    let _webhook = LeftOut::webhook(&team);
    let words = wait_for_the_policy(&team);
    assert!(words.contains("has none") && words.contains("MutatingWebhookConfiguration \"lakeingest\""), "{words}");

    let stripped = |what: &dyn Fn(&mut Value)| {
        let mut pod = whole.clone();
        what(&mut pod);
        refusal(&team, &pod).expect("the pod is refused")
    };
    let take = |pod: &mut Value, fields: &[&str]| {
        let sidecar = pod["spec"]["initContainers"][0].as_object_mut().expect("the sidecar is an object");
        sidecar.retain(|field, _| !fields.contains(&field.as_str()));
    };
    // The API server itself knows that only a sidecar has probes, and looks before any policy does.
    let words = stripped(&|pod| take(pod, &["restartPolicy"]));
    assert!(words.contains("restartPolicy"), "{words}");
    let words = stripped(&|pod| take(pod, &["restartPolicy", "startupProbe", "lifecycle"]));
    assert!(words.contains("lost its restartPolicy: Always") && words.contains("upgrade that webhook"), "{words}");
    for image in ["evil/lakeingest/sidecar:0.1.0", "lakeingest/sidecar.evil", "lakeingest/sidecar:5000/other"] {
        let words = stripped(&|pod| pod["spec"]["initContainers"][0]["image"] = json!(image));
        assert!(words.contains(image) && words.contains("allows: lakeingest/sidecar;"), "{words}");
    }
    let words = stripped(&|pod| {
        pod["metadata"]["annotations"].as_object_mut().expect("there are some").remove("lakeingest.io/status");
    });
    assert!(words.contains("lakeingest.io/status"), "{words}");
    for name in ["lakeingest", "another"] {
        let words = stripped(&|pod| {
            pod["spec"]["containers"][0]["name"] = json!(name);
            pod["spec"]["initContainers"] = json!([]);
        });
        assert!(words.contains("has none"), "an ordinary container is no sidecar: {words}");
    }

    // Whole as it was, and with other images of an allowed repository.
    assert_eq!(refusal(&team, &whole), None);
    for image in
        ["lakeingest/sidecar", "lakeingest/sidecar:9", &format!("lakeingest/sidecar:9@sha256:{}", "0".repeat(64))]
    {
        let mut pod = whole.clone();
        pod["spec"]["initContainers"][0]["image"] = json!(image);
        assert_eq!(refusal(&team, &pod), None);
    }
    // What the operator would let pass: nothing asked, and the pod's own way out.
    for annotations in [
        json!(null),
        json!({}),
        json!({"other": ""}),
        json!({"lakeingest.io/inject": "false"}),
        json!({"lakeingest.io/inject": " false "}),
        json!({"lakeingest.io/inject": "events", "lakeingest.io/on-error": "allow"}),
    ] {
        assert_eq!(refusal(&team, &team.pod("shop", &annotations)), None, "{annotations}");
    }
    for annotations in [
        json!({"lakeingest.io/inject": ""}),
        json!({"lakeingest.io/inject": null}),
        json!({"lakeingest.io/inject": "events", "lakeingest.io/on-error": "refuse"}),
    ] {
        let words = refusal(&team, &team.pod("shop", &annotations)).expect("the pod is refused");
        assert!(words.contains("has none"), "{annotations}: {words}");
    }
}

/// The policy looks at no update: a pod without its sidecar that is older than it runs to its end, and the finalizer by which
/// its Job counts it is taken from it.
#[test]
fn a_job_whose_pod_is_older_than_the_policy_ends_and_goes() {
    let team = Team::new("older");
    let _webhook = LeftOut::webhook(&team);
    let policy = LeftOut::policy(&team);
    wait::until(
        "a time before the policy",
        || Ok(refusal(&team, &asking(&team)).map_or(Look::Ready(()), Look::NotYet)),
    )
    .expect("it comes");
    let mut spec = pod_spec("trap 'exit 0' TERM; while true; do sleep 1; done");
    spec["restartPolicy"] = json!("Never");
    let metadata = json!({"annotations": {"lakeingest.io/inject": "events"}});
    team.apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "import"},
        "spec": {"backoffLimit": 0, "template": {"metadata": metadata, "spec": spec}},
    }));
    let ready = "--for=jsonpath={.status.ready}=1";
    team.kubectl(&["wait", ready, "job/import", "--timeout=60s"]);
    drop(policy);
    wait_for_the_policy(&team);

    team.kubectl(&["exec", "job/import", "--", "sh", "-c", "kill -TERM 1"]);
    team.kubectl(&["wait", "--for=condition=Complete", "job/import", "--timeout=60s"]);
    let pod = team.get("pods")["items"][0]["metadata"].clone();
    assert_eq!(pod.get("finalizers"), None, "the Job has counted it");
    let pod = format!("pod/{}", pod["name"].as_str().expect("a pod has a name"));
    team.kubectl(&["label", &pod, "seen=yes"]);
    team.kubectl(&["delete", "job/import", "--timeout=60s"]);
    team.kubectl(&["wait", "--for=delete", &pod, "--timeout=60s"]);
}

/// Gives a service account of the team rights by a role of this name.
fn grant(team: &Team, account: &str, role: &str, rules: &Value) {
    let api = "rbac.authorization.k8s.io";
    let version = format!("{api}/v1");
    team.apply(&json!({"apiVersion": version, "kind": "Role", "metadata": {"name": role}, "rules": rules}));
    team.apply(&json!({
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": role},
        "roleRef": {"apiGroup": api, "kind": "Role", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": team.namespace}],
    }));
}

#[test]
fn the_author_of_a_lake_ingest_may_get_the_secret_that_it_names() {
    let team = Team::new("authors");
    team.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "author"}}));
    let lake_ingests =
        json!([{"apiGroups": ["lakeingest.io"], "resources": ["lakeingests"], "verbs": ["get", "create", "patch"]}]);
    grant(&team, "author", "write", &lake_ingests);
    let author = format!("--as=system:serviceaccount:{}:author", team.namespace);
    let write = |name: &str, spec: &Value| {
        let (done, _, words) = team.try_apply_with(&team.lake_ingest_object(name, spec), &[&author]);
        if done { Ok(()) } else { Err(words) }
    };
    let keys_of = |secret: &str| json!({"storage": {"credentials": {"secretRef": {"name": secret}}}});
    // The API server learns of rights a moment later.
    let wait_for_refusal = || {
        wait::until("a refusal by the policy", || {
            let trial = team.lake_ingest_object("another", &keys_of("lake-s3"));
            let (done, _, words) = team.try_apply_with(&trial, &[author.as_str(), TRIAL[0]]);
            let is_refused = !done && words.contains("ValidatingAdmissionPolicy");
            Ok(if is_refused { Look::Ready(words) } else { Look::NotYet(words) })
        })
        .expect("it comes")
    };
    let words = wait_for_refusal();
    for part in ["spec.storage.credentials.secretRef.name", "\"lake-s3\"", ":author may not get", &team.namespace] {
        assert!(words.contains(part), "{words}");
    }
    write("events", &json!({"storage": {"credentials": null}})).expect("no keys are nobody's");
    let words = write("events", &keys_of("lake-s3")).expect_err("a change names them too");
    assert!(words.contains("may not get"), "{words}");

    let one = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["lake-s3"], "verbs": ["get"]}]);
    grant(&team, "author", "read", &one);
    wait::until("the right to be known", || {
        Ok(write("events", &keys_of("lake-s3")).map_or_else(Look::NotYet, Look::Ready))
    })
    .expect("it comes");
    let words = write("events", &keys_of("others")).expect_err("they may get one Secret");
    assert!(words.contains("\"others\""), "{words}");

    // What was named before stays, whoever changes the rest; and the operator writes its status.
    team.kubectl(&["delete", "rolebinding/read"]);
    wait_for_refusal();
    let mut changed = keys_of("lake-s3");
    changed["flush"] = json!({"maxAge": "30m"});
    write("events", &changed).expect("the Secret is the same");
    team.kubectl(&["wait", "--for=condition=Ready", "lakeingest/events", "--timeout=60s"]);
    // Who may get every Secret may name any, also one that is not there yet.
    team.apply(&team.lake_ingest_object("events", &keys_of("others")));
}

#[test]
fn a_lake_ingest_names_an_image_that_the_operator_allows() {
    let team = Team::new("images");
    let with_image = |image: Value| team.lake_ingest_object("events", &json!({"sidecar": {"image": image}}));
    for image in ["evil/lakeingest/sidecar", "lakeingest/sidecar.evil:1", "registry:5000/lakeingest/sidecar"] {
        let (done, _, words) = team.try_apply(&with_image(json!(image)));
        let said = "spec.sidecar.image: is not of a repository that the operator allows: lakeingest/sidecar";
        assert!(!done && words.contains(said), "{image}: {words}");
    }
    for image in
        ["lakeingest/sidecar:", "lakeingest/sidecar:v 1", "lakeingest/sidecar@sha256:ab", "lakeingest/sidecar:5000/x"]
    {
        let (done, _, words) = team.try_apply(&with_image(json!(image)));
        assert!(!done && words.contains("write an image as repository:tag"), "{image}: {words}");
    }
    let digest = format!("lakeingest/sidecar:2@sha256:{}", "ab".repeat(32));
    for image in [json!(null), json!("lakeingest/sidecar"), json!(digest)] {
        team.apply(&with_image(image));
    }
}

#[test]
fn the_annotation_on_what_makes_pods_is_warned_of_and_kept() {
    let team = Team::new("misplaced");
    let here = json!({"lakeingest.io/inject": "events"});
    let template = |annotations: &Value, restart: &str| {
        let mut spec = pod_spec("true");
        spec["restartPolicy"] = json!(restart);
        json!({"metadata": {"labels": {"app": "shop"}, "annotations": annotations}, "spec": spec})
    };
    let object = |version: &str, kind: &str, annotations: &Value, spec: Value| {
        let metadata = json!({"name": "shop", "annotations": annotations});
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    };
    let warning = |object: &Value| {
        let (done, _, words) = team.try_apply_with(object, &TRIAL);
        assert!(done, "{words}");
        words.lines().find(|line| line.contains("does nothing")).map(str::to_owned)
    };
    let none = json!({});
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"] {
        let (version, restart) = if kind.ends_with("Job") { ("batch/v1", "Never") } else { ("apps/v1", "Always") };
        let made = |on_itself: &Value, on_its_pods: &Value| {
            let of_pods = template(on_its_pods, restart);
            let selector = json!({"matchLabels": {"app": "shop"}});
            let spec = match kind {
                "Job" => json!({"template": of_pods}),
                "CronJob" => json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": of_pods}}}),
                "StatefulSet" => json!({"serviceName": "shop", "selector": selector, "template": of_pods}),
                _ => json!({"selector": selector, "template": of_pods}),
            };
            object(version, kind, on_itself, spec)
        };
        let place = if kind == "CronJob" { "spec.jobTemplate.spec.template" } else { "spec.template" };
        let words = warning(&made(&here, &none)).unwrap_or_else(|| panic!("nothing is said of a {kind}"));
        assert!(words.starts_with("Warning: "), "{words}");
        assert!(words.contains(&format!("on a {kind}: move it to {place}.metadata.annotations")), "{words}");
        for (on_itself, on_its_pods) in [(&none, &none), (&none, &here), (&here, &here), (&json!(null), &json!(null))] {
            assert_eq!(warning(&made(on_itself, on_its_pods)), None, "{kind}");
        }
    }
    let of_its_jobs = json!({"metadata": {"annotations": here}, "spec": {"template": template(&none, "Never")}});
    let cron_job = object("batch/v1", "CronJob", &none, json!({"schedule": "0 0 1 1 *", "jobTemplate": of_its_jobs}));
    assert!(warning(&cron_job).is_some(), "the Jobs of a CronJob do not take it either");

    // What a controller makes from it is not warned of again.
    let mut made = object("apps/v1", "ReplicaSet", &here, json!({"selector": {"matchLabels": {"app": "shop"}}}));
    made["spec"]["template"] = template(&none, "Always");
    made["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "1", "controller": true}]);
    assert_eq!(warning(&made), None);
}
