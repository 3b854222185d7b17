//! The bookkeeping of a run, kept by hand: every accepted change has exactly one outcome per target, or is open for a
//! reason that a person can see; the engine's own sums agree at every commit; no claim points to nobody.
//!
//! It counts what was published and what was committed and believes no counter of the product.

use std::collections::{BTreeMap, BTreeSet};

use headgate_relay::engine::{Choice, Command, Engine, Resolution, ResolveError, Resolved};
use headgate_relay::entity::{About, Entity, Member};
use headgate_relay::mapping::Link;
use headgate_relay::store::{EntityId, Key, Unit};
use headgate_relay::target::{WriteCall, WriteItems};
use headgate_schemas::ChangeId;
use tokio::sync::oneshot;

use super::wire;
use crate::shelf::RecordId;
use crate::world::{Standing, World};

/// What a run must add up to.
pub struct Account {
    link: Link,
    /// Published changes with their source's connection.
    accepted: BTreeMap<ChangeId, u32>,
    /// How many outcomes each change has at each target.
    ended: BTreeMap<(ChangeId, u32), usize>,
    claims: BTreeMap<Key, EntityId>,
    /// Every entity as of the last commit.
    entities: BTreeMap<EntityId, Entity>,
    asked: bool,
    /// Questions that somebody was told of.
    told: BTreeSet<i64>,
    /// Answers that were not taken yet.
    choices: Vec<(i64, Choice)>,
    /// Somebody has answered something.
    decided: bool,
    fault: Option<String>,
}

/// What became of the answers that were given with a tick, in their order.
pub type Answered = Vec<(i64, oneshot::Receiver<Result<Resolved, ResolveError>>)>;

impl Default for Account {
    fn default() -> Self {
        Self {
            link: wire::link(),
            accepted: BTreeMap::new(),
            ended: BTreeMap::new(),
            claims: BTreeMap::new(),
            entities: BTreeMap::new(),
            asked: false,
            told: BTreeSet::new(),
            choices: Vec::new(),
            decided: false,
            fault: None,
        }
    }
}

impl Account {
    /// The first fault.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Questions that nobody was told of yet.
    pub fn new_questions(&mut self) -> Vec<i64> {
        let open = self.entities.values().flat_map(|entity| &entity.questions).map(|question| question.id);
        let new: Vec<_> = open.filter(|id| !self.told.contains(id)).collect();
        self.told.extend(&new);
        new
    }

    /// Somebody answers a question, if it is still open: in one of the ways that it has, drawn at random.
    pub fn choose(&mut self, id: i64, world: &mut World) {
        let asked =
            |entity: &Entity| entity.questions.iter().find(|q| q.id == id).map(|q| (q.about.clone(), entity.clone()));
        let Some((about, entity)) = self.entities.values().find_map(asked) else { return };
        let choice = match about {
            About::Field { name, .. } => wire::candidate(&entity, &name, world),
            About::Match { .. } => [Choice::Link, Choice::Separate][world.below(2)].clone(),
            About::Found { natives, .. } => match natives.get(world.below(natives.len() + 1)) {
                Some(native) => Choice::Record(native.to_string()),
                None => Choice::Separate,
            },
            About::Surplus { native, .. } => [Choice::Record(native.to_string()), Choice::Keep][world.below(2)].clone(),
            About::Delete { .. } | About::Brake { .. } => [Choice::Delete, Choice::Keep][world.below(2)].clone(),
        };
        world.say(format_args!("person: {choice} about question {id}"));
        self.choices.push((id, choice));
        self.decided = true;
    }

    /// The answers that wait, as commands.
    pub fn answers(&self) -> (Vec<Command>, Answered) {
        let command = |(id, choice): &(i64, Choice)| {
            let (done, told) = oneshot::channel();
            let (id, choice, by) = (*id, choice.clone(), "a person".to_owned());
            (Command::Resolve(Resolution { id, edition: None, choice, by, done }), (id, told))
        };
        self.choices.iter().map(command).unzip()
    }

    /// What a tick that was committed made of them. Only a call under way is a reason to answer again.
    pub fn answered(&mut self, answered: Answered) {
        for (id, mut told) in answered {
            match told.try_recv() {
                Ok(Err(ResolveError::Busy)) => {}
                Ok(Ok(_) | Err(ResolveError::Ended { .. })) => self.choices.retain(|(waiting, _)| *waiting != id),
                other => self.expect(false, || format!("an answer to question {id} was not taken: {other:?}")),
            }
        }
    }

    /// A change entered the stream.
    pub fn accepted(&mut self, change: ChangeId, crm: usize) {
        self.accepted.insert(change, wire::connection(crm));
    }

    /// Something was committed.
    pub fn committed(&mut self, unit: &Unit, engine: &mut Engine) {
        for row in &unit.outcomes {
            *self.ended.entry((row.change, row.place.target)).or_default() += 1;
        }
        for claim in &unit.claims {
            self.claims.remove(&claim.key);
            self.claims.extend(claim.now.map(|holder| (claim.key, holder)));
        }
        for write in &unit.entities {
            match engine.entity(write.id) {
                Ok(Some(entity)) => _ = self.entities.insert(write.id, entity),
                Ok(None) => _ = self.entities.remove(&write.id),
                Err(error) => self.expect(false, || format!("entity {} cannot be read: {error}", write.id)),
            }
        }
    }

    /// A write is sent: its intent must be open, which it is no more once another worker had reason to give it up.
    pub fn sent(&mut self, connection: u32, call: &WriteCall) {
        for trace in traces(call) {
            let is_open = |entity: &Entity| {
                let prefix = format!("{}-", entity.uuid);
                let intent = trace.strip_prefix(&prefix).and_then(|intent| intent.parse::<u32>().ok());
                let open = entity.member_of(connection).map(|m| entity.open_intents(m));
                intent.zip(open).is_some_and(|(intent, open)| open.contains(&intent))
            };
            let holds = self.entities.values().any(is_open);
            self.expect(holds, || format!("write {trace} is sent, and was given up before"));
        }
    }

    /// Checks the sums after a commit; those of the engine only where it has the state for itself: each of several
    /// workers adds up no more than what it did.
    pub fn after_tick(&mut self, engine: &Engine, alone: bool) {
        if alone {
            let totals = engine.totals();
            self.expect(totals.difference() == 0, || format!("{totals:?} do not add up"));
            let open: usize = self.entities.values().map(|entity| entity.open_deliveries()).sum();
            self.expect(i64::try_from(open) == Ok(totals.open), || format!("{open} are open, {totals:?}"));
        }
        let crowded = |entity: &Entity| (0..entity.members.len()).any(|m| entity.open_intents(m).len() > 1);
        let crowded: Vec<_> = self.entities.iter().filter(|(_, e)| crowded(e)).map(|(id, _)| *id).collect();
        self.expect(crowded.is_empty(), || format!("two writes of one pair of entities {crowded:?} are in flight"));
        for (key, holder) in self.claims.clone() {
            let held = self.entities.get(&holder).is_some_and(|entity| entity.claims.contains(&key));
            self.expect(held, || format!("a claim points to entity {holder}, which does not hold it"));
        }
        self.asked |= self.entities.values().any(asks);
    }

    /// Checks, when nothing more will happen, that nothing vanished and nothing was counted twice.
    pub fn at_rest(&mut self, engine: &Engine) {
        let mut outcomes = self.ended.clone();
        for (&change, &source) in &self.accepted.clone() {
            for target in self.link.targets(source).collect::<Vec<_>>() {
                let closed = outcomes.remove(&(change, target)).unwrap_or(0);
                let open: usize = self.entities.values().map(|e| open_at(e, change, source, target)).sum();
                self.expect(closed + open == 1, || {
                    format!("change {change} has {closed} outcomes at {target} and is open there {open} times")
                });
            }
        }
        self.expect(outcomes.is_empty(), || format!("outcomes of nothing: {outcomes:?}"));
        let waiting: Vec<_> = self.entities.iter().filter(|(_, e)| waits(e) && !asks(e)).map(|(id, _)| *id).collect();
        self.expect(waiting.is_empty(), || format!("entities {waiting:?} wait for nobody"));
        let calls = engine.calls_open();
        self.expect(calls == 0, || format!("{calls} calls are open"));
    }

    /// How every person stands.
    pub fn people(&self) -> Vec<Standing> {
        let records = |entity: &Entity| entity.members.iter().filter_map(record).collect();
        self.entities
            .values()
            .map(|entity| Standing { members: records(entity), asks: asks(entity), decided: self.decided })
            .filter(|standing: &Standing| !standing.members.is_empty())
            .collect()
    }

    /// Whether some entity has this record.
    pub fn holds(&self, id: RecordId) -> bool {
        let set_aside =
            |entity: &Entity| entity.detached.iter().any(|d| wire::record(wire::crm(d.connection), &d.native) == id);
        let has = |entity: &Entity| entity.members.iter().filter_map(record).any(|held| held == id);
        self.entities.values().any(|entity| has(entity) || set_aside(entity))
    }

    /// Whether a person was ever asked.
    pub const fn has_asked(&self) -> bool {
        self.asked
    }

    /// Notes a fault unless something holds; the first one stays.
    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.fault.is_none() {
            self.fault = Some(what());
        }
    }
}

/// What names the intents of a call.
fn traces(call: &WriteCall) -> Vec<&str> {
    match &call.items {
        WriteItems::Create(items) => items.iter().map(|item| item.trace.as_str()).collect(),
        WriteItems::Update(items) => items.iter().map(|item| item.trace.as_str()).collect(),
        WriteItems::Delete(items) => items.iter().map(|item| item.trace.as_str()).collect(),
    }
}

fn record(member: &Member) -> Option<RecordId> {
    member.native.as_deref().map(|native| wire::record(wire::crm(member.connection), native))
}

const fn asks(entity: &Entity) -> bool {
    !entity.questions.is_empty()
}

/// Whether anything of it is undecided or on its way.
fn waits(entity: &Entity) -> bool {
    entity.members.iter().any(|m| !m.pending.is_empty() || !m.asked.is_empty() || !m.waiting.is_empty())
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
