//! From the journal to the lake.
//!
//! Owns: when a segment is sealed, and its way from there. Does not own: formats, how a step is done.
//!
//! ```text
//! journal's view, requests ──> tracker (decides) ──> worker (seals, orders) ──> deliver (plan, publish, describe, retire)
//!                                                                                  └──> outcomes (callers that wait)
//! ```

pub mod deliver;
pub mod outcomes;
pub mod tracker;
pub mod worker;
