//! Ports on the loopback address that no other run uses at the same time.
//!
//! Owns: blocks of neighbouring ports, each claimed by a lock on a file in the cache, so that test processes
//! that run at once never choose the same one; the kernel drops the lock when its process ends.
//! Does not own: who listens on them.
//!
//! SeaweedFS opens its gRPC port 10,000 above each of its ports, so a block stands for both.
//! All of them lie below 32,768, where Linux begins to hand out ports for outgoing connections.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use anyhow::{Context, Result, bail};

use crate::cache::Cache;

/// Lowest port of the first block.
const FIRST: u16 = 12_000;

/// Ports in a block; the largest server needs five.
pub const BLOCK_PORTS: u16 = 10;

/// Blocks that there are: the highest gRPC port is 12,000 + 700 * 10 + 10,000, below 30,000.
const BLOCKS: u16 = 700;

/// Distance from a SeaweedFS port to its gRPC port.
pub const GRPC_OFFSET: u16 = 10_000;

/// Neighbouring ports that are ours until this value is dropped.
#[derive(Debug)]
pub struct PortBlock {
    base: u16,
    _lock: File,
}

impl PortBlock {
    /// Claims a block in which every port was free a moment ago.
    ///
    /// # Errors
    /// When the lock files cannot be made, or when all blocks are taken.
    pub fn claim() -> Result<Self> {
        let folder = Cache::open()?.folder("ports")?;
        let start = u16::try_from(RandomState::new().build_hasher().finish() % u64::from(BLOCKS))
            .expect("the remainder is below the number of blocks");
        for step in 0..BLOCKS {
            let base = FIRST + (start + step) % BLOCKS * BLOCK_PORTS;
            let path = folder.join(format!("{base}.lock"));
            let lock = File::create(&path).with_context(|| format!("failed to make {}", path.display()))?;
            if lock.try_lock().is_ok() && Self::is_free(base) {
                return Ok(Self { base, _lock: lock });
            }
        }
        bail!("failed to find a block of {BLOCK_PORTS} free ports from {FIRST} on")
    }

    /// The port at `index`, counted from 0.
    ///
    /// # Panics
    /// When the block has no such port.
    pub fn port(&self, index: u16) -> u16 {
        assert!(index < BLOCK_PORTS, "a block has {BLOCK_PORTS} ports");
        self.base + index
    }

    fn is_free(base: u16) -> bool {
        (base..base + BLOCK_PORTS).all(|port| is_free(port) && is_free(port + GRPC_OFFSET))
    }
}

/// Whether a server could listen on this port of both loopback addresses now.
pub fn is_free(port: u16) -> bool {
    listen(port).is_ok()
}

/// Listens for a moment on both loopback addresses; a machine without IPv6 has only the first.
fn listen(port: u16) -> std::io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
        _ => Ok(()),
    }
}

/// Makes sure that a port that was asked for can be had.
///
/// # Errors
/// When something listens on it.
pub fn require_free(port: u16) -> Result<()> {
    listen(port).with_context(|| {
        format!("failed to use port {port} of localhost; see who has it with: ss -ltnp 'sport = :{port}'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_at_the_same_time_share_no_port() {
        let first = PortBlock::claim().expect("a block is free");
        let second = PortBlock::claim().expect("another block is free");
        assert_ne!(first.port(0), second.port(0));
    }

    #[test]
    fn a_port_that_is_taken_on_one_address_is_not_free() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("some port is free");
        assert!(!is_free(listener.local_addr().expect("it listens").port()));
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        let port = listener.local_addr().expect("it listens").port();
        let message = require_free(port).expect_err("it is taken").to_string();
        assert!(message.contains(&port.to_string()), "{message}");
    }
}
