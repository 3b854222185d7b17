//! What a change costs the engine's thread: ticks over a state in a file, calls answered at once, nothing else running.
//! Prints processor time for each change, which is what a change of the store or of the documents is judged by. The
//! surprise: only the ticks are timed, by the clock of the thread; making events and answers is not.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring tool that cannot go on has nothing to say")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headgate_relay::config::{
    Auth, ConnectionConfig, Guard, Limits, LinkConfig, PolicyConfig, RecordsConfig, RelayConfig, SetUp, StoreConfig,
    StorePlace,
};
use headgate_relay::engine::{Call, Engine, Input, Parts, Reply, ReplyResult, Request};
use headgate_relay::metrics::Metrics;
use headgate_relay::target::{
    Answered, Calling, FieldInfo, FindCall, Found, NativeName, NativeValues, Pack, Prepared, ReadCall, ReadItem,
    Target, TargetError, Version, WriteCall, WriteItems, Written,
};
use headgate_relay::vault::Vault;
use headgate_schemas::change::FieldChange;
use headgate_schemas::stream::{Delivered, Topic};
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Resolution, System, Timestamp, Value, contract};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: i64 = 1_800_000_000_000_000;
/// Records that are changed, in no particular order.
const RECORDS: u64 = 10_000;
/// Changes in one tick.
const BATCH: u64 = 200;
/// Between two ticks.
const TICK: i64 = 20_000;

struct Silent {
    writable: bool,
}

impl Target for Silent {
    fn pack(&self) -> Pack {
        Pack { read: 100, write: 100 }
    }
    fn writable(&self) -> bool {
        self.writable
    }
    fn conditional(&self) -> bool {
        false
    }
    fn find<'a>(&'a self, _: &'a FindCall) -> Calling<'a, Answered<Vec<String>>> {
        unreachable!("the bench answers")
    }
    fn prepare<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Prepared> {
        unreachable!("the bench answers")
    }
    fn read<'a>(&'a self, _: &'a ReadCall) -> Calling<'a, Answered<ReadItem>> {
        unreachable!("the bench answers")
    }
    fn write<'a>(&'a self, _: &'a WriteCall) -> Calling<'a, Answered<Result<Written, TargetError>>> {
        unreachable!("the bench answers")
    }
    fn describe<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Option<Vec<FieldInfo>>> {
        unreachable!("the bench answers")
    }
}

struct Run {
    engine: Engine,
    now: i64,
    offset: u64,
    dice: fastrand::Rng,
    open: Vec<Call>,
    /// What Salesforce shows, by id.
    rows: HashMap<String, NativeValues>,
    spent: Duration,
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(folder.path());
    for first in (0..RECORDS).step_by(usize::try_from(BATCH).unwrap()) {
        run.tick((first..first + BATCH).map(|n| change(n, ChangeKind::Created, run.now, n)).collect());
    }
    run.settle();
    for (batch, depth) in [(2_000, 1), (10_000, 10)] {
        run.backlog(batch, depth);
    }
    for rounds in [50, 250] {
        let spent = run.spent;
        for round in 0..rounds {
            let changes = (0..BATCH).map(|n| {
                let record = run.dice.u64(..RECORDS);
                change(record, ChangeKind::Updated, run.now, round * BATCH + n)
            });
            let changes = changes.collect();
            run.tick(changes);
        }
        run.settle();
        let spent = run.spent - spent;
        let totals = run.engine.totals();
        assert_eq!((totals.open, totals.difference()), (0, 0), "everything was delivered");
        let each = spent.as_secs_f64() * 1e6 / (rounds * BATCH) as f64;
        println!("{} changes of {RECORDS} records, {BATCH} in a tick: {each:.1} us each", rounds * BATCH);
    }
}

impl Run {
    fn new(folder: &Path) -> Self {
        let key_file = folder.join("key");
        let config = config(folder.join("state.db"), key_file.clone());
        let silent = |writable| Arc::new(Silent { writable }) as Arc<dyn Target>;
        let targets = HashMap::from([("hs".to_owned(), silent(false)), ("sf".to_owned(), silent(true))]);
        let parts = Parts {
            config: &config,
            targets: &targets,
            store: config.store.place.open().unwrap(),
            topic: &Topic { id: "topic".to_owned(), partitions: 1 },
            vault: Arc::new(Vault::open_or_create(&key_file).unwrap()),
            metrics: Metrics::unregistered(),
            seed: 7,
        };
        let engine = Engine::open(parts, Timestamp::from_micros(START)).unwrap();
        let (dice, rows) = (fastrand::Rng::with_seed(1), HashMap::new());
        Self { engine, now: START, offset: 0, dice, open: Vec::new(), rows, spent: Duration::ZERO }
    }

    fn tick(&mut self, changes: Vec<Change>) {
        let records = changes.iter().map(|change| {
            self.offset += 1;
            Delivered { partition: 0, offset: self.offset, record: contract::encode(change).unwrap() }
        });
        let records = records.collect();
        let open = std::mem::take(&mut self.open);
        let replies = open.iter().map(|call| (call.id, self.answer(call))).collect();
        self.now += TICK;
        let input = Input { replies, records, ..Input::default() };
        let before = thread_time();
        let calls = self.engine.tick(Timestamp::from_micros(self.now), input).unwrap();
        self.spent += thread_time() - before;
        self.open = calls;
    }

    /// What gathered while the relay was away: ten changes of each record, read in ticks of `batch`, each of one in `depth`
    /// of the records. Prints what reading costs, and what follows.
    fn backlog(&mut self, batch: u64, depth: u64) {
        let (spent, ticks) = (self.spent, 10 * RECORDS / batch);
        for tick in 0..ticks {
            let first = RECORDS / depth * (tick * depth / ticks);
            let changes = (0..batch).map(|n| {
                let record = first + self.dice.u64(..RECORDS / depth);
                change(record, ChangeKind::Updated, self.now, n)
            });
            let changes = changes.collect();
            self.tick(changes);
        }
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / (ticks * batch) as f64;
        let read = each(self.spent - spent);
        self.settle();
        let all = each(self.spent - spent);
        println!(
            "a backlog read by {batch}, {RECORDS} records in {depth} parts: {read:.1} us to read, {all:.1} us with all that follows"
        );
    }

    /// Ticks until nothing is open.
    fn settle(&mut self) {
        while self.engine.totals().open > 0 || !self.open.is_empty() {
            self.tick(Vec::new());
        }
    }

    fn answer(&mut self, call: &Call) -> Reply {
        let now = Timestamp::from_micros(self.now);
        let result = match &call.request {
            Request::Read(read) => ReplyResult::Read(Ok(answered(read.ids.iter().map(|id| self.record(read, id))))),
            Request::Find(find) => ReplyResult::Find(Ok(answered(find.values.iter().map(|_| Vec::new())))),
            Request::Write(write) => ReplyResult::Write(Ok(answered(self.written(write).into_iter().map(Ok)))),
        };
        Reply { sent: now, answered: now, result }
    }

    fn record(&self, read: &ReadCall, id: &str) -> ReadItem {
        let version = Version { at: Timestamp::from_micros(self.now), resolution: Resolution::Ms };
        let value = |name: &NativeName| match (self.rows.get(id), name.to_string().as_str()) {
            (Some(row), _) => row.get(name).cloned().unwrap_or_default(),
            (None, "lastname") => Value::from("Roe"),
            (None, _) => Value::Null,
        };
        let values = read.fields.iter().map(|name| (name.clone(), value(name))).collect();
        ReadItem::Found(Found { external_id: None, id: id.to_owned(), version, values })
    }

    fn written(&mut self, write: &WriteCall) -> Vec<Written> {
        let mut ids = Vec::new();
        let mut put = |id: String, values: &NativeValues| {
            self.rows
                .entry(id.clone())
                .or_default()
                .extend(values.iter().map(|(name, value)| (name.clone(), value.clone())));
            ids.push(id);
        };
        match &write.items {
            WriteItems::Create(items) => items.iter().for_each(|i| put(format!("sf-{}", i.external_id), &i.values)),
            WriteItems::Delete(_) => {}
            WriteItems::Update(items) => items.iter().for_each(|i| put(i.id.clone(), &i.values)),
        }
        ids.into_iter().map(|id| Written { id: Some(id), created: None, version: None, stored: None }).collect()
    }
}

fn answered<T>(items: impl Iterator<Item = T>) -> Answered<T> {
    Answered { items: items.collect(), date: None, quota: Vec::new() }
}

fn change(record: u64, kind: ChangeKind, at: i64, n: u64) -> Change {
    let mut change = contract::example();
    let id = (7_000_000 + record).to_string();
    change.id = ChangeId::derive(System::Hubspot, "1", [id.as_bytes(), &at.to_be_bytes(), &n.to_be_bytes()]);
    change.source.connection = "hs".to_owned();
    change.object.id = Some(id);
    change.kind = kind;
    change.needs_fetch = kind == ChangeKind::Created;
    let city = FieldChange::to(Value::from(format!("city {at} {n}").as_str()));
    change.fields = [("city".to_owned(), city)].into_iter().filter(|_| kind == ChangeKind::Updated).collect();
    change.occurred_at = Some(Timestamp::from_micros(at));
    change.received_at = Timestamp::from_micros(at);
    change
}

/// Processor time of this thread, as Linux tells it.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn config(path: std::path::PathBuf, key_file: std::path::PathBuf) -> RelayConfig {
    let connection = |name: &str, system, field: &str| ConnectionConfig {
        name: name.to_owned(),
        tenant: "acme".to_owned(),
        system,
        account: "1".to_owned(),
        base_url: "http://127.0.0.1:1".to_owned(),
        auth: Auth::Bearer("token".into()),
        api_version: "62.0".to_owned(),
        client: "headgate".to_owned(),
        app_id: None,
        external_id_field: field.to_owned(),
        read_lag: Duration::from_secs(5),
        longest_run: Duration::from_secs(600),
        set_up: SetUp::Auto,
    };
    RelayConfig {
        store: StoreConfig { place: StorePlace::Sqlite(path), key_file },
        connections: vec![
            connection("hs", System::Hubspot, "relay_id"),
            connection("sf", System::Salesforce, "Relay_Id__c"),
        ],
        links: vec![LinkConfig {
            name: "contacts".to_owned(),
            tenant: "acme".to_owned(),
            object: ObjectType::CONTACT,
            members: vec!["hs".to_owned(), "sf".to_owned()],
            primary: "sf".to_owned(),
            guard: Guard::Read,
            policy: PolicyConfig::default(),
            records: RecordsConfig::default(),
        }],
        limits: Limits { calls_per_connection: 8, ..Limits::default() },
    }
}
