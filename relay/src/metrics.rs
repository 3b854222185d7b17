//! What the relay counts and times. Names as in the operator's documentation; low-cardinality labels only, never a
//! tenant, a record or a value.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::quota::Quotas;

/// Bounds of latencies: 1 ms to 60 s, with one at the 5 s budget.
const LATENCY: [f64; 15] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// Bounds of records per call.
const BATCH: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 150.0, 200.0];

fn latency() -> Histogram {
    Histogram::new(LATENCY)
}

fn batch() -> Histogram {
    Histogram::new(BATCH)
}

/// A gauge of a share or a duration.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// By CRM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Crm {
    /// The system.
    pub crm: &'static str,
}

/// By CRM and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CrmOutcome {
    /// The system.
    pub crm: &'static str,
    /// The outcome.
    pub outcome: &'static str,
}

/// By CRM and reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CrmReason {
    /// The system.
    pub crm: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// By connection and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Exchange {
    /// The connection's name.
    pub connection: String,
    /// `granted`, `refused` (somebody has to do something) or `failed` (it is tried again).
    pub outcome: &'static str,
}

/// By CRM and stage of the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CrmStage {
    /// The system.
    pub crm: &'static str,
    /// `ingest` (first byte → taken by the relay), `deliver` (→ written), `total`.
    pub stage: &'static str,
}

/// By stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Stage {
    /// The stage that spent the most.
    pub stage: &'static str,
}

/// By connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Connection {
    /// Its name.
    pub connection: String,
}

/// By connection and window.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Window {
    /// The connection's name.
    pub connection: String,
    /// The window of the limit.
    pub window: &'static str,
}

/// By connection and type of record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Place {
    /// The connection's name.
    pub connection: String,
    /// The neutral type.
    pub object: String,
}

/// By resolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Resolution {
    /// `edit`, `force` or `held`.
    pub resolution: &'static str,
}

/// By the two systems of a fight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Fight {
    /// The connection that came back to its value.
    pub one: String,
    /// The connection whose value it undid.
    pub other: String,
}

/// By result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// The outcome.
    pub outcome: &'static str,
}

/// All of the relay's metrics. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Changes taken from the stream, by outcome at their targets.
    pub outcomes: Family<Outcome, Counter>,
    /// Changes that came again.
    pub repeats: Counter,
    /// Ticks that were done again.
    pub overtaken: Counter,
    /// Records of the stream that are no change.
    pub undecodable: Counter,
    /// Deliveries due so far.
    pub due: Gauge,
    /// Deliveries ended so far.
    pub closed: Gauge,
    /// Deliveries open, counted in the documents.
    pub open: Gauge,
    /// Due − closed − open; must be 0.
    pub difference: Gauge,
    /// Open in the documents, counted afresh − open in the books; must be 0.
    pub recounted: Gauge,
    /// Outcomes of changes that had one at that target; must be 0.
    pub doubled: Counter,
    /// Pairs that wait.
    pub waiting: Family<Connection, Gauge>,
    /// Age of the oldest waiting pair.
    pub oldest: FloatGauge,
    /// Calls open.
    pub inflight: Family<Crm, Gauge>,
    /// From call to answer of writes.
    pub write_duration: Family<Crm, Histogram>,
    /// Records written, by result.
    pub writes: Family<CrmOutcome, Counter>,
    /// Records per call.
    pub batch_size: Histogram,
    /// Attempts again, by reason.
    pub retries: Family<CrmReason, Counter>,
    /// 0 closed, 1 half open, 2 open, 3 parked for credentials.
    pub circuit: Family<Connection, Gauge>,
    /// Exchanges of logins for access tokens.
    pub exchanges: Family<Exchange, Counter>,
    /// 0 ready, 1 not known yet, 2 a person has to make the field of our external id.
    pub setup: Family<Place, Gauge>,
    /// Share of a limit left.
    pub quota: Family<Window, FloatGauge>,
    /// The same in numbers, which are not shown.
    pub(crate) quotas: Quotas,
    /// Events recognised as our own writes.
    pub loops: Family<Crm, Counter>,
    /// Conflicts decided.
    pub conflicts: Family<Resolution, Counter>,
    /// Fields held because two systems fight: alert on any rise.
    pub fights: Family<Fight, Counter>,
    /// Open dead letters made since the start.
    pub dead_letters: Family<Outcome, Counter>,
    /// Latency by stage.
    pub e2e: Family<CrmStage, Histogram>,
    /// Deliveries that took longer than 5 s, by the stage that spent the most.
    pub budget_missed: Family<Stage, Counter>,
    /// From the start of a transaction to its commit.
    pub tick: Histogram,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let m = Self::new();
        let seconds = Unit::Seconds;
        registry.register("relay_outcomes", "Deliveries ended, by outcome", m.outcomes.clone());
        registry.register("relay_repeats", "Changes that came again", m.repeats.clone());
        let help = "Ticks done again because another relay that shares the state was faster";
        registry.register("relay_ticks_overtaken", help, m.overtaken.clone());
        registry.register("relay_undecodable", "Records of the stream that are no change", m.undecodable.clone());
        registry.register("relay_deliveries_due", "Deliveries that became due", m.due.clone());
        registry.register("relay_deliveries_closed", "Deliveries that ended", m.closed.clone());
        registry.register("relay_deliveries_open", "Deliveries open, counted in the documents", m.open.clone());
        registry.register("accounting_difference", "Due - closed - open; must be 0", m.difference.clone());
        registry.register(
            "relay_recount_difference",
            "Open in the documents - open in the books; must be 0",
            m.recounted.clone(),
        );
        registry.register(
            "relay_outcomes_doubled",
            "Changes that ended twice at one target; must be 0",
            m.doubled.clone(),
        );
        registry.register("relay_waiting_pairs", "Pairs of entity and target with work", m.waiting.clone());
        registry.register_with_unit(
            "relay_oldest_event_age",
            "Age of the oldest waiting pair",
            seconds.clone(),
            m.oldest.clone(),
        );
        registry.register("relay_inflight", "Calls open", m.inflight.clone());
        registry.register_with_unit(
            "relay_write_duration",
            "From call to answer of writes",
            seconds.clone(),
            m.write_duration.clone(),
        );
        registry.register("relay_writes", "Records written, by result", m.writes.clone());
        registry.register("relay_batch_size", "Records per call", m.batch_size.clone());
        registry.register("relay_retries", "Attempts again, by reason", m.retries.clone());
        registry.register("relay_circuit_state", "0 closed, 1 half open, 2 open, 3 parked", m.circuit.clone());
        registry.register("relay_token_exchanges", "Access tokens asked for, by outcome", m.exchanges.clone());
        registry.register("relay_setup_state", "0 ready, 1 not known yet, 2 needs an administrator", m.setup.clone());
        registry.register("relay_quota_remaining_ratio", "Share of a limit left", m.quota.clone());
        registry.register("relay_loop_suppressed", "Events recognised as our own writes", m.loops.clone());
        registry.register("relay_conflicts", "Conflicts decided", m.conflicts.clone());
        registry.register("relay_fights", "Fields held because two systems fight", m.fights.clone());
        registry.register("deadletter_events", "Dead letters made since the start", m.dead_letters.clone());
        registry.register_with_unit(
            "e2e_latency",
            "Latency by stage, from the first byte",
            seconds.clone(),
            m.e2e.clone(),
        );
        registry.register("e2e_budget_missed", "Deliveries over 5 s, by the slowest stage", m.budget_missed.clone());
        registry.register_with_unit("relay_tick_duration", "Length of a transaction", seconds, m.tick.clone());
        m
    }

    /// Metrics that nobody reads.
    pub fn unregistered() -> Self {
        Self::new()
    }

    fn new() -> Self {
        Self {
            outcomes: Family::default(),
            repeats: Counter::default(),
            overtaken: Counter::default(),
            undecodable: Counter::default(),
            due: Gauge::default(),
            closed: Gauge::default(),
            open: Gauge::default(),
            difference: Gauge::default(),
            recounted: Gauge::default(),
            doubled: Counter::default(),
            waiting: Family::default(),
            oldest: FloatGauge::default(),
            inflight: Family::default(),
            write_duration: Family::new_with_constructor(latency),
            writes: Family::default(),
            batch_size: batch(),
            retries: Family::default(),
            circuit: Family::default(),
            exchanges: Family::default(),
            setup: Family::default(),
            quota: Family::default(),
            quotas: Quotas::default(),
            loops: Family::default(),
            conflicts: Family::default(),
            fights: Family::default(),
            dead_letters: Family::default(),
            e2e: Family::new_with_constructor(latency),
            budget_missed: Family::default(),
            tick: latency(),
        }
    }
}
