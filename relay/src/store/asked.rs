//! Questions to people and the decision log, as tables: what is listed of them. The rest of a question stands in its
//! entity's document; the values of a decision are sealed by whoever hands them in.

use headgate_schemas::ChangeId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{DecisionRow, EntityId, QuestionEnd, QuestionRow, StoreError, Unit, sqlite::Reader};

/// Their part of the schema.
pub(super) const SCHEMA: &str = "
CREATE TABLE question(id INTEGER PRIMARY KEY, entity INTEGER NOT NULL, tenant TEXT NOT NULL, link TEXT NOT NULL,
  kind TEXT NOT NULL, subject TEXT NOT NULL, since INTEGER NOT NULL, ended INTEGER, by TEXT, choice TEXT);
CREATE INDEX question_open ON question(id) WHERE ended IS NULL;
CREATE INDEX question_ended ON question(ended) WHERE ended IS NOT NULL;
CREATE TABLE decision(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, entity INTEGER NOT NULL, field TEXT NOT NULL,
  rule TEXT NOT NULL, ruling TEXT NOT NULL, edit_by INTEGER NOT NULL, edit_lo INTEGER NOT NULL, edit_hi INTEGER NOT NULL,
  force_by INTEGER NOT NULL, force_lo INTEGER NOT NULL, force_hi INTEGER NOT NULL, author TEXT NOT NULL, change BLOB,
  value BLOB NOT NULL);
CREATE INDEX decision_of ON decision(entity, n);
";

/// Rows that one round of forgetting takes away at most.
const EXPIRE_ROWS: i64 = 10_000;

const QUESTION: &str = "id,entity,tenant,link,kind,subject,since,ended,by,choice";
const DECISION: &str =
    "n,at,entity,field,rule,ruling,edit_by,edit_lo,edit_hi,force_by,force_lo,force_hi,author,change,value";

/// Which questions are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuestionFilter {
    /// Ended ones, too.
    pub ended: bool,
    /// Of one link.
    pub link: Option<String>,
    /// Of one kind.
    pub kind: Option<String>,
    /// About one field.
    pub subject: Option<String>,
    /// Of one entity.
    pub entity: Option<EntityId>,
}

/// A question as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedQuestion {
    /// What it asks.
    pub question: QuestionRow,
    /// How it ended, if it did.
    pub end: Option<QuestionEnd>,
}

/// A decision as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDecision {
    /// Its place in the log.
    pub n: i64,
    /// What was decided.
    pub decision: DecisionRow,
}

/// Writes what a unit holds of both.
pub(super) fn write(db: &Connection, unit: &Unit) -> Result<(), StoreError> {
    let mut ask = db.prepare_cached(
        "INSERT INTO question(id,entity,tenant,link,kind,subject,since) VALUES(?1,?2,?3,?4,?5,?6,?7)",
    )?;
    for q in &unit.questions {
        ask.execute(params![q.id, q.entity, q.tenant, q.link, q.kind, q.subject, q.since])?;
    }
    let mut end = db.prepare_cached("UPDATE question SET ended=?2, by=?3, choice=?4 WHERE id=?1 AND ended IS NULL")?;
    for (id, ended) in &unit.ended_questions {
        end.execute(params![id, ended.at, ended.by, ended.choice])?;
    }
    let mut decide = db.prepare_cached(
        "INSERT INTO decision(at,entity,field,rule,ruling,edit_by,edit_lo,edit_hi,force_by,force_lo,force_hi,author,
         change,value) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    )?;
    for d in &unit.decisions {
        let change = d.change.as_ref().map(|c| c.as_bytes().to_vec());
        let ((edit_by, edit_lo, edit_hi), (force_by, force_lo, force_hi)) = (d.edit, d.force);
        decide.execute(params![
            d.at, d.entity, d.field, d.rule, d.ruling, edit_by, edit_lo, edit_hi, force_by, force_lo, force_hi,
            d.author, change, d.values
        ])?;
    }
    Ok(())
}

/// The entity of a question and how it ended.
pub(super) fn question(db: &Connection, id: i64) -> Result<Option<(EntityId, Option<QuestionEnd>)>, StoreError> {
    let mut statement = db.prepare_cached(&format!("SELECT {QUESTION} FROM question WHERE id=?1"))?;
    let found = statement.query_row([id], listed).optional()?;
    Ok(found.map(|q| (q.question.entity, q.end)))
}

/// The number after the last question.
pub(super) fn next_question(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.query_row("SELECT coalesce(max(id),0)+1 FROM question", [], |r| r.get(0))?)
}

/// Forgets what is older than `before`.
pub(super) fn expire(db: &Connection, before: i64) -> Result<bool, StoreError> {
    let decisions = db
        .prepare_cached(
            "DELETE FROM decision WHERE n IN (SELECT n FROM decision WHERE n<=(SELECT min(n)+?2 FROM decision) AND at<?1)",
        )?
        .execute(params![before, EXPIRE_ROWS])?;
    // The last one stays, so that no number is ever given twice.
    let questions = db
        .prepare_cached(
            "DELETE FROM question WHERE id IN (SELECT id FROM question WHERE ended<?1 ORDER BY ended LIMIT ?2)
             AND id<(SELECT max(id) FROM question)",
        )?
        .execute(params![before, EXPIRE_ROWS])?;
    let full = usize::try_from(EXPIRE_ROWS).unwrap_or(usize::MAX);
    Ok(decisions >= full || questions >= full)
}

fn listed(r: &Row<'_>) -> rusqlite::Result<ListedQuestion> {
    let question = QuestionRow {
        id: r.get(0)?,
        entity: r.get(1)?,
        tenant: r.get(2)?,
        link: r.get(3)?,
        kind: r.get(4)?,
        subject: r.get(5)?,
        since: r.get(6)?,
    };
    let end = match r.get::<_, Option<i64>>(7)? {
        Some(at) => Some(QuestionEnd { at, by: r.get(8)?, choice: r.get(9)? }),
        None => None,
    };
    Ok(ListedQuestion { question, end })
}

impl Reader {
    /// Questions by number, from `after`, oldest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn questions(
        &self,
        filter: &QuestionFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedQuestion>, StoreError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {QUESTION} FROM question WHERE id>?1 AND (?2 OR ended IS NULL) AND (?3 IS NULL OR link=?3)
             AND (?4 IS NULL OR kind=?4) AND (?5 IS NULL OR subject=?5) AND (?6 IS NULL OR entity=?6)
             ORDER BY id LIMIT ?7"
        ))?;
        let f = filter;
        let rows = statement.query_map(params![after, f.ended, f.link, f.kind, f.subject, f.entity, limit], listed)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One question.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn question(&self, id: i64) -> Result<Option<ListedQuestion>, StoreError> {
        let mut statement = self.db.prepare_cached(&format!("SELECT {QUESTION} FROM question WHERE id=?1"))?;
        Ok(statement.query_row([id], listed).optional()?)
    }

    /// Decisions, newest first, before the place `before`; of one entity, or of all.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn decisions(
        &self,
        entity: Option<EntityId>,
        before: i64,
        limit: u32,
    ) -> Result<Vec<ListedDecision>, StoreError> {
        let of = if entity.is_some() { "entity=?1" } else { "?1 IS NULL" };
        let mut statement = self
            .db
            .prepare_cached(&format!("SELECT {DECISION} FROM decision WHERE {of} AND n<?2 ORDER BY n DESC LIMIT ?3"))?;
        let rows = statement.query_map(params![entity, before, limit], |r| {
            let change: Option<[u8; 16]> = r.get(13)?;
            let decision = DecisionRow {
                at: r.get(1)?,
                entity: r.get(2)?,
                field: r.get(3)?,
                rule: r.get(4)?,
                ruling: r.get(5)?,
                edit: (r.get(6)?, r.get(7)?, r.get(8)?),
                force: (r.get(9)?, r.get(10)?, r.get(11)?),
                author: r.get(12)?,
                change: change.map(ChangeId::from_bytes),
                values: r.get(14)?,
            };
            Ok(ListedDecision { n: r.get(0)?, decision })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
