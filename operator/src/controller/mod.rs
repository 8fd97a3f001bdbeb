//! From a LakeIngest to what its sidecars are told, and back to its status.
//!
//! Owns: the order `dereference → validate → claim → build → apply → status`, what is done after a failure, the one place where
//! an outcome is logged and counted. Every replica applies, since what is applied is the same whoever does it; the one that
//! leads writes the status.
//! Does not own: the steps, one file each; pods (`inject`).

mod apply;
mod build;
mod claim;
mod conditions;
mod dereference;
mod owners;
mod status;
mod validate;

pub use apply::{ApplyError, Settled};
pub use build::{Restored, build, owner_reference};
pub use dereference::{Dereferenced, Location};
pub use owners::Told;
pub use status::Written;
pub use validate::{ContextNames, ValidatedIngest, validate};

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use lakeingest_crds::lakeingest::{LakeIngest, reasons};
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::clock::SharedClock;
use crate::events::{Events, Happening};
use crate::index::{Found, Index, Watches, tried_for};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::preflight::Preflights;
use crate::sidecars::Sidecars;
use claim::ClaimError;
use status::{Outcome, StatusError};

/// How soon a failure that may pass is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How soon a LakeIngest whose prefix is another's is looked at again: nothing else tells that the other has gone.
const CONFLICT_RETRY: Duration = Duration::from_secs(10);

/// How long changes are gathered before they are looked at: a rollout changes many pods of one LakeIngest at once.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// LakeIngests that are looked at at once.
const CONCURRENCY: u16 = 8;

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What is known of the cluster.
    pub index: Index,
    /// Whether this replica says how LakeIngests are.
    pub leadership: Leadership,
    /// What does not change while the process runs.
    pub names: ContextNames,
    /// Time.
    pub clock: SharedClock,
    /// Where Events go.
    pub events: Events,
    /// What is known to be as it should be.
    pub settled: Settled,
    /// What the sidecars say.
    pub sidecars: Sidecars,
    /// What came of trying the lakes.
    pub preflights: Preflights,
    /// When statuses were written.
    pub written: Written,
    /// What the owners of pods were told.
    pub told: Told,
    /// The numbers.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server did not take it.
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// Runs until `shutdown` is ready and what is under way has ended.
pub async fn run(context: Arc<Context>, watches: Watches, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    let Watches { lake_ingests, config_maps, pods, asking, trials } = watches;
    let (with_label, without_label) = (context.index.clone(), context.index.clone());
    let filled = context.index.clone();
    let first_look = futures::stream::once(async move { filled.synced().await });
    let config = Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY);
    Controller::for_stream(lake_ingests, context.index.lake_ingests())
        .with_config(config)
        .owns_stream(config_maps)
        .watches_stream(pods, move |pod| with_label.concerned_by(&pod))
        .watches_stream(asking, move |pod| without_label.asked_by(&pod))
        .watches_stream(trials, |pod| tried_for(&pod))
        .reconcile_on(context.sidecars.changes())
        .reconcile_on(context.preflights.changes())
        .reconcile_on(context.index.namesakes())
        .reconcile_all_on(context.leadership.terms())
        .reconcile_all_on(first_look)
        .graceful_shutdown_on(shutdown)
        .run(reconcile, retry, context)
        .for_each(|outcome| async move {
            // A LakeIngest that has gone between the event and the look is no failure.
            if let Err(error) = outcome {
                debug!(error = %error, "no reconcile");
            }
        })
        .await;
}

/// Looks at one LakeIngest.
async fn reconcile(found: Arc<Found>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let namespace = found.namespace().unwrap_or_default();
    let span = info_span!("reconcile", %namespace, name = %found.name_any());
    reconcile_in_span(&found, &context).instrument(span).await
}

async fn reconcile_in_span(found: &Found, context: &Context) -> Result<Action, ReconcileError> {
    if !context.index.is_synced() {
        debug!("not looked at before the watches are filled; all are looked at then");
        return Ok(Action::await_change());
    }
    let started = context.clock.monotonic();
    let outcome = match outcome_of(found, context).await {
        Ok(outcome) => outcome,
        Err(NoOutcome::NamespaceEnds) => {
            debug!("the namespace is being deleted");
            return Ok(Action::await_change());
        }
        Err(NoOutcome::Superseded) => {
            debug!("the LakeIngest has changed meanwhile");
            return Ok(Action::requeue(RETRY));
        }
    };
    let label = outcome.label();
    match &outcome {
        Outcome::Configured { was_applied: true, .. } => info!("rendered the sidecars' configuration"),
        Outcome::Configured { .. } => debug!("nothing to change"),
        Outcome::Invalid { message } => info!(error = %message, "the specification cannot be used"),
        Outcome::PrefixInUse { message } => info!(error = %message, "the prefix is another's"),
        Outcome::ApplyFailed { error } => error!(error = %crate::error_chain(error), "failed to apply"),
    }
    context.metrics.reconciled(label, context.clock.monotonic().saturating_sub(started));
    let again = match &outcome {
        Outcome::Configured { .. } | Outcome::Invalid { .. } => None,
        Outcome::PrefixInUse { .. } => Some(CONFLICT_RETRY),
        Outcome::ApplyFailed { .. } => Some(RETRY),
    };
    // Client required. One that leads no more while it writes leaves the rest to the one that does.
    let rest = context.leadership.during(status::update(context, found, &outcome)).await.transpose()?.flatten();
    Ok(again.into_iter().chain(rest).min().map_or_else(Action::await_change, Action::requeue))
}

/// Why there is nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoOutcome {
    /// The namespace is being deleted, and the LakeIngest with it.
    NamespaceEnds,
    /// The LakeIngest is not what it was when it was looked at; the watch is about to tell.
    Superseded,
}

/// Who has the location of a LakeIngest, if that is another one.
pub fn holder_of(index: &Index, ingest: &LakeIngest) -> Option<String> {
    dereference::dereference(index, ingest).holder
}

/// What comes of the steps.
async fn outcome_of(found: &Found, context: &Context) -> Result<Outcome, NoOutcome> {
    let ingest: &LakeIngest = match &found.0 {
        Ok(ingest) => ingest,
        Err(invalid) => return Ok(Outcome::Invalid { message: invalid.error.clone() }),
    };
    // No client: everything is in the index.
    let dereferenced = dereference::dereference(&context.index, ingest);
    // No client.
    let validated = validate(ingest, &context.names);
    // Client required. Before what follows from it: no sidecar is told of a location that another may yet get.
    let wanted = claim::wanted(ingest, validated.is_ok(), dereferenced.holder.is_some());
    match claim::write(&context.client, ingest, wanted.as_deref()).await {
        Ok(()) => {}
        Err(ClaimError::Superseded { .. }) => return Err(NoOutcome::Superseded),
        Err(error @ ClaimError::Patch { .. }) => return Ok(Outcome::ApplyFailed { error: error.into() }),
    }
    let validated = match validated {
        Ok(validated) => validated,
        Err(violations) => return Ok(Outcome::Invalid { message: violations.to_string() }),
    };
    // No client, cannot fail.
    let prepared = build(&validated, dereferenced.holder.as_deref());
    // Client required.
    let places = context.index.count().saturating_mul(2);
    match apply::apply(&context.client, prepared, &dereferenced, &context.settled, places).await {
        Ok(applied) => {
            if let Some(restored) = applied.restored() {
                tell_restored(context, found, &applied.config_map.name_any(), restored).await;
            }
            Ok(match dereferenced.holder {
                Some(holder) => Outcome::PrefixInUse { message: validated.location().conflict_with(&holder) },
                None => Outcome::Configured { was_applied: applied.was_changed(), location: validated.location() },
            })
        }
        Err(error) if error.is_of_ending_namespace() => Err(NoOutcome::NamespaceEnds),
        Err(error) => Ok(Outcome::ApplyFailed { error }),
    }
}

/// Whichever replica has put it back tells it.
async fn tell_restored(context: &Context, found: &Found, config_map: &str, restored: &Restored) {
    let done = if restored.was_deleted { "deleted" } else { "changed" };
    warn!(config_map, done, "put back what somebody had done to the sidecars' configuration");
    let note = format!(
        "somebody has {done} ConfigMap {config_map}, which is rendered from this LakeIngest: it is put back; to change it, change the \
         LakeIngest"
    );
    let key = format!("{done} {}", restored.last_right);
    let happening = Happening { is_warning: true, reason: reasons::CONFIGURATION_RESTORED, note, key };
    context.events.publish(&context.client, &found.object_ref(&()), happening).await;
}

fn retry(found: Arc<DeserializeGuard<LakeIngest>>, failure: &ReconcileError, context: Arc<Context>) -> Action {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    error!(%namespace, %name, error = %crate::error_chain(failure), "failed to write the status");
    context.metrics.reconciled("status-failed", Duration::ZERO);
    Action::requeue(RETRY)
}

/// Names an object for a message.
fn named(ingest: &LakeIngest) -> String {
    ObjectRef::from_obj(ingest)
        .namespace
        .map_or_else(|| ingest.name_any(), |namespace| format!("{namespace}/{}", ingest.name_any()))
}

#[cfg(test)]
mod tests;
