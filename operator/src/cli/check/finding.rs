//! What a check has found, for people and for machines.
//!
//! Owns: the shape of a finding and its two forms. Does not own: the checks.

use std::fmt::Write;

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Verdict {
    /// As it should be.
    #[serde(rename = "ok")]
    Ok,
    /// It works, or it cannot be told; somebody should look.
    #[serde(rename = "warn")]
    Warn,
    /// It does not work.
    #[serde(rename = "FAIL")]
    Fail,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The check.
    check: &'static str,
    /// How it is.
    pub(super) verdict: Verdict,
    /// What was found.
    detail: String,
    /// What to do next; absent if nothing has to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into(), next: None }
    }

    /// Somebody should look.
    pub(super) fn warn(check: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, detail: detail.into(), next: Some(next.into()) }
    }

    /// It does not work.
    pub(super) fn fail(check: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, detail: detail.into(), next: Some(next.into()) }
    }
}

/// Whether nothing fails.
pub(super) fn is_ready(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict != Verdict::Fail)
}

/// A line for each finding.
pub(super) fn lines(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut lines, Finding { check, verdict, detail, next }| {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        // An answer of the API server may have several lines.
        let detail = detail.replace('\n', " ");
        let next = next.as_ref().map(|next| format!("; next: {next}")).unwrap_or_default();
        let _ = writeln!(lines, "{verdict:<4}  {check:<11}  {detail}{next}");
        lines
    })
}

/// One JSON object: `{"ready": bool, "checks": [{"check", "verdict": "ok" | "warn" | "FAIL", "detail", "next"?}]}`.
pub(super) fn json(findings: &[Finding]) -> String {
    let all = serde_json::json!({"ready": is_ready(findings), "checks": findings});
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_one_object() {
        let findings = [Finding::ok("webhook", "it is there"), Finding::fail("operator", "a\nb", "do it")];
        assert_eq!(lines(&findings), "ok    webhook      it is there\nFAIL  operator     a b; next: do it\n");
        let expected = serde_json::json!({"ready": false, "checks": [
            {"check": "webhook", "verdict": "ok", "detail": "it is there"},
            {"check": "operator", "verdict": "FAIL", "detail": "a\nb", "next": "do it"},
        ]});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&findings)).ok(), Some(expected));
        assert!(is_ready(&findings[..1]) && !is_ready(&findings));
    }
}
