//! Others who write what the engine knows: a document that is changed between its reading and its writing, and a worker
//! that was given up for dead and goes on.
//!
//! The engine has the document in its cache and does not look again, so only the check of the commit can tell. Each
//! stranger leaves a mark in the document; at the end all marks must be there, and nothing of the dead.

use headgate_relay::engine::{Engine, Input};
use headgate_relay::entity::Entity;
use headgate_relay::store::{EntityId, StoreError};
use headgate_schemas::contract;
use headgate_schemas::stream::Delivered;

use super::{Played, wire};
use crate::reference::world::World;

/// What strangers did.
#[derive(Clone, Debug, Default)]
pub struct Strangers {
    /// The marks they left, in order.
    marks: Vec<EntityId>,
    overtaken: u64,
}

impl Strangers {
    /// The marks that were left, and the ticks that were refused because a document had another version.
    pub const fn counts(&self) -> (u64, u64) {
        (self.marks.len() as u64, self.overtaken)
    }

    /// A tick failed.
    pub const fn overtook(&mut self, error: &StoreError) {
        if matches!(error, StoreError::Moved { .. }) {
            self.overtaken += 1;
        }
    }
}

/// The first of the marks: entities that there are not, from which this one was told apart.
const FIRST_MARK: EntityId = 1_000;

impl Played {
    /// Now and then somebody else writes the document.
    pub(super) fn meddle(&mut self, world: &mut World) {
        if !world.chance(self.setting.strangers) {
            return;
        }
        let mark = FIRST_MARK + self.strangers.marks.len() as EntityId;
        let written = self.disk.rewrite(self.entity, wire::clock(world.now).micros(), |doc| marked(doc, mark));
        self.account.expect(written.is_ok(), || format!("a stranger cannot write: {written:?}"));
        self.strangers.marks.push(mark);
        world.say(format_args!("a stranger writes the document and leaves {mark}"));
    }

    /// At the end every mark is there.
    pub(super) fn look_for_marks(&mut self) {
        let left =
            self.workers[0].engine.entity(self.entity).ok().flatten().map(|entity| entity.apart).unwrap_or_default();
        // Those that came after the last tick are in the store and not in the cache.
        let lost: Vec<_> = self.strangers.marks.iter().filter(|mark| !left.contains(mark)).collect();
        let late = self.strangers.marks.last().into_iter().collect::<Vec<_>>();
        self.account.expect(lost.is_empty() || lost == late, || format!("{lost:?} of {left:?} were written over"));
    }

    /// The process was not dead: it slept, and goes on with what it reads now that another one has the state.
    pub(super) fn wake_the_dead(&mut self, mut dead: Engine) {
        let Ok(record) = contract::encode(&wire::look(0, u64::MAX, 0)) else { return };
        let records = vec![Delivered { partition: 0, offset: u64::MAX / 2, record }];
        let done = dead.tick(wire::clock(0), Input { records, ..Input::default() });
        let refused = matches!(done, Err(StoreError::LeaseLost { .. }));
        self.account.expect(refused, || format!("a worker that was succeeded is not refused: {done:?}"));
    }
}

/// A document with one mark more. It is written as the engine writes it: a byte that says how, and the entity.
fn marked(doc: &[u8], mark: EntityId) -> Vec<u8> {
    let Some((how, rest)) = doc.split_first() else { panic!("an empty document") };
    let mut entity: Entity = match postcard::from_bytes(rest) {
        Ok(entity) => entity,
        Err(error) => panic!("a document that is none: {error}"),
    };
    entity.apart.push(mark);
    match postcard::to_extend(&entity, vec![*how]) {
        Ok(doc) => doc,
        Err(error) => panic!("a document that cannot be written: {error}"),
    }
}
