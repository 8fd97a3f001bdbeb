//! Errors on the wire.
//!
//! Owns: the one table from what went wrong to a status, a stable type and words; the shape. Upholds I13: no payload.
//! Does not own: where it went wrong.
//!
//! Source: RFC 9457, `application/problem+json`.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::openapi::{self, Content, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::decode::{DecodeError, Kind, Violation};
use crate::intake::IntakeError;
use crate::journal::error::AppendError;
use crate::journal::keys::KeyError;

/// Whether what a client sent is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was appended.
    Refused,
    /// An append or a sync failed: it is stored once or not at all.
    Unknown,
}

/// What went wrong, as far as it decides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The bytes are not the declared format.
    Malformed,
    /// A header does not have its form.
    MalformedHeader,
    /// `Host` or `Origin` is foreign.
    Foreign,
    /// No such endpoint.
    NotFound,
    /// The endpoint has another method.
    MethodNotAllowed,
    /// The body came too slowly.
    Slow,
    /// The body is too long.
    TooLarge,
    /// The content type is not one of ours.
    UnsupportedType,
    /// The content encoding is not one of ours.
    UnsupportedCoding,
    /// Well-formed, but illegal.
    Illegal,
    /// The idempotency key is that of a request under way.
    KeyInFlight,
    /// The idempotency key was used for something else.
    KeyReused,
    /// The lake was asked and does not answer.
    LakeAway,
    /// The journal is at its bound, and the lake takes what it is given.
    TooFast,
    /// The journal is at its bound.
    JournalFull,
    /// The process ends.
    Draining,
    /// Too much is in flight.
    Busy,
    /// The disk failed.
    DiskFailed,
    /// A bug.
    Internal,
}

impl ProblemKind {
    /// Every kind.
    const ALL: [Self; 19] = [
        Self::Malformed,
        Self::MalformedHeader,
        Self::Foreign,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Slow,
        Self::TooLarge,
        Self::UnsupportedType,
        Self::UnsupportedCoding,
        Self::Illegal,
        Self::KeyInFlight,
        Self::KeyReused,
        Self::LakeAway,
        Self::TooFast,
        Self::JournalFull,
        Self::Draining,
        Self::Busy,
        Self::DiskFailed,
        Self::Internal,
    ];

    /// The table: status, stable name, title, seconds after which it may be tried again.
    fn row(self) -> (StatusCode, &'static str, &'static str, Option<u32>) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The body is not its declared format", None),
            Self::MalformedHeader => {
                (StatusCode::BAD_REQUEST, "malformed-header", "A header of the request does not have its form", None)
            }
            Self::Foreign => (StatusCode::FORBIDDEN, "foreign", "The request is not from this host", None),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such endpoint", None),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The endpoint has another method", None)
            }
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "slow", "The body came too slowly", None),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too long", None),
            Self::UnsupportedType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-type", "The body's type is not supported", None)
            }
            Self::UnsupportedCoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-coding", "The body's encoding is not supported", None)
            }
            Self::Illegal => {
                (StatusCode::UNPROCESSABLE_ENTITY, "illegal", "The request is well-formed and not legal", None)
            }
            Self::KeyInFlight => (StatusCode::CONFLICT, "key-in-flight", "The same request is under way", Some(1)),
            Self::KeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "The key was used for another request", None)
            }
            Self::LakeAway => (StatusCode::SERVICE_UNAVAILABLE, "lake-away", "The lake does not answer", Some(5)),
            Self::TooFast => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-fast",
                "Records come faster than the lake takes them, and the journal is full",
                Some(5),
            ),
            Self::JournalFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                "journal-full",
                "The journal has no room until the lake takes more",
                Some(5),
            ),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", "The sidecar is about to end", Some(1)),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too much is being received and checked", Some(1)),
            Self::DiskFailed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "disk-failed",
                "The journal's disk failed and the sidecar restarts",
                Some(1),
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The sidecar has a bug", None),
        }
    }
}

/// A problem as it goes to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    outcome: Outcome,
    errors: Vec<Violation>,
    errors_total: usize,
    /// Instead of the table's. Unit: seconds.
    retry_after: Option<u32>,
}

/// Why a request is not served.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// `urn:lakeingest:problem:` and a name that does not change.
    r#type: String,
    /// The type in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What went wrong, in words.
    detail: &'a str,
    /// Whether what was sent is stored.
    outcome: Outcome,
    /// The first places of the request that are wrong, 20 at the most.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Violation],
    /// How many are wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors_total: Option<usize>,
}

/// The problems that an endpoint can answer with which takes a body, for its description.
pub(super) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        responses(&ProblemKind::ALL)
    }
}

/// The problems of an endpoint that only tells.
pub(super) struct ProblemsOfReports;

impl IntoResponses for ProblemsOfReports {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        use ProblemKind::{Foreign, Internal, LakeAway, MethodNotAllowed, NotFound};
        responses(&[Foreign, NotFound, MethodNotAllowed, LakeAway, Internal])
    }
}

/// The problems of an endpoint that only tells, and has a query.
pub(super) struct ProblemsOfQueries;

impl IntoResponses for ProblemsOfQueries {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        use ProblemKind::{Foreign, Illegal, Internal, LakeAway, MethodNotAllowed, NotFound};
        responses(&[Foreign, NotFound, MethodNotAllowed, Illegal, LakeAway, Internal])
    }
}

fn responses(kinds: &[ProblemKind]) -> BTreeMap<String, RefOr<openapi::Response>> {
    let mut titles: BTreeMap<StatusCode, Vec<&str>> = BTreeMap::new();
    for (status, _, title, _) in kinds.iter().map(|kind| kind.row()) {
        titles.entry(status).or_default().push(title);
    }
    let response = |(status, titles): (StatusCode, Vec<&str>)| {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(titles.join("; ")).content(CONTENT_TYPE, content);
        (status.as_str().to_owned(), RefOr::T(response.build()))
    };
    titles.into_iter().map(response).collect()
}

/// The media type of problems.
const CONTENT_TYPE: &str = "application/problem+json";

impl Problem {
    /// A problem that is about the whole request. Nothing was appended.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            outcome: Outcome::Refused,
            errors: Vec::new(),
            errors_total: 0,
            retry_after: None,
        }
    }

    /// Asks the client to wait for so many seconds, and not for what the table says.
    pub fn with_retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The same of another kind.
    pub fn with_kind(self, kind: ProblemKind) -> Self {
        Self { kind, ..self }
    }

    /// A problem with one place of a request. Nothing was appended.
    pub fn at(pointer: &str, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let violation = Violation { index: None, pointer: pointer.to_owned(), code, detail: detail.clone() };
        Self { errors: vec![violation], errors_total: 1, ..Self::new(ProblemKind::Illegal, detail) }
    }

    /// A problem with what a check found. Nothing was appended.
    pub fn from_violation(violation: Violation) -> Self {
        let detail = violation.to_string();
        Self { errors: vec![violation], errors_total: 1, ..Self::new(ProblemKind::Illegal, detail) }
    }
}

#[cfg(test)]
impl Problem {
    /// What went wrong.
    pub(super) fn kind(&self) -> ProblemKind {
        self.kind
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let kind = match error.kind() {
            Kind::Malformed => ProblemKind::Malformed,
            Kind::TooLong => ProblemKind::TooLarge,
            Kind::Illegal => ProblemKind::Illegal,
        };
        Self { errors: error.violations().to_vec(), errors_total: error.total(), ..Self::new(kind, error.to_string()) }
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let detail = error.to_string();
        match error {
            IntakeError::Decode(error) => error.into(),
            IntakeError::Draining => Self::new(ProblemKind::Draining, detail),
            IntakeError::Key(error) => {
                // What the request under way appends is what this one brought.
                let (kind, outcome) = match error {
                    KeyError::InFlight => (ProblemKind::KeyInFlight, Outcome::Unknown),
                    KeyError::Reused => (ProblemKind::KeyReused, Outcome::Refused),
                };
                Self { outcome, ..Self::new(kind, detail) }
            }
            IntakeError::Busy => Self::new(ProblemKind::Busy, detail),
            IntakeError::Internal => Self::new(ProblemKind::Internal, detail),
            IntakeError::Append(error) => {
                let kind = match &error {
                    AppendError::Full { .. } | AppendError::NoSpace | AppendError::TooManySchemas { .. } => {
                        ProblemKind::JournalFull
                    }
                    AppendError::Failed | AppendError::Unknown => ProblemKind::DiskFailed,
                };
                let outcome = if error.is_refused() { Outcome::Refused } else { Outcome::Unknown };
                Self { outcome, ..Self::new(kind, detail) }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title, retry_after) = self.kind.row();
        let body = ProblemBody {
            r#type: format!("urn:lakeingest:problem:{name}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            outcome: self.outcome,
            errors: &self.errors,
            errors_total: (self.errors_total > 0).then_some(self.errors_total),
        };
        let body = serde_json::to_vec(&body).expect("a problem is plain data");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if self.kind == ProblemKind::UnsupportedCoding {
            // RFC 9110, 12.5.3: so a client learns what it may send.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        }
        if let Some(seconds) = self.retry_after.or(retry_after) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_of_an_error_and_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = ProblemKind::ALL.iter().map(|kind| kind.row().1).collect();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            let (status, _, _, retry_after) = kind.row();
            assert!(status.is_client_error() || status.is_server_error(), "{kind:?}");
            let may_be_retried = matches!(
                status,
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS
            );
            assert_eq!(retry_after.is_some(), may_be_retried, "{kind:?}");
        }
    }

    #[test]
    fn only_a_failed_sync_leaves_the_outcome_open() {
        let outcome = |error: AppendError| Problem::from(IntakeError::Append(error)).outcome;
        assert_eq!(outcome(AppendError::Full { cap_bytes: 1 }), Outcome::Refused);
        assert_eq!(outcome(AppendError::NoSpace), Outcome::Refused);
        assert_eq!(outcome(AppendError::TooManySchemas { fields_max: 1 }), Outcome::Refused);
        assert_eq!(outcome(AppendError::Failed), Outcome::Refused);
        assert_eq!(outcome(AppendError::Unknown), Outcome::Unknown);
    }
}
