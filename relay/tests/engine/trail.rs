//! What is told of a record afterwards: each thing that happened, in its order, and nothing of whom it was to forget.

use headgate_relay::config::RecordsConfig;
use headgate_relay::trail::{Answer, Asked, Deed, Happened, Met, Standing, Turn};
use headgate_schemas::ChangeKind;

use crate::town::Town;

const ANN: [(&str, &str); 2] = [("email", "ann@example.com"), ("lastname", "Lee")];

fn town() -> Town {
    Town::new(RecordsConfig::default())
}

/// Without what a test cannot know: ids of changes, times, latencies.
fn words(town: &mut Town, entity: i64) -> Vec<String> {
    let hs = town.number("hs");
    let crm = |connection: u32| if connection == hs { "hs" } else { "sf" };
    let met = |met: &Met| match met {
        Met::Taken(fields) => format!("taken {}", fields.join(",")),
        other => other.as_str().to_owned(),
    };
    let told = |happened: &Happened| match happened {
        Happened::Heard { source, kind, fields, met: result, .. } => {
            format!("{} told {kind} [{}]: {}", crm(*source), fields.join(","), met(result))
        }
        Happened::Decided { source, met: result, .. } => format!("{} decided: {}", crm(*source), met(result)),
        Happened::Read { connection, by, answer, .. } => {
            format!("{} read by {}: {}", crm(*connection), by.as_str(), answer.as_str())
        }
        Happened::Wrote { connection, deed, fields, answer, .. } => {
            format!("{} {} [{}]: {}", crm(*connection), deed.as_str(), fields.join(","), answer.as_str())
        }
        Happened::Record { connection, native, standing } => {
            format!("{} {} {}", crm(*connection), native.as_deref().unwrap_or("-"), standing.as_str())
        }
        Happened::Turn(turn) => turn.as_str().to_owned(),
        Happened::Joined { other, .. } => format!("joined {other}"),
    };
    town.trail(entity).iter().map(told).collect()
}

#[test]
fn an_edit_is_told_from_its_event_to_its_write() {
    let mut town = town();
    let there = town.person("7001", &ANN);
    let before = words(&mut town, 1).len();
    town.edit("hs", "7001", "city", "Oslo");
    town.tell_edit("hs", "7001", "city");
    town.tell_again();
    town.pass(2);
    let told = words(&mut town, 1);
    assert_eq!(
        told[before..],
        ["hs told updated [city]: taken city", "sf read by id: ok", "sf update [city]: ok"],
        "{told:?}"
    );
    assert_eq!(town.repeats(), Some(1), "it came again, and nothing was done for it");
    assert_eq!(
        told[..before],
        [
            "hs told created []: waits_for_read".to_owned(),
            "hs 7001 not read yet".to_owned(),
            "hs read by id: ok".to_owned(),
            "hs decided: taken email,first_name,last_name,phone,mobile,title,street,city,state,zip,country,source,unsubscribed".to_owned(),
            "hs 7001 live".to_owned(),
            "sf - to be made".to_owned(),
            "sf read by match_key: missing".to_owned(),
            "sf create [email,last_name]: ok".to_owned(),
            format!("sf {there} live"),
        ]
    );
}

#[test]
fn an_answer_that_never_came_is_told() {
    let mut town = town();
    town.person("7001", &ANN);
    town.keep_back = Some("sf");
    town.edit("hs", "7001", "city", "Oslo");
    town.tell_edit("hs", "7001", "city");
    town.pass(1);
    town.die_and_open();
    let sf = town.number("sf");
    let lost = |happened: &Happened| matches!(happened, Happened::Wrote { connection, deed: Deed::Update, answer: Answer::Unknown, .. } if *connection == sf);
    assert!(town.trail(1).iter().any(lost), "{:?}", words(&mut town, 1));
}

#[test]
fn of_two_that_became_one_both_are_told() {
    let mut town = town();
    town.person("7001", &ANN);
    town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe")]);
    town.merge("hs", "7001", "7002");
    town.tell_merge("hs", "7001", "7002");
    town.pass(100);
    let told = words(&mut town, 2);
    let at = |what: &str| told.iter().position(|w| w == what).unwrap_or_else(|| panic!("{what} is missing: {told:?}"));
    assert!(at("hs 7001 live") < at("joined 1"), "what happened to the other one before");
    assert!(at("hs told merged []: waits_for_read") < at("joined 1"));
    assert!(told.iter().any(|w| w.ends_with("set aside")), "{told:?}");
}

#[test]
fn a_record_that_was_set_aside_is_heard_and_nothing_is_done_for_it() {
    let mut town = town();
    town.person("7001", &ANN);
    let bob = town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe")]);
    town.merge("hs", "7002", "7001");
    town.tell_merge("hs", "7002", "7001");
    town.pass(100);
    assert_eq!(town.kinds(), ["surplus"]);
    let before = words(&mut town, 1).len();
    town.edit("sf", &bob, "Phone", "+1 2");
    town.tell_edit("sf", &bob, "Phone");
    town.pass(10);
    assert_eq!(words(&mut town, 1)[before..], ["sf told updated [phone]: skipped"]);
}

#[test]
fn nothing_is_told_of_a_person_who_was_erased() {
    let mut town = town();
    town.person("7001", &ANN);
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Purged);
    town.pass(30);
    assert_eq!(town.trail(1), [Happened::Turn(Turn::Erased)]);
}

#[test]
fn a_delete_is_told_step_by_step() {
    let mut town = town();
    town.person("7001", &ANN);
    let before = words(&mut town, 1).len();
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.pass(100);
    let hs = town.number("hs");
    let read = || Happened::Read { connection: hs, by: Asked::Id, answer: Answer::Missing, took: 0 };
    let told: Vec<Happened> = town.trail(1)[before..]
        .iter()
        .filter(|h| !matches!(h, Happened::Heard { .. }))
        .cloned()
        .map(|h| match h {
            Happened::Read { connection, by, answer, .. } => Happened::Read { connection, by, answer, took: 0 },
            other => other,
        })
        .collect();
    let stands = |standing| Happened::Record { connection: hs, native: Some("7001".into()), standing };
    let skipped = |h: &Happened| matches!(h, Happened::Decided { met: Met::Skipped, .. });
    let rest: Vec<Happened> = told.iter().filter(|h| !skipped(h)).cloned().collect();
    assert_eq!(rest, [read(), stands(Standing::Missing), read(), stands(Standing::Gone)]);
    assert!(told.iter().any(skipped), "the event ends with the record");
}
