//! What the crates that we take from others bring along: licences, sources, known faults.
//!
//! Owns: running cargo-deny.
//! Does not own: what is allowed (`deny.toml`).

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::check::Outcome;
use crate::commands::{command, run_shown};
use crate::wait::{self, Look};
use crate::{tools, workspace};

/// How long the database of advisories may take to arrive before it counts as out of reach.
const ADVISORIES_TIMEOUT: Duration = Duration::from_secs(20);

/// Licences, sources, banned crates, two versions of one crate.
pub(super) fn check_crates() -> Result<()> {
    let mut deny = command(tools::cargo_deny()?)?;
    deny.current_dir(workspace::root());
    deny.args(["--workspace", "--locked", "--log-level", "error", "check", "bans", "licenses", "sources"]);
    run_shown(deny)
}

/// Known faults, where the database can be reached; where it cannot, that is said and is no failure.
pub(super) fn check_advisories() -> Result<Outcome> {
    if !fetch_database()? {
        return Ok(Outcome::NotChecked("the database of advisories cannot be reached from this machine"));
    }
    let mut deny = command(tools::cargo_deny()?)?;
    deny.current_dir(workspace::root());
    deny.args(["--workspace", "--locked", "--log-level", "error", "check", "--disable-fetch", "advisories"]);
    run_shown(deny)?;
    Ok(Outcome::Holds)
}

/// Whether the database could be fetched just now.
fn fetch_database() -> Result<bool> {
    let mut fetch = command(tools::cargo_deny()?)?;
    fetch.current_dir(workspace::root()).args(["--workspace", "--locked", "fetch", "db"]);
    fetch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = fetch.spawn().context("failed to start cargo-deny")?;
    let fetched = wait::until_within(ADVISORIES_TIMEOUT, "the database of advisories", || {
        Ok(match child.try_wait().context("failed to wait for cargo-deny")? {
            Some(status) => Look::Ready(status.success()),
            None => Look::NotYet("still fetching".to_owned()),
        })
    });
    if fetched.is_err() {
        child.kill().context("failed to end cargo-deny")?;
        child.wait().context("failed to wait for cargo-deny")?;
    }
    crate::interrupt::check()?;
    Ok(fetched.unwrap_or(false))
}
