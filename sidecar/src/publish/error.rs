//! What can go wrong with the lake, and what it means.
//!
//! Owns: the errors of every access to the lake. Does not own: retries (`flush::deliver`), the words of `/health`.

/// What an error says about the lake; the name of the reason that `/health` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No answer, or an answer that says "not now".
    Unreachable,
    /// The credentials are missing, wrong, expired or may not do this.
    Denied,
    /// The bucket or the directory does not exist.
    Missing,
    /// An answer that should not be.
    Unexpected,
    /// The object is not what was sent.
    Unverified,
    /// A local file cannot be read.
    Local,
}

impl StoreErrorKind {
    /// The reason's name.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unreachable => "StorageUnreachable",
            Self::Denied => "CredentialsInvalid",
            Self::Missing => "BucketMissing",
            Self::Unexpected => "StorageUnexpected",
            Self::Unverified => "ObjectUnverified",
            Self::Local => "ScratchFailed",
        }
    }
}

/// An access to the lake that failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {key}: {detail}")]
pub struct StoreError {
    /// What it means.
    pub kind: StoreErrorKind,
    /// What was tried.
    pub action: &'static str,
    /// The object.
    pub key: String,
    /// What was answered, without a secret or a record in it.
    pub detail: String,
}

impl StoreError {
    /// The same with the object's whole name: a bucket that is not there is known by its own.
    #[must_use]
    pub fn below(self, location: &str) -> Self {
        Self { key: format!("{location}{}", self.key), ..self }
    }

    /// An error of an S3 answer.
    pub fn of_status(action: &'static str, key: &str, status: http::StatusCode, body: &str) -> Self {
        let code = s3_error_code(body).unwrap_or("no error code");
        let kind = match (status.as_u16(), code) {
            (404, "NoSuchBucket") => StoreErrorKind::Missing,
            (401 | 403, _) | (400, "ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId") => StoreErrorKind::Denied,
            (408 | 429 | 500..=599, _) => StoreErrorKind::Unreachable,
            _ => StoreErrorKind::Unexpected,
        };
        Self { kind, action, key: key.to_owned(), detail: format!("the server answered {status} ({code})") }
    }

    /// An error of a request that got no answer.
    pub fn of_transport(action: &'static str, key: &str, error: &reqwest::Error) -> Self {
        let detail = crate::error_chain(&error);
        Self { kind: StoreErrorKind::Unreachable, action, key: key.to_owned(), detail }
    }

    /// An error of the S3 library.
    pub fn of_object_store(action: &'static str, key: &str, error: &object_store::Error) -> Self {
        let chain = crate::error_chain(&error);
        let kind = match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreErrorKind::Denied
            }
            object_store::Error::NotFound { .. } => StoreErrorKind::Missing,
            _ if chain.contains("ExpiredToken") || chain.contains("InvalidAccessKeyId") => StoreErrorKind::Denied,
            _ if chain.contains("NoSuchBucket") => StoreErrorKind::Missing,
            _ => StoreErrorKind::Unreachable,
        };
        let detail = match s3_error_code(&chain) {
            Some(code) => format!("the server answered {code}"),
            None => shortened(&chain),
        };
        Self { kind, action, key: key.to_owned(), detail }
    }

    /// An error of a file or a folder of a lake that is a directory.
    pub fn of_io(action: &'static str, key: &str, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
            std::io::ErrorKind::NotFound => StoreErrorKind::Missing,
            _ => StoreErrorKind::Unreachable,
        };
        Self { kind, action, key: key.to_owned(), detail: error.to_string() }
    }
}

/// The text of `<Code>` in an S3 error document.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
fn s3_error_code(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

/// A text that fits a line of a log.
fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn each_answer_has_its_kind() {
        let kind = |status: u16, code: &str| {
            let status = StatusCode::from_u16(status).expect("the test's status is one");
            StoreError::of_status("put", "k", status, &format!("<Error><Code>{code}</Code></Error>")).kind
        };
        assert_eq!(kind(403, "AccessDenied"), StoreErrorKind::Denied);
        assert_eq!(kind(400, "ExpiredToken"), StoreErrorKind::Denied);
        assert_eq!(kind(404, "NoSuchBucket"), StoreErrorKind::Missing);
        assert_eq!(kind(503, "SlowDown"), StoreErrorKind::Unreachable);
        assert_eq!(kind(400, "BadDigest"), StoreErrorKind::Unexpected);
    }

    #[test]
    fn a_body_that_is_no_error_document_is_not_repeated() {
        let error = StoreError::of_status("put", "k", StatusCode::BAD_GATEWAY, "<html>secret</html>");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
