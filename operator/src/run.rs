//! The operator put together, from its start to its end.
//!
//! Owns: the order in which the parts start and end, the exit code. Does not own: the parts.
//!
//! Start: API server → certificates → ports → watches and controller, election.
//! End, on SIGTERM or SIGINT: not ready, the Lease given back → pods are still decided over for a moment → listeners closed → exit.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::{Client, ResourceExt};
use lakeingest_crds::Seconds;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, error, info, info_span};

use crate::admit::{Admission, REFERENCE_WAIT, Waits};
use crate::certs::{FilesKeeper, Keeper, KeeperParts, LeafKeeper, SecretPlace};
use crate::clock::{SharedClock, SystemClock};
use crate::controller::{self, Context, ContextNames, Settled, Told, Written};
use crate::entries::Entries;
use crate::events::Events;
use crate::health::{self, Readiness};
use crate::index::{Index, Watches};
use crate::leader::{Candidate, Leadership, Leases};
use crate::left_behind::{self, LeftBehind};
use crate::limits::LEAVING_WAIT;
use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::orphans::Orphans;
use crate::preflight::{Preflights, Trials};
use crate::settings::{Injection, RunArguments};
use crate::sidecars::{Asker, Sidecars};
use crate::watchdog::Watchdog;
use crate::webhook::{self, PodReview, Webhook};
use crate::{server, version};

/// A part ended that should not have. Source: `EX_SOFTWARE` of sysexits.h.
const EXIT_FAILED: u8 = 70;

/// Runs the operator until it is told to end.
///
/// # Errors
/// It could not be started.
pub async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    arguments.lives().require_possible()?;
    anyhow::ensure!(
        arguments.webhook_port != arguments.health_port,
        "--webhook-port and --health-port are both {}; choose another for one of them",
        arguments.health_port
    );
    let clock = SystemClock::shared();
    let metrics = Arc::new(Metrics::default());
    let client = Client::try_default().await?;
    let kubernetes = version::require(&client).await?;
    info!(version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, target = crate::TARGET, %kubernetes, "starting");
    let names = Arc::new(names(&client, &arguments).await?);
    let events = Events::new(&arguments.pod_name, clock.clone(), Arc::clone(&metrics));
    let certificates = match arguments.injection {
        Injection::Webhook => Some(Certificates::start(&arguments, &client, &clock, &events, &metrics).await?),
        Injection::Policy => None,
    };
    let parts = Parts { arguments, clock, metrics, client, names, certificates, events };
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let mut running = Running::start(parts).await?;
    tokio::select! {
        () = signals.next() => {}
        part = running.first_to_end() => {
            error!(part, "ending because a part failed");
            return Ok(ExitCode::from(EXIT_FAILED));
        }
    }
    running.leave(&mut signals).await;
    Ok(ExitCode::SUCCESS)
}

async fn names(client: &Client, arguments: &RunArguments) -> anyhow::Result<ContextNames> {
    // It lives as long as the cluster, and nobody can make another.
    let system: Namespace = Api::all(client.clone()).get("kube-system").await?;
    let cluster_id = system
        .uid()
        .ok_or_else(|| anyhow::anyhow!("failed to identify the cluster: namespace kube-system has no uid"))?;
    Ok(ContextNames { cluster_id, images: arguments.images() })
}

/// Who makes the webhook's certificates.
enum Certificates {
    /// The operator.
    Own(Box<Keeper>),
    /// Somebody else, into files.
    Files(FilesKeeper),
}

impl Certificates {
    async fn start(
        arguments: &RunArguments,
        client: &Client,
        clock: &SharedClock,
        events: &Events,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let (service, namespace) = (&arguments.webhook_service, &arguments.namespace);
        let (clock, metrics) = (Arc::clone(clock), Arc::clone(metrics));
        if let Some(folder) = &arguments.certificate_files {
            return Ok(Self::Files(FilesKeeper::start(folder, service, namespace, clock, metrics).await?));
        }
        let (namespace, name) = (namespace.clone(), arguments.ca_secret.clone());
        let place = SecretPlace { client: client.clone(), namespace, name };
        let (configuration, lives) = (arguments.webhook_configuration.clone(), arguments.lives());
        let parts = KeeperParts { configuration, place, lives, clock, events: events.clone(), metrics };
        Ok(Self::Own(Box::new(Keeper::start(parts, service).await?)))
    }

    fn leaf(&self) -> Arc<LeafKeeper> {
        match self {
            Self::Own(keeper) => keeper.leaf(),
            Self::Files(keeper) => keeper.leaf(),
        }
    }

    /// Keeps them, for ever.
    async fn run(self, client: Client, configuration: String, is_trusted: watch::Sender<bool>) {
        match self {
            Self::Own(keeper) => keeper.run(is_trusted).await,
            Self::Files(keeper) => keeper.run(client, configuration, is_trusted).await,
        }
    }
}

/// What the parts are made of.
struct Parts {
    arguments: RunArguments,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    client: Client,
    names: Arc<ContextNames>,
    /// None where there is no webhook.
    certificates: Option<Certificates>,
    events: Events,
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

/// The operator at work.
struct Running {
    parts: JoinSet<&'static str>,
    /// How many of them end what is under way when they are told to.
    ending: usize,
    /// Becomes true when other replicas should take over.
    leaving: watch::Sender<bool>,
    /// Becomes true when nothing is taken any more.
    stopping: watch::Sender<bool>,
}

impl Running {
    async fn start(from: Parts) -> anyhow::Result<Self> {
        let health_listener = listen("--health-port", from.arguments.health_port).await?;
        let (leaving, is_leaving) = watch::channel(false);
        let (stopping, is_stopping) = watch::channel(false);
        let (trusted, is_trusted) = watch::channel(false);
        let is_trusted_too = is_trusted.clone();
        let (synced, is_synced) = watch::channel(false);
        let (index, watches, left) = Index::watch(&from.client, &from.metrics);
        let (namespaces, follow_namespaces) = Namespaces::watch(&from.client, &from.metrics);
        let mut parts = JoinSet::new();
        // Without a webhook there is one of them less.
        let ending = ENDING.len() - usize::from(from.certificates.is_none());

        let (tell, leadership) = Leadership::new(from.clock.clone());
        start(&mut parts, LEADER, candidate_of(&from, tell).contend(is_leaving.clone()));

        let readiness = Readiness { is_synced, is_trusted, is_leaving };
        let routes = health::router(readiness, Arc::clone(&from.metrics));
        let health = server::serve(health_listener, None, routes, is_stopping.clone());
        start(&mut parts, "health", health);

        if let Some(certificates) = &from.certificates {
            let listener = listen("--webhook-port", from.arguments.webhook_port).await?;
            let routes = webhook::router(webhook_of(&from, &index, &namespaces));
            let tls = webhook::tls(certificates.leaf())?;
            start(&mut parts, "webhook", server::serve(listener, Some(tls), routes, is_stopping.clone()));
        }
        start(&mut parts, "left-behind", tell_of(&from, left, index.clone()));
        let sidecars = Sidecars::default();
        start(&mut parts, "sidecars", asker_of(&from, &index, &leadership, &sidecars).run());
        start(&mut parts, "orphans", orphans_of(&from, &index, &leadership).run(from.client.clone()));
        if let Some(patience) = from.arguments.evict_after {
            let watchdog = watchdog_of(&from, patience, &index, &leadership, is_trusted_too);
            start(&mut parts, "watchdog", watchdog.run(from.client.clone()));
        }
        let preflights = Preflights::default();
        let seen = Seen { index: index.clone(), leadership, sidecars, preflights };
        start(&mut parts, "preflights", trials_of(&from, &seen, &namespaces).run(from.client.clone()));
        start(&mut parts, "controller", control(&from, seen, watches, is_stopping.clone()));
        start(&mut parts, "namespaces", follow_namespaces);
        match from.certificates {
            Some(certificates) => {
                let configuration = from.arguments.webhook_configuration.clone();
                let (events, metrics) = (from.events.clone(), Arc::clone(&from.metrics));
                let entries = Entries { configuration: configuration.clone(), events, metrics };
                start(&mut parts, "entries", entries.run(from.client.clone()));
                start(&mut parts, "certificates", certificates.run(from.client, configuration, trusted));
            }
            // Nobody has to trust anything.
            None => {
                trusted.send_replace(true);
            }
        }
        let mut until_stop = is_stopping;
        start(&mut parts, "index", async move {
            index.synced().await;
            namespaces.synced().await;
            synced.send_replace(true);
            info!("the watches are filled");
            let _ = until_stop.wait_for(|stopping| *stopping).await;
        });
        Ok(Self { parts, ending, leaving, stopping })
    }

    /// The name of the part that ends first.
    async fn first_to_end(&mut self) -> &'static str {
        match self.parts.join_next().await {
            Some(Ok(part)) => part,
            Some(Err(_)) => "one that panicked",
            None => "all",
        }
    }

    /// Lets other replicas take over, then ends what is under way. A second signal ends it at once.
    async fn leave(mut self, signals: &mut Signals) {
        info!("leaving");
        self.leaving.send_replace(true);
        tokio::select! {
            () = tokio::time::sleep(LEAVING_WAIT) => {}
            () = signals.next() => {}
        }
        self.stopping.send_replace(true);
        let mut ending = self.ending;
        while ending > 0 {
            let ended = tokio::select! {
                ended = self.parts.join_next() => ended,
                () = signals.next() => None,
            };
            match ended {
                Some(Ok(part)) if ENDING.contains(&part) => ending -= 1,
                Some(Ok(_)) => {}
                Some(Err(_)) => ending -= 1,
                None => break,
            }
        }
        self.parts.abort_all();
        info!("left");
    }
}

/// The part that stands for election.
const LEADER: &str = "leader";

/// The parts that end what is under way when they are told to, where there are all.
const ENDING: [&str; 4] = ["health", "webhook", "controller", LEADER];

fn start(parts: &mut JoinSet<&'static str>, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
    let named = async move {
        part.await;
        name
    };
    parts.spawn(named.instrument(info_span!("part", name)));
}

fn webhook_of(from: &Parts, index: &Index, namespaces: &Namespaces) -> Webhook {
    let admission = Admission {
        index: index.clone(),
        namespaces: namespaces.clone(),
        names: Arc::clone(&from.names),
        waits: Waits::new(REFERENCE_WAIT, Arc::clone(&from.clock)),
    };
    Webhook {
        decide: Arc::new(move |review: PodReview| {
            let admission = admission.clone();
            Box::pin(async move { admission.decide(review).await })
        }),
        clock: Arc::clone(&from.clock),
        metrics: Arc::clone(&from.metrics),
    }
}

fn tell_of(from: &Parts, left: mpsc::Receiver<LeftBehind>, index: Index) -> impl Future<Output = ()> + Send + 'static {
    let (client, events, metrics) = (from.client.clone(), from.events.clone(), Arc::clone(&from.metrics));
    async move { left_behind::tell(left, index, client, events, &metrics).await }
}

fn candidate_of(from: &Parts, tell: watch::Sender<Option<Duration>>) -> Candidate {
    let leases = Leases::new(from.client.clone(), &from.arguments.namespace, &from.arguments.lease);
    Candidate::new(&from.arguments.pod_name, leases, Arc::clone(&from.clock), Arc::clone(&from.metrics), tell)
}

fn asker_of(from: &Parts, index: &Index, leadership: &Leadership, sidecars: &Sidecars) -> Asker {
    Asker {
        index: index.clone(),
        leadership: leadership.clone(),
        sidecars: sidecars.clone(),
        clock: Arc::clone(&from.clock),
        metrics: Arc::clone(&from.metrics),
    }
}

fn orphans_of(from: &Parts, index: &Index, leadership: &Leadership) -> Orphans {
    Orphans {
        index: index.clone(),
        leadership: leadership.clone(),
        events: from.events.clone(),
        metrics: Arc::clone(&from.metrics),
    }
}

fn watchdog_of(
    from: &Parts,
    patience: Seconds,
    index: &Index,
    leadership: &Leadership,
    is_trusted: watch::Receiver<bool>,
) -> Watchdog {
    Watchdog {
        patience: patience.duration(),
        index: index.clone(),
        leadership: leadership.clone(),
        is_trusted,
        events: from.events.clone(),
        clock: Arc::clone(&from.clock),
        metrics: Arc::clone(&from.metrics),
    }
}

fn trials_of(from: &Parts, seen: &Seen, namespaces: &Namespaces) -> Trials {
    Trials {
        index: seen.index.clone(),
        namespaces: namespaces.clone(),
        leadership: seen.leadership.clone(),
        sidecars: seen.sidecars.clone(),
        preflights: seen.preflights.clone(),
        names: Arc::clone(&from.names),
        allowed: from.arguments.preflight_namespaces.clone(),
        clock: Arc::clone(&from.clock),
        metrics: Arc::clone(&from.metrics),
    }
}

/// What the controller is told by other parts.
struct Seen {
    index: Index,
    leadership: Leadership,
    sidecars: Sidecars,
    preflights: Preflights,
}

fn control(
    from: &Parts,
    Seen { index, leadership, sidecars, preflights }: Seen,
    watches: Watches,
    mut stopping: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let context = Context {
        client: from.client.clone(),
        index,
        leadership,
        names: (*from.names).clone(),
        clock: Arc::clone(&from.clock),
        events: from.events.clone(),
        settled: Settled::default(),
        sidecars,
        preflights,
        written: Written::default(),
        told: Told::default(),
        metrics: Arc::clone(&from.metrics),
    };
    controller::run(Arc::new(context), watches, async move {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    })
}

async fn listen(option: &str, port: u16) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = server::listen(port).await;
    listener.map_err(|error| anyhow::anyhow!("failed to listen on port {port}: {error}; choose another with {option}"))
}
