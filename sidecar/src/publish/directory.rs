//! A directory that stands for the bucket.
//!
//! Owns: objects as files, created whole or not at all, durable before they count: the file and each folder above it
//! are synced. Does not own: which objects.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::journal::directory::fsync_directory;
use crate::journal::hex;
use crate::limits::LAKE_OBJECT_BYTES_MAX;
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::store::{Found, PutOutcome, Upload};

/// A lake in a directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: Arc<Path>,
    /// Folder below the root for files that are not whole yet; on the same file system, so that a rename is atomic.
    unfinished: Arc<str>,
    /// What the names of this writer's unfinished files begin with; no other process has it.
    writer: Arc<str>,
    /// Folders whose names this process has made durable.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
}

/// Folders that are remembered as durable; past it all are forgotten and synced once more.
const DURABLE_FOLDERS_MAX: usize = 10_000;

impl DirectoryStore {
    /// The lake in `root`; `unfinished` is a key, `writer` a journal's id.
    pub fn new(root: &Path, unfinished: String, writer: &str) -> Self {
        let durable = Arc::default();
        Self { root: root.into(), unfinished: unfinished.into(), writer: writer.into(), durable }
    }

    /// Removes what an earlier process of this writer left unfinished. What cannot be removed is in nobody's way.
    pub fn remove_unfinished(&self) {
        for entry in fs::read_dir(self.root.join(&*self.unfinished)).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&*self.writer)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Creates an object from a file.
    pub(super) async fn put_file(&self, upload: Upload<'_>) -> Result<PutOutcome, StoreError> {
        let (store, key, local) = (self.clone(), upload.planned.key.clone(), upload.local.to_owned());
        blocking("put", &upload.planned.key, move || {
            store.create(&key, |file| {
                let mut input = File::open(&local)?;
                io::copy(&mut input, file).map(|_| ())
            })
        })
        .await
    }

    /// Creates a small object.
    pub(super) async fn put(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        let (store, owned_key) = (self.clone(), key.to_owned());
        blocking("put", key, move || store.create(&owned_key, |file| file.write_all(&content))).await
    }

    /// Length and SHA-256 of an object, by reading it.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Found>, StoreError> {
        let path = self.path_of("head", key)?;
        blocking("head", key, move || match File::open(&path) {
            Ok(mut file) => {
                let mut hasher = Sha256::new();
                let size_bytes = io::copy(&mut file, &mut hasher)?;
                Ok(Some(Found { size_bytes, sha256: Some(hex(&hasher.finalize())) }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// A small object's content.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.path_of("get", key)?;
        blocking("get", key, move || match File::open(&path) {
            Ok(file) => {
                let mut content = Vec::new();
                file.take(LAKE_OBJECT_BYTES_MAX + 1).read_to_end(&mut content)?;
                if content.len() as u64 > LAKE_OBJECT_BYTES_MAX {
                    return Err(io::Error::other("the object is too large to be one of ours"));
                }
                Ok(Some(content.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// Copies an object to a local file.
    pub(super) async fn fetch(&self, key: &str, local: &Path) -> Result<(), StoreError> {
        let (path, local) = (self.path_of("fetch", key)?, local.to_owned());
        blocking("fetch", key, move || fs::copy(&path, &local).map(|_| ())).await
    }

    /// The keys below a folder.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (path, folder) = (self.path_of("list", prefix.trim_end_matches('/'))?, prefix.to_owned());
        blocking("list", prefix, move || {
            let mut keys = Vec::new();
            collect_keys(&path, folder.trim_end_matches('/'), &mut keys)?;
            keys.sort_unstable();
            Ok(keys)
        })
        .await
    }

    /// Writes a file under a name of its own, syncs it, and gives it its final name if nothing has that.
    fn create(&self, key: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<PutOutcome> {
        let path = self.root.join(key);
        if path.try_exists()? {
            return self.settle(&path);
        }
        if !self.root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the lake's directory does not exist"));
        }
        let unfinished_folder = self.root.join(&*self.unfinished);
        self.make_durable(&unfinished_folder)?;
        let unfinished = unfinished_folder.join(format!("{}-{:016x}", self.writer, rand::random::<u64>()));
        let outcome = write_whole(&unfinished, write).and_then(|()| {
            let folder = path.parent().unwrap_or(&self.root);
            self.make_durable(folder)?;
            match rename_if_absent(&unfinished, &path) {
                Ok(()) => fsync_directory(folder).map(|()| PutOutcome::Created),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.settle(&path),
                Err(error) => Err(error),
            }
        });
        if !matches!(outcome, Ok(PutOutcome::Created)) {
            // What is left here is no object, and the next start tries again.
            let _ = fs::remove_file(&unfinished);
        }
        outcome
    }

    /// What is at the key may have been put by a process that ended before it was durable.
    fn settle(&self, path: &Path) -> io::Result<PutOutcome> {
        let folder = path.parent().unwrap_or(&self.root);
        File::open(path)?.sync_all()?;
        self.make_durable(folder)?;
        fsync_directory(folder)?;
        Ok(PutOutcome::Exists)
    }

    /// Makes a folder below the root and what is missing between, and makes the names durable: once in a process, also
    /// of folders that it finds, since whoever made them may have ended before they were durable.
    fn make_durable(&self, folder: &Path) -> io::Result<()> {
        let known = || self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if folder == &*self.root || known().contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(&self.root);
        self.make_durable(parent)?;
        match fs::create_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        fsync_directory(parent)?;
        let mut known = known();
        if known.len() >= DURABLE_FOLDERS_MAX {
            known.clear();
        }
        known.insert(folder.to_owned());
        Ok(())
    }

    fn path_of(&self, action: &'static str, key: &str) -> Result<PathBuf, StoreError> {
        let is_plain = key.split('/').all(|name| !name.is_empty() && name != "." && name != "..");
        if is_plain {
            return Ok(self.root.join(key));
        }
        let detail = "the key leaves the lake".to_owned();
        Err(StoreError { kind: StoreErrorKind::Unexpected, action, key: key.to_owned(), detail })
    }
}

fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::options().create_new(true).write(true).open(path)?;
    write(&mut file)?;
    file.sync_all()
}

fn rename_if_absent(from: &Path, to: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, from, here, to, rustix::fs::RenameFlags::NOREPLACE).map_err(io::Error::from)
}

fn collect_keys(folder: &Path, key: &str, keys: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let key = format!("{key}/{name}");
        if entry.file_type()?.is_dir() {
            collect_keys(&entry.path(), &key, keys)?;
        } else {
            keys.push(key);
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    action: &'static str,
    key: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let outcome = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    outcome.map_err(|error| StoreError::of_io(action, key, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_put_of_a_key_changes_nothing() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let store = DirectoryStore::new(root.path(), "data/_lakeingest/unfinished".to_owned(), "writer");
        let put = |content: &'static str| store.put("data/a/b.json", Bytes::from_static(content.as_bytes()));
        assert_eq!(put("first").await.expect("the folder can be written"), PutOutcome::Created);
        assert_eq!(put("second").await.expect("the folder can be written"), PutOutcome::Exists);
        let content = store.get("data/a/b.json").await.expect("the file can be read");
        assert_eq!(content.as_deref(), Some(b"first".as_slice()));
        assert_eq!(store.list("data/a/").await.expect("the folder can be read"), ["data/a/b.json"]);
        let left = store.list("data/_lakeingest/unfinished/").await.expect("the folder can be read");
        assert_eq!(left, Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_this_writer_left_unfinished_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let store = DirectoryStore::new(root.path(), "unfinished".to_owned(), "writer");
        fs::create_dir(root.path().join("unfinished")).expect("the folder can be made");
        for name in ["writer-1", "stranger-1"] {
            fs::write(root.path().join("unfinished").join(name), b"half").expect("the file can be written");
        }
        store.remove_unfinished();
        assert_eq!(store.list("unfinished/").await.expect("it can be read"), ["unfinished/stranger-1"]);
    }

    #[tokio::test]
    async fn a_key_that_leaves_the_lake_is_refused() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let store = DirectoryStore::new(root.path(), "unfinished".to_owned(), "writer");
        assert!(store.get("../outside").await.is_err());
    }

    #[tokio::test]
    async fn a_lake_whose_directory_is_gone_is_missing_and_is_not_made_again() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let gone = root.path().join("gone");
        let store = DirectoryStore::new(&gone, "unfinished".to_owned(), "writer");
        let error = store.put("data/x.json", Bytes::new()).await.expect_err("there is no directory");
        assert_eq!(error.kind, StoreErrorKind::Missing);
        assert!(!gone.is_dir());
    }
}
