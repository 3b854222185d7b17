//! One unit as one transaction: all its rows are sent without waiting for answers in between, then what the answers say
//! is checked, then the sums are written and the transaction ends. Two round trips, whatever the unit holds.
//!
//! *Read committed* is enough, because nothing rests on an earlier read: an entity is written only in the version that
//! was read and looked at, keys pass only from the holder that was read, changes and outcomes have their unique keys, and
//! positions only rise. The sums come last, so that
//! the few rows that every unit writes are locked for the shortest time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use headgate_schemas::failpoint::pass;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::error::PostgresError;
use super::statements::Statements;
use super::trail::chain;
use crate::books::{Place, Sum};
use crate::entity::Outcome;
use crate::step;
use crate::store::trail::{CHAIN, encode};
use crate::store::{Committed, Counter, EntityId, EntityWrite, Key, KeyWrite, StoreError, Unit, WorkKey};

type Written = Result<(), PostgresError>;

/// The connection, and what is prepared on it.
#[derive(Clone, Copy)]
pub(super) struct Writer<'s> {
    pub(super) client: &'s Client,
    pub(super) statements: &'s Statements,
}

impl Writer<'_> {
    /// Writes a unit. After an error nothing of it stays, once the transaction was rolled back or the session dropped.
    pub(super) async fn commit(self, unit: &Unit) -> Result<Committed, StoreError> {
        let happened = unit.trail.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let rows = tokio::try_join!(
            biased;
            self.begin(),
            self.entities(&unit.entities),
            self.unchanged(&unit.unchanged),
            self.identity(unit),
            self.work(unit),
            self.asked(unit),
            self.lives(unit),
            self.trail(unit, &happened),
            self.outcomes(unit),
            self.letters(unit),
            self.positions(unit),
        )
        .map_err(contended)?;
        let ((), written, same, taken, (), (), (), (), committed, (), ()) = rows;
        let lost = unit.entities.iter().map(|e| e.id).find(|id| !written.contains(id));
        let moved = unit.unchanged.iter().map(|(id, _)| *id).find(|id| !same.contains(id));
        if let Some(entity) = lost.or(moved) {
            return Err(StoreError::Moved { entity });
        }
        if !taken {
            return Err(StoreError::Taken);
        }
        pass(step::WRITTEN);
        // Where a sum is refused, the server rolls back at the word COMMIT, and the refusal is what we return.
        tokio::try_join!(biased; self.sums(unit, &committed), self.counters(unit, &committed), self.end())
            .map_err(contended)?;
        Ok(committed)
    }

    async fn begin(self) -> Written {
        Ok(self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?)
    }

    async fn end(self) -> Written {
        Ok(self.client.batch_execute("COMMIT").await?)
    }

    /// Which entities could be written.
    async fn entities(self, writes: &[EntityWrite]) -> Result<HashSet<EntityId>, PostgresError> {
        let mut sorted: Vec<&EntityWrite> = writes.iter().collect();
        // In one order everywhere: two relays that write the same entities wait for each other in a row, not in a ring.
        sorted.sort_unstable_by_key(|e| e.id);
        let (written, touched): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|e| e.doc.is_some());
        let (new, known): (Vec<_>, Vec<_>) = written.into_iter().partition(|e| e.version == 0);
        let docs = |writes: &[&EntityWrite]| writes.iter().map(|e| e.doc.clone()).collect::<Vec<_>>();
        let ids = |writes: &[&EntityWrite]| writes.iter().map(|e| e.id).collect::<Vec<_>>();
        let versions = |writes: &[&EntityWrite]| writes.iter().map(|e| signed(e.version)).collect::<Vec<_>>();
        let (known_versions, touched_ids, touched_versions) = (versions(&known), ids(&touched), versions(&touched));
        let (new_ids, new_docs, known_ids, known_docs) = (ids(&new), docs(&new), ids(&known), docs(&known));
        let s = self.statements;
        let (made, changed, touched) = tokio::try_join!(
            biased;
            self.ids(new.len(), &s.make_entities, [&new_ids, &new_docs]),
            self.ids(known.len(), &s.change_entities, [&known_ids, &known_versions, &known_docs]),
            self.ids(touched.len(), &s.touch_entities, [&touched_ids, &touched_versions]),
        )?;
        Ok(made.into_iter().chain(changed).chain(touched).collect())
    }

    /// Which entities still have the version that was read.
    async fn unchanged(self, seen: &[(EntityId, u64)]) -> Result<HashSet<EntityId>, PostgresError> {
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        let (ids, versions) = unzip(seen.iter().map(|(id, version)| (*id, signed(*version))));
        Ok(self.ids(ids.len(), &self.statements.same_entities, [&ids, &versions]).await?.into_iter().collect())
    }

    /// Gives keys to their new holders. False when one of them had another holder than was read.
    async fn keys(self, keys: &[KeyWrite], by: [&Statement; 3]) -> Result<bool, PostgresError> {
        let of = |was: bool, now: bool| {
            keys.iter().filter(move |k| (k.was.is_some(), k.now.is_some()) == (was, now)).collect::<Vec<_>>()
        };
        let (put, pass_on, drop) = (of(false, true), of(true, true), of(true, false));
        let names = |keys: &[&KeyWrite]| keys.iter().map(|k| k.key.to_vec()).collect::<Vec<_>>();
        let was = |keys: &[&KeyWrite]| keys.iter().filter_map(|k| k.was).collect::<Vec<_>>();
        let now = |keys: &[&KeyWrite]| keys.iter().filter_map(|k| k.now).collect::<Vec<_>>();
        let (put_keys, put_now) = (names(&put), now(&put));
        let (pass_keys, pass_now, pass_was) = (names(&pass_on), now(&pass_on), was(&pass_on));
        let (drop_keys, drop_was) = (names(&drop), was(&drop));
        let (made, passed, dropped) = tokio::try_join!(
            biased;
            self.count(put.len(), by[0], [&put_keys, &put_now]),
            self.count(pass_on.len(), by[1], [&pass_keys, &pass_now, &pass_was]),
            self.count(drop.len(), by[2], [&drop_keys, &drop_was]),
        )?;
        Ok(made && passed && dropped)
    }

    /// False when a key had another holder than was read.
    async fn identity(self, unit: &Unit) -> Result<bool, PostgresError> {
        let s = self.statements;
        let (changes, times) = unzip(unit.changes.iter().map(|(key, at)| (key.to_vec(), *at)));
        let again = bytes(&unit.repeats);
        let (members, claims, (), ()) = tokio::try_join!(
            biased;
            self.keys(&unit.members, [&s.put_members, &s.pass_members, &s.drop_members]),
            self.keys(&unit.claims, [&s.put_claims, &s.pass_claims, &s.drop_claims]),
            self.rows(changes.len(), &s.put_changes, [&changes, &times]),
            self.rows(again.len(), &s.count_repeats, [&again]),
        )?;
        Ok(members && claims)
    }

    async fn work(self, unit: &Unit) -> Written {
        let mut work: Vec<_> = last(unit.work.iter().map(|w| (w.key, *w))).map(|(_, w)| w).collect();
        work.sort_unstable_by_key(|w| order(w.key));
        let mut done = unit.done.clone();
        done.sort_unstable_by_key(|key| order(*key));
        let columns = (
            work.iter().map(|w| number(w.key.target)).collect::<Vec<_>>(),
            work.iter().map(|w| w.key.entity).collect::<Vec<_>>(),
            work.iter().map(|w| w.due).collect::<Vec<_>>(),
            work.iter().map(|w| i64::from(w.attempts)).collect::<Vec<_>>(),
            work.iter().map(|w| signed(w.owner)).collect::<Vec<_>>(),
            work.iter().map(|w| w.until).collect::<Vec<_>>(),
        );
        let (targets, entities) = unzip(done.iter().map(|key| (number(key.target), key.entity)));
        let c = &columns;
        tokio::try_join!(
            biased;
            self.rows(work.len(), &self.statements.put_work, [&c.0, &c.1, &c.2, &c.3, &c.4, &c.5]),
            self.rows(done.len(), &self.statements.drop_work, [&targets, &entities]),
        )?;
        Ok(())
    }

    async fn asked(self, unit: &Unit) -> Written {
        let s = self.statements;
        let q = &unit.questions;
        let (ids, entities) = unzip(q.iter().map(|q| (q.id, q.entity)));
        let (tenants, links) = unzip(q.iter().map(|q| (q.tenant.as_str(), q.link.as_str())));
        let (kinds, subjects) = unzip(q.iter().map(|q| (q.kind.as_str(), q.subject.as_str())));
        let since: Vec<i64> = q.iter().map(|q| q.since).collect();
        let ends: Vec<_> = first(unit.ended_questions.iter().map(|(id, end)| (*id, end))).collect();
        let (ended, at) = unzip(ends.iter().map(|(id, end)| (*id, end.at)));
        let (by, choices) = unzip(ends.iter().map(|(_, end)| (end.by.as_str(), end.choice.as_str())));
        tokio::try_join!(
            biased;
            self.rows(q.len(), &s.put_questions, [&ids, &entities, &tenants, &links, &kinds, &subjects, &since]),
            self.rows(ends.len(), &s.end_questions, [&ended, &at, &by, &choices]),
            self.decisions(unit),
        )?;
        Ok(())
    }

    async fn decisions(self, unit: &Unit) -> Written {
        let d = &unit.decisions;
        let (at, entities) = unzip(d.iter().map(|d| (d.at, d.entity)));
        let (fields, rules) = unzip(d.iter().map(|d| (d.field.as_str(), d.rule.as_str())));
        let (rulings, authors) = unzip(d.iter().map(|d| (d.ruling.as_str(), d.author.as_str())));
        let (edit_by, force_by) = unzip(d.iter().map(|d| (number(d.edit.0), number(d.force.0))));
        let (edit_lo, edit_hi) = unzip(d.iter().map(|d| (d.edit.1, d.edit.2)));
        let (force_lo, force_hi) = unzip(d.iter().map(|d| (d.force.1, d.force.2)));
        let changes: Vec<_> = d.iter().map(|d| d.change.as_ref().map(|c| c.as_bytes().to_vec())).collect();
        let values: Vec<&[u8]> = d.iter().map(|d| d.values.as_slice()).collect();
        let columns: [&(dyn ToSql + Sync); 14] = [
            &at, &entities, &fields, &rules, &rulings, &edit_by, &edit_lo, &edit_hi, &force_by, &force_lo, &force_hi,
            &authors, &changes, &values,
        ];
        self.rows(d.len(), &self.statements.put_decisions, columns).await
    }

    async fn lives(self, unit: &Unit) -> Written {
        let s = self.statements;
        let (on, off): (Vec<_>, Vec<_>) =
            last(unit.hints.iter().map(|(key, entity, on)| ((key, *entity), *on))).partition(|(_, on)| *on);
        let (put, of) = unzip(on.iter().map(|((key, entity), _)| (key.as_slice(), *entity)));
        let (drop, from) = unzip(off.iter().map(|((key, entity), _)| (key.as_slice(), *entity)));
        let (links, at) = unzip(unit.goings.iter().map(|(link, at)| (link.as_str(), *at)));
        let (sized, by) = unzip(added(unit.sizes.iter().map(|(link, n)| (link.as_str(), *n))));
        let (stones, times) = unzip(last(unit.tombstones.iter().map(|(key, at)| (key.to_vec(), *at))));
        let forgotten: Vec<EntityId> = unit.forgotten.iter().map(|f| f.entity).collect();
        let lost = forgotten.len();
        tokio::try_join!(
            biased;
            self.rows(drop.len(), &s.drop_hints, [&drop, &from]),
            self.rows(put.len(), &s.put_hints, [&put, &of]),
            self.rows(links.len(), &s.put_goings, [&links, &at]),
            self.rows(unit.released.len(), &s.drop_goings, [&unit.released]),
            self.rows(sized.len(), &s.put_sizes, [&sized, &by]),
            self.rows(stones.len(), &s.put_tombstones, [&stones, &times]),
            self.rows(lost, &s.forget_decisions, [&forgotten]),
            self.rows(lost, &s.forget_letters, [&forgotten]),
            self.rows(lost, &s.forget_hints, [&forgotten]),
            self.rows(lost, &s.forget_questions, [&forgotten]),
        )?;
        Ok(())
    }

    async fn trail(self, unit: &Unit, happened: &[Vec<u8>]) -> Written {
        let s = self.statements;
        // Only the erasing of a person waits for answers here: a chain is followed from row to row.
        for forgotten in &unit.forgotten {
            let rows = chain(self.client, (forgotten.trail, forgotten.entity), 0, CHAIN).await?;
            let (at, of) = unzip(rows.iter().map(|row| (row.at, row.entity)));
            self.rows(rows.len(), &s.drop_trail, [&at, &of]).await?;
        }
        let (at, entities) = unzip(unit.trail.iter().map(|t| (t.at, t.entity)));
        let previous: Vec<i64> = unit.trail.iter().map(|t| t.previous).collect();
        self.rows(at.len(), &s.put_trail, [&at, &entities, &previous, &happened]).await
    }

    /// Writes outcomes and counts those that are new.
    async fn outcomes(self, unit: &Unit) -> Result<Committed, PostgresError> {
        let mut committed = Committed::default();
        let o = &unit.outcomes;
        if o.is_empty() {
            return Ok(committed);
        }
        let (accepted, changes) = unzip(o.iter().map(|o| (o.accepted, o.change.as_bytes().to_vec())));
        let (targets, links) = unzip(o.iter().map(|o| (number(o.place.target), number(o.place.link))));
        let (entities, previous) = unzip(o.iter().map(|o| (o.entity, o.previous)));
        let kinds: Vec<i16> = o.iter().map(|o| i16::from(o.outcome as u8)).collect();
        let (at, took) = unzip(o.iter().map(|o| (o.at, o.took)));
        let columns: [&(dyn ToSql + Sync); 9] =
            [&accepted, &changes, &targets, &links, &entities, &previous, &kinds, &at, &took];
        let kept = self.client.query(&self.statements.put_outcomes, &columns).await?;
        for row in &kept {
            let place = Place { link: unsigned(row.try_get(0)?), target: unsigned(row.try_get(1)?) };
            let kind: i16 = row.try_get(2)?;
            if let Some(outcome) = Outcome::ALL.into_iter().find(|o| i16::from(*o as u8) == kind) {
                committed.count(place, outcome);
            }
        }
        committed.doubled = i64::try_from(o.len() - kept.len()).unwrap_or(i64::MAX);
        Ok(committed)
    }

    async fn letters(self, unit: &Unit) -> Written {
        let d = &unit.dead_letters;
        let (entities, targets) = unzip(d.iter().map(|d| (d.entity, number(d.target))));
        let (at, codes) = unzip(d.iter().map(|d| (d.at, d.code.as_str())));
        let (messages, fields) = unzip(d.iter().map(|d| (d.message.as_slice(), d.fields.join(","))));
        let closed: Vec<_> = first(unit.closed_letters.iter().map(|c| (c.id, c))).collect();
        let (ids, times) = unzip(closed.iter().map(|(id, c)| (*id, c.at)));
        let states: Vec<&str> = closed.iter().map(|(_, c)| if c.again { "retried" } else { "skipped" }).collect();
        let a = &unit.audit;
        let (done, who) = unzip(a.iter().map(|a| (a.at, a.who.as_str())));
        let (what, subjects) = unzip(a.iter().map(|a| (a.what.as_str(), a.subject.as_str())));
        let (before, after) = unzip(a.iter().map(|a| (a.before.map(Vec::from), a.after.map(Vec::from))));
        let s = self.statements;
        tokio::try_join!(
            biased;
            self.rows(d.len(), &s.put_letters, [&entities, &targets, &at, &codes, &messages, &fields]),
            self.rows(closed.len(), &s.close_letters, [&ids, &states, &times]),
            self.rows(a.len(), &s.put_audit, [&done, &who, &what, &subjects, &before, &after]),
        )?;
        Ok(())
    }

    async fn positions(self, unit: &Unit) -> Written {
        let mut at: BTreeMap<i64, i64> = BTreeMap::new();
        for p in &unit.positions {
            let offset = i64::try_from(p.offset).unwrap_or(i64::MAX);
            at.entry(i64::from(p.partition)).and_modify(|o| *o = offset.max(*o)).or_insert(offset);
        }
        let (parts, offsets) = unzip(at.into_iter());
        self.rows(parts.len(), &self.statements.put_positions, [&parts, &offsets]).await
    }

    async fn sums(self, unit: &Unit, committed: &Committed) -> Written {
        let due = unit.due.iter().map(|(place, n)| (*place, Sum::Due, *n));
        let ended = committed.ended.iter().map(|(place, outcome, n)| (*place, Sum::Ended(*outcome), *n));
        let key = |place: Place, what: Sum| (number(place.link), number(place.target), i16::from(what.number()));
        let sums: Vec<_> = added(due.chain(ended).map(|(place, what, n)| (key(place, what), n))).collect();
        let (links, targets) = unzip(sums.iter().map(|((link, target, _), _)| (*link, *target)));
        let (what, n) = unzip(sums.iter().map(|((_, _, what), n)| (*what, *n)));
        self.rows(sums.len(), &self.statements.put_sums, [&links, &targets, &what, &n]).await
    }

    async fn counters(self, unit: &Unit, committed: &Committed) -> Written {
        let doubled = (committed.doubled > 0).then_some((Counter::Doubled, committed.doubled));
        let counts = unit.counters.iter().copied().chain(doubled);
        let (names, n) = unzip(added(counts.map(|(counter, n)| (i16::from(counter as u8), n))));
        self.rows(names.len(), &self.statements.put_counters, [&names, &n]).await
    }

    async fn rows<const N: usize>(
        self,
        rows: usize,
        statement: &Statement,
        columns: [&(dyn ToSql + Sync); N],
    ) -> Written {
        if rows > 0 {
            self.client.execute(statement, &columns).await?;
        }
        Ok(())
    }

    /// Whether a statement touched as many rows as it was given.
    async fn count<const N: usize>(
        self,
        rows: usize,
        statement: &Statement,
        columns: [&(dyn ToSql + Sync); N],
    ) -> Result<bool, PostgresError> {
        Ok(rows == 0 || u64::try_from(rows) == Ok(self.client.execute(statement, &columns).await?))
    }

    async fn ids<const N: usize>(
        self,
        rows: usize,
        statement: &Statement,
        columns: [&(dyn ToSql + Sync); N],
    ) -> Result<Vec<EntityId>, PostgresError> {
        if rows == 0 {
            return Ok(Vec::new());
        }
        let rows = self.client.query(statement, &columns).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// Two relays in each other's way void the unit of one of them, as a moved entity does.
fn contended(error: PostgresError) -> StoreError {
    if error.is_contention() || error.is_taken() { StoreError::Taken } else { error.into() }
}

/// As PostgreSQL counts: it has no unsigned numbers.
fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Numbers of connections and links are given by this database and fit.
pub(super) fn number(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(super) fn unsigned(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

fn order(key: WorkKey) -> (EntityId, u32) {
    (key.entity, key.target)
}

fn bytes(keys: &[Key]) -> Vec<&[u8]> {
    keys.iter().map(Key::as_slice).collect()
}

fn unzip<A, B>(rows: impl Iterator<Item = (A, B)>) -> (Vec<A>, Vec<B>) {
    rows.unzip()
}

/// One row for each key, the last one given: a statement may write a row once only.
fn last<K: Eq + Hash + Clone, V>(rows: impl Iterator<Item = (K, V)>) -> impl Iterator<Item = (K, V)> {
    rows.collect::<HashMap<K, V>>().into_iter()
}

/// One row for each key, the first one given.
fn first<K: Eq + Hash + Clone, V>(rows: impl Iterator<Item = (K, V)>) -> impl Iterator<Item = (K, V)> {
    let mut kept = HashMap::new();
    for (key, value) in rows {
        kept.entry(key).or_insert(value);
    }
    kept.into_iter()
}

/// One row for each key, with the sum, in the order of the keys.
fn added<K: Ord>(rows: impl Iterator<Item = (K, i64)>) -> impl Iterator<Item = (K, i64)> {
    let mut sums = BTreeMap::new();
    for (key, n) in rows {
        *sums.entry(key).or_insert(0) += n;
    }
    sums.into_iter()
}
