//! What a preflight has to say: between the sidecar's program, which tries the lake, and the operator, which has it tried.
//!
//! Owns: the form, a line of JSON that fits a termination message. Does not own: the trial, or what follows from it.

use serde::{Deserialize, Serialize};

/// Longest line. Unit: bytes. Source: `terminationMessagePath` of a container, which says what the kubelet cuts off.
const LINE_BYTES_MAX: usize = 4_096;

/// Whether a lake can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Why it cannot be used, by a name of [`health_reasons`](crate::health_reasons); absent if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do; or what is not as well as it could be.
    pub message: String,
}

impl Verdict {
    /// As a line of JSON, with a message that is cut where it would be too long.
    pub fn to_line(&self) -> String {
        let mut end = self.message.floor_char_boundary(LINE_BYTES_MAX);
        loop {
            let shown = Self { reason: self.reason.clone(), message: self.message[..end].to_owned() };
            let line = serde_json::to_string(&shown).expect("a verdict is plain data");
            if line.len() <= LINE_BYTES_MAX || end == 0 {
                return line;
            }
            // What has to be escaped is longer in the line than in the message.
            end = self.message.floor_char_boundary(end / 2);
        }
    }

    /// Reads what [`Self::to_line`] has written; none if it is something else.
    pub fn of_line(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_as_it_was_written_and_fits_a_termination_message() {
        let verdict = Verdict { reason: Some("BucketMissing".to_owned()), message: "make it".to_owned() };
        assert_eq!(Verdict::of_line(&verdict.to_line()), Some(verdict));
        let long = Verdict { reason: None, message: "\u{e9}\"\n".repeat(4_000) };
        assert!(long.to_line().len() <= LINE_BYTES_MAX && Verdict::of_line(&long.to_line()).is_some());
        assert_eq!(Verdict::of_line("panicked"), None);
    }
}
