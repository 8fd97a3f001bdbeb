//! The end: everything into the lake, or the log files as they are, in the time that there is.
//!
//! Owns: what goes first, when encoding is given up, what is said of what is left. Does not own: how it is done.
//!
//! ```text
//! told to end ──> no new records ──> flush ────────────────────────────────────────────> drained (0)
//!                                      ├─ in a pod, when time runs out: log files ──> rescued (0)
//!                                      │                                      └────> unflushed (75)
//!                                      └─ what cannot be delivered; in a pod: log files ──> stuck (75)
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::{LAST_ANSWERS_WAIT, Running, Signals};
use crate::flush::deliver::DeliveryContext;
use crate::flush::worker::WorkerEnd;
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
pub(super) struct Left {
    rows: u64,
    bytes: u64,
}

impl Left {
    /// Everything that is not in its table.
    pub(super) fn of(view: &JournalView) -> Self {
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
pub(super) enum Reason {
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
    /// A part failed.
    pub(super) fn failed(left: Left) -> Self {
        Self { code: EXIT_FAILED, reason: Reason::Failed, left, rescued_rows: 0 }
    }

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

    /// Tells the kubelet.
    pub(super) fn tell(&self, path: &Path) {
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
            Reason::Unflushed if goes_with_pod => {
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
        let announced = self.leaving.announced();
        let wait = self.grace.drain_wait(self.clock.monotonic(), announced);
        info!(seconds = wait.as_secs(), "draining");
        self.status.set_draining();
        self.drain.send_replace(true);
        let (mut application, worker, close) = (self.application, self.worker, self.close);
        let patience = tokio::spawn({
            let status = Arc::clone(&self.status);
            async move {
                tokio::time::sleep(LAKE_WAIT_AT_END).await;
                status.end_waits();
            }
        });
        let drained = async {
            // The flushes that those requests wait for go on meanwhile.
            let _ = (&mut application).await;
            close.send_replace(true);
            worker.await.unwrap_or(WorkerEnd::Fatal)
        };
        let progress = Progress::default();
        let (is_pod, mut journal_failed) = (self.grace.pod.is_some(), self.journal_failed);
        let flushed = async {
            let end = drained.await;
            if end == WorkerEnd::Stuck && is_pod {
                leave(&self.context, &progress).await;
            }
            end
        };
        let end = tokio::select! {
            end = flushed => Some(end),
            () = rescue(&self.context, is_pod, wait, &progress) => None,
            () = tokio::time::sleep(wait) => None,
            _ = signals.interrupt.recv() => None,
            _ = journal_failed.wait_for(|failed| *failed) => Some(WorkerEnd::Fatal),
        };
        let end = end.or_else(|| self.status.has(reasons::KEY_CONFLICT).then_some(WorkerEnd::Stuck));
        patience.abort();
        self.contact.abort();
        self.disk.abort();
        answer_the_last(&self.status, application).await;
        self.finish.send_replace(true);
        let _ = self.health.await;
        let ending = Ending::of(end, &self.journal.view(), &progress);
        ending.log(self.journal.directory(), self.grace.pod.is_some() && announced.is_some());
        ending
    }
}

/// Answers whoever still waits, and gives the answers a moment to get out.
pub(super) async fn answer_the_last(status: &Status, application: JoinHandle<()>) {
    status.end_waits();
    if !application.is_finished() {
        let _ = tokio::time::timeout(LAST_ANSWERS_WAIT, application).await;
    }
}

/// Brings the log files into the lake when what is left of `wait` is needed for that; at once where it can be seen that
/// encoding everything would take too long. Never ends outside of a pod, whose journal is there at the next start.
async fn rescue(context: &DeliveryContext, is_pod: bool, wait: Duration, progress: &Progress) {
    let view = context.journal.view();
    let segments = view.open.len() + view.sealed.len();
    let needed = context.pace.time_to_deliver(segments, view.unretired_bytes());
    let start = if needed > wait { Duration::ZERO } else { wait - upload::time_for(context, wait) };
    if !is_pod {
        return std::future::pending().await;
    }
    tokio::time::sleep(start).await;
    info!("time runs out; putting the log files into the lake");
    leave(context, progress).await;
}

/// Puts the log files of everything that is not in its table into the lake.
async fn leave(context: &DeliveryContext, progress: &Progress) {
    let view = sealed_view(context).await;
    upload::upload(context, &view, progress).await;
}

/// The journal once nothing in it is open: what no seal ends cannot be told from a part of a segment.
async fn sealed_view(context: &DeliveryContext) -> Arc<JournalView> {
    let mut changes = context.journal.watch();
    loop {
        let view = changes.borrow_and_update().clone();
        // A journal that ended changes no more.
        if view.open.is_empty() || changes.changed().await.is_err() {
            return view;
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
