//! What is said of a LakeIngest.
//!
//! Owns: the shape of the status and the names of its conditions and reasons. Does not own: when they are set.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What the operator has seen of a LakeIngest and its pods.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LakeIngestStatus {
    /// The generation of the specification that the rest of the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How many pods have its sidecar.
    pub pods: PodCounts,

    /// What is well and what is not. `Ready` says whether it can be used: its pods get their sidecar, and nobody else has
    /// its prefix.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many pods have the sidecar of a LakeIngest. Pods that have ended are not counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCounts {
    /// Pods that have its sidecar.
    pub injected: u32,

    /// Those of them whose sidecar has started and takes records.
    pub ready: u32,
}

/// The types of conditions.
pub mod conditions {
    /// The LakeIngest can be used.
    pub const READY: &str = "Ready";
}

/// The reasons of conditions.
pub mod reasons {
    /// The configuration is there for pods to use.
    pub const CONFIGURED: &str = "Configured";
    /// The specification cannot be used; the message has every violation.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Another LakeIngest has the same bucket and prefix, or one that lies in it or around it, and was there before. Pods
    /// are injected; their sidecars take records and write nothing.
    pub const PREFIX_IN_USE: &str = "PrefixInUse";
    /// What the sidecars need could not be written to the cluster.
    pub const APPLY_FAILED: &str = "ApplyFailed";
}
