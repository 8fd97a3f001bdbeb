//! Records that the encoder fails on.
//!
//! Owns: finding them among the rows of a segment, by encoding ever smaller parts of it. Pure: what encodes is given.
//! Does not own: when a segment is suspected (`flush::deliver`), what becomes of the records (`load`).

use std::ops::Range;

use crate::limits::POISON_ROWS_MAX;

/// Why no records were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotFound {
    /// Every part can be encoded, or nothing can, or something else is wrong: it is not about single records.
    NoRecord,
    /// More than [`POISON_ROWS_MAX`] records fail.
    TooMany,
}

/// The rows, counted from 0, that cannot be encoded, and without which the others can. Not all of them have been encoded
/// together; `encodes` says whether the rows of a range can be encoded by themselves, or that something else is wrong.
pub(super) fn find(
    rows: u64,
    encodes: &mut impl FnMut(Range<u64>) -> Result<bool, NotFound>,
) -> Result<Vec<u64>, NotFound> {
    let mut found = Vec::new();
    // Each one fails; newest part first, so that what is found is in order.
    let mut parts: Vec<_> = std::iter::once(0..rows).collect();
    while let Some(part) = parts.pop() {
        let length = part.end - part.start;
        if length == 1 {
            found.push(part.start);
            if found.len() > POISON_ROWS_MAX {
                return Err(NotFound::TooMany);
            }
            continue;
        }
        let middle = part.start + length / 2;
        let halves = [part.start..middle, middle..part.end];
        let mut failing = Vec::new();
        for half in halves {
            if !encodes(half.clone())? {
                failing.push(half);
            }
        }
        if failing.is_empty() {
            return Err(NotFound::NoRecord);
        }
        parts.extend(failing.into_iter().rev());
    }
    match found.len() as u64 == rows && rows > 1 {
        true => Err(NotFound::NoRecord),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds among `rows` those of `poison`; answers what was found and how often it was tried.
    fn find_among(rows: u64, poison: &[u64]) -> (Result<Vec<u64>, NotFound>, usize) {
        let mut tries = 0;
        let found = find(rows, &mut |range| {
            tries += 1;
            Ok(!poison.iter().any(|row| range.contains(row)))
        });
        (found, tries)
    }

    #[test]
    fn every_one_is_found_in_order_wherever_it_is() {
        for poison in [&[0][..], &[999], &[500], &[0, 1, 2], &[3, 400, 401, 999]] {
            assert_eq!(find_among(1_000, poison).0, Ok(poison.to_vec()));
        }
        assert_eq!(find_among(1, &[0]).0, Ok(vec![0]));
    }

    #[test]
    fn one_among_a_million_takes_as_many_tries_as_its_number_has_bits_twice() {
        let (found, tries) = find_among(1 << 20, &[777_777]);
        assert_eq!(found, Ok(vec![777_777]));
        assert!(tries <= 2 * 20, "{tries}");
    }

    #[test]
    fn a_failure_that_is_about_no_record_blames_none() {
        assert_eq!(find(100, &mut |_| Ok(false)), Err(NotFound::NoRecord));
        // Only all of it is too much.
        assert_eq!(find(100, &mut |range| Ok(range.end - range.start < 100)), Err(NotFound::NoRecord));
        assert_eq!(find(100, &mut |_| Err(NotFound::NoRecord)), Err(NotFound::NoRecord));
        let all: Vec<u64> = (0..10).collect();
        assert_eq!(find_among(10, &all).0, Err(NotFound::NoRecord));
    }

    /// Invariant I12: a bound on what is taken out of a segment record by record.
    #[test]
    fn i12_more_than_a_few_are_none() {
        let many: Vec<u64> = (0..=POISON_ROWS_MAX as u64).map(|row| row * 2).collect();
        assert_eq!(find_among(10_000, &many).0, Err(NotFound::TooMany));
        assert_eq!(find_among(10_000, &many[1..]).0, Ok(many[1..].to_vec()));
    }
}
