//! Records' lives through the engine's front door: created on both sides at once, deleted, restored, merged, matched,
//! erased. Each test says what people did and what stands in the CRMs at the end.

use std::time::Duration;

use headgate_relay::config::{DeletePolicy, RecordsConfig};
use headgate_relay::engine::Choice;
use headgate_schemas::ChangeKind;

use super::town::Town;

const ANN: [(&str, &str); 2] = [("email", "ann@example.com"), ("lastname", "Lee")];
const ANN_THERE: [(&str, &str); 2] = [("Email", "ann@example.com"), ("LastName", "Lee")];

fn town(delete: DeletePolicy) -> Town {
    Town::new(RecordsConfig { delete, ..RecordsConfig::default() })
}

fn ids(standing: &[(String, String)]) -> Vec<&str> {
    standing.iter().map(|(id, _)| id.as_str()).collect()
}

/// Nothing is open and nobody is asked.
fn at_rest(town: &mut Town) {
    assert_eq!(town.kinds(), Vec::<String>::new());
    let (due, closed, open) = town.accounting();
    assert_eq!((due - closed, open), (0, 0));
}

#[test]
fn one_person_made_on_both_sides_is_one_entity() {
    let mut town = town(DeletePolicy::Nothing);
    town.add("hs", "7001", &ANN);
    town.add("sf", "003000000000077AAA", &[("Email", "Ann@Example.com"), ("Phone", "+1 415 555 0100")]);
    town.tell("hs", "7001", ChangeKind::Created);
    town.tell("sf", "003000000000077AAA", ChangeKind::Created);
    town.pass(30);
    assert_eq!(ids(&town.standing("hs", "email")), ["7001"]);
    assert_eq!(ids(&town.standing("sf", "Email")), ["003000000000077AAA"]);
    assert_eq!(town.row("sf", "003000000000077AAA").values["LastName"], "Lee", "each side fills the other's gaps");
    assert_eq!(town.row("hs", "7001").values["phone"], "+1 415 555 0100");
    at_rest(&mut town);
}

#[test]
fn a_record_made_while_ours_is_on_its_way_is_asked_about_and_nothing_is_lost() {
    for crash in [false, true] {
        let mut town = town(DeletePolicy::Nothing);
        town.add("hs", "7001", &ANN);
        town.keep_back = Some("sf");
        town.tell("hs", "7001", ChangeKind::Created);
        town.pass(2);
        town.make("sf", "003000000000077AAA", &ANN_THERE);
        town.pass(2);
        if crash {
            town.lose();
            town.die_and_open();
        } else {
            town.let_go();
        }
        town.pass(1_500);
        assert_eq!(town.standing("sf", "Email").len(), 2, "theirs and ours");
        assert_eq!(town.kinds(), ["surplus"], "crash: {crash}");
        assert_eq!(town.shelves["hs"].rows.len(), 1, "no third one anywhere");
        assert_eq!(town.choose(Choice::Keep), Ok(()));
        at_rest(&mut town);
    }
}

#[test]
fn the_record_that_was_set_aside_can_take_the_place_of_the_linked_one() {
    let mut town = town(DeletePolicy::Nothing);
    let linked = town.person("7001", &ANN);
    town.make("sf", "003000000000077AAA", &ANN_THERE);
    town.pass(5);
    assert_eq!(town.kinds(), ["surplus"]);
    assert!(town.choose(Choice::Link).is_err(), "that is no answer to this question");
    assert_eq!(town.choose(Choice::Record("003000000000077AAA".to_owned())), Ok(()));
    town.pass(5);
    town.edit("hs", "7001", "phone", "+1 1");
    town.tell_edit("hs", "7001", "phone");
    town.pass(5);
    assert_eq!(town.row("sf", "003000000000077AAA").values["Phone"], "+1 1");
    assert_eq!(town.row("sf", &linked).values.get("Phone"), None, "the other is left alone");
    at_rest(&mut town);
}

#[test]
fn a_crm_that_refuses_twins_names_the_one_it_has_and_that_is_linked() {
    let mut town = town(DeletePolicy::Nothing);
    town.shelves.get_mut("hs").unwrap().unique = true;
    town.add("hs", "7001", &[("email", "ann@example.com"), ("phone", "+1 2")]);
    town.make("sf", "003000000000077AAA", &ANN_THERE);
    town.pass(30);
    assert_eq!(ids(&town.standing("hs", "email")), ["7001"]);
    assert_eq!(town.row("sf", "003000000000077AAA").values["Phone"], "+1 2");
    assert_eq!(town.row("hs", "7001").values["lastname"], "Lee");
    at_rest(&mut town);
}

#[test]
fn a_person_who_stands_in_the_other_crm_is_found_and_linked() {
    let mut town = town(DeletePolicy::Nothing);
    town.add("sf", "003000000000077AAA", &[("Email", "ANN@example.com"), ("Phone", "+1 2")]);
    town.make("hs", "7001", &[("email", "ann@example.com"), ("lastname", "Lee"), ("phone", "+1 1")]);
    town.pass(10);
    assert_eq!(town.standing("sf", "LastName"), [("003000000000077AAA".to_owned(), "Lee".to_owned())]);
    at_rest(&mut town);
}

#[test]
fn several_who_could_be_meant_are_asked_about_and_the_choice_is_linked() {
    for separate in [false, true] {
        let mut town = town(DeletePolicy::Nothing);
        town.add("sf", "003000000000077AAA", &ANN_THERE);
        town.add("sf", "003000000000078AAA", &ANN_THERE);
        town.make("hs", "7001", &[("email", "ann@example.com"), ("lastname", "Lee"), ("city", "Oslo")]);
        town.pass(30);
        assert_eq!(town.kinds(), ["match"]);
        assert_eq!(town.standing("sf", "MailingCity").len(), 2, "nothing is made until somebody says");
        let (choice, records) =
            if separate { (Choice::Separate, 3) } else { (Choice::Record("003000000000078AAA".to_owned()), 2) };
        assert_eq!(town.choose(choice), Ok(()));
        town.pass(5);
        let cities = town.standing("sf", "MailingCity");
        assert_eq!(cities.len(), records);
        assert_eq!(cities.iter().filter(|(_, city)| city == "Oslo").count(), 1);
        at_rest(&mut town);
    }
}

#[test]
fn one_that_is_found_but_linked_already_is_asked_about() {
    let mut town = town(DeletePolicy::Nothing);
    let bob = town.person("7001", &[("email", "bob@example.com"), ("lastname", "Roe")]);
    // Nobody tells of it: only a search can find it.
    town.edit("sf", &bob, "Email", "ann@example.com");
    town.make("hs", "7002", &ANN);
    town.pass(10);
    assert_eq!(town.kinds(), ["match"]);
    assert_eq!(town.shelves["sf"].rows.len(), 1);
    assert_eq!(town.choose(Choice::Separate), Ok(()));
    town.pass(10);
    assert_eq!(town.shelves["sf"].rows.len(), 2);
}

#[test]
fn a_crm_that_cannot_be_searched_does_not_block_creations() {
    let mut town = town(DeletePolicy::Nothing);
    town.shelves.get_mut("sf").unwrap().blind = true;
    town.make("hs", "7001", &ANN);
    town.pass(30);
    assert_eq!(town.standing("sf", "LastName").len(), 1);
    at_rest(&mut town);
}

#[test]
fn a_likely_match_waits_for_a_person_and_other_things_flow() {
    for link in [true, false] {
        let mut town = town(DeletePolicy::Nothing);
        town.add("hs", "7001", &[("lastname", "Lee"), ("phone", "+1 415 555 0100")]);
        town.add("sf", "003000000000077AAA", &[("LastName", "Lea"), ("Phone", "+14155550100")]);
        town.keep_back = Some("sf");
        town.tell("hs", "7001", ChangeKind::Created);
        town.pass(1);
        town.give_up();
        town.shelves.get_mut("sf").unwrap().blind = true;
        town.tell("sf", "003000000000077AAA", ChangeKind::Created);
        town.pass(1);
        assert_eq!(town.kinds(), ["match"], "by the phone number, at 85");
        assert_eq!(ids(&town.standing("hs", "phone")), ["7001"], "nothing is made there until somebody says");
        town.edit("hs", "7001", "city", "Oslo");
        town.tell_edit("hs", "7001", "city");
        assert_eq!(town.choose(if link { Choice::Link } else { Choice::Separate }), Ok(()));
        town.pass(1_500);
        let here = town.standing("hs", "phone").len();
        assert_eq!(here, if link { 1 } else { 2 });
        if !link {
            at_rest(&mut town);
        }
    }
}

#[test]
fn a_deleted_record_is_left_alone_cleared_or_deleted_elsewhere_as_the_link_says() {
    for policy in [DeletePolicy::Nothing, DeletePolicy::Clear, DeletePolicy::Delete] {
        let mut town = town(policy);
        let there = town.person("7001", &[("email", "ann@example.com"), ("lastname", "Lee"), ("city", "Oslo")]);
        town.delete("hs", "7001");
        town.tell("hs", "7001", ChangeKind::Deleted);
        town.pass(50);
        assert_eq!(town.row("sf", &there).values["MailingCity"], "Oslo", "the grace");
        assert!(town.row("sf", &there).alive);
        town.pass(30);
        let row = town.row("sf", &there);
        let (alive, city, name) = match policy {
            DeletePolicy::Nothing => (true, "Oslo", "Lee"),
            DeletePolicy::Clear => (true, "", "Lee"),
            DeletePolicy::Delete => (false, "Oslo", "Lee"),
        };
        assert_eq!(
            (row.alive, row.values["MailingCity"].as_str(), row.values["LastName"].as_str()),
            (alive, city, name)
        );
        at_rest(&mut town);
        // A late update of the deleted record brings nothing to life.
        town.tell("hs", "7001", ChangeKind::Touched);
        town.pass(100);
        assert_eq!(town.shelves["sf"].rows.len(), 1);
        at_rest(&mut town);
    }
}

#[test]
fn a_record_deleted_in_the_target_is_not_made_again_by_an_update() {
    let mut town = town(DeletePolicy::Nothing);
    let there = town.person("7001", &ANN);
    town.delete("sf", &there);
    town.edit("hs", "7001", "city", "Oslo");
    town.tell_edit("hs", "7001", "city");
    town.pass(200);
    assert_eq!(town.standing("sf", "Email"), []);
    assert!(town.row("hs", "7001").alive);
    at_rest(&mut town);
}

#[test]
fn an_edit_that_the_deleted_record_never_held_asks_first() {
    for delete in [true, false] {
        let mut town = town(DeletePolicy::Delete);
        let there = town.person("7001", &ANN);
        town.delete("hs", "7001");
        town.tell("hs", "7001", ChangeKind::Deleted);
        town.pass(5);
        // Nobody tells of this edit: the read before the delete finds it.
        town.edit("sf", &there, "Phone", "+1 2");
        town.pass(70);
        assert_eq!(town.kinds(), ["delete"]);
        assert!(town.row("sf", &there).alive);
        town.die_and_open();
        town.pass(600);
        assert_eq!(town.kinds(), ["delete"], "the question outlives the process");
        assert_eq!(town.choose(if delete { Choice::Delete } else { Choice::Keep }), Ok(()));
        town.pass(30);
        assert_eq!(town.row("sf", &there).alive, !delete);
        at_rest(&mut town);
    }
}

/// In the very second of our write the CRM's clock cannot tell an edit from it: the read before the delete is repeated
/// until it can be believed, and a delete waits for that.
#[test]
fn an_edit_in_the_second_of_our_write_asks_before_a_delete() {
    let records =
        RecordsConfig { delete: DeletePolicy::Delete, grace: Duration::from_secs(1), ..RecordsConfig::default() };
    let mut town = Town::new(records);
    let there = town.person("7001", &ANN);
    town.edit("hs", "7001", "city", "Oslo");
    town.tell_edit("hs", "7001", "city");
    town.pass(1);
    assert_eq!(town.row("sf", &there).values["MailingCity"], "Oslo");
    // The record's version stays as our write left it.
    let row = town.shelves.get_mut("sf").unwrap().rows.get_mut(&there).unwrap();
    row.values.insert("MailingCity".to_owned(), "Bergen".to_owned());
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.pass(70);
    assert!(town.row("sf", &there).alive, "the edit would be gone");
    assert_eq!(town.kinds(), ["delete"]);
}

#[test]
fn an_edit_after_the_answer_asks_again() {
    let mut town = town(DeletePolicy::Delete);
    let there = town.person("7001", &ANN);
    town.edit("sf", &there, "Phone", "+1 2");
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.pass(70);
    assert_eq!(town.kinds(), ["delete"]);
    town.edit("sf", &there, "Phone", "+1 3");
    assert_eq!(town.choose(Choice::Delete), Ok(()));
    town.pass(30);
    assert_eq!(town.kinds(), ["delete"], "that person had not seen it");
    assert!(town.row("sf", &there).alive);
}

#[test]
fn a_restored_record_lives_again_and_what_we_deleted_is_made_again() {
    let mut town = town(DeletePolicy::Delete);
    let there = town.person("7001", &ANN);
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.pass(100);
    assert!(!town.row("sf", &there).alive);
    town.restore("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Restored);
    town.pass(30);
    assert_eq!(town.standing("sf", "LastName").len(), 1);
    town.edit("hs", "7001", "city", "Oslo");
    town.tell_edit("hs", "7001", "city");
    town.pass(10);
    assert_eq!(town.standing("sf", "MailingCity")[0].1, "Oslo");
    at_rest(&mut town);
}

#[test]
fn a_record_restored_within_the_grace_was_never_gone() {
    let mut town = town(DeletePolicy::Delete);
    let there = town.person("7001", &ANN);
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.pass(30);
    town.restore("hs", "7001");
    town.pass(100);
    assert!(town.row("sf", &there).alive, "the read at the end of the grace found it");
    at_rest(&mut town);
}

#[test]
fn our_own_create_that_lands_after_the_delete_is_taken_away_again() {
    for landing in [30, 200] {
        let mut town = town(DeletePolicy::Delete);
        town.keep_back = Some("sf");
        town.make("hs", "7001", &ANN);
        town.pass(2);
        let calls = town.give_up();
        // What is sent again is lost again.
        town.keep_back = Some("sf");
        town.pass(2);
        town.delete("hs", "7001");
        town.tell("hs", "7001", ChangeKind::Deleted);
        town.pass(landing);
        town.give_up();
        for call in &calls {
            town.land("sf", call);
        }
        town.pass(1_500);
        assert_eq!(town.standing("sf", "Email"), [], "landed after {landing} s");
        at_rest(&mut town);
    }
}

#[test]
fn a_create_of_ours_that_lands_after_everything_went_brings_nobody_back() {
    for again in [false, true] {
        let mut town = town(DeletePolicy::Delete);
        town.keep_back = Some("sf");
        town.make("hs", "7001", &ANN);
        town.pass(2);
        let calls = town.give_up();
        if again {
            // It is sent a second time, and that one is linked.
            town.pass(700);
            assert_eq!(town.standing("sf", "LastName").len(), 1);
        }
        town.delete("hs", "7001");
        town.tell("hs", "7001", ChangeKind::Deleted);
        if !again {
            town.keep_back = Some("sf");
        }
        town.pass(200);
        if !again {
            town.give_up();
        }
        assert_eq!(town.standing("sf", "LastName"), [], "sent again: {again}");
        for call in &calls {
            town.land("sf", call);
        }
        let late = town.standing("sf", "LastName")[0].0.clone();
        town.tell("sf", &late, ChangeKind::Created);
        town.pass(1_500);
        assert_eq!(town.standing("sf", "LastName"), [], "sent again: {again}");
        assert_eq!(town.standing("hs", "lastname"), []);
        at_rest(&mut town);
    }
}

#[test]
fn a_record_restored_after_a_person_confirmed_its_delete_gets_the_newer_values() {
    let mut town = town(DeletePolicy::Delete);
    let there = town.person("7001", &ANN);
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.pass(5);
    town.edit("sf", &there, "Phone", "+1 2");
    town.pass(70);
    assert_eq!(town.choose(Choice::Delete), Ok(()));
    town.pass(30);
    assert!(!town.row("sf", &there).alive);
    town.restore("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Restored);
    town.pass(30);
    assert_eq!(town.standing("sf", "Phone")[0].1, "+1 2");
    assert_eq!(town.row("hs", "7001").values["phone"], "+1 2");
    at_rest(&mut town);
}

#[test]
fn a_look_up_that_finds_the_record_set_aside_takes_nothing_from_the_linked_one() {
    let mut town = town(DeletePolicy::Nothing);
    town.add("hs", "7001", &ANN);
    town.keep_back = Some("sf");
    town.tell("hs", "7001", ChangeKind::Created);
    town.pass(2);
    town.make("sf", "003000000000077AAA", &ANN_THERE);
    town.pass(2);
    town.lose();
    town.pass(60);
    assert_eq!(town.kinds(), ["surplus"]);
    // A further look-up is due in the same moment as a read of the linked record.
    town.sleep(700);
    town.edit("sf", "003000000000077AAA", "Phone", "+1 2");
    town.tell("sf", "003000000000077AAA", ChangeKind::Touched);
    town.pass(60);
    assert_eq!(town.row("hs", "7001").values["phone"], "+1 2");
    assert_eq!(town.choose(Choice::Keep), Ok(()));
    at_rest(&mut town);
}

#[test]
fn merged_records_are_one_entity_and_a_surplus_record_is_asked_about() {
    for (tells, mute) in [(true, false), (true, true), (false, false)] {
        let mut town = town(DeletePolicy::Delete);
        town.shelves.get_mut("hs").unwrap().mute = mute;
        let ann = town.person("7001", &ANN);
        let bob = town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe")]);
        town.merge("hs", "7001", "7002");
        town.tell("hs", "7001", ChangeKind::Deleted);
        town.pass(10);
        if tells {
            town.tell_merge("hs", "7001", "7002");
        }
        town.pass(300);
        assert_eq!(town.kinds(), ["surplus"], "told {tells}, mute {mute}");
        assert!(town.row("sf", &ann).alive && town.row("sf", &bob).alive, "nothing is deleted because of a merge");
        town.edit("hs", "7002", "city", "Oslo");
        town.tell_edit("hs", "7002", "city");
        town.pass(10);
        assert_eq!(town.row("sf", &bob).values["MailingCity"], "Oslo");
        // The merge is carried out there, too: nothing is left to ask.
        town.merge("sf", &ann, &bob);
        town.tell_merge("sf", &ann, &bob);
        town.pass(10);
        at_rest(&mut town);
    }
}

#[test]
fn a_surplus_record_that_is_a_person_of_its_own_gets_an_entity_of_its_own() {
    let mut town = town(DeletePolicy::Delete);
    let ann = town.person("7001", &ANN);
    let bob = town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe")]);
    town.merge("hs", "7001", "7002");
    town.tell_merge("hs", "7001", "7002");
    town.pass(100);
    assert_eq!(town.kinds(), ["surplus"]);
    assert_eq!(town.choose(Choice::Separate), Ok(()));
    town.pass(30);
    assert_eq!(town.kinds(), Vec::<String>::new(), "and nobody is asked whether the two are one");
    let there: Vec<String> = town.standing("hs", "email").into_iter().map(|(_, email)| email).collect();
    assert_eq!(there, ["bob@example.com", "ann@example.com"], "it has a record of its own where it had none");
    let own = town.standing("hs", "email")[1].0.clone();
    for (here, id, city) in [("hs", "7002", "Oslo"), ("sf", ann.as_str(), "Voss")] {
        let field = if here == "hs" { "city" } else { "MailingCity" };
        town.edit(here, id, field, city);
        town.tell_edit(here, id, field);
        town.pass(10);
    }
    assert_eq!(
        (town.row("sf", &bob).values["MailingCity"].as_str(), town.row("hs", &own).values["city"].as_str()),
        ("Oslo", "Voss")
    );
    assert_eq!(town.row("sf", &ann).values["MailingCity"], "Voss", "each is kept like its own");
    town.die_and_open();
    town.delete("hs", &own);
    town.tell("hs", &own, ChangeKind::Deleted);
    town.pass(100);
    assert!(!town.row("sf", &ann).alive && town.row("sf", &bob).alive && town.row("hs", "7002").alive);
    at_rest(&mut town);
}

#[test]
fn values_that_a_merge_leaves_behind_are_in_the_log_sealed() {
    let mut town = town(DeletePolicy::Nothing);
    town.person("7001", &[("email", "ann@example.com"), ("lastname", "Lee"), ("phone", "+1 1"), ("city", "Oslo")]);
    town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe"), ("phone", "+1 2")]);
    assert_eq!(town.decisions(), []);
    town.merge("hs", "7001", "7002");
    town.tell_merge("hs", "7001", "7002");
    town.pass(100);
    let logged = town.decisions();
    let rows: Vec<&str> = logged.iter().map(|(row, _)| row.as_str()).collect();
    assert_eq!(
        rows,
        [
            r#"email merge force ["ann@example.com","bob@example.com"]"#,
            r#"last_name merge force ["Lee","Roe"]"#,
            r#"phone merge force ["+1 1","+1 2"]"#,
        ],
        "what was empty is filled, and nothing of it is lost"
    );
    assert!(logged.iter().all(|(_, stored)| !stored.windows(4).any(|w| w == b"+1 1" || w == b"@exa")));
}

#[test]
fn a_create_of_ours_that_lands_while_a_person_is_erased_is_erased_too() {
    // Before our look-up, with its event or without; and long after the first look-ups.
    for (landing, told) in [(1, true), (1, false), (100, true), (100, false)] {
        let mut town = town(DeletePolicy::Nothing);
        town.keep_back = Some("sf");
        town.make("hs", "7001", &[("email", "ann@example.com"), ("lastname", "Unforgettable")]);
        town.pass(2);
        let calls = town.give_up();
        town.keep_back = Some("sf");
        town.pass(0);
        town.delete("hs", "7001");
        town.tell("hs", "7001", ChangeKind::Purged);
        town.pass(landing);
        town.give_up();
        for call in &calls {
            town.land("sf", call);
        }
        let there = town.standing("sf", "Email");
        assert_eq!(there.len(), 1);
        if told {
            town.tell("sf", &there[0].0, ChangeKind::Created);
        }
        town.pass(1_500);
        assert_eq!(town.standing("sf", "Email"), [], "landed after {landing} s, told {told}");
        assert_eq!(town.standing("hs", "email"), [], "and it brings nobody back");
        let name = "Unforgettable";
        assert!(!town.documents().windows(name.len()).any(|w| w == name.as_bytes()));
        at_rest(&mut town);
    }
}

#[test]
fn a_delete_that_is_heard_of_while_the_first_read_is_under_way_is_not_forgotten() {
    let mut town = town(DeletePolicy::Delete);
    town.make("hs", "7001", &ANN);
    let answers = town.delay();
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.arrive(answers);
    town.pass(100);
    assert_eq!(town.standing("sf", "LastName"), [], "what was made of the old answer goes, too");
    at_rest(&mut town);
}

#[test]
fn an_answer_asked_for_before_a_merge_does_not_contradict_it() {
    let mut town = town(DeletePolicy::Delete);
    town.shelves.get_mut("hs").unwrap().mute = true;
    let ann = town.person("7001", &ANN);
    let bob = town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe")]);
    town.tell("hs", "7001", ChangeKind::Restored);
    let answers = town.delay();
    assert_eq!(answers.len(), 1, "a read of the record as it stood before the merge");
    town.merge("hs", "7001", "7002");
    town.tell_merge("hs", "7001", "7002");
    town.arrive(answers);
    town.pass(300);
    assert_eq!(town.kinds(), ["surplus"]);
    assert!(town.row("sf", &ann).alive && town.row("sf", &bob).alive, "nothing is deleted because of a merge");
}

#[test]
fn a_merge_waits_for_the_calls_under_way_and_loses_no_change() {
    for crash in [false, true] {
        let mut town = town(DeletePolicy::Nothing);
        town.person("7001", &ANN);
        let bob = town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe")]);
        town.keep_back = Some("sf");
        for id in ["7001", "7002"] {
            town.edit("hs", id, "city", "Oslo");
            town.tell_edit("hs", id, "city");
        }
        town.pass(1);
        town.merge("hs", "7001", "7002");
        town.tell_merge("hs", "7001", "7002");
        town.pass(5);
        assert_eq!(town.kinds(), Vec::<String>::new(), "not yet");
        if crash {
            town.lose();
            town.die_and_open();
        } else {
            town.let_go();
        }
        town.pass(1_500);
        assert_eq!(town.kinds(), ["surplus"]);
        assert_eq!(town.row("sf", &bob).values["MailingCity"], "Oslo");
        assert_eq!(town.choose(Choice::Keep), Ok(()));
        at_rest(&mut town);
    }
}

#[test]
fn a_merge_into_a_record_nobody_knew_goes_on_there() {
    let mut town = town(DeletePolicy::Delete);
    let ann = town.person("7001", &ANN);
    town.add("hs", "7010", &[("email", "ann@example.com"), ("lastname", "Lee-Roe")]);
    town.merge("hs", "7001", "7010");
    town.tell_merge("hs", "7001", "7010");
    town.pass(100);
    assert_eq!(town.row("sf", &ann).values["LastName"], "Lee-Roe");
    assert_eq!(town.shelves["sf"].rows.len(), 1);
    at_rest(&mut town);
}

#[test]
fn an_answer_that_names_another_record_is_a_merge_nobody_told_of() {
    let mut town = town(DeletePolicy::Delete);
    let ann = town.person("7001", &ANN);
    let bob = town.person("7002", &[("email", "bob@example.com"), ("lastname", "Roe")]);
    town.keep_back = Some("sf");
    town.edit("hs", "7001", "city", "Oslo");
    town.tell_edit("hs", "7001", "city");
    town.pass(1);
    // Between our read and our write.
    town.merge("sf", &ann, &bob);
    town.let_go();
    town.pass(200);
    assert_eq!(town.kinds(), ["surplus"], "two records here, one there");
    assert!(town.row("hs", "7001").alive && town.row("hs", "7002").alive);
    assert_eq!(town.choose(Choice::Keep), Ok(()));
    at_rest(&mut town);
}

#[test]
fn a_person_who_asked_to_be_forgotten_is_erased_everywhere_and_does_not_come_back() {
    for deletion_first in [true, false] {
        let mut town = town(DeletePolicy::Nothing);
        let ann = town.person("7001", &[("email", "ann@example.com"), ("lastname", "Unforgettable")]);
        town.delete("hs", "7001");
        let (first, second) = (ChangeKind::Deleted, ChangeKind::Purged);
        for kind in if deletion_first { [first, second] } else { [second, first] } {
            town.tell("hs", "7001", kind);
            town.pass(1);
        }
        town.pass(5);
        let row = town.row("sf", &ann);
        assert!(!row.alive && row.erased, "without grace, and whatever the delete policy is");
        for name in ["Unforgettable", "ann@example.com"] {
            assert!(!town.documents().windows(name.len()).any(|w| w == name.as_bytes()), "{name}");
        }
        town.die_and_open();
        town.tell("hs", "7001", ChangeKind::Purged);
        town.tell("sf", &ann, ChangeKind::Deleted);
        town.tell("hs", "7001", ChangeKind::Touched);
        town.pass(200);
        assert_eq!((town.standing("hs", "email"), town.standing("sf", "Email")), (vec![], vec![]));
        at_rest(&mut town);
    }
}

#[test]
fn a_deletion_alone_erases_nothing() {
    let mut town = town(DeletePolicy::Delete);
    let ann = town.person("7001", &ANN);
    town.delete("hs", "7001");
    town.tell("hs", "7001", ChangeKind::Deleted);
    town.pass(100);
    assert!(!town.row("sf", &ann).alive && !town.row("sf", &ann).erased);
}

#[test]
fn unusually_many_deletes_wait_for_a_person() {
    for go in [true, false] {
        let brake = RecordsConfig { delete: DeletePolicy::Delete, brake_count: 3, ..RecordsConfig::default() };
        let mut town = Town::new(brake);
        let people: Vec<String> = (0..6).map(|n| format!("70{n:02}")).collect();
        for id in &people {
            town.person(id, &[("email", &format!("{id}@example.com")), ("lastname", "Lee")]);
        }
        for id in &people {
            town.delete("hs", id);
            town.tell("hs", id, ChangeKind::Deleted);
        }
        town.pass(100);
        assert_eq!(town.standing("sf", "Email").len(), 3, "three go, then the brake holds");
        assert_eq!(town.kinds(), ["brake"], "one question for all");
        town.die_and_open();
        town.pass(4_000);
        assert_eq!(town.kinds(), ["brake"]);
        assert_eq!(town.choose(if go { Choice::Delete } else { Choice::Keep }), Ok(()));
        town.pass(30);
        assert_eq!(town.standing("sf", "Email").len(), if go { 0 } else { 3 });
        at_rest(&mut town);
    }
}

#[test]
fn a_claim_follows_the_value() {
    let mut town = town(DeletePolicy::Nothing);
    let ann = town.person("7001", &ANN);
    town.edit("hs", "7001", "email", "ann@elsewhere.example");
    town.tell_edit("hs", "7001", "email");
    town.pass(10);
    assert_eq!(town.row("sf", &ann).values["Email"], "ann@elsewhere.example");
    // Whoever has the old address now is somebody else; whoever has the new one is she.
    town.make("sf", "003000000000077AAA", &ANN_THERE);
    town.pass(10);
    assert_eq!(town.standing("hs", "email").len(), 2);
    at_rest(&mut town);
}
