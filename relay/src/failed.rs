//! Failures: of a whole call, and of one item. The disposition says what to do, and nothing else is looked at.
//!
//! | disposition | what becomes of the pair |
//! |---|---|
//! | retry, rate, reauthorise | nothing was applied: again after backoff, when the limit opens, when the credentials work |
//! | unknown | a write becomes unknown and is read back before any other |
//! | conflict, gone | the record is read, then decided again; a few rounds, then refused |
//! | permanent | kept with its reason; the fields at fault are left at this revision, the rest goes on |

use std::time::Duration;

use headgate_schemas::Timestamp;

use crate::config::Guard;
use crate::delivery::backoff;
use crate::engine::{CallId, Engine, Flight, Step};
use crate::entity::Entity;
use crate::entity::write::Answer;
use crate::metrics;
use crate::store::{DeadLetter, EntityId, StoreError, WorkKey};
use crate::target::{Disposition, TargetError};
use crate::trail::Answer as Told;
use crate::work::Pair;

/// A call that says that the whole of it can never succeed is tried again so late when it cannot be split further.
const BLOCKED: Duration = Duration::from_secs(300);
/// Conflicts of one write in a row before it counts as refused for good.
const CONFLICT_ROUNDS: u32 = 3;
/// The same under a strict guard, where each one is somebody's edit.
const STRICT_ROUNDS: u32 = 20;

impl Engine {
    /// The whole call failed.
    pub(crate) fn settle_failed(
        &mut self,
        id: CallId,
        mut flight: Flight,
        error: &TargetError,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.line_failed(&flight, error, now);
        let split = matches!(error.disposition(), Disposition::Permanent | Disposition::Gone | Disposition::Conflict);
        if split && flight.pairs.len() > 1 {
            let pack = flight.pairs.len().div_ceil(2);
            for (entity, intent) in flight.pairs.clone() {
                let key = WorkKey { target: flight.connection, entity };
                self.told(entity, &flight, intent, Told::Again(error.code.as_str().into()));
                self.free(key, now, |pair| Pair { pack, due: now.micros(), ..pair });
                self.answer(entity, &flight, intent, &Answer::NotApplied, now)?;
            }
            return Ok(());
        }
        for (entity, intent) in flight.pairs.clone() {
            let key = WorkKey { target: flight.connection, entity };
            self.item_failed(key, &flight, intent, error, now)?;
        }
        if *error.disposition() == Disposition::Unknown
            && matches!(flight.step, Step::Create | Step::Update | Step::Delete)
        {
            flight.given_up = true;
            self.flights.insert(id, flight);
        }
        Ok(())
    }

    fn line_failed(&mut self, flight: &Flight, error: &TargetError, now: Timestamp) {
        let Some(line) = self.lines.get_mut(&flight.connection) else { return };
        match error.disposition() {
            Disposition::Retry | Disposition::Unknown => {
                if line.on_failure(Timestamp::from_micros(flight.opened), now) {
                    tracing::warn!(connection = line.name, code = error.code, "the CRM fails; calls are held back");
                }
            }
            Disposition::Rate { wait } => {
                line.on_rate(now, *wait);
                let wait_s = wait.as_secs();
                tracing::warn!(
                    connection = line.name,
                    code = error.code,
                    wait_s,
                    "a limit of the CRM is reached; calls wait"
                );
            }
            Disposition::Reauthorise => {
                if line.on_unauthorised(now) {
                    tracing::error!(
                        connection = line.name,
                        code = error.code,
                        "the CRM refuses the credentials; the connection is parked until they work"
                    );
                }
            }
            Disposition::Conflict | Disposition::Gone | Disposition::Permanent => {
                line.on_success(now);
            }
        }
    }

    /// One item failed, or the whole call for it.
    pub(crate) fn item_failed(
        &mut self,
        key: WorkKey,
        flight: &Flight,
        intent: u32,
        error: &TargetError,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.count_retry(flight.connection, error);
        let writes = matches!(flight.step, Step::Create | Step::Update | Step::Delete);
        match error.disposition() {
            Disposition::Retry | Disposition::Rate { .. } | Disposition::Reauthorise => {
                let counts = *error.disposition() == Disposition::Retry;
                self.again(key, counts, now);
                if writes {
                    self.told(key.entity, flight, intent, Told::Again(error.code.as_str().into()));
                }
                self.answer(key.entity, flight, intent, &Answer::NotApplied, now)
            }
            Disposition::Unknown if writes => {
                self.again(key, true, now);
                self.told(key.entity, flight, intent, Told::Unknown);
                self.give_up(key.entity, flight, intent, now)
            }
            Disposition::Unknown => {
                self.again(key, true, now);
                Ok(())
            }
            Disposition::Conflict if matches!(flight.step, Step::Update | Step::Delete) => {
                self.moved(key, flight, intent, error, now)
            }
            Disposition::Gone if flight.step == Step::Update => {
                // A read decides whether it is gone.
                self.again(key, true, now);
                self.told(key.entity, flight, intent, Told::Missing);
                self.answer(key.entity, flight, intent, &Answer::Refused, now)
            }
            Disposition::Gone if flight.step == Step::Read => {
                self.succeeded(key, now);
                self.told(key.entity, flight, 0, Told::Missing);
                self.missing(key.entity, flight, None, now, now)
            }
            Disposition::Conflict if flight.step == Step::Create && error.existing.is_some() => {
                self.stands_already(key, flight, intent, error, now)
            }
            Disposition::Conflict | Disposition::Gone | Disposition::Permanent if flight.step == Step::Find => {
                let rounds = self.work.get(key).map_or(0, |p| p.conflicts);
                let due = (now + Duration::from_secs(1 << rounds.min(CONFLICT_ROUNDS))).micros();
                self.free(key, now, |pair| Pair { conflicts: pair.conflicts + 1, due, ..pair });
                if rounds + 1 >= CONFLICT_ROUNDS {
                    self.seek_no_more(key, flight, error, now)?;
                }
                Ok(())
            }
            Disposition::Conflict | Disposition::Gone | Disposition::Permanent if writes => {
                self.reject(key, flight, intent, error, now)
            }
            Disposition::Conflict | Disposition::Gone | Disposition::Permanent => {
                tracing::error!(
                    connection = flight.connection,
                    code = error.code,
                    "a record cannot be read; it is tried again later"
                );
                self.told(key.entity, flight, 0, Told::Again(error.code.as_str().into()));
                let due = (now + BLOCKED).micros();
                self.free(key, now, |pair| Pair { attempts: pair.attempts + 1, due, ..pair });
                Ok(())
            }
        }
    }

    /// The record moved since it was read: it is read, then decided again. Under a strict guard that is somebody's edit
    /// and the log says so; it may happen again and again, each time a little later.
    fn moved(
        &mut self,
        key: WorkKey,
        flight: &Flight,
        intent: u32,
        error: &TargetError,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let rounds = self.work.get(key).map_or(0, |p| p.conflicts);
        let conditional = self.lines.get(&flight.connection).is_some_and(|line| line.conditional);
        let strict = self.with(key.entity, now, |entity, cx, notes| {
            let strict = conditional && cx.link.guard == Guard::Strict;
            if let Some(m) = entity.member_of(flight.connection).filter(|_| strict) {
                entity.note_refusal(m, intent, cx, notes);
            }
            strict
        })?;
        let most = if strict == Some(true) { STRICT_ROUNDS } else { CONFLICT_ROUNDS };
        if rounds >= most {
            return self.reject(key, flight, intent, error, now);
        }
        self.told(key.entity, flight, intent, Told::Again(error.code.as_str().into()));
        let random = self.dice.u64(..);
        let wait =
            if rounds < CONFLICT_ROUNDS { Duration::ZERO } else { backoff::delay(rounds - CONFLICT_ROUNDS, random) };
        self.free(key, now, |pair| Pair { conflicts: rounds + 1, due: (now + wait).micros(), ..pair });
        self.answer(key.entity, flight, intent, &Answer::Refused, now)
    }

    /// A record stands already where one was to be made: it is attached after a read. Where it belongs to somebody else
    /// for certain, there is nothing to be done but to tell.
    fn stands_already(
        &mut self,
        key: WorkKey,
        flight: &Flight,
        intent: u32,
        error: &TargetError,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (id, connection) = (key.entity, flight.connection);
        let by = self.look(id, now, |e, _| e.match_keys().into_iter().next())?.flatten();
        let attached = match (&error.existing, by) {
            (Some(existing), Some(by)) => self.attach_existing(id, connection, existing, &by, now)?,
            _ => false,
        };
        if !attached {
            return self.reject(key, flight, intent, error, now);
        }
        self.succeeded(key, now);
        self.told(id, flight, intent, Told::Again(error.code.as_str().into()));
        self.answer(id, flight, intent, &Answer::NotApplied, now)
    }

    /// The CRM cannot be searched: the record is made without a search. Our own id keeps that from being done twice, and
    /// a twin can still be merged, while a record that is never made helps nobody.
    fn seek_no_more(
        &mut self,
        key: WorkKey,
        flight: &Flight,
        error: &TargetError,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        tracing::warn!(
            connection = flight.connection,
            code = error.code,
            "the CRM cannot be searched for a record; it is made without"
        );
        self.with(key.entity, now, |e, _, _| {
            if let Some(m) = e.member_of(flight.connection) {
                e.members[m].sought = true;
            }
        })?;
        Ok(())
    }

    /// The target refused it for good: the fields it names (or all) are left at this revision, the rest goes on.
    pub(crate) fn reject(
        &mut self,
        key: WorkKey,
        flight: &Flight,
        intent: u32,
        error: &TargetError,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.succeeded(key, now);
        self.count_write(flight.connection, "rejected");
        self.told(key.entity, flight, intent, Told::Rejected(error.code.as_str().into()));
        let connection = flight.connection;
        let named = self.with(key.entity, now, |entity, cx, _| {
            let of = |native: &String| {
                let found = cx.link.fields().find(|p| p.names(connection, native))?;
                entity.field_named(found.name())
            };
            let mut fields: Vec<usize> = error.fields.iter().filter_map(of).collect();
            let names = fields.iter().map(|f| entity.fields[*f].name.to_string()).collect::<Vec<_>>();
            if flight.step == Step::Create && !entity.can_make_without(connection, &fields, intent) {
                fields.clear();
            }
            (fields, names)
        })?;
        let (fields, names) = named.unwrap_or_default();
        let message = self.seal(&error.message);
        self.tick.unit.dead_letters.push(DeadLetter {
            entity: key.entity,
            target: connection,
            at: now.micros(),
            code: error.code.clone(),
            message,
            fields: names,
        });
        self.metrics.dead_letters.get_or_create(&metrics::Outcome { outcome: "target_rejected" }).inc();
        self.answer(key.entity, flight, intent, &Answer::Rejected { fields }, now)
    }

    fn answer(
        &mut self,
        id: EntityId,
        flight: &Flight,
        intent: u32,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if intent == 0 {
            return Ok(());
        }
        let connection = flight.connection;
        let refolded = self.with(id, now, |entity, cx, notes| {
            let m = entity.member_of(connection)?;
            let refolded = entity.settle(m, intent, answer, cx, notes);
            for (event, folded) in &refolded {
                entity.settle_fold(m, &event.asked(), folded);
            }
            Some(refolded)
        })?;
        self.close_refolded(id, connection, refolded.flatten().unwrap_or_default(), now)
    }

    pub(crate) fn give_up(
        &mut self,
        id: EntityId,
        flight: &Flight,
        intent: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.give_up_on(id, flight.connection, intent, now)
    }

    pub(crate) fn give_up_on(
        &mut self,
        id: EntityId,
        connection: u32,
        intent: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let refolded = self.with(id, now, |entity, cx, notes| {
            let m = entity.member_of(connection)?;
            let refolded = entity.give_up(m, intent, cx, notes);
            for (event, folded) in &refolded {
                entity.settle_fold(m, &event.asked(), folded);
            }
            Some(refolded)
        })?;
        self.close_refolded(id, connection, refolded.flatten().unwrap_or_default(), now)
    }

    pub(crate) fn succeeded(&mut self, key: WorkKey, now: Timestamp) {
        self.free(key, now, |pair| Pair { attempts: 0, conflicts: 0, pack: usize::MAX, due: now.micros(), ..pair });
    }

    fn again(&mut self, key: WorkKey, counts: bool, now: Timestamp) {
        let random = self.dice.u64(..);
        self.free(key, now, |pair| {
            let attempts = pair.attempts + u32::from(counts);
            let wait = if counts { backoff::delay(pair.attempts, random) } else { Duration::ZERO };
            Pair { attempts, due: (now + wait).micros(), ..pair }
        });
    }

    /// The call no longer has the pair.
    fn free(&mut self, key: WorkKey, now: Timestamp, change: impl FnOnce(Pair) -> Pair) {
        let pair = self.work.get(key).copied().unwrap_or_else(|| Pair::due_at(now.micros(), now.micros()));
        self.put_pair(key, Pair { busy: None, ..change(pair) });
    }

    pub(crate) fn count_write(&self, connection: u32, outcome: &'static str) {
        if let Some(line) = self.lines.get(&connection) {
            self.metrics.writes.get_or_create(&metrics::CrmOutcome { crm: line.system.as_str(), outcome }).inc();
        }
    }

    fn count_retry(&self, connection: u32, error: &TargetError) {
        let reason = match error.disposition() {
            Disposition::Retry => "retry",
            Disposition::Rate { .. } => "rate",
            Disposition::Reauthorise => "reauthorise",
            Disposition::Conflict => "conflict",
            Disposition::Gone => "gone",
            Disposition::Permanent => return,
            Disposition::Unknown => "unknown",
        };
        if let Some(line) = self.lines.get(&connection) {
            self.metrics.retries.get_or_create(&metrics::CrmReason { crm: line.system.as_str(), reason }).inc();
        }
    }
}

impl Entity {
    /// Whether a refused create may be tried again without the fields at fault: they are named, and each was part of it.
    fn can_make_without(&self, connection: u32, fields: &[usize], intent: u32) -> bool {
        let Some(m) = self.member_of(connection) else { return false };
        let sent =
            |f: &usize| self.fields[*f].cells[m].as_ref().is_some_and(|c| c.ledger.iter().any(|w| w.intent == intent));
        !fields.is_empty() && fields.iter().all(sent)
    }
}
