//! What can go wrong with the lake, and what it means.
//!
//! Owns: the errors of every access to the lake. Does not own: retries (`flush::deliver`), the words of `/health`.

use lakeingest_crds::health_reasons;

use super::credentials::are_missing;

/// What an error says about the lake; the name of the reason that `/health` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No answer, or an answer that says "not now".
    Unreachable,
    /// The keys are not there: the Secret is missing, or has not all of them.
    Keyless,
    /// The credentials are wrong, expired or may not do this.
    Denied,
    /// The bucket or the directory does not exist.
    Missing,
    /// The bucket is in another region than requests are signed for.
    WrongRegion,
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
            Self::Unreachable => health_reasons::STORAGE_UNREACHABLE,
            Self::Keyless => health_reasons::CREDENTIALS_MISSING,
            Self::Denied => health_reasons::CREDENTIALS_INVALID,
            Self::Missing => health_reasons::BUCKET_MISSING,
            Self::WrongRegion => health_reasons::WRONG_REGION,
            Self::Unexpected => health_reasons::STORAGE_UNEXPECTED,
            Self::Unverified => health_reasons::OBJECT_UNVERIFIED,
            Self::Local => health_reasons::SCRATCH_FAILED,
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

    /// An error of an S3 answer; `region` is where the server says that the bucket is.
    pub fn of_answer(
        action: &'static str,
        key: &str,
        status: http::StatusCode,
        region: Option<&str>,
        body: &str,
    ) -> Self {
        let code = element(body, "Code");
        let region = region.filter(|region| is_plain(region)).or_else(|| element(body, "Region"));
        let kind = kind_of(action, status.as_u16(), code.unwrap_or_default(), region.is_some());
        let said = format!("the server answered {status} ({})", code.unwrap_or("no error code"));
        let advice = advice(kind, status.as_u16(), code.unwrap_or_default(), region);
        let detail = if advice.is_empty() { said } else { format!("{said}: {advice}") };
        Self { kind, action, key: key.to_owned(), detail }
    }

    /// An error of a request that got no answer.
    pub fn of_transport(action: &'static str, key: &str, error: &reqwest::Error) -> Self {
        let detail = match tls_cause(error) {
            Some(cause) => tls_detail(&cause),
            None => crate::error_chain(&error),
        };
        Self { kind: StoreErrorKind::Unreachable, action, key: key.to_owned(), detail }
    }

    /// An error of the S3 library.
    pub fn of_object_store(action: &'static str, key: &str, error: &object_store::Error) -> Self {
        let chain = crate::error_chain(&error);
        let key = key.to_owned();
        if let Some(cause) = tls_cause(error) {
            return Self { kind: StoreErrorKind::Unreachable, action, key, detail: tls_detail(&cause) };
        }
        let code = element(&chain, "Code");
        let kind = match (error, code) {
            _ if are_missing(error) => StoreErrorKind::Keyless,
            (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }, _) => {
                StoreErrorKind::Denied
            }
            (object_store::Error::NotFound { .. }, _) => StoreErrorKind::Missing,
            (_, Some(code)) => match kind_of(action, 400, code, element(&chain, "Region").is_some()) {
                StoreErrorKind::Unexpected => StoreErrorKind::Unreachable,
                kind => kind,
            },
            // The library's words for a redirect that names no place.
            _ if chain.contains("incorrectly configured region") => StoreErrorKind::WrongRegion,
            _ => StoreErrorKind::Unreachable,
        };
        let detail = match code {
            Some(code) => format!("the server answered {code}"),
            None => shortened(&chain),
        };
        Self { kind, action, key, detail }
    }

    /// The keys could not be got.
    pub fn of_credentials(action: &'static str, key: &str, error: &object_store::Error) -> Self {
        let chain = crate::error_chain(&error);
        let detail = format!("there are no keys for the lake: {}", shortened(&chain));
        let kind = if are_missing(error) { StoreErrorKind::Keyless } else { StoreErrorKind::Denied };
        Self { kind, action, key: key.to_owned(), detail }
    }

    /// An error of a file or a folder of a lake that is a directory.
    pub fn of_io(action: &'static str, key: &str, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
            std::io::ErrorKind::NotFound => StoreErrorKind::Missing,
            _ => StoreErrorKind::Unreachable,
        };
        let detail = match crate::journal::reserve::is_no_space(error) {
            true => format!("{error}; {LAKE_IS_FULL}"),
            false => error.to_string(),
        };
        Self { kind, action, key: key.to_owned(), detail }
    }
}

/// What is said of a lake in a directory whose file system has no space left.
const LAKE_IS_FULL: &str = "the file system that the lake lies on is full: free space there or make it larger; what is \
    acknowledged waits in the journal and follows by itself";

/// What an answer means.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
fn kind_of(action: &str, status: u16, code: &str, names_region: bool) -> StoreErrorKind {
    match (status, code) {
        (404, "NoSuchBucket") => StoreErrorKind::Missing,
        (_, "SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted") => {
            StoreErrorKind::Unreachable
        }
        (_, "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException") => {
            StoreErrorKind::WrongRegion
        }
        (_, "ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId" | "TokenRefreshRequired") => StoreErrorKind::Denied,
        (300..=400, _) if names_region => StoreErrorKind::WrongRegion,
        (401 | 403, _) | (_, "AuthorizationHeaderMalformed") => StoreErrorKind::Denied,
        // An answer to HEAD has no body that would say why; keys that have expired are the common case.
        (400, "") if action == "head" => StoreErrorKind::Denied,
        (501, _) => StoreErrorKind::Unexpected,
        (408 | 429 | 500..=599, _) => StoreErrorKind::Unreachable,
        _ => StoreErrorKind::Unexpected,
    }
}

/// What is to be done about it, where that is not plain.
fn advice(kind: StoreErrorKind, status: u16, code: &str, region: Option<&str>) -> String {
    match (kind, region, status, code) {
        (StoreErrorKind::WrongRegion, Some(region), ..) => {
            format!("the bucket is in region {region}; set storage.region to it")
        }
        (StoreErrorKind::WrongRegion, None, ..) => {
            "the bucket is in another region than storage.region, or behind another endpoint".to_owned()
        }
        (_, _, 300..=399, _) => "it sends elsewhere, where nobody follows; is storage.s3.endpoint right?".to_owned(),
        (_, _, _, "RequestTimeTooSkewed") => "the clock of this machine is wrong".to_owned(),
        _ => String::new(),
    }
}

/// Why a connection is not trusted, if that is what went wrong.
fn tls_cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        // An I/O error stands for the one that it holds, and gives as its source only what is behind that.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

fn tls_detail(cause: &str) -> String {
    format!(
        "TLS failed: {cause}; the connection is not used (storage.s3.caBundle, or storage.s3.caFile, names further authorities)"
    )
}

/// The text of an element of an S3 error document, if it is a plain word.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    is_plain(text).then_some(text)
}

fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
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

    fn of(action: &'static str, status: u16, region: Option<&str>, body: &str) -> StoreError {
        let status = StatusCode::from_u16(status).expect("the test's status is one");
        StoreError::of_answer(action, "k", status, region, body)
    }

    #[test]
    fn a_directory_whose_file_system_is_full_is_told_in_words() {
        let full = StoreError::of_io("put", "data/x.parquet", &std::io::ErrorKind::StorageFull.into());
        assert_eq!(full.kind, StoreErrorKind::Unreachable);
        assert!(full.detail.ends_with(LAKE_IS_FULL), "{full}");
        let other = StoreError::of_io("put", "data/x.parquet", &std::io::ErrorKind::NotADirectory.into());
        assert!(!other.detail.contains("full"), "{other}");
    }

    #[test]
    fn each_answer_has_its_kind() {
        let kind = |status, code: &str| of("put", status, None, &format!("<Error><Code>{code}</Code></Error>")).kind;
        assert_eq!(kind(403, "AccessDenied"), StoreErrorKind::Denied);
        assert_eq!(kind(400, "ExpiredToken"), StoreErrorKind::Denied);
        assert_eq!(kind(404, "NoSuchBucket"), StoreErrorKind::Missing);
        assert_eq!(kind(503, "SlowDown"), StoreErrorKind::Unreachable);
        assert_eq!(kind(429, "TooManyRequests"), StoreErrorKind::Unreachable);
        assert_eq!(kind(200, "InternalError"), StoreErrorKind::Unreachable);
        assert_eq!(kind(400, "RequestTimeout"), StoreErrorKind::Unreachable);
        assert_eq!(kind(400, "BadDigest"), StoreErrorKind::Unexpected);
        assert_eq!(kind(501, "NotImplemented"), StoreErrorKind::Unexpected);
        assert_eq!(kind(400, "AuthorizationHeaderMalformed"), StoreErrorKind::Denied);
        assert_eq!(of("head", 400, None, "").kind, StoreErrorKind::Denied);
    }

    #[test]
    fn a_wrong_region_is_told_with_the_right_one() {
        let error = of("put", 301, Some("eu-west-3"), "<Error><Code>PermanentRedirect</Code></Error>");
        assert_eq!(error.kind, StoreErrorKind::WrongRegion);
        assert!(error.detail.ends_with("the bucket is in region eu-west-3; set storage.region to it"), "{error}");
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>";
        assert_eq!(of("put", 400, None, body).kind, StoreErrorKind::WrongRegion);
        assert_eq!(of("head", 400, Some("eu-west-3"), "").kind, StoreErrorKind::WrongRegion);
        assert_eq!(of("put", 403, Some("us-east-1"), "").kind, StoreErrorKind::Denied);
    }

    #[test]
    fn a_failure_of_tls_is_found_however_deep_it_is() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let nested = std::io::Error::other(std::io::Error::other(tls));
        assert_eq!(tls_cause(&nested).as_deref(), Some("invalid peer certificate: UnknownIssuer"));
        assert_eq!(tls_cause(&std::io::Error::other("reset")), None);
    }

    #[test]
    fn a_redirect_to_somewhere_is_told_and_is_no_region() {
        let error = of("get", 302, None, "<html>moved</html>");
        assert_eq!(error.kind, StoreErrorKind::Unexpected);
        assert!(error.detail.contains("storage.s3.endpoint"), "{error}");
    }

    #[test]
    fn a_body_that_is_no_error_document_is_not_repeated() {
        let error = of("put", 502, Some("<script>"), "<html>secret</html>");
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("script"), "{error}");
    }
}
