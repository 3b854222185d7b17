//! The process is killed while it appends, or the disk takes no more: everything acknowledged is there afterwards,
//! whole and in order. The writer is this very test, started again as a child.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig};
use headgate_schemas::stream::{Sink, StreamError};

use crate::support::{assign_all, numbers, read, sized};

const CHILD: &str = "HEADGATE_TEST_KILLED_WRITER";
const BATCH: usize = 3;

fn open(folder: &Path) -> Embedded {
    let mut config = EmbeddedConfig::new(folder);
    config.segment_bytes = 256 << 10;
    Embedded::open(config).unwrap()
}

/// Numbers in the log, which are those of the batches in the order of their appends, none missing.
async fn content(log: &Embedded) -> usize {
    let count = usize::try_from(log.stats().end_offset).unwrap();
    let mut source = log.source();
    assign_all(&mut source);
    let content = numbers(&read(&mut source, count, 1_000).await);
    assert_eq!(content, (0..count).collect::<Vec<_>>(), "the log has no hole, no repeat and the order of the calls");
    assert_eq!(count % BATCH, 0, "a batch is there whole or not at all");
    count
}

/// Appends until an append is refused, then goes on; prints the last number acknowledged.
async fn append_until_refused(folder: &Path) {
    let log = open(folder);
    let mut next = content(&log).await;
    let refused = loop {
        let batch = (next..next + BATCH).map(|n| sized("k", n, 700)).collect();
        match log.append(batch).await {
            Ok(()) => next += BATCH,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, StreamError::Unavailable(_)), "{refused:?}");
    assert!(!log.stats().writable);
    assert_eq!(content(&log).await, next, "what was acknowledged can still be read, what was refused left no trace");
    // Opening the segment again moved its write-ahead log into it: there is room now, and the log goes on by itself.
    log.append((next..next + BATCH).map(|n| sized("k", n, 700)).collect()).await.unwrap();
    next += BATCH;
    assert_eq!(content(&log).await, next);
    assert!(log.stats().writable);
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged {}", next - 1).unwrap();
}

/// Appends for ever, with many batches on their way, and prints the last number of each acknowledged one.
async fn append_until_killed(folder: &Path) {
    let log = open(folder);
    let mut next = content(&log).await;
    let mut waiting = FuturesOrdered::new();
    let mut out = std::io::stdout().lock();
    loop {
        while waiting.len() < 50 {
            let batch = (next..next + BATCH).map(|n| sized(&format!("k{}", n % 17), n, 700)).collect();
            next += BATCH;
            let (last, ack) = (next - 1, log.append(batch));
            waiting.push_back(async move { ack.await.map(|()| last) });
        }
        let last = waiting.next().await.unwrap().unwrap();
        writeln!(out, "acknowledged {last}").unwrap();
        out.flush().unwrap();
    }
}

/// Starts this very test as a child that appends, kills it after `count` acknowledgements, and returns the last one.
fn kill_after(folder: &Path, count: usize) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::what_was_acknowledged_survives_a_kill", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = |line: std::io::Result<String>| line.unwrap().strip_prefix("acknowledged ")?.parse().ok();
    let seen: Option<usize> = lines.by_ref().filter_map(acknowledged).nth(count);
    child.kill().unwrap();
    child.wait().unwrap();
    // What it acknowledged between the last line we waited for and its death counts as well.
    lines.filter_map(acknowledged).last().or(seen).expect("the child acknowledged something before it was killed")
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return append_until_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut before = 0;
    for count in [100, 250, 37, 500] {
        let last = kill_after(folder.path(), count);
        let log = open(folder.path());
        let there = content(&log).await;
        assert!(there > last, "{last} was acknowledged, but the log ends before {there}");
        assert!(last >= before + count * BATCH, "the log went on from where it was");
        before = there;
    }
}

#[tokio::test]
async fn a_disk_that_takes_no_more_is_told_and_loses_nothing() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return append_until_refused(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    // The system refuses writes past a file size, as it would on a full disk; ignoring the signal makes it an error.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "kill::a_disk_that_takes_no_more_is_told_and_loses_nothing", "--nocapture"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said_last = said.lines().find_map(|line| line.strip_prefix("acknowledged ")?.parse::<usize>().ok());
    let last = said_last.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success());
    let log = open(folder.path());
    assert_eq!(content(&log).await, last + 1);
    log.append((last + 1..last + 1 + BATCH).map(|n| sized("k", n, 700)).collect()).await.unwrap();
    assert_eq!(content(&log).await, last + 1 + BATCH);
}
