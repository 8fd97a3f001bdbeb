//! A look at the journal's disk from outside of its thread.
//!
//! Owns: when a disk counts as stalled, and that it is shown. Does not own: what becomes of requests (`journal`).

use std::time::Duration;

use tracing::{error, info};

use crate::flush::deliver::DeliveryContext;
use crate::limits::JOURNAL_STALL;
use crate::status::reasons;

/// How often the journal's thread is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows for as long as the process runs whether the journal's disk answers.
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
    }
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
