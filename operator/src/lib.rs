//! The operator: it injects the sidecar into the pods that ask for it, and keeps its configuration.
//!
//! ```text
//! kubectl apply LakeIngest ──> controller: dereference → validate → build → apply → status ──> ConfigMap
//!                                  │ index: what is known of the cluster
//! pod with the annotation ───> webhook ──> admit: which LakeIngest ──> inject: pure ──> JSON Patch
//! ```

pub mod names;

pub mod index;

pub mod controller;

pub mod certs;
pub mod webhook;

pub mod admit;

pub mod inject;

pub mod clock;
pub mod health;
pub mod limits;
pub mod metrics;
pub mod run;
pub mod server;
pub mod settings;
pub mod version;

#[cfg(test)]
pub(crate) mod fixtures;

/// The revision that this was built from.
pub const REVISION: &str = env!("LAKEINGEST_REVISION");

/// The machine that this was built for.
pub const TARGET: &str = env!("LAKEINGEST_TARGET");

/// An error with all its causes on one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent error repeats what it stands for.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
