//! The journal's directory: its lock, the names of its files, and what makes a name durable.
//!
//! Owns: file names, the lock, `fsync` of folders. Does not own: what is in the files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::error::JournalError;
use crate::seeded::{self, Bug};

/// A journal's directory, locked for as long as this lives.
#[derive(Debug)]
pub struct JournalDirectory {
    path: PathBuf,
    /// Held for its lock alone.
    _lock: File,
}

const LOCK_FILE: &str = "lock";
const LOG_SUFFIX: &str = ".log";
const UNFINISHED_SUFFIX: &str = "tmp";

impl JournalDirectory {
    /// Makes the directory if it is missing (readable by its owner alone, since bodies lie in it) and locks it.
    ///
    /// # Errors
    /// The directory cannot be made or written, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::OpenDirectory { path: path.to_owned(), source };
        make_private_directory(path).map_err(failed)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join(LOCK_FILE)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(JournalError::Locked { path: path.to_owned() }),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The numbers of the log files in it, ascending.
    pub fn log_files(&self) -> Result<Vec<u64>, JournalError> {
        log_files_in(&self.path)
    }
}

/// The numbers of the log files in a folder, ascending.
pub fn log_files_in(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let failed = |source| JournalError::OpenDirectory { path: folder.to_owned(), source };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(number_of_log));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where log file `number` lies in `directory`.
pub fn log_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}{LOG_SUFFIX}"))
}

/// Where the log file at `path` lies before its head is durable.
pub fn unfinished_path(path: &Path) -> PathBuf {
    path.with_extension(UNFINISHED_SUFFIX)
}

/// Makes a file that a process which was killed has left as durable as the memory of the machine shows it, so that what is
/// read in it is what a power cut leaves; what fails to be written shows as it is on disk. What is reserved behind its end
/// is given back.
pub fn settle_file(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    file.set_len(file.metadata()?.len())?;
    file.sync_all()?;
    // After a sync that has failed, the memory can hold what the disk does not, and is taken for clean: it is read anew.
    // Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
    match rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed) {
        // Some file systems keep nothing in memory, or cannot be told.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Cuts a file and makes the cut durable.
pub fn cut_file(path: &Path, length: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

/// Removes log files of a folder that never got their head. What cannot be removed is in nobody's way but for its space.
pub fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if Path::new(&entry.file_name()).extension().is_some_and(|suffix| suffix == UNFINISHED_SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Length of all files of a folder; 0 if there is no folder. Unit: bytes.
pub fn bytes_of_files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn number_of_log(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(LOG_SUFFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Makes the names in a folder durable: without it a file that was made or renamed was seen to vanish at a power cut.
pub fn fsync_directory(path: &Path) -> io::Result<()> {
    if seeded::is(Bug::NoDirectorySync) { Ok(()) } else { File::open(path)?.sync_all() }
}

/// Makes a folder and what is missing above it, readable by its owner alone, and makes the names durable.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_private_directory(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fsync_directory(parent),
        None => fsync_directory(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_process_on_a_journal_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let first = JournalDirectory::open(folder.path()).expect("nobody else holds it");
        assert!(matches!(JournalDirectory::open(folder.path()), Err(JournalError::Locked { .. })));
        drop(first);
        assert!(JournalDirectory::open(folder.path()).is_ok());
    }

    #[test]
    fn other_files_are_not_taken_for_logs() {
        assert_eq!(number_of_log("00000000000000ff.log"), Some(255));
        for name in ["lock", "ff.log", "00000000000000ff.tmp", "zz000000000000ff.log"] {
            assert_eq!(number_of_log(name), None, "{name}");
        }
    }
}
