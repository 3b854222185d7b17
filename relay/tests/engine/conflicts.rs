//! Conflicts step by step: held fields and people's choices, the log of decisions, guards, fights, what a target makes
//! of a value.

use headgate_relay::config::{Guard, Policy};
use headgate_relay::engine::{Call, Choice, Request, ResolveError};
use headgate_relay::entity::question::Unsuitable;
use headgate_relay::target::{Disposition, Version, WriteItems};
use headgate_schemas::{ChangeKind, Value};

use crate::bench::{Bench, SECOND};

const THERE: &str = "003000000000001AAA";

fn member(name: &str) -> Choice {
    Choice::Member(name.to_owned())
}

/// HubSpot says Oslo; the guarding read shows that somebody typed Bergen in Salesforce.
fn held(both: bool) -> Bench {
    let mut bench = Bench::linked_with(|link| link.policy.default = Some(Policy::Manual), both);
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).one();
    bench.pass(SECOND);
    bench.found_there(&guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).none();
    bench
}

fn unless_changed(call: &Call) -> Option<Version> {
    let Request::Write(write) = &call.request else { panic!("{call:?}") };
    let WriteItems::Update(items) = &write.items else { panic!("{call:?}") };
    items[0].unless_changed
}

#[test]
fn a_held_field_waits_and_the_choice_is_written() {
    let mut bench = held(false);
    assert_eq!(bench.questions(), [(1, "field".to_owned(), "city".to_owned())]);
    assert_eq!(bench.accounting(), (2, 1, 1), "the change waits for a person");
    assert_eq!(bench.engine().totals().held, 1);
    bench.pass(3_600 * SECOND);
    bench.tick().none();

    let (resolved, calls) = bench.resolve(1, Some(1), Choice::Kept);
    assert_eq!(resolved.unwrap().field, "city");
    let [guard] = calls.as_slice() else { panic!("{calls:?}") };
    let update =
        bench.found_there(guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Oslo");
    bench.written(&update, THERE).none();
    assert_eq!((bench.accounting(), bench.engine().totals().held), ((2, 2, 0), 0));
    assert_eq!(bench.outcomes(), ["delivered", "delivered"]);
    assert_eq!(bench.questions(), []);
    assert_eq!(
        bench.decisions(),
        [
            r#"city manual held ["Bergen","Oslo"] unknown"#,
            r#"city person chosen ["Oslo","Oslo"] ana"#,
        ]
    );
}

#[test]
fn the_side_that_was_not_chosen_loses_and_is_written() {
    let mut bench = held(true);
    let (resolved, calls) = bench.resolve(1, None, member("sf"));
    assert_eq!(resolved.unwrap().field, "city");
    assert_eq!(bench.outcomes(), ["delivered", "lost_conflict"]);
    let [guard] = calls.as_slice() else { panic!("{calls:?}") };
    let update = bench.found(guard, "7001", 5, &[("lastname", "Roe"), ("city", "Oslo")]).one();
    assert_eq!(bench.values(&update)["city"], "Bergen");
    bench.written(&update, "7001").none();
    assert_eq!(bench.accounting(), (2, 2, 0));
}

#[test]
fn a_person_may_type_another_value() {
    let mut bench = held(false);
    let (resolved, calls) = bench.resolve(1, None, Choice::Value(Value::from("Voss")));
    assert!(resolved.is_ok(), "{resolved:?}");
    let update =
        bench.found_there(&calls[0], THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Voss");
    bench.written(&update, THERE).none();
    assert_eq!(bench.outcomes(), ["delivered", "lost_conflict"]);
}

#[test]
fn only_the_held_field_waits() {
    let mut bench = held(false);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 60, &[("jobtitle", "CTO")])).one();
    let update =
        bench.found_there(&guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
    assert_eq!(bench.values(&update).into_iter().collect::<Vec<_>>(), [("Title".to_owned(), "CTO".to_owned())]);
    bench.written(&update, THERE).none();
    assert_eq!(bench.outcomes(), ["delivered", "delivered"]);
    assert_eq!(bench.accounting(), (3, 2, 1));
}

#[test]
fn a_newer_edit_takes_the_place_of_its_members_candidate() {
    let mut bench = held(false);
    bench.pass(60 * SECOND);
    bench.take(bench.change("7001", ChangeKind::Updated, 65, &[("city", "Moss")])).none();
    assert_eq!(bench.outcomes(), ["delivered", "superseded"]);
    let (resolved, calls) = bench.resolve(1, Some(1), member("hs"));
    assert_eq!((resolved, calls), (Err(ResolveError::Moved { now: 2 }), vec![]));
    let (resolved, calls) = bench.resolve(1, Some(2), member("hs"));
    assert!(resolved.is_ok(), "{resolved:?}");
    let update =
        bench.found_there(&calls[0], THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Moss");
    bench.written(&update, THERE).none();
    assert_eq!(bench.outcomes(), ["delivered", "superseded", "delivered"]);
}

#[test]
fn an_edit_that_the_person_did_not_see_asks_again() {
    let mut bench = held(false);
    let (_, calls) = bench.resolve(1, None, Choice::Kept);
    bench.pass(2 * SECOND);
    bench.found_there(&calls[0], THERE, &[("LastName", "Roe"), ("MailingCity", "Voss")]).none();
    assert_eq!(bench.questions(), [(2, "field".to_owned(), "city".to_owned())]);
    assert_eq!(bench.engine().totals().held, 1);
}

#[test]
fn a_question_outlives_the_process_and_is_answered_once() {
    let mut bench = held(false);
    bench.die_and_open();
    assert_eq!(bench.engine().totals().held, 1);
    assert_eq!(bench.resolve(1, None, member("nobody")).0, Err(ResolveError::NoConnection { name: "nobody".to_owned() }));
    let list = Choice::Value(Value::List(vec![Value::Null]));
    assert_eq!(bench.resolve(1, None, list).0, Err(ResolveError::Unsuitable(Unsuitable::Malformed)));
    assert_eq!(bench.resolve(9, None, Choice::Kept).0, Err(ResolveError::Unknown { id: 9 }));
    assert!(bench.resolve(1, None, Choice::Kept).0.is_ok());
    assert!(matches!(bench.resolve(1, None, Choice::Kept).0, Err(ResolveError::Ended { id: 1, by, .. }) if by == "ana"));
}

#[test]
fn a_conflict_that_a_policy_decides_is_logged_with_both_values() {
    let mut bench = Bench::linked_with(|link| link.policy.default = Some(Policy::Ours), false);
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).one();
    bench.found_there(&guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).none();
    assert_eq!(bench.outcomes(), ["delivered", "lost_conflict"], "the primary is Salesforce");
    assert_eq!(bench.decisions(), [r#"city ours edit ["Bergen","Oslo"] unknown"#]);
}

#[test]
fn a_strict_write_names_the_version_it_was_read_at_and_is_read_again_when_it_moved() {
    let mut bench = Bench::linked_with(|link| link.guard = Guard::Strict, false);
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).one();
    let update = bench.found_there(&guard, THERE, &[("LastName", "Roe")]).one();
    assert!(unless_changed(&update).is_some());
    let again = bench.refused(&update, "PRECONDITION_FAILED", &[], Disposition::Conflict).one();
    bench.pass(2 * SECOND);
    // A user typed Bergen meanwhile: later than Oslo, so it wins; Oslo is not written over it.
    bench.found_there(&again, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).none();
    assert_eq!(
        bench.decisions(),
        [r#"city strict again [null,"Oslo"] unknown"#, r#"city last_write edit ["Bergen","Oslo"] unknown"#]
    );
    assert_eq!(bench.outcomes(), ["delivered", "lost_conflict"]);
}

#[test]
fn a_guard_that_only_reads_names_no_version() {
    let mut bench = Bench::linked();
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).one();
    let update = bench.found_there(&guard, THERE, &[("LastName", "Roe")]).one();
    assert_eq!(unless_changed(&update), None);
}

#[test]
fn two_systems_that_undo_each_other_are_held_and_named() {
    let mut bench = Bench::linked();
    let mut shown = String::new();
    for round in 0..3 {
        bench.pass(20 * SECOND);
        let at = 20 + round * 40;
        let guard = bench.take(bench.change("7001", ChangeKind::Updated, at, &[("city", "oslo")])).one();
        let update = bench.found_there(&guard, THERE, &[("LastName", "Roe"), ("MailingCity", &shown)]).one();
        bench.written_as(&update, THERE, &[("MailingCity", "oslo")]).none();
        bench.pass(20 * SECOND);
        bench.take(bench.change_there(THERE, &[("MailingCity", "OSLO")])).none();
        "OSLO".clone_into(&mut shown);
    }
    assert_eq!(bench.questions(), [(1, "field".to_owned(), "city".to_owned())]);
    assert_eq!(bench.decisions(), [r#"city fight held ["OSLO","oslo"] unknown"#]);
    bench.pass(20 * SECOND);
    bench.take(bench.change("7001", ChangeKind::Updated, 160, &[("city", "oslo")])).none();
}

#[test]
fn a_write_that_lands_late_is_repaired_and_logged() {
    let mut bench = Bench::linked();
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).one();
    let update = bench.found_there(&guard, THERE, &[("LastName", "Roe")]).one();
    let back = bench.lost(&update).after(2 * SECOND).one();
    bench.take(bench.change("7001", ChangeKind::Updated, 7, &[("city", "Bergen")])).none();
    let update = bench.found_there(&back, THERE, &[("LastName", "Roe"), ("MailingCity", "Oslo")]).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Bergen");
    bench.written(&update, THERE).none();
    assert_eq!(bench.decisions(), [r#"city late_landing repaired ["Oslo","Bergen"] unknown"#]);
    // It is looked at again after 30 seconds, and after the longest run.
    bench.pass(25 * SECOND);
    bench.tick().none();
    bench.pass(10 * SECOND);
    let look = bench.tick().one();
    bench.found_there(&look, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).none();
    bench.pass(600 * SECOND);
    bench.tick().one();
}

#[test]
fn a_target_that_keeps_its_own_value_is_left_alone_until_the_next_revision() {
    let mut bench = Bench::linked();
    bench.pass(5 * SECOND);
    bench.take(bench.change_there(THERE, &[("MailingCity", "Kept")])).none();
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 10, &[("city", "Oslo")])).one();
    let shows = [("LastName", "Roe"), ("MailingCity", "Kept")];
    let update = bench.found_there(&guard, THERE, &shows).one();
    bench.pass(SECOND);
    bench.written_as(&update, THERE, &[("MailingCity", "Kept")]).none();
    assert_eq!(bench.outcomes().last(), Some(&"target_kept"));
    assert_eq!(bench.decisions().last().unwrap(), r#"city target_kept kept ["Kept","Oslo"] unknown"#);
    bench.pass(600 * SECOND);
    bench.tick().none();
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 700, &[("city", "Moss")])).one();
    let update = bench.found_there(&guard, THERE, &shows).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Moss");
}

#[test]
fn consent_that_was_given_up_is_not_given_back() {
    let mut bench = Bench::linked_with(|link| link.policy.default = Some(Policy::Theirs), false);
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("hs_email_optout", "true")])).one();
    let update = bench.found_there(&guard, THERE, &[("LastName", "Roe")]).one();
    assert_eq!(bench.values(&update)["HasOptedOutOfEmail"], "true");
    bench.written(&update, THERE).none();
    bench.pass(60 * SECOND);
    let mut opted_in = bench.change_there(THERE, &[("HasOptedOutOfEmail", "")]);
    opted_in.fields.values_mut().for_each(|field| field.value = Value::Bool(false));
    let guard = bench.take(opted_in).one();
    let mut call = guard.clone();
    call.id = guard.id;
    let update = bench.found_there(&call, THERE, &[("LastName", "Roe")]).one();
    assert_eq!(bench.values(&update)["HasOptedOutOfEmail"], "true", "though the edit was made in full knowledge");
    assert!(bench.decisions()[0].starts_with("unsubscribed most_restrictive force"), "{:?}", bench.decisions());
}
