//! What is said to those who look at what makes the pods: a Deployment's ReplicaSet, a Job, a StatefulSet.
//!
//! Owns: which of it is theirs to know, one Event for each owner and reason. Does not own: conditions of the LakeIngest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use lakeingest_crds::health_reasons as said;
use lakeingest_crds::lakeingest::reasons;

use super::Context;
use crate::events::Happening;
use crate::index::{MissingPod, SidecarPod};
use crate::sidecars::Health;

/// What a sidecar says that is its pod's owner's to know: rows are at stake.
const OF_PODS: [&str; 5] =
    [said::CREDENTIALS_MISSING, said::KEY_CONFLICT, said::JOURNAL_DAMAGED, said::ENCODE_FAILED, said::JOURNAL_FULL];

/// A LakeIngest, by namespace and name.
type Ingest = (String, String);

/// What was said: the owner's uid and the reason.
type Key = (String, &'static str);

/// Something to say to an owner.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Complaint {
    owner: ObjectReference,
    happening: Happening,
}

impl Complaint {
    /// What tells it from another.
    fn key(&self) -> Key {
        (self.owner.uid.clone().unwrap_or_default(), self.happening.reason)
    }
}

/// What is to be said to the owners of a LakeIngest's pods: of many pods of one owner the first speaks.
pub(super) fn complaints(ingest: &str, missing: &[MissingPod], told: &[(SidecarPod, Health)]) -> Vec<Complaint> {
    let warning =
        |reason: &'static str, note: String| Happening { is_warning: true, reason, note, key: ingest.to_owned() };
    let without = missing.iter().map(|pod| {
        let note = format!(
            "pod {} asks for LakeIngest {ingest} and runs without its sidecar; kubectl lakeingest why {} says why",
            pod.name, pod.name
        );
        Complaint { owner: pod.owner.clone(), happening: warning(reasons::SIDECAR_MISSING, note) }
    });
    let unwell = told.iter().filter_map(|(pod, health)| Some((pod, health, pod.owner.as_ref()?)));
    let unwell = unwell.flat_map(|(pod, health, owner)| {
        OF_PODS.into_iter().filter_map(move |name| {
            let reason = health.reasons.iter().find(|reason| reason.name == name)?;
            let note = format!("the sidecar of pod {} says: {}", pod.name, reason.message);
            Some(Complaint { owner: owner.clone(), happening: warning(name, note) })
        })
    });
    let mut first: BTreeMap<Key, Complaint> = BTreeMap::new();
    for complaint in without.chain(unwell) {
        first.entry(complaint.key()).or_insert(complaint);
    }
    first.into_values().collect()
}

/// What owners have been told, of each LakeIngest.
#[derive(Debug, Default)]
pub struct Told {
    told: Mutex<HashMap<Ingest, HashSet<Key>>>,
}

impl Told {
    /// Those that are new. What is well again is forgotten, and told again when it comes back.
    /// At most `places` LakeIngests are remembered: who has gone makes room.
    fn new_ones(&self, of: &Ingest, complaints: Vec<Complaint>, places: usize) -> Vec<Complaint> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() > places {
            told.clear();
        }
        if complaints.is_empty() {
            told.remove(of);
            return complaints;
        }
        let known = told.entry(of.clone()).or_default();
        known.retain(|key| complaints.iter().any(|complaint| complaint.key() == *key));
        complaints.into_iter().filter(|complaint| !known.contains(&complaint.key())).collect()
    }

    fn note(&self, of: &Ingest, key: Key) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).entry(of.clone()).or_default().insert(key);
    }
}

/// Says to owners what is new.
pub(super) async fn tell(context: &Context, name: &str, namespace: &str, complaints: Vec<Complaint>) {
    let of = (namespace.to_owned(), name.to_owned());
    let places = context.index.count().saturating_mul(2);
    for complaint in context.told.new_ones(&of, complaints, places) {
        let key = complaint.key();
        if context.events.publish(&context.client, &complaint.owner, complaint.happening).await {
            context.told.note(&of, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::ObjectRef;
    use serde_json::json;

    use super::*;
    use crate::fixtures::missing_pod as missing;

    fn owner(uid: &str) -> ObjectReference {
        ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() }
    }

    fn unwell(name: &str, uid: Option<&str>, reason: &str) -> (SidecarPod, Health) {
        let pod = SidecarPod {
            uid: name.to_owned(),
            namespace: "team-a".to_owned(),
            name: name.to_owned(),
            ingest: ObjectRef::new("events").within("team-a"),
            owner: uid.map(owner),
            image: String::new(),
            is_ready: true,
            address: None,
        };
        let health = json!({"reasons": [{"name": reason, "message": "so it is"}]});
        (pod, Health::parse(health.to_string().as_bytes()).expect("it is one"))
    }

    #[test]
    fn an_owner_is_told_once_for_all_its_pods_and_only_what_is_its_own() {
        let without = [missing("a", "u1"), missing("b", "u1"), missing("c", "u2")];
        let told = [
            unwell("d", Some("u1"), said::KEY_CONFLICT),
            unwell("e", Some("u1"), said::KEY_CONFLICT),
            unwell("f", Some("u1"), said::STORAGE_UNREACHABLE),
            unwell("g", None, said::KEY_CONFLICT),
        ];
        let complaints = complaints("events", &without, &told);
        let keys: Vec<_> = complaints.iter().map(|one| (one.key().0, one.happening.reason)).collect();
        let expected = [("u1", "KeyConflict"), ("u1", "SidecarMissing"), ("u2", "SidecarMissing")];
        assert_eq!(keys, expected.map(|(uid, reason)| (uid.to_owned(), reason)));
        assert!(complaints[0].happening.note.contains("pod d says: so it is"), "{complaints:?}");
    }

    #[test]
    fn what_was_told_is_told_again_only_after_it_was_well() {
        let (told, of) = (Told::default(), ("team-a".to_owned(), "events".to_owned()));
        let now = || complaints("events", &[missing("a", "u1")], &[]);
        let [first] = told.new_ones(&of, now(), 10).try_into().expect("it is new");
        let first: Complaint = first;
        // An Event that could not be written is tried again.
        assert_eq!(told.new_ones(&of, now(), 10).len(), 1);
        told.note(&of, first.key());
        assert_eq!(told.new_ones(&of, now(), 10).len(), 0);
        assert_eq!(told.new_ones(&of, Vec::new(), 10).len(), 0);
        assert_eq!(told.new_ones(&of, now(), 10).len(), 1);
    }
}
