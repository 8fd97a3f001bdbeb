//! The numbers.
//!
//! Owns: every metric's name, unit and labels. Does not own: when they change. Labels come from fixed lists alone, so
//! their number is bounded.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

type Labels = [(&'static str, &'static str); 1];

/// The metrics of an operator, each with the prefix `lakeingest_operator`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// When the webhook's certificate ends. Unit: seconds since 1970.
    pub certificate_not_after: Gauge,
    /// When the authority that signs it ends. Unit: seconds since 1970.
    pub authority_not_after: Gauge,
    /// How often the webhook's certificate was replaced.
    pub certificates: Counter,
    /// How often this replica has made an authority in place of one.
    pub authorities: Counter,
    /// How often the CA bundle was put into the webhook configuration.
    pub bundle_writes: Counter,
    /// What is wrong with the entries of the webhook configuration.
    pub webhook_faults: Gauge,
    /// 1 while this replica leads.
    pub leader: Gauge,
    /// Sidecars that do not answer the leader.
    pub sidecars_unreachable: Gauge,
    /// Pods whose LakeIngest is gone.
    pub orphaned_pods: Gauge,
    /// Events that were not written because there were too many.
    pub events_dropped: Counter,
    /// Rows that were in the journals of pods that ended. Every replica sees every pod.
    pub rows_left_behind: Counter,
    /// Rows that pods which ended have put into the lake as log files. Every replica sees every pod.
    pub rows_in_log_files: Counter,
    watch_failures: Family<Labels, Counter>,
    sidecar_asks: Family<Labels, Counter>,
    evictions: Family<Labels, Counter>,
    preflights: Family<Labels, Counter>,
    admissions: Family<Labels, Counter>,
    admission_duration: Histogram,
    reconciles: Family<Labels, Counter>,
    reconcile_duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lakeingest_operator");
        // 50 µs to 3.3 s: from a decision in memory to the API server's patience.
        let admission_duration = Histogram::new(exponential_buckets(0.00005, 2.0, 17));
        // 100 µs to 26 s: from nothing to do to a slow API server.
        let reconcile_duration = Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        let version = [("version", env!("CARGO_PKG_VERSION")), ("revision", crate::REVISION)];
        registry.register("build", "What is running", Info::new(version));
        let certificate_not_after = Gauge::default();
        let about = "When the webhook's certificate ends, since 1970";
        registry.register_with_unit(
            "webhook_certificate_not_after",
            about,
            Unit::Seconds,
            certificate_not_after.clone(),
        );
        let authority_not_after = Gauge::default();
        let about = "When the authority of the webhook's certificate ends, since 1970";
        registry.register_with_unit("webhook_authority_not_after", about, Unit::Seconds, authority_not_after.clone());
        let certificates = Counter::default();
        registry.register(
            "webhook_certificates",
            "Certificates of the webhook that replaced another",
            certificates.clone(),
        );
        let authorities = Counter::default();
        let about = "Authorities that this replica has made in place of another";
        registry.register("webhook_authorities", about, authorities.clone());
        let bundle_writes = Counter::default();
        let about = "Times that the CA bundle was put into the webhook configuration";
        registry.register("ca_bundle_writes", about, bundle_writes.clone());
        let webhook_faults = Gauge::default();
        let about = "What is wrong with the entries of the webhook configuration";
        registry.register("webhook_faults", about, webhook_faults.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 in the replica that says how LakeIngests are, else 0", leader.clone());
        let sidecars_unreachable = Gauge::default();
        let about = "Sidecars that do not answer the replica that leads";
        registry.register("sidecars_unreachable", about, sidecars_unreachable.clone());
        let sidecar_asks = Family::<Labels, Counter>::default();
        registry.register("sidecar_asks", "Questions to sidecars by what came of them", sidecar_asks.clone());
        let evictions = Family::<Labels, Counter>::default();
        let about = "Tries to evict a pod that runs without its sidecar by what came of them";
        registry.register("evictions", about, evictions.clone());
        let preflights = Family::<Labels, Counter>::default();
        registry.register("preflights", "Trials of a lake by what came of them", preflights.clone());
        let watch_failures = Family::<Labels, Counter>::default();
        let about = "Times that a watch of the API server broke or could not begin";
        registry.register("watch_failures", about, watch_failures.clone());
        let orphaned_pods = Gauge::default();
        let about = "Pods that run on without their LakeIngest, in the replica that leads";
        registry.register("orphaned_pods", about, orphaned_pods.clone());
        let events_dropped = Counter::default();
        registry.register("events_dropped", "Events that were one too many", events_dropped.clone());
        let rows_left_behind = Counter::default();
        let about = "Rows that were in the journals of pods that ended, as this replica saw it";
        registry.register("rows_left_behind", about, rows_left_behind.clone());
        let rows_in_log_files = Counter::default();
        let about = "Rows that pods which ended have put into the lake as log files, as this replica saw it";
        registry.register("rows_in_log_files", about, rows_in_log_files.clone());
        let admissions = Family::<Labels, Counter>::default();
        registry.register("admissions", "Pods by what became of them", admissions.clone());
        let about = "Time from a whole request to its answer";
        registry.register_with_unit("admission_duration", about, Unit::Seconds, admission_duration.clone());
        let reconciles = Family::<Labels, Counter>::default();
        registry.register("reconciles", "Looks at a LakeIngest by what came of them", reconciles.clone());
        let about = "Time of a look at a LakeIngest";
        registry.register_with_unit("reconcile_duration", about, Unit::Seconds, reconcile_duration.clone());
        Self {
            registry,
            certificate_not_after,
            authority_not_after,
            certificates,
            authorities,
            bundle_writes,
            webhook_faults,
            leader,
            sidecars_unreachable,
            watch_failures,
            sidecar_asks,
            evictions,
            preflights,
            orphaned_pods,
            events_dropped,
            rows_left_behind,
            rows_in_log_files,
            admissions,
            admission_duration,
            reconciles,
            reconcile_duration,
        }
    }
}

impl Metrics {
    /// A pod was decided over.
    pub fn admitted(&self, outcome: &'static str, duration: Duration) {
        self.admissions.get_or_create(&[("outcome", outcome)]).inc();
        self.admission_duration.observe(duration.as_secs_f64());
    }

    /// A watch of objects of this kind broke, or could not begin; it is tried again.
    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_failures.get_or_create(&[("kind", kind)]).inc();
    }

    /// A sidecar was asked how it is.
    pub fn asked(&self, outcome: &'static str) {
        self.sidecar_asks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A pod was to be evicted.
    pub fn evicted(&self, outcome: &'static str) {
        self.evictions.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A lake was tried.
    pub fn tried(&self, outcome: &'static str) {
        self.preflights.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A LakeIngest was looked at.
    pub fn reconciled(&self, outcome: &'static str, duration: Duration) {
        self.reconciles.get_or_create(&[("outcome", outcome)]).inc();
        self.reconcile_duration.observe(duration.as_secs_f64());
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
    fn each_metric_has_the_prefix_its_unit_and_its_outcome() {
        let metrics = Metrics::default();
        metrics.admitted("patched", Duration::from_millis(1));
        metrics.reconciled("configured", Duration::from_millis(1));
        metrics.asked("answered");
        metrics.evicted("refused");
        metrics.tried("usable");
        metrics.watch_failed("Pod");
        let text = metrics.text();
        for line in [
            "lakeingest_operator_build_info{version=",
            "lakeingest_operator_admissions_total{outcome=\"patched\"} 1",
            "lakeingest_operator_admission_duration_seconds_count 1",
            "lakeingest_operator_watch_failures_total{kind=\"Pod\"} 1",
            "lakeingest_operator_sidecar_asks_total{outcome=\"answered\"} 1",
            "lakeingest_operator_evictions_total{outcome=\"refused\"} 1",
            "lakeingest_operator_preflights_total{outcome=\"usable\"} 1",
            "lakeingest_operator_reconciles_total{outcome=\"configured\"} 1",
            "lakeingest_operator_webhook_certificate_not_after_seconds 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }
}
