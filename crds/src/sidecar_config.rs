//! What the sidecar is configured with.
//!
//! Owns: the fields, their defaults, their ranges and [`SidecarConfig::violations`].
//! Does not own: the file it is read from, the command line that overrides it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::tables::{self, OnUndeclaredTable, TableDeclaration};
use crate::{Quantity, Seconds};

/// The version of the configuration's format that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The folder of a bucket under which tables lie, unless told otherwise.
pub const DEFAULT_PREFIX: &str = "data";

/// The file of authorities in a pod, beside the configuration: the pod's contract, version 1.
pub const CA_FILE_IN_POD: &str = "/etc/lakeingest/config/ca.crt";

/// The configuration of one sidecar.
///
/// Shape: YAML or JSON, field names in camelCase. A field that is absent has its default; a field that is not
/// known is warned about and counted, so that an older sidecar runs with a newer configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarConfig {
    /// The version of the format, 1. Absent means 1; another version is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format_version: Option<u32>,

    /// The generation of the LakeIngest that this was rendered from; shown in `/health`. Absent outside of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,

    /// The LakeIngest that owns the prefix. Absent outside of a cluster, where `--owner` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerReference>,

    /// Where the lake is.
    pub storage: Storage,

    /// Where the keys of the storage come from. Default `environment`.
    pub credentials: CredentialsSource,

    /// When buffered rows go to the lake.
    pub flush: Flush,

    /// How much disk the buffer may take.
    pub buffer: Buffer,

    /// The ports.
    pub server: Server,

    /// How much is logged. Default `info`; the variable `LAKEINGEST_LOG` wins over it.
    pub log_level: LogLevel,

    /// What happens when the process is told to end.
    pub drain: Drain,

    /// How the type of a new column is found.
    pub inference: Inference,

    /// Tables whose columns are known before their first record, at most 32, each with another name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableDeclaration>,

    /// What becomes of a request for a table that is not among `tables`. Default `accept`.
    pub on_undeclared_table: OnUndeclaredTable,
}

/// The LakeIngest that owns a prefix: two are the same when all three fields are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// Uid of the cluster's namespace `kube-system`.
    pub cluster_id: String,

    /// Namespace of the LakeIngest.
    pub namespace: String,

    /// Name of the LakeIngest.
    pub name: String,
}

/// Where the keys of the storage come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialsSource {
    /// From the environment, as the storage's own tools find them: variables, a web identity, the instance's role.
    #[default]
    Environment,
    /// From the files `accessKeyId`, `secretAccessKey` and `sessionToken` (the last one optional) of the credentials'
    /// folder, read again when they change. Files that are not there yet mean that the lake cannot be reached yet.
    Files,
}

/// The ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// Port for the application, on loopback alone. Range 1 to 65535; default 8001.
    pub port: u16,

    /// Port for probes and metrics. Range 1 to 65535, not the other one; default 8002.
    pub health_port: u16,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub enum LogLevel {
    /// What lost data or needs a person.
    Error,
    /// And what was not expected and got over.
    Warn,
    /// And what someone who runs it wants to see: the default.
    #[default]
    Info,
    /// And why it does what it does.
    Debug,
    /// And everything else.
    Trace,
}

/// What happens when the process is told to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub struct Drain {
    /// How long the buffer may take to reach the lake after the application has ended. In a pod it is added to the
    /// pod's own grace period, which the application may use up. Unit: seconds. Range 1 to 3600; default 60.
    #[cfg_attr(feature = "resource", schemars(range(min = 1, max = 3_600)))]
    pub grace_period_seconds: u16,
}

/// How the type of a column is found that a table does not have yet. A column that is there keeps its type for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub struct Inference {
    /// Whether a new column becomes a date where each of its values in its first batch is one (`2026-01-08`), and a
    /// timestamp where each is one as RFC 3339 has it (`2026-01-08T10:05:30.123Z`); without it both are text. A later value
    /// of another form goes to quarantine then. Default true.
    pub timestamps: bool,

    /// Whether a new column becomes a struct where each of its values in its first batch is an object; without it they are
    /// kept as text, as they came, as arrays always are. A struct takes new fields later, as a table takes columns. Objects
    /// whose names are no identifiers, or more than 100, are kept as text anyway: these are data rather than fields. Default
    /// true.
    pub nested: bool,
}

impl Default for Inference {
    fn default() -> Self {
        Self { timestamps: true, nested: true }
    }
}

/// Where the lake is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Storage {
    /// The bucket. Absent outside of a cluster, where `--lake` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,

    /// The folder of the bucket under which tables lie, without slashes at its ends. Default `data`.
    pub prefix: String,

    /// The region that requests are signed for. Absent: `AWS_REGION`, else `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,

    /// Settings of S3 and what speaks its protocol.
    pub s3: S3,

    /// Who has the prefix, as `<namespace>/<name>` of another LakeIngest; nothing is written while this is set. Absent
    /// where nobody else has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_in_use_by: Option<String>,

    /// The former owner from whom the prefix is taken over, as `PrefixInUse` names it. Absent: a prefix that has an owner is
    /// left to it. A take-over holds once: an owner from whom the prefix was taken since does not take it back by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_over_from: Option<String>,
}

/// Settings of S3 and what speaks its protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct S3 {
    /// The URL of the endpoint. Absent: `AWS_ENDPOINT_URL`, else AWS itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// Whether an endpoint with `http:` is spoken to. Default false: the endpoint must be `https:`.
    pub allow_insecure: bool,

    /// Where in a URL the bucket is. Absent: `path` with an endpoint, `virtualHost` on AWS (but for a bucket with a dot in
    /// its name, which AWS's certificates do not cover).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing: Option<Addressing>,

    /// How the server is told to encrypt what it stores. Absent: nothing is said, and the bucket's own settings decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// A file of certificates (PEM), of authorities that are trusted beside the system's. Read again when it changes; while
    /// it is missing the lake cannot be reached. Absent: the system's alone. In a pod it is written by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// Where in a URL the bucket is: `path` or `virtualHost`. Absent: `path` with an endpoint, `virtualHost` on AWS (but for a
/// bucket with a dot in its name, which AWS's certificates do not cover).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub enum Addressing {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`: the endpoint must be a name, and names below it must be known.
    VirtualHost,
}

/// How the server is told to encrypt what it stores. An endpoint that cannot do it refuses, and nothing is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::encryption))]
pub struct Encryption {
    /// With which keys: `AES256` or `aws:kms`.
    pub mode: EncryptionMode,

    /// The key of the key service: its id, its alias or its ARN. With `mode: aws:kms` alone; absent: the account's own key
    /// for S3. 1 to 2048 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::kms_key_id))]
    pub kms_key_id: Option<String>,
}

/// With which keys a server encrypts: `AES256`, keys of its own (SSE-S3), or `aws:kms`, a key of the key service (SSE-KMS),
/// which whoever writes and reads needs a right to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub enum EncryptionMode {
    /// With keys of the server's own (SSE-S3).
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of the key service (SSE-KMS). Whoever writes and reads needs a right to use it.
    #[serde(rename = "aws:kms")]
    Kms,
}

impl EncryptionMode {
    /// The value of the header that asks for it.
    /// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
        }
    }
}

/// The rule of [`is_kms_key_id`] in words.
pub const KMS_KEY_RULE: &str = "must be a key's id, alias or ARN: 1 to 2048 letters, digits and :/_-, without blanks";

/// When a key may be named.
pub const KMS_MODE_RULE: &str = "kmsKeyId needs mode: aws:kms";

/// Whether a text can name a key of the key service.
pub fn is_kms_key_id(id: &str) -> bool {
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'/' | b'_' | b'-');
    (1..=2_048).contains(&id.len()) && id.bytes().all(is_character)
}

/// When buffered rows go to the lake: what comes first decides. `/flush`, the change of the UTC day and the end
/// of the process flush too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub struct Flush {
    /// Rows of one table that are flushed together. Range 1 to 10,000,000; default 500,000.
    #[cfg_attr(feature = "resource", schemars(range(min = 1, max = 10_000_000)))]
    pub max_rows: u64,

    /// Bytes of request bodies of one table that are flushed together, or an eighth of `buffer.scratchSizeLimit` where that
    /// is less. Range 64Ki to 1Gi; default 128Mi.
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::max_bytes))]
    pub max_bytes: Quantity,

    /// Age of a table's oldest buffered row at which it is flushed, by the monotonic clock. Range 1s to 1h; default 60s.
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::max_age))]
    pub max_age: Seconds,
}

/// How much disk the buffer may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "resource", derive(schemars::JsonSchema))]
pub struct Buffer {
    /// Size of the journal's volume. The journal takes at most 80 % of it and then refuses.
    /// Range 32Mi to 1Ti; default 2Gi.
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::journal_size))]
    pub size_limit: Quantity,

    /// Size of the scratch volume, for encoded files that are not yet in the lake and for what encoding spills.
    /// Range 64Mi to 1Ti; default 1Gi.
    #[cfg_attr(feature = "resource", schemars(transform = crate::lakeingest::schema::scratch_size))]
    pub scratch_size_limit: Quantity,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            bucket: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            region: None,
            s3: S3::default(),
            prefix_in_use_by: None,
            take_over_from: None,
        }
    }
}

impl Default for Flush {
    fn default() -> Self {
        Self { max_rows: 500_000, max_bytes: Quantity::from_bytes(128 << 20), max_age: Seconds::from_secs(60) }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { size_limit: Quantity::from_bytes(2 << 30), scratch_size_limit: Quantity::from_bytes(1 << 30) }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self { port: 8001, health_port: 8002 }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace_period_seconds: 60 }
    }
}

/// A value that the configuration may not have: where it is, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, for example `flush.maxRows`; what is in a list by its name, `tables[orders].columns[id]`.
    pub field: Cow<'static, str>,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.field, self.detail)
    }
}

impl SidecarConfig {
    /// Every value that is out of its range. Empty means that the configuration can be used.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut check = |ok: bool, field: &'static str, detail: String| {
            if !ok {
                found.push(Violation { field: field.into(), detail });
            }
        };
        let version = self.format_version.unwrap_or(FORMAT_VERSION);
        check(
            version == FORMAT_VERSION,
            "formatVersion",
            format!("is {version}; this sidecar reads version {FORMAT_VERSION}"),
        );
        if let Some(bucket) = &self.storage.bucket {
            check(is_bucket(bucket), "storage.bucket", bucket_rule());
        }
        check(is_prefix(&self.storage.prefix), "storage.prefix", PREFIX_RULE.to_owned());
        let from = self.storage.take_over_from.as_deref();
        check(from.is_none_or(is_owner), "storage.takeOverFrom", OWNER_RULE.to_owned());
        let encryption = self.storage.s3.encryption.as_ref();
        let key_id = encryption.and_then(|encryption| encryption.kms_key_id.as_deref());
        check(key_id.is_none_or(is_kms_key_id), "storage.s3.encryption.kmsKeyId", KMS_KEY_RULE.to_owned());
        let has_mode = encryption.is_none_or(|encryption| encryption.mode == EncryptionMode::Kms);
        check(key_id.is_none() || has_mode, "storage.s3.encryption", KMS_MODE_RULE.to_owned());
        let ca_file = self.storage.s3.ca_file.as_deref();
        check(ca_file != Some(""), "storage.s3.caFile", "is empty; must be the path of a file".to_owned());
        let Flush { max_rows, max_bytes, max_age } = &self.flush;
        check((1..=10_000_000).contains(max_rows), "flush.maxRows", format!("is {max_rows}; must be 1 to 10000000"));
        check(
            (64 << 10..=1 << 30).contains(&max_bytes.bytes()),
            "flush.maxBytes",
            format!("is {max_bytes}; must be 64Ki to 1Gi"),
        );
        check(
            (1_000..=3_600_000).contains(&max_age.duration().as_millis()),
            "flush.maxAge",
            format!("is {max_age}; must be 1s to 1h"),
        );
        let Buffer { size_limit, scratch_size_limit } = &self.buffer;
        check(
            (32 << 20..=1 << 40).contains(&size_limit.bytes()),
            "buffer.sizeLimit",
            format!("is {size_limit}; must be 32Mi to 1Ti"),
        );
        check(
            (64 << 20..=1 << 40).contains(&scratch_size_limit.bytes()),
            "buffer.scratchSizeLimit",
            format!("is {scratch_size_limit}; must be 64Mi to 1Ti"),
        );
        let Server { port, health_port } = &self.server;
        check(*port > 0, "server.port", "is 0; must be 1 to 65535".to_owned());
        check(*health_port > 0, "server.healthPort", "is 0; must be 1 to 65535".to_owned());
        check(port != health_port, "server.healthPort", format!("is {port}, as server.port; must be another port"));
        let grace = self.drain.grace_period_seconds;
        check((1..=3_600).contains(&grace), "drain.gracePeriodSeconds", format!("is {grace}; must be 1 to 3600"));
        found.extend(tables::violations(&self.tables));
        found
    }
}

/// Whether a text can be a bucket's name.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>, the characters and the length.
pub fn is_bucket(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.bytes().all(inner)
        && edge(name.bytes().next())
        && edge(name.bytes().next_back())
        && !name.contains("..")
}

/// The rule of [`is_bucket`] in words.
pub fn bucket_rule() -> String {
    "must be 3 to 63 lower-case letters, digits, '-' and '.' but not '..', beginning and ending with a letter or digit"
        .to_owned()
}

/// The rule of [`is_owner`] in words.
pub const OWNER_RULE: &str = "must be an owner as PrefixInUse names it: <cluster>/<namespace>/<name>, or a name alone";

/// Whether a text can be an owner: of a cluster, with its namespace and name, or of a process outside of one.
pub fn is_owner(owner: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    owner.len() <= 512 && matches!(owner.split('/').count(), 1 | 3) && owner.split('/').all(is_part)
}

/// The rule of [`is_prefix`] in words.
pub const PREFIX_RULE: &str =
    "must be one or more names of letters, digits, '-', '_' and '.' joined by '/', not beginning with '.' or '_'";

/// Whether a text can be a prefix. A name that begins with `_` or `.` is refused because readers of a lake skip
/// such folders.
pub fn is_prefix(prefix: &str) -> bool {
    let name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(['.', '_'])
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    prefix.len() <= 256 && prefix.split('/').all(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations_of(yaml: &str) -> Vec<Cow<'static, str>> {
        let config: SidecarConfig = serde_yaml::from_str(yaml).expect("the test's YAML is well-formed");
        config.violations().into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn an_empty_configuration_is_the_default_and_has_no_violation() {
        assert_eq!(violations_of("{}"), Vec::<Cow<'static, str>>::new());
    }

    #[test]
    fn every_violation_is_reported_with_its_field() {
        let fields = violations_of(
            "{formatVersion: 2, storage: {bucket: B, prefix: _data, \
             s3: {encryption: {mode: AES256, kmsKeyId: a b}, caFile: ''}}, flush: {maxRows: 0, maxBytes: 2Gi, maxAge: 5ms}, \
             buffer: {sizeLimit: 1Mi, scratchSizeLimit: 1Mi}, server: {port: 0, healthPort: 0}, drain: {gracePeriodSeconds: 0}}",
        );
        assert_eq!(
            fields,
            [
                "formatVersion",
                "storage.bucket",
                "storage.prefix",
                "storage.s3.encryption.kmsKeyId",
                "storage.s3.encryption",
                "storage.s3.caFile",
                "flush.maxRows",
                "flush.maxBytes",
                "flush.maxAge",
                "buffer.sizeLimit",
                "buffer.scratchSizeLimit",
                "server.port",
                "server.healthPort",
                "server.healthPort",
                "drain.gracePeriodSeconds"
            ]
        );
    }

    #[test]
    fn a_prefix_that_leaves_its_folder_is_refused() {
        for prefix in ["", "/data", "data/", "a//b", "../x", "a/../b", ".hidden", "a b"] {
            assert!(!is_prefix(prefix), "{prefix} was accepted");
        }
        assert!(is_prefix("team-a/lake.v1"));
        for owner in ["", "a/b", "a//b", "a/b/c/d", "a b"] {
            assert!(!is_owner(owner), "{owner} was accepted");
        }
        assert!(is_owner("local") && is_owner("4f2c-11/team-a/events"));
    }
}
