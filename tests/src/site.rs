//! A place to run one sidecar in: a temporary folder with its journal, its configuration, its log, and ports that
//! stay its own over every restart.
//!
//! Owns: those folders and ports; they are kept when a test fails.
//! Does not own: the lake, which several sites may share (see `lake`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;
use xtask::ports::PortBlock;
use xtask::servers::{Sidecar, SidecarOptions};
use xtask::wait::{self, Look};
use xtask::workspace;

use crate::lake::Lake;

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

    /// Starts the sidecar, again after an earlier one has ended, and waits until it is ready.
    pub fn start(&self) -> Sidecar {
        require_binary();
        Sidecar::start(self.options.clone()).expect("the sidecar starts")
    }

    /// Starts the sidecar and does not wait.
    pub fn spawn(&self) -> Sidecar {
        require_binary();
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

    /// All that the sidecar has logged here, over every restart.
    pub fn log(&self) -> String {
        let path = self.options.log.as_ref().expect("a site names its log");
        fs::read_to_string(path).expect("the log can be read")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("kept for a look: {}", self.folder.path().display());
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
    require_binary();
    Command::new(workspace::sidecar_binary())
}

/// A folder that is removed when it is dropped.
pub fn temporary_folder() -> TempDir {
    tempfile::Builder::new().prefix("lakeingest-").tempdir().expect("a temporary folder can be made")
}

/// A test that cannot run is a failed test, with the command that helps.
fn require_binary() {
    let binary = workspace::sidecar_binary();
    assert!(binary.is_file(), "{} is missing: cargo build --release --package lakeingest-sidecar", binary.display());
}
