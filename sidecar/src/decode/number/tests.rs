//! Numbers at the edges of their types.

use proptest::prelude::*;

use super::*;

fn scan_whole(text: &str) -> Option<NodeKind> {
    match scan_number(text, 0) {
        NumberScan::Number { kind, end } if end == text.len() => Some(kind),
        NumberScan::Number { .. } | NumberScan::OutOfRange { .. } | NumberScan::DigitMissing { .. } => None,
    }
}

fn is_out_of_range(text: &str) -> bool {
    scan_number(text, 0) == NumberScan::OutOfRange { end: text.len() }
}

#[test]
fn integers_reach_from_the_least_to_the_greatest_i64() {
    for integer in [i64::MIN, i64::MIN + 1, -1, 0, 1, 999_999_999_999_999_999, i64::MAX - 1, i64::MAX] {
        let text = integer.to_string();
        assert_eq!(scan_whole(&text), Some(NodeKind::Integer), "{text}");
        assert_eq!(parse_integer(&text), integer);
    }
    for text in [
        "9223372036854775808",
        "-9223372036854775809",
        "9999999999999999999",
        "-9999999999999999999",
        "18446744073709551616",
        "100000000000000000000",
    ] {
        assert!(is_out_of_range(text), "{text}");
    }
}

#[test]
fn fraction_exponent_and_minus_zero_make_a_double() {
    for text in ["0.0", "-0", "-0.0", "1.5", "1e3", "1E+3", "1e-3", "-12.25e2", "1e308", "4.9e-324", "1e-400"] {
        assert_eq!(scan_whole(text), Some(NodeKind::Double), "{text}");
    }
    assert!(parse_double("-0").is_sign_negative());
}

#[test]
fn a_double_must_be_finite() {
    let long = format!("{}.5", "9".repeat(309));
    for text in ["1e400", "-1e400", "1.8e308", "1e999999999999", &long] {
        assert!(is_out_of_range(text), "{text}");
    }
    let longest_of_the_short = format!("{}.5", "9".repeat(308));
    assert_eq!(scan_whole(&longest_of_the_short), Some(NodeKind::Double));
    assert!(parse_double(&longest_of_the_short).is_finite());
}

/// The smallest doubles have fewer bits, so a reader that rounds twice misses them.
#[test]
fn subnormal_doubles_are_read_bit_by_bit() {
    for double in [1.75044995856626e-309, f64::from_bits(1), f64::MIN_POSITIVE.next_down()] {
        assert_eq!(parse_double(&format!("{double:e}")).to_bits(), double.to_bits());
    }
}

#[test]
fn a_missing_digit_is_found_at_its_place() {
    for (text, at) in [("-", 1), ("-a", 1), ("1.", 2), ("1.e5", 2), ("1e", 2), ("1e+", 3), ("-.5", 1)] {
        assert_eq!(scan_number(text, 0), NumberScan::DigitMissing { at }, "{text}");
    }
}

#[test]
fn a_leading_zero_ends_the_number() {
    assert_eq!(scan_number("01", 0), NumberScan::Number { kind: NodeKind::Integer, end: 1 });
}

#[test]
fn integers_are_exact_in_f64_up_to_53_significant_bits() {
    let two_to_53 = 1_i64 << 53;
    for exact in [0, 1, -1, two_to_53, -two_to_53, two_to_53 + 2, 1 << 62, i64::MIN] {
        assert!(integer_is_exact_in_f64(exact), "{exact}");
    }
    for inexact in [two_to_53 + 1, -two_to_53 - 1, i64::MAX, i64::MIN + 1, (1 << 62) + 1] {
        assert!(!integer_is_exact_in_f64(inexact), "{inexact}");
    }
}

proptest! {
    #[test]
    fn every_i64_is_read_back(integer in any::<i64>()) {
        let text = integer.to_string();
        prop_assert_eq!(scan_whole(&text), Some(NodeKind::Integer));
        prop_assert_eq!(parse_integer(&text), integer);
    }

    #[test]
    fn every_finite_double_is_read_back_bit_by_bit(double in any::<f64>().prop_filter("finite", |d| d.is_finite())) {
        let text = format!("{double:e}");
        prop_assert_eq!(scan_whole(&text), Some(NodeKind::Double));
        prop_assert_eq!(parse_double(&text).to_bits(), double.to_bits());
    }

    /// The oracle prints the converted number in full, which neither rounds nor saturates.
    #[test]
    fn exactness_agrees_with_a_conversion_there_and_back(integer in any::<i64>(), shift in 0_u32..64) {
        let integer = integer >> shift << (shift / 2);
        prop_assert_eq!(integer_is_exact_in_f64(integer), format!("{:.0}", integer as f64) == integer.to_string());
    }
}

#[test]
fn a_decimal_is_exact_or_none() {
    for (text, precision, scale, expected) in [
        ("0", 1, 0, Some(0)),
        ("-0", 1, 1, Some(0)),
        ("0e999999999999", 1, 0, Some(0)),
        ("12.50", 4, 2, Some(1_250)),
        ("12.500", 4, 2, Some(1_250)),
        ("12.505", 5, 2, None),
        ("-12.5", 3, 1, Some(-125)),
        ("125e-1", 3, 1, Some(125)),
        ("1.25E+1", 3, 1, Some(125)),
        ("1250e-2", 3, 1, Some(125)),
        ("1e2", 3, 0, Some(100)),
        ("1e2", 2, 0, None),
        ("100", 2, 0, None),
        ("0.001", 3, 3, Some(1)),
        ("0.0001", 3, 3, None),
        ("99999999999999999999999999999999999999", 38, 0, Some(99_999_999_999_999_999_999_999_999_999_999_999_999)),
        ("100000000000000000000000000000000000000", 38, 0, None),
        ("0.00000000000000000000000000000000000001", 38, 38, Some(1)),
        ("1e400", 38, 0, None),
        ("1e-400", 38, 38, None),
        ("1e99999999999999999999", 38, 0, None),
        ("", 38, 0, None),
        ("1,5", 38, 1, None),
        ("+1", 38, 0, None),
        ("01", 38, 0, None),
        (" 1", 38, 0, None),
        ("NaN", 38, 0, None),
    ] {
        assert_eq!(parse_decimal(text, precision, scale), expected, "{text} as decimal({precision},{scale})");
    }
}
