//! Reads the state beside the engine, for the admin API: a session of its own that cannot write.

use std::collections::{BTreeSet, HashSet};

use headgate_schemas::ChangeId;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::PostgresError;
use super::rows::{self, OUTCOME};
use super::session::Session;
use super::trail::chain;
use super::write::{number, unsigned};
use super::{Address, split_fields};
use crate::store::trail::CHAIN;
use crate::store::{
    AuditRow, Counter, DecisionRow, EntityId, Key, ListedDecision, ListedLetter, ListedQuestion, OutcomeRow,
    QuestionFilter, QuestionRow, StoreError, TrailRow, WorkKey, WorkRow,
};

const QUESTION: &str = "id,entity,tenant,link,kind,subject,since,ended,by,choice";
const DECISION: &str =
    "n,at,entity,field,rule,ruling,edit_by,edit_lo,edit_hi,force_by,force_lo,force_hi,author,change,value";
const LETTER: &str = "id,entity,target,at,code,message,fields,state";

/// A session that reads.
#[derive(Debug)]
pub(in crate::store) struct Reading(Session);

impl Reading {
    /// Connects.
    pub(in crate::store) fn open(address: &Address) -> Result<Self, StoreError> {
        let session = Session::open(address)?;
        session.run(async {
            let sql = "SET default_transaction_read_only = on";
            Ok::<_, PostgresError>(session.client.batch_execute(sql).await?)
        })?;
        Ok(Self(session))
    }

    /// Whether the server still answers on this session.
    pub(in crate::store) fn is_alive(&self) -> bool {
        let ask = async { Ok::<_, PostgresError>(self.0.client.check_connection().await?) };
        self.0.run(ask).is_ok()
    }

    fn all<T>(
        &self,
        sql: &str,
        of: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, PostgresError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.0.run(async { Ok::<_, PostgresError>(self.0.client.query(sql, of).await?) })?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    fn one<T>(
        &self,
        sql: &str,
        of: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, PostgresError>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.all(sql, of, read)?.into_iter().next())
    }

    pub(in crate::store) fn member(&self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.one("SELECT entity FROM member WHERE key=$1", &[&key.as_slice()], |row| Ok(row.try_get(0)?))
    }

    pub(in crate::store) fn document(&self, id: EntityId) -> Result<Option<Vec<u8>>, StoreError> {
        self.one("SELECT doc FROM entity WHERE id=$1", &[&id], |row| Ok(row.try_get(0)?))
    }

    pub(in crate::store) fn documents(
        &self,
        after: EntityId,
        limit: u32,
    ) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        let sql = "SELECT id,doc FROM entity WHERE id>$1 ORDER BY id LIMIT $2";
        self.all(sql, &[&after, &i64::from(limit)], |row| Ok((row.try_get(0)?, row.try_get(1)?)))
    }

    pub(in crate::store) fn names(&self) -> Result<Vec<(u32, String)>, StoreError> {
        self.all("SELECT id,text FROM name", &[], |row| Ok((unsigned(row.try_get(0)?), row.try_get(1)?)))
    }

    pub(in crate::store) fn repeats(&self, change: &Key) -> Result<Option<u32>, StoreError> {
        let sql = "SELECT again FROM change WHERE id=$1";
        self.one(sql, &[&change.as_slice()], |row| Ok(unsigned(row.try_get(0)?)))
    }

    pub(in crate::store) fn work(&self, key: WorkKey) -> Result<Option<WorkRow>, StoreError> {
        let sql = "SELECT target,entity,due,attempts,owner,until FROM work WHERE target=$1 AND entity=$2";
        self.one(sql, &[&number(key.target), &key.entity], WorkRow::read)
    }

    pub(in crate::store) fn trail(
        &self,
        entity: EntityId,
        newest: i64,
        since: i64,
        most: usize,
    ) -> Result<Vec<TrailRow>, StoreError> {
        Ok(self.0.run(chain(&self.0.client, (newest, entity), since, most.min(CHAIN)))?)
    }

    pub(in crate::store) fn outcomes(
        &self,
        entity: EntityId,
        newest: i64,
        limit: usize,
    ) -> Result<Vec<OutcomeRow>, StoreError> {
        let sql = format!("SELECT {OUTCOME} FROM outcome WHERE accepted=$1 AND entity=$2");
        let (mut found, mut seen, mut ahead) = (Vec::new(), HashSet::new(), BTreeSet::from([newest]));
        while let Some(accepted) = ahead.pop_last()
            && found.len() < limit
            && seen.len() < CHAIN
        {
            if accepted == 0 || !seen.insert(accepted) {
                continue;
            }
            let here = self.all(&sql, &[&accepted, &entity], rows::outcome)?;
            ahead.extend(here.iter().map(|row| row.previous));
            found.extend(here);
        }
        found.sort_by_key(|row| (std::cmp::Reverse(row.at), row.change, row.place));
        found.truncate(limit);
        Ok(found)
    }

    pub(in crate::store) fn outcomes_of_change(
        &self,
        key: &Key,
        change: ChangeId,
    ) -> Result<Option<Vec<OutcomeRow>>, StoreError> {
        let taken: Option<i64> =
            self.one("SELECT at FROM change WHERE id=$1", &[&key.as_slice()], |row| Ok(row.try_get(0)?))?;
        let Some(accepted) = taken else { return Ok(None) };
        let sql = format!("SELECT {OUTCOME} FROM outcome WHERE accepted=$1 AND change=$2 ORDER BY target");
        self.all(&sql, &[&accepted, &change.as_bytes().as_slice()], rows::outcome).map(Some)
    }

    pub(in crate::store) fn recent_outcomes(&self, before: i64, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        let sql = format!(
            "SELECT {OUTCOME} FROM outcome WHERE accepted<$1 ORDER BY accepted DESC,change DESC,target DESC LIMIT $2"
        );
        self.all(&sql, &[&before, &i64::try_from(limit).unwrap_or(i64::MAX)], rows::outcome)
    }

    pub(in crate::store) fn audit(&self, before: i64, limit: u32) -> Result<Vec<(i64, AuditRow)>, StoreError> {
        let sql = "SELECT id,at,who,what,subject,before,after FROM audit WHERE id<$1 ORDER BY id DESC LIMIT $2";
        let hash = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok());
        self.all(sql, &[&before, &i64::from(limit)], |row| {
            let done = AuditRow {
                at: row.try_get(1)?,
                who: row.try_get(2)?,
                what: row.try_get(3)?,
                subject: row.try_get(4)?,
                before: hash(row.try_get(5)?),
                after: hash(row.try_get(6)?),
            };
            Ok((row.try_get(0)?, done))
        })
    }

    pub(in crate::store) fn letters(
        &self,
        only: Option<i64>,
        open: bool,
        limit: u32,
    ) -> Result<Vec<ListedLetter>, StoreError> {
        let sql = format!(
            "SELECT {LETTER} FROM dead_letter WHERE ($1::bigint IS NULL OR id=$1) AND (NOT $2 OR state='open')
             ORDER BY id DESC LIMIT $3"
        );
        self.all(&sql, &[&only, &open, &i64::from(limit)], |row| {
            Ok(ListedLetter {
                id: row.try_get(0)?,
                entity: row.try_get(1)?,
                target: unsigned(row.try_get(2)?),
                at: row.try_get(3)?,
                code: row.try_get(4)?,
                message: row.try_get(5)?,
                fields: split_fields(row.try_get(6)?),
                state: row.try_get(7)?,
            })
        })
    }

    pub(in crate::store) fn letters_of(&self, entity: EntityId, limit: u32) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT id FROM dead_letter WHERE entity=$1 ORDER BY id DESC LIMIT $2";
        self.all(sql, &[&entity, &i64::from(limit)], |row| Ok(row.try_get(0)?))
    }

    pub(in crate::store) fn counters(&self) -> Result<Vec<(Counter, i64)>, StoreError> {
        Ok(self.0.run(rows::counters(&self.0.client))?)
    }

    pub(in crate::store) fn questions(
        &self,
        filter: &QuestionFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedQuestion>, StoreError> {
        let sql = format!(
            "SELECT {QUESTION} FROM question WHERE id>$1 AND ($2 OR ended IS NULL) AND ($3::text IS NULL OR link=$3)
             AND ($4::text IS NULL OR kind=$4) AND ($5::text IS NULL OR subject=$5)
             AND ($6::bigint IS NULL OR entity=$6) ORDER BY id LIMIT $7"
        );
        let f = filter;
        let of: [&(dyn ToSql + Sync); 7] =
            [&after, &f.ended, &f.link, &f.kind, &f.subject, &f.entity, &i64::from(limit)];
        self.all(&sql, &of, listed)
    }

    pub(in crate::store) fn question(&self, id: i64) -> Result<Option<ListedQuestion>, StoreError> {
        self.one(&format!("SELECT {QUESTION} FROM question WHERE id=$1"), &[&id], listed)
    }

    pub(in crate::store) fn decisions(
        &self,
        entity: Option<EntityId>,
        before: i64,
        limit: u32,
    ) -> Result<Vec<ListedDecision>, StoreError> {
        let of = if entity.is_some() { "entity=$1" } else { "$1::bigint IS NULL" };
        let sql = format!("SELECT {DECISION} FROM decision WHERE {of} AND n<$2 ORDER BY n DESC LIMIT $3");
        self.all(&sql, &[&entity, &before, &i64::from(limit)], |row| {
            let change: Option<&[u8]> = row.try_get(13)?;
            let decision = DecisionRow {
                at: row.try_get(1)?,
                entity: row.try_get(2)?,
                field: row.try_get(3)?,
                rule: row.try_get(4)?,
                ruling: row.try_get(5)?,
                edit: (unsigned(row.try_get(6)?), row.try_get(7)?, row.try_get(8)?),
                force: (unsigned(row.try_get(9)?), row.try_get(10)?, row.try_get(11)?),
                author: row.try_get(12)?,
                change: change.map(rows::change).transpose()?,
                values: row.try_get(14)?,
            };
            Ok(ListedDecision { n: row.try_get(0)?, decision })
        })
    }
}

fn listed(row: &Row) -> Result<ListedQuestion, PostgresError> {
    let question = QuestionRow {
        id: row.try_get(0)?,
        entity: row.try_get(1)?,
        tenant: row.try_get(2)?,
        link: row.try_get(3)?,
        kind: row.try_get(4)?,
        subject: row.try_get(5)?,
        since: row.try_get(6)?,
    };
    Ok(ListedQuestion { question, end: rows::question_end(row, 7)? })
}
