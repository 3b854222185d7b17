//! HubSpot and Salesforce as two shelves of records that answer by themselves, with the engine between them. People
//! change records and tell of it or not; a test may keep answers back. Time moves only when a test says so.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use headgate_relay::config::RecordsConfig;
use headgate_relay::engine::{
    Call, CallId, Choice, Command, Engine, Input, Parts, Reply, ReplyResult, Request, Resolution as Answer,
    ResolveError,
};
use headgate_relay::metrics::Metrics;
use headgate_relay::store::{ListedDecision, QuestionFilter, Reader, Sqlite, change_key};
use headgate_relay::target::{
    Answered, By, Disposition, Found, ReadCall, ReadItem, Target, TargetError, Version, WriteCall, WriteItems, Written,
};
use headgate_relay::trail::Happened;
use headgate_relay::vault::Vault;
use headgate_schemas::change::{FieldChange, Merge};
use headgate_schemas::stream::{Delivered, Topic};
use headgate_schemas::{Change, ChangeId, ChangeKind, Resolution, System, Timestamp, Value, contract};

use super::bench::{SECOND, START, Silent, config};

/// One record of a CRM.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) alive: bool,
    pub(crate) into: Option<String>,
    pub(crate) erased: bool,
    at: i64,
}

/// One CRM.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) rows: BTreeMap<String, Row>,
    /// A second record with an e-mail address that is taken is refused.
    pub(crate) unique: bool,
    /// It does not tell what a record was merged into.
    pub(crate) mute: bool,
    /// Searches fail.
    pub(crate) blind: bool,
    made: u32,
}

pub(crate) struct Town {
    folder: tempfile::TempDir,
    engine: Option<Engine>,
    records: RecordsConfig,
    now: i64,
    offset: u64,
    events: i64,
    last: Option<Change>,
    pub(crate) shelves: BTreeMap<&'static str, Shelf>,
    /// Calls for which no answer is given until the test does: the CRM and whether it is a write.
    pub(crate) keep_back: Option<&'static str>,
    kept: Vec<Call>,
    inbox: Vec<(u64, Reply)>,
}

const EXTERNAL: [(&str, &str); 2] = [("hs", "relay_id"), ("sf", "Relay_Id__c")];

impl Town {
    pub(crate) fn new(records: RecordsConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shelves = BTreeMap::from([("hs", Shelf::default()), ("sf", Shelf::default())]);
        let mut town = Self {
            folder,
            engine: None,
            records,
            now: START,
            offset: 0,
            events: 0,
            last: None,
            shelves,
            keep_back: None,
            kept: Vec::new(),
            inbox: Vec::new(),
        };
        town.die_and_open();
        town
    }

    /// The process dies: answers that were on their way are lost.
    pub(crate) fn die_and_open(&mut self) {
        self.engine = None;
        self.kept.clear();
        self.inbox.clear();
        let key_file = self.folder.path().join("key");
        let mut config = config(self.path(), key_file.clone());
        config.links[0].records = self.records;
        let target = || Arc::new(Silent { writable: true, conditional: false }) as Arc<dyn Target>;
        let targets = ["hs", "sf", "sf2"].map(|name| (name.to_owned(), target()));
        let targets = HashMap::from(targets);
        let parts = Parts {
            config: &config,
            targets: &targets,
            store: Box::new(Sqlite::open(&self.path()).unwrap()),
            topic: &Topic { id: "topic".to_owned(), partitions: 1 },
            vault: Arc::new(Vault::open_or_create(&key_file).unwrap()),
            metrics: Metrics::unregistered(),
            seed: 7,
        };
        self.engine = Some(Engine::open(parts, Timestamp::from_micros(self.now)).unwrap());
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub(crate) fn row(&self, crm: &str, id: &str) -> &Row {
        &self.shelves[crm].rows[id]
    }

    /// The records that stand in a CRM, with one of their values.
    pub(crate) fn standing(&self, crm: &str, field: &str) -> Vec<(String, String)> {
        let rows = self.shelves[crm].rows.iter().filter(|(_, row)| row.alive);
        rows.map(|(id, row)| (id.clone(), row.values.get(field).cloned().unwrap_or_default())).collect()
    }

    /// Somebody makes a record; nobody is told yet.
    pub(crate) fn add(&mut self, crm: &'static str, id: &str, values: &[(&str, &str)]) {
        let at = self.now;
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let row = Row { values, alive: true, at, ..Row::default() };
        self.shelves.get_mut(crm).unwrap().rows.insert(id.to_owned(), row);
    }

    /// Somebody makes a record, and the CRM tells of it.
    pub(crate) fn make(&mut self, crm: &'static str, id: &str, values: &[(&str, &str)]) {
        self.add(crm, id, values);
        self.tell(crm, id, ChangeKind::Created);
    }

    /// Somebody makes a record in HubSpot, and it reaches Salesforce. Its id there is returned.
    pub(crate) fn person(&mut self, id: &str, values: &[(&str, &str)]) -> String {
        self.make("hs", id, values);
        self.pass(2);
        let external = self.row("hs", id).values.get("relay_id").cloned();
        let of = |row: &Row| row.values.get("Relay_Id__c").cloned();
        let made: Vec<&String> = self.shelves["sf"].rows.keys().collect();
        assert!(external.is_none(), "nothing is written back");
        let last = made.iter().copied().max_by_key(|id| (self.row("sf", id).at, (*id).clone())).unwrap().clone();
        assert!(of(self.row("sf", &last)).is_some());
        last
    }

    pub(crate) fn edit(&mut self, crm: &'static str, id: &str, field: &str, value: &str) {
        self.now += 1_000;
        let at = self.now;
        let row = self.shelves.get_mut(crm).unwrap().rows.get_mut(id).unwrap();
        row.values.insert(field.to_owned(), value.to_owned());
        row.at = at;
    }

    pub(crate) fn delete(&mut self, crm: &'static str, id: &str) {
        self.now += 1_000;
        let at = self.now;
        let row = self.shelves.get_mut(crm).unwrap().rows.get_mut(id).unwrap();
        (row.alive, row.at) = (false, at);
    }

    pub(crate) fn restore(&mut self, crm: &'static str, id: &str) {
        self.now += 1_000;
        let at = self.now;
        let row = self.shelves.get_mut(crm).unwrap().rows.get_mut(id).unwrap();
        (row.alive, row.at) = (true, at);
    }

    pub(crate) fn merge(&mut self, crm: &'static str, loser: &str, winner: &str) {
        self.delete(crm, loser);
        self.shelves.get_mut(crm).unwrap().rows.get_mut(loser).unwrap().into = Some(winner.to_owned());
    }

    fn change(&mut self, crm: &'static str, id: &str, kind: ChangeKind) -> Change {
        self.events += 1;
        let mut change = contract::example();
        change.id = ChangeId::derive(System::Hubspot, crm, [id.as_bytes(), &self.events.to_be_bytes()]);
        change.source.connection = crm.to_owned();
        change.object.id = Some(id.to_owned());
        change.kind = kind;
        change.needs_fetch = matches!(kind, ChangeKind::Created | ChangeKind::Restored | ChangeKind::Merged);
        change.fields.clear();
        let at = self.shelves[crm].rows.get(id).map_or(self.now, |row| row.at);
        change.occurred_at = Some(Timestamp::from_micros(at));
        change.received_at = Timestamp::from_micros(self.now);
        change
    }

    /// The CRM tells of a record.
    pub(crate) fn tell(&mut self, crm: &'static str, id: &str, kind: ChangeKind) {
        let change = self.change(crm, id, kind);
        self.publish(&change);
    }

    /// The CRM tells of an edit.
    pub(crate) fn tell_edit(&mut self, crm: &'static str, id: &str, field: &str) {
        let mut change = self.change(crm, id, ChangeKind::Updated);
        let value = self.row(crm, id).values[field].clone();
        change.fields.insert(field.to_owned(), FieldChange::to(Value::from(value.as_str())));
        self.publish(&change);
    }

    /// The CRM tells of a merge.
    pub(crate) fn tell_merge(&mut self, crm: &'static str, loser: &str, winner: &str) {
        let mut change = self.change(crm, winner, ChangeKind::Merged);
        change.merge = Some(Merge { into: winner.to_owned(), from: vec![loser.to_owned()] });
        self.publish(&change);
    }

    fn publish(&mut self, change: &Change) {
        self.last = Some(change.clone());
        let record = contract::encode(change).unwrap();
        self.offset += 1;
        let records = vec![Delivered { partition: 0, offset: self.offset, record }];
        self.tick(Input { records, ..Input::default() });
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    /// One tick; what it asks is answered for the next one.
    fn tick(&mut self, input: Input) {
        self.now += 5_000;
        let now = Timestamp::from_micros(self.now);
        let replies = std::mem::take(&mut self.inbox);
        let input = Input { replies, ..input };
        let calls = self.engine().tick(now, input).unwrap();
        assert_eq!(self.engine().totals().difference(), 0, "{:?}", self.engine().totals());
        for call in calls {
            let names = self.engine().connections().clone();
            let crm = if names["hs"] == call.connection { "hs" } else { "sf" };
            if self.keep_back == Some(crm) && matches!(call.request, Request::Write(_)) {
                self.kept.push(call);
                continue;
            }
            self.answer(crm, &call);
        }
    }

    /// The calls kept back are carried out and answered now.
    pub(crate) fn let_go(&mut self) {
        let crm = self.keep_back.take().unwrap();
        for call in std::mem::take(&mut self.kept) {
            self.answer(crm, &call);
        }
    }

    /// The calls kept back are carried out now, and their answers lost.
    pub(crate) fn lose(&mut self) {
        let crm = self.keep_back.take().unwrap();
        for call in std::mem::take(&mut self.kept) {
            self.answer(crm, &call);
            let (_, reply) = self.inbox.last_mut().unwrap();
            reply.result = ReplyResult::Write(Err(TargetError::new("timeout", "", Disposition::Unknown)));
        }
    }

    /// The answers of the calls kept back are lost; what they do is done only when the closure of the caller says so.
    pub(crate) fn give_up(&mut self) -> Vec<Call> {
        self.keep_back = None;
        let kept = std::mem::take(&mut self.kept);
        let at = Timestamp::from_micros(self.now);
        for call in &kept {
            let result = ReplyResult::Write(Err(TargetError::new("timeout", "", Disposition::Unknown)));
            self.inbox.push((call.id, Reply { sent: at, answered: at, result }));
        }
        kept
    }

    /// A call lands long after everybody gave it up.
    pub(crate) fn land(&mut self, crm: &'static str, call: &Call) {
        let inbox = std::mem::take(&mut self.inbox);
        self.answer(crm, call);
        self.inbox = inbox;
    }

    /// Answers that are on their way take longer than what follows; [`Self::arrive`] brings them.
    pub(crate) fn delay(&mut self) -> Vec<(CallId, Reply)> {
        std::mem::take(&mut self.inbox)
    }

    /// The delayed answers are there.
    pub(crate) fn arrive(&mut self, answers: Vec<(CallId, Reply)>) {
        self.inbox.extend(answers);
    }

    /// So many seconds pass in which nothing is done.
    pub(crate) fn sleep(&mut self, seconds: i64) {
        self.now += seconds * SECOND;
    }

    /// So many seconds pass; whatever is due is done.
    pub(crate) fn pass(&mut self, seconds: i64) {
        let end = self.now + seconds * SECOND;
        for _ in 0..5_000 {
            let now = Timestamp::from_micros(self.now);
            let due = if self.inbox.is_empty() {
                self.engine().next_tick(now).map(Timestamp::micros)
            } else {
                Some(self.now)
            };
            match due {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.tick(Input::default());
                }
                _ => {
                    self.now = self.now.max(end);
                    return;
                }
            }
        }
        panic!("it never rests: {:?}", self.inbox);
    }

    fn answer(&mut self, crm: &'static str, call: &Call) {
        let sent = Timestamp::from_micros(self.now);
        self.now += 1_000;
        let now = self.now;
        let shelf = self.shelves.get_mut(crm).unwrap();
        let external = EXTERNAL.iter().find(|(name, _)| *name == crm).unwrap().1;
        let result = match &call.request {
            Request::Read(read) => ReplyResult::Read(Ok(answered(shelf.read(read, external)))),
            Request::Find(_) if shelf.blind => {
                ReplyResult::Find(Err(TargetError::new("INVALID_SEARCH_FILTER", "", Disposition::Permanent)))
            }
            Request::Find(find) => {
                let holds = |value: &str| {
                    let rows = shelf.rows.iter().filter(|(_, row)| row.alive);
                    let same = |row: &Row| row.values.get(&*find.field).is_some_and(|v| v.eq_ignore_ascii_case(value));
                    rows.filter(|(_, row)| same(row)).map(|(id, _)| id.clone()).collect::<Vec<_>>()
                };
                ReplyResult::Find(Ok(answered(find.values.iter().map(|v| holds(v)).collect())))
            }
            Request::Write(write) => ReplyResult::Write(Ok(answered(shelf.write(crm, write, external, now)))),
        };
        self.inbox.push((call.id, Reply { sent, answered: Timestamp::from_micros(now), result }));
    }

    /// Open questions: number and kind.
    pub(crate) fn questions(&self) -> Vec<(i64, String)> {
        let reader = Reader::open(&self.path()).unwrap();
        let listed = reader.questions(&QuestionFilter::default(), 0, 100).unwrap();
        let mut open: Vec<_> = listed.into_iter().map(|q| (q.question.id, q.question.kind)).collect();
        open.sort_unstable();
        open
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.questions().into_iter().map(|(_, kind)| kind).collect()
    }

    /// A person answers the oldest open question.
    pub(crate) fn choose(&mut self, choice: Choice) -> Result<(), ResolveError> {
        let (id, _) = self.questions()[0];
        let (done, mut told) = tokio::sync::oneshot::channel();
        let resolution = Answer { id, edition: None, choice, by: "pat".to_owned(), done };
        self.tick(Input { commands: vec![Command::Resolve(resolution)], ..Input::default() });
        told.try_recv().unwrap().map(|_| ())
    }

    /// What happened to an entity, the oldest first.
    pub(crate) fn trail(&mut self, entity: i64) -> Vec<Happened> {
        let newest = self.engine().entity(entity).unwrap().unwrap().trail;
        let rows = Reader::open(&self.path()).unwrap().trail(entity, newest, 0, 10_000).unwrap();
        rows.into_iter().rev().flat_map(|row| row.happened).collect()
    }

    /// The decision log, oldest first: field, rule, ruling, both values; and what is stored of the values.
    pub(crate) fn decisions(&self) -> Vec<(String, Vec<u8>)> {
        let vault = Vault::open_or_create(&self.folder.path().join("key")).unwrap();
        let listed = Reader::open(&self.path()).unwrap().decisions(None, i64::MAX, 100).unwrap();
        let row = |d: ListedDecision| {
            let d = d.decision;
            let values = String::from_utf8(vault.open(b"decision", &d.values).unwrap()).unwrap();
            (format!("{} {} {} {values}", d.field, d.rule, d.ruling), d.values)
        };
        listed.into_iter().rev().map(row).collect()
    }

    /// The number of a connection.
    pub(crate) fn number(&mut self, crm: &str) -> u32 {
        self.engine().connections()[crm]
    }

    /// The CRM tells of the last change again.
    pub(crate) fn tell_again(&mut self) {
        let change = self.last.clone().unwrap();
        self.publish(&change);
    }

    /// How often the last change came again.
    pub(crate) fn repeats(&self) -> Option<u32> {
        let change = self.last.as_ref().unwrap();
        let key = change_key(&change.tenant, change.id, change.occurred_at.unwrap().millis());
        Reader::open(&self.path()).unwrap().repeats(&key).unwrap()
    }

    /// Due, closed, open.
    pub(crate) fn accounting(&mut self) -> (i64, i64, i64) {
        let now = Timestamp::from_micros(self.now);
        for (place, account) in self.engine().accounts(now) {
            assert_eq!(account.difference(), 0, "{place:?}: {account:?}");
        }
        let totals = self.engine().totals();
        (totals.due, totals.closed, totals.open)
    }

    /// What the state file holds, as bytes: for looking whether something is still in it.
    pub(crate) fn documents(&self) -> Vec<u8> {
        let reader = Reader::open(&self.path()).unwrap();
        reader.documents(0, 1_000).unwrap().into_iter().flat_map(|(_, doc)| doc).collect()
    }
}

impl Shelf {
    fn read(&self, call: &ReadCall, external: &str) -> Vec<ReadItem> {
        call.ids
            .iter()
            .map(|asked| {
                let found = match call.by {
                    By::NativeId => self.rows.get_key_value(asked),
                    By::ExternalId => {
                        self.rows.iter().find(|(_, row)| row.alive && row.values.get(external) == Some(asked))
                    }
                };
                match found {
                    Some((id, row)) if row.alive => ReadItem::Found(Found {
                        id: id.clone(),
                        external_id: row.values.get(external).cloned(),
                        version: Version { at: Timestamp::from_micros(row.at), resolution: Resolution::Ms },
                        values: call
                            .fields
                            .iter()
                            .map(|f| (f.clone(), row.values.get(&**f).map_or(Value::Null, |v| Value::from(v.as_str()))))
                            .collect(),
                    }),
                    Some((_, row)) if !self.mute => ReadItem::Missing { merged_into: row.into.clone() },
                    Some(_) | None => ReadItem::Missing { merged_into: None },
                }
            })
            .collect()
    }

    fn write(&mut self, crm: &str, call: &WriteCall, external: &str, now: i64) -> Vec<Result<Written, TargetError>> {
        match &call.items {
            WriteItems::Create(items) => items
                .iter()
                .map(|item| {
                    let ours = item.external_id.to_string();
                    let held = |row: &Row| row.alive && row.values.get(external) == Some(&ours);
                    let known = self.rows.iter().find(|(_, row)| held(row)).map(|(id, _)| id.clone());
                    let mail = item.values.get("email").map(|v| v.to_plain().into_owned());
                    let twin = self
                        .rows
                        .iter()
                        .find(|(_, r)| r.alive && mail.is_some() && r.values.get("email") == mail.as_ref());
                    if let (true, None, Some((twin, _))) = (self.unique, &known, twin) {
                        return Err(TargetError::new("CONTACT_EXISTS", "", Disposition::Conflict)
                            .because_of(Some(twin.clone())));
                    }
                    let id = known.unwrap_or_else(|| {
                        self.made += 1;
                        if crm == "sf" {
                            format!("0030000000000{:02}AAA", self.made)
                        } else {
                            format!("80{:02}", self.made)
                        }
                    });
                    let row = self.rows.entry(id.clone()).or_default();
                    row.values.insert(external.to_owned(), ours);
                    Ok(set(row, id, item.values.iter(), now))
                })
                .collect(),
            WriteItems::Update(items) => items
                .iter()
                .map(|item| {
                    let into = self.rows.get(&item.id).and_then(|row| row.into.clone());
                    let id = into.unwrap_or_else(|| item.id.clone());
                    match self.rows.get_mut(&id) {
                        Some(row) if row.alive => Ok(set(row, id, item.values.iter(), now)),
                        _ => Err(TargetError::new("NOT_FOUND", "", Disposition::Gone)),
                    }
                })
                .collect(),
            WriteItems::Delete(items) => items
                .iter()
                .map(|item| {
                    if let Some(row) = self.rows.get_mut(&item.id) {
                        row.alive = false;
                        row.erased |= item.erase;
                        row.at = now;
                    }
                    Ok(Written { id: Some(item.id.clone()), created: None, version: None, stored: None })
                })
                .collect(),
        }
    }
}

fn set<'a>(
    row: &mut Row,
    id: String,
    values: impl Iterator<Item = (&'a headgate_relay::target::NativeName, &'a Value)>,
    now: i64,
) -> Written {
    for (name, value) in values {
        row.values.insert(name.to_string(), value.to_plain().into_owned());
    }
    (row.alive, row.at) = (true, now);
    let version = Some(Version { at: Timestamp::from_micros(now), resolution: Resolution::Ms });
    Written { id: Some(id), created: None, version, stored: None }
}

const fn answered<T>(items: Vec<T>) -> Answered<T> {
    Answered { items, date: None, quota: Vec::new() }
}
