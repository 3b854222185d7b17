//! What only the embedded engine promises: it survives being closed, its segments are invisible, retention is told.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use headgate_schemas::contract;
use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig};
use headgate_schemas::stream::{Sink, Source, StreamError, from_start};
use rusqlite::Connection;

use crate::support::{assign_all, at, eventually, is_out_of_range, numbers, read, record, sized, soon};

fn config(folder: &tempfile::TempDir) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(folder.path().join("made/with/parents"));
    config.partitions = 4;
    config.segment_bytes = 64 << 10;
    config
}

/// No record of [`fill`] has this partition.
const QUIET: u32 = 3;

/// Appends `range` as records of 1 kB, awaiting each, so that segments fill one after the other.
async fn fill(log: &Embedded, range: std::ops::Range<usize>) {
    let keys: Vec<_> = (0..20).map(|k| format!("k{k}")).filter(|key| contract::partition(key, 4) != QUIET).collect();
    for n in range {
        soon(log.append(vec![sized(&keys[n % keys.len()], n, 1_000)])).await.unwrap();
    }
}

#[tokio::test]
async fn a_log_opened_again_is_the_same_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(config(&folder)).unwrap();
    let topic = log.topic();
    #[cfg(unix)]
    {
        let folder = std::fs::metadata(config(&folder).path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&folder.permissions());
        assert_eq!(mode & 0o777, 0o700, "only the owner looks inside");
    }
    soon(log.append(vec![record("a", 0), record("b", 1)])).await.unwrap();
    let mut source = log.source();
    assign_all(&mut source);
    let before = read(&mut source, 2, 10).await;
    drop(log);

    let log = Embedded::open(config(&folder)).unwrap();
    assert_eq!(log.topic(), topic);
    soon(log.append(vec![record("c", 2)])).await.unwrap();
    let mut source = log.source();
    assign_all(&mut source);
    let after = read(&mut source, 3, 10).await;
    assert_eq!(after[..2], before[..]);
    assert_eq!(after[2].offset, 2);

    let other = Embedded::open(config(&tempfile::tempdir().unwrap())).unwrap();
    assert_ne!(other.topic().id, topic.id);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    drop(Embedded::open(config(&folder)).unwrap());
    let refused = Embedded::open(EmbeddedConfig { partitions: 12, ..config(&folder) }).unwrap_err().to_string();
    assert!(refused.contains("has 4 partitions and 12 are configured"), "{refused}");
    assert!(refused.contains("configure 4, or drain this log"), "{refused}");
    assert!(Embedded::open(EmbeddedConfig { partitions: 0, ..config(&folder) }).is_err());
}

#[tokio::test]
async fn a_log_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(config(&folder)).unwrap();
    let refused = Embedded::open(config(&folder)).unwrap_err().to_string();
    assert!(refused.contains("is open in another process; stop that one"), "{refused}");
    log.close();
    Embedded::open(config(&folder)).unwrap();
}

#[tokio::test]
async fn segments_are_invisible_to_readers() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(config(&folder)).unwrap();
    let mut follower = log.source();
    assign_all(&mut follower);
    for n in 0..4 {
        fill(&log, n * 100..(n + 1) * 100).await;
        let expected: Vec<_> = (n * 100..(n + 1) * 100).collect();
        assert_eq!(numbers(&read(&mut follower, 100, 30).await), expected);
    }
    assert!(log.stats().segments > 4, "{:?}", log.stats());
    let all: Vec<_> = (0..400).collect();
    let mut source = log.source();
    assign_all(&mut source);
    assert_eq!(numbers(&read(&mut source, 400, 1_000).await), all);
    drop(log);

    let log = Embedded::open(config(&folder)).unwrap();
    assert!(log.stats().segments > 4);
    fill(&log, 400..401).await;
    let mut source = log.source();
    assign_all(&mut source);
    let again = read(&mut source, 401, 1_000).await;
    assert_eq!(numbers(&again), (0..401).collect::<Vec<_>>());
    assert!(again.iter().map(|d| d.offset).eq(0..401), "offsets go on across segments and restarts");
}

#[tokio::test]
async fn retention_deletes_whole_segments_and_tells_late_readers() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { retention_bytes: 150 << 10, ..config(&folder) };
    let path = config.path.clone();
    let log = Embedded::open(config).unwrap();
    let mut late = log.source();
    assign_all(&mut late);
    let first = read_one_then_fill(&log, &mut late).await;
    assert_eq!(first, [0]);
    eventually("the oldest segments are deleted", || log.stats().bytes <= 150 << 10).await;

    let stats = log.stats();
    assert!(stats.first_offset > 0 && stats.end_offset == 300, "{stats:?}");
    assert!(is_out_of_range(&soon(late.next(10)).await), "a reader left behind is told");
    let mut source = log.source();
    let bounds = source.bounds().unwrap();
    for (start, end) in &bounds {
        assert_eq!(end.offset, 300);
        if start.offset > 0 {
            assert!(is_out_of_range(&source.assign(&[at(start.partition, start.offset - 1)])));
        }
        // The partition that lost nothing can still be read from the beginning.
        assert_eq!(start.offset == 0, start.partition == QUIET, "{bounds:?}");
    }
    source.assign(&from_start(&bounds)).unwrap();
    let kept: Vec<_> = (usize::try_from(stats.first_offset).unwrap()..300).collect();
    assert_eq!(numbers(&read(&mut source, kept.len(), 1_000).await), kept);
    let files = std::fs::read_dir(&path).unwrap().filter(|f| has_extension(f.as_ref().unwrap(), "seg")).count();
    assert_eq!(files, stats.segments, "the files are gone as well");
}

async fn read_one_then_fill(log: &Embedded, late: &mut impl Source) -> Vec<usize> {
    fill(log, 0..1).await;
    let first = numbers(&read(late, 1, 1).await);
    fill(log, 1..300).await;
    first
}

fn has_extension(entry: &std::fs::DirEntry, extension: &str) -> bool {
    entry.path().extension().is_some_and(|e| e == extension)
}

#[tokio::test]
async fn old_segments_are_deleted_by_age_but_not_the_one_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(EmbeddedConfig { retention_age: Duration::ZERO, ..config(&folder) }).unwrap();
    fill(&log, 0..150).await;
    eventually("only the segment being written is left", || log.stats().segments == 1).await;
    let mut source = log.source();
    assign_all(&mut source);
    let first = usize::try_from(log.stats().first_offset).unwrap();
    assert!(first > 0);
    assert_eq!(numbers(&soon(source.next(1)).await.unwrap()), [first]);
}

#[tokio::test]
async fn a_closed_segment_keeps_no_write_ahead_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(config(&folder)).unwrap();
    let closed = config(&folder).path.join("00000000000000000000.seg");
    fill(&log, 0..150).await;
    let wal = closed.with_extension("seg-wal");
    eventually("the write-ahead log of the first segment is moved into it", || {
        std::fs::metadata(&wal).map_or(0, |file| file.len()) == 0
    })
    .await;
    // The file alone holds its rows.
    let copy = folder.path().join("copy.seg");
    std::fs::copy(&closed, &copy).unwrap();
    let rows: i64 =
        Connection::open(copy).unwrap().query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert!(rows > 20, "{rows}");
}

#[tokio::test]
async fn appends_that_wait_share_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(EmbeddedConfig { commit_spacing: Duration::from_secs(3_600), ..config(&folder) }).unwrap();
    soon(log.append(vec![record("a", 0)])).await.unwrap();
    let waiting: Vec<_> = (1..101).map(|n| log.append(vec![record("a", n)])).collect();
    assert_eq!((log.stats().commits, log.stats().queued_records), (1, 100));
    log.close();
    assert!(soon(join_all(waiting)).await.into_iter().all(|answer| answer.is_ok()));
    assert_eq!((log.stats().commits, log.stats().queued_records), (2, 0));
}

#[tokio::test]
async fn a_closed_log_refuses_appends_and_lets_readers_finish() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(config(&folder)).unwrap();
    soon(log.append(vec![record("a", 0), record("b", 1)])).await.unwrap();
    let mut source = log.source();
    assign_all(&mut source);
    log.close();
    assert!(matches!(log.append(vec![record("c", 2)]).now_or_never(), Some(Err(StreamError::Unavailable(_)))));
    assert_eq!(numbers(&read(&mut source, 2, 10).await), [0, 1]);
    assert!(matches!(soon(source.next(10)).await, Err(StreamError::Unavailable(_))));
    drop(log);
    assert!(matches!(soon(source.next(10)).await, Err(StreamError::Unavailable(_))));
}

#[tokio::test]
async fn a_failed_commit_is_answered_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(config(&folder)).unwrap();
    soon(log.append(vec![record("a", 0)])).await.unwrap();
    // A foreign tool holds the write lock of the segment: no commit can begin.
    let tool = Connection::open(config(&folder).path.join("00000000000000000000.seg")).unwrap();
    tool.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = join_all([log.append(vec![record("a", 1)]), log.append(vec![record("b", 2)])]);
    for answer in soon(refused).await {
        assert!(matches!(answer, Err(StreamError::Unavailable(_))), "{answer:?}");
    }
    assert!(!log.stats().writable);
    tool.execute_batch("ROLLBACK").unwrap();
    soon(log.append(vec![record("a", 3)])).await.unwrap();
    assert!(log.stats().writable);
    let mut source = log.source();
    assign_all(&mut source);
    let read = read(&mut source, 2, 10).await;
    assert_eq!(numbers(&read), [0, 3]);
    assert_eq!(read[1].offset, 1);
}

#[tokio::test]
async fn a_segment_that_cannot_be_started_leaves_the_old_one_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let log = Embedded::open(config(&folder)).unwrap();
    // A folder stands where the next segment is to be made.
    let obstacle = config(&folder).path.join("next.tmp");
    std::fs::create_dir(&obstacle).unwrap();
    fill(&log, 0..100).await;
    assert_eq!(log.stats().segments, 1);
    std::fs::remove_dir(&obstacle).unwrap();
    fill(&log, 100..101).await;
    eventually("the next segment is started", || log.stats().segments == 2).await;
    fill(&log, 101..102).await;
    let mut source = log.source();
    assign_all(&mut source);
    assert_eq!(numbers(&read(&mut source, 102, 1_000).await), (0..102).collect::<Vec<_>>());
}
