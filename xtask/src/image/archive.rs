//! An image as an OCI archive, written without a container engine.
//!
//! Owns: the layer, the configuration, the manifest, the index; the same tree gives the same bytes.
//! Does not own: what is in the tree.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::rootfs::{Entry, Rootfs, USER};

/// What an image is and how it is started.
#[derive(Clone, Debug)]
pub struct Image {
    /// `repository:tag`, with the registry's name.
    pub reference: String,
    /// The program and its arguments.
    pub entrypoint: Vec<String>,
    /// `org.opencontainers.image.*` and others.
    pub labels: Vec<(String, String)>,
    /// Its files.
    pub rootfs: Rootfs,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Digest of the manifest: what `repository@digest` refers to.
    pub digest: String,
    /// Size of the archive. Unit: bytes.
    pub bytes: u64,
}

/// Writes an image into a file, which is replaced when it is whole.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(path: &Path, image: &Image) -> Result<Written> {
    let folder = path.parent().context("failed to find the archive's folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).context("failed to make the archive")?;
    let digest = write_to(file.as_file_mut(), image).with_context(|| format!("failed to write {}", path.display()))?;
    let bytes = file.as_file().metadata().context("failed to read the archive's size")?.len();
    file.persist(path).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(Written { digest, bytes })
}

fn write_to(file: &mut File, image: &Image) -> Result<String> {
    let layer = layer(&image.rootfs)?;
    let labels: serde_json::Map<String, Value> =
        image.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": image.entrypoint,
            "Env": ["PATH=/usr/bin:/bin"],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest_of(&layer)]},
        "history": [{"created_by": "cargo xtask image"}],
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let tag = image.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] =
        json!({"io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": tag});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });

    let mut archive = Builder::new(std::io::BufWriter::new(file));
    append(&mut archive, "oci-layout", &Entry::File(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(), 0o644))?;
    append(&mut archive, "index.json", &Entry::File(index.to_string().into_bytes(), 0o644))?;
    let manifest_digest = digest_of(&manifest);
    for blob in [layer, config, manifest] {
        let path = format!("blobs/{}", digest_of(&blob).replace(':', "/"));
        append(&mut archive, &path, &Entry::File(blob, 0o644))?;
    }
    archive.into_inner()?.flush()?;
    Ok(manifest_digest)
}

fn layer(rootfs: &Rootfs) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, entry) in rootfs.entries() {
        append(&mut archive, path, entry)?;
    }
    archive.into_inner().context("failed to write the layer")
}

/// Appends an entry that belongs to root and has no time of its own.
fn append<W: Write>(archive: &mut Builder<W>, path: &str, entry: &Entry) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let appended = match entry {
        Entry::File(content, mode) => {
            header.set_size(u64::try_from(content.len()).context("failed to count a file's bytes")?);
            header.set_mode(*mode);
            archive.append_data(&mut header, path, content.as_slice())
        }
        Entry::Folder(mode) => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            header.set_mode(*mode);
            archive.append_data(&mut header, format!("{path}/"), std::io::empty())
        }
        Entry::Link(destination) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            archive.append_link(&mut header, path, destination)
        }
    };
    appended.with_context(|| format!("failed to write the entry {path}"))
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest_of(blob), "size": blob.len()})
}

fn digest_of(blob: &[u8]) -> String {
    let hash = Sha256::digest(blob);
    let hexadecimal: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hexadecimal}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(mode: u32) -> Image {
        let mut rootfs = Rootfs::base();
        rootfs.add("usr/bin/program", Entry::File(b"content".to_vec(), mode));
        rootfs.add("bin/sh", Entry::Link("../usr/bin/program".to_owned()));
        Image {
            reference: "docker.io/lakeingest/test:1".to_owned(),
            entrypoint: vec!["/usr/bin/program".to_owned()],
            labels: vec![("org.opencontainers.image.version".to_owned(), "1".to_owned())],
            rootfs,
        }
    }

    fn bytes(mode: u32) -> (Vec<u8>, Written) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("images/test.tar");
        let written = write(&path, &image(mode)).expect("it can be written");
        (fs::read(&path).expect("it is there"), written)
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_and_a_mode_changes_them() {
        let (first, written) = bytes(0o755);
        assert_eq!(bytes(0o755), (first.clone(), written.clone()));
        let (other, other_written) = bytes(0o644);
        assert_ne!(other, first);
        assert_ne!(other_written.digest, written.digest);
    }

    #[test]
    fn every_blob_lies_under_its_digest() {
        let (archive, written) = bytes(0o755);
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut paths = Vec::new();
        for entry in archive.entries().expect("it is an archive") {
            let mut entry = entry.expect("it is an entry");
            let path = entry.path().expect("it has a path").display().to_string();
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut content).expect("it has content");
                assert_eq!(digest_of(&content), format!("sha256:{digest}"));
            }
            paths.push(path);
        }
        assert_eq!(paths.len(), 5);
        assert!(paths.contains(&format!("blobs/{}", written.digest.replace(':', "/"))));
    }
}
