//! Both CRMs with people in them, the program between, a witness before its door, and a chronicle of it all.
//!
//! Unlike the stage of the one-way scenarios, the models post their own webhooks, as the real services do, and send
//! again what was not taken.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use headgate_bench::sim::access::{AccessOptions, OauthApp, Rotation};
use headgate_bench::sim::hooks::{Hook, HookProvider, HookStats, RetryPlan};
use headgate_bench::sim::hubspot::{Hubspot, HubspotEdit, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceEdit, SalesforceOptions};
use headgate_judge::Report;
use headgate_schemas::shutdown::Shutdown;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::chronicle::{Chronicle, now};
use crate::interloper::Interloper;
use crate::kafka;
use crate::sender::{DEADLINE, Sender, until};
use crate::server::{FILE, SECRETS, Server};
use crate::stage::{FIELDS, value};
use crate::witness::Witness;

/// What the models post again, and how soon: often, because the program dies often.
const RETRY: RetryPlan =
    RetryPlan { first: Duration::from_millis(20), longest: Duration::from_millis(200), retries: 10_000 };
const HUBSPOT_HOOK: &str = "/in/hubspot/lp8tCkWv3fZ0yQ2mN7rBxA";
const SALESFORCE_HOOK: &str = "/in/salesforce/q7ZtB1nXc5eWm0uKjR4sDg";
const ORGANISATION: &str = "00D5g000000ABCDEA4";

/// How the program logs in at HubSpot where it does; the address comes from a variable.
const LOGIN: &str = concat!(
    r#"{ kind = "oauth2", grant = "authorization_code", client_id = "headgate-app", "#,
    r#"client_secret_env = "HUBSPOT_CLIENT_SECRET", refresh_token_env = "HUBSPOT_REFRESH_TOKEN", "#,
    r#"token_url = "http://127.0.0.1:9101/oauth/2026-03/token" }"#,
);

/// A contact in both CRMs.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) hubspot: u64,
    pub(crate) salesforce: String,
}

/// Everything of a run.
pub(crate) struct World {
    pub(crate) hubspot: Hubspot,
    pub(crate) salesforce: Salesforce,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) folder: TempDir,
    admin: RwLock<String>,
    pub(crate) sender: Sender,
    /// Before HubSpot and before Salesforce, in a world that is watched.
    pub(crate) between: Vec<Interloper>,
    pub(crate) witness: Witness,
    server: Mutex<Option<Server>>,
    vars: Vec<(String, String)>,
    next: AtomicU64,
    /// When people last changed a field in Salesforce.
    typed: Mutex<HashMap<(String, usize), Instant>>,
    taken: Mutex<(usize, usize)>,
    shutdown: Shutdown,
}

impl World {
    /// Starts everything. `edit` changes the documented configuration, `vars` are further variables of the environment.
    pub(crate) async fn open(edit: impl FnOnce(String) -> String, vars: &[(&str, &str)]) -> Self {
        Self::with(edit, vars, false, AccessOptions::default()).await
    }

    /// The same where HubSpot gives access tokens that last eight seconds, and a new refresh token with each.
    pub(crate) async fn with_a_login(vars: &[(&str, &str)]) -> Self {
        let app = OauthApp {
            client_id: "headgate-app".to_owned(),
            client_secret: SECRETS[3].1.to_owned(),
            refresh_token: SECRETS[4].1.to_owned(),
            expires_in: Duration::from_secs(8),
            rotation: Rotation::Overlapping,
        };
        let edit = |file: String| {
            let (fixed, login) = (r#"{ kind = "bearer", token_env = "HUBSPOT_TOKEN" }"#, LOGIN);
            assert!(file.contains(fixed));
            file.replace(fixed, login)
        };
        Self::with(edit, vars, false, AccessOptions { token: None, app: Some(app) }).await
    }

    /// The same with somebody between the program and each CRM.
    pub(crate) async fn watched(edit: impl FnOnce(String) -> String, vars: &[(&str, &str)]) -> Self {
        Self::with(edit, vars, true, AccessOptions::default()).await
    }

    async fn with(
        edit: impl FnOnce(String) -> String,
        vars: &[(&str, &str)],
        watched: bool,
        access: AccessOptions,
    ) -> Self {
        let has_login = access.app.is_some();
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let chronicle = Arc::new(Chronicle::new());
        let witness = Witness::open(&chronicle, &shutdown).await;
        let hook = |path: &str, provider, secret: &str| {
            vec![Hook { url: format!("{}{path}", witness.url()), provider, secret: secret.to_owned() }]
        };
        let hubspot = HubspotOptions {
            access,
            burst: None,
            hooks: hook(HUBSPOT_HOOK, HookProvider::Hubspot, SECRETS[2].1),
            retry: RETRY,
            ..HubspotOptions::default()
        };
        let salesforce = SalesforceOptions {
            hooks: hook(SALESFORCE_HOOK, HookProvider::Salesforce, ORGANISATION),
            retry: RETRY,
            ..SalesforceOptions::default()
        };
        let hubspot = Hubspot::start(hubspot, &shutdown).await.unwrap();
        let salesforce = Salesforce::start(salesforce, &shutdown).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("headgate.toml"), edit(FILE.to_owned())).unwrap();
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut vars: Vec<(String, String)> = vars.iter().map(|(name, value)| own(name, value)).collect();
        vars.push(own("HEADGATE__GATEWAY__PUBLIC_URL", &witness.url()));
        if has_login {
            let at = format!("{}/oauth/2026-03/token", hubspot.base_url());
            vars.push(own("HEADGATE__CONNECTION__HUBSPOT_MAIN__AUTH__TOKEN_URL", &at));
        }
        let mut between = Vec::new();
        let crms =
            [("HUBSPOT_MAIN", "hubspot", hubspot.base_url()), ("SALESFORCE_MAIN", "salesforce", salesforce.base_url())];
        for (name, system, mut base) in crms {
            if watched {
                let (interloper, before) = Interloper::open((system, base), &chronicle, &shutdown).await;
                between.push(interloper);
                base = before;
            }
            vars.push(own(&format!("HEADGATE__CONNECTION__{name}__BASE_URL"), &base));
        }
        let listen = |gateway: &str, admin: &str| {
            [("GATEWAY", gateway), ("ADMIN", admin)]
                .map(|(section, at)| own(&format!("HEADGATE__{section}__LISTEN"), at.trim_start_matches("http://")))
        };
        let first = [vars.clone(), listen("127.0.0.1:0", "127.0.0.1:0").to_vec()].concat();
        kafka::make_topic(folder.path(), &first);
        let server = Server::start(folder.path(), &first);
        vars.extend(listen(&server.gateway, &server.admin));
        witness.forward_to(server.gateways());
        let (sender, admin) = (Sender::new(&server.gateway), RwLock::new(server.admin.clone()));
        let server = Mutex::new(Some(server));
        Self {
            hubspot,
            salesforce,
            chronicle,
            folder,
            admin,
            sender,
            between,
            witness,
            server,
            vars,
            next: AtomicU64::new(0),
            typed: Mutex::default(),
            taken: Mutex::default(),
            shutdown,
        }
    }

    /// Starts the program so that it dies at the nth passage of a place, and waits until it has.
    pub(crate) fn die_at(&self, place: &str, nth: u64) -> ExitStatus {
        let mut server = self.server.lock().unwrap();
        drop(server.take());
        let mut vars = self.vars.clone();
        vars.push(("HEADGATE_FAILPOINT".to_owned(), format!("{place}:{nth}")));
        let died = match Server::launch(self.folder.path(), &vars) {
            Ok(server) => server.wait(DEADLINE),
            Err(died) => Some(died),
        };
        died.unwrap_or_else(|| panic!("{place} was not passed {nth} times in {DEADLINE:?}"))
    }

    /// Starts the program on its data.
    pub(crate) fn start(&self) {
        let mut server = self.server.lock().unwrap();
        drop(server.take());
        *server = Some(Server::start(self.folder.path(), &self.vars));
    }

    /// Kills the program.
    pub(crate) fn kill(&self) {
        self.server.lock().unwrap().take().unwrap().kill();
    }

    /// Does something with the processes of the program.
    pub(crate) fn server<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        act(self.server.lock().unwrap().as_mut().unwrap())
    }

    /// Address of the admin API that is asked.
    pub(crate) fn admin(&self) -> String {
        self.admin.read().unwrap().clone()
    }

    /// From now on asks another admin API, where there are several relays.
    pub(crate) fn ask_at(&self, admin: &str) {
        admin.clone_into(&mut self.admin.write().unwrap());
    }

    /// Runs something beside the test; it ends before the world does.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.shutdown.spawn("test", task)
    }

    /// A value for a field that nothing else has.
    fn fresh(&self, property: &str) -> String {
        value(property, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A person makes a contact in HubSpot.
    pub(crate) fn create_in_hubspot(&self) -> u64 {
        let values: BTreeMap<String, String> =
            FIELDS.map(|(property, _)| (property.to_owned(), self.fresh(property))).into();
        let edited = self.chronicle.edit("hubspot", &values, || {
            let edit = HubspotEdit::Create { object: "contacts".to_owned(), id: None, values: values.clone() };
            let edited = self.hubspot.edit(edit).unwrap();
            (edited.id.to_string(), true, edited)
        });
        self.hubspot.post(&edited.events);
        edited.id
    }

    /// A person changes a field, by its number, in HubSpot.
    pub(crate) fn edit_hubspot(&self, id: u64, field: usize) -> String {
        let property = FIELDS[field].0;
        let fresh = self.fresh(property);
        let values = BTreeMap::from([(property.to_owned(), fresh.clone())]);
        let edited = self.chronicle.edit("hubspot", &values, || {
            let edit = HubspotEdit::Update { object: "contacts".to_owned(), id, values: values.clone() };
            (id.to_string(), false, self.hubspot.edit(edit).unwrap())
        });
        self.hubspot.post(&edited.events);
        fresh
    }

    /// A person changes a field, by its number, in Salesforce, which posts by itself.
    pub(crate) fn edit_salesforce(&self, id: &str, field: usize) -> String {
        let (property, name) = FIELDS[field];
        let fresh = self.fresh(property);
        let values = BTreeMap::from([(name.to_owned(), fresh.clone())]);
        self.chronicle.edit("salesforce", &values, || {
            let values = Map::from_iter([(name.to_owned(), Value::String(fresh.clone()))]);
            let edit = SalesforceEdit::Update { object: "Contact".to_owned(), id: id.to_owned(), values };
            (id.to_owned(), false, self.salesforce.edit(edit).unwrap())
        });
        fresh
    }

    /// Whether nobody changed a field in Salesforce for so long; from now on somebody has.
    fn is_apart(&self, id: &str, field: usize, apart: Duration) -> bool {
        let mut typed = self.typed.lock().unwrap();
        let last = typed.entry((id.to_owned(), field));
        let is_apart = match &last {
            Entry::Occupied(last) => last.get().elapsed() >= apart,
            Entry::Vacant(_) => true,
        };
        if is_apart {
            last.insert_entry(Instant::now());
        }
        is_apart
    }

    /// A record of a type that no link has, only to fill the stream.
    pub(crate) fn ballast(&self, bytes: usize) {
        let values =
            BTreeMap::from([("name".to_owned(), "Ballast".to_owned()), ("description".to_owned(), "x".repeat(bytes))]);
        let edit = HubspotEdit::Create { object: "companies".to_owned(), id: None, values: BTreeMap::new() };
        let id = self.hubspot.edit(edit).unwrap().id;
        let edited = self.hubspot.edit(HubspotEdit::Update { object: "companies".to_owned(), id, values }).unwrap();
        self.hubspot.post(&edited.events);
    }

    /// People make `n` contacts in HubSpot; answers them as they stand in both CRMs.
    pub(crate) async fn people(&self, n: usize) -> Vec<Person> {
        for _ in 0..n {
            self.create_in_hubspot();
        }
        self.settled(&[]).await;
        let mut by_email: BTreeMap<String, String> = BTreeMap::new();
        for id in self.salesforce.ids("Contact") {
            let row = self.salesforce.record("Contact", &id).unwrap();
            by_email.insert(row["Email"].as_str().unwrap().to_owned(), id);
        }
        let person = |id: u64| {
            let email = self.hubspot.record("contacts", id).unwrap()["email"].clone();
            Person { hubspot: id, salesforce: by_email[&email].clone() }
        };
        self.hubspot.ids("contacts").into_iter().map(person).collect()
    }

    /// Waits until everything people did is taken and stands equal, or is asked about, and nothing is open. `more` are
    /// lines for the judge.
    pub(crate) async fn settled(&self, more: &[Value]) {
        let start = Instant::now();
        loop {
            // What arrives between two of these looks would be seen by none of them.
            let told = self.told();
            let settled = told.is_some() && self.is_idle().await && {
                let report = self.judged(more).await;
                report.differing.is_empty() && report.unaccepted.is_empty() && report.lost.is_empty()
            };
            if settled && self.told() == told {
                return;
            }
            if start.elapsed() > DEADLINE {
                let report = self.judged(more).await;
                panic!("nothing settled in {DEADLINE:?}: {:?}\n{report}", self.read("/v1/accounting").await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What both CRMs have told so far; `None` while some of it is under way.
    fn told(&self) -> Option<[HookStats; 2]> {
        let stats = [self.hubspot.hook_stats(), self.salesforce.hook_stats()];
        stats.iter().all(HookStats::is_through).then_some(stats)
    }

    /// Whether the admin API lists records: the state can be read.
    pub(crate) async fn lists_records(&self) -> bool {
        self.read("/v1/records?limit=1").await.is_some_and(|list| list.contains("\"records\""))
    }

    async fn read(&self, path: &str) -> Option<String> {
        self.sender.read(&format!("{}{path}", self.admin())).await
    }

    /// Whether the relay has read everything and has nothing open that no person must answer.
    async fn is_idle(&self) -> bool {
        let metrics = self.read("/metrics").await.unwrap_or_default();
        let books = self.accounting().await;
        metrics.lines().any(|line| line == "relay_lag_events 0") && books["open"] == books["held"]
    }

    /// Deliveries that became due so far.
    pub(crate) async fn due(&self) -> i64 {
        let text = self.read("/v1/accounting").await.unwrap_or_default();
        let sums: Value = serde_json::from_str(&text).unwrap_or_default();
        sums["due"].as_i64().unwrap_or(-1)
    }

    /// The sums as the judge reads them.
    async fn accounting(&self) -> Value {
        let text = self.read("/v1/accounting").await.unwrap_or_default();
        let sums: Value = serde_json::from_str(&text).unwrap_or_default();
        let of = |name: &str| sums[name].as_i64().unwrap_or(-1);
        json!({"what": "accounting", "open": of("open"), "held": of("held"), "difference": of("difference")})
    }

    /// The judgement as it stands, with what stands in the CRMs now.
    pub(crate) async fn judged(&self, more: &[Value]) -> Report {
        self.take_writes();
        let mut ends = self.stands();
        ends.push(self.accounting().await);
        ends.extend(self.questions().await);
        ends.extend_from_slice(more);
        self.chronicle.judge(&ends)
    }

    /// Moves what the models wrote down into the chronicle.
    fn take_writes(&self) {
        let mut taken = self.taken.lock().unwrap();
        let (hubspot, salesforce) = (self.hubspot.writes_since(taken.0), self.salesforce.writes_since(taken.1));
        *taken = (taken.0 + hubspot.len(), taken.1 + salesforce.len());
        assert_eq!((self.hubspot.writes_dropped(), self.salesforce.writes_dropped()), (0, 0));
        let of = |object: &'static str| move |write: &&headgate_bench::sim::log::Write| &*write.object == object;
        let only = |writes: &[headgate_bench::sim::log::Write], object| -> Vec<_> {
            writes.iter().filter(of(object)).cloned().collect()
        };
        self.chronicle.writes("hubspot", &only(&hubspot, "contacts"));
        self.chronicle.writes("salesforce", &only(&salesforce, "Contact"));
    }

    /// Every contact as it stands.
    fn stands(&self) -> Vec<Value> {
        let mut ends = Vec::new();
        for id in self.hubspot.ids("contacts") {
            let fields = self.hubspot.record("contacts", id);
            ends.push(json!({"what": "stands", "system": "hubspot", "id": id.to_string(), "fields": fields}));
        }
        for id in self.salesforce.ids("Contact") {
            let fields = self.salesforce.record("Contact", &id);
            ends.push(json!({"what": "stands", "system": "salesforce", "id": id, "fields": fields}));
        }
        ends
    }

    /// Open questions and logged decisions, as the API tells them.
    async fn questions(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for conflict in self.pages("/v1/conflicts?limit=1000", "conflicts").await {
            let record = conflict["records"].as_array().and_then(|records| records.first());
            let id = record.map_or(&Value::Null, |record| &record[1]);
            let field = hubspot_name(&conflict["field"]);
            lines.push(json!({"what": "open", "system": "hubspot", "id": id, "field": field}));
        }
        let mut ids: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for record in self.pages("/v1/records?limit=1000", "records").await {
            let members = record["members"].as_array().into_iter().flatten();
            ids.insert(record["entity"].to_string(), members.map(|member| member["id"].clone()).collect());
        }
        for decision in self.pages("/v1/decisions?limit=1000", "decisions").await {
            let values = [&decision["edit"]["value"], &decision["in_force"]["value"]];
            lines.push(json!({
                "what": "decision", "ids": ids.get(&decision["entity"].to_string()), "values": values,
                "field": hubspot_name(&decision["field"]),
            }));
        }
        lines
    }

    /// All pages of a list of the API.
    async fn pages(&self, path: &str, name: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut next = String::new();
        loop {
            let text = self.read(&format!("{path}{next}")).await.unwrap_or_default();
            let page: Value = serde_json::from_str(&text).unwrap_or_default();
            all.extend(page[name].as_array().cloned().unwrap_or_default());
            let key = if name == "decisions" { "before" } else { "after" };
            match &page["next"] {
                Value::Null => return all,
                place => next = format!("&{key}={}", place.as_str().map_or_else(|| place.to_string(), str::to_owned)),
            }
        }
    }

    /// The numbers of the open questions, each with its candidates.
    pub(crate) async fn conflicts(&self) -> Vec<Value> {
        self.pages("/v1/conflicts?limit=1000", "conflicts").await
    }

    /// Waits until one side shows a value, whatever else happens.
    pub(crate) async fn reaches(&self, person: &Person, field: usize, value: &str, system: &str) {
        let (property, name) = FIELDS[field];
        let shown = || match system {
            "hubspot" => self.hubspot.record("contacts", person.hubspot)?.get(property).cloned(),
            _ => self.salesforce.record("Contact", &person.salesforce)?[name].as_str().map(str::to_owned),
        };
        until(&format!("{system} shows {value}"), async || shown().as_deref() == Some(value)).await;
    }

    /// Ends a run: waits until all is settled, watches that nothing is written any more, reads the stream, and judges.
    pub(crate) async fn end(&self, watch: Duration, more: &[Value]) -> Report {
        self.settled(more).await;
        let quiet = json!({"what": "quiet", "at": now()});
        // How long nothing may be written; not a wait for anything.
        tokio::time::sleep(watch).await;
        self.read_stream().await;
        let report = self.judged(&[more, &[quiet]].concat()).await;
        eprintln!("{report}");
        self.is_sealed().await;
        report
    }

    /// Neither log nor metrics hold a secret, the key of an endpoint or anything people typed.
    async fn is_sealed(&self) {
        let metrics = self.read("/metrics").await.unwrap_or_default();
        let keys = [HUBSPOT_HOOK, SALESFORCE_HOOK].map(|path| path.rsplit('/').next().unwrap());
        let typed = ["lovelace", "engineer ", "@example.com", "+14152"];
        for (what, text) in [("log", self.log()), ("metrics", metrics)] {
            let text = text.to_lowercase();
            let secrets = SECRETS.iter().map(|(_, secret)| *secret).chain(keys).chain(typed);
            let found: Vec<&str> = secrets.filter(|secret| text.contains(&secret.to_lowercase())).collect();
            assert_eq!(found, [] as [&str; 0], "in the {what}");
        }
    }

    /// Writes down every change of the stream, up to the last ones, which are made for this: so many that none of the
    /// partitions is without one, but for one run in a million.
    async fn read_stream(&self) {
        const LAST: usize = 400;
        let create = || {
            let edit = HubspotEdit::Create { object: "companies".to_owned(), id: None, values: BTreeMap::new() };
            self.hubspot.edit(edit).unwrap()
        };
        let last: Vec<_> = (0..LAST).map(|_| create()).collect();
        let mut missing: BTreeSet<String> = last.iter().map(|edited| edited.id.to_string()).collect();
        let events: Vec<_> = last.into_iter().flat_map(|edited| edited.events).collect();
        self.hubspot.post(&events);
        let url = format!("{}/v1/changes?from=start", self.admin());
        let read = self.sender.lines(&url, |line| {
            let event: Value = serde_json::from_str(line).unwrap();
            self.chronicle.change(&event);
            missing.remove(event["data"]["object"]["id"].as_str().unwrap());
            !missing.is_empty()
        });
        tokio::time::timeout(DEADLINE, read).await.unwrap();
        assert!(missing.is_empty(), "the stream ended: {missing:?} were not read");
    }

    /// Everything the server logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

/// Asserts that nothing is found but the rest that no reader can see: an edit in Salesforce that a write meets before its
/// message is made is never told, because the row is sent as it stands. At most one edit in fifty.
pub(crate) fn is_clean_but_for_the_untold(report: &Report) {
    let untold = report.silent.iter().filter(|found| found.starts_with("salesforce/")).count() as u64;
    assert!(untold * 50 <= report.edits, "{report}");
    let told = report.findings().iter().map(|(_, found)| found.len() as u64).sum::<u64>();
    assert_eq!(told, untold, "{report}");
}

/// The name in HubSpot of a field as the API names it.
pub(crate) fn hubspot_name(neutral: &Value) -> &str {
    match neutral.as_str().unwrap_or_default() {
        "first_name" => "firstname",
        "last_name" => "lastname",
        "title" => "jobtitle",
        other => other,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.stop();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(30);
            eprintln!("the end of the log:");
            log.lines().skip(from).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// How people work.
#[derive(Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) seed: u64,
    /// Between two edits of one of them.
    pub(crate) pause: Duration,
    /// Share of the edits made in Salesforce.
    pub(crate) salesforce: f64,
    /// Share of the edits that make a contact.
    pub(crate) creates: f64,
    /// Share of the edits that go to one of the first ten contacts.
    pub(crate) crowd: f64,
    /// Least time between two edits of one field in Salesforce, whose clock tells seconds: what happens twice within one,
    /// with a write of ours between, nobody can put in order.
    pub(crate) apart: Duration,
}

/// One of the people: edits until told to stop.
pub(crate) fn work(world: &Arc<World>, people: &[Person], habits: Habits, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (acting, people, stop) = (Arc::clone(world), people.to_vec(), Arc::clone(stop));
    world.spawn(async move {
        let world = acting;
        let mut dice = fastrand::Rng::with_seed(habits.seed);
        while !stop.load(Ordering::Relaxed) {
            if dice.f64() < habits.creates {
                world.create_in_hubspot();
            } else if !people.is_empty() {
                let few = if dice.f64() < habits.crowd { people.len().min(10) } else { people.len() };
                let person = &people[dice.usize(..few)];
                let field = dice.usize(..FIELDS.len());
                if dice.f64() < habits.salesforce {
                    if world.is_apart(&person.salesforce, field, habits.apart) {
                        world.edit_salesforce(&person.salesforce, field);
                    }
                } else {
                    world.edit_hubspot(person.hubspot, field);
                }
            }
            // People pause; the load stays below what a debug build carries.
            tokio::time::sleep(habits.pause).await;
        }
    })
}
