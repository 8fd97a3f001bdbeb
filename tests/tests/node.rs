//! The pod's path where a test needs the node itself: its processes are those of this machine.

use lakeingest_tests::team::Team;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use xtask::wait::{self, Look};

#[test]
fn i1_a_sidecar_that_is_killed_before_its_flush_delivers_once_and_the_application_runs_on() {
    let team = Team::new("kill");
    team.lake_ingest("events", &json!({}));
    team.start_pod("shop", "events");
    team.stream("shop", 0, 500);
    let pid = team.cluster.process_in_pod("lakeingest-sidecar", &team.namespace, "shop").expect("it runs");
    let pid = Pid::from_raw(i32::try_from(pid).expect("an id is small")).expect("an id is positive");
    kill_process(pid, Signal::KILL).expect("it can be killed");
    wait::until("the sidecar to run again", || {
        let status = team.container_status("shop", "lakeingest");
        let is_back = status["restartCount"] == 1 && status["ready"] == true;
        Ok(if is_back { Look::Ready(()) } else { Look::NotYet(status.to_string()) })
    })
    .expect("the kubelet starts it again");
    team.stream("shop", 500, 600);
    team.flush("shop");
    assert_eq!(team.stored(), (0..600).collect::<Vec<_>>());
    assert_eq!(team.container_status("shop", "app")["restartCount"], 0);
}
