//! A certificate that somebody else makes and keeps in files, as cert-manager does through a Secret that is mounted.
//!
//! Owns: reading it, and again when it changes. Does not own: its authority, which that somebody tells the API server of:
//! the configuration is only looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tracing::{info, warn};

use super::configuration::{Heard, bundles, named};
use super::leaf::{Leaf, LeafError, LeafKeeper};
use super::lives::LOOK_EVERY_MAX;
use crate::again::Again;
use crate::clock::SharedClock;
use crate::metrics::Metrics;

/// The certificate, with those between it and its authority, as PEM.
const CERTIFICATE: &str = "tls.crt";
/// Its key, as PEM.
const KEY: &str = "tls.key";

/// The folder through which the kubelet replaces the files of a volume all at once.
/// Source: `AtomicWriter` of the kubelet, Kubernetes 1.33.
const PRESENT: &str = "..data";

/// There is no certificate in the files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file could not be read.
    #[error("failed to read {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in them is no certificate with its key.
    #[error("failed to use {CERTIFICATE} and {KEY} of {folder}")]
    Use {
        /// Their folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: LeafError,
    },
}

/// What is in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Serves with the certificate of files.
pub struct FilesKeeper {
    folder: PathBuf,
    leaf: Arc<LeafKeeper>,
    /// What was read last, whether it could be used or not.
    content: Content,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for FilesKeeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FilesKeeper").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl FilesKeeper {
    /// A keeper for the Service `service` of `namespace`.
    ///
    /// # Errors
    /// There is no certificate in the files.
    pub async fn start(
        folder: &Path,
        service: &str,
        namespace: &str,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, FilesError> {
        let content = read(folder).await?;
        let leaf = LeafKeeper::with(leaf_of(folder, &content)?, service, namespace);
        let folder = folder.to_owned();
        Ok(Self { folder, leaf: Arc::new(leaf), content, clock, metrics })
    }

    /// What is served with.
    pub fn leaf(&self) -> Arc<LeafKeeper> {
        Arc::clone(&self.leaf)
    }

    /// Reads the files again and again, for ever. `is_trusted` says whether the live configuration vouches for the leaf.
    pub async fn run(mut self, client: Client, configuration: String, is_trusted: watch::Sender<bool>) {
        let api: Api<MutatingWebhookConfiguration> = Api::all(client);
        let mut configurations = watcher(api, named(&configuration)).backoff(Again::default()).boxed();
        let mut found = Heard::new("MutatingWebhookConfiguration", None);
        let mut looks = tokio::time::interval(LOOK_EVERY_MAX);
        loop {
            tokio::select! {
                event = configurations.next() => {
                    let Some(event) = event else { break };
                    found.hear(event, &self.metrics);
                }
                _ = looks.tick() => {
                    if let Err(error) = self.look().await {
                        warn!(error = %crate::error_chain(&error), "the webhook serves with the certificate of before");
                    }
                }
            }
            self.metrics.certificate_not_after.set(self.leaf.ends().timestamp());
            let vouches = |bundle| self.leaf.is_vouched_for_by(bundle, self.clock.now());
            is_trusted.send_replace(found.object.as_ref().is_some_and(|found| bundles(found).all(vouches)));
        }
    }

    /// Takes what is in the files now. What cannot be used is told of once, and what is served with stays.
    async fn look(&mut self) -> Result<(), FilesError> {
        let content = read(&self.folder).await?;
        if content == self.content {
            return Ok(());
        }
        self.content = content;
        self.leaf.replace(leaf_of(&self.folder, &self.content)?);
        self.metrics.certificates.inc();
        info!(not_after = %self.leaf.ends(), "the webhook's certificate was replaced");
        Ok(())
    }
}

/// Both files, of one state of the volume.
async fn read(folder: &Path) -> Result<Content, FilesError> {
    // Where the kubelet keeps them, its link is followed once: between two reads it may lead elsewhere.
    let folder = tokio::fs::canonicalize(folder.join(PRESENT)).await.unwrap_or_else(|_| folder.to_owned());
    let file = async |name: &str| {
        let file = folder.join(name);
        tokio::fs::read(&file).await.map_err(|source| FilesError::Read { file, source })
    };
    Ok(Content { certificate: file(CERTIFICATE).await?, key: file(KEY).await? })
}

fn leaf_of(folder: &Path, content: &Content) -> Result<Leaf, FilesError> {
    let used = |source| FilesError::Use { folder: folder.to_owned(), source };
    Leaf::of_pem(&content.certificate, &content.key).map_err(used)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::super::Authority;
    use super::*;
    use crate::clock::SystemClock;

    /// A folder as the kubelet keeps a volume's: files are links into one that is replaced at once.
    struct Volume(PathBuf);

    impl Volume {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("lakeingest-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder can be made");
            for file in [CERTIFICATE, KEY] {
                symlink(Path::new(PRESENT).join(file), folder.join(file)).expect("a link can be made");
            }
            Self(folder)
        }

        fn put(&self, state: &str, certificate: &str, key: &str) {
            let fresh = self.0.join(format!("..{state}"));
            std::fs::create_dir(&fresh).expect("a folder can be made");
            std::fs::write(fresh.join(CERTIFICATE), certificate).expect("a file can be written");
            std::fs::write(fresh.join(KEY), key).expect("a file can be written");
            let link = self.0.join("..data_tmp");
            symlink(&fresh, &link).expect("a link can be made");
            std::fs::rename(link, self.0.join(PRESENT)).expect("a link can be replaced");
        }
    }

    impl Drop for Volume {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn now() -> DateTime<Utc> {
        SystemClock::shared().now()
    }

    /// A certificate for the webhook's Service by this authority, and its key.
    fn issued(authority: &Authority) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let names = vec!["webhook.lakeingest.svc".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).expect("the name is one");
        parameters.not_after = std::time::SystemTime::from(now() + TimeDelta::days(90)).into();
        let certificate = parameters.signed_by(&key, authority.issuer()).expect("it can be signed");
        (certificate.pem(), key.serialize_pem())
    }

    async fn keeper(volume: &Volume) -> Result<FilesKeeper, FilesError> {
        let metrics = Arc::new(Metrics::default());
        FilesKeeper::start(&volume.0, "webhook", "lakeingest", SystemClock::shared(), metrics).await
    }

    #[tokio::test]
    async fn a_certificate_that_is_replaced_in_its_files_is_served_without_a_restart() {
        let volume = Volume::new("replaced");
        let (first, second) = (Authority::for_test(now()), Authority::for_test(now()));
        let (certificate, key) = issued(&first);
        volume.put("one", &certificate, &key);
        let mut keeper = keeper(&volume).await.expect("it is a certificate");
        let vouches = |keeper: &FilesKeeper, authority: &Authority| {
            keeper.leaf.is_vouched_for_by(authority.certificate_pem().as_bytes(), now())
        };
        assert!(vouches(&keeper, &first) && !vouches(&keeper, &second));
        keeper.look().await.expect("nothing has changed");
        assert_eq!(keeper.metrics.certificates.get(), 0);

        let (certificate, key) = issued(&second);
        volume.put("two", &certificate, &key);
        keeper.look().await.expect("it is another certificate");
        assert!(vouches(&keeper, &second) && !vouches(&keeper, &first));
        assert_eq!(keeper.metrics.certificates.get(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_told_of_once_and_the_certificate_of_before_is_served() {
        let volume = Volume::new("unusable");
        let authority = Authority::for_test(now());
        let (certificate, key) = issued(&authority);
        volume.put("one", &certificate, &key);
        let mut keeper = keeper(&volume).await.expect("it is a certificate");
        let (_, others) = issued(&authority);
        for (state, certificate, key) in [("two", "junk", key.as_str()), ("three", &certificate, &others)] {
            volume.put(state, certificate, key);
            let error = crate::error_chain(&keeper.look().await.expect_err("it cannot be used"));
            assert!(error.contains("tls.crt and tls.key") && error.contains("unusable"), "{error}");
            keeper.look().await.expect("it was told of");
            assert!(keeper.leaf.is_vouched_for_by(authority.certificate_pem().as_bytes(), now()));
        }
    }

    #[tokio::test]
    async fn without_a_certificate_nothing_starts() {
        let volume = Volume::new("missing");
        let error = crate::error_chain(&keeper(&volume).await.expect_err("there is none"));
        assert!(error.contains("failed to read") && error.contains(CERTIFICATE), "{error}");
    }
}
