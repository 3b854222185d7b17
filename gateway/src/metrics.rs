//! What the gateway counts. Every label comes from a fixed set: no id, key or value of a request becomes one.
//!
//! The surprising thing: the registry appends `_total` to counters, so their names stand here without it.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// By provider and how the request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    /// The provider in the path, or `none`.
    pub source: &'static str,
    /// `accepted`, `refused`, `unavailable`.
    pub outcome: &'static str,
}

/// By provider and reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    /// The provider in the path, or `none`.
    pub source: &'static str,
    /// A fixed word.
    pub reason: &'static str,
}

/// By provider and type of record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Object {
    /// The provider.
    pub source: &'static str,
    /// One of [`object_label`].
    pub object: &'static str,
}

/// By provider and what deduplication found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Found {
    /// The provider.
    pub source: &'static str,
    /// `new`, `in_flight`, `known`.
    pub result: &'static str,
}

/// By signature scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Scheme {
    /// The scheme that matched, or `none`.
    pub scheme: &'static str,
}

/// By reason alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Why {
    /// A fixed word.
    pub reason: &'static str,
}

/// By how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reloaded {
    /// `ok` or `failed`.
    pub result: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All of them; clones of one state.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub requests: Family<Outcome, Counter>,
    pub request_seconds: Histogram,
    pub verify_seconds: Histograms<Scheme>,
    pub rejected: Family<Reason, Counter>,
    pub inflight: Gauge,
    pub connections: Gauge,
    pub events: Family<Object, Counter>,
    pub ignored: Family<Reason, Counter>,
    pub dedup: Family<Found, Counter>,
    pub dedup_keys: Gauge,
    pub order_held: Gauge,
    pub order_wait_seconds: Histogram,
    pub order_late: Counter,
    pub produce_seconds: Histogram,
    pub produce_errors: Family<Why, Counter>,
    pub tls_reloads: Family<Reloaded, Counter>,
    pub spooled: Counter,
    pub spool_changes: Gauge,
    pub spool_bytes: Gauge,
    pub dedup_warmed: Counter,
}

impl Metrics {
    /// Makes and registers all.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let m = Self {
            requests: Family::default(),
            request_seconds: seconds(),
            verify_seconds: Family::new_with_constructor(microseconds),
            rejected: Family::default(),
            inflight: Gauge::default(),
            connections: Gauge::default(),
            events: Family::default(),
            ignored: Family::default(),
            dedup: Family::default(),
            dedup_keys: Gauge::default(),
            order_held: Gauge::default(),
            order_wait_seconds: seconds(),
            order_late: Counter::default(),
            produce_seconds: seconds(),
            produce_errors: Family::default(),
            tls_reloads: Family::default(),
            spooled: Counter::default(),
            spool_changes: Gauge::default(),
            spool_bytes: Gauge::default(),
            dedup_warmed: Counter::default(),
        };
        m.register_requests(registry);
        m.register_pipeline(registry);
        m
    }

    fn register_requests(&self, r: &mut Registry) {
        r.register("gw_requests", "Requests by how they ended", self.requests.clone());
        r.register(
            "gw_request_duration_seconds",
            "From the header to the answer, or to the decision to refuse it",
            self.request_seconds.clone(),
        );
        r.register("gw_verify_duration_seconds", "Checking one signature", self.verify_seconds.clone());
        r.register("gw_rejected", "Requests that were not accepted", self.rejected.clone());
        r.register("gw_inflight_requests", "Requests being answered", self.inflight.clone());
        r.register("gw_connections", "Open connections", self.connections.clone());
        r.register("gw_tls_reloads", "Changed certificates taken up, or not", self.tls_reloads.clone());
    }

    fn register_pipeline(&self, r: &mut Registry) {
        r.register("gw_events", "Changes read from verified requests, repeats included", self.events.clone());
        r.register("gw_events_ignored", "Events acknowledged without effect", self.ignored.clone());
        r.register("gw_dedup", "Changes by what deduplication found", self.dedup.clone());
        r.register("gw_dedup_keys", "Published changes remembered", self.dedup_keys.clone());
        r.register("gw_dedup_warmed", "Published changes remembered from before the start", self.dedup_warmed.clone());
        r.register("gw_spooled", "Changes that went to the spool", self.spooled.clone());
        r.register("gw_spool_changes", "Accepted changes that are not in the stream yet", self.spool_changes.clone());
        r.register("gw_spool_bytes", "Bytes of the spool on disk", self.spool_bytes.clone());
        r.register("gw_order_held_events", "Changes waiting for stragglers", self.order_held.clone());
        r.register("gw_order_wait_seconds", "Time a held change waited", self.order_wait_seconds.clone());
        r.register("gw_order_late", "Changes published after a newer one of their record", self.order_late.clone());
        r.register("stream_produce_duration_seconds", "From append to acknowledgement", self.produce_seconds.clone());
        r.register("stream_produce_errors", "Appends that were not acknowledged", self.produce_errors.clone());
    }
}

/// The label of a type of record: a name of the neutral model or `other`.
pub(crate) fn object_label(object: &str) -> &'static str {
    const KNOWN: [&str; 8] =
        ["contact", "company", "deal", "activity", "ticket", "product", "line_item", "conversation"];
    KNOWN.into_iter().find(|known| *known == object).unwrap_or("other")
}

/// 0.5 ms to 16 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 16))
}

/// 1 µs to 16 ms.
fn microseconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_001, 2.0, 15))
}
