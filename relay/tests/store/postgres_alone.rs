//! What only a database that several processes reach can get wrong: the schema's age, two programs at once, and what
//! an operator's console does meanwhile.

use headgate_relay::store::{Before, Key, Postgres, StoreError, Unit, WorkKey, WorkRow};
use headgate_schemas::stream::Position;

use super::postgres::Schema;
use super::{DAY, NEVER, Worker, entity, full_unit, outcome, outcomes};

#[test]
fn a_second_relay_is_refused_until_the_first_is_gone() {
    let Some(schema) = Schema::make() else { return };
    let first = Postgres::open(&schema.address()).unwrap();
    let refused = Postgres::open(&schema.address()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    assert!(!refused.to_string().contains("headgate@"), "{refused}");
    drop(first);
    Postgres::open(&schema.address()).unwrap();
}

#[test]
fn a_day_is_a_partition_that_is_dropped() {
    let Some(schema) = Schema::make() else { return };
    let partitions = || schema.number("SELECT count(*) FROM pg_inherits i WHERE i.inhparent='outcome'::regclass");
    let mut store = Worker::new(Postgres::open(&schema.address()).unwrap());
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
    let mut store = Worker::new(Postgres::open(&schema.address()).unwrap());
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    // As when the server restarts, or an operator ends the session.
    schema.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype='advisory'
         AND objid::bigint = hashtext(current_schema())::bigint & 4294967295",
    );
    let update = Unit { entities: vec![entity(1, 1, b"newer")], ..Unit::default() };
    let lost = store.commit(&update).unwrap_err();
    assert!(matches!(lost, StoreError::Postgres(_)), "{lost}");
    let mut successor = Worker::new(Postgres::open(&schema.address()).unwrap());
    successor.start("topic").unwrap();
    assert_eq!(successor.document(1), Some((1, b"one".to_vec())));
    assert!(store.commit(&update).is_err(), "the first one stays without a session");
    successor.commit(&update).unwrap();
    assert_eq!(successor.document(1), Some((2, b"newer".to_vec())));
}

#[test]
fn an_error_tells_no_row() {
    let Some(schema) = Schema::make() else { return };
    let mut store = Worker::new(Postgres::open(&schema.address()).unwrap());
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
    schema.execute(include_str!("migrations/0002_trail.sql"));
    let mut store = Worker::new(Postgres::open(&schema.address()).unwrap());
    assert_eq!(schema.number("SELECT max(version) FROM schema_version"), 3);
    let start = store.start("topic").unwrap();
    assert_eq!((start.epoch, store.next_entity().unwrap(), start.salt[15]), (8, 6, 15));
    assert_eq!(start.positions, [Position { partition: 3, offset: 12 }]);
    let key = WorkKey { target: 2, entity: 5 };
    assert_eq!(start.work, [WorkRow { key, due: 100, attempts: 1, owner: 8, until: 0 }]);
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

fn numbered(n: u8) -> Key {
    let mut key = Key::default();
    key[15] = n;
    key
}
