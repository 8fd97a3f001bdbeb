//! What JSON takes as a tree in memory.
//!
//! Owns: an upper bound of it, from the text alone. Does not own: what is done about it.
//!
//! A `serde_json::Value` has 32 bytes, an object that is not empty a node with room for eleven of them and their names, and
//! each text a piece of memory of its own: seven bytes, `{"":0},`, become seven hundred.

/// An object that is not empty, with its first field. Derivation: a node of a `BTreeMap` from texts to values has 632 bytes; a
/// name and a text take a piece of memory each.
const OBJECT_BYTES: usize = 720;

/// An array that is not empty, with its first item. Derivation: a `Vec` begins with room for four values.
const ARRAY_BYTES: usize = 176;

/// One more field or item. Derivation: while a `Vec` grows there is room for three values for each that it has, 96 bytes; nodes
/// that are filled in order are a little more than half full, 105 bytes for each field. With a name and a text.
const ENTRY_BYTES: usize = 176;

/// The most that a tree of this JSON takes. Unit: bytes. Of a text that is no JSON it says nothing.
pub(super) fn tree_bytes(text: &[u8]) -> usize {
    let mut bytes = text.len();
    // What an object or an array takes if something is in it.
    let mut opened = 0;
    let mut place = Place::Outside;
    for byte in text {
        place = match (place, byte) {
            (Place::Escaped, _) => Place::Inside,
            (Place::Inside, b'\\') => Place::Escaped,
            (Place::Inside, b'"') => Place::Outside,
            (Place::Inside, _) => Place::Inside,
            (Place::Outside, b' ' | b'\n' | b'\r' | b'\t') => Place::Outside,
            (Place::Outside, byte) => {
                let filled = std::mem::take(&mut opened);
                bytes += if matches!(byte, b'}' | b']') { 0 } else { filled };
                match byte {
                    b'{' => opened = OBJECT_BYTES,
                    b'[' => opened = ARRAY_BYTES,
                    b',' => bytes += ENTRY_BYTES,
                    _ => {}
                }
                if *byte == b'"' { Place::Inside } else { Place::Outside }
            }
        };
    }
    bytes
}

/// Where a byte stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Between texts.
    Outside,
    /// In a text.
    Inside,
    /// In a text, after a backslash.
    Escaped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_texts_and_what_is_empty_takes_no_more_than_its_bytes() {
        for (text, expected) in [
            ("1", 0),
            (r#""[{,\",[""#, 0),
            ("{ }", 0),
            ("[{}]", ARRAY_BYTES),
            (r#"{"a": []}"#, OBJECT_BYTES),
            (r#"{"a\\": [1, 2], "b": "}"}"#, OBJECT_BYTES + ARRAY_BYTES + 2 * ENTRY_BYTES),
        ] {
            assert_eq!(tree_bytes(text.as_bytes()), text.len() + expected, "{text}");
        }
    }
}
