//! One unit as one transaction: all its rows are sent without waiting for answers in between, then what the answers say
//! is checked, then the sums are written and the transaction ends. Two round trips, whatever the unit holds.
//!
//! *Read committed* is enough, because nothing rests on an earlier read: each row that the unit relies on is locked and
//! checked by the statement that writes it, or locked for sharing where it stays: the worker's lease, entities by their
//! version, keys by their holder, positions by their partition's holder. Two units that would void each other wait for
//! each other, and the server ends one. The sums come last, so that the few rows that every unit writes are locked for
//! the shortest time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use headgate_schemas::failpoint::pass;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::error::PostgresError;
use super::rows::at;
use super::statements::Statements;
use super::trail::chain;
use super::workers::holds;
use crate::books::{Place, Share, Sum};
use crate::entity::Outcome;
use crate::step;
use crate::store::trail::{CHAIN, encode};
use crate::store::{CANDIDATES, Committed, Counter, EntityId, EntityWrite, Key, KeyWrite, StoreError, Unit, WorkKey};

type Written = Result<(), StoreError>;

/// The connection, and what is prepared on it.
#[derive(Clone, Copy)]
pub(super) struct Writer<'s> {
    pub(super) client: &'s Client,
    pub(super) statements: &'s Statements,
    /// Others write at the same time, so that what is not there must be guarded, too.
    pub(super) shared: bool,
    /// The transaction has begun, and holds the others off.
    pub(super) holds: bool,
}

impl Writer<'_> {
    /// Writes a unit for a worker. After an error nothing of it stays, once the transaction was rolled back or the
    /// session dropped.
    pub(super) async fn commit(self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        let happened = unit.trail.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let erased = self.chains(unit).await?;
        let rows = tokio::try_join!(
            biased;
            async { Ok(self.begin().await?) },
            self.lease(epoch, now),
            self.guard(unit),
            self.positions(epoch, unit),
            self.entities(unit),
            self.keys(unit),
            self.hinted(unit),
            self.changes(unit),
            self.work(unit),
            self.asked(unit),
            self.lives(unit),
            self.trail(unit, &happened, &erased),
            self.outcomes(unit),
            self.letters(unit),
            self.kept(unit),
        );
        let ((), (), (), moved, written, keys, hints, changes, (), (), (), (), committed, (), ()) =
            rows.map_err(contended)?;
        if let Some(lost) = unit.positions.iter().find(|p| !moved.contains(&i64::from(p.partition))) {
            return Err(StoreError::PartitionLost { partition: lost.partition });
        }
        let mut relied = unit.entities.iter().map(|e| e.id).chain(unit.unchanged.iter().map(|(id, _)| *id));
        if let Some(entity) = relied.find(|id| !written.contains(id)) {
            return Err(StoreError::Moved { entity });
        }
        if !keys || !hints || !changes {
            return Err(StoreError::Taken);
        }
        pass(step::WRITTEN);
        // Where a sum is refused, the server rolls back at the word COMMIT, and the refusal is what we return.
        let (sums, counters) = (self.sums(unit, &committed), self.counters(unit, &committed));
        tokio::try_join!(biased; sums, self.open(&unit.open), counters, self.end()).map_err(contended)?;
        Ok(committed)
    }

    /// Begins the transaction, unless it has begun, and waits while another worker holds the others off.
    async fn begin(self) -> Result<(), PostgresError> {
        if self.holds {
            return Ok(());
        }
        let begin = async { Ok(self.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?) };
        tokio::try_join!(biased; begin, self.rows(usize::from(self.shared), &self.statements.pass, []))?;
        Ok(())
    }

    async fn end(self) -> Written {
        Ok(self.client.batch_execute("COMMIT").await.map_err(PostgresError::from)?)
    }

    async fn lease(self, epoch: u64, now: i64) -> Written {
        let row =
            self.client.query_opt(&self.statements.lease, &[&signed(epoch)]).await.map_err(PostgresError::from)?;
        holds(row.as_ref(), epoch, now)
    }

    /// Holds everybody off who makes, or found nothing under, one of the keys that this unit makes or found nothing
    /// under: a row that is not there cannot be locked.
    async fn guard(self, unit: &Unit) -> Written {
        if !self.shared {
            return Ok(());
        }
        let held = unit.members.iter().chain(&unit.claims).filter(|key| key.was.is_none()).map(|key| key.key);
        let hints = unit.hints.iter().map(|(key, ..)| *key).chain(unit.hinted.iter().map(|(key, _)| *key));
        let number = |key: Key| i64::from_le_bytes(std::array::from_fn(|byte| key[byte]));
        let numbers: Vec<i64> = held.chain(hints).map(number).collect::<BTreeSet<_>>().into_iter().collect();
        self.rows(numbers.len(), &self.statements.guard, [&numbers]).await?;
        Ok(())
    }

    /// Whether all weak keys still have the entities that were read.
    async fn hinted(self, unit: &Unit) -> Result<bool, StoreError> {
        if unit.hinted.is_empty() {
            return Ok(true);
        }
        let (keys, known) = unzip(unit.hinted.iter().map(|(key, known)| (key.as_slice(), known)));
        let rows = self
            .client
            .query(&self.statements.hints, &[&keys, &i64::from(CANDIDATES)])
            .await
            .map_err(PostgresError::from)?;
        let there = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Vec<EntityId>>, _>>();
        Ok(there.map_err(PostgresError::from)?.iter().eq(known))
    }

    /// Which entities could be written, or stand as they were read.
    async fn entities(self, unit: &Unit) -> Result<HashSet<EntityId>, StoreError> {
        let mut new = (Vec::new(), Vec::new());
        let mut changed = (Vec::new(), Vec::new(), Vec::new());
        let mut touched = (Vec::new(), Vec::new());
        let mut sorted: Vec<&EntityWrite> = unit.entities.iter().collect();
        // In one order everywhere: two relays that write the same entities wait for each other in a row, not in a ring.
        sorted.sort_unstable_by_key(|e| e.id);
        for e in sorted {
            match (signed(e.version), &e.doc) {
                (0, Some(doc)) => {
                    new.0.push(e.id);
                    new.1.push(doc.as_slice());
                }
                (version, Some(doc)) => {
                    changed.0.push(e.id);
                    changed.1.push(version);
                    changed.2.push(doc.as_slice());
                }
                (version, None) => {
                    touched.0.push(e.id);
                    touched.1.push(version);
                }
            }
        }
        let (looked, seen) = unzip(unit.unchanged.iter().map(|(id, version)| (*id, signed(*version))));
        // Of those that work at the same time each waits for the other's end, and not for the server to find the ring.
        let mut relied: Vec<EntityId> = [&changed.0, &touched.0, &looked].into_iter().flatten().copied().collect();
        relied.retain(|_| self.shared);
        let s = self.statements;
        let (_, a, b, c, d) = tokio::try_join!(
            biased;
            self.rows(relied.len(), &s.lock_entities, [&relied]),
            self.ids(new.0.len(), &s.make_entities, [&new.0, &new.1]),
            self.ids(changed.0.len(), &s.change_entities, [&changed.0, &changed.1, &changed.2]),
            self.ids(touched.0.len(), &s.touch_entities, [&touched.0, &touched.1]),
            self.ids(looked.len(), &s.same_entities, [&looked, &seen]),
        )?;
        Ok([a, b, c, d].into_iter().flatten().collect())
    }

    /// Whether all keys had the holders that were read.
    async fn keys(self, unit: &Unit) -> Result<bool, StoreError> {
        let s = self.statements;
        let (same_members, same_claims, members, claims) = tokio::try_join!(
            biased;
            self.stay(&unit.members, [&s.find_members, &s.same_members]),
            self.stay(&unit.claims, [&s.find_claims, &s.same_claims]),
            self.pass_on(&unit.members, [&s.put_members, &s.pass_members, &s.drop_members]),
            self.pass_on(&unit.claims, [&s.put_claims, &s.pass_claims, &s.drop_claims]),
        )?;
        Ok(same_members && same_claims && members && claims)
    }

    /// Whether what was only asked about is as it was.
    async fn stay(self, keys: &[KeyWrite], [find, same]: [&Statement; 2]) -> Result<bool, PostgresError> {
        let stays = || keys.iter().filter(|key| key.was == key.now);
        let absent: Vec<_> = stays().filter(|k| k.was.is_none()).map(|k| k.key.to_vec()).collect();
        let (held, holders) = unzip(stays().filter_map(|k| Some((k.key.to_vec(), k.was?))));
        let rows = tokio::try_join!(
            biased;
            self.rows(absent.len(), find, [&absent]),
            self.rows(held.len(), same, [&held, &holders]),
        )?;
        Ok(rows == (0, held.len()))
    }

    async fn pass_on(self, keys: &[KeyWrite], [put, pass, drop]: [&Statement; 3]) -> Result<bool, PostgresError> {
        let of = |of: fn(&KeyWrite) -> bool| keys.iter().filter(move |key| of(key));
        let key = |key: &KeyWrite| key.key.to_vec();
        let taken = of(|k| k.was.is_none() && k.now.is_some());
        let (taken, holders) = unzip(taken.map(|k| (key(k), k.now)));
        let given = of(|k| k.was.is_some() && k.now.is_none());
        let (given, from) = unzip(given.map(|k| (key(k), k.was)));
        let passed = of(|k| k.was.is_some() && k.now.is_some() && k.was != k.now);
        let (passed, holders_of) = unzip(passed.map(|k| (key(k), (k.was, k.now))));
        let (were, are) = unzip(holders_of.into_iter());
        let rows = tokio::try_join!(
            biased;
            self.rows(given.len(), drop, [&given, &from]),
            self.rows(passed.len(), pass, [&passed, &were, &are]),
            self.rows(taken.len(), put, [&taken, &holders]),
        )?;
        Ok(rows == (given.len(), passed.len(), taken.len()))
    }

    /// Whether all changes were taken for the first time.
    async fn changes(self, unit: &Unit) -> Result<bool, StoreError> {
        let (changes, times) = unzip(unit.changes.iter().map(|(key, at)| (key.as_slice(), *at)));
        let again = bytes(&unit.repeats);
        let s = self.statements;
        let (new, _) = tokio::try_join!(
            biased;
            self.rows(changes.len(), &s.put_changes, [&changes, &times]),
            self.rows(again.len(), &s.count_repeats, [&again]),
        )?;
        Ok(new == changes.len())
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

    async fn kept(self, unit: &Unit) -> Written {
        let rows = last(unit.kept.iter().map(|row| ((row.shelf, row.name.as_str()), row.value.as_deref())));
        let (mut put, mut gone) = ((Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for ((shelf, name), value) in rows {
            match value {
                Some(value) => {
                    put.0.push(shelf.number());
                    put.1.push(name);
                    put.2.push(value);
                }
                None => {
                    gone.0.push(shelf.number());
                    gone.1.push(name);
                }
            }
        }
        self.rows(put.0.len(), &self.statements.put_kept, [&put.0, &put.1, &put.2]).await?;
        self.rows(gone.0.len(), &self.statements.drop_kept, [&gone.0, &gone.1]).await?;
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

    async fn decisions(self, unit: &Unit) -> Result<usize, PostgresError> {
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

    /// The trails that an erasing drops. They are followed from row to row, so they are read ahead of the transaction:
    /// a row of a trail never changes, and one that is added meanwhile comes with a version that voids this unit.
    async fn chains(self, unit: &Unit) -> Result<Vec<(i64, EntityId)>, StoreError> {
        let mut erased = Vec::new();
        for forgotten in &unit.forgotten {
            let rows = chain(self.client, (forgotten.trail, forgotten.entity), 0, CHAIN).await?;
            erased.extend(rows.iter().map(|row| (row.at, row.entity)));
        }
        Ok(erased)
    }

    async fn trail(self, unit: &Unit, happened: &[Vec<u8>], erased: &[(i64, EntityId)]) -> Written {
        let (dropped, of) = unzip(erased.iter().copied());
        let (at, entities) = unzip(unit.trail.iter().map(|t| (t.at, t.entity)));
        let previous: Vec<i64> = unit.trail.iter().map(|t| t.previous).collect();
        tokio::try_join!(
            biased;
            self.rows(dropped.len(), &self.statements.drop_trail, [&dropped, &of]),
            self.rows(at.len(), &self.statements.put_trail, [&at, &entities, &previous, &happened]),
        )?;
        Ok(())
    }

    /// Writes outcomes and counts those that are new.
    async fn outcomes(self, unit: &Unit) -> Result<Committed, StoreError> {
        let mut committed = Committed::default();
        let o = &unit.outcomes;
        if o.is_empty() {
            return Ok(committed);
        }
        let (accepted, changes) = unzip(o.iter().map(|o| (o.accepted, o.change.as_bytes().to_vec())));
        let (targets, links) = unzip(o.iter().map(|o| (number(o.place.target), number(o.place.link))));
        let (entities, previous) = unzip(o.iter().map(|o| (o.entity, o.previous)));
        let kinds: Vec<i16> = o.iter().map(|o| i16::from(o.outcome as u8)).collect();
        let (ended, took) = unzip(o.iter().map(|o| (o.at, o.took)));
        let columns: [&(dyn ToSql + Sync); 9] =
            [&accepted, &changes, &targets, &links, &entities, &previous, &kinds, &ended, &took];
        let kept = self.client.query(&self.statements.put_outcomes, &columns).await.map_err(PostgresError::from)?;
        for row in &kept {
            let place = Place { link: unsigned(at(row, 0)?), target: unsigned(at(row, 1)?) };
            let kind: i16 = at(row, 2)?;
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

    /// The partitions whose positions could be moved.
    async fn positions(self, epoch: u64, unit: &Unit) -> Result<HashSet<i64>, StoreError> {
        let mut at: BTreeMap<i64, i64> = BTreeMap::new();
        for p in &unit.positions {
            let offset = signed(p.offset);
            at.entry(i64::from(p.partition)).and_modify(|o| *o = offset.max(*o)).or_insert(offset);
        }
        let (parts, offsets) = unzip(at.into_iter());
        let epoch = signed(epoch);
        let moved = self.ids(parts.len(), &self.statements.move_positions, [&parts, &offsets, &epoch]).await?;
        Ok(moved.into_iter().collect())
    }

    async fn sums(self, unit: &Unit, committed: &Committed) -> Written {
        let due = unit.due.iter().map(|(place, n)| (*place, Sum::Due, *n));
        let ended = committed.ended.iter().map(|(place, outcome, n)| (*place, Sum::Ended(*outcome), *n));
        let key = |place: Place, what: Sum| (number(place.link), number(place.target), i16::from(what.number()));
        let sums: Vec<_> = added(due.chain(ended).map(|(place, what, n)| (key(place, what), n))).collect();
        let (links, targets) = unzip(sums.iter().map(|((link, target, _), _)| (*link, *target)));
        let (what, n) = unzip(sums.iter().map(|((_, _, what), n)| (*what, *n)));
        self.rows(sums.len(), &self.statements.put_sums, [&links, &targets, &what, &n]).await?;
        Ok(())
    }

    /// Adds to what is open.
    pub(super) async fn open(self, open: &[(Share, i64)]) -> Written {
        let key = |Share { place, at, held }| (number(place.link), number(place.target), number(at), held);
        let sums: Vec<_> = added(open.iter().map(|(share, n)| (key(*share), *n))).filter(|(_, n)| *n != 0).collect();
        let (links, targets) = unzip(sums.iter().map(|((link, target, ..), _)| (*link, *target)));
        let (at, held) = unzip(sums.iter().map(|((.., at, held), _)| (*at, *held)));
        let n: Vec<i64> = sums.iter().map(|(_, n)| *n).collect();
        self.rows(sums.len(), &self.statements.put_open, [&links, &targets, &at, &held, &n]).await?;
        Ok(())
    }

    async fn counters(self, unit: &Unit, committed: &Committed) -> Written {
        let doubled = (committed.doubled > 0).then_some((Counter::Doubled, committed.doubled));
        let counts = unit.counters.iter().copied().chain(doubled);
        let (names, n) = unzip(added(counts.map(|(counter, n)| (i16::from(counter as u8), n))));
        self.rows(names.len(), &self.statements.put_counters, [&names, &n]).await?;
        Ok(())
    }

    async fn rows<const N: usize>(
        self,
        rows: usize,
        statement: &Statement,
        columns: [&(dyn ToSql + Sync); N],
    ) -> Result<usize, PostgresError> {
        if rows == 0 {
            return Ok(0);
        }
        Ok(usize::try_from(self.client.execute(statement, &columns).await?).unwrap_or(usize::MAX))
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

/// Two relays in each other's way void the unit of one of them, as a key does that another was first to take.
pub(super) fn contended(error: StoreError) -> StoreError {
    match error {
        StoreError::Postgres(error) if error.is_contention() || error.is_locked_out() => StoreError::Taken,
        other => other,
    }
}

/// As PostgreSQL counts: it has no unsigned numbers.
pub(super) fn signed(n: u64) -> i64 {
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
