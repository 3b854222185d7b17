//! Both CRMs as targets against their models: storms of failing calls, preconditions, deletions, merges, look-ups.
//!
//! The sender here does what the engine does and no more: again where nothing was applied, a look by our id where that is
//! not known. What it must never see is a second record or a lost value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headgate_bench::sim::fault::{Fault, FaultRule, Faults, Refusal, Scope, When};
use headgate_bench::sim::flow::{Flow, Form};
use headgate_bench::sim::hubspot::{Hubspot, HubspotEdit, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceEdit, SalesforceOptions};
use headgate_relay::http::{Http, Settings};
use headgate_relay::target::{
    self, By, CreateItem, DeleteItem, Disposition, FindCall, Found, NativeValues, Prepared, ReadCall, ReadItem, Target,
    TargetError, UpdateItem, Version, WriteCall, WriteItems, Written,
};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::{ObjectType, System, Value};
use uuid::Uuid;

use crate::server::{connection, names, read};

/// A model of either CRM and its target.
struct Crm {
    system: System,
    target: Arc<dyn Target>,
    hubspot: Option<Hubspot>,
    salesforce: Option<Salesforce>,
    shutdown: Shutdown,
}

impl Drop for Crm {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

impl Crm {
    async fn start(system: System) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let (mut hubspot, mut salesforce) = (None, None);
        let (base_url, version) = if system == System::Hubspot {
            let options = HubspotOptions { shuffle: Some(7), burst: None, ..HubspotOptions::default() };
            let model = hubspot.insert(Hubspot::start(options, &shutdown).await.unwrap());
            (model.base_url(), "2026-09")
        } else {
            let model = salesforce.insert(Salesforce::start(SalesforceOptions::default(), &shutdown).await.unwrap());
            (model.base_url(), "62.0")
        };
        let http = Http::new(Settings::default()).unwrap();
        let target = target::build(&connection(system, version, &base_url), &http, Duration::from_secs(30)).unwrap();
        Self { system, target, hubspot, salesforce, shutdown }
    }

    async fn both() -> [Self; 2] {
        [Self::start(System::Hubspot).await, Self::start(System::Salesforce).await]
    }

    fn faults(&self) -> &Faults {
        match (&self.hubspot, &self.salesforce) {
            (Some(hubspot), _) => hubspot.faults(),
            (None, Some(salesforce)) => salesforce.faults(),
            (None, None) => unreachable!("one of them runs"),
        }
    }

    /// A field's name there.
    fn field(&self, hubspot: &'static str) -> &'static str {
        if self.system == System::Hubspot {
            return hubspot;
        }
        match hubspot {
            "email" => "Email",
            "firstname" => "FirstName",
            "lastname" => "LastName",
            "jobtitle" => "Title",
            other => unreachable!("{other}"),
        }
    }

    fn values(&self, pairs: &[(&'static str, &str)]) -> NativeValues {
        pairs.iter().map(|(name, value)| (Arc::from(self.field(name)), Value::from(*value))).collect()
    }

    /// Contacts there.
    fn ids(&self) -> Vec<String> {
        match (&self.hubspot, &self.salesforce) {
            (Some(hubspot), _) => hubspot.ids("contacts").iter().map(u64::to_string).collect(),
            (None, Some(salesforce)) => salesforce.ids("Contact"),
            (None, None) => Vec::new(),
        }
    }

    async fn write(&self, items: WriteItems) -> Result<Vec<Result<Written, TargetError>>, TargetError> {
        let call = WriteCall { object: ObjectType::CONTACT, items };
        self.target.write(&call).await.map(|answered| answered.items)
    }

    /// Makes a contact under our id; its native id.
    async fn make(&self, id: u128, pairs: &[(&'static str, &str)]) -> String {
        let item = CreateItem { external_id: Uuid::from_u128(id), trace: format!("w{id}"), values: self.values(pairs) };
        let mut items = self.write(WriteItems::Create(vec![item])).await.unwrap();
        items.remove(0).unwrap().id.unwrap()
    }

    async fn update(
        &self,
        id: &str,
        pairs: &[(&'static str, &str)],
        version: Option<Version>,
    ) -> Result<Written, TargetError> {
        let item = UpdateItem {
            id: id.to_owned(),
            trace: "w".to_owned(),
            values: self.values(pairs),
            unless_changed: version,
        };
        self.write(WriteItems::Update(vec![item])).await.unwrap().remove(0)
    }

    async fn delete(&self, id: &str, erase: bool) -> Result<Written, TargetError> {
        let item = DeleteItem { id: id.to_owned(), trace: "w".to_owned(), unless_changed: None, erase };
        self.write(WriteItems::Delete(vec![item])).await.unwrap().remove(0)
    }

    async fn read(&self, id: &str) -> ReadItem {
        let fields: Vec<&str> = ["email", "firstname", "lastname", "jobtitle"].map(|f| self.field(f)).into();
        self.target.read(&read(By::NativeId, &[id], &fields)).await.unwrap().items.remove(0)
    }

    async fn found(&self, id: &str) -> Found {
        match self.read(id).await {
            ReadItem::Found(found) => found,
            other => panic!("{other:?}"),
        }
    }
}

/// Sends until every record is answered, as the engine would.
async fn send(crm: &Crm, items: &[(Uuid, Option<String>, NativeValues)]) -> Vec<String> {
    let mut ids: Vec<Option<String>> = vec![None; items.len()];
    for _ in 0..1_000 {
        let open: Vec<usize> = (0..items.len()).filter(|i| ids[*i].is_none()).collect();
        if open.is_empty() {
            return ids.into_iter().map(Option::unwrap).collect();
        }
        // One call holds creations or changes, never both.
        let creates = items[open[0]].1.is_none();
        let open: Vec<usize> = open.into_iter().filter(|i| items[*i].1.is_none() == creates).collect();
        let trace = |i: usize| format!("w{i}");
        let call = if creates {
            let item =
                |i: &usize| CreateItem { external_id: items[*i].0, trace: trace(*i), values: items[*i].2.clone() };
            WriteItems::Create(open.iter().map(item).collect())
        } else {
            let item = |i: &usize| UpdateItem {
                id: items[*i].1.clone().unwrap(),
                trace: trace(*i),
                values: items[*i].2.clone(),
                unless_changed: None,
            };
            WriteItems::Update(open.iter().map(item).collect())
        };
        match crm.write(call).await {
            Ok(answers) => {
                for (i, answer) in open.iter().zip(answers) {
                    ids[*i] = Some(answer.unwrap().id.unwrap());
                }
            }
            Err(error) if error.disposition == Disposition::Unknown => look(crm, &open, items).await,
            Err(error) => assert!(
                matches!(error.disposition, Disposition::Retry | Disposition::Rate { .. }),
                "{error} {:?}",
                error.disposition
            ),
        }
    }
    panic!("a thousand attempts were not enough");
}

/// What a write of unknown outcome left behind: nothing, or exactly one record under our id.
async fn look(crm: &Crm, open: &[usize], items: &[(Uuid, Option<String>, NativeValues)]) {
    let ids = open.iter().map(|i| items[*i].0.to_string()).collect();
    let call =
        ReadCall { object: ObjectType::CONTACT, by: By::ExternalId, ids, fields: names(&[crm.field("lastname")]) };
    match crm.target.read(&call).await {
        Ok(answered) => {
            for (i, item) in open.iter().zip(answered.items) {
                match item {
                    ReadItem::Found(found) => {
                        assert!(items[*i].1.as_ref().is_none_or(|known| *known == found.id));
                        assert_eq!(found.external_id, Some(items[*i].0.to_string()));
                    }
                    ReadItem::Missing { .. } => assert_eq!(items[*i].1, None),
                    ReadItem::Failed(error) => panic!("{error}"),
                }
            }
        }
        Err(error) => assert!(matches!(error.disposition, Disposition::Retry | Disposition::Rate { .. }), "{error}"),
    }
}

#[tokio::test]
async fn ten_thousand_writes_among_failures_lose_nothing_and_double_nothing() {
    const WRITES: usize = 10_000;
    const PEOPLE: u128 = 1_500;
    for crm in Crm::both().await {
        let silence = |applied| Fault::Hang { wait: Duration::ZERO, applied };
        for (fault, share) in [
            (silence(true), 0.03),
            (silence(false), 0.02),
            (Fault::Refuse(Refusal::ServerError), 0.05),
            (Fault::Refuse(Refusal::RateLimited { retry_after: None }), 0.02),
        ] {
            crm.faults().push(FaultRule { on: Scope::Any, fault, when: When::Share { share, seed: 11 } });
        }
        let mut choices = fastrand::Rng::with_seed(5);
        let mut known: BTreeMap<u128, String> = BTreeMap::new();
        let mut expected: BTreeMap<u128, (String, String)> = BTreeMap::new();
        let mut written = 0;
        while written < WRITES {
            let mut people: Vec<u128> = (0..choices.usize(1..=20)).map(|_| choices.u128(1..=PEOPLE)).collect();
            people.sort_unstable();
            people.dedup();
            let mut items = Vec::new();
            for person in &people {
                let (name, title) = (format!("Name {person}"), format!("Title {written} of {person}"));
                written += 1;
                let pairs = [("lastname", name.as_str()), ("jobtitle", title.as_str())];
                let id = known.get(person).cloned();
                let changed = if id.is_some() { &pairs[1..] } else { &pairs[..] };
                items.push((Uuid::from_u128(*person), id, crm.values(changed)));
                expected.insert(*person, (name, title));
            }
            for (person, id) in people.iter().zip(send(&crm, &items).await) {
                assert!(known.insert(*person, id.clone()).is_none_or(|before| before == id));
            }
        }
        crm.faults().clear();
        let mut ids: Vec<String> = known.values().cloned().collect();
        ids.sort();
        let mut there = crm.ids();
        there.sort();
        assert_eq!(there, ids, "one record for each person and no other");
        for (person, (name, title)) in &expected {
            let found = crm.found(&known[person]).await;
            assert_eq!(found.external_id, Some(Uuid::from_u128(*person).to_string()));
            let values = crm.values(&[("lastname", name), ("jobtitle", title)]);
            assert!(values.iter().all(|(field, value)| found.values.get(field) == Some(value)), "{found:?}");
        }
    }
}

#[tokio::test]
async fn one_bad_record_does_not_spoil_its_batch() {
    for crm in Crm::both().await {
        let ids = [crm.make(1, &[("lastname", "A")]).await, crm.make(2, &[("lastname", "B")]).await];
        let item = |id: &String, field: &str, value: &str| UpdateItem {
            id: id.clone(),
            trace: id.clone(),
            values: [(Arc::from(field), Value::from(value))].into(),
            unless_changed: None,
        };
        let (bad, code) = match crm.system {
            System::Hubspot => (item(&ids[0], "nosuch", "x"), "PROPERTY_DOESNT_EXIST"),
            _ => (item(&ids[0], "LastName", &"x".repeat(81)), "STRING_TOO_LONG"),
        };
        let items = vec![bad, item(&ids[1], crm.field("lastname"), "C")];
        let answers = crm.write(WriteItems::Update(items)).await.unwrap();
        let [Err(error), Ok(_)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((error.code.as_str(), &error.disposition), (code, &Disposition::Permanent));
        let named = if crm.system == System::Hubspot { "nosuch" } else { "LastName" };
        assert_eq!(error.fields, [named]);
        assert_eq!(crm.found(&ids[1]).await.values[crm.field("lastname")], Value::text("C"));
    }
}

#[tokio::test]
async fn an_empty_value_clears_and_others_stay() {
    for crm in Crm::both().await {
        let id = crm.make(1, &[("lastname", "Lovelace"), ("jobtitle", "Countess"), ("firstname", "Ada")]).await;
        let values = [(Arc::from(crm.field("jobtitle")), Value::Null)].into();
        let item = UpdateItem { id: id.clone(), trace: "w".to_owned(), values, unless_changed: None };
        crm.write(WriteItems::Update(vec![item])).await.unwrap().remove(0).unwrap();
        let found = crm.found(&id).await;
        assert_eq!(found.values[crm.field("jobtitle")], Value::Null);
        assert_eq!(found.values[crm.field("firstname")], Value::text("Ada"));
    }
}

#[tokio::test]
async fn what_was_deleted_is_gone_stays_gone_and_can_be_deleted_again() {
    for crm in Crm::both().await {
        for (id, erase) in [(1, false), (2, true)] {
            let native = crm.make(id, &[("lastname", "Lovelace")]).await;
            assert_eq!(crm.delete(&native, erase).await.unwrap().id.as_ref(), Some(&native));
            assert!(matches!(crm.read(&native).await, ReadItem::Missing { merged_into: None }));
            let error = crm.update(&native, &[("lastname", "Byron")], None).await.unwrap_err();
            assert_eq!(error.disposition, Disposition::Gone, "{error}");
            crm.delete(&native, erase).await.unwrap();
        }
        assert_eq!(crm.ids(), Vec::<String>::new(), "no resurrection");
    }
}

#[tokio::test]
async fn a_deletion_for_privacy_leaves_no_value_behind_in_hubspot() {
    let crm = Crm::start(System::Hubspot).await;
    let id = crm.make(1, &[("lastname", "Lovelace"), ("email", "ada@example.com")]).await;
    crm.delete(&id, true).await.unwrap();
    let hubspot = crm.hubspot.as_ref().unwrap();
    let restore = HubspotEdit::Restore { object: "contacts".to_owned(), id: id.parse().unwrap() };
    assert!(hubspot.edit(restore).is_err() || hubspot.record("contacts", id.parse().unwrap()).unwrap().is_empty());
}

#[tokio::test]
async fn salesforce_writes_nothing_over_a_version_it_no_longer_has() {
    let crm = Crm::start(System::Salesforce).await;
    let id = crm.make(1, &[("lastname", "Lovelace")]).await;
    let version = crm.found(&id).await.version;
    crm.update(&id, &[("jobtitle", "Countess")], Some(version)).await.unwrap();
    // Within its second nobody can tell versions apart; a second earlier it is certain.
    let stale = Version { at: version.at - Duration::from_secs(1), ..version };
    let error = crm.update(&id, &[("jobtitle", "Poet")], Some(stale)).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.disposition), ("PRECONDITION_FAILED", Disposition::Conflict));
    assert_eq!(crm.found(&id).await.values["Title"], Value::text("Countess"));
    let gone = crm.update("003000000000001AAA", &[("jobtitle", "Poet")], Some(version)).await.unwrap_err();
    assert_eq!(gone.disposition, Disposition::Gone);
}

#[tokio::test]
async fn who_was_merged_away_leads_to_the_survivor() {
    for crm in Crm::both().await {
        let keep = crm.make(1, &[("lastname", "Lovelace")]).await;
        let lose = crm.make(2, &[("lastname", "Byron")]).await;
        if let Some(hubspot) = &crm.hubspot {
            let (primary, merged) = (keep.parse().unwrap(), lose.parse().unwrap());
            hubspot.edit(HubspotEdit::Merge { object: "contacts".to_owned(), primary, merged }).unwrap();
            let found = crm.found(&lose).await;
            assert_eq!(found.id, keep, "HubSpot answers as the survivor");
            assert_eq!(crm.update(&lose, &[("jobtitle", "Countess")], None).await.unwrap().id, Some(keep.clone()));
            assert_eq!(crm.found(&keep).await.values["jobtitle"], Value::text("Countess"));
        }
        if let Some(salesforce) = &crm.salesforce {
            let (master, merged) = (keep.clone(), lose.clone());
            salesforce.edit(SalesforceEdit::Merge { object: "Contact".to_owned(), master, merged }).unwrap();
            let ReadItem::Missing { merged_into } = crm.read(&lose).await else { panic!("it is deleted") };
            assert_eq!(merged_into, Some(keep.clone()));
            let error = crm.update(&lose, &[("jobtitle", "Countess")], None).await.unwrap_err();
            assert_eq!(error.disposition, Disposition::Gone);
        }
        assert_eq!(crm.ids(), [keep]);
    }
}

#[tokio::test]
async fn people_who_stand_there_are_found_by_their_address() {
    for crm in Crm::both().await {
        let ada = crm.make(1, &[("lastname", "Lovelace"), ("email", "ada@example.com")]).await;
        let values = ["ADA@example.com", "nobody@example.com"].map(str::to_owned).into();
        let call = FindCall { object: ObjectType::CONTACT, field: Arc::from(crm.field("email")), values };
        assert_eq!(crm.target.find(&call).await.unwrap().items, [vec![ada.clone()], Vec::new()]);
        let values = ["lovelace".to_owned()].into();
        let call = FindCall { object: ObjectType::CONTACT, field: Arc::from(crm.field("lastname")), values };
        assert_eq!(crm.target.find(&call).await.unwrap().items, [vec![ada]]);
    }
}

#[tokio::test]
async fn an_address_that_another_contact_holds_is_a_conflict_that_names_it() {
    let crm = Crm::start(System::Hubspot).await;
    let ada = crm.make(1, &[("email", "ada@example.com")]).await;
    let item = CreateItem {
        external_id: Uuid::from_u128(2),
        trace: "w2".to_owned(),
        values: crm.values(&[("email", "Ada@example.com")]),
    };
    let error = crm.write(WriteItems::Create(vec![item])).await.unwrap().remove(0).unwrap_err();
    assert_eq!((error.disposition, error.existing), (Disposition::Conflict, Some(ada)));
}

#[tokio::test]
async fn both_models_have_the_field_of_our_id() {
    for crm in Crm::both().await {
        for object in [ObjectType::CONTACT, ObjectType::COMPANY, ObjectType::DEAL] {
            assert_eq!(crm.target.prepare(&object).await.unwrap(), Prepared::Ready, "{object}");
        }
    }
}

#[tokio::test]
async fn the_property_of_our_id_is_made_and_then_used() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let options = HubspotOptions { relay_id: false, ..HubspotOptions::default() };
    let hubspot = Hubspot::start(options, &shutdown).await.unwrap();
    let http = Http::new(Settings::default()).unwrap();
    let config = connection(System::Hubspot, "2026-09", &hubspot.base_url());
    let target = target::build(&config, &http, Duration::from_secs(30)).unwrap();
    assert_eq!(target.prepare(&ObjectType::CONTACT).await.unwrap(), Prepared::Made);
    assert_eq!(target.prepare(&ObjectType::CONTACT).await.unwrap(), Prepared::Ready);
    let crm = Crm { system: System::Hubspot, target, hubspot: Some(hubspot), salesforce: None, shutdown };
    let id = crm.make(1, &[("lastname", "Lovelace")]).await;
    assert_eq!(crm.make(1, &[("lastname", "Byron")]).await, id, "one record, however often it is made");
}

#[tokio::test]
async fn a_duplicate_rule_of_salesforce_names_who_stands_there() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let options = SalesforceOptions { duplicate_rule: true, ..SalesforceOptions::default() };
    let salesforce = Salesforce::start(options, &shutdown).await.unwrap();
    let http = Http::new(Settings::default()).unwrap();
    let config = connection(System::Salesforce, "62.0", &salesforce.base_url());
    let target = target::build(&config, &http, Duration::from_secs(30)).unwrap();
    let crm = Crm { system: System::Salesforce, target, hubspot: None, salesforce: Some(salesforce), shutdown };
    let ada = crm.make(1, &[("lastname", "Lovelace"), ("email", "ada@example.com")]).await;
    let item = CreateItem {
        external_id: Uuid::from_u128(2),
        trace: "w2".to_owned(),
        values: crm.values(&[("lastname", "King"), ("email", "ADA@example.com")]),
    };
    let error = crm.write(WriteItems::Create(vec![item])).await.unwrap().remove(0).unwrap_err();
    assert_eq!((error.code.as_str(), error.existing), ("DUPLICATES_DETECTED", Some(ada.clone())));
    assert_eq!(error.disposition, Disposition::Conflict);
    assert_eq!(crm.ids(), [ada]);
}

#[tokio::test]
async fn an_automation_of_either_crm_writes_after_us() {
    let flow = |object: &str, field: &str| {
        Some(Flow { object: object.to_owned(), field: field.to_owned(), form: Form::Upper, delay: Duration::ZERO })
    };
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let options = HubspotOptions { flow: flow("contacts", "lastname"), ..HubspotOptions::default() };
    let hubspot = Hubspot::start(options, &shutdown).await.unwrap();
    let options = SalesforceOptions { flow: flow("Contact", "LastName"), ..SalesforceOptions::default() };
    let salesforce = Salesforce::start(options, &shutdown).await.unwrap();
    let http = Http::new(Settings::default()).unwrap();
    for (system, version, base_url) in
        [(System::Hubspot, "v3", hubspot.base_url()), (System::Salesforce, "62.0", salesforce.base_url())]
    {
        let target = target::build(&connection(system, version, &base_url), &http, Duration::from_secs(30)).unwrap();
        let own = Shutdown::new(Duration::from_secs(1));
        let crm = Crm { system, target, hubspot: None, salesforce: None, shutdown: own };
        let id = crm.make(1, &[("lastname", "Lovelace")]).await;
        let shown = async || crm.found(&id).await.values[crm.field("lastname")].clone();
        // It comes by itself; a test that waits in vain is ended by its runner.
        while shown().await != Value::text("LOVELACE") {
            tokio::task::yield_now().await;
        }
    }
    shutdown.stop();
}
