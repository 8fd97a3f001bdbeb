//! Where a bucket is: its URL, by path or by host.
//!
//! Owns: the URL of a bucket and of an object in it, and which endpoints are refused.
//! Does not own: what is asked of it.

use lakeingest_crds::sidecar_config::Addressing;

use super::{S3Options, S3SettingsError};

/// Where a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// URL of the server, without the bucket and without a slash at its end.
    server: String,
    /// URL of the bucket, without a slash at its end.
    pub(super) bucket: String,
    /// Whether the bucket is in the host's name.
    pub(super) is_virtual_host: bool,
    /// Whether it is spoken to without TLS.
    pub(super) is_insecure: bool,
}

impl Endpoint {
    /// The bucket of `options`, at `endpoint` or else at AWS.
    pub(super) fn of(options: &S3Options, endpoint: Option<&str>, region: &str) -> Result<Self, S3SettingsError> {
        let bucket = &options.bucket;
        let server = match endpoint {
            Some(endpoint) => {
                check(endpoint, options.allow_insecure)?;
                endpoint.trim_end_matches('/').to_owned()
            }
            None => aws(region),
        };
        // A certificate for *.s3.… does not cover a bucket with a dot in its name.
        let default = match endpoint.is_none() && !bucket.contains('.') {
            true => Addressing::VirtualHost,
            false => Addressing::Path,
        };
        let is_virtual_host = options.addressing.unwrap_or(default) == Addressing::VirtualHost;
        let url = match (is_virtual_host, server.split_once("://")) {
            (true, Some((scheme, authority))) => {
                if is_address(authority) {
                    let reason = "an address has no host names below it; storage.s3.addressing: path fits it";
                    return Err(S3SettingsError::Endpoint { endpoint: server, reason });
                }
                format!("{scheme}://{bucket}.{authority}")
            }
            _ => format!("{server}/{bucket}"),
        };
        let is_insecure = server.starts_with("http://");
        Ok(Self { server, bucket: url, is_virtual_host, is_insecure })
    }

    /// The endpoint as the library wants it: with the bucket where it is in the host's name.
    pub(super) fn of_library(&self) -> &str {
        if self.is_virtual_host { &self.bucket } else { &self.server }
    }

    /// URL of an object.
    pub(super) fn object(&self, key: &str) -> String {
        format!("{}/{}", self.bucket, percent_encoded(key))
    }
}

/// Source: <https://docs.aws.amazon.com/general/latest/gr/s3.html>.
fn aws(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{domain}")
}

fn is_address(authority: &str) -> bool {
    let host = authority.parse::<http::uri::Authority>();
    host.is_ok_and(|authority| {
        let host = authority.host();
        host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
    })
}

fn check(endpoint: &str, allow_insecure: bool) -> Result<(), S3SettingsError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket_at(bucket: &str, endpoint: Option<&str>, addressing: Option<Addressing>, region: &str) -> String {
        let options = S3Options { bucket: bucket.to_owned(), addressing, allow_insecure: true, ..S3Options::default() };
        Endpoint::of(&options, endpoint, region).expect("the endpoint can be used").bucket
    }

    #[test]
    fn a_bucket_is_in_the_path_of_an_endpoint_and_in_the_host_of_aws_unless_told() {
        let (path, host) = (Some(Addressing::Path), Some(Addressing::VirtualHost));
        let minio = Some("http://minio.storage:9000/");
        assert_eq!(bucket_at("lake", minio, None, "us-east-1"), "http://minio.storage:9000/lake");
        assert_eq!(bucket_at("lake", minio, host, "us-east-1"), "http://lake.minio.storage:9000");
        assert_eq!(bucket_at("lake", None, None, "eu-west-3"), "https://lake.s3.eu-west-3.amazonaws.com");
        assert_eq!(bucket_at("lake", None, path, "eu-west-3"), "https://s3.eu-west-3.amazonaws.com/lake");
        assert_eq!(bucket_at("my.lake", None, None, "eu-west-3"), "https://s3.eu-west-3.amazonaws.com/my.lake");
        assert_eq!(bucket_at("lake", None, None, "cn-north-1"), "https://lake.s3.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn an_address_has_no_virtual_hosts() {
        for address in ["http://127.0.0.1:9000", "http://[::1]:9000"] {
            let options = S3Options {
                bucket: "lake".to_owned(),
                addressing: Some(Addressing::VirtualHost),
                allow_insecure: true,
                ..S3Options::default()
            };
            let error = Endpoint::of(&options, Some(address), "us-east-1").expect_err("it cannot work");
            assert!(error.to_string().contains("storage.s3.addressing: path"), "{error}");
        }
    }

    #[test]
    fn a_key_is_encoded_as_its_signature_expects() {
        assert_eq!(percent_encoded("data/t/year=2025/a b.parquet"), "data/t/year%3D2025/a%20b.parquet");
    }

    #[test]
    fn an_insecure_endpoint_needs_leave() {
        assert!(check("http://127.0.0.1:9000", false).is_err());
        assert!(check("http://127.0.0.1:9000", true).is_ok());
        assert!(check("https://key:secret@host", true).is_err());
        assert!(check("host:9000", true).is_err());
        for wrong in ["https://h:99999", "https://:9000", "https://h:", "https://h:0", "https://"] {
            assert!(check(wrong, true).is_err(), "{wrong}");
        }
        assert!(check("https://[::1]:9000", true).is_ok());
    }
}
