//! The process is killed while it appends: everything acknowledged is there afterwards, whole and in order.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use headgate_schemas::stream::Sink;
use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig};

use crate::support::{assign_all, numbers, read, sized};

const CHILD: &str = "HEADGATE_TEST_KILLED_WRITER";
const BATCH: usize = 3;

fn open(folder: &Path) -> Embedded {
    let mut config = EmbeddedConfig::new(folder);
    config.segment_bytes = 256 << 10;
    config.retention_age = Duration::from_hours(24 * 365 * 100);
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
