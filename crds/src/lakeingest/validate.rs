//! Whether a LakeIngest can be used, in the words of its schema.
//!
//! Owns: [`validate_spec`], pure, which finds every violation; the API server's schema says the same earlier.
//! Does not own: what needs other objects of the cluster. Upholds I7: webhook, controller and command line share it.

use std::borrow::Cow;
use std::fmt;

use crate::sidecar_config::{self, Addressing, SidecarConfig, Violation, bucket_rule, is_bucket};

use super::resources::validate_resources;
use super::{ConfigMapKeyReference, Credentials, LakeIngestSpec, Resources, S3, WorkloadIdentity, is_name, schema};

/// Which images a sidecar may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePolicy {
    /// The image of a LakeIngest that names none.
    pub default_image: String,
    /// Repositories (names without tag and digest) whose images are allowed; the default image is allowed as well.
    pub allowed_repositories: Vec<String>,
}

impl ImagePolicy {
    fn allows(&self, image: &str) -> bool {
        image == self.default_image || self.allowed_repositories.iter().any(|allowed| allowed == repository(image))
    }
}

/// The name of an image without its tag and its digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rsplit_once(':') {
        // A colon before a slash is the registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// A specification that can be used: every value is there and within its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedSpec {
    /// What the sidecars are told; without the owner and the generation, which are not of the specification.
    pub config: SidecarConfig,
    /// The bucket.
    pub bucket: String,
    /// The ConfigMap and the key of the authorities that are mounted into the sidecars, if there are any.
    pub ca_bundle: Option<ConfigMapKeyReference>,
    /// The Secret that is mounted into the sidecars, if there is one.
    pub secret_name: Option<String>,
    /// The identity for which keys are lent, if there is one.
    pub workload_identity: Option<WorkloadIdentity>,
    /// The image of the sidecar.
    pub image: String,
    /// Secrets with which the image is pulled.
    pub image_pull_secrets: Vec<String>,
    /// What the sidecar asks for and may take, without ephemeral storage.
    pub resources: Resources,
    /// As they are stated, over which a pod may lay its own.
    pub stated_resources: Resources,
}

/// Every reason why a specification cannot be used. Never empty. As a text it names the first ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations(pub(super) Vec<Violation>);

impl Violations {
    /// The violations.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }
}

/// Violations that a text names. Derivation: a specification has thousands of columns, each of which may be wrong; who has
/// mended these sees the next ones, and a text of so many fits a condition and an answer of the webhook.
pub(super) const VIOLATIONS_NAMED_MAX: usize = 20;

impl fmt::Display for Violations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self.0.iter().take(VIOLATIONS_NAMED_MAX).map(ToString::to_string).collect();
        formatter.write_str(&named.join("; "))?;
        match self.0.len().saturating_sub(VIOLATIONS_NAMED_MAX) {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}

impl std::error::Error for Violations {}

/// Checks a LakeIngest's name and specification and fills in what the specification leaves out.
///
/// # Errors
/// Every violation, each with the path of its field.
pub fn validate_spec(name: &str, spec: &LakeIngestSpec, images: &ImagePolicy) -> Result<ValidatedSpec, Violations> {
    let mut found = Vec::new();
    let mut check = |ok: bool, field: &'static str, detail: String| {
        if !ok {
            found.push(Violation { field: field.into(), detail });
        }
    };
    check(is_name(name), "metadata.name", schema::NAME_RULE.to_owned());
    check(is_bucket(&spec.storage.bucket), "spec.storage.bucket", bucket_rule());
    let endpoint = spec.storage.s3.endpoint.as_deref().unwrap_or("https://absent");
    check(is_endpoint(endpoint), "spec.storage.s3.endpoint", schema::ENDPOINT_RULE.to_owned());
    let is_secure = endpoint.starts_with("https://") || spec.storage.s3.allow_insecure;
    check(is_secure, "spec.storage.s3", schema::INSECURE_RULE.to_owned());
    check_s3(&spec.storage.s3, &mut check);
    let has_room = spec.flush.max_bytes.bytes().saturating_mul(2) <= spec.buffer.size_limit.bytes();
    check(has_room, "spec.buffer.sizeLimit", schema::ROOM_RULE.to_owned());
    check(spec.storage.region.as_deref().is_none_or(is_region), "spec.storage.region", schema::REGION_RULE.to_owned());
    if let Some(credentials) = &spec.storage.credentials {
        check_credentials(credentials, &mut check);
    }
    let pull_secrets = &spec.sidecar.image_pull_secrets;
    let field = "spec.sidecar.imagePullSecrets";
    check(pull_secrets.iter().all(|secret| is_object_name(&secret.name)), field, schema::OBJECT_NAME_RULE.to_owned());
    check(pull_secrets.len() <= schema::PULL_SECRETS_MAX, field, format!("are more than {}", schema::PULL_SECRETS_MAX));
    for (port, field) in
        [(spec.sidecar.port, "spec.sidecar.port"), (spec.sidecar.health_port, "spec.sidecar.healthPort")]
    {
        check(port >= 1_024, field, schema::PORT_RULE.to_owned());
    }
    let image = spec.sidecar.image.as_deref().unwrap_or(&images.default_image);
    check(
        images.allows(image),
        "spec.sidecar.image",
        format!("is not of a repository that the operator allows: {}", images.allowed_repositories.join(", ")),
    );
    check(is_image(image), "spec.sidecar.image", schema::IMAGE_RULE.to_owned());
    let config = config(spec);
    // Those of the bucket are above, where the bucket is not optional.
    let of_config = config.violations().into_iter().filter(|violation| violation.field != "storage.bucket");
    found.extend(of_config.map(|violation| Violation { field: in_spec(violation.field), ..violation }));
    let resources = validate_resources("spec.sidecar.resources", &spec.sidecar.resources);
    let resources = resources.unwrap_or_else(|violations| {
        found.extend(violations.0);
        Resources::default()
    });
    if found.is_empty() {
        Ok(ValidatedSpec {
            config,
            bucket: spec.storage.bucket.clone(),
            ca_bundle: ca_bundle(spec).cloned(),
            secret_name: secret_name(spec),
            workload_identity: spec.storage.credentials.as_ref().and_then(|from| from.workload_identity.clone()),
            image: image.to_owned(),
            image_pull_secrets: spec.sidecar.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
            resources,
            stated_resources: spec.sidecar.resources.clone(),
        })
    } else {
        Err(Violations(found))
    }
}

fn check_credentials(credentials: &Credentials, check: &mut impl FnMut(bool, &'static str, String)) {
    let Credentials { secret_ref, workload_identity } = credentials;
    let is_one = secret_ref.is_some() != workload_identity.is_some();
    check(is_one, "spec.storage.credentials", schema::CREDENTIALS_RULE.to_owned());
    let secret = secret_ref.as_ref().map(|secret| secret.name.as_str());
    let field = "spec.storage.credentials.secretRef.name";
    check(secret.is_none_or(is_object_name), field, schema::OBJECT_NAME_RULE.to_owned());
    let Some(WorkloadIdentity { service_account_name, audience, aws }) = workload_identity else { return };
    let field = "spec.storage.credentials.workloadIdentity.serviceAccountName";
    let is_account = service_account_name.as_deref().is_none_or(is_object_name);
    check(is_account, field, schema::OBJECT_NAME_RULE.to_owned());
    let is_text = |text: &str, length_max: usize| {
        (1..=length_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let field = "spec.storage.credentials.workloadIdentity.audience";
    check(is_text(audience, 253), field, schema::AUDIENCE_RULE.to_owned());
    let field = "spec.storage.credentials.workloadIdentity.aws.roleArn";
    let is_arn = is_text(&aws.role_arn, 2_048) && aws.role_arn.starts_with("arn:") && aws.role_arn.len() > 4;
    check(is_arn, field, schema::ROLE_RULE.to_owned());
}

fn secret_name(spec: &LakeIngestSpec) -> Option<String> {
    Some(spec.storage.credentials.as_ref()?.secret_ref.as_ref()?.name.clone())
}

fn check_s3(s3: &S3, check: &mut impl FnMut(bool, &'static str, String)) {
    let has_names = s3.endpoint.as_deref().is_none_or(|endpoint| !is_address(endpoint));
    let is_virtual_host = s3.addressing == Some(Addressing::VirtualHost);
    check(has_names || !is_virtual_host, "spec.storage.s3", schema::VIRTUAL_HOST_RULE.to_owned());
    if let Some(bundle) = &s3.ca_bundle {
        let ConfigMapKeyReference { name, key } = &bundle.config_map_key_ref;
        let field = "spec.storage.s3.caBundle.configMapKeyRef.name";
        check(is_object_name(name), field, schema::OBJECT_NAME_RULE.to_owned());
        let field = "spec.storage.s3.caBundle.configMapKeyRef.key";
        check(is_config_map_key(key), field, schema::CONFIG_MAP_KEY_RULE.to_owned());
    }
}

/// Whether an endpoint is named by its address: digits and dots alone, or in brackets.
fn is_address(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    rest.starts_with('[') || (!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// Source: <https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-object>.
fn is_config_map_key(key: &str) -> bool {
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=253).contains(&key.len()) && key.bytes().all(is_character) && !matches!(key, "." | "..")
}

fn ca_bundle(spec: &LakeIngestSpec) -> Option<&ConfigMapKeyReference> {
    spec.storage.s3.ca_bundle.as_ref().map(|bundle| &bundle.config_map_key_ref)
}

/// What the sidecars are told.
fn config(spec: &LakeIngestSpec) -> SidecarConfig {
    let has_secret = secret_name(spec).is_some();
    SidecarConfig {
        format_version: Some(sidecar_config::FORMAT_VERSION),
        generation: None,
        owner: None,
        storage: sidecar_config::Storage {
            bucket: Some(spec.storage.bucket.clone()),
            prefix: spec.storage.prefix.clone(),
            region: spec.storage.region.clone(),
            s3: s3_config(spec),
            prefix_in_use_by: None,
            take_over_from: spec.storage.take_over_from.clone(),
        },
        credentials: match has_secret {
            true => sidecar_config::CredentialsSource::Files,
            false => sidecar_config::CredentialsSource::Environment,
        },
        flush: spec.flush.clone(),
        buffer: spec.buffer.clone(),
        server: sidecar_config::Server { port: spec.sidecar.port, health_port: spec.sidecar.health_port },
        log_level: spec.sidecar.log_level,
        drain: spec.drain.clone(),
        inference: spec.inference.clone(),
        tables: spec.tables.clone(),
        on_undeclared_table: spec.on_undeclared_table,
    }
}

fn s3_config(spec: &LakeIngestSpec) -> sidecar_config::S3 {
    let S3 { endpoint, allow_insecure, addressing, encryption, ca_bundle } = spec.storage.s3.clone();
    let ca_file = ca_bundle.map(|_| sidecar_config::CA_FILE_IN_POD.to_owned());
    sidecar_config::S3 { endpoint, allow_insecure, addressing, encryption, ca_file }
}

/// The path in the specification of a field of the sidecar's configuration.
fn in_spec(field: Cow<'static, str>) -> Cow<'static, str> {
    let of_spec = match &*field {
        "storage.prefix" => "spec.storage.prefix",
        "storage.takeOverFrom" => "spec.storage.takeOverFrom",
        "storage.s3.encryption" => "spec.storage.s3.encryption",
        "storage.s3.encryption.kmsKeyId" => "spec.storage.s3.encryption.kmsKeyId",
        "flush.maxRows" => "spec.flush.maxRows",
        "flush.maxBytes" => "spec.flush.maxBytes",
        "flush.maxAge" => "spec.flush.maxAge",
        "buffer.sizeLimit" => "spec.buffer.sizeLimit",
        "buffer.scratchSizeLimit" => "spec.buffer.scratchSizeLimit",
        "server.port" => "spec.sidecar.port",
        "server.healthPort" => "spec.sidecar.healthPort",
        "drain.gracePeriodSeconds" => "spec.drain.gracePeriodSeconds",
        table if table.starts_with("tables") => return format!("spec.{table}").into(),
        _ => return field,
    };
    of_spec.into()
}

/// Whether a text is the URL of an endpoint: a scheme, a host, perhaps a port, and nothing that could hold a secret. As
/// narrow as what the sidecar's client takes, which ends the process over a port that is none.
fn is_endpoint(endpoint: &str) -> bool {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let Some(authority) = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)) else { return false };
    let (host, port) = match authority.rsplit_once(']') {
        Some((host, "")) => (host.strip_prefix('['), None),
        Some((host, port)) => (host.strip_prefix('['), Some(port.strip_prefix(':').unwrap_or_default())),
        None => authority.split_once(':').map_or((Some(authority), None), |(host, port)| (Some(host), Some(port))),
    };
    let is_bracketed = authority.starts_with('[');
    let is_host = |host: &str| match is_bracketed {
        true => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
        false => {
            let is_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
            is_edge(host.bytes().next())
                && is_edge(host.bytes().next_back())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        }
    };
    let is_port = |port: &str| !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    endpoint.len() <= 512 && host.is_some_and(is_host) && port.is_none_or(is_port)
}

fn is_region(region: &str) -> bool {
    let is_character = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&region.len()) && region.bytes().all(is_character)
}

/// Whether an image can be pulled by this name, once its repository is allowed: what follows that is a tag, a digest, or both.
/// Source: the grammar of <https://pkg.go.dev/github.com/distribution/reference>.
fn is_image(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    let is_digest =
        |digest: &str| digest.strip_prefix("sha256:").is_some_and(|hash| hash.len() == 64 && hash.bytes().all(is_hex));
    let is_tag = |tag: &str| {
        let is_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.bytes().all(is_character)
    };
    let repository = repository(name);
    let tag = name[repository.len()..].strip_prefix(':');
    !repository.is_empty()
        && !repository.contains(char::is_whitespace)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

/// Whether another object may have this name.
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>.
fn is_object_name(name: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 253
        && name.as_bytes().first().is_some_and(is_edge)
        && name.as_bytes().last().is_some_and(is_edge)
        && name.bytes().all(|byte| is_edge(&byte) || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests;
