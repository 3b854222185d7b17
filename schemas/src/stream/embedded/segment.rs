//! One segment: a SQLite file with a run of consecutive offsets. All SQL of the log stands here.
//!
//! Rows go in at one place (the offset is the row id, the partition a plain column, no second index): anything else
//! multiplies the pages written per commit. A segment gets its final name only when it is whole, so a file under such a
//! name that cannot be read is damage, never a start that was interrupted.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, TransactionBehavior, params};

use super::{headers, step};
use crate::contract::{self, Record};
use crate::failpoint::pass;
use crate::stream::assignment::Assignment;
use crate::stream::{Delivered, StreamError};
use crate::time::Timestamp;

/// Marks the file as a segment of this log ("HGLG").
const APPLICATION: i64 = 0x4847_4c47;
/// Version of the file format.
const FORMAT: i64 = 1;
pub(super) const PAGE_BYTES: u64 = 8_192;
/// Rows one statement looks at; the statement, and with it the read transaction, ends there.
const SCAN_ROWS: usize = 4_000;
/// Record bytes one page holds at most (one record more than that at least).
const PAGE_RECORD_BYTES: usize = 4 << 20;
/// How long a connection waits for a lock. Writer and readers do not block each other; only foreign tools do.
const BUSY: Duration = Duration::from_millis(250);
/// A segment while it is made.
pub(super) const UNFINISHED: &str = "next.tmp";

const SCHEMA: &str = "
    CREATE TABLE meta(
        log TEXT NOT NULL, partitions INTEGER NOT NULL, first INTEGER NOT NULL, starts TEXT NOT NULL);
    CREATE TABLE record(
        off INTEGER PRIMARY KEY, part INTEGER NOT NULL, at INTEGER NOT NULL,
        key TEXT NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL);";

/// What a segment says about itself and the log it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Id of the log.
    pub(super) log: String,
    /// Partitions of the log.
    pub(super) partitions: u32,
    /// First offset; also the file's name.
    pub(super) first: u64,
    /// Per partition one more than its last offset before this segment. When this is the oldest segment left, these
    /// are the positions from which nothing is missing.
    pub(super) starts: Vec<u64>,
}

/// What the rows of a segment come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// One more than the last offset.
    pub(super) end: u64,
    /// Per partition one more than its last offset.
    pub(super) starts: Vec<u64>,
    /// Size of the file with everything in it.
    pub(super) bytes: u64,
}

/// A commit that failed.
#[derive(Debug)]
pub(super) enum CommitFault {
    /// Nothing was written.
    Nothing(StreamError),
    /// It is not known whether the disk has it.
    Unknown(StreamError),
}

/// One page of a reader.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<Delivered>,
    /// Everything before it was looked at.
    pub(super) next: u64,
}

/// The file that begins with offset `first`.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// Makes a segment: under another name first, so that the final name always stands for a whole file.
pub(super) fn create(folder: &Path, meta: &Meta) -> Result<PathBuf, StreamError> {
    let (unfinished, finished) = (folder.join(UNFINISHED), path(folder, meta.first));
    remove(&unfinished)?;
    build(&unfinished, meta).map_err(|e| fault(&unfinished, &e))?;
    pass(step::BUILT);
    fs::rename(&unfinished, &finished).map_err(|e| io(&finished, &e))?;
    sync(folder)?;
    Ok(finished)
}

fn build(path: &Path, meta: &Meta) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    connection.execute_batch(SCHEMA)?;
    let starts: Vec<String> = meta.starts.iter().map(u64::to_string).collect();
    connection.execute(
        "INSERT INTO meta(log, partitions, first, starts) VALUES (?1, ?2, ?3, ?4)",
        params![meta.log, meta.partitions, meta.first, starts.join(" ")],
    )?;
    // Last, because closing the connection then leaves one file without a log beside it.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.close().map_err(|(_, e)| e)
}

/// Opens a segment for the writer.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StreamError> {
    let open = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 1_000)?;
        connection.pragma_update(None, "cache_size", -8_000)?;
        Ok(connection)
    };
    open().map_err(|e| fault(path, &e))
}

/// Opens a segment for a reader.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StreamError> {
    let open = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "cache_size", -2_000)?;
        Ok(connection)
    };
    open().map_err(|e| fault(path, &e))
}

/// Reads and checks what the segment says about itself.
pub(super) fn meta(connection: &Connection, path: &Path) -> Result<Meta, StreamError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = number("application_id").map_err(|e| fault(path, &e))?;
    let format = number("user_version").map_err(|e| fault(path, &e))?;
    if application != APPLICATION {
        return Err(corrupt(path, "it is no segment of a log"));
    }
    if format != FORMAT {
        return Err(corrupt(path, &format!("it has format {format}, this version reads format {FORMAT}")));
    }
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?));
    let (log, partitions, first, starts) = connection
        .query_row("SELECT log, partitions, first, starts FROM meta", [], read)
        .map_err(|e| fault(path, &e))?;
    let starts: Option<Vec<u64>> = starts.split(' ').map(|n| n.parse().ok()).collect();
    let starts = starts.filter(|s| s.len() == partitions as usize);
    let starts = starts.ok_or_else(|| corrupt(path, "its meta row is malformed"))?;
    Ok(Meta { log, partitions, first, starts })
}

/// One more than the last offset; looks at the last row only.
pub(super) fn end(connection: &Connection, path: &Path, meta: &Meta) -> Result<u64, StreamError> {
    let last = connection.query_row("SELECT max(off) FROM record", [], |row| row.get::<_, Option<u64>>(0));
    Ok(last.map_err(|e| fault(path, &e))?.map_or(meta.first, |offset| offset + 1))
}

/// Reads what the rows come to; looks at every row's partition.
pub(super) fn content(connection: &Connection, path: &Path, meta: &Meta) -> Result<Content, StreamError> {
    let read = || {
        let mut statement = connection.prepare("SELECT part, max(off) FROM record GROUP BY part")?;
        let parts = statement.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, u64>(1)?)))?;
        parts.collect::<rusqlite::Result<Vec<_>>>()
    };
    let parts = read().map_err(|e| fault(path, &e))?;
    let mut starts = meta.starts.clone();
    for (partition, offset) in parts {
        let start = starts.get_mut(partition as usize).ok_or_else(|| corrupt(path, "a row has a foreign partition"))?;
        *start = offset + 1;
    }
    Ok(Content { end: end(connection, path, meta)?, starts, bytes: bytes(connection, path)? })
}

/// Size of the file with everything in it, the write-ahead log included.
pub(super) fn bytes(connection: &Connection, path: &Path) -> Result<u64, StreamError> {
    let pages = connection
        .prepare_cached("PRAGMA page_count")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, u64>(0)))
        .map_err(|e| fault(path, &e))?;
    Ok(pages * PAGE_BYTES)
}

/// Writes records with consecutive offsets from `first` in one durable transaction. Each comes with its partition.
pub(super) fn commit<'a>(
    connection: &mut Connection,
    path: &Path,
    first: u64,
    records: impl Iterator<Item = (u32, &'a Record)>,
) -> Result<(), CommitFault> {
    let nothing = |e: rusqlite::Error| CommitFault::Nothing(fault(path, &e));
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(nothing)?;
    {
        let mut insert = transaction
            .prepare_cached("INSERT INTO record(off, part, at, key, headers, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .map_err(nothing)?;
        for (offset, (partition, record)) in (first..).zip(records) {
            let headers = headers::encode(&record.headers);
            let row = params![offset, partition, record.at.micros(), record.key, headers, &record.body[..]];
            insert.execute(row).map_err(nothing)?;
        }
    }
    pass(step::INSERTED);
    transaction.commit().map_err(|e| match unwritten(&e) {
        true => CommitFault::Nothing(fault(path, &e)),
        false => CommitFault::Unknown(fault(path, &e)),
    })
}

/// Whether a commit that failed left nothing a recovery could find. The frame that makes a commit is written last, so
/// a write that failed did not write it; after a failed sync it may be on the disk or not.
fn unwritten(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(cause, _) = error else { return false };
    matches!(cause.code, ErrorCode::DiskFull | ErrorCode::DatabaseBusy)
        || cause.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE
}

/// One page of at most `max` records inside `range`, in one short statement.
pub(super) fn page(
    connection: &Connection,
    path: &Path,
    range: Range<u64>,
    assignment: &Assignment,
    max: usize,
) -> Result<Page, StreamError> {
    let failed = |e: rusqlite::Error| fault(path, &e);
    let mut statement = connection
        .prepare_cached(
            "SELECT off, part, at, key, headers, body FROM record WHERE off >= ?1 AND off < ?2 ORDER BY off LIMIT ?3",
        )
        .map_err(failed)?;
    let mut rows = statement.query(params![range.start, range.end, SCAN_ROWS as i64]).map_err(failed)?;
    let mut page = Page { records: Vec::new(), next: range.start };
    let (mut scanned, mut bytes) = (0, 0);
    while let Some(row) = rows.next().map_err(failed)? {
        let (offset, partition) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        // The columns after these are not touched for a record that is not wanted, so its body is not read.
        if assignment.wants(partition, offset) {
            let record = record(row, path)?;
            bytes += record.len();
            page.records.push(Delivered { partition, offset, record });
        }
        page.next = offset + 1;
        scanned += 1;
        if page.records.len() >= max || bytes >= PAGE_RECORD_BYTES {
            return Ok(page);
        }
    }
    if scanned < SCAN_ROWS {
        page.next = range.end;
    }
    Ok(page)
}

/// The first offset inside `range` from which records are of `at` or later: a handful of look-ups by offset.
pub(super) fn since(
    connection: &Connection,
    path: &Path,
    range: Range<u64>,
    at: Timestamp,
) -> Result<u64, StreamError> {
    let failed = |e: rusqlite::Error| fault(path, &e);
    let mut statement =
        connection.prepare_cached("SELECT at FROM record WHERE off >= ?1 ORDER BY off LIMIT 1").map_err(failed)?;
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<i64> = statement.query_row([middle], |row| row.get(0)).optional().map_err(failed)?;
        if found.is_some_and(|micros| micros < at.micros()) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn record(row: &Row<'_>, path: &Path) -> Result<Record, StreamError> {
    let failed = |e: rusqlite::Error| fault(path, &e);
    let blob = |column| row.get_ref(column).and_then(|value| value.as_blob().map_err(Into::into)).map_err(failed);
    Ok(Record {
        at: Timestamp::from_micros(row.get(2).map_err(failed)?),
        key: row.get(3).map_err(failed)?,
        headers: headers::decode(blob(4)?).ok_or_else(|| corrupt(path, "the headers of a row are malformed"))?,
        body: Bytes::copy_from_slice(blob(5)?),
    })
}

/// Moves the write-ahead log into the file. False when a reader was in the way.
pub(super) fn checkpoint(connection: &Connection, path: &Path) -> Result<bool, StreamError> {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .map(|busy| busy == 0)
        .inspect(|_| pass(step::CHECKPOINTED))
        .map_err(|e| fault(path, &e))
}

/// Removes a segment with its side files. What is not there is no fault.
pub(super) fn remove(path: &Path) -> Result<(), StreamError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(Path::new(&name), &e)),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync(folder: &Path) -> Result<(), StreamError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io(folder, &e))
}

/// The partition of a record.
pub(super) fn partition(record: &Record, partitions: u32) -> u32 {
    contract::partition(&record.key, partitions)
}

/// SQLite's messages name tables and causes, never values.
pub(super) fn fault(path: &Path, error: &rusqlite::Error) -> StreamError {
    let damaged = matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
        || matches!(error, rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::InvalidColumnType(..));
    match damaged {
        true => corrupt(path, &error.to_string()),
        false => StreamError::Unavailable(format!("{}: {error}", path.display())),
    }
}

pub(super) fn corrupt(path: &Path, why: &str) -> StreamError {
    StreamError::Corrupt(format!("{}: {why}", path.display()))
}

pub(super) fn io(path: &Path, error: &std::io::Error) -> StreamError {
    StreamError::Unavailable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_written_as_durability_needs_it() {
        let folder = tempfile::tempdir().unwrap();
        let meta = Meta { log: "log".to_owned(), partitions: 2, first: 7, starts: vec![7, 3] };
        let path = create(folder.path(), &meta).unwrap();
        let connection = open_writer(&path).unwrap();
        assert_eq!(super::meta(&connection, &path).unwrap(), meta);
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("synchronous"), 2, "FULL: the log is synced at every commit");
        assert_eq!(pragma("page_size"), 8_192);
        assert_eq!(pragma("wal_autocheckpoint"), 1_000);
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn only_a_failed_write_is_known_to_have_left_nothing() {
        let failed = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        assert!(unwritten(&failed(rusqlite::ffi::SQLITE_FULL)));
        assert!(unwritten(&failed(rusqlite::ffi::SQLITE_IOERR_WRITE)));
        assert!(!unwritten(&failed(rusqlite::ffi::SQLITE_IOERR_FSYNC)));
        assert!(!unwritten(&failed(rusqlite::ffi::SQLITE_IOERR)));
    }
}
