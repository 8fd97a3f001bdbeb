//! From when until when a certificate is valid.
//!
//! Owns: reading these two times out of X.509. Does not own: trust: whoever verifies reads them for themselves.
//!
//! Source: RFC 5280, 4.1 (`Certificate`, `TBSCertificate`, `Validity`); X.690, 8.1 (tag, length, content).

use chrono::{DateTime, NaiveDateTime, Utc};

use super::lives::Validity;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate (DER) ends; none if it is no certificate.
pub fn not_after(der: &[u8]) -> Option<DateTime<Utc>> {
    validity(der).map(|validity| validity.ends)
}

/// From when until when a certificate (DER) is valid; none if it is no certificate.
pub(super) fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    // A certificate of version 1 does not say its version.
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    // Serial number, signature algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (begins, validity) = time(validity)?;
    time(validity).map(|(ends, _)| Validity { begins, ends })
}

/// The content of the first element, which must have this tag, and what stands behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short if *short < 0x80 => (usize::from(*short), rest),
        // Four bytes of length are more than any certificate has.
        long => {
            let (digits, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(digits, _)| digits.len() <= 4)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    (*found == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// The time that stands first, and what stands behind it.
fn time(bytes: &[u8]) -> Option<(DateTime<Utc>, &[u8])> {
    let ((digits, rest), has_century) = match element(bytes, UTC_TIME) {
        Some(found) => (found, false),
        None => (element(bytes, GENERALIZED_TIME)?, true),
    };
    let digits = std::str::from_utf8(digits).ok()?.strip_suffix('Z')?;
    // Two digits of a year below 50 are of this century (RFC 5280, 4.1.2.5.1).
    let century = match has_century {
        true => "",
        false if digits < "50" => "20",
        false => "19",
    };
    let time = NaiveDateTime::parse_from_str(&format!("{century}{digits}"), "%Y%m%d%H%M%S").ok()?;
    Some((time.and_utc(), rest))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(end: (i32, u8, u8)) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key can be made");
        let mut parameters = CertificateParams::new(vec!["x".to_owned()]).expect("the name is one");
        parameters.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
        parameters.self_signed(&key).expect("it can be made").der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_a_time() {
        for end in [(2026, 1, 8), (2049, 12, 31), (2050, 1, 1), (2125, 6, 30)] {
            let found = not_after(&certificate(end)).expect("it is a certificate").format("%Y-%m-%d %T").to_string();
            assert_eq!(found, format!("{}-{:02}-{:02} 00:00:00", end.0, end.1, end.2));
        }
    }

    #[test]
    fn both_times_are_those_that_it_was_made_with() {
        let made = Validity::of(DateTime::UNIX_EPOCH + TimeDelta::days(20_000), TimeDelta::days(7));
        let authority = super::super::Authority::new(made.made(), TimeDelta::days(7)).expect("it can be made");
        assert_eq!(authority.validity(), made);
    }

    #[test]
    fn what_is_cut_is_no_certificate() {
        let whole = certificate((2026, 1, 8));
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
