//! Journals whose pods go before everything in them is in the lake.
//!
//! Owns: the log files in the lake, as they are, and taking them from there to their tables under the names that their
//! own sidecar would have used, so that whoever does it, and however often, it counts once.
//! Does not own: when a sidecar gives up encoding (`run`).
//!
//! ```text
//! the pod's end ──> upload: <prefix>/_lakeingest/rescue/<journal>/<n>-<sha256>.log, then a manifest that names them
//!                     ──> replay (each manifest by itself: segments that are whole in it) ──> deliver, as ever
//! ```

pub mod manifest;
pub mod replay;
pub mod upload;
