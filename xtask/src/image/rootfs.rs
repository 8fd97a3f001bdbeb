//! What is in an image: a tree of files that is put together in memory.
//!
//! Owns: programs with the libraries that they are linked with. Does not own: how a tree is written (see `archive`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::commands::{command, run_with_input};

/// The user of every image, as the images that are called "nonroot" have it.
/// Source: <https://github.com/GoogleContainerTools/distroless>, `nonroot`.
pub(super) const USER: u32 = 65_532;

/// Where the certificates of public authorities are, here and in the image.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One entry of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file with its permissions.
    File(Vec<u8>, u32),
    /// A folder with its permissions.
    Folder(u32),
    /// A symbolic link with its destination.
    Link(String),
}

/// A tree: its paths without a slash at the beginning, in order.
#[derive(Clone, Debug, Default)]
pub struct Rootfs {
    entries: BTreeMap<String, Entry>,
}

impl Rootfs {
    /// A tree with what every image has: its user, a place for temporary files, the names of hosts before the network's.
    pub fn base() -> Self {
        let mut rootfs = Self::default();
        let text = |text: String| Entry::File(text.into_bytes(), 0o644);
        rootfs.add("etc/passwd", text(format!("nonroot:x:{USER}:{USER}:nonroot:/nonexistent:/sbin/nologin\n")));
        rootfs.add("etc/group", text(format!("nonroot:x:{USER}:\n")));
        rootfs.add("etc/nsswitch.conf", text("hosts: files dns\n".to_owned()));
        rootfs.add("tmp", Entry::Folder(0o1777));
        rootfs
    }

    /// Adds an entry and the folders that it lies in; a later one replaces an earlier one.
    pub fn add(&mut self, path: &str, entry: Entry) {
        let mut parent = path;
        while let Some((folder, _)) = parent.rsplit_once('/') {
            self.entries.entry(folder.to_owned()).or_insert(Entry::Folder(0o755));
            parent = folder;
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds the certificates of public authorities.
    ///
    /// # Errors
    /// When the system has none.
    pub fn add_certificates(&mut self) -> Result<()> {
        let certificates = fs::read(CERTIFICATES)
            .with_context(|| format!("failed to read {CERTIFICATES}: apt-get install ca-certificates"))?;
        self.add(&CERTIFICATES[1..], Entry::File(certificates, 0o644));
        Ok(())
    }

    /// Adds a program without its debugging lines, and every library that it is linked with.
    ///
    /// Libraries of the system come to the path at which the loader has found them; others to `usr/lib`.
    ///
    /// # Errors
    /// When a library is missing or a program that reads them fails.
    pub fn add_program(&mut self, program: &Path, path: &str) -> Result<()> {
        self.add(path, Entry::File(without_debugging_lines(program)?, 0o755));
        for library in libraries(program)? {
            let is_of_system = ["/lib/", "/lib64/", "/usr/lib/"].iter().any(|folder| library.starts_with(folder));
            let path = match (is_of_system, library.rsplit_once('/')) {
                (false, Some((_, name))) => format!("usr/lib/{name}"),
                _ => library.trim_start_matches('/').to_owned(),
            };
            let content = fs::read(&library).with_context(|| format!("failed to read {library}"))?;
            self.add(&path, Entry::File(content, 0o755));
        }
        Ok(())
    }

    /// The entries, each folder before what is in it.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }
}

fn without_debugging_lines(program: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let stripped = folder.path().join("program");
    let mut strip = command("strip")?;
    // The names of functions stay, for backtraces.
    strip.args(["--strip-debug", "--enable-deterministic-archives", "-o"]).arg(&stripped).arg(program);
    run_with_input(strip, &[])?;
    fs::read(&stripped).with_context(|| format!("failed to read {}", stripped.display()))
}

/// The libraries that the loader finds for a program, with the loader itself; none for a static one.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let mut ldd = command("ldd")?;
    ldd.arg(program).env_remove("LD_LIBRARY_PATH");
    let output = ldd.output().with_context(|| format!("failed to run ldd {}", program.display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    libraries_of(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("failed to find the libraries of {}", program.display()))
}

fn libraries_of(output: &str) -> Result<Vec<String>> {
    let mut libraries = Vec::new();
    for line in output.lines().map(str::trim) {
        let place = line.split_once(" => ").map_or(line, |(_, place)| place);
        if place.starts_with("not found") {
            bail!("the loader does not find {line}");
        }
        let path = place.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            libraries.push(path.to_owned());
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_what_it_found_are_the_libraries() {
        let output = "\tlinux-vdso.so.1 (0x00007f)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = libraries_of(output).expect("all are found");
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        let error = libraries_of("\tlibduckdb.so => not found\n").expect_err("one is missing").to_string();
        assert!(error.contains("libduckdb.so"), "{error}");
    }

    #[test]
    fn a_folder_comes_before_what_is_in_it() {
        let mut rootfs = Rootfs::default();
        rootfs.add("usr/bin/program", Entry::File(Vec::new(), 0o755));
        let paths: Vec<_> = rootfs.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/bin", "usr/bin/program"]);
    }
}
