//! The Job that tries a lake.
//!
//! Owns: its shape and its name, a pure function of a LakeIngest that was validated. Does not own: when there is one.
//!
//! Its pod has the image, the configuration, the keys and the security context of a sidecar, and no right to anything else.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::controller::{ValidatedIngest, owner_reference};
use crate::inject::container::{config_mount, key_mounts, key_variables, lake_volumes, security_context};
use crate::limits::{PREFLIGHT_DEADLINE, PREFLIGHT_KEPT};
use crate::names::{
    INJECT, MANAGED_BY, MANAGER, PREFLIGHT, PREFLIGHT_CONTAINER, SCRATCH_PATH, SCRATCH_VOLUME, TRIED, preflight_job,
};

/// What the pod asks for and may take: a file of one row, and the program's own memory.
const MEMORY: &str = "128Mi";

/// A little processor time; the trial waits for the network.
const CPU: &str = "100m";

/// What the pod may take of the node's disk, its log included.
const DISK: &str = "32Mi";

/// How much of that is for the file that is made and the one that comes back.
const SCRATCH: &str = "16Mi";

/// Digits of what is tried in a Job's name. Derivation: of one LakeIngest, which has a few trials at the same time, two are
/// the same by chance once in 2^48.
const HASH_DIGITS: usize = 12;

/// A trial that can be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    /// What is tried: everything in which this trial differs from another one, as a hash.
    pub(super) tried: String,
    /// The Job.
    pub(super) job: Job,
}

impl Trial {
    /// The trial of a LakeIngest's lake.
    pub(super) fn of(ingest: &ValidatedIngest) -> Self {
        let pod = pod_spec(ingest);
        // The configuration is mounted: what it says of the lake is as much a part of the trial as the pod is.
        let tried = hash(&json!([ingest.uid, pod, ingest.spec.config.storage]));
        let job = json!({
            "metadata": {
                "name": preflight_job(&ingest.name, &tried),
                "namespace": ingest.namespace,
                "labels": {MANAGED_BY: MANAGER, PREFLIGHT: ingest.name},
                "ownerReferences": [owner_reference(ingest)],
            },
            "spec": {
                // A trial that fails has said why; the next one has its own pace.
                "backoffLimit": 0,
                "activeDeadlineSeconds": PREFLIGHT_DEADLINE.as_secs(),
                "ttlSecondsAfterFinished": PREFLIGHT_KEPT.as_secs(),
                "template": {
                    "metadata": {
                        "labels": {MANAGED_BY: MANAGER, PREFLIGHT: ingest.name},
                        "annotations": {INJECT: "false", TRIED: tried},
                    },
                    "spec": pod,
                },
            },
        });
        let job = serde_json::from_value(job).expect("every field of it is one of a Job, with a value of its type");
        Self { tried, job }
    }
}

fn pod_spec(ingest: &ValidatedIngest) -> Value {
    let resources = json!({"cpu": CPU, "memory": MEMORY, "ephemeral-storage": DISK});
    let mut mounts = vec![json!({"name": SCRATCH_VOLUME, "mountPath": SCRATCH_PATH}), config_mount()];
    mounts.extend(key_mounts(ingest));
    let mut volumes = vec![json!({"name": SCRATCH_VOLUME, "emptyDir": {"sizeLimit": SCRATCH}})];
    volumes.extend(lake_volumes(ingest));
    let mut spec = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": PREFLIGHT_CONTAINER,
            "image": ingest.spec.image,
            "args": ["preflight"],
            "env": key_variables(ingest),
            "resources": {"requests": resources, "limits": resources},
            "volumeMounts": mounts,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": security_context(ingest),
        }],
        "volumes": volumes,
    });
    let identity = ingest.spec.workload_identity.as_ref();
    if let Some(account) = identity.and_then(|identity| identity.service_account_name.as_ref()) {
        spec["serviceAccountName"] = json!(account);
    }
    if !ingest.spec.image_pull_secrets.is_empty() {
        spec["imagePullSecrets"] = ingest.spec.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
    }
    spec
}

/// The same for every replica of a version.
fn hash(what: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    what.to_string().hash(&mut hasher);
    let mut digits = format!("{:016x}", hasher.finish());
    digits.truncate(HASH_DIGITS);
    digits
}
