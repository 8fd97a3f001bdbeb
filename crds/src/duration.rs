//! Durations as a specification writes them (`60s`).
//!
//! Owns: parsing and printing. Does not own: what a duration bounds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration of whole milliseconds, written as a number with a unit: `250ms`, `60s`, `5m`, `2h`.
///
/// Range: 0 to 2^32 hours would overflow; more than 10 years are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(Duration);

/// Ten years: nothing that is waited for here takes longer, and sums of such durations cannot overflow.
const LONGEST_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// Each unit with its length in milliseconds; `ms` before `s` and `m`, since the last letters are compared.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl Seconds {
    /// A duration of so many whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The same as a [`Duration`].
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseSecondsError {
    text: String,
}

impl fmt::Display for ParseSecondsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "\"{}\" is not a duration: write a whole number with a unit ms, s, m or h, for example 60s",
            self.text
        )
    }
}

impl std::error::Error for ParseSecondsError {}

impl FromStr for Seconds {
    type Err = ParseSecondsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSecondsError { text: text.to_owned() };
        let (digits, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)))
            .ok_or_else(error)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .filter(|milliseconds| *milliseconds <= LONGEST_MS)
            .map(|milliseconds| Self(Duration::from_millis(milliseconds)))
            .ok_or_else(error)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds.is_multiple_of(1_000) {
            write!(formatter, "{}s", milliseconds / 1_000)
        } else {
            write!(formatter, "{milliseconds}ms")
        }
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "resource")]
impl schemars::JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_read() {
        for (text, milliseconds) in [("250ms", 250), ("60s", 60_000), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(text.parse(), Ok(Seconds(Duration::from_millis(milliseconds))));
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["60", "s", "", "-1s", "1.5s", "1d", "99999999h"] {
            assert!(text.parse::<Seconds>().is_err(), "{text} was accepted");
        }
    }
}
