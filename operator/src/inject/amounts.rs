//! Amounts of processor and memory as pods write them.
//!
//! Owns: reading every form that Kubernetes takes, exactly, and writing one of them. Does not own: what an amount means.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use serde_json::Value;

/// An amount in thousandths: of a core, or of a byte. What is less is rounded up, as Kubernetes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount(u128);

/// Most digits of a number. Derivation: with the greatest suffix it fits 128 bits.
const DIGITS_MAX: usize = 18;

/// Each suffix as a factor and a divisor of thousandths. The longer ones come first.
const SUFFIXES: [(&str, u128, u128); 15] = [
    ("Ki", 1_000 << 10, 1),
    ("Mi", 1_000 << 20, 1),
    ("Gi", 1_000 << 30, 1),
    ("Ti", 1_000 << 40, 1),
    ("Pi", 1_000 << 50, 1),
    ("Ei", 1_000 << 60, 1),
    ("n", 1, 1_000_000),
    ("u", 1, 1_000),
    ("m", 1, 1),
    ("k", 1_000_000, 1),
    ("M", 1_000_000_000, 1),
    ("G", 1_000_000_000_000, 1),
    ("T", 1_000_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000_000, 1),
];

impl Amount {
    /// What a pod says; none if it is no amount, or a negative one.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    /// So many thousandths of a core.
    pub(super) const fn of_millicores(millicores: u64) -> Self {
        Self(millicores as u128)
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let with_suffix = SUFFIXES
            .iter()
            .find_map(|(suffix, factor, divisor)| text.strip_suffix(suffix).map(|number| (number, *factor, *divisor)));
        let (number, factor, divisor) = match with_suffix {
            Some(found) => found,
            None => match text.split_once(['e', 'E']) {
                Some((number, exponent)) => power(number, exponent)?,
                None => (text, 1_000, 1),
            },
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || digits.len() > DIGITS_MAX {
            return None;
        }
        let places = u32::try_from(fraction.len()).ok()?;
        let product = digits.parse::<u128>().ok()?.checked_mul(factor)?;
        Some(Self(product.div_ceil(10_u128.checked_pow(places)?.checked_mul(divisor)?)))
    }
}

/// A number with a decimal exponent.
fn power<'a>(number: &'a str, exponent: &str) -> Option<(&'a str, u128, u128)> {
    let exponent: i32 = exponent.parse().ok()?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 18)?;
    Some(if exponent < 0 { (number, 1_000, power) } else { (number, 1_000 * power, 1) })
}

impl std::fmt::Display for Amount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000, self.0 % 1_000);
        let largest = SUFFIXES.iter().take(4).rev().map(|(suffix, factor, _)| (suffix, factor / 1_000));
        let mut binary = largest.filter(|(_, bytes)| whole > 0 && whole.is_multiple_of(*bytes));
        match (rest, binary.next()) {
            (0, Some((suffix, bytes))) => write!(formatter, "{}{suffix}", whole / bytes),
            (0, None) => write!(formatter, "{whole}"),
            _ => write!(formatter, "{}m", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_an_amount_is_read_exactly() {
        for (form, same) in [
            (json!("1"), "1000m"),
            (json!(1), "1.0"),
            (json!(0.25), "250m"),
            (json!("1.5Gi"), "1536Mi"),
            (json!("128974848"), "123Mi"),
            (json!("1e3"), "1k"),
            (json!("12E2"), "1.2k"),
            (json!("1500e-3"), "1500m"),
            (json!("1E"), "1000P"),
            (json!("+1u"), "1m"),
            (json!("1000001n"), "2m"),
        ] {
            let amount = Amount::of(&form);
            assert!(amount.is_some() && amount == Amount::of(&json!(same)), "{form} is not {same}");
        }
        for form in [json!(""), json!("-1"), json!("1Zi"), json!("one"), json!("1e99"), json!({}), json!("1.5.5")] {
            assert_eq!(Amount::of(&form), None, "{form}");
        }
    }

    #[test]
    fn a_sum_is_written_so_that_it_is_read_again() {
        for (one, other, sum) in
            [("1", "250m", "1250m"), ("1Gi", "512Mi", "1536Mi"), ("1", "1", "2"), ("1k", "24", "1Ki")]
        {
            let amount = |text: &str| Amount::of(&json!(text)).expect("it is an amount");
            assert_eq!(amount(one).plus(amount(other)).to_string(), sum);
        }
    }
}
