//! A table of the lake that nobody has asked this process about.
//!
//! Owns: its schema as it was read, compressed: a lake can have thousands of wide tables of which a sidecar writes three, and
//! a schema that is ready for use takes twenty times as much. Nobody has to wait for the lake once it is asked about.
//! Does not own: when it wakes up (`registry`).

use std::io;

use super::RegisteredSchema;

/// A registered version of a table's schema, as its object has it.
#[derive(Debug)]
pub(super) struct Asleep {
    pub(super) version: u32,
    object: Box<[u8]>,
}

impl Asleep {
    /// Version `version`, whose object is `content` and can be used.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new(version: u32, content: &[u8]) -> io::Result<Self> {
        Ok(Self { version, object: zstd::bulk::compress(content, zstd::DEFAULT_COMPRESSION_LEVEL)?.into() })
    }

    /// The schema.
    ///
    /// # Errors
    /// Why it cannot be used: what was put in could be.
    pub(super) fn schema(&self, table: &str) -> Result<RegisteredSchema, String> {
        let content = zstd::decode_all(&*self.object).map_err(|error| error.to_string())?;
        RegisteredSchema::from_object(&content, table, self.version)
    }
}
