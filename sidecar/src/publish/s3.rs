//! A bucket.
//!
//! Owns: the signed requests for objects: a PUT that is create-only and sent with its checksum, a HEAD that asks for the
//! checksum, a GET; and what is done instead at an endpoint that replaces objects.
//! Does not own: retries, which objects, where the endpoint is (`endpoint`), what it is seen to do (`probe`), what a transfer may
//! take (`transfer`).
//!
//! The library's own put keeps the body in memory and answers `AlreadyExists` for 412 and 409 alike, and its head
//! gives no checksum; its credentials, its signatures and its listing are used here all the same.

mod clients;
mod endpoint;
mod probe;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use lakeingest_crds::sidecar_config::{Addressing, Encryption, EncryptionMode};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::HttpRequestBody;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::journal::{bytes_of_hex, hex};
use crate::limits::LAKE_OBJECT_BYTES_MAX;
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::store::{Found, PutOutcome, Upload};
use clients::{ClientSource, Clients, builder_of};
use endpoint::Endpoint;
pub use transfer::S3Limits;
use transfer::{Overdue, Progress, while_it_moves};

/// Where a bucket is and how it is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Region that requests are signed for; absent: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// URL of the endpoint; absent: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, else AWS.
    pub endpoint: Option<String>,
    /// Whether the endpoint may be `http:`.
    pub allow_insecure: bool,
    /// Where in a URL the bucket is; absent: in the path of an endpoint, in the host of AWS.
    pub addressing: Option<Addressing>,
    /// How the server is told to encrypt what it stores; absent: as the bucket's own settings say.
    pub encryption: Option<Encryption>,
    /// A file of certificates, of authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The folder of the keys' files; absent: the environment.
    pub credentials: Option<PathBuf>,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum S3SettingsError {
    /// The endpoint is not a URL, or `http:` without leave.
    #[error("the endpoint {endpoint} cannot be used: {reason}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// Why.
        reason: &'static str,
    },
    /// The file of authorities holds none.
    #[error("the file of authorities {file} holds no certificate; it must have one or more, as PEM")]
    Authorities {
        /// The file.
        file: PathBuf,
    },
    /// The library refuses the settings.
    #[error("failed to set up the S3 client")]
    Client(#[source] object_store::Error),
    /// The HTTP client cannot be made.
    #[error("failed to set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// A lake in a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct S3Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: ClientSource,
    endpoint: Endpoint,
    bucket: String,
    region: String,
    encryption: Option<Encryption>,
    limits: S3Limits,
    /// Whether the endpoint refuses to replace an object: believed until it was seen to replace one.
    is_create_only: AtomicBool,
}

/// SHA-256 of an object's bytes, hex; for stores that keep metadata and no checksum.
const META_SHA256: HeaderName = HeaderName::from_static("x-amz-meta-lakeingest-sha256");
const META_SEGMENT: HeaderName = HeaderName::from_static("x-amz-meta-lakeingest-segment");
const META_PART: HeaderName = HeaderName::from_static("x-amz-meta-lakeingest-part");
const META_ROWS: HeaderName = HeaderName::from_static("x-amz-meta-lakeingest-rows");
const META_ROW_DIGEST: HeaderName = HeaderName::from_static("x-amz-meta-lakeingest-row-digest");
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>.
const ENCRYPTION: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
const ENCRYPTION_KEY: HeaderName = HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id");
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>.
const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// How much of a file is read at once. Unit: bytes.
const READ_BYTES: usize = 256 << 10;

/// How much of an answer without an object is read: an error document has less than a kilobyte. Unit: bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 10;

/// An object on its way to the bucket.
struct Sent {
    headers: HeaderMap,
    sha256: [u8; 32],
    size_bytes: u64,
    body: reqwest::Body,
}

/// A whole answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What it says is wrong.
    fn error(&self, action: &'static str, key: &str) -> StoreError {
        let body = String::from_utf8_lossy(&self.body);
        StoreError::of_answer(action, key, self.status, self.text(&BUCKET_REGION), &body)
    }

    /// Some errors come with a status of success, once the server has begun to answer.
    /// Source: <https://repost.aws/knowledge-center/s3-resolve-200-internalerror>.
    fn is_error_document(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(512)]);
        let text = text.trim_start();
        text.starts_with("<Error>") || (text.starts_with("<?xml") && text.contains("<Error>"))
    }
}

impl S3Store {
    /// A client of a bucket. Nothing is asked of the network here.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn new(options: &S3Options) -> Result<Self, S3SettingsError> {
        Self::with_limits(options, S3Limits::default())
    }

    /// As [`Self::new`], with other bounds.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn with_limits(options: &S3Options, limits: S3Limits) -> Result<Self, S3SettingsError> {
        let region = builder_of(options).get_config_value(&AmazonS3ConfigKey::Region);
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let from_environment = || std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL"));
        let url = options.endpoint.clone().or_else(|| from_environment().ok()).filter(|url| !url.is_empty());
        let endpoint = Endpoint::of(options, url.as_deref(), &region)?;
        let shared = Shared {
            source: ClientSource::new(options, &endpoint, &region, limits)?,
            endpoint,
            bucket: options.bucket.clone(),
            region,
            encryption: options.encryption.clone(),
            limits,
            is_create_only: AtomicBool::new(true),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn location(&self) -> String {
        format!("s3://{}/", self.shared.bucket)
    }

    /// Whether the endpoint refuses to replace an object, as far as [`Self::probe`] has seen.
    pub(super) fn is_create_only(&self) -> bool {
        self.shared.is_create_only.load(Ordering::Acquire)
    }

    /// Creates an object from a file, streamed, with its checksum.
    pub(super) async fn put_file(&self, upload: Upload<'_>) -> Result<PutOutcome, StoreError> {
        let planned = upload.planned;
        let key = &planned.key;
        let local = |error: std::io::Error| local_error("put", key, &error);
        let file = tokio::fs::File::open(upload.local).await.map_err(local)?;
        let size_bytes = file.metadata().await.map_err(local)?.len();
        if size_bytes != planned.size_bytes {
            return Err(local_error("put", key, &std::io::Error::other("the encoded file has changed its length")));
        }
        let sha256 = bytes_of_hex(&planned.sha256).ok_or_else(|| unexpected("put", key, "the plan has no SHA-256"))?;
        // An endpoint that replaces: no other segment has this key, so what is there is an earlier attempt's.
        if !self.is_create_only() && self.head(key).await?.is_some() {
            return Ok(PutOutcome::Exists);
        }
        let mut headers = HeaderMap::new();
        set(&mut headers, http::header::CONTENT_TYPE, "application/vnd.apache.parquet");
        set(&mut headers, META_SEGMENT, &upload.segment.to_string());
        set(&mut headers, META_PART, &planned.part.to_string());
        set(&mut headers, META_ROWS, &planned.rows.to_string());
        set(&mut headers, META_ROW_DIGEST, &planned.row_digest);
        let (progress, moved) = Progress::new();
        let body = reqwest::Body::wrap_stream(chunks_of(file, progress));
        let sent = Sent { headers, sha256, size_bytes, body };
        let put = self.create(key, sent, self.is_create_only());
        match while_it_moves(put, moved, size_bytes, &self.shared.limits).await {
            Ok(outcome) => self.or_found(key, outcome).await,
            Err(overdue) => Err(overdue_error("put", key, overdue)),
        }
    }

    /// The outcome of a put, looked for where there was no answer: it may have been lost, and a server that refuses by the
    /// head alone can close the connection on a body that is still to come, so that its answer is never read, however often
    /// the put is tried.
    async fn or_found(&self, key: &str, outcome: Result<PutOutcome, StoreError>) -> Result<PutOutcome, StoreError> {
        match outcome {
            Err(error) if error.kind == StoreErrorKind::Unreachable => match self.head(key).await {
                Ok(Some(_)) => Ok(PutOutcome::Exists),
                Ok(None) | Err(_) => Err(error),
            },
            outcome => outcome,
        }
    }

    /// Creates an object from the first bytes of a file, streamed, with its checksum.
    pub(super) async fn put_log(
        &self,
        key: &str,
        local: &Path,
        bytes: u64,
        sha256: &str,
    ) -> Result<PutOutcome, StoreError> {
        let file = tokio::fs::File::open(local).await.map_err(|error| local_error("put", key, &error))?;
        let sha256 = bytes_of_hex(sha256).ok_or_else(|| unexpected("put", key, "there is no SHA-256"))?;
        if !self.is_create_only() && self.head(key).await?.is_some() {
            return Ok(PutOutcome::Exists);
        }
        let (progress, moved) = Progress::new();
        let body = reqwest::Body::wrap_stream(chunks_of(file.take(bytes), progress));
        let sent = Sent { headers: HeaderMap::new(), sha256, size_bytes: bytes, body };
        let put = self.create(key, sent, self.is_create_only());
        match while_it_moves(put, moved, bytes, &self.shared.limits).await {
            Ok(outcome) => self.or_found(key, outcome).await,
            Err(overdue) => Err(overdue_error("put", key, overdue)),
        }
    }

    /// Creates a small object that no other writer makes under this key, and looks at it.
    pub(super) async fn put(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        if !self.is_create_only() && self.head(key).await?.is_some() {
            return Ok(PutOutcome::Exists);
        }
        self.put_verified(key, content).await
    }

    /// Creates a small object under a key that other writers may want at the same time.
    pub(super) async fn put_first(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        if self.is_create_only() {
            return self.put_verified(key, content).await;
        }
        // The endpoint replaces. Nobody puts who has not just seen the key free, so after a wait that is longer than any
        // look and put together, whose object is there is settled.
        let limits = &self.shared.limits;
        let attempt = async {
            match self.head(key).await? {
                Some(_) => Ok(PutOutcome::Exists),
                None => self.put_verified(key, content.clone()).await,
            }
        };
        let outcome = tokio::time::timeout(limits.agreement_put, attempt).await;
        let outcome = outcome.map_err(|_| overdue_error("put", key, Overdue::Stalled(limits.agreement_put)))?;
        if outcome? == PutOutcome::Exists {
            return Ok(PutOutcome::Exists);
        }
        tokio::time::sleep(limits.agreement_wait.mul_f64(rand::random_range(1.0..=1.2))).await;
        match self.get(key).await? {
            Some(found) if found == content => Ok(PutOutcome::Created),
            Some(_) => Ok(PutOutcome::Exists),
            None => Err(unverified(key, "the object was there and is gone")),
        }
    }

    async fn put_verified(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        let (sha256, size_bytes) = (<[u8; 32]>::from(Sha256::digest(&content)), content.len() as u64);
        let mut headers = HeaderMap::new();
        set(&mut headers, http::header::CONTENT_TYPE, "application/json");
        let sent = Sent { headers, sha256, size_bytes, body: content.into() };
        let put = self.create(key, sent, self.is_create_only());
        if self.in_time("put", key, put).await? == PutOutcome::Exists {
            return Ok(PutOutcome::Exists);
        }
        match self.head(key).await? {
            None => Err(unverified(key, "the put succeeded and the object is not there")),
            Some(Found { size_bytes: found_bytes, sha256: found })
                if found_bytes == size_bytes && found.as_ref().is_none_or(|found| *found == hex(&sha256)) =>
            {
                Ok(PutOutcome::Created)
            }
            Some(_) => Ok(PutOutcome::Exists),
        }
    }

    /// What the server says of an object.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Found>, StoreError> {
        let mut headers = HeaderMap::new();
        headers.insert(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"));
        let request = self.signed("head", Method::HEAD, key, headers, None).await?;
        let answer = self.in_time("head", key, self.exchange("head", key, request, DOCUMENT_BYTES_MAX)).await?;
        match answer.status {
            StatusCode::OK => {
                let size_bytes = answer
                    .text(&http::header::CONTENT_LENGTH)
                    .and_then(|length| length.parse().ok())
                    .ok_or_else(|| unexpected("head", key, "the answer has no length"))?;
                let checksum = answer.text(&CHECKSUM).and_then(|checksum| BASE64_STANDARD.decode(checksum).ok());
                let sha256 =
                    checksum.map(|sha256| hex(&sha256)).or_else(|| answer.text(&META_SHA256).map(str::to_owned));
                Ok(Some(Found { size_bytes, sha256 }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(answer.error("head", key))),
        }
    }

    /// A small object's content.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let request = self.signed("get", Method::GET, key, HeaderMap::new(), None).await?;
        let answer = self.in_time("get", key, self.exchange("get", key, request, LAKE_OBJECT_BYTES_MAX)).await?;
        let error = || answer.error("get", key);
        match answer.status {
            StatusCode::OK if answer.is_error_document() => Err(self.refused(error())),
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND if error().kind != StoreErrorKind::Missing => Ok(None),
            _ => Err(self.refused(error())),
        }
    }

    /// Copies an object to a local file.
    pub(super) async fn fetch(&self, key: &str, local: &Path) -> Result<(), StoreError> {
        let size_bytes = self.head(key).await?.map_or(0, |found| found.size_bytes);
        self.copy_in_time(key, local, size_bytes).await?;
        // An answer of success can hold an error, and what is looked at must be the object.
        let copied = tokio::fs::metadata(local).await.map_err(|error| local_error("fetch", key, &error))?.len();
        match copied == size_bytes {
            true => Ok(()),
            false => Err(unverified(key, "what came is not as long as the server says that the object is")),
        }
    }

    async fn copy_in_time(&self, key: &str, local: &Path, size_bytes: u64) -> Result<(), StoreError> {
        let (progress, moved) = Progress::new();
        let copy = self.copy(key, local, progress);
        match while_it_moves(copy, moved, size_bytes, &self.shared.limits).await {
            Ok(outcome) => outcome,
            Err(overdue) => Err(overdue_error("fetch", key, overdue)),
        }
    }

    async fn copy(&self, key: &str, local: &Path, progress: Progress) -> Result<(), StoreError> {
        let failed = |error: reqwest::Error| StoreError::of_transport("fetch", key, &error);
        let local_failed = |error: std::io::Error| local_error("fetch", key, &error);
        let request = self.signed("fetch", Method::GET, key, HeaderMap::new(), None).await?;
        let answer = request.send().await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            let answer = whole(answer, DOCUMENT_BYTES_MAX).await.map_err(failed)?;
            return Err(self.refused(answer.error("fetch", key)));
        }
        let mut file = tokio::fs::File::create(local).await.map_err(local_failed)?;
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
            file.write_all(&chunk).await.map_err(local_failed)?;
            progress.moved();
        }
        file.sync_all().await.map_err(local_failed)
    }

    /// Removes an object.
    pub(super) async fn remove_trial(&self, key: &str) -> Result<(), StoreError> {
        let request = self.signed("delete", Method::DELETE, key, HeaderMap::new(), None).await?;
        let answer = self.in_time("delete", key, self.exchange("delete", key, request, DOCUMENT_BYTES_MAX)).await?;
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            // Not by `refused`: that these keys may not delete says nothing against them.
            _ => Err(answer.error("delete", key)),
        }
    }

    /// The keys that begin with `prefix`.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let Clients { library, .. } = self.shared.source.clients()?;
        let listed = library.list(Some(&prefix.trim_end_matches('/').into()));
        let keys = listed.map_ok(|object| object.location.to_string()).try_collect::<Vec<_>>().await;
        keys.map_err(|error| self.refused(StoreError::of_object_store("list", prefix, &error)))
    }

    /// Sends an object. A condition makes the server refuse to replace; what it refuses is `Exists`.
    async fn create(&self, key: &str, sent: Sent, is_conditional: bool) -> Result<PutOutcome, StoreError> {
        let Sent { mut headers, sha256, size_bytes, body } = sent;
        if is_conditional {
            headers.insert(http::header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        set(&mut headers, CHECKSUM, &BASE64_STANDARD.encode(sha256));
        set(&mut headers, META_SHA256, &hex(&sha256));
        if let Some(Encryption { mode, kms_key_id }) = &self.shared.encryption {
            set(&mut headers, ENCRYPTION, mode.header());
            if let (EncryptionMode::Kms, Some(key_id)) = (mode, kms_key_id) {
                set(&mut headers, ENCRYPTION_KEY, key_id);
            }
        }
        let request = self.signed("put", Method::PUT, key, headers, Some(&sha256)).await?;
        let request = request.header(http::header::CONTENT_LENGTH, size_bytes).body(body);
        let answer = self.exchange("put", key, request, DOCUMENT_BYTES_MAX).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED if !answer.is_error_document() => Ok(PutOutcome::Created),
            // Neither says whose object is there, or that there is one: whoever called looks.
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Ok(PutOutcome::Exists),
            _ => Err(self.refused(answer.error("put", key))),
        }
    }

    /// A request with the headers that its signature covers; the body is set by the caller.
    async fn signed(
        &self,
        action: &'static str,
        method: Method,
        key: &str,
        headers: HeaderMap,
        body_sha256: Option<&[u8; 32]>,
    ) -> Result<reqwest::RequestBuilder, StoreError> {
        let Clients { library, http } = self.shared.source.clients()?;
        let failed = |error: &object_store::Error| StoreError::of_object_store(action, key, error);
        let credential = library.credentials().get_credential().await;
        let credential = credential.map_err(|error| StoreError::of_credentials(action, key, &error))?;
        let url = self.shared.endpoint.object(key);
        let mut request = Request::new(HttpRequestBody::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.parse().map_err(|_| unexpected(action, key, "the endpoint's URL cannot be used"))?;
        *request.headers_mut() = headers;
        AwsAuthorizer::new(&credential, "s3", &self.shared.region)
            .try_authorize(&mut request, body_sha256.map(<[u8; 32]>::as_slice))
            .map_err(|error| failed(&error))?;
        Ok(http.request(method, url).headers(request.headers().clone()))
    }

    async fn exchange(
        &self,
        action: &'static str,
        key: &str,
        request: reqwest::RequestBuilder,
        bytes_max: u64,
    ) -> Result<Answer, StoreError> {
        let failed = |error: reqwest::Error| StoreError::of_transport(action, key, &error);
        let answer = whole(request.send().await.map_err(failed)?, bytes_max).await.map_err(failed)?;
        if answer.body.len() as u64 > bytes_max {
            return Err(unexpected(action, key, "the answer is too long to be one of ours"));
        }
        Ok(answer)
    }

    /// Bounds the whole of a request without a large body.
    async fn in_time<T>(
        &self,
        action: &'static str,
        key: &str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let longest = self.shared.limits.request;
        let outcome = tokio::time::timeout(longest, request).await;
        outcome.unwrap_or_else(|_| Err(unreachable_error(action, key, no_answer_within(longest))))
    }

    /// Keys that were refused are not used again: where they are lent for a time, others are asked for.
    fn refused(&self, error: StoreError) -> StoreError {
        if error.kind == StoreErrorKind::Denied {
            self.shared.source.forget_keys();
        }
        error
    }
}

/// Reads an answer, and not much more of it than `bytes_max`.
async fn whole(answer: reqwest::Response, bytes_max: u64) -> Result<Answer, reqwest::Error> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = BytesMut::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk?);
        if body.len() as u64 > bytes_max {
            break;
        }
    }
    Ok(Answer { status, headers, body: body.freeze() })
}

/// Sets a header; a text that cannot be one is left out, and what depends on it is verified later.
fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

fn chunks_of(
    file: impl AsyncRead + Send + Unpin,
    progress: Progress,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    // A chunk is asked for when there is room for it: then the ones before it have moved on.
    futures::stream::try_unfold((file, progress), |(mut file, progress)| async move {
        progress.moved();
        let mut chunk = vec![0; READ_BYTES];
        let length = file.read(&mut chunk).await?;
        chunk.truncate(length);
        Ok((length > 0).then(|| (Bytes::from(chunk), (file, progress))))
    })
}

fn no_answer_within(longest: Duration) -> String {
    format!("there was no whole answer within {} s", longest.as_secs_f32())
}

fn overdue_error(action: &'static str, key: &str, overdue: Overdue) -> StoreError {
    unreachable_error(action, key, format!("it was given up: {overdue}"))
}

fn unreachable_error(action: &'static str, key: &str, detail: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Unreachable, action, key: key.to_owned(), detail }
}

fn unverified(key: &str, detail: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Unverified, action: "verify", key: key.to_owned(), detail: detail.to_owned() }
}

fn unexpected(action: &'static str, key: &str, detail: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Unexpected, action, key: key.to_owned(), detail: detail.to_owned() }
}

fn local_error(action: &'static str, key: &str, error: &std::io::Error) -> StoreError {
    StoreError { kind: StoreErrorKind::Local, action, key: key.to_owned(), detail: error.to_string() }
}

#[cfg(test)]
mod tests;
