//! The machine that the bench runs on, as far as it explains the figures.
//!
//! Owns: processor, load and volume as a person needs them; the time that the volume itself needs to keep bytes.
//! Does not own: the sidecar.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::interrupt;
use crate::numbers::{Latencies, counted};
use crate::stopwatch::Stopwatch;

/// One line about processors and what else they are doing.
pub(super) fn describe() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("failed to read /proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("processor of an unknown model", |(_, model)| model.trim());
    let processors = std::thread::available_parallelism().context("failed to count the processors")?;
    let loadavg = fs::read_to_string("/proc/loadavg").context("failed to read /proc/loadavg")?;
    let load = loadavg.split_whitespace().next().unwrap_or("unknown");
    Ok(format!("{} ({model}), load before the run {load}", counted(processors.get() as u64, "processor")))
}

/// The kind of file system that holds a folder, such as `ext4`.
pub(super) fn file_system(folder: &Path) -> Result<String> {
    let mounts = fs::read_to_string("/proc/mounts").context("failed to read /proc/mounts")?;
    Ok(file_system_of(folder, &mounts).unwrap_or("unknown file system").to_owned())
}

/// Of the mounts that hold the folder, the deepest; of two on one folder, the one that was mounted last.
fn file_system_of<'a>(folder: &Path, mounts: &'a str) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    mounts
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.components().count())
        .map(|(_, kind)| kind)
}

/// Appends `length_bytes` to a new file and has them kept by `fdatasync`, `count` times.
pub(super) fn append_and_sync(folder: &Path, length_bytes: usize, count: usize) -> Result<Latencies> {
    let path = folder.join("appended");
    let mut file = File::create(&path).with_context(|| format!("failed to make {}", path.display()))?;
    let bytes = vec![b'x'; length_bytes];
    let mut append = || -> Result<Duration> {
        interrupt::check()?;
        let stopwatch = Stopwatch::start();
        file.write_all(&bytes).and_then(|()| file.sync_data()).context("failed to append")?;
        Ok(stopwatch.elapsed())
    };
    let latencies = (0..count).map(|_| append()).collect::<Result<Vec<_>>>()?;
    fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    Ok(Latencies::new(latencies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_that_holds_a_folder_is_its_file_system() {
        let mounts =
            "/dev/a / ext4 rw 0 0\ntmpfs /work tmpfs rw 0 0\n/dev/b /work xfs rw 0 0\n/dev/c /w btrfs rw 0 0\n";
        let kinds = ["/work/here", "/workshop", "/w"].map(|folder| file_system_of(Path::new(folder), mounts));
        assert_eq!(kinds, [Some("xfs"), Some("ext4"), Some("btrfs")]);
    }

    #[test]
    fn appends_are_each_timed_and_leave_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(append_and_sync(folder.path(), 16, 3).expect("it can be written").len(), 3);
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }
}
