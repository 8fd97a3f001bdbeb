//! How a client reaches a bucket of one of the S3 servers.
//!
//! Owns: the one identity that each of them knows, and making a bucket. Does not own: the servers.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::commands::{command, run_with_input};

/// The identity that the servers know; nobody else can read or write.
pub(crate) const ACCESS_KEY: &str = "lakekey";
pub(crate) const SECRET_KEY: &str = "lakesecret";
pub(crate) const REGION: &str = "us-east-1";

/// How a client reaches a bucket.
#[derive(Debug, Clone)]
pub struct S3Access {
    /// `http://<address>:<port>`.
    pub endpoint: String,
    /// The identity's name.
    pub access_key: String,
    /// The identity's secret.
    pub secret_key: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
}

impl S3Access {
    /// A bucket of a server of ours at this address.
    pub fn at(address: SocketAddr, bucket: &str) -> Self {
        Self {
            endpoint: format!("http://{address}"),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            region: REGION.to_owned(),
            bucket: bucket.to_owned(),
        }
    }

    /// The variables that S3 clients read.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
            ("AWS_REGION", &self.region),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
    }

    /// Makes the bucket, as an administrator would.
    ///
    /// # Errors
    /// When curl is missing or the server refuses.
    pub fn make_bucket(&self) -> Result<()> {
        self.curl("", &["--request".into(), "PUT".into()]).map(drop)
    }

    /// Puts a file over whatever is at a key, as an administrator would.
    ///
    /// # Errors
    /// When curl is missing or the server refuses.
    pub fn put_object(&self, key: &str, file: &Path) -> Result<()> {
        self.curl(&format!("/{key}"), &["--upload-file".into(), file.into()]).map(drop)
    }

    /// The answer to a signed GET of the bucket; `rest` is what follows its name, a path or a query.
    ///
    /// # Errors
    /// When curl is missing, or the server answers with an error.
    pub fn get(&self, rest: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.curl(rest, &[])?).into_owned())
    }

    fn curl(&self, rest: &str, arguments: &[OsString]) -> Result<Vec<u8>> {
        let mut curl = command("curl")?;
        curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "20"]).args(arguments);
        curl.args(["--aws-sigv4", &format!("aws:amz:{}:s3", self.region)]);
        curl.args(["--user", &format!("{}:{}", self.access_key, self.secret_key)]);
        curl.arg(format!("{}/{}{rest}", self.endpoint, self.bucket));
        run_with_input(curl, &[])
    }
}
