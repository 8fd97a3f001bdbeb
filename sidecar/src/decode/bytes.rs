//! Bytes that JSON has as text: uuids, and binary values in base64.
//!
//! Owns: their form. Does not own: which column takes them (`schema`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Length of a uuid. Unit: bytes.
pub(crate) const UUID_BYTES: usize = 16;

/// Where a uuid's text has its dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Reads a uuid in its one form with dashes, in either case.
/// Source: RFC 9562, section 4, <https://www.rfc-editor.org/rfc/rfc9562#section-4>.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; UUID_BYTES]> {
    let text = text.as_bytes();
    if text.len() != 36 || DASHES.iter().any(|dash| text[*dash] != b'-') {
        return None;
    }
    let mut digits = text.iter().enumerate().filter(|(place, _)| !DASHES.contains(place)).map(|(_, digit)| *digit);
    let mut uuid = [0; UUID_BYTES];
    for byte in &mut uuid {
        *byte = digit_of(digits.next()?)? << 4 | digit_of(digits.next()?)?;
    }
    Some(uuid)
}

fn digit_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Reads base64 in its standard alphabet, with padding and without anything else, so that there is one text for each value.
/// Source: RFC 4648, section 4, <https://www.rfc-editor.org/rfc/rfc4648#section-4>.
pub(crate) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_one_form() {
        let bytes = [0x2b, 0x1c, 0x0e, 0x4e, 0x5f, 0x8a, 0x4f, 0x0a, 0x9d, 0x3c, 0, 1, 2, 3, 4, 255];
        for text in ["2b1c0e4e-5f8a-4f0a-9d3c-0001020304ff", "2B1C0E4E-5F8A-4F0A-9D3C-0001020304FF"] {
            assert_eq!(parse_uuid(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "2b1c0e4e5f8a4f0a9d3c0001020304ff",
            "{2b1c0e4e-5f8a-4f0a-9d3c-0001020304ff}",
            "2b1c0e4e-5f8a-4f0a-9d3c-0001020304fg",
            "2b1c0e4e-5f8a-4f0a-9d3c-0001020304f",
            "2b1c0e4e-5f8a-4f0a9-d3c-0001020304ff",
            "2b1c0e4e-5f8a-4f0a-9d3c-0001020304é",
            "-b1c0e4e-5f8a-4f0a-9d3c-0001020304ff",
        ] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_have_one_text() {
        assert_eq!(parse_base64("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(parse_base64(""), Some(Vec::new()));
        for text in ["aGVsbG8", "aGVsbG9=", "aGVs bG8=", "aGVsbG8=\n", "_-==", "a==="] {
            assert_eq!(parse_base64(text), None, "{text}");
        }
    }
}
