//! The end of a pod, for tests: a pod without a cluster, what is in it, how it is told to end.

use rustix::process::Signal;
use serde_json::Value;
use xtask::servers::Sidecar;

use crate::lake::Lake;
use crate::ledger::{Ledger, Shape, record};
use crate::site::Site;

/// Nothing is due before the end.
pub const QUIET: &str = "flush: {maxAge: 1h}\n";

/// A pod whose lake is a directory, its own or this one, with a grace period of so many seconds.
pub fn local_pod(lake: Option<&Lake>, grace: u64, yaml: &str) -> Site {
    let mut site = lake.map_or_else(Site::local, Site::on).with_config(yaml);
    give_grace(&mut site, grace);
    site
}

/// Says how long the pod's whole grace period is. Unit: seconds.
pub fn give_grace(site: &mut Site, grace: u64) {
    let variable = "LAKEINGEST_TERMINATION_GRACE_PERIOD_SECONDS".to_owned();
    site.options.environment.push((variable, grace.to_string().into()));
}

/// Sends `count` records to each of two tables, `events` and `orders`, as two producers.
///
/// # Panics
/// When they are not acknowledged.
pub fn fill(ledger: &Ledger, sidecar: &Sidecar, producer: u64, count: u64) {
    for (table, producer) in [("events", producer), ("orders", producer + 1)] {
        let records: Vec<Value> = (0..count).map(|sequence| record(producer, sequence)).collect();
        let answer = ledger.send(sidecar, "/ingest/stream", table, Shape::Records, &records);
        assert_eq!(answer.expect("the sidecar answers").status, 202);
    }
}

/// As the kubelet does when the time has come.
///
/// # Panics
/// When it cannot be signalled.
pub fn term(sidecar: &Sidecar) {
    sidecar.server().signal(Signal::TERM).expect("it can be signalled");
}
