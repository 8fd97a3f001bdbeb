//! Segments over which the process has died: an encoder that crashes takes everything with it, and would again at each
//! start.
//!
//! Owns: the note that outlives a process which dies while it encodes, and encoding in a process of its own, whose death
//! says no more than that it cannot be done. Does not own: which records are to blame (`poison`).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::error::EncodeError;
use super::load::Selection;
use super::session::{Need, Scratch, Session};
use super::{EncodeJob, encode};
use crate::journal::control::Seal;
use crate::journal::segment::Contents;
use crate::publish::key::{Prefix, SegmentName};
use crate::schema::registry::RegisteredSchema;

/// The verb of the program that encodes what it reads from its standard input.
pub const VERB: &str = "encode-trial";

/// Exit code: the encoder fails on the rows.
const FAILS: u8 = 3;

/// Exit code of a Rust program that has panicked. Source: the standard library's documentation of panics.
const PANICKED: i32 = 101;

/// Signals by which a process dies of what it does itself.
const DEADLY: [Signal; 6] = [Signal::SEGV, Signal::ABORT, Signal::BUS, Signal::ILL, Signal::FPE, Signal::TRAP];

/// That a segment is being encoded, for whoever comes after a process that died of it.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    deaths: u32,
}

impl Note {
    /// Notes it. What cannot be noted is not counted.
    pub(super) fn begin(scratch: &Scratch, segment: u64) -> Self {
        let path = scratch.attempts().join(segment.to_string());
        let deaths: u32 = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let _ = fs::write(&path, deaths.saturating_add(1).to_string());
        Self { path, deaths }
    }

    /// How many processes have ended while they encoded it.
    pub(super) fn deaths(&self) -> u32 {
        self.deaths
    }

    /// It is encoded: whatever processes died of, it was not this segment, or it is in it no more.
    pub(super) fn end(self) {
        let _ = fs::remove_file(self.path);
    }

    /// It is not encoded, and this process lives: one death less than was noted for the case, and none is forgotten.
    pub(super) fn go_back(self) {
        let _ = match self.deaths {
            0 => fs::remove_file(self.path),
            deaths => fs::write(self.path, deaths.to_string()),
        };
    }
}

/// Which segments are tried in a process of their own before this one encodes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trials {
    /// Those over which processes have died.
    AfterDeaths,
    /// All: nobody can tell whether the process that had them has died over them, and notes do not outlive this one.
    Always,
}

/// What the process is told.
#[derive(Serialize, Deserialize)]
struct TrialJob {
    scratch: Scratch,
    journal: PathBuf,
    prefix: String,
    segment: SegmentName,
    contents: Contents,
    seal: Seal,
    registered: RegisteredSchema,
    order_by: Vec<String>,
    range: Range<u64>,
    poison: BTreeSet<(u64, u32)>,
}

/// Encodes in a process of its own, for nothing but to see whether it can be done.
///
/// # Errors
/// `Died` where it cannot; anything else says nothing of the rows.
pub(super) fn encode_aside(scratch: &Scratch, job: &EncodeJob, selection: &Selection) -> Result<(), EncodeError> {
    let told = TrialJob {
        scratch: scratch.clone(),
        journal: job.journal.clone(),
        prefix: job.prefix.as_str().to_owned(),
        segment: job.segment.clone(),
        contents: (*job.contents).clone(),
        seal: job.seal.clone(),
        registered: (*job.registered).clone(),
        order_by: job.order_by.clone(),
        range: selection.range.clone(),
        poison: selection.poison.clone(),
    };
    let status = run(&told).map_err(EncodeError::Trial)?;
    match meaning(status) {
        Some(true) => Ok(()),
        Some(false) => Err(EncodeError::Died { segment: job.contents.number }),
        None => Err(EncodeError::Trial(io::Error::other(format!("it ended with {status}")))),
    }
}

fn run(told: &TrialJob) -> io::Result<ExitStatus> {
    let text = serde_json::to_vec(told).map_err(io::Error::other)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(VERB).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // One that dies before it has read everything says so by its end.
    let _ = child.stdin.take().map(|mut input| input.write_all(&text));
    child.wait()
}

/// Whether the rows can be encoded; none if it says nothing of them: somebody killed it, or it lacked memory or disk.
fn meaning(status: ExitStatus) -> Option<bool> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Some(true),
        (Some(code), _) if code == i32::from(FAILS) || code == PANICKED => Some(false),
        (_, Some(signal)) if DEADLY.iter().any(|deadly| deadly.as_raw() == signal) => Some(false),
        _ => None,
    }
}

/// The process: encodes what it is told on standard input, and leaves nothing.
pub fn main() -> ExitCode {
    // It ends with the process that waits for it, and holds records, which are nobody else's.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    match trial() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_about_rows() => ExitCode::from(FAILS),
        Err(_) => ExitCode::FAILURE,
    }
}

fn trial() -> Result<(), EncodeError> {
    let told: TrialJob =
        serde_json::from_reader(io::stdin().lock()).map_err(|error| EncodeError::Trial(error.into()))?;
    let TrialJob { scratch, journal, prefix, segment, contents, seal, registered, order_by, range, poison } = told;
    let prefix = Prefix::new(&prefix).ok_or_else(|| EncodeError::Trial(io::ErrorKind::InvalidData.into()))?;
    let scratch = scratch.for_trial().map_err(EncodeError::Trial)?;
    let mut session = Session::open(&scratch).map_err(EncodeError::Open)?;
    session
        .prepare(&scratch, Need { columns: registered.schema.leaf_count(), is_suspect: true }, false)
        .map_err(EncodeError::Open)?;
    let job = EncodeJob {
        contents: Arc::new(contents),
        seal,
        segment,
        prefix,
        registered: Arc::new(registered),
        order_by,
        journal,
        poison: BTreeSet::new(),
        is_suspect: false,
    };
    let encoded = encode(&session.connection, &scratch, &job, &Selection { range, poison })?;
    for file in encoded.files {
        // What stays is removed by the next one.
        let _ = fs::remove_file(scratch.encoded_file(job.contents.number, file.planned.part));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_stays_where_nobody_ends_it_and_counts_the_deaths() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let scratch = Scratch::open(folder.path(), 1 << 20).expect("the folder can be used");
        for deaths in 0..3 {
            assert_eq!(Note::begin(&scratch, 7).deaths(), deaths);
        }
        Note::begin(&scratch, 7).go_back();
        assert_eq!(Note::begin(&scratch, 7).deaths(), 3, "a failure that nobody died of takes nothing back");
        Note::begin(&scratch, 7).end();
        assert_eq!(Note::begin(&scratch, 7).deaths(), 0);
        scratch.keep_only(&[8]).expect("the folder can be read");
        assert_eq!(Note::begin(&scratch, 7).deaths(), 0, "the segment is in the lake");
    }

    #[test]
    fn only_a_death_of_its_own_blames_the_rows() {
        let ended = |wait_status: i32| meaning(ExitStatus::from_raw(wait_status));
        assert_eq!(ended(0), Some(true));
        for (code, expected) in [(3, Some(false)), (101, Some(false)), (1, None), (2, None)] {
            assert_eq!(ended(code << 8), expected, "exit code {code}");
        }
        for (signal, expected) in [(11, Some(false)), (6, Some(false)), (9, None), (15, None)] {
            assert_eq!(ended(signal), expected, "signal {signal}");
        }
    }
}
