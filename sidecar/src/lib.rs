//! The LakeIngest sidecar: JSON on localhost becomes Parquet in the lake, exactly once.
//!
//! The modules in the order in which data moves:
//!
//! ```text
//! http ──> intake: decode ──> schema ──> journal ──> (acknowledge) ──> flush ──> encode ──> publish ──> lake
//! ```
//!
//! `rescue` takes what a pod could not encode in time. `clock`, `limits`, `config`, `metrics`, `status` and `leaving` serve
//! all of them; `parts` puts them together, `run` starts and ends them, `probe` speaks to the process that runs, `preflight` tries the
//! lake. `seeded` is for the tests of the tests, and nothing in what is shipped.

pub mod http;
pub mod intake;

pub mod decode;
pub mod schema;

pub mod journal;

pub mod flush;

pub mod encode;

pub mod publish;

pub mod lake;

pub mod rescue;

pub mod preflight;

pub mod clock;
pub mod config;
pub mod leaving;
pub mod limits;
pub mod metrics;
mod parts;
pub mod probe;
pub mod run;
pub mod seeded;
pub mod status;

/// The revision that this was built from, or `unknown` outside of a checkout.
pub const REVISION: &str = env!("LAKEINGEST_REVISION");

/// The machine that this was built for.
pub const TARGET: &str = env!("LAKEINGEST_TARGET");

/// An error with its causes, in one line.
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

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_is_shown_with_its_causes() {
        assert_eq!(error_chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
