//! Why a sidecar is degraded, as `/health` says it. The names are stable.
//!
//! Owns: the names, which the sidecar says and the operator reads. Does not own: when they are said.

/// The lake does not answer, or not as one that can be trusted.
pub const STORAGE_UNREACHABLE: &str = "StorageUnreachable";
/// The keys are not there: their Secret is missing, or has not all of them.
pub const CREDENTIALS_MISSING: &str = "CredentialsMissing";
/// The keys are wrong or expired, or may not do this.
pub const CREDENTIALS_INVALID: &str = "CredentialsInvalid";
/// The bucket or the directory does not exist.
pub const BUCKET_MISSING: &str = "BucketMissing";
/// The bucket is in another region than requests are signed for.
pub const WRONG_REGION: &str = "WrongRegion";
/// The lake gives an answer that should not be.
pub const STORAGE_UNEXPECTED: &str = "StorageUnexpected";
/// An object is not what was sent.
pub const OBJECT_UNVERIFIED: &str = "ObjectUnverified";
/// A local file cannot be read.
pub const SCRATCH_FAILED: &str = "ScratchFailed";
/// The prefix belongs to another owner; nothing is published.
pub const PREFIX_IN_USE: &str = "PrefixInUse";
/// The endpoint does not honour create-only puts; objects are looked at before and after they are put.
pub const CONDITIONAL_PUT_UNSUPPORTED: &str = "ConditionalPutUnsupported";
/// An object of the registry cannot be used or is contended.
pub const SCHEMA_REGISTRY: &str = "SchemaRegistry";
/// A table has a column with another type than the one that is declared.
pub const SCHEMA_CONFLICT: &str = "SchemaConflict";
/// A segment cannot be encoded; it stays in the journal.
pub const ENCODE_FAILED: &str = "EncodeFailed";
/// Another object is at a segment's key; the segment stays in the journal.
pub const KEY_CONFLICT: &str = "KeyConflict";
/// Bytes of the journal were no frames and were set aside.
pub const JOURNAL_DAMAGED: &str = "JournalDamaged";
/// The journal is at its bound or its volume is full; requests are refused.
pub const JOURNAL_FULL: &str = "JournalFull";
/// The journal's disk does not answer; requests wait.
pub const JOURNAL_STALLED: &str = "JournalStalled";
/// The pod is about to end; records are still taken and go to the lake within a second.
pub const POD_ENDING: &str = "PodEnding";
/// A field of the configuration is not known to this version.
pub const UNKNOWN_CONFIGURATION: &str = "UnknownConfiguration";
/// The configuration has changed and cannot be used; the one of before holds.
pub const CONFIGURATION_INVALID: &str = "ConfigurationInvalid";
/// The configuration has changed in what takes effect at a start alone.
pub const RESTART_NEEDED: &str = "RestartNeeded";

/// All of them.
pub const ALL: [&str; 21] = [
    STORAGE_UNREACHABLE,
    CREDENTIALS_MISSING,
    CREDENTIALS_INVALID,
    BUCKET_MISSING,
    WRONG_REGION,
    STORAGE_UNEXPECTED,
    OBJECT_UNVERIFIED,
    SCRATCH_FAILED,
    PREFIX_IN_USE,
    CONDITIONAL_PUT_UNSUPPORTED,
    SCHEMA_REGISTRY,
    SCHEMA_CONFLICT,
    ENCODE_FAILED,
    KEY_CONFLICT,
    JOURNAL_DAMAGED,
    JOURNAL_FULL,
    JOURNAL_STALLED,
    POD_ENDING,
    UNKNOWN_CONFIGURATION,
    CONFIGURATION_INVALID,
    RESTART_NEEDED,
];
