//! A file system of its own, whose power can be cut: what was not synced is gone.
//!
//! Owns: an ext4 in a file, its mount, the cut (`FS_IOC_SHUTDOWN` without a flush of its log).
//! Does not own: what lies on it. Needs root and loop devices: see [`can_be_made`].
//!
//! The system's own sync of old pages is put off (`commit=300`), so that nothing is saved by chance.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;
use xtask::tools;
use xtask::wait::{self, Look};

use crate::site::temporary_folder;

/// Length of the file system. Unit: bytes.
const BYTES: u64 = 96 << 20;

/// Cuts the file system of each path that it reads.
/// Source: `EXT4_IOC_SHUTDOWN` and `EXT4_GOING_FLAGS_NOLOGFLUSH` in Linux's fs/ext4/ext4.h.
const KNIFE: &str = "
import fcntl, os, struct, sys
for line in sys.stdin:
    folder = os.open(line.rstrip('\\n'), os.O_RDONLY)
    fcntl.ioctl(folder, 0x8004587D, struct.pack('I', 2))
    os.close(folder)
    print('cut', flush=True)
";

/// Whether this user may mount, on this machine.
pub fn can_be_made() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").try_exists().unwrap_or(false)
}

/// The file system; dropping it unmounts it.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    mount_point: PathBuf,
    knife: Child,
    to_knife: ChildStdin,
    from_knife: BufReader<ChildStdout>,
    _folder: TempDir,
}

impl Volume {
    /// A file system that is empty.
    ///
    /// # Panics
    /// When it cannot be made: the test needs root and loop devices.
    pub fn make() -> Self {
        assert!(can_be_made(), "cutting the power of a file system needs root and loop devices");
        let folder = temporary_folder();
        let (image, mount_point) = (folder.path().join("image"), folder.path().join("volume"));
        fs::create_dir(&mount_point).expect("a folder can be made");
        let file = File::create(&image).expect("the image can be made");
        file.set_len(BYTES).expect("the image can be made");
        let options = ["-q", "-F", "-b", "4096", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        must_run(Command::new("mkfs.ext4").args(options).arg(&image));
        let mut knife = xtask::commands::command(tools::readers().expect("there is a Python")).expect("it can be run");
        knife.args(["-I", "-c", KNIFE]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut knife = knife.spawn().expect("it can be started");
        let to_knife = knife.stdin.take().expect("it is piped");
        let from_knife = BufReader::new(knife.stdout.take().expect("it is piped"));
        let volume = Self { image, mount_point, knife, to_knife, from_knife, _folder: folder };
        volume.mount();
        volume
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Cuts its power: from now on every write to it fails, and what was not synced will be gone.
    pub fn cut(&mut self) {
        writeln!(self.to_knife, "{}", self.mount_point.display()).expect("the knife reads");
        let mut answer = String::new();
        self.from_knife.read_line(&mut answer).expect("the knife answers");
        assert_eq!(answer, "cut\n", "the file system can be cut");
    }

    /// Gives it its power back, as a machine that starts again. Nobody may use it any more.
    pub fn come_back(&self) {
        self.unmount();
        self.mount();
    }

    fn mount(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,commit=300"]).arg(&self.image).arg(&self.mount_point);
        must_run(&mut mount);
    }

    /// A process that has just ended may hold it for a moment.
    fn unmount(&self) {
        wait::until("the file system to be let go", || {
            let output = Command::new("umount").arg(&self.mount_point).output()?;
            Ok(match output.status.success() {
                true => Look::Ready(()),
                false => Look::NotYet(String::from_utf8_lossy(&output.stderr).into_owned()),
            })
        })
        .expect("nobody uses it");
        // A container that begins meanwhile has a copy of every mount until it has its own root; as long as it lasts, the file
        // system that was cut would be mounted again instead of the one that lies in the image.
        wait::until("the image to be let go", || {
            let output = Command::new("losetup").args(["--noheadings", "--associated"]).arg(&self.image).output()?;
            anyhow::ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
            Ok(match output.stdout.trim_ascii().is_empty() {
                true => Look::Ready(()),
                false => Look::NotYet(String::from_utf8_lossy(&output.stdout).into_owned()),
            })
        })
        .expect("no container keeps it");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let lazily = Command::new("umount").arg("--lazy").arg(&self.mount_point).output();
        if !lazily.is_ok_and(|output| output.status.success()) {
            eprintln!("failed to unmount {}", self.mount_point.display());
        }
        let _ = self.knife.kill();
        let _ = self.knife.wait();
    }
}

fn must_run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
