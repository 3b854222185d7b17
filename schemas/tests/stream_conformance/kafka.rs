//! The Kafka engine on a real broker: the suite, and what only it promises.
//!
//! A broker takes seconds to start, so each test here starts one and does much with it. They run where a broker is asked
//! for, see [`broker`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use headgate_schemas::contract::Record;
use headgate_schemas::stream::kafka::{Deviation, Kafka, KafkaConfig, KafkaSource, OpenError};
use headgate_schemas::stream::{Sink, Source, StreamError, from_start};
use tempfile::TempDir;

use crate::broker::{self, Broker};
use crate::suite::{self, Engine, PARTITIONS, RECORD_BYTES};
use crate::support::{assign_all, number, numbers, read, record, soon, sorted};

/// A broker and its data, if one is asked for.
fn started() -> Option<(Broker, TempDir)> {
    let script = broker::script()?;
    let folder = tempfile::tempdir().unwrap();
    Some((Broker::start(&script, folder.path(), None).unwrap(), folder))
}

fn config(broker: &Broker, topic: &str) -> KafkaConfig {
    KafkaConfig {
        topic: topic.to_owned(),
        partitions: PARTITIONS,
        replication: 1,
        min_in_sync: 1,
        // The records of these tests are of a fixed day, which is past at some time.
        retention: Duration::from_hours(100 * 365 * 24),
        max_record_bytes: RECORD_BYTES,
        ..KafkaConfig::new(broker.address())
    }
}

async fn open(config: KafkaConfig) -> Kafka {
    tokio::task::spawn_blocking(|| Kafka::open(config)).await.unwrap().unwrap()
}

/// The broker of the suite.
static SHARED: OnceLock<std::sync::Mutex<Option<Broker>>> = OnceLock::new();

fn shared<T>(act: impl FnOnce(&Broker) -> T) -> T {
    act(SHARED.get().unwrap().lock().unwrap().as_ref().unwrap())
}

/// A topic of its own on the shared broker.
struct OnBroker {
    kafka: Kafka,
}

impl OnBroker {
    async fn with(change: impl FnOnce(&mut KafkaConfig)) -> Self {
        static TOPICS: AtomicU32 = AtomicU32::new(0);
        let name = format!("suite-{}", TOPICS.fetch_add(1, Ordering::Relaxed));
        let mut config = shared(|broker| config(broker, &name));
        change(&mut config);
        assert!(Kafka::ensure(&config).await.unwrap());
        Self { kafka: open(config).await }
    }
}

impl Engine for OnBroker {
    type Source = KafkaSource;

    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// The broker stands still until it is told to go on.
    async fn stalled(queue_records: usize) -> Self {
        let engine = Self::with(|config| {
            config.queue_records = queue_records;
            config.delivery = Duration::from_secs(60);
        })
        .await;
        engine.kafka.append(vec![record("first", 0)]).await.unwrap();
        shared(|broker| broker.pause().unwrap());
        engine
    }

    fn resume(&self) {
        shared(|broker| broker.go_on().unwrap());
    }

    fn sink(&self) -> &dyn Sink {
        &self.kafka
    }

    fn source(&self) -> KafkaSource {
        self.kafka.source().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_broker_passes_the_suite() {
    let Some((broker, _folder)) = started() else { return };
    let shared = SHARED.get_or_init(|| std::sync::Mutex::new(None));
    *shared.lock().unwrap() = Some(broker);
    suite::all::<OnBroker>().await;
    topics_are_made_checked_and_named().await;
    any_client_reads_it().await;
    a_topic_that_is_made_anew_is_told().await;
    a_reader_that_retention_overtook_is_told_until_it_is_put_elsewhere().await;
    shared.lock().unwrap().take();
}

async fn topics_are_made_checked_and_named() {
    let config = shared(|broker| config(broker, "checked"));
    let missing = tokio::task::spawn_blocking({
        let config = config.clone();
        || Kafka::open(config)
    });
    assert!(matches!(missing.await.unwrap(), Err(OpenError::Missing { .. })));
    assert!(Kafka::ensure(&config).await.unwrap());
    assert!(!Kafka::ensure(&config).await.unwrap(), "made once");
    let other = KafkaConfig { partitions: PARTITIONS + 1, ..config.clone() };
    let refused = tokio::task::spawn_blocking(|| Kafka::open(other)).await.unwrap();
    assert!(matches!(refused, Err(OpenError::Partitions { found: PARTITIONS, .. })));
    let other = KafkaConfig { partitions: PARTITIONS - 1, ..config.clone() };
    assert!(matches!(Kafka::ensure(&other).await, Err(OpenError::Partitions { found: PARTITIONS, .. })));
    assert_eq!(Kafka::inspect(&config).await.unwrap(), []);
    let strict = KafkaConfig { min_in_sync: 2, max_record_bytes: RECORD_BYTES + 1, ..config.clone() };
    let deviations = Kafka::inspect(&strict).await.unwrap();
    let told: Vec<(&str, bool)> =
        deviations.iter().map(|Deviation { setting, grave, .. }| (*setting, *grave)).collect();
    assert_eq!(told, [("max.message.bytes", true), ("min.insync.replicas", false)]);
    let id = open(config.clone()).await.topic().id;
    assert!(id.starts_with("kafka:") && id.contains("/checked#"), "{id}");
    assert_eq!(open(config).await.topic().id, id, "it stays");
}

/// Any Kafka client reads the topic: here the console consumer that comes with Kafka, and kcat.
async fn any_client_reads_it() {
    let engine = OnBroker::with(|config| config.topic = "changes-for-all".to_owned()).await;
    let batch = (0..20).map(|n| record(&format!("tenant/system/account/contact/{n}"), n)).collect();
    soon(engine.kafka.append(batch)).await.unwrap();
    let port = shared(Broker::port);
    let mut reader = Command::new(broker::script().unwrap())
        .args(["consume", "changes-for-all"])
        .env("KAFKA_PORT", port.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(reader.stdout.take().unwrap()).lines().map(Result::unwrap);
    let seen: BTreeSet<String> = lines
        .filter(|l| l.contains("ce_id:"))
        .take(20)
        .filter_map(|l| l.split('\t').nth(1).map(str::to_owned))
        .collect();
    reader.kill().unwrap();
    reader.wait().unwrap();
    let keys: BTreeSet<String> = (0..20).map(|n| format!("tenant/system/account/contact/{n}")).collect();
    assert_eq!(seen, keys);
    assert_eq!(read_by_kcat("changes-for-all"), keys);
}

/// The keys of the records that kcat sees with an id, up to where the topic ends.
fn read_by_kcat(topic: &str) -> BTreeSet<String> {
    let brokers = shared(Broker::address);
    let from_start = ["-C", "-q", "-e", "-o", "beginning", "-f", "%k %h\n", "-b", &brokers, "-t", topic];
    let read = Command::new("kcat").args(from_start).output().expect("kcat is there; Debian's package has its name");
    let text = String::from_utf8(read.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(_, headers)| headers.contains("ce_id=")).map(|(key, _)| key.to_owned()).collect()
}

/// The new topic has more records than were read of the old one, so no offset gives it away.
async fn a_topic_that_is_made_anew_is_told() {
    let config = shared(|broker| config(broker, "anew"));
    assert!(Kafka::ensure(&config).await.unwrap());
    let kafka = open(config.clone()).await;
    let mut source = kafka.source().unwrap();
    assign_all(&mut source);
    soon(kafka.append((0..5).map(|n| record("k", n)).collect())).await.unwrap();
    assert_eq!(read(&mut source, 5, 100).await.len(), 5);
    shared(|broker| broker.delete("anew").unwrap());
    assert!(Kafka::ensure(&config).await.unwrap(), "it is made again");
    let again = open(config).await;
    assert!(again.topic().is_in_the_place_of(&kafka.topic().id), "a reader that was not there can tell it, too");
    soon(again.append((0..50).map(|n| record("k", 100 + n)).collect())).await.unwrap();
    let told = async {
        // Until it is noticed, records of the new one may come, and the cluster may not know the topic.
        while !matches!(source.next(100).await, Err(StreamError::Replaced)) {
            tokio::task::yield_now().await;
        }
    };
    soon(told).await;
    assert!(matches!(soon(source.next(100)).await, Err(StreamError::Replaced)), "until it is put elsewhere");
    assert_eq!(source.topic(), again.topic());
    assign_all(&mut source);
    assert_eq!(numbers(&read(&mut source, 50, 100).await), (100..150).collect::<Vec<_>>());
}

/// librdkafka tells it once, and is then silent about that partition.
async fn a_reader_that_retention_overtook_is_told_until_it_is_put_elsewhere() {
    const RECORDS: usize = 60;
    let engine = OnBroker::with(|config| {
        config.topic = "overtaken".to_owned();
        config.max_record_bytes = 200_000;
        config.read_ahead_bytes = 64 << 10;
    })
    .await;
    let mut source = engine.source();
    for n in 0..RECORDS {
        // What cannot be compressed is too much to be fetched ahead.
        let mut body = vec![0; 150_000];
        fastrand::Rng::with_seed(n as u64).fill(&mut body);
        soon(engine.kafka.append(vec![Record { body: body.into(), ..record("k", n) }])).await.unwrap();
    }
    assign_all(&mut source);
    let partition = read(&mut source, 1, 1).await[0].partition;
    shared(|broker| broker.trim("overtaken", partition, RECORDS as u64).unwrap());
    let mut kept = 1;
    for _ in 0..2 {
        let told = loop {
            match soon(source.next(1)).await {
                Ok(page) => kept += page.len(),
                Err(error) => break error,
            }
        };
        let StreamError::OutOfRange { partition: of, offset, start, end } = told else { panic!("{told}") };
        assert_eq!((of, start, end), (partition, RECORDS as u64, RECORDS as u64));
        assert_eq!(offset, kept as u64, "where it stands");
    }
    assert!(kept < RECORDS, "it read too far ahead to be overtaken");
    assign_all(&mut source);
    soon(engine.kafka.append(vec![record("k", RECORDS)])).await.unwrap();
    assert_eq!(numbers(&read(&mut source, 1, 1).await), [RECORDS]);
}

/// Broken and mended again and again: what was acknowledged is there, in the order of its key, and the same sink and
/// source go on without being made anew by anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_or_stands_still_loses_nothing_acknowledged() {
    let Some((mut broker, _folder)) = started() else { return };
    let settings = KafkaConfig { delivery: Duration::from_millis(800), ..config(&broker, "outage") };
    assert!(Kafka::ensure(&settings).await.unwrap(), "the topic is new");
    let kafka = open(settings).await;
    let mut source = kafka.source().unwrap();
    assign_all(&mut source);
    let mut acknowledged = BTreeSet::new();
    let mut n = 0;
    // Acknowledged at last: every number is sent until it is, one key after the other.
    let mut send_until_taken = async |kafka: &Kafka, count: usize| {
        let mut failures = 0;
        for _ in 0..count {
            n += 1;
            loop {
                match soon(kafka.append(vec![record(&format!("k{}", n % 7), n)])).await {
                    Ok(()) => break,
                    Err(StreamError::Indefinite(_) | StreamError::Unavailable(_)) => failures += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            acknowledged.insert(n);
        }
        failures
    };
    send_until_taken(&kafka, 50).await;
    for round in 0..3 {
        broker.pause().unwrap();
        let stuck = soon(kafka.append(vec![record("stuck", 1_000_000 + round)])).await;
        assert!(matches!(stuck, Err(StreamError::Indefinite(_))), "its fate is open: {stuck:?}");
        broker.go_on().unwrap();
        send_until_taken(&kafka, 50).await;
        broker.kill().unwrap();
        broker.up().unwrap();
        send_until_taken(&kafka, 50).await;
    }
    assert!(kafka.stats().replaced >= 3, "{:?}", kafka.stats());
    let ends = source.bounds().unwrap();
    let total: u64 = ends.iter().map(|(start, end)| end.offset - start.offset).sum();
    let all = read(&mut source, usize::try_from(total).unwrap(), 100).await;
    let seen: BTreeSet<usize> = sorted(&all).into_iter().filter(|n| *n < 1_000_000).collect();
    assert_eq!(seen, acknowledged);
    let mut newest: BTreeMap<String, usize> = BTreeMap::new();
    for delivered in all.iter().filter(|d| number(d) < 1_000_000) {
        let last = newest.entry(delivered.record.key.clone()).or_default();
        // A repeat of the newest is allowed, an older one after it is not.
        assert!(number(delivered) >= *last, "{} after {last}", number(delivered));
        *last = number(delivered);
    }
    let again = from_start(&source.bounds().unwrap());
    source.assign(&again).unwrap();
    assert_eq!(read(&mut source, all.len(), 100).await.len(), all.len());
    assert!(tokio::task::spawn_blocking(move || kafka.close(Duration::from_secs(10))).await.unwrap());
}
