//! What every source file must have.
//!
//! Owns: finding the Rust files of the workspace, and the rule on their first line.
//! Does not own: what rustfmt and clippy know.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Every Rust file below `folder`, but for build folders and hidden ones, in order.
///
/// # Errors
/// When a folder cannot be read.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to read {}", folder.display()))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type().with_context(|| format!("failed to look at {}", entry.path().display()))?;
            if kind.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(entry.path());
            } else if kind.is_file() && name.ends_with(".rs") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Every file begins by saying what it is for.
pub(super) fn check_headers() -> Result<()> {
    let mut without = Vec::new();
    for file in rust_files(workspace::root())? {
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        if !begins_with_header(&text) {
            without.push(workspace::shown(&file));
        }
    }
    if !without.is_empty() {
        bail!("files that do not begin with a `//!` header:\n    {}", without.join("\n    "));
    }
    Ok(())
}

fn begins_with_header(text: &str) -> bool {
    text.strip_prefix("//! ").is_some_and(|rest| !rest.trim_start().is_empty() && !rest.starts_with('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_first_line_and_says_something() {
        assert!(begins_with_header("//! Purpose.\n"));
        for text in ["", "use std::fs;\n", "//! \nuse std::fs;\n", "\n//! Purpose.\n", "// Purpose.\n"] {
            assert!(!begins_with_header(text), "{text:?}");
        }
    }

    #[test]
    fn this_file_is_found_and_the_build_folder_is_not() {
        let files = rust_files(workspace::root()).expect("the workspace can be read");
        assert!(files.iter().any(|file| file.ends_with("xtask/src/check/sources.rs")));
        assert!(!files.iter().any(|file| file.starts_with(workspace::target())));
    }
}
