//! The names of log files in the lake.

/// A log file of a journal, as far as it was written when it was put.
///
/// Shape: `<number, 16 hex>-<length in bytes, 16 hex>`. A log file only grows, so of two with one number the longer has
/// everything of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    /// Its number in the journal.
    pub number: u64,
    /// Its length. Unit: bytes.
    pub bytes: u64,
}

impl std::fmt::Display for LogName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:016x}-{:016x}", self.number, self.bytes)
    }
}

impl LogName {
    /// Reads a name; none if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, bytes) = text.split_once('-')?;
        let read = |digits: &str| {
            let is_whole = digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_whole.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        Some(Self { number: read(number)?, bytes: read(bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_nothing_else_is_one() {
        let name = LogName { number: 7, bytes: 0x0400_0000 };
        assert_eq!(name.to_string(), "0000000000000007-0000000004000000");
        assert_eq!(LogName::parse(&name.to_string()), Some(name));
        for wrong in ["", "7-4", "0000000000000007", "000000000000000g-0000000004000000"] {
            assert_eq!(LogName::parse(wrong), None, "{wrong}");
        }
    }
}
