//! Disk that is held back for the frames that bring the backlog down.
//!
//! Owns: the file `reserve` in the journal's directory, and whether it is there. Does not own: when it is given up
//! and when batches are refused (`commit`).
//!
//! A full volume refuses batches, but what was acknowledged must still be sealed, planned and retired, and a start
//! must be able to begin a log file. The file has no content; what counts is that its blocks are nobody else's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use tracing::{info, warn};

const RESERVE_FILE: &str = "reserve";

/// The reserve of one journal.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    /// Its length. Unit: bytes.
    bytes: u64,
    is_held: bool,
}

impl Reserve {
    /// The reserve as the process before left it, or a new one where there is room.
    pub fn open(directory: &Path, bytes: u64) -> Self {
        let mut reserve = Self { path: directory.join(RESERVE_FILE), bytes, is_held: false };
        reserve.is_held = reserve.allocate().is_ok();
        reserve
    }

    /// Whether the space is held.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Holds the space again if the volume has it, and answers whether it is held. Where it has not, this is one call
    /// of the kernel.
    pub fn try_hold(&mut self) -> bool {
        if !self.is_held && self.has_room() && self.allocate().is_ok() {
            self.is_held = true;
            info!(bytes = self.bytes, "journal holds its reserve again");
        }
        self.is_held
    }

    /// Gives the space to whoever writes next; false if there was none to give. The removal need not be durable: the
    /// next start finds either the file or the space.
    pub fn give_up(&mut self) -> bool {
        if !self.is_held || fs::remove_file(&self.path).is_err() {
            return false;
        }
        self.is_held = false;
        warn!(bytes = self.bytes, "journal's volume is full; gave up the reserve and takes no batches");
        true
    }

    /// Runs what needs a little space; where there is none, once more without the reserve.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn give_up_for<T>(&mut self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(error) if is_no_space(&error) && self.give_up() => write(),
            outcome => outcome,
        }
    }

    fn has_room(&self) -> bool {
        let folder = self.path.parent().unwrap_or(&self.path);
        rustix::fs::statvfs(folder).is_ok_and(|volume| volume.f_bavail.saturating_mul(volume.f_frsize) >= self.bytes)
    }

    /// Makes the file, or what is missing of it. A file system that cannot reserve counts as one that has space.
    fn allocate(&self) -> io::Result<()> {
        let file = File::options().create(true).truncate(false).write(true).open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => {
                // Half a reserve would only take the space that a retirement needs.
                let _ = fs::remove_file(&self.path);
                Err(error.into())
            }
        }
    }
}

/// Whether a write failed for lack of space.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder can be made")
    }

    #[test]
    fn what_a_process_held_the_next_one_finds() {
        let folder = folder();
        assert!(Reserve::open(folder.path(), 4_096).is_held());
        let length = fs::metadata(folder.path().join(RESERVE_FILE)).expect("it was made").len();
        assert_eq!(length, 4_096);
        assert!(Reserve::open(folder.path(), 4_096).is_held());
    }

    #[test]
    fn it_is_given_up_once_and_held_again_where_there_is_room() {
        let folder = folder();
        let mut reserve = Reserve::open(folder.path(), 4_096);
        assert!(reserve.give_up());
        assert!(!reserve.is_held() && !reserve.give_up());
        assert!(reserve.try_hold() && reserve.is_held());
    }

    #[test]
    fn a_volume_without_the_room_keeps_no_half_of_it() {
        let folder = folder();
        let mut reserve = Reserve::open(folder.path(), 1 << 60);
        assert!(!reserve.is_held() && !reserve.try_hold());
        assert_eq!(fs::read_dir(folder.path()).expect("it can be read").count(), 0);
    }

    #[test]
    fn only_a_lack_of_space_costs_the_reserve() {
        let folder = folder();
        let mut reserve = Reserve::open(folder.path(), 4_096);
        let denied = reserve.give_up_for(|| Err::<(), _>(io::ErrorKind::PermissionDenied.into()));
        assert!(denied.is_err() && reserve.is_held());
        let mut attempts = 0;
        let outcome = reserve.give_up_for(|| {
            attempts += 1;
            if attempts == 1 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(attempts) }
        });
        assert_eq!(outcome.expect("the second attempt has the space"), 2);
        assert!(!reserve.is_held());
    }
}
