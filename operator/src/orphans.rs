//! Pods whose LakeIngest was deleted.
//!
//! Owns: counting them, and telling whatever makes them. Does not own: what becomes of them: they go on with what they were
//! told, and nothing of theirs is touched.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use lakeingest_crds::lakeingest::reasons;
use tracing::warn;

use crate::events::{Events, Happening};
use crate::index::{Index, SidecarPod};
use crate::leader::Leadership;
use crate::limits::ORPHANS_PERIOD;
use crate::metrics::Metrics;

/// What looks for them.
#[derive(Debug)]
pub struct Orphans {
    /// Which pods there are.
    pub index: Index,
    /// Whether this replica tells.
    pub leadership: Leadership,
    /// Where it is told.
    pub events: Events,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl Orphans {
    /// Looks from time to time while this replica leads, for ever.
    pub async fn run(self, client: Client) {
        loop {
            self.leadership.begins().await;
            self.index.synced().await;
            self.leadership.during(self.looks(&client)).await;
            self.metrics.orphaned_pods.set(0);
        }
    }

    async fn looks(&self, client: &Client) {
        let mut told = HashSet::new();
        loop {
            let orphans = self.index.orphans();
            self.metrics.orphaned_pods.set(i64::try_from(orphans.len()).unwrap_or(i64::MAX));
            let groups = by_owner(orphans);
            told.retain(|key| groups.contains_key(key));
            for (key, (owner, pod)) in groups {
                if told.contains(&key) {
                    continue;
                }
                warn!(namespace = %pod.namespace, name = %pod.ingest.name, pod = %pod.name, "a pod runs on without its LakeIngest");
                if self.events.publish(client, &owner, happening(&pod)).await {
                    told.insert(key);
                }
            }
            tokio::time::sleep(ORPHANS_PERIOD).await;
        }
    }
}

/// The uid of an owner, and the LakeIngest that is gone.
type Key = (String, String);

/// The first pod of each owner, by name; a pod that nothing has made stands for itself.
fn by_owner(orphans: Vec<SidecarPod>) -> BTreeMap<Key, (ObjectReference, SidecarPod)> {
    let mut groups: BTreeMap<Key, (ObjectReference, SidecarPod)> = BTreeMap::new();
    for pod in orphans {
        let owner = pod.owner.clone().unwrap_or_else(|| pod.reference());
        let key = (owner.uid.clone().unwrap_or_default(), pod.ingest.name.clone());
        match groups.get_mut(&key) {
            Some((_, first)) if first.name <= pod.name => {}
            Some((_, first)) => *first = pod,
            None => drop(groups.insert(key, (owner, pod))),
        }
    }
    groups
}

fn happening(pod: &SidecarPod) -> Happening {
    let (pod, ingest) = (&pod.name, &pod.ingest.name);
    let note = format!(
        "LakeIngest {ingest} is gone: pod {pod} and its like go on with what they were told, and deliver; new pods that ask for it are \
         refused, and a pod whose node is restarted waits for its configuration until a LakeIngest of that name is there again"
    );
    Happening { is_warning: true, reason: reasons::LAKE_INGEST_GONE, note, key: ingest.clone() }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::ObjectRef;

    use super::*;

    fn pod(name: &str, owner: Option<&str>, ingest: &str) -> SidecarPod {
        SidecarPod {
            uid: name.to_owned(),
            namespace: "team-a".to_owned(),
            name: name.to_owned(),
            ingest: ObjectRef::new(ingest).within("team-a"),
            owner: owner.map(|uid| ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() }),
            image: String::new(),
            is_ready: true,
            address: None,
        }
    }

    #[test]
    fn an_owner_is_told_once_of_each_lake_ingest_and_a_pod_without_one_for_itself() {
        let pods = vec![
            pod("b", Some("u1"), "events"),
            pod("a", Some("u1"), "events"),
            pod("c", Some("u1"), "orders"),
            pod("alone", None, "events"),
        ];
        let groups = by_owner(pods);
        let told: Vec<_> = groups.iter().map(|((uid, _), (_, pod))| (uid.as_str(), pod.name.as_str())).collect();
        assert_eq!(told, [("alone", "alone"), ("u1", "a"), ("u1", "c")]);
        let (owner, alone) = &groups[&("alone".to_owned(), "events".to_owned())];
        assert_eq!((owner.kind.as_deref(), owner.name.as_deref()), (Some("Pod"), Some("alone")));
        assert!(happening(alone).note.contains("LakeIngest events is gone: pod alone"));
    }
}
