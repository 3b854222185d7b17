//! What people are asked and what they choose: questions are numbered and listed, choices are taken, decisions are
//! logged. Field values leave here sealed only.
//!
//! The document is the truth. What the store lists of it is written in the same transaction, from the difference
//! between the questions a document had and has: a question that goes away by itself ends in the list, too.

use headgate_schemas::{Timestamp, Value};
use sha2::{Digest as _, Sha256};

use crate::audit::Deed;
use crate::conflict::By;
use crate::engine::{Choice, Engine, Resolution, ResolveError, Resolved};
use crate::entity::decision::{Decision, Ruling};
use crate::entity::fold::Notes;
use crate::entity::question::{Chosen, UNNUMBERED};
use crate::entity::record::Keep;
use crate::entity::{About, Author, Question};
use crate::metrics;
use crate::store::{DecisionRow, EntityId, QuestionEnd, QuestionRow, StoreError, WorkKey};

/// Longest value that the decision log keeps; of a longer one it keeps the hash.
const LONGEST_VALUE: usize = 4_096;
/// What the vault binds the values of decisions to.
pub(crate) const DECISION: &[u8] = b"decision";

impl Engine {
    /// A person answers a question.
    pub(crate) fn resolve(
        &mut self,
        asked: &Resolution,
        now: Timestamp,
    ) -> Result<Result<Resolved, ResolveError>, StoreError> {
        let Resolution { id, edition, choice, by, .. } = asked;
        let (id, edition) = (*id, *edition);
        Ok(match self.store.question(id)? {
            None => Err(ResolveError::Unknown { id }),
            Some((_, Some(end))) => Err(ResolveError::Ended { id, at: Timestamp::from_micros(end.at), by: end.by }),
            Some((entity, None)) => {
                let deed = Deed { who: by, what: "conflict.resolve", subject: format!("conflict/{id}") };
                self.audited(deed, entity, now, |engine| engine.choose(entity, (id, edition), choice, by, now))?
            }
        })
    }

    fn choose(
        &mut self,
        entity: EntityId,
        (id, edition): (i64, Option<u32>),
        choice: &Choice,
        by: &str,
        now: Timestamp,
    ) -> Result<Result<Resolved, ResolveError>, StoreError> {
        let (entity, _) = self.follow(entity, 0)?;
        let about = self.look(entity, now, |e, _| e.questions.iter().find(|q| q.id == id).cloned())?.flatten();
        let Some(question) = about else { return Ok(Err(ResolveError::Unknown { id })) };
        if !matches!(question.about, About::Field { .. }) {
            if edition.is_some_and(|seen| seen != question.edition) {
                return Ok(Err(ResolveError::Moved { now: question.edition }));
            }
            // Clients have one word for both.
            let choice = if *choice == Choice::Kept { &Choice::Keep } else { choice };
            let answered = self.answer_question(entity, &question, choice, now)?;
            if answered.is_ok() {
                let end = QuestionEnd { at: now.micros(), by: by.to_owned(), choice: choice.to_string() };
                self.tick.ended.insert(id, end);
            }
            return Ok(answered.map(|()| Resolved { id, entity, field: question.about.subject().to_owned() }));
        }
        let chosen = match choice {
            Choice::Link | Choice::Separate | Choice::Record(_) | Choice::Delete | Choice::Keep => {
                return Ok(Err(ResolveError::Unfit { choices: question.about.choices() }));
            }
            Choice::Member(name) => match self.numbers.get(name) {
                Some(number) => Chosen::Of(By::Member(*number)),
                None => return Ok(Err(ResolveError::NoConnection { name: name.clone() })),
            },
            Choice::Kept => Chosen::Force,
            Choice::Value(value) => Chosen::Value(value.clone()),
        };
        let taken = self.with(entity, now, |e, cx, _| {
            // An earlier answer of this very tick.
            let question = e.questions.iter().find(|q| q.id == id).ok_or(ResolveError::Unknown { id })?;
            if edition.is_some_and(|seen| seen != question.edition) {
                return Err(ResolveError::Moved { now: question.edition });
            }
            let About::Field { name, .. } = &question.about else { return Err(ResolveError::Unknown { id }) };
            let f = e.field_named(name).ok_or(ResolveError::Unknown { id })?;
            Ok(e.choose(f, chosen, cx)?)
        })?;
        let decision = match taken.unwrap_or(Err(ResolveError::Unknown { id })) {
            Ok(decision) => decision,
            Err(error) => return Ok(Err(error)),
        };
        let end = QuestionEnd { at: now.micros(), by: by.to_owned(), choice: choice.to_string() };
        self.tick.ended.insert(id, end);
        let field = decision.field.to_string();
        self.log(entity, decision, Some(by), now);
        Ok(Ok(Resolved { id, entity, field }))
    }

    /// A person's answer about records.
    fn answer_question(
        &mut self,
        id: EntityId,
        question: &Question,
        choice: &Choice,
        now: Timestamp,
    ) -> Result<Result<(), ResolveError>, StoreError> {
        let unfit = |choices| Ok(Err(ResolveError::Unfit { choices }));
        match (&question.about, choice) {
            (About::Match { other, .. }, Choice::Link) => {
                self.end_question(id, question, now)?;
                self.join_into(id, *other, Keep::Policy, now)?;
            }
            (About::Match { other, .. }, Choice::Separate) => {
                self.end_question(id, question, now)?;
                self.with(id, now, |e, _, _| e.apart.push(*other))?;
                let (other, _) = self.follow(*other, 0)?;
                self.with(other, now, |e, _, _| e.apart.push(id))?;
            }
            (About::Found { connection, natives }, Choice::Record(native))
                if natives.iter().any(|n| **n == **native) =>
            {
                let by = self.look(id, now, |e, _| e.match_keys().into_iter().next())?.flatten();
                let Some(by) = by else { return unfit("separate: what was looked for no longer stands here") };
                self.end_question(id, question, now)?;
                self.attach_existing(id, *connection, native, &by, now)?;
            }
            (About::Found { .. }, Choice::Separate) => self.end_question(id, question, now)?,
            (About::Surplus { connection, native }, Choice::Record(chosen)) if **native == **chosen => {
                if self.is_busy(WorkKey { target: *connection, entity: id }) {
                    return Ok(Err(ResolveError::Busy));
                }
                self.with(id, now, |e, cx, _| {
                    e.member_of(*connection).is_some_and(|m| e.take_up(m, Some(native), cx))
                })?;
            }
            (About::Surplus { .. }, Choice::Keep) => self.end_question(id, question, now)?,
            (About::Surplus { connection, native }, Choice::Separate) => self.part(id, *connection, native, now)?,
            (About::Delete { .. }, Choice::Delete | Choice::Keep) => {
                let go = *choice == Choice::Delete;
                self.with(id, now, |e, cx, _| e.answer_delete(go, cx))?;
            }
            (About::Brake { link, .. }, Choice::Delete | Choice::Keep) => {
                self.release(link, *choice == Choice::Delete, now)?;
            }
            (about, _) => return unfit(about.choices()),
        }
        Ok(Ok(()))
    }

    fn end_question(&mut self, id: EntityId, question: &Question, now: Timestamp) -> Result<(), StoreError> {
        self.with(id, now, |e, _, _| e.questions.retain(|q| q.id != question.id))?;
        Ok(())
    }

    /// What happened on the way, into the metrics and the log.
    pub(crate) fn note(&mut self, id: EntityId, notes: Notes, now: Timestamp) {
        for decision in notes.decisions {
            self.count_decision(&decision);
            self.log(id, decision, None, now);
        }
    }

    fn count_decision(&self, decision: &Decision) {
        let resolution = decision.ruling.as_str();
        self.metrics.conflicts.get_or_create(&metrics::Resolution { resolution }).inc();
        if decision.is_fight() {
            let name = |by: By| match by {
                By::Member(n) => self.lines.get(&n).map_or("-", |line| line.name.as_str()),
                By::Person => "a person",
            };
            let (one, other) = (name(decision.edit.by), name(decision.force.by));
            let fight = metrics::Fight { one: one.to_owned(), other: other.to_owned() };
            self.metrics.fights.get_or_create(&fight).inc();
            tracing::error!(
                field = &*decision.field,
                one,
                other,
                "two systems undo each other's values; the field is held until one side is switched off and a person decides"
            );
        }
    }

    /// One row of the decision log.
    fn log(&mut self, entity: EntityId, decision: Decision, person: Option<&str>, now: Timestamp) {
        let side = |by: By| match by {
            By::Member(number) => number,
            By::Person => 0,
        };
        let values = [brief(decision.edit.value), brief(decision.force.value)];
        let author = match decision.author {
            Author::Us => "us",
            Author::User => "user",
            Author::Unknown => "unknown",
        };
        self.tick.unit.decisions.push(DecisionRow {
            at: now.micros(),
            entity,
            field: decision.field.into(),
            rule: decision.rule.as_str().to_owned(),
            ruling: decision.ruling.as_str().to_owned(),
            edit: (side(decision.edit.by), decision.edit.stamp.lo, decision.edit.stamp.hi),
            force: (side(decision.force.by), decision.force.stamp.lo, decision.force.stamp.hi),
            author: person.unwrap_or(author).to_owned(),
            change: decision.change,
            values: self.seal_values(&values),
        });
    }

    fn seal_values(&self, values: &[Value; 2]) -> Vec<u8> {
        let text = values.each_ref().map(|v| serde_json::Value::from(v.clone()));
        let text = serde_json::Value::from(text.to_vec()).to_string();
        self.vault.seal(DECISION, text.as_bytes()).unwrap_or_default()
    }

    /// Numbers the questions of an entity and lists those that arose and ended since it was last written.
    pub(crate) fn list_questions(&mut self, id: EntityId, now: Timestamp) -> Result<(), StoreError> {
        let Some(loaded) = self.cache.get_mut(id) else { return Ok(()) };
        let entity = &mut loaded.entity;
        let link = &self.links[loaded.link].name;
        for question in entity.questions.iter_mut().filter(|q| q.id == UNNUMBERED) {
            question.id = self.store.next_question()?;
            self.tick.unit.questions.push(row(question, id, &entity.tenant, link));
        }
        let open: Vec<i64> = entity.questions.iter().map(|q| q.id).collect();
        for gone in std::mem::replace(&mut loaded.questions, open.clone()) {
            if !open.contains(&gone) {
                let moot = || QuestionEnd { at: now.micros(), by: String::new(), choice: "moot".to_owned() };
                let end = self.tick.ended.remove(&gone).unwrap_or_else(moot);
                self.tick.unit.ended_questions.push((gone, end));
            }
        }
        Ok(())
    }
}

impl Decision {
    fn is_fight(&self) -> bool {
        self.ruling == Ruling::Held && self.rule.as_str() == crate::entity::Cause::Fight.as_str()
    }
}

fn row(question: &Question, entity: EntityId, tenant: &str, link: &str) -> QuestionRow {
    QuestionRow {
        id: question.id,
        entity,
        tenant: tenant.to_owned(),
        link: link.to_owned(),
        kind: question.about.kind().to_owned(),
        subject: question.about.subject().to_owned(),
        since: question.since,
    }
}

/// A value short enough for the log.
fn brief(value: Value) -> Value {
    let plain = value.to_plain();
    if plain.len() <= LONGEST_VALUE {
        return value;
    }
    let hash: String = Sha256::digest(plain.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    Value::text(format!("sha256:{hash}"))
}
