//! A bucket.
//!
//! Owns: the signed requests for data files (a PUT that is create-only, streamed from disk and sent with its checksum;
//! a HEAD that asks for the checksum), and the settings of the library that makes every other request.
//! Does not own: retries, which objects.
//!
//! The library's own put keeps the body in memory and answers `AlreadyExists` for 412 and 409 alike, and its head
//! gives no checksum; its credentials and its signatures are used here all the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequestBody;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::journal::{bytes_of_hex, hex};
use crate::limits::{LAKE_OBJECT_BYTES_MAX, LAKE_REQUEST_TIMEOUT, UPLOAD_FLOOR_BYTES_PER_SECOND, UPLOAD_GRACE};
use crate::publish::credentials::FileCredentials;
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::store::{Found, Probe, PutOutcome, Upload};

/// Where a bucket is and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Region that requests are signed for; absent: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// URL of the endpoint; absent: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, else AWS.
    pub endpoint: Option<String>,
    /// Whether the endpoint may be `http:`.
    pub allow_insecure: bool,
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
    small: Arc<AmazonS3>,
    http: reqwest::Client,
    bucket: Arc<str>,
    /// URL of the bucket, without a slash at its end.
    bucket_url: Arc<str>,
    region: Arc<str>,
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

/// How much of a file is read at once. Unit: bytes.
const READ_BYTES: usize = 256 << 10;

impl S3Store {
    /// A client of a bucket. Nothing is asked of the network here.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn new(options: &S3Options) -> Result<Self, S3SettingsError> {
        let client_options = ClientOptions::new()
            .with_timeout(LAKE_REQUEST_TIMEOUT)
            .with_connect_timeout(Duration::from_secs(5))
            .with_allow_http(true);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&options.bucket)
            .with_client_options(client_options)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        if let Some(folder) = &options.credentials {
            builder = builder.with_credentials(Arc::new(FileCredentials::new(folder.clone())));
        }
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let from_environment = || std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL"));
        let endpoint = options.endpoint.clone().or_else(|| from_environment().ok()).filter(|url| !url.is_empty());
        let bucket_url = match &endpoint {
            Some(endpoint) => {
                check_endpoint(endpoint, options.allow_insecure)?;
                builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
                format!("{}/{}", endpoint.trim_end_matches('/'), options.bucket)
            }
            None => {
                builder = builder.with_virtual_hosted_style_request(true);
                format!("https://{}.s3.{region}.amazonaws.com", options.bucket)
            }
        };
        let small = builder.with_region(&region).build().map_err(S3SettingsError::Client)?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(S3SettingsError::Http)?;
        let bucket = options.bucket.as_str().into();
        Ok(Self { small: Arc::new(small), http, bucket, bucket_url: bucket_url.into(), region: region.into() })
    }

    pub(super) fn location(&self) -> String {
        format!("s3://{}/", self.bucket)
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
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        set(http::header::CONTENT_TYPE, "application/vnd.apache.parquet".to_owned());
        set(META_SHA256, planned.sha256.clone());
        set(META_SEGMENT, upload.segment.to_string());
        set(META_PART, planned.part.to_string());
        set(META_ROWS, planned.rows.to_string());
        set(META_ROW_DIGEST, planned.row_digest.clone());
        let timeout = UPLOAD_GRACE + Duration::from_secs(size_bytes / UPLOAD_FLOOR_BYTES_PER_SECOND);
        self.create(key, headers, &sha256, size_bytes, reqwest::Body::wrap_stream(chunks_of(file)), timeout).await
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
        let checksum = bytes_of_hex(sha256).ok_or_else(|| unexpected("put", key, "there is no SHA-256"))?;
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(sha256) {
            headers.insert(META_SHA256, value);
        }
        let timeout = UPLOAD_GRACE + Duration::from_secs(bytes / UPLOAD_FLOOR_BYTES_PER_SECOND);
        let body = reqwest::Body::wrap_stream(chunks_of(file.take(bytes)));
        self.create(key, headers, &checksum, bytes, body, timeout).await
    }

    /// Creates a small object.
    pub(super) async fn put(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.small.put_opts(&key.into(), content.into(), options).await {
            Ok(_) => Ok(PutOutcome::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(PutOutcome::Exists)
            }
            Err(error) => Err(StoreError::of_object_store("put", key, &error)),
        }
    }

    /// What the server says of an object.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Found>, StoreError> {
        let mut headers = HeaderMap::new();
        headers.insert(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"));
        let request = self.signed("head", Method::HEAD, key, headers, None).await?;
        let answer = request.timeout(LAKE_REQUEST_TIMEOUT).send().await;
        let answer = answer.map_err(|error| StoreError::of_transport("head", key, &error))?;
        let (status, headers) = (answer.status(), answer.headers());
        match status {
            StatusCode::OK => {
                let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
                let size_bytes = text(&http::header::CONTENT_LENGTH)
                    .and_then(|length| length.parse().ok())
                    .ok_or_else(|| unexpected("head", key, "the answer has no length"))?;
                let checksum = text(&CHECKSUM).and_then(|checksum| BASE64_STANDARD.decode(checksum).ok());
                let sha256 = checksum.map(|sha256| hex(&sha256)).or_else(|| text(&META_SHA256).map(str::to_owned));
                Ok(Some(Found { size_bytes, sha256 }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(StoreError::of_status("head", key, status, "")),
        }
    }

    /// A small object's content.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let failed = |error: &object_store::Error| StoreError::of_object_store("get", key, error);
        match self.small.get(&key.into()).await {
            Ok(answer) if answer.meta.size > LAKE_OBJECT_BYTES_MAX => {
                Err(unexpected("get", key, "the object is too large to be one of ours"))
            }
            Ok(answer) => answer.bytes().await.map(Some).map_err(|error| failed(&error)),
            Err(error @ object_store::Error::NotFound { .. }) => {
                match crate::error_chain(&error).contains("NoSuchBucket") {
                    true => Err(failed(&error)),
                    false => Ok(None),
                }
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Copies an object to a local file.
    pub(super) async fn fetch(&self, key: &str, local: &Path) -> Result<(), StoreError> {
        let failed = |error: &object_store::Error| StoreError::of_object_store("fetch", key, error);
        let answer = self.small.get(&key.into()).await.map_err(|error| failed(&error))?;
        let mut file = tokio::fs::File::create(local).await.map_err(|error| local_error("fetch", key, &error))?;
        let mut stream = answer.into_stream();
        while let Some(chunk) = stream.try_next().await.map_err(|error| failed(&error))? {
            tokio::io::copy(&mut chunk.as_ref(), &mut file).await.map_err(|error| local_error("fetch", key, &error))?;
        }
        file.sync_all().await.map_err(|error| local_error("fetch", key, &error))
    }

    /// The keys that begin with `prefix`.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let listed = self.small.list(Some(&prefix.trim_end_matches('/').into()));
        let keys = listed.map_ok(|object| object.location.to_string()).try_collect::<Vec<_>>().await;
        keys.map_err(|error| StoreError::of_object_store("list", prefix, &error))
    }

    /// Puts an object twice, and another with a checksum that is not its own. The objects are the same for every
    /// writer and stay, so that nothing has to be deleted.
    pub(super) async fn probe(&self, key: &str) -> Result<Probe, StoreError> {
        let body = Bytes::from_static(b"lakeingest probe");
        let right: [u8; 32] = Sha256::digest(&body).into();
        let wrong: [u8; 32] = Sha256::digest(b"another body").into();
        let put = |key: String, sha256: [u8; 32]| {
            let (body, size_bytes) = (body.clone(), body.len() as u64);
            async move { self.create(&key, HeaderMap::new(), &sha256, size_bytes, body.into(), LAKE_REQUEST_TIMEOUT).await }
        };
        put(format!("{key}/create-only"), right).await?;
        let create_only = put(format!("{key}/create-only"), right).await? == PutOutcome::Exists;
        let checksum = match put(format!("{key}/wrong-checksum"), wrong).await {
            Ok(_) => false,
            Err(error) if error.kind == StoreErrorKind::Unreachable => return Err(error),
            Err(_) => true,
        };
        Ok(Probe { create_only, checksum })
    }

    async fn create(
        &self,
        key: &str,
        mut headers: HeaderMap,
        sha256: &[u8; 32],
        size_bytes: u64,
        body: reqwest::Body,
        timeout: Duration,
    ) -> Result<PutOutcome, StoreError> {
        headers.insert(http::header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        if let Ok(checksum) = HeaderValue::from_str(&BASE64_STANDARD.encode(sha256)) {
            headers.insert(CHECKSUM, checksum);
        }
        let request = self.signed("put", Method::PUT, key, headers, Some(sha256)).await?;
        let request = request.header(http::header::CONTENT_LENGTH, size_bytes).body(body).timeout(timeout);
        let answer = request.send().await.map_err(|error| StoreError::of_transport("put", key, &error))?;
        match answer.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(PutOutcome::Created),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Ok(PutOutcome::Exists),
            status => {
                let text = answer.text().await.unwrap_or_default();
                Err(StoreError::of_status("put", key, status, &text))
            }
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
        let credentials: &AwsCredentialProvider = self.small.credentials();
        let credential =
            credentials.get_credential().await.map_err(|error| StoreError::of_object_store(action, key, &error))?;
        let url = format!("{}/{}", self.bucket_url, percent_encoded(key));
        let mut request = Request::new(HttpRequestBody::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.parse().map_err(|_| unexpected(action, key, "the endpoint's URL cannot be used"))?;
        *request.headers_mut() = headers;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, body_sha256.map(<[u8; 32]>::as_slice))
            .map_err(|error| StoreError::of_object_store(action, key, &error))?;
        Ok(self.http.request(method, url).headers(request.headers().clone()))
    }
}

fn check_endpoint(endpoint: &str, allow_insecure: bool) -> Result<(), S3SettingsError> {
    let refused = |reason| Err(S3SettingsError::Endpoint { endpoint: endpoint.to_owned(), reason });
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return refused("it is not a URL") };
    match (uri.scheme_str(), uri.authority()) {
        (_, Some(authority)) if authority.as_str().contains('@') => refused("it holds credentials"),
        // The library ends the process over these.
        (_, Some(authority)) if authority.host().is_empty() => refused("it has no host"),
        (_, Some(authority)) if has_wrong_port(authority) => refused("its port is not 1 to 65535"),
        (Some("https"), Some(_)) => Ok(()),
        (Some("http"), Some(_)) if allow_insecure => Ok(()),
        (Some("http"), Some(_)) => refused("it is not https; storage.s3.allowInsecure: true allows it"),
        _ => refused("it must begin with https:// or http://"),
    }
}

fn has_wrong_port(authority: &http::uri::Authority) -> bool {
    let rest = &authority.as_str()[authority.host().len()..];
    !rest.is_empty() && authority.port_u16().is_none_or(|port| port == 0)
}

/// A key as a signed URL has it: all but unreserved characters and slashes are encoded.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>, `UriEncode`.
fn percent_encoded(key: &str) -> String {
    use std::fmt::Write;
    key.bytes().fold(String::with_capacity(key.len()), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

fn chunks_of(file: impl AsyncRead + Send + Unpin) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    futures::stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; READ_BYTES];
        let length = file.read(&mut chunk).await?;
        chunk.truncate(length);
        Ok((length > 0).then(|| (Bytes::from(chunk), file)))
    })
}

fn unexpected(action: &'static str, key: &str, detail: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Unexpected, action, key: key.to_owned(), detail: detail.to_owned() }
}

fn local_error(action: &'static str, key: &str, error: &std::io::Error) -> StoreError {
    StoreError { kind: StoreErrorKind::Local, action, key: key.to_owned(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_encoded_as_its_signature_expects() {
        assert_eq!(percent_encoded("data/t/year=2025/a b.parquet"), "data/t/year%3D2025/a%20b.parquet");
    }

    #[test]
    fn an_insecure_endpoint_needs_leave() {
        assert!(check_endpoint("http://127.0.0.1:9000", false).is_err());
        assert!(check_endpoint("http://127.0.0.1:9000", true).is_ok());
        assert!(check_endpoint("https://key:secret@host", true).is_err());
        assert!(check_endpoint("host:9000", true).is_err());
        for wrong in ["https://h:99999", "https://:9000", "https://h:", "https://h:0", "https://"] {
            assert!(check_endpoint(wrong, true).is_err(), "{wrong}");
        }
        assert!(check_endpoint("https://[::1]:9000", true).is_ok());
    }
}
