//! The webhook's certificates, made here: none is in the chart.
//!
//! Owns: the authorities, which all replicas share through a Secret; the leaf, which each replica has for itself; the
//! bundle, which the API server trusts; and the order in which they are replaced, so that no handshake fails.
//! Upholds I11: no Secret but this one, of the operator's own namespace, is read.
//! Does not own: serving with them (`webhook`).
//!
//! ```text
//! Secret (authorities, a year each) ──> leaf, in memory, 7 days ──> webhook
//!         └─> bundle ──> caBundle of the webhook configuration ──> API server
//!
//! or, where somebody else makes them: files ──> leaf ──> webhook
//! ```

mod authorities;
mod authority;
mod configuration;
mod files;
mod keeper;
mod leaf;
mod lives;
mod secret;
mod settling;
mod validity;

pub use authorities::Authorities;
pub use authority::Authority;
pub use files::{FilesError, FilesKeeper};
pub use keeper::{Keeper, KeeperError, KeeperParts};
pub use leaf::{Leaf, LeafError, LeafKeeper};
pub use lives::{Lives, LivesError, Validity};
pub use secret::{SecretError, SecretPlace};
pub use validity::not_after;
