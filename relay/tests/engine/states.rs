//! CRMs that tell how a record stands, in whole seconds: a message may show what our write has just replaced.

use std::time::Duration;

use headgate_schemas::{Change, ChangeKind};

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
