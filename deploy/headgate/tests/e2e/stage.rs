//! The stage of a scenario: a HubSpot account, a Salesforce organisation, the program between them, and a checker that
//! hears of every change before it is made.
//!
//! Every value ever written carries the number of its change, so that each of them can be recognised anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use headgate_bench::check::{Checker, PAIRINGS, Verdict};
use headgate_bench::sim::hubspot::{Hubspot, HubspotEdit, HubspotOptions, WebhookEvent};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceOptions};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::time;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::kafka;
use crate::sender::{Sender, until};
use crate::server::Server;

/// HubSpot property and Salesforce field of everything a scenario changes.
pub(crate) const FIELDS: [(&str, &str); 6] = [
    ("email", "Email"),
    ("firstname", "FirstName"),
    ("lastname", "LastName"),
    ("phone", "Phone"),
    ("jobtitle", "Title"),
    ("city", "MailingCity"),
];

/// A change that was made in HubSpot and not posted yet.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) seq: u64,
    pub(crate) event: WebhookEvent,
}

/// Everything a scenario needs.
pub(crate) struct Stage {
    pub(crate) hubspot: Hubspot,
    pub(crate) salesforce: Salesforce,
    pub(crate) sender: Sender,
    pub(crate) folder: TempDir,
    /// The server's addresses, the same over all starts.
    pub(crate) admin: String,
    server: Mutex<Option<Server>>,
    vars: Vec<(String, String)>,
    book: Mutex<Book>,
    shutdown: Shutdown,
}

/// What the checker has seen.
struct Book {
    checker: Checker,
    next: u64,
    observed: usize,
}

impl Stage {
    /// Sets everything up. `vars` are further variables of the server's environment.
    pub(crate) async fn open(vars: &[(&str, &str)]) -> Self {
        Self::with(vars, Checker::new(Duration::from_secs(5))).await
    }

    /// A stage where a write whose answer was lost may be made again.
    pub(crate) async fn rough(vars: &[(&str, &str)]) -> Self {
        Self::with(vars, Checker::new(Duration::from_secs(5)).forgive_repeats()).await
    }

    async fn with(vars: &[(&str, &str)], checker: Checker) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let hubspot = HubspotOptions { burst: None, ..HubspotOptions::default() };
        let hubspot = Hubspot::start(hubspot, &shutdown).await.unwrap();
        let salesforce = Salesforce::start(SalesforceOptions::default(), &shutdown).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut vars: Vec<(String, String)> = vars.iter().map(|(name, value)| own(name, value)).collect();
        vars.push(own("HEADGATE__CONNECTION__HUBSPOT_MAIN__BASE_URL", &hubspot.base_url()));
        vars.push(own("HEADGATE__CONNECTION__SALESFORCE_MAIN__BASE_URL", &salesforce.base_url()));
        let listen = |gateway: &str, admin: &str| {
            [("GATEWAY", gateway), ("ADMIN", admin)]
                .map(|(section, at)| own(&format!("HEADGATE__{section}__LISTEN"), at.rsplit('/').next().unwrap()))
        };
        let first = [vars.clone(), listen("127.0.0.1:0", "127.0.0.1:0").to_vec()].concat();
        kafka::make_topic(folder.path(), &first);
        let server = Server::start(folder.path(), &first);
        eprintln!("ready in {} ms", server.ready_in.as_millis());
        vars.extend(listen(&server.gateway, &server.admin));
        let book = Mutex::new(Book { checker, next: 0, observed: 0 });
        let (sender, admin) = (Sender::new(&server.gateway), server.admin.clone());
        Self { hubspot, salesforce, sender, folder, admin, server: Mutex::new(Some(server)), vars, book, shutdown }
    }

    /// Address of the gateway, with its scheme.
    pub(crate) fn gateway(&self) -> String {
        self.server.lock().unwrap().as_ref().unwrap().gateway.clone()
    }

    /// Address of the gateway's admin API, with its scheme.
    pub(crate) fn gateway_admin(&self) -> String {
        self.server.lock().unwrap().as_ref().unwrap().gateway_admin()
    }

    /// Kills the server and starts it again on its data.
    pub(crate) fn kill_and_restart(&self) {
        let mut server = self.server.lock().unwrap();
        server.take().unwrap().kill();
        *server = Some(Server::start(self.folder.path(), &self.vars));
    }

    /// Ends the server in good order; answers its exit code and what it printed after its first line.
    pub(crate) fn terminate(&self) -> (Option<i32>, String) {
        self.server.lock().unwrap().take().unwrap().terminate()
    }

    /// Starts the server again on its data.
    pub(crate) fn start(&self) {
        *self.server.lock().unwrap() = Some(Server::start(self.folder.path(), &self.vars));
    }

    /// Of two processes, kills the relay's, or lets it drain.
    pub(crate) fn end_relay(&self, suddenly: bool) {
        let mut server = self.server.lock().unwrap();
        let relay = server.as_mut().unwrap().process("relay", 0);
        if suddenly { relay.kill() } else { assert_eq!(relay.terminate(), (Some(0), String::new())) }
    }

    /// Starts the relay again on its data.
    pub(crate) fn start_relay(&self) {
        self.server.lock().unwrap().as_mut().unwrap().process("relay", 0).again();
    }

    /// Runs something beside the test; it ends before the stage does.
    pub(crate) fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.shutdown.spawn("test", task)
    }

    /// Makes a contact with a value in every field.
    pub(crate) fn create(&self) -> (u64, Change) {
        let mut book = self.book.lock().unwrap();
        let seq = book.next;
        let values = FIELDS.map(|(property, _)| (property, value(property, seq)));
        let values: BTreeMap<String, String> = values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let edit = HubspotEdit::Create { object: "contacts".to_owned(), id: None, values: values.clone() };
        let edited = self.hubspot.edit(edit).unwrap();
        let planned = FIELDS.map(|(property, _)| (property, values[property].clone()));
        // The record's number is its id: the checker only asks that it is the same every time.
        let record = usize::try_from(edited.id).unwrap();
        book.checker.plan(seq, record, &PAIRINGS[0], &planned);
        book.next += 1;
        (edited.id, Change { seq, event: edited.events.into_iter().next().unwrap() })
    }

    /// Changes a field of a contact, by number of the field.
    pub(crate) fn update(&self, id: u64, field: usize) -> Change {
        let mut book = self.book.lock().unwrap();
        let (seq, property) = (book.next, FIELDS[field].0);
        let value = value(property, seq);
        book.checker.plan(seq, usize::try_from(id).unwrap(), &PAIRINGS[0], &[(property, value.clone())]);
        book.next += 1;
        Change { seq, event: set(&self.hubspot, id, property, &value) }
    }

    /// Makes `n` contacts and waits until they stand in Salesforce.
    pub(crate) async fn contacts(&self, n: usize) -> Vec<u64> {
        let (ids, changes): (Vec<u64>, Vec<Change>) = (0..n).map(|_| self.create()).unzip();
        for array in changes.chunks(100) {
            self.deliver(array).await;
        }
        self.settled().await;
        ids
    }

    /// Posts changes as one array until they are taken.
    pub(crate) async fn deliver(&self, changes: &[Change]) {
        self.posted(changes);
        let events: Vec<WebhookEvent> = changes.iter().map(|change| change.event.clone()).collect();
        self.sender.deliver(&events).await;
        self.accepted(changes);
    }

    pub(crate) fn posted(&self, changes: &[Change]) {
        let mut book = self.book.lock().unwrap();
        changes.iter().for_each(|change| book.checker.posted(change.seq, time::now()));
    }

    pub(crate) fn accepted(&self, changes: &[Change]) {
        let mut book = self.book.lock().unwrap();
        changes.iter().for_each(|change| book.checker.accepted(change.seq));
    }

    /// What the server has in its environment.
    pub(crate) fn vars(&self) -> &[(String, String)] {
        &self.vars
    }

    /// Changes taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.book.lock().unwrap().checker.verdict(0, Duration::ZERO).accepted
    }

    /// Waits until everything that was accepted is read and written, and the relay has nothing open.
    pub(crate) async fn settled(&self) {
        until("everything is written and nothing is open", async || self.verdict_so_far() && self.is_idle().await)
            .await;
    }

    /// Whether the relay has read everything and has nothing open.
    pub(crate) async fn is_idle(&self) -> bool {
        let read = async |path: &str| self.sender.read(&format!("{}{path}", self.admin)).await.unwrap_or_default();
        let caught_up = read("/metrics").await.lines().any(|line| line == "relay_lag_events 0");
        let records = read("/v1/records?limit=1000").await;
        caught_up && unfinished(&records) == Some(0) && self.accounting().await == Some((0, 0))
    }

    /// Open deliveries and the difference of the accounting.
    pub(crate) async fn accounting(&self) -> Option<(i64, i64)> {
        let text = self.sender.read(&format!("{}/v1/accounting", self.admin)).await?;
        let sums: Value = serde_json::from_str(&text).ok()?;
        Some((sums["open"].as_i64()?, sums["difference"].as_i64()?))
    }

    /// Takes in the newest writes; tells whether every accepted change is covered by one.
    fn verdict_so_far(&self) -> bool {
        let mut book = self.book.lock().unwrap();
        let writes = self.salesforce.writes_since(book.observed);
        book.observed += writes.len();
        book.checker.observe(&writes);
        book.checker.is_settled()
    }

    /// The judgement: nothing lost, doubled, reordered or made up; one row per contact, and every field equal.
    pub(crate) fn judge(&self) -> Verdict {
        assert!(self.verdict_so_far(), "accepted changes were not written");
        let verdict = self.book.lock().unwrap().checker.verdict(0, Duration::ZERO);
        assert!(verdict.is_clean(), "{verdict:?}");
        assert_eq!(self.salesforce.writes_dropped(), 0);
        self.compare();
        eprintln!("{verdict:?}");
        verdict
    }

    /// Every contact in HubSpot has one row in Salesforce, with the same values and an external id of its own; no row is
    /// left over.
    pub(crate) fn compare(&self) {
        let ids = self.salesforce.ids("Contact");
        let rows: Vec<_> = ids.iter().map(|id| self.salesforce.record("Contact", id).unwrap()).collect();
        let ours: BTreeSet<&str> = rows.iter().map(|row| row["Relay_Id__c"].as_str().unwrap()).collect();
        assert_eq!(ours.len(), rows.len(), "external ids and rows in Salesforce");
        let there = rows.iter().map(|row| FIELDS.map(|(_, field)| row[field].as_str().unwrap_or_default().to_owned()));
        let here = self.hubspot.ids("contacts").into_iter().map(|id| {
            let contact = self.hubspot.record("contacts", id).unwrap();
            FIELDS.map(|(property, _)| contact.get(property).cloned().unwrap_or_default())
        });
        let (mut there, mut here): (Vec<_>, Vec<_>) = (there.collect(), here.collect());
        there.sort_unstable();
        here.sort_unstable();
        assert_eq!(there, here, "what stands in Salesforce and what stands in HubSpot");
    }

    /// Everything the server logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Stage {
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

/// Changes a property as a user and answers the event.
pub(crate) fn set(hubspot: &Hubspot, id: u64, property: &str, value: &str) -> WebhookEvent {
    let values = BTreeMap::from([(property.to_owned(), value.to_owned())]);
    let edit = HubspotEdit::Update { object: "contacts".to_owned(), id, values };
    hubspot.edit(edit).unwrap().events.into_iter().next().unwrap()
}

/// Records in a list of the admin API with work left. Reads that are due later, to look once more after a write of
/// unknown outcome, are no work left. `None` when this is no list.
fn unfinished(list: &str) -> Option<usize> {
    let list: Value = serde_json::from_str(list).ok()?;
    let live = |member: &Value| member["state"] == "live";
    let done = |record: &Value| record["open"] == 0 && record["members"].as_array().is_some_and(|m| m.iter().all(live));
    Some(list["records"].as_array()?.iter().filter(|record| !done(record)).count())
}

/// A valid value that no other change has.
pub(crate) fn value(property: &str, seq: u64) -> String {
    match property {
        "email" => format!("user{seq}@example.com"),
        "phone" => format!("+1415{}", 2_000_000 + seq),
        "firstname" => format!("Ada{seq}"),
        "lastname" => format!("Lovelace{seq}"),
        "jobtitle" => format!("Engineer {seq}"),
        other => format!("{other} {seq}"),
    }
}
