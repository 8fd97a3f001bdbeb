//! What the sidecar is told: its command line, its configuration file, its environment.
//!
//! Owns: how they are put together and refused. Does not own: the file's fields (`lakeingest_crds`).

use std::path::{Path, PathBuf};

use clap::Args;
use lakeingest_crds::SidecarConfig;
use lakeingest_crds::sidecar_config::{bucket_rule, is_bucket};

use crate::lake::owner::Owner;
use crate::publish::key::Prefix;
use crate::publish::s3::S3Options;

/// `lakeingest-sidecar serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArguments {
    /// Where the lake is: a directory that exists, or s3://BUCKET
    #[arg(long, value_name = "DIRECTORY | s3://BUCKET")]
    pub lake: String,

    /// Where accepted records are kept until they are in the lake; made if it is missing
    #[arg(long, value_name = "DIRECTORY")]
    pub journal: PathBuf,

    /// Where files are encoded; made if it is missing [default: the folder "scratch" in the journal's directory]
    #[arg(long, value_name = "DIRECTORY")]
    pub scratch: Option<PathBuf>,

    /// The folder of the lake under which tables lie [default: data]
    #[arg(long)]
    pub prefix: Option<String>,

    /// Who writes to the prefix; instances that share a lake have the same owner
    #[arg(long, default_value = "local")]
    pub owner: String,

    /// Port for the application, on loopback alone; 0 takes a free one
    #[arg(long, default_value_t = 8001)]
    pub port: u16,

    /// Port for probes and metrics, on loopback alone; 0 takes a free one
    #[arg(long, default_value_t = 8002)]
    pub health_port: u16,

    /// A configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where the lake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LakeLocation {
    /// A directory stands for the bucket.
    Directory(PathBuf),
    /// A bucket.
    Bucket(S3Options),
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
    /// The application's port.
    pub port: u16,
    /// The port of probes and metrics.
    pub health_port: u16,
    /// The configuration file's content.
    pub config: SidecarConfig,
    /// Fields of the file that this version does not know.
    pub unknown_fields: Vec<String>,
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
    /// Puts the command line and the file together; the command line wins.
    ///
    /// # Errors
    /// See [`ConfigError`]; every violation is listed.
    pub fn load(arguments: &ServeArguments) -> Result<Self, ConfigError> {
        let (config, unknown_fields) = match &arguments.config {
            Some(path) => read(path)?,
            None => (SidecarConfig::default(), Vec::new()),
        };
        let mut violations: Vec<String> = config.violations().iter().map(ToString::to_string).collect();
        let prefix_text = arguments.prefix.as_deref().unwrap_or(&config.storage.prefix);
        let prefix = Prefix::new(prefix_text);
        if prefix.is_none() && arguments.prefix.is_some() {
            violations.push(format!("--prefix: \"{prefix_text}\" is not a prefix such as data or team-a/lake"));
        }
        let lake = location(&arguments.lake, &config);
        if let Err(violation) = &lake {
            violations.push(violation.clone());
        }
        if arguments.owner.is_empty() || arguments.owner.len() > 253 {
            violations.push("--owner: must have 1 to 253 characters".to_owned());
        }
        match (lake, prefix) {
            (Ok(lake), Some(prefix)) if violations.is_empty() => Ok(Self {
                lake,
                prefix,
                owner: Owner { cluster_id: None, namespace: None, name: arguments.owner.clone() },
                journal: arguments.journal.clone(),
                scratch: arguments.scratch.clone().unwrap_or_else(|| arguments.journal.join("scratch")),
                port: arguments.port,
                health_port: arguments.health_port,
                config,
                unknown_fields,
            }),
            _ => Err(ConfigError::Illegal(violations)),
        }
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

fn location(lake: &str, config: &SidecarConfig) -> Result<LakeLocation, String> {
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
    let storage = &config.storage;
    // An endpoint of the environment is the user's own word for this process alone; a file is read by many.
    let from_environment = storage.s3.endpoint.is_none();
    Ok(LakeLocation::Bucket(S3Options {
        bucket: bucket.to_owned(),
        region: storage.region.clone(),
        endpoint: storage.s3.endpoint.clone(),
        allow_insecure: storage.s3.allow_insecure || from_environment,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(lake: &str, config: Option<PathBuf>) -> ServeArguments {
        ServeArguments {
            lake: lake.to_owned(),
            journal: PathBuf::from("/nowhere/journal"),
            scratch: None,
            prefix: None,
            owner: "local".to_owned(),
            port: 0,
            health_port: 0,
            config,
        }
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        std::fs::write(file.path(), content).expect("the temporary file can be written");
        file
    }

    #[test]
    fn only_the_lake_and_the_journal_are_needed() {
        let settings = Settings::load(&arguments("s3://lake-data", None)).expect("the rest has defaults");
        assert_eq!(settings.prefix.as_str(), "data");
        assert_eq!(settings.scratch, Path::new("/nowhere/journal/scratch"));
        assert!(matches!(settings.lake, LakeLocation::Bucket(options) if options.bucket == "lake-data"));
    }

    #[test]
    fn what_cannot_be_a_lake_is_refused_in_words() {
        for (lake, words) in [
            ("/no/such/directory", "make it first"),
            ("s3://Bad_Bucket", "3 to 63 lower-case"),
            ("s3://bucket/folder", "--prefix"),
            ("gs://bucket", "neither a directory nor s3://"),
        ] {
            let error = Settings::load(&arguments(lake, None)).expect_err("it is no lake").to_string();
            assert!(error.contains(words), "{lake}: {error}");
        }
    }

    #[test]
    fn unknown_fields_are_kept_by_name_and_every_violation_is_listed() {
        let known = file("flush: {maxRows: 10, maxWishes: 3}\nextra: 1\n");
        let settings =
            Settings::load(&arguments("s3://lake-data", Some(known.path().to_owned()))).expect("it is legal");
        assert_eq!(settings.unknown_fields, ["flush.maxWishes", "extra"]);
        assert_eq!(settings.config.flush.max_rows, 10);
        let illegal = file("flush: {maxRows: 0, maxAge: 1ms}\n");
        let error =
            Settings::load(&arguments("s3://lake-data", Some(illegal.path().to_owned()))).expect_err("it is not");
        assert!(error.to_string().contains("flush.maxRows") && error.to_string().contains("flush.maxAge"), "{error}");
    }

    #[test]
    fn a_file_with_a_wrong_type_names_the_place() {
        let wrong = file("flush:\n  maxBytes: lots\n");
        let error =
            Settings::load(&arguments("s3://lake-data", Some(wrong.path().to_owned()))).expect_err("it is wrong");
        let words = crate::error_chain(&error);
        assert!(words.contains("flush") && words.contains("line 2") && words.contains("128Mi"), "{words}");
    }
}
