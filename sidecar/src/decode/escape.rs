//! JSON strings: where they need care, and what their escapes stand for.
//!
//! Owns: the search for bytes that end or change a string, the check of escapes, unescaping.
//! Does not own: which strings are keys (`scan`).

use std::borrow::Cow;

/// Why an escape is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EscapeFault {
    /// Not one of the escapes of RFC 8259.
    Unknown,
    /// Half of a surrogate pair without the other half.
    LoneSurrogate,
}

/// An escape that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Escape {
    /// The character that it stands for.
    pub(super) character: char,
    /// Offset just behind it.
    pub(super) end: usize,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Offset of the first quote, backslash or control character at or behind `at`, or the length.
///
/// Looks at eight bytes at a time.
/// The subtractions may mark bytes above a true hit as well, never below it, so the lowest mark is exact.
#[inline]
pub(super) fn next_special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let marks = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let marks = marks & HIGH_BITS;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        at += 1;
    }
    at
}

/// Reads the escape whose backslash is at `at`.
pub(super) fn read_escape(bytes: &[u8], at: usize) -> Result<Escape, EscapeFault> {
    let character = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return read_unicode_escape(bytes, at),
        _ => return Err(EscapeFault::Unknown),
    };
    Ok(Escape { character, end: at + 2 })
}

fn read_unicode_escape(bytes: &[u8], at: usize) -> Result<Escape, EscapeFault> {
    let first = hex_unit(bytes, at + 2).ok_or(EscapeFault::Unknown)?;
    if let Some(character) = char::from_u32(first) {
        return Ok(Escape { character, end: at + 6 });
    }
    let is_low_half = first >= 0xdc00;
    if is_low_half || bytes.get(at + 6..at + 8) != Some(br"\u") {
        return Err(EscapeFault::LoneSurrogate);
    }
    let second = hex_unit(bytes, at + 8).ok_or(EscapeFault::Unknown)?;
    if !(0xdc00..=0xdfff).contains(&second) {
        return Err(EscapeFault::LoneSurrogate);
    }
    let code_point = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    let character = char::from_u32(code_point).expect("a surrogate pair is a code point of a higher plane");
    Ok(Escape { character, end: at + 12 })
}

/// The number that four hexadecimal digits at `at` write.
fn hex_unit(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

/// The text that the content of a string stands for; `content` has been checked by the scanner.
pub(super) fn unescape(content: &str) -> Cow<'_, str> {
    let Some(mut backslash) = content.find('\\') else {
        return Cow::Borrowed(content);
    };
    let mut text = String::with_capacity(content.len());
    let mut copied = 0;
    loop {
        text.push_str(&content[copied..backslash]);
        let escape =
            read_escape(content.as_bytes(), backslash).expect("the scanner refuses a string with another escape");
        text.push(escape.character);
        copied = escape.end;
        match content[copied..].find('\\') {
            Some(distance) => backslash = copied + distance,
            None => break,
        }
    }
    text.push_str(&content[copied..]);
    Cow::Owned(text)
}

#[cfg(test)]
mod tests;
