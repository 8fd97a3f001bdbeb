//! A configuration that changes while the process runs.
//!
//! Owns: when the file is read again, what of it takes effect at once, what is said of the rest. Does not own: how a
//! configuration is read (`config`), what its parts do.
//!
//! The kubelet replaces the file some time after the ConfigMap has changed. What cannot be read or used changes nothing: the
//! process goes on with what it has and says so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakeingest_crds::{LogLevel, SidecarConfig};
use tokio::sync::watch;
use tracing::info;

use crate::config::{ServeArguments, Settings};
use crate::error_chain;
use crate::flush::tracker::FlushPolicy;
use crate::http::state::{AppState, Identity};
use crate::leaving::Grace;
use crate::parts::{grace_of, policy_of, report_unknown_fields, schema_options};
use crate::status::reasons;

/// How often the file is looked at: often enough for whoever waits for it, and far more often than the kubelet renews it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the process was started with, and what it does when the log's level changes.
pub struct Told {
    /// The command line.
    pub arguments: ServeArguments,
    /// Sets the level of the log.
    pub set_log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Told").field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

/// The configuration in effect and what depends on it.
pub(super) struct Reload {
    told: Told,
    file: PathBuf,
    /// What the file held when it was last read.
    text: Option<Vec<u8>>,
    /// Whether it could not be read at the last look.
    is_missed: bool,
    /// What the process was started with: what is fixed is what it was then.
    started: Settings,
    /// What was taken in last.
    taken: Settings,
    state: Arc<AppState>,
    /// When segments are sealed.
    policy: watch::Sender<FlushPolicy>,
    /// What the end may take.
    grace: watch::Sender<Grace>,
}

impl Reload {
    /// None if there is no file that could change.
    pub(super) fn new(
        told: Told,
        settings: &Settings,
        state: Arc<AppState>,
        policy: watch::Sender<FlushPolicy>,
        grace: watch::Sender<Grace>,
    ) -> Option<Self> {
        let file = settings.file.clone()?;
        let (started, taken) = (settings.clone(), settings.clone());
        Some(Self { told, file, text: None, is_missed: false, started, taken, state, policy, grace })
    }

    /// Takes in changes of the file, for ever.
    pub(super) async fn watch(mut self) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Reads the file, and takes in what it says if that is not what it said before.
    async fn look(&mut self) {
        match tokio::fs::read(&self.file).await {
            Ok(text) => {
                self.is_missed = false;
                if self.text.as_ref() != Some(&text) {
                    self.text = Some(text);
                    self.take().await;
                }
            }
            // One that is being replaced is there at the next look.
            Err(_) if !self.is_missed => self.is_missed = true,
            Err(error) => {
                let file = self.file.display();
                let message = format!("the configuration {file} cannot be read; the one of before holds: {error}");
                self.state.status.set(reasons::CONFIGURATION_INVALID, message);
                // What it says when it is back is looked at as a whole, and the reason goes with it.
                self.text = None;
            }
        }
    }

    /// Takes in what the file says now.
    async fn take(&mut self) {
        let arguments = self.told.arguments.clone();
        // The directory of a lake is looked at, and a transform is read: neither on the runtime's threads.
        let read = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
            let settings = Settings::load(&arguments)?;
            let options = schema_options(&settings)?;
            Ok((settings, options))
        });
        let status = &self.state.status;
        let (settings, options) = match read.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                let message = format!(
                    "the configuration {} has changed and cannot be used; the one of before holds: {}",
                    self.file.display(),
                    error_chain(error.as_ref())
                );
                status.set(reasons::CONFIGURATION_INVALID, message);
                // What is wrong may be elsewhere, and pass: it is read again at the next look.
                self.text = None;
                return;
            }
            Err(_) => {
                self.text = None;
                return;
            }
        };
        status.clear(&[reasons::CONFIGURATION_INVALID]);
        if settings.config == self.taken.config && settings.unknown_fields == self.taken.unknown_fields {
            return;
        }
        report_unknown_fields(&settings, status, &self.state.metrics);
        match fixed_parts(&self.started, &settings) {
            parts if parts.is_empty() => status.clear(&[reasons::RESTART_NEEDED]),
            parts => {
                let parts = parts.join(", ");
                let message = format!(
                    "the configuration has changed in {parts}, which takes effect when the process starts again; a pod is made anew for it"
                );
                status.set(reasons::RESTART_NEEDED, message);
            }
        }
        self.state.registry.redeclare(options);
        // The volumes are those that the process was started with.
        let volumes = self.started.config.buffer.clone();
        let on_them =
            Settings { config: SidecarConfig { buffer: volumes, ..settings.config.clone() }, ..settings.clone() };
        self.policy.send_replace(policy_of(&on_them));
        self.grace.send_replace(grace_of(&on_them));
        (self.told.set_log_level)(settings.config.log_level);
        self.state.identity.send_replace(Arc::new(Identity::of(&settings)));
        info!(generation = settings.config.generation, "took in the configuration");
        self.taken = settings;
    }
}

/// The parts that differ and take effect at a start alone.
fn fixed_parts(before: &Settings, after: &Settings) -> Vec<&'static str> {
    let (old, new) = (&before.config, &after.config);
    [
        ("storage or credentials", before.lake != after.lake),
        ("storage.prefix", before.prefix != after.prefix),
        ("owner", before.owner != after.owner),
        ("server", (before.port, before.health_port) != (after.port, after.health_port)),
        ("buffer", old.buffer != new.buffer),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
