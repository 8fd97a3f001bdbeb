//! The sidecar with system calls that fail, hang or never return.
//!
//! Owns: the program that runs it under `strace`. Does not own: which call, what has to become of it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use xtask::{tools, workspace};

use crate::site::Site;

/// A program that is the sidecar, in which calls of this name have a fault (what stands behind the name in strace's
/// `-e inject=`). With `files`, below the journal's folder, only calls on those count. The sidecar stays our child, and
/// strace its grandchild (`-D`).
///
/// # Panics
/// When strace is missing.
pub fn under_strace(site: &Site, call: &str, fault: &str, files: &[String]) -> PathBuf {
    let strace = tools::strace().expect("strace is there or can be installed");
    let mut script = format!("#!/bin/sh\nexec '{}' -D -f -qqq -o /dev/null", strace.display());
    let _ = write!(script, " -e trace={call} -e inject={call}:{fault}");
    for file in files {
        let _ = write!(script, " -P '{}'", site.options.journal.join(file).display());
    }
    let _ = writeln!(script, " '{}' \"$@\"", workspace::sidecar_binary().display());
    let path = site.folder().join("under-strace");
    fs::write(&path, script).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be made a program");
    path
}
