//! A directory that stands for the bucket.
//!
//! Owns: objects as files, created whole and as planned or not at all, durable before they count: the file and each
//! folder above it are synced. Does not own: which objects.

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

/// How much of an encoded file is copied at once. Unit: bytes.
const COPY_BYTES: usize = 256 << 10;

impl DirectoryStore {
    /// The lake in `root`; `unfinished` is a key, `writer` a journal's id.
    pub fn new(root: &Path, unfinished: String, writer: &str) -> Self {
        let durable = Arc::default();
        Self { root: root.into(), unfinished: unfinished.into(), writer: writer.into(), durable }
    }

    pub(super) fn location(&self) -> String {
        format!("{}/", self.root.display())
    }

    /// Removes what an earlier process of this writer left unfinished. What cannot be removed is in nobody's way.
    pub fn remove_unfinished(&self) {
        for entry in fs::read_dir(self.root.join(&*self.unfinished)).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&*self.writer)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Creates an object from a file, if the file is what was planned.
    pub(super) async fn put_file(&self, upload: Upload<'_>) -> Result<PutOutcome, StoreError> {
        let (store, planned, local) = (self.clone(), upload.planned.clone(), upload.local.to_owned());
        blocking("put", &upload.planned.key, move || {
            store.create(&planned.key, |file| copy(&local, planned.size_bytes, u64::MAX, &planned.sha256, file))
        })
        .await
    }

    /// Creates an object from the first bytes of a file.
    pub(super) async fn put_log(
        &self,
        key: &str,
        local: &Path,
        bytes: u64,
        sha256: &str,
    ) -> Result<PutOutcome, StoreError> {
        let (store, owned_key, local, sha256) = (self.clone(), key.to_owned(), local.to_owned(), sha256.to_owned());
        blocking("put", key, move || store.create(&owned_key, |file| copy(&local, bytes, bytes, &sha256, file))).await
    }

    /// Creates a small object.
    pub(super) async fn put(&self, key: &str, content: Bytes) -> Result<PutOutcome, StoreError> {
        let (store, owned_key) = (self.clone(), key.to_owned());
        blocking("put", key, move || store.create(&owned_key, |file| Ok(file.write_all(&content)?))).await
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
            Err(error) => Err(error.into()),
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
                    return Err(io::Error::other("the object is too large to be one of ours").into());
                }
                Ok(Some(content.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// Copies an object to a local file.
    pub(super) async fn fetch(&self, key: &str, local: &Path) -> Result<(), StoreError> {
        let (path, local) = (self.path_of("fetch", key)?, local.to_owned());
        blocking("fetch", key, move || Ok(fs::copy(&path, &local).map(|_| ())?)).await
    }

    /// Removes a file.
    pub(super) async fn remove_trial(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path_of("delete", key)?;
        blocking("delete", key, move || Ok(fs::remove_file(&path)?)).await
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

    /// Creates an object. Where a folder that this process made durable was removed since, all are made once more.
    fn create(&self, key: &str, write: impl Fn(&mut File) -> Result<(), Failure>) -> Result<PutOutcome, Failure> {
        match self.create_once(key, &write) {
            Err(Failure::Lake(error)) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => {
                self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.create_once(key, &write)
            }
            outcome => outcome,
        }
    }

    /// Writes a file under a name of its own, syncs it, and gives it its final name if nothing has that.
    fn create_once(&self, key: &str, write: impl Fn(&mut File) -> Result<(), Failure>) -> Result<PutOutcome, Failure> {
        let path = self.root.join(key);
        if path.try_exists()? {
            return Ok(self.settle(&path)?);
        }
        if !self.root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the lake's directory does not exist").into());
        }
        let unfinished_folder = self.root.join(&*self.unfinished);
        self.make_durable(&unfinished_folder)?;
        let unfinished = unfinished_folder.join(format!("{}-{:016x}", self.writer, rand::random::<u64>()));
        let outcome = write_whole(&unfinished, write).and_then(|()| Ok(self.finish(&unfinished, &path)?));
        if !matches!(outcome, Ok(PutOutcome::Created)) {
            // What is left here is no object, and the next start tries again.
            let _ = fs::remove_file(&unfinished);
        }
        outcome
    }

    /// Gives a whole file its final name if nothing has that.
    fn finish(&self, unfinished: &Path, path: &Path) -> io::Result<PutOutcome> {
        let folder = path.parent().unwrap_or(&self.root);
        self.make_durable(folder)?;
        match rename_if_absent(unfinished, path) {
            Ok(()) => fsync_directory(folder).map(|()| PutOutcome::Created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.settle(path),
            Err(error) => Err(error),
        }
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

/// Why something was not done.
#[derive(Debug)]
enum Failure {
    /// The lake's directory failed.
    Lake(io::Error),
    /// What was to be put is not there, or is not what was planned.
    Local(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lake(error)
    }
}

fn write_whole(path: &Path, write: impl Fn(&mut File) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut file = File::options().create_new(true).write(true).open(path)?;
    write(&mut file)?;
    Ok(file.sync_all()?)
}

/// Copies at most `bytes_max` of a file, which must be `bytes` with this SHA-256, and looks at every byte on the way: what
/// has its final name is believed.
fn copy(local: &Path, bytes: u64, bytes_max: u64, sha256: &str, output: &mut File) -> Result<(), Failure> {
    let local_failed = |error: io::Error| Failure::Local(error.to_string());
    let mut input = File::open(local).map_err(local_failed)?.take(bytes_max);
    let mut buffer = vec![0; COPY_BYTES];
    let mut hasher = Sha256::new();
    let mut size_bytes = 0;
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(local_failed(error)),
        };
        hasher.update(&buffer[..length]);
        size_bytes += length as u64;
        output.write_all(&buffer[..length])?;
    }
    if size_bytes == bytes && hex(&hasher.finalize()) == sha256 {
        return Ok(());
    }
    Err(Failure::Local("the file is not what it was when it was planned".to_owned()))
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
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, StoreError> {
    let outcome = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error).into()));
    outcome.map_err(|failure| match failure {
        Failure::Lake(error) => StoreError::of_io(action, key, &error),
        Failure::Local(detail) => StoreError { kind: StoreErrorKind::Local, action, key: key.to_owned(), detail },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::control::FileRole;
    use crate::journal::control::PlannedFile;
    use crate::publish::key::SegmentName;

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

    /// A file of a segment as it would be planned.
    fn planned(key: &str, content: &[u8]) -> PlannedFile {
        PlannedFile {
            key: key.to_owned(),
            part: 0,
            role: FileRole::Main,
            partition_date: chrono::NaiveDate::from_ymd_opt(2026, 1, 1).expect("the date exists"),
            rows: 1,
            size_bytes: content.len() as u64,
            sha256: hex(&Sha256::digest(content)),
            row_digest: "xxh3-sum-1:0".to_owned(),
        }
    }

    async fn put_file(store: &DirectoryStore, planned: &PlannedFile, local: &Path) -> Result<PutOutcome, StoreError> {
        let segment = SegmentName { journal: "00".repeat(16), epoch: 1, number: 1 };
        store.put_file(Upload { planned, segment: &segment, local }).await
    }

    /// A truncated file was once published under its final name.
    #[tokio::test]
    async fn an_encoded_file_that_is_not_what_was_planned_is_refused_and_leaves_nothing() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let scratch = tempfile::tempdir().expect("a temporary folder can be made");
        let store = DirectoryStore::new(root.path(), "data/unfinished".to_owned(), "writer");
        let (local, planned) = (scratch.path().join("part-0"), planned("data/t/x.parquet", b"whole"));
        for wrong in [b"whol".as_slice(), b"wh0le", b"whole and more"] {
            fs::write(&local, wrong).expect("the file can be written");
            let error = put_file(&store, &planned, &local).await.expect_err("it is not what was planned");
            assert_eq!(error.kind, StoreErrorKind::Local);
            assert!(error.to_string().contains("is not what it was when it was planned"), "{error}");
            assert_eq!(store.list("data/").await.expect("it can be read"), Vec::<String>::new());
        }
        fs::write(&local, b"whole").expect("the file can be written");
        assert_eq!(put_file(&store, &planned, &local).await.expect("it is as planned"), PutOutcome::Created);
    }

    #[tokio::test]
    async fn an_encoded_file_that_is_gone_is_no_missing_lake() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let store = DirectoryStore::new(root.path(), "unfinished".to_owned(), "writer");
        let planned = planned("data/t/x.parquet", b"whole");
        let error = put_file(&store, &planned, &root.path().join("gone")).await.expect_err("there is no file");
        assert_eq!(error.kind, StoreErrorKind::Local);
    }

    /// The store once remembered folders that were no longer there, and failed until the process was started again.
    #[tokio::test]
    async fn a_folder_that_somebody_removed_is_made_again() {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let store = DirectoryStore::new(root.path(), "data/unfinished".to_owned(), "writer");
        let keys = ["data/t/day=1/a.json", "data/t/day=1/b.json", "data/t/day=1/c.json"];
        for (key, removed) in keys.into_iter().zip([None, Some("data/t"), Some("data/unfinished")]) {
            if let Some(folder) = removed {
                fs::remove_dir_all(root.path().join(folder)).expect("the folder can be removed");
            }
            assert_eq!(store.put(key, Bytes::new()).await.expect("the folder is made again"), PutOutcome::Created);
        }
        assert_eq!(store.list("data/").await.expect("it can be read"), keys[1..]);
    }
}
