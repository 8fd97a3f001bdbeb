//! A place to run one sidecar in: a temporary folder with its journal, its configuration, its log, and ports that
//! stay its own over every restart.
//!
//! Owns: those folders and ports; they are kept when a test fails.
//! Does not own: the lake, which several sites may share (see `lake`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;
use xtask::ports::PortBlock;
use xtask::servers::{S3Access, Sidecar, SidecarOptions};
use xtask::wait::{self, Look};
use xtask::workspace;

use crate::lake::Lake;

/// What the downward API tells the sidecar of its pod.
pub const POD: [(&str, &str); 4] =
    [("POD_NAME", "shop-1"), ("POD_NAMESPACE", "team-a"), ("POD_UID", "8d4c"), ("NODE_NAME", "node-7")];

/// A place to run one sidecar in.
#[derive(Debug)]
pub struct Site {
    /// How the sidecar is started here.
    pub options: SidecarOptions,
    lake: Lake,
    folder: TempDir,
    _ports: PortBlock,
}

impl Site {
    /// A place with a directory of its own as its lake.
    pub fn local() -> Self {
        let folder = temporary_folder();
        let lake = folder.path().join("lake");
        fs::create_dir(&lake).expect("the lake's folder can be made");
        Self::new(folder, Lake::directory(&lake))
    }

    /// A place whose lake is somewhere else, perhaps shared.
    pub fn on(lake: &Lake) -> Self {
        Self::new(temporary_folder(), lake.clone())
    }

    fn new(folder: TempDir, lake: Lake) -> Self {
        let ports = PortBlock::claim().expect("some ports are free");
        let mut options = SidecarOptions::new(lake.location(), folder.path().join("journal"));
        options.port = Some(ports.port(0));
        options.health_port = Some(ports.port(1));
        options.log = Some(folder.path().join("sidecar.log"));
        options.environment = lake.environment();
        Self { options, lake, folder, _ports: ports }
    }

    /// The same place with this configuration file.
    #[must_use]
    pub fn with_config(mut self, yaml: &str) -> Self {
        let path = self.folder.path().join("config.yaml");
        fs::write(&path, yaml).expect("the configuration can be written");
        self.options.config = Some(path);
        self
    }

    /// The same place in the pod's way: the bucket is named by the configuration, its keys come from files, and nothing of
    /// either is in the environment. The configuration's `storage`, `credentials` and `owner` are written here, the rest
    /// is `yaml`. The keys are not there yet: see [`Self::put_keys`].
    #[must_use]
    pub fn in_pod(mut self, yaml: &str) -> Self {
        let access = self.lake.access().expect("a pod's lake is a bucket").clone();
        let credentials = self.folder.path().join("credentials");
        fs::create_dir(&credentials).expect("the folder of the keys can be made");
        self.options.lake = None;
        self.options.credentials = Some(credentials);
        self.options.scratch = Some(self.folder.path().join("scratch"));
        self.options.environment = POD.map(|(name, value)| (name.to_owned(), value.into())).to_vec();
        let S3Access { endpoint, bucket, region, .. } = access;
        let storage = format!(
            "formatVersion: 1\ngeneration: 4\ncredentials: files\n\
             owner: {{clusterId: c0ffee, namespace: team-a, name: events}}\n\
             storage: {{bucket: {bucket}, region: {region}, s3: {{endpoint: '{endpoint}', allowInsecure: true}}}}\n"
        );
        self.with_config(&(storage + yaml))
    }

    /// Puts keys where the sidecar looks for them, all at once, as the kubelet does with a Secret's files.
    pub fn put_keys(&self, access_key: &str, secret_key: &str) {
        let folder = self.options.credentials.as_ref().expect("the site is in the pod's way");
        let fresh = tempfile::Builder::new().prefix("..").tempdir_in(folder).expect("a folder can be made").keep();
        for (name, text) in [("accessKeyId", access_key), ("secretAccessKey", secret_key)] {
            fs::write(fresh.join(name), text).expect("a key can be written");
            let link = folder.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).expect("a link can be made");
            }
        }
        symlink(fresh.file_name().expect("it has a name"), folder.join("..data_tmp")).expect("a link can be made");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("the link can be replaced");
    }

    /// The same place with the sidecar that can have a known bug (`sidecar/src/seeded.rs`), and with the bug of this name.
    #[must_use]
    pub fn seeded(mut self, bug: Option<&str>) -> Self {
        self.options.binary = workspace::seeded_sidecar_binary();
        self.options.environment.extend(bug.map(|bug| ("LAKEINGEST_SEEDED_BUG".to_owned(), bug.into())));
        self
    }

    /// Starts the sidecar, again after an earlier one has ended, and waits until it is ready.
    pub fn start(&self) -> Sidecar {
        require_binary(&self.options.binary);
        Sidecar::start(self.options.clone()).expect("the sidecar starts")
    }

    /// Starts the sidecar and does not wait.
    pub fn spawn(&self) -> Sidecar {
        require_binary(&self.options.binary);
        Sidecar::spawn(self.options.clone()).expect("the sidecar's process can be made")
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The folder that holds everything of this place.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that is the lake.
    ///
    /// # Panics
    /// When the lake is a bucket.
    pub fn lake_folder(&self) -> PathBuf {
        assert!(!self.lake.location().starts_with("s3://"), "the lake is a bucket");
        PathBuf::from(self.lake.location())
    }

    /// Takes the folder that is the lake away, as a file system that is not mounted would be.
    pub fn take_lake_away(&self) {
        fs::rename(self.lake_folder(), self.folder().join("lake-away")).expect("the lake can be renamed");
    }

    /// Puts back what [`Self::take_lake_away`] took.
    pub fn bring_lake_back(&self) {
        fs::rename(self.folder().join("lake-away"), self.lake_folder()).expect("the lake can be renamed");
    }

    /// Makes the lake, which is a directory that has nothing of it yet, take nothing of this table: a file stands where its
    /// folder would be.
    pub fn deny(&self, table: &str) {
        let tables = self.lake_folder().join("data");
        fs::create_dir_all(&tables).expect("a folder can be made");
        fs::write(tables.join(table), "").expect("a file can be written");
    }

    /// Lets the lake take the table that [`Self::deny`] was told of.
    pub fn allow(&self, table: &str) {
        fs::remove_file(self.lake_folder().join("data").join(table)).expect("it was denied");
    }

    /// Keeps the folder for a look.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
        eprintln!("kept for a look: {}", self.folder.path().display());
    }

    /// All that the sidecar has logged here, over every restart.
    pub fn log(&self) -> String {
        let path = self.options.log.as_ref().expect("a site names its log");
        fs::read_to_string(path).expect("the log can be read")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
    }
}

/// Waits until a sidecar has ended by itself.
pub fn wait_for_end(sidecar: &Sidecar) -> ExitStatus {
    wait::until("the sidecar to end", || {
        let status = sidecar.server().exit_status()?;
        Ok(status.map_or_else(|| Look::NotYet("it runs".to_owned()), Look::Ready))
    })
    .expect("it ends")
}

/// The sidecar's program, for what is not a server.
pub fn sidecar_program() -> Command {
    require_binary(&workspace::sidecar_binary());
    Command::new(workspace::sidecar_binary())
}

/// A folder that is removed when it is dropped.
pub fn temporary_folder() -> TempDir {
    tempfile::Builder::new().prefix("lakeingest-").tempdir().expect("a temporary folder can be made")
}

/// A test that cannot run is a failed test, with the command that helps.
fn require_binary(binary: &Path) {
    assert!(binary.is_file(), "{} is missing; `cargo xtask test` builds it", binary.display());
}
