//! What a sidecar says of itself, as far as it is read here.
//!
//! Owns: the fields of its `/health` that are read, and what of a stranger's words is kept.
//! Does not own: asking, what follows.
//!
//! Whoever can make a pod can make it answer anything: texts are cut, and cannot pass for something that we say.

use lakeingest_crds::health_reasons;
use serde::Deserialize;

use crate::limits::{HEALTH_MESSAGE_CHARACTERS_MAX, HEALTH_REASONS_MAX};
use crate::names::said;

/// Answer of `GET /health`. A field that an older sidecar has not is as if nothing were to be said.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Health {
    /// The generation of the LakeIngest that it goes by.
    pub generation: Option<i64>,
    /// What is wrong.
    pub reasons: Vec<Reason>,
    /// What waits.
    pub backlog: Backlog,
    /// Records in quarantine since it began.
    pub quarantined_rows: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Reason {
    /// One of [`health_reasons`].
    pub name: String,
    /// In words.
    pub message: String,
}

/// What waits in the journal.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Backlog {
    /// Rows that are not in the lake.
    pub rows: u64,
    /// Age of the oldest of them. Unit: seconds.
    pub oldest_seconds: u64,
}

impl Health {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is not what a sidecar answers.
    pub fn parse(answer: &[u8]) -> Result<Self, serde_json::Error> {
        let mut health: Self = serde_json::from_slice(answer)?;
        health.reasons.retain(|reason| health_reasons::ALL.contains(&reason.name.as_str()));
        health.reasons.truncate(HEALTH_REASONS_MAX);
        for reason in &mut health.reasons {
            reason.message = said(&reason.message, HEALTH_MESSAGE_CHARACTERS_MAX);
        }
        Ok(health)
    }

    /// Whether it says this, whatever about.
    pub fn has(&self, name: &str) -> bool {
        self.reasons.iter().any(|reason| reason.name == name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_sidecar_answers_is_read_and_what_is_new_in_it_is_passed_over() {
        let answer = json!({
            "status": "degraded", "owner": "c/team-a/events", "generation": 7, "pod": {"name": "shop"},
            "reasons": [{"name": "BucketMissing", "scope": "", "message": "no bucket", "since": "2026-01-08T10:05:30Z"}],
            "backlog": {"segments": 1, "rows": 10, "bytes": 100, "oldest_seconds": 12, "drain_seconds": 0.1},
            "quarantined_rows": 2, "journal": {"id": "x"}, "from_the_future": [1],
        });
        let health = Health::parse(answer.to_string().as_bytes()).expect("it is one");
        assert_eq!((health.generation, health.backlog.rows, health.backlog.oldest_seconds), (Some(7), 10, 12));
        assert_eq!(health.quarantined_rows, 2);
        assert!(health.has("BucketMissing") && !health.has("WrongRegion"));
    }

    /// Invariant I12, and what a stranger's pod says does not become what the operator says.
    #[test]
    fn i12_a_strangers_words_are_cut_and_its_reasons_are_not_taken() {
        let reason = |name: &str, message: &str| json!({"name": name, "message": message});
        let mut reasons = vec![reason("AllIsWell", "x"); 10];
        reasons.extend(vec![reason("BucketMissing", &"\n\u{1b}[31m".repeat(100_000)); 1_000]);
        let health = Health::parse(json!({"reasons": reasons}).to_string().as_bytes()).expect("it is one");
        assert_eq!(health.reasons.len(), HEALTH_REASONS_MAX);
        for reason in &health.reasons {
            assert_eq!(reason.name, "BucketMissing");
            assert!(!reason.message.contains(['\n', '\u{1b}']));
            assert!(reason.message.chars().count() < 10 * HEALTH_MESSAGE_CHARACTERS_MAX, "{}", reason.message.len());
        }
        assert!(Health::parse(b"<html>").is_err());
    }
}
