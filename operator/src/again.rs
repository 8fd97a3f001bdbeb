//! How soon a watch that broke begins again.
//!
//! Owns: that. Does not own: the watches.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;

use crate::limits::WATCH_AGAIN_MAX;

/// The pauses of other clients of Kubernetes, which double and are for an API server that struggles, with a bound: an operator
/// has a handful of watches, and while one of them is broken a pod may be refused for a LakeIngest that is there.
#[derive(Default)]
pub struct Again(DefaultBackoff);

impl std::fmt::Debug for Again {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Again").finish_non_exhaustive()
    }
}

impl Iterator for Again {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(WATCH_AGAIN_MAX))
    }
}

impl Backoff for Again {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let pauses: Vec<Duration> = Again::default().take(20).collect();
        assert!(pauses[0] < WATCH_AGAIN_MAX / 2, "{pauses:?}");
        assert!(
            pauses.iter().all(|pause| *pause <= WATCH_AGAIN_MAX) && pauses.contains(&WATCH_AGAIN_MAX),
            "{pauses:?}"
        );
    }
}
