//! What travels between the world of records and the real engine: changes as the gateway publishes them, calls carried
//! out on the shelves, answers.
//!
//! Translation only. The surprising thing: addresses are names in the world and e-mail addresses for the engine, so that
//! its normal forms and claims are the real ones.

use std::time::Duration;

use headgate_relay::config::{Auth, ConnectionConfig, Guard, Limits, RelayConfig, SetUp, StoreConfig, StorePlace};
use headgate_relay::conflict::{By as Set, Policy};
use headgate_relay::engine::{Choice, ReplyResult};
use headgate_relay::entity::Entity;
use headgate_relay::entity::record::{DeletePolicy, RecordRules};
use headgate_relay::mapping::{FieldMap, FieldPlan, Form, Kind, Link};
use headgate_relay::target::{
    Answered, By, Calling, CreateItem, DeleteItem, Disposition, FieldInfo, FindCall, Found, NativeValues, Pack,
    Prepared, ReadCall, ReadItem, Target, TargetError, UpdateItem, Version, WriteCall, WriteItems, Written,
};
use headgate_schemas::change::{Merge, Object, Ours, Source};
use headgate_schemas::contract::example;
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Resolution, System, Timestamp, Value};
use uuid::Uuid;

use crate::scenario::{CRMS, SEC};
use crate::shelf::{Kind as Told, RecordId, Row};
use crate::world::{Hint, LATEST, Update, World};

/// The world's zero: a whole second.
const ZERO: i64 = 1_767_225_600_000;
/// The tenant of every run.
const TENANT: &str = "acme";

/// The engine's clock at a moment of the world.
pub const fn clock(ms: i64) -> Timestamp {
    Timestamp::from_millis(ZERO + ms)
}

/// The first millisecond of the world that is not before a moment of the engine.
pub fn moment(at: Timestamp) -> i64 {
    (at.micros() - ZERO * 1_000 + 999).div_euclid(1_000)
}

/// The number of the connection to a CRM.
pub fn connection(crm: usize) -> u32 {
    u32::try_from(crm).unwrap_or(u32::MAX - 1) + 1
}

/// The CRM of a connection.
pub const fn crm(connection: u32) -> usize {
    connection as usize - 1
}

/// The name of the connection to a CRM.
pub fn connection_name(crm: usize) -> String {
    format!("crm{crm}")
}

/// A record's id as its CRM writes it.
pub fn native(id: RecordId) -> String {
    id.number.to_string()
}

/// The record that a CRM means.
pub fn record(crm: usize, native: &str) -> RecordId {
    match native.parse() {
        Ok(number) => RecordId { crm, number },
        Err(_) => panic!("{native:?} is no id of crm{crm}"),
    }
}

/// The settings of a relay between the CRMs.
pub fn config() -> RelayConfig {
    let connection = |crm| ConnectionConfig {
        name: connection_name(crm),
        tenant: TENANT.to_owned(),
        system: System::Native,
        account: format!("account{crm}"),
        base_url: String::new(),
        auth: Auth::Bearer(String::new().into()),
        api_version: String::new(),
        client: String::new(),
        app_id: None,
        external_id_field: String::new(),
        set_up: SetUp::Auto,
        read_lag: Duration::from_millis(5 * SEC.unsigned_abs()),
        longest_run: Duration::from_millis(LATEST.unsigned_abs()),
    };
    RelayConfig {
        store: StoreConfig { place: StorePlace::Sqlite("".into()), key_file: "".into() },
        connections: (0..CRMS).map(connection).collect(),
        links: Vec::new(),
        limits: Limits::default(),
    }
}

/// The link between the CRMs.
pub fn link() -> Link {
    let members = (0..CRMS).map(|crm| (connection(crm), true)).collect();
    let map = |name: &'static str| {
        move |crm| FieldMap {
            connection: connection(crm),
            parts: vec![name.into()],
            form: Form::Json,
            write: true,
            required: None,
            table: None,
            optional: false,
        }
    };
    let plan = |name, kind| FieldPlan::new(name, kind, Policy::LastWrite, (0..CRMS).map(map(name)).collect());
    let plans = vec![plan("email", Kind::Email), plan("phone", Kind::Text)];
    let mut link = Link::new("people", TENANT, ObjectType::CONTACT, Guard::Read, members, plans);
    link.records = RecordRules { delete: DeletePolicy::Delete, ..RecordRules::default() };
    link
}

/// A CRM as far as the engine asks it anything by itself; calls go through the world.
#[derive(Clone, Copy, Debug)]
pub struct Puppet {
    /// It heeds preconditions.
    pub conditional: bool,
}

impl Target for Puppet {
    fn pack(&self) -> Pack {
        Pack { read: 10, write: 10 }
    }

    fn writable(&self) -> bool {
        true
    }

    fn read<'a>(&'a self, _: &'a ReadCall) -> Calling<'a, Answered<ReadItem>> {
        Box::pin(async { Err(lost()) })
    }

    fn write<'a>(&'a self, _: &'a WriteCall) -> Calling<'a, Answered<Result<Written, TargetError>>> {
        Box::pin(async { Err(lost()) })
    }

    fn conditional(&self) -> bool {
        self.conditional
    }

    fn find<'a>(&'a self, _: &'a FindCall) -> Calling<'a, Answered<Vec<String>>> {
        Box::pin(async { Err(lost()) })
    }

    fn prepare<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Prepared> {
        Box::pin(async { Ok(Prepared::Ready) })
    }

    fn describe<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Option<Vec<FieldInfo>>> {
        Box::pin(async { Ok(None) })
    }
}

/// An event as the gateway would publish it.
pub fn change(hint: &Hint, now: i64) -> Change {
    let crm = hint.id.crm;
    let account = format!("account{crm}");
    let source = Source { system: System::Native, account: account.clone(), connection: connection_name(crm) };
    let (kind, subject) = match hint.kind {
        Told::Created => (ChangeKind::Created, hint.id),
        Told::Updated => (ChangeKind::Updated, hint.id),
        Told::Deleted => (ChangeKind::Deleted, hint.id),
        Told::Restored => (ChangeKind::Restored, hint.id),
        Told::Merged(survivor) => (ChangeKind::Merged, survivor),
    };
    let merge = |survivor| Merge { into: native(survivor), from: vec![native(hint.id)] };
    let mut change = example();
    change.fields.clear();
    change.origin.ours = Ours::Unknown;
    Change {
        id: ChangeId::derive(System::Native, &account, [&hint.number.to_be_bytes()[..]]),
        tenant: TENANT.to_owned(),
        source,
        object: Object { kind: ObjectType::CONTACT, native_type: "person".to_owned(), id: Some(native(subject)) },
        kind,
        needs_fetch: true,
        merge: if let Told::Merged(survivor) = hint.kind { Some(merge(survivor)) } else { None },
        occurred_at: Some(clock(hint.at)),
        occurred_at_resolution: Resolution::Ms,
        received_at: clock(now),
        ..change
    }
}

/// Carries out a read, and says which versions its answer tells.
pub fn read(world: &mut World, crm: usize, call: &ReadCall) -> (ReplyResult, Vec<(RecordId, i64)>) {
    let mut told = Vec::new();
    let mut item = |asked: &String| match named(world, crm, call.by, asked) {
        Some(id) => {
            let row = world.look(id);
            told.push((id, row.at));
            if row.alive { ReadItem::Found(found(id, &row)) } else { missing(&row) }
        }
        None => ReadItem::Missing { merged_into: None },
    };
    let items = call.ids.iter().map(&mut item).collect();
    (ReplyResult::Read(Ok(answered(items))), told)
}

fn named(world: &World, crm: usize, by: By, id: &str) -> Option<RecordId> {
    match by {
        By::NativeId => Some(record(crm, id)),
        By::ExternalId => world.shelves[crm].of_external(external(id)),
    }
}

fn external(text: &str) -> u128 {
    match Uuid::parse_str(text) {
        Ok(uuid) => uuid.as_u128(),
        Err(_) => panic!("{text:?} is no id of ours"),
    }
}

/// Carries out a search by address.
pub fn find(world: &World, crm: usize, call: &FindCall) -> ReplyResult {
    let holders = |address: &String| {
        let rows = world.shelves[crm].alive();
        rows.filter(|(_, row)| row.email.as_deref() == Some(&name(address))).map(|(id, _)| native(id)).collect()
    };
    ReplyResult::Find(Ok(answered(call.values.iter().map(holders).collect())))
}

fn found(id: RecordId, row: &Row) -> Found {
    let mut values = NativeValues::new();
    values.insert("email".into(), row.email.as_deref().map_or(Value::Null, |email| Value::text(address(email))));
    values.insert("phone".into(), Value::text(row.phone.to_string()));
    let external_id = row.external.map(|id| Uuid::from_u128(id).to_string());
    Found { id: native(id), external_id, version: version(row.at), values }
}

fn missing(row: &Row) -> ReadItem {
    ReadItem::Missing { merged_into: row.into.map(native) }
}

/// Carries out a write.
pub fn write(world: &mut World, crm: usize, call: &WriteCall) -> ReplyResult {
    let items = match &call.items {
        WriteItems::Create(items) => items.iter().map(|item| create(world, crm, item)).collect(),
        WriteItems::Update(items) => items.iter().map(|item| update(world, crm, item)).collect(),
        WriteItems::Delete(items) => items.iter().map(|item| delete(world, crm, item)).collect(),
    };
    ReplyResult::Write(Ok(answered(items)))
}

fn create(world: &mut World, crm: usize, item: &CreateItem) -> Result<Written, TargetError> {
    let email = text(&item.values, "email").map(|email| name(&email));
    let phone = text(&item.values, "phone").map_or(0, |phone| number(&phone));
    let exists =
        |id| TargetError::new("exists", "one has this address", Disposition::Conflict).because_of(Some(native(id)));
    let made = world.upsert(crm, item.external_id.as_u128(), email.as_deref(), phone);
    made.map(|id| written(world, id)).map_err(exists)
}

fn update(world: &mut World, crm: usize, item: &UpdateItem) -> Result<Written, TargetError> {
    let phone = text(&item.values, "phone").map(|phone| number(&phone));
    let email = text(&item.values, "email").map(|email| name(&email));
    let id = record(crm, &item.id);
    if world.refuses(id, item.unless_changed.map(moment_of)) {
        return Err(moved());
    }
    let gone = || TargetError::new("gone", "no such record", Disposition::Gone);
    world.update(id, &Update { phone, email }).map(|id| written(world, id)).ok_or_else(gone)
}

fn delete(world: &mut World, crm: usize, item: &DeleteItem) -> Result<Written, TargetError> {
    let id = record(crm, &item.id);
    if world.delete(id, item.unless_changed.map(moment_of)) { Ok(written(world, id)) } else { Err(moved()) }
}

fn moved() -> TargetError {
    TargetError::new("moved", "it was changed meanwhile", Disposition::Conflict)
}

fn moment_of(version: Version) -> i64 {
    moment(version.at)
}

fn written(world: &World, id: RecordId) -> Written {
    let row = world.shelves[id.crm].row(id);
    Written { id: Some(native(id)), created: None, version: Some(version(row.at)), stored: None }
}

fn text(values: &NativeValues, name: &str) -> Option<String> {
    values.get(name).filter(|value| !value.is_empty()).map(|value| value.to_plain().into_owned())
}

fn number(phone: &str) -> u32 {
    match phone.parse() {
        Ok(number) => number,
        Err(_) => panic!("{phone:?} is no number of this world"),
    }
}

/// A person's address, and the person of an address.
fn address(name: &str) -> String {
    format!("{name}@example.com")
}

fn name(address: &str) -> String {
    address.trim_end_matches("@example.com").to_owned()
}

const fn version(at: i64) -> Version {
    Version { at: clock(at), resolution: Resolution::Ms }
}

fn answered<T>(items: Vec<T>) -> Answered<T> {
    Answered { items, date: None, quota: Vec::new() }
}

/// One of the values that a held field could have.
pub fn candidate(entity: &Entity, name: &str, world: &mut World) -> Choice {
    let held = entity.field_named(name).and_then(|f| entity.fields[f].held.as_deref()).unwrap_or_default();
    match held.get(world.below(held.len().max(1))).map(|candidate| candidate.by) {
        Some(Set::Member(connection)) => Choice::Member(connection_name(crm(connection))),
        Some(Set::Person) | None => Choice::Kept,
    }
}

/// No answer came.
pub fn lost() -> TargetError {
    TargetError::new("timeout", "no answer", Disposition::Unknown)
}

/// Not now.
pub fn busy() -> TargetError {
    TargetError::new("busy", "call again later", Disposition::Retry)
}
