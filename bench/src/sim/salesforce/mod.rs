//! A Salesforce organisation that behaves: rows, external ids, collections, composite, SOQL, tokens, limits, messages.
//!
//! Start it with [`Salesforce::start`], point a client at [`Salesforce::base_url`], and act as a user with
//! [`Salesforce::edit`]. Versions 59.0 to 79.0 answer. The surprising thing: with
//! [`SalesforceOptions::contract`] the model is stricter than the real service, because it also asks for what the
//! project's interface description asks for: the client tag on writes, and `allOrNone: false` in collections.

mod collections;
mod composite;
mod id;
mod messages;
mod metadata;
mod objects;
mod org;
mod problem;
mod query;
mod schema;
mod session;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::{Timestamp, time};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

pub use id::id18;
use messages::{Messages, Peek};
use org::{By, Changed, Org};
use problem::{Problem, Refused};
use query::Cursors;
pub use schema::{Field, FieldKind};
use session::{Session, client_tag};

use super::SimError;
use super::access::{Access, AccessOptions};
use super::fault::{CallClass, Faults, Refusal};
use super::flow::{self, Flow, Trigger};
use super::hooks::{Hook, HookProvider, HookStats, RetryPlan};
use super::http::{self, Answer, Call, Model};
use super::log::{Write, WriteLog};

/// How a Salesforce organisation is set up.
#[derive(Clone, Debug)]
pub struct SalesforceOptions {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Which tokens are good.
    pub access: AccessOptions,
    /// Calls per day; beyond it 403 `REQUEST_LIMIT_EXCEEDED`.
    pub daily: u64,
    /// Also ask for what the interface description asks for beyond the real service.
    pub contract: bool,
    /// Whether the external id has unique values; without, two rows can share one and an upsert answers 300.
    pub unique_external_id: bool,
    /// The standard duplicate rule: no second contact or lead with an e-mail that stands there, unless the call says
    /// `Sforce-Duplicate-Rule-Header: allowSave=true`.
    pub duplicate_rule: bool,
    /// An automation of the organisation.
    pub flow: Option<Flow>,
    /// Further fields, each with the name of its object.
    pub custom_fields: Vec<(String, Field)>,
    /// Addresses that get outbound messages; those of other providers are passed over.
    pub hooks: Vec<Hook>,
    /// Whether writes over the API send outbound messages too.
    pub messages_for_api: bool,
    /// When failed messages are tried again.
    pub retry: RetryPlan,
    /// Entries the write log keeps.
    pub write_log: usize,
}

impl Default for SalesforceOptions {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            access: AccessOptions::default(),
            daily: 100_000,
            contract: true,
            unique_external_id: true,
            duplicate_rule: false,
            flow: None,
            custom_fields: Vec::new(),
            hooks: Vec::new(),
            messages_for_api: true,
            retry: RetryPlan::default(),
            write_log: 2_000_000,
        }
    }
}

/// Something a user does in the organisation.
#[derive(Clone, Debug)]
pub enum SalesforceEdit {
    /// Makes a row.
    Create {
        /// Object name, as `Contact`.
        object: String,
        /// Field values.
        values: Map<String, Value>,
    },
    /// Changes fields.
    Update {
        /// Object name.
        object: String,
        /// Id, 15 or 18 characters.
        id: String,
        /// Field values; null clears.
        values: Map<String, Value>,
    },
    /// Moves a row to the bin.
    Delete {
        /// Object name.
        object: String,
        /// Id.
        id: String,
    },
    /// Brings a row back.
    Undelete {
        /// Object name.
        object: String,
        /// Id.
        id: String,
    },
    /// Merges one row into another of the same object.
    Merge {
        /// Object name.
        object: String,
        /// The row that survives.
        master: String,
        /// The row that goes.
        merged: String,
    },
}

/// The organisation refused an edit, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the organisation refused the edit with {code}: {message}")]
pub struct EditRefused {
    /// Salesforce's code.
    pub code: String,
    /// Salesforce's message.
    pub message: String,
}

impl From<Refused> for EditRefused {
    fn from(r: Refused) -> Self {
        Self { code: r.problem.code.into(), message: r.problem.message }
    }
}

/// A running organisation. Clones share it; it ends with the shutdown it was started with.
#[derive(Clone, Debug)]
pub struct Salesforce {
    inner: Arc<Inner>,
    bound: SocketAddr,
}

#[derive(Debug)]
struct Inner {
    options: SalesforceOptions,
    base_url: String,
    desk: Arc<Mutex<Desk>>,
    faults: Faults,
    messages: Messages,
    /// Who writes over the API, and who sits at the screen.
    users: (String, String),
    trigger: Option<Trigger<Changed>>,
}

/// Everything behind the organisation's lock.
#[derive(Debug)]
struct Desk {
    org: Org,
    cursors: Cursors,
    access: Access,
    calls: u64,
    used: u64,
}

impl Salesforce {
    /// Opens the organisation and serves it until the shutdown.
    ///
    /// # Errors
    /// When the address cannot be bound or a hook's address is not an `http://` address.
    pub async fn start(options: SalesforceOptions, shutdown: &Shutdown) -> Result<Self, SimError> {
        let (listener, bound) = http::bind(options.addr).await?;
        let mut specs = objects::standard(options.unique_external_id);
        for (object, field) in &options.custom_fields {
            let spec = specs.iter_mut().find(|s| s.name == object);
            spec.into_iter().for_each(|s| s.fields.push(field.clone()));
        }
        let mut org = Org::new(specs, WriteLog::new(options.write_log));
        let users = ["integration@example.com", "owner@example.com"].map(|email| user(&mut org, email));
        let [integration_user, standard_user] = users;
        let desk = Arc::new(Mutex::new(Desk {
            org,
            cursors: Cursors::default(),
            access: Access::new(options.access.clone()),
            calls: 0,
            used: 0,
        }));
        let shared = Arc::clone(&desk);
        let peek: Peek = Arc::new(move |read| read(&shared.lock().org));
        let messages = Messages::start(&options.hooks, options.retry, peek, shutdown)?;
        let base_url = format!("http://{bound}");
        let faults = Faults::default();
        let (trigger, waiting) = options.flow.clone().map(Trigger::new).unzip();
        let users = (integration_user, standard_user);
        let inner = Arc::new(Inner { options, base_url, desk, faults, messages, users, trigger });
        if let Some(waiting) = waiting {
            let (org, stop) = (Arc::clone(&inner), shutdown.clone());
            shutdown.spawn("sim-flow", flow::run(waiting, move |changed| org.automate(&changed), stop));
        }
        http::serve(listener, Arc::clone(&inner), shutdown);
        Ok(Self { inner, bound })
    }

    /// `http://` and the bound address, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.bound)
    }

    /// Does something as a user at the screen; answers the row's id. Outbound messages are queued.
    ///
    /// # Errors
    /// When the organisation would refuse the same over its API.
    pub fn edit(&self, edit: SalesforceEdit) -> Result<String, EditRefused> {
        let by = By { now: time::now(), user: self.inner.users.1.clone(), client: "".into(), via: None };
        let mut desk = self.inner.desk.lock();
        let mark = desk.org.mark();
        let done = apply(&mut desk.org, edit, &by);
        if done.is_err() {
            desk.org.roll_back(mark);
        }
        let changed = desk.org.commit();
        drop(desk);
        self.inner.watch(&changed);
        self.inner.messages.send(&changed);
        Ok(done?)
    }

    /// Field values of a live row as the API shows them; `None` when there is none.
    pub fn record(&self, object: &str, id: &str) -> Option<BTreeMap<String, Value>> {
        let desk = self.inner.desk.lock();
        let table = desk.org.table(object).ok()?;
        let row = desk.org.row(table, id).ok()?;
        Some(desk.org.tables[table].spec.fields.iter().map(|f| (f.name.clone(), row.value(&f.name))).collect())
    }

    /// Ids of all live rows of an object, in the order of their creation.
    pub fn ids(&self, object: &str) -> Vec<String> {
        let desk = self.inner.desk.lock();
        let Ok(table) = desk.org.table(object) else { return Vec::new() };
        desk.org.tables[table].rows.values().filter(|r| r.deleted.is_none()).map(|r| r.id.clone()).collect()
    }

    /// Writes that came in over the API, from position `from` of the log on.
    pub fn writes_since(&self, from: usize) -> Vec<Write> {
        self.inner.desk.lock().org.log.since(from).to_vec()
    }

    /// All writes that came in over the API.
    pub fn writes(&self) -> Vec<Write> {
        self.writes_since(0)
    }

    /// Writes that did not fit into the log; a verdict over a log with any is worth nothing.
    pub fn writes_dropped(&self) -> u64 {
        self.inner.desk.lock().org.log.dropped()
    }

    /// How often each method and path was called, ids replaced by `{id}`.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.inner.desk.lock().org.log.calls().clone()
    }

    /// The fault plan.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Ends every issued session.
    pub fn revoke_tokens(&self) {
        self.inner.desk.lock().access.revoke();
    }

    /// Ends the login of the app: its refresh token and every access token, as when a person withdraws the consent.
    pub fn revoke_login(&self) {
        self.inner.desk.lock().access.revoke_login();
    }

    /// Access tokens issued so far.
    pub fn tokens_issued(&self) -> u64 {
        self.inner.desk.lock().access.issued()
    }

    /// Sends outbound messages to one more address from now on; a hook of another provider is passed over.
    ///
    /// # Errors
    /// When the address is not an `http://` address.
    pub fn attach(&self, hook: &Hook) -> Result<(), SimError> {
        if hook.provider == HookProvider::Salesforce { self.inner.messages.attach(hook) } else { Ok(()) }
    }

    /// How outbound messages went.
    pub fn hook_stats(&self) -> HookStats {
        self.inner.messages.stats()
    }
}

/// Makes a user; the values are right by construction, so a refusal can only leave the id empty.
fn user(org: &mut Org, email: &str) -> String {
    let by = By { now: Timestamp::from_secs(1_700_000_000), user: String::new(), client: "".into(), via: None };
    let text = |t: &str| Value::String(t.to_owned());
    let values = [
        ("Username", text(email)),
        ("Email", text(email)),
        ("LastName", text("User")),
        ("IsActive", Value::Bool(true)),
    ];
    let values = values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let id = org.table("User").ok().and_then(|table| org.create(table, values, &by).ok());
    org.commit();
    id.unwrap_or_default()
}

fn apply(org: &mut Org, edit: SalesforceEdit, by: &By) -> Result<String, Refused> {
    match edit {
        SalesforceEdit::Create { object, values } => {
            let table = org.table(&object)?;
            let values = org.shape(table, &values)?;
            Ok(org.create(table, values, by)?)
        }
        SalesforceEdit::Update { object, id, values } => {
            let table = org.table(&object)?;
            let values = org.shape(table, &values)?;
            Ok(org.update(table, &id, values, by)?)
        }
        SalesforceEdit::Delete { object, id } => Ok(org.delete(org.table(&object)?, &id, by, None)?),
        SalesforceEdit::Undelete { object, id } => {
            org.undelete(org.table(&object)?, &id, by)?;
            Ok(id)
        }
        SalesforceEdit::Merge { object, master, merged } => {
            let table = org.table(&object)?;
            let master = org.row(table, &master)?.id.clone();
            if id18(&merged).as_ref() == Some(&master) {
                return Err(Problem::new("INVALID_FIELD", "A row cannot be merged with itself").into());
            }
            org.delete(table, &merged, by, Some(master.clone()))?;
            org.update(table, &master, BTreeMap::new(), by)?;
            Ok(master)
        }
    }
}

impl Model for Inner {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn class(&self, call: &Call) -> CallClass {
        match call.parts().as_slice() {
            ["services", "oauth2", ..] => CallClass::Token,
            _ if call.method == hyper::Method::GET => CallClass::Read,
            // A composite call of reads only is a read: that is how long queries are sent.
            ["services", "data", _, "composite"] if is_reading(&call.body) => CallClass::Read,
            _ => CallClass::Write,
        }
    }

    fn refuse(&self, _call: &Call, refusal: Refusal) -> Answer {
        let refused = |status, code, text: &str| Refused::new(status, Problem::new(code, text)).answer();
        match refusal {
            Refusal::RateLimited { retry_after } => {
                let answer = refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.");
                match retry_after {
                    Some(wait) => answer.with("retry-after", wait.as_secs()),
                    None => answer,
                }
            }
            Refusal::ServerError => refused(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."),
            Refusal::Unavailable => refused(503, "SERVER_UNAVAILABLE", "The service is unavailable."),
            Refusal::Unauthorized => refused(401, "INVALID_SESSION_ID", "Session expired or invalid"),
            Refusal::Status(status) => refused(status, "ERROR", "The request was refused."),
        }
    }

    fn answer(&self, call: &Call) -> Answer {
        let now = time::now();
        let mut desk = self.desk.lock();
        desk.calls += 1;
        desk.org.log.count_call(call.label());
        let mark = desk.org.mark();
        let answer = self.dispatch(&mut desk, call, now);
        if answer.is_err() {
            desk.org.roll_back(mark);
        }
        let changed: Vec<Changed> = desk.org.commit();
        let used = desk.used;
        drop(desk);
        self.watch(&changed);
        if self.options.messages_for_api {
            self.messages.send(&changed);
        }
        let answer = answer.unwrap_or_else(|refused| refused.answer());
        answer.with("sforce-limit-info", format!("api-usage={used}/{}", self.options.daily))
    }
}

fn is_reading(body: &[u8]) -> bool {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let parts = parsed.as_ref().and_then(|b| b.get("compositeRequest")).and_then(Value::as_array);
    parts.is_some_and(|parts| parts.iter().all(|p| p.get("method").and_then(Value::as_str) == Some("GET")))
}

impl Inner {
    /// Tells the automation which rows were written.
    fn watch(&self, changed: &[Changed]) {
        if let Some(trigger) = &self.trigger {
            changed.iter().for_each(|changed| trigger.written(changed.clone()));
        }
    }

    fn automate(&self, changed: &Changed) {
        let Some(Flow { object, field, form, .. }) = self.trigger.as_ref().map(Trigger::flow) else { return };
        let mut desk = self.desk.lock();
        let org = &mut desk.org;
        if org.table(object).ok() != Some(changed.table) {
            return;
        }
        let standing = org.row(changed.table, &changed.id).ok().map(|row| row.value(field));
        let Some(value) = standing.as_ref().and_then(Value::as_str).and_then(|text| form.of(text)) else { return };
        let by = By { now: time::now(), user: self.users.1.clone(), client: "".into(), via: None };
        let mark = org.mark();
        if let Err(problem) =
            org.update(changed.table, &changed.id, BTreeMap::from([(field.clone(), value.into())]), &by)
        {
            tracing::warn!(code = problem.code, "the organisation refuses what its automation writes");
            org.roll_back(mark);
        }
        let changed = org.commit();
        drop(desk);
        self.messages.send(&changed);
    }

    fn dispatch(&self, desk: &mut Desk, call: &Call, now: Timestamp) -> Result<Answer, Refused> {
        match call.parts().as_slice() {
            ["services", "oauth2", "token"] => return Ok(self.token(&mut desk.access, call, now)),
            ["services", "data"] if call.method == hyper::Method::GET => return Ok(metadata::versions()),
            _ => {}
        }
        if desk.access.check(call.header("authorization"), now).is_err() {
            return Err(Refused::new(401, Problem::new("INVALID_SESSION_ID", "Session expired or invalid")));
        }
        if desk.used >= self.options.daily {
            return Err(Refused::new(403, Problem::new("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")));
        }
        desk.used += 1;
        let by = By {
            now,
            user: self.users.0.clone(),
            client: client_tag(call).unwrap_or_default().into(),
            via: Some((call.path.as_str().into(), desk.calls)),
        };
        let Desk { org, cursors, used, .. } = desk;
        Session { org, cursors, faults: &self.faults, options: &self.options, by, used_today: *used }.route(call)
    }

    fn token(&self, access: &mut Access, call: &Call, now: Timestamp) -> Answer {
        if call.method != hyper::Method::POST {
            return Answer::empty(405);
        }
        let mut form: HashMap<_, _> = http::pairs(&String::from_utf8_lossy(&call.body)).into_iter().collect();
        // A signed assertion stands for the client secret; the model does not check signatures of client keys.
        if form.get("grant_type").is_some_and(|g| g == "urn:ietf:params:oauth:grant-type:jwt-bearer") {
            let app = self.options.access.app.as_ref().filter(|_| form.contains_key("assertion"));
            if let Some(app) = app.cloned() {
                form.insert("client_id".into(), app.client_id);
                form.insert("client_secret".into(), app.client_secret);
                form.insert("grant_type".into(), "client_credentials".into());
            }
        }
        match access.issue(&form, now) {
            Ok(issued) => {
                let mut body = json!({
                    "access_token": issued.access_token, "instance_url": self.base_url, "token_type": "Bearer",
                    "id": format!("{}/id/{}", self.base_url, self.users.0), "issued_at": now.millis().to_string(),
                });
                if let Some(refresh) = issued.refresh_token {
                    body["refresh_token"] = refresh.into();
                }
                Answer::json(200, &body)
            }
            Err(refused) => {
                let text = "the grant or the client's credentials are not valid";
                Answer::json(400, &json!({"error": refused.0, "error_description": text}))
            }
        }
    }
}
