//! Who did what: a row for each command of a person and each start of the program, written in the transaction of the
//! deed itself. Knows hashes of documents, never a value.

use headgate_schemas::Timestamp;

use crate::cache;
use crate::engine::Engine;
use crate::store::{AuditRow, EntityId, Key, StoreError, digest};

/// The name under which the program itself acts.
const PROGRAM: &str = "headgate";

/// What a person asks for.
#[derive(Clone, Debug)]
pub(crate) struct Deed<'a> {
    /// Who.
    pub(crate) who: &'a str,
    /// What, like `deadletter.retry`.
    pub(crate) what: &'a str,
    /// To what, like `deadletter/17`.
    pub(crate) subject: String,
}

impl Engine {
    /// Does something to an entity and writes down who did it, with hashes of the entity before and after.
    pub(crate) fn audited<R>(
        &mut self,
        deed: Deed<'_>,
        entity: EntityId,
        now: Timestamp,
        act: impl FnOnce(&mut Self) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let before = self.hash_of(entity)?;
        let result = act(self)?;
        let after = self.hash_of(entity)?;
        self.note_deed(deed, before, after, now);
        Ok(result)
    }

    /// Writes down that the program started with a configuration.
    pub(crate) fn note_start(&mut self, configuration: &str, now: Timestamp) {
        let deed = Deed { who: PROGRAM, what: "relay.start", subject: format!("epoch/{}", self.epoch) };
        self.note_deed(deed, None, Some(digest(configuration.as_bytes())), now);
    }

    pub(crate) fn note_deed(&mut self, deed: Deed<'_>, before: Option<Key>, after: Option<Key>, now: Timestamp) {
        let Deed { who, what, subject } = deed;
        let (who, what, at) = (who.to_owned(), what.to_owned(), now.micros());
        self.tick.unit.audit.push(AuditRow { at, who, what, subject, before, after });
    }

    fn hash_of(&mut self, id: EntityId) -> Result<Option<Key>, StoreError> {
        if !self.load(id)? {
            return Ok(None);
        }
        let Some(loaded) = self.cache.get_mut(id) else { return Ok(None) };
        Ok(Some(digest(&cache::encode(id, &loaded.entity)?)))
    }
}
