//! The bookkeeping of a run, kept by hand: every accepted change has exactly one outcome per target, or is open for a
//! reason that a person can see; the engine's own sums agree at every tick.
//!
//! It counts what was published and what was committed and believes no counter of the product.

use std::collections::BTreeMap;

use headgate_relay::engine::Engine;
use headgate_relay::entity::{Entity, Member, Outcome};
use headgate_relay::mapping::Link;
use headgate_relay::store::{EntityId, Unit};
use headgate_relay::target::{UpdateItem, WriteCall, WriteItems};
use headgate_schemas::ChangeId;

use super::wire;
use crate::real;
use crate::reference::scenario::Scenario;

/// What a run must add up to.
pub struct Account {
    link: Link,
    /// Published changes with their source's connection.
    accepted: BTreeMap<ChangeId, u32>,
    /// How many outcomes each change has at each target.
    ended: BTreeMap<(ChangeId, u32), usize>,
    /// The decision log: how often each rule came to each ruling.
    decided: BTreeMap<(String, String), u32>,
    /// How often changes ended in each way.
    ways: BTreeMap<Outcome, u32>,
    entity: Option<Entity>,
    fault: Option<String>,
}

impl Account {
    /// Nothing was published yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            link: real::link(scenario),
            accepted: BTreeMap::new(),
            ended: BTreeMap::new(),
            decided: BTreeMap::new(),
            ways: BTreeMap::new(),
            entity: None,
            fault: None,
        }
    }

    /// The entity as of the last commit.
    pub const fn entity(&self) -> Option<&Entity> {
        self.entity.as_ref()
    }

    /// The decision log so far.
    pub const fn decided(&self) -> &BTreeMap<(String, String), u32> {
        &self.decided
    }

    /// How changes ended so far.
    pub const fn ways(&self) -> &BTreeMap<Outcome, u32> {
        &self.ways
    }

    /// The first fault.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// A change entered the stream.
    pub fn accepted(&mut self, change: ChangeId, connection: &str) {
        let member = (0..self.link.members.len()).find(|&member| wire::connection_name(member) == connection);
        self.accepted.insert(change, member.map_or(0, real::connection));
    }

    /// Something was committed.
    pub fn committed(&mut self, unit: &Unit) {
        for row in &unit.outcomes {
            *self.ended.entry((row.change, row.place.target)).or_default() += 1;
            *self.ways.entry(row.outcome).or_default() += 1;
        }
        for row in &unit.decisions {
            *self.decided.entry((row.rule.clone(), row.ruling.clone())).or_default() += 1;
        }
    }

    /// A write is sent: its intent must be open, which it is no more once another worker had reason to give it up.
    pub fn sent(&mut self, connection: u32, call: &WriteCall) {
        let WriteItems::Update(items) = &call.items else { return };
        let open = self.entity.as_ref().and_then(|entity| Some(entity.open_intents(entity.member_of(connection)?)));
        for UpdateItem { trace, .. } in items {
            let is_open = |intent: &u32| trace.ends_with(&format!("-{intent}"));
            let holds = open.iter().flatten().any(is_open);
            self.expect(holds, || format!("write {trace} is sent, and was given up before"));
        }
    }

    /// Checks the sums after a commit; those of the engine only where it has the state for itself: each of several
    /// workers adds up no more than what it did.
    pub fn after_tick(&mut self, engine: &mut Engine, entity: EntityId, alone: bool) {
        let totals = engine.totals();
        self.expect(!alone || totals.difference() == 0, || format!("{totals:?} do not add up"));
        match engine.entity(entity) {
            Ok(entity) => self.entity = entity,
            Err(error) => self.expect(false, || format!("the entity cannot be read: {error}")),
        }
        let Some(entity) = self.entity.take() else { return };
        let open = entity.open_deliveries();
        self.expect(!alone || i64::try_from(open) == Ok(totals.open), || format!("{open} are open, {totals:?}"));
        for member in 0..entity.members.len() {
            let intents = entity.open_intents(member);
            self.expect(intents.len() <= 1, || format!("writes {intents:?} to one pair are in flight"));
        }
        self.entity = Some(entity);
    }

    /// Whether a change waits though nothing more will happen: for anything but a person.
    pub fn is_open(&self) -> bool {
        let Some(entity) = &self.entity else { return !self.accepted.is_empty() };
        let waits = |(place, member): (usize, &Member)| {
            let undecided = !member.waiting.is_empty() || !member.asked.is_empty();
            undecided
                || !entity.open_intents(place).is_empty()
                || member.pending.iter().any(|p| !is_held(entity, &p.parts))
        };
        entity.members.iter().enumerate().any(waits)
    }

    /// Checks, when nothing more will happen, that nothing vanished and nothing was counted twice.
    pub fn at_rest(&mut self, engine: &Engine) {
        let Some(entity) = self.entity.take() else { return };
        let mut outcomes = self.ended.clone();
        for (&change, &source) in &self.accepted.clone() {
            for target in self.link.targets(source).collect::<Vec<_>>() {
                let closed = outcomes.remove(&(change, target)).unwrap_or(0);
                let open = open_at(&entity, change, source, target);
                self.expect(closed + open == 1, || {
                    format!("change {change} has {closed} outcomes at {target} and is open there {open} times")
                });
            }
        }
        self.expect(outcomes.is_empty(), || format!("outcomes of nothing: {outcomes:?}"));
        let held = entity.members.iter().filter(|member| !member.pending.is_empty()).count();
        let pairs = engine.pairs();
        self.expect(pairs == held, || format!("{pairs} pairs have work, {held} wait for a person"));
        let calls = engine.calls_open();
        self.expect(calls == 0, || format!("{calls} calls are open"));
        self.entity = Some(entity);
    }

    /// Notes a fault unless something holds; the first one stays.
    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.fault.is_none() {
            self.fault = Some(what());
        }
    }
}

/// How often a change is open at a target: among those on their way there, or undecided at its source.
fn open_at(entity: &Entity, change: ChangeId, source: u32, target: u32) -> usize {
    let of = |connection| entity.members.iter().filter(move |member| member.connection == connection);
    let on_its_way: usize = of(target).map(|m| m.pending.iter().filter(|p| p.change == change).count()).sum();
    let undecided: usize = of(source)
        .map(|m| {
            m.asked.iter().filter(|a| a.change == change).count()
                + m.waiting.iter().filter(|e| e.change == change).count()
        })
        .sum();
    on_its_way + undecided
}

/// A person is to decide about some part of it.
fn is_held(entity: &Entity, parts: &[(u8, i32)]) -> bool {
    parts.iter().any(|(field, _)| entity.fields.get(usize::from(*field)).is_some_and(|field| field.held.is_some()))
}
