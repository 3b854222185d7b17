//! The targets against the stateful models of the CRMs: what was written can be read, twice is once, and faults come out
//! as what they are.

use std::sync::Arc;
use std::time::Duration;

use headgate_bench::sim::fault::{Fault, Refusal, Scope};
use headgate_bench::sim::hubspot::{Hubspot, HubspotEdit, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceEdit, SalesforceOptions};
use headgate_relay::http::{Http, Settings};
use headgate_relay::target::{
    self, By, CreateItem, Disposition, NativeValues, ReadItem, Target, TargetError, UpdateItem, WriteCall, WriteItems,
    Written,
};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::{ObjectType, System, Value};
use uuid::Uuid;

use crate::server::{connection, read};

struct Org {
    model: Salesforce,
    target: Arc<dyn Target>,
    shutdown: Shutdown,
}

impl Drop for Org {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

async fn org() -> Org {
    org_within(Duration::from_secs(30)).await
}

async fn org_within(deadline: Duration) -> Org {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let model = Salesforce::start(SalesforceOptions::default(), &shutdown).await.unwrap();
    let target = built(System::Salesforce, "62.0", &model.base_url(), deadline);
    Org { model, target, shutdown }
}

fn built(system: System, version: &str, base_url: &str, deadline: Duration) -> Arc<dyn Target> {
    target::build(&connection(system, version, base_url), &Http::new(Settings::default()).unwrap(), deadline).unwrap()
}

fn values(pairs: &[(&str, &str)]) -> NativeValues {
    pairs.iter().map(|(name, value)| (Arc::from(*name), Value::from(*value))).collect()
}

const ADA: Uuid = Uuid::from_u128(0x0190_a0b0_0000_7000_8000_0000_0000_000a);
const GRACE: Uuid = Uuid::from_u128(0x0190_a0b0_0000_7000_8000_0000_0000_000b);

fn create(items: &[(Uuid, &[(&str, &str)])]) -> WriteCall {
    let item = |(id, pairs): &(Uuid, &[(&str, &str)])| CreateItem {
        external_id: *id,
        trace: "t".to_owned(),
        values: values(pairs),
    };
    WriteCall { object: ObjectType::CONTACT, items: WriteItems::Create(items.iter().map(item).collect()) }
}

fn update(items: &[(&str, NativeValues)]) -> WriteCall {
    let item = |(id, values): &(&str, NativeValues)| UpdateItem {
        id: (*id).to_owned(),
        trace: "t".to_owned(),
        values: values.clone(),
        unless_changed: None,
    };
    WriteCall { object: ObjectType::CONTACT, items: WriteItems::Update(items.iter().map(item).collect()) }
}

async fn written(target: &Arc<dyn Target>, call: &WriteCall) -> Vec<Result<Written, TargetError>> {
    target.write(call).await.unwrap().items
}

#[tokio::test]
async fn a_create_made_twice_has_one_effect() {
    let org = org().await;
    let call =
        create(&[(ADA, &[("LastName", "Lovelace")]), (GRACE, &[("LastName", "Hopper"), ("Title", "Rear Admiral")])]);
    let first = written(&org.target, &call).await;
    let second = written(&org.target, &call).await;
    let told = |items: &[Result<Written, TargetError>]| -> Vec<(String, Option<bool>)> {
        items.iter().map(|i| i.as_ref().unwrap()).map(|w| (w.id.clone().unwrap(), w.created)).collect()
    };
    let ids = org.model.ids("Contact");
    assert_eq!(ids.len(), 2);
    assert_eq!(told(&first), [(ids[0].clone(), Some(true)), (ids[1].clone(), Some(true))]);
    assert_eq!(told(&second), [(ids[0].clone(), Some(false)), (ids[1].clone(), Some(false))]);
    assert_eq!(org.model.record("Contact", &ids[1]).unwrap()["Title"], "Rear Admiral");
}

#[tokio::test]
async fn what_was_written_is_found_by_either_id_and_what_is_gone_is_missing() {
    let org = org().await;
    let items = written(&org.target, &create(&[(ADA, &[("LastName", "Lovelace"), ("Phone", "1")])])).await;
    let id = items[0].as_ref().unwrap().id.clone().unwrap();
    let changes: NativeValues =
        [(Arc::from("Phone"), Value::Null), (Arc::from("FirstName"), Value::text("Ada"))].into();
    let items = written(&org.target, &update(&[(&id, changes)])).await;
    assert_eq!(items[0].as_ref().unwrap().id.as_deref(), Some(&*id));
    let expected: NativeValues =
        [(Arc::from("FirstName"), Value::text("Ada")), (Arc::from("Phone"), Value::Null)].into();
    for (by, asked, absent) in
        [(By::NativeId, &id[..15], "003000000000001AAA"), (By::ExternalId, &ADA.to_string(), &*GRACE.to_string())]
    {
        let answered = org.target.read(&read(by, &[absent, asked], &["FirstName", "Phone"])).await.unwrap();
        let [ReadItem::Missing { .. }, ReadItem::Found(found)] = &answered.items[..] else {
            panic!("{:?}", answered.items)
        };
        assert_eq!((&found.id, &found.values), (&id, &expected), "{by:?}");
        assert!(answered.date.is_some());
        assert_eq!(answered.quota.len(), 1);
    }
    org.model.edit(SalesforceEdit::Delete { object: "Contact".to_owned(), id: id.clone() }).unwrap();
    let answered = org.target.read(&read(By::NativeId, &[&id], &["FirstName"])).await.unwrap();
    assert!(matches!(answered.items[..], [ReadItem::Missing { .. }]));
    let items = written(&org.target, &update(&[(&id, values(&[("FirstName", "Ada")]))])).await;
    assert_eq!(items[0].as_ref().unwrap_err().disposition, Disposition::Gone);
}

#[tokio::test]
async fn a_full_pack_is_written_and_read_back() {
    let org = org().await;
    let items: Vec<(Uuid, &[(&str, &str)])> =
        (1..=200).map(|i| (Uuid::from_u128(i), &[("LastName", "Lovelace")][..])).collect();
    assert!(written(&org.target, &create(&items)).await.iter().all(Result::is_ok));
    let ids = org.model.ids("Contact");
    let native = read(By::NativeId, &ids.iter().map(String::as_str).collect::<Vec<_>>(), &["LastName"]);
    let external: Vec<String> = items.iter().map(|(id, _)| id.to_string()).collect();
    let external = read(By::ExternalId, &external.iter().map(String::as_str).collect::<Vec<_>>(), &["LastName"]);
    for call in [native, external] {
        let answered = org.target.read(&call).await.unwrap();
        let found: Vec<&str> = answered
            .items
            .iter()
            .filter_map(|i| if let ReadItem::Found(found) = i { Some(&*found.id) } else { None })
            .collect();
        assert_eq!(found, ids, "{:?}", call.by);
    }
}

#[tokio::test]
async fn one_bad_record_does_not_stop_the_others() {
    let org = org().await;
    let call = create(&[
        (ADA, &[("FirstName", "Ada")]),
        (GRACE, &[("LastName", "Hopper")]),
        (Uuid::from_u128(3), &[("LastName", "X"), ("Email", "not an address")]),
    ]);
    let items = written(&org.target, &call).await;
    let told: Vec<Result<bool, (&str, &Disposition)>> = items
        .iter()
        .map(|i| i.as_ref().map(|w| w.created == Some(true)).map_err(|e| (e.code.as_str(), &e.disposition)))
        .collect();
    let permanent = &Disposition::Permanent;
    assert_eq!(told, [Err(("REQUIRED_FIELD_MISSING", permanent)), Ok(true), Err(("INVALID_EMAIL_ADDRESS", permanent))]);
    assert_eq!(items[0].as_ref().unwrap_err().fields, ["LastName"]);
    let error = org.target.read(&read(By::NativeId, &["003000000000001AAA"], &["Unheard_Of__c"])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.disposition), ("INVALID_FIELD", Disposition::Permanent));
}

#[tokio::test]
async fn faults_come_out_as_what_they_are_and_a_lost_write_is_made_good_by_the_same_call() {
    let refuse = Fault::Refuse;
    let table = [
        (refuse(Refusal::Unauthorized), Disposition::Reauthorise, Disposition::Reauthorise, 0),
        (refuse(Refusal::ServerError), Disposition::Retry, Disposition::Unknown, 0),
        (refuse(Refusal::Unavailable), Disposition::Retry, Disposition::Retry, 0),
        (refuse(Refusal::RateLimited { retry_after: None }), rate(300), rate(300), 0),
        (refuse(Refusal::Status(429)), rate(5), rate(5), 0),
        (Fault::ResetBefore, Disposition::Retry, Disposition::Unknown, 0),
        (Fault::ResetAfter, Disposition::Retry, Disposition::Unknown, 1),
    ];
    for (fault, read_class, write_class, applied) in table {
        let org = org().await;
        let call = create(&[(ADA, &[("LastName", "Lovelace")])]);
        org.model.faults().next(1, Scope::Reads, fault.clone());
        org.model.faults().next(1, Scope::Writes, fault.clone());
        let lookup = read(By::ExternalId, &[&ADA.to_string()], &["LastName"]);
        assert_eq!(org.target.read(&lookup).await.unwrap_err().disposition, read_class, "{fault:?}");
        assert_eq!(org.target.write(&call).await.unwrap_err().disposition, write_class, "{fault:?}");
        assert_eq!(org.model.ids("Contact").len(), applied, "{fault:?}");
        assert!(written(&org.target, &call).await[0].is_ok());
        assert_eq!(org.model.ids("Contact").len(), 1, "{fault:?}");
    }
}

fn rate(seconds: u64) -> Disposition {
    Disposition::Rate { wait: Duration::from_secs(seconds) }
}

#[tokio::test]
async fn a_write_that_was_applied_in_silence_is_unknown_and_found_by_its_external_id() {
    let org = org_within(Duration::from_secs(1)).await;
    let hang = Fault::Hang { wait: Duration::from_secs(600), applied: true };
    org.model.faults().next(1, Scope::Writes, hang);
    let error = org.target.write(&create(&[(ADA, &[("LastName", "Lovelace")])])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.disposition), ("timeout", Disposition::Unknown));
    let reader = built(System::Salesforce, "62.0", &org.model.base_url(), Duration::from_secs(30));
    let answered = reader.read(&read(By::ExternalId, &[&ADA.to_string()], &["LastName"])).await.unwrap();
    let [ReadItem::Found(found)] = &answered.items[..] else { panic!("{:?}", answered.items) };
    assert_eq!(found.values, values(&[("LastName", "Lovelace")]));
}

#[tokio::test]
async fn salesforce_describes_its_fields() {
    let org = org().await;
    let fields = org.target.describe(&ObjectType::CONTACT).await.unwrap().unwrap();
    let of = |name: &str| fields.iter().find(|f| &*f.name == name).map(|f| (f.createable, f.updateable));
    assert_eq!(of("LastName"), Some((true, true)));
    assert_eq!(of("SystemModstamp"), Some((false, false)));
    assert_eq!(of("Relay_Id__c"), Some((true, true)));
}

#[tokio::test]
async fn hubspot_is_read_in_both_path_styles_whatever_the_order_of_the_answer() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let options = HubspotOptions { shuffle: Some(7), ..HubspotOptions::default() };
    let model = Hubspot::start(options, &shutdown).await.unwrap();
    let make = |i: u32| {
        let values = [("email", format!("p{i}@example.com")), ("firstname", format!("P{i}"))];
        let values = values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        model.edit(HubspotEdit::Create { object: "contacts".to_owned(), id: None, values }).unwrap().id.to_string()
    };
    let mut ids: Vec<String> = (0..99).map(make).collect();
    ids.insert(50, "999999999".to_owned());
    let call = read(By::NativeId, &ids.iter().map(String::as_str).collect::<Vec<_>>(), &["email", "phone"]);
    for version in ["2026-09", "2026-03", "v3"] {
        let target = built(System::Hubspot, version, &model.base_url(), Duration::from_secs(30));
        let answered = target.read(&call).await.unwrap();
        for (i, (id, item)) in ids.iter().zip(&answered.items).enumerate() {
            match item {
                ReadItem::Missing { .. } => assert_eq!(i, 50),
                ReadItem::Found(found) => {
                    let person = if i < 50 { i } else { i - 1 };
                    assert_eq!(&found.id, id);
                    assert_eq!(found.values["email"], Value::text(format!("p{person}@example.com")));
                    assert_eq!(found.values["phone"], Value::Null);
                }
                ReadItem::Failed(error) => panic!("{error}"),
            }
        }
    }
    shutdown.stop();
}

#[tokio::test]
async fn hubspot_faults_come_out_as_what_they_are() {
    let shutdown = Shutdown::new(Duration::from_secs(1));
    let model = Hubspot::start(HubspotOptions::default(), &shutdown).await.unwrap();
    let target = built(System::Hubspot, "2026-09", &model.base_url(), Duration::from_secs(30));
    let seven = Refusal::RateLimited { retry_after: Some(Duration::from_secs(7)) };
    let table = [
        (Fault::Refuse(Refusal::Unauthorized), Disposition::Reauthorise),
        (Fault::Refuse(seven), rate(7)),
        (Fault::Refuse(Refusal::RateLimited { retry_after: None }), rate(10)),
        (Fault::Refuse(Refusal::Status(423)), rate(2)),
        (Fault::Refuse(Refusal::Status(477)), rate(60)),
        (Fault::Refuse(Refusal::ServerError), Disposition::Retry),
        (Fault::Refuse(Refusal::Unavailable), Disposition::Retry),
        (Fault::ResetBefore, Disposition::Retry),
        (Fault::ResetAfter, Disposition::Retry),
    ];
    for (fault, disposition) in table {
        model.faults().next(1, Scope::Reads, fault.clone());
        let error = target.read(&read(By::NativeId, &["1"], &["email"])).await.unwrap_err();
        assert_eq!(error.disposition, disposition, "{fault:?} {error}");
    }
    let answered = target.read(&read(By::NativeId, &["1"], &["email"])).await.unwrap();
    assert!(matches!(answered.items[..], [ReadItem::Missing { .. }]));
    let fields = target.describe(&ObjectType::CONTACT).await.unwrap().unwrap();
    assert!(fields.iter().any(|f| &*f.name == "email" && f.updateable));
    assert!(fields.iter().any(|f| &*f.name == "createdate" && !f.updateable));
    shutdown.stop();
}

#[tokio::test]
async fn a_hubspot_record_that_was_merged_away_answers_as_its_survivor() {
    for merge_makes_new in [false, true] {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let options = HubspotOptions { merge_makes_new, ..HubspotOptions::default() };
        let model = Hubspot::start(options, &shutdown).await.unwrap();
        let make = |pairs: &[(&str, &str)]| {
            let values = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            model.edit(HubspotEdit::Create { object: "contacts".to_owned(), id: None, values }).unwrap().id
        };
        let primary = make(&[("firstname", "Ada"), ("relay_id", &ADA.to_string())]);
        let merged = make(&[("firstname", "Augusta")]);
        let survivor =
            model.edit(HubspotEdit::Merge { object: "contacts".to_owned(), primary, merged }).unwrap().id.to_string();
        assert_eq!(survivor == primary.to_string(), !merge_makes_new);
        let target = built(System::Hubspot, "2026-09", &model.base_url(), Duration::from_secs(30));
        let call = read(By::NativeId, &[&merged.to_string(), &primary.to_string()], &["firstname"]);
        let answered = target.read(&call).await.unwrap();
        let [ReadItem::Found(first), ReadItem::Found(second)] = &answered.items[..] else {
            panic!("{:?}", answered.items)
        };
        assert_eq!((&first.id, &second.id), (&survivor, &survivor));
        let call = read(By::ExternalId, &[&GRACE.to_string(), &ADA.to_string()], &["firstname"]);
        let answered = target.read(&call).await.unwrap();
        let [ReadItem::Missing { .. }, ReadItem::Found(found)] = &answered.items[..] else {
            panic!("{:?}", answered.items)
        };
        assert_eq!((found.id.as_str(), &found.values), (survivor.as_str(), &values(&[("firstname", "Ada")])));
        shutdown.stop();
    }
}
