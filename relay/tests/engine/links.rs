//! A link that gets or loses a member, gets another name or goes away while changes wait: the books stay balanced in
//! every line, and each change ends by name.

use headgate_relay::books::Place;
use headgate_relay::config::LinkConfig;
use headgate_relay::entity::Outcome;
use headgate_schemas::{ChangeKind, ObjectType};

use super::bench::{Bench, SECOND};

fn members(link: &mut LinkConfig, names: &[&str]) {
    link.members = names.iter().map(|name| (*name).to_owned()).collect();
    link.primary = "hs".to_owned();
}

fn two(link: &mut LinkConfig) {
    members(link, &["hs", "sf"]);
}

fn three(link: &mut LinkConfig) {
    members(link, &["hs", "sf", "sf2"]);
}

fn other(link: &mut LinkConfig) {
    members(link, &["hs", "sf2"]);
}

/// What was due, what ended how, what is open.
type Account = (i64, Vec<(Outcome, i64)>, i64);

/// The lines of the accounting at both targets.
fn lines(bench: &mut Bench) -> Vec<Account> {
    let accounts = bench.accounts();
    let numbers = bench.engine().connections().clone();
    let of = |name: &str| {
        let found = accounts.iter().find(|(Place { target, .. }, _)| *target == numbers[name]);
        found
            .map_or_else(Default::default, |(_, a)| (a.due, a.closed.iter().map(|(o, n)| (*o, *n)).collect(), a.open()))
    };
    ["sf", "sf2"].map(of).to_vec()
}

/// A change that only a read can decide is there, and the process dies before the answer.
fn undecided(link: fn(&mut LinkConfig)) -> Bench {
    let mut bench = Bench::with(link, false);
    bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    bench
}

#[test]
fn a_target_that_is_taken_from_a_link_ends_what_waited_for_it() {
    let mut bench = undecided(three);
    assert_eq!(lines(&mut bench), [(1, vec![], 1), (1, vec![], 1)]);
    bench.die_and_open_with(two);
    assert_eq!(lines(&mut bench), [(1, vec![], 1), (1, vec![(Outcome::Skipped, 1)], 0)]);
    bench.pass(SECOND);
    let read = bench.tick().one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Roe")]).one();
    bench.written(&create, "003000000000001AAA").none();
    assert_eq!(lines(&mut bench), [(1, vec![(Outcome::Delivered, 1)], 0), (1, vec![(Outcome::Skipped, 1)], 0)]);
}

#[test]
fn a_target_that_is_added_to_a_link_gets_the_record_and_no_delivery_of_what_came_before() {
    let mut bench = undecided(two);
    bench.die_and_open_with(three);
    assert_eq!(lines(&mut bench), [(1, vec![], 1), (0, vec![], 0)]);
    bench.pass(SECOND);
    let read = bench.tick().one();
    assert_eq!(bench.found(&read, "7001", 0, &[("lastname", "Roe")]).all().len(), 2, "it is made in both");
    assert_eq!(lines(&mut bench), [(1, vec![], 1), (0, vec![], 0)]);
}

#[test]
fn a_target_that_comes_back_is_not_due_twice_what_ended_there() {
    let mut bench = undecided(two);
    bench.die_and_open_with(other);
    let skipped = || vec![(Outcome::Skipped, 1)];
    assert_eq!(lines(&mut bench), [(1, skipped(), 0), (0, vec![], 0)]);
    bench.die_and_open_with(two);
    bench.pass(SECOND);
    let read = bench.tick().one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Roe")]).one();
    bench.written(&create, "003000000000001AAA").none();
    assert_eq!(lines(&mut bench), [(1, skipped(), 0), (0, vec![], 0)]);
}

#[test]
fn a_change_on_its_way_to_a_target_that_is_taken_away_ends_there() {
    let mut bench = Bench::linked_with(two, false);
    // It is read before it is written, and dies before the answer.
    bench.take(bench.change("7001", ChangeKind::Updated, 1, &[("city", "Oslo")])).one();
    bench.die_and_open_with(other);
    let ended = vec![(Outcome::Delivered, 1), (Outcome::Skipped, 1)];
    assert_eq!(lines(&mut bench)[0], (2, ended, 0));
}

/// The same link under another name.
fn renamed(link: &mut LinkConfig) {
    two(link);
    link.name = "people".to_owned();
}

/// No link has contacts any more.
fn removed(link: &mut LinkConfig) {
    two(link);
    link.name = "deals".to_owned();
    link.object = ObjectType::DEAL;
}

/// The lines of the accounting, of which every one must add up, without the numbers of link and target.
fn balanced(bench: &mut Bench) -> Vec<Account> {
    let accounts = bench.accounts();
    for (place, account) in &accounts {
        assert_eq!(account.difference(), 0, "{place:?}: {account:?}");
    }
    let line = |a: &headgate_relay::books::Account| (a.due, a.closed.iter().map(|(o, n)| (*o, *n)).collect(), a.open());
    accounts.values().map(line).collect()
}

#[test]
fn what_became_due_by_a_link_ends_by_it_when_it_has_another_name() {
    let mut bench = undecided(two);
    bench.die_and_open_with(renamed);
    assert_eq!(balanced(&mut bench), [(1, vec![], 1)], "it still waits, in the line of the old name");
    bench.pass(SECOND);
    let read = bench.tick().one();
    let create = bench.found(&read, "7001", 0, &[("lastname", "Roe")]).one();
    bench.written(&create, "003000000000001AAA").none();
    let delivered = || vec![(Outcome::Delivered, 1)];
    assert_eq!(balanced(&mut bench), [(1, delivered(), 0)]);
    let guard = bench.take(bench.change("7001", ChangeKind::Updated, 9, &[("city", "Oslo")])).one();
    assert_eq!(balanced(&mut bench), [(1, delivered(), 0), (1, vec![], 1)], "what comes now is due by the new name");
    let update = bench.found_there(&guard, "003000000000001AAA", &[("LastName", "Roe")]).one();
    bench.written(&update, "003000000000001AAA").none();
    assert_eq!(balanced(&mut bench), [(1, delivered(), 0), (1, delivered(), 0)]);
}

#[test]
fn a_link_that_is_removed_ends_what_waits_for_a_read() {
    let mut bench = undecided(two);
    bench.die_and_open_with(removed);
    assert_eq!(balanced(&mut bench), [(1, vec![(Outcome::Skipped, 1)], 0)]);
    assert_eq!(bench.outcomes(), ["skipped"]);
}

#[test]
fn a_link_that_is_removed_ends_what_is_on_its_way() {
    let mut bench = Bench::linked_with(two, false);
    bench.take(bench.change("7001", ChangeKind::Updated, 1, &[("city", "Oslo")])).one();
    bench.die_and_open_with(removed);
    assert_eq!(balanced(&mut bench), [(2, vec![(Outcome::Delivered, 1), (Outcome::Skipped, 1)], 0)]);
}
