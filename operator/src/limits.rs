//! Every bound of the operator, with its derivation.
//!
//! Owns: the numbers. Upholds I12. Does not own: where they are enforced.

use std::time::Duration;

/// Connections of each port. The API servers of a cluster keep a few; a stranger in the cluster may open more.
pub const CONNECTIONS_MAX: usize = 256;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the headers of a request may take; also how long a connection may be idle between two requests.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Warnings of a review. The API server cuts what is beyond 4,096 characters in all.
pub const WARNINGS_MAX: usize = 16;
