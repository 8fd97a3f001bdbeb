//! LakeIngests and pods for tests.

pub(crate) mod neighbours;
pub(crate) mod pods;

use k8s_openapi::api::core::v1::ObjectReference;
use lakeingest_crds::lakeingest::{ImagePolicy, LakeIngest};
use serde_json::{Value, json};

use crate::controller::{ContextNames, ValidatedIngest, validate};
use crate::index::MissingPod;

/// What does not change while a test runs.
pub(crate) fn names() -> ContextNames {
    ContextNames {
        cluster_id: "cluster-uid".to_owned(),
        images: ImagePolicy {
            default_image: "lakeingest/sidecar:1".to_owned(),
            allowed_repositories: vec!["lakeingest/sidecar".to_owned()],
        },
    }
}

/// A LakeIngest of namespace `team-a`, with a specification merged into one that is complete.
pub(crate) fn ingest(name: &str, spec: Value) -> LakeIngest {
    let mut whole = json!({
        "apiVersion": "lakeingest.io/v1alpha1",
        "kind": "LakeIngest",
        "metadata": {
            "name": name, "namespace": "team-a", "uid": format!("uid-of-{name}"), "generation": 3,
            "creationTimestamp": "2026-01-08T10:05:30Z",
        },
        "spec": {"storage": {"bucket": "lake-data", "credentials": {"secretRef": {"name": "lake-s3"}}}},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        for (part, value) in value.as_object().into_iter().flatten() {
            whole["spec"][field][part] = value.clone();
        }
    }
    serde_json::from_value(whole).expect("the test's LakeIngest has the right shape")
}

/// A pod of namespace `team-a` that asks for `events`, has no sidecar and may be evicted; its name is its uid, and so is its
/// owner's.
pub(crate) fn missing_pod(name: &str, owner: &str) -> MissingPod {
    MissingPod {
        namespace: "team-a".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
        created: 0,
        ingest: "events".to_owned(),
        owner: ObjectReference { uid: Some(owner.to_owned()), ..ObjectReference::default() },
        may_be_evicted: true,
    }
}

/// LakeIngest `events` of namespace `team-a`, validated.
pub(crate) fn validated() -> ValidatedIngest {
    validate(&ingest("events", json!({})), &names()).expect("it is legal")
}

/// A pod with one container that asks for LakeIngest `events`.
pub(crate) fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "shop-", "annotations": {"lakeingest.io/inject": "events"}},
        "spec": {
            "containers": [{"name": "app", "image": "shop:1"}],
            "terminationGracePeriodSeconds": 30,
        },
    })
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct ManualClock {
    start: chrono::DateTime<chrono::Utc>,
    now: std::sync::Mutex<chrono::DateTime<chrono::Utc>>,
}

impl ManualClock {
    /// A clock at this time (RFC 3339).
    pub(crate) fn at(time: &str) -> std::sync::Arc<Self> {
        let start = time.parse().expect("the test's time is one");
        std::sync::Arc::new(Self { start, now: std::sync::Mutex::new(start) })
    }

    /// Moves it forward.
    pub(crate) fn advance(&self, duration: std::time::Duration) {
        *self.now.lock().expect("no holder of this lock panics") += duration;
    }
}

impl crate::clock::Clock for ManualClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        *self.now.lock().expect("no holder of this lock panics")
    }

    fn monotonic(&self) -> std::time::Duration {
        (self.now() - self.start).to_std().unwrap_or_default()
    }
}
