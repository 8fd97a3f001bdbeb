//! On which addresses a process listens, for tests.
//!
//! Owns: reading the kernel's tables. Does not own: which addresses are right.

use std::fs;
use std::path::Path;

/// Local addresses, as the kernel writes them, of the sockets on which a process listens.
pub(super) fn listening_addresses(pid: u32) -> Vec<String> {
    let sockets: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process runs")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let mut addresses = Vec::new();
    for table in ["tcp", "tcp6"].map(|name| Path::new("/proc").join(pid.to_string()).join("net").join(name)) {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let is_own = sockets.contains(&format!("socket:[{}]", fields[9]));
            // 0A is LISTEN.
            if is_own && fields[3] == "0A" {
                addresses.push(fields[1].to_owned());
            }
        }
    }
    addresses
}
