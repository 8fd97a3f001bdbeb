//! Types that the operator and the sidecar share.
//!
//! Owns: the sidecar's configuration, its defaults, its units and its checks.
//! Does not own: reading files, command lines, Kubernetes.
//!
//! ```text
//! LakeIngest ── rendered by the operator ──> SidecarConfig (YAML) ── read by the sidecar
//! ```

pub mod duration;
pub mod quantity;
pub mod sidecar_config;

pub use duration::Seconds;
pub use quantity::Quantity;
pub use sidecar_config::{Buffer, Flush, S3, SidecarConfig, Storage, Violation};
