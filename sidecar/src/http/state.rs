//! What the endpoints share.
//!
//! Owns: the handles. Does not own: what is behind them.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use utoipa::ToSchema;

use crate::clock::SharedClock;
use crate::config::{Pod, Settings};
use crate::flush::outcomes::Outcomes;
use crate::flush::pace::Pace;
use crate::flush::worker::FlushRequest;
use crate::http::body::InFlight;
use crate::intake::Intake;
use crate::journal::Journal;
use crate::leaving::Leaving;
use crate::metrics::Metrics;
use crate::publish::key::Prefix;
use crate::publish::store::Store;
use crate::schema::registry::Registry;
use crate::status::Status;

/// Who a sidecar is, for `/health`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Identity {
    /// Whose the prefix is.
    pub owner: String,
    /// The generation of the LakeIngest that the configuration was rendered from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
}

impl Identity {
    /// By what the process is told.
    pub fn of(settings: &Settings) -> Self {
        let Settings { owner, config, pod, .. } = settings;
        Self { owner: owner.to_string(), generation: config.generation, pod: pod.clone() }
    }
}

/// What the endpoints share, by one handle: each request has several of them, and a copy of all that is in here would take
/// a sixth of what a short request takes.
pub type Shared = Arc<AppState>;

/// See [`Shared`].
#[derive(Debug)]
pub struct AppState {
    /// The way in.
    pub intake: Arc<Intake>,
    /// The journal.
    pub journal: Journal,
    /// The schemas.
    pub registry: Arc<Registry>,
    /// Where flushes are asked for.
    pub flush: mpsc::Sender<FlushRequest>,
    /// What became of segments.
    pub outcomes: Arc<Outcomes>,
    /// What deliveries take.
    pub pace: Arc<Pace>,
    /// What is wrong.
    pub status: Arc<Status>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
    /// Whether the pod is about to end.
    pub leaving: Leaving,
    /// Who this is.
    pub identity: watch::Sender<Arc<Identity>>,
    /// Bodies in flight.
    pub in_flight: InFlight,
    /// The lake, for receipts.
    pub store: Store,
    /// Where in the lake.
    pub prefix: Prefix,
    /// What keys are below: `s3://<bucket>/` or a directory with a slash at its end.
    pub location: Arc<str>,
}
