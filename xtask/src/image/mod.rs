//! `cargo xtask image`: the images that are released, tested and demonstrated, by the one way in which they are made.
//!
//! Owns: what is in each image. Does not own: the tree and the archive as such.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::commands::{command, run_with_input};
use crate::numbers::mebibytes;
use crate::stopwatch::Stopwatch;
use crate::{prerequisites, test_run, tools, workspace};

mod archive;
mod rootfs;

pub use archive::{Image, Written};
pub use rootfs::{Entry, Rootfs};

/// The version of everything that is built here.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The registry that a name without one stands for, as container runtimes resolve it.
const REGISTRY: &str = "docker.io";

/// The image of the operator, as manifests name it; the version is its tag.
pub const OPERATOR: &str = "lakeingest/operator";

/// The image of the sidecar, as manifests name it; the version is its tag.
pub const SIDECAR: &str = "lakeingest/sidecar";

/// The image of an application that knows nothing of LakeIngest: a shell and curl.
pub const DEMO_APP: &str = "lakeingest/demo-app:1";

/// The image of what holds a pod's namespaces.
pub const PAUSE: &str = "docker.io/lakeingest/pause:1";

/// What the shell of the demo's application can call.
const APPLETS: [&str; 20] = [
    "cat", "date", "echo", "env", "false", "grep", "head", "id", "kill", "ls", "mkdir", "nc", "ps", "rm", "sed", "seq",
    "sh", "sleep", "tail", "true",
];

/// An archive that was written.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The archive's file.
    pub path: PathBuf,
    /// Its digest and its size.
    pub written: Written,
}

/// Options of `cargo xtask image`.
#[derive(Debug, clap::Args)]
pub struct ImageOptions {
    /// Also the image of the application that the demo and the tests run, for a cluster of your own
    #[arg(long)]
    demo_app: bool,
}

/// Builds the release and writes its images.
///
/// # Errors
/// When something does not build or cannot be written.
pub fn run(options: &ImageOptions) -> Result<()> {
    let stopwatch = Stopwatch::start();
    tools::libduckdb()?;
    test_run::build_release()?;
    let of_version = |name: &str| format!("{name}:{VERSION}");
    let mut archives = vec![(of_version(OPERATOR), operator()?), (of_version(SIDECAR), sidecar()?)];
    if options.demo_app {
        archives.push((DEMO_APP.to_owned(), demo_app()?));
    }
    for (name, archive) in archives {
        println!("{name}");
        println!("  archive {}", archive.path.display());
        println!("  digest  {}", archive.written.digest);
        println!("  size    {}", mebibytes(archive.written.bytes));
    }
    eprintln!("The images are written ({:.1} s).", stopwatch.seconds());
    Ok(())
}

/// Writes the operator's image of the binary that was built.
///
/// # Errors
/// When the binary is missing or the archive cannot be written.
pub fn operator() -> Result<Archive> {
    let mut rootfs = Rootfs::base();
    rootfs.add_certificates()?;
    rootfs.add_program(&workspace::operator_binary(), "usr/bin/lakeingest-operator")?;
    write("operator", &format!("{REGISTRY}/{OPERATOR}:{VERSION}"), &["/usr/bin/lakeingest-operator"], rootfs)
}

/// Writes the sidecar's image of the binary that was built.
///
/// # Errors
/// When the binary is missing or the archive cannot be written.
pub fn sidecar() -> Result<Archive> {
    let mut rootfs = Rootfs::base();
    rootfs.add_certificates()?;
    rootfs.add_program(&workspace::sidecar_binary(), "usr/bin/lakeingest-sidecar")?;
    write("sidecar", &format!("{REGISTRY}/{SIDECAR}:{VERSION}"), &["/usr/bin/lakeingest-sidecar"], rootfs)
}

/// Writes the image of an application with a shell and the system's curl, and nothing of ours.
///
/// # Errors
/// When busybox or curl is missing or the archive cannot be written.
pub fn demo_app() -> Result<Archive> {
    prerequisites::require(Path::new("curl"))?;
    let curl = prerequisites::find("curl").context("failed to find curl")?;
    let mut rootfs = Rootfs::base();
    rootfs.add_program(&curl, "usr/bin/curl")?;
    rootfs.add_program(Path::new("/bin/busybox"), "bin/busybox")?;
    for applet in APPLETS {
        rootfs.add(&format!("bin/{applet}"), Entry::Link("busybox".to_owned()));
    }
    write("demo-app", &format!("{REGISTRY}/{DEMO_APP}"), &["/bin/sh"], rootfs)
}

/// Writes the image of what holds a pod's namespaces: it sleeps for as long as a clock can count.
///
/// # Errors
/// When busybox is missing or the archive cannot be written.
pub fn pause() -> Result<Archive> {
    let mut rootfs = Rootfs::base();
    rootfs.add_program(Path::new("/bin/busybox"), "bin/busybox")?;
    write("pause", PAUSE, &["/bin/busybox", "sleep", "2147483647"], rootfs)
}

fn write(name: &str, reference: &str, entrypoint: &[&str], rootfs: Rootfs) -> Result<Archive> {
    let path = workspace::root().join(format!("target/images/lakeingest-{name}.tar"));
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    let image = Image {
        reference: reference.to_owned(),
        entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
        labels: vec![
            label("title", &format!("lakeingest-{name}")),
            label("version", VERSION),
            label("revision", &revision()?),
            label("licenses", "Apache-2.0"),
        ],
        rootfs,
    };
    let written = archive::write(&path, &image)?;
    Ok(Archive { path, written })
}

/// The commit that the checkout is at.
fn revision() -> Result<String> {
    let mut git = command("git")?;
    git.current_dir(workspace::root()).args(["rev-parse", "HEAD"]);
    Ok(String::from_utf8_lossy(&run_with_input(git, &[])?).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_application_has_curl_a_shell_and_nothing_of_ours() {
        let mut rootfs = Rootfs::base();
        rootfs.add_program(Path::new("/bin/sh"), "bin/sh").expect("a shell is there");
        let paths: Vec<_> = rootfs.entries().map(|(path, _)| path.to_owned()).collect();
        assert!(paths.iter().any(|path| path.contains("libc.so")), "{paths:?}");
        assert!(paths.iter().all(|path| !path.contains("lakeingest")), "{paths:?}");
    }
}
