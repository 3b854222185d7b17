//! CRMs that tell how a record stands, in whole seconds: a message may show what our write has just replaced.

use std::time::Duration;

use headgate_relay::engine::{Call, Request};
use headgate_relay::entity::fold::Rule;
use headgate_schemas::{Change, ChangeId, ChangeKind};

use crate::bench::{Bench, SECOND};

const THERE: &str = "003000000000001AAA";

/// HubSpot's city becomes Oslo and ten seconds later Bergen; both are written to Salesforce.
fn written_twice() -> Bench {
    let mut bench = Bench::linked_with(|_| {}, true);
    for (city, before) in [("Oslo", ""), ("Bergen", "Oslo")] {
        bench.pass(20 * SECOND);
        let guard = bench.take(bench.change("7001", ChangeKind::Updated, bench.second(), &[("city", city)])).one();
        let update = bench.found_there(&guard, THERE, &[("LastName", "Roe"), ("MailingCity", before)]).one();
        assert_eq!(bench.values(&update)["MailingCity"], city);
        bench.written(&update, THERE).none();
    }
    bench
}

/// The row as a message tells it, so many seconds ago by Salesforce's clock.
fn told(bench: &Bench, city: &str, ago: u64) -> Change {
    let mut change = bench.change_there(THERE, &[("LastName", "Roe"), ("MailingCity", city)]);
    change.state = true;
    change.occurred_at = change.occurred_at.map(|at| at - Duration::from_secs(ago));
    change
}

#[test]
fn what_stood_before_our_write_of_the_same_second_is_no_edit() {
    let mut bench = written_twice();
    // Somebody saved the row for another field's sake, in the second of our write and before it.
    let read = bench.take(told(&bench, "Oslo", 0)).after(6 * SECOND).one();
    bench.found_there(&read, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).none();
    assert_eq!(bench.decisions(), [] as [String; 0], "nobody has typed Oslo a second time");
}

#[test]
fn a_state_told_late_shows_the_write_that_stood_then() {
    let mut bench = written_twice();
    bench.take(told(&bench, "Oslo", 5)).none();
    assert_eq!(bench.decisions(), [] as [String; 0], "it stood there five seconds before");
}

#[test]
fn what_somebody_typed_in_the_second_of_our_write_is_an_edit() {
    let mut bench = written_twice();
    drop(bench.take(told(&bench, "Rome", 0)));
    let decisions = bench.decisions();
    assert!(decisions.len() == 1 && decisions[0].contains("Rome"), "{decisions:?}");
}

/// Two fields are written in each of some seconds, and each time a message of that second
/// still shows them as they were, so that a read is due for each, five seconds after it was written.
fn written_again_and_again() -> (Bench, Vec<(&'static str, String)>) {
    let mut bench = Bench::linked_with(|_| {}, true);
    let mut row = vec![("LastName", "Roe".to_owned())];
    for second in 20..25 {
        bench.pass_to(second);
        for (number, (property, name)) in [("jobtitle", "Title"), ("firstname", "FirstName")].into_iter().enumerate() {
            let before = row.clone();
            row.retain(|(known, _)| *known != name);
            row.push((name, format!("{name} {second}")));
            write_there(&mut bench, (second, number), (property, &format!("{name} {second}")), &before);
            bench.take(state(&bench, &before)).none();
        }
    }
    (bench, row)
}

/// A value of HubSpot is written to Salesforce, where the row stands as given.
fn write_there(bench: &mut Bench, (second, number): (i64, usize), value: (&str, &str), row: &[(&'static str, String)]) {
    let mut change = bench.change("7001", ChangeKind::Updated, second, &[value]);
    change.id = ChangeId::from_bytes([u8::try_from(second).unwrap() * 4 + u8::try_from(number).unwrap(); 16]);
    let guard = bench.take(change).one();
    let update = bench.found_there(&guard, THERE, &texts(row)).one();
    assert!(bench.values(&update).values().any(|written| written == value.1));
    bench.written(&update, THERE).none();
}

fn texts<'a>(row: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    row.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The row as a message of the present second tells it.
fn state(bench: &Bench, row: &[(&'static str, String)]) -> Change {
    let mut change = bench.change_there(THERE, &texts(row));
    change.state = true;
    change
}

/// The row with a city.
fn in_city(row: &[(&'static str, String)], city: &str) -> Vec<(&'static str, String)> {
    row.iter().cloned().chain([("MailingCity", city.to_owned())]).collect()
}

/// In the second of our write of Bergen somebody types Rome and then Paris, and both messages come. Meanwhile the row is
/// read again and again for the sake of other fields. The first call that is no such read.
fn first_write_after_paris(bench: &mut Bench, row: &[(&'static str, String)]) -> Call {
    let second = bench.second();
    write_there(bench, (second, 2), ("city", "Bergen"), row);
    let (rome, paris) = (in_city(row, "Rome"), in_city(row, "Paris"));
    let mut calls = bench.take(state(bench, &rome)).all();
    calls.extend(bench.take(state(bench, &paris)).all());
    for _ in 0..1_000 {
        for call in std::mem::take(&mut calls) {
            calls.extend(match (&call.request, call.connection) {
                (Request::Read(_), 1) => {
                    let city = [("lastname", "Roe"), ("city", "Bergen")];
                    bench.found(&call, "7001", second, &city).all()
                }
                (Request::Read(_), _) => bench.found_there_as_of(second, &call, THERE, &texts(&paris)).all(),
                _ if bench.values(&call).values().any(|city| city == "Rome") && call.connection == 1 => {
                    bench.written(&call, "7001").all()
                }
                _ => return call,
            });
        }
        calls.extend(bench.tick().all());
    }
    panic!("nothing was written");
}

#[test]
fn what_a_tie_leaves_in_doubt_is_not_written_over_however_often_it_is_read() {
    let (mut bench, row) = written_again_and_again();
    let call = first_write_after_paris(&mut bench, &row);
    assert_eq!((call.connection, bench.values(&call)), (1, [("city".to_owned(), "Paris".to_owned())].into()));
}

/// Rome and Paris were typed in the second of our write; the look before the next write was answered before that.
fn looked_before_paris(bench: &mut Bench) -> Vec<Call> {
    let second = bench.second();
    let calls = bench.take(told(bench, "Rome", 0)).all();
    let guard = calls.iter().find(|call| call.connection == 2).unwrap();
    bench.take(told(bench, "Paris", 0)).none();
    bench.found_there_as_of(second, guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Bergen")]).all()
}

#[test]
fn a_look_made_before_the_tie_ends_no_doubt() {
    let mut bench = written_twice();
    assert_eq!(looked_before_paris(&mut bench), []);
    let mut bench = written_twice();
    bench.engine().forgo(Rule::Doubt);
    let [write] = &looked_before_paris(&mut bench)[..] else { panic!("without the rule Rome is written") };
    assert_eq!(bench.values(write)["MailingCity"], "Rome");
}

#[test]
fn other_fields_do_not_wait_for_one_in_doubt() {
    let mut bench = written_twice();
    assert_eq!(looked_before_paris(&mut bench), []);
    let second = bench.second();
    let mut change = bench.change("7001", ChangeKind::Updated, second, &[("lastname", "Poe")]);
    change.id = ChangeId::from_bytes([1; 16]);
    let guard = bench.take(change).one();
    let update = bench.found_there_as_of(second, &guard, THERE, &[("LastName", "Roe"), ("MailingCity", "Paris")]).one();
    assert_eq!(bench.values(&update), [("LastName".to_owned(), "Poe".to_owned())].into());
}
