//! Every reader of a CRM's answers behind one function, for whatever looks for answers that break one: seeds and damaged
//! seeds in the tests, coverage-guided fuzzing by command. It must not know sockets: the answers come from a list.
//!
//! The surprising thing: what is asked is always the same and small. The questions are ours; only the answers are
//! foreign, and any answer may come to any question.

mod promise;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use headgate_schemas::{ObjectType, Resolution, System, Timestamp, Value};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use uuid::Uuid;

use crate::config::{Auth, ConnectionConfig, SetUp};
use crate::http::{Client, Reply};
use crate::oauth;
use crate::target::{
    self, By, CreateItem, DeleteItem, FindCall, NativeName, NativeValues, ReadCall, Target, TargetError, UpdateItem,
    Version, WriteCall, WriteItems,
};

pub use promise::Broken;

/// What is asked of the CRM, of two contacts each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Both, by the CRM's own ids.
    Read,
    /// Both, by our ids.
    ReadByOurId,
    /// Made, by our ids.
    Create,
    /// Changed, by the CRM's own ids.
    Update,
    /// Changed, one of them only where it still has a version.
    UpdateUnlessChanged,
    /// One put into the bin, one erased.
    Delete,
    /// Looked for by e-mail address.
    Find,
    /// Looked for by telephone number.
    Search,
    /// The type made ready for our writes.
    Prepare,
    /// The fields of the type.
    Describe,
}

impl Asked {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Read,
        Self::ReadByOurId,
        Self::Create,
        Self::Update,
        Self::UpdateUnlessChanged,
        Self::Delete,
        Self::Find,
        Self::Search,
        Self::Prepare,
        Self::Describe,
    ];

    /// Its name in files of seeds.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadByOurId => "read-by-our-id",
            Self::Create => "create",
            Self::Update => "update",
            Self::UpdateUnlessChanged => "update-unless-changed",
            Self::Delete => "delete",
            Self::Find => "find",
            Self::Search => "search",
            Self::Prepare => "prepare",
            Self::Describe => "describe",
        }
    }
}

/// One answer as it comes from the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status. A number that is none stands for no answer.
    pub status: u16,
    /// Its headers; those that HTTP does not allow are left out.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    fn reply(&self) -> Option<Reply> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        Some(Reply::new(StatusCode::from_u16(self.status).ok()?, headers, Bytes::copy_from_slice(&self.body)))
    }
}

/// Asks a CRM of `system` that gives these answers, one per call; a call beyond the last one is lost. Answers how much
/// of what was asked came back good.
///
/// # Errors
/// [`Broken`] when a promise about answers does not hold. A refusal, whatever it says, is no error.
pub fn try_answers(system: System, asked: Asked, answers: &[Answer]) -> Result<usize, Broken> {
    let first = ask(system, asked, answers)?;
    let again = ask(system, asked, answers)?;
    if first == again { Ok(first.0) } else { Err(Broken::Unstable) }
}

/// Reads an answer of a token endpoint. Answers 1 for a token.
///
/// # Errors
/// [`Broken`]. A refusal, whatever it says, is no error.
pub fn try_login(answer: &Answer) -> Result<usize, Broken> {
    let Some(reply) = answer.reply() else { return Ok(0) };
    let first = oauth::read(&reply);
    let again = oauth::read(&reply);
    if format!("{first:?}") != format!("{again:?}") {
        return Err(Broken::Unstable);
    }
    promise::login(&first)
}

/// How much came back good, and all of it as text.
fn ask(system: System, asked: Asked, answers: &[Answer]) -> Result<(usize, String), Broken> {
    let client = Client::told(answers.iter().filter_map(Answer::reply));
    let target = target::build_with(&connection(system), client).map_err(|_| Broken::NoTarget(system))?;
    let target: &dyn Target = &*target;
    let our = Questions::of(system);
    // With one call for all, its answer decides what a failure of the whole may be taken for.
    let taken = answers.first().is_some_and(|a| (200..300).contains(&a.status));
    let write = |call: &WriteCall, taken| told(target.write(call), |answered| promise::written(answered, taken));
    match asked {
        Asked::Read => told(target.read(&our.read(By::NativeId)), |a| promise::read(a, &our.fields)),
        Asked::ReadByOurId => told(target.read(&our.read(By::ExternalId)), |a| promise::read(a, &our.fields)),
        Asked::Create => write(&our.create(), taken),
        Asked::Update => write(&our.update(None), taken),
        Asked::UpdateUnlessChanged => write(&our.update(Some(SEEN)), false),
        Asked::Delete => write(&our.delete(), false),
        Asked::Find => told(target.find(&our.find(0)), promise::found),
        Asked::Search => told(target.find(&our.find(1)), promise::found),
        Asked::Prepare => told(target.prepare(&ObjectType::CONTACT), promise::prepared),
        Asked::Describe => told(target.describe(&ObjectType::CONTACT), promise::described),
    }
}

fn told<T: Debug>(
    calling: target::Calling<'_, T>,
    check: impl FnOnce(&Result<T, TargetError>) -> Result<usize, Broken>,
) -> Result<(usize, String), Broken> {
    let answered = calling.now_or_never().ok_or(Broken::Waits)?;
    Ok((check(&answered)?, format!("{answered:?}")))
}

fn connection(system: System) -> ConnectionConfig {
    ConnectionConfig {
        name: "foreign".to_owned(),
        tenant: "acme".to_owned(),
        system,
        account: "1".to_owned(),
        base_url: "http://crm.example".to_owned(),
        auth: Auth::Bearer("x".into()),
        api_version: if system == System::Hubspot { "2026-09" } else { "62.0" }.to_owned(),
        client: "headgate".to_owned(),
        app_id: None,
        external_id_field: if system == System::Hubspot { "relay_id" } else { "Relay_Id__c" }.to_owned(),
        set_up: SetUp::Auto,
        read_lag: Duration::from_secs(5),
        longest_run: Duration::from_secs(600),
    }
}

/// The version after which nothing may have changed.
const SEEN: Version = Version { at: Timestamp::from_millis(1_767_268_798_500), resolution: Resolution::Ms };
/// Our ids of the two contacts.
const OURS: [Uuid; 2] = [
    Uuid::from_u128(0x0190_a0b0_0000_7000_8000_0000_0000_000a),
    Uuid::from_u128(0x0190_a0b0_0000_7000_8000_0000_0000_000b),
];

/// What is asked, in the names of one CRM.
struct Questions {
    ids: [&'static str; 2],
    fields: Arc<[NativeName]>,
}

impl Questions {
    fn of(system: System) -> Self {
        let (ids, fields) = match system {
            System::Salesforce => (["0035g00000AbCdEAAV", "0035g00000AbCdF"], ["Email", "Phone", "FirstName"]),
            _ => (["7001", "7002"], ["email", "phone", "firstname"]),
        };
        Self { ids, fields: fields.map(NativeName::from).into() }
    }

    fn read(&self, by: By) -> ReadCall {
        let ids = match by {
            By::NativeId => self.ids.map(str::to_owned),
            By::ExternalId => OURS.map(|id| id.to_string()),
        };
        ReadCall { object: ObjectType::CONTACT, by, ids: ids.into(), fields: Arc::clone(&self.fields) }
    }

    fn values(&self) -> NativeValues {
        let values = [Value::from("ada@example.com"), Value::from("+14155550100"), Value::Null];
        std::iter::zip(self.fields.iter().cloned(), values).collect()
    }

    fn create(&self) -> WriteCall {
        let item = |(n, external_id)| CreateItem { external_id, trace: trace(n), values: self.values() };
        write(WriteItems::Create(OURS.into_iter().enumerate().map(item).collect()))
    }

    /// The first one unless it has changed, the second one in any case.
    fn update(&self, unless_changed: Option<Version>) -> WriteCall {
        let item = |(n, id): (usize, &str)| UpdateItem {
            id: id.to_owned(),
            trace: trace(n),
            values: self.values(),
            unless_changed: unless_changed.filter(|_| n == 0),
        };
        write(WriteItems::Update(self.ids.into_iter().enumerate().map(item).collect()))
    }

    fn delete(&self) -> WriteCall {
        let item = |(n, id): (usize, &str)| DeleteItem {
            id: id.to_owned(),
            trace: trace(n),
            unless_changed: None,
            erase: n == 1,
        };
        write(WriteItems::Delete(self.ids.into_iter().enumerate().map(item).collect()))
    }

    fn find(&self, field: usize) -> FindCall {
        let values = ["ada@example.com", "grace@example.com"].map(str::to_owned);
        FindCall { object: ObjectType::CONTACT, field: self.fields[field].clone(), values: values.into() }
    }
}

const fn write(items: WriteItems) -> WriteCall {
    WriteCall { object: ObjectType::CONTACT, items }
}

fn trace(number: usize) -> String {
    format!("t-{number}")
}
