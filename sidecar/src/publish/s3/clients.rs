//! The HTTP clients of a bucket.
//!
//! Owns: how they are made (TLS, redirects, credentials), and making them anew when a file of authorities has changed
//! or the keys that they hold were refused. Does not own: what is asked with them.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector};
use object_store::{ClientConfigKey, ClientOptions, RetryConfig};
use reqwest::redirect::Policy;

use super::endpoint::Endpoint;
use super::{S3Options, S3SettingsError};
use crate::limits::LAKE_CONNECT_TIMEOUT;
use crate::publish::credentials::FileCredentials;
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::s3::transfer::S3Limits;

/// What is needed to speak to a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// Finds credentials and lists.
    pub(super) library: Arc<AmazonS3>,
    /// Sends everything else.
    pub(super) http: reqwest::Client,
}

/// Makes clients, and keeps them for as long as they can be used.
#[derive(Debug)]
pub(super) struct ClientSource {
    options: S3Options,
    endpoint: Endpoint,
    region: String,
    limits: S3Limits,
    made: Mutex<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    /// The authorities that were trusted beside the system's, as the file had them.
    authorities: Vec<u8>,
    clients: Clients,
}

impl ClientSource {
    /// A source for a bucket. Without a file of authorities the settings are tried here.
    pub(super) fn new(
        options: &S3Options,
        endpoint: &Endpoint,
        region: &str,
        limits: S3Limits,
    ) -> Result<Self, S3SettingsError> {
        let (options, endpoint, region) = (options.clone(), endpoint.clone(), region.to_owned());
        let source = Self { options, endpoint, region, limits, made: Mutex::new(None) };
        if source.options.ca_file.is_none() {
            source.keep(Made { authorities: Vec::new(), clients: source.make(&[])? });
        }
        Ok(source)
    }

    /// The clients as they should be now.
    pub(super) fn clients(&self) -> Result<Clients, StoreError> {
        let authorities = self.authorities()?;
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|made| {
            let is_as_it_was = made.authorities == authorities;
            is_as_it_was.then(|| made.clients.clone())
        });
        if let Some(clients) = made {
            return Ok(clients);
        }
        let failed = |error: S3SettingsError| self.unusable(&crate::error_chain(&error));
        let clients = self.make(&authorities).map_err(failed)?;
        self.keep(Made { authorities, clients: clients.clone() });
        Ok(clients)
    }

    /// Keys were refused: those that are kept are not used again, whatever their lifetime was said to be.
    pub(super) fn forget_keys(&self) {
        // Keys in files are read anew for every request.
        if self.options.credentials.is_none() {
            *self.made.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn keep(&self, made: Made) {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    }

    /// The file of authorities, which is short and in memory: reading it takes microseconds, a request milliseconds.
    fn authorities(&self) -> Result<Vec<u8>, StoreError> {
        let Some(file) = &self.options.ca_file else { return Ok(Vec::new()) };
        fs::read(file).map_err(|error| {
            let file = file.display();
            self.unusable(&format!(
                "the file of authorities {file} cannot be read: {error}; put it there (in a pod: make the ConfigMap and \
                 the key that storage.s3.caBundle names; a pod that is older than that setting has to be made again)"
            ))
        })
    }

    fn unusable(&self, detail: &str) -> StoreError {
        let key = String::new();
        StoreError { kind: StoreErrorKind::Unreachable, action: "speak to", key, detail: detail.to_owned() }
    }

    fn make(&self, authorities: &[u8]) -> Result<Clients, S3SettingsError> {
        let authorities = self.certificates(authorities)?;
        let connector = Connector { authorities: authorities.clone(), limits: self.limits };
        let mut builder = builder_of(&self.options)
            .with_bucket_name(&self.options.bucket)
            .with_region(&self.region)
            .with_endpoint(self.endpoint.of_library())
            // The variable AWS_ENDPOINT_URL_S3 would win over the other one.
            .with_config(AmazonS3ConfigKey::S3Endpoint, self.endpoint.of_library())
            .with_virtual_hosted_style_request(self.endpoint.is_virtual_host)
            .with_client_options(ClientOptions::new().with_allow_http(self.endpoint.is_insecure))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(connector);
        if let Some(folder) = &self.options.credentials {
            builder = builder.with_credentials(Arc::new(FileCredentials::new(folder.clone())));
        }
        let library = Arc::new(builder.build().map_err(S3SettingsError::Client)?);
        let http = http_client(&authorities).https_only(!self.endpoint.is_insecure).build();
        Ok(Clients { library, http: http.map_err(S3SettingsError::Http)? })
    }

    fn certificates(&self, authorities: &[u8]) -> Result<Vec<reqwest::Certificate>, S3SettingsError> {
        let Some(file) = &self.options.ca_file else { return Ok(Vec::new()) };
        match reqwest::Certificate::from_pem_bundle(authorities) {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(S3SettingsError::Authorities { file: file.clone() }),
        }
    }
}

/// What the environment says, but for what is said in `options`.
pub(super) fn builder_of(options: &S3Options) -> AmazonS3Builder {
    let builder = AmazonS3Builder::from_env();
    match &options.region {
        Some(region) => builder.with_region(region),
        None => builder,
    }
}

/// A client that trusts these authorities beside the system's and goes where it is sent by nobody: a redirect would take
/// a signed request, or an answer that is believed, somewhere else.
fn http_client(authorities: &[reqwest::Certificate]) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(LAKE_CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .tls_certs_merge(authorities.iter().cloned())
}

/// Gives the library clients like our own, with a bound for the whole of a request.
#[derive(Debug)]
struct Connector {
    authorities: Vec<reqwest::Certificate>,
    limits: S3Limits,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // The library knows where it may speak without TLS: to the endpoint if it is so, and to the machine's own source
        // of keys, but never where a token is exchanged for keys.
        let is_insecure = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let client = http_client(&self.authorities).https_only(!is_insecure).timeout(self.limits.request).build();
        let failed = |error| object_store::Error::Generic { store: "S3", source: Box::new(error) };
        Ok(HttpClient::new(client.map_err(failed)?))
    }
}
