//! The one folder outside the checkout that holds what was installed; every clone uses it, and it is safe to delete.
//!
//! Owns: `${XDG_CACHE_HOME:-~/.cache}/lakeingest/<name>-<version>/`, made whole or not at all, by one run at a time.
//! Does not own: what is put there (see `tools`).

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::{self, Look};

/// How long one run waits for another that installs the same thing: the largest download on a slow line.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the user's cache, making its folder when there is none.
    ///
    /// # Errors
    /// When neither `XDG_CACHE_HOME` nor `HOME` is set or the folder cannot be made.
    pub fn open() -> Result<Self> {
        let folder = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
            (Some(cache), _) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
            (_, Some(home)) => PathBuf::from(home).join(".cache"),
            _ => bail!("failed to find a cache folder: set HOME or XDG_CACHE_HOME"),
        };
        Self::at(folder.join("lakeingest"))
    }

    fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("failed to make the cache {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder of the cache that needs no installing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(folder)
    }

    /// The folder of one installed thing; `install` fills it when it is not there yet.
    ///
    /// It is filled under another name and renamed when it is whole, so that what a killed run leaves is never used.
    ///
    /// # Errors
    /// When `install` fails, when the folder cannot be written, or on Ctrl-C.
    pub fn ensure(&self, key: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let whole = self.root.join(key);
        if whole.is_dir() {
            return Ok(whole);
        }
        let _lock = self.lock(key)?;
        // Another run may have installed it while we waited.
        if whole.is_dir() {
            return Ok(whole);
        }
        let partial = self.root.join(format!("{key}.partial"));
        if partial.is_dir() {
            fs::remove_dir_all(&partial).with_context(|| format!("failed to remove {}", partial.display()))?;
        }
        fs::create_dir(&partial).with_context(|| format!("failed to make {}", partial.display()))?;
        install(&partial).with_context(|| format!("failed to install {key}"))?;
        fs::rename(&partial, &whole).with_context(|| format!("failed to rename {}", partial.display()))?;
        Ok(whole)
    }

    /// Waits until no other run installs `key`; the kernel drops the lock when its process ends.
    fn lock(&self, key: &str) -> Result<File> {
        let path = self.folder("locks")?.join(format!("{key}.lock"));
        let file = File::create(&path).with_context(|| format!("failed to make {}", path.display()))?;
        let mut told = false;
        wait::until_within(INSTALL_TIMEOUT, "another run's install to end", || match file.try_lock() {
            Ok(()) => Ok(Look::Ready(())),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    eprintln!("  waiting for another run that installs {key}");
                    told = true;
                }
                Ok(Look::NotYet(format!("{} is locked", path.display())))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("failed to lock {}", path.display())),
        })?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::at(folder.path().join("cache")).expect("it can be made");
        (folder, cache)
    }

    #[test]
    fn an_install_that_fails_leaves_nothing_that_is_used() {
        let (_folder, cache) = temporary();
        let outcome = cache.ensure("thing-1", |partial| {
            fs::write(partial.join("half"), "half")?;
            bail!("the line was cut")
        });
        assert!(outcome.is_err());
        let whole = cache
            .ensure("thing-1", |partial| Ok(fs::write(partial.join("file"), "whole")?))
            .expect("the second install works");
        assert_eq!(fs::read_to_string(whole.join("file")).expect("it is there"), "whole");
        assert!(!whole.join("half").try_exists().expect("the folder can be read"));
    }

    #[test]
    fn what_is_installed_is_not_installed_again() {
        let (_folder, cache) = temporary();
        cache.ensure("thing-1", |_| Ok(())).expect("the first install works");
        cache.ensure("thing-1", |_| bail!("installed twice")).expect("it is there already");
    }

    #[test]
    fn runs_at_the_same_time_install_once() {
        let (_folder, cache) = temporary();
        let installs = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let install = |_: &Path| {
                        installs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        wait::pause();
                        Ok(())
                    };
                    cache.ensure("thing-1", install).expect("it is installed by someone");
                });
            }
        });
        assert_eq!(installs.into_inner(), 1);
    }
}
