//! Every bound of the operator, with its derivation.
//!
//! Owns: the numbers. Upholds I12. Does not own: where they are enforced.

use std::time::Duration;

/// Connections of each port. The API servers of a cluster keep a few. Past it a new one takes the place of one of which no request
/// was answered as it should be, or waits.
pub const CONNECTIONS_MAX: usize = 512;

/// Connections of each port from one address. An API server opens one for each admission that it has under way; a pod that
/// opens more than this keeps nobody else out.
pub const CONNECTIONS_PER_PEER_MAX: usize = 64;

/// Connections of each port that wait for a place, and hold a file descriptor and nothing else. Past it a new one is closed.
pub const CONNECTIONS_WAITING_MAX: usize = 1_024;

/// Connections from one address that wait for a place. Derivation: all that an API server opens for a few hundred pods that
/// are created at once.
pub const CONNECTIONS_WAITING_PER_PEER_MAX: usize = 256;

/// How long a connection waits for a place: as long as the API server does for an answer.
pub const PLACE_WAIT: Duration = Duration::from_secs(3);

/// How long the first request of a connection may take to come, with the TLS handshake before it.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the headers of a later request may take; also how long a connection may be idle between two requests.
/// Derivation: the API server gives up a connection that was idle for 90 s. Whoever gives it up first must be the one who
/// sends: an admission that comes on a connection which is just being closed fails, since a POST is not sent again.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(100);

/// Length of the head of a request. Unit: bytes. Derivation: that of the API server has some hundred bytes; all connections
/// together hold 8 MiB of them.
pub const REQUEST_HEAD_BYTES_MAX: usize = 16 << 10;

/// How long a body may take. The API server gives up after three seconds.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Length of an AdmissionReview. Unit: bytes. Derivation: etcd refuses objects of more than 1.5 MiB, and a review holds
/// the object twice at most.
pub const REVIEW_BYTES_MAX: usize = 3 << 20;

/// Length up to which a review is read whoever else is being read. Unit: bytes. Derivation: the review of a pod has some ten
/// KiB; all connections together hold 32 MiB of them.
pub const SHORT_REVIEW_BYTES_MAX: usize = 64 << 10;

/// Longer reviews that are under way at once; another one waits. Derivation: 12 MiB of them.
pub const LONG_REVIEWS_AT_ONCE_MAX: usize = 4;

/// How long the rest of a longer review may take once it is its turn: others wait behind it.
pub const LONG_REVIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// What a pod may take as a tree in memory. Unit: bytes. Derivation: a pod of the greatest size that etcd takes, all of it
/// environment variables of a few words each and who manages their fields, takes 27 MiB. Injection makes a copy, so one pod takes
/// twice this, a quarter of the memory that the chart gives the operator.
pub const POD_TREE_BYTES_MAX: usize = 32 << 20;

/// Tree of a pod that is made whoever else is making one. Unit: bytes. Derivation: a pod of some hundred fields takes 50 KiB.
/// As many are made at once as the runtime has threads.
pub const SMALL_TREE_BYTES_MAX: usize = 256 << 10;

/// Larger trees that there are at once; another pod waits. A tree is there while a patch is made, for a tenth of a second at
/// most.
pub const LARGE_TREES_AT_ONCE_MAX: usize = 1;

/// How long a pod waits to be made a larger tree of. Derivation: less than the three seconds after which the API server gives up.
pub const LARGE_TREE_WAIT: Duration = Duration::from_secs(2);

/// Pods of a namespace that wait for a LakeIngest at once; another one is told at once that it is not there, and its controller
/// tries again. Derivation: a file of manifests makes a few pods right after their LakeIngest.
pub const PODS_WAITING_IN_NAMESPACE_MAX: usize = 4;

/// Pods that wait for a LakeIngest at once. Derivation: half of the connections that an API server may have; the rest is for
/// pods that need not wait.
pub const PODS_WAITING_MAX: usize = CONNECTIONS_PER_PEER_MAX / 2;

/// How long what a pod has waited for in vain is not waited for again.
pub const IN_VAIN_TIME: Duration = Duration::from_secs(5);

/// What pods have waited for in vain that is remembered; the oldest is forgotten.
pub const WAITS_REMEMBERED_MAX: usize = 1_024;

/// How long connections may take to end after the listener has.
pub const CONNECTION_DRAIN_WAIT: Duration = Duration::from_secs(5);

/// How long admissions are still served after SIGTERM: the API server learns that this replica has gone from
/// EndpointSlices, some seconds later.
pub const LEAVING_WAIT: Duration = Duration::from_secs(5);

/// How long a Lease is good for without a renewal: as long as nobody leads after a leader was killed.
pub const LEASE_DURATION: Duration = Duration::from_secs(20);

/// How long a leader acts after it has asked for a renewal. The rest of the Lease is for what it had sent by then.
pub const LEADER_ACTS: Duration = Duration::from_secs(15);

/// The longest that a Lease of an operator of another version is waited for.
pub const LEASE_DURATION_MAX: Duration = Duration::from_secs(60);

/// The time between two looks at the Lease. Derivation: a leader has three tries before it has to stop.
pub const LEASE_LOOK_PERIOD: Duration = Duration::from_secs(4);

/// How long the API server may take to answer about the Lease.
pub const LEASE_REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// The time between two questions to the same sidecar.
pub const ASK_PERIOD: Duration = Duration::from_secs(10);

/// Questions to sidecars in a second. Derivation: 500 pods are asked in the period; 5,000 take ten times as long, and cost the
/// operator and the network no more.
pub const ASKS_PER_SECOND_MAX: u32 = 50;

/// Questions in a second where there are few sidecars: soon after one another, and not at once.
pub const FIRST_ASKS_PER_SECOND: u32 = 5;

/// Questions that wait for an answer. Derivation: at the greatest pace all of a timeout's questions do, when a network is cut.
pub const ASKS_AT_ONCE_MAX: usize = 150;

/// How long a sidecar may take to answer.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Questions without an answer after which a sidecar is unreachable: one may be lost.
pub const ASK_MISSES_MAX: u32 = 2;

/// Length of a sidecar's answer. Unit: bytes. Derivation: as many reasons as it keeps, with their words.
pub const HEALTH_BYTES_MAX: usize = 256 << 10;

/// Length of the head of a sidecar's answer. Unit: bytes. The least that hyper takes.
pub const HEALTH_HEADER_BYTES_MAX: usize = 8 << 10;

/// Reasons that are read of a sidecar's answer.
pub const HEALTH_REASONS_MAX: usize = 64;

/// Length of the words of a reason. Unit: characters.
pub const HEALTH_MESSAGE_CHARACTERS_MAX: usize = 512;

/// How long what sidecars say is gathered before it is looked at: a bucket that goes away is told by many of them.
pub const TELL_PERIOD: Duration = Duration::from_secs(1);

/// How long a status stands before it is written again for words and for the time of the oldest row alone.
pub const STATUS_PERIOD: Duration = Duration::from_secs(30);

/// Age of a row that is believed. Unit: seconds. Derivation: a year, with its leap day; an older one is as bad.
pub const OLDEST_SECONDS_MAX: u32 = 366 * 86_400;

/// How much later than it may be a row is at least before it counts as late: an upload that is tried again takes its time.
pub const BEHIND_SLACK: Duration = Duration::from_secs(60);

/// Pods without their sidecar that a condition names.
pub const MISSING_NAMED_MAX: usize = 5;

/// The time between two looks for pods whose LakeIngest is gone.
pub const ORPHANS_PERIOD: Duration = Duration::from_secs(10);

/// The longest pause before a watch that broke begins again. Derivation: eight watches of each replica make a request a second
/// between them, of an API server that answers nothing.
pub const WATCH_AGAIN_MAX: Duration = Duration::from_secs(10);

/// The shortest and the longest time between two looks for pods to evict, of which each evicts one at most.
pub const WATCHDOG_PERIOD_MIN: Duration = Duration::from_secs(1);
/// See [`WATCHDOG_PERIOD_MIN`].
pub const WATCHDOG_PERIOD_MAX: Duration = Duration::from_secs(30);

/// For so many times the patience the pods of an owner are left alone after one of them was evicted in vain: an hour with the
/// chart's value.
pub const WATCHDOG_GIVEN_UP_PARTS: u32 = 12;

/// How far the clock of an operator and that of the API server may be apart. Unit: seconds.
pub const CLOCKS_APART_SECONDS_MAX: i64 = 60;

/// How long changes are gathered before it is looked at whose lake is to be tried.
pub const PREFLIGHT_PAUSE: Duration = Duration::from_secs(1);

/// The time between two such looks when nothing changes: nothing tells that a trial is due again, or that its pod is missing.
pub const PREFLIGHT_PERIOD: Duration = Duration::from_secs(10);

/// The shortest time between the end of a trial that has failed and the next one. From then on each waits for as long as the
/// same has failed already, so that the pace halves with every trial.
pub const PREFLIGHT_RETRY_MIN: Duration = Duration::from_secs(20);

/// The longest time between two trials: a Secret that is mended on another day is noticed within a quarter of an hour, and a
/// LakeIngest that nobody mends costs four pods an hour.
pub const PREFLIGHT_RETRY_MAX: Duration = Duration::from_secs(15 * 60);

/// How long a preflight may take, its image and its place on a node included. Derivation: a lake that does not answer is given
/// up within a minute, and an image of 100 MB is pulled in one.
pub const PREFLIGHT_DEADLINE: Duration = Duration::from_secs(180);

/// How long a preflight's Job is kept when it has ended, for whoever wants to read its log.
pub const PREFLIGHT_KEPT: Duration = Duration::from_secs(600);

/// How long the pod of a Job may take to appear before it is asked why it does not.
pub const PREFLIGHT_POD_WAIT: Duration = Duration::from_secs(5);

/// How long the API server may take to answer about a preflight's Job.
pub const PREFLIGHT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Preflights that are under way at once. Derivation: after an upgrade the lake of each LakeIngest is tried anew; at a few
/// seconds each, a thousand are through within ten minutes and take a core's worth of requests together.
pub const PREFLIGHTS_AT_ONCE_MAX: usize = 8;

/// Events of a Job that are read.
pub const PREFLIGHT_EVENTS_MAX: u32 = 20;

/// Pods whose end with rows in the journal is still to be told of.
pub const LEFT_BEHIND_QUEUE_MAX: usize = 256;

/// Rows that one pod is believed to have left behind. Whoever can make a pod can make it say any number, and all are added up.
/// Derivation: a journal of 10 TiB, which no node has, of records of ten bytes each, in powers of two; half of all numbers are
/// reached after eight million pods that say this.
pub const ROWS_LEFT_BEHIND_MAX: u64 = 1 << 40;

/// Pods of which was told already: a pod that ends is seen several times.
pub const PODS_REMEMBERED_MAX: usize = 4_096;

/// How long the API server may take over the Secret and the webhook configuration, before the operator looks after its own
/// certificate again.
pub const CERTIFICATES_WAIT: Duration = Duration::from_secs(10);

/// Authorities that are trusted together. Derivation: two while one replaces the other; the rest is room for Secrets that were
/// edited by hand. A bundle of them has 5 KiB, of the MiB that etcd gives an object.
pub const AUTHORITIES_MAX: usize = 8;

/// Warnings of a review. The API server cuts what is beyond 4,096 characters in all.
pub const WARNINGS_MAX: usize = 16;

/// Length of a file of manifests that the command line reads. Unit: bytes. Derivation: twenty objects of the greatest size
/// that etcd takes; the rendered manifests of a large chart have a few.
pub const MANIFEST_BYTES_MAX: u64 = 32 << 20;

/// How long the command line waits for a connection to the API server, and for each part of an answer.
pub const CLUSTER_WAIT: Duration = Duration::from_secs(15);

/// Length of a value that is kept of an object's metadata. Unit: bytes. Derivation: what is read are names of objects and numbers;
/// a name has 253 characters at most, all of one byte.
pub const KEPT_VALUE_BYTES_MAX: usize = 253;

/// Owners of an object that are kept: what is looked for is the one that made it, and ours.
pub const OWNERS_KEPT_MAX: usize = 8;

/// Length of the words about a LakeIngest that does not fit the type. Unit: characters.
pub const INVALID_CHARACTERS_MAX: usize = 2_048;

/// How many of something there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At once, after a while without any.
    pub at_once: u32,
    /// In a minute. Never none.
    pub per_minute: u32,
}

/// Events that a replica writes. Derivation: etcd keeps each for an hour, so these are 3,600 small objects.
pub const EVENTS: Pace = Pace { at_once: 100, per_minute: 60 };

/// Those of one namespace among them: a fifth, so that a few that have much to say leave the others room.
pub const EVENTS_OF_NAMESPACE: Pace = Pace { at_once: 20, per_minute: 12 };

/// Events about rows that are not in their tables, beside [`EVENTS`]. Derivation: a rollout whose lake is away ends many pods at
/// once; what is too much waits for its turn.
pub const EVENTS_RESERVE: Pace = Pace { at_once: 50, per_minute: 30 };

/// Those of one namespace among them.
pub const EVENTS_OF_NAMESPACE_ROWS: Pace = Pace { at_once: 20, per_minute: 10 };

/// Namespaces whose Events are counted. Derivation: one that has written counts until it is full again, in two minutes at most; by
/// then all of them have written 330.
pub const EVENT_NAMESPACES_MAX: usize = 512;

/// The time between two tries to write an Event about rows that was one too many, or failed.
pub const EVENTS_RETRY_PERIOD: Duration = Duration::from_secs(10);

/// Tries of such an Event. Derivation: half an hour, within which an API server is well again.
pub const EVENT_TRIES_MAX: u32 = 180;
