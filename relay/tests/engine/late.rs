//! A backlog whose changes are late already: it is read before anything is sent, and the ticks that only read become
//! durable together.

use headgate_schemas::{Change, ChangeKind};

use crate::bench::{Bench, SECOND};

/// Contact 7001 stands in both, and somebody changed it 401 times while the relay was away.
fn away() -> (Bench, Vec<Change>) {
    let mut bench = Bench::linked();
    bench.pass(1_000 * SECOND);
    let city = |n: i64| bench.change("7001", ChangeKind::Updated, 500 + n, &[("city", &format!("City {n}"))]);
    let changes = (1..=401).map(city).collect();
    bench.pass(6 * SECOND);
    (bench, changes)
}

#[test]
fn ticks_that_only_read_are_durable_together() {
    let (mut bench, changes) = away();
    let first = bench.next_offset();
    bench.take_from(first, &changes).none();
    assert_eq!((bench.next_offset(), bench.accounting()), (first + 401, (402, 401, 1)));
    bench.die_and_open();
    assert_eq!((bench.next_offset(), bench.accounting()), (first, (1, 1, 0)), "nothing of it is durable yet");
    assert_eq!((bench.outcomes(), bench.counted("superseded")), (vec!["delivered"], 0));

    bench.take_from(first, &changes).none();
    bench.pass(5 * SECOND);
    bench.tick().none();
    assert_eq!(bench.counted("superseded"), 400, "once, however often it was read");
    bench.die_and_open();
    assert_eq!((bench.next_offset(), bench.accounting()), (first + 401, (402, 401, 1)), "after five seconds it is");
    let read = bench.tick().one();
    let update = bench.found_there(&read, "003000000000001AAA", &[("LastName", "Roe")]).one();
    assert_eq!(bench.values(&update)["MailingCity"], "City 401");
}

#[test]
fn what_people_were_told_and_what_is_sent_is_durable_at_once() {
    let (mut bench, changes) = away();
    let first = bench.next_offset();
    bench.take_from(first, &changes).none();
    bench.set_up(true).none();
    bench.die_and_open();
    assert_eq!(bench.next_offset(), first + 401, "a command takes what was read before with it");

    let (mut bench, changes) = away();
    bench.take_from(first, &changes).none();
    let now = bench.at(bench.second());
    bench.engine().flush(now).unwrap();
    bench.die_and_open();
    assert_eq!(bench.next_offset(), first + 401);

    let (mut bench, changes) = away();
    bench.take_from(first, &changes).none();
    for _ in 1..10 {
        bench.tick().none();
    }
    let read = bench.tick().one();
    bench.die_and_open();
    assert_eq!(bench.next_offset(), first + 401, "before the first call");
    bench.found_there(&read, "003000000000001AAA", &[("LastName", "Roe")]);
}
