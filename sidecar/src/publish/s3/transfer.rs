//! How long a transfer may take: as long as it moves, and on the whole not slower than a floor rate.
//!
//! Owns: what counts as stalled and as too slow. Does not own: what is transferred, what is done about it (retries).
//!
//! A deadline for the whole of an upload would either cut off a slow line for ever, or wait long for a server that has
//! gone silent. A stall tells the two apart.

use std::time::Duration;

use tokio::sync::watch;

use crate::limits::{AGREEMENT_PUT_MAX, AGREEMENT_WAIT, LAKE_REQUEST_TIMEOUT, TRANSFER_FLOOR, TRANSFER_STALL};

/// The bounds of every request to a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S3Limits {
    /// A request without a large body, from connecting to the last byte of its answer.
    pub request: Duration,
    /// How long a transfer may not move.
    pub stall: Duration,
    /// How fast it must be on the whole. Unit: bytes a second.
    pub floor_bytes_per_second: u64,
    /// Where the endpoint replaces objects: the longest that a look and the put that follows it may take.
    pub agreement_put: Duration,
    /// Where the endpoint replaces objects: how long after a put it is looked whose object stayed.
    pub agreement_wait: Duration,
}

impl S3Limits {
    /// The longest that a transfer of so many bytes may take, however well it moves.
    fn longest(&self, size_bytes: u64) -> Duration {
        self.stall + Duration::from_secs_f64(size_bytes as f64 / self.floor_bytes_per_second as f64)
    }
}

impl Default for S3Limits {
    fn default() -> Self {
        Self {
            request: LAKE_REQUEST_TIMEOUT,
            stall: TRANSFER_STALL,
            floor_bytes_per_second: TRANSFER_FLOOR,
            agreement_put: AGREEMENT_PUT_MAX,
            agreement_wait: AGREEMENT_WAIT,
        }
    }
}

/// Why a transfer was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Overdue {
    /// Nothing moved.
    #[error("nothing has moved for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// It moved, and too slowly.
    #[error("it has taken longer than at {0} bytes a second")]
    TooSlow(u64),
}

/// Told of every piece of a transfer that moves on.
#[derive(Clone, Debug)]
pub(super) struct Progress(watch::Sender<()>);

impl Progress {
    /// The two ends.
    pub(super) fn new() -> (Self, watch::Receiver<()>) {
        let (sender, receiver) = watch::channel(());
        (Self(sender), receiver)
    }

    /// A piece has moved on.
    pub(super) fn moved(&self) {
        self.0.send_replace(());
    }
}

/// Runs a transfer of so many bytes for as long as it moves fast enough.
pub(super) async fn while_it_moves<T>(
    transfer: impl Future<Output = T>,
    moved: watch::Receiver<()>,
    size_bytes: u64,
    limits: &S3Limits,
) -> Result<T, Overdue> {
    tokio::select! {
        biased;
        outcome = transfer => Ok(outcome),
        () = stalled(moved, limits.stall) => Err(Overdue::Stalled(limits.stall)),
        () = tokio::time::sleep(limits.longest(size_bytes)) => Err(Overdue::TooSlow(limits.floor_bytes_per_second)),
    }
}

/// Ends once nothing has moved for so long.
async fn stalled(mut moved: watch::Receiver<()>, stall: Duration) {
    loop {
        match tokio::time::timeout(stall, moved.changed()).await {
            Ok(Ok(())) => {}
            // The body is out: what is left is the answer, which has one stall's time.
            Ok(Err(_)) => return tokio::time::sleep(stall).await,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of silence is a stall.
    const LIMITS: S3Limits = S3Limits {
        request: Duration::from_secs(20),
        stall: Duration::from_secs(1),
        floor_bytes_per_second: 1 << 20,
        agreement_put: Duration::from_secs(4),
        agreement_wait: Duration::from_secs(5),
    };

    #[test]
    fn a_file_of_128_mib_has_time_at_one_mib_a_second_and_a_stall_is_over_within_a_minute() {
        let limits = S3Limits::default();
        assert!(limits.longest(128 << 20) > Duration::from_secs(128) + limits.stall);
        assert!(limits.stall + crate::limits::RETRY_MAX < Duration::from_secs(60));
    }

    /// Moves in so many pieces, each of which takes so long, then waits for the answer.
    async fn transfer(pieces: u32, piece: Duration, answer: Duration, size_bytes: u64) -> Result<(), Overdue> {
        let (progress, moved) = Progress::new();
        let work = async move {
            for _ in 0..pieces {
                tokio::time::sleep(piece).await;
                progress.moved();
            }
            drop(progress);
            tokio::time::sleep(answer).await;
        };
        while_it_moves(work, moved, size_bytes, &LIMITS).await
    }

    #[tokio::test]
    async fn what_moves_takes_longer_than_a_stall() {
        let outcome = transfer(30, Duration::from_millis(50), Duration::ZERO, 8 << 20).await;
        assert_eq!(outcome, Ok(()));
    }

    #[tokio::test]
    async fn what_stands_still_is_given_up_and_so_is_an_answer_that_does_not_come() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(transfer(1, hour, Duration::ZERO, 1 << 30).await, Err(Overdue::Stalled(LIMITS.stall)));
        assert_eq!(transfer(3, Duration::from_millis(10), hour, 1 << 30).await, Err(Overdue::Stalled(LIMITS.stall)));
    }

    #[tokio::test]
    async fn what_creeps_is_given_up_by_the_floor_rate() {
        // A piece every 100 ms never stalls.
        let outcome = transfer(u32::MAX, Duration::from_millis(100), Duration::ZERO, 1 << 20).await;
        assert_eq!(outcome, Err(Overdue::TooSlow(1 << 20)));
    }
}
