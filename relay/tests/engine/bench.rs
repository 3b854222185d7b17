//! A HubSpot contact link to Salesforce with the engine on the bench: every call is seen, every answer is given by hand.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headgate_relay::books::{Account, Place};
use headgate_relay::config::{
    Auth, ConnectionConfig, Guard, Limits, LinkConfig, PolicyConfig, RecordsConfig, RelayConfig, SetUp, StoreConfig,
    StorePlace,
};
use headgate_relay::engine::{
    self, Call, Choice, Command, Engine, Input, Parts, Reply, ReplyResult, Request, ResolveError, Resolved,
};
use headgate_relay::metrics::{self, Metrics};
use headgate_relay::store::{ListedDecision, QuestionFilter, Reader, Sqlite};
use headgate_relay::target::{
    Answered, Calling, Disposition, FieldInfo, FindCall, Found, Pack, Prepared, ReadCall, ReadItem, Target,
    TargetError, Version, WriteCall, WriteItems, Written,
};
use headgate_relay::vault::Vault;
use headgate_schemas::change::FieldChange;
use headgate_schemas::stream::{Delivered, Topic};
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Resolution, System, Timestamp, Value, contract};

pub(crate) const SECOND: i64 = 1_000_000;
/// When the test begins.
pub(crate) const START: i64 = 1_800_000_000_000_000;

/// A CRM that says what it can carry and is never called: the test answers.
pub(crate) struct Silent {
    pub(crate) writable: bool,
    pub(crate) conditional: bool,
}

impl Target for Silent {
    fn pack(&self) -> Pack {
        Pack { read: 100, write: 200 }
    }
    fn writable(&self) -> bool {
        self.writable
    }
    fn conditional(&self) -> bool {
        self.conditional
    }
    fn find<'a>(&'a self, _: &'a FindCall) -> Calling<'a, Answered<Vec<String>>> {
        unreachable!("the test answers")
    }
    fn prepare<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Prepared> {
        unreachable!("the test answers")
    }
    fn read<'a>(&'a self, _: &'a ReadCall) -> Calling<'a, Answered<ReadItem>> {
        unreachable!("the test answers")
    }
    fn write<'a>(&'a self, _: &'a WriteCall) -> Calling<'a, Answered<Result<Written, TargetError>>> {
        unreachable!("the test answers")
    }
    fn describe<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Option<Vec<FieldInfo>>> {
        unreachable!("the test answers")
    }
}

/// The calls that a step led to.
pub(crate) struct Calls<'a> {
    bench: &'a mut Bench,
    calls: Vec<Call>,
}

impl Calls<'_> {
    pub(crate) fn one(mut self) -> Call {
        assert_eq!(self.calls.len(), 1, "{:?}", self.calls);
        self.calls.remove(0)
    }

    pub(crate) fn all(self) -> Vec<Call> {
        self.calls
    }

    pub(crate) fn none(self) {
        assert_eq!(self.calls, []);
    }

    /// The calls that come after a wait, when none came at once.
    pub(crate) fn after(self, wait: i64) -> Self {
        assert_eq!(self.calls, []);
        self.bench.pass(wait);
        let calls = self.bench.step(Input::default());
        Self { calls, ..self }
    }
}

pub(crate) struct Bench {
    folder: tempfile::TempDir,
    engine: Option<Engine>,
    metrics: Metrics,
    now: i64,
    offset: u64,
    link: fn(&mut LinkConfig),
    /// HubSpot is written, too.
    both: bool,
    /// Others may have the state, too; then it is gone with the engine.
    shared: bool,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, false)
    }

    /// The link as `link` would have it; `both` ways if wanted.
    pub(crate) fn with(link: fn(&mut LinkConfig), both: bool) -> Self {
        Self::on(false, link, both)
    }

    /// On a state that others may have, too.
    pub(crate) fn shared() -> Self {
        let mut bench = Self::on(true, |_| {}, false);
        let now = bench.time();
        bench.engine().take_partitions(&[0], now).unwrap();
        bench
    }

    fn on(shared: bool, link: fn(&mut LinkConfig), both: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bench =
            Self { folder, engine: None, metrics: Metrics::unregistered(), now: START, offset: 0, link, both, shared };
        bench.die_and_open();
        bench
    }

    /// Contact 7001 (Roe) stands in both.
    pub(crate) fn linked() -> Self {
        Self::linked_with(|_| {}, false)
    }

    /// The same under a link as `link` would have it.
    pub(crate) fn linked_with(link: fn(&mut LinkConfig), both: bool) -> Self {
        let mut bench = Self::with(link, both);
        let read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
        let create = bench.found(&read, "7001", 0, &[("lastname", "Roe")]).one();
        bench.written(&create, "003000000000001AAA").none();
        bench
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    /// The process dies: what was not committed is gone. It starts again over what is durable.
    pub(crate) fn die_and_open(&mut self) {
        self.engine = None;
        let key_file = self.folder.path().join("key");
        let mut config = config(self.path(), key_file.clone());
        (self.link)(&mut config.links[0]);
        let target = |writable, conditional| Arc::new(Silent { writable, conditional }) as Arc<dyn Target>;
        let targets = HashMap::from([
            ("hs".to_owned(), target(self.both, false)),
            ("sf".to_owned(), target(true, true)),
            ("sf2".to_owned(), target(true, true)),
        ]);
        let store = if self.shared { Sqlite::in_memory().and_then(Sqlite::shared) } else { Sqlite::open(&self.path()) };
        let parts = Parts {
            config: &config,
            targets: &targets,
            store: Box::new(store.unwrap()),
            topic: &Topic { id: "topic".to_owned(), partitions: 1 },
            vault: Arc::new(Vault::open_or_create(&key_file).unwrap()),
            metrics: self.metrics.clone(),
            seed: 7,
        };
        self.engine = Some(Engine::open(parts, self.time()).unwrap());
    }

    /// The process dies and starts again with another configuration of the link.
    pub(crate) fn die_and_open_with(&mut self, link: fn(&mut LinkConfig)) {
        self.link = link;
        self.die_and_open();
    }

    pub(crate) fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    pub(crate) fn pass(&mut self, time: i64) {
        self.now += time;
    }

    /// To the beginning of a second after the start, which is to come.
    pub(crate) fn pass_to(&mut self, second: i64) {
        let at = START + second * SECOND;
        assert!(at > self.now, "that second is over");
        self.now = at;
    }

    fn step(&mut self, input: Input) -> Vec<Call> {
        self.pass(20_000);
        let now = self.time();
        let calls = self.engine().tick(now, input).unwrap();
        assert_eq!(self.engine().totals().difference(), 0);
        calls
    }

    pub(crate) fn tick(&mut self) -> Calls<'_> {
        let calls = self.step(Input::default());
        Calls { bench: self, calls }
    }

    /// Salesforce is known to lack what creating contacts needs, or to have it.
    pub(crate) fn set_up(&mut self, open: bool) -> Calls<'_> {
        let command = Command::SetUp { connection: "sf".to_owned(), object: ObjectType::CONTACT, open };
        let calls = self.step(Input { commands: vec![command], ..Input::default() });
        Calls { bench: self, calls }
    }

    /// A change of a HubSpot contact, `at` seconds after the start by HubSpot's clock.
    pub(crate) fn change(&self, id: &str, kind: ChangeKind, at: i64, fields: &[(&str, &str)]) -> Change {
        let mut change = contract::example();
        change.id =
            ChangeId::derive(System::Hubspot, "1", [id.as_bytes(), kind.as_str().as_bytes(), &at.to_be_bytes()]);
        change.source.connection = "hs".to_owned();
        change.object.id = Some(id.to_owned());
        change.kind = kind;
        change.needs_fetch = kind == ChangeKind::Created;
        change.fields =
            fields.iter().map(|(name, value)| ((*name).to_owned(), FieldChange::to(Value::from(*value)))).collect();
        change.occurred_at = Some(Timestamp::from_micros(START + at * SECOND));
        change.received_at = self.time();
        change
    }

    /// So many seconds after the start.
    pub(crate) const fn at(&self, second: i64) -> Timestamp {
        Timestamp::from_micros(START + second * SECOND)
    }

    /// Whole seconds since the start.
    pub(crate) const fn second(&self) -> i64 {
        (self.now - START) / SECOND
    }

    /// A change of the Salesforce contact, in the present second of Salesforce's clock.
    pub(crate) fn change_there(&self, id: &str, fields: &[(&str, &str)]) -> Change {
        let mut change = self.change(id, ChangeKind::Updated, self.second(), fields);
        change.source.connection = "sf".to_owned();
        change.id = ChangeId::derive(System::Salesforce, "1", [id.as_bytes(), &self.now.to_be_bytes()]);
        change.occurred_at_resolution = Resolution::S;
        change
    }

    /// A person answers a question.
    pub(crate) fn resolve(
        &mut self,
        id: i64,
        edition: Option<u32>,
        choice: Choice,
    ) -> (Result<Resolved, ResolveError>, Vec<Call>) {
        let (done, mut told) = tokio::sync::oneshot::channel();
        let command = Command::Resolve(engine::Resolution { id, edition, choice, by: "ana".to_owned(), done });
        let calls = self.step(Input { commands: vec![command], ..Input::default() });
        (told.try_recv().unwrap(), calls)
    }

    /// Salesforce's metadata list these fields of deals.
    pub(crate) fn described(&mut self, fields: &[&str]) {
        let fields = fields.iter().map(|f| (*f).to_owned()).collect();
        let command = Command::Described { connection: "sf".to_owned(), object: ObjectType::DEAL, fields };
        assert_eq!(self.step(Input { commands: vec![command], ..Input::default() }), []);
    }

    /// Questions that are open: number, kind, field.
    pub(crate) fn questions(&self) -> Vec<(i64, String, String)> {
        let listed = Reader::open(&self.path()).unwrap().questions(&QuestionFilter::default(), 0, 10).unwrap();
        listed.into_iter().map(|q| (q.question.id, q.question.kind, q.question.subject)).collect()
    }

    /// The decision log, oldest first: field, rule, ruling, both values.
    pub(crate) fn decisions(&self) -> Vec<String> {
        let vault = Vault::open_or_create(&self.folder.path().join("key")).unwrap();
        let mut listed = Reader::open(&self.path()).unwrap().decisions(None, i64::MAX, 100).unwrap();
        listed.reverse();
        let line = |d: &ListedDecision| {
            let d = &d.decision;
            let values = String::from_utf8(vault.open(b"decision", &d.values).unwrap()).unwrap();
            format!("{} {} {} {values} {}", d.field, d.rule, d.ruling, d.author)
        };
        listed.iter().map(line).collect()
    }

    pub(crate) fn take(&mut self, change: Change) -> Calls<'_> {
        let record = contract::encode(&change).unwrap();
        self.offset += 1;
        let records = vec![Delivered { partition: 0, offset: self.offset, record }];
        let calls = self.step(Input { records, ..Input::default() });
        Calls { bench: self, calls }
    }

    /// What stands in the stream from an offset on, in one tick.
    pub(crate) fn take_from(&mut self, offset: u64, changes: &[Change]) -> Calls<'_> {
        let records = (offset..).zip(changes);
        let records = records.map(|(offset, change)| {
            let record = contract::encode(change).unwrap();
            Delivered { partition: 0, offset, record }
        });
        let records = records.collect();
        let calls = self.step(Input { records, ..Input::default() });
        Calls { bench: self, calls }
    }

    /// Where the stream is read on.
    pub(crate) fn next_offset(&mut self) -> u64 {
        self.engine().positions()[0].offset
    }

    fn reply(&mut self, call: &Call, result: ReplyResult) -> Calls<'_> {
        let sent = self.time();
        self.pass(30_000);
        let reply = Reply { sent, answered: self.time(), result };
        let calls = self.step(Input { replies: vec![(call.id, reply)], ..Input::default() });
        Calls { bench: self, calls }
    }

    fn read_reply(&mut self, call: &Call, item: ReadItem) -> Calls<'_> {
        let answered = Answered { items: vec![item], date: None, quota: Vec::new() };
        self.reply(call, ReplyResult::Read(Ok(answered)))
    }

    /// HubSpot answers with a record last changed `at` seconds after the start.
    pub(crate) fn found(&mut self, call: &Call, id: &str, at: i64, values: &[(&str, &str)]) -> Calls<'_> {
        let version = Version { at: Timestamp::from_micros(START + at * SECOND), resolution: Resolution::Ms };
        self.read_reply(call, found(call, id, version, values))
    }

    /// Salesforce answers with a record last changed in the present second.
    pub(crate) fn found_there(&mut self, call: &Call, id: &str, values: &[(&str, &str)]) -> Calls<'_> {
        self.found_there_as_of(self.second(), call, id, values)
    }

    /// Salesforce answers with a record last changed `at` seconds after the start.
    pub(crate) fn found_there_as_of(&mut self, at: i64, call: &Call, id: &str, values: &[(&str, &str)]) -> Calls<'_> {
        let version = Version { at: self.at(at), resolution: Resolution::S };
        self.read_reply(call, found(call, id, version, values))
    }

    /// No record holds what was looked for.
    pub(crate) fn nobody(&mut self, call: &Call) -> Calls<'_> {
        let answered = Answered { items: vec![Vec::new()], date: None, quota: Vec::new() };
        self.reply(call, ReplyResult::Find(Ok(answered)))
    }

    pub(crate) fn missing(&mut self, call: &Call) -> Calls<'_> {
        self.read_reply(call, ReadItem::Missing { merged_into: None })
    }

    fn write_reply(&mut self, call: &Call, item: Result<Written, TargetError>) -> Calls<'_> {
        let answered = Answered { items: vec![item], date: None, quota: Vec::new() };
        self.reply(call, ReplyResult::Write(Ok(answered)))
    }

    pub(crate) fn written(&mut self, call: &Call, id: &str) -> Calls<'_> {
        self.write_reply(call, Ok(Written { id: Some(id.to_owned()), created: None, version: None, stored: None }))
    }

    pub(crate) fn refused(&mut self, call: &Call, code: &str, fields: &[&str], what: Disposition) -> Calls<'_> {
        let fields: Vec<String> = fields.iter().map(|f| (*f).to_owned()).collect();
        self.write_reply(call, Err(TargetError::new(code, "no", what).naming(fields)))
    }

    /// Salesforce took it and says what now stands there.
    pub(crate) fn written_as(&mut self, call: &Call, id: &str, values: &[(&str, &str)]) -> Calls<'_> {
        let stored = values.iter().map(|(name, value)| ((*name).into(), Value::from(*value))).collect();
        let version = Version { at: self.time(), resolution: Resolution::S };
        let (id, version, stored) = (Some(id.to_owned()), Some(version), Some(stored));
        self.write_reply(call, Ok(Written { id, created: None, version, stored }))
    }

    /// No answer came.
    pub(crate) fn lost(&mut self, call: &Call) -> Calls<'_> {
        self.reply(call, ReplyResult::Write(Err(TargetError::new("timeout", "", Disposition::Unknown))))
    }

    /// What a write sends, as text.
    pub(crate) fn values(&self, call: &Call) -> BTreeMap<String, String> {
        let Request::Write(write) = &call.request else { panic!("{call:?}") };
        let values = match &write.items {
            WriteItems::Create(items) => &items[0].values,
            WriteItems::Update(items) => &items[0].values,
            WriteItems::Delete(_) => panic!("no values: {call:?}"),
        };
        values.iter().map(|(k, v)| (k.to_string(), v.to_plain().into_owned())).collect()
    }

    pub(crate) fn external_id(&self, call: &Call) -> String {
        match &call.request {
            Request::Write(WriteCall { items: WriteItems::Create(items), .. }) => items[0].external_id.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The accounting by link and target.
    pub(crate) fn accounts(&mut self) -> BTreeMap<Place, Account> {
        let now = self.time();
        self.engine().accounts(now)
    }

    /// The number of the only link.
    pub(crate) fn link(&mut self) -> u32 {
        *self.engine().link_names().keys().next().unwrap()
    }

    /// The credentials are refused.
    pub(crate) fn unauthorised(&mut self, call: &Call) {
        let error = TargetError::new("401", "", Disposition::Reauthorise);
        self.reply(call, ReplyResult::Read(Err(error))).none();
    }

    /// Due, closed, open.
    pub(crate) fn accounting(&mut self) -> (i64, i64, i64) {
        let totals = self.engine().totals();
        (totals.due, totals.closed, totals.open)
    }

    /// So many deliveries ended like this, as the metrics say.
    pub(crate) fn counted(&self, outcome: &'static str) -> u64 {
        self.metrics.outcomes.get_or_create(&metrics::Outcome { outcome }).get()
    }

    /// Outcomes so far, in order.
    pub(crate) fn outcomes(&self) -> Vec<&'static str> {
        let reader = Reader::open(&self.path()).unwrap();
        let mut rows = reader.recent_outcomes(i64::MAX, 1_000).unwrap();
        rows.sort_by_key(|o| o.at);
        rows.iter().map(|o| o.outcome.as_str()).collect()
    }

    /// Dead letters: code and fields.
    pub(crate) fn letters(&self) -> Vec<String> {
        let letters = Reader::open(&self.path()).unwrap().letters(None, true, 10).unwrap();
        letters.iter().map(|l| format!("{}: {}", l.code, l.fields.join(","))).collect()
    }
}

/// A record with the given values and nulls for everything else that was asked for.
fn found(call: &Call, id: &str, version: Version, values: &[(&str, &str)]) -> ReadItem {
    let Request::Read(read) = &call.request else { panic!("{call:?}") };
    let value = |name: &str| values.iter().find(|(n, _)| *n == name).map_or(Value::Null, |(_, v)| Value::from(*v));
    let values = read.fields.iter().map(|name| (name.clone(), value(name))).collect();
    ReadItem::Found(Found { id: id.to_owned(), external_id: None, version, values })
}

pub(crate) fn config(path: PathBuf, key_file: PathBuf) -> RelayConfig {
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
        set_up: SetUp::Auto,
        read_lag: Duration::from_secs(5),
        longest_run: Duration::from_secs(600),
    };
    RelayConfig {
        store: StoreConfig { place: StorePlace::Sqlite(path), key_file },
        connections: vec![
            connection("hs", System::Hubspot, "relay_id"),
            connection("sf", System::Salesforce, "Relay_Id__c"),
            connection("sf2", System::Salesforce, "Relay_Id__c"),
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
        limits: Limits::default(),
    }
}
