//! Conflicts step by step: held fields and people's choices, the log of decisions, guards, fights, what a target makes
//! of a value.

use headgate_relay::config::{Guard, Policy};
use headgate_relay::engine::{Call, Choice, Request, ResolveError};
use headgate_relay::entity::question::Unsuitable;
use headgate_relay::target::{Disposition, Version, WriteItems};
use headgate_schemas::change::FieldChange;
use headgate_schemas::{Change, ChangeKind, ObjectType, Value};

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

/// Somebody types in Salesforce, and HubSpot, which shows `shown`, is written.
fn typed_there(bench: &mut Bench, fields: &[(&str, Value)], shown: &[(&str, &str)]) -> Call {
    bench.pass(20 * SECOND);
    let mut change = bench.change_there(THERE, &[]);
    change.fields = fields.iter().map(|(name, value)| ((*name).to_owned(), FieldChange::to(value.clone()))).collect();
    let guard = bench.take(change).one();
    let update = bench.found(&guard, "7001", bench.second(), shown).one();
    bench.written(&update, "7001").none();
    update
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
    let update = bench.found_there(guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Oslo");
    bench.written(&update, THERE).none();
    assert_eq!((bench.accounting(), bench.engine().totals().held), ((2, 2, 0), 0));
    assert_eq!(bench.outcomes(), ["delivered", "delivered"]);
    assert_eq!(bench.questions(), []);
    assert_eq!(
        bench.decisions(),
        [r#"city manual held ["Bergen","Oslo"] unknown"#, r#"city person chosen ["Oslo","Oslo"] ana"#,]
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
    let update = bench.found_there(&calls[0], THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Voss");
    bench.written(&update, THERE).none();
    assert_eq!(bench.outcomes(), ["delivered", "lost_conflict"]);
}

#[test]
fn only_the_held_field_waits() {
    let mut bench = held(false);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 60, &[("jobtitle", "CTO")])).one();
    let update = bench.found_there(&guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
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
    let update = bench.found_there(&calls[0], THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).one();
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
    assert_eq!(
        bench.resolve(1, None, member("nobody")).0,
        Err(ResolveError::NoConnection { name: "nobody".to_owned() })
    );
    let list = Choice::Value(Value::List(vec![Value::from("x")]));
    assert_eq!(bench.resolve(1, None, list).0, Err(ResolveError::Unsuitable(Unsuitable::Malformed)));
    assert_eq!(bench.resolve(9, None, Choice::Kept).0, Err(ResolveError::Unknown { id: 9 }));
    assert!(bench.resolve(1, None, Choice::Kept).0.is_ok());
    assert!(
        matches!(bench.resolve(1, None, Choice::Kept).0, Err(ResolveError::Ended { id: 1, by, .. }) if by == "ana")
    );
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
    let mut bench = Bench::linked_with(|_| {}, true);
    let mut shown = "";
    for round in 0..3 {
        bench.pass(20 * SECOND);
        let change = bench.change("7001", ChangeKind::Updated, bench.second(), &[("city", "oslo")]);
        let guard = bench.take(change).one();
        let update = bench.found_there(&guard, THERE, &[("LastName", "Roe"), ("MailingCity", shown)]).one();
        bench.written_as(&update, THERE, &[("MailingCity", "oslo")]).none();
        shown = "OSLO";
        if round < 2 {
            let city = [("MailingCity", Value::from(shown))];
            typed_there(&mut bench, &city, &[("lastname", "Roe"), ("city", "oslo")]);
        }
    }
    assert_eq!(bench.questions(), []);
    bench.pass(20 * SECOND);
    bench.take(bench.change_there(THERE, &[("MailingCity", shown)])).none();
    assert_eq!(bench.questions(), [(1, "field".to_owned(), "city".to_owned())]);
    assert_eq!(bench.decisions(), [r#"city fight held ["OSLO","oslo"] unknown"#]);
    bench.pass(20 * SECOND);
    let change = bench.change("7001", ChangeKind::Updated, bench.second(), &[("city", "OSLO")]);
    bench.take(change).none();
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
    let mut bench = Bench::linked_with(|_| {}, true);
    typed_there(&mut bench, &[("MailingCity", Value::from("Kept"))], &[("lastname", "Roe")]);
    bench.pass(20 * SECOND);
    let change = bench.change("7001", ChangeKind::Updated, bench.second(), &[("city", "Oslo")]);
    let guard = bench.take(change).one();
    let shows = [("LastName", "Roe"), ("MailingCity", "Kept")];
    let update = bench.found_there(&guard, THERE, &shows).one();
    bench.pass(SECOND);
    bench.written_as(&update, THERE, &[("MailingCity", "Kept")]).none();
    assert_eq!(bench.outcomes().last(), Some(&"target_kept"));
    assert_eq!(bench.decisions(), [r#"city target_kept kept ["Kept","Oslo"] unknown"#]);
    bench.pass(600 * SECOND);
    bench.tick().none();
    let change = bench.change("7001", ChangeKind::Updated, bench.second(), &[("city", "Moss")]);
    let guard = bench.take(change).one();
    let update = bench.found_there(&guard, THERE, &shows).one();
    assert_eq!(bench.values(&update)["MailingCity"], "Moss");
}

#[test]
fn consent_that_was_given_up_is_not_given_back() {
    let mut bench = Bench::linked_with(|link| link.policy.default = Some(Policy::Theirs), true);
    bench.pass(5 * SECOND);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("hs_email_optout", "true")])).one();
    let update = bench.found_there(&guard, THERE, &[("LastName", "Roe")]).one();
    assert_eq!(bench.values(&update)["HasOptedOutOfEmail"], "true");
    bench.written(&update, THERE).none();
    bench.pass(60 * SECOND);
    let mut opted_in = bench.change_there(THERE, &[]);
    opted_in.fields.insert("HasOptedOutOfEmail".to_owned(), FieldChange::to(Value::Bool(false)));
    let guard = bench.take(opted_in).one();
    let update = bench.found_there(&guard, THERE, &[("LastName", "Roe")]).one();
    assert_eq!(bench.values(&update)["HasOptedOutOfEmail"], "true", "though the edit was made in full knowledge");
    assert_eq!(bench.decisions(), ["unsubscribed most_restrictive force [false,true] unknown"]);
}

/// A deal in stage `stage` stands in HubSpot and is made in Salesforce.
fn deal(stage: &str) -> (Bench, Call) {
    let mut bench = Bench::with(|link| link.object = ObjectType::DEAL, false);
    let mut created = bench.change("9001", ChangeKind::Created, 0, &[]);
    created.object.kind = ObjectType::DEAL;
    let read = bench.take(created).one();
    let create = bench.found(&read, "9001", 0, &[("dealname", "Big"), ("dealstage", stage)]).one();
    bench.written(&create, "006000000000001AAA").none();
    (bench, create)
}

fn staged(bench: &mut Bench, stage: &str) -> Change {
    edited(bench, "dealstage", stage)
}

fn edited(bench: &mut Bench, property: &str, value: &str) -> Change {
    bench.pass(20 * SECOND);
    let mut change = bench.change("9001", ChangeKind::Updated, bench.second(), &[(property, value)]);
    change.object.kind = ObjectType::DEAL;
    change
}

#[test]
fn a_deal_that_is_won_is_reopened_by_a_person_only() {
    let (mut bench, create) = deal("closedwon");
    let change = staged(&mut bench, "contractsent");
    bench.take(change).none();
    assert_eq!(bench.questions(), [(1, "field".to_owned(), "stage".to_owned())]);
    assert_eq!(bench.decisions(), [r#"stage closed held ["contract","won"] unknown"#]);
    assert_eq!(bench.resolve(1, None, Choice::Value(Value::from("nonsense"))).0, Err(Unsuitable::Unmapped.into()));
    let (resolved, calls) = bench.resolve(1, None, member("hs"));
    assert!(resolved.is_ok(), "{resolved:?}");
    let date = &bench.values(&create)["CloseDate"];
    let shows = [("Name", "Big"), ("StageName", "Closed Won"), ("CloseDate", date)];
    let update = bench.found_there(&calls[0], "006000000000001AAA", &shows).one();
    assert_eq!(bench.values(&update)["StageName"], "Negotiation/Review");
}

#[test]
fn a_stage_without_a_name_elsewhere_holds_the_stage_and_not_the_record() {
    let (mut bench, create) = deal("presentationscheduled2");
    assert_eq!(bench.values(&create)["StageName"], "Qualification", "the first open stage");
    assert_eq!(bench.values(&create)["Name"], "Big");
    assert_eq!(bench.questions(), [(1, "field".to_owned(), "stage".to_owned())]);
    assert_eq!((bench.accounting(), bench.engine().totals().held), ((1, 0, 1), 1));
    assert_eq!(bench.resolve(1, None, member("hs")).0, Err(Unsuitable::Unmapped.into()));
    let (resolved, calls) = bench.resolve(1, None, Choice::Value(Value::from("decision")));
    assert!(resolved.is_ok(), "{resolved:?}");
    let date = &bench.values(&create)["CloseDate"];
    let shows = [("Name", "Big"), ("StageName", "Qualification"), ("CloseDate", date)];
    let update = bench.found_there(&calls[0], "006000000000001AAA", &shows).one();
    assert_eq!(bench.values(&update)["StageName"], "Id. Decision Makers");
    bench.written(&update, "006000000000001AAA").none();
    assert_eq!(bench.accounting(), (1, 1, 0));
}

/// What is written to Salesforce after HubSpot tells of a new amount.
fn amount_written(bench: &mut Bench, create: &Call) -> Vec<(String, String)> {
    let change = edited(bench, "amount", "700");
    let read = bench.take(change).one();
    let told = [("dealname", "Big"), ("dealstage", "contractsent"), ("amount", "700"), ("deal_currency_code", "NOK")];
    let guard = bench.found(&read, "9001", bench.second(), &told).one();
    let date = bench.values(create)["CloseDate"].clone();
    let shows = [("Name", "Big"), ("StageName", "Negotiation/Review"), ("CloseDate", date.as_str())];
    let update = bench.found_there(&guard, "006000000000001AAA", &shows).one();
    bench.values(&update).into_iter().collect()
}

#[test]
fn amount_and_currency_are_one_value() {
    let (mut bench, create) = deal("contractsent");
    bench.described(&["Amount", "CurrencyIsoCode"]);
    let written = amount_written(&mut bench, &create);
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(written, [text("Amount", "700"), text("CurrencyIsoCode", "NOK")], "a part of it asks for a read");
}

#[test]
fn an_organisation_with_one_currency_is_given_the_amount_alone() {
    let (mut bench, create) = deal("contractsent");
    bench.described(&["Amount"]);
    assert_eq!(amount_written(&mut bench, &create), [("Amount".to_owned(), "700".to_owned())]);
}
