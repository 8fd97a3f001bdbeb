//! What is said of a LakeIngest.
//!
//! Owns: the shape of the status and the names of its conditions and reasons. Does not own: when they are set.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Length of a condition's message. Unit: characters. Source: `metav1.Condition`; the API server refuses a status whose message
/// is longer.
pub const CONDITION_MESSAGE_CHARACTERS_MAX: usize = 32_768;

/// What the operator has seen of a LakeIngest and its pods.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LakeIngestStatus {
    /// The generation of the specification that the rest of the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Where its lake is (endpoint, bucket and prefix), once that is its own: no other LakeIngest of the cluster gets it, nor
    /// what lies in it. Absent while another one has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024))]
    pub location: Option<String>,

    /// How many pods have its sidecar.
    pub pods: PodCounts,

    /// When the oldest row was received that is in a journal and not in the lake. Absent while there is none. It is renewed
    /// at most every 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub oldest_unflushed_time: Option<Time>,

    /// What came of the last preflight, a Job of the operator that has tried the lake as it is specified now. Absent while it
    /// was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Preflight>,

    /// What is well and what is not. `Ready` says whether it can be used: its pods get their sidecar, and nobody else has
    /// its prefix. `InjectionHealthy` says whether every pod that asks has its sidecar. The others are what the sidecars say,
    /// and unknown while none could be asked: `CredentialsValid` and `StorageReachable`, which a preflight tells while no
    /// sidecar does, `Backlogged` (rows wait for longer than they may), `SchemaConflict`, `Quarantined` (records did not fit)
    /// and `DataAtRisk` (rows cannot be delivered for a reason of their own).
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// What came of trying a lake without any pod of its LakeIngest.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preflight {
    /// What was tried, as the name of its Job ends: a hash of all that makes one trial another than the next.
    #[schemars(length(max = 63))]
    pub tried: String,

    /// When it ended, or was seen to wait for something.
    #[schemars(schema_with = "schema::time")]
    pub time: Time,

    /// Since when no trial of the same has succeeded; the next one is made after as long again, 20 s to 15 min. Absent if
    /// the lake can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub failing_since: Option<Time>,

    /// Why the lake cannot be used, or could not be tried, in one word. Absent if it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024))]
    pub reason: Option<String>,

    /// The same for a person; what is not as well as it could be of a lake that can be used.
    #[serde(default)]
    #[schemars(length(max = 32_768))]
    pub message: String,
}

/// How many pods have the sidecar of a LakeIngest. Pods that have ended are not counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCounts {
    /// Pods that have its sidecar.
    pub injected: u32,

    /// Those of them whose sidecar has started and takes records.
    pub ready: u32,

    /// Those of them that have another image than they would get today, or take in a change of the specification when they
    /// are made anew alone.
    pub outdated: u32,

    /// Pods that ask for it by their annotation and run without a sidecar.
    pub missing: u32,

    /// Those that are ready and do not answer on their health port, which says nothing of their records.
    pub unreachable: u32,

    /// Those that go by the specification as it is now: the kubelet brings a change within a minute or two.
    pub on_current_generation: u32,
}

/// The types of conditions.
pub mod conditions {
    /// The LakeIngest can be used.
    pub const READY: &str = "Ready";
    /// The lake takes the keys.
    pub const CREDENTIALS_VALID: &str = "CredentialsValid";
    /// The lake is there.
    pub const STORAGE_REACHABLE: &str = "StorageReachable";
    /// Every pod that asks has its sidecar.
    pub const INJECTION_HEALTHY: &str = "InjectionHealthy";
    /// Rows wait for longer than they may, or none is taken any more.
    pub const BACKLOGGED: &str = "Backlogged";
    /// A table has other types than are declared, or its schema cannot be read.
    pub const SCHEMA_CONFLICT: &str = "SchemaConflict";
    /// Records did not fit their tables.
    pub const QUARANTINED: &str = "Quarantined";
    /// Rows cannot be delivered for a reason of their own: they are in a journal, and go with it.
    pub const DATA_AT_RISK: &str = "DataAtRisk";

    /// All of them, in the order in which they are said.
    pub const ALL: [&str; 8] = [
        READY,
        CREDENTIALS_VALID,
        STORAGE_REACHABLE,
        INJECTION_HEALTHY,
        BACKLOGGED,
        SCHEMA_CONFLICT,
        QUARANTINED,
        DATA_AT_RISK,
    ];
}

/// The reasons of conditions that are not those of the sidecars (`health_reasons`).
pub mod reasons {
    /// The configuration is there for pods to use.
    pub const CONFIGURED: &str = "Configured";
    /// The specification cannot be used; the message has every violation.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Another LakeIngest has the same bucket and prefix, or one that lies in it or around it, and was there before. Pods
    /// are injected; their sidecars take records and write nothing.
    pub const PREFIX_IN_USE: &str = crate::health_reasons::PREFIX_IN_USE;
    /// What the sidecars need could not be written to the cluster.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// Somebody has deleted or changed what is rendered from the LakeIngest; it is put back. An Event alone.
    pub const CONFIGURATION_RESTORED: &str = "ConfigurationRestored";
    /// Somebody has changed or taken away the `caBundle` of the webhook configuration, or the authorities of the operator's
    /// Secret; it is put back. An Event alone, on that object.
    pub const CERTIFICATES_RESTORED: &str = "CertificatesRestored";
    /// Somebody has changed the webhook configuration so that pods are not injected, or all are sent. An Event alone, on it.
    pub const WEBHOOK_CHANGED: &str = "WebhookChanged";
    /// Somebody has deleted the webhook configuration. An Event alone, about it.
    pub const WEBHOOK_GONE: &str = "WebhookGone";
    /// The LakeIngest of pods that run was deleted. An Event alone, on what makes the pods.
    pub const LAKE_INGEST_GONE: &str = "LakeIngestGone";
    /// A pod that asked and ran without its sidecar was evicted. An Event alone, on what makes the pods.
    pub const POD_EVICTED: &str = "PodEvicted";
    /// A pod that came in place of one that was evicted has no sidecar either. An Event alone, on what makes the pods.
    pub const EVICTION_IN_VAIN: &str = "EvictionInVain";
    /// No pod has a sidecar that runs.
    pub const NO_SIDECARS: &str = "NoSidecars";
    /// Nobody has tried the lake as it is specified: no sidecar runs, and no preflight was made, or it is still under way.
    pub const NOT_TRIED: &str = "NotTried";
    /// A preflight ended without a verdict.
    pub const PREFLIGHT_FAILED: &str = "PreflightFailed";
    /// Sidecars run, and none of them answers.
    pub const NOT_ANSWERED: &str = "NotAnswered";
    /// No sidecar says that its keys are refused.
    pub const ACCEPTED: &str = "Accepted";
    /// The Secret that the LakeIngest names is not there, or has not all keys.
    pub const SECRET_MISSING: &str = "SecretMissingInNamespace";
    /// No sidecar says that the lake is away.
    pub const REACHABLE: &str = "Reachable";
    /// No pod that asks is without its sidecar.
    pub const ALL_INJECTED: &str = "AllInjected";
    /// Pods ask and have no sidecar.
    pub const SIDECAR_MISSING: &str = "SidecarMissing";
    /// No row waits for longer than it may.
    pub const KEEPING_UP: &str = "KeepingUp";
    /// Rows wait for longer than they may.
    pub const BEHIND: &str = "Behind";
    /// Every table has the types that are declared.
    pub const NO_CONFLICT: &str = "NoConflict";
    /// The sidecars that run have put no record into quarantine.
    pub const NONE_IN_QUARANTINE: &str = "NoneInQuarantine";
    /// Records did not fit.
    pub const RECORDS_IN_QUARANTINE: &str = "RecordsInQuarantine";
    /// Every row can be delivered.
    pub const NOTHING_AT_RISK: &str = "NothingAtRisk";
}
