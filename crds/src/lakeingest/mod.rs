//! The LakeIngest: what a platform engineer applies, and what is said of it.
//!
//! Owns: the fields, which are the manual, their schema and [`validate_spec`].
//! Does not own: what is made of it (the operator).
//!
//! ```text
//! kubectl apply ──> schema (CEL, in the API server) ──> validate_spec (the same words) ──> ValidatedSpec
//! ```

mod resources;
pub mod schema;
mod status;
mod validate;

pub use resources::validate_resources;
pub use status::{CONDITION_MESSAGE_CHARACTERS_MAX, LakeIngestStatus, PodCounts, Preflight, conditions, reasons};
pub use validate::{ImagePolicy, ValidatedSpec, Violations, validate_spec};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sidecar_config::{Addressing, Buffer, DEFAULT_PREFIX, Drain, Encryption, Flush, Inference, LogLevel};
use crate::tables::{OnUndeclaredTable, TableDeclaration};

/// A lake that the pods of a namespace may write to: a bucket, its credentials, and when buffered rows go there.
///
/// A pod of the same namespace with the annotation `lakeingest.io/inject: <name>` gets a sidecar that is wired from it.
#[expect(clippy::duplicated_attributes, reason = "columns of the same type are no mistake")]
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "lakeingest.io",
    version = "v1alpha1",
    kind = "LakeIngest",
    plural = "lakeingests",
    shortname = "li",
    category = "lakeingest",
    namespaced,
    status = "LakeIngestStatus",
    derive = "PartialEq",
    doc = "A lake that the pods of a namespace may write to: a bucket, its credentials, and when buffered rows go there. \
           A pod of the same namespace with the annotation `lakeingest.io/inject: <name>` gets a sidecar that is wired from it.",
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.storage.bucket", description = "The bucket."),
    printcolumn(
        name = "Prefix",
        type_ = "string",
        json_path = ".spec.storage.prefix",
        description = "The folder of the bucket under which tables lie."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether it can be used."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why it is ready, or why not."
    ),
    printcolumn(
        name = "Pods",
        type_ = "integer",
        json_path = ".status.pods.injected",
        description = "Pods that have its sidecar."
    ),
    printcolumn(
        name = "Pods-Ready",
        type_ = "integer",
        json_path = ".status.pods.ready",
        description = "Those of them whose sidecar has started and takes records."
    ),
    printcolumn(
        name = "Missing",
        type_ = "integer",
        json_path = ".status.pods.missing",
        description = "Pods that ask for it and run without a sidecar."
    ),
    printcolumn(
        name = "Storage",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='StorageReachable')].reason",
        description = "How the sidecars find the lake."
    ),
    printcolumn(
        name = "At-Risk",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='DataAtRisk')].status",
        description = "Whether rows cannot be delivered for a reason of their own."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when it is there."
    ),
    printcolumn(
        name = "Current",
        type_ = "integer",
        json_path = ".status.pods.onCurrentGeneration",
        description = "Pods that go by the specification as it is now.",
        priority = 1
    ),
    printcolumn(
        name = "Outdated",
        type_ = "integer",
        json_path = ".status.pods.outdated",
        description = "Pods that have to be made anew to be as they would be today.",
        priority = 1
    ),
    printcolumn(
        name = "Unreachable",
        type_ = "integer",
        json_path = ".status.pods.unreachable",
        description = "Pods whose sidecar does not answer on its health port.",
        priority = 1
    ),
    printcolumn(
        name = "Credentials",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='CredentialsValid')].reason",
        description = "What becomes of the keys.",
        priority = 1
    ),
    printcolumn(
        name = "Backlog",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Backlogged')].reason",
        description = "Whether rows wait for longer than they may.",
        priority = 1
    ),
    printcolumn(
        name = "Quarantine",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Quarantined')].status",
        description = "Whether records did not fit.",
        priority = 1
    ),
    printcolumn(
        name = "Oldest",
        type_ = "date",
        json_path = ".status.oldestUnflushedTime",
        description = "For how long the oldest row waits.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        description = "The reason in words.",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::spec)]
pub struct LakeIngestSpec {
    /// Where the lake is.
    pub storage: Storage,

    /// When buffered rows go to the lake: what comes first decides.
    #[serde(default)]
    pub flush: Flush,

    /// How much of the node's disk the buffer of one pod may take.
    #[serde(default)]
    pub buffer: Buffer,

    /// The container that is added to the pods.
    #[serde(default)]
    pub sidecar: Sidecar,

    /// What happens when a pod ends.
    #[serde(default)]
    pub drain: Drain,

    /// How the type of a new column is found.
    #[serde(default)]
    pub inference: Inference,

    /// Tables whose columns are known before their first record, at most 32. Others are taken as well, unless `onUndeclaredTable` says
    /// `reject`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::tables)]
    pub tables: Vec<TableDeclaration>,

    /// What becomes of a request for a table that is not declared: `accept` finds its columns in its records, `reject`
    /// refuses it. Default `accept`.
    #[serde(default)]
    pub on_undeclared_table: OnUndeclaredTable,
}

/// Where the lake is. A prefix belongs to one LakeIngest: the first sidecar that reaches the bucket claims it for its
/// LakeIngest, and a stranger's sidecar writes nothing there (`PrefixInUse`).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// The bucket. It must be there; nothing creates it.
    #[schemars(transform = schema::bucket)]
    pub bucket: String,

    /// The folder of the bucket under which tables lie, without slashes at its ends; names joined by `/`, none of which
    /// begins with `_` or `.`, since readers of a lake skip such folders. At most 256 characters.
    #[serde(default = "default_prefix")]
    #[schemars(transform = schema::prefix)]
    pub prefix: String,

    /// The region that requests are signed for. Absent: `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::region)]
    pub region: Option<String>,

    /// The former owner from whom the prefix is taken over, as the condition `Ready` with the reason `PrefixInUse`, or a
    /// sidecar's `/health`, names it: `<cluster>/<namespace>/<name>`. First end the former owner's pods: those that run go on
    /// writing, under names of their own, until they start anew. Absent: a prefix that has an owner is left to it. A
    /// take-over holds once: an owner from whom the prefix was taken since does not take it back by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::owner)]
    pub take_over_from: Option<String>,

    /// Settings of S3 and what speaks its protocol.
    #[serde(default)]
    pub s3: S3,

    /// Where the keys of the storage come from. Absent: from the pod itself, as the storage's own tools find them (a web
    /// identity, the instance's role).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

/// Settings of S3 and what speaks its protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::s3)]
pub struct S3 {
    /// The URL of the endpoint. Absent: AWS itself, or `AWS_ENDPOINT_URL` where the pod has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::endpoint)]
    pub endpoint: Option<String>,

    /// Whether an endpoint with `http:` is spoken to. Default false: the endpoint must be `https:`.
    pub allow_insecure: bool,

    /// Where in a URL the bucket is: `path` or `virtualHost`. Absent: `path` with an endpoint, `virtualHost` on AWS (but for
    /// a bucket with a dot in its name, which AWS's certificates do not cover).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addressing: Option<Addressing>,

    /// How the server is told to encrypt what it stores. Absent: nothing is said, and the bucket's own settings decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// Authorities that are trusted beside those of the sidecar's image. Absent: those of the image alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

/// Where certificates of authorities come from.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// A ConfigMap of the LakeIngest's own namespace, mounted by the kubelet. While it is missing, pods start all the same
    /// and keep what they are given in their journal; a change of it reaches running sidecars without a restart.
    pub config_map_key_ref: ConfigMapKeyReference,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyReference {
    /// Name of the ConfigMap.
    #[schemars(transform = schema::object_name)]
    pub name: String,

    /// Its key, whose value is one or more certificates as PEM.
    #[schemars(transform = schema::config_map_key)]
    pub key: String,
}

/// Where the keys of the storage come from: a Secret, or the pod's own identity.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::credentials)]
pub struct Credentials {
    /// A Secret with the keys `accessKeyId`, `secretAccessKey` and, if there is one, `sessionToken`. Not beside
    /// `workloadIdentity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,

    /// A token of the pod's service account, which is exchanged for keys that are good for an hour or so. Not beside
    /// `secretRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
}

/// A token of the pod's service account, mounted into the sidecar alone and renewed by the kubelet, for which the provider
/// lends keys.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The service account that pods have to run as, since the role takes no other's token. A pod that runs as another is
    /// refused. Absent: any, and the provider decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::object_name)]
    pub service_account_name: Option<String>,

    /// For whom the token is: the provider takes none that is for another. At most 253 characters. Default
    /// `sts.amazonaws.com`.
    #[serde(default = "default_audience")]
    #[schemars(transform = schema::audience)]
    pub audience: String,

    /// The role on AWS, or on what speaks its protocol.
    pub aws: AwsRole,
}

/// A role whose keys are lent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AwsRole {
    /// Its ARN, as `arn:aws:iam::123456789012:role/lake`. At most 2048 characters.
    #[schemars(transform = schema::role_arn)]
    pub role_arn: String,
}

/// A Secret of the LakeIngest's own namespace. The kubelet mounts it; nothing else reads it. While it is missing, pods
/// start all the same and keep what they are given in their journal.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(transform = schema::object_name)]
    pub name: String,
}

/// The container that is added to the pods. A change of image, ports, resources or volumes reaches pods that are created
/// after it; a pod keeps the ports and the sizes of the volumes that it was made with.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::sidecar)]
pub struct Sidecar {
    /// The image, of a repository that the operator allows. Absent: the one that the operator was installed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::image)]
    pub image: Option<String>,

    /// Secrets of the LakeIngest's own namespace with which the image is pulled, as a pod's `imagePullSecrets`; at most 8. They
    /// are added to the pods' own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::image_pull_secrets)]
    pub image_pull_secrets: Vec<PullSecretReference>,

    /// The port at which the application finds the sidecar, on localhost alone. Range 1024 to 65535, since the sidecar has
    /// no privilege; default 8001.
    #[schemars(range(min = 1_024, max = 65_535))]
    pub port: u16,

    /// The port of probes and metrics, which other pods may reach. Range 1024 to 65535, not `port`; default 8002.
    #[schemars(range(min = 1_024, max = 65_535))]
    pub health_port: u16,

    /// What the container asks for and may take; each value that is absent has its own default. The request for
    /// ephemeral storage follows from `buffer`.
    pub resources: Resources,

    /// How much the sidecar logs.
    pub log_level: LogLevel,
}

/// A Secret of the type `kubernetes.io/dockerconfigjson`. While it is missing, the image is pulled without it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretReference {
    /// Name of the Secret.
    #[schemars(transform = schema::object_name)]
    pub name: String,
}

/// What a container asks for and may take.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::resources)]
pub struct Resources {
    /// What the scheduler sets aside. Default: `cpu: 50m`, `memory: 256Mi`, or the limit where that is less.
    pub requests: ComputeResources,

    /// What the container may take at most. Default: `memory: 512Mi`, or the request where that is more, and as much of
    /// the processor as is free. A limit of memory below 256Mi is refused: a sidecar at its busiest would not survive it.
    pub limits: ComputeResources,
}

/// Processor and memory.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ComputeResources {
    /// Processor time, in cores or thousandths of one: `1`, `0.5`, `250m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::cpu)]
    pub cpu: Option<String>,

    /// Memory in bytes: `256Mi`, `1Gi`. The sidecar needs about 300Mi at its busiest; a table of many hundred columns
    /// takes it to 400Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::memory)]
    pub memory: Option<String>,
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            image: None,
            image_pull_secrets: Vec::new(),
            port: 8001,
            health_port: 8002,
            resources: Resources::default(),
            log_level: LogLevel::default(),
        }
    }
}

fn default_audience() -> String {
    "sts.amazonaws.com".to_owned()
}

fn default_prefix() -> String {
    DEFAULT_PREFIX.to_owned()
}

/// The definition as YAML, as it is in `crds/yaml` and in the chart.
///
/// # Errors
/// When it cannot be written as YAML, which would be a fault of the serializer.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    let header = "# Generated from crds/src/lakeingest by `cargo xtask crdgen`. Change it there.\n";
    Ok(format!("{header}{}", serde_yaml::to_string(&schema::definition())?))
}

/// Longest name of a LakeIngest: it becomes a label's value and part of object names. Unit: characters.
pub const NAME_LENGTH_MAX: usize = 40;

/// Whether a LakeIngest may have this name: it is also the value of the annotation, where `true` and `false` mean
/// something else.
pub fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= NAME_LENGTH_MAX
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.bytes().all(inner)
        && !name.ends_with('-')
        && !matches!(name, "true" | "false")
}
