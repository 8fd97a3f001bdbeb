//! Strings with escapes.

use proptest::prelude::*;

use super::*;

proptest! {
    /// The search by words of eight bytes finds what a search by bytes finds, wherever it starts.
    #[test]
    fn next_special_is_the_first_byte_that_is_not_plain(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(0x1f), Just(b' ')], 0..64),
        start in 0_usize..64,
    ) {
        let start = start.min(bytes.len());
        let expected = bytes[start..].iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'));
        prop_assert_eq!(next_special(&bytes, start), expected.map_or(bytes.len(), |distance| start + distance));
    }

    #[test]
    fn a_string_without_backslash_is_its_own_text(text in "[^\\\\]*") {
        prop_assert!(matches!(unescape(&text), Cow::Borrowed(same) if same == text));
    }

    /// UTF-16 escapes of any text stand for that text.
    #[test]
    fn unicode_escapes_of_any_text_give_it_back(text in any::<String>()) {
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        prop_assert_eq!(unescape(&escaped), text);
    }
}

#[test]
fn each_escape_stands_for_its_character() {
    assert_eq!(
        unescape(r#"a\"b\\c\/d\be\ff\ng\rh\ti\u0041\u00e9\uD83D\uDE00z"#),
        "a\"b\\c/d\u{8}e\u{c}f\ng\rh\tiAé😀z"
    );
}

#[test]
fn an_unknown_escape_is_refused() {
    for escape in [r"\x", r"\", r"\u12", r"\u12g4", r"\u+123", r"\U0041", r"\ud800\u12"] {
        assert_eq!(read_escape(escape.as_bytes(), 0), Err(EscapeFault::Unknown), "{escape}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_refused() {
    for escape in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\n", r"\ud800\ud800", r"\ud800\u0041", r"\udc00\ud800"] {
        assert_eq!(read_escape(escape.as_bytes(), 0), Err(EscapeFault::LoneSurrogate), "{escape}");
    }
}
