//! A look at the journal's disk from outside of its thread.
//!
//! Owns: when a disk counts as stalled, and that it is shown; that a journal which was taken away is noticed while nothing is
//! written. Does not own: what becomes of requests (`journal`).

use std::time::Duration;

use tracing::{error, info};

use crate::flush::deliver::DeliveryContext;
use crate::journal::directory::log_path;
use crate::limits::JOURNAL_STALL;
use crate::status::reasons;

/// How often the journal's thread is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows whether the journal's disk answers, for as long as the journal is there: ends when it was taken away.
pub(super) async fn watch(context: &DeliveryContext) {
    let mut was_stalled = false;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let busy = context.journal.busy_for(context.clock.monotonic());
        let is_stalled = busy.is_some_and(|busy| busy > JOURNAL_STALL);
        if is_stalled != was_stalled {
            show(context, is_stalled);
        }
        was_stalled = is_stalled;
        // A disk that hangs would hang this look too.
        if !is_stalled && is_gone(context).await {
            error!(journal = %context.journal.directory().display(), "the journal was taken away; what was not in the lake yet is lost with it");
            return;
        }
    }
}

/// Whether the newest log file is not at its place. The journal leaves a file behind and removes it within one group commit,
/// so that is asked again once no commit is under way: what it has removed by then is not the newest any more.
async fn is_gone(context: &DeliveryContext) -> bool {
    let journal = &context.journal;
    let newest = journal.view().end.file;
    let path = log_path(journal.directory(), newest);
    let is_missing = tokio::fs::try_exists(path).await.is_ok_and(|exists| !exists);
    is_missing && journal.busy_for(context.clock.monotonic()).is_none() && journal.view().end.file == newest
}

fn show(context: &DeliveryContext, is_stalled: bool) {
    let directory = context.journal.directory().display();
    if is_stalled {
        error!(journal = %directory, "the journal's disk does not answer");
        let message = format!(
            "a write or sync of {directory} has taken more than {} s; requests wait, and are answered unknown after {} s",
            JOURNAL_STALL.as_secs(),
            crate::limits::APPEND_WAIT_MAX.as_secs()
        );
        context.status.set(reasons::JOURNAL_STALLED, message);
    } else {
        info!(journal = %directory, "the journal's disk answers again");
        context.status.clear(&[reasons::JOURNAL_STALLED]);
    }
}
