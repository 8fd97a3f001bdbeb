//! The sidecar put together.
//!
//! Owns: the order in which the parts start and end, the exit code. Does not own: the parts.
//!
//! Start: journal (recovered) → encoder → listeners → first contact with the lake, beside the requests.
//! End, on SIGTERM or SIGINT: no new records → listeners closed, requests answered → everything flushed → exit.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, error, info, info_span, warn};

use crate::clock::SystemClock;
use crate::config::{LakeLocation, Settings};
use crate::encode::Encoder;
use crate::encode::session::Scratch;
use crate::flush::deliver::{Delivery, DeliveryContext, make_contact};
use crate::flush::outcomes::Outcomes;
use crate::flush::tracker::FlushPolicy;
use crate::flush::worker::{FlushWorker, WorkerEnd};
use crate::http::state::AppState;
use crate::http::{InFlight, application_router, health_router, server};
use crate::intake::Intake;
use crate::journal::{Journal, JournalOptions, OpenedJournal};
use crate::lake::contact::Contact;
use crate::limits::{CONNECTION_DRAIN_WAIT, DRAIN_WAIT, FLUSH_QUEUE_MAX};
use crate::metrics::Metrics;
use crate::publish::directory::DirectoryStore;
use crate::publish::s3::S3Store;
use crate::publish::store::Store;
use crate::schema::registry::Registry;
use crate::status::{Status, reasons};

/// The process ended with rows that are in the journal and not in the lake; the next start delivers them.
/// Source: `EX_TEMPFAIL` of sysexits.h.
const EXIT_UNFLUSHED: u8 = 75;

/// The journal's disk or a thread failed; the next start recovers from what is on disk.
/// Source: `EX_SOFTWARE` of sysexits.h.
const EXIT_FAILED: u8 = 70;

/// Runs the sidecar until it is told to end.
///
/// # Errors
/// It could not be started.
pub async fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let clock = SystemClock::shared();
    let metrics = Arc::new(Metrics::default());
    let status = Arc::new(Status::new(Arc::clone(&clock)));
    report_unknown_fields(&settings, &status, &metrics);

    let options = JournalOptions {
        directory: settings.journal.clone(),
        size_limit_bytes: settings.config.buffer.size_limit.bytes(),
    };
    let opened = {
        let (clock, metrics) = (Arc::clone(&clock), Arc::clone(&metrics));
        tokio::task::spawn_blocking(move || Journal::open(&options, clock, metrics)).await??
    };
    let OpenedJournal { journal, segments, damaged, thread } = opened;
    let (store, location) = store_of(&settings, &journal.id())?;
    if damaged > 0 {
        let folder = settings.journal.join("damaged");
        status.set(
            reasons::JOURNAL_DAMAGED,
            format!("{damaged} places of the journal were no frames; their bytes are in {}", folder.display()),
        );
    }
    let scratch = Scratch::open(&settings.scratch, settings.config.buffer.scratch_size_limit.bytes())?;
    scratch.keep_only(&segments.iter().map(|segment| segment.contents.number).collect::<Vec<_>>())?;
    let encoder = Encoder::start(scratch.clone())?;
    let registry = Arc::new(Registry::new(store.clone(), settings.prefix.clone(), Arc::clone(&clock), journal.id()));
    for segment in &segments {
        registry.remember(&segment.contents.table, &segment.contents.observed);
    }
    let outcomes = Arc::new(Outcomes::default());
    let context = Arc::new(DeliveryContext {
        journal: journal.clone(),
        contact: Contact::new(
            store.clone(),
            settings.prefix.clone(),
            settings.owner.clone(),
            Arc::clone(&registry),
            Arc::clone(&clock),
        ),
        store,
        prefix: settings.prefix.clone(),
        registry: Arc::clone(&registry),
        encoder,
        scratch,
        outcomes: Arc::clone(&outcomes),
        status: Arc::clone(&status),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
    });

    let (drain, draining) = watch::channel(false);
    let (flush, requests) = mpsc::channel(FLUSH_QUEUE_MAX);
    let state = AppState {
        intake: Arc::new(Intake::new(
            Arc::clone(&registry),
            journal.clone(),
            Arc::clone(&status),
            Arc::clone(&metrics),
            Arc::clone(&clock),
        )),
        journal: journal.clone(),
        registry,
        flush,
        outcomes,
        status: Arc::clone(&status),
        metrics,
        clock,
        in_flight: InFlight::default(),
        location: location.into(),
        draining: draining.clone(),
    };

    let application = server::listen_on_loopback(settings.port).await;
    let application = application.map_err(|error| in_use("--port", settings.port, &error))?;
    let health = server::listen_on_loopback(settings.health_port).await;
    let health = health.map_err(|error| in_use("--health-port", settings.health_port, &error))?;
    let port = application.first().map(|listener| listener.local_addr()).transpose()?.map_or(0, |addr| addr.port());
    let health_port = health.first().map(|listener| listener.local_addr()).transpose()?.map_or(0, |addr| addr.port());
    let drained = draining.clone();
    let (close, closed) = watch::channel(false);
    let (finish, finished) = watch::channel(false);
    let application = tokio::spawn(
        server::serve(application, application_router(state.clone()), drained, CONNECTION_DRAIN_WAIT)
            .instrument(info_span!("application")),
    );
    let health = tokio::spawn(
        server::serve(health, health_router(state), finished, CONNECTION_DRAIN_WAIT).instrument(info_span!("health")),
    );
    let policy = policy_of(&settings);
    let recovered =
        segments.into_iter().map(|segment| Delivery::new(Arc::new(segment.contents), segment.state)).collect();
    let worker = FlushWorker::new(Arc::clone(&context), policy, requests, draining, closed, recovered);
    let mut worker = tokio::spawn(worker.run());
    let contact = tokio::spawn({
        let context = Arc::clone(&context);
        async move { make_contact(&context).await }
    });
    info!(
        port,
        health_port,
        journal = journal.id(),
        version = env!("CARGO_PKG_VERSION"),
        revision = crate::REVISION,
        "serving"
    );

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut failed = journal.failed();
    let early = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        _ = failed.wait_for(|failed| *failed) => Some(WorkerEnd::Fatal),
        ended = &mut worker => Some(ended.unwrap_or(WorkerEnd::Fatal)),
    };
    status.set_draining();
    if let Some(end) = early {
        error!(?end, "ending because a part failed");
        // The answers of those who wait for the failed sync go out first.
        drain.send_replace(true);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), application).await;
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    info!("draining");
    drain.send_replace(true);
    let drained = async {
        // The flushes that those requests wait for go on meanwhile.
        let _ = application.await;
        close.send_replace(true);
        worker.await.unwrap_or(WorkerEnd::Fatal)
    };
    let end = tokio::select! {
        end = drained => Some(end),
        () = tokio::time::sleep(DRAIN_WAIT) => None,
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        _ = failed.wait_for(|failed| *failed) => Some(WorkerEnd::Fatal),
    };
    contact.abort();
    finish.send_replace(true);
    let _ = health.await;
    let unflushed = journal.view().unretired_rows(None);
    let code = match end {
        Some(WorkerEnd::Fatal) => EXIT_FAILED,
        Some(WorkerEnd::Drained) | Some(WorkerEnd::Stuck) | None if unflushed == 0 => 0,
        Some(WorkerEnd::Drained) | Some(WorkerEnd::Stuck) | None => EXIT_UNFLUSHED,
    };
    if unflushed > 0 {
        warn!(rows = unflushed, journal = %journal.directory().display(), "ended with rows in the journal; the next start delivers them");
    }
    drop(context);
    drop(journal);
    if code == 0 {
        // Every handle is gone by now, or goes with the runtime; the thread only closes its files.
        drop(thread);
        info!("drained");
    }
    Ok(ExitCode::from(code))
}

fn report_unknown_fields(settings: &Settings, status: &Status, metrics: &Metrics) {
    let count = settings.unknown_fields.len();
    metrics.unknown_configuration_fields.set(i64::try_from(count).unwrap_or(i64::MAX));
    if count > 0 {
        let fields = settings.unknown_fields.join(", ");
        status
            .set(reasons::UNKNOWN_CONFIGURATION, format!("the configuration has fields that are not known: {fields}"));
    }
}

/// The lake, and what its keys are below.
fn store_of(settings: &Settings, journal: &str) -> anyhow::Result<(Store, String)> {
    Ok(match &settings.lake {
        LakeLocation::Directory(directory) => {
            let store = DirectoryStore::new(directory, settings.prefix.unfinished(), journal);
            store.remove_unfinished();
            (Store::Directory(store), format!("{}/", directory.display()))
        }
        LakeLocation::Bucket(options) => (Store::S3(S3Store::new(options)?), format!("s3://{}/", options.bucket)),
    })
}

fn policy_of(settings: &Settings) -> FlushPolicy {
    let flush = &settings.config.flush;
    FlushPolicy { rows_max: flush.max_rows, bytes_max: flush.max_bytes.bytes(), age_max: flush.max_age.duration() }
}

fn in_use(option: &str, port: u16, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("failed to listen on port {port}: {error}; choose another with {option}")
}
