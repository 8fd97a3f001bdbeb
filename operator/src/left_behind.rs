//! What a sidecar had not delivered when its pod ended.
//!
//! Owns: reading it from the pod's status, before the pod is gone, and telling it once: log, number, Event.
//! Does not own: watching pods (`index`).

use std::collections::{HashSet, VecDeque};

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::events::{Events, Happening, reference_of};
use crate::index::{Index, controller_of};
use crate::limits::{PODS_REMEMBERED_MAX, ROWS_LEFT_BEHIND_MAX};
use crate::metrics::Metrics;
use crate::names::{CONTAINER, INJECTED_BY};

/// Reason of the Event for rows that were in the journal alone.
const LEFT_BEHIND: &str = "RowsLeftBehind";

/// Reason of the Event for rows that are in log files in the lake.
const IN_LOG_FILES: &str = "RowsInLogFiles";

/// Rows of a sidecar that were not in their tables when its pod ended.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftBehind {
    /// The pod's namespace.
    namespace: String,
    /// The pod's name.
    pod: String,
    /// The pod's uid.
    uid: String,
    /// The LakeIngest that the sidecar was wired from.
    ingest: String,
    /// What has made the pod.
    owner: Option<ObjectReference>,
    /// Rows in its journal alone.
    rows: u64,
    /// Rows in log files in the lake.
    rescued_rows: u64,
}

/// The sidecar's termination message.
#[derive(Deserialize)]
struct Message {
    unflushed_rows: u64,
    /// Absent in the message of an earlier build.
    #[serde(default)]
    rescued_rows: u64,
}

/// What the sidecar of a pod that has ended, or is about to, has left behind; none if that is nothing. A sidecar that is
/// started again in its pod delivers what it finds.
pub fn of(pod: &Pod) -> Option<LeftBehind> {
    let status = pod.status.as_ref()?;
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if !has_ended && pod.meta().deletion_timestamp.is_none() {
        return None;
    }
    let sidecar = status.init_container_statuses.iter().flatten().find(|status| status.name == CONTAINER)?;
    let message = sidecar.state.as_ref()?.terminated.as_ref()?.message.as_deref()?;
    let Message { unflushed_rows: rows, rescued_rows } = serde_json::from_str(message).ok()?;
    let (rows, rescued_rows) = (rows.min(ROWS_LEFT_BEHIND_MAX), rescued_rows.min(ROWS_LEFT_BEHIND_MAX));
    let namespace = pod.namespace().unwrap_or_default();
    (rows > 0 || rescued_rows > 0).then(|| LeftBehind {
        owner: controller_of(pod.owner_references()).map(|owner| reference_of(owner, &namespace)),
        namespace,
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        ingest: pod.labels().get(INJECTED_BY).cloned().unwrap_or_default(),
        rows,
        rescued_rows,
    })
}

/// Tells of each pod once, for ever.
pub async fn tell(
    mut left: mpsc::Receiver<LeftBehind>,
    index: Index,
    client: Client,
    events: Events,
    metrics: &Metrics,
) {
    let mut told = Remembered::default();
    while let Some(left) = left.recv().await {
        if !told.is_new(&left.uid) {
            continue;
        }
        left.log();
        metrics.rows_left_behind.inc_by(left.rows);
        metrics.rows_in_log_files.inc_by(left.rescued_rows);
        let ingest = index.lake_ingest(&left.namespace, &left.ingest).map(|found| found.object_ref(&()));
        for about in ingest.iter().chain(&left.owner) {
            for happening in left.happenings() {
                events.publish(&client, about, happening).await;
            }
        }
    }
}

impl LeftBehind {
    fn log(&self) {
        let Self { namespace, pod, uid: _, ingest, owner: _, rows, rescued_rows } = self;
        if *rows > 0 {
            error!(%namespace, %pod, name = %ingest, rows, "a pod ended with rows in its journal");
        }
        if *rescued_rows > 0 {
            warn!(%namespace, %pod, name = %ingest, rows = rescued_rows, "a pod ended with rows in log files in the lake");
        }
    }

    /// The Events, each with what to do.
    fn happenings(&self) -> Vec<Happening> {
        let Self { pod, uid, rows, rescued_rows, .. } = self;
        let warning =
            |reason: &'static str, note: String| Happening { is_warning: true, reason, note, key: uid.clone() };
        let mut happenings = Vec::new();
        if *rows > 0 {
            let note = format!(
                "pod {pod} ended with {rows} rows in its journal that are not in the lake; they are lost unless its volume outlives it"
            );
            happenings.push(warning(LEFT_BEHIND, note));
        }
        if *rescued_rows > 0 {
            let note = format!(
                "pod {pod} ended with {rescued_rows} rows in log files in the lake, not in their tables yet; run lakeingest-sidecar rescue with the configuration and the keys of this LakeIngest"
            );
            happenings.push(warning(IN_LOG_FILES, note));
        }
        happenings
    }
}

/// Pods of which was told, the newest ones.
#[derive(Default)]
struct Remembered {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Remembered {
    fn is_new(&mut self, uid: &str) -> bool {
        if !self.known.insert(uid.to_owned()) {
            return false;
        }
        self.order.push_back(uid.to_owned());
        if self.order.len() > PODS_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(phase: &str, is_deleted: bool, state: Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": "shop", "namespace": "team-a", "uid": "u1", "labels": {INJECTED_BY: "events"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u0"},
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-5d4f", "uid": "u7", "controller": true},
                ],
            },
            "status": {"phase": phase, "initContainerStatuses": [{
                "name": CONTAINER, "ready": false, "image": "i", "imageID": "i", "restartCount": 0, "state": state,
            }]},
        });
        if is_deleted {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-08T10:00:00Z");
        }
        serde_json::from_value(pod).expect("the test's pod has the right shape")
    }

    fn ended(rows: u64) -> Value {
        let message = json!({"reason": "unflushed", "unflushed_rows": rows}).to_string();
        json!({"terminated": {"exitCode": 75, "message": message}})
    }

    #[test]
    fn rows_of_a_pod_that_goes_are_seen_and_those_of_one_that_stays_are_not_lost() {
        let expected = LeftBehind {
            namespace: "team-a".to_owned(),
            pod: "shop".to_owned(),
            uid: "u1".to_owned(),
            ingest: "events".to_owned(),
            owner: Some(ObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: Some("ReplicaSet".to_owned()),
                name: Some("shop-5d4f".to_owned()),
                namespace: Some("team-a".to_owned()),
                uid: Some("u7".to_owned()),
                ..ObjectReference::default()
            }),
            rows: 50,
            rescued_rows: 0,
        };
        assert_eq!(of(&pod("Running", true, ended(50))), Some(expected.clone()));
        assert_eq!(of(&pod("Failed", false, ended(50))), Some(expected));
        assert_eq!(of(&pod("Running", false, ended(50))), None, "it is started again");
        assert_eq!(of(&pod("Running", true, ended(0))), None);
        assert_eq!(of(&pod("Running", true, json!({"running": {}}))), None);
        assert_eq!(of(&pod("Running", true, json!({"terminated": {"exitCode": 1, "message": "panicked"}}))), None);
    }

    #[test]
    fn rows_in_log_files_are_told_with_what_delivers_them() {
        let message = json!({"reason": "rescued", "unflushed_rows": 0, "rescued_rows": 70}).to_string();
        let left = of(&pod("Succeeded", false, json!({"terminated": {"exitCode": 0, "message": message}})));
        let left = left.expect("its rows are not in their tables");
        assert_eq!((left.rows, left.rescued_rows), (0, 70));
        let [happening] = left.happenings().try_into().expect("there is one thing to tell");
        let happening: Happening = happening;
        assert_eq!(happening.reason, IN_LOG_FILES);
        assert!(happening.note.contains("70 rows") && happening.note.contains("lakeingest-sidecar rescue"));
    }

    /// Whoever can make a pod can make it end with any message, and the numbers of all are added up.
    #[test]
    fn what_one_pod_can_have_left_behind_has_a_bound() {
        let message = json!({"unflushed_rows": u64::MAX, "rescued_rows": u64::MAX - 1}).to_string();
        let left = of(&pod("Failed", false, json!({"terminated": {"exitCode": 75, "message": message}})));
        let left = left.expect("it says that rows are missing");
        assert_eq!((left.rows, left.rescued_rows), (ROWS_LEFT_BEHIND_MAX, ROWS_LEFT_BEHIND_MAX));
        assert_eq!(of(&pod("Failed", false, ended(50))).map(|left| left.rows), Some(50));
    }

    #[test]
    fn a_pod_is_told_of_once_and_the_oldest_are_forgotten() {
        let mut told = Remembered::default();
        assert!(told.is_new("first") && !told.is_new("first"));
        for number in 0..PODS_REMEMBERED_MAX {
            assert!(told.is_new(&number.to_string()));
        }
        assert!(told.is_new("first"));
        assert_eq!(told.known.len(), PODS_REMEMBERED_MAX);
    }
}
