//! What every engine promises. A new engine is one line at the end, or one call of [`all`].
//!
//! Order is promised inside a partition only, so what was read of several is compared sorted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use headgate_schemas::contract;
use headgate_schemas::stream::embedded::{Embedded, EmbeddedConfig, EmbeddedSource};
use headgate_schemas::stream::memory::{Memory, MemoryConfig, MemorySource};
use headgate_schemas::stream::{Delivered, Sink, Source, StreamError, from_now};
use tempfile::TempDir;

use crate::support::{assign_all, at, is_out_of_range, number, numbers, read, record, sized, soon, sorted};

/// An engine under test, with a small limit on record sizes.
pub(crate) trait Engine {
    type Source: Source;
    async fn new() -> Self;
    /// Takes `queue_records` into its queue and commits nothing more until [`Engine::resume`].
    async fn stalled(queue_records: usize) -> Self;
    fn resume(&self);
    fn sink(&self) -> &dyn Sink;
    fn source(&self) -> Self::Source;
}

pub(crate) const PARTITIONS: u32 = 5;
pub(crate) const RECORD_BYTES: usize = 10_000;

impl Engine for Memory {
    type Source = MemorySource;
    async fn new() -> Self {
        Self::with(MemoryConfig { partitions: PARTITIONS, max_record_bytes: RECORD_BYTES, ..MemoryConfig::default() })
    }
    async fn stalled(queue_records: usize) -> Self {
        let memory = Self::with(MemoryConfig { partitions: PARTITIONS, queue_records, ..MemoryConfig::default() });
        memory.append(vec![record("first", 0)]).await.unwrap();
        memory.hold();
        memory
    }
    fn resume(&self) {
        self.release();
    }
    fn sink(&self) -> &dyn Sink {
        self
    }
    fn source(&self) -> MemorySource {
        self.source()
    }
}

struct OnDisk {
    log: Embedded,
    _folder: TempDir,
}

impl OnDisk {
    fn with(change: impl FnOnce(&mut EmbeddedConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = EmbeddedConfig::new(folder.path().join("stream"));
        config.partitions = PARTITIONS;
        config.max_record_bytes = RECORD_BYTES;
        change(&mut config);
        Self { log: Embedded::open(config).unwrap(), _folder: folder }
    }
}

impl Engine for OnDisk {
    type Source = EmbeddedSource;
    async fn new() -> Self {
        Self::with(|_| ())
    }
    /// The first commit goes out at once, the second one an hour later or when the log is closed.
    async fn stalled(queue_records: usize) -> Self {
        let engine = Self::with(|config| {
            config.queue_records = queue_records;
            config.commit_spacing = Duration::from_secs(3_600);
        });
        engine.log.append(vec![record("first", 0)]).await.unwrap();
        engine
    }
    fn resume(&self) {
        self.log.close();
    }
    fn sink(&self) -> &dyn Sink {
        &self.log
    }
    fn source(&self) -> EmbeddedSource {
        self.log.source()
    }
}

async fn append(engine: &impl Engine, keys: &[&str], from: usize) {
    let batch = keys.iter().zip(from..).map(|(key, n)| record(key, n)).collect();
    soon(engine.sink().append(batch)).await.unwrap();
}

async fn what_is_acknowledged_is_read_as_it_was_written<E: Engine>() {
    let engine = E::new().await;
    let mut batch = vec![record("a", 1), record("b", 2), sized("c", 3, 5_000)];
    batch[1].mark_late();
    soon(engine.sink().append(batch.clone())).await.unwrap();
    let mut source = engine.source();
    assign_all(&mut source);
    let mut read: Vec<_> = read(&mut source, 3, 100).await.into_iter().map(|delivered| delivered.record).collect();
    read.sort_by_key(|record| record.at);
    assert_eq!(read, batch);
}

async fn one_key_stays_in_order_and_in_its_partition<E: Engine>() {
    let engine = E::new().await;
    let keys = ["k0", "k1", "k2", "k3", "k4", "k5", "k6"];
    for round in 0..20 {
        append(&engine, &keys, round * keys.len()).await;
    }
    let mut source = engine.source();
    assign_all(&mut source);
    let mut last: HashMap<u32, u64> = HashMap::new();
    let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
    for delivered in read(&mut source, 140, 9).await {
        assert_eq!(delivered.partition, contract::partition(&delivered.record.key, PARTITIONS));
        let before = last.insert(delivered.partition, delivered.offset);
        assert!(before < Some(delivered.offset), "offsets of a partition rise");
        by_key.entry(delivered.record.key.clone()).or_default().push(number(&delivered));
    }
    for (key, seen) in by_key {
        let place = keys.iter().position(|k| *k == key).unwrap();
        assert_eq!(seen, (0..20).map(|round| round * 7 + place).collect::<Vec<_>>());
    }
}

async fn a_batch_is_taken_whole_or_not_at_all<E: Engine>() {
    let engine = E::new().await;
    let refused = soon(engine.sink().append(vec![record("a", 1), sized("b", 2, 10_001), record("c", 3)])).await;
    assert!(matches!(refused, Err(StreamError::TooLarge { limit: RECORD_BYTES, bytes: 10_050.. })), "{refused:?}");
    append(&engine, &["a"], 4).await;
    let mut source = engine.source();
    assign_all(&mut source);
    assert_eq!(numbers(&read(&mut source, 1, 10).await), [4]);
    assert!(source.next(10).now_or_never().is_none());
}

async fn an_empty_batch_is_acknowledged_and_leaves_no_trace<E: Engine>() {
    let engine = E::new().await;
    soon(engine.sink().append(Vec::new())).await.unwrap();
    let end = engine.source().bounds().unwrap()[0].1;
    assert_eq!(end, at(0, 0));
}

async fn reading_again_yields_the_same<E: Engine>() {
    let engine = E::new().await;
    for n in 0..30 {
        append(&engine, &["x", "y", "z"], n * 3).await;
    }
    let mut source = engine.source();
    assign_all(&mut source);
    let all = read(&mut source, 90, 7).await;
    for position in [0, 1, 44, 89] {
        let Some(from) = all.get(position) else { panic!("90 records") };
        // The same record and everything after it in its partition, nothing else.
        source.assign(&[at(from.partition, from.offset)]).unwrap();
        let expected: Vec<_> =
            all.iter().filter(|d| d.partition == from.partition && d.offset >= from.offset).cloned().collect();
        assert_eq!(read(&mut source, expected.len(), 4).await, expected);
    }
}

async fn readers_do_not_disturb_each_other<E: Engine>() {
    let engine = E::new().await;
    append(&engine, &["a", "b", "c", "d"], 0).await;
    let (mut one, mut two) = (engine.source(), engine.source());
    assign_all(&mut one);
    assign_all(&mut two);
    assert_eq!(sorted(&read(&mut one, 4, 10).await), [0, 1, 2, 3]);
    let mut seen = numbers(&read(&mut two, 2, 1).await);
    append(&engine, &["e"], 4).await;
    assert_eq!(numbers(&read(&mut one, 1, 10).await), [4]);
    seen.extend(numbers(&read(&mut two, 3, 10).await));
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

async fn only_what_is_assigned_is_read<E: Engine>() {
    let engine = E::new().await;
    let keys: Vec<String> = (0..40).map(|n| format!("key-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    append(&engine, &keys, 0).await;
    let expected: Vec<usize> =
        (0..40).filter(|n| [1, 3].contains(&contract::partition(keys[*n], PARTITIONS))).collect();
    assert!(expected.len() > 4 && expected.len() < 36);
    let mut source = engine.source();
    source.assign(&[at(1, 0), at(3, 0)]).unwrap();
    assert_eq!(sorted(&read(&mut source, expected.len(), 3).await), expected);
    assert!(source.next(10).now_or_never().is_none());
    // A new assignment replaces the old one.
    source.assign(&[at(contract::partition(keys[0], PARTITIONS), 0)]).unwrap();
    assert_eq!(number(&soon(source.next(1)).await.unwrap()[0]), 0);
}

async fn a_position_outside_the_log_is_refused<E: Engine>() {
    let engine = E::new().await;
    append(&engine, &["a", "b", "c"], 0).await;
    let mut source = engine.source();
    let partition = contract::partition("a", PARTITIONS);
    let (start, end) = source.bounds().unwrap()[partition as usize];
    assert_eq!(start, at(partition, 0));
    assert!(end.offset > 0);
    source.assign(&[start]).unwrap();
    source.assign(&[end]).unwrap();
    assert!(is_out_of_range(&source.assign(&[at(partition, end.offset + 1)])));
    assert!(is_out_of_range(&source.assign(&[at(PARTITIONS, 0)])));
}

async fn dropping_next_loses_nothing<E: Engine>() {
    let engine = E::new().await;
    append(&engine, &["a", "b", "c"], 0).await;
    let mut source = engine.source();
    assign_all(&mut source);
    let mut seen = Vec::new();
    // Polled once and dropped, again and again: whatever it yields counts, whatever it does not must come later.
    while seen.len() < 3 {
        match source.next(1).now_or_never() {
            Some(page) => seen.extend(numbers(&page.unwrap())),
            None => tokio::task::yield_now().await,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
    assert!(source.next(5).now_or_never().is_none());
    append(&engine, &["d"], 3).await;
    assert_eq!(numbers(&read(&mut source, 1, 5).await), [3]);
}

/// Whatever an earlier assignment had fetched ahead: each partition is read on from its place, without a gap.
async fn a_reader_that_is_put_elsewhere_reads_everything_from_there<E: Engine>() {
    let engine = E::new().await;
    let keys: Vec<String> = (0..40).map(|n| format!("key-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for batch in 0..50 {
        append(&engine, &keys, batch * keys.len()).await;
    }
    let mut source = engine.source();
    assign_all(&mut source);
    let mut log: BTreeMap<u32, Vec<Delivered>> = BTreeMap::new();
    for delivered in read(&mut source, 50 * keys.len(), 500).await {
        log.entry(delivered.partition).or_default().push(delivered);
    }
    let mut dice = fastrand::Rng::with_seed(7);
    for round in 0..40 {
        let mut places = BTreeMap::new();
        for (partition, records) in &log {
            // Often a little behind what is fetched already.
            places.insert(*partition, dice.usize(..records.len() / 2));
        }
        let of = |(partition, place): (&u32, &usize)| at(*partition, log[partition][*place].offset);
        source.assign(&places.iter().map(of).collect::<Vec<_>>()).unwrap();
        for _ in 0..dice.usize(1..4) {
            for delivered in soon(source.next(dice.usize(1..300))).await.unwrap() {
                let place = places.get_mut(&delivered.partition).unwrap();
                let next = log[&delivered.partition][*place].offset;
                assert_eq!(delivered.offset, next, "round {round}, partition {}", delivered.partition);
                *place += 1;
            }
        }
    }
}

async fn a_time_finds_its_place<E: Engine>() {
    let engine = E::new().await;
    append(&engine, &["a", "b", "c", "d", "e"], 0).await;
    append(&engine, &["a", "b", "c", "d", "e"], 5).await;
    let mut source = engine.source();
    for (from, expected) in [(0, 0..10), (3, 3..10), (9, 9..10)] {
        let positions = source.since(record("x", from).at).unwrap();
        source.assign(&positions).unwrap();
        let count = expected.len();
        assert_eq!(sorted(&read(&mut source, count, 4).await), expected.collect::<Vec<_>>());
    }
    let positions = source.since(record("x", 10).at).unwrap();
    assert_eq!(positions, from_now(&source.bounds().unwrap()));
}

async fn a_waiting_reader_wakes_when_something_is_appended<E: Engine>() {
    let engine = E::new().await;
    let mut source = engine.source();
    let now = from_now(&source.bounds().unwrap());
    source.assign(&now).unwrap();
    let mut next = source.next(10);
    assert!((&mut next).now_or_never().is_none());
    append(&engine, &["a"], 7).await;
    assert_eq!(numbers(&soon(next).await.unwrap()), [7]);
}

async fn the_log_has_the_order_of_the_calls<E: Engine + Sync>() {
    let engine = E::new().await;
    let calls = Mutex::new((0, Vec::new()));
    // Four threads race for the call; the number is given out together with it.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut calls = calls.lock().unwrap();
                    let n = calls.0;
                    calls.0 += 1;
                    calls.1.push(engine.sink().append(vec![record(&format!("k{}", n % 11), n)]));
                }
            });
        }
    });
    // Awaited from the last to the first, and one never: the order is that of the calls all the same.
    let mut acks = calls.into_inner().unwrap().1;
    drop(acks.remove(200));
    acks.reverse();
    for answer in soon(join_all(acks)).await {
        answer.unwrap();
    }
    let mut source = engine.source();
    assign_all(&mut source);
    let read = read(&mut source, 400, 64).await;
    assert_eq!(sorted(&read), (0..400).collect::<Vec<_>>());
    for partition in 0..PARTITIONS {
        let of_it = numbers(&read.iter().filter(|d| d.partition == partition).cloned().collect::<Vec<_>>());
        assert!(of_it.is_sorted(), "partition {partition} has another order than the calls: {of_it:?}");
    }
}

async fn a_full_queue_refuses_and_takes_again_later<E: Engine>() {
    let engine = E::stalled(4).await;
    let taken = engine.sink().append(vec![record("a", 1), record("b", 2), record("c", 3)]);
    let refused = engine.sink().append(vec![record("d", 4), record("e", 5)]);
    assert!(matches!(refused.now_or_never(), Some(Err(StreamError::Full))));
    let last = engine.sink().append(vec![record("f", 6)]);
    engine.resume();
    soon(taken).await.unwrap();
    soon(last).await.unwrap();
    let mut source = engine.source();
    assign_all(&mut source);
    assert_eq!(sorted(&read(&mut source, 5, 10).await), [0, 1, 2, 3, 6]);
}

async fn sink_and_source_name_the_same_topic<E: Engine>() {
    let engine = E::new().await;
    assert_eq!(engine.sink().topic(), engine.source().topic());
    assert_eq!(engine.sink().topic().partitions, PARTITIONS);
    assert_eq!(engine.source().bounds().unwrap().len(), PARTITIONS as usize);
}

/// Names every test of the suite to `$to`, after what it is given besides.
macro_rules! tests {
    ($to:ident!($($given:tt)*)) => {
        $to! { $($given)*
            what_is_acknowledged_is_read_as_it_was_written
            one_key_stays_in_order_and_in_its_partition
            a_batch_is_taken_whole_or_not_at_all
            an_empty_batch_is_acknowledged_and_leaves_no_trace
            reading_again_yields_the_same
            readers_do_not_disturb_each_other
            only_what_is_assigned_is_read
            a_position_outside_the_log_is_refused
            a_reader_that_is_put_elsewhere_reads_everything_from_there
            a_time_finds_its_place
            dropping_next_loses_nothing
            a_waiting_reader_wakes_when_something_is_appended
            the_log_has_the_order_of_the_calls
            a_full_queue_refuses_and_takes_again_later
            sink_and_source_name_the_same_topic
        }
    };
}

/// One test each.
macro_rules! suite {
    ($engine:ident as $module:ident: $($test:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test::<super::$engine>().await;
                }
            )*
        }
    };
}

tests!(suite!(Memory as memory:));
tests!(suite!(OnDisk as embedded:));

/// All of them in one function.
#[cfg(feature = "kafka")]
macro_rules! in_turn {
    ($($test:ident)*) => {
        /// The suite for an engine that is dear to start: one test after the other, each named as it begins.
        pub(crate) async fn all<E: Engine + Sync>() {
            $(
                println!("  {}", stringify!($test));
                $test::<E>().await;
            )*
        }
    };
}

#[cfg(feature = "kafka")]
tests!(in_turn!());
