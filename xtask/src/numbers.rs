//! Numbers as people read them.
//!
//! Owns: thousands, plurals, percentiles. Does not own: what was measured.

use std::time::Duration;

/// A number with a comma between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things, such as `1 row` and `2 rows`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `count` in `seconds`, as a whole number per second with a comma between its thousands.
pub(crate) fn per_second(count: u64, seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate to be read by people")]
    let rate = (float(count) / seconds).round() as u64;
    grouped(rate)
}

/// For figures that are read by people; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts and lengths of a run lie far below 2^53")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// A size in mebibytes, rounded down.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

/// How long each of many equal things took.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What `percent` of them did not exceed. Unit: milliseconds.
    pub(crate) fn ms(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or_default().as_secs_f64() * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 336_776].map(grouped), ["0", "999", "1,000", "336,776"]);
    }

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!([counted(1, "row"), counted(0, "row"), counted(5_000, "row")], ["1 row", "0 rows", "5,000 rows"]);
    }

    #[test]
    fn percentiles_are_taken_from_the_sorted_latencies() {
        let latencies = Latencies::new((1..=101).rev().map(Duration::from_millis).collect());
        assert!((latencies.ms(50) - 51.0).abs() < 1e-9);
        assert!((latencies.ms(99) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_rate_is_a_whole_number() {
        assert_eq!(per_second(101_001, 2.0), "50,501");
    }
}
