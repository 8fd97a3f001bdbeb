//! Bodies as encoders make them, damaged ones, and ones that are made to grow.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes what is written")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory takes what is written")
}

/// A coding and its encoder.
type Coding = (ContentCoding, fn(&[u8]) -> Vec<u8>);

const CODINGS: [Coding; 2] = [(ContentCoding::Gzip, gzip), (ContentCoding::Zstd, zstd)];

fn code_of(error: &DecodeError) -> &'static str {
    error.violations()[0].code
}

/// Bytes that no coding makes shorter.
fn noise(length: usize) -> Vec<u8> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(7), next).map(|state: u64| state.to_le_bytes()[7]).take(length).collect()
}

#[test]
fn a_body_may_come_in_several_members() {
    for (coding, encode) in CODINGS {
        let body = [encode(b"{\"n\": 1}\n"), encode(b"{\"n\": 2}\n")].concat();
        assert_eq!(decoded(coding, &body).as_deref(), Ok(&b"{\"n\": 1}\n{\"n\": 2}\n"[..]), "{coding:?}");
    }
}

#[test]
fn a_body_that_ends_early_is_refused_at_every_length() {
    for (coding, encode) in CODINGS {
        let body = encode(&noise(300));
        for length in 1..body.len() {
            let error = decoded(coding, &body[..length]).expect_err("it is not whole");
            assert_eq!(code_of(&error), "content-coding", "{coding:?} of {length} bytes");
        }
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    for (coding, encode) in CODINGS {
        let body = [encode(b"{}"), b"{\"n\": 2}".to_vec()].concat();
        assert_eq!(code_of(&decoded(coding, &body).expect_err("it goes on")), "content-coding", "{coding:?}");
    }
}

#[test]
fn a_bomb_is_refused_by_its_length_and_not_read_to_its_end() {
    let zeroes = vec![0; 3 * DECODED_BYTES_MAX];
    for (coding, encode) in CODINGS {
        let error = decoded(coding, &encode(&zeroes)).expect_err("it expands too far");
        assert!(matches!(error, DecodeError::TooLong(_)), "{coding:?}");
        assert_eq!(code_of(&error), "expansion");
    }
    let read = read_within(io::repeat(0), 10, 1_000).expect("the bound ends it");
    assert_eq!(read.len(), 1_001);
}

#[test]
fn a_short_body_may_expand_further_than_a_long_one() {
    for (coding, encode) in CODINGS {
        let body = encode(&vec![b' '; EXPANSION_FREE_BYTES]);
        assert!(body.len() * EXPANSION_MAX < EXPANSION_FREE_BYTES);
        assert!(decoded(coding, &body).is_ok(), "{coding:?}");
        let body = encode(&vec![b' '; EXPANSION_FREE_BYTES + 1]);
        assert!(decoded(coding, &body).is_err(), "{coding:?}");
        // Half noise, half blanks: within the factor.
        let body = [noise(EXPANSION_FREE_BYTES), vec![b' '; 5 * EXPANSION_FREE_BYTES]].concat();
        assert_eq!(decoded(coding, &encode(&body)).map(|bytes| bytes.len()), Ok(body.len()), "{coding:?}");
    }
}

#[test]
fn a_window_that_takes_too_much_memory_is_refused() {
    let with_window = |window_log: u32| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("the level is one");
        encoder.window_log(window_log).expect("the window is one");
        // Of an unknown length, else the window is made as short as the body.
        encoder.write_all(b"{}").and_then(|()| encoder.finish()).expect("memory takes what is written")
    };
    assert!(decoded(ContentCoding::Zstd, &with_window(ZSTD_WINDOW_LOG_MAX)).is_ok());
    assert!(decoded(ContentCoding::Zstd, &with_window(ZSTD_WINDOW_LOG_MAX + 1)).is_err());
}

#[test]
fn an_accepted_body_is_read_whatever_the_bounds_are_today_and_only_as_it_was() {
    for (coding, encode) in CODINGS {
        let length = 2 * EXPANSION_FREE_BYTES;
        let body = encode(&vec![b' '; length]);
        assert!(decoded(coding, &body).is_err(), "{coding:?}");
        let again = |length: usize| {
            let accepted = Body { coding, decoded_bytes: length as u64, bytes: body.clone().into() };
            accepted.decoded().map(|bytes| bytes.len())
        };
        assert_eq!(again(length), Ok(length), "{coding:?}");
        assert!(again(length - 1).is_err() && again(length + 1).is_err(), "{coding:?}");
    }
}

#[test]
fn a_coding_keeps_its_number() {
    for coding in [ContentCoding::Identity, ContentCoding::Gzip, ContentCoding::Zstd] {
        assert_eq!(ContentCoding::from_code(coding.code()), Some(coding));
    }
    assert_eq!(ContentCoding::from_code(3), None);
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 1..2_000)) {
        for (coding, encode) in CODINGS {
            let body = encode(&bytes);
            let found = decoded(coding, &body);
            prop_assert_eq!(found.as_deref(), Ok(&bytes[..]));
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        for (coding, encode) in CODINGS {
            drop(decoded(coding, &bytes));
            let mut damaged = encode(&bytes);
            if let Some(byte) = damaged.get_mut(bytes.len() % 40) {
                *byte ^= 0x10;
            }
            drop(decoded(coding, &damaged));
        }
    }
}
