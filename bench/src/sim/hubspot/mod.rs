//! A HubSpot account that behaves: objects, associations, properties, search, tokens, limits, webhooks.
//!
//! Start it with [`Hubspot::start`], point a client at [`Hubspot::base_url`], and act as a user with
//! [`Hubspot::edit`]. A request outside HubSpot's published interface is refused as HubSpot refuses it, never guessed.
//! It must not know who calls. The surprising thing: [`Hubspot::edit`] returns the events instead of posting them, so
//! that a load generator can post them in its own way; [`Hubspot::post`] hands them to the configured hooks.

mod event;
mod links;
mod merge;
mod metadata;
mod objects;
mod options;
mod portal;
mod problem;
mod schema;
mod search;
mod types;
mod view;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::{Timestamp, time};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use event::{Author, WebhookEvent};
pub use metadata::Owner;
pub use options::{EditRefused, Edited, HubspotEdit, HubspotOptions};
use portal::{By, Portal, Traits};
use problem::Problem;
pub use schema::{Property, PropertyKind};
pub use types::TypeSpec;

use super::SimError;
use super::access::{Access, Denied};
use super::fault::{CallClass, Faults, Refusal};
use super::flow::{self, Flow, Trigger};
use super::hooks::{EventHooks, Hook, HookProvider, HookStats};
use super::http::{self, Answer, Call, Model};
use super::log::{Write, WriteLog};

/// Length of the window of the burst limit.
const WINDOW: Duration = Duration::from_secs(10);

/// A running account. Clones share it; it ends with the shutdown it was started with.
#[derive(Clone, Debug)]
pub struct Hubspot {
    inner: Arc<Inner>,
    bound: SocketAddr,
}

#[derive(Debug)]
struct Inner {
    options: HubspotOptions,
    portal: Mutex<Desk>,
    faults: Faults,
    hooks: EventHooks,
    trigger: Option<Trigger<u64>>,
}

/// Everything behind the account's lock.
#[derive(Debug)]
struct Desk {
    portal: Portal,
    access: Access,
    recent: VecDeque<Timestamp>,
    today: u64,
    shuffle: Option<fastrand::Rng>,
    calls: u64,
}

impl Hubspot {
    /// Opens the account and serves it until the shutdown.
    ///
    /// # Errors
    /// When the address cannot be bound or a hook's address is not an `http://` address.
    pub async fn start(options: HubspotOptions, shutdown: &Shutdown) -> Result<Self, SimError> {
        let (listener, bound) = http::bind(options.addr).await?;
        let hooks = EventHooks::start(&options.hooks, options.retry, shutdown)?;
        let mut specs: Vec<TypeSpec> = types::standard().into_iter().chain(options.custom_types.clone()).collect();
        if !options.relay_id {
            specs.iter_mut().for_each(|spec| drop(spec.properties.shift_remove("relay_id")));
        }
        let traits = Traits {
            portal_id: options.portal_id,
            app_id: options.app_id,
            generic_events: options.generic_events,
            merge_makes_new: options.merge_makes_new,
            creation_values: options.creation_values,
        };
        let desk = Desk {
            portal: Portal::new(traits, specs, WriteLog::new(options.write_log)),
            access: Access::new(options.access.clone()),
            recent: VecDeque::new(),
            today: 0,
            shuffle: options.shuffle.map(fastrand::Rng::with_seed),
            calls: 0,
        };
        let (trigger, waiting) = options.flow.clone().map(Trigger::new).unzip();
        let inner = Arc::new(Inner { options, portal: Mutex::new(desk), faults: Faults::default(), hooks, trigger });
        if let Some(waiting) = waiting {
            let (account, stop) = (Arc::clone(&inner), shutdown.clone());
            shutdown.spawn("sim-flow", flow::run(waiting, move |id| account.automate(id), stop));
        }
        http::serve(listener, Arc::clone(&inner), shutdown);
        Ok(Self { inner, bound })
    }

    /// `http://` and the bound address, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.bound)
    }

    /// Does something as user 31.
    ///
    /// # Errors
    /// When the account would refuse the same over its API.
    pub fn edit(&self, edit: HubspotEdit) -> Result<Edited, EditRefused> {
        self.edit_as(&Author::user(31), edit)
    }

    /// Does something as the given author.
    ///
    /// # Errors
    /// When the account would refuse the same over its API.
    pub fn edit_as(&self, author: &Author, edit: HubspotEdit) -> Result<Edited, EditRefused> {
        let by = By { author: author.clone(), now: time::now(), via: None };
        let mut desk = self.inner.portal.lock();
        let done = apply(&mut desk.portal, edit, &by);
        let events = std::mem::take(&mut desk.portal.outbox);
        drop(desk);
        self.inner.watch(&events);
        Ok(Edited { id: done?, events })
    }

    /// Hands events to the configured hooks.
    pub fn post(&self, events: &[WebhookEvent]) {
        self.inner.hooks.send(events);
    }

    /// Property values of a live record; `None` when there is none.
    pub fn record(&self, object: &str, id: u64) -> Option<BTreeMap<String, String>> {
        let desk = self.inner.portal.lock();
        let table = desk.portal.table(object).ok()?;
        desk.portal.live(table, id).map(|r| r.properties.clone())
    }

    /// Ids of all live records of a type, in rising order.
    pub fn ids(&self, object: &str) -> Vec<u64> {
        let desk = self.inner.portal.lock();
        let Ok(table) = desk.portal.table(object) else { return Vec::new() };
        desk.portal.tables[table].records.values().filter(|r| r.archived_ms.is_none()).map(|r| r.id).collect()
    }

    /// Writes that came in over the API, from position `from` of the log on.
    pub fn writes_since(&self, from: usize) -> Vec<Write> {
        self.inner.portal.lock().portal.log.since(from).to_vec()
    }

    /// All writes that came in over the API.
    pub fn writes(&self) -> Vec<Write> {
        self.writes_since(0)
    }

    /// Writes that did not fit into the log; a verdict over a log with any is worth nothing.
    pub fn writes_dropped(&self) -> u64 {
        self.inner.portal.lock().portal.log.dropped()
    }

    /// How often each method and path was called, ids replaced by `{id}`.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.inner.portal.lock().portal.log.calls().clone()
    }

    /// The fault plan.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Ends every issued access token.
    pub fn revoke_tokens(&self) {
        self.inner.portal.lock().access.revoke();
    }

    /// Ends the login of the app: its refresh token and every access token, as when a person withdraws the consent.
    pub fn revoke_login(&self) {
        self.inner.portal.lock().access.revoke_login();
    }

    /// Access tokens issued so far.
    pub fn tokens_issued(&self) -> u64 {
        self.inner.portal.lock().access.issued()
    }

    /// Sends webhooks to one more address from now on; a hook of another provider is passed over.
    ///
    /// # Errors
    /// When the address is not an `http://` address.
    pub fn attach(&self, hook: &Hook) -> Result<(), SimError> {
        if hook.provider == HookProvider::Hubspot { self.inner.hooks.attach(hook) } else { Ok(()) }
    }

    /// How deliveries to the hooks went.
    pub fn hook_stats(&self) -> HookStats {
        self.inner.hooks.stats()
    }
}

fn apply(portal: &mut Portal, edit: HubspotEdit, by: &By) -> Result<u64, Problem> {
    match edit {
        HubspotEdit::Create { object, id, values } => portal.create(portal.table(&object)?, &values, by, id),
        HubspotEdit::Update { object, id, values } => {
            let table = portal.table(&object)?;
            let missing = || Problem::missing(&object, vec![id.to_string()]);
            let live = portal.live(table, id).ok_or_else(missing)?.id;
            portal.update(table, live, &values, by).map(|()| live)
        }
        HubspotEdit::Delete { object, id } => {
            portal.archive(portal.table(&object)?, id, by, false);
            Ok(id)
        }
        HubspotEdit::Erase { object, id } => {
            portal.archive(portal.table(&object)?, id, by, true);
            Ok(id)
        }
        HubspotEdit::Restore { object, id } => portal.restore(portal.table(&object)?, id, by).map(|()| id),
        HubspotEdit::Merge { object, primary, merged } => portal.merge(portal.table(&object)?, primary, merged, by),
        HubspotEdit::Link { from, to, remove } => {
            let ends = ((portal.table(&from.0)?, from.1), (portal.table(&to.0)?, to.1));
            for ((table, id), (object, _)) in [(ends.0, &from), (ends.1, &to)] {
                portal.live(table, id).ok_or_else(|| Problem::missing(object, vec![id.to_string()]))?;
            }
            portal.link(ends.0, ends.1, 1_000, remove, by);
            Ok(from.1)
        }
    }
}

impl Model for Inner {
    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn class(&self, call: &Call) -> CallClass {
        let reads = ["read", "search"];
        match call.segments.first().map(String::as_str) {
            Some("oauth") => CallClass::Token,
            _ if call.method == hyper::Method::GET => CallClass::Read,
            _ if call.segments.last().is_some_and(|s| reads.contains(&s.as_str())) => CallClass::Read,
            _ => CallClass::Write,
        }
    }

    fn refuse(&self, _call: &Call, refusal: Refusal) -> Answer {
        let problem = match refusal {
            Refusal::RateLimited { .. } => over_limit("TEN_SECONDLY_ROLLING"),
            Refusal::ServerError => Problem::new(500, "INTERNAL_ERROR", "internal error"),
            Refusal::Unavailable => Problem::new(503, "SERVICE_UNAVAILABLE", "The service is temporarily unavailable"),
            Refusal::Unauthorized => denied(Denied::Invalid),
            Refusal::Status(status) => Problem::new(status, "ERROR", "The request was refused"),
        };
        let answer = problem.answer("00000000-0000-4000-8000-000000000000");
        match refusal {
            Refusal::RateLimited { retry_after: Some(wait) } => answer.with("retry-after", wait.as_secs()),
            _ => answer,
        }
    }

    fn answer(&self, call: &Call) -> Answer {
        let now = time::now();
        let mut desk = self.portal.lock();
        desk.calls += 1;
        desk.portal.log.count_call(call.label());
        let number = desk.calls;
        let answer = self.dispatch(&mut desk, call, now, number);
        let events = std::mem::take(&mut desk.portal.outbox);
        let limits = self.limits(&desk);
        drop(desk);
        self.watch(&events);
        self.hooks.send(&events);
        let correlation = format!("00000000-0000-4000-8000-{number:012}");
        let answer = answer.unwrap_or_else(|problem| problem.answer(&correlation));
        limits.into_iter().fold(answer, |answer, (name, value)| answer.with(name, value))
    }
}

impl Inner {
    /// Tells the automation which records were written.
    fn watch(&self, events: &[WebhookEvent]) {
        let Some(trigger) = &self.trigger else { return };
        let field = trigger.flow().field.as_str();
        let written =
            |e: &&WebhookEvent| e.subscription_type.ends_with(".creation") || e.property_name.as_deref() == Some(field);
        for id in events.iter().filter(written).filter_map(|e| e.object_id) {
            trigger.written(id);
        }
    }

    fn automate(&self, id: u64) {
        let Some(Flow { object, field, form, .. }) = self.trigger.as_ref().map(Trigger::flow) else { return };
        let mut desk = self.portal.lock();
        let portal = &mut desk.portal;
        let Ok(table) = portal.table(object) else { return };
        let standing = portal.live(table, id).and_then(|r| Some((r.id, r.properties.get(field)?)));
        let Some((id, value)) = standing.and_then(|(id, text)| Some((id, form.of(text)?))) else { return };
        let by = By { author: Author::automation(), now: time::now(), via: None };
        if let Err(problem) = portal.update(table, id, &BTreeMap::from([(field.clone(), value)]), &by) {
            tracing::warn!(category = problem.category, "the account refuses what its automation writes");
        }
        let events = std::mem::take(&mut portal.outbox);
        drop(desk);
        self.hooks.send(&events);
    }

    fn dispatch(&self, desk: &mut Desk, call: &Call, now: Timestamp, number: u64) -> Result<Answer, Problem> {
        let parts = call.parts();
        if let ["oauth", "v1" | "v3" | "2026-03", "token"] = parts.as_slice() {
            return Ok(token(&mut desk.access, call, now));
        }
        desk.access.check(call.header("authorization"), now).map_err(denied)?;
        self.count(desk, now)?;
        let has_body = matches!(call.method.as_str(), "POST" | "PATCH" | "PUT");
        if has_body && !call.has_media("application/json") {
            return Err(Problem::new(415, "VALIDATION_ERROR", "The Content-Type must be application/json"));
        }
        let by = By { author: Author::app(self.options.app_id), now, via: Some((call.path.as_str().into(), number)) };
        match parts.as_slice() {
            ["crm", "v3", "objects", name, rest @ ..] | ["crm", "objects", "2026-03" | "2026-09", name, rest @ ..] => {
                let table = desk.portal.table(name)?;
                let Desk { portal, shuffle, .. } = desk;
                objects::Objects { portal, faults: &self.faults, call, by: &by, table, shuffle: shuffle.as_mut() }
                    .answer(rest)
            }
            ["crm", "v4", "associations", from, to, "batch", verb @ ..]
            | ["crm", "associations", "2026-03" | "2026-09", from, to, "batch", verb @ ..] => {
                links::answer(&mut desk.portal, call, &by, from, to, verb)
            }
            ["crm", "v3", "properties", name, rest @ ..] => {
                let table = desk.portal.table(name)?;
                metadata::properties(&mut desk.portal, call, table, rest)
            }
            ["crm", "v3", "pipelines", name] if call.method == hyper::Method::GET => {
                Ok(metadata::pipelines(&desk.portal, desk.portal.table(name)?))
            }
            ["crm", "v3", "owners"] if call.method == hyper::Method::GET => {
                Ok(metadata::owners(&self.options.owners, call))
            }
            ["crm", "v3", "schemas"] | ["crm-object-schemas", "2026-03" | "2026-09", "schemas"] => {
                Ok(metadata::schemas(&desk.portal))
            }
            _ => Err(Problem::new(404, "OBJECT_NOT_FOUND", "No such path")),
        }
    }

    /// Counts the call against the burst and the daily limit.
    fn count(&self, desk: &mut Desk, now: Timestamp) -> Result<(), Problem> {
        desk.today += 1;
        if desk.today > self.options.daily {
            return Err(over_limit("DAILY"));
        }
        let Some(burst) = self.options.burst else { return Ok(()) };
        while desk.recent.front().is_some_and(|t| now.since(*t) >= WINDOW) {
            desk.recent.pop_front();
        }
        if desk.recent.len() >= burst as usize {
            return Err(over_limit("TEN_SECONDLY_ROLLING"));
        }
        desk.recent.push_back(now);
        Ok(())
    }

    fn limits(&self, desk: &Desk) -> Vec<(&'static str, u64)> {
        let mut all = vec![
            ("x-hubspot-ratelimit-daily", self.options.daily),
            ("x-hubspot-ratelimit-daily-remaining", self.options.daily.saturating_sub(desk.today)),
        ];
        if let Some(burst) = self.options.burst.map(u64::from) {
            all.push(("x-hubspot-ratelimit-max", burst));
            all.push(("x-hubspot-ratelimit-remaining", burst.saturating_sub(desk.recent.len() as u64)));
            all.push(("x-hubspot-ratelimit-interval-milliseconds", 10_000));
        }
        all
    }
}

fn over_limit(policy: &'static str) -> Problem {
    let mut problem = Problem::new(429, "RATE_LIMITS", format!("You have reached your {policy} limit."));
    problem.policy = Some(policy);
    problem
}

fn denied(denied: Denied) -> Problem {
    match denied {
        Denied::Missing => Problem::new(401, "INVALID_AUTHENTICATION", "Authentication credentials not found."),
        Denied::Invalid => Problem::new(401, "INVALID_AUTHENTICATION", "Authentication credentials are invalid."),
        Denied::Expired => {
            Problem::new(401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call is expired.")
        }
    }
}

fn token(access: &mut Access, call: &Call, now: Timestamp) -> Answer {
    if call.method != hyper::Method::POST || !call.has_media("application/x-www-form-urlencoded") {
        return Answer::empty(if call.method == hyper::Method::POST { 415 } else { 405 });
    }
    let form: HashMap<_, _> = http::pairs(&String::from_utf8_lossy(&call.body)).into_iter().collect();
    match access.issue(&form, now) {
        Ok(issued) => {
            let mut body = json!({"access_token": issued.access_token, "token_type": "bearer", "expires_in": issued.expires_in.as_secs()});
            if let Some(refresh) = issued.refresh_token {
                body["refresh_token"] = Value::String(refresh);
            }
            Answer::json(200, &body)
        }
        Err(refused) => Answer::json(
            400,
            &json!({
                "status": "error", "category": "BAD_AUTH", "error": refused.0, "message": "missing or invalid credentials",
                "correlationId": "00000000-0000-4000-8000-000000000000",
            }),
        ),
    }
}
