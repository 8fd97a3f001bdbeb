//! One segment on its way to the lake, from sealed to retired.
//!
//! Owns: the steps, their order, what is tried again and when. Upholds I2 and I3.
//! Does not own: how a step is done (`schema::registry`, `encode`, `publish`, `lake`, `journal`), which segment is next
//! (`worker`).
//!
//! Every step can be cut by a crash and done again: the plan is in the journal before the first byte leaves, a put
//! never replaces, and the description is looked for before anything is put again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tracing::{debug, error, info};

use crate::clock::SharedClock;
use crate::encode::error::EncodeError;
use crate::encode::session::Scratch;
use crate::encode::{EncodeJob, Encoder};
use crate::flush::backoff;
use crate::flush::outcomes::Outcomes;
use crate::flush::pace::Pace;
use crate::journal::control::{FileRole, Plan, PlannedFile, Seal};
use crate::journal::error::AppendError;
use crate::journal::segment::{Contents, IllegalTransition, SegmentEvent, SegmentState};
use crate::journal::{Journal, hex};
use crate::lake::contact::{Contact, ContactError, REPLACES};
use crate::lake::description::{ColumnStatistics, Description, describe, is_described};
use crate::limits::{ENCODE_FAILURES_MAX, PUTS_MAX, SMALL_FILE_BYTES};
use crate::metrics::Metrics;
use crate::publish::error::StoreErrorKind;
use crate::publish::key::{Prefix, SegmentName};
use crate::publish::store::{Found, Store, Upload};
use crate::publish::{PublishError, publish};
use crate::schema::registry::{RegisteredSchema, Registry, RegistryError};
use crate::seeded::{self, Bug};
use crate::status::{Status, reasons};

/// Everything that a delivery needs.
#[derive(Debug)]
pub struct DeliveryContext {
    /// The journal.
    pub journal: Journal,
    /// The lake.
    pub store: Store,
    /// Where in the lake.
    pub prefix: Prefix,
    /// The first contact.
    pub contact: Contact,
    /// The schemas.
    pub registry: Arc<Registry>,
    /// The encoder.
    pub encoder: Encoder,
    /// Where encoded files lie.
    pub scratch: Scratch,
    /// Who waits.
    pub outcomes: Arc<Outcomes>,
    /// What deliveries take.
    pub pace: Arc<Pace>,
    /// What is wrong.
    pub status: Arc<Status>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

/// A segment that is to be delivered, and what this process knows of its files.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What it holds.
    pub contents: Arc<Contents>,
    /// How far it has come.
    pub state: SegmentState,
    /// Failed attempts since it last moved on.
    pub attempts: u32,
    /// How often the encoder failed on its rows.
    encode_failures: u32,
    /// Statistics of the files that this process encoded, by part.
    statistics: BTreeMap<u32, Vec<ColumnStatistics>>,
    /// Parts that are known to be whole on the scratch volume. Forgotten at every failure: then they are read again.
    local_parts: Vec<u32>,
    /// What was found in the lake, by part.
    found: BTreeMap<u32, Found>,
}

impl Delivery {
    /// A segment of which nothing but the journal is known.
    pub fn new(contents: Arc<Contents>, state: SegmentState) -> Self {
        Self {
            contents,
            state,
            attempts: 0,
            encode_failures: 0,
            statistics: BTreeMap::new(),
            local_parts: Vec::new(),
            found: BTreeMap::new(),
        }
    }
}

/// How an attempt at a delivery ended.
#[derive(Debug)]
pub enum Delivered {
    /// The segment is in the lake and retired.
    Retired,
    /// It is to be tried again.
    Later {
        /// The segment, as far as it has come.
        delivery: Box<Delivery>,
        /// After so long.
        wait: Duration,
        /// Whether every other segment would fail as well.
        is_everybodys: bool,
    },
    /// The segment stays in the journal until somebody looks; trying again does not help.
    Stuck,
    /// The process must end.
    Fatal,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Contact(#[from] ContactError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Journal(#[from] AppendError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Transition(#[from] IllegalTransition),
    #[error("segment {segment} was encoded again and its files are not those of its plan")]
    PlanMismatch { segment: u64 },
}

/// What is done about a failed step, and the reason that is shown.
enum Verdict {
    /// Every segment would fail.
    RetryAll(&'static str),
    /// This table's segments would fail.
    RetryTable(&'static str),
    Stuck(&'static str),
    Fatal,
}

const DENIED: &str = StoreErrorKind::Denied.reason();
const KEYLESS: &str = StoreErrorKind::Keyless.reason();

/// The reasons that any success clears.
const CLEARED_BY_SUCCESS: [&str; 9] = [
    StoreErrorKind::Unreachable.reason(),
    KEYLESS,
    DENIED,
    StoreErrorKind::Missing.reason(),
    StoreErrorKind::WrongRegion.reason(),
    // These are a table's, but for the first contact.
    StoreErrorKind::Unexpected.reason(),
    StoreErrorKind::Unverified.reason(),
    StoreErrorKind::Local.reason(),
    reasons::PREFIX_IN_USE,
];

/// The reasons that a table's success clears for that table.
const CLEARED_BY_TABLE: [&str; 5] = [
    StoreErrorKind::Unexpected.reason(),
    StoreErrorKind::Unverified.reason(),
    StoreErrorKind::Local.reason(),
    reasons::SCHEMA_REGISTRY,
    reasons::ENCODE_FAILED,
];

/// Takes a segment as far as it goes.
pub async fn deliver(context: &DeliveryContext, delivery: Delivery) -> Delivered {
    let mut run = Run::new(context, delivery);
    while run.delivery.state != SegmentState::Retired {
        let state = run.delivery.state.clone();
        match run.step(&state).await.and_then(|event| Ok(state.advance(event)?)) {
            Ok(next) => {
                debug!(state = next.name(), "segment moved on");
                run.delivery.state = next;
                run.delivery.attempts = 0;
            }
            Err(error) => return run.fail(&error),
        }
    }
    run.finish();
    Delivered::Retired
}

/// Makes the first contact before there is anything to deliver, so that what is wrong shows at once.
pub async fn make_contact(context: &DeliveryContext) {
    let mut attempt = 0;
    while let Err(error) = context.ensure_contact().await {
        context.show(&error.into(), None);
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
    }
    context.status.clear(&CLEARED_BY_SUCCESS);
}

impl StepError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Contact(ContactError::Store(error)) => Verdict::RetryAll(error.kind.reason()),
            Self::Contact(ContactError::Owner(error)) => Verdict::RetryAll(error.reason()),
            Self::Contact(ContactError::Withheld { .. }) => Verdict::RetryAll(reasons::PREFIX_IN_USE),
            Self::Registry(RegistryError::Store(error)) | Self::Publish(PublishError::Store(error)) => match error.kind
            {
                StoreErrorKind::Unreachable
                | StoreErrorKind::Keyless
                | StoreErrorKind::Denied
                | StoreErrorKind::Missing
                | StoreErrorKind::WrongRegion => Verdict::RetryAll(error.kind.reason()),
                StoreErrorKind::Unexpected | StoreErrorKind::Unverified | StoreErrorKind::Local => {
                    Verdict::RetryTable(error.kind.reason())
                }
            },
            Self::Registry(_) => Verdict::RetryTable(reasons::SCHEMA_REGISTRY),
            Self::Encode(EncodeError::Gone) | Self::Journal(_) | Self::Transition(_) => Verdict::Fatal,
            Self::Encode(EncodeError::File { .. }) => Verdict::RetryTable(StoreErrorKind::Local.reason()),
            Self::Encode(error) if error.is_no_space() => Verdict::RetryTable(StoreErrorKind::Local.reason()),
            Self::Encode(_) => Verdict::RetryTable(reasons::ENCODE_FAILED),
            Self::Publish(PublishError::KeyConflict { .. }) | Self::PlanMismatch { .. } => {
                Verdict::Stuck(reasons::KEY_CONFLICT)
            }
        }
    }
}

impl DeliveryContext {
    /// Makes the first contact, and shows whether the endpoint keeps what it has.
    async fn ensure_contact(&self) -> Result<(), ContactError> {
        self.contact.ensure().await?;
        match self.store.is_create_only() {
            true => self.status.clear(&[reasons::CONDITIONAL_PUT_UNSUPPORTED]),
            false => self.status.set(reasons::CONDITIONAL_PUT_UNSUPPORTED, REPLACES.to_owned()),
        }
        Ok(())
    }

    /// Shows a failed step, of a segment or of the first contact, and answers what is done about it.
    fn show(&self, error: &StepError, contents: Option<&Contents>) -> Verdict {
        let verdict = error.verdict();
        let mut message = crate::error_chain(error);
        if let StepError::Encode(error) = error
            && error.is_no_space()
        {
            message = format!("{message}; {}", scratch_is_full(&self.scratch));
        }
        let table = contents.map_or("", |contents| &contents.table);
        match verdict {
            Verdict::RetryAll(reason) => {
                // Keys that are missing are not refused; and whatever else a request fails by, it had keys. A prefix that is
                // withheld is known without a request.
                match reason {
                    KEYLESS => self.status.clear(&[DENIED]),
                    reasons::PREFIX_IN_USE => {}
                    _ => self.status.clear(&[KEYLESS]),
                }
                self.status.set(reason, message.clone());
            }
            Verdict::RetryTable(reason) => self.status.set_for(reason, table, message.clone()),
            Verdict::Stuck(reason) => {
                let number = contents.map_or(0, |contents| contents.number);
                self.status.set_for(reason, &format!("segment {number} of {table}"), message.clone());
            }
            Verdict::Fatal => {}
        }
        if let Verdict::RetryAll(reason) | Verdict::RetryTable(reason) | Verdict::Stuck(reason) = verdict {
            self.metrics.delivery_failures(reason).inc();
            if contents.is_some() {
                self.status.update_table(table, |table| table.last_error = Some(message));
            }
        }
        verdict
    }
}

/// A delivery under way.
struct Run<'a> {
    context: &'a DeliveryContext,
    segment: SegmentName,
    delivery: Delivery,
    outcome: Option<Plan>,
}

impl<'a> Run<'a> {
    fn new(context: &'a DeliveryContext, delivery: Delivery) -> Self {
        let contents = &delivery.contents;
        let segment = SegmentName { journal: context.journal.id(), epoch: contents.epoch, number: contents.number };
        Self { context, segment, delivery, outcome: None }
    }

    fn contents(&self) -> &Arc<Contents> {
        &self.delivery.contents
    }

    /// Shows a failure and decides what becomes of the delivery.
    fn fail(mut self, error: &StepError) -> Delivered {
        let is_everybodys = match self.context.show(error, Some(&self.delivery.contents)) {
            Verdict::RetryAll(_) => true,
            Verdict::RetryTable(_) => false,
            Verdict::Stuck(reason) => {
                error!(reason, error = %crate::error_chain(error), "segment stays in the journal");
                return Delivered::Stuck;
            }
            Verdict::Fatal => {
                error!(error = %crate::error_chain(error), "delivery cannot go on");
                return Delivered::Fatal;
            }
        };
        let wait = backoff(self.delivery.attempts);
        self.delivery.attempts += 1;
        self.delivery.local_parts.clear();
        debug!(attempts = self.delivery.attempts, wait_ms = wait.as_millis(), "delivery will be tried again");
        Delivered::Later { delivery: Box::new(self.delivery), wait, is_everybodys }
    }

    /// Does what a state needs, and answers what happened then.
    async fn step(&mut self, state: &SegmentState) -> Result<SegmentEvent, StepError> {
        match state {
            SegmentState::Sealed { seal } => self.make_plan(seal).await,
            SegmentState::Planned { plans } => {
                if let Some(plan) = plans.last().filter(|_| seeded::is(Bug::RetireBeforeVerify)) {
                    self.context.journal.retire(self.contents().number, plan.settled()).await?;
                }
                self.publish(plans).await
            }
            SegmentState::Published { plan } => self.describe(plan).await,
            SegmentState::Described { plan } => {
                self.context.journal.retire(self.contents().number, plan.settled()).await?;
                self.outcome = Some(plan.clone());
                Ok(SegmentEvent::Retired)
            }
            SegmentState::Open | SegmentState::Retired => {
                unreachable!("only what is sealed is delivered, and the loop ends at retired")
            }
        }
    }

    async fn make_plan(&mut self, seal: &Seal) -> Result<SegmentEvent, StepError> {
        self.context.ensure_contact().await?;
        let registered = self.context.registry.reconcile(&self.contents().table, &self.contents().observed).await?;
        let plan = self.encode(seal, registered, BTreeSet::new()).await?;
        self.context.journal.plan(self.contents().number, plan.clone()).await?;
        Ok(SegmentEvent::Planned(plan))
    }

    async fn encode(
        &mut self,
        seal: &Seal,
        registered: Arc<RegisteredSchema>,
        poison: BTreeSet<(u64, u32)>,
    ) -> Result<Plan, StepError> {
        let job = EncodeJob {
            contents: Arc::clone(self.contents()),
            seal: seal.clone(),
            segment: self.segment.clone(),
            prefix: self.context.prefix.clone(),
            registered,
            order_by: self.context.registry.order_of(&self.contents().table),
            journal: self.context.journal.directory().to_owned(),
            poison,
            is_suspect: self.delivery.encode_failures >= ENCODE_FAILURES_MAX,
        };
        let encoded = self.context.encoder.encode(job).await.inspect_err(|error| {
            self.delivery.encode_failures += u32::from(error.is_about_rows());
        })?;
        self.delivery.local_parts = encoded.plan.files.iter().map(|file| file.part).collect();
        self.delivery.statistics = encoded.files.into_iter().map(|file| (file.planned.part, file.columns)).collect();
        Ok(encoded.plan)
    }

    async fn publish(&mut self, plans: &[Plan]) -> Result<SegmentEvent, StepError> {
        let context = self.context;
        context.ensure_contact().await?;
        let Some(plan) = plans.last() else {
            return Err(StepError::PlanMismatch { segment: self.contents().number });
        };
        let mut waiting = Vec::new();
        for planned in &plan.files {
            let table = &self.contents().table;
            let is_described = is_described(&context.store, &context.prefix, table, &self.segment, planned).await?;
            if !is_described || seeded::is(Bug::UploadWithoutLook) {
                waiting.push(planned);
            }
        }
        if !self.all_local(&waiting).await {
            return self.encode_again(plan).await;
        }
        let found = Mutex::new(BTreeMap::new());
        let puts = futures::stream::iter(waiting.into_iter().map(Ok::<_, PublishError>));
        puts.try_for_each_concurrent(PUTS_MAX, |planned| async {
            let local = context.scratch.encoded_file(self.contents().number, planned.part);
            let upload = Upload { planned, segment: &self.segment, local: &local };
            let look = context.scratch.look();
            let start = context.clock.monotonic();
            let one = publish(&context.store, upload, plans, &context.encoder, &look).await?;
            context.pace.sent(planned.size_bytes, context.clock.monotonic().saturating_sub(start));
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(planned.part, one);
            Ok(())
        })
        .await?;
        self.delivery.found.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(SegmentEvent::Published)
    }

    /// Whether each file lies on the scratch volume as it was planned. What an earlier process left is read once.
    async fn all_local(&mut self, files: &[&PlannedFile]) -> bool {
        for planned in files {
            if self.delivery.local_parts.contains(&planned.part) {
                continue;
            }
            let path = self.context.scratch.encoded_file(self.contents().number, planned.part);
            let digest = tokio::task::spawn_blocking(move || sha256_of(&path)).await;
            if !matches!(digest, Ok(Ok(digest)) if digest == planned.sha256) {
                return false;
            }
            self.delivery.local_parts.push(planned.part);
        }
        true
    }

    /// The bytes are gone: the same rows under the same keys, perhaps in other bytes, and a plan that says so before
    /// they are sent.
    async fn encode_again(&mut self, plan: &Plan) -> Result<SegmentEvent, StepError> {
        info!("encoding a segment again from its plan");
        let registered = self.context.registry.version(&self.contents().table, plan.schema_version).await?;
        let again = match seeded::is(Bug::EncodeAgainWithoutPlan) {
            false => self.encode(&plan.seal, registered, plan.poison.clone()).await?,
            true => {
                let sealed_at = plan.seal.sealed_at + chrono::TimeDelta::seconds(1);
                let plan = self.encode(&Seal { sealed_at, ..plan.seal.clone() }, registered, BTreeSet::new()).await?;
                self.context.journal.plan(self.contents().number, plan.clone()).await?;
                return Ok(SegmentEvent::Planned(plan));
            }
        };
        let promise = |plan: &Plan| -> Vec<(String, u64, String)> {
            plan.files.iter().map(|file| (file.key.clone(), file.rows, file.row_digest.clone())).collect()
        };
        if promise(&again) != promise(plan) {
            return Err(StepError::PlanMismatch { segment: self.contents().number });
        }
        self.context.journal.plan(self.contents().number, again.clone()).await?;
        Ok(SegmentEvent::Planned(again))
    }

    /// Describes what was found in the lake. A file that was described before this process looked is left alone.
    async fn describe(&self, plan: &Plan) -> Result<SegmentEvent, StepError> {
        let (context, delivery) = (self.context, &self.delivery);
        let found = plan.files.iter().filter_map(|planned| Some((planned, delivery.found.get(&planned.part)?)));
        let puts = futures::stream::iter(found.map(Ok::<_, PublishError>));
        puts.try_for_each_concurrent(PUTS_MAX, |(planned, found)| async move {
            let columns = delivery.statistics.get(&planned.part).cloned().unwrap_or_default();
            let table = &delivery.contents.table;
            let description = Description::of(planned, found, table, &self.segment, plan, columns);
            describe(&context.store, &context.prefix, &self.segment, planned, &description).await
        })
        .await?;
        Ok(SegmentEvent::Described)
    }

    /// Tells everybody, and removes the local files.
    fn finish(self) {
        let Self { context, delivery, outcome: Some(plan), .. } = self else { return };
        let Delivery { contents, .. } = delivery;
        // A file that stays behind is removed at the next start.
        let _ = context.scratch.remove_encoded(contents.number);
        let main = plan.files.iter().filter(|file| file.role == FileRole::Main);
        let rows: u64 = main.clone().map(|file| file.rows).sum();
        let sizes: Vec<u64> = main.map(|file| file.size_bytes).collect();
        let files = sizes.len() as u64;
        context.metrics.published_rows.inc_by(rows);
        context.metrics.published_files.inc_by(plan.files.len() as u64);
        context.metrics.published_bytes.inc_by(plan.files.iter().map(|file| file.size_bytes).sum());
        context.metrics.quarantined_rows.inc_by(plan.quarantined_rows);
        context.status.update_table(&contents.table, |table| {
            table.published_rows += rows;
            table.published_files += files;
            table.published_bytes += sizes.iter().sum::<u64>();
            table.small_files += sizes.iter().filter(|size| **size < SMALL_FILE_BYTES).count() as u64;
            table.quarantined_rows += plan.quarantined_rows;
            table.last_error = None;
        });
        context.status.clear(&CLEARED_BY_SUCCESS);
        context.status.clear_for(&CLEARED_BY_TABLE, &contents.table);
        context.status.clear_for(&[reasons::JOURNAL_FULL], &contents.table);
        if context.journal.view().has_room() {
            context.status.clear(&[reasons::JOURNAL_FULL]);
        }
        info!(rows, files, quarantined_rows = plan.quarantined_rows, "segment is in the lake");
        context.outcomes.finish(contents.number, plan.settled());
    }
}

/// What is said where encoded files find no space.
fn scratch_is_full(scratch: &Scratch) -> String {
    format!(
        "the volume of the scratch directory {} is full: free space there or make it larger (buffer.scratchSizeLimit); what is \
         acknowledged waits in the journal and is encoded again by itself",
        scratch.root().display()
    )
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests;
