//! That the pod is about to end.
//!
//! Owns: since when it is known (`preStop` comes before SIGTERM, while the application still writes), how long it is
//! believed, and how long the buffered rows may take at the end. Pure but for the one cell that holds the moment.
//! Does not own: what is done meanwhile (`flush`), the end itself (`run`).

use std::time::Duration;

use tokio::sync::watch;

use crate::limits::{DRAIN_WAIT_MIN, EXIT_MARGIN};

/// What the pod and the configuration say of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// The pod's whole grace period, which begins with `preStop`; absent outside of pods.
    pub pod: Option<Duration>,
    /// What the configuration gives the buffered rows after the application has ended.
    pub drain: Duration,
}

impl Grace {
    /// How long an announced end is believed: after it the pod would be gone.
    pub fn believed(&self) -> Duration {
        // Kubernetes' default grace period stands for a pod that does not say its own.
        self.pod.unwrap_or(self.drain + Duration::from_secs(30))
    }

    /// How long the buffered rows may take when the process is told to end at `now`, the end having been announced at
    /// `announced`.
    pub fn drain_wait(&self, now: Duration, announced: Option<Duration>) -> Duration {
        let wait = match (self.pod, announced) {
            // The kubelet counts from the announcement, and the application may have used up most of it.
            (Some(pod), Some(announced)) => (announced + pod).saturating_sub(now).saturating_sub(EXIT_MARGIN),
            (Some(pod), None) => self.drain.min(pod).saturating_sub(EXIT_MARGIN),
            (None, _) => self.drain,
        };
        wait.max(DRAIN_WAIT_MIN)
    }
}

/// The moment at which the end was announced. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leaving {
    announced: watch::Sender<Option<Duration>>,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { announced: watch::channel(None).0 }
    }
}

impl Leaving {
    /// The end is announced. The first announcement counts.
    pub fn announce(&self, now: Duration) {
        self.announced.send_if_modified(|announced| match announced {
            Some(_) => false,
            None => {
                *announced = Some(now);
                true
            }
        });
    }

    /// It did not come.
    pub fn forget(&self) {
        self.announced.send_replace(None);
    }

    /// When it was announced, by the monotonic clock.
    pub fn announced(&self) -> Option<Duration> {
        *self.announced.borrow()
    }

    /// Changes when it is announced or forgotten.
    pub fn watch(&self) -> watch::Receiver<Option<Duration>> {
        self.announced.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_time_for_the_buffered_rows_is_what_the_pod_has_left() {
        let in_pod = Grace { pod: Some(seconds(90)), drain: seconds(60) };
        for (now, announced, expected) in [
            // The application ended at once: nearly all of the pod's time is left.
            (seconds(101), Some(seconds(100)), seconds(86)),
            // It used up its own thirty seconds.
            (seconds(130), Some(seconds(100)), seconds(57)),
            // It used up everything; the kubelet gives two seconds at the least.
            (seconds(189), Some(seconds(100)), seconds(1)),
            (seconds(500), Some(seconds(100)), seconds(1)),
            // Nobody announced it.
            (seconds(130), None, seconds(57)),
        ] {
            assert_eq!(in_pod.drain_wait(now, announced), expected, "at {now:?}");
        }
        let short = Grace { pod: Some(seconds(10)), drain: seconds(60) };
        assert_eq!(short.drain_wait(seconds(1), None), seconds(7), "the pod has no more");
        let by_hand = Grace { pod: None, drain: seconds(60) };
        assert_eq!(by_hand.drain_wait(seconds(1), None), seconds(60));
    }

    #[test]
    fn the_first_announcement_counts_until_it_is_forgotten() {
        let leaving = Leaving::default();
        leaving.announce(seconds(1));
        leaving.announce(seconds(2));
        assert_eq!(leaving.announced(), Some(seconds(1)));
        leaving.forget();
        leaving.announce(seconds(3));
        assert_eq!(leaving.announced(), Some(seconds(3)));
    }
}
