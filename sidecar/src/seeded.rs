//! Bugs that are put in on purpose, so that the tests can show that they would be caught.
//!
//! Owns: their names, and which one a process has: the variable [`VARIABLE`], read only by a build with the feature
//! `seeded-bugs`. Without the feature, as in everything that is shipped, [`is`] is `false` at compile time.
//! Does not own: the places at which a bug bites: one line each, where the right code is.

/// The variable that names the bug of a process.
pub const VARIABLE: &str = "LAKEINGEST_SEEDED_BUG";

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A log file is written and not synced before its requests are answered.
    AcknowledgeBeforeSync,
    /// The names in a folder are not made durable.
    NoDirectorySync,
    /// A segment is retired before its files were looked at.
    RetireBeforeVerify,
    /// The key of a file is made with the time at which it is encoded.
    KeyFromClock,
    /// What the lake refused because something is at the key counts as published.
    DropOnExists,
    /// The checksum of a frame's payload is not looked at.
    SkipChecksum,
    /// What the lake says it has stored counts as published.
    TrustPut,
    /// The keys of batches that are found in the journal are not remembered.
    ForgetKeysOnReplay,
    /// A retired segment's keys are not kept.
    NoKeyLog,
    /// A planned segment whose bytes are gone is encoded as if it had never been planned.
    EncodeAgainWithoutPlan,
    /// A file is put without a look for its description.
    UploadWithoutLook,
    /// What stands behind damage in the newest log file is cut as if it were a torn tail.
    DamageEndsTheLog,
    /// What a process that was killed has written and not synced is read as if it had been.
    ReadUnsynced,
    /// A log file that is written anew loses the batches that wait.
    AnewWithoutBatches,
    /// No bug of ours but a fault that no test could otherwise bring about: the encoder's database fails on every record in
    /// which [`POISON`] stands.
    PoisonRecord,
    /// As [`Self::PoisonRecord`], but the process dies of it.
    DeadlyRecord,
    /// As [`Self::PoisonRecord`], but the encoder's thread panics.
    PanickingRecord,
}

/// What stands in a record on which the encoder fails, for [`Bug::PoisonRecord`] and those like it.
pub const POISON: &str = "poison-4711";

impl Bug {
    /// Every bug that a judgement must find.
    pub const ALL: [Self; 14] = [
        Self::AcknowledgeBeforeSync,
        Self::NoDirectorySync,
        Self::RetireBeforeVerify,
        Self::KeyFromClock,
        Self::DropOnExists,
        Self::SkipChecksum,
        Self::TrustPut,
        Self::ForgetKeysOnReplay,
        Self::NoKeyLog,
        Self::EncodeAgainWithoutPlan,
        Self::UploadWithoutLook,
        Self::DamageEndsTheLog,
        Self::ReadUnsynced,
        Self::AnewWithoutBatches,
    ];

    /// Its name in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::NoDirectorySync => "no-directory-sync",
            Self::RetireBeforeVerify => "retire-before-verify",
            Self::KeyFromClock => "key-from-clock",
            Self::DropOnExists => "drop-on-exists",
            Self::SkipChecksum => "skip-checksum",
            Self::TrustPut => "trust-put",
            Self::ForgetKeysOnReplay => "forget-keys-on-replay",
            Self::NoKeyLog => "no-key-log",
            Self::EncodeAgainWithoutPlan => "encode-again-without-plan",
            Self::UploadWithoutLook => "upload-without-look",
            Self::DamageEndsTheLog => "damage-ends-the-log",
            Self::ReadUnsynced => "read-unsynced",
            Self::AnewWithoutBatches => "anew-without-batches",
            Self::PoisonRecord => "poison-record",
            Self::DeadlyRecord => "deadly-record",
            Self::PanickingRecord => "panicking-record",
        }
    }
}

/// Whether this process has a bug.
#[cfg(not(feature = "seeded-bugs"))]
#[inline]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Whether this process has a bug.
///
/// # Panics
/// When the variable names none: a test that believes to have one would prove nothing.
#[cfg(feature = "seeded-bugs")]
pub fn is(bug: Bug) -> bool {
    static SEEDED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let seeded = SEEDED.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let named = Bug::ALL
            .into_iter()
            .chain([Bug::PoisonRecord, Bug::DeadlyRecord, Bug::PanickingRecord])
            .find(|bug| bug.name() == name);
        Some(named.unwrap_or_else(|| panic!("{VARIABLE} names no bug: {name}")))
    });
    *seeded == Some(bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "seeded-bugs"))]
    #[test]
    fn what_is_shipped_has_none() {
        const { assert!(!is(Bug::AcknowledgeBeforeSync)) }
        assert!(!Bug::ALL.into_iter().any(is));
    }

    #[test]
    fn each_has_a_name_of_its_own() {
        let mut names = Bug::ALL.map(Bug::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Bug::ALL.len());
    }
}
