//! The state in PostgreSQL, for a relay whose machine may go: one connection for the engine, every row of a tick in a
//! fixed number of statements, one transaction per tick.
//!
//! One relay at a time works on a state: it holds a lock for as long as its session lives, and commits on that very
//! session, so that a relay that was cut off cannot commit beside its successor. When the server goes away the tick is
//! void, and the state is opened again from what is durable; nothing was sent that had not been committed.

mod address;
mod days;
mod error;
mod migrations;
mod read;
mod rows;
mod session;
mod statements;
mod tls;
mod trail;
mod write;

pub use address::{Address, AddressError};
pub use error::PostgresError;
pub(super) use read::Reading;

use headgate_schemas::stream::Position;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use self::days::Days;
use self::session::{Lock, Session};
use self::statements::Statements;
use self::write::{Writer, unsigned};
use super::{
    Before, Committed, EntityId, Key, Look, QuestionEnd, Start, Store, StoreError, Unit, WorkKey, WorkRow, split_fields,
};

/// Rows that one statement of [`Store::expire`] takes away at most.
const EXPIRE_ROWS: i64 = 10_000;
/// Goings older than this are forgotten: the brake looks at one hour.
const GOINGS: i64 = 2 * 3_600_000_000;
/// How long the hash of an erased record is kept: longer than any CRM repeats its events.
const TOMBSTONES: i64 = 90 * 86_400_000_000;

/// The state in PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    session: Session,
    statements: Statements,
    days: Days,
    /// The worker that this session is; 0 before it was started.
    epoch: u64,
    next_entity: EntityId,
    next_question: i64,
}

impl Postgres {
    /// Connects, becomes the relay of this state, and brings the schema to this program's version.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another relay has it; [`StoreError::Newer`] for a schema of a newer program;
    /// [`PostgresError`] when the server cannot be reached or refuses.
    pub fn open(address: &Address) -> Result<Self, StoreError> {
        let session = Session::open(address)?;
        let client = &session.client;
        let held = session.run(Lock::Relay.acquire(client));
        held.map_err(|error| match error.is_locked_out() {
            true => StoreError::InUse { path: address.place() },
            false => error.into(),
        })?;
        session.run(migrations::migrate(client))?;
        let statements = session.run(Statements::prepare(client))?;
        Ok(Self { session, statements, days: Days::default(), epoch: 0, next_entity: 1, next_question: 1 })
    }

    fn row(&self, statement: &Statement, of: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, StoreError> {
        Ok(self.session.run(async { Ok::<_, PostgresError>(self.session.client.query_opt(statement, of).await?) })?)
    }

    fn rows(&self, statement: &Statement, of: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        Ok(self.session.run(async { Ok::<_, PostgresError>(self.session.client.query(statement, of).await?) })?)
    }

    fn one(&self, statement: &Statement, key: &Key) -> Result<Option<i64>, StoreError> {
        let row = self.row(statement, &[&key.as_slice()])?;
        Ok(row.map(|row| row.try_get(0)).transpose().map_err(PostgresError::from)?)
    }

    /// Only the worker that was started on this session may act.
    const fn check(&self, epoch: u64) -> Result<(), StoreError> {
        if epoch == self.epoch { Ok(()) } else { Err(StoreError::LeaseLost { epoch }) }
    }

    /// Runs a statement that is too rare to be prepared. Returns the rows it touched.
    fn execute(&self, sql: &str, of: &[&(dyn ToSql + Sync)]) -> Result<i64, StoreError> {
        let rows = self.session.run(async { Ok::<_, PostgresError>(self.session.client.execute(sql, of).await?) })?;
        Ok(i64::try_from(rows).unwrap_or(i64::MAX))
    }

    async fn begin(&self, topic: &str) -> Result<Start, StoreError> {
        let client = &self.session.client;
        let put = "INSERT INTO meta(key,value) VALUES($1,$2) ON CONFLICT(key) DO NOTHING";
        client.execute(put, &[&"topic", &topic]).await.map_err(PostgresError::from)?;
        let salt =
            "INSERT INTO meta(key,value) VALUES('salt',replace(gen_random_uuid()::text,'-','')) ON CONFLICT DO NOTHING";
        client.execute(salt, &[]).await.map_err(PostgresError::from)?;
        let kept: String = rows::value(client, "SELECT value FROM meta WHERE key='topic'").await?;
        if kept != topic {
            return Err(StoreError::OtherTopic { kept, found: topic.to_owned() });
        }
        let epoch: i64 = rows::value(
            client,
            "INSERT INTO meta(key,value) VALUES('epoch','1')
             ON CONFLICT(key) DO UPDATE SET value=(meta.value::bigint+1)::text RETURNING value::bigint",
        )
        .await?;
        let salt: Vec<u8> = rows::value(client, "SELECT decode(value,'hex') FROM meta WHERE key='salt'").await?;
        let epoch = u64::try_from(epoch).unwrap_or(0);
        let work = rows::work(client).await?;
        Ok(Start {
            epoch,
            shared: false,
            until: i64::MAX,
            positions: rows::positions(client).await?,
            work: work.into_iter().map(|row| WorkRow { owner: epoch, until: 0, ..row }).collect(),
            counters: rows::counters(client).await?,
            sums: rows::sums(client).await?,
            goings: rows::pairs(client, "SELECT link,at FROM going ORDER BY n").await?,
            sizes: rows::pairs(client, "SELECT link,n FROM size").await?,
            salt: salt.try_into().unwrap_or_default(),
        })
    }
}

/// The session's lock is the lease: it ends with the session and not before, nobody else can start a worker meanwhile,
/// and nothing is committed but on this very session. So there is nothing to renew, to take over or to give away.
impl Store for Postgres {
    fn start(&mut self, topic: &str, _now: i64, _until: i64) -> Result<Start, StoreError> {
        let start = self.session.run(self.begin(topic))?;
        let client = &self.session.client;
        self.next_entity = self.session.run(rows::value(client, "SELECT coalesce(max(id),0)+1 FROM entity"))?;
        self.next_question = self.session.run(rows::value(client, "SELECT coalesce(max(id),0)+1 FROM question"))?;
        self.epoch = start.epoch;
        Ok(start)
    }

    fn renew(&mut self, epoch: u64, _now: i64, _until: i64) -> Result<(), StoreError> {
        self.check(epoch)
    }

    fn adopt(&mut self, epoch: u64, _now: i64, _most: usize) -> Result<Vec<WorkRow>, StoreError> {
        self.check(epoch)?;
        Ok(Vec::new())
    }

    fn take_partitions(&mut self, epoch: u64, _now: i64, partitions: &[u32]) -> Result<Vec<Position>, StoreError> {
        self.check(epoch)?;
        let positions = self.session.run(rows::positions(&self.session.client))?;
        Ok(positions.into_iter().filter(|p| partitions.contains(&p.partition)).collect())
    }

    fn leave(&mut self, epoch: u64) -> Result<(), StoreError> {
        self.check(epoch)?;
        self.epoch = 0;
        Ok(())
    }

    fn next_entity(&mut self) -> Result<EntityId, StoreError> {
        self.next_entity += 1;
        Ok(self.next_entity - 1)
    }

    fn next_question(&mut self) -> Result<i64, StoreError> {
        self.next_question += 1;
        Ok(self.next_question - 1)
    }

    fn forget_positions(&mut self) -> Result<(), StoreError> {
        self.execute("DELETE FROM position", &[]).map(drop)
    }

    fn numbers(&mut self, names: &[&str]) -> Result<Vec<u32>, StoreError> {
        let mut numbers = Vec::with_capacity(names.len());
        for name in names {
            // Looked for first, because an attempt to insert takes a number even where it finds the name.
            let there = "INSERT INTO name(text) SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM name WHERE text=$1)
                         ON CONFLICT DO NOTHING";
            self.execute(there, &[name])?;
            let find = async {
                Ok::<_, PostgresError>(
                    self.session.client.query_one("SELECT id FROM name WHERE text=$1", &[name]).await?.try_get(0)?,
                )
            };
            numbers.push(unsigned(self.session.run(find)?));
        }
        Ok(numbers)
    }

    fn entity(&mut self, id: EntityId, known: u64) -> Result<Look, StoreError> {
        let known = i64::try_from(known).unwrap_or(i64::MAX);
        if known > 0 && self.row(&self.statements.version, &[&id, &known])?.is_some() {
            return Ok(Look::Same);
        }
        // One statement, so that version, document and work rows are of one moment.
        let rows = self.rows(&self.statements.entity, &[&id])?;
        Ok(rows::entity(&rows)?.map_or(Look::Nothing, Look::Now))
    }

    fn member(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.one(&self.statements.member, key)
    }

    fn claim(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.one(&self.statements.claim, key)
    }

    fn hints(&mut self, key: &Key, most: usize) -> Result<Vec<EntityId>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.rows(&self.statements.hints, &[&key.as_slice(), &most])?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(PostgresError::from)?)
    }

    fn is_erased(&mut self, tombstone: &Key) -> Result<bool, StoreError> {
        Ok(self.one(&self.statements.tombstone, tombstone)?.is_some())
    }

    fn known(&mut self, change: &Key) -> Result<bool, StoreError> {
        Ok(self.one(&self.statements.change, change)?.is_some())
    }

    fn open_letter(&mut self, id: i64) -> Result<Option<(EntityId, u32, Vec<String>)>, StoreError> {
        let row = self.row(&self.statements.letter, &[&id])?;
        let read = |row: Row| -> Result<_, PostgresError> {
            Ok((row.try_get(0)?, unsigned(row.try_get(1)?), split_fields(row.try_get(2)?)))
        };
        Ok(row.map(read).transpose()?)
    }

    fn question(&mut self, id: i64) -> Result<Option<(EntityId, Option<QuestionEnd>)>, StoreError> {
        let row = self.row(&self.statements.question, &[&id])?;
        let read = |row: Row| -> Result<_, PostgresError> { Ok((row.try_get(0)?, rows::question_end(&row, 1)?)) };
        Ok(row.map(read).transpose()?)
    }

    fn documents(&mut self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        let rows = self.rows(&self.statements.documents, &[&after, &i64::from(limit)])?;
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        Ok(rows.iter().map(read).collect::<Result<_, PostgresError>>()?)
    }

    fn commit(&mut self, epoch: u64, _now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        if unit.is_empty() {
            return Ok(Committed::default());
        }
        self.check(epoch)?;
        let client = &self.session.client;
        self.session.run(self.days.make_for(client, unit))?;
        let written = self.session.run(Writer { client, statements: &self.statements }.commit(unit));
        if written.is_err() {
            // Where even this fails the session is of no use, and its end rolls back.
            let rolled = self.session.run(async { Ok::<_, PostgresError>(client.batch_execute("ROLLBACK").await?) });
            if let Err(error) = rolled {
                tracing::debug!(%error, "a refused unit could not be rolled back by hand");
            }
        }
        written
    }

    fn expire(&mut self, before: Before) -> Result<bool, StoreError> {
        let changes = self.execute(
            "DELETE FROM change WHERE id IN (SELECT id FROM change WHERE id<$3 AND at<$1 LIMIT $2)",
            &[&before.changes, &EXPIRE_ROWS, &super::change_bound(before.changes).as_slice()],
        )?;
        let days = self.session.run(self.days.expire(&self.session.client, before))?;
        let decisions = self.execute(
            "DELETE FROM decision WHERE n IN (SELECT n FROM decision WHERE n<=(SELECT min(n)+$2 FROM decision) AND at<$1)",
            &[&before.decisions, &EXPIRE_ROWS],
        )?;
        // The last one of questions and of letters stays, so that no number is ever given twice.
        let questions = self.execute(
            "DELETE FROM question WHERE id IN (SELECT id FROM question WHERE ended<$1 ORDER BY ended LIMIT $2)
             AND id<(SELECT max(id) FROM question)",
            &[&before.decisions, &EXPIRE_ROWS],
        )?;
        let letters = self.execute(
            "DELETE FROM dead_letter WHERE id IN
             (SELECT id FROM dead_letter WHERE state IN ('retried','skipped') AND closed<$1 LIMIT $2)
             AND id<(SELECT max(id) FROM dead_letter)",
            &[&before.letters, &EXPIRE_ROWS],
        )?;
        Ok(days || [changes, decisions, questions, letters].into_iter().any(|rows| rows >= EXPIRE_ROWS))
    }

    fn expire_lives(&mut self, now: i64) -> Result<bool, StoreError> {
        let goings = self.execute(
            "DELETE FROM going WHERE n IN (SELECT n FROM going WHERE at<$1 ORDER BY n LIMIT $2)",
            &[&(now - GOINGS), &EXPIRE_ROWS],
        )?;
        let tombstones = self.execute(
            "DELETE FROM tombstone WHERE key IN (SELECT key FROM tombstone WHERE at<$1 LIMIT $2)",
            &[&(now - TOMBSTONES), &EXPIRE_ROWS],
        )?;
        Ok(goings >= EXPIRE_ROWS || tombstones >= EXPIRE_ROWS)
    }
}

impl WorkRow {
    fn read(row: &Row) -> Result<Self, PostgresError> {
        Self::read_from(row, 0)
    }

    /// From six columns.
    fn read_from(row: &Row, at: usize) -> Result<Self, PostgresError> {
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Self {
            key: WorkKey { target: unsigned(row.try_get(at)?), entity: row.try_get(at + 1)? },
            due: row.try_get(at + 2)?,
            attempts: u32::try_from(row.try_get::<_, i64>(at + 3)?).unwrap_or(u32::MAX),
            owner: number(row.try_get(at + 4)?),
            until: row.try_get(at + 5)?,
        })
    }
}

/// Where to read a partition on.
fn position(row: &Row) -> Result<Position, PostgresError> {
    let (partition, offset): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Position { partition: u32::try_from(partition).unwrap_or(u32::MAX), offset: u64::try_from(offset).unwrap_or(0) })
}
