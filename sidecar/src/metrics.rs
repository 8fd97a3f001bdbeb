//! The numbers.
//!
//! Owns: every metric's name, unit and labels. Does not own: when they change. No label comes from a request, so
//! their number is bounded.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type Labels = [(&'static str, String); 1];

/// What requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: u16,
}

/// The metrics of a sidecar, each with the prefix `lakeingest_sidecar`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Records that were acknowledged, at either durability.
    pub acknowledged_rows: Counter,
    /// Time of an `fdatasync` of the journal with its write. Unit: seconds.
    pub journal_sync_seconds: Histogram,
    /// Length of the journal's files. Unit: bytes.
    pub journal_bytes: Gauge,
    /// Most that the journal's files may take. Unit: bytes.
    pub journal_cap_bytes: Gauge,
    /// Rows that are journaled and not in the lake.
    pub unflushed_rows: Gauge,
    /// Age of the oldest row that is journaled and not in the lake. Unit: seconds.
    pub oldest_unflushed_seconds: Gauge,
    /// Rows in files of tables.
    pub published_rows: Counter,
    /// Files of tables and quarantines.
    pub published_files: Counter,
    /// Length of those files. Unit: bytes.
    pub published_bytes: Counter,
    /// Records in quarantine files.
    pub quarantined_rows: Counter,
    /// Requests that were answered and not stored, since they had been accepted before.
    pub replayed_requests: Counter,
    /// Idempotency keys that were forgotten before their time, because there were too many.
    pub keys_evicted: Counter,
    /// Fields of the configuration that are not known to this version.
    pub unknown_configuration_fields: Gauge,
    requests: Family<RequestLabels, Counter>,
    sealed: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lakeingest_sidecar");
        // 100 µs to 6.5 s: a disk with a capacitor to one that is about to fail.
        let journal_sync_seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 17));
        let metrics = Self {
            acknowledged_rows: Counter::default(),
            journal_sync_seconds,
            journal_bytes: Gauge::default(),
            journal_cap_bytes: Gauge::default(),
            unflushed_rows: Gauge::default(),
            oldest_unflushed_seconds: Gauge::default(),
            published_rows: Counter::default(),
            published_files: Counter::default(),
            published_bytes: Counter::default(),
            quarantined_rows: Counter::default(),
            replayed_requests: Counter::default(),
            keys_evicted: Counter::default(),
            unknown_configuration_fields: Gauge::default(),
            requests: Family::default(),
            sealed: Family::default(),
            failures: Family::default(),
            registry: Registry::default(),
        };
        registry.register("acknowledged_rows", "Records that were acknowledged", metrics.acknowledged_rows.clone());
        registry.register_with_unit(
            "journal_sync",
            "Write and fdatasync of a group of frames",
            Unit::Seconds,
            metrics.journal_sync_seconds.clone(),
        );
        registry.register_with_unit("journal", "Length of the log files", Unit::Bytes, metrics.journal_bytes.clone());
        registry.register_with_unit(
            "journal_cap",
            "Most that the log files may take",
            Unit::Bytes,
            metrics.journal_cap_bytes.clone(),
        );
        registry.register("unflushed_rows", "Rows that are not in the lake yet", metrics.unflushed_rows.clone());
        registry.register_with_unit(
            "oldest_unflushed",
            "Age of the oldest row that is not in the lake yet",
            Unit::Seconds,
            metrics.oldest_unflushed_seconds.clone(),
        );
        registry.register("published_rows", "Rows in files of tables", metrics.published_rows.clone());
        registry.register("published_files", "Files in the lake", metrics.published_files.clone());
        registry.register_with_unit(
            "published",
            "Length of the files in the lake",
            Unit::Bytes,
            metrics.published_bytes.clone(),
        );
        registry.register("quarantined_rows", "Records in quarantine files", metrics.quarantined_rows.clone());
        registry.register(
            "replayed_requests",
            "Requests that were accepted before and answered again",
            metrics.replayed_requests.clone(),
        );
        registry.register(
            "idempotency_keys_evicted",
            "Idempotency keys that were forgotten before their time",
            metrics.keys_evicted.clone(),
        );
        registry.register(
            "unknown_configuration_fields",
            "Fields of the configuration that this version does not know",
            metrics.unknown_configuration_fields.clone(),
        );
        registry.register("requests", "Requests by endpoint and status", metrics.requests.clone());
        registry.register("segments_sealed", "Segments by what sealed them", metrics.sealed.clone());
        registry.register("delivery_failures", "Failed attempts to deliver a segment", metrics.failures.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Requests of an endpoint that were answered with a status.
    pub fn requests(&self, endpoint: &'static str, status: u16) -> Counter {
        self.requests.get_or_create(&RequestLabels { endpoint, status }).clone()
    }

    /// Segments that were sealed for a reason.
    pub fn segments_sealed(&self, reason: &'static str) -> Counter {
        self.sealed.get_or_create(&[("reason", reason.to_owned())]).clone()
    }

    /// Attempts to deliver a segment that failed for a reason.
    pub fn delivery_failures(&self, reason: &'static str) -> Counter {
        self.failures.get_or_create(&[("reason", reason.to_owned())]).clone()
    }

    /// All of them as text.
    /// Source: the OpenMetrics exposition format 1.0.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_the_prefix_and_its_unit() {
        let metrics = Metrics::default();
        metrics.acknowledged_rows.inc_by(3);
        metrics.requests("ingest", 200).inc();
        let text = metrics.text();
        for line in [
            "lakeingest_sidecar_acknowledged_rows_total 3",
            "lakeingest_sidecar_requests_total{endpoint=\"ingest\",status=\"200\"} 1",
            "lakeingest_sidecar_journal_bytes 0",
            "lakeingest_sidecar_oldest_unflushed_seconds 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }
}
