//! The engine step by step: changes in, calls out, answers in, with the clock in the test's hand. What the model's world
//! leaves out is here: first contact, creates, look-ups, refusals, records that are not there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod conflicts;
mod late;
mod leases;
mod links;
mod records;
mod states;
mod town;
mod trail;

use headgate_relay::books::Place;
use headgate_relay::engine::Request;
use headgate_relay::entity::Outcome;
use headgate_relay::target::{By, Disposition, WriteItems};
use headgate_schemas::ChangeKind;

use bench::{Bench, SECOND};

#[test]
fn a_creation_is_read_and_made_under_our_own_id() {
    let mut bench = Bench::new();
    let read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    let Request::Read(call) = &read.request else { panic!("{read:?}") };
    assert_eq!((call.by, call.ids.as_slice()), (By::NativeId, ["7001".to_owned()].as_slice()));

    let find = bench.found(&read, "7001", 0, &[("email", "ana@example.com"), ("firstname", "Ana")]).one();
    let Request::Find(call) = &find.request else { panic!("{find:?}") };
    assert_eq!((&*call.field, call.values.as_slice()), ("Email", ["ana@example.com".to_owned()].as_slice()));
    let create = bench.nobody(&find).one();
    let Request::Write(call) = &create.request else { panic!("{create:?}") };
    let WriteItems::Create(items) = &call.items else { panic!("{call:?}") };
    let values: Vec<_> = items[0].values.iter().map(|(k, v)| format!("{k}={}", v.to_plain())).collect();
    assert_eq!(values, ["Email=ana@example.com", "FirstName=Ana", "LastName=[not provided]"]);

    bench.written(&create, "003000000000001AAA").none();
    assert_eq!(bench.accounting(), (1, 1, 0));
    assert_eq!(bench.outcomes(), ["delivered"]);
}

#[test]
fn a_value_that_comes_before_the_first_read_is_not_lost() {
    let mut bench = Bench::new();
    let read = bench.take(bench.change("7001", ChangeKind::Updated, 60, &[("jobtitle", "CTO")])).one();
    // The replica that answers has not heard of the change yet.
    let create = bench.found(&read, "7001", 0, &[("jobtitle", "CEO"), ("lastname", "Roe")]).one();
    assert_eq!(bench.values(&create)["Title"], "CTO");
}

#[test]
fn an_answer_older_than_its_event_is_taken_and_looked_at_again() {
    let mut bench = Bench::new();
    let read = bench.take(bench.change("7001", ChangeKind::Created, 10, &[])).one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Old")]).one();
    assert_eq!(bench.values(&create)["LastName"], "Old", "nobody waits for the newer answer");
    bench.written(&create, "003000000000001AAA").none();
    bench.pass(4 * SECOND);
    let again = bench.tick().one();
    let guard = bench.found(&again, "7001", 20, &[("lastname", "New")]).one();
    let update = bench.found_there(&guard, "003000000000001AAA", &[("LastName", "Old")]).one();
    assert_eq!(bench.values(&update)["LastName"], "New");
}

#[test]
fn a_record_that_is_not_found_is_looked_for_again_before_it_counts_as_gone() {
    let mut bench = Bench::new();
    let mut read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    for wait in [1, 2, 4] {
        bench.missing(&read).none();
        assert_eq!(bench.accounting(), (1, 0, 1), "the change is open");
        bench.pass(wait * SECOND);
        read = bench.tick().one();
    }
    bench.missing(&read).none();
    assert_eq!(bench.accounting(), (1, 1, 0));
    assert_eq!(bench.outcomes(), ["skipped"]);
}

#[test]
fn a_time_far_ahead_is_not_believed() {
    let mut bench = Bench::linked();
    let read = bench.take(bench.change("7001", ChangeKind::Updated, 3_600, &[("city", "F")])).one();
    let Request::Read(call) = &read.request else { panic!("{read:?}") };
    assert_eq!(call.ids, ["7001"], "the record itself is asked");
}

#[test]
fn a_record_is_made_without_the_field_its_crm_refuses() {
    let mut bench = Bench::new();
    let read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Roe"), ("city", "far too long")]).one();
    let again = bench.refused(&create, "STRING_TOO_LONG", &["MailingCity"], Disposition::Permanent).one();
    let values = bench.values(&again);
    assert_eq!(values["LastName"], "Roe");
    assert!(!values.contains_key("MailingCity"));
    bench.written(&again, "003000000000001AAA").none();
    assert_eq!(bench.accounting(), (1, 1, 0));
    assert_eq!(bench.outcomes(), ["rejected"]);
    assert_eq!(bench.letters(), ["STRING_TOO_LONG: city"]);
}

#[test]
fn a_record_is_made_only_where_our_id_has_a_field_and_waits_until_then() {
    let mut bench = Bench::new();
    bench.set_up(false).none();
    let read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    bench.found(&read, "7001", 0, &[("lastname", "Roe")]).none();
    bench.pass(3_600 * SECOND);
    bench.tick().none();
    assert_eq!(bench.accounting(), (1, 0, 1), "the change is open");
    let create = bench.set_up(true).one();
    bench.written(&create, "003000000000001AAA").none();
    assert_eq!(bench.accounting(), (1, 1, 0));
    assert_eq!(bench.outcomes(), ["delivered"]);
}

#[test]
fn what_stands_there_already_is_read_and_changed_without_the_field_of_our_id() {
    let mut bench = Bench::linked();
    bench.set_up(false).none();
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 60, &[("lastname", "Doe")])).one();
    let update = bench.found_there(&guard, "003000000000001AAA", &[("LastName", "Roe")]).one();
    assert_eq!(bench.values(&update)["LastName"], "Doe");
    bench.written(&update, "003000000000001AAA").none();
    assert_eq!(bench.outcomes(), ["delivered", "delivered"]);
}

#[test]
fn a_create_that_is_refused_whole_waits_for_a_newer_revision() {
    let mut bench = Bench::new();
    let read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Roe")]).one();
    bench.refused(&create, "FIELD_CUSTOM_VALIDATION_EXCEPTION", &[], Disposition::Permanent).none();
    assert_eq!(bench.outcomes(), ["rejected"]);
    bench.pass(60 * SECOND);
    bench.tick().none();
    let again = bench.take(bench.change("7001", ChangeKind::Updated, 70, &[("lastname", "Doe")])).one();
    assert_eq!(bench.values(&again)["LastName"], "Doe");
}

#[test]
fn a_create_without_answer_is_looked_up_by_our_id_before_it_is_sent_again() {
    let mut bench = Bench::new();
    let read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Roe")]).one();
    let lookup = bench.lost(&create).after(2 * SECOND).one();
    let Request::Read(call) = &lookup.request else { panic!("{lookup:?}") };
    assert_eq!(call.by, By::ExternalId);
    let again = bench.missing(&lookup).one();
    assert_eq!(bench.external_id(&again), bench.external_id(&create), "one effect, however often it is sent");
    bench.written(&again, "003000000000001AAA").none();
    assert_eq!(bench.outcomes(), ["delivered"]);
}

#[test]
fn a_create_under_way_when_the_process_dies_is_looked_up_at_the_next_start() {
    let mut bench = Bench::new();
    let read = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Roe")]).one();
    let external_id = bench.external_id(&create);
    bench.die_and_open();
    let lookup = bench.tick().one();
    let Request::Read(call) = &lookup.request else { panic!("{lookup:?}") };
    assert_eq!((call.by, call.ids.as_slice()), (By::ExternalId, [external_id].as_slice()));
    bench.found_there(&lookup, "003000000000001AAA", &[("LastName", "Roe")]).none();
    assert_eq!(bench.accounting(), (1, 1, 0));
    assert_eq!(bench.outcomes(), ["delivered"]);
}

#[test]
fn a_repeat_is_counted_and_has_no_effect() {
    let mut bench = Bench::linked();
    let change = bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")]);
    let guard = bench.take(change.clone()).one();
    bench.take(change.clone()).none();
    let update = bench.found_there(&guard, "003000000000001AAA", &[("LastName", "Roe")]).one();
    bench.written(&update, "003000000000001AAA").none();
    bench.die_and_open();
    bench.take(change).none();
    assert_eq!(bench.accounting(), (2, 2, 0), "the creation and this change, each once");
}

#[test]
fn a_change_that_no_link_concerns_has_no_target() {
    let mut bench = Bench::new();
    let mut change = bench.change("9", ChangeKind::Updated, 0, &[("subject", "x")]);
    change.object.kind = headgate_schemas::ObjectType::new("ticket");
    bench.take(change).none();
    let unmapped = bench.change("7001", ChangeKind::Updated, 0, &[("favourite_colour", "blue")]);
    bench.take(unmapped).none();
    assert_eq!(bench.accounting(), (2, 2, 0));
    assert_eq!(bench.outcomes(), ["no_target", "skipped"]);
}

#[test]
fn a_draining_engine_opens_no_call() {
    let mut bench = Bench::linked();
    bench.engine().drain();
    bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).none();
    assert!(bench.engine().is_drained());
    bench.die_and_open();
    bench.tick().one();
}

#[test]
fn the_books_are_found_again_in_the_documents() {
    let mut bench = Bench::linked();
    bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).one();
    assert_eq!(bench.engine().recount().unwrap(), None, "the first document");
    // Another record comes while the first one is counted already.
    bench.take(bench.change("7002", ChangeKind::Created, 6, &[])).one();
    assert_eq!(bench.engine().recount().unwrap(), None, "the second document");
    let counted = bench.engine().recount().unwrap().unwrap();
    assert_eq!((counted.open, counted.booked), (2, 2));
    bench.die_and_open();
    while bench.engine().recount().unwrap().is_none() {}
    assert_eq!(bench.accounting(), (3, 1, 2));
}

#[test]
fn the_accounting_says_what_waits_and_for_whom() {
    let mut bench = Bench::linked();
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 5, &[("city", "Oslo")])).one();
    let place = Place { link: bench.link(), target: guard.connection };
    let account = bench.accounts()[&place].clone();
    assert_eq!((account.due, account.ended(), account.waiting, account.parked), (2, 1, 1, 0));
    assert_eq!(account.closed, [(Outcome::Delivered, 1)].into());
    bench.unauthorised(&guard);
    let account = bench.accounts()[&place].clone();
    assert_eq!((account.waiting, account.parked, account.difference()), (0, 1, 0), "the login is refused");
}
