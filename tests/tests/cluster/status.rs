//! What is said of a LakeIngest on a real cluster, and who says it.

use lakeingest_tests::team::Team;
use serde_json::json;
use xtask::cluster::NAMESPACE;

#[test]
fn a_leader_that_ends_gives_the_lease_to_another_that_speaks_on() {
    let team = Team::new("leader");
    let before = team.leader();
    let (pod, _) = before.rsplit_once('_').expect("a holder is a pod and something by chance");
    let operator = |arguments: &[&str]| {
        team.cluster.run([&["--namespace", NAMESPACE], arguments].concat()).expect("the API server answers")
    };
    operator(&["delete", "pod", pod, "--timeout=60s"]);
    team.lake_ingest("events", &json!({}));
    assert_ne!(team.leader(), before);
    operator(&["rollout", "status", "deployment/lakeingest-operator", "--timeout=60s"]);
}
