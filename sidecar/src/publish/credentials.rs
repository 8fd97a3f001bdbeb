//! Keys of a bucket that are in files, as a mounted Secret has them.
//!
//! Owns: reading them whenever they are needed, so that keys that are replaced count at once and keys that come late are
//! found. Upholds I13: what is in the files is in no error.
//! Does not own: what is signed with them.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

/// Longest content of a file. Unit: bytes. A session token has about two thousand.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Reads the keys from the files `accessKeyId`, `secretAccessKey` and, if it is there, `sessionToken` of a folder.
#[derive(Debug)]
pub struct FileCredentials {
    folder: PathBuf,
}

/// The keys cannot be read.
#[derive(Debug, thiserror::Error)]
enum CredentialsError {
    #[error("failed to read the keys: {file} is missing; create the Secret that the LakeIngest names, with this key")]
    Missing { file: String },
    #[error("failed to read the keys: {file} is empty or no text of a key's length")]
    Unusable { file: String },
    #[error("failed to read the keys: {file}: {source}")]
    Read { file: String, source: std::io::Error },
}

/// Whether an error is, by whatever it is wrapped in, that a file of a key is not there.
pub(super) fn are_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(CredentialsError::Missing { .. }) = error.downcast_ref() {
            return true;
        }
        next = error.source();
    }
    false
}

impl FileCredentials {
    /// The keys of a folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn read(&self) -> Result<AwsCredential, CredentialsError> {
        let missing = |name: &str| CredentialsError::Missing { file: self.folder.join(name).display().to_string() };
        Ok(AwsCredential {
            key_id: self.file("accessKeyId")?.ok_or_else(|| missing("accessKeyId"))?,
            secret_key: self.file("secretAccessKey")?.ok_or_else(|| missing("secretAccessKey"))?,
            token: self.file("sessionToken")?,
        })
    }

    /// A file's text without the line end that editors leave; none if the file is not there.
    fn file(&self, name: &str) -> Result<Option<String>, CredentialsError> {
        let path = self.folder.join(name);
        let file = path.display().to_string();
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialsError::Read { file, source }),
        };
        if length > FILE_BYTES_MAX {
            return Err(CredentialsError::Unusable { file });
        }
        let text =
            std::fs::read_to_string(&path).map_err(|source| CredentialsError::Read { file: file.clone(), source })?;
        match text.trim() {
            "" => Err(CredentialsError::Unusable { file }),
            text => Ok(Some(text.to_owned())),
        }
    }
}

#[async_trait]
impl CredentialProvider for FileCredentials {
    type Credential = AwsCredential;

    /// Three small files of a memory file system: reading them takes microseconds, a request to the lake milliseconds.
    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.read() {
            Ok(credential) => Ok(Arc::new(credential)),
            Err(error) => Err(object_store::Error::Unauthenticated { path: String::new(), source: Box::new(error) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, FileCredentials) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("the file can be written");
        }
        let credentials = FileCredentials::new(folder.path().to_owned());
        (folder, credentials)
    }

    #[test]
    fn keys_are_read_anew_each_time() {
        let (folder, credentials) = folder(&[("accessKeyId", "id\n"), ("secretAccessKey", "secret")]);
        let first = credentials.read().expect("they are there");
        assert_eq!((first.key_id.as_str(), first.secret_key.as_str(), first.token), ("id", "secret", None));
        std::fs::write(folder.path().join("accessKeyId"), "other").expect("the file can be written");
        std::fs::write(folder.path().join("sessionToken"), "token").expect("the file can be written");
        let second = credentials.read().expect("they are there");
        assert_eq!((second.key_id.as_str(), second.token.as_deref()), ("other", Some("token")));
    }

    #[test]
    fn what_is_missing_or_empty_is_named_and_nothing_of_the_others_is_told() {
        let (_folder, credentials) = folder(&[("accessKeyId", "id")]);
        let error = credentials.read().expect_err("one is missing").to_string();
        assert!(error.contains("secretAccessKey is missing") && error.contains("Secret"), "{error}");
        let wrapped = |error| object_store::Error::Unauthenticated {
            path: String::new(),
            source: Box::<CredentialsError>::new(error),
        };
        let missing = credentials.read().map_err(wrapped).expect_err("one is missing");
        assert!(are_missing(&missing));
        assert!(!are_missing(&wrapped(CredentialsError::Unusable { file: "accessKeyId".to_owned() })));
        let (_folder, credentials) = folder(&[("accessKeyId", " \n"), ("secretAccessKey", "s3cr3t")]);
        let error = credentials.read().expect_err("one is empty").to_string();
        assert!(error.contains("accessKeyId") && !error.contains("s3cr3t"), "{error}");
    }
}
