//! Log files that pods left in the lake, to their tables.
//!
//! Owns: finding them by their manifests, reading them as the journals that they are, marking manifests as done.
//! Does not own: how a segment is delivered (`flush`).
//!
//! Segments keep the names that their own sidecar gave them, so that it does not matter who delivers them, in what order,
//! or how often: files are created once, and a description that is there already ends the matter. A segment of which not
//! everything has arrived is left: a part of it under its name would keep the whole from it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::manifest::{LogFile, Manifest};
use crate::config::Settings;
use crate::flush::deliver::DeliveryContext;
use crate::flush::worker::{FlushWorker, WorkerEnd};
use crate::journal::directory::{log_path, make_private_directory};
use crate::journal::recovery::PartialSegment;
use crate::journal::{Files, hex};
use crate::lake::description::descriptions_of;
use crate::leaving::Leaving;
use crate::parts::{Parts, grace_of, policy_of, store_of};
use crate::publish::key::{Prefix, SegmentName};
use crate::publish::store::Store;
use crate::run::EXIT_UNFLUSHED;

/// The folder that a rescue works in, below the one that it is given.
const WORK_FOLDER: &str = "lakeingest-rescue";

/// The ending of the object that says that everything which a manifest names was delivered; else its name is the manifest's.
const DONE: &str = ".done";

/// What was done.
#[derive(Debug, Default)]
struct Tally {
    /// Records that were delivered, now or before.
    rows: u64,
    /// Records that are in log files and were not delivered.
    left: u64,
    /// Whether every log file is there and is what was put.
    is_whole: bool,
    /// The store with which something was delivered: it knows what the endpoint can do.
    store: Option<Store>,
}

impl Tally {
    fn is_done(&self) -> bool {
        self.left == 0 && self.is_whole
    }
}

/// A rescue at work.
struct Rescue<'a> {
    settings: &'a Settings,
    store: Store,
    work: Work,
    /// How long nothing of a journal may be delivered before it is left for the next rescue.
    patience: Duration,
}

/// Delivers every journal that was left in the lake. What the settings name as the journal's directory is where it works.
/// One that cannot be delivered does not keep the others from it: nothing delivered for `patience`, and it is the next
/// one's turn.
///
/// # Errors
/// The lake does not answer, or the folder cannot be used.
pub async fn rescue(settings: &Settings, patience: Duration) -> anyhow::Result<ExitCode> {
    let (store, work) = (store_of(settings, "rescue")?, Work::open(&settings.journal)?);
    let (manifests, mut failed) = find(&store, &settings.prefix).await?;
    let mut rescue = Rescue { settings, store, work, patience };
    // Manifests of which everything that could be delivered was, with whether that was all.
    let mut seen: Vec<(&Manifest, bool)> = Vec::new();
    let (mut rows, mut left) = (0, 0);
    for (name, manifest) in &manifests {
        let journal = &manifest.journal;
        let by_longer = seen.iter().filter(|(longer, _)| longer.covers(manifest)).map(|(_, is_done)| *is_done).max();
        let is_done = match by_longer {
            Some(is_done) => is_done,
            None => match rescue.deliver(manifest).await {
                Ok(tally) => {
                    (rows, left) = (rows + tally.rows, left + tally.left);
                    let is_done = tally.is_done();
                    failed += usize::from(!is_done && tally.left == 0);
                    rescue.store = tally.store.unwrap_or(rescue.store);
                    is_done
                }
                Err(error) => {
                    let error = crate::error_chain(&*error);
                    error!(journal, error = %error, "failed to deliver all of a journal's log files");
                    failed += 1;
                    continue;
                }
            },
        };
        if is_done && let Err(error) = rescue.store.put(&format!("{name}{DONE}"), Bytes::new()).await {
            // The next rescue finds everything delivered.
            error!(journal, error = %crate::error_chain(&error), "failed to mark a journal's log files as delivered");
            failed += 1;
        }
        seen.push((manifest, is_done));
    }
    let journals = manifests.iter().map(|(_, manifest)| &manifest.journal).collect::<BTreeSet<_>>().len();
    info!(journals, rows, left, failed, "looked after what pods had left");
    Ok(if left == 0 && failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNFLUSHED) })
}

/// The manifests that are not done, each with its key without an ending, a longer one of a journal before the shorter ones
/// that it may cover; and how many objects among them are none.
async fn find(store: &Store, prefix: &Prefix) -> anyhow::Result<(Vec<(String, Manifest)>, usize)> {
    let folder = prefix.rescue_manifests();
    let keys = store.list(&folder).await?;
    let done: BTreeSet<_> = keys.iter().filter_map(|key| key.strip_suffix(DONE)).collect();
    let (mut manifests, mut failed) = (Vec::new(), 0);
    for name in keys.iter().filter_map(|key| key.strip_suffix(".json")).filter(|name| !done.contains(name)) {
        let key = format!("{name}.json");
        let Some(content) = store.get(&key).await? else { continue };
        match Manifest::parse(&content) {
            Ok(manifest) => manifests.push((name.to_owned(), manifest)),
            Err(error) => {
                error!(key, error = %crate::error_chain(&error), "failed to read a manifest of log files");
                failed += 1;
            }
        }
    }
    manifests.sort_by_key(|(_, manifest)| (manifest.journal.clone(), std::cmp::Reverse(manifest.files.len())));
    Ok((manifests, failed))
}

impl Rescue<'_> {
    /// Delivers what is whole in the log files that a manifest names.
    async fn deliver(&self, manifest: &Manifest) -> anyhow::Result<Tally> {
        let folder = self.work.fresh_folder()?;
        let (mut there, mut is_whole) = (BTreeSet::new(), true);
        for file in &manifest.files {
            let key = self.settings.prefix.rescue_log(&manifest.journal, file);
            match fetch(&self.store, &key, file, &log_path(&folder, file.number)).await? {
                Fetched::Whole => drop(there.insert(file.number)),
                Fetched::Changed => {
                    warn!(key, "a log file in the lake is not what was put there");
                    there.insert(file.number);
                    is_whole = false;
                }
                Fetched::Missing => {
                    warn!(key, "a log file is not in the lake any more");
                    is_whole = false;
                }
            }
        }
        let mut tally = Tally { is_whole, ..Tally::default() };
        for run in manifest.runs(|file| there.contains(&file.number)) {
            let first = run.first().map_or(0, |file| file.number);
            let run_folder = folder.join(format!("{first:016x}"));
            make_private_directory(&run_folder)?;
            for file in run {
                fs::rename(log_path(&folder, file.number), log_path(&run_folder, file.number))?;
            }
            self.replay(&manifest.journal, &run_folder, &mut tally).await?;
        }
        Ok(tally)
    }

    /// Delivers what is whole in log files that follow one another.
    async fn replay(&self, journal: &str, folder: &Path, tally: &mut Tally) -> anyhow::Result<()> {
        let settings =
            Settings { journal: folder.to_owned(), scratch: folder.join("scratch"), ..self.settings.clone() };
        let mut parts = Parts::open(&settings, Files::Copies).await?;
        let id = parts.state.journal.id();
        ensure!(id == journal, "the log files are those of journal {id}");
        let (rows, partial) = (parts.state.journal.view().unretired_rows(None), std::mem::take(&mut parts.left));
        let context = Arc::clone(&parts.context);
        context.contact.ensure().await?;
        tally.store = Some(context.store.clone());
        let end = deliver_all(parts, &settings, self.patience).await;
        let undelivered = context.journal.view().unretired_rows(None);
        tally.rows += rows - undelivered;
        match end {
            Some(WorkerEnd::Drained) => {}
            Some(WorkerEnd::Stuck) | None => {
                let error = reasons(&context);
                error!(journal, rows = undelivered, error, "failed to deliver all of a journal's log files");
                tally.left += undelivered;
            }
            Some(WorkerEnd::Fatal) => bail!("the disk or the encoder failed"),
        }
        let left = left_rows(&context, &partial).await?;
        if left > 0 {
            warn!(journal, rows = left, "rows are of segments that are not whole, and were left out");
            tally.left += left;
        }
        info!(journal, rows, "delivered log files of a journal");
        Ok(())
    }
}

/// Records of segments that are not whole here and are not in the lake either. The sidecar whose they are, or a longer set of
/// its log files, may have delivered them since.
async fn left_rows(context: &DeliveryContext, partial: &[PartialSegment]) -> anyhow::Result<u64> {
    let mut left = 0;
    for PartialSegment { number, epoch, table, rows, is_sealed } in partial {
        let segment = SegmentName { journal: context.journal.id(), epoch: *epoch, number: *number };
        let described = descriptions_of(&context.store, &context.prefix, table, &segment).await?;
        let in_lake: u64 = described.iter().map(|file| file.rows).sum();
        let is_complete = described.first().is_some_and(|file| file.segment_rows == in_lake);
        let is_this = if *is_sealed { in_lake == *rows } else { in_lake >= *rows };
        if is_complete && is_this {
            info!(segment = number, table, rows, "a segment that is not whole here is in the lake");
        } else {
            left += rows;
        }
    }
    Ok(left)
}

fn reasons(context: &DeliveryContext) -> String {
    let reasons = context.status.reasons();
    reasons.iter().map(|reason| format!("{}: {}", reason.name, reason.message)).collect::<Vec<_>>().join("; ")
}

/// What is at a log file's key.
enum Fetched {
    /// What was put there.
    Whole,
    /// Something else; the frames in it have checksums of their own.
    Changed,
    /// Nothing.
    Missing,
}

/// Brings a log file here and looks at every byte of it.
async fn fetch(store: &Store, key: &str, file: &LogFile, path: &Path) -> anyhow::Result<Fetched> {
    if store.head(key).await?.is_none() {
        return Ok(Fetched::Missing);
    }
    store.fetch(key, path).await?;
    let path = path.to_owned();
    let sha256 = tokio::task::spawn_blocking(move || -> io::Result<String> {
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok(hex(&hasher.finalize()))
    });
    Ok(if sha256.await?? == file.sha256 { Fetched::Whole } else { Fetched::Changed })
}

/// A worker that has nothing to wait for but deliveries; none if nothing was delivered for `patience`.
async fn deliver_all(parts: Parts, settings: &Settings, patience: Duration) -> Option<WorkerEnd> {
    let Parts { context, requests, recovered, .. } = parts;
    let (_grace, graces) = watch::channel(grace_of(settings));
    let hurry = (Leaving::default(), graces);
    let (_drain, draining) = watch::channel(true);
    let (_close, closed) = watch::channel(true);
    let (journal, mut changes) = (context.journal.clone(), context.journal.watch());
    let encoder = context.encoder.clone();
    let (_policy, policies) = watch::channel(policy_of(settings));
    let worker = FlushWorker::new(context, policies, requests, hurry, draining, closed, recovered).run();
    tokio::pin!(worker);
    let undelivered = || journal.view().unretired_rows(None);
    loop {
        let (before, tries) = (undelivered(), encoder.tries());
        let progress = async { while undelivered() == before && changes.changed().await.is_ok() {} };
        tokio::select! {
            end = &mut worker => return Some(end),
            progress = tokio::time::timeout(patience, progress) => {
                // A search for records that the encoder fails on takes its time, and ends.
                if progress.is_err() && encoder.tries() == tries {
                    return None;
                }
            }
        }
    }
}

/// The folder that a rescue works in, its own for as long as this lives. What an earlier one left in it is removed.
#[derive(Debug)]
struct Work {
    path: PathBuf,
    /// Held for its lock alone.
    _lock: File,
    /// Folders that were made in it.
    folders: AtomicU64,
}

impl Work {
    fn open(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(WORK_FOLDER);
        let failed = || format!("failed to use the folder {}; give another with --work", path.display());
        make_private_directory(&path).with_context(failed)?;
        let found = fs::symlink_metadata(&path).with_context(failed)?;
        // Folders for temporary files are everybody's, and records will lie in this one.
        let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
        ensure!(is_ours, "the folder {} is somebody else's; give another with --work", path.display());
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.with_context(failed)?;
        let is_free = lock.try_lock().is_ok();
        ensure!(is_free, "another rescue works in {}; give this one another folder with --work", path.display());
        let work = Self { path, _lock: lock, folders: AtomicU64::new(0) };
        work.clear().with_context(|| format!("failed to clear {}", work.path.display()))?;
        Ok(work)
    }

    /// An empty folder that nobody has had. What was in earlier ones is removed; where an encoder that was given up still
    /// writes there, that is tried again with the next one.
    fn fresh_folder(&self) -> io::Result<PathBuf> {
        if let Err(error) = self.clear() {
            warn!(error = %error, "failed to remove the files of an earlier journal; trying again later");
        }
        let folder = self.path.join(format!("files-{}", self.folders.fetch_add(1, Ordering::Relaxed)));
        make_private_directory(&folder)?;
        Ok(folder)
    }

    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays behind is removed by the next one.
        let _ = self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescue_has_its_folder_for_itself_and_begins_with_nothing_in_it() {
        let parent = tempfile::tempdir().expect("a temporary folder can be made");
        let left = parent.path().join(WORK_FOLDER).join("files");
        fs::create_dir_all(&left).expect("a folder can be made");
        fs::write(left.join("x.log"), "records").expect("a file can be written");
        let work = Work::open(parent.path()).expect("nobody else has it");
        assert!(!left.try_exists().expect("the folder can be read"));
        assert!(Work::open(parent.path()).expect_err("it is taken").to_string().contains("another rescue"));
        drop(work);
        assert!(Work::open(parent.path()).is_ok());
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused() {
        let parent = tempfile::tempdir().expect("a temporary folder can be made");
        let elsewhere = tempfile::tempdir().expect("a temporary folder can be made");
        std::os::unix::fs::symlink(elsewhere.path(), parent.path().join(WORK_FOLDER)).expect("a link can be made");
        assert!(Work::open(parent.path()).is_err());
    }
}
