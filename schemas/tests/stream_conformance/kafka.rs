//! The Kafka engine on a real broker: the suite, and what only it promises.
//!
//! The broker is Apache Kafka itself, started by `deploy/kafka/broker`, which people use too; it needs Java, and Maven
//! when its jars are fetched for the first time. It takes seconds to start, so each test here starts one and does much
//! with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headgate_schemas::stream::kafka::{Kafka, KafkaConfig, KafkaSource, OpenError};
use headgate_schemas::stream::{Sink, Source, StreamError, from_start};
use tempfile::TempDir;

use crate::suite::{self, Engine, PARTITIONS, RECORD_BYTES};
use crate::support::{assign_all, number, read, record, soon, sorted};

/// A broker of our own, ended with the value.
struct Broker {
    child: Child,
    port: u16,
    folder: Arc<TempDir>,
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka/broker")
}

/// Two neighbouring ports that nobody listens on.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

impl Broker {
    fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), free_ports())
    }

    /// Starts over the data of an earlier one.
    fn start_in(folder: Arc<TempDir>, port: u16) -> Self {
        let mut child = Command::new(script())
            .args(["run".as_ref(), folder.path().as_os_str()])
            .env("KAFKA_PORT", port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("deploy/kafka/broker can be started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "the broker did not start; deploy/kafka/broker run says why: {line:?}");
        Self { child, port, folder }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Killed without warning, and started again over the same data.
    fn crash(self) -> Self {
        let (folder, port) = (Arc::clone(&self.folder), self.port);
        drop(self);
        Self::start_in(folder, port)
    }

    fn config(&self, topic: &str) -> KafkaConfig {
        KafkaConfig {
            topic: topic.to_owned(),
            partitions: PARTITIONS,
            replication: 1,
            max_record_bytes: RECORD_BYTES,
            ..KafkaConfig::new(format!("127.0.0.1:{}", self.port))
        }
    }

    async fn topic(&self, config: KafkaConfig) -> Kafka {
        assert!(Kafka::ensure(&config).await.unwrap(), "the topic is new");
        open(config).await
    }
}

async fn open(config: KafkaConfig) -> Kafka {
    tokio::task::spawn_blocking(|| Kafka::open(config)).await.unwrap().unwrap()
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL, too.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
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
        let mut config = shared(|broker| broker.config(&name));
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
        shared(|broker| broker.signal("STOP"));
        engine
    }

    fn resume(&self) {
        shared(|broker| broker.signal("CONT"));
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
    let shared = SHARED.get_or_init(|| std::sync::Mutex::new(None));
    *shared.lock().unwrap() = Some(Broker::start());
    suite::all::<OnBroker>().await;
    topics_are_made_checked_and_named().await;
    javas_own_consumer_reads_it().await;
    shared.lock().unwrap().take();
}

async fn topics_are_made_checked_and_named() {
    let config = shared(|broker| broker.config("checked"));
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
    let id = open(config).await.topic().id;
    assert!(id.starts_with("kafka:") && id.ends_with("/checked"), "{id}");
}

/// Any Kafka client reads the topic: here the console consumer that comes with Kafka.
async fn javas_own_consumer_reads_it() {
    let engine = OnBroker::with(|config| config.topic = "changes-for-all".to_owned()).await;
    let batch = (0..20).map(|n| record(&format!("tenant/system/account/contact/{n}"), n)).collect();
    soon(engine.kafka.append(batch)).await.unwrap();
    let port = shared(|broker| broker.port);
    let mut reader = Command::new(script())
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
}

/// Broken and mended again and again: what was acknowledged is there, in the order of its key, and the same sink and
/// source go on without being made anew by anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_or_stands_still_loses_nothing_acknowledged() {
    let mut broker = Broker::start();
    let kafka = broker.topic(KafkaConfig { delivery: Duration::from_millis(800), ..broker.config("outage") }).await;
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
        broker.signal("STOP");
        let stuck = soon(kafka.append(vec![record("stuck", 1_000_000 + round)])).await;
        assert!(matches!(stuck, Err(StreamError::Indefinite(_))), "its fate is open: {stuck:?}");
        broker.signal("CONT");
        send_until_taken(&kafka, 50).await;
        broker = broker.crash();
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
