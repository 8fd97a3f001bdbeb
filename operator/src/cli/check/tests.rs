//! What is concluded from the LakeIngests that there are.

use kube::core::DeserializeGuard;
use serde_json::json;

use super::finding::lines;
use super::*;
use crate::fixtures::ingest;

fn found(name: &str, status: &str) -> Found {
    let mut ingest = ingest(name, json!({}));
    let condition = json!({
        "type": "Ready", "status": status, "reason": "x", "message": "y", "lastTransitionTime": "2026-01-08T10:05:31Z",
    });
    ingest.status = serde_json::from_value(json!({"conditions": [condition]})).ok();
    DeserializeGuard(Ok(ingest))
}

fn judged(all: &[Found], excluded: &[String]) -> (String, Trial) {
    let otherwise = Trial { namespace: "default".to_owned(), lake_ingest: None };
    let (finding, trial) = judge(all, excluded, otherwise);
    (lines(&[finding]), trial)
}

#[test]
fn a_pod_is_tried_with_a_lake_ingest_that_can_be_used() {
    let (line, trial) = judged(&[found("broken", "False"), found("events", "True")], &[]);
    assert!(line.starts_with("warn") && line.contains("1 of 2") && line.contains("team-a/broken"), "{line}");
    assert_eq!(trial, Trial { namespace: "team-a".to_owned(), lake_ingest: Some("events".to_owned()) });
    let (line, _) = judged(&[found("events", "True")], &[]);
    assert!(line.starts_with("ok"), "{line}");
}

#[test]
fn without_one_a_pod_that_must_be_refused_is_tried() {
    let (line, trial) = judged(&[], &[]);
    assert!(line.starts_with("warn") && line.contains("there is no LakeIngest yet"), "{line}");
    assert_eq!((trial.namespace.as_str(), trial.lake_ingest), ("default", None));
    let (_, trial) = judged(&[found("events", "True")], &["team-a".to_owned()]);
    assert_eq!(trial.lake_ingest, None, "the webhook leaves that namespace alone");
}
