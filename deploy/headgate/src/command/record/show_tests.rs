//! A record as it is printed, to the letter.

use serde_json::{Value, json};

use super::write;

fn record() -> Value {
    json!({
        "now": "2026-11-21T10:00:12Z", "entity": 4, "tenant": "acme", "object": "contact", "link": "contacts",
        "state": "held", "life": "live", "open": 1, "external_id": "0190", "created_at": "2026-11-21T07:00:12Z",
        "claims": ["email"],
        "connections": [
            {"connection": "hub", "guard": "read", "state": "works"},
            {"connection": "org", "guard": "strict", "state": "fails, calls are held back"},
        ],
        "members": [
            {"connection": "hub", "id": "501", "state": "live"},
            {"connection": "org", "id": null, "state": "to be made"},
        ],
        "detached": [{
            "connection": "hub", "id": "502", "asked": true, "stands": "live", "changed_at": "2026-11-21T09:00:12Z",
            "fields": {"city": "Rome"},
        }],
        "fields": [{
            "name": "city", "value": "Oslo", "held": true, "set_at": "2026-11-21T10:00:00Z", "set_by": "hub",
            "members": [
                {"connection": "hub", "shown": "Oslo"},
                {"connection": "org", "shown": "Voss", "why": "held, a person is to decide"},
            ],
        }],
        "work": [{
            "connection": "org", "does": "create", "because": "the record is not there yet",
            "due": "2026-11-21T10:00:16Z", "under_way": false, "attempts": 2, "held_back": "fails, calls are held back",
            "changes_waiting": 0, "changes_to_deliver": 1,
        }],
        "questions": [{
            "id": 7, "kind": "field", "field": "city", "cause": "manual", "since": "2026-11-21T10:00:02Z",
            "candidates": [{"member": "hub", "value": "Oslo", "at": "2026-11-21T10:00:00Z", "in_force": true}],
            "choices": [{"answer": {"keep": true}, "does": "the value in force is written over the others"}],
        }],
        "history": history(),
        "earlier": true,
    })
}

fn history() -> Value {
    let side =
        |member: &str, value: &str, from: &str| json!({"member": member, "value": value, "from": from, "until": from});
    json!([
        {"at": "2026-11-21T10:00:00Z", "event": "heard", "connection": "hub", "change": "c1", "kind": "updated",
         "fields": ["city"], "author": "user", "late": true, "repeats": 2, "result": "taken", "taken": ["city"]},
        {"at": "2026-11-21T10:00:01Z", "event": "wrote", "connection": "org", "deed": "update", "fields": ["city"],
         "result": "rejected", "code": "STRING_TOO_LONG", "took_ms": 84.2},
        {"at": "2026-11-21T10:00:02Z", "event": "decision", "n": 1, "field": "city", "rule": "last_write",
         "ruling": "edit", "edit": side("org", "Voss", "10:00"), "in_force": side("hub", "Oslo", "09:59"),
         "author": "unknown", "change": "c2"},
        {"at": "2026-11-21T10:00:03Z", "event": "outcome", "connection": "org", "change": "c1",
         "outcome": "delivered", "took_ms": 12.0},
    ])
}

fn shown(colour: bool, record: &Value) -> String {
    let mut out = Vec::new();
    write(&mut out, colour, record).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_record_reads_from_its_state_to_its_history() {
    let expected = "\
entity       4
tenant       acme
object       contact
link         contacts
state        held
open         1
external id  0190
created at   3 h ago
claims       email

members
CONNECTION  ID   STATE       GUARD   CONNECTION IS
hub         501  live        read    works
org         -    to be made  strict  fails, calls are held back
hub         502  set aside   -       -

set aside: hub 502 (the record asked for)
live, changed 60 min ago
city  Rome

fields
NAME  VALUE  HUB   ORG                                 SET       BY
city  Oslo   Oslo  Voss (held, a person is to decide)  12 s ago  hub

open
CONNECTION  DOES    DUE     BECAUSE
org         create  in 4 s  the record is not there yet; failed attempts: 2; changes to deliver: 1; the connection fails, calls are held back

conflict 7: field city
asked 10 s ago because of manual
hub  Oslo  12 s ago  in force
--keep  the value in force is written over the others

history
(more happened before that: --limit)
WHEN      CONNECTION  EVENT          ABOUT                                    RESULT                     TOOK   CHANGE
12 s ago  hub         heard updated  city (by user, late, came 2 times more)  taken: city                -      c1
11 s ago  org         update         city                                     rejected: STRING_TOO_LONG  84 ms  -
10 s ago  org         decision city  org Voss (10:00) against hub Oslo (09:59)  last_write: edit           -      c2
9 s ago   org         outcome                                                 delivered                  12 ms  c1
";
    let expected: Vec<String> =
        expected.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let text = shown(false, &record());
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn colours_mean_good_doubtful_and_bad_and_move_no_column() {
    let (plain, coloured) = (shown(false, &record()), shown(true, &record()));
    assert!(coloured.contains("\u{1b}[32mlive\u{1b}[0m"), "{coloured}");
    assert!(coloured.contains("\u{1b}[33mheld\u{1b}[0m"), "{coloured}");
    assert!(coloured.contains("\u{1b}[31mrejected: STRING_TOO_LONG\u{1b}[0m"), "{coloured}");
    let mut stripped = coloured;
    for code in ["1", "31", "32", "33", "0"] {
        stripped = stripped.replace(&format!("\u{1b}[{code}m"), "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn a_record_of_few_words_is_shown_with_them() {
    let text =
        shown(false, &json!({"entity": 1, "members": [{"connection": "hub", "id": "5\u{1b}[31m", "state": "live"}]}));
    assert_eq!(
        text,
        "entity  1\n\nmembers\nCONNECTION  ID           STATE  GUARD  CONNECTION IS\nhub         5\\u{1b}[31m  live   -      -\n"
    );
}
