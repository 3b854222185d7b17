//! The folder of a log when it is opened: one process at a time, and every segment checked before any is used.
//!
//! Runs before any thread starts. What it refuses, it refuses with the file's name: a log with a hole is never opened
//! as if it were whole.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rusqlite::Connection;

use super::segment::{self, Content, Meta};
use crate::stream::StreamError;
use crate::time::Timestamp;

/// A segment in the list of the running log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) path: PathBuf,
    /// Per partition the position from which nothing is missing when this is the oldest segment.
    pub(super) starts: Arc<[u64]>,
    pub(super) bytes: u64,
    /// When it was last written, by the clock of this machine: retention must not depend on what records say, or a
    /// record with a wrong time would be deleted before it is read.
    pub(super) written: Timestamp,
}

impl Segment {
    /// A segment just made.
    pub(super) fn empty(path: PathBuf, meta: &Meta, written: Timestamp) -> Self {
        let starts = meta.starts.as_slice().into();
        Self { first: meta.first, path, starts, bytes: segment::PAGE_BYTES, written }
    }
}

/// A folder that was opened.
pub(super) struct Opened {
    /// Held as long as the log is open.
    pub(super) lock: File,
    /// Id of the log.
    pub(super) id: String,
    /// Oldest first, at least one.
    pub(super) segments: Vec<Segment>,
    /// The last segment, for the writer.
    pub(super) active: Connection,
    /// What the last segment comes to.
    pub(super) content: Content,
}

/// Opens the log in `folder`, or makes one with `partitions`.
pub(super) fn open(folder: &Path, partitions: u32) -> Result<Opened, StreamError> {
    if partitions == 0 {
        return Err(StreamError::Unavailable("a log needs at least one partition".to_owned()));
    }
    make(folder).map_err(|e| segment::io(folder, &e))?;
    let lock = lock(folder)?;
    segment::remove(&folder.join(segment::UNFINISHED))?;
    let mut firsts = list(folder)?;
    if firsts.is_empty() {
        let log = uuid::Uuid::new_v4().to_string();
        segment::create(folder, &Meta { log, partitions, first: 0, starts: vec![0; partitions as usize] })?;
        firsts.push(0);
    }
    check(folder, lock, partitions, &firsts)
}

/// Makes the folder with its parents. It holds customers' data: only its owner may look inside.
fn make(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Refuses a second process.
fn lock(folder: &Path) -> Result<File, StreamError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|e| segment::io(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StreamError::Unavailable(format!(
            "{} is open in another process; stop that one, or give this one another path",
            folder.display()
        ))),
        Err(TryLockError::Error(e)) => Err(segment::io(&path, &e)),
    }
}

/// First offsets of the segments, in order. Side files left without their segment are removed.
fn list(folder: &Path) -> Result<Vec<u64>, StreamError> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| segment::io(folder, &e))? {
        let path = entry.map_err(|e| segment::io(folder, &e))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if let Some(side) = name.strip_suffix("-wal").or_else(|| name.strip_suffix("-shm")) {
            if side.ends_with(".seg") && !folder.join(side).exists() {
                fs::remove_file(&path).map_err(|e| segment::io(&path, &e))?;
            }
        } else if let Some(number) = name.strip_suffix(".seg") {
            let first = number.parse().ok().filter(|first| segment::path(folder, *first) == path);
            firsts.push(first.ok_or_else(|| segment::corrupt(&path, "its name is not the first offset of a segment"))?);
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Checks that the segments are one log without a hole.
fn check(folder: &Path, lock: File, partitions: u32, firsts: &[u64]) -> Result<Opened, StreamError> {
    let mut segments = Vec::with_capacity(firsts.len());
    let mut before: Option<(Meta, u64, Connection)> = None;
    for first in firsts {
        let path = segment::path(folder, *first);
        let connection = segment::open_writer(&path)?;
        let meta = segment::meta(&connection, &path)?;
        let end = segment::end(&connection, &path, &meta)?;
        if meta.first != *first {
            return Err(segment::corrupt(&path, "it was renamed: its first offset is not its name"));
        }
        if meta.partitions != partitions {
            return Err(partitions_differ(folder, meta.partitions, partitions));
        }
        if let Some((earlier, earlier_end, _)) = &before {
            if earlier.log != meta.log {
                return Err(segment::corrupt(&path, "it belongs to another log"));
            }
            if *earlier_end > *first && end == *first {
                // Made, but never used: the segment before it went on taking rows.
                drop(connection);
                segment::remove(&path)?;
                continue;
            }
            if earlier_end != first {
                let why =
                    format!("it does not follow the offsets before it, which end at {earlier_end}; put files back");
                return Err(segment::corrupt(&path, &why));
            }
        }
        let written = written(&path)?;
        let bytes = segment::bytes(&connection, &path)?;
        segments.push(Segment { bytes, ..Segment::empty(path, &meta, written) });
        // Drops the connection of the segment before: that moves its write-ahead log, if any, into the file.
        before = Some((meta, end, connection));
    }
    let (Some((meta, _, active)), Some(last)) = (before, segments.last()) else {
        return Err(segment::corrupt(folder, "it has no segment"));
    };
    let content = segment::content(&active, &last.path, &meta)?;
    Ok(Opened { lock, id: meta.log, segments, active, content })
}

/// When the file was last changed.
fn written(path: &Path) -> Result<Timestamp, StreamError> {
    let changed = fs::metadata(path).and_then(|file| file.modified()).map_err(|e| segment::io(path, &e))?;
    let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::from_micros(0) + since)
}

fn partitions_differ(folder: &Path, has: u32, configured: u32) -> StreamError {
    StreamError::Unavailable(format!(
        "the log in {} has {has} partitions and {configured} are configured; the number is fixed when a log is made: \
         configure {has}, or drain this log and start another one at a new path",
        folder.display()
    ))
}
