//! Log files that pods left in the lake, to their tables.
//!
//! Owns: finding them, reading them as the journals that they are, marking them as done. Does not own: how a segment is
//! delivered (`flush`).
//!
//! Segments keep the names that their own sidecar gave them, so that it does not matter who delivers them, in what order,
//! or how often: files are created once, and a description that is there already ends the matter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use tokio::sync::watch;
use tracing::{info, warn};

use super::LogName;
use crate::config::Settings;
use crate::flush::deliver::DeliveryContext;
use crate::flush::worker::{FlushWorker, WorkerEnd};
use crate::journal::Unsealed;
use crate::journal::directory::{log_path, make_private_directory};
use crate::leaving::Leaving;
use crate::publish::key::Prefix;
use crate::publish::store::Store;
use crate::run::{EXIT_UNFLUSHED, Parts, policy_of, store_of};

/// What the lake has of one journal.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Its log files, each in its longest form.
    logs: BTreeMap<u64, LogName>,
    done: BTreeSet<LogName>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    journals: usize,
    rows: u64,
    /// Records that are in log files and were not delivered.
    left: u64,
}

/// Delivers every journal that was left in the lake. What the settings name as the journal's directory is a folder of our
/// own for the time being.
///
/// # Errors
/// The lake does not answer, or what is there cannot be read.
pub async fn rescue(settings: &Settings) -> anyhow::Result<ExitCode> {
    let store = store_of(settings, "rescue")?;
    let found = find(&store, &settings.prefix).await?;
    let mut tally = Tally::default();
    for (journal, found) in &found {
        for run in found.runs() {
            let folder = settings.journal.join(format!("rescue-{:016x}", rand::random::<u64>()));
            let end = replay(settings, &store, journal, &run, &folder, &mut tally).await;
            // Whatever stays behind of a copy is in nobody's way.
            let _ = std::fs::remove_dir_all(&folder);
            end.with_context(|| format!("failed to deliver the log files of journal {journal}"))?;
        }
    }
    let Tally { journals, rows, left } = tally;
    info!(journals, rows, left, "delivered what pods had left");
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNFLUSHED) })
}

async fn find(store: &Store, prefix: &Prefix) -> anyhow::Result<BTreeMap<String, Found>> {
    let folder = prefix.rescues();
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for key in store.list(&folder).await? {
        let Some((journal, file)) = key.strip_prefix(&folder).and_then(|name| name.split_once('/')) else { continue };
        let Some((name, kind)) = file.rsplit_once('.') else { continue };
        let Some(name) = LogName::parse(name) else { continue };
        let of_journal = found.entry(journal.to_owned()).or_default();
        match kind {
            "log" => {
                let longest = of_journal.logs.entry(name.number).or_insert(name);
                *longest = (*longest).max(name);
            }
            "done" => drop(of_journal.done.insert(name)),
            _ => {}
        }
    }
    Ok(found)
}

impl Found {
    /// The log files that follow one another without a gap, in which one at least is not done.
    fn runs(&self) -> Vec<Vec<LogName>> {
        let mut runs: Vec<Vec<LogName>> = Vec::new();
        for name in self.logs.values() {
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|last| last.number + 1 == name.number) => run.push(*name),
                Some(_) | None => runs.push(vec![*name]),
            }
        }
        runs.retain(|run| !run.iter().all(|name| self.done.contains(name)));
        runs
    }
}

/// Delivers log files that follow one another.
async fn replay(
    settings: &Settings,
    store: &Store,
    journal: &str,
    run: &[LogName],
    folder: &Path,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    make_private_directory(folder)?;
    for name in run {
        fetch(store, &settings.prefix.rescue_log(journal, *name), *name, folder).await?;
    }
    let settings = Settings { journal: folder.to_owned(), scratch: folder.join("scratch"), ..settings.clone() };
    let parts = Parts::open(&settings, Unsealed::Leave).await?;
    ensure!(parts.state.journal.id() == journal, "the log files are those of journal {}", parts.state.journal.id());
    if parts.unsealed_rows > 0 {
        warn!(journal, rows = parts.unsealed_rows, "rows of segments whose ends are missing are not delivered");
    }
    let (rows, unsealed_rows) = (parts.state.journal.view().unretired_rows(None), parts.unsealed_rows);
    let context = Arc::clone(&parts.context);
    context.contact.ensure().await?;
    match deliver_all(parts, &settings).await {
        WorkerEnd::Drained => {}
        WorkerEnd::Stuck => bail!("a segment is in the lake with other rows: {}", reasons(&context)),
        WorkerEnd::Fatal => bail!("the disk or the encoder failed"),
    }
    for name in run {
        store.put(&settings.prefix.rescue_done(journal, *name), Bytes::new()).await?;
    }
    tally.journals += 1;
    tally.rows += rows;
    tally.left += unsealed_rows;
    info!(journal, rows, "delivered the log files of a journal");
    Ok(())
}

fn reasons(context: &DeliveryContext) -> String {
    let reasons = context.status.reasons();
    reasons.iter().map(|reason| format!("{}: {}", reason.name, reason.message)).collect::<Vec<_>>().join("; ")
}

/// Brings a log file here, and looks at its length: the frames in it have checksums of their own.
async fn fetch(store: &Store, key: &str, name: LogName, folder: &Path) -> anyhow::Result<()> {
    let path = log_path(folder, name.number);
    store.fetch(key, &path).await?;
    let length = std::fs::metadata(&path)?.len();
    ensure!(length == name.bytes, "{key} has {length} bytes, and its name says {}", name.bytes);
    Ok(())
}

/// A worker that has nothing to wait for but deliveries.
async fn deliver_all(parts: Parts, settings: &Settings) -> WorkerEnd {
    let Parts { context, requests, recovered, .. } = parts;
    let hurry = (Leaving::default(), Duration::ZERO);
    let (_drain, draining) = watch::channel(true);
    let (_close, closed) = watch::channel(true);
    FlushWorker::new(context, policy_of(settings), requests, hurry, draining, closed, recovered).run().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64, bytes: u64) -> LogName {
        LogName { number, bytes }
    }

    #[test]
    fn files_that_follow_one_another_are_one_run_until_all_are_done() {
        let mut found = Found::default();
        for number in [3, 4, 7] {
            found.logs.insert(number, name(number, 10));
        }
        assert_eq!(found.runs(), [vec![name(3, 10), name(4, 10)], vec![name(7, 10)]]);
        found.done.extend([name(3, 10), name(7, 10)]);
        assert_eq!(found.runs(), [vec![name(3, 10), name(4, 10)]]);
        found.done.insert(name(4, 9));
        assert_eq!(found.runs().len(), 1, "a shorter form of it was done");
        found.done.insert(name(4, 10));
        assert_eq!(found.runs(), Vec::<Vec<LogName>>::new());
    }
}
