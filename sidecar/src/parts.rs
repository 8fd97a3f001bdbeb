//! The parts of a sidecar, made from what it is told.
//!
//! Owns: what each part is given. Does not own: what is started and ended when (`run`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{SharedClock, SystemClock};
use crate::config::{LakeLocation, Settings};
use crate::encode::session::Scratch;
use crate::encode::{Encoder, Trials, transform};
use crate::flush::deliver::{Delivery, DeliveryContext};
use crate::flush::outcomes::Outcomes;
use crate::flush::pace::Pace;
use crate::flush::tracker::FlushPolicy;
use crate::flush::worker::FlushRequest;
use crate::http::InFlight;
use crate::http::state::{AppState, Identity, Shared};
use crate::intake::Intake;
use crate::journal::recovery::{ASIDE_FOLDER, PartialSegment};
use crate::journal::{Files, Journal, JournalOptions, OpenedJournal};
use crate::lake::contact::Contact;
use crate::leaving::{Grace, Leaving};
use crate::limits::{FLUSH_QUEUE_MAX, SEGMENTS_ON_SCRATCH};
use crate::metrics::Metrics;
use crate::publish::directory::DirectoryStore;
use crate::publish::s3::S3Store;
use crate::publish::store::Store;
use crate::schema::Declarations;
use crate::schema::registry::{Registry, SchemaOptions};
use crate::status::{Status, reasons};

/// A sidecar that is put together and does nothing yet.
#[derive(Debug)]
pub(crate) struct Parts {
    /// What the endpoints share.
    pub(crate) state: Shared,
    /// What deliveries need.
    pub(crate) context: Arc<DeliveryContext>,
    /// Where callers ask for flushes.
    pub(crate) requests: mpsc::Receiver<FlushRequest>,
    /// What an earlier process left.
    pub(crate) recovered: Vec<Delivery>,
    /// Segments that are not whole in copies of a journal's files, and are left out.
    pub(crate) left: Vec<PartialSegment>,
}

impl Parts {
    /// Opens the journal and the scratch folder and makes everything that stands on them.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub(crate) async fn open(settings: &Settings, files: Files) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        let metrics = Arc::new(Metrics::default());
        let status = Arc::new(Status::new(Arc::clone(&clock)));
        report_unknown_fields(settings, &status, &metrics);
        let opened = open_journal(settings, files, &clock, &metrics).await?;
        let OpenedJournal { journal, segments, lacking_rows, left, damaged, .. } = opened;
        report_damage(settings, &status, damaged, lacking_rows);
        // Named after the journal, whose lock this process holds: sidecars that are given one folder do not meet in it.
        let scratch = settings.scratch.join(journal.id());
        let scratch = Scratch::open(&scratch, settings.config.buffer.scratch_size_limit.bytes())?;
        scratch.keep_only(&segments.iter().map(|segment| segment.contents.number).collect::<Vec<_>>())?;
        let (writer, trials) = match files {
            Files::Own => (journal.id(), Trials::AfterDeaths),
            // The journal itself may be at work on the same lake: what it has not finished there is its own.
            Files::Copies => (format!("copy-of-{}", journal.id()), Trials::Always),
        };
        let store = store_of(settings, &writer)?;
        let location = store.location();
        let (prefix, owner) = (settings.prefix.clone(), settings.owner.clone());
        let options = schema_options(settings)?;
        let registry = Arc::new(Registry::new(
            store.clone(),
            prefix.clone(),
            Arc::clone(&clock),
            journal.id(),
            options,
            Arc::clone(&status),
        ));
        for segment in &segments {
            registry.remember(&segment.contents.table, &segment.contents.observed);
        }
        let (outcomes, pace) = (Arc::new(Outcomes::default()), Arc::new(Pace::default()));
        let (flush, requests) = mpsc::channel(FLUSH_QUEUE_MAX);
        let intake = Intake::new(
            Arc::clone(&registry),
            journal.clone(),
            Arc::clone(&status),
            Arc::clone(&metrics),
            Arc::clone(&clock),
        );
        let context = DeliveryContext {
            journal: journal.clone(),
            contact: Contact::new(
                store.clone(),
                prefix.clone(),
                owner,
                settings.permission.clone(),
                Arc::clone(&registry),
                Arc::clone(&clock),
            ),
            store: store.clone(),
            prefix: prefix.clone(),
            registry: Arc::clone(&registry),
            encoder: Encoder::start(scratch.clone(), trials)?,
            scratch,
            outcomes: Arc::clone(&outcomes),
            pace: Arc::clone(&pace),
            status: Arc::clone(&status),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
        };
        let state = AppState {
            intake: Arc::new(intake),
            journal,
            registry,
            flush,
            outcomes,
            pace,
            status,
            metrics,
            clock,
            leaving: Leaving::default(),
            identity: watch::Sender::new(Arc::new(Identity::of(settings))),
            in_flight: InFlight::default(),
            store,
            prefix,
            location: location.into(),
        };
        let recovered =
            segments.into_iter().map(|segment| Delivery::new(Arc::new(segment.contents), segment.state)).collect();
        let state = Arc::new(state);
        Ok(Self { state, context: Arc::new(context), requests, recovered, left })
    }
}

async fn open_journal(
    settings: &Settings,
    files: Files,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<OpenedJournal> {
    let options = JournalOptions {
        directory: settings.journal.clone(),
        size_limit_bytes: settings.config.buffer.size_limit.bytes(),
        files,
        takes_old: settings.replays_old_journal,
    };
    let (clock, metrics) = (Arc::clone(clock), Arc::clone(metrics));
    Ok(tokio::task::spawn_blocking(move || Journal::open(&options, clock, metrics)).await??)
}

fn report_damage(settings: &Settings, status: &Status, damaged: u64, lacking_rows: u64) {
    let mut words = Vec::new();
    if damaged > 0 {
        let folder = settings.journal.join(ASIDE_FOLDER);
        words.push(format!(
            "{damaged} places of the journal are damaged; what can be read of them is in {}",
            folder.display()
        ));
    }
    if lacking_rows > 0 {
        words.push(format!("{lacking_rows} acknowledged records are not in the journal any more"));
    }
    if !words.is_empty() {
        status.set(reasons::JOURNAL_DAMAGED, words.join("; "));
    }
}

/// Shows the fields of a configuration that are not known, or that there are none.
pub(crate) fn report_unknown_fields(settings: &Settings, status: &Status, metrics: &Metrics) {
    let count = settings.unknown_fields.len();
    metrics.unknown_configuration_fields.set(i64::try_from(count).unwrap_or(i64::MAX));
    if count == 0 {
        status.clear(&[reasons::UNKNOWN_CONFIGURATION]);
    } else {
        let fields = settings.unknown_fields.join(", ");
        status
            .set(reasons::UNKNOWN_CONFIGURATION, format!("the configuration has fields that are not known: {fields}"));
    }
}

pub(crate) fn store_of(settings: &Settings, journal: &str) -> anyhow::Result<Store> {
    Ok(match &settings.lake {
        LakeLocation::Directory(directory) => {
            let store = DirectoryStore::new(directory, settings.prefix.unfinished(), journal);
            store.remove_unfinished();
            Store::Directory(store)
        }
        LakeLocation::Bucket(options) => Store::S3(S3Store::new(options)?),
    })
}

/// What the configuration says of the types of tables.
///
/// # Errors
/// A declaration cannot be used.
pub(crate) fn schema_options(settings: &Settings) -> anyhow::Result<SchemaOptions> {
    let config = &settings.config;
    let declarations = Declarations::of(config, &|select, schema| Ok(transform::read(select, schema)?))?;
    Ok(SchemaOptions { inference: config.inference.clone(), declarations })
}

/// What the pod and the configuration say of the end.
pub(crate) fn grace_of(settings: &Settings) -> Grace {
    let drain = Duration::from_secs(settings.config.drain.grace_period_seconds.into());
    Grace { pod: settings.pod_grace, drain }
}

/// When this sidecar flushes.
pub(crate) fn policy_of(settings: &Settings) -> FlushPolicy {
    let flush = &settings.config.flush;
    let room = settings.config.buffer.scratch_size_limit.bytes() / SEGMENTS_ON_SCRATCH;
    FlushPolicy {
        rows_max: flush.max_rows,
        bytes_max: flush.max_bytes.bytes().min(room),
        age_max: flush.max_age.duration(),
    }
}
