//! `preflight`: whether the lake can be used, tried before anybody sends a record.
//!
//! Owns: the steps (whose the prefix is, what the endpoint promises, an object and a Parquet file there and back), and the
//! verdict for people, for the kubelet and for the operator. Claims nothing and leaves nothing behind that it may remove.
//! Does not own: what a sidecar does with a lake that cannot be used (`flush`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use lakeingest_crds::preflight::Verdict;
use parquet::arrow::ArrowWriter;
use sha2::{Digest, Sha256};
use tracing::{error, info, warn};

use crate::config::Settings;
use crate::journal::hex;
use crate::lake::contact::REPLACES;
use crate::lake::owner::{self, OwnerError};
use crate::parts::store_of;
use crate::publish::error::{StoreError, StoreErrorKind};
use crate::publish::store::{Probe, PutOutcome, Store};

/// The lake cannot be used. Source: `EX_UNAVAILABLE` of sysexits.h.
const EXIT_UNUSABLE: u8 = 69;

/// What the small object holds.
const CANARY: &[u8] = b"{\"written_by\": \"lakeingest-sidecar preflight\"}";

/// Tries the lake and tells what came of it: a line of JSON on the standard output and, in a pod, as the termination message.
/// The process ends with 0 if the lake can be used and with 69 if it cannot.
///
/// # Errors
/// The settings cannot be used.
pub async fn preflight(settings: &Settings) -> anyhow::Result<ExitCode> {
    let name = format!("{:032x}", rand::random::<u128>());
    let trial = Trial { store: store_of(settings, &format!("preflight-{name}"))?, settings, name };
    let verdict = match trial.run().await {
        Ok(notes) => {
            info!(lake = trial.store.location(), prefix = settings.prefix.as_str(), "the lake can be used");
            Verdict { reason: None, message: notes.join("; ") }
        }
        Err(failure) => {
            let (reason, message) = (failure.reason(), crate::error_chain(&failure));
            error!(reason, error = message, "the lake cannot be used");
            Verdict { reason: Some(reason.to_owned()), message }
        }
    };
    let line = line_of(&verdict);
    println!("{line}");
    if let Some(path) = &settings.termination_log
        && let Err(error) = std::fs::write(path, line)
    {
        warn!(error = %error, path = %path.display(), "failed to write the termination message");
    }
    Ok(if verdict.reason.is_none() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNUSABLE) })
}

/// Longest line. Unit: bytes. Source: `terminationMessagePath` of a container, which says what the kubelet cuts off.
const LINE_BYTES_MAX: usize = 4_096;

/// A verdict as a line of JSON, with a message that is cut where it would be too long.
fn line_of(verdict: &Verdict) -> String {
    let mut end = verdict.message.floor_char_boundary(LINE_BYTES_MAX);
    loop {
        let shown = Verdict { reason: verdict.reason.clone(), message: verdict.message[..end].to_owned() };
        let line = serde_json::to_string(&shown).expect("a verdict is plain data");
        if line.len() <= LINE_BYTES_MAX || end == 0 {
            return line;
        }
        // What has to be escaped is longer in the line than in the message.
        end = verdict.message.floor_char_boundary(end / 2);
    }
}

/// A trial at work.
struct Trial<'a> {
    store: Store,
    settings: &'a Settings,
    /// No other trial has it.
    name: String,
}

impl Trial<'_> {
    /// Every step; what the lake does otherwise than the best of them, in words.
    async fn run(&self) -> Result<Vec<String>, OwnerError> {
        let Settings { prefix, owner, permission, .. } = self.settings;
        owner::look(&self.store, prefix, owner, permission.takes_over_from().as_deref()).await?;
        let Probe { create_only, checksum: _ } = self.store.probe(&prefix.probe()).await?;
        let mut notes = Vec::new();
        if !create_only {
            notes.push(REPLACES.to_owned());
        }
        let canary = prefix.trial(&format!("{}.json", self.name));
        let file = prefix.trial(&format!("{}.parquet", self.name));
        let tried = async {
            self.there_and_back(&canary, Bytes::from_static(CANARY)).await?;
            self.file_there_and_back(&file).await
        };
        let outcome = tried.await;
        for key in [&canary, &file] {
            // What was not put need not be there; what may not be removed is small and in nobody's way.
            if let Err(error) = self.store.remove_trial(key).await
                && outcome.is_ok()
            {
                notes.push(format!("{error} (a sidecar never deletes, so this does no harm)"));
            }
        }
        outcome?;
        Ok(notes)
    }

    async fn there_and_back(&self, key: &str, content: Bytes) -> Result<(), StoreError> {
        if self.store.put(key, content.clone()).await? == PutOutcome::Exists {
            return Err(self.unverified(key, "something was at the key of a trial"));
        }
        match self.store.get(key).await? {
            Some(found) if found == content => Ok(()),
            Some(_) => Err(self.unverified(key, "the object is not what was sent")),
            None => Err(self.unverified(key, "the put succeeded and the object is not there")),
        }
    }

    async fn file_there_and_back(&self, key: &str) -> Result<(), StoreError> {
        let local_failed = |error: std::io::Error| StoreError {
            kind: StoreErrorKind::Local,
            action: "make",
            key: key.to_owned(),
            detail: error.to_string(),
        };
        let made = Local(self.settings.scratch.join(format!("preflight-{}", self.name)));
        let fetched = Local(made.0.with_extension("fetched"));
        std::fs::create_dir_all(&self.settings.scratch).map_err(local_failed)?;
        let bytes = one_row();
        std::fs::write(&made.0, &bytes).map_err(local_failed)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        self.store.put_log(key, &made.0, bytes.len() as u64, &sha256).await?;
        self.store.fetch(key, &fetched.0).await?;
        match std::fs::read(&fetched.0).map_err(local_failed)? == bytes {
            true => Ok(()),
            false => Err(self.unverified(key, "the file is not what was sent")),
        }
    }

    fn unverified(&self, key: &str, detail: &str) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Unverified,
            action: "verify",
            key: format!("{}{key}", self.store.location()),
            detail: detail.to_owned(),
        }
    }
}

/// A local file that goes with this.
struct Local(PathBuf);

impl Drop for Local {
    fn drop(&mut self) {
        // It may not be there, and it lies in a folder for such files.
        let _ = std::fs::remove_file(AsRef::<Path>::as_ref(&self.0));
    }
}

/// A Parquet file of one row.
fn one_row() -> Vec<u8> {
    let columns: [(&str, ArrayRef); 2] = [
        ("n", Arc::new(Int64Array::from(vec![1]))),
        ("written_by", Arc::new(StringArray::from(vec!["lakeingest-sidecar preflight"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("both columns have one row");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).expect("memory can be written");
    writer.write(&batch).expect("memory can be written");
    writer.into_inner().expect("memory can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_fits_a_termination_message_however_long_its_words_are() {
        let verdict = Verdict { reason: Some("BucketMissing".to_owned()), message: "make it".to_owned() };
        assert_eq!(line_of(&verdict), r#"{"reason":"BucketMissing","message":"make it"}"#);
        let line = line_of(&Verdict { reason: None, message: "\u{e9}\"\n".repeat(4_000) });
        let read: Verdict = serde_json::from_str(&line).expect("it is whole");
        assert!(line.len() <= LINE_BYTES_MAX && read.message.starts_with("\u{e9}\"\n\u{e9}"), "{line}");
    }
}
