//! What is open of a record at each of its members: what is to be done there, why, and when. And what guards it.
//!
//! It is told from the document and the row of work alone; nothing is asked of the engine. The surprising thing: a
//! document does not keep why a read is due, because no rule needs it; the reasons that can be are few, and the
//! document still shows which of them it is.

use std::collections::HashMap;
use std::sync::Arc;

use headgate_schemas::{ObjectType, Timestamp};
use serde::Serialize;

use super::Admin;
use crate::config::{Guard, LinkConfig, RelayConfig};
use crate::entity::{Entity, Field, Life, Member, MemberState, WriteState};
use crate::mapping::{self, Link};
use crate::metrics;
use crate::store::WorkRow;
use crate::work::PARKED;

/// A link as it is shown with its records.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    tenant: String,
    object: ObjectType,
    /// How an edit that nobody reported yet is guarded against, by connection.
    guards: HashMap<String, Guard>,
    /// The mapping; it numbers the connections by itself.
    pub(super) mapping: Link,
    numbers: HashMap<String, u32>,
}

impl Plan {
    /// The number of a connection in [`Plan::mapping`].
    pub(super) fn number(&self, connection: &str) -> Option<u32> {
        self.numbers.get(connection).copied()
    }
}

/// The links, with the guard that each connection has: one that checks no precondition acts as `read`.
pub(crate) fn plans(config: &RelayConfig, conditional: impl Fn(&str) -> Option<bool>) -> Arc<[Plan]> {
    let numbers: HashMap<String, u32> = config.connections.iter().map(|c| c.name.clone()).zip(1..).collect();
    let number = |name: &str| numbers.get(name).copied().unwrap_or(0);
    let guard = |link: &LinkConfig, name: &String| {
        let acts = match (link.guard, conditional(name)?) {
            (Guard::Strict, false) => Guard::Read,
            (guard, _) => guard,
        };
        Some((name.clone(), acts))
    };
    let plan = |link: &LinkConfig| Plan {
        name: link.name.clone(),
        tenant: link.tenant.clone(),
        object: link.object.clone(),
        guards: link.members.iter().filter_map(|name| guard(link, name)).collect(),
        mapping: mapping::compile(link, &config.connections, &number, &|_| true),
        numbers: numbers.clone(),
    };
    config.links.iter().map(plan).collect()
}

/// What is open at one member.
#[derive(Debug, Serialize)]
pub(super) struct WorkView {
    connection: String,
    /// `read`, `look_up`, `create`, `write`, `delete`, `erase`, or `wait`.
    does: &'static str,
    /// Why.
    because: String,
    /// When; absent where it waits for something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
    /// A call is under way.
    under_way: bool,
    /// Failed attempts since the last success.
    attempts: u32,
    /// Why nothing is sent to this connection now.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_back: Option<&'static str>,
    /// Changes of this member that a read decides, or that stand behind a write.
    changes_waiting: usize,
    /// Changes of others that are still to reach it.
    changes_to_deliver: usize,
}

impl Admin {
    /// The link of an entity.
    pub(super) fn plan(&self, entity: &Entity) -> Option<&Plan> {
        self.relay.plans.iter().find(|plan| plan.tenant == *entity.tenant && plan.object == entity.object)
    }

    /// How a connection is guarded.
    pub(super) fn guard(&self, plan: Option<&Plan>, connection: &str) -> Option<&'static str> {
        plan?.guards.get(connection).map(|guard| guard.as_str())
    }

    /// How a connection is: `works`, or what keeps it from working.
    pub(super) fn circuit(&self, connection: &str) -> &'static str {
        let label = metrics::Connection { connection: connection.to_owned() };
        match self.relay.circuit.get(&label).map_or(0, |state| state.get()) {
            0 => "works",
            1 => "is tried with one record",
            2 => "fails, calls are held back",
            _ => "refuses the credentials",
        }
    }

    /// What is open at member `m`, if anything is.
    pub(super) fn open(&self, entity: &Entity, m: usize, row: Option<&WorkRow>, now: Timestamp) -> Option<WorkView> {
        let member = &entity.members[m];
        let (waiting, delivering) = (member.waiting.len() + member.asked.len(), member.pending.len());
        if row.is_none() && waiting == 0 && delivering == 0 {
            return None;
        }
        let (does, because) = need(entity, m);
        let connection = self.name(member.connection);
        let circuit = self.circuit(&connection);
        Some(WorkView {
            connection,
            does,
            because,
            due: row.filter(|row| row.due != PARKED).map(|row| Timestamp::from_micros(row.due)),
            under_way: row.is_some_and(|row| row.owner != 0 && row.until > now.micros()),
            attempts: row.map_or(0, |row| row.attempts),
            held_back: (circuit != "works").then_some(circuit),
            changes_waiting: waiting,
            changes_to_deliver: delivering,
        })
    }
}

/// What is to be done at member `m`, and why.
fn need(entity: &Entity, m: usize) -> (&'static str, String) {
    let member = &entity.members[m];
    if let Some(joining) = entity.joining {
        return ("wait", format!("it becomes part of entity {} as soon as no call is under way", joining.into));
    }
    if let Some(need) = parting(entity, member) {
        return need;
    }
    if !member.looks.is_empty() || !member.reads.is_empty() {
        let does = if member.native.is_none() || !member.looks.is_empty() { "look_up" } else { "read" };
        return (does, why_read(entity, m));
    }
    match member.state {
        MemberState::Absent if entity.asks_about_match() => {
            ("wait", "a person is to say which record it is there".to_owned())
        }
        MemberState::Absent => ("create", "the record is not there yet".to_owned()),
        MemberState::Refused => ("wait", "the CRM refused to make it; see the dead letters".to_owned()),
        _ => unwritten(entity, m),
    }
}

/// What is to be done where the entity goes.
fn parting(entity: &Entity, member: &Member) -> Option<(&'static str, String)> {
    match &entity.life {
        Life::Erasing => Some(("erase", "the person asked to be forgotten".to_owned())),
        Life::Leaving(leaving) if leaving.braked => {
            Some(("wait", "unusually many records of the link go at once; a person is asked".to_owned()))
        }
        Life::Leaving(_) if entity.asks_about_delete() => {
            Some(("wait", "a person is asked whether the other records go, too".to_owned()))
        }
        Life::Leaving(leaving) if leaving.gone != member.connection && member.has_record() => {
            Some(("delete", "its record elsewhere was deleted".to_owned()))
        }
        Life::Live | Life::Leaving(_) | Life::Left | Life::Joined(_) | Life::Erased => None,
    }
}

/// Some field of member `m` was seen with two values at one time.
fn is_doubtful(entity: &Entity, m: usize) -> bool {
    entity.fields.iter().any(|field| field.cells[m].as_ref().is_some_and(|cell| cell.early))
}

fn why_read(entity: &Entity, m: usize) -> String {
    let member = &entity.members[m];
    let unknown = |field: &Field| {
        let rows = field.cells[m].iter().flat_map(|cell| &cell.ledger);
        rows.into_iter().any(|row| matches!(row.state, WriteState::Unknown(_)))
    };
    let reason = if member.purge {
        "an event says that it was erased"
    } else if member.into.is_some() {
        "an event says that it was merged into another record"
    } else if matches!(member.state, MemberState::Missing(_)) {
        "it was not found; a read after the grace decides"
    } else if member.state == MemberState::Heard {
        "an event named it, and it was not read yet"
    } else if member.create.is_some() || entity.fields.iter().any(unknown) {
        "a write had no answer"
    } else if member.stale > 0 {
        "an answer was too old"
    } else if is_doubtful(entity, m) {
        "it showed two values at one time; what it shows later decides"
    } else if !member.asked.is_empty() {
        "changes came that only a read can decide"
    } else {
        "to be sure of what it shows"
    };
    reason.to_owned()
}

/// What keeps a record that is there from showing the values in force.
fn unwritten(entity: &Entity, m: usize) -> (&'static str, String) {
    let behind = |field: &&Field| field.cells[m].as_ref().is_some_and(|cell| cell.rev != field.rev);
    let names = |fields: Vec<&Field>| fields.iter().map(|field| &*field.name).collect::<Vec<_>>().join(", ");
    let (held, behind): (Vec<&Field>, Vec<&Field>) =
        entity.fields.iter().filter(behind).partition(|field| field.held.is_some());
    match (held.is_empty(), behind.is_empty()) {
        (_, false) => ("write", format!("it does not show the value in force of {}", names(behind))),
        (false, true) => ("wait", format!("a person is to decide {}", names(held))),
        (true, true) => ("wait", "a write is to be answered".to_owned()),
    }
}
