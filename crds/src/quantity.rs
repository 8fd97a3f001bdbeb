//! Byte quantities as Kubernetes writes them (`128Mi`).
//!
//! Owns: parsing and printing. Does not own: what a quantity bounds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written as a whole number with an optional suffix: `k`, `M`, `G`, `T` (powers of 1000)
/// or `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024).
///
/// Unit: bytes. Range: 0 to 2^63 - 1.
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>; fractions,
/// exponents and milli-bytes are refused because no bound of ours can be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u64);

/// Each suffix with its factor, the larger first so that printing finds the shortest form.
const SUFFIXES: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("k", 1_000),
];

impl Quantity {
    /// A quantity of so many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The quantity in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseQuantityError {
    text: String,
}

impl fmt::Display for ParseQuantityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "\"{}\" is not a quantity of bytes: write a whole number with an optional suffix Ki, Mi, Gi, Ti, k, M, G or T, for example 128Mi",
            self.text
        )
    }
}

impl std::error::Error for ParseQuantityError {}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseQuantityError { text: text.to_owned() };
        let (digits, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, *factor)))
            .unwrap_or((text, 1));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let number: u64 = digits.parse().map_err(|_| error())?;
        number.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok()).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, factor) in SUFFIXES {
            if self.0 > 0 && self.0.is_multiple_of(factor) {
                return write!(formatter, "{}{suffix}", self.0 / factor);
            }
        }
        write!(formatter, "{}", self.0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Number(bytes) => bytes.to_string(),
            Form::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "resource")]
impl schemars::JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024_or_1000() {
        assert_eq!("128Mi".parse(), Ok(Quantity::from_bytes(128 * 1024 * 1024)));
        assert_eq!("2k".parse(), Ok(Quantity::from_bytes(2000)));
        assert_eq!("7".parse(), Ok(Quantity::from_bytes(7)));
    }

    #[test]
    fn what_is_not_a_whole_number_of_bytes_is_refused() {
        for text in ["", "Mi", "1.5Gi", "-1", "1e3", "100m", "16777216Ti", "1 Mi"] {
            assert!(text.parse::<Quantity>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn printing_gives_back_the_shortest_form() {
        for text in ["128Mi", "2G", "0", "1025", "3Ki"] {
            assert_eq!(text.parse::<Quantity>().map(|quantity| quantity.to_string()), Ok(text.to_owned()));
        }
    }
}
