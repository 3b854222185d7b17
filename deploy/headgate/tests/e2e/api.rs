//! The admin API as programs read it: the accounting, outcomes, the audit, records; pages to their ends, and what is said
//! to those who ask for what is not there.

use headgate_bench::sim::fault::{Fault, Scope};
use headgate_bench::sim::hubspot::HubspotEdit;
use serde_json::{Value, json};

use crate::commands::shown;
use crate::sender::until;
use crate::stage::Stage;

async fn ask(stage: &Stage, path: &str) -> (u16, Value) {
    stage.sender.ask(&format!("{}{path}", stage.admin)).await
}

async fn read(stage: &Stage, path: &str) -> Value {
    let (status, answer) = ask(stage, path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Everything under `name` of all pages; the next page begins where `key` says.
async fn pages(stage: &Stage, path: &str, name: &str, key: &str) -> Vec<Value> {
    let (mut all, mut from) = (Vec::new(), String::new());
    for _ in 0..50 {
        let page = read(stage, &format!("{path}{from}")).await;
        all.extend(page[name].as_array().unwrap().iter().cloned());
        match page.get("next") {
            Some(next) => from = format!("&{key}={next}"),
            None => return all,
        }
    }
    panic!("{path} has no last page");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accounting_adds_up_in_every_line_and_its_difference_is_a_metric() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(3).await;
    stage.deliver(&[stage.update(ids[0], 5), stage.update(ids[1], 5)]).await;
    stage.settled().await;
    let all = read(&stage, "/v1/accounting").await;
    let line = json!({
        "due": 5, "closed": 5, "outcomes": {"delivered": 5}, "open": 0, "waiting": 0, "parked": 0, "held": 0,
        "difference": 0,
    });
    assert_eq!(all["links"], json!({"contacts": {"salesforce-main": line}}));
    assert_eq!(all["connections"], json!({"salesforce-main": line}));
    for name in ["due", "closed", "open", "difference"] {
        assert_eq!(all[name], line[name], "{name}");
    }
    let metrics = async || stage.sender.read(&format!("{}/metrics", stage.admin)).await.unwrap_or_default();
    let has = |text: &str, line: &str| text.lines().any(|l| l == line);
    until("the metrics are of now", async || has(&metrics().await, "relay_deliveries_closed 5")).await;
    let text = metrics().await;
    for line in
        ["accounting_difference 0", "relay_recount_difference 0", "relay_deliveries_due 5", "relay_deliveries_open 0"]
    {
        assert!(has(&text, line), "{line} is missing in {text}");
    }
}

/// The configuration in the stage's folder with something else in place of something.
fn reword(stage: &Stage, old: &str, new: &str) {
    let file = stage.folder.path().join("headgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(old), "{old} does not stand in {text}");
    std::fs::write(file, text.replace(old, new)).unwrap();
}

/// The accounting once a program that was just started tells it: so many deliveries were due.
async fn accounting_of(stage: &Stage, due: i64) -> Value {
    until("the books are open", async || read(stage, "/v1/accounting").await["due"] == due).await;
    read(stage, "/v1/accounting").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_renamed_or_removed_keeps_its_line() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(2).await;
    stage.salesforce.faults().next(1_000, Scope::Any, Fault::ResetBefore);
    stage.deliver(&[stage.update(ids[0], 5)]).await;
    let waits = async || read(&stage, "/v1/accounting").await["open"] == 1;
    until("the change waits", waits).await;

    reword(&stage, "name = \"contacts\"", "name = \"people\"");
    stage.kill_and_restart();
    let all = accounting_of(&stage, 3).await;
    assert_eq!((&all["links"], &all["difference"]), (&json!({}), &json!(0)));
    let line = &all["former_links"]["contacts"]["salesforce-main"];
    assert_eq!((&line["due"], &line["open"], &line["difference"]), (&json!(3), &json!(1), &json!(0)), "{all}");

    stage.salesforce.faults().clear();
    stage.settled().await;
    stage.deliver(&[stage.update(ids[1], 5)]).await;
    stage.settled().await;
    let all = read(&stage, "/v1/accounting").await;
    let outcomes = |line: &Value| line["salesforce-main"]["outcomes"].clone();
    assert_eq!(outcomes(&all["former_links"]["contacts"]), json!({"delivered": 3}), "{all}");
    assert_eq!(outcomes(&all["links"]["people"]), json!({"delivered": 1}), "{all}");

    stage.salesforce.faults().next(1_000, Scope::Any, Fault::ResetBefore);
    stage.deliver(&[stage.update(ids[0], 4)]).await;
    until("the change waits", async || read(&stage, "/v1/accounting").await["open"] == 1).await;
    reword(&stage, "object = \"contact\"", "object = \"company\"");
    reword(&stage, "name = \"people\"", "name = \"companies\"");
    stage.kill_and_restart();
    let all = accounting_of(&stage, 5).await;
    assert_eq!(outcomes(&all["former_links"]["people"]), json!({"delivered": 1, "skipped": 1}), "{all}");
    assert_eq!((&all["open"], &all["difference"]), (&json!(0), &json!(0)));
}

/// Two people are merged in one CRM: their records in the other stand side by side, and one of them is set aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_set_aside_is_shown_as_it_stands() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(2).await;
    let before = stage.salesforce.ids("Contact");
    let merge = HubspotEdit::Merge { object: "contacts".to_owned(), primary: ids[0], merged: ids[1] };
    stage.sender.deliver(&stage.hubspot.edit(merge).unwrap().events).await;
    let asked = async || read(&stage, "/v1/conflicts").await["conflicts"].as_array().is_some_and(|all| !all.is_empty());
    until("somebody is asked about the surplus record", asked).await;

    let record = read(&stage, &format!("/v1/records/hubspot/contact/{}", ids[0])).await;
    let aside = &record["detached"][0];
    let id = aside["id"].as_str().unwrap().to_owned();
    assert!(before.contains(&id), "{record}");
    let city = stage.salesforce.record("Contact", &id).unwrap()["MailingCity"].clone();
    assert_eq!((&aside["stands"], &aside["asked"], &aside["fields"]["city"]), (&json!("live"), &json!(false), &city));

    let record = read(&stage, &format!("/v1/records/salesforce/contact/{id}")).await;
    assert_eq!(record["detached"][0]["asked"], json!(true), "{record}");
    let text = shown(&stage, &["record", "show", "salesforce", "contact", &id]);
    assert!(text.contains(&format!("set aside: salesforce-main {id} (the record asked for)\nlive, changed")), "{text}");

    stage.salesforce.faults().next(1_000, Scope::Any, Fault::ResetBefore);
    let record = read(&stage, &format!("/v1/records/salesforce/contact/{id}")).await;
    let aside = &record["detached"][0];
    assert_eq!((&aside["stands"], aside.get("fields")), (&json!("not_read"), None), "{aside}");
    assert!(aside["because"].as_str().is_some_and(|because| because.starts_with("the CRM answered ")), "{aside}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_are_asked_for_by_change_and_in_pages() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(3).await;
    let record = read(&stage, &format!("/v1/records/hubspot/contact/{}", ids[0])).await;
    let heard = record["history"].as_array().unwrap().iter().find(|e| e["event"] == "heard").unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (change, time) = (text(&heard["change"]), text(&heard["occurred_at"]));
    let of = read(&stage, &format!("/v1/outcomes?tenant=acme&change={change}&time={time}")).await;
    let outcome = &of["outcomes"][0];
    assert_eq!((&outcome["target"], &outcome["outcome"]), (&json!("salesforce-main"), &json!("delivered")));
    assert_eq!(of["outcomes"].as_array().unwrap().len(), 1, "one for each target");

    let latest = read(&stage, "/v1/outcomes?limit=2").await;
    assert_eq!(latest["outcomes"].as_array().unwrap().len(), 2);
    let before = text(&latest["outcomes"][1]["accepted_at"]);
    let older = read(&stage, &format!("/v1/outcomes?before={before}")).await;
    let older = older["outcomes"].as_array().unwrap();
    assert!(older.iter().all(|o| text(&o["accepted_at"]) < before), "{older:?}");
    assert_eq!(read(&stage, "/v1/outcomes?before=1970-01-01T00:00:00Z").await["outcomes"], json!([]));
    let nothing =
        json!({ "title": "there is no /v1/nothing here, as this program is set", "status": 404, "code": "not_found" });
    assert_eq!(ask(&stage, "/v1/nothing").await, (404, nothing));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_what_is_read_from_the_newest_on() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(1).await;
    stage.salesforce.faults().next(1, Scope::Writes, Fault::RejectRecords);
    stage.deliver(&[stage.update(ids[0], 5)]).await;
    until("the dead letter is there", async || shown(&stage, &["deadletter", "list"]).contains("salesforce-main"))
        .await;
    let record = read(&stage, &format!("/v1/records/hubspot/contact/{}", ids[0])).await;
    let letter = &record["deadletters"][0];
    let refused = record["history"].as_array().unwrap().iter().find(|e| e["event"] == "refused").unwrap();
    // A validation rule of the record names no field.
    assert_eq!((&refused["deadletter"], &refused["fields"]), (&letter["id"], &json!([])), "{record}");
    shown(&stage, &["deadletter", "retry", &letter["id"].to_string()]);
    stage.settled().await;

    let audit = pages(&stage, "/v1/audit?limit=1", "audit", "before").await;
    let what: Vec<&str> = audit.iter().map(|deed| deed["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["deadletter.retry", "relay.start"]);
    assert_eq!(audit[0]["subject"], json!(format!("deadletter/{}", letter["id"])));
    assert_ne!(audit[0]["before"], audit[0]["after"], "hashes of the record, not the record");
    assert_eq!(read(&stage, "/v1/audit?before=0").await, json!({"audit": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_in_pages_and_by_state() {
    let stage = Stage::open(&[]).await;
    assert_eq!(read(&stage, "/v1/records").await, json!({"records": []}));
    stage.contacts(5).await;
    let entities = |records: &[Value]| records.iter().map(|r| r["entity"].as_i64().unwrap()).collect::<Vec<_>>();
    for limit in [1, 2, 5, 1_000, 5_000] {
        let all = pages(&stage, &format!("/v1/records?limit={limit}"), "records", "after").await;
        assert_eq!(entities(&all), [1, 2, 3, 4, 5], "limit {limit}");
    }
    let in_sync = pages(&stage, "/v1/records?limit=2&state=in_sync", "records", "after").await;
    assert_eq!(entities(&in_sync), [1, 2, 3, 4, 5]);
    assert_eq!(pages(&stage, "/v1/records?limit=2&state=held", "records", "after").await, Vec::<Value>::new());
    assert_eq!(read(&stage, "/v1/records?after=999").await, json!({"records": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_wrongly_is_told_what_to_do() {
    let stage = Stage::open(&[]).await;
    let zeros = "0".repeat(32);
    let cases = [
        ("/v1/records?limit=many".to_owned(), 400, "bad_query", "after the question mark"),
        ("/v1/records?page=2".to_owned(), 400, "bad_query", "unknown field `page`"),
        ("/v1/records?state=lost".to_owned(), 400, "bad_query", "it is one of: in_sync, working, held"),
        ("/v1/records/hubspt/contact/1".to_owned(), 400, "unknown_system", "a system is one of: "),
        ("/v1/records/hubspot/contact/1".to_owned(), 404, "record_unknown", "no change of it has come"),
        ("/v1/records/hubspot/contact/1?since=yesterday".to_owned(), 400, "bad_query", "since is a time like"),
        (
            "/v1/records/hubspot/contact/1?target=hub".to_owned(),
            400,
            "bad_query",
            "target is one of: hubspot-main, salesforce-main",
        ),
        ("/v1/outcomes?before=yesterday".to_owned(), 400, "bad_query", "a time is written like"),
        (format!("/v1/outcomes?change={zeros}"), 400, "bad_query", "name the tenant of the change, too"),
        ("/v1/outcomes?tenant=acme&change=7".to_owned(), 400, "bad_query", "32 hexadecimal digits"),
        (format!("/v1/outcomes?tenant=acme&change={zeros}"), 404, "change_unknown", "was not taken"),
        ("/v1/audit?before=today".to_owned(), 400, "bad_query", "after the question mark"),
        ("/v1/conflicts/first".to_owned(), 400, "bad_path", "give its number, as the list shows it"),
        ("/v1/conflicts/7".to_owned(), 404, "conflict_unknown", "conflict list shows those there are"),
        ("/v1/deadletters/x".to_owned(), 400, "bad_path", "give its number, as the list shows it"),
        ("/v1/deadletters?open=1".to_owned(), 400, "bad_query", "unknown field `open`"),
    ];
    for (path, status, code, detail) in cases {
        let (answered, problem) = ask(&stage, &path).await;
        assert_eq!(
            (answered, &problem["code"], &problem["status"]),
            (status, &json!(code), &json!(status)),
            "{path}: {problem}"
        );
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(detail)), "{path}: {problem}");
    }
}
