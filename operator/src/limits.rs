//! Every bound of the operator, with its derivation.
//!
//! Owns: the numbers. Upholds I12. Does not own: where they are enforced.

use std::time::Duration;

/// Connections of each port. The API servers of a cluster keep a few. Past it a new one is closed.
pub const CONNECTIONS_MAX: usize = 512;

/// Connections of each port from one address. An API server opens one for each admission that it has under way; a pod that
/// opens more than this keeps nobody else out.
pub const CONNECTIONS_PER_PEER_MAX: usize = 64;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the headers of a request may take; also how long a connection may be idle between two requests.
/// Derivation: the API server gives up a connection that was idle for 90 s. Whoever gives it up first must be the one who
/// sends: an admission that comes on a connection which is just being closed fails, since a POST is not sent again.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(100);

/// How long a body may take. The API server gives up after three seconds.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Length of an AdmissionReview. Unit: bytes. Derivation: etcd refuses objects of more than 1.5 MiB, and a review holds
/// the object twice at most.
pub const REVIEW_BYTES_MAX: usize = 3 << 20;

/// How long connections may take to end after the listener has.
pub const CONNECTION_DRAIN_WAIT: Duration = Duration::from_secs(5);

/// How long admissions are still served after SIGTERM: the API server learns that this replica has gone from
/// EndpointSlices, some seconds later.
pub const LEAVING_WAIT: Duration = Duration::from_secs(5);

/// Pods whose end with rows in the journal is still to be told of.
pub const LEFT_BEHIND_QUEUE_MAX: usize = 256;

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
