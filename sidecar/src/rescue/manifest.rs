//! What names the log files that one sidecar has put into the lake at its end.
//!
//! Owns: the manifest's shape and its name. Does not own: when it is put (`upload`: after everything that it names), what is
//! done with it (`replay`).
//!
//! Two copies of a journal (a volume that was cloned) have the same id and files of the same numbers with other content, so
//! a file is named by its content, and which files belong together is said here.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::journal::{bytes_of_hex, hex};

/// The version of a manifest that this build writes and reads.
const FORMAT_VERSION: u32 = 1;

/// A log file of a journal, as far as it was written when it was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Its number in the journal.
    pub number: u64,
    /// Its length. Unit: bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

/// Log files of one journal, which are read together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format_version: u32,
    /// The journal's id, 32 hex digits.
    pub journal: String,
    /// The files, by number.
    pub files: Vec<LogFile>,
}

/// An object that is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It has another shape.
    #[error("failed to parse the manifest")]
    Parse(#[from] serde_json::Error),
    /// It is of a later version.
    #[error("the manifest has format version {0}, this sidecar reads version 1: run the version that wrote it")]
    UnknownVersion(u32),
    /// A field has no meaning.
    #[error("the manifest's {0} cannot be used")]
    Illegal(&'static str),
}

impl Manifest {
    /// The manifest of these files.
    pub fn of(journal: String, files: Vec<LogFile>) -> Self {
        Self { format_version: FORMAT_VERSION, journal, files }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("a manifest is plain data").into()
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn parse(content: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(content)?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(ManifestError::UnknownVersion(manifest.format_version));
        }
        if bytes_of_hex::<16>(&manifest.journal).is_none() {
            return Err(ManifestError::Illegal("journal"));
        }
        let has_order = manifest.files.windows(2).all(|pair| pair[0].number < pair[1].number);
        let has_digests = manifest.files.iter().all(|file| bytes_of_hex::<32>(&file.sha256).is_some());
        if !has_order || !has_digests || manifest.files.is_empty() {
            return Err(ManifestError::Illegal("list of files"));
        }
        Ok(manifest)
    }

    /// Its name, made of its content: put twice it is one object.
    pub fn name(&self) -> String {
        let digest = hex(&Sha256::digest(self.encode()));
        format!("{}-{}", self.journal, &digest[..32])
    }

    /// Whether whoever has delivered this one has delivered the other with it.
    pub fn covers(&self, other: &Self) -> bool {
        self.journal == other.journal && other.files.iter().all(|file| self.files.contains(file))
    }

    /// Its files in runs without a gap between their numbers, of those that are `wanted`.
    pub fn runs(&self, is_wanted: impl Fn(&LogFile) -> bool) -> Vec<Vec<&LogFile>> {
        let mut runs: Vec<Vec<&LogFile>> = Vec::new();
        for file in self.files.iter().filter(|file| is_wanted(file)) {
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|last| last.number + 1 == file.number) => run.push(file),
                Some(_) | None => runs.push(vec![file]),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(numbers: &[u64], digest: &str) -> Manifest {
        let file = |number: &u64| LogFile { number: *number, bytes: 10, sha256: digest.repeat(32) };
        Manifest::of("0f".repeat(16), numbers.iter().map(file).collect())
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_nothing_else_is_one() {
        let whole = manifest(&[3, 4], "ab");
        assert_eq!(Manifest::parse(&whole.encode()).expect("it is one"), whole);
        let text = String::from_utf8(whole.encode().to_vec()).expect("it is JSON");
        for (from, to, words) in [
            ("\"format_version\":1", "\"format_version\":2", "version 2"),
            ("0f0f", "../f", "journal"),
            ("abab", "../x", "files"),
            ("\"number\":4", "\"number\":3", "files"),
            ("{", "[", "parse"),
        ] {
            let error = Manifest::parse(text.replacen(from, to, 1).as_bytes()).expect_err("it is none");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(Manifest::parse(manifest(&[], "ab").encode().as_ref()).is_err());
    }

    #[test]
    fn copies_of_a_journal_have_manifests_of_their_own_and_a_longer_one_covers_a_shorter() {
        let (one, other, longer) = (manifest(&[3], "ab"), manifest(&[3], "cd"), manifest(&[3, 4], "ab"));
        assert_ne!(one.name(), other.name());
        assert_eq!(one.name(), manifest(&[3], "ab").name());
        assert!(longer.covers(&one) && !one.covers(&longer) && !longer.covers(&other));
    }

    #[test]
    fn files_that_follow_one_another_are_one_run() {
        let all = manifest(&[3, 4, 5, 7], "ab");
        let numbers = |wanted: &dyn Fn(&LogFile) -> bool| -> Vec<Vec<u64>> {
            all.runs(wanted).iter().map(|run| run.iter().map(|file| file.number).collect()).collect()
        };
        assert_eq!(numbers(&|_| true), [vec![3, 4, 5], vec![7]]);
        assert_eq!(numbers(&|file| file.number != 4), [vec![3], vec![5], vec![7]]);
    }
}
