//! Dates and timestamps in texts.
//!
//! Owns: which texts are one, and the exact value of each. Does not own: which column takes one (`schema`).
//!
//! A date is `YYYY-MM-DD`. A timestamp is the `date-time` of RFC 3339 with a capital `T`, an offset or a capital `Z`, and a
//! fraction of a second that microseconds hold exactly: nothing of a value is ever rounded away. Both lie within the
//! years 1 to 9999, a timestamp by its instant in UTC. A leap second is none: no reader of the lake has one.

use chrono::{Datelike, NaiveDate};

use crate::journal::batch::{date_from_days, days_since_1970};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// Why a text is no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDate {
    /// It is not written `YYYY-MM-DD`.
    Form,
    /// The year is 0.
    Year,
    /// The calendar has no such day.
    Day,
}

/// The date of a text.
///
/// # Errors
/// See [`NoDate`].
#[inline]
pub(crate) fn read_date(text: &[u8]) -> Result<NaiveDate, NoDate> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return Err(NoDate::Form) };
    let parts = [two_digits(y1, y2), two_digits(y3, y4), two_digits(m1, m2), two_digits(d1, d2)];
    let [Some(century), Some(year), Some(month), Some(day)] = parts else { return Err(NoDate::Form) };
    match i32::from(century) * 100 + i32::from(year) {
        0 => Err(NoDate::Year),
        year => NaiveDate::from_ymd_opt(year, month.into(), day.into()).ok_or(NoDate::Day),
    }
}

/// The date of a text; none if it is not one. Unit: days since 1970.
#[inline]
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    read_date(text.as_bytes()).ok().map(days_since_1970)
}

/// The timestamp of a text; none if it is not one. Unit: microseconds since 1970, UTC.
#[inline]
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let (date, rest) = text.as_bytes().split_first_chunk::<10>()?;
    let ([b'T', h1, h2, b':', m1, m2, b':', s1, s2], rest) = rest.split_first_chunk::<9>()? else { return None };
    let seconds = seconds_of(&[*h1, *h2, *m1, *m2])? + below(*s1, *s2, 60)?;
    let (micros, offset) = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (fraction, offset) = fraction.split_at(digits);
            (micros_of(fraction)?, offset)
        }
        offset => (0, offset),
    };
    let offset_seconds = match offset {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = seconds_of(&[*h1, *h2, *m1, *m2])?;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let days = i64::from(days_since_1970(read_date(date).ok()?));
    let micros = (days * SECONDS_PER_DAY + seconds - offset_seconds) * MICROS_PER_SECOND + micros;
    is_timestamp(micros).then_some(micros)
}

/// Whether an instant lies within the years of a timestamp. Unit: microseconds since 1970, UTC.
#[inline]
pub(crate) fn is_timestamp(micros: i64) -> bool {
    (EARLIEST_MICROS..=LATEST_MICROS).contains(&micros)
}

/// The date of so many days since 1970; none if it does not lie within the years of one.
pub(crate) fn date_of_days(days: i32) -> Option<NaiveDate> {
    date_from_days(days).filter(|date| (1..=9_999).contains(&date.year()))
}

/// 0001-01-01T00:00:00Z.
const EARLIEST_MICROS: i64 = -719_162 * SECONDS_PER_DAY * MICROS_PER_SECOND;

/// 9999-12-31T23:59:59.999999Z.
const LATEST_MICROS: i64 = 2_932_897 * SECONDS_PER_DAY * MICROS_PER_SECOND - 1;

/// Hours and minutes as seconds.
#[inline]
fn seconds_of(&[h1, h2, m1, m2]: &[u8; 4]) -> Option<i64> {
    Some(below(h1, h2, 24)? * 3_600 + below(m1, m2, 60)? * 60)
}

/// Two digits, when the number is below `bound`.
#[inline]
fn below(tens: u8, ones: u8, bound: u8) -> Option<i64> {
    two_digits(tens, ones).filter(|number| *number < bound).map(i64::from)
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

/// The digits of a fraction of a second as microseconds; none where they are not whole.
#[inline]
fn micros_of(digits: &[u8]) -> Option<i64> {
    let (exact, beyond) = digits.split_at(digits.len().min(6));
    if exact.is_empty() || beyond.iter().any(|digit| *digit != b'0') {
        return None;
    }
    let number = exact.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some((exact.len()..6).fold(number, |number, _| number * 10))
}

#[cfg(test)]
mod tests;
