//! What holds for every pod, alone and beside what other webhooks do to it.

use proptest::prelude::*;

use super::*;
use crate::fixtures::neighbours::{self, FOREIGN_MOUNTS, Neighbour};

/// Pods that each property is tried on; `PROPTEST_CASES` may ask for more.
const PODS: u32 = 10_000;

fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.max(PODS), ..asked }
}

/// What of `before` is not in `after`: nothing may go, but the grace period, the autoscaler's list, our own marks and the
/// image that is left to us may change.
fn lost(before: &Value, after: &Value, path: &str) -> Vec<String> {
    let may_change = ["/terminationGracePeriodSeconds", SAFE_TO_EVICT_VOLUMES, STATUS, INJECTED_BY];
    if before.is_null() || may_change.iter().any(|end| path.ends_with(end)) {
        return Vec::new();
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .flat_map(|(key, value)| lost(value, after.get(key).unwrap_or(&Value::Null), &format!("{path}/{key}")))
            .collect(),
        // Items are added; those that were there keep their order.
        (Value::Array(before), Value::Array(after)) if path.ends_with("/env") || path.ends_with("/volumeMounts") => {
            // A name may stand twice; ours comes last, or was there.
            let kept = after.iter().take(before.len()).eq(before.iter());
            if kept { Vec::new() } else { vec![path.to_owned()] }
        }
        (Value::Array(before), Value::Array(after)) => {
            let kept = |item: &&Value| before.iter().any(|old| old["name"] == item["name"]);
            let kept: Vec<&Value> = after.iter().filter(|item| path.ends_with("unknownField") || kept(item)).collect();
            if path.contains("nknown") || path.contains("ewField") || path.contains("newKind") {
                return if before == after { Vec::new() } else { vec![path.to_owned()] };
            }
            if kept.len() != before.len() {
                return vec![path.to_owned()];
            }
            before.iter().zip(kept).flat_map(|(old, new)| lost(old, new, &format!("{path}/[]"))).collect()
        }
        (before, after) if before == after => Vec::new(),
        // A container that the pod brings itself leaves its image to us.
        (before, _) if path.ends_with("/image") && before == "auto" => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

/// Whether a pod keeps every rule of the Pod Security Standard "restricted".
/// Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>.
fn is_restricted(pod: &Value) -> bool {
    const VOLUMES: [&str; 8] =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    let spec = &pod["spec"];
    let of_pod = &spec["securityContext"];
    let said = |own: &Value, of_pod: &Value| if own.is_null() { of_pod.clone() } else { own.clone() };
    let may_run = |container: &Value| {
        let own = &container["securityContext"];
        let added = items(&own["capabilities"]["add"]).all(|name| name == "NET_BIND_SERVICE");
        let seccomp = said(&own["seccompProfile"]["type"], &of_pod["seccompProfile"]["type"]);
        own["privileged"] != true
            && own["allowPrivilegeEscalation"] == false
            && added
            && items(&own["capabilities"]["drop"]).any(|name| name == "ALL")
            && said(&own["runAsNonRoot"], &of_pod["runAsNonRoot"]) == true
            && said(&own["runAsUser"], &of_pod["runAsUser"]) != 0
            && ["RuntimeDefault", "Localhost"].iter().any(|kind| seccomp == *kind)
            && items(&container["ports"]).all(|port| port["hostPort"].is_null() || port["hostPort"] == 0)
    };
    let may_mount = |volume: &Value| VOLUMES.iter().any(|kind| !volume[*kind].is_null());
    ["hostNetwork", "hostPID", "hostIPC"].iter().all(|field| spec[*field] != true)
        && items(&spec["containers"]).chain(items(&spec["initContainers"])).all(may_run)
        && items(&spec["volumes"]).all(may_mount)
}

/// The pod as its author would write it for a namespace that enforces the standard.
fn restricted(mut pod: Value) -> Value {
    pod["spec"]["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["securityContext"]["allowPrivilegeEscalation"] = json!(false);
            container["securityContext"]["capabilities"] = json!({"drop": ["ALL"]});
        }
    }
    for volume in pod["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        if volume["newKind"].take() != Value::Null || volume["emptyDir"].is_null() {
            volume["emptyDir"] = json!({});
        }
    }
    pod
}

/// What comes of a pod when each of two webhooks is called twice, in the order in which they are named: the API server calls
/// one again after another has changed the pod.
fn settled(pod: &Value, neighbour: Neighbour, is_ours_first: bool) -> Value {
    let first = if is_ours_first { injected(pod) } else { neighbour.after(pod) };
    let turns = [!is_ours_first, is_ours_first, !is_ours_first];
    turns.into_iter().fold(first, |pod, is_our_turn| {
        if !is_our_turn {
            return neighbour.after(&pod);
        }
        let after = injected(&pod);
        assert_eq!(lost(&pod, &after, ""), Vec::<String>::new(), "of {neighbour:?}");
        after
    })
}

/// A pod with everything in it in one order, and without what others have put into our container: who comes second finds it
/// there, and who came first does not.
fn canonical(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for list in ["containers", "initContainers", "volumes"] {
        let Some(all) = pod["spec"][list].as_array_mut() else { continue };
        for container in all.iter_mut().filter(|one| one["name"] == CONTAINER) {
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.retain(|mount| !FOREIGN_MOUNTS.iter().any(|foreign| mount["name"] == *foreign));
            }
        }
        for container in all.iter_mut() {
            for list in ["env", "volumeMounts"] {
                if let Some(list) = container[list].as_array_mut() {
                    list.sort_by_key(Value::to_string);
                }
            }
        }
        all.sort_by_key(|one| one["name"].to_string());
    }
    // The autoscaler's list and the status are texts, of the same content.
    pod
}

/// The names of the init containers, in the order in which they start.
fn order(pod: &Value) -> Vec<&str> {
    items(&pod["spec"]["initContainers"]).filter_map(|one| one["name"].as_str()).collect()
}

proptest! {
    #![proptest_config(config())]

    /// Invariant I10: nothing that a pod holds is removed, whatever it holds, and a second run adds nothing.
    #[test]
    fn i10_injection_only_adds_and_adds_once(pod in pods()) {
        let once = injected(&pod);
        prop_assert_eq!(lost(&pod, &once, ""), Vec::<String>::new());
        let again = inject(&once, &validated()).expect("it can be injected again");
        prop_assert_eq!(again.patch, Vec::<Value>::new());
    }

    #[test]
    fn a_pod_that_is_restricted_stays_so(pod in pods()) {
        let pod = restricted(pod);
        prop_assert!(is_restricted(&pod), "{pod}");
        let after = injected(&pod);
        prop_assert!(is_restricted(&after), "{after}");
    }

    /// Goal: whoever is called first, and however often, a pod comes to the same. Method: both orders, each webhook twice; then
    /// neither has anything left to do, and what the pod has is the same but for the order of what several have added.
    #[test]
    fn beside_other_webhooks_a_pod_comes_to_the_same_in_either_order(pod in pods(), at in 0..neighbours::ALL.len()) {
        let neighbour = neighbours::ALL[at];
        let both = [true, false].map(|is_ours_first| settled(&pod, neighbour, is_ours_first));
        for pod in &both {
            let again = inject(pod, &validated()).expect("it can be injected again");
            prop_assert_eq!(again.patch, Vec::<Value>::new());
            prop_assert_eq!(&neighbour.after(pod), pod);
        }
        prop_assert_eq!(canonical(&both[0]), canonical(&both[1]));
    }

    /// The application's own init containers start after the sidecar and keep their order, whoever else is there.
    #[test]
    fn beside_other_webhooks_the_pods_own_containers_keep_their_order(pod in pods(), at in 0..neighbours::ALL.len()) {
        let before = order(&pod);
        for is_ours_first in [true, false] {
            let after = settled(&pod, neighbours::ALL[at], is_ours_first);
            let own: Vec<&str> = order(&after).into_iter().filter(|name| before.contains(name)).collect();
            // A proxy that the pod brings itself is moved by its own webhook.
            let others = |all: &[&str]| all.iter().filter(|name| !MESH_PROXIES.contains(name)).copied().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(others(&own), others(&before));
        }
    }
}

/// Where the sidecar is among the init containers: the order of two that were called in either order is one of these, and no
/// other.
#[test]
fn the_sidecar_has_its_place_beside_every_other_webhook() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{"name": "migrate"}]);
    let both = |name: &str| {
        let neighbour = neighbours::ALL.into_iter().find(|one| one.name == name).expect("there is one of this name");
        [true, false].map(|is_ours_first| settled(&pod, neighbour, is_ours_first)).map(|pod| order(&pod).join(" "))
    };
    for (neighbour, ours_first, ours_last) in [
        (
            "a mesh whose proxy is a sidecar and comes first",
            "istio-init istio-proxy lakeingest migrate",
            "istio-init istio-proxy lakeingest migrate",
        ),
        (
            "a mesh whose proxy is a container and comes first",
            "istio-validation lakeingest migrate",
            "istio-validation lakeingest migrate",
        ),
        (
            "a mesh whose proxy is a container and comes last",
            "istio-validation lakeingest migrate",
            "istio-validation lakeingest migrate",
        ),
        (
            "another mesh whose proxy is a sidecar and comes first",
            "linkerd-init linkerd-proxy lakeingest migrate",
            "linkerd-init linkerd-proxy lakeingest migrate",
        ),
        (
            "another mesh whose proxy is a sidecar and comes last",
            // It is warned of: the proxy ends before the sidecar does.
            "lakeingest migrate linkerd-init linkerd-proxy",
            "migrate linkerd-init linkerd-proxy lakeingest",
        ),
        (
            "another mesh whose proxy is a container",
            "lakeingest migrate linkerd-network-validator",
            "lakeingest migrate linkerd-network-validator",
        ),
        (
            "an agent of secrets that comes last",
            "lakeingest migrate vault-agent-init",
            "lakeingest migrate vault-agent-init",
        ),
        (
            "an agent of secrets that comes first",
            "vault-agent-init lakeingest migrate",
            "lakeingest vault-agent-init migrate",
        ),
        ("an identity for every container", "lakeingest migrate", "lakeingest migrate"),
    ] {
        assert_eq!(both(neighbour), [ours_first, ours_last], "{neighbour}");
    }
}

/// A proxy that another webhook has put behind the sidecar ends first.
#[test]
fn a_proxy_that_comes_behind_the_sidecar_is_warned_of() {
    let neighbour = neighbours::ALL.into_iter().find(|one| one.name.ends_with("is a sidecar and comes last"));
    let neighbour = neighbour.expect("there is one of this name");
    let first = neighbour.after(&injected(&pod()));
    let warnings = inject(&first, &validated()).expect("it can be injected").warnings;
    assert!(
        warnings.iter().any(|warning| warning.starts_with("linkerd-proxy starts after the sidecar")),
        "{warnings:?}"
    );
    let last = inject(&neighbour.after(&pod()), &validated()).expect("it can be injected").warnings;
    assert_eq!(last, Vec::<String>::new());
}
