//! The sidecar put together, from its start to its end.
//!
//! Owns: the order in which the parts start and end, the exit code. Does not own: the parts.
//!
//! Start: journal (recovered) → encoder → listeners → first contact with the lake, beside the requests.
//! End, on SIGTERM or SIGINT: no new records → listeners closed, requests answered → everything flushed → exit.

mod disk;
mod end;
mod reload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{Instrument, error, info, info_span, warn};

use crate::clock::SharedClock;
use crate::config::{HealthAddress, Pod, Settings};
use crate::flush::deliver::{DeliveryContext, make_contact};
use crate::flush::worker::{FlushWorker, WorkerEnd};
use crate::http::{application_front, health_front, server};
use crate::journal::Files;
use crate::leaving::{Grace, Leaving};
use crate::limits::CONNECTION_DRAIN_WAIT;
use crate::parts::{Parts, grace_of, policy_of};
use crate::status::Status;
pub(crate) use end::EXIT_UNFLUSHED;
use reload::Reload;
pub use reload::Told;

/// How long the answers of those who still wait when the process ends may take to go out.
const LAST_ANSWERS_WAIT: Duration = Duration::from_secs(1);

/// Runs the sidecar until it is told to end.
///
/// # Errors
/// It could not be started.
pub async fn serve(settings: Settings, told: Told) -> anyhow::Result<ExitCode> {
    if settings.pod.is_some() {
        hide_from_the_pod();
    }
    // Before the journal is read, which may take its time: who is told to end meanwhile still drains.
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let parts = Parts::open(&settings, Files::Own).await?;
    let application = listen("--port", settings.port).await?;
    let health = listen_for_health(&settings).await?;
    if let Some(pod) = &settings.pod {
        let Pod { name, namespace, uid, node } = pod;
        info!(%namespace, %name, %uid, %node, owner = %settings.owner, generation = settings.config.generation, "in a pod");
    }
    info!(
        port = port_of(&application)?,
        health_port = port_of(&health)?,
        journal = parts.state.journal.id(),
        version = env!("CARGO_PKG_VERSION"),
        revision = crate::REVISION,
        target = crate::TARGET,
        "serving"
    );
    let mut running = Running::start(parts, application, health, &settings, told);
    let has_failed = tokio::select! {
        () = signals.next() => false,
        () = running.failure() => true,
    };
    let ending = if has_failed { running.give_up().await } else { running.drain(&mut signals).await };
    Ok(ExitCode::from(ending.code))
}

/// Keeps containers that share the pod's process namespace, and its user, from what this process has mounted and from its
/// memory; with it there are no core dumps, in which bodies and keys would be.
fn hide_from_the_pod() {
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        warn!(error = %error, "failed to hide the process from others of its user");
    }
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The sidecar at work.
struct Running {
    context: Arc<DeliveryContext>,
    /// Where the kubelet reads how the process ended.
    termination_log: Option<PathBuf>,
    status: Arc<Status>,
    clock: SharedClock,
    leaving: Leaving,
    grace: watch::Receiver<Grace>,
    /// Becomes true when no records are taken any more.
    drain: watch::Sender<bool>,
    /// Becomes true when no request is under way any more.
    close: watch::Sender<bool>,
    /// Becomes true when probes need no answer any more.
    finish: watch::Sender<bool>,
    application: JoinHandle<()>,
    health: JoinHandle<()>,
    worker: JoinHandle<WorkerEnd>,
    contact: JoinHandle<()>,
    disk: JoinHandle<()>,
    reload: JoinHandle<()>,
    journal_failed: watch::Receiver<bool>,
}

impl Running {
    fn start(
        parts: Parts,
        application: Vec<TcpListener>,
        health: Vec<TcpListener>,
        settings: &Settings,
        told: Told,
    ) -> Self {
        let Parts { state, context, requests, recovered, .. } = parts;
        let (drain, draining) = watch::channel(false);
        let (close, closed) = watch::channel(false);
        let (finish, finished) = watch::channel(false);
        let (journal, status) = (state.journal.clone(), Arc::clone(&state.status));
        let (clock, leaving) = (Arc::clone(&state.clock), state.leaving.clone());
        let (policy, policies) = watch::channel(policy_of(settings));
        let (grace, graces) = watch::channel(grace_of(settings));
        let reload = Reload::new(told, settings, Arc::clone(&state), policy, grace);
        let front = application_front(state.clone());
        let application =
            server::serve(application, front, draining.clone(), CONNECTION_DRAIN_WAIT, Arc::clone(&clock));
        let health = server::serve(health, health_front(state), finished, CONNECTION_DRAIN_WAIT, Arc::clone(&clock));
        let hurry = (leaving.clone(), graces.clone());
        let worker = FlushWorker::new(Arc::clone(&context), policies, requests, hurry, draining, closed, recovered);
        Self {
            journal_failed: journal.failed(),
            context: Arc::clone(&context),
            termination_log: settings.termination_log.clone(),
            status,
            clock,
            leaving,
            grace: graces,
            drain,
            close,
            finish,
            application: tokio::spawn(application.instrument(info_span!("application"))),
            health: tokio::spawn(health.instrument(info_span!("health"))),
            worker: tokio::spawn(worker.run()),
            reload: tokio::spawn(async move {
                if let Some(reload) = reload {
                    reload.watch().await;
                }
            }),
            disk: tokio::spawn({
                let context = Arc::clone(&context);
                async move { disk::watch(&context).await }
            }),
            contact: tokio::spawn(async move { make_contact(&context).await }),
        }
    }

    /// Comes back when a part without which nothing works has ended by itself.
    async fn failure(&mut self) {
        let part = tokio::select! {
            _ = self.journal_failed.wait_for(|failed| *failed) => "journal",
            _ = &mut self.worker => "flush worker",
            // Its ordinary end is that the contact was made.
            Err(_) = &mut self.contact => "first contact",
            _ = &mut self.application => "application's port",
            _ = &mut self.health => "health port",
            _ = &mut self.disk => "journal's directory",
        };
        error!(part, "ending because a part failed");
    }
}

async fn listen(option: &str, port: u16) -> anyhow::Result<Vec<TcpListener>> {
    let listeners = server::listen_on_loopback(port).await;
    listeners.map_err(|error| anyhow::anyhow!("failed to listen on port {port}: {error}; choose another with {option}"))
}

async fn listen_for_health(settings: &Settings) -> anyhow::Result<Vec<TcpListener>> {
    let port = settings.health_port;
    match settings.health_address {
        HealthAddress::Loopback => listen("--health-port", port).await,
        HealthAddress::All => server::listen_everywhere(port).await.map_err(|error| {
            anyhow::anyhow!("failed to listen on port {port}: {error}; choose another with --health-port")
        }),
    }
}

fn port_of(listeners: &[TcpListener]) -> std::io::Result<u16> {
    listeners.first().map_or(Ok(0), |listener| Ok(listener.local_addr()?.port()))
}
