//! The webhook's certificates, made here: none is in the chart.
//!
//! Owns: the authority, which all replicas share through a Secret; the leaf, which each replica has for itself; the
//! bundle, which the API server trusts. Upholds I11: no Secret but this one, of the operator's own namespace, is read.
//! Does not own: serving with them (`webhook`).
//!
//! ```text
//! Secret (authority) ──> leaf, in memory, 7 days ──> webhook
//!         └─> bundle ──> caBundle of the webhook configuration ──> API server
//! ```

mod authority;
mod bundle;
mod leaf;
mod validity;

pub use authority::{Authority, AuthorityError, SecretPlace};
pub use bundle::{BundleKeeper, keep};
pub use leaf::{Leaf, LeafError, LeafKeeper};
pub use validity::not_after;
