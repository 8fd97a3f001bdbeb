//! What a sidecar had not delivered when its pod ended.
//!
//! Owns: reading it from the pod's status, before the pod is gone, and telling it once: log, number, and an Event, which is tried
//! again until it is there.
//! Does not own: watching pods (`index`).

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{error, warn};

use crate::events::{Events, Happening, ROWS_IN_LOG_FILES, ROWS_LEFT_BEHIND, reference_of};
use crate::index::{Index, controller_of};
use crate::limits::{
    EVENT_TRIES_MAX, EVENTS_RETRY_PERIOD, LEFT_BEHIND_QUEUE_MAX, PODS_REMEMBERED_MAX, ROWS_LEFT_BEHIND_MAX,
};
use crate::metrics::Metrics;
use crate::names::{CONTAINER, INJECTED_BY};

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
pub async fn tell(left: mpsc::Receiver<LeftBehind>, index: Index, client: Client, events: Events, metrics: &Metrics) {
    tell_every(EVENTS_RETRY_PERIOD, left, index, client, events, metrics).await;
}

async fn tell_every(
    period: Duration,
    mut left: mpsc::Receiver<LeftBehind>,
    index: Index,
    client: Client,
    events: Events,
    metrics: &Metrics,
) {
    let mut turns = tokio::time::interval(period);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Remembered::default();
    let mut waiting = Waiting::default();
    loop {
        let left = tokio::select! {
            left = left.recv() => left,
            _ = turns.tick(), if !waiting.events.is_empty() => {
                waiting.publish(&client, &events).await;
                continue;
            }
        };
        let Some(left) = left else { return };
        if !told.is_new(&left.uid) {
            continue;
        }
        left.log();
        metrics.rows_left_behind.inc_by(left.rows);
        metrics.rows_in_log_files.inc_by(left.rescued_rows);
        let ingest = index.lake_ingest(&left.namespace, &left.ingest).map(|found| found.object_ref(&()));
        for about in ingest.iter().chain(&left.owner) {
            for happening in left.happenings() {
                if !events.publish(&client, about, happening.clone()).await {
                    waiting.add(about.clone(), happening, 1);
                }
            }
        }
    }
}

/// Events that could not be written yet, the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(ObjectReference, Happening, u32)>,
}

impl Waiting {
    /// One that was tried so often. Past the bounds the log has it.
    fn add(&mut self, about: ObjectReference, happening: Happening, tries: u32) {
        if tries >= EVENT_TRIES_MAX || self.events.len() >= LEFT_BEHIND_QUEUE_MAX {
            warn!(reason = happening.reason, note = %happening.note, "gave up an event");
            return;
        }
        self.events.push_back((about, happening, tries));
    }

    /// Tries each once more.
    async fn publish(&mut self, client: &Client, events: &Events) {
        for (about, happening, tries) in std::mem::take(&mut self.events) {
            if !events.publish(client, &about, happening.clone()).await {
                self.add(about, happening, tries + 1);
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
            happenings.push(warning(ROWS_LEFT_BEHIND, note));
        }
        if *rescued_rows > 0 {
            let note = format!(
                "pod {pod} ended with {rescued_rows} rows in log files in the lake, not in their tables yet; run lakeingest-sidecar rescue with the configuration and the keys of this LakeIngest"
            );
            happenings.push(warning(ROWS_IN_LOG_FILES, note));
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
mod tests;
