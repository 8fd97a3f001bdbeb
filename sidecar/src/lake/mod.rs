//! What the lake says of itself, below `<prefix>/_lakeingest/`.
//!
//! Owns: whose the prefix is, the first contact, the descriptions of files. Does not own: data files (`publish`),
//! schemas (`schema::registry`).

pub mod contact;
pub mod description;
pub mod owner;
