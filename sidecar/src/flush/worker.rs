//! The task that seals segments and sends them on their way.
//!
//! Owns: the tracker, the order of deliveries (oldest first, at most `DELIVERIES_MAX` at a time).
//! Does not own: what a delivery does (`deliver`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span, warn};

use crate::flush::backoff;
use crate::flush::deliver::{Delivered, Delivery, DeliveryContext, deliver};
use crate::flush::tracker::{FlushAction, FlushEvent, FlushPolicy, FlushTracker, Moment};
use crate::journal::Sealed;
use crate::journal::segment::{Contents, SegmentState};
use crate::journal::view::JournalView;
use crate::leaving::{Grace, Leaving};
use crate::limits::{BACKLOG_SEGMENTS_MAX, DELIVERIES_MAX};
use crate::status::reasons;

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
    /// Says that the pod is about to end.
    leaving: Leaving,
    /// For how long that is believed.
    grace: watch::Receiver<Grace>,
    is_hurried: bool,
    /// Becomes true when the process ends: what is open is sealed.
    draining: watch::Receiver<bool>,
    /// Becomes true when no request is under way any more: nothing will be appended.
    closed: watch::Receiver<bool>,
    waiting: VecDeque<Waiting>,
    under_way: JoinSet<Attempt>,
    policies: watch::Receiver<FlushPolicy>,
    /// Tables of the deliveries under way.
    busy_tables: Vec<String>,
    /// Until when nothing is tried, because everything would fail.
    paused_until: Duration,
    /// Failures since the last success that everybody would share; 0 while the lake is well.
    failures_in_a_row: u32,
    /// Deliveries that have succeeded.
    successes: u64,
    /// How many had when a segment last failed, by its number: if more had when its next attempt began, and that fails too,
    /// the failure is its own.
    failed_at: BTreeMap<u64, u64>,
    /// Segments that nobody can deliver.
    stuck: BTreeSet<u64>,
}

/// A delivery and the moment before which it is not tried.
#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    due: Duration,
    /// Whether it has failed where others do not.
    is_failing_alone: bool,
}

impl Waiting {
    /// One that is to be tried as soon as it is its turn.
    fn new(delivery: Delivery) -> Self {
        Self { delivery, due: Duration::ZERO, is_failing_alone: false }
    }
}

/// A delivery that was tried.
#[derive(Debug)]
struct Attempt {
    contents: Arc<Contents>,
    /// Deliveries that had succeeded when it began.
    successes_before: u64,
    delivered: Delivered,
}

/// Deliveries that are tried at one time while everything fails: the oldest, and one more in case that the oldest is the
/// only one that does.
const TRIALS_MAX: usize = 2;

/// How long nothing may happen before the tracker is asked all the same: the day may have changed.
const TICK: Duration = Duration::from_secs(1);

impl FlushWorker {
    /// A worker that begins with what an earlier process left.
    pub fn new(
        context: Arc<DeliveryContext>,
        policies: watch::Receiver<FlushPolicy>,
        requests: mpsc::Receiver<FlushRequest>,
        leaving: (Leaving, watch::Receiver<Grace>),
        draining: watch::Receiver<bool>,
        closed: watch::Receiver<bool>,
        recovered: Vec<Delivery>,
    ) -> Self {
        let (leaving, grace) = leaving;
        let tracker = FlushTracker::new(*policies.borrow());
        Self {
            context,
            tracker,
            policies,
            requests,
            leaving,
            grace,
            is_hurried: false,
            draining,
            closed,
            waiting: recovered.into_iter().map(Waiting::new).collect(),
            under_way: JoinSet::new(),
            busy_tables: Vec::new(),
            paused_until: Duration::ZERO,
            failures_in_a_row: 0,
            successes: 0,
            failed_at: BTreeMap::new(),
            stuck: BTreeSet::new(),
        }
    }

    /// Works until it has drained, or cannot go on.
    pub async fn run(mut self) -> WorkerEnd {
        let mut journal = self.context.journal.watch();
        let mut leaving = self.leaving.watch();
        loop {
            leaving.mark_unchanged();
            if self.hurry().await.is_err() {
                return WorkerEnd::Fatal;
            }
            if *self.draining.borrow() && self.act(FlushEvent::Draining).await.is_err() {
                return WorkerEnd::Fatal;
            }
            let view = journal.borrow_and_update().clone();
            if self.take_view(&view).await.is_err() {
                return WorkerEnd::Fatal;
            }
            self.start_deliveries();
            // Looked at before the journal: what was appended until then is in the view below.
            let is_closed = *self.closed.borrow_and_update();
            let is_idle = self.under_way.is_empty() && self.waiting.is_empty();
            if is_closed && is_idle && self.context.journal.view().open.is_empty() {
                return if self.stuck.is_empty() { WorkerEnd::Drained } else { WorkerEnd::Stuck };
            }
            let now = self.now().monotonic;
            let wake = self.next_wake().map_or(TICK, |wake| wake.saturating_sub(now).min(TICK));
            let is_draining = *self.draining.borrow();
            tokio::select! {
                changed = journal.changed() => if changed.is_err() { return WorkerEnd::Fatal },
                Some(request) = self.requests.recv() => {
                    if self.take_requests(request).await.is_err() {
                        return WorkerEnd::Fatal;
                    }
                }
                Some(ended) = self.under_way.join_next() => match ended {
                    Ok(attempt) => {
                        if !self.take_end(attempt) {
                            return WorkerEnd::Fatal;
                        }
                    }
                    Err(_) => return WorkerEnd::Fatal,
                },
                _ = leaving.changed() => {}
                // Whoever could change it may be gone.
                Ok(()) = self.policies.changed() => {
                    let policy = *self.policies.borrow_and_update();
                    if self.act(FlushEvent::Policy(policy)).await.is_err() {
                        return WorkerEnd::Fatal;
                    }
                }
                _ = self.draining.changed(), if !is_draining => {}
                _ = self.closed.changed(), if !is_closed => {}
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    /// Hurries while the end of the pod is announced and believed.
    async fn hurry(&mut self) -> Result<(), ()> {
        let (now, believed) = (self.now().monotonic, self.grace.borrow().believed());
        let is_hurried = match self.leaving.announced() {
            Some(announced) if now < announced + believed => true,
            // The process is ending: the announcement came true.
            Some(_) if *self.draining.borrow() => true,
            Some(_) => {
                warn!("the end of the pod was announced and did not come; flushing as before");
                self.leaving.forget();
                false
            }
            None => false,
        };
        if is_hurried == self.is_hurried {
            return Ok(());
        }
        self.is_hurried = is_hurried;
        match is_hurried {
            true => {
                let message = "the pod is about to end: records are taken and go to the lake within a second";
                self.context.status.set(reasons::POD_ENDING, message.to_owned());
            }
            false => self.context.status.clear(&[reasons::POD_ENDING]),
        }
        self.act(FlushEvent::Hurry(is_hurried)).await
    }

    /// A request names a segment that its caller has just seen open, so the newest view is taken in first.
    async fn take_requests(&mut self, first: FlushRequest) -> Result<(), ()> {
        let view = self.context.journal.view();
        self.take_view(&view).await?;
        let mut next = Some(first);
        while let Some(FlushRequest { segment, linger }) = next {
            self.act(FlushEvent::Requested { segment, linger }).await?;
            next = self.requests.try_recv().ok();
        }
        Ok(())
    }

    /// Tells the tracker of a view. What is stuck keeps nothing else from being sealed: it would do so for ever.
    async fn take_view(&mut self, view: &JournalView) -> Result<(), ()> {
        let mut backlog = Vec::new();
        // Of a short one nothing is asked, and views come with every group of requests.
        if view.sealed.len() >= BACKLOG_SEGMENTS_MAX {
            let waiting = view.sealed.iter().filter(|segment| !self.stuck.contains(&segment.number));
            backlog.extend(waiting.map(|segment| &*segment.table));
            backlog.sort_unstable();
        }
        self.act(FlushEvent::Open { open: &view.open, backlog: &backlog, crowded: view.crowded_file() }).await
    }

    /// Tells the tracker and does what it answers.
    async fn act(&mut self, event: FlushEvent<'_>) -> Result<(), ()> {
        for action in self.tracker.on_event(self.now(), event) {
            let FlushAction::Seal { segment, reason } = action;
            match self.context.journal.seal(segment, reason).await {
                Ok(Some(Sealed { contents, seal })) => {
                    let delivery = Delivery::new(contents, SegmentState::Sealed { seal });
                    self.waiting.push_back(Waiting::new(delivery));
                }
                Ok(None) => {}
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    /// Starts the deliveries that may be tried now.
    fn start_deliveries(&mut self) {
        let now = self.now().monotonic;
        while self.has_room() && now >= self.paused_until {
            let Some(next) = self.next_place(now).and_then(|place| self.waiting.remove(place)) else { return };
            let (context, contents) = (Arc::clone(&self.context), Arc::clone(&next.delivery.contents));
            self.busy_tables.push(contents.table.clone());
            let span = info_span!("deliver", segment = contents.number, table = contents.table);
            let successes_before = self.successes;
            let attempt = async move {
                let start = context.clock.monotonic();
                let delivered = deliver(&context, next.delivery).await;
                if matches!(delivered, Delivered::Retired) {
                    context.pace.delivered(contents.body_bytes, context.clock.monotonic().saturating_sub(start));
                }
                Attempt { contents, successes_before, delivered }
            };
            self.under_way.spawn(attempt.instrument(span));
        }
    }

    /// Whether one more may be tried at this time.
    fn has_room(&self) -> bool {
        let deliveries_max = if self.failures_in_a_row == 0 { DELIVERIES_MAX } else { TRIALS_MAX };
        self.under_way.len() < deliveries_max
    }

    /// Whether nothing of its table is under way, where that matters.
    fn is_free(&self, waiting: &Waiting) -> bool {
        !waiting.is_failing_alone || !self.busy_tables.contains(&waiting.delivery.contents.table)
    }

    /// The place of the delivery that is next: the oldest that may be tried. Of a table that fails alone one is tried at a
    /// time, so that it cannot keep the others from the lake. While everything fails, the second trial is of the one that
    /// was tried least.
    fn next_place(&self, now: Duration) -> Option<usize> {
        let mut due =
            self.waiting.iter().enumerate().filter(|(_, waiting)| waiting.due <= now && self.is_free(waiting));
        let next = match self.failures_in_a_row > 0 && !self.under_way.is_empty() {
            true => due.min_by_key(|(_, waiting)| waiting.delivery.attempts),
            false => due.next(),
        };
        next.map(|(place, _)| place)
    }

    /// Takes in how a delivery ended; false if the process must end.
    fn take_end(&mut self, attempt: Attempt) -> bool {
        let Attempt { contents, successes_before, delivered } = attempt;
        if let Some(place) = self.busy_tables.iter().position(|table| *table == contents.table) {
            self.busy_tables.swap_remove(place);
        }
        match delivered {
            Delivered::Retired => {
                self.paused_until = Duration::ZERO;
                self.failures_in_a_row = 0;
                self.successes += 1;
                self.failed_at.remove(&contents.number);
            }
            Delivered::Later { delivery, wait, is_everybodys } => {
                self.put_back(*delivery, wait, is_everybodys, successes_before);
            }
            Delivered::Stuck => {
                self.stuck.insert(contents.number);
                self.failed_at.remove(&contents.number);
            }
            Delivered::Fatal => return false,
        }
        true
    }

    /// Puts a delivery back to its place, since the oldest goes first. If everything fails, nothing is tried for a while; if
    /// others had succeeded after its last failure and before this attempt began, it alone waits. An attempt that began in
    /// an outage and failed after the first success of another says nothing of the segment: it began too early.
    fn put_back(&mut self, delivery: Delivery, wait: Duration, is_everybodys: bool, successes_before: u64) {
        let (now, number) = (self.now().monotonic, delivery.contents.number);
        let before = self.failed_at.insert(number, self.successes);
        let is_refuted = before.is_some_and(|before| successes_before > before);
        let mut waiting = Waiting::new(delivery);
        if is_everybodys && !is_refuted {
            self.paused_until = self.paused_until.max(now + backoff(self.failures_in_a_row));
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        } else {
            waiting.due = now + wait;
            waiting.is_failing_alone = true;
        }
        let place = self.waiting.partition_point(|waiting| waiting.delivery.contents.number < number);
        self.waiting.insert(place, waiting);
    }

    /// When something falls due, if nothing happens before.
    fn next_wake(&self) -> Option<Duration> {
        // Where no more is tried at a time, or the table is not free, what ends first wakes the worker.
        let waiting = self.waiting.iter().filter(|waiting| self.has_room() && self.is_free(waiting));
        let due = waiting.map(|waiting| waiting.due.max(self.paused_until)).min();
        self.tracker.next_wake().into_iter().chain(due).min()
    }

    fn now(&self) -> Moment {
        let clock = &self.context.clock;
        Moment { monotonic: clock.monotonic(), day: clock.now().date_naive() }
    }
}
