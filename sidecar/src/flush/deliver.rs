//! One segment on its way to the lake, from sealed to retired.
//!
//! Owns: the steps, their order, what is tried again and when. Upholds I2 and I3.
//! Does not own: how a step is done (`schema::registry`, `encode`, `publish`, `lake`, `journal`), which segment is next
//! (`worker`).
//!
//! Every step can be cut by a crash and done again: the plan is in the journal before the first byte leaves, a put
//! never replaces, and the description is looked for before anything is put again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use tracing::{debug, error, info};

use crate::clock::SharedClock;
use crate::encode::error::EncodeError;
use crate::encode::session::Scratch;
use crate::encode::{EncodeJob, Encoder};
use crate::flush::outcomes::{Outcome, Outcomes};
use crate::journal::control::{FileRole, Plan, PlannedFile, Seal};
use crate::journal::error::AppendError;
use crate::journal::segment::{Contents, IllegalTransition, SegmentEvent, SegmentState};
use crate::journal::{Journal, hex};
use crate::lake::contact::{Contact, ContactError};
use crate::lake::description::{ColumnStatistics, Description, describe, is_described};
use crate::lake::owner::OwnerError;
use crate::limits::{PUTS_MAX, RETRY_FIRST, RETRY_MAX};
use crate::metrics::Metrics;
use crate::publish::error::StoreErrorKind;
use crate::publish::key::{Prefix, SegmentName};
use crate::publish::store::{Store, Upload};
use crate::publish::{PublishError, publish};
use crate::schema::registry::{RegisteredSchema, Registry, RegistryError};
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
    /// What is wrong.
    pub status: Arc<Status>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
}

/// A segment that is to be delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What it holds.
    pub contents: Arc<Contents>,
    /// How far it has come.
    pub state: SegmentState,
    /// Whether an earlier process began it: then its files, or those of a clone of the journal, may be in the lake.
    pub is_recovered: bool,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The segment is in the lake and retired.
    Retired,
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

/// What is done about a failed step.
enum Verdict {
    Retry(&'static str),
    Stuck(&'static str),
    Fatal,
}

/// The reasons that a delivery clears when it succeeds.
const CLEARED_BY_SUCCESS: [&str; 10] = [
    StoreErrorKind::Unreachable.reason(),
    StoreErrorKind::Denied.reason(),
    StoreErrorKind::Missing.reason(),
    StoreErrorKind::Unexpected.reason(),
    StoreErrorKind::Unverified.reason(),
    StoreErrorKind::Local.reason(),
    reasons::PREFIX_IN_USE,
    reasons::CONDITIONAL_PUT_UNSUPPORTED,
    reasons::SCHEMA_REGISTRY,
    reasons::ENCODE_FAILED,
];

/// Delivers a segment, however long that takes.
pub async fn deliver(context: &DeliveryContext, delivery: Delivery) -> Delivered {
    let mut run = Run::new(context, &delivery);
    let mut state = delivery.state;
    let mut attempt = 0;
    while state != SegmentState::Retired {
        match run.step(&state).await.and_then(|event| Ok(state.clone().advance(event)?)) {
            Ok(next) => {
                debug!(segment = run.contents.number, state = next.name(), "segment moved on");
                state = next;
                attempt = 0;
            }
            Err(error) => match context.judge(&error, &run.contents.table) {
                Verdict::Retry(reason) => {
                    let wait = backoff(attempt);
                    attempt += 1;
                    debug!(
                        segment = run.contents.number,
                        reason,
                        attempt,
                        wait_ms = wait.as_millis(),
                        "delivery will be tried again"
                    );
                    tokio::time::sleep(wait).await;
                }
                Verdict::Stuck(reason) => {
                    error!(segment = run.contents.number, table = run.contents.table, reason, error = %crate::error_chain(&error), "segment stays in the journal");
                    return Delivered::Stuck;
                }
                Verdict::Fatal => {
                    error!(segment = run.contents.number, error = %crate::error_chain(&error), "delivery cannot go on");
                    return Delivered::Fatal;
                }
            },
        }
    }
    run.finish();
    Delivered::Retired
}

/// Makes the first contact before there is anything to deliver, so that what is wrong shows at once.
pub async fn make_contact(context: &DeliveryContext) {
    let mut attempt = 0;
    while let Err(error) = context.contact.ensure().await {
        context.judge(&error.into(), "");
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
    }
    context.status.clear(&CLEARED_BY_SUCCESS);
}

/// The wait before attempt `attempt + 2`: doubled each time up to `RETRY_MAX`, and a random part of it, so that pods
/// that failed together do not come back together.
fn backoff(attempt: u32) -> Duration {
    let longest = RETRY_FIRST.saturating_mul(1 << attempt.min(16)).min(RETRY_MAX);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

impl DeliveryContext {
    /// Shows a failed step and decides what is done about it.
    fn judge(&self, error: &StepError, table: &str) -> Verdict {
        let verdict = match error {
            StepError::Contact(ContactError::Store(error) | ContactError::Owner(OwnerError::Store(error)))
            | StepError::Contact(ContactError::Registry(RegistryError::Store(error)))
            | StepError::Registry(RegistryError::Store(error))
            | StepError::Publish(PublishError::Store(error)) => Verdict::Retry(error.kind.reason()),
            StepError::Contact(ContactError::Owner(OwnerError::PrefixInUse { .. })) => {
                Verdict::Retry(reasons::PREFIX_IN_USE)
            }
            StepError::Contact(ContactError::NotCreateOnly) => Verdict::Retry(reasons::CONDITIONAL_PUT_UNSUPPORTED),
            StepError::Contact(ContactError::Registry(_)) | StepError::Registry(_) => {
                Verdict::Retry(reasons::SCHEMA_REGISTRY)
            }
            StepError::Encode(EncodeError::Gone) | StepError::Journal(_) | StepError::Transition(_) => Verdict::Fatal,
            StepError::Encode(_) => Verdict::Retry(reasons::ENCODE_FAILED),
            StepError::Publish(PublishError::KeyConflict { .. }) | StepError::PlanMismatch { .. } => {
                Verdict::Stuck(reasons::KEY_CONFLICT)
            }
        };
        if let Verdict::Retry(reason) | Verdict::Stuck(reason) = verdict {
            let message = crate::error_chain(error);
            self.metrics.delivery_failures(reason).inc();
            if !table.is_empty() {
                self.status.update_table(table, |table| table.last_error = Some(message.clone()));
            }
            self.status.set(reason, message);
        }
        verdict
    }
}

/// A delivery under way.
struct Run<'a> {
    context: &'a DeliveryContext,
    contents: Arc<Contents>,
    is_recovered: bool,
    segment: SegmentName,
    /// Statistics of the files that this process encoded, by part.
    statistics: BTreeMap<u32, Vec<ColumnStatistics>>,
    quarantined_by_batch: BTreeMap<u64, u64>,
    /// Parts that are known to be whole on the scratch volume, encoded or checked by this process.
    local_parts: Vec<u32>,
    outcome: Option<Plan>,
}

impl<'a> Run<'a> {
    fn new(context: &'a DeliveryContext, delivery: &Delivery) -> Self {
        let contents = &delivery.contents;
        Self {
            context,
            contents: Arc::clone(contents),
            is_recovered: delivery.is_recovered,
            segment: SegmentName { journal: context.journal.id(), epoch: contents.epoch, number: contents.number },
            statistics: BTreeMap::new(),
            quarantined_by_batch: BTreeMap::new(),
            local_parts: Vec::new(),
            outcome: None,
        }
    }

    /// Does what a state needs, and answers what happened then.
    async fn step(&mut self, state: &SegmentState) -> Result<SegmentEvent, StepError> {
        match state {
            SegmentState::Sealed { seal } => self.make_plan(seal).await,
            SegmentState::Planned { plans } => self.publish(plans).await,
            SegmentState::Published { plan } => self.describe(plan).await,
            SegmentState::Described { plan } => {
                self.context.journal.retire(self.contents.number).await?;
                self.outcome = Some(plan.clone());
                Ok(SegmentEvent::Retired)
            }
            SegmentState::Open | SegmentState::Retired => {
                unreachable!("only what is sealed is delivered, and the loop ends at retired")
            }
        }
    }

    async fn make_plan(&mut self, seal: &Seal) -> Result<SegmentEvent, StepError> {
        self.context.contact.ensure().await?;
        let registered = self.context.registry.reconcile(&self.contents.table, &self.contents.observed).await?;
        let plan = self.encode(seal, registered).await?;
        self.context.journal.plan(self.contents.number, plan.clone()).await?;
        Ok(SegmentEvent::Planned(plan))
    }

    async fn encode(&mut self, seal: &Seal, registered: Arc<RegisteredSchema>) -> Result<Plan, StepError> {
        let job = EncodeJob {
            contents: Arc::clone(&self.contents),
            seal: seal.clone(),
            segment: self.segment.clone(),
            prefix: self.context.prefix.clone(),
            registered,
            journal: self.context.journal.directory().to_owned(),
        };
        let encoded = self.context.encoder.encode(job).await?;
        self.local_parts = encoded.plan.files.iter().map(|file| file.part).collect();
        self.statistics = encoded.files.into_iter().map(|file| (file.planned.part, file.columns)).collect();
        self.quarantined_by_batch = encoded.quarantined_by_batch;
        Ok(encoded.plan)
    }

    async fn publish(&mut self, plans: &[Plan]) -> Result<SegmentEvent, StepError> {
        let context = self.context;
        context.contact.ensure().await?;
        let Some(plan) = plans.last() else {
            return Err(StepError::PlanMismatch { segment: self.contents.number });
        };
        let mut waiting = Vec::new();
        for planned in &plan.files {
            if !self.is_described(planned).await? {
                waiting.push(planned);
            }
        }
        if !self.all_local(&waiting).await {
            return self.encode_again(plan).await;
        }
        let puts = futures::stream::iter(waiting.into_iter().map(Ok::<_, PublishError>));
        puts.try_for_each_concurrent(PUTS_MAX, |planned| async {
            let local = context.scratch.encoded_file(self.contents.number, planned.part);
            let upload = Upload { planned, segment: &self.segment, local: &local };
            publish(&context.store, upload, plans, &context.encoder, &context.scratch.look()).await
        })
        .await?;
        Ok(SegmentEvent::Published)
    }

    /// Whether the lake already describes a file. A segment that this process has sealed is in nobody else's hands.
    async fn is_described(&self, planned: &PlannedFile) -> Result<bool, PublishError> {
        if !self.is_recovered {
            return Ok(false);
        }
        let (context, table) = (self.context, &self.contents.table);
        Ok(is_described(&context.store, &context.prefix, table, &self.segment, planned.part).await?)
    }

    /// Whether each file lies on the scratch volume as it was planned. What an earlier process left is read once.
    async fn all_local(&mut self, files: &[&PlannedFile]) -> bool {
        for planned in files {
            if self.local_parts.contains(&planned.part) {
                continue;
            }
            let path = self.context.scratch.encoded_file(self.contents.number, planned.part);
            let digest = tokio::task::spawn_blocking(move || sha256_of(&path)).await;
            if !matches!(digest, Ok(Ok(digest)) if digest == planned.sha256) {
                return false;
            }
            self.local_parts.push(planned.part);
        }
        true
    }

    /// The bytes are gone: the same rows under the same keys, perhaps in other bytes, and a plan that says so before
    /// they are sent.
    async fn encode_again(&mut self, plan: &Plan) -> Result<SegmentEvent, StepError> {
        info!(segment = self.contents.number, "encoding a segment again from its plan");
        let registered = self.context.registry.version(&self.contents.table, plan.schema_version).await?;
        let again = self.encode(&plan.seal, registered).await?;
        let promise = |plan: &Plan| -> Vec<(String, u64, String)> {
            plan.files.iter().map(|file| (file.key.clone(), file.rows, file.row_digest.clone())).collect()
        };
        if promise(&again) != promise(plan) {
            return Err(StepError::PlanMismatch { segment: self.contents.number });
        }
        self.context.journal.plan(self.contents.number, again.clone()).await?;
        Ok(SegmentEvent::Planned(again))
    }

    async fn describe(&mut self, plan: &Plan) -> Result<SegmentEvent, StepError> {
        let (context, table) = (self.context, &self.contents.table);
        let puts = futures::stream::iter(plan.files.iter().map(Ok::<_, PublishError>));
        puts.try_for_each_concurrent(PUTS_MAX, |planned| async {
            let columns = self.statistics.get(&planned.part).cloned().unwrap_or_default();
            let (version, sealed_at) = (plan.schema_version, plan.seal.sealed_at);
            let description = Description::of(planned, table, &self.segment, version, sealed_at, columns);
            Ok(describe(&context.store, &context.prefix, &self.segment, &description).await?)
        })
        .await?;
        Ok(SegmentEvent::Described)
    }

    /// Tells everybody, and removes the local files.
    fn finish(self) {
        let Some(plan) = self.outcome else { return };
        let context = self.context;
        for planned in &plan.files {
            // A file that stays behind is removed at the next start.
            let _ = std::fs::remove_file(context.scratch.encoded_file(self.contents.number, planned.part));
        }
        let main = plan.files.iter().filter(|file| file.role == FileRole::Main);
        let rows: u64 = main.clone().map(|file| file.rows).sum();
        let files = main.count() as u64;
        context.metrics.published_rows.inc_by(rows);
        context.metrics.published_files.inc_by(plan.files.len() as u64);
        context.metrics.published_bytes.inc_by(plan.files.iter().map(|file| file.size_bytes).sum());
        context.metrics.quarantined_rows.inc_by(plan.quarantined_rows);
        context.status.update_table(&self.contents.table, |table| {
            table.published_rows += rows;
            table.published_files += files;
            table.quarantined_rows += plan.quarantined_rows;
            table.last_error = None;
        });
        context.status.clear(&CLEARED_BY_SUCCESS);
        info!(
            segment = self.contents.number,
            table = self.contents.table,
            rows,
            files,
            quarantined_rows = plan.quarantined_rows,
            "segment is in the lake"
        );
        let outcome = Outcome { files: plan.files, quarantined_by_batch: self.quarantined_by_batch };
        context.outcomes.finish(self.contents.number, outcome);
    }
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests;
