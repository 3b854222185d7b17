//! The state in one SQLite file: one writer, prepared statements, plain rows, one transaction per tick.
//!
//! `synchronous=FULL`: after a power cut a forgotten ledger row would make us take our own write for a user's edit, and
//! the stream cannot bring such a row back. What was only read it can bring back: such ticks may share a transaction.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use headgate_schemas::ChangeId;
use headgate_schemas::failpoint::pass;
use headgate_schemas::stream::Position;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{
    AuditRow, Before, Committed, Counter, Division, EntityId, EntityRow, Key, KeyWrite, Look, OutcomeRow, QuestionEnd,
    SharedBooks, Shelf, Start, Store, StoreError, Unit, WorkKey, WorkRow, asked, kept, lives, outcomes, split_fields,
    trail, worker,
};
use crate::books::{Place, Share, Sum};
use crate::step;

/// Schema version kept in `user_version`.
const VERSION: i64 = 7;

const SCHEMA: &str = "
CREATE TABLE entity(id INTEGER PRIMARY KEY, ver INTEGER NOT NULL, doc BLOB NOT NULL);
CREATE TABLE member(key BLOB PRIMARY KEY, entity INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE claim(key BLOB PRIMARY KEY, entity INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE change(id BLOB PRIMARY KEY, at INTEGER NOT NULL, again INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE work(target INTEGER NOT NULL, entity INTEGER NOT NULL, due INTEGER NOT NULL, attempts INTEGER NOT NULL,
  owner INTEGER NOT NULL, until INTEGER NOT NULL, PRIMARY KEY(entity, target)) WITHOUT ROWID;
CREATE TABLE counter(name INTEGER PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE sum(link INTEGER NOT NULL, target INTEGER NOT NULL, what INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY(link, target, what)) WITHOUT ROWID;
CREATE TABLE name(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE dead_letter(id INTEGER PRIMARY KEY, entity INTEGER NOT NULL, target INTEGER NOT NULL, at INTEGER NOT NULL,
  code TEXT NOT NULL, message BLOB NOT NULL, fields TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
  closed INTEGER NOT NULL DEFAULT 0);
CREATE INDEX dead_letter_open ON dead_letter(state, id);
CREATE INDEX dead_letter_of ON dead_letter(entity, id);
CREATE TABLE audit(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
  subject TEXT NOT NULL, before BLOB, after BLOB);
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Rows that one call of [`Store::expire`] takes away at most.
const EXPIRE_ROWS: i64 = 10_000;

/// The state in a SQLite file, or in memory for tests.
#[derive(Debug)]
pub struct Sqlite {
    pub(super) db: Connection,
    /// Several workers of this process use it; otherwise a start ends whoever was there before.
    pub(super) shared: bool,
    next_entity: EntityId,
    next_question: i64,
    /// Held for as long as the state is open.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens the file, making it and its folders where they are missing.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it open; [`StoreError::Newer`] for a file of a newer program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = |source| StoreError::File { path: path.display().to_string(), source };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(file)?;
        }
        let lock_path = lock_path(path);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(file)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: path.display().to_string() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(file(source)),
        }
        // It holds contacts' fields: nobody else on this machine reads it. SQLite gives its side files the same mode.
        File::options().create(true).append(true).mode(0o600).open(path).map_err(file)?;
        let db = Connection::open(path)?;
        Self::prepare(db, Some(lock))
    }

    /// A state that is gone when it is dropped.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?, None)
    }

    /// A state that several workers of this process use at once, each by a handle that the caller makes of it.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn shared(mut self) -> Result<Self, StoreError> {
        self.db.execute_batch(worker::SHARED)?;
        self.shared = true;
        Ok(self)
    }

    fn prepare(db: Connection, lock: Option<File>) -> Result<Self, StoreError> {
        // The file beside it is emptied when it holds 32,000 pages, 128 MiB: a page that changes often is copied once then.
        db.execute_batch(
            "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=32000;
             PRAGMA cache_size=-64000; PRAGMA temp_store=MEMORY;",
        )?;
        db.set_prepared_statement_cache_capacity(64);
        let found: i64 = db.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        match found {
            0 => {
                let parts = [
                    SCHEMA,
                    asked::SCHEMA,
                    kept::SCHEMA,
                    lives::SCHEMA,
                    outcomes::SCHEMA,
                    trail::SCHEMA,
                    worker::SCHEMA,
                ];
                let parts = parts.concat();
                db.execute_batch(&format!("BEGIN IMMEDIATE; {parts} PRAGMA user_version={VERSION}; COMMIT;"))?;
            }
            VERSION => {}
            _ if found < VERSION => return Err(StoreError::Older { found, known: VERSION }),
            _ => return Err(StoreError::Newer { found, known: VERSION }),
        }
        let mut store = Self { db, shared: false, next_entity: 1, next_question: 1, _lock: lock };
        store.number_on()?;
        Ok(store)
    }

    /// New numbers are those after the highest there is.
    fn number_on(&mut self) -> Result<(), StoreError> {
        self.next_entity = self.db.query_row("SELECT coalesce(max(id),0)+1 FROM entity", [], |r| r.get(0))?;
        self.next_question = asked::next_question(&self.db)?;
        Ok(())
    }

    fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.db.prepare_cached("SELECT value FROM meta WHERE key=?1")?;
        Ok(statement.query_row([key], |r| r.get(0)).optional()?)
    }

    fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached("INSERT INTO meta(key,value) VALUES(?1,?2) ON CONFLICT(key) DO UPDATE SET value=?2")?
            .execute(params![key, value])?;
        Ok(())
    }

    /// Made once, at the first start.
    fn salt(&self) -> Result<Key, StoreError> {
        let made = "INSERT OR IGNORE INTO meta(key,value) VALUES('salt',hex(randomblob(16)))";
        self.db.execute(made, [])?;
        Ok(self.db.query_row("SELECT unhex(value) FROM meta WHERE key='salt'", [], |r| r.get(0))?)
    }

    fn one(&self, sql: &str, key: &Key) -> Result<Option<EntityId>, StoreError> {
        Ok(self.db.prepare_cached(sql)?.query_row([key.as_slice()], |r| r.get(0)).optional()?)
    }

    /// Does something as a whole or not at all.
    fn transaction<R>(&self, act: impl FnOnce(&Connection) -> Result<R, StoreError>) -> Result<R, StoreError> {
        if self.db.is_autocommit() {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
        }
        let done = act(&self.db).and_then(|result| {
            self.db.execute_batch("COMMIT")?;
            Ok(result)
        });
        if done.is_err() {
            self.roll_back()?;
        }
        done
    }

    /// Ends the transaction of what failed, unless the failure was one that ended it: a full disk does.
    fn roll_back(&self) -> Result<(), StoreError> {
        if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK")?;
        }
        Ok(())
    }

    fn write(&self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        worker::check(&self.db, epoch, now)?;
        worker::move_positions(&self.db, epoch, &unit.positions)?;
        self.write_entities(unit)?;
        self.write_identity(unit)?;
        self.write_work(unit)?;
        asked::write(&self.db, unit)?;
        lives::write(&self.db, unit)?;
        trail::write(&self.db, &unit.trail)?;
        kept::write(&self.db, unit)?;
        let committed = outcomes::write(&self.db, &unit.outcomes)?;
        self.write_sums(unit, &committed)?;
        self.write_letters(unit)?;
        let mut audit =
            self.db.prepare_cached("INSERT INTO audit(at,who,what,subject,before,after) VALUES(?1,?2,?3,?4,?5,?6)")?;
        for a in &unit.audit {
            let (before, after) = (a.before.as_ref().map(Key::as_slice), a.after.as_ref().map(Key::as_slice));
            audit.execute(params![a.at, a.who, a.what, a.subject, before, after])?;
        }
        Ok(committed)
    }

    fn write_sums(&self, unit: &Unit, committed: &Committed) -> Result<(), StoreError> {
        let mut sum = self.db.prepare_cached(
            "INSERT INTO sum(link,target,what,n) VALUES(?1,?2,?3,?4) ON CONFLICT(link,target,what) DO UPDATE SET n=n+?4",
        )?;
        let due = unit.due.iter().map(|(place, n)| (place, Sum::Due, n));
        let ended = committed.ended.iter().map(|(place, outcome, n)| (place, Sum::Ended(*outcome), n));
        for (place, what, n) in due.chain(ended) {
            sum.execute(params![place.link, place.target, what.number(), n])?;
        }
        if self.shared {
            worker::add_open(&self.db, &unit.open)?;
        }
        let mut counter = self
            .db
            .prepare_cached("INSERT INTO counter(name,n) VALUES(?1,?2) ON CONFLICT(name) DO UPDATE SET n=n+?2")?;
        let doubled = (committed.doubled > 0).then_some((Counter::Doubled, committed.doubled));
        for (name, n) in unit.counters.iter().copied().chain(doubled) {
            counter.execute(params![name as u8, n])?;
        }
        Ok(())
    }

    fn write_letters(&self, unit: &Unit) -> Result<(), StoreError> {
        let mut letter = self.db.prepare_cached(
            "INSERT INTO dead_letter(entity,target,at,code,message,fields) VALUES(?1,?2,?3,?4,?5,?6)",
        )?;
        for d in &unit.dead_letters {
            letter.execute(params![d.entity, d.target, d.at, d.code, d.message, d.fields.join(",")])?;
        }
        let mut close =
            self.db.prepare_cached("UPDATE dead_letter SET state=?2, closed=?3 WHERE id=?1 AND state='open'")?;
        for letter in &unit.closed_letters {
            close.execute(params![letter.id, if letter.again { "retried" } else { "skipped" }, letter.at])?;
        }
        Ok(())
    }

    fn write_entities(&self, unit: &Unit) -> Result<(), StoreError> {
        let mut insert = self.db.prepare_cached("INSERT OR IGNORE INTO entity(id,ver,doc) VALUES(?1,1,?2)")?;
        let mut update = self.db.prepare_cached("UPDATE entity SET ver=?2+1, doc=?3 WHERE id=?1 AND ver=?2")?;
        let mut touch = self.db.prepare_cached("UPDATE entity SET ver=?2+1 WHERE id=?1 AND ver=?2")?;
        let mut same = self.db.prepare_cached("SELECT 1 FROM entity WHERE id=?1 AND ver=?2")?;
        for e in &unit.entities {
            let rows = match (signed(e.version), &e.doc) {
                (0, Some(doc)) => insert.execute(params![e.id, doc])?,
                (version, Some(doc)) => update.execute(params![e.id, version, doc])?,
                (version, None) => touch.execute(params![e.id, version])?,
            };
            if rows != 1 {
                return Err(StoreError::Moved { entity: e.id });
            }
        }
        for (id, version) in &unit.unchanged {
            if !same.exists(params![id, signed(*version)])? {
                return Err(StoreError::Moved { entity: *id });
            }
        }
        Ok(())
    }

    fn write_identity(&self, unit: &Unit) -> Result<(), StoreError> {
        self.write_keys("member", &unit.members)?;
        self.write_keys("claim", &unit.claims)?;
        let mut change = self.db.prepare_cached("INSERT OR IGNORE INTO change(id,at) VALUES(?1,?2)")?;
        // Neighbours in time stand side by side.
        let mut changes: Vec<_> = unit.changes.iter().collect();
        changes.sort_unstable();
        for (key, at) in changes {
            if change.execute(params![key.as_slice(), at])? != 1 {
                return Err(StoreError::Taken);
            }
        }
        let mut again = self.db.prepare_cached("UPDATE change SET again=again+1 WHERE id=?1")?;
        for key in &unit.repeats {
            again.execute([key.as_slice()])?;
        }
        Ok(())
    }

    fn write_keys(&self, table: &str, keys: &[KeyWrite]) -> Result<(), StoreError> {
        let sql = |text: &str| text.replace("TABLE", table);
        let mut put = self.db.prepare_cached(&sql("INSERT OR IGNORE INTO TABLE(key,entity) VALUES(?1,?2)"))?;
        let mut pass_on = self.db.prepare_cached(&sql("UPDATE TABLE SET entity=?2 WHERE key=?1 AND entity=?3"))?;
        let mut drop = self.db.prepare_cached(&sql("DELETE FROM TABLE WHERE key=?1 AND entity=?2"))?;
        let mut there = self.db.prepare_cached(&sql("SELECT 1 FROM TABLE WHERE key=?1"))?;
        for KeyWrite { key, was, now } in keys {
            let key = key.as_slice();
            let rows = match (was, now) {
                (None, Some(now)) => put.execute(params![key, now])?,
                (Some(was), Some(now)) => pass_on.execute(params![key, now, was])?,
                (Some(was), None) => drop.execute(params![key, was])?,
                (None, None) => usize::from(!there.exists([key])?),
            };
            if rows != 1 {
                return Err(StoreError::Taken);
            }
        }
        Ok(())
    }

    fn write_work(&self, unit: &Unit) -> Result<(), StoreError> {
        let mut put = self.db.prepare_cached(
            "INSERT INTO work(target,entity,due,attempts,owner,until) VALUES(?1,?2,?3,?4,?5,?6)
             ON CONFLICT(entity,target) DO UPDATE SET due=?3, attempts=?4, owner=?5, until=?6",
        )?;
        for w in &unit.work {
            put.execute(params![w.key.target, w.key.entity, w.due, w.attempts, signed(w.owner), w.until])?;
        }
        let mut done = self.db.prepare_cached("DELETE FROM work WHERE target=?1 AND entity=?2")?;
        for key in &unit.done {
            done.execute(params![key.target, key.entity])?;
        }
        Ok(())
    }
}

impl Store for Sqlite {
    fn start(&mut self, topic: &str, _now: i64, until: i64) -> Result<Start, StoreError> {
        match self.meta("topic")? {
            Some(kept) if kept != topic => {
                return Err(StoreError::OtherTopic { kept, found: topic.to_owned() });
            }
            Some(_) => {}
            None => self.set_meta("topic", topic)?,
        }
        let epoch = self.meta("epoch")?.and_then(|e| e.parse::<u64>().ok()).unwrap_or(0) + 1;
        self.set_meta("epoch", &epoch.to_string())?;
        let work = if self.shared {
            worker::join(&self.db, epoch, until)?;
            Vec::new()
        } else {
            self.number_on()?;
            worker::succeed(&self.db, epoch)?
        };
        let (goings, sizes) = lives::standing(&self.db)?;
        Ok(Start {
            epoch,
            shared: self.shared,
            // The lock on the file says that nobody else has it.
            until: if self.shared { until } else { i64::MAX },
            positions: worker::positions(&self.db)?,
            work,
            counters: counters(&self.db)?,
            sums: sums(&self.db)?,
            goings,
            sizes,
            salt: self.salt()?,
        })
    }

    fn rebind(&mut self, topic: &str, _now: i64) -> Result<(), StoreError> {
        self.transaction(|db| {
            // Another worker was here already. Where one is alone the log may be the same one, and have become shorter.
            if self.shared && self.meta("topic")?.is_some_and(|kept| kept == topic) {
                return Ok(());
            }
            db.execute_batch("DELETE FROM worker; DELETE FROM position;")?;
            self.set_meta("topic", topic)
        })
    }

    fn forget_place(&mut self, place: Position) -> Result<(), StoreError> {
        worker::forget_place(&self.db, place)
    }

    fn renew(&mut self, epoch: u64, now: i64, until: i64) -> Result<(), StoreError> {
        worker::renew(&self.db, epoch, now, until)
    }

    fn adopt(&mut self, epoch: u64, now: i64, most: usize) -> Result<Vec<WorkRow>, StoreError> {
        self.transaction(|db| worker::adopt(db, epoch, now, most))
    }

    fn take_partitions(&mut self, epoch: u64, now: i64, partitions: &[u32]) -> Result<Vec<Position>, StoreError> {
        self.transaction(|db| worker::take_partitions(db, epoch, now, partitions))
    }

    fn divide(&mut self, epoch: u64, now: i64, partitions: u32) -> Result<Division, StoreError> {
        let (goings, sizes) = lives::standing(&self.db)?;
        let divided = self.transaction(|db| worker::divide(db, epoch, now, partitions))?;
        Ok(Division { goings, sizes, ..divided })
    }

    fn shared_books(&mut self) -> Result<Option<SharedBooks>, StoreError> {
        let counted = self.meta("open")?.is_some();
        let open = worker::open(&self.db)?;
        Ok(counted.then_some(SharedBooks { sums: sums(&self.db)?, open }))
    }

    fn open_documents(&mut self, after: EntityId, most: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        worker::open_documents(&self.db, after, most)
    }

    fn count_open(&mut self, epoch: u64, now: i64, open: &[(Share, i64)]) -> Result<(), StoreError> {
        self.transaction(|db| {
            worker::check(db, epoch, now)?;
            if self.meta("open")?.is_none() {
                self.set_meta("open", "counted")?;
                worker::add_open(db, open)?;
            }
            Ok(())
        })
    }

    /// Nobody is beside a worker on a file while it reads and commits.
    fn hold_others(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn let_others(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn leave(&mut self, epoch: u64) -> Result<(), StoreError> {
        worker::leave(&self.db, epoch)
    }

    fn next_entity(&mut self) -> Result<EntityId, StoreError> {
        self.next_entity += 1;
        Ok(self.next_entity - 1)
    }

    fn next_question(&mut self) -> Result<i64, StoreError> {
        self.next_question += 1;
        Ok(self.next_question - 1)
    }

    fn numbers(&mut self, names: &[&str]) -> Result<Vec<u32>, StoreError> {
        let mut numbers = Vec::with_capacity(names.len());
        for name in names {
            self.db.prepare_cached("INSERT OR IGNORE INTO name(text) VALUES(?1)")?.execute([name])?;
            numbers.push(self.db.prepare_cached("SELECT id FROM name WHERE text=?1")?.query_row([name], |r| r.get(0))?);
        }
        Ok(numbers)
    }

    fn entity(&mut self, id: EntityId, known: u64) -> Result<Look, StoreError> {
        if known > 0 {
            let mut same = self.db.prepare_cached("SELECT 1 FROM entity WHERE id=?1 AND ver=?2")?;
            if same.exists(params![id, signed(known)])? {
                return Ok(Look::Same);
            }
        }
        // One connection: nothing is written between the two statements.
        let mut statement = self.db.prepare_cached("SELECT ver,doc FROM entity WHERE id=?1")?;
        let row = statement.query_row([id], |r| Ok((r.get::<_, i64>(0)?, r.get(1)?))).optional()?;
        let Some((version, doc)) = row else { return Ok(Look::Nothing) };
        let work = worker::rows_of(&self.db, id)?;
        Ok(Look::Now(EntityRow { version: u64::try_from(version).unwrap_or(0), doc, work }))
    }

    fn member(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.one("SELECT entity FROM member WHERE key=?1", key)
    }

    fn claim(&mut self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        self.one("SELECT entity FROM claim WHERE key=?1", key)
    }

    fn hints(&mut self, key: &Key) -> Result<Vec<EntityId>, StoreError> {
        lives::hints(&self.db, key)
    }

    fn is_erased(&mut self, tombstone: &Key) -> Result<bool, StoreError> {
        lives::is_erased(&self.db, tombstone)
    }

    fn known(&mut self, change: &Key) -> Result<bool, StoreError> {
        Ok(self.one("SELECT at FROM change WHERE id=?1", change)?.is_some())
    }

    fn open_letter(&mut self, id: i64) -> Result<Option<(EntityId, u32, Vec<String>)>, StoreError> {
        let mut statement =
            self.db.prepare_cached("SELECT entity,target,fields FROM dead_letter WHERE id=?1 AND state='open'")?;
        let row = statement.query_row([id], |r| Ok((r.get(0)?, r.get(1)?, r.get::<_, String>(2)?))).optional()?;
        Ok(row.map(|(entity, target, fields)| (entity, target, split_fields(&fields))))
    }

    fn question(&mut self, id: i64) -> Result<Option<(EntityId, Option<QuestionEnd>)>, StoreError> {
        asked::question(&self.db, id)
    }

    fn kept(&mut self, shelf: Shelf, name: Option<&str>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        kept::read(&self.db, shelf, name)
    }

    fn documents(&mut self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        documents(&self.db, after, limit)
    }

    fn expire_lives(&mut self, now: i64) -> Result<bool, StoreError> {
        lives::expire(&self.db, now)
    }

    /// A read outside of a transaction locks and unlocks the file, and a tick reads something for each change. Nobody else
    /// writes, so that the transaction may go on to write in the end.
    fn begin_unit(&mut self) -> Result<(), StoreError> {
        if !self.shared && self.db.is_autocommit() {
            self.db.execute_batch("BEGIN")?;
        }
        Ok(())
    }

    fn commit(&mut self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        if unit.is_empty() {
            if !self.db.is_autocommit() {
                self.db.execute_batch("COMMIT")?;
            }
            return Ok(Committed::default());
        }
        self.transaction(|_| {
            let committed = self.write(epoch, now, unit)?;
            pass(step::WRITTEN);
            Ok(committed)
        })
    }

    fn commit_later(&mut self, epoch: u64, now: i64, unit: &Unit) -> Result<Committed, StoreError> {
        if self.shared {
            return self.commit(epoch, now, unit);
        }
        self.begin_unit()?;
        if unit.is_empty() {
            return Ok(Committed::default());
        }
        let written = self.write(epoch, now, unit);
        pass(step::WRITTEN);
        if written.is_err() {
            self.roll_back()?;
        }
        written
    }

    fn expire(&mut self, before: Before) -> Result<bool, StoreError> {
        let delete = |sql: &str, before: i64| -> Result<bool, StoreError> {
            let rows = self.db.prepare_cached(sql)?.execute(params![before, EXPIRE_ROWS])?;
            Ok(i64::try_from(rows).unwrap_or(i64::MAX) >= EXPIRE_ROWS)
        };
        let changes = self
            .db
            .prepare_cached("DELETE FROM change WHERE id IN (SELECT id FROM change WHERE id<?3 AND at<?1 LIMIT ?2)")?
            .execute(params![before.changes, EXPIRE_ROWS, super::change_bound(before.changes).as_slice()])?;
        let mut more = i64::try_from(changes).unwrap_or(i64::MAX) >= EXPIRE_ROWS;
        more |= outcomes::expire(&self.db, before.outcomes)?;
        more |= trail::expire(&self.db, before.outcomes)?;
        more |= asked::expire(&self.db, before.decisions)?;
        more |= delete(
            "DELETE FROM dead_letter WHERE id IN
             (SELECT id FROM dead_letter WHERE state IN ('retried','skipped') AND closed<?1 LIMIT ?2)
             AND id<(SELECT max(id) FROM dead_letter)",
            before.letters,
        )?;
        more |= delete(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at<?1 ORDER BY id LIMIT ?2)",
            before.audit,
        )?;
        Ok(more)
    }
}

/// As SQLite counts: it has no unsigned numbers.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn counters(db: &Connection) -> Result<Vec<(Counter, i64)>, StoreError> {
    let rows: Vec<(u8, i64)> = db
        .prepare("SELECT name,n FROM counter")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let known = [Counter::Changes, Counter::Repeats, Counter::Doubled];
    Ok(rows.into_iter().filter_map(|(c, n)| known.into_iter().find(|k| *k as u8 == c).map(|k| (k, n))).collect())
}

fn sums(db: &Connection) -> Result<Vec<(Place, Sum, i64)>, StoreError> {
    let rows: Vec<(Place, u8, i64)> = db
        .prepare("SELECT link,target,what,n FROM sum")?
        .query_map([], |r| Ok((Place { link: r.get(0)?, target: r.get(1)? }, r.get(2)?, r.get(3)?)))?
        .collect::<Result<_, _>>()?;
    let known = |number: u8| Sum::ALL.into_iter().find(|sum| sum.number() == number);
    Ok(rows.into_iter().filter_map(|(place, what, n)| Some((place, known(what)?, n))).collect())
}

fn documents(db: &Connection, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT id,doc FROM entity WHERE id>?1 ORDER BY id LIMIT ?2")?;
    Ok(statement.query_map(params![after, limit], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?)
}

/// Reads the state beside the engine, for the admin API: a connection of its own that cannot write.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) db: Connection,
}

/// A dead letter as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedLetter {
    /// Its number.
    pub id: i64,
    /// The entity.
    pub entity: EntityId,
    /// The target's connection.
    pub target: u32,
    /// When, by our clock in microseconds.
    pub at: i64,
    /// The target's code.
    pub code: String,
    /// The target's words, sealed.
    pub message: Vec<u8>,
    /// The neutral fields refused.
    pub fields: Vec<String>,
    /// `open`, `retried` or `skipped`.
    pub state: String,
}

impl Reader {
    /// Opens a state file that exists.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(std::time::Duration::from_secs(2))?;
        Ok(Self { db })
    }

    /// The entity of a record.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn member(&self, key: &Key) -> Result<Option<EntityId>, StoreError> {
        let mut statement = self.db.prepare_cached("SELECT entity FROM member WHERE key=?1")?;
        Ok(statement.query_row([key.as_slice()], |r| r.get(0)).optional()?)
    }

    /// An entity's document.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn document(&self, id: EntityId) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self.db.prepare_cached("SELECT doc FROM entity WHERE id=?1")?;
        Ok(statement.query_row([id], |r| r.get(0)).optional()?)
    }

    /// Entities by number, from `after`, oldest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn documents(&self, after: EntityId, limit: u32) -> Result<Vec<(EntityId, Vec<u8>)>, StoreError> {
        documents(&self.db, after, limit)
    }

    /// Names by their numbers.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn names(&self) -> Result<Vec<(u32, String)>, StoreError> {
        let mut statement = self.db.prepare_cached("SELECT id,text FROM name")?;
        Ok(statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
    }

    /// How often a change came again. `None` when it is not known (any more).
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn repeats(&self, change: &Key) -> Result<Option<u32>, StoreError> {
        let mut statement = self.db.prepare_cached("SELECT again FROM change WHERE id=?1")?;
        Ok(statement.query_row([change.as_slice()], |r| r.get(0)).optional()?)
    }

    /// What waits for an entity at a target.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn work(&self, key: WorkKey) -> Result<Option<WorkRow>, StoreError> {
        let mut statement =
            self.db.prepare_cached("SELECT due,attempts,owner,until FROM work WHERE target=?1 AND entity=?2")?;
        let row = statement.query_row(params![key.target, key.entity], |r| {
            let owner = u64::try_from(r.get::<_, i64>(2)?).unwrap_or(0);
            Ok(WorkRow { key, due: r.get(0)?, attempts: r.get(1)?, owner, until: r.get(3)? })
        });
        Ok(row.optional()?)
    }

    /// The newest outcomes of an entity; `newest` is where its chain starts ([`crate::entity::Entity::outcome`]).
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn outcomes(&self, entity: EntityId, newest: i64, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        outcomes::of_entity(&self.db, entity, newest, limit)
    }

    /// How a change ended, by target; empty while it is open. `None` when it is not known: it was never taken, or so
    /// long ago that it was forgotten.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn outcomes_of_change(
        &self,
        key: &Key,
        change: ChangeId,
    ) -> Result<Option<Vec<OutcomeRow>>, StoreError> {
        outcomes::of_change(&self.db, key, change)
    }

    /// Outcomes of the changes that were taken last before a time, the newest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn recent_outcomes(&self, before: i64, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        outcomes::recent(&self.db, before, limit)
    }

    /// What was done, the newest first, from before number `before` on.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn audit(&self, before: i64, limit: u32) -> Result<Vec<(i64, AuditRow)>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id,at,who,what,subject,before,after FROM audit WHERE id<?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![before, limit], |r| {
            let (who, what, subject) = (r.get(2)?, r.get(3)?, r.get(4)?);
            Ok((r.get(0)?, AuditRow { at: r.get(1)?, who, what, subject, before: r.get(5)?, after: r.get(6)? }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Dead letters, newest first; all or only the open ones.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn letters(&self, only: Option<i64>, open: bool, limit: u32) -> Result<Vec<ListedLetter>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id,entity,target,at,code,message,fields,state FROM dead_letter
             WHERE (?1 IS NULL OR id=?1) AND (?2=0 OR state='open') ORDER BY id DESC LIMIT ?3",
        )?;
        let rows = statement.query_map(params![only, open, limit], |r| {
            Ok(ListedLetter {
                id: r.get(0)?,
                entity: r.get(1)?,
                target: r.get(2)?,
                at: r.get(3)?,
                code: r.get(4)?,
                message: r.get(5)?,
                fields: split_fields(&r.get::<_, String>(6)?),
                state: r.get(7)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Numbers of the dead letters of an entity, newest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn letters_of(&self, entity: EntityId, limit: u32) -> Result<Vec<i64>, StoreError> {
        let mut statement =
            self.db.prepare_cached("SELECT id FROM dead_letter WHERE entity=?1 ORDER BY id DESC LIMIT ?2")?;
        Ok(statement.query_map(params![entity, limit], |r| r.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Counters as of the last commit.
    ///
    /// # Errors
    /// When SQLite fails.
    pub(super) fn counters(&self) -> Result<Vec<(Counter, i64)>, StoreError> {
        counters(&self.db)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EntityWrite;

    #[test]
    fn a_full_disk_is_what_is_told() {
        let big = || Unit {
            entities: vec![EntityWrite { id: 1, version: 0, doc: Some(vec![1; 1 << 20]) }],
            ..Unit::default()
        };
        for later in [false, true] {
            let mut store = Sqlite::in_memory().unwrap();
            let epoch = store.start("topic", 1, i64::MAX).unwrap().epoch;
            store.db.execute_batch("PRAGMA max_page_count=100").unwrap();
            store.begin_unit().unwrap();
            let refused =
                if later { store.commit_later(epoch, 1, &big()) } else { store.commit(epoch, 1, &big()) }.unwrap_err();
            assert!(refused.to_string().contains("full"), "{refused}");
            assert!(store.db.is_autocommit());
        }
    }
}
