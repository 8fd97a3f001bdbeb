//! The chart of the cluster with other values, as long as a test needs them.
//!
//! Owns: putting it back. Does not own: how it is installed (`xtask`).

use xtask::cluster::change;

use crate::team::Team;

/// The chart with other values; the chart of before at the end, also of a test that fails.
#[derive(Debug)]
pub struct Chart<'a>(&'a Team);

impl<'a> Chart<'a> {
    /// Changes it, and waits until its operators are there.
    ///
    /// # Panics
    /// When it cannot be changed.
    pub fn with(team: &'a Team, values: &[&str]) -> Self {
        // From here on: a change that fails may have been made in part.
        let chart = Self(team);
        chart.change(values);
        chart
    }

    /// Changes it once more: these values alone.
    ///
    /// # Panics
    /// When it cannot be changed.
    pub fn change(&self, values: &[&str]) {
        change(&self.0.cluster, values).expect("the chart can be changed");
    }
}

impl Drop for Chart<'_> {
    fn drop(&mut self) {
        if let Err(error) = change(&self.0.cluster, &[]) {
            assert!(std::thread::panicking(), "{error:#}");
        }
    }
}
