//! JSON numbers: their grammar, their range, and their exact values.
//!
//! Owns: what counts as an integer or as a double, and how each is read.
//! Does not own: which column takes which number (`schema`).
//!
//! A number without fraction and exponent is an integer and must fit an `i64`.
//! Every other one, and `-0` (which an integer cannot hold), is a double and must be finite.

use super::tape::NodeKind;

/// What stands at the place of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberScan {
    /// A number that ends before `end`.
    Number { kind: NodeKind, end: usize },
    /// A well-formed number that is no `i64` and no finite `f64`.
    OutOfRange { end: usize },
    /// Not a number by the grammar; a digit is missing at `at`.
    DigitMissing { at: usize },
}

/// Digits of a decimal without exponent below which its `f64` is surely finite (`f64::MAX` has 309).
const FINITE_DIGITS_MAX: usize = 308;

/// Reads the number that begins at `start` with a digit or a minus sign.
pub(super) fn scan_number(text: &str, start: usize) -> NumberScan {
    let bytes = text.as_bytes();
    let negative = bytes.get(start) == Some(&b'-');
    let first_digit = start + usize::from(negative);
    let mut end = match bytes.get(first_digit) {
        Some(b'0') => first_digit + 1,
        Some(b'1'..=b'9') => skip_digits(bytes, first_digit + 1),
        _ => return NumberScan::DigitMissing { at: first_digit },
    };
    let integer_end = end;
    if bytes.get(end) == Some(&b'.') {
        let first_fraction_digit = end + 1;
        end = skip_digits(bytes, first_fraction_digit);
        if end == first_fraction_digit {
            return NumberScan::DigitMissing { at: end };
        }
    }
    let mantissa_end = end;
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        end += 1;
        if matches!(bytes.get(end), Some(b'+' | b'-')) {
            end += 1;
        }
        let first_exponent_digit = end;
        end = skip_digits(bytes, first_exponent_digit);
        if end == first_exponent_digit {
            return NumberScan::DigitMissing { at: end };
        }
    }
    let in_range = if end == integer_end {
        let digits = &bytes[first_digit..integer_end];
        if negative && digits == b"0" {
            return NumberScan::Number { kind: NodeKind::Double, end };
        }
        integer_fits(digits, negative)
    } else {
        let surely_finite = end == mantissa_end && integer_end - first_digit <= FINITE_DIGITS_MAX;
        surely_finite || parse_double(&text[start..end]).is_finite()
    };
    match in_range {
        false => NumberScan::OutOfRange { end },
        true if end == integer_end => NumberScan::Number { kind: NodeKind::Integer, end },
        true => NumberScan::Number { kind: NodeKind::Double, end },
    }
}

#[inline]
fn skip_digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Whether digits without a leading zero, with this sign, are an `i64`.
fn integer_fits(digits: &[u8], negative: bool) -> bool {
    match digits.len() {
        // 18 nines are below 2^63.
        0..=18 => true,
        // 19 nines are below 2^64, so the magnitude itself cannot overflow.
        19 => magnitude(digits) <= i64::MAX.unsigned_abs() + u64::from(negative),
        _ => false,
    }
}

#[inline]
fn magnitude(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |magnitude, digit| magnitude * 10 + u64::from(digit - b'0'))
}

/// What a text is that is a number and nothing else, within the range of its kind.
pub(crate) fn kind_of_number(text: &str) -> Option<NodeKind> {
    match scan_number(text, 0) {
        NumberScan::Number { kind, end } if end == text.len() => Some(kind),
        NumberScan::Number { .. } | NumberScan::OutOfRange { .. } | NumberScan::DigitMissing { .. } => None,
    }
}

/// The value of a number that the scanner has called an integer.
#[inline]
pub(crate) fn parse_integer(text: &str) -> i64 {
    match text.as_bytes() {
        [b'-', digits @ ..] => 0_i64.wrapping_sub(magnitude(digits).cast_signed()),
        digits => magnitude(digits).cast_signed(),
    }
}

/// The value of a number that the scanner has accepted: the nearest `f64`, ties to even.
#[inline]
pub(crate) fn parse_double(text: &str) -> f64 {
    text.parse().expect("the grammar of JSON numbers is a part of the one that f64 reads")
}

/// Digits of the longest decimal: as many as an `i128` holds whatever they are.
const DECIMAL_DIGITS_MAX: usize = 38;

/// The exact value of a number in units of its last place, 10 to the power of `-scale`; `None` when the text is no number,
/// or has a digit behind that place, or more than `precision` of them. `precision` is at most 38.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    match scan_number(text, 0) {
        NumberScan::Number { end, .. } | NumberScan::OutOfRange { end } if end == text.len() => {}
        _ => return None,
    }
    let (is_negative, magnitude) = text.strip_prefix('-').map_or((false, text), |magnitude| (true, magnitude));
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let places = |count: usize| i64::try_from(count).ok();
    let exponent: i64 = exponent.parse().ok()?;
    // The value is `significant` with this many zeros behind it, in units of the last place.
    let shift = exponent.checked_sub(places(fraction.len())?)?.checked_add(places(zeros)? + i64::from(scale))?;
    let shift = u32::try_from(shift).ok()?;
    let length = significant.len().checked_add(shift as usize)?;
    if length > usize::from(precision).min(DECIMAL_DIGITS_MAX) {
        return None;
    }
    let value = significant.parse::<i128>().ok()? * 10_i128.pow(shift);
    Some(if is_negative { -value } else { value })
}

/// Whether an `f64` holds this integer without loss.
#[inline]
pub(crate) fn integer_is_exact_in_f64(integer: i64) -> bool {
    let magnitude = integer.unsigned_abs();
    // An f64 holds as many bits between the first and the last 1, at any place of the number.
    magnitude.leading_zeros() + magnitude.trailing_zeros() >= u64::BITS - f64::MANTISSA_DIGITS
}

#[cfg(test)]
mod tests;
