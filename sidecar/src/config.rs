//! What the sidecar is told: its command line, its configuration file, its environment.
//!
//! Owns: how they are put together and refused. Does not own: the file's fields (`lakeingest_crds`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use lakeingest_crds::sidecar_config::{CredentialsSource, bucket_rule, is_bucket};
use lakeingest_crds::{Quantity, Seconds, SidecarConfig};
use serde::Serialize;
use utoipa::ToSchema;

use crate::lake::owner::Owner;
use crate::publish::key::Prefix;
use crate::publish::s3::S3Options;

/// Where a pod has the configuration, the credentials and the buffer: the pod's contract, version 1.
pub mod in_pod {
    /// The configuration file.
    pub const CONFIG: &str = "/etc/lakeingest/config/config.yaml";
    /// The folder of the credentials' files.
    pub const CREDENTIALS: &str = "/etc/lakeingest/credentials";
    /// The journal's directory.
    pub const JOURNAL: &str = "/var/lib/lakeingest/journal";
    /// The scratch directory.
    pub const SCRATCH: &str = "/var/lib/lakeingest/scratch";
    /// The file that the kubelet reads when the container has ended.
    /// Source: `terminationMessagePath` of a container, its default.
    pub const TERMINATION_LOG: &str = "/dev/termination-log";
    /// Variable: the pod's whole grace period. Unit: seconds.
    pub const GRACE_VARIABLE: &str = "LAKEINGEST_TERMINATION_GRACE_PERIOD_SECONDS";
    /// Variable: the application's port.
    pub const PORT_VARIABLE: &str = "LAKEINGEST_PORT";
    /// Variable: the port of probes and metrics.
    pub const HEALTH_PORT_VARIABLE: &str = "LAKEINGEST_HEALTH_PORT";
    /// Variable: size of the journal's volume, a quantity.
    pub const JOURNAL_SIZE_VARIABLE: &str = "LAKEINGEST_JOURNAL_SIZE_LIMIT";
    /// Variable: size of the scratch volume, a quantity.
    pub const SCRATCH_SIZE_VARIABLE: &str = "LAKEINGEST_SCRATCH_SIZE_LIMIT";
    /// Variable: where the keys come from, `files` or `environment`.
    pub const CREDENTIALS_VARIABLE: &str = "LAKEINGEST_CREDENTIALS";
}

/// `lakeingest-sidecar serve`.
///
/// With `--lake` everything is on the command line; without it the process is in a pod, where everything is in files.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArguments {
    /// Where the lake is: a directory that exists, or s3://BUCKET [in a pod: storage.bucket of the configuration]
    #[arg(long, value_name = "DIRECTORY | s3://BUCKET")]
    pub lake: Option<String>,

    /// Where accepted records are kept until they are in the lake; made if it is missing
    /// [in a pod: /var/lib/lakeingest/journal]
    #[arg(long, value_name = "DIRECTORY")]
    pub journal: Option<PathBuf>,

    /// Where files are encoded; made if it is missing [default: the folder "scratch" in the journal's directory]
    /// [in a pod: /var/lib/lakeingest/scratch]
    #[arg(long, value_name = "DIRECTORY")]
    pub scratch: Option<PathBuf>,

    /// The folder of the lake under which tables lie [default: data]
    #[arg(long)]
    pub prefix: Option<String>,

    /// Who writes to the prefix; instances that share a lake have the same owner [default: local]
    #[arg(long)]
    pub owner: Option<String>,

    /// Port for the application, on loopback alone; 0 takes a free one [default: 8001]
    #[arg(long)]
    pub port: Option<u16>,

    /// Port for probes and metrics; 0 takes a free one [default: 8002]
    #[arg(long)]
    pub health_port: Option<u16>,

    /// On which addresses probes and metrics are served [default: loopback] [in a pod: all]
    #[arg(long, value_enum)]
    pub health_address: Option<HealthAddress>,

    /// A configuration file (YAML) [in a pod: /etc/lakeingest/config/config.yaml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The folder of the keys' files, for credentials: files [default: /etc/lakeingest/credentials]
    #[arg(long, value_name = "DIRECTORY")]
    pub credentials: Option<PathBuf>,

    /// Deliver a journal whose newest record is more than 30 days old; rows are stored twice if files that it had delivered
    /// were compacted or deleted since
    #[arg(long)]
    pub replay_old_journal: bool,
}

/// Where the lake is, as for `serve`, for what does not serve.
#[derive(Args, Clone, Debug, Default)]
pub struct LakeArguments {
    /// Where the lake is: a directory that exists, or s3://BUCKET [in a pod: storage.bucket of the configuration]
    #[arg(long, value_name = "DIRECTORY | s3://BUCKET")]
    pub lake: Option<String>,

    /// The folder of the lake under which tables lie [default: data]
    #[arg(long)]
    pub prefix: Option<String>,

    /// Who writes to the prefix, as for the sidecars [default: local]
    #[arg(long)]
    pub owner: Option<String>,

    /// A configuration file (YAML) [in a pod: /etc/lakeingest/config/config.yaml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The folder of the keys' files, for credentials: files [default: /etc/lakeingest/credentials]
    #[arg(long, value_name = "DIRECTORY")]
    pub credentials: Option<PathBuf>,

    /// Where files are made meanwhile [default: the folder for temporary files]
    #[arg(long, value_name = "DIRECTORY")]
    pub work: Option<PathBuf>,
}

impl From<LakeArguments> for ServeArguments {
    fn from(arguments: LakeArguments) -> Self {
        let LakeArguments { lake, prefix, owner, config, credentials, work } = arguments;
        let work = work.unwrap_or_else(std::env::temp_dir);
        Self { lake, prefix, owner, config, credentials, journal: Some(work), ..Self::default() }
    }
}

/// `lakeingest-sidecar rescue`.
#[derive(Args, Clone, Debug, Default)]
pub struct RescueArguments {
    #[command(flatten)]
    place: LakeArguments,

    /// Leave a journal for the next rescue when nothing of it was delivered for so long [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub patience: Option<Seconds>,

    /// Deliver journals whose newest record is more than 30 days old too; rows are stored twice if files that they had
    /// delivered were compacted or deleted since
    #[arg(long)]
    replay_old_journal: bool,
}

impl From<RescueArguments> for ServeArguments {
    fn from(arguments: RescueArguments) -> Self {
        let RescueArguments { place, replay_old_journal, patience: _ } = arguments;
        Self { replay_old_journal, ..Self::from(place) }
    }
}

/// `lakeingest-sidecar started` and `drain`: how the process that serves is found.
#[derive(Args, Clone, Debug, Default)]
pub struct ProbeArguments {
    /// The configuration file of the process that serves [default: /etc/lakeingest/config/config.yaml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The port, instead of the configuration's
    #[arg(long)]
    pub port: Option<u16>,
}

impl ProbeArguments {
    /// The ports of the process that serves; the one that was given stands for both.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn ports(&self) -> Result<lakeingest_crds::sidecar_config::Server, ConfigError> {
        if let Some(port) = self.port {
            return Ok(lakeingest_crds::sidecar_config::Server { port, health_port: port });
        }
        let path = self.config.as_deref().unwrap_or(Path::new(in_pod::CONFIG));
        let (mut config, _) = read(path)?;
        Pinned::of_environment().map_err(ConfigError::Illegal)?.apply(&mut config);
        Ok(config.server)
    }
}

/// On which addresses probes and metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HealthAddress {
    /// On loopback alone.
    Loopback,
    /// On every address, for the kubelet and for Prometheus.
    All,
}

/// Where the lake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LakeLocation {
    /// A directory stands for the bucket.
    Directory(PathBuf),
    /// A bucket.
    Bucket(S3Options),
}

/// The pod that the process runs in, by the downward API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
}

impl Pod {
    /// The pod of the environment; none if nothing names it.
    fn of_environment() -> Option<Self> {
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        let pod = Self {
            name: text("POD_NAME"),
            namespace: text("POD_NAMESPACE"),
            uid: text("POD_UID"),
            node: text("NODE_NAME"),
        };
        (!pod.name.is_empty()).then_some(pod)
    }
}

/// What a pod was made with: its volumes, its ports and its mounts stay as they are, also when the configuration changes
/// under it. The variables win over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pinned {
    port: Option<u16>,
    health_port: Option<u16>,
    journal_size: Option<Quantity>,
    scratch_size: Option<Quantity>,
    credentials: Option<CredentialsSource>,
}

impl Pinned {
    fn of_environment() -> Result<Self, Vec<String>> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// Reads the variables; every one that cannot be read is listed.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut violations = Vec::new();
        let pinned = Self {
            port: parsed(&variable, in_pod::PORT_VARIABLE, &mut violations),
            health_port: parsed(&variable, in_pod::HEALTH_PORT_VARIABLE, &mut violations),
            journal_size: parsed(&variable, in_pod::JOURNAL_SIZE_VARIABLE, &mut violations),
            scratch_size: parsed(&variable, in_pod::SCRATCH_SIZE_VARIABLE, &mut violations),
            credentials: match variable(in_pod::CREDENTIALS_VARIABLE).as_deref() {
                None => None,
                Some("files") => Some(CredentialsSource::Files),
                Some("environment") => Some(CredentialsSource::Environment),
                Some(_) => {
                    violations.push(format!("{}: must be files or environment", in_pod::CREDENTIALS_VARIABLE));
                    None
                }
            },
        };
        if violations.is_empty() { Ok(pinned) } else { Err(violations) }
    }

    fn apply(self, config: &mut SidecarConfig) {
        let Self { port, health_port, journal_size, scratch_size, credentials } = self;
        config.server.port = port.unwrap_or(config.server.port);
        config.server.health_port = health_port.unwrap_or(config.server.health_port);
        config.buffer.size_limit = journal_size.unwrap_or(config.buffer.size_limit);
        config.buffer.scratch_size_limit = scratch_size.unwrap_or(config.buffer.scratch_size_limit);
        config.credentials = credentials.unwrap_or(config.credentials);
    }
}

fn parsed<T: std::str::FromStr>(
    variable: impl Fn(&str) -> Option<String>,
    name: &str,
    violations: &mut Vec<String>,
) -> Option<T> {
    let text = variable(name)?;
    match text.trim().parse() {
        Ok(value) => Some(value),
        Err(_) => {
            violations.push(format!("{name}: \"{text}\" cannot be read"));
            None
        }
    }
}

/// Whether the prefix is this sidecar's to write to, as the operator sees it: read again whenever it is asked, since the
/// operator's verdict may change while the process runs.
#[derive(Clone, Debug, Default)]
pub struct Permission {
    config: Option<PathBuf>,
}

impl Permission {
    /// Permission by a configuration file.
    pub fn of(config: &Path) -> Self {
        Self { config: Some(config.to_owned()) }
    }

    /// The LakeIngest that has the prefix, if it is another one.
    pub fn withheld_for(&self) -> Option<String> {
        // A file that cannot be read now says nothing; the one that was read at the start could be.
        let (config, _) = read(self.config.as_deref()?).ok()?;
        config.storage.prefix_in_use_by
    }

    /// The owner from whom the prefix may be taken over.
    pub fn takes_over_from(&self) -> Option<String> {
        let (config, _) = read(self.config.as_deref()?).ok()?;
        config.storage.take_over_from
    }
}

/// Everything that the sidecar is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the lake is.
    pub lake: LakeLocation,
    /// Where in the lake.
    pub prefix: Prefix,
    /// Who writes.
    pub owner: Owner,
    /// The journal's directory.
    pub journal: PathBuf,
    /// The scratch directory.
    pub scratch: PathBuf,
    /// Whether a journal is delivered that is older than `JOURNAL_LIFETIME_MAX`.
    pub replays_old_journal: bool,
    /// The application's port.
    pub port: u16,
    /// The port of probes and metrics.
    pub health_port: u16,
    /// On which addresses they are served.
    pub health_address: HealthAddress,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// The configuration file's content.
    pub config: SidecarConfig,
    /// Fields of the file that this version does not know.
    pub unknown_fields: Vec<String>,
    /// Whether the prefix may be written to.
    pub permission: Permission,
    /// The pod, if this is one.
    pub pod: Option<Pod>,
    /// The pod's whole grace period, if the pod says it.
    pub pod_grace: Option<Duration>,
    /// Where the end is told to the kubelet, if this is a pod.
    pub termination_log: Option<PathBuf>,
}

/// The sidecar cannot be started with what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is neither a command line nor a pod's configuration.
    #[error(
        "there is no --lake and no configuration {path}: give --lake and --journal, or run in a pod that has the configuration there"
    )]
    NeitherWay {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what it should be.
    #[error("failed to parse the configuration {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_yaml::Error,
    },
    /// Values are out of their ranges.
    #[error("the configuration cannot be used: {}", .0.join("; "))]
    Illegal(Vec<String>),
}

impl Settings {
    /// Puts the command line, the file and the environment together; the command line wins.
    ///
    /// # Errors
    /// See [`ConfigError`]; every violation is listed.
    pub fn load(arguments: &ServeArguments) -> Result<Self, ConfigError> {
        let is_in_pod = arguments.lake.is_none();
        let path = arguments.config.clone().or_else(|| is_in_pod.then(|| PathBuf::from(in_pod::CONFIG)));
        let (mut config, unknown_fields) = match &path {
            Some(path) if is_in_pod && arguments.config.is_none() && !path.is_file() => {
                return Err(ConfigError::NeitherWay { path: path.clone() });
            }
            Some(path) => read(path)?,
            None => (SidecarConfig::default(), Vec::new()),
        };
        let mut violations = Vec::new();
        if is_in_pod {
            match Pinned::of_environment() {
                Ok(pinned) => pinned.apply(&mut config),
                Err(unread) => violations.extend(unread),
            }
        }
        violations.extend(config.violations().iter().map(ToString::to_string));
        let prefix_text = arguments.prefix.as_deref().unwrap_or(&config.storage.prefix);
        let prefix = Prefix::new(prefix_text);
        if prefix.is_none() && arguments.prefix.is_some() {
            violations.push(format!("--prefix: \"{prefix_text}\" is not a prefix such as data or team-a/lake"));
        }
        let lake = location(arguments, &config).map_err(|violation| violations.push(violation)).ok();
        let journal = arguments.journal.clone().or_else(|| is_in_pod.then(|| PathBuf::from(in_pod::JOURNAL)));
        if journal.is_none() {
            violations.push("--journal: is missing; it is the directory in which records wait for the lake".to_owned());
        }
        let owner = owner(arguments, &config).map_err(|violation| violations.push(violation)).ok();
        let (Some(lake), Some(prefix), Some(journal), Some(owner), true) =
            (lake, prefix, journal, owner, violations.is_empty())
        else {
            return Err(ConfigError::Illegal(violations));
        };
        let default_scratch = if is_in_pod { PathBuf::from(in_pod::SCRATCH) } else { journal.join("scratch") };
        let default_address = if is_in_pod { HealthAddress::All } else { HealthAddress::Loopback };
        let termination_log = Path::new(in_pod::TERMINATION_LOG);
        Ok(Self {
            lake,
            prefix,
            owner,
            journal,
            scratch: arguments.scratch.clone().unwrap_or(default_scratch),
            replays_old_journal: arguments.replay_old_journal,
            port: arguments.port.unwrap_or(config.server.port),
            health_port: arguments.health_port.unwrap_or(config.server.health_port),
            health_address: arguments.health_address.unwrap_or(default_address),
            config,
            unknown_fields,
            file: path.clone(),
            permission: path.map_or_else(Permission::default, |path| Permission::of(&path)),
            pod: Pod::of_environment(),
            pod_grace: seconds_of(std::env::var(in_pod::GRACE_VARIABLE).ok().as_deref()),
            termination_log: (is_in_pod && termination_log.is_file()).then(|| termination_log.to_owned()),
        })
    }
}

/// A number of seconds; none if the text is not one.
fn seconds_of(text: Option<&str>) -> Option<Duration> {
    text.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs)
}

fn owner(arguments: &ServeArguments, config: &SidecarConfig) -> Result<Owner, String> {
    let of_name = |name: &str| Owner { cluster_id: None, namespace: None, name: name.to_owned() };
    match (&arguments.owner, &config.owner) {
        (Some(name), _) if name.is_empty() || name.len() > 253 => {
            Err("--owner: must have 1 to 253 characters".to_owned())
        }
        (Some(name), _) => Ok(of_name(name)),
        (None, Some(owner)) => Ok(Owner {
            cluster_id: Some(owner.cluster_id.clone()),
            namespace: Some(owner.namespace.clone()),
            name: owner.name.clone(),
        }),
        (None, None) if arguments.lake.is_some() => Ok(of_name("local")),
        (None, None) => Err("owner: is missing; the operator writes it".to_owned()),
    }
}

fn read(path: &Path) -> Result<(SidecarConfig, Vec<String>), ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let mut unknown = Vec::new();
    let document = serde_yaml::Deserializer::from_str(&text);
    let config = serde_ignored::deserialize(document, |field| unknown.push(field.to_string()));
    let config = config.map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
    Ok((config, unknown))
}

fn location(arguments: &ServeArguments, config: &SidecarConfig) -> Result<LakeLocation, String> {
    let Some(lake) = &arguments.lake else {
        let bucket = config.storage.bucket.as_deref().ok_or("storage.bucket: is missing")?;
        return Ok(LakeLocation::Bucket(bucket_of(bucket, arguments, config)));
    };
    let Some(bucket) = lake.strip_prefix("s3://") else {
        if lake.contains("://") {
            return Err(format!("--lake: \"{lake}\" is neither a directory nor s3://BUCKET"));
        }
        let directory = PathBuf::from(lake);
        return match directory.canonicalize() {
            Ok(directory) if directory.is_dir() => Ok(LakeLocation::Directory(directory)),
            Ok(_) => Err(format!("--lake: {lake} is not a directory")),
            Err(error) => Err(format!("--lake: the directory {lake} cannot be used: {error}; make it first")),
        };
    };
    let bucket = bucket.trim_end_matches('/');
    if !is_bucket(bucket) {
        return Err(format!("--lake: the bucket \"{bucket}\" {}; the folder in it is --prefix", bucket_rule()));
    }
    Ok(LakeLocation::Bucket(bucket_of(bucket, arguments, config)))
}

fn bucket_of(bucket: &str, arguments: &ServeArguments, config: &SidecarConfig) -> S3Options {
    let storage = &config.storage;
    // An endpoint of the environment is the user's own word for this process alone; a file is read by many.
    let from_environment = storage.s3.endpoint.is_none();
    let folder = || arguments.credentials.clone().unwrap_or_else(|| PathBuf::from(in_pod::CREDENTIALS));
    S3Options {
        bucket: bucket.to_owned(),
        region: storage.region.clone(),
        endpoint: storage.s3.endpoint.clone(),
        allow_insecure: storage.s3.allow_insecure || from_environment,
        addressing: storage.s3.addressing,
        encryption: storage.s3.encryption.clone(),
        ca_file: storage.s3.ca_file.as_ref().map(PathBuf::from),
        credentials: (config.credentials == CredentialsSource::Files).then(folder),
    }
}

#[cfg(test)]
mod tests;
