//! Decoded entities, bounded: beyond the limit those least recently used are read again from the store. Where others
//! work on the same state, an entity is compared with the store at its first use in each round.

use std::collections::HashMap;

use crate::books::Share;
use crate::entity::Entity;
use crate::store::{EntityId, EntityRow, Look, Store, StoreError, WorkRow};
use crate::trail::Tale;

/// First byte of a document: the version of its encoding.
const DOCUMENT: u8 = 4;

/// A decoded entity.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The entity.
    pub(crate) entity: Entity,
    /// Its link.
    pub(crate) link: usize,
    /// The version in the store; 0 when it is not there yet.
    pub(crate) version: u64,
    /// Open deliveries when it was last written or read.
    pub(crate) open: Vec<(Share, i64)>,
    /// Questions that the store listed as open then.
    pub(crate) questions: Vec<i64>,
    /// What it has to tell of this tick.
    pub(crate) tale: Tale,
    /// Changed since it was last written.
    pub(crate) touched: bool,
    /// Its pairs that other workers have, as they were read.
    pub(crate) elsewhere: Vec<WorkRow>,
    /// The round in which due times were last found, unless it changed since.
    reviewed: Option<u64>,
    used: u64,
    /// The round in which it was last compared with the store.
    checked: u64,
}

impl Loaded {
    /// An entity of which nothing is written or told yet.
    fn new(entity: Entity, link: usize, version: u64, round: u64) -> Self {
        Self {
            entity,
            link,
            version,
            open: Vec::new(),
            questions: Vec::new(),
            tale: Tale::default(),
            touched: false,
            elsewhere: Vec::new(),
            reviewed: None,
            used: round,
            checked: round,
        }
    }
}

/// How an entity came into the cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// There is none.
    Nothing,
    /// It was here.
    Here,
    /// It was read, with these work rows.
    Read(Vec<WorkRow>),
}

/// Decoded entities.
#[derive(Debug)]
pub(crate) struct Cache {
    entities: HashMap<EntityId, Loaded, ahash::RandomState>,
    limit: usize,
    round: u64,
    /// Others write entities, too.
    shared: bool,
    /// What was compared with the store in this round.
    looked: Vec<EntityId>,
}

impl Cache {
    /// A cache of so many entities.
    pub(crate) fn new(limit: usize, shared: bool) -> Self {
        Self { entities: HashMap::default(), limit, round: 0, shared, looked: Vec::new() }
    }

    /// A new entity that the store does not have yet.
    pub(crate) fn insert(&mut self, id: EntityId, entity: Entity, link: usize) {
        let used = self.round;
        self.entities.insert(id, Loaded::new(entity, link, 0, used));
    }

    /// Reads an entity unless it is here as it stands. `place` names its link and counts its open deliveries.
    ///
    /// # Errors
    /// When the store fails or the document does not decode.
    pub(crate) fn load(
        &mut self,
        id: EntityId,
        store: &mut dyn Store,
        place: impl FnOnce(&Entity) -> (usize, Vec<(Share, i64)>),
    ) -> Result<Came, StoreError> {
        let round = self.round;
        let known = match self.entities.get(&id) {
            Some(loaded) if !self.shared || loaded.checked == round => return Ok(Came::Here),
            Some(loaded) => loaded.version,
            None => 0,
        };
        let EntityRow { version, doc, work } = match store.entity(id, known)? {
            Look::Nothing => {
                self.entities.remove(&id);
                return Ok(Came::Nothing);
            }
            Look::Same => {
                self.looked.push(id);
                self.entities.entry(id).and_modify(|loaded| loaded.checked = round);
                return Ok(Came::Here);
            }
            Look::Now(row) => row,
        };
        let entity = decode(id, &doc)?;
        let (link, open) = place(&entity);
        let (tale, questions) = (Tale::of(&entity), entity.questions.iter().map(|q| q.id).collect());
        let loaded = Loaded { open, questions, tale, ..Loaded::new(entity, link, version, round) };
        self.entities.insert(id, loaded);
        self.looked.push(id);
        Ok(Came::Read(work))
    }

    /// Entities that were compared with the store in this round, with the versions they had; only where others write.
    pub(crate) fn looked(&self) -> impl Iterator<Item = (EntityId, u64)> {
        let looked = self.looked.iter().filter(|_| self.shared);
        looked.filter_map(|id| self.entities.get(id).map(|loaded| (*id, loaded.version)))
    }

    /// Reads an entity anew at its next use.
    pub(crate) fn forget(&mut self, id: EntityId) {
        self.entities.remove(&id);
    }

    /// Forgets what this round looked at or used: nothing of it was kept.
    pub(crate) fn void_round(&mut self) {
        let round = self.round;
        self.entities.retain(|_, loaded| loaded.checked != round && loaded.used != round);
        self.looked.clear();
        self.round += 1;
    }

    /// An entity that is here.
    pub(crate) fn get_mut(&mut self, id: EntityId) -> Option<&mut Loaded> {
        let round = self.round;
        let loaded = self.entities.get_mut(&id)?;
        loaded.used = round;
        Some(loaded)
    }

    /// Its due times were found, and stand until it changes or the round ends.
    pub(crate) fn set_reviewed(&mut self, id: EntityId, reviewed: bool) {
        let round = self.round;
        if let Some(loaded) = self.entities.get_mut(&id) {
            loaded.reviewed = reviewed.then_some(round);
        }
    }

    /// Whether its due times stand.
    pub(crate) fn is_reviewed(&self, id: EntityId) -> bool {
        self.entities.get(&id).is_some_and(|loaded| loaded.reviewed == Some(self.round))
    }

    /// Ends a round: forgets the least recently used entities beyond the limit. Call it only after a commit.
    pub(crate) fn end_round(&mut self) {
        self.round += 1;
        self.looked.clear();
        if self.entities.len() <= self.limit {
            return;
        }
        let mut used: Vec<u64> = self.entities.values().map(|l| l.used).collect();
        let keep = (self.limit - self.limit / 8).max(1);
        let place = used.len() - keep;
        let (_, oldest_kept, _) = used.select_nth_unstable(place);
        let oldest_kept = *oldest_kept;
        self.entities.retain(|_, l| l.used >= oldest_kept);
    }
}

/// Writes a document.
///
/// # Errors
/// Only when the entity cannot be encoded, which its types do not allow.
pub(crate) fn encode(id: EntityId, entity: &Entity) -> Result<Vec<u8>, StoreError> {
    let mut doc = Vec::with_capacity(1024);
    doc.push(DOCUMENT);
    postcard::to_extend(entity, doc).map_err(|source| StoreError::Document { entity: id, source })
}

/// Reads a document.
///
/// # Errors
/// When it is of another version or damaged.
pub(crate) fn decode(id: EntityId, doc: &[u8]) -> Result<Entity, StoreError> {
    let damaged = |source| StoreError::Document { entity: id, source };
    match doc.split_first() {
        Some((&DOCUMENT, rest)) => postcard::from_bytes(rest).map_err(damaged),
        Some(_) | None => Err(damaged(postcard::Error::DeserializeBadVarint)),
    }
}

#[cfg(test)]
mod tests {
    use headgate_schemas::ObjectType;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_least_recently_used_go_first_and_the_smallest_limits_hold() {
        for (limit, left) in [(0, vec![3]), (1, vec![3]), (2, vec![2, 3]), (3, vec![1, 2, 3])] {
            let mut cache = Cache::new(limit, false);
            for id in 1..=3 {
                let entity = Entity::heard(Uuid::nil(), "acme", ObjectType::CONTACT, 1, "7", 0);
                cache.insert(id, entity, 0);
                cache.round += 1;
            }
            cache.end_round();
            let mut ids: Vec<_> = cache.entities.keys().copied().collect();
            ids.sort_unstable();
            assert_eq!(ids, left, "limit {limit}");
        }
    }
}
