//! What the tests share that start real processes: the sidecar, an S3 server, independent readers.
//!
//! Owns: places to run in, the calls that most tests make, the ledger of what was sent, the judgement of the lake.
//! Does not own: servers and readers as such (`xtask`); the tests themselves, which are in `tests/tests`.
//!
//! ```text
//! site (folders, start, restart) ──> calls, wire (requests) ──> ledger (what was promised)
//!                                                                  │
//! team (the same in pods) ──────────┘                              │
//! operator (one beside the cluster) <── api (its way to the API server)
//!                           lake (what readers find) ──> oracle <──┘
//! ```
//!
//! Nothing here returns an error: what goes wrong is a failed test, and panics with what was seen.

pub mod chart;
pub mod pod;
pub mod site;
pub mod team;

pub mod api;
pub mod operator;

pub mod calls;
pub mod handshakes;
pub mod wire;

pub mod columns;
pub mod lake;
pub mod ledger;
pub mod oracle;

pub mod producers;
pub mod proxy;
pub mod store;
pub mod strace;
pub mod stub;
pub mod volume;

pub mod torture;
