//! The end: everything into the lake, or the log files as they are, in the time that there is.
//!
//! Owns: what goes first, when encoding is given up, what is said of what is left. Does not own: how it is done.
//!
//! ```text
//! told to end ──> no new records ──> flush ────────────────────────────────────────────> drained (0)
//!                                      ├─ in a pod, when time runs out: log files, flush on ──> drained (0)
//!                                      │                                      ├────> rescued (0)
//!                                      │                                      └────> unflushed (75)
//!                                      ├─ what cannot be delivered; in a pod: log files ──> stuck (75)
//!                                      └─ a part fails; in a pod: log files ──> failed (70)
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::{LAST_ANSWERS_WAIT, Running, Signals};
use crate::flush::deliver::DeliveryContext;
use crate::flush::worker::WorkerEnd;
use crate::journal::control::SealReason;
use crate::journal::view::JournalView;
use crate::limits::LAKE_WAIT_AT_END;
use crate::rescue::upload::{self, Progress};
use crate::status::{Status, reasons};

/// The process ended with rows that are in the journal and not in the lake; the next start delivers them.
/// Source: `EX_TEMPFAIL` of sysexits.h.
pub(crate) const EXIT_UNFLUSHED: u8 = 75;

/// The journal's disk or a thread failed; the next start recovers from what is on disk.
/// Source: `EX_SOFTWARE` of sysexits.h.
const EXIT_FAILED: u8 = 70;

/// What is neither in its tables nor, as log files, in the lake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Left {
    rows: u64,
    bytes: u64,
}

impl Left {
    /// Everything that is not in its table.
    fn of(view: &JournalView) -> Self {
        Self { rows: view.unretired_rows(None), bytes: view.unretired_bytes() }
    }

    /// As [`Self::of`], without what is in log files in the lake.
    fn without_rescued(view: &JournalView, progress: &Progress) -> Self {
        let mut left = Self::of(view);
        for segment in view.sealed.iter().filter(|segment| progress.has(segment)) {
            left.rows -= segment.rows;
            left.bytes -= segment.body_bytes;
        }
        left
    }
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reason {
    /// Everything is in its table.
    Drained,
    /// What is not is in log files in the lake.
    Rescued,
    /// Some of it cannot be delivered, by anybody, until somebody looks.
    Stuck,
    /// Some of it is in the journal alone.
    Unflushed,
    /// A part failed.
    Failed,
}

/// How the process ended, and what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) code: u8,
    reason: Reason,
    left: Left,
    rescued_rows: u64,
}

/// The termination message: what the kubelet puts into the container's state, and the operator reads there.
#[derive(Serialize)]
struct Message {
    reason: Reason,
    unflushed_rows: u64,
    unflushed_bytes: u64,
    rescued_rows: u64,
}

impl Ending {
    /// How a drain ended.
    fn of(end: Option<WorkerEnd>, view: &JournalView, progress: &Progress) -> Self {
        let left = Left::without_rescued(view, progress);
        let rescued_rows = view.unretired_rows(None) - left.rows;
        let (code, reason) = match end {
            Some(WorkerEnd::Fatal) => (EXIT_FAILED, Reason::Failed),
            // Log files of it do not help: nobody can deliver them as they are.
            Some(WorkerEnd::Stuck) => (EXIT_UNFLUSHED, Reason::Stuck),
            Some(WorkerEnd::Drained) | None if left.rows > 0 => (EXIT_UNFLUSHED, Reason::Unflushed),
            Some(WorkerEnd::Drained) | None if rescued_rows > 0 => (0, Reason::Rescued),
            Some(WorkerEnd::Drained) | None => (0, Reason::Drained),
        };
        Self { code, reason, left, rescued_rows }
    }

    /// Tells the kubelet, where there is one.
    fn tell(&self, path: Option<&Path>) {
        let Some(path) = path else { return };
        let Left { rows, bytes } = self.left;
        let message = Message {
            reason: self.reason,
            unflushed_rows: rows,
            unflushed_bytes: bytes,
            rescued_rows: self.rescued_rows,
        };
        let message = serde_json::to_vec(&message).expect("a message is plain data");
        if let Err(error) = std::fs::write(path, message) {
            warn!(error = %error, path = %path.display(), "failed to write the termination message");
        }
    }

    fn log(&self, journal: &Path, goes_with_pod: bool) {
        let (rows, journal) = (self.left.rows, journal.display());
        let rescued_rows = self.rescued_rows;
        match self.reason {
            Reason::Drained => info!("drained"),
            Reason::Rescued => {
                warn!(
                    rescued_rows,
                    "ended with rows in log files in the lake; lakeingest-sidecar rescue delivers them"
                );
            }
            Reason::Stuck => {
                error!(rows, rescued_rows, %journal, "ended with rows that cannot be delivered; the lake has other rows under their names");
            }
            Reason::Failed if rows == 0 => {
                warn!(rescued_rows, "ended because a part failed; nothing is in the journal alone");
            }
            Reason::Unflushed | Reason::Failed if goes_with_pod => {
                error!(rows, rescued_rows, %journal, "ended with rows in the journal; they are lost if its volume goes with the pod");
            }
            Reason::Unflushed | Reason::Failed => {
                warn!(rows, rescued_rows, %journal, "ended with rows in the journal; the next start delivers them");
            }
        }
    }
}

impl Running {
    /// Takes no more records, answers who waits, flushes everything, and ends. The deadline, or a second interrupt, ends it
    /// before. A second SIGTERM says nothing new.
    pub(super) async fn drain(self, signals: &mut Signals) -> Ending {
        let Self { context, status, grace, mut application, mut worker, close, mut journal_failed, .. } = self;
        self.reload.abort();
        let (announced, grace) = (self.leaving.announced(), *grace.borrow());
        let wait = grace.drain_wait(self.clock.monotonic(), announced);
        info!(seconds = wait.as_secs(), "draining");
        status.set_draining();
        self.drain.send_replace(true);
        let patience = tokio::spawn({
            let status = Arc::clone(&status);
            async move {
                tokio::time::sleep(LAKE_WAIT_AT_END).await;
                status.end_waits();
            }
        });
        let (progress, is_pod) = (Progress::default(), grace.pod.is_some());
        let (worker_end, worker_ended) = watch::channel(None);
        let departure =
            Departure { context: &context, progress: &progress, worker_end: worker_ended, closed: close.subscribe() };
        let end = {
            let (departed, deadline) = (departure.run(wait), tokio::time::sleep(wait));
            tokio::pin!(departed, deadline);
            let (mut is_closed, mut is_gone) = (false, false);
            loop {
                let known = *worker_end.borrow();
                let found = tokio::select! {
                    // The flushes that requests wait for go on meanwhile.
                    _ = &mut application, if !is_closed => {
                        is_closed = true;
                        close.send_replace(true);
                        continue;
                    }
                    end = &mut worker, if known.is_none() => end.unwrap_or(WorkerEnd::Fatal),
                    _ = journal_failed.wait_for(|failed| *failed), if known.is_none() => WorkerEnd::Fatal,
                    () = &mut departed, if is_pod && !is_gone => {
                        is_gone = true;
                        if known.is_some() {
                            break known;
                        }
                        // What gets into its table in the time that is left needs no rescue.
                        continue;
                    }
                    () = &mut deadline => break known,
                    _ = signals.interrupt.recv() => break known,
                };
                if found == WorkerEnd::Drained || !is_pod || is_gone {
                    break Some(found);
                }
                // What is left goes as it is, and at once: in a pod there is no next start.
                worker_end.send_replace(Some(found));
            }
        };
        let end = end.or_else(|| status.has(reasons::KEY_CONFLICT).then_some(WorkerEnd::Stuck));
        patience.abort();
        self.contact.abort();
        self.disk.abort();
        answer_the_last(&status, application).await;
        let ending = Ending::of(end, &context.journal.view(), &progress);
        ending.log(context.journal.directory(), is_pod && announced.is_some());
        ending.tell(self.termination_log.as_deref());
        self.finish.send_replace(true);
        // Whoever is slow to take an answer there must not keep the process until it is killed.
        let _ = tokio::time::timeout(LAST_ANSWERS_WAIT, self.health).await;
        ending
    }

    /// Ends because a part has failed; those who wait for an answer get it. Where the pod goes too, what is not in its table
    /// leaves with log files first.
    pub(super) async fn give_up(self) -> Ending {
        let Self { context, status, grace, .. } = self;
        status.set_draining();
        self.drain.send_replace(true);
        self.worker.abort();
        answer_the_last(&status, self.application).await;
        self.reload.abort();
        let (progress, announced, grace) = (Progress::default(), self.leaving.announced(), *grace.borrow());
        let goes_with_pod = grace.pod.is_some() && announced.is_some();
        if goes_with_pod {
            let wait = grace.drain_wait(self.clock.monotonic(), announced);
            let (_worker_end, worker_end) = watch::channel(Some(WorkerEnd::Fatal));
            let closed = self.close.subscribe();
            let departure = Departure { context: &context, progress: &progress, worker_end, closed };
            if tokio::time::timeout(wait, departure.run(wait)).await.is_err() {
                warn!("time is over; not all log files are in the lake");
            }
        }
        let ending = Ending::of(Some(WorkerEnd::Fatal), &context.journal.view(), &progress);
        ending.log(context.journal.directory(), goes_with_pod);
        ending.tell(self.termination_log.as_deref());
        ending
    }
}

/// Answers whoever still waits, and gives the answers a moment to get out.
async fn answer_the_last(status: &Status, application: JoinHandle<()>) {
    status.end_waits();
    if !application.is_finished() {
        let _ = tokio::time::timeout(LAST_ANSWERS_WAIT, application).await;
    }
}

/// The log files' way into the lake, for what will not be in its tables in time.
struct Departure<'a> {
    context: &'a DeliveryContext,
    progress: &'a Progress,
    /// How the worker has ended: nothing is sealed or delivered any more.
    worker_end: watch::Receiver<Option<WorkerEnd>>,
    /// Becomes true when no request is under way any more.
    closed: watch::Receiver<bool>,
}

impl Departure<'_> {
    /// Brings the log files into the lake when what is left of `wait` is needed for that; at once when the worker has ended,
    /// and where it can be seen that encoding everything would take too long. Ends when everything is there that was and
    /// that will be acknowledged.
    async fn run(mut self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(self.latest_start(wait)) => {
                info!("time runs out; putting the log files into the lake");
            }
            ended = self.worker_end.wait_for(Option::is_some) => {
                drop(ended);
                info!("some rows will not be in their tables; putting the log files into the lake");
            }
        }
        let mut changes = self.context.journal.watch();
        let mut files = Vec::new();
        loop {
            changes.mark_unchanged();
            let is_left_alone = self.worker_end.borrow_and_update().is_some();
            // Looked at before the journal: what was appended until then is in the view below.
            let is_closed = *self.closed.borrow_and_update();
            let view = self.sealed_view().await;
            if !self.has_all(&view) {
                upload::upload(self.context, &view, self.progress, &mut files).await;
            }
            let newest = self.context.journal.view();
            let is_there = newest.open.is_empty() && self.has_all(&newest);
            // Where nobody is at work any more, what has not changed will not.
            let is_over = is_left_alone && Arc::ptr_eq(&view, &newest);
            if is_closed && is_there || is_over || *self.context.journal.failed().borrow() {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                Ok(()) = self.closed.changed() => {}
                Ok(()) = self.worker_end.changed() => {}
            }
        }
    }

    fn has_all(&self, view: &JournalView) -> bool {
        view.sealed.iter().all(|segment| self.progress.has(segment))
    }

    fn latest_start(&self, wait: Duration) -> Duration {
        let view = self.context.journal.view();
        let segments = view.open.len() + view.sealed.len();
        let needed = self.context.pace.time_to_deliver(segments, view.unretired_bytes());
        if needed > wait { Duration::ZERO } else { wait - upload::time_for(self.context, wait) }
    }

    /// The journal once nothing in it is open: what no seal ends cannot be told from a part of a segment. The worker seals;
    /// where it has ended nobody else does.
    async fn sealed_view(&mut self) -> Arc<JournalView> {
        let journal = &self.context.journal;
        let mut changes = journal.watch();
        loop {
            let view = changes.borrow_and_update().clone();
            if view.open.is_empty() {
                return view;
            }
            let is_left_alone = self.worker_end.borrow_and_update().is_some();
            for segment in view.open.iter().filter(|_| is_left_alone) {
                if journal.seal(segment.number, SealReason::Drain).await.is_err() {
                    return journal.view();
                }
            }
            tokio::select! {
                // A journal that ended changes no more.
                changed = changes.changed() => if changed.is_err() { return view },
                Ok(()) = self.worker_end.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::segment::Position;
    use crate::journal::view::SealedSegment;

    fn view(ends: &[(u64, u64)]) -> JournalView {
        let sealed = ends.iter().zip(1..).map(|((file, offset), number)| SealedSegment {
            number,
            epoch: 1,
            sequences: 1..=1,
            table: "events".into(),
            rows: 10,
            body_bytes: 100,
            first_received_micros: 0,
            start_file: 1,
            end: Position { file: *file, offset: *offset },
        });
        JournalView { sealed: sealed.collect(), ..JournalView::default() }
    }

    #[test]
    fn only_what_is_in_neither_counts() {
        let view = view(&[(1, 500), (2, 300), (2, 301)]);
        let ending = |file: u64, bytes: u64| {
            let progress = Progress::default();
            progress.reached(Position { file, offset: bytes });
            Ending::of(None, &view, &progress)
        };
        let none = Ending::of(None, &view, &Progress::default());
        assert_eq!((none.code, none.reason, none.left), (75, Reason::Unflushed, Left { rows: 30, bytes: 300 }));
        let first = ending(1, 500);
        assert_eq!((first.code, first.left.rows, first.rescued_rows), (75, 20, 10));
        assert_eq!(ending(2, 300).left, Left { rows: 10, bytes: 100 });
        let all = ending(2, 301);
        assert_eq!((all.code, all.reason, all.rescued_rows), (0, Reason::Rescued, 30));
        let empty = Ending::of(Some(WorkerEnd::Drained), &JournalView::default(), &Progress::default());
        assert_eq!((empty.code, empty.reason), (0, Reason::Drained));
    }

    #[test]
    fn what_cannot_be_delivered_is_told_although_its_log_files_are_in_the_lake() {
        let progress = Progress::default();
        progress.reached(Position { file: 9, offset: 0 });
        let ending = Ending::of(Some(WorkerEnd::Stuck), &view(&[(1, 500)]), &progress);
        assert_eq!((ending.code, ending.reason), (75, Reason::Stuck));
        assert_eq!((ending.left.rows, ending.rescued_rows), (0, 10));
    }

    #[test]
    fn a_thread_that_failed_is_a_failure_whatever_is_left() {
        let ending = Ending::of(Some(WorkerEnd::Fatal), &JournalView::default(), &Progress::default());
        assert_eq!(ending.code, 70);
    }
}
