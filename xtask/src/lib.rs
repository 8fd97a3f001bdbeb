//! The one entry to everything that is done with this repository, and the servers and tools that its tests stand on.
//!
//! Owns: what is installed and where, processes that are started and stopped, the verbs of `cargo xtask`.
//! Does not own: what the product does; it knows the sidecar by its command line and its HTTP contract alone.
//!
//! ```text
//! versions ──> cache ──> tools ──> servers, readers ──> flights, load ──> demo, bench, test_run, torture, check
//!                          └─────> image ──> cluster ────────────────────┘
//!              interrupt, stopwatch, wait, commands, process, ports, numbers: what these stand on
//! ```

pub mod workspace;

pub mod interrupt;
mod numbers;
pub mod stopwatch;
pub mod wait;

pub mod commands;
pub mod ports;
pub mod prerequisites;
pub mod process;

pub mod cache;
pub mod tools;
pub mod versions;

pub mod readers;
pub mod servers;

mod flights;
pub mod fuzz;
mod load;

pub mod image;

pub mod cluster;
pub mod examples;

pub mod bench;
pub mod check;
pub mod crdgen;
pub mod demo;
pub mod setup;
pub mod test_run;
pub mod torture;
