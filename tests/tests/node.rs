//! The pod's path where a test needs the node itself: its processes are those of this machine.

use lakeingest_tests::team::Team;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use xtask::cluster::NAMESPACE;
use xtask::wait::{self, Look};

/// Kills the sidecar's process and waits until the kubelet has started it again.
fn kill_sidecar(team: &Team, pod: &str) {
    let pid = team.cluster.process_in_pod("lakeingest-sidecar", &team.namespace, pod).expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid).expect("an id is small")).expect("an id is positive");
    kill_process(pid, Signal::KILL).expect("it can be killed");
    wait::until("the sidecar to run again", || {
        let status = team.container_status(pod, "lakeingest");
        let is_back = status["restartCount"] == 1 && status["ready"] == true;
        Ok(if is_back { Look::Ready(()) } else { Look::NotYet(status.to_string()) })
    })
    .expect("the kubelet starts it again");
}

/// Nobody gives the Lease back: it runs out, and status goes on with another process.
#[test]
fn after_a_leader_was_killed_another_one_speaks() {
    let team = Team::new("killed");
    let before = team.leader();
    let (pod, _) = before.rsplit_once('_').expect("a holder is a pod and something by chance");
    let pid = team.cluster.process_in_pod("lakeingest-operator", NAMESPACE, pod).expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid).expect("an id is small")).expect("an id is positive");
    kill_process(pid, Signal::KILL).expect("it can be killed");
    team.lake_ingest("events", &json!({}));
    assert_ne!(team.leader(), before);
    let operator = ["--namespace", NAMESPACE, "rollout", "status", "deployment/lakeingest-operator", "--timeout=60s"];
    team.cluster.run(operator).expect("the kubelet starts it again");
}

/// The ConfigMap goes with its LakeIngest; what the kubelet has put into the pod stays, also for a sidecar that starts again.
#[test]
fn a_pod_goes_on_when_its_lake_ingest_is_deleted_and_that_is_told() {
    let team = Team::new("gone");
    team.lake_ingest("events", &json!({"flush": {"maxAge": "1s"}}));
    team.start_pod("shop", "events");
    team.kubectl(&["delete", "lakeingest", "events", "--timeout=60s"]);
    wait::until("the ConfigMap to go with it", || {
        let found = team.kubectl(&["get", "configmap", "lakeingest-events", "--ignore-not-found", "--output=name"]);
        Ok(if found.is_empty() { Look::Ready(()) } else { Look::NotYet(found) })
    })
    .expect("it is the LakeIngest's");
    team.stream("shop", 0, 10);
    kill_sidecar(&team, "shop");
    team.stream("shop", 10, 20);
    team.wait_until_delivered("shop");
    assert_eq!(team.stored(), (0..20).collect::<Vec<_>>());
    let told = team.wait_for_event("Pod", "LakeIngestGone");
    assert!(told.contains("LakeIngest events is gone"), "{told}");
}

#[test]
fn i1_a_sidecar_that_is_killed_before_its_flush_delivers_once_and_the_application_runs_on() {
    let team = Team::new("kill");
    team.lake_ingest("events", &json!({}));
    team.start_pod("shop", "events");
    team.stream("shop", 0, 500);
    kill_sidecar(&team, "shop");
    team.stream("shop", 500, 600);
    team.flush("shop");
    assert_eq!(team.stored(), (0..600).collect::<Vec<_>>());
    assert_eq!(team.container_status("shop", "app")["restartCount"], 0);
}

/// Volumes and the application's variable stay as they are when the LakeIngest changes: so do the bound of the journal and
/// the port, also after a restart, which reads the new configuration.
#[test]
fn what_a_pod_was_made_with_stays_with_it_when_its_lake_ingest_changes() {
    let team = Team::new("pinned");
    let made = json!({"flush": {"maxBytes": "8Mi"}, "buffer": {"sizeLimit": "64Mi"}, "sidecar": {"port": 8001}});
    team.lake_ingest("events", &made);
    team.start_pod("shop", "events");
    let cap = team.health("shop")["journal"]["cap_bytes"].clone();
    assert_eq!(cap, json!((64 << 20) / 100 * 80));

    let changed = json!({"buffer": {"sizeLimit": "1Gi"}, "sidecar": {"port": 9001}, "flush": {"maxAge": "30m"}});
    team.apply(&team.lake_ingest_object("events", &changed));
    let uid = team.get("pod/shop")["metadata"]["uid"].as_str().expect("a pod has a uid").to_owned();
    wait::until("the new configuration in the pod", || {
        let config = team.cluster.projected_file(&uid, "lakeingest-config", "config.yaml")?;
        Ok(if config.contains("generation: 2") { Look::Ready(()) } else { Look::NotYet(config) })
    })
    .expect("the kubelet brings it");
    kill_sidecar(&team, "shop");
    assert_eq!(team.health("shop")["generation"], 2);
    assert_eq!(team.health("shop")["journal"]["cap_bytes"], cap);
    team.stream("shop", 0, 10);
    team.flush("shop");
    assert_eq!(team.stored(), (0..10).collect::<Vec<_>>());
}
