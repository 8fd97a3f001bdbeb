//! The servers of demo and tests, each a small type: started, waited for, spoken to, stopped.
//!
//! Owns: the command lines and the readiness of each server.
//! Does not own: processes as such (see `process`), ports (see `ports`).

pub mod access;
pub mod http;
pub mod minio;
pub mod sidecar;
#[cfg(test)]
mod sockets;
pub mod weed;

pub use access::S3Access;
pub use http::Response;
pub use minio::{Minio, MinioOptions};
pub use sidecar::{Sidecar, SidecarOptions};
pub use weed::{Weed, WeedOptions};
