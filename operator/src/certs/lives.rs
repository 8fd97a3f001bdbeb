//! How long certificates live, and what follows from it.
//!
//! Owns: when something is replaced, how long what is new is only trusted, how often the clock is looked at.
//! Does not own: the certificates.
//!
//! ```text
//! authority 1   |────────── signs ──────────────┐ trusted ──|
//! authority 2                        |─ settles ┴─── signs ─────────────────── …
//!               0                   2/3        5/6          1     of a life
//! ```

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lakeingest_crds::Seconds;

/// How far back validity begins, for API servers whose clock is behind. Unit: minutes.
const BACKDATED_MINUTES: i64 = 10;

/// The longest time for which a new authority is only trusted. Unit: hours.
/// Derivation: an API server learns of a changed configuration by a watch, in milliseconds; one whose watch is broken notices
/// within its ten minutes, and one that is behind for an hour is away.
const SETTLE_HOURS_MAX: i64 = 1;

/// How often the wall clock is looked at, at the least. A timer for the whole wait would drift while a machine sleeps.
pub(super) const LOOK_EVERY_MAX: Duration = Duration::from_secs(5);

/// How long certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// An authority.
    pub authority: TimeDelta,
    /// A leaf.
    pub leaf: TimeDelta,
}

/// From when until when something is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment, which lies before it was made.
    pub begins: DateTime<Utc>,
    /// The last moment.
    pub ends: DateTime<Utc>,
}

/// Certificates cannot live so short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an authority lives for 6s at least, and a certificate for 2s; make --authority-life and --certificate-life longer"
)]
pub struct LivesError;

impl Lives {
    /// These lives. A leaf that lived longer than its authority would be believed by nobody at its end.
    pub fn new(authority: Seconds, leaf: Seconds) -> Self {
        let delta = |of: Seconds| TimeDelta::from_std(of.duration()).unwrap_or(TimeDelta::MAX);
        Self { authority: delta(authority), leaf: delta(leaf).min(delta(authority)) }
    }

    /// Makes sure that there is time for everything.
    ///
    /// # Errors
    /// They are too short: certificates count whole seconds.
    pub fn require_possible(&self) -> Result<(), LivesError> {
        let is_possible = self.authority >= TimeDelta::seconds(6) && self.leaf >= TimeDelta::seconds(2);
        if is_possible { Ok(()) } else { Err(LivesError) }
    }

    /// How long an authority is in the live configuration before it signs.
    pub fn settle(&self) -> TimeDelta {
        (self.authority / 6).min(TimeDelta::hours(SETTLE_HOURS_MAX))
    }

    /// How often the wall clock is looked at.
    pub fn look_every(&self) -> Duration {
        (self.leaf / 12).to_std().unwrap_or_default().clamp(Duration::from_millis(10), LOOK_EVERY_MAX)
    }
}

impl Validity {
    /// Of what is made now and lives so long. Whole seconds, as certificates have them; the end is never earlier than asked.
    pub(super) fn of(now: DateTime<Utc>, life: TimeDelta) -> Self {
        let whole = |time: DateTime<Utc>| DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time);
        Self {
            begins: whole(now) - TimeDelta::minutes(BACKDATED_MINUTES),
            ends: whole(now + life + TimeDelta::seconds(1)),
        }
    }

    /// When it was made.
    pub fn made(&self) -> DateTime<Utc> {
        self.begins + TimeDelta::minutes(BACKDATED_MINUTES)
    }

    /// Whether it is valid at this moment.
    pub fn holds_at(&self, now: DateTime<Utc>) -> bool {
        self.begins <= now && now < self.ends
    }

    /// When it is replaced: after two thirds of its life, or of `life` where that is shorter.
    pub fn due_at(&self, life: TimeDelta) -> DateTime<Utc> {
        self.made() + (self.ends - self.made()).min(life) / 3 * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(authority: u64, leaf: u64) -> Lives {
        Lives::new(Seconds::from_secs(authority), Seconds::from_secs(leaf))
    }

    #[test]
    fn what_is_new_settles_for_an_hour_and_for_less_in_a_short_life() {
        assert_eq!(lives(365 * 24 * 3_600, 7 * 24 * 3_600).settle(), TimeDelta::hours(1));
        assert_eq!(lives(12, 3).settle(), TimeDelta::seconds(2));
        // It is due at two thirds and has signed for a sixth of its predecessor's life when that ends.
        let life = lives(12, 3);
        let validity = Validity::of(DateTime::UNIX_EPOCH, life.authority);
        assert!(validity.due_at(life.authority) + life.settle() < validity.ends - life.settle());
    }

    #[test]
    fn the_clock_is_looked_at_often_enough_for_the_shortest_life() {
        assert_eq!(lives(365 * 24 * 3_600, 7 * 24 * 3_600).look_every(), Duration::from_secs(5));
        assert_eq!(lives(12, 3).look_every(), Duration::from_millis(250));
        assert_eq!(lives(12, 30).leaf, TimeDelta::seconds(12), "a leaf ends with its authority");
        assert!(lives(6, 2).require_possible().is_ok());
        assert!(lives(5, 2).require_possible().is_err() && lives(6, 1).require_possible().is_err());
    }

    #[test]
    fn a_shorter_life_holds_for_what_was_made_for_a_longer_one() {
        let validity = Validity::of(DateTime::UNIX_EPOCH, TimeDelta::days(3_650));
        assert_eq!(validity.due_at(TimeDelta::days(30)), DateTime::UNIX_EPOCH + TimeDelta::days(20));
        assert_eq!(validity.made(), DateTime::UNIX_EPOCH);
        assert!(!validity.holds_at(validity.begins - TimeDelta::seconds(1)) && !validity.holds_at(validity.ends));
    }
}
