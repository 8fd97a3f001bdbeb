//! What a preflight has to say: between the sidecar's program, which tries the lake, and the operator, which has it tried.
//!
//! Owns: the form, a line of JSON in a termination message. Does not own: the trial, or what follows from it.

use serde::{Deserialize, Serialize};

/// Whether a lake can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Why it cannot be used, by a name of [`health_reasons`](crate::health_reasons); absent if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do; or what is not as well as it could be.
    pub message: String,
}
