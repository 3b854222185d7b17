//! A log that is not what it was is refused with the name of the file, and what an interrupted start or deletion leaves
//! behind is tidied up.

use std::fs;
use std::path::{Path, PathBuf};

use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig};
use headgate_schemas::stream::{Sink, StreamError};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{assign_all, numbers, read, sized, soon};

/// A closed log of several segments, and the paths of these in order.
async fn closed_log() -> (TempDir, EmbeddedConfig, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = EmbeddedConfig::new(folder.path());
    config.segment_bytes = 64 << 10;
    let log = Embedded::open(config.clone()).unwrap();
    for n in 0..150 {
        soon(log.append(vec![sized("k", n, 1_000)])).await.unwrap();
    }
    log.close();
    let mut segments: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    (folder, config, segments)
}

/// Opening is refused as damage, with the file's name and `why`.
fn assert_corrupt(config: EmbeddedConfig, file: &Path, why: &str) {
    let error = Embedded::open(config).unwrap_err();
    let StreamError::Corrupt(text) = &error else { panic!("{error}") };
    assert!(text.contains(file.to_str().unwrap()) && text.contains(why), "{text}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let (_folder, config, segments) = closed_log().await;
    fs::write(&segments[1], "not a database, but long enough to be looked at").unwrap();
    assert_corrupt(config, &segments[1], "not a database");
}

#[tokio::test]
async fn a_torn_segment_is_named() {
    let (_folder, config, segments) = closed_log().await;
    let whole = fs::read(&segments[1]).unwrap();
    fs::write(&segments[1], &whole[..whole.len() / 2]).unwrap();
    assert_corrupt(config, &segments[1], "malformed");
}

#[tokio::test]
async fn an_empty_segment_file_is_named() {
    let (_folder, config, segments) = closed_log().await;
    fs::write(segments.last().unwrap(), "").unwrap();
    assert_corrupt(config, segments.last().unwrap(), "no segment of a log");
}

#[tokio::test]
async fn a_foreign_database_is_named() {
    let (folder, config, _) = closed_log().await;
    let foreign = folder.path().join("00000000000000009999.seg");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    assert_corrupt(config, &foreign, "no segment of a log");
}

#[tokio::test]
async fn a_segment_of_another_log_is_named() {
    let (_other, _, others) = closed_log().await;
    let (_folder, config, segments) = closed_log().await;
    fs::copy(&others[1], &segments[1]).unwrap();
    assert_corrupt(config, &segments[1], "belongs to another log");
}

#[tokio::test]
async fn a_missing_segment_is_named_by_the_one_after_it() {
    let (_folder, config, segments) = closed_log().await;
    fs::remove_file(&segments[1]).unwrap();
    assert_corrupt(config, &segments[2], "it does not follow the offsets before it");
}

#[tokio::test]
async fn a_renamed_segment_is_named() {
    let (folder, config, segments) = closed_log().await;
    let renamed = folder.path().join("00000000000000009999.seg");
    fs::rename(segments.last().unwrap(), &renamed).unwrap();
    assert_corrupt(config.clone(), &renamed, "it was renamed");
    let foreign = folder.path().join("backup.seg");
    fs::rename(&renamed, &foreign).unwrap();
    assert_corrupt(config, &foreign, "its name is not the first offset");
}

#[tokio::test]
async fn a_newer_format_is_named() {
    let (_folder, config, segments) = closed_log().await;
    Connection::open(&segments[0]).unwrap().pragma_update(None, "user_version", 2).unwrap();
    assert_corrupt(config, &segments[0], "it has format 2, this version reads format 1");
}

#[tokio::test]
async fn a_segment_that_was_made_but_never_used_is_removed() {
    let (folder, config, segments) = closed_log().await;
    // It begins in the middle of the segment before it, which went on taking rows, and has none itself.
    let begin: u64 = segments[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let unused = folder.path().join(format!("{:020}.seg", begin + 5));
    fs::copy(&segments[1], &unused).unwrap();
    let tool = Connection::open(&unused).unwrap();
    tool.execute("UPDATE meta SET first = ?1", [begin + 5]).unwrap();
    drop(tool);
    assert_corrupt(config.clone(), &unused, "it does not follow");
    Connection::open(&unused).unwrap().execute("DELETE FROM record", []).unwrap();
    let log = Embedded::open(config).unwrap();
    assert!(!unused.exists());
    let mut source = log.source();
    assign_all(&mut source);
    assert_eq!(numbers(&read(&mut source, 150, 1_000).await), (0..150).collect::<Vec<_>>());
}

#[tokio::test]
async fn leftovers_of_an_interrupted_run_are_tidied_up() {
    let (folder, config, segments) = closed_log().await;
    fs::write(folder.path().join("next.tmp"), "half a segment").unwrap();
    fs::write(folder.path().join("00000000000000000007.seg-wal"), "of a deleted segment").unwrap();
    // The oldest segment deleted, as retention does: the rest is a log.
    fs::remove_file(&segments[0]).unwrap();
    let log = Embedded::open(config).unwrap();
    assert!(!folder.path().join("next.tmp").exists());
    assert!(!folder.path().join("00000000000000000007.seg-wal").exists());
    let first = usize::try_from(log.stats().first_offset).unwrap();
    let mut source = log.source();
    assign_all(&mut source);
    assert_eq!(numbers(&read(&mut source, 150 - first, 1_000).await), (first..150).collect::<Vec<_>>());
}
