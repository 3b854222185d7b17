//! What travels between the model's world and the real engine: changes as the gateway publishes them, calls, answers.
//!
//! Translation only. The surprising thing: a CRM's `Date` header has whole seconds, so clocks are told that way only
//! where they are wrong at all; where the model's clocks agree no header is given and the engine takes them as equal.

use std::time::Duration;

use headgate_relay::config::{Auth, ConnectionConfig, Limits, RelayConfig, SetUp, StoreConfig, StorePlace};
use headgate_relay::engine::ReplyResult;
use headgate_relay::target::{
    Answered, Calling, Disposition, FieldInfo, FindCall, Found, NativeValues, Pack, Prepared, ReadCall, ReadItem,
    Target, TargetError, Version, WriteCall, WriteItems, Written,
};
use headgate_schemas::change::{Object, Ours, Source};
use headgate_schemas::contract::example;
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Resolution, System, Timestamp, Value};

use crate::dress::Dress;
use crate::real::{self, Cut, OBJECT, Ruler, TENANT};
use crate::reference::crm::Crm;
use crate::reference::scenario::Scenario;
use crate::reference::value::{self as model, Kind, Reported, SEC, Snapshot, Stored};
use crate::reference::world::LAG;

/// The model's zero: a whole second, so that its ticks are the engine's.
const ZERO: i64 = 1_767_225_600_000;
/// Microseconds.
pub const MICROS: Ruler = Ruler { per_ms: 1_000, zero: ZERO * 1_000 };

/// The engine's clock at a moment of the model.
pub const fn clock(ms: i64) -> Timestamp {
    Timestamp::from_millis(ZERO + ms)
}

/// The first millisecond of the model that is not before a moment of the engine.
pub fn moment(at: Timestamp) -> i64 {
    (at.micros() - MICROS.zero + MICROS.per_ms - 1).div_euclid(MICROS.per_ms)
}

/// The settings of a relay between the CRMs of a scenario.
pub fn config(scenario: &Scenario, longest_run: i64) -> RelayConfig {
    let wait = |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let connection = |member| ConnectionConfig {
        name: connection_name(member),
        tenant: TENANT.to_owned(),
        system: System::Native,
        account: account(member),
        base_url: String::new(),
        auth: Auth::Bearer(String::new().into()),
        api_version: String::new(),
        client: String::new(),
        app_id: None,
        external_id_field: String::new(),
        set_up: SetUp::Auto,
        read_lag: wait(LAG),
        longest_run: wait(longest_run),
    };
    RelayConfig {
        store: StoreConfig { place: StorePlace::Sqlite("".into()), key_file: "".into() },
        connections: (0..scenario.crms.len()).map(connection).collect(),
        links: Vec::new(),
        limits: Limits::default(),
    }
}

/// The name of the connection to a CRM.
pub fn connection_name(member: usize) -> String {
    format!("crm{member}")
}

fn account(member: usize) -> String {
    format!("account{member}")
}

/// A CRM as far as the engine asks it anything by itself; calls go through the model's world.
pub struct Puppet {
    /// It checks preconditions.
    pub strict: bool,
}

impl Target for Puppet {
    fn pack(&self) -> Pack {
        Pack { read: 10, write: 10 }
    }

    fn writable(&self) -> bool {
        true
    }

    fn conditional(&self) -> bool {
        self.strict
    }

    fn find<'a>(&'a self, _: &'a FindCall) -> Calling<'a, Answered<Vec<String>>> {
        Box::pin(async { Err(lost()) })
    }

    fn prepare<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Prepared> {
        Box::pin(async { Ok(Prepared::Ready) })
    }

    fn read<'a>(&'a self, _: &'a ReadCall) -> Calling<'a, Answered<ReadItem>> {
        Box::pin(async { Err(lost()) })
    }

    fn write<'a>(&'a self, _: &'a WriteCall) -> Calling<'a, Answered<Result<Written, TargetError>>> {
        Box::pin(async { Err(lost()) })
    }

    fn describe<'a>(&'a self, _: &'a ObjectType) -> Calling<'a, Option<Vec<FieldInfo>>> {
        Box::pin(async { Ok(None) })
    }
}

/// A change as the gateway would publish it.
pub fn change(change: &model::Change, dress: Dress, now: i64) -> Change {
    let mut published = plain(change.member, now);
    published.id = id(change);
    published.kind = if change.kind == Kind::Hint { ChangeKind::Touched } else { ChangeKind::Updated };
    published.state = change.kind == Kind::State;
    published.needs_fetch = change.kind == Kind::Hint;
    published.occurred_at = Some(clock(change.time.lo));
    published.occurred_at_resolution = resolution(change.time);
    published.origin.ours = match change.author {
        Some(model::Author::Us) => Ours::Yes,
        Some(model::Author::User) => Ours::No,
        None => Ours::Unknown,
    };
    for reported in &change.cells {
        tell((change.member, reported), dress, &mut published);
    }
    published
}

/// What the daily reconciler publishes: this record is to be looked at.
pub fn look(member: usize, number: u64, now: i64) -> Change {
    let mut published = plain(member, now);
    published.id = ChangeId::derive(System::Native, &account(member), [b"look".as_slice(), &number.to_be_bytes()]);
    published.kind = ChangeKind::Touched;
    published.needs_fetch = true;
    published.occurred_at = None;
    published.occurred_at_resolution = Resolution::None;
    published
}

/// The id of a change.
pub fn id(change: &model::Change) -> ChangeId {
    let parts = [change.id.number.to_be_bytes(), change.id.body.to_be_bytes()];
    ChangeId::derive(System::Native, &account(change.member), parts.iter().map(<[u8; 8]>::as_slice))
}

fn plain(member: usize, now: i64) -> Change {
    let source = Source { system: System::Native, account: account(member), connection: connection_name(member) };
    let kind = ObjectType::new(OBJECT);
    let object = Object { kind, native_type: OBJECT.to_owned(), id: Some(real::native_id(member)) };
    let mut change = example();
    change.fields.clear();
    Change { tenant: TENANT.to_owned(), source, object, received_at: clock(now), ..change }
}

fn tell((member, reported): (usize, &Reported), dress: Dress, change: &mut Change) {
    let cell = reported.cell;
    let names = real::parts(cell.field);
    // The second column of a group is a plain letter whatever the first one wears.
    let worn = if reported.half == Some(model::Half::Second) { Dress::Plain } else { dress };
    let worn = if reported.half.is_some() { worn.of_group() } else { worn };
    let told: Vec<(&str, Value)> = match (reported.half, worn.value(member, cell.value)) {
        (Some(model::Half::First), value) => vec![(names[0], value)],
        (Some(model::Half::Second), value) => vec![(names[1], value)],
        (None, Value::List(values)) => names.iter().copied().zip(values).collect(),
        (None, value) => vec![(names[0], value)],
    };
    for (name, value) in told {
        change.fields.insert(name.to_owned(), headgate_schemas::change::FieldChange::to(value));
    }
}

/// The values of the one record that a write names.
pub fn written(call: &WriteCall, scenario: &Scenario, cut: Cut, now: &Crm) -> Vec<(model::Field, model::Value)> {
    let values = match &call.items {
        WriteItems::Update(items) => match items.as_slice() {
            [item] => &item.values,
            _ => panic!("one record is written at a time: {call:?}"),
        },
        WriteItems::Create(_) => panic!("every record is there, yet one was created: {call:?}"),
        WriteItems::Delete(_) => panic!("nothing here is deleted: {call:?}"),
    };
    let mut fields = Vec::new();
    for field in real::fields(scenario) {
        let told: Vec<Value> = real::parts(field).iter().filter_map(|&part| values.get(part).cloned()).collect();
        match told.as_slice() {
            [] => {}
            [value] if cut.apart && field == model::Field::G => {
                // One column is written and the other stays as it stands there.
                let half =
                    if values.contains_key(real::parts(field)[0]) { model::Half::First } else { model::Half::Second };
                fields.push((field, now.value(field).with_half(half, cut.dress.letters(value))));
            }
            [value] => fields.push((field, cut.dress.letters(value))),
            _ => fields.push((field, cut.dress.letters(&Value::List(told)))),
        }
    }
    fields
}

/// The version that a write names as its precondition.
pub fn precondition(call: &WriteCall) -> Option<Version> {
    match &call.items {
        WriteItems::Update(items) => items.iter().find_map(|item| item.unless_changed),
        WriteItems::Create(_) | WriteItems::Delete(_) => None,
    }
}

/// The answer to a read. `date` is the CRM's clock, where it is told.
pub fn read(member: usize, snapshot: &Snapshot, dress: Dress, date: Option<Timestamp>) -> ReplyResult {
    let found = Found {
        id: real::native_id(member),
        external_id: None,
        version: version(snapshot.version),
        values: values(member, dress, &snapshot.cells),
    };
    ReplyResult::Read(Ok(Answered { items: vec![ReadItem::Found(found)], date, quota: Vec::new() }))
}

/// The answer to a write.
pub fn answer(member: usize, answer: &model::Answer, dress: Dress, date: Option<Timestamp>) -> ReplyResult {
    let item = match answer {
        model::Answer::Refused => Err(TargetError::new("moved", "", Disposition::Conflict)),
        model::Answer::Written { stored, version: told } => Ok(Written {
            id: Some(real::native_id(member)),
            created: None,
            version: told.map(version),
            stored: stored.as_ref().map(|stored| values(member, dress, stored)),
        }),
    };
    ReplyResult::Write(Ok(Answered { items: vec![item], date, quota: Vec::new() }))
}

/// No answer came.
pub fn lost() -> TargetError {
    TargetError::new("timeout", "no answer", Disposition::Unknown)
}

/// One of the ways in which a read fails.
pub fn failed(way: usize) -> TargetError {
    match way {
        0 => TargetError::new("unavailable", "try again", Disposition::Retry),
        1 => TargetError::new("limit", "too many calls", Disposition::Rate { wait: Duration::from_secs(7) }),
        _ => lost(),
    }
}

/// What the `Date` header says of a CRM whose clock is wrong; others do not say it.
pub fn date(scenario: &Scenario, member: usize, now: i64) -> Option<Timestamp> {
    let skew = scenario.crms[member].skew;
    (skew != 0).then(|| clock((now + skew).div_euclid(SEC) * SEC))
}

/// A version as the CRM tells it.
pub fn version(span: model::Span) -> Version {
    Version { at: clock(span.lo), resolution: resolution(span) }
}

fn resolution(span: model::Span) -> Resolution {
    match span.hi - span.lo {
        1 => Resolution::Ms,
        SEC => Resolution::S,
        length => panic!("no provider's clock has units of {length} ms"),
    }
}

fn values(member: usize, dress: Dress, cells: &[Stored]) -> NativeValues {
    let mut values = NativeValues::new();
    for cell in cells {
        match dress.value(member, cell.value) {
            Value::List(parts) => {
                values.extend(real::parts(cell.field).iter().map(|&part| part.into()).zip(parts));
            }
            value => {
                values.insert(real::parts(cell.field)[0].into(), value);
            }
        }
    }
    values
}
