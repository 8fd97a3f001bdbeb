//! What this repository expects on the machine and does not install itself.
//!
//! Owns: the list of these programs, each with the command that installs it.
//! Does not own: what is installed into the cache (see `tools`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};

/// Programs by name, with the command that installs each on Debian.
const PROGRAMS: [(&str, &str); 10] = [
    ("cargo", "apt-get install rustup && rustup show"),
    ("node", "apt-get install nodejs"),
    ("npm", "apt-get install npm"),
    ("python3", "apt-get install python3 python3-venv"),
    ("go", "apt-get install golang (1.26 or later)"),
    ("strip", "apt-get install binutils"),
    ("ldd", "apt-get install libc-bin"),
    ("setpriv", "apt-get install util-linux"),
    ("tar", "apt-get install tar"),
    ("curl", "apt-get install curl"),
];

/// The first program of this name on the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Makes sure that a program is there before it is run.
///
/// # Errors
/// When it is missing; the message says how it is installed.
pub fn require(program: &Path) -> Result<()> {
    if program.is_absolute() || program.components().count() > 1 {
        return if program.is_file() { Ok(()) } else { Err(anyhow!("failed to find {}", program.display())) };
    }
    let name = program.to_string_lossy();
    if find(&name).is_some() {
        return Ok(());
    }
    match PROGRAMS.iter().find(|(known, _)| *known == name) {
        Some((_, install)) => bail!("failed to find the program {name}; install it with: {install}"),
        None => bail!("failed to find the program {name} on the search path"),
    }
}

/// Version of `python3` as `major.minor`, after making sure that it can make virtual environments.
///
/// # Errors
/// When python3 or its venv module is missing; the message says how it is installed.
pub fn python_version() -> Result<String> {
    require(Path::new("python3"))?;
    let script = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new("python3").args(["-c", script]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("failed to load the venv module of python3; install it with: apt-get install python3-venv");
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_the_search_path_is_found() {
        assert!(require(Path::new("sh")).is_ok());
    }

    #[test]
    fn a_missing_program_is_named() {
        let message = require(Path::new("no-such-program")).expect_err("it does not exist").to_string();
        assert!(message.contains("no-such-program"), "{message}");
    }
}
