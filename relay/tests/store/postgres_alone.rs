//! What only a database that several processes reach can get wrong: the schema's age, two programs at once, and what
//! an operator's console does meanwhile.

use headgate_relay::books::Share;
use headgate_relay::store::{Before, Key, Postgres, Shelf, StoreError, Unit, WorkKey, WorkRow};
use headgate_schemas::stream::Position;

use super::postgres::Schema;
use super::{DAY, LEASE, Make as _, NEVER, NOW, PLACE, Worker, entity, full_unit, outcome, outcomes};

fn open(schema: &Schema) -> Worker {
    Worker::new(Postgres::open(&schema.address()).unwrap())
}

#[test]
fn a_relay_that_stands_by_takes_over_when_the_lease_is_over_and_the_first_commits_nothing_more() {
    let Some(schema) = Schema::make() else { return };
    let (mut first, mut second) = (open(&schema), open(&schema));
    let start = first.start("topic").unwrap();
    assert_eq!((start.shared, start.until), (false, LEASE));
    first.commit(&full_unit()).unwrap();
    assert!(matches!(second.start("topic"), Err(StoreError::Held { until: LEASE })));
    assert!(matches!(second.store.rebind("topic made anew", NOW), Err(StoreError::Held { until: LEASE })));
    first.store.renew(first.epoch, NOW, LEASE + 50).unwrap();
    second.now = LEASE + 49;
    assert!(matches!(second.start("topic"), Err(StoreError::Held { until }) if until == LEASE + 50));
    // The first one was paused; it does not know.
    second.now = LEASE + 50;
    let start = second.start("topic").unwrap();
    assert_eq!(start.positions, [Position { partition: 3, offset: 12 }]);
    assert_eq!(
        start.work.iter().map(|row| (row.key.entity, row.owner)).collect::<Vec<_>>(),
        [(2, second.epoch), (1, second.epoch)]
    );
    let late = Unit {
        entities: vec![entity(1, 1, b"late")],
        positions: vec![Position { partition: 3, offset: 99 }],
        ..Unit::default()
    };
    let error = first.commit(&late).unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost { epoch } if epoch == first.epoch), "{error}");
    assert!(matches!(first.store.renew(first.epoch, NOW, LEASE), Err(StoreError::LeaseLost { .. })));
    assert_eq!(second.document(1), Some((1, b"one".to_vec())));
    assert_eq!(schema.number("SELECT off FROM position"), 12);
    second.now = LEASE - 1;
    second.commit(&late).unwrap();
    assert_eq!(schema.number("SELECT off FROM position"), 99);
}

#[test]
fn a_relay_that_died_is_succeeded_before_its_lease_is_over() {
    let Some(schema) = Schema::make() else { return };
    let mut first = open(&schema);
    first.start("topic").unwrap();
    drop(first);
    let mut second = open(&schema);
    second.start("topic").unwrap();
    second.commit(&full_unit()).unwrap();
}

#[test]
fn two_workers_at_the_same_moment_void_each_other_and_lose_nothing() {
    const ROUNDS: u64 = 40;
    let Some(schema) = Schema::make() else { return };
    let (mut one, mut other) = schema.open_two();
    one.start("topic").unwrap();
    other.start("topic").unwrap();
    one.commit(&Unit { entities: vec![entity(1, 0, b"0")], ..Unit::default() }).unwrap();
    let count = |mut worker: Worker| {
        move || {
            for _ in 0..ROUNDS {
                while let Err(error) = {
                    let (version, doc) = worker.document(1).unwrap();
                    let n: u64 = std::str::from_utf8(&doc).unwrap().parse().unwrap();
                    let next = entity(1, version, (n + 1).to_string().as_bytes());
                    worker.commit(&Unit { entities: vec![next], ..Unit::default() })
                } {
                    assert!(error.is_overtaken(), "{error}");
                }
            }
            worker
        }
    };
    let both = [one, other].map(|worker| std::thread::spawn(count(worker)));
    let [mut one, _other] = both.map(|thread| thread.join().unwrap());
    assert_eq!(one.document(1), Some((1 + 2 * ROUNDS, (2 * ROUNDS).to_string().into_bytes())));
}

#[test]
fn of_two_units_that_rest_on_each_other_one_is_kept() {
    let Some(schema) = Schema::make() else { return };
    let (mut one, mut other) = schema.open_two();
    one.start("topic").unwrap();
    other.start("topic").unwrap();
    for round in 0..5 {
        let (a, b) = (2 * round + 1, 2 * round + 2);
        one.commit(&Unit { entities: vec![entity(a, 0, b""), entity(b, 0, b"")], ..Unit::default() }).unwrap();
        let unit =
            |of, on| Unit { entities: vec![entity(of, 1, b"changed")], unchanged: vec![(on, 1)], ..Unit::default() };
        let kept = std::thread::scope(|scope| {
            let first = scope.spawn(|| one.commit(&unit(a, b)));
            let second = scope.spawn(|| other.commit(&unit(b, a)));
            [first, second].map(|thread| thread.join().unwrap())
        });
        let void = kept.iter().filter_map(|result| result.as_ref().err());
        assert!(void.clone().all(StoreError::is_overtaken), "{kept:?}");
        assert_eq!(void.count(), 1, "round {round}: {kept:?}");
    }
}

/// Waits until somebody waits for the others to be let go.
fn somebody_waits(schema: &Schema) {
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype='advisory' AND mode='ShareLock' AND NOT granted
                 AND objid=hashtext(current_schema())::oid";
    while schema.number(waits) == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_that_holds_the_others_off_is_not_voided_and_they_are_heard_after_it() {
    let Some(schema) = Schema::make() else { return };
    let (mut one, mut other) = schema.open_two();
    one.start("topic").unwrap();
    other.start("topic").unwrap();
    one.commit(&Unit { entities: vec![entity(1, 0, b"0")], ..Unit::default() }).unwrap();
    let write = |version, doc: &[u8]| Unit { entities: vec![entity(1, version, doc)], ..Unit::default() };
    one.hold_others().unwrap();
    let late = std::thread::scope(|scope| {
        let late = scope.spawn(|| other.commit(&write(1, b"the other's")));
        somebody_waits(&schema);
        assert_eq!(one.document(1), Some((1, b"0".to_vec())));
        one.commit(&write(1, b"one's")).unwrap();
        late.join().unwrap()
    });
    assert!(matches!(late, Err(StoreError::Moved { entity: 1 })), "{late:?}");
    other.commit(&write(2, b"the other's")).unwrap();
    // Whoever has nothing to write lets the others go, too, and so does whoever thinks better of it.
    one.hold_others().unwrap();
    one.commit(&Unit::default()).unwrap();
    other.commit(&write(3, b"again")).unwrap();
    one.hold_others().unwrap();
    one.let_others().unwrap();
    other.commit(&write(4, b"and again")).unwrap();
    // A day that nobody has written in can be made only when the others are let go.
    one.hold_others().unwrap();
    let new_day = Unit { outcomes: vec![outcome(9, 900 * DAY, 900 * DAY)], ..write(5, b"in a new day") };
    assert!(matches!(one.commit(&new_day), Err(StoreError::Taken)));
    one.hold_others().unwrap();
    one.commit(&new_day).unwrap();
}

#[test]
fn after_a_worker_that_was_alone_what_is_open_is_counted_again() {
    let Some(schema) = Schema::make() else { return };
    let open_to_a_person = (Share { place: PLACE, at: 2, held: true }, 3);
    let shared = || {
        let mut worker = schema.open_two().0;
        worker.start("topic").unwrap();
        worker
    };
    let mut one = shared();
    one.store.count_open(one.epoch, one.now, &[open_to_a_person]).unwrap();
    drop(one);
    assert_eq!(shared().store.shared_books().unwrap().unwrap().open, [open_to_a_person]);
    open(&schema).start("topic").unwrap();
    let mut one = shared();
    assert_eq!(one.store.shared_books().unwrap(), None);
    one.store.count_open(one.epoch, one.now, &[]).unwrap();
    assert_eq!(one.store.shared_books().unwrap().unwrap().open, []);
}

/// What others wait for ends by itself when whoever has it is held up: stopped, not dead.
#[test]
fn a_worker_that_is_held_up_while_it_holds_the_others_off_holds_them_no_longer() {
    let Some(schema) = Schema::make() else { return };
    let (mut one, mut other) = schema.open_two();
    one.start("topic").unwrap();
    other.start("topic").unwrap();
    one.hold_others().unwrap();
    other.commit(&Unit { entities: vec![entity(1, 0, b"0")], ..Unit::default() }).unwrap();
    let late = one.commit(&Unit { entities: vec![entity(1, 0, b"late")], ..Unit::default() });
    assert!(matches!(late, Err(StoreError::Postgres(_))), "{late:?}");
    assert_eq!(other.document(1), Some((1, b"0".to_vec())));
}

#[test]
fn the_error_that_is_told_is_the_one_that_happened_first() {
    const ROUNDS: usize = 200;
    let Some(schema) = Schema::make() else { return };
    let mut store = open(&schema);
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    schema.execute("ALTER TABLE entity ADD CHECK (ver < 2)");
    let update = Unit { entities: vec![entity(1, 1, b"newer")], work: full_unit().work, ..Unit::default() };
    for round in 0..ROUNDS {
        // Whatever the server was sent behind the refused row it refuses with 25P02, which tells nothing.
        let error = store.commit(&update).unwrap_err();
        assert!(error.to_string().contains("23514"), "round {round}: {error}");
    }
}

#[test]
fn a_day_is_a_partition_that_is_dropped() {
    let Some(schema) = Schema::make() else { return };
    let partitions = || schema.number("SELECT count(*) FROM pg_inherits i WHERE i.inhparent='outcome'::regclass");
    let mut store = open(&schema);
    store.start("topic").unwrap();
    store.commit(&outcomes(vec![outcome(1, DAY, DAY), outcome(2, 2 * DAY, 2 * DAY)])).unwrap();
    assert_eq!(partitions(), 2);
    while store.expire(Before { outcomes: 2 * DAY, ..NEVER }).unwrap() {}
    assert_eq!(partitions(), 1);
    // The session does not take the day it dropped for one that is there.
    store.commit(&outcomes(vec![outcome(3, DAY, 9 * DAY)])).unwrap();
    assert_eq!(partitions(), 2);
}

#[test]
fn a_newer_schema_is_refused() {
    let Some(schema) = Schema::make() else { return };
    drop(Postgres::open(&schema.address()).unwrap());
    schema.execute("INSERT INTO schema_version(version) VALUES(99)");
    let refused = Postgres::open(&schema.address()).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 99, .. }), "{refused}");
}

#[test]
fn a_session_that_was_ended_commits_nothing() {
    let Some(schema) = Schema::make() else { return };
    let mut store = open(&schema);
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    // As when the server restarts, or an operator ends the session.
    schema.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype='advisory'
         AND objid::bigint = hashtext(current_schema() || '/1')::bigint & 4294967295",
    );
    let update = Unit { entities: vec![entity(1, 1, b"newer")], ..Unit::default() };
    let lost = store.commit(&update).unwrap_err();
    assert!(matches!(lost, StoreError::Postgres(_)), "{lost}");
    let mut successor = open(&schema);
    successor.start("topic").unwrap();
    assert_eq!(successor.document(1), Some((1, b"one".to_vec())));
    assert!(store.commit(&update).is_err(), "the first one stays without a session");
    successor.commit(&update).unwrap();
    assert_eq!(successor.document(1), Some((2, b"newer".to_vec())));
}

#[test]
fn an_error_tells_no_row() {
    let Some(schema) = Schema::make() else { return };
    let mut store = open(&schema);
    store.start("topic").unwrap();
    schema.execute("ALTER TABLE entity ADD CHECK (ver < 2)");
    store.commit(&full_unit()).unwrap();
    let update = Unit { entities: vec![entity(1, 1, b"newer")], ..Unit::default() };
    let error = store.commit(&update).unwrap_err();
    let (shown, debug) = (error.to_string(), format!("{error:?}"));
    assert!(shown.contains("23514"), "{shown}");
    // The server's detail would be: Failing row contains (1, 2, \x6e65776572).
    assert!(!shown.contains("6e65776572") && !debug.contains("6e65776572"), "{debug}");
}

/// The schema of version 1, with what a relay of that time left in it.
#[test]
fn a_state_of_version_1_is_brought_up_with_all_it_holds() {
    let Some(schema) = Schema::make() else { return };
    schema.execute("CREATE TABLE schema_version(version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())");
    schema.execute(include_str!("../../src/store/postgres/migrations/0001_state.sql"));
    schema.execute("INSERT INTO schema_version(version) VALUES(1)");
    schema.execute(include_str!("migrations/0001.sql"));
    let mut store = open(&schema);
    assert_eq!(schema.number("SELECT max(version) FROM schema_version"), 6);
    let start = store.start("topic").unwrap();
    assert_eq!((start.epoch, store.next_entity().unwrap(), start.salt[15]), (8, 6, 15));
    assert_eq!(start.positions, [Position { partition: 3, offset: 12 }]);
    let key = WorkKey { target: 2, entity: 5 };
    assert_eq!(
        start.work,
        [WorkRow { key, due: 100, attempts: 1, owner: 8, until: 0 }],
        "its call is of unknown outcome"
    );
    assert_eq!(store.document(5), Some((3, b"one".to_vec())));
    assert_eq!(store.member(&numbered(1)).unwrap(), Some(5));
    assert!(store.known(&numbered(2)).unwrap());
    store.commit(&Unit { repeats: vec![numbered(2)], ..Unit::default() }).unwrap();
    assert_eq!(
        schema.reader().repeats(&numbered(2)).unwrap(),
        Some(1),
        "a change of then counts its repeats from now on"
    );
}

/// The schema of version 4, where subscriptions stood in a table of their own.
#[test]
fn where_subscriptions_stood_in_version_4_is_kept() {
    let Some(schema) = Schema::make() else { return };
    schema.execute("CREATE TABLE schema_version(version bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())");
    for (version, step) in (1..).zip([
        include_str!("../../src/store/postgres/migrations/0001_state.sql"),
        include_str!("../../src/store/postgres/migrations/0002_trail.sql"),
        include_str!("../../src/store/postgres/migrations/0003_workers.sql"),
        include_str!("../../src/store/postgres/migrations/0004_subscription.sql"),
    ]) {
        schema.execute(step);
        schema.execute(&format!("INSERT INTO schema_version(version) VALUES({version})"));
    }
    schema.execute("INSERT INTO subscription(name,memo) VALUES('crm','\\x0102'),('copy','\\x03')");
    let mut store = open(&schema);
    let kept = store.kept(Shelf::Subscription, None).unwrap();
    assert_eq!(kept, [("copy".to_owned(), vec![3]), ("crm".to_owned(), vec![1, 2])]);
}

fn numbered(n: u8) -> Key {
    let mut key = Key::default();
    key[15] = n;
    key
}
