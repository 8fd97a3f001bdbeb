//! The servers of demo and tests, each a small type: started, waited for, spoken to, stopped.
//!
//! Owns: the command lines and the readiness of each server.
//! Does not own: processes as such (see `process`), ports (see `ports`).

pub mod http;
pub mod sidecar;
pub mod weed;

pub use http::Response;
pub use sidecar::{Sidecar, SidecarOptions};
pub use weed::{S3Access, Weed, WeedOptions};
