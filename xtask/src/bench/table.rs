//! What the bench prints: a line for each figure, as soon as it is measured.
//!
//! Owns: the columns. Does not own: the figures.

use crate::numbers::Latencies;

/// Width of the names' column.
const NAME_WIDTH: usize = 48;

/// Width of the figures' column.
const FIGURE_WIDTH: usize = 34;

/// The names of the columns.
pub(super) fn header() {
    line("", "figure", "ratio");
    line(&"-".repeat(NAME_WIDTH), &"-".repeat(FIGURE_WIDTH), "-----");
}

/// What the next lines are about.
pub(super) fn section(name: &str) {
    println!("{name}");
}

/// A figure with nothing to compare it with, such as one that others are compared with.
pub(super) fn figure(name: &str, figure: &str) {
    line(&format!("  {name}"), figure, "");
}

/// A figure, and how many times `of_what` it is.
pub(super) fn compared(name: &str, figure: &str, ratio: f64, of_what: &str) {
    line(&format!("  {name}"), figure, &format!("{ratio:.2} x {of_what}"));
}

/// Median and 99th percentile.
pub(super) fn latencies(latencies: &Latencies) -> String {
    format!("p50 {:.2} ms, p99 {:.2} ms", latencies.ms(50), latencies.ms(99))
}

fn line(name: &str, figure: &str, ratio: &str) {
    println!("{}", format!("{name:<NAME_WIDTH$}  {figure:<FIGURE_WIDTH$}  {ratio}").trim_end());
}
