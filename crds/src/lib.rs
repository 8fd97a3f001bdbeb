//! Types that the operator and the sidecar share.
//!
//! Owns: the LakeIngest and the sidecar's configuration, their defaults, their units and their checks; the names of what can be
//! wrong with a sidecar; what a preflight has to say.
//! Does not own: reading files, command lines, Kubernetes.
//!
//! ```text
//! LakeIngest ── rendered by the operator ──> SidecarConfig (YAML) ── read by the sidecar
//! ```
//!
//! The feature `resource` brings the LakeIngest itself and with it the crates of Kubernetes; without it there is serde.

pub mod duration;
pub mod health_reasons;
#[cfg(feature = "resource")]
pub mod lakeingest;
pub mod names;
pub mod preflight;
pub mod quantity;
pub mod sidecar_config;
pub mod tables;
pub mod type_name;

pub use duration::Seconds;
pub use quantity::Quantity;
pub use sidecar_config::{Buffer, Drain, Flush, Inference, LogLevel, S3, SidecarConfig, Storage, Violation};
pub use tables::{
    ColumnDeclaration, Granularity, OnUndeclaredTable, OnUnknownColumn, PartitionDeclaration, TableDeclaration,
};
pub use type_name::{TypeName, TypeNameError};
