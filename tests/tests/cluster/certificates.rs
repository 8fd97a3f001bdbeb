//! Certificates that live for seconds, under pods that never stop coming: nobody may notice that they are replaced.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lakeingest_tests::handshakes::{Trust, connect, exchange};
use lakeingest_tests::team::Team;
use serde_json::{Value, json};
use xtask::cluster::NAMESPACE;
use xtask::wait::{self, Look};

/// How many certificates are replaced. A person may want more: the variable of [`ROTATIONS_VARIABLE`].
const ROTATIONS: u64 = 60;

/// Variable with another number of [`ROTATIONS`].
const ROTATIONS_VARIABLE: &str = "LAKEINGEST_TEST_ROTATIONS";

/// How long one of them may take: three operators replace theirs every two seconds.
const ROTATION_WAIT: Duration = Duration::from_secs(2);

/// Lives so short that an authority is replaced every eight seconds, and a certificate every two.
const SHORT: [&str; 2] = ["--authority-life=12s", "--certificate-life=3s"];

fn operator(team: &Team, arguments: &[&str]) -> String {
    team.cluster.run([&["--namespace", NAMESPACE], arguments].concat()).expect("the API server answers")
}

/// Three operators with these further arguments; two with those of the chart at the end, also of a test that fails.
struct Deployed<'a> {
    team: &'a Team,
    arguments: Value,
}

impl<'a> Deployed<'a> {
    fn with(team: &'a Team, further: &[&str]) -> Self {
        let arguments = "--output=jsonpath={.spec.template.spec.containers[0].args}";
        let arguments = operator(team, &["get", "deployment/lakeingest-operator", arguments]);
        let arguments: Value = serde_json::from_str(&arguments).expect("kubectl writes JSON");
        let deployed = Self { team, arguments };
        let mut with_further = deployed.arguments.clone();
        with_further.as_array_mut().expect("arguments are a list").extend(further.iter().map(|&one| json!(one)));
        deployed.roll_out(3, &with_further);
        deployed
    }

    fn roll_out(&self, replicas: u32, arguments: &Value) {
        let patch = json!([
            {"op": "replace", "path": "/spec/replicas", "value": replicas},
            {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments},
        ]);
        let patch = format!("--patch={patch}");
        operator(self.team, &["patch", "deployment/lakeingest-operator", "--type=json", &patch]);
        operator(self.team, &["rollout", "status", "deployment/lakeingest-operator", "--timeout=60s"]);
        // Those of before are gone too: their ports are not asked any more.
        wait::until("the operators of this rollout alone", || {
            let count = self.pods().len();
            Ok(if count == replicas as usize { Look::Ready(()) } else { Look::NotYet(format!("{count} pods")) })
        })
        .expect("the others end");
    }

    /// The operators' pods.
    fn pods(&self) -> Vec<Value> {
        let pods =
            operator(self.team, &["get", "pods", "--selector=app.kubernetes.io/name=lakeingest", "--output=json"]);
        let pods: Value = serde_json::from_str(&pods).expect("kubectl writes JSON");
        pods["items"].as_array().cloned().unwrap_or_default()
    }

    /// Where each operator has this port.
    fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        let address = |pod: &Value| {
            let address = pod["status"]["podIP"].as_str().expect("a pod that is ready has an address");
            SocketAddr::new(address.parse().expect("it is an address"), port)
        };
        self.pods().iter().map(address).collect()
    }

    fn restarts(&self) -> u64 {
        let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default();
        self.pods().iter().map(restarts).sum()
    }
}

impl Drop for Deployed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would hide the first.
            let chart = self.arguments.clone();
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.roll_out(2, &chart)));
        } else {
            self.roll_out(2, &self.arguments);
            // What the next test finds does not change under it.
            wait::until("an authority that lives for long", || {
                let made = count(self, "lakeingest_operator_webhook_authorities_total");
                Ok(if made > 0 { Look::Ready(()) } else { Look::NotYet("there is none".to_owned()) })
            })
            .expect("one replaces that of the short lives");
        }
    }
}

/// `kubectl proxy`: the API server without TLS, on a port of loopback.
struct Proxy(Child, SocketAddr);

impl Proxy {
    fn start(team: &Team) -> Self {
        let mut proxy = team.cluster.kubectl(["proxy", "--port=0"]).expect("kubectl is there");
        let mut proxy = proxy.stdout(Stdio::piped()).spawn().expect("it starts");
        let output = proxy.stdout.take().expect("standard output was asked for as a pipe");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("it says where it listens");
        let address = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        Self(proxy, address.unwrap_or_else(|| panic!("no address in {line:?}")))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Numbers of all operators, by the beginning of their lines.
fn count(deployed: &Deployed<'_>, metric: &str) -> u64 {
    let of = |address: SocketAddr| -> Result<u64> {
        let text = exchange(&mut connect(address)?, "GET", "/metrics", "")?;
        let value = text.lines().filter_map(|line| line.strip_prefix(metric)?.trim().parse::<u64>().ok());
        Ok(value.sum())
    };
    deployed.addresses(8080).into_iter().map(|address| of(address).expect("an operator tells its numbers")).sum()
}

/// Does something again and again until it fails or the others have.
fn again_and_again(
    stop: &AtomicBool,
    failure: &Mutex<Option<String>>,
    done: &AtomicU64,
    what: impl Fn(u64) -> Result<()>,
) {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = what(done.fetch_add(1, Ordering::Relaxed)) {
            failure.lock().expect("no holder of this lock panics").get_or_insert(format!("{error:#}"));
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Invariant I10. Goal: no handshake and no admission fails while certificates and authorities are replaced. Method: three
/// operators whose certificates live for three seconds; pods that ask are created through the API server without a pause, as
/// dry runs, beside a client that makes a new connection each time and trusts what the API server is told at that moment.
#[test]
fn i10_certificates_are_replaced_under_load_and_no_admission_fails() {
    let rotations = std::env::var(ROTATIONS_VARIABLE).ok().map(|text| text.parse().expect("it is a number"));
    let rotations = rotations.unwrap_or(ROTATIONS);
    let team = Team::new("rotation");
    team.lake_ingest("events", &json!({}));
    let pod = team.pod("shop", &json!({"lakeingest.io/inject": "events"})).to_string();
    let deployed = Deployed::with(&team, &SHORT);
    let (trust, proxy) = (Trust::watch(&team.cluster).expect("kubectl runs"), Proxy::start(&team));
    let operators = deployed.addresses(9443);
    let review = review(&team, &pod);
    wait::until("what the API server trusts", || {
        Ok(trust
            .review(operators[0], &review)
            .map_or_else(|error| Look::NotYet(format!("{error:#}")), |_| Look::Ready(())))
    })
    .expect("the watch brings it");

    let (handshakes, admissions) = (AtomicU64::new(0), AtomicU64::new(0));
    let (stop, failure) = (AtomicBool::new(false), Mutex::new(None));
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", team.namespace);
    let (certificates, authorities) = std::thread::scope(|scope| {
        scope.spawn(|| {
            again_and_again(&stop, &failure, &handshakes, |turn| {
                let operator = operators[usize::try_from(turn).unwrap_or_default() % operators.len()];
                let answer = trust.review(operator, &review).with_context(|| format!("handshake {turn}"))?;
                ensure!(answer.contains("\"allowed\":true") && answer.contains("\"patch\""), "{answer}");
                Ok(())
            });
        });
        for _ in 0..2 {
            scope.spawn(|| {
                again_and_again(&stop, &failure, &admissions, |turn| {
                    let answer = exchange(&mut connect(proxy.1)?, "POST", &path, &pod);
                    let answer = answer.with_context(|| format!("admission {turn}"))?;
                    let pod: Value = serde_json::from_str(&answer).context("failed to read a pod")?;
                    ensure!(pod["spec"]["initContainers"][0]["name"] == "lakeingest", "{answer}");
                    Ok(())
                });
            });
        }
        let numbers = || {
            let of = |name: &str| count(&deployed, &format!("lakeingest_operator_webhook_{name}_total"));
            (of("certificates"), of("authorities"))
        };
        let begun = numbers();
        let limit = wait::TIMEOUT + ROTATION_WAIT * u32::try_from(rotations).expect("it is no large number");
        let seen = wait::until_within(limit, "all rotations", || {
            let (certificates, authorities) = numbers();
            let seen = (certificates - begun.0, authorities - begun.1);
            let is_enough = seen.0 >= rotations || stop.load(Ordering::Relaxed);
            Ok(if is_enough { Look::Ready(seen) } else { Look::NotYet(format!("{seen:?}")) })
        });
        stop.store(true, Ordering::Relaxed);
        seen.expect("certificates are replaced")
    });
    let failure = failure.into_inner().expect("no holder of this lock panics");
    let (handshakes, admissions) = (handshakes.into_inner(), admissions.into_inner());
    let numbers = format!(
        "{certificates} certificates and {authorities} authorities were replaced under {handshakes} handshakes and {admissions} admissions"
    );
    assert_eq!(failure, None, "{numbers}");
    eprintln!("{numbers}");
    assert!(certificates >= rotations && authorities >= rotations / 30, "{numbers}");
    assert!(handshakes > rotations && admissions > rotations, "{numbers}");
    assert_eq!(count(&deployed, "lakeingest_operator_admissions_total{outcome=\"error\"}"), 0);
    assert_eq!(deployed.restarts(), 0);
}

/// A review as the API server sends it.
pub(super) fn review(team: &Team, pod: &str) -> String {
    let mut pod: Value = serde_json::from_str(pod).expect("it is JSON");
    pod["metadata"]["namespace"] = json!(team.namespace);
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "resource": resource, "name": "shop",
            "namespace": team.namespace, "operation": "CREATE", "userInfo": {"username": "test"}, "object": pod,
            "oldObject": null, "dryRun": true, "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
    .to_string()
}

/// Authorities as PEM, from where they stand in base64.
fn pem(text: &str) -> String {
    let bytes = BASE64_STANDARD.decode(text.trim()).expect("an object has its bytes in base64");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The certificates of a PEM text.
fn certificates(pem: &str) -> Vec<&str> {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(END).filter(|one| one.ends_with(END)).collect()
}

/// What people do to the Secret: it is deleted, and it is edited. The operators put back what they serve with: of the
/// authorities of before those that have not ended, the newest among them, and no other.
#[test]
fn operators_put_their_authorities_back_into_a_secret_that_people_spoil() {
    let team = Team::new("authority");
    team.lake_ingest("events", &json!({}));
    let of_secret = ["--namespace", NAMESPACE, "get", "secret", "lakeingest-webhook-ca"];
    let secret = || {
        let path = "--output=jsonpath={.data.tls\\.crt}";
        team.cluster.try_run([&of_secret[..], &[path]].concat()).expect("kubectl can be run").1
    };
    let bundles = || {
        let path = "--output=jsonpath={.webhooks[*].clientConfig.caBundle}";
        operator(&team, &["get", "mutatingwebhookconfiguration", "lakeingest", path])
    };
    let before = pem(&secret());
    let before = certificates(&before);
    let is_of_before = |found: &str| {
        let found = certificates(found);
        !found.is_empty() && found.last() == before.last() && found.iter().all(|one| before.contains(one))
    };
    let junk = "--patch={\"data\": {\"tls.crt\": \"anVuaw==\"}}";
    let spoil: [&[&str]; 2] =
        [&["delete", "secret", "lakeingest-webhook-ca"], &["patch", "secret", "lakeingest-webhook-ca", junk]];
    for arguments in spoil {
        operator(&team, arguments);
        wait::until("the authorities of before", || {
            let found = secret();
            let is_back = !found.is_empty() && is_of_before(&pem(&found));
            Ok(if is_back { Look::Ready(()) } else { Look::NotYet(found) })
        })
        .expect("an operator puts them back");
        // One for each entry.
        assert!(bundles().split(' ').all(|bundle| is_of_before(&pem(bundle))), "{}", bundles());
        team.apply(&team.pod("shop", &json!({"lakeingest.io/inject": "events"})));
        team.kubectl(&["delete", "pod/shop", "--now"]);
    }
}
