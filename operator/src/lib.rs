//! The operator: it injects the sidecar into the pods that ask for it, and keeps its configuration.
//!
//! ```text
//! kubectl apply LakeIngest ──> controller: dereference → validate → build → apply → status ──> ConfigMap
//!                                  │ index: what is known of the cluster
//! pod that is asked for ─────> webhook ──> admit: which LakeIngest ──> inject: pure ──> JSON Patch
//! pod that ends ─────────────> left_behind: what its sidecar had not delivered ──> events
//! Lease ─────────────────────> leader: which replica says how LakeIngests are
//! sidecars' /health ─────────> sidecars: what they say themselves ──> controller: status
//! LakeIngest without sidecars > preflight: a Job that tries the lake ──> controller: status
//! a person's command line ───> cli: the same admit and inject, on files or on the cluster
//! ```

pub mod names;

pub mod index;
pub mod namespaces;

pub mod controller;

pub mod certs;
pub mod entries;
pub mod webhook;

pub mod admit;

pub mod inject;

pub mod leader;
pub mod preflight;
pub mod sidecars;

pub mod events;
pub mod left_behind;
pub mod orphans;
pub mod watchdog;

pub mod cli;

pub mod again;
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

/// Whether a namespace is being deleted: nothing can be created there any more.
/// Source: the admission plugin NamespaceLifecycle, cause `NamespaceTerminating`.
pub fn is_of_ending_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(answer) = error else { return false };
    let causes = answer.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// An error with all its causes on one line.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = words(error);
    // An answer of the API server has itself as its source.
    let mut source = error.source().filter(|_| api_answer(error).is_none());
    while let Some(cause) = source {
        let cause_text = words(cause);
        // A transparent error repeats what it stands for.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        if api_answer(cause).is_some() {
            break;
        }
        source = cause.source();
    }
    text
}

/// An error's own words. An answer of the API server says everything in its message; its own form says it three times.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    api_answer(error).map_or_else(|| error.to_string(), |answer| answer.message.clone())
}

fn api_answer<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a kube::core::Status> {
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(|boxed| &**boxed);
    match boxed.or_else(|| error.downcast_ref::<kube::Error>()) {
        Some(kube::Error::Api(answer)) => Some(answer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to apply ConfigMap events")]
    struct Failed(#[source] Box<kube::Error>);

    #[test]
    fn an_answer_of_the_api_server_is_said_once() {
        let answer = kube::core::Status::failure("configmaps \"events\" is forbidden", "Forbidden");
        let error = kube::Error::Api(answer.boxed());
        assert_eq!(error_chain(&error), "configmaps \"events\" is forbidden");
        let error = Failed(Box::new(error));
        assert_eq!(error_chain(&error), "failed to apply ConfigMap events: configmaps \"events\" is forbidden");
    }
}
