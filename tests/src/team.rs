//! A team on the cluster: a namespace that admits only restricted pods, an S3 server that they reach, and the objects that
//! a platform engineer and a developer would apply.
//!
//! Owns: those; all of it goes at the end of the test. Does not own: the cluster and the operator, which every test shares
//! and `cargo xtask test` brings up.

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::cluster::{Cluster, NAMESPACE};
use xtask::examples;
use xtask::servers::{S3Access, Weed, WeedOptions};
use xtask::wait::{self, Look};

use crate::lake::Lake;
use crate::site::temporary_folder;

/// The image of an application that has a shell and curl.
const APPLICATION_IMAGE: &str = xtask::image::DEMO_APP;

/// A namespace on the cluster with a bucket of its own. Fields are dropped in this order: the server before its folder.
#[derive(Debug)]
pub struct Team {
    /// The cluster.
    pub cluster: Cluster,
    /// The namespace.
    pub namespace: String,
    weed: Weed,
    _folder: TempDir,
}

impl Team {
    /// A new namespace `lakeingest-test-<name>`, a new bucket, and the Secret `lake-s3` with its keys.
    pub fn new(name: &str) -> Self {
        let cluster = Cluster::attach().expect("a cluster with the operator runs: use `cargo xtask test`");
        let folder = temporary_folder();
        let weed = Weed::start(WeedOptions { address: cluster.host_address(), ..WeedOptions::new(folder.path()) });
        let weed = weed.expect("the S3 server starts");
        let team = Self { cluster, namespace: format!("lakeingest-test-{name}"), weed, _folder: folder };
        // What a killed run has left.
        team.cluster.run(["delete", "namespace", &team.namespace, "--ignore-not-found"]).expect("it can be deleted");
        team.cluster.apply(&team.example("01-namespace.yaml")).expect("the namespace is taken");
        team.put_keys(&team.weed.access().secret_key);
        team
    }

    /// How the bucket is reached.
    pub fn access(&self) -> &S3Access {
        self.weed.access()
    }

    /// The bucket as an analyst finds it.
    pub fn lake(&self) -> Lake {
        Lake::bucket(self.access())
    }

    /// Kills the S3 server.
    pub fn take_bucket_away(&self) {
        self.weed.server().kill().expect("it can be killed");
    }

    /// A manifest of the documentation, for this namespace.
    pub fn example(&self, name: &str) -> String {
        examples::manifest(name).expect("it can be read").replace("team-a", &self.namespace)
    }

    /// Writes the Secret with this secret key.
    pub fn put_keys(&self, secret_key: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lake-s3"},
            "stringData": {"accessKeyId": self.access().access_key, "secretAccessKey": secret_key},
        });
        self.apply(&secret);
    }

    /// Applies an object in the namespace; it must be taken.
    pub fn apply(&self, object: &Value) {
        let (done, _, words) = self.try_apply(object);
        assert!(done, "{words}");
    }

    /// Applies an object in the namespace; gives whether it was taken, and kubectl's words.
    pub fn try_apply(&self, object: &Value) -> (bool, String, String) {
        self.try_apply_with(object, &[])
    }

    /// As [`Self::try_apply`], with further options of kubectl's, such as another user or a trial.
    pub fn try_apply_with(&self, object: &Value, options: &[&str]) -> (bool, String, String) {
        let mut object = object.clone();
        object["metadata"]["namespace"] = json!(self.namespace);
        let folder = temporary_folder();
        let path = folder.path().join("object.json");
        std::fs::write(&path, object.to_string()).expect("the object can be written");
        let apply = ["apply", "--filename", path.to_str().expect("a temporary path is text")];
        self.cluster.try_run([apply.as_slice(), options].concat()).expect("kubectl runs")
    }

    /// Applies a LakeIngest of the team's bucket whose rows wait an hour, and waits until pods can be injected from it.
    /// `spec` is laid over its spec.
    pub fn lake_ingest(&self, name: &str, spec: &Value) {
        self.apply(&self.lake_ingest_object(name, spec));
        let of = format!("lakeingest/{name}");
        self.kubectl(&["wait", "--for=condition=Ready", &of, "--timeout=60s"]);
    }

    /// The object of [`Self::lake_ingest`].
    pub fn lake_ingest_object(&self, name: &str, spec: &Value) -> Value {
        let S3Access { endpoint, bucket, region, .. } = self.access();
        let mut object = json!({
            "apiVersion": "lakeingest.io/v1alpha1", "kind": "LakeIngest", "metadata": {"name": name},
            "spec": {
                "storage": {
                    "bucket": bucket, "region": region, "s3": {"endpoint": endpoint, "allowInsecure": true},
                    "credentials": {"secretRef": {"name": "lake-s3"}},
                },
                "flush": {"maxAge": "1h"},
            },
        });
        lay_over(&mut object["spec"], spec);
        object
    }

    /// A restricted pod of an application that sleeps, with these annotations.
    pub fn pod(&self, name: &str, annotations: &Value) -> Value {
        self.pod_that(name, annotations, "trap 'exit 0' TERM; while true; do sleep 1; done")
    }

    /// A restricted pod that runs a shell's script.
    pub fn pod_that(&self, name: &str, annotations: &Value, script: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "annotations": annotations},
            "spec": pod_spec(script),
        })
    }

    /// Starts a pod that asks for a sidecar of this LakeIngest, and waits until it is ready.
    pub fn start_pod(&self, name: &str, ingest: &str) {
        self.apply(&self.pod(name, &json!({"lakeingest.io/inject": ingest})));
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    }

    /// Runs `kubectl` in the namespace; it must succeed; gives its output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments = [&["--namespace", &self.namespace], arguments].concat();
        self.cluster.run(arguments).unwrap_or_else(|error| panic!("{error:#}\n{}", self.describe()))
    }

    /// An object of the namespace.
    pub fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", object, "--output=json"])).expect("kubectl writes JSON")
    }

    /// Sends a body to a path of the sidecar with curl in the application's container; gives the status and the body.
    pub fn curl(&self, pod: &str, path: &str, body: &str) -> (u16, Value) {
        let url = format!("http://localhost:8001{path}");
        self.curl_url(pod, &["-X", "POST", &url, "--data-binary", "@-"], body)
    }

    /// What `/health` says, as the application sees it.
    pub fn health(&self, pod: &str) -> Value {
        self.curl_url(pod, &["http://localhost:8002/health"], "").1
    }

    fn curl_url(&self, pod: &str, arguments: &[&str], body: &str) -> (u16, Value) {
        let of = ["--namespace", &self.namespace, "exec", "--stdin", pod, "--container", "app", "--"];
        let curl = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}"];
        let arguments = [of.as_slice(), &curl, arguments].concat();
        let answer = self.cluster.run_with_input(arguments, body);
        let answer = answer.unwrap_or_else(|error| panic!("{error:#}\n{}", self.describe()));
        let (body, status) = answer.rsplit_once('\n').expect("curl writes the status on a line of its own");
        let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        (status.parse().expect("a status is a number"), body)
    }

    /// Streams records with the numbers `from..to`; each must be acknowledged.
    pub fn stream(&self, pod: &str, from: u64, to: u64) {
        let records: Vec<Value> = (from..to).map(|sequence| json!({"sequence": sequence})).collect();
        let body = json!({"table_name": "events", "records": records}).to_string();
        let (status, answer) = self.curl(pod, "/ingest/stream", &body);
        assert_eq!(status, 202, "{answer}");
    }

    /// Sends everything that is buffered to the lake.
    pub fn flush(&self, pod: &str) {
        let (status, answer) = self.curl(pod, "/flush", "");
        assert_eq!(status, 200, "{answer}");
    }

    /// Waits until `/health` is degraded for this reason; gives its message.
    pub fn wait_for_reason(&self, pod: &str, name: &str) -> String {
        wait::until(&format!("the reason {name}"), || {
            let health = self.health(pod);
            let reasons = health["reasons"].as_array().cloned().unwrap_or_default();
            Ok(match reasons.iter().find(|reason| reason["name"] == name) {
                Some(reason) => Look::Ready(reason["message"].as_str().unwrap_or_default().to_owned()),
                None => Look::NotYet(health.to_string()),
            })
        })
        .expect("the sidecar says it")
    }

    /// Waits until the pod's backlog is empty.
    pub fn wait_until_delivered(&self, pod: &str) {
        wait::until("an empty backlog", || {
            let health = self.health(pod);
            let done = health["status"] == "ok" && health["backlog"]["rows"] == 0;
            Ok(if done { Look::Ready(()) } else { Look::NotYet(health.to_string()) })
        })
        .expect("the sidecar delivers");
    }

    /// Waits until the status of a LakeIngest is so; gives it.
    pub fn wait_for_status(&self, ingest: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, || {
            let status = self.get(&format!("lakeingest/{ingest}"))["status"].clone();
            Ok(if is_so(&status) { Look::Ready(status) } else { Look::NotYet(status.to_string()) })
        })
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Waits until a LakeIngest has a condition with this status and this reason; gives its message.
    pub fn wait_for_condition(&self, ingest: &str, kind: &str, status: &str, reason: &str) -> String {
        let of = |found: &Value| {
            let conditions = found["conditions"].as_array().cloned().unwrap_or_default();
            conditions.into_iter().find(|one| one["type"] == kind && one["status"] == status && one["reason"] == reason)
        };
        let status = self.wait_for_status(ingest, &format!("{kind}={status}, {reason}"), |found| of(found).is_some());
        let condition = of(&status).expect("it was there a moment ago");
        condition["message"].as_str().expect("a message is text").to_owned()
    }

    /// The notes of the namespace's Events of this reason about an object of this kind.
    pub fn events(&self, kind: &str, reason: &str) -> Vec<String> {
        let events = self.get("events.events.k8s.io")["items"].as_array().cloned().unwrap_or_default();
        let these = events.iter().filter(|event| event["reason"] == reason && event["regarding"]["kind"] == kind);
        these.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits for an Event of this reason about an object of this kind; gives its note. There must be one alone.
    pub fn wait_for_event(&self, kind: &str, reason: &str) -> String {
        wait::until(&format!("an Event {reason} about a {kind}"), || match self.events(kind, reason).as_slice() {
            [] => Ok(Look::NotYet("there is none".to_owned())),
            [one] => Ok(Look::Ready(one.clone())),
            many => anyhow::bail!("it is told once: {many:?}"),
        })
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What the operator's Lease says of who holds it, once somebody does: `<pod>_<chance>`.
    pub fn leader(&self) -> String {
        let holder =
            ["get", "lease", "lakeingest-leader", "--ignore-not-found", "--output=jsonpath={.spec.holderIdentity}"];
        let holder = [&["--namespace", NAMESPACE], holder.as_slice()].concat();
        wait::until("somebody to lead", || {
            let holder = self.cluster.run(holder.iter().copied())?;
            Ok(if holder.is_empty() { Look::NotYet("nobody does".to_owned()) } else { Look::Ready(holder) })
        })
        .expect("one of the operators leads")
    }

    /// The numbers that the lake holds, in order: each must be there once.
    pub fn stored(&self) -> Vec<u64> {
        let rows = self.lake().table("events");
        let number = |row: &crate::lake::Row| row["sequence"].as_u64().expect("a sequence is a number");
        let mut stored: Vec<u64> = rows.iter().map(number).collect();
        stored.sort_unstable();
        stored
    }

    /// The status of a container of a pod, whatever kind of container it is.
    pub fn container_status(&self, pod: &str, container: &str) -> Value {
        let pod = self.get(&format!("pod/{pod}"));
        let lists = ["initContainerStatuses", "containerStatuses"].map(|list| pod["status"][list].clone());
        let mut all = lists.iter().filter_map(Value::as_array).flatten();
        all.find(|status| status["name"] == container).cloned().expect("the pod has the container")
    }

    /// Pods and Events of the namespace, and the last words of the sidecars and of the operator, for a test that failed.
    pub fn describe(&self) -> String {
        let of_team = ["--namespace", &self.namespace];
        let of_operator = ["--namespace", NAMESPACE, "logs", "--selector", "app.kubernetes.io/name=lakeingest"];
        let sidecars = ["logs", "--selector", "lakeingest.io/injected-by", "--container", "lakeingest", "--tail=30"];
        [
            [of_team.as_slice(), &["describe", "pods"]].concat(),
            [of_team.as_slice(), &sidecars].concat(),
            [of_operator.as_slice(), &["--tail=30"]].concat(),
        ]
        .into_iter()
        .filter_map(|arguments| self.cluster.try_run(arguments).ok())
        .map(|(_, output, words)| output + &words)
        .collect()
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.describe());
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            eprintln!("to run it again on a cluster that stays: cargo xtask cluster up && cargo xtask test {name}");
        }
        // The sidecars deliver before their S3 server goes. Nobody waits for the rest of the namespace.
        let pods = ["--namespace", &self.namespace, "delete", "deployments,jobs,pods", "--all", "--timeout=60s"];
        let rest = ["delete", "namespace", &self.namespace, "--wait=false"];
        for arguments in [pods.as_slice(), &rest] {
            if let Err(error) = self.cluster.run(arguments.iter().copied()) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// A pod's spec that Pod Security's restricted profile admits.
pub fn pod_spec(script: &str) -> Value {
    json!({
        // The application ends at once; the rest of the grace period is the sidecar's.
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "app", "image": APPLICATION_IMAGE, "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "securityContext": {
                "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 65532,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            },
        }],
    })
}

/// Lays the fields of one object over another's, field by field.
fn lay_over(below: &mut Value, above: &Value) {
    match (below.as_object_mut(), above.as_object()) {
        (Some(below), Some(above)) => {
            for (field, value) in above {
                lay_over(below.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *below = above.clone(),
    }
}
