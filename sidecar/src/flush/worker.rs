//! The task that seals segments and sends them on their way.
//!
//! Owns: the tracker, the order of deliveries (oldest first, at most `DELIVERIES_MAX` at a time).
//! Does not own: what a delivery does (`deliver`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span};

use crate::flush::deliver::{Delivered, Delivery, DeliveryContext, deliver};
use crate::flush::tracker::{FlushAction, FlushEvent, FlushPolicy, FlushTracker, Moment};
use crate::journal::Sealed;
use crate::journal::segment::SegmentState;
use crate::limits::DELIVERIES_MAX;

/// A caller waits for a segment.
#[derive(Clone, Copy, Debug)]
pub struct FlushRequest {
    /// The segment.
    pub segment: u64,
    /// Whether others may join it for a moment.
    pub linger: bool,
}

/// How the worker's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It was told to drain, and everything is in the lake.
    Drained,
    /// It was told to drain, and some segments cannot be delivered.
    Stuck,
    /// The process must end.
    Fatal,
}

/// The worker.
#[derive(Debug)]
pub struct FlushWorker {
    context: Arc<DeliveryContext>,
    tracker: FlushTracker,
    requests: mpsc::Receiver<FlushRequest>,
    /// Becomes true when the process ends: what is open is sealed.
    draining: watch::Receiver<bool>,
    /// Becomes true when no request is under way any more: nothing will be appended.
    closed: watch::Receiver<bool>,
    waiting: VecDeque<Delivery>,
    under_way: JoinSet<Delivered>,
    stuck: usize,
}

/// How long nothing may happen before the tracker is asked all the same: the day may have changed.
const TICK: Duration = Duration::from_secs(1);

impl FlushWorker {
    /// A worker that begins with what an earlier process left.
    pub fn new(
        context: Arc<DeliveryContext>,
        policy: FlushPolicy,
        requests: mpsc::Receiver<FlushRequest>,
        draining: watch::Receiver<bool>,
        closed: watch::Receiver<bool>,
        recovered: Vec<Delivery>,
    ) -> Self {
        Self {
            context,
            tracker: FlushTracker::new(policy),
            requests,
            draining,
            closed,
            waiting: recovered.into(),
            under_way: JoinSet::new(),
            stuck: 0,
        }
    }

    /// Works until it has drained, or cannot go on.
    pub async fn run(mut self) -> WorkerEnd {
        let mut journal = self.context.journal.watch();
        loop {
            if *self.draining.borrow() && self.act(FlushEvent::Draining).await.is_err() {
                return WorkerEnd::Fatal;
            }
            let view = journal.borrow_and_update().clone();
            if self.act(FlushEvent::Open(&view.open)).await.is_err() {
                return WorkerEnd::Fatal;
            }
            self.start_deliveries();
            // Looked at before the journal: what was appended until then is in the view below.
            let is_closed = *self.closed.borrow_and_update();
            if is_closed && self.under_way.is_empty() && self.context.journal.view().open.is_empty() {
                return if self.stuck == 0 { WorkerEnd::Drained } else { WorkerEnd::Stuck };
            }
            let now = self.now().monotonic;
            let wake = self.tracker.next_wake().map_or(TICK, |wake| wake.saturating_sub(now).min(TICK));
            let is_draining = *self.draining.borrow();
            tokio::select! {
                changed = journal.changed() => if changed.is_err() { return WorkerEnd::Fatal },
                Some(request) = self.requests.recv() => {
                    if self.take_requests(request).await.is_err() {
                        return WorkerEnd::Fatal;
                    }
                }
                Some(ended) = self.under_way.join_next() => match ended {
                    Ok(Delivered::Retired) => {}
                    Ok(Delivered::Stuck) => self.stuck += 1,
                    Ok(Delivered::Fatal) | Err(_) => return WorkerEnd::Fatal,
                },
                _ = self.draining.changed(), if !is_draining => {}
                _ = self.closed.changed(), if !is_closed => {}
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    /// A request names a segment that its caller has just seen open, so the newest view is taken in first.
    async fn take_requests(&mut self, first: FlushRequest) -> Result<(), ()> {
        let view = self.context.journal.view();
        self.act(FlushEvent::Open(&view.open)).await?;
        let mut next = Some(first);
        while let Some(FlushRequest { segment, linger }) = next {
            self.act(FlushEvent::Requested { segment, linger }).await?;
            next = self.requests.try_recv().ok();
        }
        Ok(())
    }

    /// Tells the tracker and does what it answers.
    async fn act(&mut self, event: FlushEvent<'_>) -> Result<(), ()> {
        for action in self.tracker.on_event(self.now(), event) {
            let FlushAction::Seal { segment, reason } = action;
            match self.context.journal.seal(segment, reason).await {
                Ok(Some(Sealed { contents, seal })) => {
                    let state = SegmentState::Sealed { seal };
                    self.waiting.push_back(Delivery { contents, state, is_recovered: false });
                }
                Ok(None) => {}
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    fn start_deliveries(&mut self) {
        while self.under_way.len() < DELIVERIES_MAX
            && let Some(delivery) = self.waiting.pop_front()
        {
            let context = Arc::clone(&self.context);
            let span = info_span!("deliver", segment = delivery.contents.number, table = delivery.contents.table);
            self.under_way.spawn(async move { deliver(&context, delivery).await }.instrument(span));
        }
    }

    fn now(&self) -> Moment {
        let clock = &self.context.clock;
        Moment { monotonic: clock.monotonic(), day: clock.now().date_naive() }
    }
}
