//! A person decides, at the command line: what is held, what each choice would do, and that the choice is written.

use std::time::Duration;

use headgate_bench::sim::hubspot::HubspotEdit;
use headgate_bench::sim::salesforce::SalesforceEdit;
use headgate_schemas::time;
use serde_json::Value;

use crate::commands::shown;
use crate::sender::until;
use crate::server::ask;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_listed_shown_and_resolved() {
    let stage = Stage::open(&[("HEADGATE__LINK__CONTACTS__POLICY__DEFAULT", "manual")]).await;
    let ids = stage.contacts(1).await;
    assert_eq!(shown(&stage, &["conflict", "list"]), "");
    let row = stage.salesforce.ids("Contact").remove(0);
    let typed = [("MailingCity".to_owned(), Value::from("Voss"))].into_iter().collect();
    let edit = SalesforceEdit::Update { object: "Contact".to_owned(), id: row.clone(), values: typed };
    stage.salesforce.edit(edit).unwrap();
    let change = stage.update(ids[0], 5);
    stage.deliver(&[change]).await;
    until("the conflict is there", async || shown(&stage, &["conflict", "list"]).contains("Voss")).await;

    let list = shown(&stage, &["conflict", "list", "--field", "city"]);
    let head: Vec<&str> = list.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["ID", "STATE", "SINCE", "LINK", "RECORDS", "FIELD", "CAUSE", "VALUE", "CANDIDATES"], "{list}");
    assert_eq!(list.lines().count(), 2, "{list}");
    assert_eq!(shown(&stage, &["conflict", "list", "--field", "phone"]), "");
    let show = shown(&stage, &["conflict", "show", "1"]);
    for part in [
        "\ncause  ",
        "  manual\n",
        "\ncandidates\nMEMBER           VALUE ",
        "\ndecisions\n",
        "hubspot-main",
        "Voss",
        "held",
    ] {
        assert!(show.contains(part), "{part:?} is missing in {show}");
    }
    assert!(stage.accounting().await.is_some_and(|(open, _)| open > 0), "the change waits");

    let stale = ask(stage.folder.path(), &stage.admin, &["conflict", "resolve", "1", "--keep", "--edition", "9"]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&stale.stderr).contains("what there is to choose from has changed"));
    let done = shown(&stage, &["conflict", "resolve", "1", "--member", "hubspot-main", "--by", "ana"]);
    assert!(done.contains("resolved"), "{done}");
    stage.settled().await;
    let city = stage.salesforce.record("Contact", &row).unwrap()["MailingCity"].clone();
    assert_ne!(city, Value::from("Voss"), "the choice is written");
    let ended = shown(&stage, &["conflict", "list", "--all", "--json"]);
    let ended: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(ended["conflicts"][0]["resolved_by"], "ana");
    let again = ask(stage.folder.path(), &stage.admin, &["conflict", "resolve", "1", "--keep"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("ana resolved it"));
}

/// Somebody types in Salesforce, and nobody tells of it.
fn typed_there(stage: &Stage, row: &str, field: &str, value: &str) {
    let values = [(field.to_owned(), Value::from(value))].into_iter().collect();
    let edit = SalesforceEdit::Update { object: "Contact".to_owned(), id: row.to_owned(), values };
    stage.salesforce.edit(edit).unwrap();
}

/// Why an answer is not taken.
fn refused(stage: &Stage, args: &[&str]) -> String {
    let output = ask(stage.folder.path(), &stage.admin, &[&["conflict", "resolve"], args].concat());
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_may_be_one_are_told_apart_by_a_person() {
    let stage = Stage::open(&[]).await;
    stage.contacts(1).await;
    let row = stage.salesforce.ids("Contact").remove(0);
    typed_there(&stage, &row, "Email", "user1@example.com");
    let (_, created) = stage.create();
    stage.deliver(&[created]).await;
    until("a person is asked", async || shown(&stage, &["conflict", "list"]).contains("alike")).await;

    let show = shown(&stage, &["conflict", "show", "1"]);
    let other = format!("salesforce-main/{row}");
    for part in ["\nothers  ", &other, "\nchoices\nGIVE ", "\n--link ", "\n--separate "] {
        assert!(show.contains(part), "{part:?} is missing in {show}");
    }
    assert_eq!(
        refused(&stage, &["1", "--delete"]),
        "Unprocessable Entity: this question is answered with: link, or separate\n"
    );
    assert_eq!(stage.salesforce.ids("Contact").len(), 1, "nothing is made until somebody says");
    let done = shown(&stage, &["conflict", "resolve", "1", "--separate", "--by", "ana"]);
    assert!(done.contains("resolved"), "{done}");
    until("it has a record of its own", async || stage.salesforce.ids("Contact").len() == 2).await;
    let ended = shown(&stage, &["conflict", "show", "1"]);
    assert!(ended.contains("separate") && !ended.contains("--separate"), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_edited_elsewhere_is_deleted_by_a_persons_word() {
    let vars = [("HEADGATE__LINK__CONTACTS__DELETE", "delete"), ("HEADGATE__LINK__CONTACTS__DELETE_GRACE", "1s")];
    let stage = Stage::open(&vars).await;
    let ids = stage.contacts(1).await;
    let row = stage.salesforce.ids("Contact").remove(0);
    // Salesforce's versions are whole seconds: this edit is of a later one than our write.
    let written = time::now();
    until("another second has begun", async || time::now().since(written) > Duration::from_secs(2)).await;
    typed_there(&stage, &row, "MailingCity", "Voss");
    let gone = stage.hubspot.edit(HubspotEdit::Delete { object: "contacts".to_owned(), id: ids[0] }).unwrap();
    stage.sender.deliver(&gone.events).await;
    until("a person is asked", async || shown(&stage, &["conflict", "list", "--kind", "delete"]).contains("open"))
        .await;

    let show = shown(&stage, &["conflict", "show", "1"]);
    assert!(show.contains("\n--delete ") && show.contains("\n--keep "), "{show}");
    assert_eq!(
        refused(&stage, &["1", "--link"]),
        "Unprocessable Entity: this question is answered with: delete, or keep\n"
    );
    assert_eq!(stage.salesforce.ids("Contact"), [row], "it stays until somebody says");
    shown(&stage, &["conflict", "resolve", "1", "--delete"]);
    until("it is gone there, too", async || stage.salesforce.ids("Contact").is_empty()).await;
}
