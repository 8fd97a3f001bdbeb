//! What the endpoints share.
//!
//! Owns: the handles. Does not own: what is behind them.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::clock::SharedClock;
use crate::flush::outcomes::Outcomes;
use crate::flush::worker::FlushRequest;
use crate::http::body::InFlight;
use crate::intake::Intake;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::schema::registry::Registry;
use crate::status::Status;

/// What the endpoints share. Cheap to clone.
#[derive(Clone, Debug)]
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
    /// What is wrong.
    pub status: Arc<Status>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: SharedClock,
    /// Bodies in flight.
    pub in_flight: InFlight,
    /// What keys are below: `s3://<bucket>/` or a directory with a slash at its end.
    pub location: Arc<str>,
}
