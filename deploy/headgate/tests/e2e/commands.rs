//! Commands that look at a running server, as a person at a terminal uses them.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use headgate_bench::sim::fault::{Fault, Scope};
use serde_json::Value;

use crate::sender::until;
use crate::server::{ask, headgate};
use crate::stage::Stage;

/// What a command printed; it must have ended well.
pub(crate) fn shown(stage: &Stage, args: &[&str]) -> String {
    let output = ask(stage.folder.path(), &stage.admin, args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first `n` lines of `tail`, which then loses its reader.
pub(crate) fn tail(stage: &Stage, args: &[&str], n: usize) -> Vec<String> {
    let mut child = headgate(stage.folder.path())
        .arg("tail")
        .args(args)
        .args(["--admin", &stage.admin])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(n).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_shows_changes_and_goes_on_from_a_position() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(1).await;
    let change = stage.update(ids[0], 5);
    stage.deliver(&[change]).await;
    stage.settled().await;
    let record = format!("hubspot/contact/{}", ids[0]);

    let lines = tail(&stage, &["--from", "start"], 2);
    let words: Vec<Vec<&str>> = lines.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0][2..], [&record, "created"], "{lines:?}");
    assert_eq!(words[1][2..], [&record, "updated", "city"], "{lines:?}");

    // The position of a line is where to read on.
    assert_eq!(tail(&stage, &["--from", words[1][0]], 1), lines[1..]);
    let json: Value = serde_json::from_str(&tail(&stage, &["--json", "--from", words[1][0]], 1)[0]).unwrap();
    assert_eq!(json["offset"].to_string(), words[1][0]);
    assert_eq!((&json["type"], &json["tenant"]), (&"headgate.crm.contact.updated.v1".into(), &"acme".into()));

    let refused = ask(stage.folder.path(), &stage.admin, &["tail", "--from", "yesterday"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "Bad Request: from is start, now, a position of the stream, or a time like 2026-01-31T08:00:00Z\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_listed_and_shown() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(2).await;
    let id = ids[0].to_string();
    let list = shown(&stage, &["record", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    let head: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(
        head,
        ["ENTITY", "TENANT", "OBJECT", "STATE", "OPEN", "HUBSPOT-MAIN", "SALESFORCE-MAIN", "EXTERNAL", "ID"]
    );
    for (line, id) in lines[1..].iter().zip(&ids) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1..3], ["acme", "contact"], "{list}");
        assert!(words.contains(&id.to_string().as_str()), "{list}");
    }

    let show = shown(&stage, &["record", "show", "hubspot", "contact", &id]);
    assert!(show.starts_with("entity "), "{show}");
    let parts = [
        "\nstate        in_sync\n",
        "\nmembers\nCONNECTION  ",
        "  live   read   works\n",
        "\nfields\nNAME  ",
        "  HUBSPOT-MAIN  ",
        "\nhistory\nWHEN  ",
        "  heard created ",
        "  read by id ",
        "  create ",
        "  delivered ",
        &id,
    ];
    for part in parts {
        assert!(show.contains(part), "{part:?} is missing in {show}");
    }
    assert!(!show.contains('\u{1b}'), "no colours where nobody sees them: {show}");
    let narrow =
        ["record", "show", "hubspot", "contact", &id, "--target", "hubspot-main", "--since", "1h", "--limit", "1"];
    let narrow = shown(&stage, &narrow);
    let history: Vec<&str> = narrow.split_once("\nhistory\n").unwrap().1.lines().collect();
    assert_eq!(history.len(), 3, "{narrow}");
    assert_eq!(history[0], "(more happened before that: --limit)");
    assert!(history[2].contains("  hubspot-main  "), "{narrow}");
    let json: Value =
        serde_json::from_str(&shown(&stage, &["record", "show", "hubspot", "contact", &id, "--json"])).unwrap();
    let row = stage.salesforce.ids("Contact").into_iter().find(|row| json["members"][1]["id"] == *row).unwrap();
    let other: Value =
        serde_json::from_str(&shown(&stage, &["record", "show", "salesforce", "contact", &row, "--json"])).unwrap();
    assert_eq!(json["entity"], other["entity"], "both members lead to one record");
    let events = |name: &str| json["history"].as_array().unwrap().iter().filter(|e| e["event"] == name).count();
    assert_eq!(["heard", "wrote", "outcome"].map(events), [1, 1, 1], "{json}");
    assert_eq!(json["claims"], serde_json::json!(["email"]));

    let unknown = ask(stage.folder.path(), &stage.admin, &["record", "show", "hubspot", "contact", "1"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).starts_with("Not Found: hubspot/contact/1 is not known"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_and_shown() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(1).await;
    assert_eq!(shown(&stage, &["deadletter", "list"]), "");
    stage.salesforce.faults().next(1, Scope::Writes, Fault::RejectRecords);
    stage.deliver(&[stage.update(ids[0], 5)]).await;
    until("the dead letter is there", async || shown(&stage, &["deadletter", "list"]).contains("salesforce-main"))
        .await;

    let list = shown(&stage, &["deadletter", "list"]);
    let head: Vec<&str> =
        list.lines().next().unwrap().split("  ").filter(|name| !name.is_empty()).map(str::trim).collect();
    assert_eq!(head, ["ID", "STATE", "AT", "TARGET", "OBJECT", "RECORDS", "CODE", "FIELDS", "REASON"], "{list}");
    let line: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((line[1], line[3], line[4]), ("open", "salesforce-main", "contact"), "{list}");
    assert!(list.contains(&format!("hubspot-main/{}", ids[0])), "{list}");

    let show = shown(&stage, &["deadletter", "show", line[0]]);
    assert!(show.starts_with(&format!("id           {}\nstate        open\n", line[0])), "{show}");
    assert!(show.contains("\nnext step    satisfy or change the target's validation rule; then retry\n"), "{show}");
}
