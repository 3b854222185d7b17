//! The state in PostgreSQL, for a relay whose machine may go: one connection for the engine, every row of a tick in a
//! fixed number of statements, one transaction per tick.
//!
//! One relay at a time works on a state, by a lease, and others stand by; or, where it is shared, all of them work at
//! once. A lease ends by itself, or as soon as the server sees the session of its worker gone, so that a relay that
//! died is succeeded at once and one that was paused is succeeded in time, and commits nothing when it goes on. When
//! the server goes away the tick is void, and the state is opened again from what is durable; nothing was sent that had
//! not been committed.

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
mod workers;
mod write;

pub use address::{Address, AddressError};
pub use error::PostgresError;
pub(super) use read::Reading;

use headgate_schemas::stream::Position;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use self::days::Days;
use self::session::{Lock, Session};
use self::statements::Statements;
use self::workers::Numbers;
use self::write::{Writer, contended, signed, unsigned};
use super::{
    Before, CANDIDATES, Committed, Division, EntityId, Key, Look, QuestionEnd, SharedBooks, Shelf, Start, Store,
    StoreError, Unit, WorkKey, WorkRow, split_fields,
};
use crate::books::Share;

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
    /// Several workers use it at once; otherwise one has it.
    shared: bool,
    /// A transaction is open that holds the others off.
    holds: bool,
    entities: Numbers,
    questions: Numbers,
}

impl Postgres {
    /// Connects, and brings the schema to this program's version.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a schema of a newer program; [`PostgresError`] when the server cannot be reached or
    /// refuses.
    pub fn open(address: &Address) -> Result<Self, StoreError> {
        let session = Session::open(address)?;
        let client = &session.client;
        session.run(migrations::migrate(client))?;
        let statements = session.run(Statements::prepare(client))?;
        let (entities, questions) = (Numbers::default(), Numbers::default());
        Ok(Self { session, statements, days: Days::default(), shared: false, holds: false, entities, questions })
    }

    /// [`Postgres::open`] for one of several workers that use the state at once.
    ///
    /// # Errors
    /// As there.
    pub fn open_shared(address: &Address) -> Result<Self, StoreError> {
        Ok(Self { shared: true, ..Self::open(address)? })
    }

    /// Does something as a whole or not at all.
    fn transaction<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let client = &self.session.client;
        let done = self.session.run(async {
            client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(PostgresError::from)?;
            let result = work(client).await?;
            client.batch_execute("COMMIT").await.map_err(PostgresError::from)?;
            Ok(result)
        });
        self.rolled_back(done)
    }

    /// Numbers that were taken within a transaction were given back with it, and others may have them by now.
    fn forget_numbers(&mut self) {
        (self.entities, self.questions) = (Numbers::default(), Numbers::default());
    }

    /// Ends the transaction of what failed. Where even this fails the session is of no use, and its end rolls back.
    fn rolled_back<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if done.is_err() {
            let client = &self.session.client;
            let rolled = self.session.run(async { Ok::<_, PostgresError>(client.batch_execute("ROLLBACK").await?) });
            if let Err(error) = rolled {
                tracing::debug!(%error, "a refused transaction could not be rolled back by hand");
            }
        }
        done
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

    /// Runs a statement that is too rare to be prepared. Returns the rows it touched.
    fn execute(&self, sql: &str, of: &[&(dyn ToSql + Sync)]) -> Result<i64, StoreError> {
        let rows = self.session.run(async { Ok::<_, PostgresError>(self.session.client.execute(sql, of).await?) })?;
        Ok(i64::try_from(rows).unwrap_or(i64::MAX))
    }

    /// Binds the state to the topic and takes a new epoch, whose lock this session holds from now on.
    async fn bind(&self, topic: &str) -> Result<u64, StoreError> {
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
        Lock::Worker(epoch).acquire(client).await?;
        Ok(u64::try_from(epoch).unwrap_or(0))
    }

    /// What there is, for a worker that has its lease.
    async fn begin(&self, epoch: u64, until: i64, work: Vec<WorkRow>) -> Result<Start, StoreError> {
        let client = &self.session.client;
        let salt: Vec<u8> = rows::value(client, "SELECT decode(value,'hex') FROM meta WHERE key='salt'").await?;
        Ok(Start {
            epoch,
            shared: self.shared,
            until,
            positions: rows::positions(client).await?,
            work,
            counters: rows::counters(client).await?,
            sums: rows::sums(client).await?,
            goings: rows::pairs(client, "SELECT link,at FROM going ORDER BY n").await?,
            sizes: rows::pairs(client, "SELECT link,n FROM size").await?,
            salt: salt.try_into().unwrap_or_default(),
        })
    }
}

impl Store for Postgres {
    fn start(&mut self, topic: &str, now: i64, until: i64) -> Result<Start, StoreError> {
        self.forget_numbers();
        let epoch = self.session.run(self.bind(topic))?;
        let work = if self.shared {
            self.transaction(async |client| workers::enter(client, epoch, now, until).await)?;
            Vec::new()
        } else {
            let bereft = self.session.run(workers::bereft(&self.session.client, now))?;
            self.transaction(async |client| workers::succeed(client, epoch, now, until, &bereft).await)?
        };
        self.session.run(self.begin(epoch, until, work))
    }

    fn renew(&mut self, epoch: u64, now: i64, until: i64) -> Result<(), StoreError> {
        self.session.run(workers::renew(&self.session.client, epoch, now, until))
    }

    fn adopt(&mut self, epoch: u64, now: i64, most: usize) -> Result<Vec<WorkRow>, StoreError> {
        self.transaction(async |client| workers::adopt(client, epoch, now, most).await)
    }

    fn take_partitions(&mut self, epoch: u64, now: i64, partitions: &[u32]) -> Result<Vec<Position>, StoreError> {
        self.transaction(async |client| workers::take_partitions(client, epoch, now, partitions).await)
    }

    fn divide(&mut self, epoch: u64, now: i64, partitions: u32) -> Result<Division, StoreError> {
        self.transaction(async |client| workers::divide(client, epoch, now, partitions).await)
    }

    fn shared_books(&mut self) -> Result<Option<SharedBooks>, StoreError> {
        let client = &self.session.client;
        let read = self.session.run(async {
            client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let books = workers::books(client).await?;
            client.batch_execute("COMMIT").await?;
            Ok::<_, PostgresError>(books)
        });
        self.rolled_back(read.map_err(StoreError::from))
    }

    fn open_documents(&mut self, after: EntityId, most: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        let sql = "SELECT id,doc FROM entity WHERE id IN
                   (SELECT DISTINCT entity FROM work WHERE entity>$1 ORDER BY entity LIMIT $2) ORDER BY id";
        let found = self.session.run(async {
            let rows = self.session.client.query(sql, &[&after, &i64::from(most)]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, PostgresError>>()
        });
        Ok(found?)
    }

    fn count_open(&mut self, epoch: u64, now: i64, open: &[(Share, i64)]) -> Result<(), StoreError> {
        let (statements, shared) = (&self.statements, self.shared);
        self.transaction(async |client| {
            let writer = Writer { client, statements, shared, holds: false };
            let is_first = workers::first_to_count(client, epoch, now).await?;
            if is_first { writer.open(open).await } else { Ok(()) }
        })
    }

    fn hold_others(&mut self) -> Result<(), StoreError> {
        let client = &self.session.client;
        self.holds = true;
        let held = self.session.run(async {
            client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
            Lock::Way.acquire(client).await
        });
        if held.is_err() {
            self.let_others()?;
        }
        held.map_err(|error| contended(error.into()))
    }

    fn let_others(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.holds) {
            self.forget_numbers();
            let client = &self.session.client;
            self.session.run(async { Ok::<_, PostgresError>(client.batch_execute("ROLLBACK").await?) })?;
        }
        Ok(())
    }

    fn leave(&mut self, epoch: u64) -> Result<(), StoreError> {
        Ok(self.session.run(workers::leave(&self.session.client, epoch))?)
    }

    fn next_entity(&mut self) -> Result<EntityId, StoreError> {
        self.session.run(self.entities.next(&self.session.client, "entity")).map_err(number_error)
    }

    fn next_question(&mut self) -> Result<i64, StoreError> {
        self.session.run(self.questions.next(&self.session.client, "question")).map_err(number_error)
    }

    fn rebind(&mut self, topic: &str, now: i64) -> Result<(), StoreError> {
        if !self.shared {
            self.session.run(workers::bereft(&self.session.client, now))?;
        }
        self.transaction(async |client| {
            let put = "INSERT INTO meta(key,value) VALUES('topic',$1)
                       ON CONFLICT(key) DO UPDATE SET value=$1 WHERE meta.value<>$1";
            let was_here = client.execute(put, &[&topic]).await.map_err(PostgresError::from)? == 0;
            // Another worker was. Where one is alone the log may be the same one, and have become shorter.
            if was_here && self.shared {
                return Ok(());
            }
            let forget = "DELETE FROM worker; DELETE FROM position";
            Ok(client.batch_execute(forget).await.map_err(PostgresError::from)?)
        })
    }

    fn forget_place(&mut self, place: Position) -> Result<(), StoreError> {
        let sql = "UPDATE position SET off=NULL WHERE part=$1 AND off=$2";
        self.execute(sql, &[&i64::from(place.partition), &signed(place.offset)]).map(drop)
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
        let found = self.rows(&self.statements.entity, &[&id, &signed(known)])?;
        Ok(workers::look(id, &found)?)
    }

    fn member(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.one(&self.statements.member, key)
    }

    fn claim(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.one(&self.statements.claim, key)
    }

    fn hints(&mut self, key: &Key) -> Result<Vec<EntityId>, StoreError> {
        let keys = [key.as_slice()];
        let row = self.row(&self.statements.hints, &[&keys.as_slice(), &i64::from(CANDIDATES)])?;
        Ok(row.map(|row| row.try_get(0)).transpose().map_err(PostgresError::from)?.unwrap_or_default())
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

    fn kept(&mut self, shelf: Shelf, name: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let sql = "SELECT name,value FROM kept WHERE shelf=$1 AND ($2::text IS NULL OR name=$2) ORDER BY name";
        let find = async {
            let rows = self.session.client.query(sql, &[&shelf.number(), &name]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, PostgresError>>()
        };
        Ok(self.session.run(find)?)
    }

    fn documents(&mut self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        let rows = self.rows(&self.statements.documents, &[&after, &i64::from(limit)])?;
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        Ok(rows.iter().map(read).collect::<Result<_, PostgresError>>()?)
    }

    fn commit(&mut self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        if unit.is_empty() {
            self.let_others()?;
            return Ok(Committed::default());
        }
        let late = self.holds && self.days.lack(unit);
        if late {
            // Where others are held off, none can be made: the next attempt finds them.
            self.let_others()?;
        }
        let client = &self.session.client;
        self.session.run(self.days.make_for(client, unit))?;
        if late {
            return Err(StoreError::Taken);
        }
        let holds = std::mem::take(&mut self.holds);
        let writer = Writer { client, statements: &self.statements, shared: self.shared, holds };
        let committed = self.rolled_back(self.session.run(writer.commit(epoch, now, unit)));
        if holds && committed.is_err() {
            self.forget_numbers();
        }
        committed
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

/// Numbers are waited for while another worker that took some holds the others off.
fn number_error(error: PostgresError) -> StoreError {
    contended(error.into())
}

impl WorkRow {
    fn read(row: &Row) -> Result<Self, PostgresError> {
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Self {
            key: WorkKey { target: unsigned(row.try_get(0)?), entity: row.try_get(1)? },
            due: row.try_get(2)?,
            attempts: u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or(u32::MAX),
            owner: number(row.try_get(4)?),
            until: row.try_get(5)?,
        })
    }
}
