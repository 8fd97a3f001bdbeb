//! The authorities that are trusted together.
//!
//! Owns: which they are, pure functions of the clock; their form in a Secret and in a bundle. Replicas that know different
//! ones join them, so that all come to the same in whatever order they write.
//! Does not own: the Secret (`secret`), which of them signs (`keeper`).

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use k8s_openapi::ByteString;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::authority::{Authority, Unfit};
use super::lives::Lives;
use crate::limits::AUTHORITIES_MAX;

/// Key of a Secret: the certificates as PEM, the oldest first. What has a Secret of the type `kubernetes.io/tls`.
pub(super) const CERTIFICATES: &str = "tls.crt";
/// Key of a Secret: their keys, in the same order.
pub(super) const KEYS: &str = "tls.key";

/// Authorities, the oldest first, at most [`AUTHORITIES_MAX`].
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<Arc<Authority>>);

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        let certificates = |of: &Self| of.0.iter().map(|one| one.certificate().clone()).collect::<Vec<_>>();
        certificates(self) == certificates(other)
    }
}

impl From<Vec<Authority>> for Authorities {
    fn from(all: Vec<Authority>) -> Self {
        Self::of(all.into_iter().map(Arc::new).collect())
    }
}

impl Authorities {
    /// In their order, each once, the newest of too many.
    fn of(mut all: Vec<Arc<Authority>>) -> Self {
        all.sort_by(|one, other| {
            let key = |of: &Arc<Authority>| (of.validity().begins, of.certificate().to_vec());
            key(one).cmp(&key(other))
        });
        all.dedup_by(|one, other| one.certificate() == other.certificate());
        all.drain(..all.len().saturating_sub(AUTHORITIES_MAX));
        Self(all)
    }

    /// Those of a Secret's data; the error is the key that cannot be used.
    pub(super) fn of_data(data: &BTreeMap<String, ByteString>) -> Result<Self, &'static str> {
        let bytes = |key: &'static str| data.get(key).map(|bytes| bytes.0.as_slice()).ok_or(key);
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(bytes(CERTIFICATES)?).collect::<Result<_, _>>().map_err(|_| CERTIFICATES)?;
        let keys: Vec<_> = PrivateKeyDer::pem_slice_iter(bytes(KEYS)?).collect::<Result<_, _>>().map_err(|_| KEYS)?;
        if certificates.is_empty() {
            return Err(CERTIFICATES);
        }
        if keys.len() != certificates.len() {
            return Err(KEYS);
        }
        let authorities = certificates.into_iter().zip(&keys).map(|(certificate, key)| Authority::of(certificate, key));
        let authorities = authorities.collect::<Result<Vec<_>, _>>().map_err(|unfit| match unfit {
            Unfit::Certificate => CERTIFICATES,
            Unfit::Key => KEYS,
        })?;
        Ok(authorities.into())
    }

    /// As a Secret's data.
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let joined = |part: fn(&Authority) -> &str| {
            ByteString(self.0.iter().map(|one| part(one)).collect::<String>().into_bytes())
        };
        BTreeMap::from([
            (CERTIFICATES.to_owned(), joined(Authority::certificate_pem)),
            (KEYS.to_owned(), joined(Authority::key_pem)),
        ])
    }

    /// What the API server has to trust, as PEM.
    pub fn bundle(&self) -> String {
        self.0.iter().map(|one| one.certificate_pem()).collect()
    }

    /// All of both.
    pub(super) fn joined(&self, others: &Self) -> Self {
        Self::of(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// With a new one if none is valid, or the newest that is has lived for two thirds of a life. Only then those that have
    /// ended are left out: a replica whose clock is wrong would else take away, again and again, what the others put back.
    pub(super) fn renewed(&self, now: DateTime<Utc>, lives: Lives) -> Result<Self, rcgen::Error> {
        let newest = self.valid(now).next_back();
        if newest.is_some_and(|newest| now < newest.validity().due_at(lives.authority)) {
            return Ok(self.clone());
        }
        let new = Arc::new(Authority::new(now, lives.authority)?);
        Ok(Self::of(self.living(now).0.into_iter().chain([new]).collect()))
    }

    /// Those that have not ended.
    pub(super) fn living(&self, now: DateTime<Utc>) -> Self {
        Self(self.0.iter().filter(|one| now < one.validity().ends).cloned().collect())
    }

    /// Those that are valid at this moment, the oldest first.
    pub(super) fn valid(&self, now: DateTime<Utc>) -> impl DoubleEndedIterator<Item = &Arc<Authority>> {
        self.0.iter().filter(move |one| one.validity().holds_at(now))
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Authority>> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use lakeingest_crds::Seconds;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn lives() -> Lives {
        Lives::new(Seconds::from_secs(12), Seconds::from_secs(3))
    }

    /// The moment so many seconds after the test's beginning.
    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
    }

    fn renewed(from: &Authorities, seconds: i64) -> Authorities {
        from.renewed(at(seconds), lives()).expect("an authority can be made")
    }

    fn certificates(of: &Authorities) -> Vec<Vec<u8>> {
        of.iter().map(|one| one.certificate().to_vec()).collect()
    }

    #[test]
    fn a_new_one_comes_at_two_thirds_of_a_life_and_the_old_one_goes_with_the_next() {
        let first = renewed(&Authorities::default(), 0);
        assert_eq!(renewed(&first, 7), first);
        let both = renewed(&first, 9);
        assert_eq!((certificates(&both).len(), &certificates(&both)[0]), (2, &certificates(&first)[0]));
        assert_eq!(renewed(&both, 14), both, "one that has ended stays until there is something to write");
        let next = renewed(&both, 18);
        assert_eq!((certificates(&next).len(), &certificates(&next)[0]), (2, &certificates(&both)[1]));
    }

    /// Goal: a year of sleep, or a clock that was wrong for a while, ends with an authority that is valid now.
    #[test]
    fn whatever_the_clock_does_one_is_valid() {
        let first = renewed(&Authorities::default(), 0);
        let later = renewed(&first, 365 * 24 * 3_600);
        assert_eq!(later.iter().count(), 1, "what has ended in the meantime is left out");
        let earlier = renewed(&later, 0);
        assert_eq!(earlier.valid(at(0)).count(), 1);
        assert!(certificates(&earlier).contains(&certificates(&later)[0]), "what is not valid yet may be others'");
        // The others join what they have, and nobody finds anything to write any more.
        let joined = first.joined(&later);
        assert_eq!(renewed(&joined, 0), joined);
        assert_eq!(renewed(&joined, 365 * 24 * 3_600), joined);
    }

    #[test]
    fn what_two_have_is_the_same_whoever_joins_it_and_has_a_bound() {
        let all: Vec<Authorities> =
            (0..20).map(|hours| Authorities::from(vec![Authority::for_test(at(hours * 3_600))])).collect();
        let (one, two) = (&all[0], &all[1]);
        assert_eq!(one.joined(two), two.joined(one));
        assert_eq!(one.joined(two).joined(one), one.joined(two));
        let joined = all.iter().fold(Authorities::default(), |joined, one| joined.joined(one));
        assert_eq!(joined.iter().count(), AUTHORITIES_MAX);
        assert_eq!(certificates(&joined).last(), certificates(&all[19]).last(), "the newest stay");
    }

    #[test]
    fn a_secret_gives_back_what_was_put_there_also_by_an_earlier_version() {
        let one = Authorities::from(vec![Authority::for_test(at(0))]);
        let two = one.joined(&Authorities::from(vec![Authority::for_test(at(60))]));
        for put in [one, two] {
            let found = Authorities::of_data(&put.data()).expect("it is what was put there");
            assert_eq!(found, put);
            assert_eq!(found.bundle(), put.bundle());
            assert_eq!(found.data(), put.data());
        }
    }

    #[test]
    fn what_is_no_authority_is_named_by_its_key() {
        let data = Authorities::from(vec![Authority::for_test(at(0))]).data();
        let other = Authorities::from(vec![Authority::for_test(at(0))]).data();
        let both = Authorities::from(vec![Authority::for_test(at(0)), Authority::for_test(at(60))]).data();
        let stranger = KeyPair::generate().expect("a key can be made");
        let certificate = CertificateParams::default().self_signed(&stranger).expect("it can be made").pem();
        let put = |key: &str, value: &[u8]| {
            let mut data = data.clone();
            data.insert(key.to_owned(), ByteString(value.to_vec()));
            data
        };
        for (data, wrong) in [
            (put(CERTIFICATES, b"junk"), CERTIFICATES),
            (put(CERTIFICATES, b""), CERTIFICATES),
            (put(KEYS, b"junk"), KEYS),
            (put(KEYS, &other[KEYS].0), KEYS),
            (put(KEYS, &both[KEYS].0), KEYS),
            (BTreeMap::new(), CERTIFICATES),
            // A leaf would name another authority than this one.
            (
                BTreeMap::from([
                    (CERTIFICATES.to_owned(), ByteString(certificate.into_bytes())),
                    (KEYS.to_owned(), ByteString(stranger.serialize_pem().into_bytes())),
                ]),
                CERTIFICATES,
            ),
        ] {
            assert_eq!(Authorities::of_data(&data).expect_err("it is none"), wrong);
        }
    }
}
